"""Compaction: what stays is untouched, what goes is in the trash, and writers lose nothing."""

from __future__ import annotations

import errno
import json
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import filelock
import pytest

from convmem import (
    Archive,
    ConvmemError,
    LockTimeout,
    Observer,
    RetentionPolicy,
    StorageError,
    StorageFull,
    TurnConflict,
    jsontext,
)
from convmem.log import codec, files, heal
from convmem.log.files import Folder
from convmem.log.removing import dropped, rewrite
from convmem.turns import draft

NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=2)
DAY = RetentionPolicy(max_age=timedelta(days=1))
BY_HAND = b'{"role":"user","content":"by hand"}\n'


@pytest.fixture
def chat(archive):
    return archive.conversation("trip")


def say(chat, *contents, **more):
    return [chat.record("user", content, **more) for content in contents]


def said(chat):
    """Return what the turns say, having asked both ends of the log."""
    found = [turn.content for turn in chat.turns()]
    assert [turn.content for turn in chat.tail(100_000)] == found
    return found


def lines_of(path):
    return path.read_bytes().splitlines(keepends=True)


def trashed(log, name="trip"):
    """Return the lines of a log that are in the trash, in order."""
    found = sorted(log().parent.glob(f".trash/{name}.*"))
    return [line for path in found for line in lines_of(path)]


def quarantined(log, name="trip"):
    found = sorted(log().parent.glob(f".quarantine/{name}.*"))
    return b"".join(path.read_bytes() for path in found)


def snapshot(log):
    """Return all files of the namespace, but locks, with what they hold and how."""
    found = {}
    for folder, _, names in os.walk(log().parent):
        for name in names:
            path = Path(folder, name)
            if path.parent.name != ".locks":
                at = path.stat()
                found[path.name] = (at.st_ino, at.st_mtime_ns, at.st_mode, path.read_bytes())
    return found


def test_kept_lines_are_the_same_bytes_and_dropped_ones_are_in_the_trash(chat, log):
    """P8, rule 4: compaction copies lines, it does not write turns anew."""
    say(chat, "a", {"odd": ["\u2028", 2**70]}, "c")
    chat.record_many([("user", "d"), ("user", "e"), ("user", "f")])
    say(chat, "g", ts=OLD)
    say(chat, "h")
    before = lines_of(log())
    report = chat.compact(RetentionPolicy(keep_last=4))
    assert lines_of(log()) == before[4:]
    assert trashed(log) == before[:4]
    assert [turn.seq for turn in chat.turns()] == [5, 6, 7, 8]
    assert report.kept == report.dropped == 4
    assert report.reasons == {"keep_last": 4}
    assert report.ranges == [(1, 4)]
    assert report.dropped_bytes == sum(map(len, before[:4]))
    assert (report.bytes_before, report.bytes_after) == (
        sum(map(len, before)),
        log().stat().st_size,
    )
    assert [path.name for path in log().parent.glob(".trash/*")] == [report.trash]
    assert report.quarantine is None and report.damaged == 0
    report = chat.compact(DAY)
    assert lines_of(log()) == [*before[4:6], before[7]]
    assert report.ranges == [(7, 7)] and report.reasons == {"max_age": 1}
    assert trashed(log) == [*before[:4], before[6]]


