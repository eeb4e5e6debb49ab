"""Claude Code's sessions: what is said in them, by whom, and every byte of them back again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_lines import (
    DATA,
    JSON,
    Lines,
    begins,
    kept,
    line_files,
    read,
    records,
    samples,
)

from convmem.formats import claude_code
from convmem.formats.protocol import EVENT
from convmem.formats.reading.samples import Sample

few = settings(max_examples=150, deadline=None)

SESSION = "7acd37a8-2745-4b58-a8a9-46164b22ad9e"
OTHER = "2c5941bd-b9de-41d6-9414-221d175776f7"


def row(kind="user", content="hi", **more):
    return {
        "parentUuid": None,
        "isSidechain": False,
        "sessionId": SESSION,
        "type": kind,
        "message": {"role": kind, "content": content},
        "uuid": "u1",
        "timestamp": "2026-04-18T13:10:51.686Z",
        **more,
    }


def one(value):
    [record] = records(claude_code, Lines(value, stem=SESSION))
    return record


# --- recognising -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "sample"), samples(), ids=lambda value: getattr(value, "name", value)
)
def test_only_claude_code_is_taken_for_claude_code(folder, sample):
    """A format that says yes to another's file loses that file's times, tools and titles."""
    assert claude_code.recognises(sample) is (folder == "claude_code")


@pytest.mark.parametrize(
    "value",
    [
        {"display": "/init", "timestamp": 1763423406, "project": "/x", "sessionId": SESSION},
        {"role": "user", "content": "hi"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "session_meta", "payload": {"id": SESSION}, "timestamp": "2026-01-01T00:00:00Z"},
        {"sessionId": SESSION, "projectHash": "ab", "startTime": "x", "lastUpdated": "x"},
        {"id": "1", "timestamp": "x", "type": "user", "content": "hi"},
        {"id": "a", "seq": 1, "ts": "x", "role": "user", "content": "", "raw": row()},
        {"messages": [row()["message"]]},
        [row()],
        {},
    ],
)
def test_what_is_near_it_is_not_taken_for_it(value):
    """The prompt history, other tools' sessions and convmem's own turns have keys like these."""
    assert not claude_code.recognises(Lines(value).sample)


@pytest.mark.parametrize(
    "value",
    [
        row(),
        {"type": "summary", "summary": "CSS", "leafUuid": "u1"},
        {"type": "file-history-snapshot", "messageId": "u1", "snapshot": {}},
        {"type": "queue-operation", "operation": "dequeue", "sessionId": SESSION},
        {"type": "last-prompt", "lastPrompt": "hi", "sessionId": SESSION},
        {"type": "assistant", "message": {"content": []}, "uuid": "u", "session_id": SESSION},
    ],
)
def test_a_file_is_recognised_by_any_kind_that_is_its_own(value):
    """Some sessions hold a title and nothing else, or begin with snapshots for many lines."""
    assert claude_code.recognises(Lines({"type": "new-kind"}, value).sample)


# --- back again --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", line_files("claude_code"), ids=lambda path: path.stem)
def test_sample_files_come_back_byte_for_byte(path):
    """They outlive the tool that wrote them only if it could read them again."""
    found = records(claude_code, Lines.of_file(path))
    assert all(record.is_known for record in found)
    is_open = not path.read_bytes().endswith(b"\n")
    assert b"".join(claude_code.native(kept(found, unterminated=is_open))) == path.read_bytes()


def test_an_empty_file_holds_nothing():
    """One in six is empty; that is no damage, and no conversation."""
    assert records(claude_code, Lines(stem=SESSION)) == []
    assert not claude_code.recognises(Sample("x.jsonl", b""))


FIELDS = {
    "type": st.sampled_from(["user", "assistant", "system", "attachment", "progress", "summary"])
    | JSON,
    "message": st.fixed_dictionaries({"content": JSON, "model": JSON}) | JSON,
    **dict.fromkeys(
        "uuid parentUuid logicalParentUuid sessionId timestamp agentId isMeta isSidechain "
        "isCompactSummary isApiErrorMessage forkedFrom subtype content summary data attachment "
        "snapshot customTitle operation".split(),
        JSON | st.just(True),
    ),
}
ROWS = st.fixed_dictionaries({}, optional=FIELDS) | JSON


@few
@given(st.lists(ROWS, max_size=6), st.sampled_from([SESSION, "agent-3ea04571", "backup", ""]))
def test_no_record_is_lost_whatever_it_holds(values, stem):
    """The vendor changes fields without notice; the worst that may come of it is an event."""
    source = Lines(*values, stem=stem)
    found = records(claude_code, source)
    assert [record.raw for record in found] == source.raws
    assert b"".join(claude_code.native(kept(found))) == b"".join(raw + b"\n" for raw in source.raws)
    for record in found:
        assert record.role in ("user", "assistant", "tool", EVENT)
        assert type(record.content) in (str, list)
        assert record.id is None or (type(record.id) is str and record.id)
        assert type(record.ts) in (str, int, float, type(None))
        assert all(type(value) is str for value in record.meta.values())
        if record.role == EVENT:
            assert type(record.content) is str and "\n" not in record.content
            assert len(record.content) <= 200
    claude_code.recognises(source.sample)


# --- what is said ------------------------------------------------------------------------------


def test_messages_say_what_they_said():
    """Content has the house's shape already: changing it could only lose something."""
    blocks = [
        {"type": "thinking", "thinking": "Hm.", "signature": "EqQ="},
        {"type": "text", "text": "Done."},
        {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}},
    ]
    value = row("assistant", blocks, parentUuid="u0", isSidechain=False)
    value["message"]["model"] = "claude-opus-4"
    record = one(value)
    assert (record.role, record.content) == ("assistant", blocks)
    assert (record.id, record.ts) == ("u1", "2026-04-18T13:10:51.686Z")
    assert record.meta == {"parent": "u0", "model": "claude-opus-4"}
    assert one(row("user", "hello")).content == "hello"


