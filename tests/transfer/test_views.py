"""What an export shows of a conversation: its last versions, one branch or all, and no riddles."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from transcripts_made import MADE, SAMPLES, chatgpt_conversation, uuid

TALK = uuid(0xABC, 0)


def branched():
    """Return a talk whose second question was asked twice; the later asking is the shown one."""
    talk = chatgpt_conversation(TALK, 4)
    first, second, third, fourth = (uuid(0x6A7, nth) for nth in range(4))
    other, answer = "other-question", "other-answer"
    for node, text, parent in ((other, "asked again", second), (answer, "said again", other)):
        role = "user" if node == other else "assistant"
        message = {**talk["mapping"][third]["message"], "id": node}
        message["author"] = {"role": role}
        message["content"] = {"content_type": "text", "parts": [text]}
        talk["mapping"][node] = {"id": node, "message": message, "parent": parent, "children": []}
        talk["mapping"][parent]["children"].append(node)
    talk["current_node"] = answer
    assert talk["mapping"][fourth]["parent"] == third
    assert first in talk["mapping"]
    return talk


def shown(desk, format="openai", **wanted):
    lines = desk.said(format=format, **wanted).decode().splitlines()
    return [message["content"] for line in lines for message in json.loads(line)["messages"]]


@pytest.fixture
def source(sources):
    """The branched talk, as an export of ChatGPT has it."""
    path = sources / "conversations.json"
    path.write_text(json.dumps([branched()]))
    return path


def test_all_branches_are_kept_and_the_active_one_can_be_asked_for(desk, source):
    """What was asked twice was said twice; whoever reads wants what the page shows."""
    desk.take(source)
    everything = {"turn 0", "turn 1", "turn 2", "turn 3", "asked again", "said again"}
    assert set(shown(desk)) == everything
    assert shown(desk, active_branch=True) == ["turn 0", "turn 1", "asked again", "said again"]


def test_the_active_branch_is_the_one_that_a_later_export_shows(desk, source):
    """Somebody went back to the first branch: no record changed but the head."""
    desk.take(source)
    talk = branched()
    talk["current_node"] = uuid(0x6A7, 3)
    talk["update_time"] = 1770009999.5
    source.write_text(json.dumps([talk]))
    assert desk.take(source).added == 1
    assert shown(desk, active_branch=True) == [f"turn {nth}" for nth in range(4)]


def test_a_talk_without_branches_is_its_own_active_branch(desk, sources):
    """Asking for it must not lose anything where there is nothing to choose."""
    for name in ("claude-code", "claude-ai", "llm", "aider"):
        MADE[name](sources, 6)
    desk.take(sources)
    assert shown(desk, active_branch=True) == shown(desk)
    assert len(shown(desk)) >= 4 * 6


def test_what_was_rewound_is_not_shown(desk, tmp_path):
    """Gemini's /rewind takes back what was said; it is kept, and left out of a talk to read."""
    desk.take(SAMPLES / "gemini" / "session-2026-04-01T09-30-7b1d0a44.jsonl")
    (talk,) = map(json.loads, desk.said(format="openai", active_branch=True).splitlines())
    told = json.dumps(talk)
    assert "lighthouse" in told
    assert "No, a boat" not in told
    assert "No, a boat" in json.dumps(desk.all_turns())


def test_roles_and_time_choose_turns(desk, sources):
    """For training on answers; for what was said last month."""
    MADE["claude-code"](sources, 6)
    desk.take(sources)
    assert shown(desk, roles=frozenset(["user"])) == [f"turn {nth} of talk 0" for nth in (0, 2, 4)]
    moment = datetime(2026, 3, 1, 0, 0, 4, tzinfo=UTC)
    assert len(shown(desk, since=moment)) == 2
    own = desk.said(format="convmem", since=moment).splitlines()
    assert [json.loads(line)["id"] for line in own] == [uuid(0, 4), uuid(0, 5)]
    # Nor does what has no time of its own belong to the day of the import.


def test_events_are_kept_and_not_shown(desk, sources):
    """Snapshots and settings were said by nobody."""
    MADE["claude-code"](sources, 2)
    desk.take(sources)
    assert "snapshot" in json.dumps(desk.all_turns())
    for format in ("openai", "sharegpt", "markdown", "html"):
        assert "file-history-snapshot" not in desk.said(format=format).decode(), format


@pytest.mark.parametrize("format", ["convmem", "openai", "sharegpt", "markdown", "html", "native"])
def test_the_same_archive_gives_the_same_bytes(desk, sources, format):
    """So that exports can be compared, and kept in a version control system."""
    for name in ("claude-code", "codex", "chatgpt"):
        MADE[name](sources, 6)
    desk.take(sources)
    first = desk.said(format=format)
    assert len(first) > 100
    assert desk.said(format=format) == first
    desk.forget()
    assert desk.said(format=format) == first
