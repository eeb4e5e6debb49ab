"""Strands sessions in an archive: nothing said is lost, and what is redacted is gone."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from crowd import killed, tear, together
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("strands")

from strands import Agent, tool
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.models import Model
from strands.session import RepositorySessionManager
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from convmem import Archive, InvalidContinuationId, UsageError
from convmem.adapters.strands import ConvmemSessionRepository, numbering
from convmem.adapters.strands.to_messages import as_message
from convmem.adapters.strands.to_turns import as_turn


@pytest.fixture
def repository(archive):
    return ConvmemSessionRepository(archive)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"text": text}]}


def add(repository: ConvmemSessionRepository, session: str, number: int, text: str) -> None:
    message = SessionMessage.from_message(user(text), number)
    repository.create_message(session, "default", message)


def texts(messages: list[SessionMessage]) -> list[str]:
    return [each.to_message()["content"][0]["text"] for each in messages]


def ids(messages: list[SessionMessage]) -> list[int]:
    return [each.message_id for each in messages]


class Script(Model):
    """A model that says what it is told to: a text, or the call of a tool."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.seen: list[Any] = []

    def update_config(self, **config: Any) -> None:
        """There is none."""

    def get_config(self) -> Any:
        return {}

    def structured_output(self, *given: Any, **more: Any) -> Any:
        raise NotImplementedError

    async def stream(self, messages: Any, *given: Any, **more: Any) -> AsyncGenerator[Any, None]:
        self.seen.append(json.loads(json.dumps(messages)))
        answer = self.answers.pop(0)
        yield {"messageStart": {"role": "assistant"}}
        if isinstance(answer, dict):
            use = {"name": answer["name"], "toolUseId": answer["id"]}
            yield {"contentBlockStart": {"start": {"toolUse": use}}}
            delta = {"toolUse": {"input": json.dumps(answer["input"])}}
            yield {"contentBlockDelta": {"delta": delta}}
        else:
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": answer}}}
        yield {"contentBlockStop": {}}
        stop = "tool_use" if isinstance(answer, dict) else "end_turn"
        yield {"messageStop": {"stopReason": stop}}


@tool
def trains(city: str) -> str:
    """Tell when trains leave.

    Args:
        city: Where to.
    """
    return f"to {city} at 8"


def agent_of(archive: Archive, session: str, *answers: Any, **more: Any) -> Agent:
    manager = RepositorySessionManager(session, ConvmemSessionRepository(archive))
    return Agent(
        model=Script(*answers),
        tools=[trains],
        session_manager=manager,
        callback_handler=None,
        **more,
    )


CALL = {"id": "call-1", "name": "trains", "input": {"city": "Oslo"}}


# --- what goes in comes out --------------------------------------------------------------------

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
_sources = st.one_of(
    st.fixed_dictionaries({"bytes": st.binary(max_size=20)}),
    st.fixed_dictionaries(
        {"location": st.fixed_dictionaries({"type": st.just("s3"), "uri": st.just("s3://a/b")})}
    ),
)
_media = st.one_of(
    st.fixed_dictionaries(
        {
            "image": st.fixed_dictionaries(
                {"format": st.sampled_from(["png", "jpeg"]), "source": _sources}
            )
        }
    ),
    st.fixed_dictionaries(
        {
            "document": st.fixed_dictionaries(
                {
                    "format": st.sampled_from(["pdf", "csv", "docx", "md"]),
                    "name": _texts,
                    "source": _sources,
                }
            )
        }
    ),
    st.fixed_dictionaries(
        {"video": st.fixed_dictionaries({"format": st.just("mp4"), "source": _sources})}
    ),
)
_result_items = st.one_of(
    st.fixed_dictionaries({"text": _texts}), st.fixed_dictionaries({"json": _json}), _media
)
_items = st.one_of(
    st.fixed_dictionaries({"text": _texts}),
    _media,
    st.fixed_dictionaries(
        {
            "toolUse": st.fixed_dictionaries(
                {"toolUseId": _texts, "name": _texts, "input": _json},
                optional={"reasoningSignature": _texts},
            )
        }
    ),
    st.fixed_dictionaries(
        {
            "toolResult": st.fixed_dictionaries(
                {
                    "toolUseId": _texts,
                    "status": st.sampled_from(["success", "error"]),
                    "content": st.lists(_result_items, max_size=3),
                }
            )
        }
    ),
    st.fixed_dictionaries(
        {
            "reasoningContent": st.one_of(
                st.fixed_dictionaries(
                    {
                        "reasoningText": st.fixed_dictionaries(
                            {"text": _texts}, optional={"signature": st.none() | _texts}
                        )
                    }
                ),
                st.fixed_dictionaries({"redactedContent": st.binary(max_size=9)}),
            )
        }
    ),
    st.fixed_dictionaries({"cachePoint": st.just({"type": "default"})}),
    st.fixed_dictionaries({"guardContent": st.just({"text": {"text": "x"}})}),
    st.fixed_dictionaries(
        {"citationsContent": st.just({"citations": [], "content": [{"text": "x"}]})}
    ),
    st.dictionaries(_texts, _json, max_size=3),
)
_messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant"]), "content": st.lists(_items, max_size=4)},
    optional={"tracking_id": _texts, "metadata": st.dictionaries(_texts, _json, max_size=2)},
)


