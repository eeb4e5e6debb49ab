"""The OpenAI Agents SDK over convmem: its own runner, sessions and decorators on real files."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("agents")

import httpx
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrail,
    InputGuardrailTripwireTriggered,
    RunConfig,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from agents.items import ItemHelpers
from agents.memory import OpenAIResponsesCompactionSession, Session, SessionSettings
from agents.memory.session import _session_accepts_wrapper
from agents.run_internal.items import fingerprint_input_item
from agents.run_internal.session_persistence import rewind_session_items
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from crowd import killed, tear, together
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai import BadRequestError
from openai.types import responses

from convmem import Archive, InvalidContinuationId, InvalidTurn, Turn, UsageError, aio
from convmem.adapters.openai_agents import SOURCE, ConvmemSession, items_of, turn_of
from convmem.formats.openai.response_items import said_by

set_tracing_disabled(True)
TRANSCRIPTS = Path(__file__).parents[1] / "data" / "transcripts"
EXAMPLE = Path(__file__).parents[2] / "examples" / "openai_agents.py"


def spelled(value):
    """The one spelling of JSON in which equal means the very same, the order of keys included."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def say(text, role="user"):
    return {"role": role, "content": text}


def texts(items):
    return [item["content"] for item in items]


# --- items and turns ------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
PARTS = st.one_of(
    st.fixed_dictionaries({"type": st.just("input_text"), "text": st.text()}),
    st.fixed_dictionaries(
        {"annotations": st.just([]), "text": st.text(), "type": st.just("output_text")},
        optional={"logprobs": st.just([])},
    ),
    st.fixed_dictionaries({"type": st.just("refusal"), "refusal": st.text()}),
    st.fixed_dictionaries(
        {
            "type": st.just("input_image"),
            "detail": st.sampled_from(("auto", "low")),
            "image_url": st.sampled_from(("data:image/png;base64,QUJD", "https://x/y.png", "", 5)),
        }
    ),
    st.fixed_dictionaries(
        {"type": st.just("input_file")},
        optional={
            "file_data": st.just("data:text/plain;base64,QUJD"),
            "file_url": st.just("https://x/y.pdf"),
            "file_id": st.text(),
            "filename": st.text(),
        },
    ),
    JSON,
)
CONTENT = st.text() | st.lists(PARTS, max_size=3) | JSON
ARGUMENTS = st.one_of(
    st.text(),
    st.dictionaries(st.text(), JSON, max_size=3).map(spelled),
    st.dictionaries(st.text(), JSON, max_size=3).map(json.dumps),
    st.sampled_from(
        (
            '{"a":1e999}',
            '{"a":NaN}',
            '{"a":"\\ud800"}',
            '{"a":' * 400,
            '{"a":' * 400 + "1" + "}" * 400,
            '{"a":[' + "{}," * 400 + "1]}",
            '{"a":1,"a":2}',
        )
    ),
)
CALLS = "function_call custom_tool_call web_search_call image_generation_call".split()
SPEAKERS = st.sampled_from(("user", "assistant", "system", "developer"))
SUMMARY = st.fixed_dictionaries({"text": st.text(), "type": st.just("summary_text")})
ENCRYPTED = {"__enc__": st.just(1), "v": st.just(1), "kid": st.text(), "payload": st.text()}
ITEMS = st.one_of(
    st.fixed_dictionaries({"content": CONTENT, "role": st.text() | SPEAKERS}),
    st.fixed_dictionaries(
        {"type": st.just("message"), "role": SPEAKERS, "content": CONTENT},
        optional={"id": st.text(), "status": st.just("completed")},
    ),
    st.fixed_dictionaries(
        {
            "arguments": ARGUMENTS,
            "call_id": st.text(),
            "name": st.text(),
            "type": st.sampled_from(CALLS),
        },
        optional={"id": st.text(), "result": st.text()},
    ),
    st.fixed_dictionaries(
        {
            "call_id": st.text(),
            "output": ARGUMENTS | st.lists(PARTS, max_size=2) | JSON,
            "type": st.sampled_from(("function_call_output", "shell_call_output")),
        },
        optional={"success": st.booleans()},
    ),
    st.fixed_dictionaries(
        {"summary": st.lists(SUMMARY, max_size=2), "type": st.just("reasoning")},
        optional={
            "id": st.text(),
            "encrypted_content": st.text(),
            "content": st.lists(JSON, max_size=2),
        },
    ),
    st.fixed_dictionaries({"type": st.text()}, optional={"id": st.text(), "role": st.text()}),
    st.fixed_dictionaries(ENCRYPTED),
    st.dictionaries(st.text(), JSON, max_size=4),
    JSON,
)


