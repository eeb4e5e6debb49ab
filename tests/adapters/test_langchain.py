"""LangChain's message history: what was said comes back as it was, from any process, for good."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from crowd import killed, tear, together
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    message_to_dict,
)
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables.history import RunnableWithMessageHistory

from convmem import Archive, InvalidContinuationId, InvalidTurn, Turn, UsageError, aio
from convmem.adapters.langchain import ConvmemChatMessageHistory, messages_of, turn_of

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
CALL = {"name": "weather", "args": {"city": "Oslo"}, "id": "call-1", "type": "tool_call"}
MESSAGES: list[BaseMessage] = [
    HumanMessage("And by train?"),
    HumanMessage("Ünïcode \u2028 \x00 end", id="h-1", name="ada", additional_kwargs={"k": [1, {}]}),
    HumanMessage(["one", {"type": "text", "text": "two"}, PICTURE]),
    HumanMessage([PICTURE]),
    HumanMessage([{"type": "image", "base64": "aGk=", "mime_type": "image/png"}]),
    HumanMessage([{"type": "image", "source": {"type": "url", "url": "https://example.com/a"}}]),
    HumanMessage([{"type": "file", "file_id": "file-1"}, {"type": "of its own", "x": None}]),
    HumanMessage([{"type": "text", "text": "kept", "cache_control": {"type": "ephemeral"}}]),
    HumanMessage([{"type": "text", "text": "alone"}]),
    HumanMessage(""),
    HumanMessage([]),
    SystemMessage("Be brief."),
    ChatMessage("Boo.", role="critic"),
    ChatMessage("As user.", role="user"),
    AIMessage("Yes."),
    AIMessage("", tool_calls=[CALL]),
    AIMessage("I shall look.", tool_calls=[CALL, {**CALL, "id": None}]),
    AIMessage([{"type": "text", "text": "I shall look."}], tool_calls=[CALL]),
    AIMessage(
        [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "tool_use", "id": "call-1", "name": "weather", "input": {"city": "Oslo"}},
        ],
        tool_calls=[CALL],
    ),
    AIMessage([{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "Yes."}]),
    AIMessage(
        "Yes.",
        id="a-1",
        response_metadata={"model_name": "small", "logprobs": None},
        usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        invalid_tool_calls=[
            {"name": "f", "args": "{", "id": "1", "error": "no", "type": "invalid_tool_call"}
        ],
    ),
    AIMessageChunk("Y", tool_call_chunks=[{"name": "f", "args": "{", "id": "1", "index": 0}]),
    ToolMessage("7 degrees", tool_call_id="call-1"),
    ToolMessage("no", tool_call_id="call-1", status="error", name="weather", artifact={"a": 1}),
    ToolMessage([{"type": "text", "text": "7"}, PICTURE], tool_call_id="call-1"),
    FunctionMessage("7", name="weather"),
]


def told(messages: list[BaseMessage]) -> list[dict[str, Any]]:
    """All that messages hold, as their own dictionaries."""
    return [message_to_dict(message) for message in messages]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: f"{each.type}-{each.content!s:.20}")
def test_a_message_comes_back_exactly_as_it_was(tmp_path, message):
    """Providers refuse a history that lost an id, a signature or a part."""
    with Archive.open(tmp_path) as archive:
        ConvmemChatMessageHistory("s", archive).add_messages([message])
        (found,) = ConvmemChatMessageHistory("s", archive).messages
    assert type(found) is type(message)
    assert repr(message_to_dict(found)) == repr(message_to_dict(message))


ODD: list[BaseMessage] = [
    HumanMessage("half \ud83d"),
    HumanMessage(["half \ud83d", {"type": "text", "text": "\udc00"}]),
    AIMessage("x", response_metadata={"p": float("nan")}),
    AIMessage("", tool_calls=[{**CALL, "args": {"\ud83d": float("inf")}}]),
    ToolMessage("7", tool_call_id="\ud83d", artifact=[float("-inf")]),
    ChatMessage("\ud83d", role="\ud83d"),
]


def test_no_run_is_refused_for_odd_text(archive):
    """Emoji get cut in two and figures divided by nothing: the answer is there all the same."""
    history = ConvmemChatMessageHistory("s", archive)
    history.add_messages([*ODD, HumanMessage("whole")])
    asyncio.run(history.aadd_messages(ODD))
    expected = [*ODD, HumanMessage("whole"), *ODD]
    assert repr(told(history.messages)) == repr(told(expected))
    assert len(list(archive.search("half"))) == 4


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
BLOCKS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            "text image image_url file reasoning thinking tool_use tool_result".split()
        )
    },
    optional={
        "text": JSON,
        "image_url": JSON,
        "url": JSON,
        "base64": JSON,
        "mime_type": JSON,
        "reasoning": JSON,
        "thinking": JSON,
        "input": JSON,
        "source": JSON,
        "id": JSON,
        "content": JSON,
    },
)
CONTENTS = st.text(max_size=20) | st.lists(st.text(max_size=5) | BLOCKS, max_size=3)
CALLS = st.builds(
    lambda name, args, id: {"name": name, "args": args, "id": id, "type": "tool_call"},
    st.text(max_size=5),
    st.dictionaries(st.text(max_size=5), JSON, max_size=2),
    st.none() | st.text(max_size=5),
)


@given(
    st.one_of(
        st.builds(HumanMessage, CONTENTS, id=st.none() | st.text(max_size=5)),
        st.builds(
            AIMessage,
            CONTENTS,
            tool_calls=st.lists(CALLS, max_size=2),
            additional_kwargs=st.dictionaries(st.text(max_size=5), JSON, max_size=2),
        ),
        st.builds(ToolMessage, CONTENTS, tool_call_id=st.text(max_size=5), artifact=JSON),
        st.builds(ChatMessage, CONTENTS, role=st.text(max_size=5)),
    )
)
def test_any_message_becomes_a_turn_that_is_that_message(message):
    """Models and tools send parts in shapes that nobody thought of."""
    turn = turn_of(message)
    read = Turn(
        turn["role"],
        turn["content"],
        meta=turn.get("meta"),
        extra={"raw": turn["raw"]} if "raw" in turn else {},
    )
    (found,) = messages_of(read)
    assert repr(message_to_dict(found)) == repr(message_to_dict(message))


@given(st.sampled_from(["user", "assistant", "system", "tool", "critic"]), CONTENTS | JSON)
def test_any_turn_of_others_can_be_read(role, content):
    """One odd turn of an import must not keep a whole history from being read."""
    for message in messages_of(Turn(role, content)):
        assert isinstance(message, BaseMessage)


def test_what_role_and_content_tell_is_stored_once(tmp_path):
    """A history should not take twice its size; and what is stored should be read by people."""
    with Archive.open(tmp_path) as archive:
        history = ConvmemChatMessageHistory("s", archive)
        history.add_messages(
            [
                HumanMessage("Weather?"),
                AIMessage("I look.", tool_calls=[CALL], id="a-1"),
                ToolMessage("7 degrees", tool_call_id="call-1"),
            ]
        )
        turns = archive.conversation("s").tail(3)
    use = {"type": "tool_use", "id": "call-1", "name": "weather", "input": {"city": "Oslo"}}
    result = {"type": "tool_result", "tool_use_id": "call-1", "content": "7 degrees"}
    assert [(turn.role, turn.content) for turn in turns] == [
        ("user", "Weather?"),
        ("assistant", [{"type": "text", "text": "I look."}, use]),
        ("tool", [result]),
    ]
    assert turns[0].meta is None
    assert turns[1].meta == {"source": "langchain", "fields": {"id": "a-1"}}
    assert all("raw" not in turn.extra for turn in turns)


def test_what_others_recorded_is_read_as_messages(tmp_path):
    """A chat goes on in another framework, or by hand."""
    use = {"type": "tool_use", "id": "t1", "name": "ls", "input": {"path": "/"}}
    results = [
        {"type": "tool_result", "tool_use_id": "t1", "content": "a b"},
        {"type": "tool_result", "tool_use_id": "t2", "content": "no", "is_error": True},
    ]
    with Archive.open(tmp_path) as archive:
        chat = archive.conversation("s")
        chat.record("user", "List it.")
        chat.record("assistant", [{"type": "text", "text": "So I do."}, use])
        chat.record("tool", results)
        chat.record("event", "", meta={"source": "elsewhere", "kind": "settings"})
        gone = chat.record("user", "my password")
        chat.scrub(gone.id)
        found = ConvmemChatMessageHistory("s", archive).messages
    assert found == [
        HumanMessage("List it."),
        AIMessage(
            "So I do.", tool_calls=[{**CALL, "name": "ls", "args": {"path": "/"}, "id": "t1"}]
        ),
        ToolMessage("a b", tool_call_id="t1"),
        ToolMessage("no", tool_call_id="t2", status="error"),
    ]


def test_messages_are_found_by_search_and_export(tmp_path):
    """They are ordinary turns."""
    with Archive.open(tmp_path) as archive:
        history = ConvmemChatMessageHistory("s", archive)
        history.add_messages(
            [HumanMessage("Which ferry?"), AIMessage("The Color Fantasy.", id="a")]
        )
        assert [hit.turn.text for hit in archive.search("fantasy")][:1] == ["The Color Fantasy."]
        window = archive.conversation("s").context(max_turns=2)
        assert [each["role"] for each in window.as_messages()] == ["user", "assistant"]


def test_a_limit_gives_the_newest_and_no_result_without_its_call(tmp_path):
    """A model refuses a result whose call it does not see."""
    with Archive.open(tmp_path) as archive:
        history = ConvmemChatMessageHistory("s", archive)
        history.add_messages([HumanMessage(str(number)) for number in range(50)])
        history.add_messages(
            [AIMessage("", tool_calls=[CALL]), ToolMessage("7", tool_call_id="call-1")]
        )
        for number in range(300):
            archive.conversation("s").record("event", "", meta={"source": "x", "n": number})
        history.add_messages([HumanMessage("last")])

        def newest(limit):
            found = ConvmemChatMessageHistory("s", archive, limit=limit).messages
            return [message.content for message in found]

        assert newest(1) == ["last"]
        assert newest(2) == ["last"]
        assert newest(3) == ["", "7", "last"]
        assert newest(4) == ["49", "", "7", "last"]
        assert len(newest(1000)) == 53
        assert newest(0) == []
        with pytest.raises(UsageError):
            newest(-1)


def test_clear_moves_to_the_trash_and_can_be_undone(tmp_path):
    """Who clears by mistake wants it back."""
    with Archive.open(tmp_path) as archive:
        history = ConvmemChatMessageHistory("s", archive)
        history.clear()
        history.add_messages([HumanMessage("one")])
        history.clear()
        assert history.messages == []
        archive.conversation("s").restore()
        assert history.messages == [HumanMessage("one")]


def test_both_faces_see_the_same(tmp_path):
    """A server is async, its jobs are not."""

    async def work() -> list[BaseMessage]:
        async with aio.Archive.open(tmp_path) as archive:
            history = ConvmemChatMessageHistory("s", archive)
            await history.aadd_messages([HumanMessage("one")])
            history.add_messages([AIMessage("two")])
            found = await history.aget_messages()
            await history.aclear()
            assert await history.aget_messages() == []
            return found

    assert asyncio.run(work()) == [HumanMessage("one"), AIMessage("two")]


def test_a_batch_with_what_is_not_json_is_refused_whole(tmp_path):
    """Half of a batch would be a history that never was."""
    with Archive.open(tmp_path) as archive:
        history = ConvmemChatMessageHistory("s", archive)
        with pytest.raises(InvalidTurn):
            history.add_messages(
                [HumanMessage("one"), ToolMessage("two", tool_call_id="1", artifact=object())]
            )
        assert history.messages == []


def test_names_from_strangers_stay_apart_and_inside(tmp_path):
    """A client chooses the session's name."""
    names = [
        "../../etc",
        "a/b",
        "A",
        "a",
        "..",
        "%2e",
        "con",
        "x" * 1024,
        "日本",
        "-rf",
        "a\nb",
        " ",
    ]
    with Archive.open(tmp_path / "archive") as archive:
        for name in names:
            history = ConvmemChatMessageHistory(name, archive, namespace="tenant")
            history.add_messages([HumanMessage(name)])
        for name in names:
            history = ConvmemChatMessageHistory(name, archive, namespace="tenant")
            assert history.messages == [HumanMessage(name)]
            assert ConvmemChatMessageHistory(name, archive).messages == []
        for name in ("", "x" * 1025, "a\0b", "\ud800"):
            with pytest.raises(InvalidContinuationId):
                ConvmemChatMessageHistory(name, archive)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_a_closed_archive_is_an_error(tmp_path):
    """Nothing may seem to be stored that is not."""
    with Archive.open(tmp_path) as archive:
        history = ConvmemChatMessageHistory("s", archive)
    with pytest.raises(UsageError):
        history.add_messages([HumanMessage("one")])
    with pytest.raises(UsageError):
        history.messages  # noqa: B018 - a property that reads


