"""Forks and resumed copies: a talk that begins as another one did is not stored twice."""

from __future__ import annotations

import json
import re

import pytest
from desk import Desk
from transcripts_made import SESSION, claude_file, claude_records, lines, uuid, when


def native_files(desk, folder):
    found = {}
    for path in desk.give(folder).values():
        with open(path, "rb") as file:
            found[path[len(str(folder)) + 1 :]] = file.read()
    return found


def holds_once(desk, texts):
    """Assert that each of *texts* is what one turn of the archive says, and no other."""
    found = [turn["content"] for turns in desk.all_turns().values() for turn in turns]
    told = json.dumps(found)
    for text in texts:
        assert told.count(f'"{text}"') == 1, text


def said(count, of=0):
    return [f"turn {nth} of talk {of}" for nth in range(count)]


def written(sources, session, records):
    path = claude_file(sources, session)
    path.write_bytes(lines(records))
    return path


def copies(count, how, *, of_session=1, to_session=2):
    """Return copies of the first *count* records of a session, as *how* says that they differ."""
    if how == "as they were":
        return claude_records(0, count, session=of_session)
    if how == "with the new session":
        return claude_records(0, count, session=to_session)
    copied = []
    for nth, record in enumerate(claude_records(0, count, session=to_session)):
        origin = {"sessionId": SESSION.format(of_session), "messageUuid": record["uuid"]}
        parent = uuid(0xF0, nth - 1) if nth else None
        copied.append(
            {**record, "uuid": uuid(0xF0, nth), "parentUuid": parent, "forkedFrom": origin}
        )
    return copied


COPIED = ("as they were", "with the new session", "with new ids that name the old ones")


@pytest.mark.parametrize("order", ["the original first", "the fork first", "at once"])
@pytest.mark.parametrize("how", COPIED)
def test_a_fork_doubles_nothing_and_shows_the_whole_talk(desk, sources, tmp_path, how, order):
    """688 MB of prefixes that forks repeated were seen in one home directory."""
    original = written(sources, 1, claude_records(0, 10))
    fork = written(sources, 2, copies(8, how) + claude_records(0, 3, session=2, of=9))
    as_it_was = {path.name: path.read_bytes() for path in (original, fork)}
    first, second = (original, fork) if order == "the original first" else (fork, original)
    if order == "at once":
        summary = desk.take(sources)
        added = summary.added
    else:
        added = desk.take(first).added + desk.take(second).added
    assert added == 13
    holds_once(desk, said(10) + said(3, of=9))
    assert native_files(desk, tmp_path / "out") == as_it_was

    shown = desk.said(SESSION.format(2), format="markdown").decode()
    for text in said(8) + said(3, of=9):
        assert shown.count(text) == 1, text
    (talk,) = map(json.loads, desk.said(SESSION.format(2), format="openai").splitlines())
    assert len(talk["messages"]) == 11

    before = desk.all_turns()
    assert desk.take(sources).added == 0
    desk.forget()
    assert desk.take(sources).added == 0
    assert desk.take(tmp_path / "out").added == 0
    assert desk.all_turns() == before


@pytest.mark.parametrize("how", COPIED[:2])
def test_a_fork_of_a_fork_doubles_nothing(desk, sources, tmp_path, how):
    """What the second fork repeats lies in the first talk, in part; in the first fork, in part."""
    own = claude_records(0, 4, session=2, of=9)
    records = {
        1: claude_records(0, 10),
        2: copies(8, how) + own,
        3: copies(8, how, to_session=3)
        + (own if how == COPIED[0] else claude_records(0, 4, session=3, of=9))[:3]
        + claude_records(0, 2, session=3, of=11),
    }
    for session, each in records.items():
        written(sources, session, each)
    assert desk.take(sources).added == 10 + 4 + 2
    holds_once(desk, said(10) + said(4, of=9) + said(2, of=11))
    as_it_was = {
        claude_file(sources, session).name: lines(each) for session, each in records.items()
    }
    assert native_files(desk, tmp_path / "out") == as_it_was
    shown = desk.said(SESSION.format(3), format="markdown").decode()
    for text in said(8) + said(3, of=9) + said(2, of=11):
        assert shown.count(text) == 1, text
    desk.forget()
    assert desk.take(sources).added == 0


def test_a_long_copy_is_told_in_few_turns(desk, sources, tmp_path):
    """More records than are stored at once: told by references that do not grow with them."""
    written(sources, 1, claude_records(0, 4_500))
    fork = written(sources, 2, claude_records(0, 4_400) + claude_records(0, 3, session=2, of=9))
    assert desk.take(sources).added == 4_503
    assert len(desk.turns(SESSION.format(2))) < 20
    assert native_files(desk, tmp_path / "out")[fork.name] == fork.read_bytes()
    (talk,) = map(json.loads, desk.said(SESSION.format(2), format="openai").splitlines())
    assert len(talk["messages"]) == 4_403
    desk.forget()
    assert desk.take(sources).added == 0