def stored(item):
    """What a reader gets of the turn that *item* was recorded as."""
    made = json.loads(json.dumps(turn_of(item)))
    role, content, meta = made.pop("role"), made.pop("content"), made.pop("meta", None)
    return Turn(role, content, meta=meta, extra=made)


@given(ITEMS)
@example({"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text"}]})
@example({"content": [{"type": "input_text", "text": "a"}], "role": "user"})
@example({"content": "", "role": "user"})
def test_every_item_comes_back_as_the_very_item_it_was(item):
    """The runner compares fingerprints, and the API is fussy: nothing may be edited on the way."""
    assert spelled(items_of(stored(item))) == spelled([item])


@given(st.lists(ITEMS, min_size=1, max_size=5))
def test_what_is_said_of_an_item_is_storable_text(items):
    """An item that the disk refuses would end somebody's run in the middle."""
    for item in items:
        spelled(turn_of(item)).encode()


@given(ITEMS)
def test_an_item_becomes_the_turn_that_an_import_makes_of_it(item):
    """What was recorded live and what was imported are found by the same search."""
    if isinstance(item, dict):
        typed = item if "type" in item else {"type": "message", **item}
        expected = said_by(typed)
        made = turn_of(item)
        if expected is None:
            assert (made["role"], made["content"]) == ("event", "")
        else:
            assert (made["role"], made["content"]) == expected


MODEL_OUTPUTS = [
    assistant_message("Nine.", item_id="msg_1"),
    function_call("trains", {"to": "Oslo"}, call_id="call_1", item_id="fc_1"),
    responses.ResponseReasoningItem(
        id="rs_1", type="reasoning", summary=[{"type": "summary_text", "text": "Hm."}]
    ),
    responses.ResponseFunctionWebSearch(
        id="ws_1",
        type="web_search_call",
        status="completed",
        action={"type": "search", "query": "x"},
    ),
    responses.ResponseCompactionItem(id="cmp_1", type="compaction", encrypted_content="gAAA"),
]


@pytest.mark.parametrize("output", MODEL_OUTPUTS, ids=lambda output: output.type)
def test_the_types_of_the_sdk_round_trip(archive, output):
    """By way of the disk, as the runner stores what a model answers."""
    item = output.model_dump(exclude_unset=True)
    session = ConvmemSession("s", archive)
    (back,) = asyncio.run(added_and_read(session, [item]))
    assert spelled(back) == spelled(item)
    assert fingerprint_input_item(back) == fingerprint_input_item(item)


async def added_and_read(session, items, limit=None):
    await session.add_items(items)
    return await session.get_items(limit)


def test_what_the_sdk_writes_most_is_stored_once():
    """Questions and results of tools are most of a log; keeping them twice would double it."""
    call = function_call("trains", {"to": "Oslo"}, call_id="c1")
    output = ItemHelpers.tool_call_output_item(call, "two a day")
    question = ItemHelpers.input_to_new_input_list("And by train?")[0]
    bare = {
        "arguments": '{"to":"Oslo"}',
        "call_id": "c1",
        "name": "trains",
        "type": "function_call",
    }
    for item in (question, output, bare):
        assert turn_of(item).keys() == {"role", "content"}
    assert items_of(stored(say("x")))[0] == say("x")


# --- the protocol ---------------------------------------------------------------------------------


def test_it_is_a_session_that_takes_the_context_on_all_methods(archive):
    """``wrapper`` is passed to all four or to none."""
    session = ConvmemSession("s", archive)
    assert isinstance(session, Session)
    assert _session_accepts_wrapper(session)
    assert session.session_id == "s"
    assert session.session_settings == SessionSettings()


def test_limits_are_those_of_the_sdk(archive):
    """Explicit before the session's own; 0 is none; nothing said is all."""

    async def use():
        plain = ConvmemSession("s", archive)
        await plain.add_items([say(str(n)) for n in range(30)])
        bounded = ConvmemSession("s", archive, session_settings=SessionSettings(limit=3))
        from_dictionary = ConvmemSession("s", archive, session_settings={"limit": 2})
        assert texts(await plain.get_items()) == [str(n) for n in range(30)]
        assert texts(await plain.get_items(2)) == ["28", "29"]
        assert texts(await plain.get_items(limit=2**31 - 1)) == [str(n) for n in range(30)]
        assert len(await plain.get_items(-1)) == 30
        assert await plain.get_items(0) == []
        assert texts(await bounded.get_items()) == ["27", "28", "29"]
        assert texts(await bounded.get_items(limit=1)) == ["29"]
        assert await bounded.get_items(limit=0) == []
        assert texts(await from_dictionary.get_items()) == ["28", "29"]

    asyncio.run(use())
    with pytest.raises(Exception, match="limitt"):
        ConvmemSession("s", archive, session_settings={"limitt": 1})