def test_a_chain_remembers_over_a_restart(tmp_path):
    """It is what a history is for."""

    def asked(archive: Archive, question: str) -> list[str]:
        seen: list[str] = []

        def answer(prompt: Any) -> Any:
            seen.extend(str(message.content) for message in prompt.to_messages())
            return prompt

        model = GenericFakeChatModel(messages=iter([f"yes to {question}"]))
        prompt = ChatPromptTemplate.from_messages(
            [MessagesPlaceholder("history"), ("human", "{question}")]
        )
        chain = RunnableWithMessageHistory(
            prompt | answer | model,
            lambda session_id: ConvmemChatMessageHistory(session_id, archive),
            input_messages_key="question",
            history_messages_key="history",
        )
        chain.invoke({"question": question}, {"configurable": {"session_id": "s"}})
        return seen

    with Archive.open(tmp_path) as archive:
        assert asked(archive, "one") == ["one"]
    with Archive.open(tmp_path) as archive:
        assert asked(archive, "two") == ["one", "yes to one", "two"]


WORKER = """
from convmem import Archive
from convmem.adapters.langchain import ConvmemChatMessageHistory
from langchain_core.messages import AIMessage, HumanMessage

root, number = sys.argv[1:]
with Archive.open(root) as archive:
    history = ConvmemChatMessageHistory("s", archive)
    ready()
    for turn in range(100):
        name = f"{number}-{turn}"
        history.add_messages([HumanMessage(name, id=name), AIMessage("yes", id=name + "-answer")])
        tell(name)
"""