def test_discard_leaves_nothing_behind(chat, log):
    """`--discard` is for what must be gone, such as on request of the person who said it."""
    say(chat, "secret", "b")
    report = chat.compact(RetentionPolicy(keep_last=1), discard=True)
    assert report.trash is None and report.dropped == 1
    assert said(chat) == ["b"]
    for _, _, _, content in snapshot(log).values():
        assert b"secret" not in content


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize(
    "policy",
    [
        RetentionPolicy(keep_last=0),
        RetentionPolicy(keep_last=2),
        RetentionPolicy(max_bytes=400),
        DAY,
        RetentionPolicy(keep_last=1, max_age=1),
        RetentionPolicy(keep_last=100),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "tail",
    [b"", b"junk", BY_HAND[:-1], codec.turn_line(draft("user", "x"), 9, "", ("9f3a01bc", 0, 2))],
    ids=["sound", "torn", "by hand", "half batch"],
)
def test_a_dry_run_says_what_will_be_done_and_does_nothing(chat, log, policy, discard, tail):
    """Rule 4: the counts of a dry run are what people decide by."""
    say(chat, "a", "b", ts=OLD)
    chat.record_many([("user", "c"), {"role": "user", "content": "d", "ts": OLD}])
    with log().open("ab") as file:
        file.write(b"junk\n" + BY_HAND)
    say(chat, "e", ts=OLD)
    with log().open("ab") as file:
        file.write(tail)
    before = snapshot(log)
    planned = chat.compact(policy, dry_run=True, discard=discard)
    assert snapshot(log) == before
    done = chat.compact(policy, discard=discard)
    for name in ("kept", "dropped", "reasons", "dropped_bytes", "ranges", "damaged"):
        assert getattr(planned, name) == getattr(done, name), name
    assert planned.dry_run and not done.dry_run
    assert planned.trash is planned.quarantine is None


@pytest.mark.parametrize(
    "policy", [RetentionPolicy(keep_last=0), RetentionPolicy(keep_last=1), DAY]
)
def test_a_dry_run_foretells_the_size(chat, log, policy):
    """ "Counts and bytes are exact": people compare them with the disk."""
    chat.record_many([("user", "a"), {"role": "user", "content": "b", "ts": OLD}])
    planned = chat.compact(policy, dry_run=True)
    done = chat.compact(policy)
    assert done.bytes_after == log().stat().st_size
    assert planned.bytes_after == done.bytes_after


def test_with_nothing_to_drop_nothing_is_rewritten(chat, log):
    """Decided: cron compacts every night, and backups must not copy what did not change."""
    say(chat, "a", "b")
    with log().open("ab") as file:
        file.write(b"junk\n" + BY_HAND)
    before = snapshot(log)
    report = chat.compact(RetentionPolicy(keep_last=3, max_age=1, max_bytes=10_000))
    assert (report.dropped, report.kept, report.damaged) == (0, 3, 1)
    assert snapshot(log) == before


@pytest.mark.parametrize("times", [1, 3])
def test_a_conversation_whose_turns_are_all_dropped_goes_on_counting(
    root, archive, chat, log, times
):
    """P4: a seq is never given out twice, also by a process that never saw the first."""
    for at in range(times):
        say(chat, "a", "b")
        chat.compact(RetentionPolicy(keep_last=0))
        assert said(chat) == [] and chat.exists()
        assert chat.describe().last_seq == 2 * (at + 1)
    archive.close()
    with Archive.open(root) as again:
        assert say(again.conversation("trip"), "c")[0].seq == 2 * times + 1


def test_the_highest_seq_survives_when_only_lines_by_hand_stay(root, archive, chat, log):
    """P4: what is kept need not say how far the counting had come."""
    say(chat, "a", "b")
    with log().open("ab") as file:
        file.write(BY_HAND)
    chat.compact(RetentionPolicy(keep_last=1))
    archive.close()
    with Archive.open(root) as again:
        assert said(again.conversation("trip")) == ["by hand"]
        assert say(again.conversation("trip"), "c")[0].seq == 3


class Meddler(Observer):
    """Does something to the log while it is being compacted: after it was read, before the end."""

    def __init__(self):
        self.meddle = lambda: None

    def advanced(self, task, amount):
        meddle, self.meddle = self.meddle, lambda: None
        meddle()


@pytest.fixture
def meddler(root):
    observer = Meddler()
    with Archive.open(root, durability="none", observer=observer) as archive:
        observer.chat = archive.conversation("trip")
        yield observer


def test_the_highest_seq_survives_when_a_line_by_hand_comes_meanwhile(root, meddler, log):
    """P4: what came meanwhile has no seq that could stand for those that went."""
    say(meddler.chat, "a", "b")

    def meddle():
        with log().open("ab") as file:
            file.write(BY_HAND)

    meddler.meddle = meddle
    meddler.chat.compact(RetentionPolicy(keep_last=0))
    with Archive.open(root) as again:
        assert said(again.conversation("trip")) == ["by hand"]
        assert say(again.conversation("trip"), "c")[0].seq == 3


def test_what_is_recorded_meanwhile_is_kept(root, meddler, log):
    """P8: the policy is for what was there; nothing that comes meanwhile is touched."""
    say(meddler.chat, "a", "b")
    with Archive.open(root) as other:
        meddler.meddle = lambda: (
            say(other.conversation("trip"), "c", ts=OLD),
            other.conversation("trip").record_many([("user", "d"), ("user", "e")]),
            other.conversation("trip").record("user", "a", id="again"),
        )
        report = meddler.chat.compact(RetentionPolicy(keep_last=0))
        assert report.dropped == 2
        assert said(meddler.chat) == ["c", "d", "e", "a"]
        assert [turn.seq for turn in meddler.chat.turns()] == [3, 4, 5, 6]
        assert report.bytes_after == log().stat().st_size


def test_a_log_that_is_replaced_meanwhile_is_left_as_it_is(chat, log, monkeypatch):
    """An editor, a restore, a sync client: their file wins, and nothing of it goes."""
    say(chat, "a", "b", "c")

    def meddle(*given, **options):
        copy = log().with_suffix(".copy")
        copy.write_bytes(lines_of(log())[0])
        os.replace(copy, log())
        remember(*given, **options)

    remember = dropped.remember
    monkeypatch.setattr(dropped, "remember", meddle)
    with pytest.raises(ConvmemError, match="replaced"):
        chat.compact(RetentionPolicy(keep_last=0))
    assert said(chat) == ["a"]
    assert trashed(log) == []
    assert not list(log().parent.rglob("*.tmp"))


def test_dropped_ids_are_remembered(root, archive, chat, log):
    """P6: a retry that comes after the compaction is answered with the turn that was dropped."""
    first = chat.record("user", "a", id="one", meta={"x": 1})
    batch = chat.record_many(
        [{"role": "user", "content": f"b{at}", "id": f"b{at}"} for at in (0, 1)]
    )
    say(chat, "c")
    chat.compact(RetentionPolicy(keep_last=1))
    archive.close()
    with Archive.open(root, durability="none") as again:
        chat = again.conversation("trip")
        retry = chat.record("user", "a", id="one", meta={"x": 1})
        assert retry == first
        with pytest.raises(TurnConflict) as caught:
            chat.record("user", "other", id="one")
        assert (caught.value.turn_id, caught.value.seq) == ("one", 1)
        assert chat.record("user", "b1", id="b1") == batch[1]
        assert said(chat) == ["c"]
        say(chat, "d")
        chat.compact(RetentionPolicy(keep_last=1))
        assert chat.record("user", "a", id="one", meta={"x": 1}) == first
        assert said(chat) == ["d"]


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize("way", ["keys", "road"])
def test_a_late_retry_is_judged_by_what_it_says_not_by_its_bytes(chat, discard, way):
    """P6: other content means role, content, meta and extra keys, before and after the drop."""
    first = chat.record("user", {"a": 1, "b": 1e-7}, id="one", meta={"x": 1, "y": 2})
    retry = {"role": "user", "content": {"a": 1, "b": 1e-7}, "id": "one", "meta": {"x": 1, "y": 2}}
    if way == "keys":
        retry |= {"content": {"b": 1e-7, "a": 1}, "meta": {"y": 2, "x": 1}}
    with (
        mock.patch.object(jsontext, "_orjson", None if way == "road" else jsontext._orjson),
        mock.patch.object(jsontext, "_calls_before_orjson", 1 << 60),
    ):
        assert chat.record(**retry).seq == first.seq
        chat.compact(RetentionPolicy(keep_last=0), discard=discard)
        assert chat.record(**retry).seq == first.seq
    assert said(chat) == []


def test_dropped_ids_are_forgotten_in_time(root, chat):
    """A setting, since the memory takes room: after it, the id is new again."""
    with Archive.open(root, durability="none", remember_seconds=0) as archive:
        chat = archive.conversation("trip")
        chat.record("user", "a", id="one")
        chat.compact(RetentionPolicy(keep_last=0))
        assert chat.record("user", "other", id="one").seq == 2
        chat.compact(RetentionPolicy(keep_last=0))
        assert chat.record("user", "third", id="one").seq == 3


def test_dropped_ids_are_remembered_from_now_whatever_age_is_measured_from(chat):
    """P6: `now` says how old turns are; retries come by the clock on the wall."""
    chat.record("user", "a", id="one", ts=NOW - timedelta(days=20))
    assert chat.compact(DAY, now=NOW - timedelta(days=10)).dropped == 1
    assert chat.record("user", "a", id="one").seq == 1
    assert said(chat) == []


def test_damaged_lines_move_to_the_quarantine(chat, log):
    """P7: a byte of a log is in the log, in the trash or in the quarantine."""
    say(chat, "a", "b", "c")
    first, *others = lines_of(log())
    damage = [b"junk\n", b"\xff\0\n", first.replace(b'"a"', b'"A"'), b"\n"]
    before = [first, *damage[:2], others[0], *damage[2:], others[1]]
    log().write_bytes(b"".join(before))
    report = chat.compact(RetentionPolicy(keep_last=2))
    assert report.damaged == 4
    assert quarantined(log) == b"".join(damage)
    assert [path.name for path in log().parent.glob(".quarantine/*")] == [report.quarantine]
    assert lines_of(log()) == [before[3], before[6]]
    assert sorted(trashed(log) + lines_of(log()) + damage) == sorted(before)


@pytest.mark.parametrize("gone", [[0], [1], [2], [0, 2], [1, 2], [0, 1]])
def test_a_batch_is_read_whole_when_some_of_its_turns_were_dropped(chat, log, gone):
    """P8: without its closing line, what is left of a batch would look torn."""
    turns = [
        {"role": "user", "content": f"{at}", "id": f"{at}", "ts": OLD if at in gone else NOW}
        for at in range(3)
    ]
    say(chat, "before")
    batch = chat.record_many(turns)
    say(chat, "after")
    before = lines_of(log())
    chat.compact(DAY)
    left = [f"{at}" for at in range(3) if at not in gone]
    assert said(chat) == ["before", *left, "after"]
    assert trashed(log) == [before[1 + at] for at in gone]
    for turn in batch:
        assert chat.record("user", turn.content, id=turn.id).seq == turn.seq
    chat.compact(RetentionPolicy(keep_last=1))
    assert said(chat) == ["after"]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_batch_is_read_whole_when_one_of_its_lines_was_damaged(chat, log, at):
    """P8, P10: compaction takes the damaged line away, not the turns that were written with it."""
    say(chat, "before", ts=OLD)
    chat.record_many([("user", "0"), ("user", "1"), ("user", "2")])
    say(chat, "after")
    lines = lines_of(log())
    lines[1 + at] = lines[1 + at].replace(b'"user"', b'"uXer"')
    log().write_bytes(b"".join(lines))
    left = [content for nth, content in enumerate("012") if nth != at]
    assert said(chat) == ["before", *left, "after"]
    chat.compact(DAY)
    assert said(chat) == [*left, "after"]
    assert quarantined(log) == lines[1 + at]


def test_lines_by_hand_keep_their_bytes(chat, log):
    """A line without a seal is the writer's own: its spelling is kept, its age counts."""
    old = b'{ "ts": "2001-01-01", "role":"user", "content":"old" }\n'
    kept = [
        b'{ "role" : "user", "content" : "no time" }\n',
        b'{"ts":"0000-00-00T00:00:00.000000Z","role":"user","content":"no such time"}\n',
        b'{"id":"h","seq":1,"ts":"unreadable-time-00000000000Z","role":"user","content":"x"}\n',
        b'{"id":"h","seq":1,"ts":"0000-00-00T00:00:00.000000Z","role":"user","content":"none"}\n',
    ]
    say(chat, "a", ts=OLD)
    with log().open("ab") as file:
        file.write(kept[0] + old + b"".join(kept[1:]))
    report = chat.compact(DAY)
    assert report.dropped == 2
    assert lines_of(log())[: len(kept)] == kept
    assert trashed(log)[1:] == [old]


def test_what_a_crash_left_is_swept_and_what_is_others_is_not(archive, chat, log):
    """A name with a dot in it begins like another: `a.b` is not a file of `a`."""
    say(chat, "a", "b")
    folder = log().parent
    for inner in (".trash", ".quarantine", ".dropped"):
        (folder / inner).mkdir(mode=0o700)
    ours = [
        folder / ".trip.999.deadbeef.tmp",
        folder / ".trash" / ".trip.999.deadbeef.tmp",
        folder / ".quarantine" / ".trip.1.0badcafe.tmp",
        folder / ".dropped" / ".trip.22.00000000.tmp",
    ]
    others = [
        folder / ".trip.to.999.deadbeef.tmp",
        folder / ".tri.999.deadbeef.tmp",
        folder / ".trash" / ".trip.oslo.999.deadbeef.tmp",
        folder / ".trip.tmp",
        folder / ".notes.tmp",
        folder / "trip.999.deadbeef.tmp",
    ]
    for path in [*ours, *others]:
        path.write_bytes(b"left by a crash")
    assert [each.continuation_id for each in archive.conversations()] == ["trip"]
    chat.compact(RetentionPolicy(keep_last=1))
    assert [path for path in ours if path.exists()] == []
    assert all(path.read_bytes() == b"left by a crash" for path in others)
    assert [each.continuation_id for each in archive.conversations()] == ["trip"]


def test_the_files_of_a_compaction_are_private_and_the_mode_of_the_log_is_kept(chat, log):
    """P13: a rewrite must neither open a log to others nor close one that was opened on purpose."""
    say(chat, "a", "b")
    log().chmod(0o640)
    with log().open("ab") as file:
        file.write(b"junk\n")
    chat.compact(RetentionPolicy(keep_last=1))
    assert log().stat().st_mode & 0o777 == 0o640
    for folder, inner, names in os.walk(log().parent):
        for name in inner:
            assert os.stat(os.path.join(folder, name)).st_mode & 0o777 == 0o700
        for name in set(names) - {log().name}:
            assert os.stat(os.path.join(folder, name)).st_mode & 0o777 == 0o600


def test_a_second_compaction_is_told_at_once_that_one_is_at_work(archive, chat, log):
    """Decided: skipped and named, not waited for; appends go on meanwhile."""
    say(chat, "a", "b")
    chat.compact(RetentionPolicy(keep_last=2))
    before = log().read_bytes()
    with filelock.FileLock(log().parent / ".locks" / "trip.lock.c", timeout=0):
        with pytest.raises(LockTimeout):
            chat.compact(RetentionPolicy(keep_last=1))
        assert log().read_bytes() == before
        chat.compact(RetentionPolicy(keep_last=0), dry_run=True)
        say(chat, "c")
        say(archive.conversation("other"), "x", "y")
        assert archive.conversation("other").compact(RetentionPolicy(keep_last=1)).dropped == 1
    assert chat.compact(RetentionPolicy(keep_last=1)).dropped == 2


def test_a_disk_without_room_is_told_before_anything_is_written(chat, log, monkeypatch):
    """P11: compaction is what people try when the disk is full; it must not make it worse."""
    say(chat, "a" * 1000, "b" * 1000)
    before = snapshot(log)
    room = SimpleNamespace(f_bavail=1500, f_frsize=1)
    monkeypatch.setattr(os, "fstatvfs", lambda fd: room)
    with pytest.raises(StorageFull) as caught:
        chat.compact(RetentionPolicy(keep_last=1))
    assert caught.value.hint
    assert snapshot(log) == before
    # Without the trash it needs room for the kept turns only.
    assert chat.compact(RetentionPolicy(keep_last=1), discard=True).dropped == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_compaction_that_fails_at_any_step_loses_nothing(archive, log, monkeypatch, number):
    """P8, rule 4: each line is in the log or, once the log was replaced, in trash or quarantine."""
    leaked = []
    count = step = 0
    while count >= step:
        step += 1
        chat = archive.conversation(f"trip{step}")
        path = log(f"trip{step}")
        say(chat, "old", ts=OLD)
        say(chat, "new")
        with path.open("ab") as file:
            file.write(b"junk in the middle\n" + BY_HAND + b"torn")
        before = lines_of(path)
        count = 0

        def failing(real, step=step):
            def call(*args, **kwargs):
                nonlocal count
                count += 1
                if count == step:
                    raise OSError(number, os.strerror(number))
                return real(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing(os.fsync))
            patch.setattr(os, "rename", failing(os.rename))
            for module in (rewrite, heal, files):
                patch.setattr(module, "write_all", failing(files.write_all))
                patch.setattr(module, "sync_data", failing(files.sync_data))
            try:
                chat.compact(DAY)
                assert count < step
            except StorageError as error:
                assert error.errno == number
            except OSError as error:
                leaked.append(error)
        assert not list(log().parent.rglob("*.tmp"))
        found = lines_of(path) + trashed(log, f"trip{step}") + [quarantined(log, f"trip{step}")]
        for line in before:
            assert any(line in each for each in found), (step, line)
        assert said(chat)[-2:] == ["new", "by hand"]
    assert step > 10
    assert leaked == []  # a caller catches the errors of convmem


def test_the_trash_is_not_emptied_once_the_log_was_replaced(chat, log, monkeypatch):
    """Rule 4: what fails after the new log is in place must not throw the dropped turns away."""
    say(chat, "a", "b")
    before = lines_of(log())
    real = Folder.sync

    def failing(folder):
        if len(lines_of(log())) == 1:
            raise OSError(errno.EIO, "input/output error")
        real(folder)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "sync", failing)
        with pytest.raises(StorageError):
            chat.compact(RetentionPolicy(keep_last=1))
    assert sorted(set(lines_of(log()) + trashed(log))) == sorted(before)