def test_items_that_say_nothing_count_as_items(archive):
    """Encrypted ones are all a session may hold: a limit and a pop mean them, too."""
    encrypted = {"__enc__": 1, "v": 1, "kid": "hkdf-v1", "payload": "gAAAAA"}

    async def use():
        session = ConvmemSession("s", archive)
        await session.add_items([say("a"), encrypted, say("b"), encrypted])
        assert await session.get_items(2) == [say("b"), encrypted]
        assert await session.pop_item() == encrypted
        assert await session.pop_item() == say("b")
        assert await session.get_items() == [say("a"), encrypted]

    asyncio.run(use())


def test_events_of_others_are_no_items_and_do_not_shorten_a_read(archive):
    """An import leaves many; ten newest items are ten all the same."""
    chat = archive.conversation("s")
    for n in range(20):
        chat.record("user", str(n))
        for _ in range(n):
            chat.record("event", "", meta={"source": "codex", "kind": "token_count"})

    async def use():
        session = ConvmemSession("s", archive)
        assert texts(await session.get_items(10)) == [str(n) for n in range(10, 20)]
        assert texts(await session.get_items(40)) == [str(n) for n in range(20)]
        assert texts([await session.pop_item(), await session.pop_item()]) == ["19", "18"]

    asyncio.run(use())


def test_nothing_is_there_before_the_first_item(archive):
    """A new session reads as empty, and reading makes no file."""

    async def use():
        session = ConvmemSession("s", archive)
        assert await session.get_items() == await session.get_items(5) == []
        assert await session.pop_item() is None
        await session.clear_session()
        await session.add_items([])
        assert await session._atomic_replace_items([])

    asyncio.run(use())
    assert not archive.conversation("s").exists()
    assert not Path(archive.conversation("s").path).exists()


def test_clearing_moves_everything_to_the_trash(archive):
    """A slip of the program is no loss: what was cleared can be restored."""

    async def use():
        session = ConvmemSession("s", archive)
        await session.add_items([say("a"), say("b")])
        await session.clear_session()
        assert await session.get_items() == []
        await session.add_items([say("c")])
        assert await session.get_items() == [say("c")]
        session.conversation.restore()
        assert texts(await session.get_items())[:2] == ["a", "b"]

    asyncio.run(use())


def test_popping_takes_the_newest_and_leaves_it_in_the_trash(archive):
    """The runner takes back what it retries; a person may want to see it."""

    async def use():
        session = ConvmemSession("s", archive)
        await session.add_items([say("a"), say("b")])
        assert [await session.pop_item() for _ in range(3)] == [say("b"), say("a"), None]
        session.conversation.restore()
        assert texts(await session.get_items()) == ["a", "b"]

    asyncio.run(use())


def test_replacing_is_one_step(archive):
    """Compaction by the SDK: clear and add would lose all if the second half failed."""

    async def use():
        session = ConvmemSession("s", archive)
        await session.add_items([say(str(n)) for n in range(5)])
        assert await session._atomic_replace_items([say("summary")])
        assert await session.get_items() == [say("summary")]
        assert await session._atomic_replace_items([])
        assert await session.get_items() == []

        class Own(ConvmemSession):
            pass

        assert not await Own("s", archive)._atomic_replace_items([say("x")])
        assert await session.get_items() == []

    asyncio.run(use())


def test_a_closed_archive_is_an_error_everywhere(tmp_path):
    """Also for nothing at all: an answer would say that it is safe."""
    archive = Archive.open(tmp_path)
    session = ConvmemSession("s", archive)
    asyncio.run(session.add_items([say("a")]))
    archive.close()
    calls = (
        lambda: session.add_items([]),
        lambda: session.add_items([say("b")]),
        session.get_items,
        lambda: session.get_items(3),
        session.pop_item,
        session.clear_session,
        lambda: session._atomic_replace_items([]),
    )
    for call in calls:
        with pytest.raises(UsageError):
            asyncio.run(call())


def test_a_batch_with_an_item_that_is_no_json_stores_nothing(archive):
    """Half a turn is worse than an error."""
    session = ConvmemSession("s", archive)
    with pytest.raises(InvalidTurn):
        asyncio.run(session.add_items([say("a"), {"role": "user", "content": "b", "x": object()}]))
    assert asyncio.run(session.get_items()) == []