@settings(max_examples=150, deadline=None)
@given(message=_messages)
def test_each_message_comes_back_as_it_was(tmp_path_factory, message):
    """A model that is sent other bytes than before refuses its own signatures and citations."""
    with Archive.open(tmp_path_factory.mktemp("archive")) as archive:
        repository = ConvmemSessionRepository(archive)
        given_message = SessionMessage.from_message(message, 0)
        repository.create_message("trip", "default", given_message)
        read = repository.read_message("trip", "default", 0)
        assert read == given_message
        assert list(read.message) == list(message)
        assert repository.list_messages("trip", "default") == [given_message]


ODD = {
    "role": "assistant",
    "content": [
        {"text": "half \ud83d"},
        {"toolUse": {"toolUseId": "1", "name": "f", "input": {"\udc00": float("nan"), "b": b"x"}}},
    ],
}


def test_no_run_is_refused_for_odd_text(archive, repository):
    """Emoji get cut in two and figures divided by nothing: the answer is there all the same."""
    repository.create_session(Session("s", SessionType.AGENT))
    repository.create_agent("s", SessionAgent("default", {"ratio": float("nan")}, {"a": "\ud83d"}))
    message = SessionMessage.from_message(ODD, 0)
    for _ in range(2):  # a retry is stored once
        repository.create_message("s", "default", message)
    other = ConvmemSessionRepository(archive)
    (found,) = other.list_messages("s", "default")
    assert repr(found.message) == repr(ODD)
    agent = other.read_agent("s", "default")
    assert repr((agent.state, agent.conversation_manager_state)) == repr(
        ({"ratio": float("nan")}, {"a": "\ud83d"})
    )
    found.redact_message = {"role": "user", "content": [{"text": "gone \ud83d"}]}
    other.update_message("s", "default", found)
    assert [each.message["content"] for each in repository.list_messages("s", "default")] == [
        [{"text": "gone \ud83d"}]
    ]


