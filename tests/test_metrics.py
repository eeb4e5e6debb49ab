"""Metrics and event logs: what was done is counted as it was, told once, and holds nobody up."""

from __future__ import annotations

import inspect
import io
import json
import logging
import os
import re
import threading

import pytest

from convmem import (
    Archive,
    ConversationNotFound,
    EventLog,
    JsonFormatter,
    LockTimeout,
    Metrics,
    Observer,
    Observers,
    RetentionPolicy,
    StorageFull,
    TurnConflict,
)
from convmem.log.files import Folder
from convmem.log.locks import SidecarLock
from convmem.metrics import BUCKETS


class Heard(Observer):
    """Writes down all that it is told."""

    def __init__(self):
        self.told = []

    def names(self):
        return [name for name, *_ in self.told]


def _note(name):
    def method(self, *values):
        self.told.append((name, *values))

    return method


EVENTS = [name for name in vars(Observer) if not name.startswith("_")]
for _name in EVENTS:
    setattr(Heard, _name, _note(_name))


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def watched(root, metrics):
    """An archive that a ``Metrics`` watches."""
    with Archive.open(root, observer=metrics, lock_timeout_seconds=0.0) as archive:
        yield archive


def heard(root, *, durability="none", **options):
    observer = Heard()
    return observer, Archive.open(root, durability=durability, observer=observer, **options)


# --- what the core tells ----------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["always", "interval", "none"])
def test_a_record_is_told_with_its_turns_and_exactly_its_bytes(root, log, durability):
    """What is counted must add up to what is on the disk."""
    observer, archive = heard(root, durability=durability)
    with archive:
        chat = archive.conversation("trip")
        chat.record("user", "hello")
        chat.record_many([("user", "æ" * 50), ("assistant", "two"), ("user", "three")])
        chat.record("user", "hello", id="x")
        chat.record("user", "hello", id="x")
    told = [rest for name, *rest in observer.told if name == "recorded"]
    assert [(name, turns) for name, turns, *_ in told] == [
        ("trip", 1),
        ("trip", 3),
        ("trip", 1),
        ("trip", 0),  # a retry: acknowledged, and nothing new
    ]
    assert sum(bytes for _, _, bytes, _, _ in told) == os.path.getsize(log())
    assert told[-1][2] == 0
    assert all(0 < seconds < 60 and waited == 0.0 for _, _, _, seconds, waited in told)


def test_turns_for_many_conversations_are_told_of_each(root):
    """A stream into a thousand conversations is a thousand appends, not one."""
    observer, archive = heard(root)
    with archive:
        archive.conversation("a").record("user", "first", id="x")
        observer.told.clear()
        answers = archive.record_to_many(
            [
                ("a", ("user", "one")),
                ("b", ("user", "two")),
                ("a", {"role": "user", "content": "other", "id": "x"}),
                ("a", ("user", "three")),
            ]
        )
    assert isinstance(answers[2], TurnConflict)
    told = sorted((name, *rest[:2]) for name, *rest in observer.told)
    assert told == [("failed", "a", "record"), ("recorded", "a", 2), ("recorded", "b", 1)]


def test_waiting_for_a_lock_is_told_apart_from_the_rest(root):
    """Whether the disk is slow or the neighbours are busy is the first question of an operator."""
    observer, archive = heard(root, lock_timeout_seconds=30)
    with archive:
        chat = archive.conversation("trip")
        chat.record("user", "first")
        folder = Folder.open(os.path.join(root, "default"))
        held = SidecarLock(folder, "trip")
        held.acquire(0)
        thread = threading.Thread(target=chat.record, args=("user", "second"))
        thread.start()
        threading.Event().wait(0.05)
        held.release()
        thread.join()
        folder.close()
    *_, seconds, waited = observer.told[-1]
    assert 0 < waited < seconds


