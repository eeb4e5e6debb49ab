"""pydantic-ai conversations in an archive: each save whole or not at all, and read from its end."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import subprocess
import sys
import threading
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from crowd import killed, tear, together
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("pydantic_ai")

from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    InMemoryConversationStore,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    BinaryContent,
    DocumentUrl,
    FilePart,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    NativeToolCallPart,
    NativeToolReturnPart,
    RetryFeedbackPart,
    RetryInfo,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RunUsage

from convmem import Archive, InvalidContinuationId, RetentionPolicy, Turn, UsageError, aio
from convmem.adapters.pydantic_ai import ConvmemConversationStore, shelf
from convmem.adapters.pydantic_ai.to_messages import as_message
from convmem.adapters.pydantic_ai.to_turns import as_turn


@pytest.fixture
def store(archive):
    return ConvmemConversationStore(archive)


def asked(text: str) -> ModelRequest:
    return ModelRequest(parts=[UserPromptPart(text)])


def answered(text: str) -> ModelResponse:
    return ModelResponse(parts=[TextPart(text)])


def texts(messages: list[ModelMessage]) -> list[Any]:
    return [getattr(message.parts[0], "content", None) for message in messages]


async def say(store: Any, conversation_id: str, *said: str, **more: Any) -> Conversation:
    """Go on with a conversation: a question and an answer for each of *said*."""
    chat = await store.load(conversation_id) or Conversation(conversation_id=conversation_id)
    for text in said:
        chat.messages += [asked(text), answered(text.upper())]
    await store.save(chat, **more)
    return chat


# --- what goes in comes out --------------------------------------------------------------------

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=15)
_times = st.datetimes(
    datetime(2020, 1, 1),
    datetime(2030, 1, 1),
    timezones=st.just(UTC),
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
_media = st.one_of(
    st.builds(ImageUrl, st.just("https://example.org/a.png")),
    st.builds(DocumentUrl, st.just("https://example.org/a.pdf")),
    st.builds(BinaryContent, st.binary(max_size=12), media_type=st.just("image/png")),
    st.builds(BinaryContent, st.binary(max_size=12), media_type=st.just("application/pdf")),
)
_ids = st.sampled_from(["call-1", "call-2"])
_request_parts = st.one_of(
    st.builds(SystemPromptPart, _texts, timestamp=_times),
    st.builds(UserPromptPart, _texts, timestamp=_times),
    st.builds(UserPromptPart, st.lists(_texts | _media, max_size=3), timestamp=_times),
    st.builds(
        ToolReturnPart,
        tool_name=_texts,
        content=_json,
        tool_call_id=_ids,
        metadata=_json,
        timestamp=_times,
        outcome=st.sampled_from(["success", "failed", "denied"]),
    ),
    st.builds(
        RetryFeedbackPart,
        st.just("try again"),
        retry=st.just(RetryInfo("model_retry", attempt=1, max_retries=2)),
        timestamp=_times,
    ),
)
_response_parts = st.one_of(
    st.builds(TextPart, _texts),
    st.builds(ThinkingPart, _texts, signature=st.none() | _texts, provider_name=st.just("x")),
    st.builds(
        ToolCallPart,
        tool_name=_texts,
        args=st.none() | _texts | st.dictionaries(_texts, _json, max_size=2),
        tool_call_id=_ids,
    ),
    st.builds(NativeToolCallPart, tool_name=_texts, args=st.none(), tool_call_id=_ids),
    st.builds(NativeToolReturnPart, tool_name=_texts, content=_json, tool_call_id=_ids),
    st.builds(
        FilePart, st.builds(BinaryContent, st.binary(max_size=9), media_type=st.just("image/png"))
    ),
)
_messages = st.one_of(
    st.builds(
        ModelRequest,
        parts=st.lists(_request_parts, max_size=4),
        instructions=st.none() | _texts,
        timestamp=_times,
        metadata=st.none() | st.dictionaries(_texts, _json, max_size=2),
    ),
    st.builds(ModelResponse, parts=st.lists(_response_parts, max_size=4), timestamp=_times),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(messages=st.lists(_messages, max_size=5))
def test_each_message_comes_back_as_it_was(tmp_path_factory, messages):
    """A save compares what was loaded with what a run returns: a difference would be a branch."""
    told = ModelMessagesTypeAdapter.dump_json(messages)
    messages = ModelMessagesTypeAdapter.validate_json(told)  # what any store that serializes gives

    async def go(archive: Archive) -> None:
        chat = Conversation(messages=list(messages), conversation_id="trip")
        entries = await ConvmemConversationStore(archive).save(chat)
        store = ConvmemConversationStore(archive)
        loaded = await store.load("trip")
        assert loaded.messages == messages
        assert ModelMessagesTypeAdapter.dump_json(loaded.messages) == told
        assert await store.load_entries("trip") == entries
        assert (
            await store.save(
                Conversation(messages=messages, conversation_id="trip", revision=loaded.revision)
            )
            == []
        )

    with Archive.open(tmp_path_factory.mktemp("archive"), durability="none") as archive:
        asyncio.run(go(archive))


def test_no_run_is_refused_for_odd_text(archive, store):
    """Emoji get cut in two, by models and by people: the answer is there all the same."""
    odd = [
        ModelRequest(
            parts=[UserPromptPart(["half \ud83d", BinaryContent(b"\xff", media_type="image/png")])]
        ),
        ModelResponse(parts=[ThinkingPart("\udc00"), ToolCallPart("f", {"a": "\ud83d"})]),
        ModelRequest(parts=[ToolReturnPart("f", ["\ud83d", 1], "call-1")]),
    ]

    async def steps() -> list[ModelMessage]:
        chat = Conversation(conversation_id="s")
        chat.messages += odd
        await store.save(chat, scope="half \ud83d")
        again = await ConvmemConversationStore(archive).load("s")
        assert again is not None
        (record,) = await store.read_records()
        assert record.scope == "half \ufffd"  # a record says what comes nearest
        again.messages.append(answered("whole"))
        await store.save(again)
        last = await store.load("s")
        assert last is not None
        return list(last.messages)

    *messages, last = asyncio.run(steps())
    spelled = ModelMessagesTypeAdapter.dump_python
    assert spelled(messages, mode="json") == spelled(odd, mode="json")
    assert texts([last]) == ["whole"]
    assert [hit.turn.seq for hit in archive.search("half")] == [1]


@pytest.mark.parametrize(
    "meta",
    [
        {"parent": {"a": 1}},
        {"parent": 5},
        {"parent": ["x"]},
        {"kind": "fork", "copied": {"turns": [1]}},
        {"kind": "conversation", "after": "x"},
        {"kind": ["conversation"]},
    ],
    ids=repr,
)
@pytest.mark.parametrize("raw", [None, 5, "{", {"revision": 5, "head_id": {}}, {"revision": "x"}])
def test_who_marks_a_turn_as_a_message_stops_no_agent(archive, store, meta, raw):
    """Anybody who may record, such as a model, can write what only looks like the store's own."""
    asyncio.run(say(store, "s", "hello"))
    told = {"source": "pydantic-ai", **meta}
    extra = {} if raw is None else {"raw": raw}
    for role in ("user", "event"):
        archive.conversation("s").record(role, "from elsewhere", meta=told, **extra)
    chat = asyncio.run(say(store, "s", "and on"))
    said = texts(list(chat.messages))
    assert [each for each in said if each in ("hello", "HELLO")] == ["hello", "HELLO"]
    assert said[-2:] == ["and on", "AND ON"]