@pytest.mark.parametrize(
    "more",
    [
        {"fields": "boo"},
        {"fields": {"role": 5, "content": None}},
        {"message_id": -7},
        {"message_id": 2**70},
        {"created_at": {}, "redacted": True},
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "raw",
    [None, 5, "{", {"a": 1}, {"role": "user", "content": {"__bytes_encoded__": True, "data": 5}}],
)
def test_who_marks_a_turn_as_a_message_stops_no_agent(archive, repository, more, raw):
    """Anybody who may record, such as a model, can write what only looks like Strands' own."""
    repository.adopt("s")
    repository.create_message("s", "default", SessionMessage.from_message(user("a"), 0))
    meta = {"source": "strands", "message_id": 1, **more}
    extra = {} if raw is None else {"raw": raw}
    archive.conversation("s").record("user", "from elsewhere", meta=meta, **extra)
    contents = [each.message["content"] for each in repository.list_messages("s", "default")]
    assert {"text": "from elsewhere"} in [block for content in contents for block in content]
    repository.create_message("s", "default", SessionMessage.from_message(user("b"), 2))
    assert user("b") in [each.message for each in repository.list_messages("s", "default")]


def test_what_looks_like_bytes_is_shown_as_text(archive, repository):
    """A foreign call may have any input."""
    told = {"__bytes_encoded__": True, "data": 5}
    block = {"type": "tool_use", "id": "1", "name": "f", "input": {"a": told}}
    archive.conversation("s").record("assistant", [block])
    repository.adopt("s")
    (found,) = repository.list_messages("s", "default")
    assert found.message["role"] == "assistant"
    assert "f" in found.message["content"][0]["text"]


def test_a_state_that_is_no_document_is_told(archive, repository):
    """A state is a program's own; who overwrites it is told whose it was."""
    archive.conversation("s").update_state({"strands_session": "x", "strands_agent": 5})
    with pytest.raises(SessionException):
        repository.read_session("s")
    with pytest.raises(SessionException):
        repository.read_agent("s", "default")


def test_plain_messages_are_kept_once(archive, repository):
    """Where role and content say all of it, a second copy would only be paid for."""
    image = {"image": {"format": "png", "source": {"bytes": b"\x89PNG"}}}
    result = {"toolUseId": "1", "status": "success", "content": [{"text": "at 8"}]}
    said = [
        user("When?"),
        {"role": "user", "content": [{"text": "This?"}, image]},
        {
            "role": "assistant",
            "content": [{"toolUse": {"toolUseId": "1", "name": "t", "input": {}}}],
        },
        {"role": "user", "content": [{"toolResult": result}]},
    ]
    for number, message in enumerate(said):
        repository.create_message("trip", "default", SessionMessage.from_message(message, number))
    turns = archive.conversation("trip").tail(10)
    assert [turn.role for turn in turns] == ["user", "user", "assistant", "tool"]
    assert all("raw" not in turn.extra for turn in turns)
    assert turns[0].content == "When?"
    assert turns[1].content[1] == {
        "type": "image",
        "source": {
            "type": "base64",
            "media_type": "image/png",
            "data": base64.b64encode(b"\x89PNG").decode(),
        },
    }
    assert turns[3].content == [{"type": "tool_result", "tool_use_id": "1", "content": "at 8"}]


def test_messages_are_ordinary_turns(archive, repository):
    """Who keeps a conversation wants to read and search it without the framework."""
    add(repository, "trip", 0, "How do I get to Oslo?")
    [hit] = archive.search("oslo").hits
    assert (hit.continuation_id, hit.turn.role) == ("trip", "user")
    assert archive.conversation("trip").context(max_turns=5).as_messages() == [
        {"role": "user", "content": "How do I get to Oslo?"}
    ]


# --- sessions and agents -----------------------------------------------------------------------


def test_sessions_and_agents_are_as_the_reference_has_them(repository):
    """``RepositorySessionManager`` is written against what its own stores do."""
    session = Session(session_id="trip", session_type=SessionType.AGENT)
    assert repository.read_session("trip") is None
    assert repository.create_session(session) is session
    assert repository.read_session("trip") == session
    with pytest.raises(SessionException, match="already exists"):
        repository.create_session(session)

    agent = SessionAgent("cook", {"pot": 1, "lid": None}, {"removed_message_count": 0}, {"i": {}})
    assert repository.read_agent("trip", "cook") is None
    with pytest.raises(SessionException, match="does not exist"):
        repository.update_agent("trip", agent)
    with pytest.raises(SessionException):
        repository.list_messages("trip", "cook")
    repository.create_agent("trip", agent)
    assert repository.read_agent("trip", "cook") == agent
    assert repository.list_messages("trip", "cook") == []
    assert repository.read_agent("trip", "default") is None

    later = SessionAgent("cook", {"pot": 2}, {}, {"raw": b"\x00"}, created_at="later")
    repository.update_agent("trip", later)
    read = repository.read_agent("trip", "cook")
    assert (read.state, read.created_at) == ({"pot": 2}, agent.created_at)
    assert read._internal_state == {"raw": b"\x00"}

    assert repository.read_message("trip", "cook", 0) is None
    missing = SessionMessage.from_message(user("x"), 0)
    with pytest.raises(SessionException, match="does not exist"):
        repository.update_message("trip", "cook", missing)


def test_a_multi_agent_comes_back(repository):
    """Graphs and swarms go on where they were."""

    class Graph:
        id = "graph"

        def __init__(self) -> None:
            self.told: dict[str, Any] = {"nodes": {"a": b"\x01"}}

        def serialize_state(self) -> dict[str, Any]:
            return self.told

    graph: Any = Graph()
    assert repository.read_multi_agent("trip", "graph") is None
    with pytest.raises(SessionException, match="does not exist"):
        repository.update_multi_agent("trip", graph)
    repository.create_multi_agent("trip", graph)
    assert repository.read_multi_agent("trip", "graph") == {"nodes": {"a": b"\x01"}}
    graph.told = {"nodes": {}}
    repository.update_multi_agent("trip", graph)
    assert repository.read_multi_agent("trip", "graph") == {"nodes": {}}


def test_a_deleted_session_leaves_no_other(archive, repository):
    """Names that begin alike are not the same session."""
    for name in ("trip", "trip2"):
        repository.create_session(Session(session_id=name, session_type=SessionType.AGENT))
        for agent in ("default", "cook"):
            repository.create_agent(name, SessionAgent(agent, {}, {}))
            message = SessionMessage.from_message(user(name), 0)
            repository.create_message(name, agent, message)
    repository.delete_session("trip")
    assert repository.read_session("trip") is None
    assert repository.read_agent("trip", "cook") is None
    assert repository.read_message("trip", "default", 0) is None
    assert texts(repository.list_messages("trip2", "cook")) == ["trip2"]
    with pytest.raises(SessionException, match="does not exist"):
        repository.delete_session("trip")
    archive.conversation("trip").restore()
    assert texts(repository.list_messages("trip", "default")) == ["trip"]


def test_an_agent_that_never_spoke_goes_with_its_session(repository):
    """Its state would be found by the next session of that name."""
    repository.create_session(Session(session_id="trip", session_type=SessionType.AGENT))
    repository.create_agent("trip", SessionAgent("cook", {"secret": 1}, {}))
    repository.delete_session("trip")
    assert repository.read_agent("trip", "cook") is None


HOSTILE = [
    "..", ".", "-rf", "con", "a\\b" if Path("a\\b").name == "a\\b" else "a", "%2f", "a:b", "A", "a",
    "ä", "🚂", "a b", "a\nb", "'; --", "x" * 900, "multi_agent", "default", "_x",
]  # fmt: skip


def test_each_name_is_a_session_and_an_agent_of_its_own(repository):
    """Names come from clients."""
    names = list(dict.fromkeys(HOSTILE))
    for session in names:
        for agent in ("default", "a", "A", "multi_agent"):
            message = SessionMessage.from_message(user(f"{session}|{agent}"), 0)
            repository.create_message(session, agent, message)
            repository.create_agent(session, SessionAgent(agent, {"of": session}, {}))
    for session in names:
        for agent in ("default", "a", "A", "multi_agent"):
            assert texts(repository.list_messages(session, agent)) == [f"{session}|{agent}"]
            assert repository.read_agent(session, agent).state == {"of": session}


@pytest.mark.parametrize("name", ["a/b", "../x", "/etc", "trip/default", "a/"])
def test_a_path_is_no_name(repository, name):
    """As with the file system's manager; and ``a/b`` must never be agent b of session a."""
    with pytest.raises(ValueError, match="path separators"):
        repository.read_session(name)
    with pytest.raises(ValueError, match="path separators"):
        repository.read_agent("trip", name)
    with pytest.raises(ValueError, match="path separators"):
        repository.list_messages(name, "default")


@pytest.mark.parametrize("number", ["../x", None, 1.5])
def test_a_message_id_is_a_number(repository, number):
    """As with the file system's manager."""
    with pytest.raises(ValueError, match="must be an integer"):
        repository.read_message("trip", "default", number)


def test_what_cannot_be_a_name_is_refused_at_once(archive, repository):
    """A wrong namespace is a mistake of the program, and not of its first user."""
    with pytest.raises(InvalidContinuationId):
        ConvmemSessionRepository(archive, namespace="")
    with pytest.raises(InvalidContinuationId):
        repository.read_session("a\0b")


def test_a_namespace_is_a_tenant(archive):
    """The same session of two tenants is two."""
    one, other = (ConvmemSessionRepository(archive, namespace=name) for name in ("one", "other"))
    add(one, "trip", 0, "mine")
    assert other.read_message("trip", "default", 0) is None


# --- lists -------------------------------------------------------------------------------------


def test_offset_and_limit_are_those_of_the_reference(repository):
    """The manager passes over as many as its window has dropped."""
    for number in range(200):
        add(repository, "trip", number, f"{number}")
    whole = repository.list_messages("trip", "default")
    assert ids(whole) == list(range(200))
    for offset in (0, 1, 63, 64, 150, 199, 200, 500, -3):
        for limit in (None, 0, 1, 2, 300):
            found = repository.list_messages("trip", "default", limit=limit, offset=offset)
            assert ids(found) == list(range(200))[offset:][:limit]


@settings(max_examples=60, deadline=None)
@given(
    order=st.lists(st.integers(0, 400), unique=True, min_size=1, max_size=90),
    first=st.integers(0, 400),
)
def test_messages_come_in_the_order_of_their_ids(tmp_path_factory, order, first):
    """Also where they were created in another order, and the list begins in the middle."""
    with (
        Archive.open(tmp_path_factory.mktemp("archive"), durability="none") as archive,
        patch.object(numbering, "_FIRST_LOOK", 4),  # the ends of short sessions are ends, too
    ):
        repository = ConvmemSessionRepository(archive)
        for number in order:
            add(repository, "trip", number, str(number))
        wanted = sorted(number for number in order if number >= first)
        found = repository.list_messages("trip", "default", offset=first)
        assert ids(found) == wanted
        assert texts(found) == [str(number) for number in wanted]
        assert repository.read_message("trip", "default", order[0]).message_id == order[0]


@settings(max_examples=60, deadline=None)
@given(
    order=st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 2)), unique_by=lambda each: each[0], min_size=1
    ),
    first=st.integers(0, 60),
)
def test_repositories_do_not_rely_on_what_they_wrote_themselves(tmp_path_factory, order, first):
    """Each remembers the end as it left it; what others have put there since must be seen."""
    with (
        Archive.open(tmp_path_factory.mktemp("archive"), durability="none") as archive,
        patch.object(numbering, "_FIRST_LOOK", 1),
    ):
        shell = archive.conversation("trip")
        writers = [ConvmemSessionRepository(archive) for _ in range(2)]
        for number, who in order:
            if who < 2:
                add(writers[who], "trip", number, str(number))
            else:
                shell.record("event", "somebody was here")
        wanted = sorted(number for number, who in order if number >= first and who < 2)
        assert ids(numbered_list(writers[0], first)) == wanted