ODD_TEXT = st.text(st.characters(codec=None), max_size=6)  # with half surrogate pairs
ODD = st.recursive(
    st.floats() | ODD_TEXT | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD_TEXT, inner, max_size=3),
    max_leaves=5,
)
ODD_ITEMS = st.one_of(
    st.fixed_dictionaries({"content": ODD, "role": SPEAKERS}, optional={"x": ODD}),
    st.fixed_dictionaries(
        {"arguments": ODD, "call_id": ODD, "name": ODD, "type": st.sampled_from(CALLS)}
    ),
    st.fixed_dictionaries({"call_id": ODD, "output": ODD, "type": st.just("function_call_output")}),
    st.fixed_dictionaries({"type": ODD}, optional={"id": ODD}),
    ODD_TEXT,
    st.sampled_from(('"x"', "{}", "NaN")),
)


@settings(deadline=None, max_examples=40)
@given(st.lists(ODD_ITEMS, min_size=1, max_size=3))
@example([{"role": "user", "content": "x", "z": "a\ud83d"}])
@example([{"role": "user", "content": "a\ud83d"}, {"role": "assistant", "content": "b"}])
def test_no_run_is_refused_for_odd_text(tmp_path_factory, items):
    """Emoji get cut in two and figures divided by nothing: the answer is there all the same."""
    with Archive.open(tmp_path_factory.mktemp("odd"), durability="none") as archive:
        session = ConvmemSession("s", archive)
        asyncio.run(session.add_items(items))
        assert json.dumps(asyncio.run(session.get_items())) == json.dumps(items)
        assert asyncio.run(session._atomic_replace_items(items[::-1]))
        assert json.dumps(asyncio.run(session.get_items())) == json.dumps(items[::-1])


def test_text_that_cannot_be_said_is_found_all_the_same(archive):
    """Half an emoji hides no sentence."""
    session = ConvmemSession("s", archive)
    asyncio.run(session.add_items([say("to Oslo by train \ud83d")]))
    (turn,) = session.conversation.turns()
    assert turn.content == "to Oslo by train \ufffd"
    assert [hit.turn.seq for hit in archive.search("Oslo")] == [1]


def test_hostile_names_stay_apart_and_inside(tmp_path):
    """A session's name comes from a client."""
    names = [
        "../../x",
        "..",
        "a/b",
        "a%2fb",
        "A",
        "a",
        "con",
        ".hidden",
        "-rf",
        "ä",
        "x" * 1024,
        " ",
    ]
    with Archive.open(tmp_path / "in" / "archive", namespace="tenant") as archive:

        async def use():
            for name in names:
                await ConvmemSession(name, archive).add_items([say(name)])
            for name in names:
                assert await ConvmemSession(name, archive).get_items() == [say(name)]
                assert await ConvmemSession(name, archive, namespace="other").get_items() == []

        asyncio.run(use())
        for name in ("", "a\0b", "x" * 1025, "\ud800", 7):
            with pytest.raises(InvalidContinuationId):
                ConvmemSession(name, archive)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["archive"]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_an_async_archive_will_do_as_well(tmp_path):
    """A server that has one already hands it on."""

    async def use():
        async with aio.Archive.open(tmp_path) as archive:
            session = ConvmemSession("s", archive)
            await session.add_items([say("a")])
            assert await ConvmemSession("s", archive.sync).get_items() == [say("a")]

    asyncio.run(use())


def test_a_cancelled_append_is_settled_when_the_cancellation_arrives(archive):
    """Who is told "cancelled" may retry, and must find out by one look what became of it."""

    batch = [say(str(n)) for n in range(300)]  # takes some milliseconds

    async def use():
        session = ConvmemSession("s", archive)
        cancelled = 0
        for n in range(20):
            adding = asyncio.create_task(session.add_items(batch))
            await asyncio.sleep(0.001 * (n % 5))
            adding.cancel()
            try:
                await adding
            except asyncio.CancelledError:
                cancelled += 1
            then = await session.get_items()
            await asyncio.sleep(0.01)
            assert len(then) % 300 == 0
            assert len(await session.get_items()) == len(then)
        assert cancelled

    asyncio.run(use())


def test_one_session_may_be_used_from_several_event_loops(archive):
    """``Runner.run_sync``, and tests, make a loop each time."""
    session = ConvmemSession("s", archive)
    for n in range(3):
        asyncio.run(session.add_items([say(str(n))]))
    assert texts(asyncio.run(session.get_items())) == ["0", "1", "2"]


# --- others in the same conversation --------------------------------------------------------------