def test_a_few_bytes_cannot_be_made_to_fill_the_memory(archive, store):
    """A model may record a turn: 200 kB of it must not cost the server gigabytes."""
    asyncio.run(say(store, "s", "hello"))
    for line, ids in ((b"\n", ["a"]), (b"x", ["a"]), (b"null\n", ["a"] * 1000)):
        bomb = base64.b64encode(zlib.compress(line * ((64 << 20) // len(line)))).decode()
        meta = {"source": "pydantic-ai", "kind": "fork"}
        meta["copied"] = {"from": "x", "ids": ids, "turns": bomb}
        archive.conversation("s").record("event", "", meta=meta)
    tracemalloc.start()
    try:
        chat = asyncio.run(store.load("s"))
        assert tracemalloc.get_traced_memory()[1] < 250 << 20
    finally:
        tracemalloc.stop()
    assert texts(list(chat.messages)) == ["hello", "HELLO"]


def test_a_record_comes_back_as_it_was(store):
    """Usage bounds what a user may spend, and a paused run waits for what was deferred."""
    call = ToolCallPart("pay", {"sum": 12345678901234567890123, "raw": "\u2028"}, "call-1")
    record = ConversationRecord(
        conversation_id="trip",
        head_id=None,
        usage=RunUsage(requests=3, input_tokens=5, details={"x": 1}),
        deferred_tool_requests=DeferredToolRequests(
            approvals=[call], metadata={"call-1": {"a": 1}}
        ),
        scope="ada",
        forked_from="other",
        forked_at="there",
        branches=["a", "b"],
    )

    async def go() -> None:
        await store.write_record(record, expected_revision=None)
        assert await store.read_record("trip") == record
        assert await store.read_record("none") is None

    asyncio.run(go())


def test_messages_are_ordinary_turns(archive, store):
    """Who keeps a conversation wants to read and search it without the framework."""
    image = BinaryContent(b"\xfb\xff", media_type="image/png")
    messages = [
        ModelRequest(parts=[SystemPromptPart("Be brief.")]),
        ModelRequest(parts=[UserPromptPart(["What is this?", image])]),
        ModelResponse(parts=[ThinkingPart("Hm."), ToolCallPart("look", {"at": 1}, "call-1")]),
        ModelRequest(parts=[ToolReturnPart("look", {"seen": "a fjord"}, "call-1")]),
        answered("A fjord."),
        ModelRequest(parts=[]),
    ]
    asyncio.run(store.save(Conversation(messages=messages, conversation_id="trip")))
    turns = archive.conversation("trip").tail(10)
    roles = ["system", "user", "assistant", "tool", "assistant", "event", "event"]
    assert [turn.role for turn in turns] == roles
    source = {"type": "base64", "media_type": "image/png", "data": "+/8="}
    assert turns[1].content == [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "source": source},
    ]
    assert turns[2].content == [
        {"type": "thinking", "thinking": "Hm."},
        {"type": "tool_use", "id": "call-1", "name": "look", "input": {"at": 1}},
    ]
    assert turns[3].content == [
        {"type": "tool_result", "tool_use_id": "call-1", "content": '{"seen":"a fjord"}'}
    ]
    assert turns[4].content == "A fjord."
    assert len(archive.search("fjord").hits) == 2
    window = archive.conversation("trip").context(max_turns=9).as_messages()
    assert window[-1] == {"role": "assistant", "content": "A fjord."}


# --- the contract ------------------------------------------------------------------------------


def _outcome(error: Exception) -> str:
    return type(error).__name__


_steps = st.lists(
    st.tuples(
        st.sampled_from(["say", "edit", "branch", "fork", "delete", "stale", "window", "scope"]),
        st.integers(0, 3),
        st.integers(0, 6),
    ),
    min_size=1,
    max_size=12,
)


async def _carried_out(store: Any, steps: list[tuple[str, int, int]]) -> list[Any]:
    """Return what a caller sees of *steps*, ids left out: they are new in each store."""
    told: list[Any] = []
    stale: Conversation | None = None
    for nth, (what, which, number) in enumerate(steps):
        name, other = f"chat-{which}", f"chat-{(which + 1) % 4}"
        scope = "ada" if which % 2 else None
        try:
            if what == "say":
                await say(store, name, f"{nth}")
            elif what == "edit":
                chat = await store.load(name)
                if chat is not None:
                    chat.messages[number % (len(chat.messages) + 1) :] = [asked(f"edit {nth}")]
                    told.append(texts([entry.message for entry in await store.save(chat)]))
            elif what == "branch":
                record = await store.read_record(name)
                revision = record.revision if record else None
                if record is not None and record.branches and number % 2:
                    tip = record.branches[number % len(record.branches)]
                    chat = await store.branch(name, from_entry=tip, expected_revision=revision)
                else:
                    chat = await store.branch(name, at=number, expected_revision=revision)
                told.append(texts(chat.messages))
            elif what == "fork":
                forked = await store.fork(name, at=number, new_conversation_id=other, scope=scope)
                told.append(texts(forked.messages))
            elif what == "delete":
                await store.delete(name, scope=scope)
            elif what == "stale":
                if stale is not None:
                    stale.messages.append(asked("stale"))
                    await store.save(stale)
                stale = await store.load(name)
            elif what == "window":
                chat = await store.load(name, limit=number)
                if chat is not None:
                    told.append(texts(chat.messages))
                    chat.messages.append(asked(f"{nth} behind a window"))
                    await store.save(chat)
            else:
                await say(store, name, f"{nth}", scope=scope)
        except UserError as error:
            told.append(_outcome(error))
        for each in ("chat-0", "chat-1", "chat-2", "chat-3"):
            entries = await store.load_entries(each)
            if entries is None:
                told.append(None)
                continue
            record = await store.read_record(each)
            parents = [None, *(entry.id for entry in entries[:-1])]
            assert [entry.parent_id for entry in entries] == parents
            branches = [
                texts([entry.message for entry in await store.read_history(tip)])
                for tip in record.branches
            ]
            said = texts([entry.message for entry in entries])
            told.append([said, branches, record.scope, record.forked_from])
        listed = [record.conversation_id for record in await store.list_conversations()]
        told.append(listed)
        told.append([each.conversation_id for each in await store.list_conversations(limit=2)])
        told.append(
            [each.conversation_id for each in await store.list_conversations(scope="ada", limit=1)]
        )
    return told


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=_steps)
def test_it_does_what_the_reference_does(tmp_path_factory, steps):
    """The store in memory is what pydantic-ai's own tests know."""

    async def go(archive: Archive) -> None:
        mine = await _carried_out(ConvmemConversationStore(archive), steps)
        assert mine == await _carried_out(InMemoryConversationStore(), steps)

    with Archive.open(tmp_path_factory.mktemp("archive"), durability="none") as archive:
        asyncio.run(go(archive))


def test_a_conflict_leaves_nothing_behind(archive, store):
    """An answer that was not saved must not be found by a search, nor come back."""

    async def go() -> None:
        await say(store, "trip", "one")
        first, second = await store.load("trip"), await store.load("trip")
        first.messages.append(asked("first"))
        second.messages.append(asked("xyzzy"))
        await store.save(first)
        with pytest.raises(ConversationConflict):
            await store.save(second)
        assert texts((await store.load("trip")).messages) == ["one", "ONE", "first"]

    asyncio.run(go())
    assert "xyzzy" not in Path(archive.conversation("trip").path).read_text()


def test_of_writers_of_one_revision_one_wins(archive, store, monkeypatch):
    """The look at the revision and the append are two steps: the log decides between them."""
    look = shelf.standing
    all_have_looked = threading.Barrier(3)
    late = set[int]()

    def look_together(chat: Any) -> Any:
        found = look(chat)
        if threading.get_ident() not in late:
            late.add(threading.get_ident())
            all_have_looked.wait(60)
        return found

    asyncio.run(say(store, "trip", "one"))
    record = asyncio.run(store.read_record("trip"))
    monkeypatch.setattr(shelf, "standing", look_together)

    def write(nth: int) -> str:
        entry = ConversationEntry(parent_id=record.head_id, message=asked(str(nth)))
        mine = dataclasses.replace(record, head_id=entry.id, revision=f"r{nth}")
        try:
            store._shelf.write_record(mine, [entry], record.revision)
        except ConversationConflict:
            return "conflict"
        return mine.revision

    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(write, range(3)))
    monkeypatch.undo()
    assert outcomes.count("conflict") == 2
    assert asyncio.run(store.read_record("trip")).revision in outcomes
    assert len(archive.conversation("trip").tail(99)) == 5  # and nothing of the others