def numbered_list(repository: ConvmemSessionRepository, first: int) -> list[SessionMessage]:
    repository.create_agent("trip", SessionAgent("default", {}, {}))  # also one that never spoke
    return repository.list_messages("trip", "default", offset=first)


def test_a_session_that_was_begun_anew_is_not_taken_for_the_old_one(repository, archive):
    """What a repository remembers of the end went with the log."""
    for number in range(3):
        add(repository, "trip", number, "old")
    archive.conversation("trip").delete()
    add(ConvmemSessionRepository(archive), "trip", 9, "new")
    for number in (3, 10, 11, 12):
        add(repository, "trip", number, "new")
    with patch.object(numbering, "_FIRST_LOOK", 1):
        assert ids(repository.list_messages("trip", "default", offset=9)) == [9, 10, 11, 12]


def test_the_end_of_a_long_session_is_read_from_the_end(archive, repository):
    """A list of the last messages must not slow down as a session grows."""
    for number in range(500):
        add(repository, "trip", number, "x" * 200)
    path = Path(archive.conversation("trip").path)
    log = path.read_bytes()
    # What is not read does not matter: the first half is made unreadable.
    path.write_bytes(b"\0" * (len(log) // 2) + log[len(log) // 2 :])
    seen: list[Any] = []
    archive._observer.damaged = lambda *given: seen.append(given)
    assert ids(repository.list_messages("trip", "default", offset=480)) == list(range(480, 500))
    assert repository.read_message("trip", "default", 490).message_id == 490
    assert seen == []


# --- redaction ---------------------------------------------------------------------------------


def test_a_redacted_message_is_nowhere(archive, repository, tmp_path):
    """What a guardrail took out must not be found by the next search, nor on the disk."""
    add(repository, "trip", 0, "hello")
    add(repository, "trip", 1, "my pin is xyzzy")
    add(repository, "trip", 2, "thanks")
    assert archive.search("xyzzy").hits
    message = repository.read_message("trip", "default", 1)
    created = message.created_at
    message.redact_message = user("[removed]")
    repository.update_message("trip", "default", message)

    assert texts(repository.list_messages("trip", "default")) == ["hello", "[removed]", "thanks"]
    read = repository.read_message("trip", "default", 1)
    assert read.redact_message == user("[removed]")
    assert read.created_at == created
    assert not archive.search("xyzzy").hits
    assert archive.search("removed").hits
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"xyzzy" not in path.read_bytes(), path
    # And the session goes on behind it.
    add(repository, "trip", 3, "bye")
    assert ids(repository.list_messages("trip", "default", offset=2)) == [2, 3]
    assert ids(repository.list_messages("trip", "default", offset=1, limit=2)) == [1, 2]


def test_a_message_may_be_updated_again(repository):
    """The latest word counts, there is one message of each id, and all stay where they were."""
    for number in range(3):
        add(repository, "trip", number, f"{number}")
    for word in ("first", "second"):
        repository.update_message("trip", "default", SessionMessage.from_message(user(word), 0))
    assert texts(repository.list_messages("trip", "default")) == ["second", "1", "2"]
    with patch.object(numbering, "_FIRST_LOOK", 1):
        assert texts(repository.list_messages("trip", "default", offset=1)) == ["1", "2"]


def test_an_agents_redaction_reaches_the_log(archive):
    """The way that Strands itself takes when a guardrail intervenes."""

    class Guarded(Script):
        async def stream(self, *given: Any, **more: Any) -> AsyncGenerator[Any, None]:
            yield {"messageStart": {"role": "assistant"}}
            yield {"redactContent": {"redactUserContentMessage": "[removed]"}}
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": "I cannot."}}}
            yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "guardrail_intervened"}}

    agent = agent_of(archive, "trip")
    agent.model = Guarded()
    agent("my pin is xyzzy")
    assert [turn.text for turn in archive.conversation("trip").tail(5)] == [
        "[removed]",
        "I cannot.",
    ]
    assert not archive.search("xyzzy").hits