def test_tool_results_are_said_by_tools():
    """They ride on user lines: who searches for what they said themselves finds no listings."""
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "a\nb", "is_error": True}
    assert one(row("user", [result, result])).role == "tool"
    assert one(row("user", [result, {"type": "text", "text": "and?"}])).role == "user"
    assert one(row("user", [])).role == "user"


@pytest.mark.parametrize(
    ("mark", "kind"),
    [
        ({"isMeta": True}, "meta"),
        ({"isMeta": True, "isCompactSummary": True}, "compact-summary"),
        ({"isApiErrorMessage": True}, "api-error"),
        ({"isSidechain": True}, "sidechain"),
    ],
)
def test_what_a_program_put_in_is_marked(mark, kind):
    """A caveat or a summary stands under the user's name, and was not written by them."""
    assert one(row(**mark)).meta["kind"] == kind


def test_what_nobody_said_is_an_event():
    """Kept for the way back, passed over by everything that reads."""
    value = row("system", subtype="compact_boundary", logicalParentUuid="u0")
    value |= {"message": None, "content": "Conversation compacted"}
    record = one(value)
    assert (record.role, record.content) == (EVENT, "Conversation compacted")
    assert record.meta == {"parent": "u0", "kind": "system/compact_boundary"}
    record = one({"type": "progress", "uuid": "p", "data": {"type": "hook_progress"}})
    assert (record.role, record.content, record.meta["kind"]) == (
        EVENT,
        "",
        "progress/hook_progress",
    )
    assert one({"type": "file-history-snapshot", "snapshot": {"timestamp": "T"}}).ts == "T"


def test_titles_are_told():
    """Lists show them; there is no other place where a session has a name."""
    for value in (
        {"type": "summary", "summary": "CSS margins", "leafUuid": "u1"},
        {"type": "custom-title", "customTitle": "CSS margins", "sessionId": SESSION},
        {"type": "ai-title", "aiTitle": "CSS margins", "sessionId": SESSION},
    ):
        record = one(value)
        assert record.role == EVENT
        assert record.content == record.meta["title"] == "CSS margins"


def test_a_prompt_that_was_queued_is_the_users():
    """What somebody types while the model works stands in no other record."""
    attached = {"type": "queued_command", "prompt": "and the tests?", "commandMode": "prompt"}
    record = one({"type": "attachment", "uuid": "a", "attachment": attached})
    assert (record.role, record.content) == ("user", "and the tests?")
    record = one(
        {"type": "attachment", "attachment": attached | {"commandMode": "task-notification"}}
    )
    assert record.role == EVENT


