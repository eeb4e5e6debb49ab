"""Repairing a log: every turn that is whole is readable afterwards, and no byte is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from collections import Counter
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from verify_logs import BY_HAND, batch, broken_logs, line

from convmem import Archive, LockTimeout, StorageError, StorageFull
from convmem.log import codec, files, read
from convmem.log.append import Log
from convmem.log.checks import repair, verify
from convmem.log.files import Folder
from convmem.log.removing import rewrite


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    """Nobody is writing: what is unfinished at the end stays so."""
    monkeypatch.setattr(verify, "_WRITING_SECONDS", 0)
    monkeypatch.setattr(read, "_WRITING_SECONDS", 0)


class Bench:
    """A log that is broken and repaired."""

    def __init__(self, root):
        self.root = Path(root)
        self.folder = self.root / "default"
        self.folder.mkdir(mode=0o700, parents=True)
        self.log = self.folder / "trip.jsonl"

    def write(self, data):
        self.log.write_bytes(data)
        shutil.rmtree(self.folder / ".quarantine", ignore_errors=True)

    def quarantined(self):
        return b"".join(path.read_bytes() for path in sorted(self.folder.glob(".quarantine/*")))

    def read(self):
        """Return what readers see, as lines."""
        with Archive.open(self.root) as archive:
            return [each.line for each in archive.conversation("trip").stored_turns()]

    def turns(self):
        with Archive.open(self.root) as archive:
            chat = archive.conversation("trip")
            found = [(turn.seq, turn.content) for turn in chat.turns()]
            assert found == [(turn.seq, turn.content) for turn in chat.tail(100_000)]
            return found

    def verify(self):
        with self.log.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return verify.verify(file.fileno(), size, lambda each: None, lambda amount: None)

    def preview(self):
        with self.log.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return repair.preview(file.fileno(), size, lambda amount: None)

    def repair(self):
        folder = Folder.open(str(self.folder))
        try:
            return repair.repair(
                Log(folder, "trip"),
                timeout_seconds=5,
                healed=lambda kept: None,
                advanced=lambda amount: None,
            )
        finally:
            folder.close()

    def files(self):
        found = {}
        for path in self.root.rglob("*"):
            if path.parent.name != ".locks" and path.is_file():
                at = path.stat()
                found[path] = (at.st_ino, at.st_mtime_ns, path.read_bytes())
        return found


@pytest.fixture
def bench(root):
    return Bench(root)


def as_told(report):
    """Return a report without what a dry run cannot know."""
    return {
        name: getattr(report, name)
        for name in report.__slots__
        if name not in ("dry_run", "quarantine")
    }


def mend(bench, data):
    """Repair a log of *data*; return the report, having checked what holds of every repair."""
    bench.write(data)
    before = bench.files()
    read = bench.read()
    expected = bench.preview()
    assert bench.files() == before, "a dry run changes nothing"
    report = bench.repair()
    assert as_told(report) == as_told(expected)
    after = bench.log.read_bytes()
    aside = bench.quarantined()
    if not report.is_changed:
        assert bench.files() == before
    assert report.bytes_after == len(after) and report.bytes_before == len(data)
    assert report.set_aside_bytes == len(aside)
    assert (report.quarantine is not None) == bool(aside)
    # P7: every byte is in the log or in the quarantine. What came to it: newlines, and a mark.
    lost = Counter(data) - Counter(after) - Counter(aside)
    added = Counter(after) + Counter(aside) - Counter(data)
    assert not lost
    assert report.loosened or b"_last_seq" in after or set(added) <= {ord("\n")}
    for piece in after.splitlines():
        assert piece in data or codec.is_seq_floor(piece) or (report.loosened and b"_c" in piece), (
            piece
        )
    # Nobody loses a turn that he saw.
    still = [codec.line_crc(each) for each in bench.read()]
    assert {codec.line_crc(each) for each in read} <= set(still)
    checked = bench.verify()
    assert checked.found == report.left, (checked.findings, after)
    assert checked.lines["blank"] == 0 or not report.is_changed
    if not report.left:
        seqs = [seq for seq, _ in bench.turns() if seq]
        assert seqs == sorted(set(seqs))
    # And again: nothing is left to do.
    stood = bench.files()
    again = bench.repair()
    assert not again.is_changed and bench.files() == stood
    assert again.left == report.left
    return report


def test_where_nothing_is_wrong_nothing_is_touched(bench):
    """A repair of all conversations must not rewrite an archive."""
    for data in (b"", line(1) + batch(2, 3) + codec.seq_floor_line(9), line(1) + BY_HAND):
        report = mend(bench, data)
        assert not report.is_changed and report.quarantine is None
    assert not (bench.folder / ".locks").exists()


def test_two_records_on_one_line_become_two_lines(bench):
    """K9, transcripts.md §4.8: a lost newline took two turns away."""
    report = mend(bench, line(1) + line(2)[:-1] + line(3)[:-1] + BY_HAND + b"\n" + line(4))
    assert bench.log.read_bytes() == line(1) + line(2) + line(3) + BY_HAND + b"\n" + line(4)
    assert (report.split, report.rescued, report.set_aside_bytes) == (1, 3, 0)
    assert report.quarantine is None


@pytest.mark.parametrize("behind", [line(9), b""], ids=["middle", "end"])
@pytest.mark.parametrize("newline", [b"\n", b""], ids=["newline", "none"])
def test_a_truncated_record_leaves_the_whole_one_behind_it(bench, behind, newline):
    """A6: what a crash tore, with the next record glued to it; also as the log's last line."""
    for cut in (1, 30, 85, 100, len(line(2)) - 2):
        data = line(1) + line(2)[:cut] + line(3)[:-1] + (newline or behind[:0])
        mend(bench, data + (behind if newline else b""))
        expected = line(1) + line(3) + (behind if newline else b"")
        assert bench.log.read_bytes() == expected
        assert bench.quarantined() == line(2)[:cut]


