"""Compaction: the old log or the new one, exact counts, and nobody's turn lost on the way."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from convmem import (
    Archive,
    ConversationNotFound,
    LockTimeout,
    Observer,
    RetentionPolicy,
    UsageError,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def chat(archive):
    """Ten turns, a day apart, the newest an hour old."""
    chat = archive.conversation("trip")
    for at in range(10):
        chat.record("user", at, id=f"t{at}", ts=NOW - timedelta(days=9 - at, hours=1))
    return chat


def contents(turns):
    """Return what the turns say."""
    return [turn.content for turn in turns]


@contextlib.contextmanager
def compacting(root, name):
    """Be another compaction of that conversation for a while."""
    with open(os.path.join(root, "default", ".locks", f"{name}.lock.c"), "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def test_the_report_is_what_was_done_to_the_last_byte(chat, log, root):
    """O26: a clean-up that failed half-way had counted what it only meant to delete."""
    before = log().read_bytes().splitlines(keepends=True)
    before.insert(7, b"nonsense\n")
    log().write_bytes(b"".join(before))
    report = chat.compact(RetentionPolicy(keep_last=4), now=NOW)
    assert (report.kept, report.dropped, report.damaged) == (4, 6, 1)
    assert report.reasons == {"keep_last": 6}
    assert report.ranges == [(1, 6)]
    assert report.bytes_before == len(b"".join(before))
    kept = before[6:7] + before[8:]
    assert report.bytes_after == log().stat().st_size == len(b"".join(kept))
    assert report.dropped_bytes == len(b"".join(before[:6]))
    folder = Path(root, "default")
    # The bytes themselves were moved: no line was written anew.
    assert (folder / ".trash" / report.trash).read_bytes() == b"".join(before[:6])
    assert (folder / ".quarantine" / report.quarantine).read_bytes() == before[7]
    assert log().read_bytes() == b"".join(kept)


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ({"keep_last": 3}, [7, 8, 9]),
        ({"keep_last": 0}, []),
        ({"max_age": timedelta(days=3)}, [7, 8, 9]),
        ({"max_age": 3 * 86_400}, [7, 8, 9]),
        ({"max_age": timedelta(days=3), "keep_last": 5}, [5, 6, 7, 8, 9]),
        ({"max_age": timedelta(days=3), "keep_last": 1}, [7, 8, 9]),
        ({"max_bytes": 1}, [9]),
        ({"max_bytes": 0, "keep_last": 9}, [9]),
        ({"keep_last": 99, "max_bytes": 10**9}, list(range(10))),
    ],
    ids=str,
)
def test_a_policy_keeps_what_it_says(chat, policy, kept):
    """S2g: limits that nobody had asked for, or that nobody kept, are no limits."""
    tried = chat.compact(RetentionPolicy(**policy), now=NOW, dry_run=True)
    assert contents(chat.tail()) == list(range(10))
    done = chat.compact(RetentionPolicy(**policy), now=NOW)
    assert contents(chat.tail()) == kept
    for name in ("kept", "dropped", "reasons", "ranges", "dropped_bytes", "bytes_before"):
        assert getattr(tried, name) == getattr(done, name)
    assert (tried.dry_run, tried.trash, tried.bytes_after) == (True, None, done.bytes_after)


def test_a_policy_that_keeps_all_is_wrong_usage(chat):
    """Rule 4: whoever compacts without saying what may go has made a mistake."""
    with pytest.raises(UsageError):
        chat.compact(RetentionPolicy())
    for wrong in ({"keep_last": -1}, {"max_bytes": -1}, {"max_age": -1}, {"keep_last": 1.5}):
        with pytest.raises(UsageError):
            RetentionPolicy(**wrong)


def test_many_conversations_are_done_exactly_and_the_rest_by_the_next_run(root, cli):
    """O26: batch 3 of 5 failed, and nobody could say what had been deleted, or go on from there."""
    names = [f"c{at}" for at in range(5)]
    with Archive.open(root, durability="none") as archive:
        for name in names:
            for at in range(6):
                archive.conversation(name).record("user", at)
    words = ("compact", "--all", "--keep-last", "2", "--json")
    with (
        compacting(root, "c2")
        if os.path.exists(os.path.join(root, "default", ".locks"))
        else contextlib.nullcontext()
    ):
        first = cli(*words, code=7)
    assert {each["continuation_id"]: each["dropped"] for each in first.objects} == {
        name: 4 for name in names if name != "c2"
    }
    assert [(each["continuation_id"], each["kind"]) for each in first.told] == [("c2", "busy")]
    second = cli(*words)
    assert {each["continuation_id"]: each["dropped"] for each in second.objects} == {
        name: 4 * (name == "c2") for name in names
    }
    trash = Path(root, "default", ".trash")
    assert sum(path.read_bytes().count(b"\n") for path in trash.iterdir()) == 20


def test_progress_is_told_and_adds_up(root):
    """O32: a long clean-up showed nothing until it was over, or was not."""

    class Watch(Observer):
        def __init__(self):
            self.steps = []

        def advanced(self, task, amount):
            assert task == "trip"
            self.steps.append(amount)

    watch = Watch()
    with Archive.open(root, durability="none", observer=watch) as archive:
        chat = archive.conversation("trip")
        for _ in range(4):
            chat.record_many([("user", "x" * 1000)] * 1500)
        report = chat.compact(RetentionPolicy(keep_last=10))
    assert sum(watch.steps) == report.bytes_before > 6_000_000
    assert len(watch.steps) > 3


def test_writers_and_followers_go_on_while_a_conversation_is_compacted(chat, archive):
    """A20, P8: nobody has to be asked to stop for a moment."""
    following = chat.follow(after=chat.cursor(), idle_timeout=5)
    for at in range(10, 60):
        chat.record("user", at)
        if at % 5 == 0:
            chat.compact(RetentionPolicy(keep_last=3))
        assert next(following).content == at
    assert following.diverged == 0
    assert [turn.seq for turn in chat.tail()] == list(range(54, 61))


def test_a_second_compaction_is_told_at_once(chat, root):
    """K26: two at one log would each undo the other's; waiting in line helps nobody."""
    with compacting(root, "trip"):
        began = time.monotonic()
        with pytest.raises(LockTimeout):
            chat.compact(RetentionPolicy(keep_last=1))
        assert time.monotonic() - began < 2
        chat.record("user", "writers are not held up")
    assert chat.compact(RetentionPolicy(keep_last=1)).dropped == 10