def test_threads_that_wait_for_each_other_are_told_of_it_too(root, monkeypatch):
    """Within a process the lock is another one, and the waiting is the same."""
    observer, archive = heard(root, lock_timeout_seconds=30)
    inside, go_on = threading.Event(), threading.Event()
    write = os.write

    def slow_write(fd, data):
        if not inside.is_set():
            inside.set()
            go_on.wait(10)
        return write(fd, data)

    with archive:
        chat = archive.conversation("trip")
        monkeypatch.setattr(os, "write", slow_write)
        first = threading.Thread(target=chat.record, args=("user", "first"))
        first.start()
        inside.wait(10)
        second = threading.Thread(target=chat.record, args=("user", "second"))
        second.start()
        threading.Event().wait(0.05)
        go_on.set()
        first.join()
        second.join()
    waited = sorted(waited for name, *_, waited in observer.told if name == "recorded")
    assert waited[0] == 0.0
    assert waited[1] > 0.0


def test_what_failed_is_told_with_the_error_that_the_caller_got(root, monkeypatch):
    """A server's log must say what its clients met."""
    observer, archive = heard(root, lock_timeout_seconds=0.0)
    got = []

    def meet(kind, ask):
        with pytest.raises(kind) as met:
            ask()
        got.append(met.value)

    with archive:
        chat = archive.conversation("trip")
        chat.record("user", "first", id="x")
        meet(TurnConflict, lambda: chat.record("user", "other", id="x"))
        folder = Folder.open(os.path.join(root, "default"))
        held = SidecarLock(folder, "trip")
        held.acquire(0)
        meet(LockTimeout, lambda: chat.record("user", "busy"))
        held.release()
        folder.close()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", _full)
            meet(StorageFull, lambda: chat.record("user", "full"))
        nowhere = archive.conversation("nowhere")
        meet(ConversationNotFound, lambda: nowhere.compact(RetentionPolicy(keep_last=1)))
    told = [rest for name, *rest in observer.told if name == "failed"]
    assert [error for *_, error in told] == got
    assert [(name, doing) for name, doing, _ in told] == [
        ("trip", "record"),
        ("trip", "record"),
        ("trip", "record"),
        ("nowhere", "compact"),
    ]


def _full(fd, data):
    raise OSError(28, "No space left on device")


def test_compactions_and_reads_are_told_and_trials_are_not(root):
    """A dry run drops nothing, so it counts for nothing."""
    observer, archive = heard(root)
    with archive:
        chat = archive.conversation("trip")
        for nth in range(5):
            chat.record("user", f"turn {nth}")
        observer.told.clear()
        policy = RetentionPolicy(keep_last=2)
        chat.compact(policy, dry_run=True)
        assert "compacted" not in observer.names()
        report = chat.compact(policy)
        assert len(chat.tail(10)) == 2
    told = {name: rest for name, *rest in observer.told}
    assert told["compacted"][:2] == ["trip", report]
    assert told["read"][:2] == ["trip", 2]


# --- Metrics ----------------------------------------------------------------------------------


def test_metrics_add_up_to_what_was_done(watched, metrics, log):
    """K: figures are counted, never estimated."""
    chat = watched.conversation("trip")
    for nth in range(4):
        chat.record("user", f"turn {nth}", id=f"t{nth}")
    bytes = os.path.getsize(log())
    chat.record("user", "turn 0", id="t0")
    with pytest.raises(TurnConflict):
        chat.record("user", "other", id="t0")
    chat.tail(3)
    report = chat.compact(RetentionPolicy(keep_last=1))
    with log().open("ab") as file:
        file.write(b"nonsense\n")
    chat.tail(3)
    found = metrics.snapshot()
    timings = {name: found.pop(name) for name in list(found) if name.endswith("_seconds")}
    assert found == {
        "recorded_turns": 4,
        "recorded_bytes": bytes,
        "read_turns": 4,
        "dropped_turns": 3,
        "dropped_bytes": report.dropped_bytes,
        "damaged_lines": 1,
        "healed_logs": 0,
        "states_set_aside": 0,
        "failures": {"record:conflict": 1},
    }
    assert {name: each["count"] for name, each in timings.items()} == {
        "record_seconds": 5,
        "lock_wait_seconds": 0,
        "read_seconds": 2,
        "compact_seconds": 1,
    }
    for each in timings.values():
        assert list(each["buckets"].values())[-1] == each["count"]
        assert 0 <= each["max"] <= each["sum"] <= each["max"] * max(each["count"], 1)
    json.dumps(metrics.snapshot())