def test_four_processes_lose_and_double_nothing(tmp_path):
    """Several servers answer in one chat; a question and its answer stay together."""
    told_names = together(WORKER, tmp_path)
    with Archive.open(tmp_path) as archive:
        found = ConvmemChatMessageHistory("s", archive).messages
    names = [message.id for message in found]
    asked = [name for name in names if not name.endswith("-answer")]
    assert sorted(asked) == sorted(name for each in told_names for name in each)
    assert names == [each for name in asked for each in (name, f"{name}-answer")]
    for number in range(4):
        mine = [name for name in asked if name.startswith(f"{number}-")]
        assert mine == told_names[number]


def test_kill_9_and_damage_cost_no_other_message(tmp_path):
    """What was answered is there, and one bad line hides only itself."""
    names = killed(WORKER, tmp_path, after=20)
    with Archive.open(tmp_path) as archive:
        history = ConvmemChatMessageHistory("s", archive)
        found = [message.id for message in history.messages]
        assert len(found) % 2 == 0
        assert found[: 2 * len(names) : 2] == names
        path = archive.conversation("s").path
    tear(path, at_line=4)
    with Archive.open(tmp_path) as archive:
        history = ConvmemChatMessageHistory("s", archive)
        left = [message.id for message in history.messages]
        assert left == [each for each in found if each != found[4]]
        history.add_messages([HumanMessage("on", id="on")])
        assert [message.id for message in history.messages] == [*left, "on"]