def test_nul_runs_go_and_what_stood_beside_them_stays(bench):
    """P7: ext4 leaves NUL bytes after a power cut, and the next record behind them."""
    report = mend(bench, line(1) + b"\0" * 5000 + line(2) + b"\0" * 600 + b"\n" + line(3))
    assert bench.log.read_bytes() == line(1) + line(2) + line(3)
    assert bench.quarantined() == b"\0" * 5600 + b"\n"
    assert report.set_aside == {"nul": 2}


def test_what_is_no_turn_is_set_aside_and_its_neighbours_stay(bench):
    """A5, A11, K8, S2i: six bad lines hid six good ones; popping while walking skipped others."""
    bad = [b"42\n", b'"str"\n', b"null\n", b"\n", b"[]\n", b"nonsense\n"]
    data = b"".join(line(at + 1) + each for at, each in enumerate(bad)) + b"".join(bad)
    report = mend(bench, data)
    assert bench.log.read_bytes() == b"".join(line(at + 1) for at in range(len(bad)))
    assert sum(report.set_aside.values()) == 12


def test_a_log_that_is_no_log_at_all_is_kept_whole_in_the_quarantine(bench):
    """S2j: validation deleted a whole conversation that was not as expected."""
    mend(bench, b'{"messages":[]}\n' + b"junk" * 100)
    assert bench.quarantined() == b'{"messages":[]}\n' + b"junk" * 100
    assert bench.turns() == []


def test_a_seq_that_only_a_damaged_line_had_is_not_given_out_again(bench):
    """P4: the turn was answered with it before the disk lost it."""
    for rotten in (line(2).replace(b"hello", b"hellp"), line(2)[:90] + line(3)[:-1] + b"x\n"):
        mend(bench, line(1) + rotten)
        with Archive.open(bench.root) as archive:
            highest = 3 if b"t3" in rotten else 2
            assert archive.conversation("trip").record("user", "next").seq == highest + 1