def test_what_others_recorded_is_read_as_items(archive):
    """The shell, an import, another framework: a session goes on where they ended."""
    chat = archive.conversation("s")
    chat.record("system", "Be brief.")
    chat.record("user", "And by train?")
    chat.record(
        "assistant",
        [
            {"type": "thinking", "thinking": "Two calls."},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "t1", "name": "trains", "input": {"to": "Oslo"}},
            {"type": "tool_use", "id": "t2", "name": "buses", "input": {}},
        ],
    )
    picture = {"type": "base64", "media_type": "image/png", "data": "QUJD"}
    chat.record(
        "tool",
        [
            {"type": "tool_result", "tool_use_id": "t1", "content": "two a day"},
            {
                "type": "tool_result",
                "tool_use_id": "t2",
                "content": [{"type": "text", "text": "none"}, {"type": "image", "source": picture}],
            },
        ],
    )
    chat.record("operator", {"odd": [1, None]})
    items = asyncio.run(ConvmemSession("s", archive).get_items())
    assert items == [
        say("Be brief.", "system"),
        say("And by train?"),
        {"summary": [{"text": "Two calls.", "type": "summary_text"}], "type": "reasoning"},
        say("I look.", "assistant"),
        {"arguments": '{"to":"Oslo"}', "call_id": "t1", "name": "trains", "type": "function_call"},
        {"arguments": "{}", "call_id": "t2", "name": "buses", "type": "function_call"},
        {"call_id": "t1", "output": "two a day", "type": "function_call_output"},
        {
            "call_id": "t2",
            "output": [
                {"type": "input_text", "text": "none"},
                {
                    "type": "input_image",
                    "detail": "auto",
                    "image_url": "data:image/png;base64,QUJD",
                },
            ],
            "type": "function_call_output",
        },
        say('{"odd":[1,null]}'),
    ]
    newest = asyncio.run(ConvmemSession("s", archive).get_items(4))
    assert newest == items[-4:]


@given(st.sampled_from(("user", "assistant", "system", "tool", "event", "critic")), CONTENT)
@example("user", [float("inf")])
@example("assistant", [{"type": "tool_use", "id": "1", "name": "f", "input": {"a": float("inf")}}])
def test_no_turn_of_others_is_an_exception(role, content):
    """A server that dies of one odd line is dead until somebody edits a file."""
    items = items_of(Turn(role, content))
    spelled(items)
    assert all(item.keys() & {"role", "type"} for item in items)


@pytest.mark.parametrize(
    "odd",
    [
        None,
        5,
        [],
        {},
        {"type": "tool_use"},
        {"type": "tool_result"},
        {"type": "image", "source": {}},
        {"type": "thinking"},
        {"type": "document", "source": {"file_id": "f"}, "title": "t"},
        {"type": "image", "source": {"type": "url", "url": "https://x"}},
    ],
)
def test_odd_blocks_become_something(odd):
    """Half a block is read as what there is of it."""
    for role in ("user", "assistant", "tool"):
        assert len(items_of(Turn(role, [odd]))) == 1


@pytest.mark.parametrize("name", ["claude_code", "codex"])
def test_an_imported_conversation_goes_on(desk, name):
    """The point of one archive: begin with one tool, go on with another."""
    desk.take(TRANSCRIPTS / name)
    sizes = {chat: len(turns) for chat, turns in desk.all_turns().items()}
    longest = max(sizes, key=lambda chat: sizes[chat])

    async def use(archive):
        session = ConvmemSession(longest, archive)
        before = await session.get_items()
        assert before
        await Runner.run(traveller([assistant_message("Nine.")]), "How many?", session=session)
        after = await session.get_items()
        assert after[: len(before)] == before
        assert len(after) == len(before) + 2

    with Archive.open(desk.root) as archive:
        asyncio.run(use(archive))


def test_popping_half_of_what_another_said_leaves_the_other_half(archive):
    """One turn of theirs may be several items; each is popped by itself."""
    chat = archive.conversation("s")
    chat.record("user", "hello")
    chat.record(
        "assistant",
        [
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "t1", "name": "trains", "input": {}},
        ],
    )

    async def use():
        session = ConvmemSession("s", archive)
        assert (await session.pop_item())["type"] == "function_call"
        assert texts(await session.get_items()) == ["hello", "I look."]
        assert texts([await session.pop_item()]) == ["I look."]
        assert texts(await session.get_items()) == ["hello"]

    asyncio.run(use())


