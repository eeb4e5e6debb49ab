"""The short ways of a compaction: what it leaves alone, and what it does not do twice."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import filelock
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from convmem import Archive, RetentionPolicy, TurnConflict, jsontext, maintenance
from convmem.cli import compact_jobs
from convmem.log import blocks, codec, files
from convmem.log.files import Folder
from convmem.log.removing import survey
from convmem.turns import draft

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
    monkeypatch.setattr("convmem.log.removing.compact.survey_log", counted)
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


# --- by the block ---------------------------------------------------------------------------------

TIMES = ["2026-11-20T09:00:00.000000Z", "2026-11-21T08:59:59.999999Z", "2026-11-20T09:00:00Z", "?"]


def _line(seq, what, batch=None, ts=TIMES[0]):
    says = {
        "plain": {"content": "x" * (seq % 40)},
        "list": {"content": ["a", "]"]},
        "call": {"content": "", "extra": {"tool_calls": [{"id": f"call-{seq % 3}"}]}},
        "result": {"content": "", "extra": {"tool_call_id": f"call-{seq % 3}"}},
        "hint": {"content": "a tool, or a call_id"},
    }[what]
    return codec.turn_line(draft("user", id=f'"{seq}"', **says), seq, ts, batch)


def _summary(seq, _ts):
    body = b'{"id":"s","seq":null,"ts":"%b","role":"system","content":"s"' % TIMES[0].encode()
    return codec.sealed(body + b',"summary":{"turns":3}')


ODD = [
    _summary,
    lambda seq, ts: codec.seq_floor_line(seq),
    lambda seq, ts: b'{"role":"user","content":"by hand"}\n',
    lambda seq, ts: b'{"content":"x","role":"u","ts":"%b","id":"y"}\n' % ts.encode(),
    lambda seq, ts: (
        b'{"id":"z","seq":3,"ts":"2026-00-20T09:00:00.000000Z","role":"u","content":1}\n'
    ),
    lambda seq, ts: codec.sealed(b'{"not":"a turn"'),
    lambda seq, ts: codec.sealed(b'{"role":"user","content":"another order","seq":%d' % seq),
    lambda seq, ts: b"no turn\n",
    lambda seq, ts: b"\n",
    lambda seq, ts: b"\0" * 40 + b"\n",
]
SOME_TIME = st.sampled_from(TIMES[:2] * 8 + TIMES[2:])
KINDS = st.sampled_from(["plain", "list", "call", "result", "hint"])
ONE = st.tuples(KINDS, SOME_TIME).map(
    lambda drawn: lambda seq, _: [_line(seq, drawn[0], ts=drawn[1])]
)
ANOTHER = st.tuples(st.sampled_from(ODD), SOME_TIME).map(
    lambda drawn: lambda seq, _: [drawn[0](seq, drawn[1])]
)
BATCH = st.tuples(st.lists(KINDS, min_size=2, max_size=5), st.sets(st.integers(0, 4))).map(
    lambda drawn: (
        lambda seq, name: [
            _line(seq + at, kind, (f"{name:08x}", at, len(drawn[0])))
            for at, kind in enumerate(drawn[0])
            if at not in drawn[1]  # dropped by a compaction before, or never written
        ]
    )
)


@st.composite
def logs(draw):
    """A log of all that can stand in one, some of it harmed."""
    lines = []
    for name, made in enumerate(draw(st.lists(ONE | ONE | ANOTHER | BATCH, max_size=25))):
        lines += made(len(lines) + 1, name // draw(st.sampled_from([1, 1, 1, 3])))
    data = bytearray(b"".join(lines))
    for at, byte in draw(
        st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=2)), max_size=2)
    ):
        if at < len(data):
            data[at : at + 1] = byte
    return bytes(data[: data.rfind(b"\n") + 1])


@given(logs(), st.sampled_from([200, 700, 1 << 20]), st.booleans())
@settings(max_examples=400, suppress_health_check=list(HealthCheck), deadline=None)
def test_a_log_is_surveyed_by_the_block_as_it_is_record_by_record(data, block_bytes, has_age):
    """The fast way is only a way: what a policy sees of a log does not depend on it."""
    policy = RetentionPolicy(max_age=timedelta(days=1) if has_age else None, max_bytes=0)
    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        file.write(data)
        file.flush()
        patch.setattr(blocks, "BLOCK_BYTES", block_bytes)
        fast = survey.survey_log(file.fileno(), len(data), policy, NOW, lambda amount: None)
        patch.setattr(blocks, "good_blocks", lambda fd, end, start=0: iter(()))
        slow = survey.survey_log(file.fileno(), len(data), policy, NOW, lambda amount: None)
    assert vars(fast.facts) == vars(slow.facts)
    del fast.facts, slow.facts
    assert vars(fast) == vars(slow)


@pytest.mark.parametrize("block_bytes", [300, 2000, 1 << 20])
def test_a_log_as_we_write_it_never_takes_the_slow_way(root, log, monkeypatch, block_bytes):
    """Else the fast way would be right, and of no use."""
    with Archive.open(root, durability="none") as archive:
        chat = archive.conversation("trip")
        chat.record("user", "x" * 5000)  # longer than a block
        for at in range(20):
            chat.record("user", ["in a list", at])
            chat.record_many([("user", "a"), ("assistant", "b")])
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
    size = log().stat().st_size
    with log().open("rb") as file:
        found = list(blocks.good_blocks(file.fileno(), size))
    assert found[-1].end == size
    assert sum(len(block.batches) for block in found) == 20


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([1e16, 1e-7, "", "a,", '",']),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy,"), inner),
    max_leaves=4,
)
SAID = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "a b"]), "content": st.text() | VALUES},
    optional={
        "meta": st.dictionaries(st.sampled_from("xy"), VALUES),
        "name": VALUES,
        "other": VALUES,
        "id": st.sampled_from(["one", '"', "ä"]),
    },
)


def _turned_round(value):
    """Return what says the same with its keys in another order."""
    if isinstance(value, dict):
        return {key: _turned_round(value[key]) for key in reversed(value)}
    return [_turned_round(each) for each in value] if isinstance(value, list) else value


@given(SAID, SAID, st.booleans(), st.booleans())
@settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=None)
def test_a_retry_of_a_dropped_turn_is_known_by_what_it_says(said, other, discard, in_a_batch):
    """P6: in whichever form the turn is remembered, and however the retry is spelled."""
    said = {"id": "one", **said}
    other = {**other, "id": said["id"]}
    with tempfile.TemporaryDirectory() as place, Archive.open(place, durability="none") as archive:
        chat = archive.conversation("trip")
        chat.record_many([said, ("user", "b")] if in_a_batch else [said])
        chat.compact(RetentionPolicy(keep_last=0), discard=discard)
        for retry in (said, _turned_round(said)):
            for at in ("_orjson", None):
                with pytest.MonkeyPatch.context() as patch:
                    if at is None:
                        patch.setattr(jsontext, "_orjson", None)
                        patch.setattr(jsontext, "_calls_before_orjson", 1 << 60)
                    assert chat.record(**retry).seq == 1
        if jsontext.canonical(said) != jsontext.canonical(other):
            with pytest.raises(TurnConflict):
                chat.record(**other)
            event("conflict")
        kept = next(Path(place).rglob(".dropped/*")).read_bytes().partition(b"\n")[0]
        event("by its line" if b'"line"' in kept else "by substance")


# --- syncs that are shared ------------------------------------------------------------------------


def test_threads_that_wait_for_the_sync_of_a_folder_share_the_next(tmp_path, monkeypatch):
    """A hundred conversations that are put in place together need two syncs, not a hundred."""
    began, may_end, count = threading.Event(), threading.Event(), []

    def slow(fd):
        count.append(fd)
        began.set()
        may_end.wait(10)

    monkeypatch.setattr(os, "fsync", slow)
    folders = [Folder.open(str(tmp_path)) for _ in range(8)]
    first = threading.Thread(target=folders[0].sync)
    first.start()
    assert began.wait(10)
    others = [threading.Thread(target=folder.sync) for folder in folders]
    for thread in others:
        thread.start()
    while files._syncs[folders[0]._identity].users < 9:
        time.sleep(0.001)
    may_end.set()
    for thread in [first, *others]:
        thread.join()
    # Not one: who asks while a sync runs may have made a name that it has passed by.
    assert len(count) == 2
    assert files._syncs == {}


def test_a_thread_that_is_interrupted_while_it_syncs_a_folder_may_sync_it_again(
    tmp_path, monkeypatch
):
    """The handler of SIGTERM flushes: it must not wait for the thread that it interrupts."""
    folder, depth = Folder.open(str(tmp_path)), []

    def interrupted(fd):
        depth.append(fd)
        if len(depth) == 1:
            folder.sync()

    monkeypatch.setattr(os, "fsync", interrupted)
    thread = threading.Thread(target=folder.sync, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert len(depth) == 2
    assert files._syncs == {}


def test_a_shared_sync_that_fails_is_success_for_nobody(tmp_path, monkeypatch):
    """Each who relied on it must hear that the disk refused."""
    began, may_end, failed = threading.Event(), threading.Event(), []

    def slow(fd):
        began.set()
        may_end.wait(10)
        raise OSError(errno.EIO, "no")

    def sync():
        try:
            Folder.open(str(tmp_path)).sync()
        except OSError as error:
            failed.append(error.errno)

    monkeypatch.setattr(os, "fsync", slow)
    threads = [threading.Thread(target=sync) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert began.wait(10)
    may_end.set()
    for thread in threads:
        thread.join()
    assert failed == [errno.EIO] * 5


def test_a_new_subfolder_is_synced_and_one_that_is_known_is_not(tmp_path, monkeypatch):
    """Its name must survive a power cut before anything in it is relied on; once is enough."""
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    folder = Folder.open(str(tmp_path))
    for expected in (1, 1):
        folder.subfolder(".trash").close()
        assert synced == [folder.fd] * expected
    os.rename(tmp_path / ".trash", tmp_path / "away")
    folder.subfolder(".trash").close()
    assert synced == [folder.fd] * 2
    # Another process does not know who made it, and whether that was synced.
    Folder.open(str(tmp_path)).subfolder(".trash").close()
    assert len(synced) == 3


def test_a_conversation_can_be_compacted_while_all_are_listed(root):
    """Two walks through a folder shared their place in it: this loop had no end."""
    for at in range(40):
        fill(root, f"c{at}", turns=3)
    seen = []
    with Archive.open(root, durability="none") as archive:
        for chat in archive.conversations():
            seen.append(chat.continuation_id)
            assert len(list(archive.conversations())) == 40
            chat.compact(RetentionPolicy(keep_last=2))
            assert len(seen) <= 80  # what is replaced meanwhile may be met again
    assert len(set(seen)) == 40


# --- many side by side ----------------------------------------------------------------------------


def test_conversations_done_side_by_side_come_out_as_one_by_one(root, cli, log, monkeypatch):
    """In order, each for itself: one that is busy or damaged is told, and stops nobody."""
    for at in range(40):
        fill(root, f"c{at:02}", turns=at % 7 + 1)
    log("c11").write_bytes(log("c11").read_bytes().replace(b"turn 1", b"turn X"))
    log("c12").write_bytes(b"")
    other = f"{root}-other"
    shutil.copytree(root, other)
    lock = filelock.FileLock(Path(root, "default", ".locks", "c13.lock.c"), timeout=0)
    with lock:
        cli("compact", "--all", "--keep-last", "2", "--jobs", "1", "--json", code=7)
    told = cli("compact", "--all", "--keep-last", "2", "--jobs", "1", "--json")
    assert [each["continuation_id"] for each in told.objects] == [f"c{at:02}" for at in range(40)]
    assert {
        each["continuation_id"]: each["dropped"] for each in told.objects if each["dropped"]
    } == {"c13": 5}
    with Archive.open(other) as archive:
        for chat in archive.conversations():
            chat.compact(RetentionPolicy(keep_last=2))
    for path in sorted(Path(other, "default").glob("*.jsonl")):
        assert path.read_bytes() == log(path.stem).read_bytes()
    for path, mine in ((Path(each, "default", ".trash") for each in (other, root)),):
        names = [
            sorted(file.name.split(".")[0] for file in part.iterdir()) for part in (path, mine)
        ]
        assert names[0] == names[1]
    assert not list(Path(root).rglob("*.tmp"))


def test_large_conversations_are_not_done_side_by_side(root, cli, monkeypatch):
    """Memory follows the largest, not the sum of the sixteen largest."""
    for name in ("a", "b", "c", "d"):
        fill(root, name, turns=3)
    at_work, most = [], []
    monkeypatch.setattr(compact_jobs, "_SMALL_BYTES", 1)

    def done(job, archive, work):
        at_work.append(work)
        most.append(len(at_work))
        yield work
        at_work.remove(work)

    monkeypatch.setattr(compact_jobs, "_do", done)
    works = [maintenance.Work("default", name, RetentionPolicy(keep_last=1)) for name in "abcd"]
    with Archive.open(root) as archive:
        assert list(compact_jobs._side_by_side(None, archive, works)) == works
    assert most == [1, 1, 1, 1]