def test_what_is_not_there_cannot_be_compacted_and_is_not_made(archive, root):
    """Rule 6: a mistyped id is no success."""
    with pytest.raises(ConversationNotFound):
        archive.conversation("nothing").compact(RetentionPolicy(keep_last=1))
    assert not os.path.exists(root)


LOOP = """
import sys
from convmem import Archive, RetentionPolicy
from convmem.errors import LockTimeout
archive = Archive.open(sys.argv[1], durability="none")
chat = archive.conversation("trip")
print("ready", flush=True)
while True:
    for _ in range(40):
        chat.record("user", "x" * 3000)
    try:
        chat.compact(RetentionPolicy(keep_last=60), discard=True)
    except LockTimeout:
        pass
"""


def test_a_kill_at_any_moment_leaves_the_old_log_or_the_new(root, log, cli):
    """K27: a checkpoint half-written stood before the live file, and was listed as a session."""
    with Archive.open(root, durability="none") as archive:
        for at in range(100):
            archive.conversation("trip").record("user", [at, "x" * 3000])
    dice = random.Random(27)
    last = 100
    left = 0
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", LOOP, root], stdout=subprocess.PIPE, env=cli.environment
        ) as process:
            process.stdout.readline()
            time.sleep(dice.uniform(0.005, 0.06))
            process.send_signal(signal.SIGKILL)
        left += len(list(log().parent.glob(".*.tmp")))
        with Archive.open(root) as archive:
            assert [each.continuation_id for each in archive.conversations()] == ["trip"]
            chat = archive.conversation("trip")
            seqs = [turn.seq for turn in chat.turns()]
            assert len(seqs) >= 60
            assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
            assert seqs[-1] >= last
            last = chat.record("user", "after the crash").seq
            assert last == seqs[-1] + 1
    assert cli("compact", "--all", "--keep-last", "1", "--json").objects[0]["kept"] == 1
    assert not list(log().parent.rglob("*.tmp"))


def test_a_compaction_stays_done(chat, root, cli):
    """K27: the compacted view was never stored, so that a restart brought all of it back."""
    chat.compact(RetentionPolicy(keep_last=2))
    with Archive.open(root) as again:
        assert contents(again.conversation("trip").tail()) == [8, 9]
        again.conversation("trip").record("user", 10)
    assert cli("show", "trip").contents == [8, 9, 10]


