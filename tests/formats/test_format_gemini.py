"""Gemini CLI: sessions of both generations, read from where they ended and given back whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shelf import Shelf, sample

from convmem.formats import gemini
from convmem.formats.reading.samples import Sample

DATA = Path(__file__).parent.parent / "data" / "transcripts"
FOLDER = DATA / "gemini"
DOCUMENT = FOLDER / "session-2025-11-02T10-15-3f2a9c1e.json"
LINES = FOLDER / "session-2026-04-01T09-30-7b1d0a44.jsonl"
OLD = "3f2a9c1e-1111-4000-8000-000000000001"
NEW = "7b1d0a44-2222-4000-8000-000000000002"
HELPER = FOLDER / "chats" / NEW / "helper-1.jsonl"


def taken(*paths):
    shelf = Shelf(gemini)
    for path in paths:
        shelf.take(path)
    return shelf


def put(tmp_path, *values, name="session-x.jsonl"):
    path = tmp_path / name
    path.write_text("".join(f"{json.dumps(value)}\n" for value in values), encoding="utf-8")
    return path


def header(session="s", **more):
    return {"sessionId": session, "projectHash": "f", "startTime": "2026-01-01T00:00:00Z", **more}


def message(message_id, kind="user", content="hello", **more):
    return {"id": message_id, "timestamp": "2026-01-01T00:00:01Z", "type": kind, **more} | {
        "content": content
    }


# --- what is recognised ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", [DOCUMENT, LINES, HELPER], ids=lambda path: path.suffix)
def test_both_generations_are_recognised(path):
    """The vendor moved from the one to the other in a release."""
    assert gemini.recognises(sample(path))


@pytest.mark.parametrize(
    "text",
    [
        '{\n  "sessionId": "s",\n  "projectHash": "f",\n  "messages": [\n    {\n "id": "cut',
        json.dumps(header(messages=[])),
        '{"$rewindTo":"m"}',
        '{"$set":{"summary":"x"}}\n',
        json.dumps(message("m", "gemini")),
    ],
)
def test_a_session_is_recognised_by_any_of_its_parts(text):
    """A file that was cut at its beginning is a session all the same."""
    assert gemini.recognises(Sample("x", text.encode()))


def test_transcripts_of_others_are_not_taken_for_sessions():
    """Others say ``sessionId`` too."""
    files = [path for path in DATA.rglob("*") if path.suffix in (".json", ".jsonl")]
    found = [path for path in files if gemini.recognises(sample(path))]
    assert sorted(found) == sorted([DOCUMENT, LINES, HELPER])
    for other in (
        {"sessionId": "s", "type": "user", "uuid": "u", "projectHash": 1},
        {"sessionId": "s", "messageId": 0, "type": "user", "message": "hi"},
        {"$set": 1},
        {"$set": {}, "x": 1},
        [header()],
    ):
        assert not gemini.recognises(Sample("x", json.dumps(other).encode()))


# --- what is given back ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", [LINES, HELPER], ids=["session", "subagent"])
def test_lines_come_back_byte_for_byte(path):
    """Gemini CLI itself can go on with what is given back."""
    shelf = taken(path)
    (conversation_id,) = shelf.conversations
    assert shelf.native(conversation_id) == path.read_bytes()
    assert shelf.take(path) == 0


def test_a_document_comes_back_deep_equal_and_its_growth_adds_what_is_new(tmp_path):
    """It is written anew for every message."""
    value = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    shelf = taken(DOCUMENT)
    assert json.loads(shelf.native(OLD)) == value
    before = shelf.raws(OLD)
    value["messages"].append(message("m-5", timestamp="2025-11-02T11:00:00.000Z"))
    value["lastUpdated"] = "2025-11-02T11:00:00.000Z"
    path = tmp_path / DOCUMENT.name
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
    assert shelf.take(path) == 2
    assert {key: shelf.raws(OLD)[key] for key in before} == before
    assert json.loads(shelf.native(OLD)) == value


def test_a_session_that_moved_to_lines_is_there_once(tmp_path):
    """Going on with an old session copies it to a file of lines and leaves the old one."""
    value = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    messages = value.pop("messages")
    lines = [value, *messages, {"$set": {"sessionId": OLD}}, message("m-5")]
    path = tmp_path / "session-x.jsonl"
    text = "".join(f"{json.dumps(each, separators=(',', ':'))}\n" for each in lines)
    path.write_text(text, encoding="utf-8")
    shelf = taken(DOCUMENT)
    assert shelf.take(path) == 3  # the header, the change and the new message
    assert shelf.native(OLD).decode() == text
    other = taken(path)
    assert other.take(DOCUMENT) == 1  # the head of the document
    assert other.native(OLD).decode() == text


def test_a_document_on_one_line_is_read_as_its_messages(tmp_path):
    """Gemini CLI reads a whole old session on the first line, and what follows it."""
    value = header("s", messages=[message("a"), message("b", "gemini", "hi")])
    path = put(tmp_path, value, message("c"))
    shelf = taken(path)
    assert [turn.id for turn in shelf.turns("s")][1:] == ["a", "b", "c"]
    assert shelf.native("s") == path.read_bytes()


def test_reading_goes_on_where_a_session_ended(tmp_path):
    """A session of hours is read again every quarter of an hour."""
    raw = HELPER.read_bytes()
    memory = {}
    shelf = Shelf(gemini)
    path = tmp_path / NEW / "helper-1.jsonl"
    path.parent.mkdir()
    path.write_bytes(raw)
    shelf.take(path, memory)
    memory = json.loads(json.dumps(memory))
    path.write_bytes(json.dumps(message("h-2", "gemini", "done")).encode() + b"\n")
    assert shelf.take(path, memory) == 1
    turns = shelf.turns(f"{NEW}.agent-helper-1")
    assert (turns[-1].role, turns[-1].content) == ("assistant", "done")
    assert turns[-1].meta["agent"] == "helper-1"
    assert {begin.parent for begin in shelf.begun} == {NEW}


# --- what is said ---------------------------------------------------------------------------------


def test_thoughts_calls_and_answers_stand_in_one_turn():
    """The source has them in one record, and so has the archive."""
    turn = taken(DOCUMENT).turn(OLD, "m-2")
    assert turn.role == "assistant"
    assert turn.content == [
        {"type": "thinking", "thinking": "Searching\nI will look for the word."},
        {
            "type": "tool_use",
            "id": "search_file_content-1",
            "name": "search_file_content",
            "input": {"pattern": "tide"},
        },
        {
            "type": "tool_result",
            "tool_use_id": "search_file_content-1",
            "content": "harbour.py:3: tide = 1",
        },
    ]
    assert turn.meta == {"model": "gemini-2.5-pro"}


def test_later_lines_of_a_message_are_versions_of_it():
    """Its tokens and its calls are told when they are known, each time with all the rest."""
    turns = taken(LINES).turns(NEW)
    versions = [turn for turn in turns if turn.id.startswith("n-2")]
    assert [turn.meta.get("replaces") for turn in versions] == [None, "n-2", "n-2"]
    assert versions[-1].content[-1] == {
        "type": "tool_result",
        "tool_use_id": "w-1",
        "content": "read-only",
        "is_error": True,
    }


def test_rewinds_and_checkpoints_are_told():
    """Without them a reader would take for said what was taken back."""
    turns = taken(LINES).turns(NEW)
    told = {turn.meta["kind"]: turn for turn in turns if turn.role == "event"}
    assert set(told) == {"header", "set", "rewind", "checkpoint", "warning"}
    assert told["rewind"].meta["to"] == "n-3"
    assert told["checkpoint"].meta["keeps"] == ["n-9", "n-5"]
    assert told["set"].meta["title"] == "Drawing a lighthouse"
    assert told["warning"].content == "Close to the limit"


def test_pictures_and_responses_in_parts_are_blocks():
    """What was sent counts, not what was displayed in its place."""
    shelf = taken(LINES, HELPER)
    assert shelf.turn(NEW, "n-1").content == [
        {"type": "text", "text": "Draw the harbour"},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
        },
    ]
    answer = shelf.turn(f"{NEW}.agent-helper-1", "h-1")
    assert answer.role == "tool"
    assert json.loads(answer.content[0]["content"]) == {"output": "x", "truncated": False}


def test_a_call_that_stands_in_the_parts_too_is_there_once(tmp_path):
    """Gemini CLI writes the parts over again when it has pressed them together."""
    call = {"id": "c", "name": "ls", "args": {"path": "."}}
    told = {**call, "result": [{"text": "a.txt"}], "status": "success"}
    path = put(
        tmp_path,
        header(),
        message("m", "gemini", [{"functionCall": call}, {"text": "!"}], toolCalls=[told]),
    )
    blocks = taken(path).turn("s", "m").content
    assert [block["type"] for block in blocks] == ["tool_use", "text", "tool_result"]


@pytest.mark.parametrize("depth", [300, 900, 5000])
def test_what_is_nested_deeply_is_kept(depth, tmp_path):
    """Arguments of tools are whatever a model has made of them."""
    deep = '{"a":' * depth + "1" + "}" * depth
    call = f'{{"id":"c","name":"n","args":{deep},"result":[{{"functionResponse":{deep}}}]}}'
    line = f'{{"id":"m","type":"gemini","content":"x","toolCalls":[{call}]}}'
    first = json.dumps(header())
    path = tmp_path / "session.jsonl"
    path.write_text(f"{first}\n{line}\n", encoding="utf-8")
    assert taken(path).native("s") == path.read_bytes()
    path = tmp_path / "session.json"
    path.write_text(f'{{\n{first[1:-1]}, "messages":[{line}]}}', encoding="utf-8")
    shelf = taken(path)
    (name,) = shelf.conversations
    back = shelf.native(name).decode().replace(" ", "").replace("\n", "")
    assert back == path.read_text(encoding="utf-8").replace(" ", "").replace("\n", "")


def test_lines_of_an_unknown_kind_are_kept_as_events(tmp_path):
    """A new release may write what nobody has seen yet."""
    path = put(tmp_path, header(), {"$patch": {"id": "m"}}, [1], "x", {"type": 5}, {"id": "m"})
    shelf = taken(path)
    assert [turn.role for turn in shelf.turns("s")] == ["event"] * 6
    assert shelf.native("s") == path.read_bytes()


def test_a_session_without_its_header_is_named_after_its_file(tmp_path):
    """The first line may be the one that was damaged."""
    shelf = taken(put(tmp_path, message("a"), name="session-2026-01-01T00-00-abcdef12.jsonl"))
    assert list(shelf.conversations) == ["session-2026-01-01T00-00-abcdef12"]


# --- generated sessions ---------------------------------------------------------------------------

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)
parts = st.one_of(
    st.text(max_size=8),
    values,
    st.fixed_dictionaries({"text": st.text() | values, "thought": st.booleans()}),
    st.fixed_dictionaries({"inlineData": st.fixed_dictionaries({"data": st.text() | values})}),
    st.fixed_dictionaries(
        {"functionCall": st.fixed_dictionaries({"id": st.text(), "args": values}) | values}
    ),
    st.fixed_dictionaries(
        {"functionResponse": st.fixed_dictionaries({"response": values}) | values}
    ),
)
calls = st.fixed_dictionaries(
    {"id": st.sampled_from(["a", "b"]) | values},
    optional={"args": values, "result": parts | st.lists(parts, max_size=2), "status": values},
)
messages = st.fixed_dictionaries(
    {"id": st.sampled_from(["a", "b", "c", "head"]) | values},
    optional={
        "type": st.sampled_from(["user", "gemini", "info", "error", "new"]) | values,
        "timestamp": st.just("2026-01-01T00:00:01Z") | values,
        "content": parts | st.lists(parts, max_size=3),
        "toolCalls": st.lists(calls | values, max_size=2) | values,
        "thoughts": st.lists(st.fixed_dictionaries({"subject": st.text()}) | values) | values,
        "model": st.text(max_size=5) | values,
    },
)
changes = st.one_of(
    st.fixed_dictionaries({"$rewindTo": st.text(max_size=3) | values}),
    st.fixed_dictionaries({"$set": st.fixed_dictionaries({"messages": values}) | values}),
    st.builds(header, session=st.sampled_from(["s", "t"]) | values),
)


@settings(deadline=None, max_examples=120)
@given(lines=st.lists(messages | changes | values, max_size=8))
def test_whatever_lines_are_read_come_back_byte_for_byte(lines, tmp_path_factory):
    """Every line is a record, whatever it says."""
    path = put(tmp_path_factory.mktemp("t"), header(), *lines)
    shelf = Shelf(gemini)
    count = shelf.take(path)
    assert count >= len(lines) + 1
    # A line that names another session begins it; each of them has its lines in order.
    found = [line for each in shelf.conversations for line in shelf.native(each).splitlines()]
    assert sorted(found) == sorted(path.read_bytes().splitlines())
    assert shelf.take(path) == 0


@settings(deadline=None, max_examples=80)
@given(given_messages=st.lists(messages | values, max_size=6), summary=values)
def test_whatever_document_is_read_comes_back_deep_equal(given_messages, summary, tmp_path_factory):
    """Nothing is dropped, whatever a fault makes of a field."""
    value = header(messages=given_messages, summary=summary)
    path = tmp_path_factory.mktemp("t") / "session.json"
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
    shelf = Shelf(gemini)
    assert shelf.take(path) == len(given_messages) + 1
    assert json.dumps(json.loads(shelf.native("s")), sort_keys=True) == json.dumps(
        value, sort_keys=True
    )
    assert shelf.take(path) == 0
