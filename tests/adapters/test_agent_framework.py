"""Microsoft's Agent Framework over convmem: its own agents, tools and sessions on real files."""

from __future__ import annotations

import asyncio
import copy
import json
from pathlib import Path

import pytest

pytest.importorskip("agent_framework")

from agent_framework import (
    Agent,
    AgentSession,
    BaseChatClient,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    InMemoryHistoryProvider,
    Message,
    ResponseStream,
)
from crowd import killed, tear, together
from hypothesis import given
from hypothesis import strategies as st

from convmem import Archive, InvalidContinuationId, UsageError, aio
from convmem.adapters.agent_framework import (
    SNAPSHOT,
    SOURCE,
    ConvmemHistoryProvider,
    ConvmemSessionStore,
    message_of,
    turn_of,
)


@pytest.fixture
def history(archive):
    return ConvmemHistoryProvider(archive)


def run(awaitable):
    return asyncio.run(awaitable)


def say(text, role="user", **more):
    return Message(role, [text], **more)


def dicts(messages):
    return [message.to_dict() for message in messages]


def texts(messages):
    return [message.text for message in messages]


def spelled(value):
    """The one spelling of JSON in which equal means the very same, the order of keys included."""
    return json.dumps(value, separators=(",", ":"))


class Fake(FunctionInvocationLayer, BaseChatClient):
    """A model that plays its script, then tells what it was given; whole or in pieces."""

    def __init__(self, *script):
        super().__init__()
        self.script = list(script)
        self.given = []

    def _inner_get_response(self, *, messages, stream, options, **kwargs):
        self.given.append(dicts(messages))
        heard = "; ".join(texts(each for each in messages if each.role == "user"))
        contents = self.script.pop(0) if self.script else [Content.from_text(f"heard {heard}")]

        async def whole():
            return ChatResponse(messages=[Message("assistant", contents)])

        async def pieces():
            for each in contents:
                yield ChatResponseUpdate(role="assistant", contents=[each], message_id="m")

        if stream:
            return ResponseStream(pieces(), finalizer=ChatResponse.from_updates)
        return whole()


def agent(archive, *script, **how):
    history = ConvmemHistoryProvider(archive, **how)
    return Agent(client=Fake(*script), name="guide", context_providers=[history])


# --- the framework's own agent --------------------------------------------------------------------


def test_an_agent_remembers_over_a_restart(tmp_path):
    """What a history is for: another process, another agent, the same session."""
    for number, expected in enumerate(("heard a", "heard a; b", "heard a; b; c")):
        with Archive.open(tmp_path) as archive:
            session = AgentSession(session_id="trip")
            answer = run(agent(archive).run("abc"[number], session=session))
            assert answer.text == expected
    with Archive.open(tmp_path) as archive:
        chat = archive.conversation("trip")
        assert [turn.role for turn in chat.turns()] == ["user", "assistant"] * 3
        assert {hit.turn.role for hit in archive.search("heard")} == {"assistant"}


def test_tools_and_streams_are_recorded_as_they_were(archive):
    """The next request must be one that the model takes: each call with its result."""

    def weather(city: str) -> str:
        """Tell the weather."""
        return f"rain in {city}"

    call = Content.from_function_call("c1", "weather", arguments='{"city":"Oslo"}')
    guide = agent(archive, [call], [Content.from_text("Take an umbrella.")])

    async def talk():
        stream = guide.run(
            "Weather?", session=AgentSession(session_id="w"), stream=True, tools=[weather]
        )
        async for _ in stream:
            pass
        await stream.get_final_response()
        return await guide.run("Thanks", session=AgentSession(session_id="w"))

    assert run(talk()).text == "heard Weather?; Thanks"
    roles = [turn.role for turn in archive.conversation("w").turns()]
    assert roles == ["user", "assistant", "tool", "assistant", "user", "assistant"]
    _, called, told, *_ = archive.conversation("w").tail(6)
    assert called.content == [
        {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Oslo"}}
    ]
    assert told.content == [{"type": "tool_result", "tool_use_id": "c1", "content": "rain in Oslo"}]
    given = guide.client.given[-1]
    kinds = [each["type"] for message in given for each in message["contents"]]
    assert kinds == ["text", "function_call", "function_result", "text", "text"]


def test_the_switches_of_the_framework_work(archive):
    """An audit stores and does not load; what is not wanted is not stored."""
    session = AgentSession(session_id="s")
    run(agent(archive, store_outputs=False).run("a", session=session))
    run(agent(archive, store_inputs=False, load_messages=False).run("b", session=session))
    assert [turn.text for turn in archive.conversation("s").turns()] == ["a", "heard b"]
    history = ConvmemHistoryProvider(
        archive, source_id="audit", store_context_messages=True, store_context_from={"x"}
    )
    assert (history.source_id, history.store_context_from) == ("audit", {"x"})
    assert ConvmemHistoryProvider(archive).source_id == "convmem_history"


# --- messages and turns ---------------------------------------------------------------------------

TEXT = st.text(st.characters(codec=None), max_size=8)  # with half surrogate pairs
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)
MORE = st.none() | st.dictionaries(st.sampled_from(["k", "_excluded", "n"]), JSON, max_size=2)