def test_the_very_same_write_again_is_a_conflict(store):
    """Its revision is no longer the expected one; and nothing is doubled."""

    async def go() -> None:
        entry = ConversationEntry(parent_id=None, message=asked("one"))
        record = ConversationRecord(conversation_id="trip", head_id=entry.id)
        await store.write_record(record, new_entries=[entry], expected_revision=None)
        with pytest.raises(ConversationConflict):
            await store.write_record(record, new_entries=[entry], expected_revision=None)
        assert await store.load_entries("trip") == [entry]

    asyncio.run(go())


def test_a_record_needs_its_head(store):
    """A fork of what was deleted meanwhile would be a conversation that cannot be loaded."""

    async def go() -> None:
        record = ConversationRecord(conversation_id="trip", head_id="gone")
        with pytest.raises(ConversationConflict):
            await store.write_record(record, expected_revision=None)
        assert await store.read_record("trip") is None

    asyncio.run(go())


def test_a_save_that_meets_a_new_conversation_does_not_take_it_over(archive, store, monkeypatch):
    """Between look and append, the conversation was deleted and begun anew: the worst moment."""

    async def go() -> None:
        await say(store, "trip", "one")
        late = await store.load("trip")
        late.messages.append(asked("late"))
        other = ConvmemConversationStore(archive)
        look = shelf.standing
        done = []

        def look_and_lose(chat: Any) -> Any:
            found = look(chat)
            if not done:
                done.append(True)
                chat.delete()
                asyncio.run(say(other, "trip", "new"))
            return found

        record = await store.read_record("trip")
        entry = ConversationEntry(parent_id=record.head_id, message=asked("late"))
        updated = dataclasses.replace(record, head_id=entry.id, revision="late")
        monkeypatch.setattr(shelf, "standing", look_and_lose)
        with pytest.raises(ConversationConflict):
            await store.write_record(
                updated, new_entries=[entry], expected_revision=record.revision
            )
        monkeypatch.undo()
        assert texts((await store.load("trip")).messages) == ["new", "NEW"]
        await say(store, "trip", "and on")
        assert texts((await store.load("trip")).messages) == ["new", "NEW", "and on", "AND ON"]
        assert len(await store.load_entries("trip")) == 4

    asyncio.run(go())