# --- several at once ---------------------------------------------------------------------------


def test_a_message_id_is_given_out_once(repository):
    """The reference lets the second writer overwrite what the first one said."""
    add(repository, "trip", 0, "first")
    with pytest.raises(SessionException, match="already exists"):
        add(repository, "trip", 0, "second")
    assert texts(repository.list_messages("trip", "default")) == ["first"]


def test_an_id_that_was_redacted_swallows_no_other_message(archive, repository):
    """Who is behind, and says something else under the id, must hear that it was not stored."""
    repository.create_session(Session("s", SessionType.AGENT))
    for number in range(2):
        add(repository, "s", number, f"m{number}")
    message = SessionMessage.from_message(user("m1"), 1)
    message.redact_message = user("gone")
    repository.update_message("s", "default", message)
    with pytest.raises(SessionException, match="redacted"):
        add(ConvmemSessionRepository(archive), "s", 1, "other words")
    assert texts(repository.list_messages("s", "default")) == ["m0", "gone"]


def test_a_retry_is_stored_once(repository):
    """Its answer may have been lost on the way; also when others went on meanwhile."""
    message = SessionMessage.from_message(user("hello"), 0)
    for _ in range(2):
        repository.create_message("trip", "default", message)
    add(repository, "trip", 1, "more")
    repository.create_message("trip", "default", message)
    assert texts(repository.list_messages("trip", "default")) == ["hello", "more"]