def content_of(make, **fields):
    return st.builds(make, **fields, additional_properties=MORE)


PLAIN = st.one_of(
    content_of(Content.from_text, text=TEXT),
    content_of(Content.from_text_reasoning, text=st.none() | TEXT),
    content_of(
        Content.from_function_call, call_id=TEXT, name=TEXT, arguments=TEXT | OBJECT | st.just("{}")
    ),
    content_of(Content.from_data, data=st.binary(max_size=6), media_type=st.just("image/png")),
    content_of(
        Content.from_uri,
        uri=st.sampled_from(["https://x/y", "data:application/pdf;base64,AAAA"]),
        media_type=st.sampled_from(["image/png", "application/pdf"]),
    ),
    content_of(Content.from_error, message=TEXT, error_code=st.none() | TEXT),
    content_of(Content.from_usage, usage_details=st.just({"input_token_count": 3})),
    content_of(Content.from_hosted_file, file_id=TEXT),
    content_of(Content.from_hosted_vector_store, vector_store_id=TEXT),
)
CONTENTS = PLAIN | st.one_of(
    content_of(
        Content.from_function_result,
        call_id=TEXT,
        result=JSON | st.lists(PLAIN, max_size=2),
        exception=st.none() | TEXT,
    ),
    content_of(
        Content.from_code_interpreter_tool_call, call_id=TEXT, inputs=st.lists(PLAIN, max_size=2)
    ),
    content_of(
        Content.from_mcp_server_tool_result, call_id=TEXT, output=st.lists(PLAIN, max_size=2)
    ),
)
MESSAGES = st.builds(
    Message,
    st.sampled_from(["user", "assistant", "system", "tool", "developer", "critic", "event", ""])
    | TEXT,
    st.lists(CONTENTS, max_size=3),
    author_name=st.none() | TEXT,
    message_id=st.none() | TEXT,
    additional_properties=MORE,
)


@given(st.lists(MESSAGES, min_size=1, max_size=3))
def test_any_messages_come_back_as_they_were(tmp_path_factory, messages):
    """Exactly, the order of keys included: what the framework's own types can hold."""
    with Archive.open(tmp_path_factory.mktemp("any")) as archive:
        history = ConvmemHistoryProvider(archive)
        run(history.save_messages("s", messages))
        loaded = run(history.get_messages("s"))
        expected = []
        for each in dicts(messages):  # the very same message, by its id, is one
            if each not in expected or not each.get("message_id"):
                expected.append(each)
        assert spelled(dicts(loaded)) == spelled(dicts(map(Message.from_dict, expected)))


def test_ordinary_messages_are_stored_once_and_plainly():
    """Nothing is kept twice where what was said tells it all."""
    call = Content.from_function_call("c", "f", arguments='{"a":[1,"ä"]}')
    for message in (
        say("hello"),
        say("", "assistant"),
        Message("assistant", [Content.from_text_reasoning(text="hm"), call, "so"]),
        Message("tool", [Content.from_function_result("c", result="42")]),
        Message("tool", [Content.from_function_result("c", result="no", exception="Boom")]),
        Message("user", ["see", Content.from_data(b"abc", "image/png")]),
        Message("user", [Content.from_data(b"abc", "application/pdf")]),
        Message("user", [Content.from_hosted_file("file-1")]),
    ):
        assert turn_of(message.to_dict()).keys() == {"role", "content"}
    turn = turn_of(say("hello", message_id="m").to_dict())
    assert (turn["id"], turn["meta"]) == ("m", {"source": SOURCE})


def test_what_nobody_said_is_an_event_and_comes_back(history):
    """Usage alone is no turn of the talk; the framework still gets it again."""
    usage = Message("assistant", [Content.from_usage({"input_token_count": 3})])
    run(history.save_messages("s", [say("a"), usage, Message("user", [])]))
    assert dicts(run(history.get_messages("s"))) == dicts([say("a"), usage, Message("user", [])])
    chat = history.conversation("s")
    assert [turn.role for turn in chat.turns()] == ["user", "event", "event"]
    assert [each["content"] for each in chat.context(max_turns=9).as_messages()] == ["a"]