def test_a_delete_spares_what_comes_to_life(archive, store, monkeypatch):
    """A turn that is saved while another request deletes must not go with the rest."""

    async def go() -> None:
        await say(store, "trip", "one")
        record = await store.read_record("trip")
        other = ConvmemConversationStore(archive)
        look = shelf.standing
        done = []

        def look_and_lose(chat: Any) -> Any:
            found = look(chat)
            if not done:
                done.append(True)
                asyncio.run(say(other, "trip", "two"))
            return found

        monkeypatch.setattr(shelf, "standing", look_and_lose)
        with pytest.raises(ConversationConflict):
            await store.delete_record("trip", expected_revision=record.revision)
        assert texts((await store.load("trip")).messages) == ["one", "ONE", "two", "TWO"]

    asyncio.run(go())


def test_a_fork_stands_for_itself(archive, store):
    """Deleting the conversation that it came from, or its retention, takes nothing from it."""

    async def go() -> None:
        await say(store, "trip", "one", "two", "three")
        fork = await store.fork("trip", at=4, new_conversation_id="boat")
        again = await store.fork("boat", at=2, new_conversation_id="ferry")
        await say(store, "boat", "boat")
        shared = [entry.id for entry in await store.load_entries("trip")]
        await store.delete("trip")
        await store.delete("ferry")
        fresh = ConvmemConversationStore(archive)
        assert texts((await fresh.load("boat")).messages) == [
            "one", "ONE", "two", "TWO", "boat", "BOAT",
        ]  # fmt: skip
        assert [entry.id for entry in await fresh.load_entries("boat")][:4] == shared[:4]
        assert (await fresh.read_entry(shared[1])).message == fork.messages[1]
        with pytest.raises(LookupError):
            await fresh.read_entry(shared[5])
        assert len(again.messages) == 2

    asyncio.run(go())
    said = archive.conversation("boat").context(max_turns=20).as_messages()
    assert [each["content"] for each in said] == ["one", "ONE", "two", "TWO", "boat", "BOAT"]


def test_what_is_deleted_is_in_the_trash(archive, store):
    """An operator can bring it back, and the store goes on with it."""

    async def go() -> None:
        chat = await say(store, "trip", "one")
        await store.delete("trip")
        assert await store.load("trip") is None
        assert await store.list_conversations() == []
        archive.conversation("trip").restore()
        assert await store.load("trip") == chat
        await say(store, "trip", "two")

    asyncio.run(go())