def test_kinds_that_nobody_knows_are_kept_and_said_to_be_unknown():
    """New kinds come with every version; an importer silent about them loses them."""
    for value in ({"type": "brand-new", "uuid": "u"}, row("user", None), row("user", 7), [1], 3):
        record = one(value)
        assert (record.role, record.is_known) == (EVENT, False)
        assert json.loads(record.raw) == value


# --- whose it is -------------------------------------------------------------------------------


def test_a_forks_copied_rows_belong_to_the_fork():
    """They keep the id of the session that they were copied from, and are part of this file."""
    copied = row(sessionId=OTHER)
    own = row(uuid="u2", parentUuid="u1")
    found = read(claude_code, Lines(copied, own, stem=SESSION))
    assert [name for name, _ in found] == [SESSION, SESSION]


def test_a_copy_says_of_what():
    """Some forks give their copies new ids, and say which record they were."""
    fork = {"sessionId": OTHER, "messageUuid": "u0"}
    assert one(row(forkedFrom=fork)).copy_of == "u0"
    assert one(row()).copy_of is None


def test_a_sub_agent_is_a_conversation_of_its_own():
    """Hundreds of them would drown the session that they worked for."""
    value = row(agentId="3ea04571", isSidechain=True)
    found = read(claude_code, Lines(value, row(sessionId=OTHER), stem="agent-3ea04571"))
    assert {name for name, _ in found} == {f"{SESSION}.agent-3ea04571"}
    assert found[0][1].meta["agent"] == "3ea04571"
    assert begins(claude_code, Lines(value, stem="agent-3ea04571")) == [
        (f"{SESSION}.agent-3ea04571", SESSION)
    ]
    assert begins(claude_code, Lines(value)) == [(f"{SESSION}.agent-3ea04571", SESSION)]


def test_a_session_in_a_file_named_like_an_agents_is_a_session():
    """Sub-agents are passed over unless asked for; a session must not be."""
    found = read(claude_code, Lines(row(), row(uuid="u2"), stem="agent-notes"))
    assert {name for name, _ in found} == {SESSION}


def test_without_a_name_records_belong_to_the_session_that_they_name():
    """Standard input, or a file that somebody renamed, may hold one session or many."""
    title = {"type": "summary", "summary": "x", "leafUuid": "u1"}
    values = [title, row(), title, row(sessionId=OTHER), row(uuid="u9")]
    for stem in ("", "backup"):
        found = read(claude_code, Lines(*values, stem=stem))
        assert [name for name, _ in found] == [SESSION, SESSION, SESSION, OTHER, SESSION]


def test_without_any_session_the_file_gives_its_name():
    """A file of titles alone."""
    title = {"type": "summary", "summary": "x", "leafUuid": "u1"}
    for count in (2, 255, 256, 600):
        found = read(claude_code, Lines(*[title] * count, stem="old"))
        assert [name for name, _ in found] == ["old"] * count


@few
@given(st.lists(ROWS, max_size=8), st.integers(0, 8), st.sampled_from([SESSION, "agent-1", "x"]))
def test_a_file_that_grew_is_read_on_as_if_it_had_been_whole(values, cut, stem):
    """A cron job reads a session every quarter of an hour while it is written."""
    cut = min(cut, len(values))
    memory = {}
    first = read(claude_code, Lines(*values[:cut], stem=stem), memory)
    rest = read(claude_code, Lines(*values[cut:], stem=stem), json.loads(json.dumps(memory)))
    whole = read(claude_code, Lines(*values, stem=stem))
    told = [(record.role, record.id, record.raw) for _, record in first + rest]
    assert told == [(record.role, record.id, record.raw) for _, record in whole]
    if stem == SESSION:
        assert {name for name, _ in first + rest} <= {SESSION}


def test_samples_are_who_they_say_they_are():
    """The figures of one known session: who spoke how often."""
    path = DATA / "claude_code" / "b25638d7-b104-4f06-a797-70ac33d069ed.jsonl"
    found = read(claude_code, Lines.of_file(path))
    roles = [record.role for _, record in found]
    said = {role: roles.count(role) for role in sorted(set(roles))}
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    results = sum("toolUseResult" in row for row in rows)
    assert said["tool"] == results
    assert said["assistant"] == sum(row["type"] == "assistant" for row in rows)
    assert said["user"] + said["tool"] == sum(row["type"] == "user" for row in rows)
    assert {name for name, _ in found} == {path.stem}