def test_working_files_of_a_compaction_are_never_conversations(chat, archive, root, log, cli):
    """K27: `{session}.checkpoint.r1.jsonl` matched the pattern of sessions, and was listed."""
    chat.compact(RetentionPolicy(keep_last=5))
    log().write_bytes(b"nonsense\n" + log().read_bytes())
    chat.compact(RetentionPolicy(keep_last=2))
    (log().parent / ".trip.4711.89abcdef.tmp").write_bytes(log().read_bytes())
    assert [each.continuation_id for each in archive.conversations()] == ["trip"]
    assert archive.namespaces() == ["default"]
    assert cli("list", "--all-namespaces").text == "trip\n"
    strangers = {".trip.jsonl", ".trip.4711.89abcdef.tmp.bak", ".other.4711.89abcdef.tmp", ".x.tmp"}
    for name in strangers:
        (log().parent / name).write_bytes(b"not of this log")
    chat.compact(RetentionPolicy(keep_last=1))
    left = {path.name for path in log().parent.iterdir() if path.is_file()}
    assert left == {"trip.jsonl", *strangers}


def test_a_retry_of_a_dropped_turn_is_answered_not_stored_again(chat, root, cli):
    """A25: the turn was stored, answered into a broken connection, and compacted away since."""
    first = chat.tail(10)[4]
    chat.compact(RetentionPolicy(keep_last=2))
    assert chat.record("user", 4, id="t4").seq == first.seq
    assert (
        cli("record", "trip", "--jsonl", stdin=b'{"role":"user","content":4,"id":"t4"}').code == 0
    )
    assert contents(chat.tail()) == [8, 9]
    with Archive.open(root, remember_seconds=0) as forgetful:
        other = forgetful.conversation("trip")
        other.compact(RetentionPolicy(keep_last=1))
        assert other.record("user", 8, id="t8").seq == 11
        assert contents(other.tail()) == [9, 8]


def test_no_number_is_given_twice_though_all_turns_are_gone(chat, root, cli):
    """P4: whoever remembers "I have read up to 10" must not take a new turn for an old one."""
    chat.compact(RetentionPolicy(keep_last=0))
    assert contents(chat.tail()) == []
    assert int(cli("record", "trip", "x", "--json").objects[0]["seq"]) == 11
    chat.compact(RetentionPolicy(keep_last=0))
    chat.compact(RetentionPolicy(keep_last=0))
    with Archive.open(root) as again:
        assert again.conversation("trip").record("user", "y").seq == 12
        assert again.conversation("trip").describe().last_seq == 12


def test_a_tool_call_and_its_result_are_never_parted(archive):
    """K28's lesson, in the two usual shapes: providers refuse a result without its call."""
    chat = archive.conversation("tools")
    chat.record("user", "what is the time?")
    chat.record("assistant", [{"type": "tool_use", "id": "c1", "name": "clock", "input": {}}])
    chat.record("user", "while you look")
    chat.record("user", [{"type": "tool_result", "tool_use_id": "c1", "content": "12:00"}])
    chat.record("assistant", None, tool_calls=[{"id": "c2"}, {"id": "c3"}])
    chat.record("tool", "a", tool_call_id="c2")
    chat.record("tool", "b", tool_call_id="c3")
    chat.record("assistant", "noon")
    report = chat.compact(RetentionPolicy(keep_last=5), dry_run=True)
    assert report.ranges == [(1, 1), (3, 3)]  # what is kept need not be a suffix
    report = chat.compact(RetentionPolicy(keep_last=2))
    assert [turn.seq for turn in chat.tail()] == [5, 6, 7, 8]
    report = chat.compact(RetentionPolicy(max_bytes=300))
    assert [turn.seq for turn in chat.tail()] == [8]
    assert report.reasons == {"max_bytes": 1, "tool_pair": 2}


def test_a_turn_without_a_time_is_never_too_old(chat, log):
    """A line by hand says nothing of its age; that is no reason to throw it away."""
    with open(log(), "ab") as file:
        file.write(b'{"role":"user","content":"by hand"}\n')
    chat.compact(RetentionPolicy(max_age=timedelta(minutes=1)), now=NOW)
    assert contents(chat.tail()) == ["by hand"]


def test_what_is_left_of_a_batch_is_still_read(archive):
    """P1, P8: a batch is whole when it was written; a policy may take some of its turns later."""
    chat = archive.conversation("trip")
    chat.record_many([("user", at) for at in range(6)])
    chat.record("user", 6)
    chat.compact(RetentionPolicy(keep_last=4))
    assert contents(chat.tail()) == [3, 4, 5, 6]
    assert chat.tail().damaged == 0
    chat.record_many([("user", 7), ("user", 8)])
    chat.compact(RetentionPolicy(keep_last=1))
    assert contents(chat.turns()) == [8]
    assert chat.record("user", 9).seq == 10
    assert contents(chat.turns()) == [8, 9]