def test_half_a_batch_goes_and_a_batch_that_lost_its_end_stays(bench):
    """P1: the one was never answered; the other was, before its last line was damaged."""
    one, two, three = batch(2, 3).splitlines(keepends=True)
    mend(bench, line(1) + one + two + line(9))
    assert bench.turns() == [(1, "hello"), (9, "hello")]
    assert bench.quarantined() == one + two
    report = mend(bench, line(1) + one + two + three.replace(b"hello", b"hellp") + line(9))
    assert [seq for seq, _ in bench.turns()] == [1, 2, 3, 9]
    assert report.loosened == 2
    assert one + two in bench.quarantined()
    mend(bench, line(1) + one + two[:-1] + three + line(9))
    assert bench.log.read_bytes() == line(1) + batch(2, 3) + line(9)


def test_sealed_lines_appended_by_hand_are_put_in_order(bench):
    """`cat trash >> log`: the turns have their places, and each is there once."""
    lines = [line(at) for at in range(1, 9)]
    by_hand = BY_HAND + b"\n"
    data = b"".join([*lines[4:6], by_hand, *lines[6:], *lines[:4], lines[6]])
    report = mend(bench, data)
    assert bench.log.read_bytes() == b"".join([*lines[:6], by_hand, *lines[6:]])
    assert (report.moved, report.copies) == (4, 1)
    assert bench.quarantined() == lines[6]


def test_two_logs_in_one_file_are_left_in_the_order_they_stand_in(bench):
    """Sorting them would shuffle two conversations like cards, and nobody could undo that."""
    one = [line(at, turn_id=f"a{at}") for at in (1, 2, 3)]
    two = [line(at, turn_id=f"b{at}") for at in (1, 2, 3)]
    report = mend(bench, b"".join(one + two) + b"junk\n")
    assert bench.log.read_bytes() == b"".join(one + two)
    assert report.left == {"seq_disorder": 3}


def test_turns_of_one_id_that_differ_all_stay(bench):
    """Which of them is right, only people can tell."""
    data = line(1) + line(2, "other", turn_id="t1") + line(3, turn_id="t1")
    report = mend(bench, data)
    assert not report.is_changed and report.left == {"duplicate_id": 2}


def test_a_record_that_comes_to_light_is_not_doubled_by_its_retry(bench):
    """It could not be found when the client asked again, so the retry was stored as well."""
    data = line(1)[:70] + line(2, "question", turn_id="q")[:-1] + b"\n" + line(3)
    report = mend(bench, data + line(4, "question", turn_id="q") + line(5))
    assert bench.turns() == [(3, "hello"), (4, "question"), (5, "hello")]
    assert report.copies == 1 and b"question" in bench.quarantined()


@settings(max_examples=150, deadline=None)
@given(broken_logs())
def test_any_broken_log_is_sound_afterwards_and_no_byte_is_lost(tmp_path_factory, data):
    """P7, P10, and all that ``mend`` checks: a dry run is exact, a second repair finds nothing."""
    bench = Bench(tmp_path_factory.mktemp("archive"))
    if mend(bench, data).left:
        return
    with Archive.open(bench.root) as archive:
        chat = archive.conversation("trip")
        highest = max([turn.seq for turn in chat.turns() if turn.seq] or [0])
        assert chat.record("user", "next").seq > highest


def test_every_intact_record_of_any_broken_log_is_readable_afterwards(bench):
    """A record cut at any byte, the next glued to it; each of the others is there, in order."""
    for cut in range(len(line(3))):
        mend(bench, line(1) + line(2) + line(3)[:cut] + line(4) + line(5))
        seqs = [seq for seq, _ in bench.turns()]
        assert seqs == [1, 2, *([3] if cut == len(line(3)) - 1 else []), 4, 5]


def test_what_others_record_meanwhile_is_kept(bench):
    """P8: a repair takes as long as the log is; nobody stops talking for it."""
    bench.write(b"".join(line(at) + b"junk\n" for at in range(1, 2000)) + line(2000)[:50])
    stop = threading.Event()
    answered = []

    def talk():
        with Archive.open(bench.root, durability="none") as archive:
            chat = archive.conversation("trip")
            while not stop.is_set():
                answered.append(chat.record("user", f"word {len(answered)}"))

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        while len(answered) < 20:
            pass
        report = bench.repair()
        so_far = len(answered)
        while len(answered) < so_far + 20:
            pass
    finally:
        stop.set()
        talker.join()
    assert report.is_changed
    seqs = [seq for seq, _ in bench.turns()]
    assert seqs[:1999] == list(range(1, 2000))
    assert seqs[1999:] == [turn.seq for turn in answered]
    assert not bench.verify().is_damaged


