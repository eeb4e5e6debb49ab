"""LangGraph's checkpoints: a thread goes on where it was, and what was said is a conversation."""

from __future__ import annotations

import asyncio
import base64
import operator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TypedDict
from uuid import UUID

import pytest

pytest.importorskip("langgraph")

import ormsgpack
from crowd import killed, tear, together
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    ToolMessage,
    message_to_dict,
)
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde import jsonplus
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, interrupt

from convmem import Archive, InvalidContinuationId, RetentionPolicy, UsageError, aio
from convmem.adapters.langgraph import MISSING, ConvmemSaver

CONFIG: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
ASK: Any = {"configurable": {"thread_id": "t"}}


def told(value: Any) -> str:
    """All that a value holds, types included."""
    if isinstance(value, BaseMessage):
        return f"{type(value).__name__}{message_to_dict(value)!r}"
    if isinstance(value, dict):
        return repr({key: told(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}{[told(item) for item in value]}"
    return f"{type(value).__name__}:{value!r}"


class Thread:
    """Puts checkpoints as a graph does, each the child of the one before."""

    def __init__(self, *savers: Any, ns: str = "") -> None:
        self.savers = savers
        self.conf: dict[str, Any] = {"thread_id": "t", "checkpoint_ns": ns}
        self.versions: dict[str, Any] = {}
        self.step = 0

    def put(self, *, metadata: dict[str, Any] | None = None, new: Any = None, **values: Any) -> str:
        """Put a checkpoint that holds *values*, of which *new* changed (by default all)."""
        self.step += 1
        changed = values if new is None else new
        version = f"{self.step:032}.0"
        self.versions.update(dict.fromkeys(changed, version))
        checkpoint = empty_checkpoint()
        checkpoint["id"] = str(uuid6(clock_seq=self.step))
        checkpoint["channel_values"] = values
        checkpoint["channel_versions"] = dict(self.versions)
        given = {"source": "loop", "step": self.step, "parents": {}, **(metadata or {})}
        for saver in self.savers:
            saver.put(
                {"configurable": dict(self.conf)},
                checkpoint,
                given,
                dict.fromkeys(changed, version),
            )
        self.conf["checkpoint_id"] = checkpoint["id"]
        return str(checkpoint["id"])

    def write(self, *writes: tuple[str, Any], task: str = "task", path: str = "") -> None:
        """Put writes for the newest checkpoint."""
        for saver in self.savers:
            saver.put_writes({"configurable": dict(self.conf)}, writes, task, path)


def said(text: str, **more: Any) -> HumanMessage:
    """A message with an id."""
    return HumanMessage(text, id=f"id-{text}", **more)


def held(saver: Any, channel: str = "messages", config: Any = CONFIG) -> list[Any]:
    """The texts that the newest checkpoint has in a channel."""
    found = saver.get_tuple(config)
    return [message.content for message in found.checkpoint["channel_values"][channel]]


def test_the_conformance_suite_of_langgraph_passes_base_and_extended(tmp_path):
    """It is what LangGraph asks of a checkpointer; nothing of it is skipped."""
    suite = pytest.importorskip("langgraph.checkpoint.conformance")

    @suite.checkpointer_test(name="ConvmemSaver")
    async def savers() -> Any:
        with Archive.open(tmp_path) as archive:
            yield ConvmemSaver(archive)

    report = asyncio.run(suite.validate(savers))
    failures = {name: result.failures for name, result in report.results.items()}
    assert report.passed_all(), failures
    assert {name for name, result in report.results.items() if result.passed} == {
        *("put", "put_writes", "get_tuple", "list", "delete_thread"),
        *("delete_for_runs", "copy_thread", "prune"),
    }


@dataclass
class Plan:
    """State of a user's own type."""

    steps: list[str]


VALUES: dict[str, Any] = {
    "none": None,
    "set": {1, 2},
    "tuple": (1, "two"),
    "time": datetime(2026, 11, 21, tzinfo=UTC),
    "uuid": UUID(int=7),
    "bytes": b"\x00\xff",
    "float": 1.0,
    "huge": 2**60,
    "surrogate": "\ud800",
    "keys": {1: "one"},
    "plan": Plan(["go"]),
    "path": Path("a/b"),
    "deep": {"a": [{"b": [1.5, True, None, "é\u2028"]}]},
    "message": AIMessage("one", id="m-1"),
    "messages": [said("two"), AIMessage("", tool_calls=[])],
    "mixed": [said("three"), "no message"],
    "inner": {"messages": [said("four")], "more": {1}},
    "removes": [RemoveMessage(id="x"), said("five")],
    "odd": [ToolMessage("six", tool_call_id="1", artifact={1, 2}, id="odd")],
    "twice": [HumanMessage("yes"), HumanMessage("no"), HumanMessage("yes")],
    "own": [said("seven", additional_kwargs={"when": (1, 2)})],
    "empty": [],
}


def test_values_of_any_type_come_back_exactly(archive):
    """State is Python, not JSON."""
    thread = Thread(ConvmemSaver(archive))
    thread.put(**VALUES)
    thread.write(*VALUES.items())
    found = ConvmemSaver(archive).get_tuple(CONFIG)
    # As LangGraph's serializer has them: its format knows no tuples, nor halves of characters.
    serde = JsonPlusSerializer()
    expected = serde.loads_typed(serde.dumps_typed(VALUES))
    assert told(found.checkpoint["channel_values"]) == told(expected)
    assert told({name: value for _, name, value in found.pending_writes}) == told(expected)


EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 30)),
        st.tuples(st.just("drop"), st.integers(0, 30)),
        st.tuples(st.just("change"), st.integers(0, 30)),
        st.tuples(st.just("mutate"), st.integers(0, 30)),
        st.tuples(st.just("insert"), st.integers(0, 30)),
        st.tuples(st.just("cut"), st.integers(0, 30)),
        st.tuples(st.just("fork"), st.integers(0, 30)),
        st.tuples(st.just("write"), st.integers(0, 30)),
        st.tuples(st.just("read"), st.integers(0, 30)),
        st.tuples(st.just("restart"), st.integers(0, 30)),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(EDITS, st.booleans())
