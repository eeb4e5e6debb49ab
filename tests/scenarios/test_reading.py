"""Reading: the file is the only truth, and what a reader asks for is what it gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from convmem import Archive, ConversationNotFound, RetentionPolicy, UsageError


@pytest.fixture
def ten(archive):
    """A conversation of ten turns."""
    chat = archive.conversation("trip")
    for at in range(10):
        chat.record("user", at)
    return chat


def contents(turns):
    """Return what the turns say."""
    return [turn.content for turn in turns]


def test_a_short_look_does_not_limit_the_next_one(ten, root, cli):
    """A1: the cache that a look for 2 had filled was taken for the whole history ever after."""
    with Archive.open(root) as fresh:
        chat = fresh.conversation("trip")
        assert contents(chat.tail(2)) == [8, 9]
        assert contents(chat.tail(10)) == list(range(10))
        assert contents(fresh.conversation("trip").tail(5)) == [5, 6, 7, 8, 9]
    assert cli("tail", "trip", "-n", "2").contents == [8, 9]
    assert cli("tail", "trip", "-n", "10").contents == list(range(10))


def test_the_first_write_after_a_restart_hides_nothing(ten, root):
    """A2: it made a list of one, and that list stood for the conversation."""
    with Archive.open(root) as fresh:
        chat = fresh.conversation("trip")
        chat.record("user", "new")
        assert contents(chat.tail(6)) == [5, 6, 7, 8, 9, "new"]
        assert len(list(chat.turns())) == 11


def test_what_another_process_recorded_is_in_the_next_read(ten, cli):
    """A3: a process that had read a conversation once was blind to the others for life."""
    following = ten.follow(idle_timeout=0.05)
    assert contents(following) == list(range(10))
    for at in range(3):
        assert len(ten.tail(100)) == 10 + at
        cli("record", "trip", f"theirs {at}")
        assert ten.tail(1)[0].content == f"theirs {at}"
        assert contents(ten.turns(after=10 + at)) == [f"theirs {at}"]
        assert ten.describe().last_seq == 11 + at


def test_a_turn_that_comes_while_somebody_reads_is_in_the_next_read(ten):
    """A4: filling the cache overwrote what had been written meanwhile; the turn was gone."""
    reading = ten.turns()
    first = next(reading)
    ten.record("user", "meanwhile")
    assert contents([first, *reading]) == list(range(10))  # as of when it began
    assert contents(ten.turns()) == [*range(10), "meanwhile"]
    assert contents(ten.tail(2)) == [9, "meanwhile"]


def test_readers_see_whole_turns_only_while_many_are_written(archive):
    """A4, P1, P5: a reader never meets half a turn, half a batch, or a gap."""
    chat = archive.conversation("trip")
    chat.record("user", ["single", 0])
    done = threading.Event()
    answered = 1

    def write():
        nonlocal answered
        try:
            for at in range(150):
                if at % 3:
                    answered = chat.record("user", ["single", "x" * (at * 97 % 9000)]).seq
                else:
                    batch = [("user", ["batch", at, place]) for place in range(3)]
                    answered = chat.record_many(batch)[-1].seq
        finally:
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not done.is_set():
            least = answered
            for turns in (chat.tail(20), list(chat.turns())[-20:]):
                assert turns[-1].seq >= least
                seqs = [turn.seq for turn in turns]
                assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
                places = [turn.content[2] for turn in turns if turn.content[0] == "batch"]
                assert not places or places[-1] == 2
                least = turns[-1].seq
    finally:
        writer.join()
    assert len(list(chat.turns())) == 251


@pytest.mark.parametrize("count", [0, 1, 6, 10, 11, 10**9])
def test_a_count_is_taken_at_its_word(ten, count):
    """A10, K22: none was all, for a zero is false."""
    found = ten.tail(count)
    assert contents(found) == list(range(10))[max(0, 10 - count) :]
    assert found.damaged == 0


@pytest.mark.parametrize("count", [-1, -3, 2.0, "3", True])
def test_a_count_that_makes_no_sense_is_wrong_usage(ten, count):
    """A10: minus three were seven of ten turns."""
    with pytest.raises(UsageError):
        ten.tail(count)


BYTES_READ = """
import json, sys
from convmem import Archive
def read():
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])
with Archive.open(sys.argv[1]) as archive:
    chat = archive.conversation("trip")
    chat.tail(1)
    before = read()
    turns = chat.tail(6)
    print(json.dumps([read() - before, [turn.content for turn in turns]]))
    before = read()
    seq = chat.record("user", "new").seq
    print(json.dumps([read() - before, seq]))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="no /proc/self/io here")