CROWD = """
from convmem import Archive
from convmem.adapters.strands import ConvmemSessionRepository
from strands.types.exceptions import SessionException
from strands.types.session import SessionMessage

with Archive.open(sys.argv[1]) as archive:
    repository = ConvmemSessionRepository(archive)
    ready()
    number = 0
    for nth in range(100):
        said = {"role": "user", "content": [{"text": f"{sys.argv[2]}-{nth}"}]}
        while True:
            try:
                message = SessionMessage.from_message(said, number)
                repository.create_message("trip", "default", message)
            except SessionException:
                last = repository.list_messages("trip", "default", offset=number)[-1]
                number = last.message_id + 1
                continue
            tell(said["content"][0]["text"])
            break
"""


def test_four_processes_lose_and_double_nothing(tmp_path):
    """Two workers of one server get requests for the same session."""
    told = together(CROWD, tmp_path / "archive")
    with Archive.open(tmp_path / "archive") as archive:
        found = ConvmemSessionRepository(archive).list_messages("trip", "default")
    assert sorted(texts(found)) == sorted(word for each in told for word in each)
    assert ids(found) == list(range(400))


def test_what_was_answered_survives_a_kill_and_damage(tmp_path):
    """A crash in the middle of a session must not brick it."""
    told = killed(CROWD, tmp_path / "archive", after=20)
    with Archive.open(tmp_path / "archive") as archive:
        repository = ConvmemSessionRepository(archive)
        found = texts(repository.list_messages("trip", "default"))
        assert found[: len(told)] == told
        tear(archive.conversation("trip").path, at_line=5)
        left = repository.list_messages("trip", "default")
        assert texts(left) == found[:5] + found[6:]
        add(repository, "trip", left[-1].message_id + 1, "and on")
        assert texts(repository.list_messages("trip", "default"))[-1] == "and on"