def test_whatever_is_done_to_a_list_it_is_what_the_memory_saver_has(tmp_path_factory, edits, big):
    """Lists are told as what came; each one, also of long ago, is exact all the same."""
    memory = InMemorySaver()
    with Archive.open(tmp_path_factory.mktemp("a"), durability="none") as archive:
        thread = Thread(memory, ConvmemSaver(archive))
        messages: list[BaseMessage] = []
        large = "x" * 600
        states: dict[str, Any] = {}
        for number, (what, at) in enumerate(edits):
            place = at % len(messages) if messages else 0
            messages = list(messages)
            if what == "write":
                if thread.step:
                    thread.write(("messages", [said(str(at))]), ("x", at), task=f"task-{at % 3}")
                continue
            if what == "restart":
                thread.savers = (memory, ConvmemSaver(archive))
                continue
            if what == "read":
                config = {"configurable": dict(thread.conf)}
                if thread.step:
                    found = thread.savers[1].get_tuple(config)
                    messages = found.checkpoint["channel_values"]["messages"]
                continue
            if what == "add" or not messages:
                messages += [said(f"{at}-{number}") for _ in range(40 if big else 1)]
            elif what == "insert":
                messages.insert(place, said(f"i{number}"))
            elif what == "drop":
                del messages[place]
            elif what == "cut":
                messages = messages[place:]
            elif what == "change":
                messages[place] = HumanMessage(f"other {number}", id=messages[place].id)
            elif what == "mutate":
                messages[place].content = f"mutated {number}"
            elif what == "fork" and states:
                earlier = sorted(states)[at % len(states)]
                thread.conf["checkpoint_id"] = earlier
                config = {"configurable": dict(thread.conf)}
                messages = memory.get_tuple(config).checkpoint["channel_values"]["messages"]
            states[
                thread.put(messages=messages, large=large, new=["messages"] if states else None)
            ] = 1
        for saver in (thread.savers[1], ConvmemSaver(archive)):
            there = {each.checkpoint["id"]: each for each in saver.list(CONFIG)}
            assert sorted(there) == sorted(states)
            for expected in memory.list(CONFIG):
                found = there[expected.checkpoint["id"]]
                assert told(found.checkpoint) == told(expected.checkpoint)
                assert told(found.pending_writes) == told(expected.pending_writes)
                assert found.parent_config == expected.parent_config
                assert told(found.metadata) == told(expected.metadata)


def test_what_only_the_serializer_can_hold_is_said_and_found_all_the_same(archive):
    """A tool's artifact may be anything; the call beside it is what people look for."""
    odd = AIMessage(
        "I book.",
        tool_calls=[{"name": "book", "args": {"when": Odd("tonight")}, "id": "1"}],
        additional_kwargs={"half": "\ud800", "set": {1}},
        id="m",
    )
    half = HumanMessage("half \ud800 of it", id="h")
    Thread(ConvmemSaver(archive)).put(messages=[odd, half])
    turns = [turn for turn in archive.conversation("t").turns() if turn.role != "event"]
    use = {"type": "tool_use", "id": "1", "name": "book", "input": {"when": "tonight"}}
    assert [(turn.role, turn.content) for turn in turns] == [
        ("assistant", [{"type": "text", "text": "I book."}, use]),
        ("user", "half ? of it"),
    ]
    serde = JsonPlusSerializer()
    expected = serde.loads_typed(serde.dumps_typed([odd, half]))
    found = ConvmemSaver(archive).get_tuple(CONFIG).checkpoint["channel_values"]["messages"]
    assert told(found) == told(expected)


class Odd(str):
    """Text that is not quite text, as messages' own ``text`` is."""


def test_a_step_costs_what_it_adds(archive):
    """Others store the whole state at each step: a thousand messages take two hundred megabytes."""
    saver = ConvmemSaver(archive)
    thread = Thread(saver)
    path = Path(archive.conversation("t").path)
    messages: list[BaseMessage] = []
    large = "x" * 20_000
    sizes = []
    for number in range(600):
        messages = [*messages, said(f"message {number}")]
        thread.put(messages=messages, large=large, new=None if not number else ["messages"])
        sizes.append(path.stat().st_size)
    early, late = sizes[199] - sizes[99], sizes[599] - sizes[499]
    assert late < early * 1.25
    assert ConvmemSaver(archive).get_tuple(CONFIG).checkpoint["channel_values"]["large"] == large


@pytest.fixture
def lines_read(archive, monkeypatch):
    """A list that gets a number for each line that is read of a log."""
    chat = type(archive.conversation("t"))
    ahead, back = chat.stored_turns, chat.stored_tail
    read: list[int] = []

    def counted(self, **more):
        for each in ahead(self, **more):
            read.append(1)
            yield each

    def counted_back(self, count, **more):
        found = back(self, count, **more)
        read.append(len(found))
        return found

    monkeypatch.setattr(chat, "stored_turns", counted)
    monkeypatch.setattr(chat, "stored_tail", counted_back)
    return read


def test_the_newest_checkpoint_is_read_from_the_end(archive, lines_read):
    """A thread that runs for a year should not be slower to open for it."""
    thread = Thread(ConvmemSaver(archive))
    for number in range(1500):
        thread.put(count=number, messages=[said(f"{number}"), said(f"{number}-b")])
    saver = ConvmemSaver(archive)
    lines_read.clear()
    found = saver.get_tuple(CONFIG)
    assert found.checkpoint["channel_values"]["count"] == 1499
    assert next(saver.list(CONFIG, limit=1)).checkpoint == found.checkpoint
    assert sum(lines_read) < 200
    lines_read.clear()
    thread.put(count=1500, messages=[said("last")])
    thread.write(("messages", [said("written")]))
    assert sum(lines_read) < 20


