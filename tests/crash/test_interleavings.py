"""Races that load finds only by luck, each brought about on purpose, one step at a time."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from contextlib import contextmanager

import pytest
from ledger import NAME, NAMESPACE, read_files

from convmem import (
    Archive,
    ConvmemError,
    Observer,
    RetentionPolicy,
    StorageFull,
    TurnConflict,
)
from convmem.log.locks import SidecarLock
from convmem.log.removing import rewrite


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "archive")


@pytest.fixture
def open_archive(root):
    """Open the archive as one process would; call it again to be another."""
    opened = []

    def open_one(**options):
        options = {"durability": "none", "observer": Observer(), **options}
        opened.append(Archive.open(root, **options))
        return opened[-1]

    yield open_one
    for archive in opened:
        archive.close()


def _ids(root: str) -> list[str]:
    return [line.id for line in read_files(root).log]


def test_a_retry_is_stored_once_though_an_append_without_id_came_after_the_first(
    open_archive, root
):
    """A process that remembers ids must not take for read what others wrote."""
    mine, theirs = open_archive().conversation(NAME), open_archive().conversation(NAME)
    for nth in range(4):  # enough to make it worth remembering ids
        mine.record("user", "a", id=f"mine {nth}")
    first = theirs.record("user", "once", id="theirs")
    mine.record("user", "no id given")
    assert mine.record("user", "once", id="theirs").seq == first.seq
    assert _ids(root).count("theirs") == 1


@pytest.mark.parametrize("compactor_is_the_same_process", [True, False])
def test_a_retry_is_stored_once_though_a_compaction_came_after_the_first(
    compactor_is_the_same_process, open_archive, root
):
    """What came last before a compaction is remembered as well as what came before that."""
    mine, theirs = open_archive().conversation(NAME), open_archive().conversation(NAME)
    for nth in range(4):
        mine.record("user", "a", id=f"mine {nth}")
    first = theirs.record("user", "once", id="theirs")
    if not compactor_is_the_same_process:
        mine.record("user", "no id given")
    compactor = mine if compactor_is_the_same_process else theirs
    compactor.compact(RetentionPolicy(keep_last=3))
    assert mine.record("user", "once", id="theirs").seq == first.seq
    assert _ids(root).count("theirs") == 1


def test_a_batch_retried_while_the_first_is_half_written_is_stored_once(
    open_archive, root, monkeypatch
):
    """A client that lost patience retries through another process while the first still writes."""
    mine, theirs = open_archive().conversation(NAME), open_archive().conversation(NAME)
    mine.record("user", "before")
    batch = [{"id": f"b{nth}", "role": "user", "content": "long " * 50} for nth in range(6)]
    is_half_written, may_go_on = threading.Event(), threading.Event()
    write, acquire = os.write, SidecarLock.acquire

    def write_in_two_parts(fd, data):
        if threading.current_thread() is not writer or is_half_written.is_set():
            return write(fd, data)
        written = write(fd, bytes(data[: len(data) * 2 // 3]))
        is_half_written.set()
        may_go_on.wait(10)
        return written

    def acquire_late(self, timeout_seconds):
        """Whoever retries has looked for the ids by now; the first goes on."""
        if threading.current_thread() is not writer:
            may_go_on.set()
            writer.join()
        acquire(self, timeout_seconds)

    writer = threading.Thread(target=mine.record_many, args=(batch,))
    monkeypatch.setattr(os, "write", write_in_two_parts)
    monkeypatch.setattr(SidecarLock, "acquire", acquire_late)
    writer.start()
    is_half_written.wait(10)
    again = theirs.record_many(batch)
    assert [turn.seq for turn in again] == [2, 3, 4, 5, 6, 7]
    assert _ids(root)[1:] == [f"b{nth}" for nth in range(6)]


def test_a_log_that_is_closed_to_save_descriptors_is_not_taken_from_under_a_writer(
    open_archive, root, monkeypatch
):
    """The number of a closed descriptor is given out again: the turn would go to another log."""
    archive = open_archive()
    trip, other = archive.conversation(NAME), archive.conversation("other")
    trip.record("user", "first")
    other.record("user", "first")
    logs = {log.name: log for log in archive._store._places._logs.values()}
    assert logs["other"].close_if_idle()
    is_writing, may_go_on = threading.Event(), threading.Event()
    write, close_if_idle = os.write, SidecarLock.close_if_idle

    def write_late(fd, data):
        if threading.current_thread() is writer:
            is_writing.set()
            may_go_on.wait(10)
        return write(fd, data)

    def let_a_writer_in(self, *arguments, **options):
        was_idle = close_if_idle(self, *arguments, **options)
        writer.start()
        is_writing.wait(0.5)
        return was_idle

    writer = threading.Thread(target=trip.record, args=("user", "meant for trip"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_late)
        patch.setattr(SidecarLock, "close_if_idle", let_a_writer_in)
        logs[NAME].close_if_idle()
        if writer.ident is None:  # closed in another way
            writer.start()
            is_writing.wait(0.5)
        other.record("user", "second")  # opens its log again
        may_go_on.set()
        writer.join()
    assert [turn.text for turn in trip.turns()] == ["first", "meant for trip"]
    assert [turn.text for turn in other.turns()] == ["first", "second"]


def test_a_writer_that_is_interrupted_while_it_takes_the_lock_does_not_keep_it(
    open_archive, monkeypatch
):
    """Ctrl-C in an application that goes on must not lock everybody else out."""
    mine = open_archive().conversation(NAME)
    theirs = open_archive(lock_timeout_seconds=0.2).conversation(NAME)
    mine.record("user", "first")

    def interrupted(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SidecarLock, "_still_there", interrupted)
        with pytest.raises(KeyboardInterrupt):
            mine.record("user", "never")
    assert theirs.record("user", "second").seq == 2


def test_no_number_is_given_out_twice_though_a_line_by_hand_came_during_a_compaction(
    open_archive, root
):
    """All numbered turns are dropped, and the only line that is left carries no number."""

    class ByHand(Observer):
        def advanced(self, task, amount):
            with open(os.path.join(root, NAMESPACE, f"{NAME}.jsonl"), "ab") as log:
                log.write(b'{"role":"user","content":"by hand"}\n')

    chat = open_archive(observer=ByHand()).conversation(NAME)
    for nth in range(3):
        chat.record("user", str(nth))
    chat.compact(RetentionPolicy(keep_last=0))
    assert open_archive().conversation(NAME).record("user", "new").seq == 4


def test_a_compaction_that_failed_does_not_shorten_how_long_ids_are_remembered(
    open_archive, root, monkeypatch
):
    """Its note of what it was about to drop grows old; the one that counts comes later."""
    chat = open_archive(remember_seconds=2).conversation(NAME)
    for nth in range(3):
        chat.record("user", str(nth), id=f"t{nth}")

    def fail(*arguments, **keywords):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(rewrite.Rewrite, "replace", fail)
        with pytest.raises(ConvmemError):
            chat.compact(RetentionPolicy(keep_last=1))
    chat = open_archive(remember_seconds=3600).conversation(NAME)
    chat.compact(RetentionPolicy(keep_last=1))
    time.sleep(2.1)
    assert chat.record("user", "0", id="t0").seq == 1


@pytest.fixture
def taking_the_first_line(monkeypatch):
    """A disk that has room for one line of several, and for no more."""
    write = os.write

    def write_the_first_line(fd, data):
        lines = bytes(data)
        if lines.count(b"\n") > 1:
            return write(fd, lines[: lines.index(b"\n") + 10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextmanager
    def taking():
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write_the_first_line)
            yield

    return taking


def test_a_repeated_id_whose_first_the_disk_did_not_take_is_not_answered(
    open_archive, root, taking_the_first_line
):
    """P6: the second of two that say the same is answered with the first; that one was lost."""
    archive = open_archive()
    archive.conversation(NAME).record("user", "before")
    turns = [{"id": name, "role": "user", "content": name} for name in ("fits", "lost", "lost")]
    with taking_the_first_line():
        first, *others = archive.record_to_many([(NAME, turn) for turn in turns])
    assert first.seq == 2
    assert [type(other) for other in others] == [StorageFull, StorageFull]
    assert _ids(root)[1:] == ["fits"]


@pytest.mark.parametrize("as_lines", [False, True])
def test_a_conflict_is_no_answer_either_where_the_disk_takes_only_some(
    open_archive, root, taking_the_first_line, as_lines
):
    """It has the id of a turn that was stored, and says something else."""
    archive = open_archive()
    said = [("fits", "x"), ("fits", "y"), ("lost", "z")]
    turns = [{"id": name, "role": "user", "content": content} for name, content in said]
    with taking_the_first_line():
        if as_lines:
            recorded = archive.record_lines([json.dumps(turn).encode() for turn in turns], NAME)
            assert [(line.number, line.seq) for line in recorded.answers()] == [(0, 1)]
            assert recorded.count == 1
            failures = dict(recorded.failures)
            found = [failures[1], failures[2]]
        else:
            first, *found = archive.record_to_many([(NAME, turn) for turn in turns])
            assert first.seq == 1
    assert [type(each) for each in found] == [TurnConflict, StorageFull]
    assert _ids(root) == ["fits"]