def test_appends_during_compactions_are_all_kept(root, chat, log):
    """P8, A20: an append whose answer came is in the log or in the trash, once, in its order."""
    answers, faults = [], []
    stop = threading.Event()

    def write():
        try:
            with Archive.open(root, durability="none") as archive:
                writing = archive.conversation("trip")
                for at in range(4000):
                    if at % 10:
                        answers.append(writing.record("user", f"{at}"))
                    else:
                        answers.extend(writing.record_many([("user", f"{at}.{n}") for n in (0, 1)]))
        except BaseException as error:
            faults.append(error)
        stop.set()

    say(chat, "start")
    thread = threading.Thread(target=write)
    thread.start()
    rounds = 0
    while not stop.is_set() or rounds == 0:
        chat.compact(RetentionPolicy(keep_last=rounds % 50))
        rounds += 1
    thread.join()
    assert faults == []
    assert rounds > 1
    found = [json.loads(line) for line in trashed(log) + lines_of(log())]
    found = [each for each in found if "id" in each and each["content"] != "start"]
    found.sort(key=lambda each: each["seq"])
    assert [each["id"] for each in found] == [turn.id for turn in answers]
    assert [each["seq"] for each in found] == [turn.seq for turn in answers]
    assert [turn.seq for turn in answers] == list(range(2, len(answers) + 2))


def test_a_conversation_made_anew_by_others_is_searched_for_a_given_id(root, chat, log):
    """P6: what a writer knows of a log that was removed says nothing of the one in its place."""
    for at in range(5):
        chat.record("user", "old", id=f"old {at}")
    log().unlink()
    with Archive.open(root, durability="none") as other:
        assert other.conversation("trip").record("user", "new", id="one").seq == 1
    assert chat.record("user", "new", id="one").seq == 1
    assert said(chat) == ["new"]