def test_a_graph_reads_what_it_needs_however_long_the_thread_is(archive, lines_read):
    """Writes that are saved late must not make later reads look far back."""

    def newest(left: list[Any], right: list[Any]) -> list[Any]:
        return add_messages(left, right)[-6:]  # type: ignore[return-value,index]

    State = TypedDict("State", {"messages": Annotated[list[Any], newest]})  # noqa: UP013 - not a string
    builder = StateGraph(State)
    builder.add_node("model", lambda state: {"messages": [AIMessage("yes")]})
    builder.add_edge(START, "model")
    graph = builder.compile(checkpointer=ConvmemSaver(archive))
    for number in range(60):
        lines_read.clear()
        ask(graph, f"{number}")
    assert sum(lines_read) < 250
    lines_read.clear()
    assert len(held(ConvmemSaver(archive), config=ASK)) == 6
    assert sum(lines_read) < 120


def test_a_call_of_a_subgraph_looks_back_to_where_it_was_called(archive, lines_read):
    """It asks for its own checkpoint first, and has none: that must not cost the whole thread."""
    thread = Thread(ConvmemSaver(archive))
    for number in range(1500):
        thread.put(count=number)
    saver = ConvmemSaver(archive)
    root = saver.get_tuple(CONFIG)
    lines_read.clear()
    conf = {"thread_id": "t", "checkpoint_ns": "inner:task", "checkpoint_id": None}
    here = {"configurable": {**conf, "checkpoint_map": {"": root.checkpoint["id"]}}}
    assert saver.get_tuple(here) is None
    # Called from a checkpoint that is still being saved in the background.
    coming = str(uuid6())
    early = {"configurable": {**conf, "checkpoint_map": {"": coming}}}
    assert saver.get_tuple(early) is None
    assert sum(lines_read) < 400
    inner = {**empty_checkpoint(), "channel_values": {"x": 1}}
    saver.put(early, inner, {"source": "input", "step": -1}, {})
    thread.savers = (saver,)
    for number in range(50):
        saver.put_writes(root.config, [("x", number)], f"task {number}")
    checkpoint = {**empty_checkpoint(), "id": coming}
    saver.put(root.config, checkpoint, {"source": "loop", "step": 1501}, {})
    lines_read.clear()
    for each in (saver, ConvmemSaver(archive)):
        assert each.get_tuple(early).checkpoint["channel_values"] == {"x": 1}
    assert sum(lines_read) < 600


def test_writes_that_come_before_their_checkpoint_are_its_own(archive):
    """LangGraph saves in the background: a task may be done before its checkpoint is saved."""
    saver = ConvmemSaver(archive)
    thread = Thread(saver)
    thread.put(messages=[said("one")])
    first = dict(thread.conf)
    later = str(uuid6())
    thread.conf["checkpoint_id"] = later
    thread.write(("x", "early"))
    thread.conf = first
    thread.write(("x", "late of the first"))
    checkpoint = {**empty_checkpoint(), "id": later}
    saver.put({"configurable": first}, checkpoint, {"source": "loop", "step": 1}, {})
    fresh = ConvmemSaver(archive)
    assert fresh.get_tuple(CONFIG).pending_writes == [("task", "x", "early")]
    assert [each.pending_writes for each in fresh.list(CONFIG)] == [
        [("task", "x", "early")],
        [("task", "x", "late of the first")],
    ]


# A graph as people write them.


class FakeModel:
    """Calls a tool when asked for the weather, else answers."""

    def invoke(self, messages: list[BaseMessage]) -> AIMessage:
        """Answer the last message."""
        last = messages[-1]
        if last.type == "human" and "weather" in str(last.content):
            call = {"name": "weather", "args": {"city": "Oslo"}, "id": f"call-{len(messages)}"}
            return AIMessage("", tool_calls=[call])
        return AIMessage(f"{last.content}? I say yes ({len(messages)} read).")


def model(state: MessagesState) -> dict[str, Any]:
    return {"messages": [FakeModel().invoke(state["messages"])]}


def tools(state: MessagesState) -> dict[str, Any]:
    (call,) = state["messages"][-1].tool_calls  # type: ignore[union-attr]
    return {"messages": [ToolMessage("7 degrees", tool_call_id=call["id"])]}


def has_call(state: MessagesState) -> str:
    return "tools" if getattr(state["messages"][-1], "tool_calls", None) else END


def agent(saver: Any, **more: Any) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("model", model)
    builder.add_node("tools", tools)
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", has_call)
    builder.add_edge("tools", "model")
    return builder.compile(checkpointer=saver, **more)


def ask(graph: Any, text: str, config: Any = ASK) -> list[str]:
    """Ask, and return all that was said so far."""
    found = graph.invoke({"messages": [("user", text)]}, config)
    return [f"{message.type}: {message.content}" for message in found["messages"]]