def test_items_are_ordinary_turns_to_everybody_else(archive):
    """Found by search, shown by tail, in a context, given out by export."""
    call = function_call("trains", {"to": "Oslo"}, call_id="c1", item_id="fc1")
    items = [
        *ItemHelpers.input_to_new_input_list("And by train to Oslo?"),
        call.model_dump(exclude_unset=True),
        ItemHelpers.tool_call_output_item(call, "two a day"),
        assistant_message("Two a day, from platform nine.").model_dump(exclude_unset=True),
        {"__enc__": 1, "v": 1, "kid": "k", "payload": "secret"},
    ]
    asyncio.run(ConvmemSession("s", archive).add_items(items))
    chat = archive.conversation("s")
    said = chat.tail(10, roles=("user", "assistant", "tool"))
    assert [turn.role for turn in said] == ["user", "assistant", "tool", "assistant"]
    assert said[-1].text == "Two a day, from platform nine."
    assert said[1].content[0]["input"] == {"to": "Oslo"}
    assert {turn.meta["source"] for turn in chat.tail(10) if turn.meta} == {SOURCE}
    assert [hit.turn.seq for hit in archive.search("platform").hits] == [4]
    told = chat.context(max_turns=10).as_messages()
    assert told[0]["role"] == "user"
    assert "secret" not in spelled(told)


def test_what_was_scrubbed_is_no_item(archive):
    """Nobody may get it back by another door."""
    session = ConvmemSession("s", archive)
    asyncio.run(session.add_items([say("a"), say("the secret"), say("b")]))
    chat = archive.conversation("s")
    chat.scrub(chat.tail(2)[0].id)
    assert texts(asyncio.run(session.get_items())) == ["a", "b"]
    assert texts(asyncio.run(session.get_items(2))) == ["a", "b"]


# --- damage, and many at once ---------------------------------------------------------------------

ADD = """
import asyncio
from convmem import Archive
from convmem.adapters.openai_agents import ConvmemSession

root, count, number = sys.argv[1:]
with Archive.open(root) as archive:
    session = ConvmemSession("s", archive)

    async def add():
        for n in range(int(count)):
            await session.add_items([
                {"content": f"{number} {n} question", "role": "user"},
                {"content": f"{number} {n} answer", "role": "assistant"},
            ])
            tell(n)

    ready()
    asyncio.run(add())
"""


def test_four_processes_lose_nothing_and_double_nothing(tmp_path):
    """A server with several workers, and one session that they share."""
    told = together(ADD, tmp_path, 100)
    assert [len(each) for each in told] == [100] * 4
    with Archive.open(tmp_path) as archive:
        items = asyncio.run(ConvmemSession("s", archive).get_items())
    said = texts(items)
    for number in range(4):
        its = [text for text in said if text.startswith(f"{number} ")]
        assert its == [
            f"{number} {n} {what}" for n in range(100) for what in ("question", "answer")
        ]
    # Each batch stays together.
    assert all(
        said[at].rsplit(" ", 1)[0] == said[at + 1].rsplit(" ", 1)[0] for at in range(0, 800, 2)
    )


POP = """
import asyncio
from convmem import Archive
from convmem.adapters.openai_agents import ConvmemSession

root, count, number = sys.argv[1:]
with Archive.open(root) as archive:
    session = ConvmemSession("s", archive)

    async def pop():
        for n in range(int(count)):
            if number == "0":
                await session.add_items([{"content": f"new {n}", "role": "user"}])
            else:
                item = await session.pop_item()
                tell(item and item["content"])

    ready()
    asyncio.run(pop())
"""


def test_processes_that_pop_get_distinct_items_while_another_adds(tmp_path):
    """No item is handed out twice, and none vanishes."""
    with Archive.open(tmp_path) as archive:
        session = ConvmemSession("s", archive)
        asyncio.run(session.add_items([say(f"old {n}") for n in range(60)]))
        told = together(POP, tmp_path, 20, count=3)
        popped = [text for each in told for text in each]
        left = texts(asyncio.run(session.get_items()))
    everything = [f"old {n}" for n in range(60)] + [f"new {n}" for n in range(20)]
    assert len(popped) == 40
    assert sorted(popped + left) == sorted(everything)