def test_a_closed_archive_raises(tmp_path):
    """Silence would be a session that nobody keeps."""
    with Archive.open(tmp_path / "archive") as archive:
        repository = ConvmemSessionRepository(archive)
        add(repository, "trip", 0, "hello")
    with pytest.raises(UsageError):
        add(repository, "trip", 1, "lost")
    with pytest.raises(UsageError):
        repository.list_messages("trip", "default")


# --- agents ------------------------------------------------------------------------------------


def test_an_agent_goes_on_after_a_restart(tmp_path):
    """With its state, and with the call of a tool and its result."""
    with Archive.open(tmp_path / "archive") as archive:
        agent = agent_of(archive, "trip", CALL, "At 8.")
        agent.state.set("city", "Oslo")
        agent("When do trains leave?")
        before = agent.messages
    with Archive.open(tmp_path / "archive") as archive:
        agent = agent_of(archive, "trip", "Seven hours.")
        assert agent.messages == before
        assert agent.state.get("city") == "Oslo"
        agent("How long?")
        turns = archive.conversation("trip").tail(10)
    roles = ["user", "assistant", "tool", "assistant", "user", "assistant"]
    assert [turn.role for turn in turns] == roles
    assert turns[2].content[0]["content"] == "to Oslo at 8"
    assert len(agent.model.seen[0]) == 5


def test_a_window_goes_on_where_it_was(tmp_path):
    """The manager asks for messages behind those that the window has dropped."""
    for round_ in range(4):
        with Archive.open(tmp_path / "archive") as archive:
            window = SlidingWindowConversationManager(window_size=4)
            agent = agent_of(archive, "trip", "a", "b", conversation_manager=window)
            assert len(agent.messages) == min(4, round_ * 4)
            agent(f"{round_} first")
            agent(f"{round_} second")
    with Archive.open(tmp_path / "archive") as archive:
        assert len(ConvmemSessionRepository(archive).list_messages("trip", "default")) == 16


def test_two_agents_share_a_session(tmp_path):
    """Each with its own conversation."""
    with Archive.open(tmp_path / "archive") as archive:
        manager = RepositorySessionManager("trip", ConvmemSessionRepository(archive))
        cook = Agent(
            model=Script("Soup."), agent_id="cook", session_manager=manager, callback_handler=None
        )
        cook("What is there?")
        guide = agent_of(archive, "trip", "Oslo.", agent_id="guide")
        guide("Where are we?")
        assert [turn.text for turn in archive.conversation("trip/guide").tail(2)][1] == "Oslo."
        assert agent_of(archive, "trip", agent_id="cook").messages == cook.messages