def test_a_graph_goes_on_after_a_restart_and_its_talk_is_a_conversation(tmp_path):
    """State for the graph, and turns for people, are one thing."""
    with Archive.open(tmp_path) as archive:
        ask(agent(ConvmemSaver(archive)), "weather")
    with Archive.open(tmp_path) as archive:
        graph = agent(ConvmemSaver(archive))
        expected = agent(InMemorySaver())
        ask(expected, "weather")
        assert ask(graph, "thanks") == ask(expected, "thanks")
        chat = archive.conversation("t")
        use = {"type": "tool_use", "id": "call-1", "name": "weather", "input": {"city": "Oslo"}}
        assert [(turn.role, turn.content) for turn in chat.turns() if turn.role != "event"] == [
            ("user", "weather"),
            ("assistant", [use]),
            ("tool", [{"type": "tool_result", "tool_use_id": "call-1", "content": "7 degrees"}]),
            ("assistant", "7 degrees? I say yes (3 read)."),
            ("user", "thanks"),
            ("assistant", "thanks? I say yes (5 read)."),
        ]
        assert [hit.turn.text for hit in archive.search("thanks", roles=["user"])] == ["thanks"]
        window = chat.context(max_turns=2)
        assert next(each["content"] for each in window.as_messages()) == "thanks"


def test_history_time_travel_and_updates_are_those_of_the_memory_saver(archive):
    """They read and fork old checkpoints, and write to them."""
    results = []
    for saver in (ConvmemSaver(archive), InMemorySaver()):
        graph = agent(saver)
        ask(graph, "one")
        ask(graph, "two")
        states = [*graph.get_state_history(ASK)]
        told_states = [(each.next, told_texts(each), each.metadata) for each in states]
        before = next(each for each in states if each.next == ("model",))
        forked = graph.update_state(
            before.config, {"messages": [HumanMessage("instead", id="instead")]}
        )
        graph.invoke(None, forked)
        again = [told_texts(each) for each in graph.get_state_history(ASK)]
        graph.update_state(ASK, {"messages": [RemoveMessage(id="instead")]})
        results.append((told_states, again, told_texts(graph.get_state(ASK))))
    assert results[0] == results[1]


def told_texts(state: Any) -> list[str]:
    return [str(message.content) for message in state.values.get("messages", [])]


def test_an_interrupted_graph_resumes_in_another_process(tmp_path):
    """A person may answer tomorrow."""

    class State(TypedDict):
        answers: Annotated[list[str], operator.add]

    def question(state: State) -> dict[str, Any]:
        return {"answers": [f"{interrupt('really?')}", interrupt("sure?")]}

    def graph(archive: Archive) -> Any:
        builder = StateGraph(State)
        builder.add_node("question", question)
        builder.add_edge(START, "question")
        return builder.compile(checkpointer=ConvmemSaver(archive))

    with Archive.open(tmp_path) as archive:
        found = graph(archive).invoke({"answers": []}, ASK)
        assert [each.value for each in found["__interrupt__"]] == ["really?"]
    with Archive.open(tmp_path) as archive:
        found = graph(archive).invoke(Command(resume="yes"), ASK)
        assert [each.value for each in found["__interrupt__"]] == ["sure?"]
    with Archive.open(tmp_path) as archive:
        assert graph(archive).invoke(Command(resume="quite"), ASK) == {"answers": ["yes", "quite"]}


def test_a_failed_step_goes_on_without_doing_again_what_was_done(tmp_path):
    """Work that was paid for is kept: the writes of tasks that ended."""
    runs: list[str] = []

    class State(TypedDict):
        done: Annotated[list[str], operator.add]

    def good(state: State) -> dict[str, Any]:
        runs.append("good")
        return {"done": ["good"]}

    def bad(state: State) -> dict[str, Any]:
        runs.append("bad")
        if runs.count("bad") == 1:
            raise OSError("no network")
        return {"done": ["bad"]}

    def graph(archive: Archive) -> Any:
        builder = StateGraph(State)
        builder.add_node("good", good)
        builder.add_node("bad", bad)
        builder.add_edge(START, "good")
        builder.add_edge(START, "bad")
        return builder.compile(checkpointer=ConvmemSaver(archive))

    with Archive.open(tmp_path) as archive, pytest.raises(OSError, match="no network"):
        graph(archive).invoke({"done": []}, ASK)
    with Archive.open(tmp_path) as archive:
        assert sorted(graph(archive).invoke(None, ASK)["done"]) == ["bad", "good"]
    assert sorted(runs) in (["bad", "bad", "good"], ["bad", "bad", "good", "good"])


def test_a_subgraph_does_not_tell_the_talk_again(archive):
    """Each call of a subgraph begins with all messages: they are referred to, not stored."""
    inner = StateGraph(MessagesState)
    inner.add_node("model", model)
    inner.add_edge(START, "model")
    builder = StateGraph(MessagesState)
    builder.add_node("inner", inner.compile())
    builder.add_edge(START, "inner")
    graph = builder.compile(checkpointer=ConvmemSaver(archive))
    for number in range(5):
        ask(graph, f"question {number}")
    said_turns = [turn for turn in archive.conversation("t").turns() if turn.role != "event"]
    assert len(said_turns) == 10
    spaces = {
        each.config["configurable"]["checkpoint_ns"] for each in ConvmemSaver(archive).list(ASK)
    }
    assert len(spaces) == 6


def test_a_delta_channel_is_what_it_is_with_the_memory_saver(tmp_path):
    """Its values are made of the writes of all checkpoints since the last that has one."""
    channels = pytest.importorskip("langgraph.channels.delta")

    def both(left: list[Any], batches: list[list[Any]]) -> list[Any]:
        for batch in batches:
            left = add_messages(left, batch)  # type: ignore[assignment]
        return left

    channel = channels.DeltaChannel(both, snapshot_frequency=4)
    State = TypedDict("State", {"messages": Annotated[list[BaseMessage], channel]})  # noqa: UP013 - not a string

    def answer(state: Any) -> dict[str, Any]:
        count = len(state["messages"])
        return {"messages": [AIMessage(f"{count} read", id=f"answer-{count}")]}

    def graph(saver: Any) -> Any:
        builder = StateGraph(State)
        builder.add_node("answer", answer)
        builder.add_edge(START, "answer")
        return builder.compile(checkpointer=saver)

    memory = InMemorySaver()
    for number in range(7):
        with Archive.open(tmp_path) as archive:
            saver = ConvmemSaver(archive)
            question = {"messages": [HumanMessage(f"{number}", id=f"question-{number}")]}
            found = graph(saver).invoke(question, ASK)
            assert found == graph(memory).invoke(question, ASK)
            if number == 4:
                saver.prune(["t"])
            if number == 5:
                saver.copy_thread("t", "copy")
    with Archive.open(tmp_path) as archive:
        copied = graph(ConvmemSaver(archive)).get_state({"configurable": {"thread_id": "copy"}})
        assert len(copied.values["messages"]) == 12
        texts = [turn.text for turn in archive.conversation("t").turns() if turn.role == "user"]
        assert texts[-2:] == ["5", "6"]