def test_a_process_that_was_killed_leaves_whole_turns(tmp_path):
    """What was answered is there, once, and the session goes on."""
    told = killed(ADD, tmp_path, 100_000, after=25)
    with Archive.open(tmp_path) as archive:
        session = ConvmemSession("s", archive)
        said = texts(asyncio.run(session.get_items()))
        assert len(said) % 2 == 0
        assert len(told) <= len(said) // 2 <= len(told) + 1
        assert said[::2] == [f"0 {n} question" for n in range(len(said) // 2)]
        assert len(asyncio.run(added_and_read(session, [say("go on")]))) == len(said) + 1


def test_damaged_lines_are_passed_over_and_never_count(tmp_path):
    """The limit means items; one bad line has ended other people's sessions for good."""
    with Archive.open(tmp_path) as archive:
        session = ConvmemSession("s", archive)
        for n in range(10):
            asyncio.run(session.add_items([say(str(n))]))
        path = archive.conversation("s").path
    tear(path, at_line=8)
    with Archive.open(tmp_path) as archive:
        session = ConvmemSession("s", archive)
        left = [str(n) for n in range(10) if n != 8]
        assert texts(asyncio.run(session.get_items())) == left
        assert texts(asyncio.run(session.get_items(3))) == ["6", "7", "9"]
        assert texts(asyncio.run(added_and_read(session, [say("on")], 2))) == ["9", "on"]
        assert asyncio.run(session.pop_item()) == say("on")
        assert asyncio.run(session.pop_item()) == say("9")
        assert texts(asyncio.run(session.get_items(2))) == ["6", "7"]


# --- the framework's own runner and decorators ----------------------------------------------------


@function_tool
def trains(to: str) -> str:
    """Say how many trains go there."""
    return f"two a day to {to}"


def traveller(*steps):
    """An agent whose model says what is in *steps*."""
    return Agent(name="traveller", model=ScriptedModel(steps), tools=[trains])


WITH_A_TOOL = (
    [function_call("trains", {"to": "Oslo"}, call_id="c1", item_id="fc1")],
    [assistant_message("Two a day.", item_id="m1")],
)


def test_a_run_with_a_tool_is_remembered_over_a_restart(tmp_path):
    """The reason for a session: the second process knows what the first was told."""
    with Archive.open(tmp_path) as archive:
        session = ConvmemSession("s", archive)
        asyncio.run(Runner.run(traveller(*WITH_A_TOOL), "And by train?", session=session))
        first = asyncio.run(session.get_items())
    assert [item.get("type", item.get("role")) for item in first] == [
        "user", "function_call", "function_call_output", "message",
    ]  # fmt: skip
    with Archive.open(tmp_path) as archive:
        agent = traveller([assistant_message("Seven hours.")])
        session = ConvmemSession("s", archive)
        asyncio.run(Runner.run(agent, "How long?", session=session))
        given = agent.model.last_call.input
        assert given[0]["content"] == "And by train?"
        assert [item.get("call_id") for item in given if "call_id" in item] == ["c1", "c1"]
        assert given[-1]["content"] == "How long?"
        assert len(asyncio.run(session.get_items())) == 6


def test_streamed_runs_and_sync_runs_use_the_same_session(archive):
    """Each way of running ends in the same calls, from loops of their own."""
    session = ConvmemSession("s", archive)

    async def streamed():
        run = Runner.run_streamed(traveller(*WITH_A_TOOL), "And by train?", session=session)
        async for _ in run.stream_events():
            pass

    asyncio.run(streamed())
    for n in (1, 2):
        agent = traveller([assistant_message(f"Answer {n}.")])
        with asyncio.Runner() as loops:
            asyncio.set_event_loop(loops.get_loop())
            Runner.run_sync(agent, f"Question {n}?", session=session)
    items = asyncio.run(session.get_items())
    assert len(items) == 8
    assert len(agent.model.last_call.input) == 7


def test_a_run_reads_no_more_than_its_limit(archive):
    """``RunConfig`` may bound what a model is given."""
    session = ConvmemSession("s", archive)
    asyncio.run(session.add_items([say(str(n)) for n in range(50)]))
    agent = traveller([assistant_message("Yes.")])
    config = RunConfig(session_settings=SessionSettings(limit=4))
    asyncio.run(Runner.run(agent, "And?", session=session, run_config=config))
    assert texts(agent.model.last_call.input) == ["46", "47", "48", "49", "And?"]


def locked():
    request = httpx.Request("POST", "https://example.invalid")
    response = httpx.Response(400, request=request)
    body = {"code": "conversation_locked"}
    return BadRequestError("locked", response=response, body=body)


def test_a_retried_request_leaves_its_input_once(archive):
    """The runner takes its question back and asks again: it must find its own question."""
    session = ConvmemSession("s", archive)
    agent = traveller(ModelStep.raise_error(locked()), [assistant_message("Yes.")])
    asyncio.run(session.add_items([say("before")]))
    asyncio.run(Runner.run(agent, "And?", session=session))
    items = asyncio.run(session.get_items())
    assert len(agent.model.calls) == 2
    assert [item.get("content") for item in items].count("And?") <= 1
    assert items[0] == say("before")
    assert items[-1]["content"][0]["text"] == "Yes."


def test_the_runner_rewinds_what_it_added_and_nothing_else(archive):
    """Its k pops compare fingerprints; where somebody wrote meanwhile, all stays as it was."""
    mine = [item.model_dump(exclude_unset=True) for item in MODEL_OUTPUTS[:3]]

    async def use():
        session = ConvmemSession("s", archive)
        await session.add_items([say("before"), *mine])
        await rewind_session_items(session, mine)
        assert await session.get_items() == [say("before")]
        await session.add_items([*mine, say("somebody else")])
        then = await session.get_items()
        await rewind_session_items(session, mine)
        assert await session.get_items() == then

    asyncio.run(use())


def test_a_guardrail_that_trips_leaves_a_session_that_goes_on(archive):
    """What was asked is kept, and the next run is not disturbed by it."""

    async def refuse(context, agent, given):
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    session = ConvmemSession("s", archive)
    agent = traveller([assistant_message("Never said.")])
    agent.input_guardrails = [InputGuardrail(guardrail_function=refuse, run_in_parallel=False)]
    with pytest.raises(InputGuardrailTripwireTriggered):
        asyncio.run(Runner.run(agent, "Bad?", session=session))
    asyncio.run(Runner.run(traveller([assistant_message("Yes.")]), "Good?", session=session))
    items = asyncio.run(session.get_items())
    assert [item["content"] for item in items if item["role"] == "user"] == ["Bad?", "Good?"]


def test_encrypted_sessions_work_over_it(archive):
    """What the SDK encrypts is on the disk only so, and comes back as it was."""
    pytest.importorskip("cryptography")
    from agents.extensions.memory import EncryptedSession

    def session(**more):
        return EncryptedSession("s", ConvmemSession("s", archive), "a key of high entropy", **more)

    asyncio.run(Runner.run(traveller(*WITH_A_TOOL), "And by train?", session=session()))
    items = asyncio.run(session().get_items())
    assert len(items) == 4
    assert asyncio.run(session().get_items(2)) == items[-2:]
    assert b"train" not in Path(archive.conversation("s").path).read_bytes()
    assert asyncio.run(session().pop_item()) == items[-1]
    assert asyncio.run(session(max_scan_items=100).get_items()) == items[:-1]
    asyncio.run(session().clear_session())
    assert asyncio.run(session().get_items()) == []


class Compactor:
    """Stands for the client that ``responses.compact`` is asked of."""

    def __init__(self):
        self.responses = self
        self.calls = 0

    async def compact(self, **given):
        self.calls += 1
        return type("Compacted", (), {"output": [say("in short", "assistant")], "usage": None})()


def test_the_compaction_of_the_sdk_replaces_in_one_step(archive):
    """Forced, and by the runner itself; what was is in the trash."""
    own = ConvmemSession("s", archive)
    compactor = Compactor()
    session = OpenAIResponsesCompactionSession(
        "s", own, client=compactor, should_trigger_compaction=lambda _: compactor.calls < 2
    )

    async def use():
        await session.add_items([say("a"), say("b", "assistant")])
        await session.run_compaction({"force": True, "compaction_mode": "input"})
        assert await own.get_items() == [say("in short", "assistant")]
        agent = traveller([assistant_message("Yes.")])
        agent.model_settings.store = False
        await Runner.run(agent, "And?", session=session)
        assert await own.get_items() == [say("in short", "assistant")]
        assert compactor.calls == 2

    asyncio.run(use())
    assert len(archive.trash()) > 0


def test_a_copy_of_the_folder_is_a_session_too(tmp_path):
    """Plain files: a backup taken by cp can be read."""
    with Archive.open(tmp_path / "a") as archive:
        asyncio.run(ConvmemSession("s", archive).add_items([say("x")]))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with Archive.open(tmp_path / "b") as archive:
        assert asyncio.run(ConvmemSession("s", archive).get_items()) == [say("x")]


def test_the_example_remembers_over_its_restart(tmp_path):
    """The first thing that anybody tries: with an archive of one's own, and without any."""
    for words in ([str(tmp_path / "archive")], []):
        command = [sys.executable, str(EXAMPLE), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
        assert "(5 items read, 2 of them questions.)" in done.stdout
        assert done.stdout.endswith("search finds: ['And which is the earlier one?']\n")
    with Archive.open(tmp_path / "archive") as archive:
        assert len(asyncio.run(ConvmemSession("oslo-trip", archive).get_items())) == 6
