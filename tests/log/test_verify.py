"""Checking a log: every byte has its class, and every line that is wrong is told with its place."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verify_logs import BY_HAND, batch, broken_logs, line

from convmem.log import codec
from convmem.log.checks import verify


def check(data, tmp_path):
    """Return the report on a log of *data*, having checked what holds of every report."""
    path = tmp_path / "trip.jsonl"
    path.write_bytes(data)
    before = path.stat()
    told, steps = [], []
    fd = os.open(path, os.O_RDONLY)
    try:
        report = verify.verify(fd, len(data), told.append, steps.append)
    finally:
        os.close(fd)
    after = path.stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)
    assert sum(report.bytes.values()) == report.size == len(data) == sum(steps)
    assert sum(report.lines.values()) == len(data.split(b"\n")) - (not data or data[-1:] == b"\n")
    assert told[:1000] == report.findings
    assert Counter(each.kind for each in told) == report.found
    lines = data.split(b"\n")
    for each in told:
        assert data[each.offset : each.offset + each.length] == lines[each.line - 1]
        assert data[: each.offset].count(b"\n") == each.line - 1
    assert report.is_damaged == bool(told)
    return report


def kinds(report):
    return [(each.line, each.kind) for each in report.findings]


def test_a_sound_log_has_nothing_to_tell(tmp_path):
    """Lines by hand, marks, empty lines and numbers that compaction took are no damage."""
    data = line(3) + BY_HAND + b"\n" + batch(5, 3) + codec.seq_floor_line(90) + b"\n" + line(91)
    report = check(data, tmp_path)
    assert not report.is_damaged
    assert report.turns == 6
    assert (report.first_seq, report.last_seq) == (3, 91)
    assert {kind: n for kind, n in report.lines.items() if n} == {
        "ok": 5,
        "unsealed": 1,
        "mark": 1,
        "blank": 1,
    }
    assert check(b"", tmp_path).turns == 0


FAULTS = {
    "torn": line(2)[:60] + b"\n",
    "nul": b"\0" * 300 + b"\n",
    "fused": line(2)[:60] + line(3),
    "checksum": line(2).replace(b"hello", b"hellp"),
    "not_json": b"nonsense {\n",
    "not_a_turn": b"42\n",
    "half_batch": batch(2, 3)[: len(line(2, batch=("9f3a01bc", 0, 3)))],
}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_each_kind_of_damage_is_told_apart_wherever_it_stands(kind, place, tmp_path):
    """transcripts.md §3.4: `damaged` alone does not tell people what happened to their disk."""
    before = line(1) if place != "first" else b""
    after = line(9) if place != "last" else b""
    report = check(before + FAULTS[kind] + after, tmp_path)
    assert kinds(report) == [(1 + bool(before), kind)]
    assert report.bytes[kind] == len(FAULTS[kind])
    assert report.turns == bool(before) + bool(after)
    assert report.findings[0].words


def test_an_unfinished_last_line_is_torn_unless_it_is_a_turn_by_hand(tmp_path):
    """An editor leaves no newline; a crash leaves half a line."""
    report = check(line(1) + BY_HAND, tmp_path)
    assert not report.is_damaged and report.turns == 2
    for cut in (1, 40, len(line(2)) - 1):
        report = check(line(1) + line(2)[:cut], tmp_path)
        assert kinds(report) == [(2, "torn")] and report.turns == 1
    assert report.findings[0].words == "lacks its newline" and report.findings[0].seq == 2
    assert kinds(check(line(1) + batch(2, 3)[:-1], tmp_path))[-1] == (4, "torn")
    assert kinds(check(line(1) + b"\0" * 999, tmp_path)) == [(2, "nul")]
    assert kinds(check(line(1) + line(2)[:50] + line(3)[:-1], tmp_path)) == [(2, "fused")]


def test_a_turn_that_is_being_written_is_no_damage(tmp_path, monkeypatch):
    """A check from cron must not wake anybody because somebody is talking."""
    path = tmp_path / "trip.jsonl"
    whole = batch(2, 40)
    path.write_bytes(line(1) + whole[:1000])
    found = []
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    waited = []

    def meanwhile(seconds):
        waited.append(seconds)
        os.write(fd, whole[1000:])

    monkeypatch.setattr(verify.time, "sleep", meanwhile)
    try:
        size = os.fstat(fd).st_size
        report = verify.verify(fd, size, found.append, lambda amount: None)
    finally:
        os.close(fd)
    assert len(waited) == 1 and 0 < waited[0] < 1
    assert found == [] and report.size == len(line(1) + whole) and report.turns == 41


def test_turns_of_one_id_are_told_with_the_line_that_has_it_first(tmp_path):
    """`A turn with a given id is stored once`: a copy made by hand breaks that."""
    report = check(line(1) + line(2) + line(3) + line(2), tmp_path)
    assert kinds(report) == [(4, "seq_disorder"), (4, "duplicate_id")]
    assert report.findings[1].words == "line 2 is the same turn"
    assert (report.findings[1].id, report.findings[1].seq) == ("t2", 2)
    report = check(line(1) + line(2, turn_id="t1") + line(3, "other", turn_id="t1"), tmp_path)
    assert [(each.line, each.words) for each in report.findings] == [
        (2, "line 1 has the same id and says the same"),
        (3, "line 1 has the same id and says something else"),
    ]
    by_hand = b'{"id":"t\\u0031","role":"user","content":"hello"}'
    report = check(line(1) + by_hand, tmp_path)
    assert kinds(report) == [(2, "duplicate_id")]
    assert report.bytes["ok"] == len(line(1)) and report.bytes["unsealed"] == len(by_hand)


def test_hashes_that_meet_by_chance_are_no_duplicates(tmp_path, monkeypatch):
    """A hash says `perhaps`; the bytes decide."""
    monkeypatch.setattr(verify.verify_ids, "hash", lambda encoded: 7, raising=False)
    monkeypatch.setattr(verify, "hash", lambda encoded: 7, raising=False)
    data = b"".join(line(seq) for seq in range(1, 30))
    assert not check(data, tmp_path).is_damaged
    assert kinds(check(data + line(30, turn_id="t7"), tmp_path)) == [(30, "duplicate_id")]


def test_many_duplicates_are_found_in_several_readings(tmp_path, monkeypatch):
    """Memory is bounded also for a log that was appended to itself."""
    monkeypatch.setattr(verify, "_IDS_AT_A_TIME", 7)
    data = b"".join(line(seq) for seq in range(1, 51))
    report = check(data + data, tmp_path)
    assert report.found == {"seq_disorder": 50, "duplicate_id": 50}
    assert report.turns == 100


def test_a_seq_that_is_not_above_all_before_it_is_told(tmp_path):
    """`turns(after=N)` seeks by bisection: disorder would hide turns from it."""
    report = check(line(5) + line(3) + line(5, turn_id="x") + line(6), tmp_path)
    assert kinds(report) == [(2, "seq_disorder"), (3, "seq_disorder")]
    assert report.findings[0].words == "seq 3 stands behind 5"
    assert (report.first_seq, report.last_seq) == (3, 6)
    report = check(line(5) + codec.seq_floor_line(9) + line(8), tmp_path)
    assert kinds(report) == [(3, "seq_disorder")]


@settings(max_examples=300, deadline=None)
@given(broken_logs())
def test_every_byte_of_any_log_is_of_one_class(tmp_path_factory, data):
    """The sum is exact, whatever stands there: nothing is passed over in silence."""
    check(data, tmp_path_factory.mktemp("log"))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=400))
def test_bytes_of_any_kind_are_no_trouble(tmp_path_factory, data):
    """A folder of logs may hold anything."""
    check(data, tmp_path_factory.mktemp("log"))