def test_a_snapshot_is_the_callers_own(watched, metrics):
    """Changing it changes nothing that is counted, and counting on changes nothing of it."""
    chat = watched.conversation("trip")
    chat.record("user", "one")
    first = metrics.snapshot()
    first["recorded_turns"] = 100
    first["record_seconds"]["buckets"].clear()
    first["failures"]["x"] = 1
    chat.record("user", "two")
    assert metrics.snapshot()["recorded_turns"] == 2
    assert metrics.snapshot()["failures"] == {}
    assert len(metrics.snapshot()["record_seconds"]["buckets"]) == len(BUCKETS) + 1


def test_durations_fall_into_the_buckets_that_hold_them(metrics):
    """An edge belongs to the bucket below it, as Prometheus has it."""
    for seconds in (0.0, 0.0001, 0.00011, 0.25, 9.0, 10.0, 11.0):
        metrics.read("trip", 1, seconds)
    found = metrics.snapshot()["read_seconds"]
    assert found["buckets"]["0.0001"] == 2
    assert found["buckets"]["0.00025"] == 3
    assert found["buckets"]["0.1"] == 3
    assert found["buckets"]["0.25"] == 4
    assert found["buckets"]["10"] == 6
    assert found["buckets"]["+Inf"] == found["count"] == 7
    assert found["max"] == 11.0


def test_threads_lose_no_count(metrics):
    """`count += 1` is not one step."""

    def count():
        for _ in range(2000):
            metrics.recorded("trip", 1, 10, 0.001, 0.001)
            metrics.healed("trip", "x")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = metrics.snapshot()
    assert found["recorded_turns"] == found["healed_logs"] == 8000
    assert found["recorded_bytes"] == 80_000
    assert (
        found["record_seconds"]["count"] == found["lock_wait_seconds"]["buckets"]["0.001"] == 8000
    )


_SAMPLE = re.compile(r'(convmem_[a-z_]+)(?:\{(?:[a-z]+="[^"\\\n]*",?)+\})? ([0-9.e+-]+)')


def test_the_prometheus_text_is_one_that_its_readers_take(watched, metrics):
    """One line that is off, and a scrape loses all of them."""
    chat = watched.conversation('tr"ip\n')
    chat.record("user", "one", id="x")
    with pytest.raises(TurnConflict):
        chat.record("user", "two", id="x")
    with pytest.raises(ConversationNotFound):
        watched.conversation("nowhere").compact(RetentionPolicy(keep_last=1))
    text = metrics.prometheus()
    assert text.endswith("\n")
    assert "\n\n" not in text
    kinds = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds
            kinds[name] = kind
        elif not line.startswith("# HELP "):
            sample = _SAMPLE.fullmatch(line)
            assert sample, line
            float(sample[2])
            stem = re.sub("_(bucket|sum|count)$", "", sample[1])
            assert kinds.get(sample[1]) == "counter" or kinds.get(stem) == "histogram"
    assert "convmem_recorded_turns_total 1\n" in text
    assert 'convmem_failures_total{doing="compact",kind="not_found"} 1\n' in text
    assert 'convmem_failures_total{doing="record",kind="conflict"} 1\n' in text
    assert 'convmem_record_seconds_bucket{le="+Inf"} 1\n' in text
    assert "convmem_record_seconds_count 1\n" in text
    assert 'tr"ip' not in text


def test_metrics_do_not_grow_with_the_conversations(metrics):
    """A figure for each of ten thousand conversations would be a leak, and end up on a page."""
    metrics.recorded("a", 1, 1, 0.1, 0.0)
    size = len(metrics.prometheus())
    for nth in range(500):
        metrics.recorded(f"secret {nth}", 0, 0, 0.1, 0.0)
    assert "secret" not in metrics.prometheus()
    assert len(metrics.prometheus()) < size + 100