def test_async_graphs_run_over_the_same_thread(tmp_path):
    """Servers are async; several loops, one after the other, may use one saver."""
    with Archive.open(tmp_path) as archive:
        graph = agent(ConvmemSaver(archive))

        async def turn(text: str) -> list[str]:
            found = await graph.ainvoke({"messages": [("user", text)]}, ASK)
            states = [each async for each in graph.aget_state_history(ASK)]
            assert told_texts(states[0]) == [str(each.content) for each in found["messages"]]
            return told_texts(states[0])

        assert asyncio.run(turn("one")) == ["one", "one? I say yes (1 read)."]
        assert len(asyncio.run(turn("two"))) == 4
        assert len(ask(graph, "three")) == 6


def test_a_cancelled_put_is_settled_first(tmp_path):
    """After a cancellation nobody should have to guess whether it was stored."""

    async def work() -> tuple[Any, Any]:
        async with aio.Archive.open(tmp_path) as archive:
            saver = ConvmemSaver(archive)
            checkpoint = {**empty_checkpoint(), "channel_values": {"x": 1}}
            task = asyncio.create_task(saver.aput(CONFIG, checkpoint, {"step": 1}, {}))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            before = await saver.aget_tuple(CONFIG)
            await asyncio.sleep(0.05)
            return before, await saver.aget_tuple(CONFIG)

    before, after = asyncio.run(work())
    assert before == after


# Other hands in the same thread.


def test_turns_of_others_are_no_part_of_the_state(archive):
    """Somebody may note something in a thread from the shell."""
    graph = agent(ConvmemSaver(archive))
    ask(graph, "one")
    archive.conversation("t").record("user", "a note by hand")
    archive.conversation("t").record("event", "", meta={"source": "elsewhere"})
    assert len(ask(graph, "two")) == 4


POISON: list[dict[str, Any]] = [
    {"kind": "writes", "writes": {"ns": ["x"]}},
    {
        "kind": "writes",
        "writes": {"ns": "", "checkpoint": "1", "task": "t", "path": "", "values": 5},
    },
    {"kind": "checkpoint", "checkpoint": {"ns": "", "id": "zz"}},
    {"kind": "checkpoint", "checkpoint": []},
    {"kind": "message", "serde": 5},
    {"kind": "message", "tag": ["x"]},
    {"kind": ["message"]},
    {"kind": 5, "tag": "x"},
]
VALUE_POISON: list[Any] = [
    5,
    {},
    {"at": [1, 2]},
    {"at": [0]},
    {"at": 999_999},
    {"serde": ["x"]},
    {"message": [0]},
    {"message": 2**70, "tag": "x"},
    {"dict": {"a": 5}},
    {"list": {"refs": [], "tags": ["", ""]}},
    {"list": {"refs": [1], "tags": ["", ""], "base": [0], "take": 3}},
    {"list": {"refs": [[1]], "tags": [""]}},
]


@pytest.mark.parametrize("number", range(len(POISON) + len(VALUE_POISON)))
def test_who_marks_a_turn_as_a_checkpoint_stops_no_graph(archive, number):
    """Anybody who may record can write what only looks like a saver's: one thread, or all."""
    saver = ConvmemSaver(archive)
    thread = Thread(saver)
    thread.put(messages=[said("one")])
    chat = archive.conversation("t")
    if number < len(POISON):
        told = dict(POISON[number])
        meta = {"source": "langgraph", "kind": told.pop("kind"), "tag": told.pop("tag", "")}
        chat.record("event", "", meta=meta, **told)
    else:
        (*_, last) = [turn for turn in chat.turns() if "checkpoint" in turn.extra]
        body = last.extra["checkpoint"]
        values = {**body["values"], "odd": VALUE_POISON[number - len(POISON)]}
        chat.record("event", "", meta=last.meta, checkpoint={**body, "values": values, "id": "0"})
    for each in (saver, ConvmemSaver(archive)):
        assert held(each, config={"configurable": dict(thread.conf)}) == ["one"]
        assert each.get_tuple(CONFIG) is not None
        assert list(each.list(None))
        each.delete_for_runs(["none"])
        each.copy_thread("t", f"copy-{id(each)}")
        assert list(each.list({"configurable": {"thread_id": f"copy-{id(each)}"}}))
    thread.put(messages=[said("one"), said("two")])
    assert held(ConvmemSaver(archive)) == ["one", "two"]
    saver.prune(["t"])
    assert held(ConvmemSaver(archive)) == ["one", "two"]


CALLED: list[str] = []


def call(text: str) -> str:
    """What must never be called by a line of a log."""
    CALLED.append(text)
    return text


class Caller:
    """A class that does something when it is made."""

    def __init__(self, text: str) -> None:
        call(text)


class Kind(Enum):
    """An enumeration of a user's own."""

    GO = "go"