def test_an_interrupted_call_does_not_brick_a_session(archive):
    """A process that dies between a call and its result leaves what every provider refuses."""
    repository = ConvmemSessionRepository(archive)
    agent_of(archive, "trip")
    use = {"toolUse": {"toolUseId": "1", "name": "trains", "input": {"city": "Oslo"}}}
    for number, said in enumerate([user("When?"), {"role": "assistant", "content": [use]}]):
        repository.create_message("trip", "default", SessionMessage.from_message(said, number))
    agent = agent_of(archive, "trip", "At 8.")
    agent("Hello?")
    sent = agent.model.seen[0]
    uses = [part for each in sent for part in each["content"] if "toolUse" in part]
    results = [part for each in sent for part in each["content"] if "toolResult" in part]
    assert len(uses) == len(results) == 1


def test_of_two_agents_on_one_session_none_is_lost(archive):
    """Two requests at once: who comes second is told, and what the first said stays."""
    first, second = (agent_of(archive, "trip", "one", "two") for _ in range(2))
    first("hello")
    with pytest.raises(SessionException, match="already exists"):
        second("hello, too")
    again = agent_of(archive, "trip", "three")
    assert again.messages == first.messages
    again("hello, too")
    assert len(archive.conversation("trip").tail(10)) == 4


# --- what others recorded ----------------------------------------------------------------------


def test_an_agent_adopts_what_others_recorded(archive):
    """A conversation of the shell, or of another framework, goes on with Strands."""
    chat = archive.conversation("trip")
    chat.record("system", "Be brief.")
    chat.record("user", "When do trains leave?")
    use = {"type": "tool_use", "id": "1", "name": "trains", "input": {"city": "Oslo"}}
    chat.record("assistant", [{"type": "text", "text": "I look."}, use])
    chat.record("tool", [{"type": "tool_result", "tool_use_id": "1", "content": "at 8"}])
    chat.record("event", {"x": 1}, meta={"source": "other"})
    repository = ConvmemSessionRepository(archive)
    repository.adopt("trip")
    agent = agent_of(archive, "trip", "At 8.")
    assert [each["role"] for each in agent.messages] == ["user", "user", "assistant", "user"]
    assert agent.messages[3]["content"] == [
        {"toolResult": {"toolUseId": "1", "status": "success", "content": [{"text": "at 8"}]}}
    ]
    agent("And?")
    assert ids(repository.list_messages("trip", "default")) == list(range(6))
    again = agent_of(archive, "trip")
    said = [each["content"] for each in agent.messages]
    assert [each["content"] for each in again.messages] == said


@settings(max_examples=150, deadline=None)
@given(
    role=_texts,
    content=_json
    | st.lists(
        st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "text",
                    "source",
                    "content",
                    "id",
                    "name",
                    "input",
                    "tool_use_id",
                    "thinking",
                ]
            ),
            _json
            | st.sampled_from(["text", "image", "document", "tool_use", "tool_result", "thinking"]),
        )
    ),
)
def test_no_turn_of_others_is_too_odd(role, content):
    """One line of a stranger must not brick a session."""
    message = as_message(role, content)
    assert message["role"] in ("user", "assistant")
    as_turn(message)


def test_scrubbed_turns_and_events_are_no_messages(archive, repository):
    """What was taken out for good is not shown as an empty message."""
    chat = archive.conversation("trip")
    for text in ("one", "two", "three"):
        chat.record("user", text, id=text)
    chat.scrub("two")
    assert texts(repository.list_messages("trip", "default")) == ["one", "three"]


def test_the_example_remembers_over_its_restart(tmp_path):
    """It is what people begin with."""
    example = Path(__file__).parents[2] / "examples" / "strands_agent.py"
    done = subprocess.run(
        [sys.executable, example, tmp_path / "archive"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "  1 user      How do I get to Oslo?",
        "  2 assistant How do I get to Oslo? I was sent 1 messages.",
        "  3 user      And by train?",
        "  4 assistant And by train? I was sent 3 messages.",
        "2 found by a search for train",
    ]