# --- event logs -------------------------------------------------------------------------------


def test_a_stream_gets_one_json_object_for_each_event(root, log):
    """Structured log lines on request, for whoever collects them."""
    stream = io.StringIO()
    with Archive.open(root, observer=EventLog.to_stream(stream)) as archive:
        chat = archive.conversation("tr\nip \u2028 æ")
        chat.record("user", "sesame", id="x")
        with pytest.raises(TurnConflict):
            chat.record("user", "sesame, open", id="x")
        chat.tail(1)
        chat.compact(RetentionPolicy(keep_last=0))
    lines = stream.getvalue().splitlines()
    told = [json.loads(line) for line in lines]
    assert [(each["event"], each["level"]) for each in told] == [
        ("recorded", "info"),
        ("failed", "warning"),
        ("read", "debug"),
        ("compacted", "info"),
    ]
    assert {each["continuation_id"] for each in told} == {"tr\nip \u2028 æ"}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", each["ts"]) for each in told)
    assert list(told[0]) == [
        *("ts", "level", "logger", "event", "continuation_id"),
        *("turns", "bytes", "seconds", "waited_seconds", "message"),
    ]
    assert told[0]["turns"] == 1
    assert told[1]["kind"] == "conflict"
    assert (told[3]["dropped"], told[3]["reasons"]) == (1, {"keep_last": 1})
    assert "sesame" not in stream.getvalue()  # ids and figures, never content


def test_damage_is_told_with_its_place(root, log):
    """As the default observer does, and with the figures as fields."""
    stream = io.StringIO()
    with Archive.open(root, observer=EventLog.to_stream(stream)) as archive:
        chat = archive.conversation("trip")
        chat.record("user", "hello")
        size = os.path.getsize(log())
        with log().open("ab") as file:
            file.write(b"nonsense\n")
        stream.truncate(0)
        chat.tail(2)
        with log().open("ab") as file:
            file.write(b'{"torn')
        chat.record("user", "again")
    told = {
        each["event"]: each for each in map(json.loads, stream.getvalue().strip("\0").splitlines())
    }
    assert (told["damaged"]["offset"], told["damaged"]["bytes"]) == (size, len("nonsense"))
    assert told["damaged"]["reason"] == "not JSON"
    assert told["healed"]["quarantine"].startswith("trip.")


def test_the_standard_channel_gets_records_with_fields(root, caplog):
    """A program that has set its logging up wants nothing of its own for convmem."""
    caplog.set_level(logging.INFO, logger="convmem")
    with Archive.open(root, observer=EventLog()) as archive:
        archive.conversation("trip").record("user", "hello")
        archive.conversation("trip").tail(1)  # DEBUG: not asked for
    (record,) = caplog.records
    assert record.getMessage() == "trip: 1 turns recorded"
    assert (record.event, record.continuation_id, record.turns) == ("recorded", "trip", 1)


def test_the_formatter_takes_any_record():
    """What cannot be written as JSON must not cost the line, nor one line become two."""
    logger = logging.getLogger("elsewhere")
    logger.propagate = False  # pytest's own record of it is not for half surrogates
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    try:
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logger.exception("it %s", "failed\ntwice \ud800", extra={"odd": {1, 2}, "n": 10**30})
    finally:
        logger.removeHandler(handler)
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert (told["level"], told["logger"], told["n"]) == ("error", "elsewhere", 10**30)
    assert told["message"] == "it failed\ntwice \ud800"
    assert "ValueError: two\nlines" in told["exception"]
    assert told["odd"] == "{1, 2}"


# --- several observers ------------------------------------------------------------------------


def test_several_observers_are_each_told_of_everything():
    """An event that only the first of them hears of would be missed by the others for years."""
    first, second = Heard(), Heard()
    both = Observers(first, second)
    for name in EVENTS:
        count = len(inspect.signature(getattr(Observer, name)).parameters) - 1
        getattr(both, name)(*range(count))
        assert first.told[-1] == second.told[-1] == (name, *range(count))
    assert first.names() == second.names() == EVENTS