def test_an_entry_is_found_by_its_id_alone(archive, store):
    """A rating that refers to a message is read by another process, much later."""

    async def go() -> None:
        for number in range(6):
            await say(store, f"chat-{number}", "one", "two")
        made = await store.load_entries("chat-3")
        for entry in made:
            assert await ConvmemConversationStore(archive).read_entry(entry.id) == entry
        odd = ConversationEntry(id="my own id", parent_id=None, message=asked("odd"))
        record = ConversationRecord(conversation_id="odd", head_id="my own id")
        await store.write_record(record, new_entries=[odd], expected_revision=None)
        assert await ConvmemConversationStore(archive).read_entry("my own id") == odd
        for missing in (
            "none",
            made[0].id[:-1] + "x",
            "convmem:",
            'convmem:["chat-3","x"]',
            'convmem:["\\u0000"]',
        ):
            with pytest.raises(LookupError):
                await ConvmemConversationStore(archive).read_entry(missing)

    asyncio.run(go())


def test_a_list_is_in_the_order_of_the_records(store):
    """Also where their times are the caller's."""

    async def go() -> None:
        start = datetime(2026, 1, 1, tzinfo=UTC)
        for number in (3, 1, 4, 0, 2):
            record = ConversationRecord(
                conversation_id=f"chat-{number}",
                head_id=None,
                scope="ada" if number % 2 else None,
                updated_at=start + timedelta(days=number),
            )
            await store.write_record(record, expected_revision=None)
        for limit in (None, 0, 1, 3, 9):
            listed = await store.read_records(limit=limit)
            names = [f"chat-{number}" for number in (4, 3, 2, 1, 0)]
            assert [each.conversation_id for each in listed] == names[:limit]
        [ada] = await store.read_records(scope="ada", limit=1)
        assert ada.conversation_id == "chat-3"

    asyncio.run(go())


def test_the_first_of_many_are_listed_without_reading_all(store, monkeypatch):
    """A picker shows twenty conversations, of thousands."""

    async def go() -> None:
        for number in range(12):
            await say(store, f"chat-{number}", "one")
        looked = []
        look = shelf.standing
        monkeypatch.setattr(shelf, "standing", lambda chat: looked.append(chat) or look(chat))
        listed = await store.list_conversations(limit=3)
        assert [each.conversation_id for each in listed] == ["chat-11", "chat-10", "chat-9"]
        assert len(looked) == 3

    asyncio.run(go())


# --- a long conversation, and a damaged one ----------------------------------------------------