def test_what_has_no_json_is_kept_as_text(history):
    """A tool's odd object in the properties must not lose the message."""
    odd = Message(
        "user",
        [
            Content.from_text(
                "cut \ud83d", additional_properties={"at": Path("/x"), "n": float("inf")}
            )
        ],
        message_id="\ud83d",
    )
    for _ in range(2):
        run(history.save_messages("s", [odd, say("b", message_id="b")]))
    first, second = run(history.get_messages("s"))
    assert first.contents[0].text == "cut \ud83d"
    assert first.contents[0].additional_properties["n"] == float("inf")
    assert second.text == "b"


def test_what_others_recorded_is_read_as_messages(archive, history):
    """The shell, an import, another framework: no turn of theirs may end a session."""
    chat = archive.conversation("s")
    chat.record("user", "plain")
    chat.record("event", "", meta={"source": "claude-code"}, raw={"type": "x"})
    chat.record(
        "assistant",
        [
            {"type": "thinking", "thinking": "hm"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
            {"type": "odd"},
            "bare",
        ],
        meta={"source": "claude-code"},
        raw={"type": "assistant"},
    )
    blocks = [{"type": "text", "text": "4"}, {"type": "image", "source": 7}]
    chat.record("tool", [{"type": "tool_result", "tool_use_id": "t", "content": blocks}])
    chat.record("tool", "a result of nobody's call")
    chat.record("critic", {"any": "json"})
    chat.record("user", "gone", id="x")
    chat.scrub("x")
    for raw in ("{", {"type": "message"}, {"role": 1, "contents": [{"type": 1, "z": 2}]}, None):
        chat.record("user", "spoilt", meta={"source": SOURCE}, raw=raw)
    loaded = run(history.get_messages("s"))
    assert [each.role for each in loaded] == [
        "user", "assistant", "tool", "user", "critic", "user", "user", "user", "user",
    ]  # fmt: skip
    kinds = [each.type for each in loaded[1].contents]
    assert kinds == ["text_reasoning", "function_call", "uri", "text", "text"]
    assert loaded[1].contents[1].parse_arguments() == {"a": 1}
    assert loaded[2].contents[0].result.startswith("4\n")
    assert [each.text for each in loaded[5:]] == ["spoilt"] * 4
    for message in loaded:
        assert Message.from_dict(message.to_dict()).to_dict() == message.to_dict()
    assert [message_of(turn) is None for turn in chat.turns()].count(True) == 2


# --- saving ---------------------------------------------------------------------------------------


def test_a_retry_is_stored_once_and_the_same_words_twice_are_stored_twice(history):
    """By ``message_id``; without one, who says a thing again may mean it."""
    exchange = [say("go on"), say("done", "assistant")]
    for _ in range(3):
        run(history.save_messages("s", exchange))
    assert texts(run(history.get_messages("s"))) == ["go on", "done"] * 3
    for _ in range(2):
        run(history.save_messages("t", [say("go on"), say("done", "assistant", message_id="m")]))
    assert texts(run(history.get_messages("t"))) == ["go on", "done"]
    # A model that gives all its messages one id loses nothing by it.
    for _ in range(2):
        for text in ("a", "b"):
            run(
                history.save_messages(
                    "u", [say(text), say(f"{text}!", "assistant", message_id="m")]
                )
            )
    assert texts(run(history.get_messages("u")))[:4] == ["a", "a!", "b", "b!"]
    run(history.save_messages("v", [say(each, message_id="m") for each in "aab"]))
    run(history.save_messages("v", [say(each, message_id="m") for each in "cb"]))
    assert texts(run(history.get_messages("v"))) == ["a", "b", "c"]


def test_a_replay_of_the_whole_talk_adds_what_is_new(history):
    """Workflows hand over all that was said each time: that must not grow by squares."""
    talk = [say(f"{n}", "user" if n % 2 == 0 else "assistant") for n in range(20)]
    for end in range(2, 21, 2):
        run(history.save_messages("s", talk[:end]))
    assert texts(run(history.get_messages("s"))) == [f"{n}" for n in range(20)]
    run(history.save_messages("s", [say("be brief", "system"), *talk, say("new")]))
    assert texts(run(history.get_messages("s")))[-2:] == ["19", "new"]


def test_a_replay_is_told_as_the_frameworks_own_provider_tells_it(history):
    """Of talks without repetitions both keep the same."""
    kept = InMemoryHistoryProvider()
    state = {}
    talk = [say(f"{n}", "user" if n % 2 == 0 else "assistant") for n in range(12)]
    for start, end in ((0, 2), (0, 4), (2, 5), (4, 8), (8, 9), (6, 12), (11, 12)):
        run(kept.save_messages("s", talk[start:end], state=state))
        run(history.save_messages("s", talk[start:end]))
    ours = texts(run(history.get_messages("s")))
    theirs = texts(run(kept.get_messages("s", state=state)))
    assert ours[: len(theirs)] == theirs
    assert ours[len(theirs) :] in ([], ["11"])  # said again, or replayed: we keep it


def test_the_newest_are_loaded_from_the_end(archive, monkeypatch):
    """A session of years costs no more than one of yesterday."""
    chat = archive.conversation("s")
    chat.record_many([("user", f"{n}") for n in range(2000)])
    read = []
    tail = type(chat).tail
    monkeypatch.setattr(type(chat), "tail", lambda self, n: read.append(n) or tail(self, n))
    monkeypatch.setattr(type(chat), "turns", None)
    history = ConvmemHistoryProvider(archive, max_messages=3)
    assert texts(run(history.get_messages("s"))) == ["1997", "1998", "1999"]
    run(history.save_messages("s", [say("2000")]))
    assert read == [3, 2]
    for _ in range(5):
        chat.record("event", "", meta={"source": "claude-code"})
    assert texts(run(history.get_messages("s"))) == ["1998", "1999", "2000"]


def test_a_result_whose_call_is_cut_off_is_left_out(archive):
    """No model takes it, and the session would be stuck for good."""
    call = Message("assistant", [Content.from_function_call("c", "f", arguments="{}")])
    result = Message("tool", [Content.from_function_result("c", result="42")])
    run(ConvmemHistoryProvider(archive).save_messages("s", [say("a"), call, result, say("b")]))

    def kinds(most):
        history = ConvmemHistoryProvider(archive, max_messages=most)
        return [each.contents[0].type for each in run(history.get_messages("s"))]

    assert kinds(2) == ["text"]
    assert kinds(3) == ["function_call", "function_result", "text"]
    assert len(kinds(9)) == 4
    for most in (0, -1, True, 1.5, "3"):
        with pytest.raises(UsageError):
            ConvmemHistoryProvider(archive, max_messages=most)


def test_what_a_compaction_excluded_can_be_left_out(archive):
    """As with the framework's own providers."""
    marked = say("old", additional_properties={"_excluded": True})
    history = ConvmemHistoryProvider(archive, skip_excluded=True, max_messages=2)
    run(history.save_messages("s", [say("a"), marked, say("b", "assistant")]))
    assert texts(run(history.get_messages("s"))) == ["a", "b"]
    assert len(run(ConvmemHistoryProvider(archive).get_messages("s"))) == 3


def test_a_session_without_an_id_is_kept_as_the_file_provider_keeps_it(history):
    """Under one name; and nothing at all is no session yet."""
    assert run(history.get_messages(None)) == []
    run(history.save_messages(None, []))
    assert not history.conversation(None).exists()
    run(history.save_messages(None, [say("a")]))
    assert texts(run(history.get_messages("default"))) == ["a"]


def test_hostile_names_stay_apart_and_inside(tmp_path):
    """A session's name comes from a client."""
    names = ["../../x", "..", "a/b", "a%2fb", "A", "a", "con", ".hidden", "-rf", "ä", "x" * 1024]
    with Archive.open(tmp_path / "in" / "archive", namespace="tenant") as archive:
        history = ConvmemHistoryProvider(aio.Archive.of(archive))
        for name in names:
            run(history.save_messages(name, [say(name)]))
        other = ConvmemHistoryProvider(archive, namespace="other")
        for name in names:
            assert texts(run(history.get_messages(name))) == [name]
            assert run(other.get_messages(name)) == []
        for name in ("a\0b", "x" * 1025, "\ud800"):
            with pytest.raises(InvalidContinuationId):
                run(history.save_messages(name, [say("a")]))
        with pytest.raises(InvalidContinuationId):
            ConvmemHistoryProvider(archive, namespace="")
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["archive"]


# --- crowds and crashes ---------------------------------------------------------------------------

WRITER = """
import asyncio
from agent_framework import Message
from convmem import Archive
from convmem.adapters.agent_framework import ConvmemHistoryProvider
root, number = sys.argv[1:]

async def work(history):
    for nth in range(100):
        shared = Message("assistant", ["the same"], message_id=f"shared-{nth}")
        await history.save_messages("s", [Message("user", [f"{number} {nth}"]), shared])
        tell(nth)
        if nth % 10 == 0:
            await history.get_messages("s")

with Archive.open(root) as archive:
    ready()
    asyncio.run(work(ConvmemHistoryProvider(archive, max_messages=20)))
"""


def test_four_processes_on_one_session_lose_and_double_nothing(history, tmp_path):
    """The framework's own file provider loses messages here."""
    together(WRITER, tmp_path / "archive")
    loaded = texts(run(history.get_messages("s")))
    assert loaded.count("the same") == 100
    assert len(loaded) == 500
    for number in range(4):
        mine = [text for text in loaded if text.startswith(f"{number} ")]
        assert mine == [f"{number} {nth}" for nth in range(100)]


def test_what_was_answered_is_there_after_a_kill_and_damage_costs_its_own_turn(history, tmp_path):
    """The framework's own file provider never opens such a session again."""
    answered = killed(WRITER, tmp_path / "archive", after=30)
    loaded = texts(run(history.get_messages("s")))
    assert len(loaded) in (2 * len(answered), 2 * len(answered) + 2)
    tear(history.conversation("s").path, at_line=4)
    assert texts(run(history.get_messages("s"))) == loaded[:4] + loaded[5:]
    run(history.save_messages("s", [say("on")]))
    assert texts(run(history.get_messages("s"))) == [*loaded[:4], *loaded[5:], "on"]


def test_a_closed_archive_is_an_error_everywhere(tmp_path):
    """An answer would say that it is safe."""
    archive = Archive.open(tmp_path)
    history, sessions = ConvmemHistoryProvider(archive), ConvmemSessionStore(archive)
    run(history.save_messages("s", [say("a")]))
    archive.close()
    for call in (
        lambda: history.save_messages("s", [say("a")]),
        lambda: history.get_messages("s"),
        lambda: sessions.get("s"),
        lambda: sessions.set("s", AgentSession()),
        lambda: sessions.delete("s"),
    ):
        with pytest.raises(UsageError):
            run(call())


def test_a_save_that_is_cancelled_is_settled_first(history):
    """A request that a client gave up must not be half there, nor come later."""
    chat = history.conversation("s")

    async def cancelled(nth):
        messages = [say(f"{nth} {each}") for each in range(5)]
        task = asyncio.create_task(history.save_messages("s", messages))
        for _ in range(nth % 3):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return chat.describe().last_seq if chat.exists() else 0

    for nth in range(12):
        stored = run(cancelled(nth))
        assert stored % 5 == 0
        assert stored == (chat.describe().last_seq if chat.exists() else 0)


# --- snapshots of sessions ------------------------------------------------------------------------


def test_a_session_is_kept_and_comes_back_after_a_restart(tmp_path):
    """With the framework's own types in its state; the turns stay where they are."""
    session = AgentSession(session_id="inner", service_session_id={"id": "resp-1"})
    session.state["plan"] = {"steps": [1, 2.5, None], "last": say("hello")}
    with Archive.open(tmp_path) as archive:
        store = ConvmemSessionStore(archive)
        assert run(store.get("s")) is None
        run(store.delete("s"))
        run(store.set("s", session))
        archive.conversation("s").record("user", "a turn")
        archive.conversation("s").update_state({"token": "t"})
    with Archive.open(tmp_path) as archive:
        store = ConvmemSessionStore(archive)
        again = run(store.get("s"))
        assert again.to_dict() == session.to_dict()
        assert type(again.state["plan"]["last"]) is Message
        again.state["plan"] = None
        assert run(store.get("s")).to_dict() == session.to_dict()
        run(store.delete("s"))
        assert run(store.get("s")) is None
        assert archive.conversation("s").state() == {"token": "t"}
        assert [turn.text for turn in archive.conversation("s").turns()] == ["a turn"]
        for name in ("", None):
            with pytest.raises(ValueError):
                run(store.get(name))


def test_a_snapshot_that_cannot_be_kept_exactly_is_refused(archive):
    """Rather than come back as something else, or not at all."""
    store = ConvmemSessionStore(archive)
    session = AgentSession(session_id="s")
    run(store.set("s", copy.deepcopy(session)))
    session.state["n"] = float("nan")
    with pytest.raises(UsageError):
        run(store.set("s", session))
    assert run(store.get("s")).state == {}
    archive.conversation("s").update_state({SNAPSHOT: {"odd": 1}})
    with pytest.raises(ValueError):
        run(store.get("s"))