def test_a_fork_that_goes_on_adds_what_is_new(desk, sources, tmp_path):
    """Both talks go on after they parted, and the fork's copy is not looked at again."""
    written(sources, 1, claude_records(0, 10))
    written(sources, 2, claude_records(0, 8))
    assert desk.take(sources).added == 10
    written(sources, 1, claude_records(0, 12))
    fork = written(sources, 2, claude_records(0, 8) + claude_records(0, 3, session=2, of=9))
    assert desk.take(sources).added == 5
    assert native_files(desk, tmp_path / "out")[fork.name] == fork.read_bytes()


def test_a_fork_is_whole_whatever_becomes_of_the_original(desk, sources, cli, tmp_path):
    """A rule that lets old sessions go must not hollow out the one that was resumed yesterday."""
    written(sources, 1, claude_records(0, 10))
    fork = written(sources, 2, claude_records(0, 8) + claude_records(0, 3, session=2, of=9))
    desk.take(sources)
    before = cli("export", SESSION.format(2), "--to", "markdown").out
    cli("delete", SESSION.format(1))
    cli("trash", "purge", "--older-than", "0s", "--yes")
    assert cli("export", SESSION.format(2), "--to", "markdown").out == before
    assert b"turn 2 of talk 0" in before
    cli("export", SESSION.format(2), "--to", "native", "-o", str(tmp_path / "out"))
    assert (tmp_path / "out" / fork.name).read_bytes() == fork.read_bytes()
    assert desk.take(sources).added == 0


def test_a_fork_is_read_at_a_terminal_and_by_models_with_what_it_copied(desk, sources, cli):
    """Who resumes a session resumes what was said in it."""
    written(sources, 1, claude_records(0, 10))
    written(sources, 2, claude_records(0, 8) + claude_records(0, 3, session=2, of=9))
    desk.take(sources)
    shown = cli("context", SESSION.format(2), "--max-tokens", "100000", "--format", "messages")
    told = [each["content"] for each in json.loads(shown.out)]
    assert told.index("turn 2 of talk 0") < told.index("turn 2 of talk 9")


def test_copies_are_found_and_scrubbed_where_they_lie(desk, sources, cli, tmp_path):
    """A credential that stands in a fork, too, is named there, and no import brings it back."""
    written(sources, 1, claude_records(0, 10))
    written(sources, 2, claude_records(0, 8) + claude_records(0, 3, session=2, of=9))
    desk.take(sources)
    first = next(turn for turn in desk.turns(SESSION.format(1)) if turn.content)
    told = cli("scrub", SESSION.format(1), first.id, "--yes")
    hint = re.search(r"convmem scrub (\S+) (copied-\S+)", told.err)
    assert hint is not None
    cli("scrub", hint[1], hint[2], "--yes")
    desk.forget()
    assert desk.take(sources).added == 0
    for path in desk.give(tmp_path, "markdown").values():
        with open(path, encoding="utf-8") as file:
            assert first.content not in file.read()


def test_a_codex_fork_tells_its_parents_records_with_new_times(desk, sources, tmp_path):
    """Codex gives the copies the time of the copying."""

    def rollout(name, kept, forked=None, later=0):
        head = {"id": uuid(0xC0DE, name), "cwd": "/x"}
        if forked:
            head["forked_from_id"] = forked
        records = [{"timestamp": when(later), "type": "session_meta", "payload": head}]
        return records, kept

    def item(nth, says, later=0):
        part = {"type": "input_text", "text": says}
        payload = {"type": "message", "role": "user", "content": [part]}
        return {"timestamp": when(nth + later), "type": "response_item", "payload": payload}

    parent, _ = rollout(1, None)
    parent += [item(nth, f"turn {nth} of talk 0") for nth in range(10)]
    head, _ = rollout(2, None, forked=uuid(0xC0DE, 1), later=900)
    copied = [{**each, "timestamp": when(901)} for each in parent[:9]]
    fork = [*head, *copied, *[item(nth, f"turn {nth} of talk 9", later=950) for nth in range(3)]]
    for nth, records in ((1, parent), (2, fork)):
        name = f"rollout-2026-03-01T10-00-0{nth}-{uuid(0xC0DE, nth)}.jsonl"
        (sources / name).write_bytes(lines(records))
    as_it_was = {each.name: each.read_bytes() for each in sources.iterdir()}
    assert desk.take(sources).added == len(parent) + 1 + 3
    assert native_files(desk, tmp_path / "out") == as_it_was
    shown = desk.said(uuid(0xC0DE, 2), format="markdown").decode()
    for text in said(8) + said(3, of=9):
        assert shown.count(text) == 1, text
    desk.forget()
    assert desk.take(sources).added == 0


def test_a_fork_goes_to_another_archive_whole(desk, sources, tmp_path):
    """convmem's own export of all has the original and the references: nothing is lost."""
    written(sources, 1, claude_records(0, 10))
    fork = written(sources, 2, claude_records(0, 8) + claude_records(0, 3, session=2, of=9))
    desk.take(sources)
    exported = tmp_path / "all.jsonl"
    exported.write_bytes(desk.said(format="convmem"))
    other = Desk(tmp_path / "other")
    other.take(exported)
    assert other.all_turns() == desk.all_turns()
    assert native_files(other, tmp_path / "out")[fork.name] == fork.read_bytes()
    assert other.take(sources).added == 0
