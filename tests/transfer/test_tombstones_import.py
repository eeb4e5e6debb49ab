"""What was deleted from the archive does not come back because it still lies in a source."""

from __future__ import annotations

import json
import os

import pytest
from transcripts_made import MADE, SESSION, claude_file, claude_records, lines

from convmem import Archive, Conversation

NAME = SESSION.format(1)


@pytest.fixture
def imported(desk, sources):
    """Six turns, imported; the path of their source."""
    path = claude_file(sources)
    path.write_bytes(lines(claude_records(0, 6)))
    assert desk.take(sources).added == 6
    return path


def texts(desk):
    return [turn.text for turn in desk.turns(NAME) if turn.role in ("user", "assistant")]


def said(*nths):
    return [f"turn {nth} of talk 0" for nth in nths]


@pytest.mark.parametrize("name", [name for name in MADE if name != "convmem"])
def test_a_deleted_conversation_stays_deleted(desk, sources, cli, name):
    """Of any format: whoever deletes a talk means it, and the source may lie there for years."""
    path = MADE[name](sources, 6)
    first = desk.take(sources)
    (continuation_id,) = desk.all_turns()
    cli("delete", continuation_id)
    cli("trash", "purge", "--older-than", "0s")
    os.utime(path, (1, 1))
    assert desk.take(sources).added == 0
    desk.forget()
    again = desk.take(sources)
    assert again.added == 0
    assert again.buried == again.skipped == first.added
    assert desk.all_turns() == {}


def test_it_is_said_that_it_was_deleted(desk, imported, cli):
    """Else somebody looks for a fault where there is none."""
    (imported.parent / "sub").mkdir()
    cli("delete", NAME)
    elsewhere = imported.rename(imported.parent / "sub" / imported.name)
    told = cli("import", str(elsewhere))
    assert "6 deleted before, and not brought back" in told.text
    desk.forget()
    summary = cli("import", "--json", str(elsewhere)).objects[-1]
    assert (summary["added"], summary["buried"]) == (0, 6)


def test_revive_brings_it_back_whole(desk, imported, cli):
    """A deletion that was a mistake can be undone from the source."""
    cli("delete", NAME)
    os.utime(imported, (1, 1))
    assert desk.take(imported).added == 0
    assert desk.take(imported, revive=True).added == 6
    assert texts(desk) == said(*range(6))
    assert desk.take(imported).added == 0


def test_a_deleted_conversation_that_goes_on_has_only_what_is_new(desk, imported, cli):
    """The talk goes on in the tool: from there on it is archived again."""
    cli("delete", NAME)
    imported.write_bytes(lines(claude_records(0, 9)))
    assert desk.take(imported).added == 3
    assert texts(desk) == said(6, 7, 8)
    desk.forget()
    assert desk.take(imported).added == 0
    assert texts(desk) == said(6, 7, 8)


@pytest.mark.parametrize("forgets", [False, True], ids=["", "without the catalogue"])
def test_turns_that_compaction_dropped_stay_dropped(desk, imported, cli, forgets):
    """Retention would be in vain if every import undid it."""
    cli("compact", NAME, "--keep-last", "2", "--discard")
    assert texts(desk) == said(4, 5)
    imported.write_bytes(lines(claude_records(0, 8)))
    if forgets:
        desk.forget()
    assert desk.take(imported).added == 2
    assert texts(desk) == said(4, 5, 6, 7)
    imported.write_bytes(lines(claude_records(0, 8)) + b"\n")
    desk.forget()
    again = desk.take(imported)
    assert (again.added, again.buried) == (0, 4)


def test_what_was_dropped_comes_back_only_when_it_is_revived(desk, imported, cli):
    """Dropped turns come at the end: the log only grows there."""
    cli("compact", NAME, "--keep-last", "2", "--discard")
    assert desk.take(imported, revive=True).added == 4
    assert sorted(texts(desk)) == said(*range(6))


def test_a_copy_of_a_deleted_talk_does_not_bring_it_back_by_another_way(desk, imported, cli):
    """convmem's own export of it is imported: the same turns, so the same tombstones."""
    exported = imported.parent / "own.jsonl"
    exported.write_bytes(desk.said(format="convmem"))
    cli("delete", NAME)
    imported.unlink()
    again = desk.take(exported)
    assert (again.added, again.buried) == (0, 6)
    assert desk.all_turns() == {}


@pytest.mark.skipif(not hasattr(Conversation, "scrub"), reason="nothing can be scrubbed yet")
def test_a_scrubbed_turn_stays_scrubbed(desk, imported):
    """A credential that was taken out of the archive still stands in the source."""
    secret = "turn 3 of talk 0"
    with Archive.open(desk.root) as archive:
        archive.conversation(NAME).scrub(desk.turns(NAME)[3].id)
    assert secret not in json.dumps(desk.all_turns())
    for grown in (6, 8):
        imported.write_bytes(lines(claude_records(0, grown)))
        os.utime(imported, (grown, grown))
        desk.forget()
        assert desk.take(imported).added == grown - 6
        assert secret not in json.dumps(desk.all_turns())
    for folder, _, names in os.walk(desk.root):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                assert secret.encode() not in file.read(), name