@pytest.mark.parametrize("name", ["call", "Caller"])
@pytest.mark.parametrize("is_within", [False, True])
def test_no_line_of_a_log_has_anything_called(archive, name, is_within):
    """Lines come from shells, exports and clients: who reads a thread must not run them."""
    serde = JsonPlusSerializer()
    packed = ormsgpack.packb((__name__, name, "boo"))
    value = ormsgpack.Ext(jsonplus.EXT_CONSTRUCTOR_SINGLE_ARG, packed)
    if is_within:  # of something that is data
        inner = ormsgpack.packb((__name__, "Plan", {"steps": value}))
        value = ormsgpack.Ext(jsonplus.EXT_CONSTRUCTOR_KW_ARGS, inner)
    bad = ormsgpack.packb(value)
    CALLED.clear()
    serde.loads_typed(("msgpack", bad))
    assert CALLED == ["boo"]  # which LangGraph's own does
    CALLED.clear()
    thread = Thread(ConvmemSaver(archive))
    thread.put(messages=[said("one")])
    chat = archive.conversation("t")
    (*_, last) = chat.turns()
    typed = ["msgpack", base64.b64encode(bad).decode()]
    body = {**last.extra["checkpoint"], "id": "0", "values": {"x": {"serde": typed}}}
    chat.record("event", "", meta=last.meta, checkpoint=body)
    meta = {"source": "langgraph", "kind": "message", "tag": "x"}
    chat.record("user", "hm", meta=meta, serde=typed)
    for saver in (*thread.savers, ConvmemSaver(archive)):
        found = saver.get_tuple(CONFIG)
        assert found.checkpoint["channel_values"].keys() == {"x"}
        assert list(saver.list(None))
        saver.delete_for_runs(["none"])
    assert CALLED == []


def test_types_of_users_own_come_back_inside_each_other(archive):
    """What holds data is made as ever, also within other data."""
    thread = Thread(ConvmemSaver(archive))
    value = {"plans": (Plan([Kind.GO, Path("a")]),), "kind": Kind.GO}
    thread.put(value=value)
    found = ConvmemSaver(archive).get_tuple(CONFIG).checkpoint["channel_values"]["value"]
    serde = JsonPlusSerializer()
    assert repr(found) == repr(serde.loads_typed(serde.dumps_typed(value)))
    assert found["plans"][0] == Plan([Kind.GO, Path("a")])


def test_what_another_process_removed_is_stored_again_when_it_is_said_again(archive):
    """What a process knows of a log may have gone since: it looks before it refers to it."""
    saver = ConvmemSaver(archive)
    Thread(saver).put(messages=[said("one")])
    archive.conversation("t").delete()
    Thread(saver).put(messages=[said("one")])
    assert held(ConvmemSaver(archive)) == ["one"]
    archive.conversation("t").delete()
    assert saver.get_tuple(CONFIG) is None
    Thread(saver).put(messages=[said("one")])
    assert held(ConvmemSaver(archive)) == ["one"]


def test_hostile_thread_ids_stay_apart_and_inside(tmp_path):
    """A client may choose the thread."""
    names: list[Any] = ["../../etc", "a/b", "A", "a", "..", "%2e", "con", "x" * 1024, "日本", 7]
    with Archive.open(tmp_path / "archive") as archive:
        saver = ConvmemSaver(archive, namespace="tenant")
        for name in names:
            thread = Thread(saver)
            thread.conf["thread_id"] = name
            thread.put(messages=[said(str(name))])
        for name in names:
            config = {"configurable": {"thread_id": name}}
            assert held(ConvmemSaver(archive, namespace="tenant"), config=config) == [str(name)]
            assert ConvmemSaver(archive).get_tuple(config) is None
        for name in ("", "x" * 1025, "a\0b", "\ud800"):
            with pytest.raises(InvalidContinuationId):
                saver.get_tuple({"configurable": {"thread_id": name}})
        with pytest.raises(InvalidContinuationId):
            ConvmemSaver(archive, namespace="")
        assert len([*saver.list(None)]) == len(names)
        saver.delete_thread("a")
        assert len([*saver.list(None)]) == len(names) - 1
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_a_closed_archive_is_an_error(tmp_path):
    """Nothing may seem to be stored that is not."""
    with Archive.open(tmp_path) as archive:
        saver = ConvmemSaver(archive)
    with pytest.raises(UsageError):
        Thread(saver).put(messages=[said("one")])
    with pytest.raises(UsageError):
        saver.get_tuple(CONFIG)


def test_an_encrypting_serializer_leaves_nothing_in_the_clear(archive):
    """Who encrypts checkpoints does not want the talk beside them."""
    pytest.importorskip("Crypto")
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    graph = agent(ConvmemSaver(archive, serde=serde))
    config = {**ASK, "metadata": {"who": "a secret of metadata"}}
    ask(graph, "a secret of the user", config)
    again = agent(ConvmemSaver(archive, serde=serde))
    assert ask(again, "thanks")[0] == "human: a secret of the user"
    assert "secret" not in Path(archive.conversation("t").path).read_text()
    assert [each.metadata.get("who") for each in again.get_state_history(ASK)].count(
        "a secret of metadata"
    ) == 3


# What goes, and what is damaged.


def grown(saver: Any, count: int, run_id: str = "run") -> Thread:
    """A thread of *count* messages, one a step."""
    thread = Thread(saver)
    for number in range(count):
        put_one(thread, number, run_id)
    return thread


def put_one(thread: Thread, number: int, run_id: str = "run") -> None:
    messages = [said(f"{each}") for each in range(number + 1)]
    new = ["messages"] if number else None
    thread.put(messages=messages, large="x" * 5000, metadata={"run_id": run_id}, new=new)
    thread.write(("messages", [said(f"{number + 1}")]))


