"""Turns that are read many at a time: the same to the byte as each for itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convmem import Archive, TurnConflict
from convmem.log import codec, sheet
from convmem.turns import MAX_TURN_BYTES, draft_from_object

few = settings(
    max_examples=int(os.environ.get("CONVMEM_EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

NOW = "2026-11-21T09:00:00.000000Z"

_NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.just(2**63)
)
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
_PLAIN = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant"]), "content": st.text(max_size=20) | _VALUES},
    optional={
        "meta": st.dictionaries(st.text(max_size=4), _VALUES, max_size=2),
        "id": st.text(min_size=1, max_size=5),
        "ts": st.just(NOW) | st.datetimes().map(lambda moment: moment.isoformat()[:26] + "Z"),
        "name": _VALUES,
        "seq": _VALUES,
        "continuation_id": st.sampled_from(["a", "b"]),
    },
)
_ODD_KEYS = st.sampled_from(
    ["role", "content", "meta", "id", "ts", "seq", "continuation_id", "_b", "_c", "_x", "name", ""]
)
_ODD_TIMES = ("2026-11-21T24:00:00.000000Z", "2026-02-30T00:00:00.000000Z", "2026-W47-6T09:00:00Z")
_ODD_ITEMS = st.sampled_from(
    ["", " ", "user", "a" * 65, NOW, *_ODD_TIMES, "x" * 200, "é" * 600, 1e9, 10**23, [], {}, None]
)
_ODD = st.dictionaries(_ODD_KEYS, _ODD_ITEMS | _VALUES, max_size=6)


@st.composite
def _reordered(draw):
    turn = draw(_PLAIN | st.tuples(_PLAIN, _ODD).map(lambda two: two[0] | two[1]) | _ODD)
    return dict(reversed(turn.items())) if draw(st.booleans()) else turn


def _spelled(turn: dict, how: str) -> bytes:
    if how == "orjson":
        try:
            return orjson.dumps(turn)
        except TypeError:
            how = "spaces"
    if how == "twice":  # a key that stands there twice: the last one counts
        return json.dumps(turn).replace("{", '{"content":1,', 1).encode("utf-8", "replace")
    return json.dumps(turn, ensure_ascii=how == "escapes").encode("utf-8", "replace")


_LINE = st.one_of(
    st.builds(
        _spelled, _reordered(), st.sampled_from(["orjson", "orjson", "spaces", "escapes", "twice"])
    ),
    st.sampled_from(
        [b"", b"  \t", b"\r", b"42", b"[]", b"null", b'"x"', b"nonsense", b'{"role":"user"}', None]
        + [b'{"role":"user","content":"a","%s":1}' % key for key in (b"_x", b"_b", b"seq", b"meta")]
        + [b'{"role":"user","content":"\\ud800"}', b'{"role":"user","content":"\xff"}']
        + [
            b'{"role":"user","content":%s}' % number
            for number in (b"1e999", b"-0", b"1.50", b"NaN")
        ]
        + [b'{"role":"user","content":%s1%s}' % (b"[" * deep, b"]" * deep) for deep in (200, 600)]
        + [b'{"role":"user","content":12345678901234567890123}', b'[["role","user"]]']
    ),
)


def _all_alone(lines, only):
    """Read the same with no line taken for a usual one."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sheet, "_forms", type("", (), {"__getitem__": lambda self, keys: None})())
        return sheet.read_lines(lines, only)


def _told(faults):
    return [(number, type(error), str(error), error.hint) for number, error in faults]


@few
@given(st.lists(_LINE, max_size=6), st.sampled_from(["trip", None]))
def test_usual_lines_are_read_as_each_would_be_for_itself(lines, only):
    """Speed must not change what is stored, by a byte, nor what is refused, by a word."""
    fast, slow = sheet.read_lines(lines, only), _all_alone(lines, only)
    assert _told(fast.broken) == _told(slow.broken)
    assert _told(fast.refused) == _told(slow.refused)
    assert fast.sheets.keys() == slow.sheets.keys()
    for name, found in fast.sheets.items():
        other = slow.sheets[name]
        assert found.numbers == other.numbers
        assert found.tails == other.tails
        assert (found.given, found.times) == (other.given, other.times)