def test_the_end_of_a_long_conversation_is_read_from_the_end(archive, store):
    """Loading the last messages, and saving, must not slow down as a conversation grows."""
    asyncio.run(say(store, "trip", *(str(number) for number in range(100))))

    async def more(count: int) -> None:
        for number in range(count):
            chat = await store.load("trip", limit=2)
            chat.messages += [asked(f"late {number}"), answered(f"LATE {number}")]
            await store.save(chat)

    asyncio.run(more(100))
    path = Path(archive.conversation("trip").path)
    log = path.read_bytes()
    # What is not read does not matter: the first half is made unreadable.
    path.write_bytes(b"\0" * (len(log) // 2) + log[len(log) // 2 :])
    seen: list[Any] = []
    archive._observer.damaged = lambda *given: seen.append(given)

    async def go() -> None:
        fresh = ConvmemConversationStore(archive)
        chat = await fresh.load("trip", limit=20)
        assert texts(chat.messages)[-2:] == ["late 99", "LATE 99"]
        assert len(chat.messages) == 20
        chat.messages.append(asked("more"))
        await fresh.save(chat)
        assert [each.conversation_id for each in await fresh.list_conversations()] == ["trip"]

    asyncio.run(go())
    assert seen == []


def test_no_damaged_line_bricks_a_conversation(tmp_path):
    """Whichever it is: what stood on the others loads, and the conversation goes on."""

    async def begin(archive: Archive) -> None:
        store = ConvmemConversationStore(archive)
        await say(store, "trip", "one")
        await say(store, "trip", "two")
        chat = await store.load("trip")
        await store.branch("trip", at=2, expected_revision=chat.revision)
        await say(store, "trip", "three")

    async def check(archive: Archive, line: int) -> None:
        store = ConvmemConversationStore(archive)
        chat = await store.load("trip")
        said = texts(chat.messages)
        whole = ["one", "ONE", "three", "THREE"]
        lost = [each for each in whole if each not in said]
        assert len(lost) == (line in (0, 1, 7, 8)), (line, said)
        assert said[: len(whole)] == [each for each in whole if each not in lost]
        assert await store.list_conversations() != []
        await say(store, "trip", "on")
        assert texts((await store.load("trip")).messages)[-2:] == ["on", "ON"]
        assert texts((await store.load("trip", limit=3)).messages)[-2:] == ["on", "ON"]

    with Archive.open(tmp_path / "archive") as archive:
        asyncio.run(begin(archive))
        path = Path(archive.conversation("trip").path)
    log = path.read_bytes()
    lines = log.count(b"\n")
    assert lines == 10
    for line in range(lines - 1):
        path.write_bytes(log)
        tear(path, at_line=line)
        with Archive.open(tmp_path / "archive") as archive:
            asyncio.run(check(archive, line))


def test_a_damaged_branch_does_not_lead_into_another(tmp_path):
    """Of an answer that was rewritten, the old one must not come back as part of the history."""

    async def begin(archive: Archive) -> None:
        store = ConvmemConversationStore(archive)
        await say(store, "trip", "one")
        chat = await say(store, "trip", "two")
        await store.branch("trip", at=2, expected_revision=chat.revision)
        archive.conversation("trip").record("user", "from the shell")

    with Archive.open(tmp_path / "archive") as archive:
        asyncio.run(begin(archive))
        tear(archive.conversation("trip").path, at_line=1)  # where the branch begins
    with Archive.open(tmp_path / "archive") as archive:
        chat = asyncio.run(ConvmemConversationStore(archive).load("trip"))
        assert texts(chat.messages) == ["one", "from the shell"]


def test_a_damaged_record_is_made_up_for(tmp_path):
    """The last save is lost as a record; what was said in it is not."""

    async def begin(archive: Archive) -> None:
        store = ConvmemConversationStore(archive)
        await say(store, "trip", "one", scope="ada")
        await say(store, "trip", "two")

    with Archive.open(tmp_path / "archive") as archive:
        asyncio.run(begin(archive))
        tear(archive.conversation("trip").path, at_line=5)

    async def check(archive: Archive) -> None:
        store = ConvmemConversationStore(archive)
        chat = await store.load("trip", scope="ada")
        assert texts(chat.messages) == ["one", "ONE", "two", "TWO"]
        await say(store, "trip", "three")
        assert len((await store.load("trip")).messages) == 6

    with Archive.open(tmp_path / "archive") as archive:
        asyncio.run(check(archive))


def test_retention_shortens_a_history(archive, store):
    """What a policy let go is not asked for: the conversation goes on with what is left."""

    async def go() -> None:
        for number in range(10):
            await say(store, "trip", str(number))
        archive.conversation("trip").compact(RetentionPolicy(keep_last=7))
        fresh = ConvmemConversationStore(archive)
        chat = await fresh.load("trip")
        assert texts(chat.messages)[-4:] == ["8", "8", "9", "9"]
        assert len(chat.messages) < 8
        await say(fresh, "trip", "on")
        assert len((await fresh.load("trip")).messages) == len(chat.messages) + 2
        archive.conversation("trip").compact(RetentionPolicy(keep_last=0))
        assert await fresh.load("trip") is None
        await say(fresh, "trip", "again")
        assert texts((await fresh.load("trip")).messages) == ["again", "AGAIN"]

    asyncio.run(go())


def test_scrubbed_messages_are_passed_over(archive, store):
    """What was taken out for good is not shown as an empty message."""

    async def go() -> None:
        await say(store, "trip", "one", "two")
        entries = await store.load_entries("trip")
        for at in (0, 3):
            archive.conversation("trip").scrub(entries[at].id)
        assert texts((await store.load("trip")).messages) == ["ONE", "two"]
        await say(store, "trip", "three")
        assert texts((await store.load("trip")).messages) == ["ONE", "two", "three", "THREE"]
        # Also where nothing is left.
        await store.fork("trip", new_conversation_id="fork")
        for name in ("trip", "fork"):
            for turn in archive.conversation(name).tail(99):
                if (turn.meta or {}).get("kind") != "conversation":
                    archive.conversation(name).scrub(turn.id)
            fresh = ConvmemConversationStore(archive)
            assert (await fresh.load(name)).messages == []
            assert (await fresh.load(name, limit=5)).messages == []
            await say(fresh, name, "four")
            assert texts((await fresh.load(name)).messages) == ["four", "FOUR"]

    asyncio.run(go())


def test_an_export_carries_conversations_over(archive, store, tmp_path):
    """To another machine: with forks, branches, and what pydantic-ai needs to go on."""

    async def begin() -> list[Any]:
        await say(store, "trip", "one", "two", scope="ada")
        await store.fork("trip", at=2, new_conversation_id="fork")
        await say(store, "fork", "three")
        chat = await store.load("trip")
        await store.branch("trip", at=2, expected_revision=chat.revision)
        await say(store, "trip", "four")
        return [await store.load_entries(name) for name in ("trip", "fork")]

    async def go_on(other: ConvmemConversationStore) -> list[Any]:
        entries = [await other.load_entries(name) for name in ("trip", "fork")]
        [tip] = (await other.read_record("trip")).branches
        assert len(await other.read_history(tip)) == 4
        assert [each.conversation_id for each in await other.list_conversations(scope="ada")]
        await say(other, "trip", "five")
        assert len(await other.load_entries("trip")) == 6
        return entries

    before = asyncio.run(begin())
    exported = tmp_path / "exported.jsonl"
    command = [sys.executable, "-m", "convmem", "--archive"]
    with exported.open("wb") as out:
        words = [*command, tmp_path / "archive", "export", "--all", "--to", "convmem"]
        subprocess.run(words, stdout=out, check=True)
    subprocess.run([*command, tmp_path / "other", "import", exported], check=True)
    with Archive.open(tmp_path / "other") as other:
        assert asyncio.run(go_on(ConvmemConversationStore(other))) == before


def test_the_example_remembers_over_its_restart(tmp_path):
    """It is what people begin with."""
    example = Path(__file__).parents[2] / "examples" / "pydantic_ai_agent.py"
    done = subprocess.run(
        [sys.executable, example, tmp_path / "archive"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "I was sent 1 messages.",
        "I was sent 3 messages.",
        "  1 user      How do I get to Oslo?",
        "  2 assistant I was sent 1 messages.",
        "  4 user      And by train?",
        "  5 assistant I was sent 3 messages.",
        "2 conversations of ada",
    ]


CROWD = """
import asyncio
from convmem import aio
from convmem.adapters.pydantic_ai import ConvmemConversationStore
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict
from pydantic_ai.messages import ModelRequest, UserPromptPart

async def main():
    async with aio.Archive.open(sys.argv[1]) as archive:
        store = ConvmemConversationStore(archive)
        ready()
        for nth in range(100):
            text = f"{sys.argv[2]}-{nth}"
            while True:
                chat = await store.load("trip", limit=2) or Conversation(conversation_id="trip")
                chat.messages.append(ModelRequest(parts=[UserPromptPart(text)]))
                try:
                    await store.save(chat)
                except ConversationConflict:
                    continue
                tell(text)
                break

asyncio.run(main())
"""


def test_four_processes_lose_and_double_nothing(tmp_path):
    """Two workers of one server get requests for the same conversation."""
    told = together(CROWD, tmp_path / "archive")
    with Archive.open(tmp_path / "archive") as archive:
        chat = asyncio.run(ConvmemConversationStore(archive).load("trip"))
    assert sorted(texts(chat.messages)) == sorted(word for each in told for word in each)
    assert len(chat.messages) == 400


def test_what_was_answered_survives_a_kill(tmp_path):
    """A save that returned is there; and the conversation goes on."""
    told = killed(CROWD, tmp_path / "archive", after=20)
    with Archive.open(tmp_path / "archive") as archive:
        store = ConvmemConversationStore(archive)
        assert texts(asyncio.run(store.load("trip")).messages)[: len(told)] == told
        asyncio.run(say(store, "trip", "on"))


def test_a_cancelled_save_is_there_or_not(archive, store):
    """A client that hangs up must not leave half of a turn."""

    async def go() -> None:
        cancelled = []
        for number in range(30):
            chat = Conversation(
                messages=[asked("one"), answered("two")], conversation_id=f"chat-{number}"
            )
            task = asyncio.create_task(store.save(chat))
            await asyncio.sleep(number / 10_000)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            loaded = await store.load(f"chat-{number}")
            assert loaded is None or loaded.messages == chat.messages
            cancelled.append(task.cancelled())
            if not task.cancelled():
                assert loaded is not None
        assert True in cancelled

    asyncio.run(go())


def test_a_closed_archive_raises(tmp_path):
    """Silence would be a conversation that nobody keeps."""

    async def go() -> None:
        async with aio.Archive.open(tmp_path / "archive") as archive:
            store = ConvmemConversationStore(archive)
            await say(store, "trip", "one")
        with pytest.raises(UsageError):
            await say(store, "trip", "two")

    asyncio.run(go())


# --- names -------------------------------------------------------------------------------------

HOSTILE = ["..", ".", "../x", "a/b", "a\\b", "-rf", "con", "%2f", "A", "a", "ä", "🚂", "a b",
           "a\nb", "'; --", "x" * 900, "x" * 901, "convmem:[]"]  # fmt: skip


def test_each_name_is_a_conversation_of_its_own(archive, store):
    """Names come from clients."""

    async def go() -> None:
        for name in HOSTILE:
            await say(store, name, f"of {name}")
        for name in HOSTILE:
            assert texts((await store.load(name)).messages)[0] == f"of {name}"
        listed = [record.conversation_id for record in await store.list_conversations()]
        assert sorted(listed) == sorted(HOSTILE)
        for name in HOSTILE:
            with pytest.raises(ConversationConflict):
                await store.save(Conversation(conversation_id=name))

    asyncio.run(go())
    with pytest.raises(InvalidContinuationId):
        ConvmemConversationStore(archive, namespace="")
    with pytest.raises(InvalidContinuationId):
        asyncio.run(store.load("a\0b"))


def test_a_namespace_is_a_tenant(archive):
    """Nobody reads another's messages, not even by an entry's id."""

    async def go() -> None:
        one, other = (
            ConvmemConversationStore(archive, namespace=name) for name in ("one", "other")
        )
        await say(one, "trip", "mine")
        [entry, _] = await one.load_entries("trip")
        assert await other.load("trip") is None
        assert await other.list_conversations() == []
        with pytest.raises(LookupError):
            await other.read_entry(entry.id)

    asyncio.run(go())


# --- agents ------------------------------------------------------------------------------------


def trains(city: str) -> str:
    """Tell when trains leave."""
    return f"to {city} at 8"


def test_an_agent_goes_on_after_a_restart(tmp_path):
    """With the call of a tool, its result, and what was spent."""
    agent = Agent(TestModel(), system_prompt="Be brief.", tools=[trains])

    async def ask(question: str) -> Conversation:
        async with aio.Archive.open(tmp_path / "archive") as archive:
            store = ConvmemConversationStore(archive)
            chat = await store.load("trip") or Conversation(conversation_id="trip")
            result = await agent.run(question, conversation=chat)
            await store.save(result)
            return result.conversation

    first = asyncio.run(ask("When do trains leave?"))
    second = asyncio.run(ask("And then?"))
    assert second.messages[: len(first.messages)] == first.messages
    assert second.usage.requests > first.usage.requests
    with Archive.open(tmp_path / "archive") as archive:
        loaded = asyncio.run(ConvmemConversationStore(archive).load("trip"))
        assert loaded == second
        said = [turn.role for turn in archive.conversation("trip").turns() if turn.role != "event"]
    assert said[:4] == ["user", "assistant", "tool", "assistant"]


def test_agents_regenerate_an_answer(archive, store):
    """A branch leaves the first answer stored, and can go back to it."""
    agent = Agent(TestModel(call_tools=[]))

    async def go() -> None:
        result = await agent.run("When?", conversation=Conversation(conversation_id="trip"))
        await store.save(result)
        first = await store.load("trip")
        chat = await store.branch("trip", at=1, expected_revision=first.revision)
        await store.save(await agent.run(conversation=chat))
        [tip] = (await store.read_record("trip")).branches
        now = await store.load("trip")
        assert len(now.messages) == 2
        assert now.messages[0] == first.messages[0]
        back = await store.branch("trip", from_entry=tip, expected_revision=now.revision)
        assert back.messages == first.messages

    asyncio.run(go())


# --- what others recorded ----------------------------------------------------------------------


def test_what_others_recorded_is_part_of_the_history(archive, store):
    """A conversation of the shell, or of another framework, goes on with pydantic-ai."""
    chat = archive.conversation("trip")
    chat.record("system", "Be brief.")
    chat.record("user", "When do trains leave?", id="1")
    use = {"type": "tool_use", "id": "call-1", "name": "trains", "input": {"city": "Oslo"}}
    chat.record("assistant", [{"type": "text", "text": "I look."}, use])
    chat.record("tool", [{"type": "tool_result", "tool_use_id": "call-1", "content": "at 8"}])
    chat.record("event", {"x": 1}, meta={"source": "other"})

    async def go() -> None:
        loaded = await store.load("trip")
        system, user, assistant, result = loaded.messages
        assert system.parts[0].content == "Be brief."
        assert user.parts[0].content == "When do trains leave?"
        assert assistant.text == "I look."
        assert assistant.tool_calls[0].args == {"city": "Oslo"}
        returned = result.parts[0]
        assert (returned.tool_name, returned.content) == ("trains", "at 8")
        # It goes on, others put in a word, and it goes on behind that.
        await say(store, "trip", "one")
        before = await store.load("trip")
        chat.record("user", "from the shell", id="2")
        with pytest.raises(ConversationConflict):
            before.messages.append(asked("late"))
            await store.save(before)
        await say(store, "trip", "two")
        said = texts((await store.load("trip")).messages)[4:]
        assert said == ["one", "ONE", "from the shell", "two", "TWO"]
        window = await ConvmemConversationStore(archive).load_entries("trip", limit=3)
        assert window[0].message.parts[0].content == "from the shell"
        whole = await store.load_entries("trip")
        assert window == whole[-3:]
        assert await ConvmemConversationStore(archive).read_entry(whole[1].id) == whole[1]
        forked = await store.fork("trip", at=2, new_conversation_id="fork")
        assert (await store.load("fork")).messages == forked.messages
        await store.delete("trip")
        assert (await ConvmemConversationStore(archive).load("fork")).messages == forked.messages

    asyncio.run(go())


def test_the_same_turn_id_in_two_conversations_is_two_entries(archive, store):
    """Ids of turns are good within their conversation: another's words must never be loaded."""
    for name in ("one", "two"):
        archive.conversation(name).record("user", f"of {name}", id="1")

    async def go() -> None:
        first, second = await store.read_record("one"), await store.read_record("two")
        for record in (first, second):
            [entry] = await store.read_history(record.head_id)
            assert entry.message.parts[0].content == f"of {record.conversation_id}"

    asyncio.run(go())


_keys = st.sampled_from(
    ["type", "text", "source", "content", "id", "name", "input", "tool_use_id", "thinking", "data"]
)
_kinds = st.sampled_from(["text", "image", "document", "tool_use", "tool_result", "thinking"])


@settings(max_examples=150, deadline=None)
@given(
    role=st.sampled_from(["user", "assistant", "system", "tool", "narrator"]),
    content=_json | st.lists(st.dictionaries(_keys, _json | _kinds), max_size=3),
)
def test_no_turn_of_others_is_too_odd(role, content):
    """One line of a stranger must not brick a conversation; and what it gives can be saved."""
    message = as_message(Turn(role, content), {})
    ModelMessagesTypeAdapter.dump_json([message])
    [raw] = json.loads(ModelMessagesTypeAdapter.dump_json([message]))
    as_turn(raw)