def test_a_compacted_thread_goes_on_with_what_is_left(archive):
    """Retention from cron must not stop a chat: it forgets what was compacted, and says so."""
    saver = ConvmemSaver(archive)
    thread = grown(saver, 100)
    chat = archive.conversation("t")
    everything = [str(each) for each in range(100)]
    for keep in (150, 40, 6, 3):
        chat.compact(RetentionPolicy(keep_last=keep))
        found = ConvmemSaver(archive).get_tuple(CONFIG)
        texts = held(ConvmemSaver(archive))
        assert len(texts) >= keep // 3 - 1
        assert texts == everything[100 - len(texts) :]
        gone = 100 - len(texts) + ("large" not in found.checkpoint["channel_values"])
        assert found.metadata[MISSING] == gone
        assert found.pending_writes == [("task", "messages", [said("100")])]
    put_one(thread, 100)
    assert held(ConvmemSaver(archive)) == ["100"]
    graph = agent(ConvmemSaver(archive))
    assert ask(graph, "and on")[-1].startswith("ai: and on?")
    chat.compact(RetentionPolicy(keep_last=0))
    assert ConvmemSaver(archive).get_tuple(CONFIG) is None
    ask(agent(ConvmemSaver(archive)), "from new")


def test_a_policy_that_keeps_enough_costs_old_messages_only(archive):
    """Whatever else a state holds is told again now and then."""
    saver = ConvmemSaver(archive)
    thread = Thread(saver)
    for number in range(400):
        messages = [said(f"{each}") for each in range(max(0, number - 5), number + 1)]
        thread.put(messages=messages, large="x" * 5000, new=None if not number else ["messages"])
    archive.conversation("t").compact(RetentionPolicy(keep_last=400))
    found = ConvmemSaver(archive).get_tuple(CONFIG)
    assert MISSING not in found.metadata
    assert found.checkpoint["channel_values"]["large"] == "x" * 5000
    assert held(ConvmemSaver(archive)) == ["394", "395", "396", "397", "398", "399"]


def test_a_result_goes_with_its_call(archive):
    """A provider refuses a history with half of a call, for ever."""
    thread = Thread(ConvmemSaver(archive))
    call = {"name": "f", "args": {}, "id": "1"}
    messages = [said("one"), AIMessage("", tool_calls=[call], id="a")]
    thread.put(messages=messages)
    messages = [*messages, ToolMessage("r", tool_call_id="1", id="r"), AIMessage("end", id="e")]
    thread.put(messages=messages)
    chat = archive.conversation("t")
    turns = {turn.role: turn.id for turn in chat.turns() if turn.content != "end"}
    chat.scrub(turns["tool"])
    assert held(ConvmemSaver(archive)) == ["one", "end"]
    chat.scrub(turns["assistant"])
    assert held(ConvmemSaver(archive)) == ["one", "end"]
    assert ConvmemSaver(archive).get_tuple(CONFIG).metadata[MISSING] == 2


def test_any_damaged_line_costs_little_and_stops_nothing(tmp_path):
    """A disk that fails must not make a thread unusable, nor silently another one."""
    with Archive.open(tmp_path / "whole") as archive:
        grown(ConvmemSaver(archive), 40)
        path = Path(archive.conversation("t").path)
        whole = path.read_bytes()
    count = whole.count(b"\n")
    everything = [str(each) for each in range(40)]
    for at in range(0, count, 7):
        path.write_bytes(whole)
        tear(path, at_line=at)
        with Archive.open(tmp_path / "whole") as archive:
            texts = held(ConvmemSaver(archive))
            # One message less, or the steps since the list that the damaged line told.
            assert [each for each in everything if each in texts] == texts
            assert len(texts) >= 39 or texts == everything[: len(texts)]
            assert ask(agent(ConvmemSaver(archive)), "on")[-1].startswith("ai: on?")
            assert held(ConvmemSaver(archive))[: len(texts)] == texts


def test_a_log_that_was_numbered_anew_is_not_taken_for_the_old_one(archive):
    """An export that was recorded again elsewhere: no message may stand where another was."""
    thread = Thread(ConvmemSaver(archive))
    thread.put(messages=[said("one"), said("two")])
    thread.put(messages=[said("one"), said("two"), said("three")])
    other = archive.conversation("other")
    other.record("user", "first of its own")
    other.record("user", "second of its own")
    other.record_many(archive.conversation("t").turns())
    found = ConvmemSaver(archive).get_tuple({"configurable": {"thread_id": "other"}})
    texts = [each.content for each in found.checkpoint["channel_values"].get("messages", [])]
    assert texts in ([], ["one", "two"])


def test_pruning_moves_all_but_the_newest_to_the_trash(archive):
    """Checkpoints that nobody goes back to are most of a thread."""
    saver = ConvmemSaver(archive)
    thread = grown(saver, 60)
    Thread(saver, ns="inner:1").put(messages=[said("0"), said("inside")])
    archive.conversation("t").record("user", "a note by hand")
    before = Path(archive.conversation("t").path).stat().st_size
    newest = saver.get_tuple(CONFIG)
    saver.prune(["t", "not there"])
    for each in (saver, ConvmemSaver(archive)):
        found = each.get_tuple(CONFIG)
        assert told(found.checkpoint) == told(newest.checkpoint)
        assert told(found.pending_writes) == told(newest.pending_writes)
        assert len([*each.list(ASK)]) == 2
    assert Path(archive.conversation("t").path).stat().st_size < before / 2
    put_one(thread, 60)
    assert held(ConvmemSaver(archive)) == [str(each) for each in range(61)]
    inner = {"configurable": {"thread_id": "t", "checkpoint_ns": "inner:1"}}
    assert held(ConvmemSaver(archive), config=inner) == ["0", "inside"]
    assert any(turn.content == "a note by hand" for turn in archive.conversation("t").turns())
    archive.conversation("t").restore()
    assert len([*ConvmemSaver(archive).list(CONFIG)]) == 61
    assert held(ConvmemSaver(archive)) == [str(each) for each in range(61)]
    with pytest.raises(UsageError):
        saver.prune(["t"], strategy="other")