@few
@given(st.lists(_PLAIN.map(lambda turn: _spelled(turn, "orjson")), min_size=1))
def test_the_lines_of_a_sheet_are_those_of_single_turns(lines):
    """What convmem has stored one by one and many at a time is one and the same log."""
    found = sheet.read_lines(lines, "trip").sheets["trip"]
    rows = range(len(found))
    single = [
        codec.turn_line(found.draft(row), 7 + row, found.times.get(row, NOW), None) for row in rows
    ]
    assert found.lines(7, NOW) == single
    ids = [found.id_of(row) for row in rows]
    made = [each for row, each in enumerate(ids) if row not in found.given]
    assert made == sorted(set(made)) and all(
        each[14] == "7" and each[19] in "89ab" for each in made
    )


def test_a_turn_too_long_to_be_stored_is_refused_among_others(monkeypatch):
    """One attachment in a stream must not stop it, nor become a line that no reader takes."""
    monkeypatch.setattr(sheet, "MAX_TURN_BYTES", 200)
    monkeypatch.setattr("convmem.turns.MAX_TURN_BYTES", 200)
    lines = [b'{"role":"user","content":"%s"}' % (b"x" * many) for many in (10, 300, 10)]
    found = sheet.read_lines(lines, "trip")
    assert found.sheets["trip"].numbers == [0, 2]
    assert [number for number, _ in found.refused] == [1]
    assert MAX_TURN_BYTES > 200


_STREAM = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from(["1", "2", "3", "4"]),
        st.sampled_from(["x", "x", "y"]),
    ),
    min_size=1,
    max_size=8,
)


@few
@given(st.lists(_STREAM, min_size=1, max_size=4))
def test_retries_and_conflicts_are_answered_as_single_turns_are(tmp_path_factory, streams):
    """P6 holds for a stream too: within one call, from call to call, in one log and in several."""
    place: Path = tmp_path_factory.mktemp("both")
    with (
        Archive.open(place / "lines", durability="none") as by_line,
        Archive.open(place / "turns", durability="none") as by_turn,
    ):
        for stream in streams:
            turns = [
                (name, {"role": "user", "content": text, "id": turn_id, "ts": NOW})
                for name, turn_id, text in stream
            ]
            lines = [orjson.dumps({**turn, "continuation_id": name}) for name, turn in turns]
            recorded = by_line.record_lines(lines)
            single = by_turn.record_to_many(turns)
            assert recorded.count == sum(not isinstance(each, Exception) for each in single)
            assert [(number, str(error)) for number, error in recorded.failures] == [
                (at, str(each)) for at, each in enumerate(single) if isinstance(each, TurnConflict)
            ]
            assert [(line.number, line.id, line.seq, line.ts) for line in recorded.answers()] == [
                (at, each.id, each.seq, NOW)
                for at, each in enumerate(single)
                if not isinstance(each, Exception)
            ]
        for name in ("a", "b"):
            logs = [place / kind / "default" / f"{name}.jsonl" for kind in ("lines", "turns")]
            assert logs[0].exists() == logs[1].exists()
            if logs[0].exists():
                assert logs[0].read_bytes() == logs[1].read_bytes()


def test_a_sheet_parses_a_turn_only_when_somebody_asks_for_it():
    """Its rows are the drafts that single turns would have been."""
    line = b'{"role":"user","content":["a"],"meta":{"k":1},"name":"x","id":"t"}'
    (found,) = sheet.read_lines([line], "trip").sheets["trip"]
    alone = draft_from_object(json.loads(line))
    for name in ("role", "content", "meta", "extra", "id", "is_given", "head", "tail", "ts"):
        assert getattr(found, name) == getattr(alone, name), name