def test_another_repair_or_compaction_at_work_is_told_and_nothing_changes(bench):
    """Two rewrites of one log would lose what the first one did."""
    bench.write(line(1) + b"junk\n" + line(2)[:60])
    folder = Folder.open(str(bench.folder))
    with rewrite.exclusive(folder, "trip"), pytest.raises(LockTimeout):
        bench.repair()
    folder.close()
    assert bench.log.read_bytes() == line(1) + b"junk\n" + line(2)[:60]


DATA = line(1) + line(2)[:60] + line(3) + b"\0" * 99 + b"\n" + line(5) + line(4) + line(6)[:70]
SOUND = line(1) + line(3) + line(4) + line(5)
CALLS = ["write", "fdatasync", "fsync", "rename", "ftruncate", "open"]


@contextlib.contextmanager
def failing(name, nth):
    """Let the *nth* call of ``os.name`` fail for want of room; tell whether it came to that."""
    real = getattr(os, name)
    calls = [0]

    def call(*args, **kwargs):
        calls[0] += 1
        if calls[0] == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    with mock.patch.object(os, name, call), mock.patch.object(files, "sync_data", os.fdatasync):
        yield calls


@pytest.mark.parametrize("name", CALLS)
def test_a_fault_at_any_call_loses_nothing_and_a_second_repair_ends_it(bench, name):
    """P7, P11: the log is the old one or the new one, and all bytes are there."""
    for nth in range(1, 60):
        bench.write(DATA)
        with failing(name, nth) as calls:
            try:
                bench.repair()
            except (StorageError, StorageFull):
                pass
        holds_all(bench)
        bench.repair()
        assert bench.log.read_bytes().startswith(SOUND)
        holds_all(bench)
        assert not bench.verify().is_damaged
        if calls[0] < nth:
            break
    else:
        pytest.fail("it never came to an end")
    assert nth > 1 or name == "ftruncate"


def die_at(name, nth, is_done):
    """Have this process end at the *nth* call of ``os.name``."""
    real = getattr(os, name)
    calls = [0]

    def call(*args, **kwargs):
        calls[0] += 1
        if calls[0] == nth and not is_done:
            os._exit(77)
        answer = real(*args, **kwargs)
        if calls[0] == nth:
            os._exit(77)
        return answer

    setattr(os, name, call)
    for module in (files, repair, rewrite):
        module.sync_data = lambda fd: os.fdatasync(fd)


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", CALLS)
def test_death_at_any_call_loses_nothing_and_a_second_repair_ends_it(bench, name, is_done):
    """P7, P8: a real process that dies, before or after the call took effect."""
    for nth in range(1, 60):
        bench.write(DATA)
        child = os.fork()
        if child == 0:
            try:
                die_at(name, nth, is_done)
                bench.repair()
            finally:
                os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        holds_all(bench, may_leave_temporary=True)
        bench.repair()
        assert bench.log.read_bytes().startswith(SOUND)
        holds_all(bench)
        assert not bench.verify().is_damaged
        if status == 0:
            break
        assert status == 77
    else:
        pytest.fail("it never came to an end")
    assert nth > 1 or name == "ftruncate"


def holds_all(bench, *, may_leave_temporary=False):
    """Check that the log holds the old lines or the new ones, and that no byte is gone."""
    log, aside = bench.log.read_bytes(), bench.quarantined()
    assert log.startswith((SOUND, DATA))
    assert not Counter(DATA) - Counter(log) - Counter(aside)
    left = [*bench.folder.glob(".quarantine/.*"), *bench.folder.glob(".trip.*.tmp")]
    assert may_leave_temporary or not left, "files in the making were not cleared away"