def test_pruning_while_another_process_goes_on_loses_nothing_of_it(archive, monkeypatch):
    """A job prunes at night, and somebody is awake."""
    saver, job = ConvmemSaver(archive), ConvmemSaver(archive)
    thread = grown(saver, 40)
    chat = type(archive.conversation("t"))
    remove = chat.remove

    def meanwhile(self, *args, **more):
        put_one(thread, 40)
        removed = remove(self, *args, **more)
        put_one(thread, 41)
        return removed

    monkeypatch.setattr(chat, "remove", meanwhile)
    job.prune(["t"])
    monkeypatch.undo()
    put_one(thread, 42)
    assert held(ConvmemSaver(archive)) == [str(each) for each in range(43)]
    steps = [each.metadata["step"] for each in ConvmemSaver(archive).list(CONFIG)]
    assert steps == [43, 42, 41, 40]
    for each in ConvmemSaver(archive).list(CONFIG):
        assert MISSING not in each.metadata
        assert len(each.checkpoint["channel_values"]["messages"]) == each.metadata["step"]


def test_a_run_that_is_deleted_takes_what_only_it_said(archive):
    """A run that was cancelled, or should never have been."""
    saver = ConvmemSaver(archive)
    thread = grown(saver, 10, "good")
    kept = dict(thread.conf)
    for number in range(10, 20):
        put_one(thread, number, "bad")
    saver.delete_for_runs(["bad"])
    found = ConvmemSaver(archive).get_tuple(CONFIG)
    assert found.checkpoint["id"] == kept["checkpoint_id"]
    assert held(ConvmemSaver(archive)) == [str(each) for each in range(10)]
    said_texts = {turn.content for turn in archive.conversation("t").turns() if turn.role == "user"}
    assert said_texts == {str(each) for each in range(11)}  # the last one written, too
    saver.delete_for_runs(["good"])
    assert ConvmemSaver(archive).get_tuple(CONFIG) is None


def test_a_run_in_the_middle_is_deleted_and_the_others_stay(archive):
    """What later checkpoints refer to is told again before it goes."""
    saver = ConvmemSaver(archive)
    thread = grown(saver, 5, "first")
    for number in range(5, 10):
        put_one(thread, number, "second")
    for number in range(10, 15):
        put_one(thread, number, "third")
    expected = [each for each in saver.list(CONFIG) if each.metadata["run_id"] != "first"]
    saver.delete_for_runs(["first"])
    found = [*ConvmemSaver(archive).list(CONFIG)]
    assert told([[*each] for each in found]) == told([[*each] for each in expected])


def test_a_copy_is_a_thread_of_its_own(archive):
    """A user tries two ways from one point."""
    saver = ConvmemSaver(archive)
    grown(saver, 50)
    archive.conversation("t").record("user", "a note by hand")
    saver.copy_thread("t", "copy")
    other = {"configurable": {"thread_id": "copy"}}
    originals, copies = [*saver.list(ASK)], [*ConvmemSaver(archive).list(other)]
    assert told([each.checkpoint for each in copies]) == told(
        [each.checkpoint for each in originals]
    )
    assert [each.pending_writes for each in copies] == [each.pending_writes for each in originals]
    ask(agent(saver), "on", other)
    assert len(held(saver, config=other)) == 52
    saver.delete_thread("t")
    assert len(held(ConvmemSaver(archive), config=other)) == 52


WORKER = """
from convmem import Archive
from convmem.adapters.langgraph import ConvmemSaver
from langchain_core.messages import HumanMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from typing import Annotated, TypedDict

def newest(left, right):
    return add_messages(left, right)[-30:]

class State(TypedDict):
    messages: Annotated[list, newest]

root, number = sys.argv[1:]
with Archive.open(root) as archive:
    builder = StateGraph(State)
    builder.add_node("answer", lambda state: {"messages": [("ai", "yes")]})
    builder.add_edge(START, "answer")
    graph = builder.compile(checkpointer=ConvmemSaver(archive))
    ready()
    for turn in range(100):
        name = f"{number}-{turn}"
        config = {"configurable": {"thread_id": "t"}, "metadata": {"name": name}}
        question = HumanMessage(name, id=name)
        graph.invoke({"messages": [question]}, config, durability="sync")
        tell(name)
"""


def test_four_processes_on_one_thread_lose_no_checkpoint(tmp_path):
    """Each puts all of its steps, and each of them can be read whole by everybody."""
    names = [name for each in together(WORKER, tmp_path) for name in each]
    assert len(names) == 400
    with Archive.open(tmp_path) as archive:
        saver = ConvmemSaver(archive)
        steps: dict[str, int] = {}
        for found in saver.list(CONFIG):
            assert MISSING not in found.metadata
            name = found.metadata["name"]
            steps[name] = steps.get(name, 0) + 1
        assert steps == dict.fromkeys(names, 3)
        asked = [turn.content for turn in archive.conversation("t").turns(roles=["user"])]
        assert sorted(asked) == sorted(names)


def test_a_killed_graph_goes_on_with_all_that_was_answered(tmp_path):
    """kill -9 is how servers end."""
    names = killed(WORKER, tmp_path, after=10)
    with Archive.open(tmp_path) as archive:
        path = archive.conversation("t").path
    with Path(path).open("ab") as log:
        log.write(b'{"id":"torn","seq":9')
    with Archive.open(tmp_path) as archive:
        texts = held(ConvmemSaver(archive))
        assert [each for each in texts if each in names] == names
        assert ask(agent(ConvmemSaver(archive)), "on")[-1].startswith("ai: on?")