def test_the_end_of_a_gigabyte_is_read_without_the_rest(ten, root, log):
    """A17: the whole file was read, decoded and split, for six turns."""
    lines = log().read_bytes()
    with open(log(), "r+b") as file:
        # A hole, so that it is a gigabyte for every reader but not for the disk.
        file.truncate(0)
        file.seek(1 << 30)
        file.write(b"\n" + lines)
    done = subprocess.run(
        [sys.executable, "-c", BYTES_READ, root], stdout=subprocess.PIPE, check=True, timeout=60
    )
    (tail_cost, tail), (record_cost, seq) = map(json.loads, done.stdout.splitlines())
    assert tail == [4, 5, 6, 7, 8, 9]
    assert tail_cost < 20_000
    assert seq == 11
    assert record_cost < 50_000


def test_a_conversation_that_is_not_there_is_not_an_empty_one(archive, ten):
    """A27's lesson: "no such conversation", "nothing in it" and "cannot read" are three answers."""
    missing = archive.conversation("nothing")
    for attempt in (missing.tail, missing.turns, missing.describe, missing.cursor):
        with pytest.raises(ConversationNotFound):
            attempt()
    with pytest.raises(ConversationNotFound):
        missing.compact(RetentionPolicy(keep_last=1))
    ten.compact(RetentionPolicy(keep_last=0))
    assert ten.exists()
    assert contents(ten.tail()) == []


def test_a_file_that_was_replaced_is_read_as_it_is_now(ten, log, cli):
    """A20: a list in memory was served for ever after the file had been compacted or removed."""
    assert len(ten.tail(10)) == 10
    cli("compact", "trip", "--keep-last", "3")
    assert contents(ten.tail(10)) == [7, 8, 9]
    log().write_bytes(b'{"role":"user","content":"restored"}\n')
    assert contents(ten.tail(10)) == ["restored"]
    log().unlink()
    with pytest.raises(ConversationNotFound):
        ten.tail(10)
    cli("record", "trip", "anew")
    assert contents(ten.tail(10)) == ["anew"]


def test_no_verb_that_reads_changes_a_byte(ten, root, log, cli):
    """K6: saving a session "read-only" opened its log for writing and emptied it."""
    with log().open("ab") as file:
        file.write(b'not a turn\n{"torn')
    before = {
        path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
        for path in log().parent.rglob("*")
        if path.is_file()
    }
    for words in (
        ["tail", "trip"],
        ["tail", "trip", "-n", "all"],
        ["show", "trip"],
        ["list", "-l"],
        ["list", "--all-namespaces", "--json"],
        ["path", "trip"],
        ["compact", "trip", "--keep-last", "1", "--dry-run"],
    ):
        cli(*words)
    contents(ten.follow(idle_timeout=0))
    ten.cursor()
    after = {
        path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
        for path in log().parent.rglob("*")
        if path.is_file()
    }
    assert after == before


def test_a_turn_recorded_after_anything_else_is_there(ten, cli, log):
    """K7: a loader stopped at the first line that looked like a saved session."""
    with log().open("ab") as file:
        file.write(b'{"messages":[{"role":"user","content":"a whole session in one line"}]}\n')
        file.write(b'{"role":"user","content":"by hand","messages":[]}\n')
    cli("compact", "trip", "--keep-last", "5")
    ten.record("user", "after all that")
    assert contents(ten.tail(10)) == [6, 7, 8, 9, "by hand", "after all that"]
    assert cli("show", "trip").contents == [6, 7, 8, 9, "by hand", "after all that"]


def test_a_follower_is_given_every_turn_once_through_all_that_may_happen(ten, cli, log):
    """A20, P9: appends by others, compaction, removal; and a restart from its cursor."""
    following = ten.follow(idle_timeout=10)
    assert [next(following).content for _ in range(10)] == list(range(10))
    ten.record("user", 10)
    cli("record", "trip", "11")
    ten.compact(RetentionPolicy(keep_last=1))
    ten.record("user", 12)
    assert [next(following).content for _ in range(3)] == [10, "11", 12]
    cursor = str(following.cursor)
    ten.record("user", 13)
    assert next(following).content == 13
    following.close()
    assert contents(following) == []
    again = ten.follow(after=cursor, idle_timeout=0)
    assert contents(again) == [13]
    log().unlink()
    cli("record", "trip", "anew")
    beyond = ten.follow(after=str(again.cursor), idle_timeout=0)
    assert contents(beyond) == ["anew"]
    assert beyond.diverged == 1
