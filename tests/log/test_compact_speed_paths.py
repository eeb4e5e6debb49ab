"""The short ways of a compaction: what it leaves alone, and what it does not do twice."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from convmem import Archive, RetentionPolicy
from convmem.log import survey

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
LEAVES_ALL = [
    RetentionPolicy(keep_last=10),
    RetentionPolicy(max_age=timedelta(days=3650)),
    RetentionPolicy(max_bytes=1 << 20),
    RetentionPolicy(keep_last=2, max_age=timedelta(days=3650), max_bytes=1 << 20),
]


def everything(root):
    """Return what stands in an archive: names, inodes, modes, sizes, times of change, bytes."""
    found = {}
    for folder, inner, names in os.walk(root):
        for name in [".", *inner, *names]:
            path = Path(folder, name)
            its = path.stat()
            content = path.read_bytes() if path.is_file() else None
            found[str(path)] = (
                its.st_ino,
                its.st_mode,
                its.st_size,
                its.st_mtime_ns,
                its.st_ctime_ns,
                content,
            )
    return found


def fill(root, name="trip", turns=5):
    """Make a conversation, and the folders and files that it gets by being recorded."""
    with Archive.open(root, durability="none") as archive:
        for at in range(turns):
            archive.conversation(name).record("user", f"turn {at}")


@pytest.mark.parametrize("policy", LEAVES_ALL, ids=repr)
@pytest.mark.parametrize("end", [b"", b'{"role":"user","conte', b'{"role":"user","content":"x"}'])
@pytest.mark.parametrize("has_locks", [True, False])
def test_a_conversation_that_the_policy_leaves_alone_changes_nothing_on_disk(
    root, log, policy, end, has_locks
):
    """A nightly run over thousands of quiet conversations must not touch a backup's worth of files.

    Also where the last line is torn, or lacks its newline: the next append heals that.
    """
    fill(root)
    if not has_locks:  # an archive that was copied without its dot-folders
        for path in log().parent.glob(".locks/*"):
            path.unlink()
        (log().parent / ".locks").rmdir()
    with log().open("ab") as file:
        file.write(end)
    before = everything(root)
    with Archive.open(root) as archive:
        archive.expect_many_compactions()
        assert archive.conversation("trip").compact(policy).dropped == 0
        assert archive.conversation("trip").compact(policy, discard=True).dropped == 0
    assert everything(root) == before


def test_compact_all_changes_nothing_but_the_conversations_that_lose_turns(root, cli, log):
    """The same by way of the command, with and without helpers."""
    for at in range(40):
        fill(root, f"quiet-{at}", turns=2)
    fill(root, "long", turns=30)
    before = everything(root)
    cli("compact", "--all", "--keep-last", "50")
    cli("compact", "--all", "--keep-last", "50", "--jobs", "2")
    assert everything(root) == before
    cli("compact", "--all", "--keep-last", "10", "--jobs", "2")
    after = everything(root)
    changed = {Path(name).name for name in before if after.get(name) != before[name]}
    made = {Path(name).name for name in set(after) - set(before)}
    assert log("long").name in changed
    assert not [name for name in changed | made if "quiet" in name]


def test_a_log_is_read_once_though_it_is_looked_at_before_it_is_locked(root, log, monkeypatch):
    """The first look costs nothing where something goes."""
    fill(root, turns=30)
    surveyed = []
    real = survey.survey_log

    def counted(*given):
        surveyed.append(given[1])
        return real(*given)

    monkeypatch.setattr(survey, "survey_log", counted)
    monkeypatch.setattr("convmem.log.compact.survey_log", counted)
    with Archive.open(root) as archive:
        size = log().stat().st_size
        assert archive.conversation("trip").compact(RetentionPolicy(keep_last=3)).dropped == 27
    assert surveyed == [size]


@pytest.mark.parametrize(
    "what, left, damaged",
    [
        ("append", ["turn 6", "turn 7", "turn 8", "turn 9", "turn 0", "turn 1"], 0),
        ("by hand", ["turn 6", "turn 7", "turn 8", "turn 9", "b"], 0),
        ("torn", ["turn 6", "turn 7", "turn 8", "turn 9"], 0),
        ("in place", ["turn 6", "turn 7", "turn 8", "turn 9"], 1),
        ("half a batch, then all of it", ["turn 8", "turn 9", "one", "two"], 0),
        ("half a batch, then another", ["turn 7", "turn 8", "turn 9", "other"], 0),
    ],
)
def test_what_changes_between_the_look_and_the_lock_is_lost_to_nobody(
    root, log, monkeypatch, what, left, damaged
):
    """Turns that came are kept, as those are that come later; else all is looked at again."""
    fill(root, turns=10)
    real = survey.preview
    before = log().read_bytes()
    with Archive.open(root, durability="none") as archive:
        archive.conversation("trip").record_many([("user", "one"), ("user", "two")])
    one, two = log().read_bytes()[len(before) :].splitlines(keepends=True)
    log().write_bytes(before + one * what.startswith("half"))

    def meddled(*given, **options):
        looked = real(*given, **options)
        if what == "append":
            fill(root, turns=2)
        elif what == "in place":  # as some editors write: a seal is broken, the size the same
            log().write_bytes(before.replace(b"turn 5", b"turn X"))
            os.utime(log(), ns=(0, 0))
        elif what == "half a batch, then another":
            with Archive.open(root, durability="none") as archive:
                archive.conversation("trip").record("user", "other")
        else:
            end = {"torn": one[:30], "by hand": b'{"role":"a","content":"b"}'}.get(what, two)
            with log().open("ab") as file:
                file.write(end)
        return looked

    monkeypatch.setattr(survey, "preview", meddled)
    with Archive.open(root) as archive:
        chat = archive.conversation("trip")
        report = chat.compact(RetentionPolicy(keep_last=4))
        assert [turn.text for turn in chat.turns()] == left
    assert report.kept == 4
    assert report.damaged == damaged
