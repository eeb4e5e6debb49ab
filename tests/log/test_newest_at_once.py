"""The last turns at once: what reading backwards line by line would give, or nothing at all."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convmem.log import codec, read, records
from convmem.log.files import Folder
from convmem.log.records import Damage
from convmem.turns import draft

NOW = "2026-11-21T09:00:00.000000Z"

few = settings(
    max_examples=int(os.environ.get("CONVMEM_EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

_CONTENTS = st.one_of(
    st.text(max_size=6),
    st.sampled_from([["a"], {"_c": "x"}, 10**30, 1.5, "x" * 3000, "y" * 9000, None]),
)
_TURN = st.builds(
    lambda content, meta: draft("user", content, meta=meta), _CONTENTS, st.none() | st.just({})
)
_LINE = _TURN.map(lambda made: [codec.turn_line(made, 3, NOW, None)])
_BATCH = st.tuples(st.lists(_TURN, min_size=1, max_size=4), st.sets(st.integers(0, 3))).map(
    lambda batch: [
        codec.turn_line(made, 4, NOW, ("0123abcd", at, len(batch[0])))
        for at, made in enumerate(batch[0])
        if at not in batch[1]
    ]
)
_ODD = st.sampled_from(
    [
        b'{"role":"user","content":"by hand"}\n',
        b'{"role":"user","content":123456789012345678901}\n',
        codec.seq_floor_line(9),
        codec.sealed(b'{"no":"turn"'),
        codec.sealed(b'{"role":"user","content":{"n":123456789012345678901}'),
        codec.sealed(b'{"role":"user","content":"a"},{"role":"user","content":"b"'),
        codec.sealed(b'{"role":"user","content":"a","ts":1,"id":7,"seq":0,"meta":3,"_x":1,"x":2'),
        codec.sealed(b""),
        b"damage\n",
        b"\n",
        b"\0" * 40 + b"\n",
        codec.turn_line(draft("user", "hole"), 3, NOW, ("0123abcd", 0, 3))[:20]
        + b"\0" * 40
        + b"\n",
        codec.turn_line(draft("user", "end"), 5, NOW, ("0123abcd", 2, 3)),
    ]
).map(lambda line: [line])
_END = st.sampled_from([b"", b"", b"", b"torn", b'{"role":"user","content":"by hand"}'])


@few
@given(
    st.lists(_LINE | _LINE | _LINE | _BATCH | _ODD, max_size=8),
    _END,
    st.integers(1, 6),
    st.booleans(),
    st.sampled_from([64, 16 << 10]),
    st.sampled_from([200, 1 << 20]),
)
def test_the_last_turns_at_once_are_those_found_line_by_line(
    tmp_path_factory, parts, end, count, flips, block, through
):
    """P10 and P1 hold on the short way too: no damage believed, no half batch shown."""
    place: Path = tmp_path_factory.mktemp("log")
    data = b"".join(line for part in parts for line in part)
    if flips and len(data) > 30:
        data = data[:-30] + bytes([data[-30] ^ 1]) + data[-29:]
    (place / "trip.jsonl").write_bytes(data + end)
    (place / "trip.jsonl").chmod(0o600)
    place.chmod(0o700)
    with (
        patch.object(read, "_LAST_BLOCK", block),
        patch.object(records, "_THROUGH_BYTES", through),
        read.Reader(Folder.open(str(place)), "trip") as reader,
    ):
        at_once = reader.newest_at_once(count)
        if at_once is None:
            return
        told: list[Damage] = []
        slowly = _line_by_line(reader, count, told)
        # To be sure of a batch, it may have looked at what stands before.
        assert all(damage.offset < at_once[0].offset for damage in told)
        assert [(each.offset, each.line) for each in at_once] == [
            (each.offset, each.line) for each in slowly
        ]
        for one, other in zip(at_once, slowly, strict=True):
            assert one.turn == other.turn
            assert repr(one.turn.content) == repr(other.turn.content)


def _line_by_line(reader, count, told):
    found = []
    for stored in reader.newest_first(told.append):
        found.append(stored)
        if len(found) == count:
            break
    return found[::-1]


def test_usual_turns_are_had_at_once(tmp_path):
    """What is never taken is never wrong: this way must be the one that most readings go."""
    long = "x" * 3000  # so that twenty are more than is read at first
    lines = [codec.turn_line(draft("user", long), at + 1, NOW, None) for at in range(50)]
    pair = [draft("user", "a"), draft("assistant", "b")]
    lines += [
        codec.turn_line(made, 51 + at, NOW, ("0123abcd", at, 2)) for at, made in enumerate(pair)
    ]
    (tmp_path / "trip.jsonl").write_bytes(b"".join(lines))
    tmp_path.chmod(0o700)
    with read.Reader(Folder.open(str(tmp_path)), "trip") as reader:
        for count in (2, 20):
            found = reader.newest_at_once(count)
            assert found is not None
            assert [each.turn.seq for each in found] == list(range(53 - count, 53))


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("behind", [0, 1])
def test_no_turn_of_a_batch_with_a_hole_is_shown(tmp_path, lost, behind):
    """P1: a power cut took a page of the batch, and its last line stands there, whole."""
    made = [draft("user", f"turn {at}") for at in range(3)]
    lines = [codec.turn_line(draft("user", "before"), 1, NOW, None)]
    lines += [
        codec.turn_line(each, 2 + at, NOW, ("0123abcd", at, 3)) for at, each in enumerate(made)
    ]
    lines += [codec.turn_line(draft("user", "after"), 5, NOW, None)] * behind
    hole = lines[1 + lost]
    lines[1 + lost] = hole[:10] + b"\0" * (len(hole) - 30) + hole[-20:]
    (tmp_path / "trip.jsonl").write_bytes(b"".join(lines))
    tmp_path.chmod(0o700)
    for count in range(1, 7):
        with read.Reader(Folder.open(str(tmp_path)), "trip") as reader:
            found = read.newest(reader, count, read.Filter(), lambda damage: None)
            shown = [each.turn.content for each in found]
        assert shown == (["before"] + ["after"] * behind)[-count:]


def _large_batch(count, name="0123abcd"):
    return [
        codec.turn_line(draft("user", f"turn {at}"), 2 + at, NOW, (name, at, count))
        for at in range(count)
    ]


def _newest(place, lines, count, through=1 << 20):
    """Return what is had at once (or nothing), and what is found line by line."""
    (place / "trip.jsonl").write_bytes(b"".join(lines))
    place.chmod(0o700)
    with (
        patch.object(records, "_THROUGH_BYTES", through),
        read.Reader(Folder.open(str(place)), "trip") as reader,
    ):
        at_once = reader.newest_at_once(count)
        slowly = _line_by_line(reader, count, [])
    return (
        None if at_once is None else [each.turn.content for each in at_once],
        [each.turn.content for each in slowly],
    )


@pytest.mark.parametrize("behind", [0, 1])
@pytest.mark.parametrize("through", [300, 1000, 1 << 20])
@pytest.mark.parametrize("dropped", [0, 1, 5])
def test_the_end_of_a_large_batch_is_had_at_once(tmp_path, behind, through, dropped):
    """A session that began with an import of thousands is read as fast as any other."""
    lines = [codec.turn_line(draft("user", "before"), 1, NOW, None)]
    lines += _large_batch(40)[dropped:]
    lines += [codec.turn_line(draft("user", "after"), 50, NOW, None)] * behind
    if dropped:
        del lines[0]  # the log begins inside the batch, as a policy may leave it
    for count in (1, 2, 20, 30):
        at_once, slowly = _newest(tmp_path, lines, count, through)
        assert at_once == slowly
        assert len(slowly) == count


@pytest.mark.parametrize(
    "hurt", [b"\0" * 40, b"\0", b"x", b""], ids=["hole", "NUL", "letter", "gone"]
)
@pytest.mark.parametrize("through", [300, 1 << 20])
def test_no_damage_before_makes_half_a_batch_a_whole_one(tmp_path, hurt, through):
    """P1: wherever a piece of it is missing, what is had at once is what all its lines tell."""
    whole = [codec.turn_line(draft("user", "before"), 1, NOW, None), *_large_batch(12)]
    is_had = 0
    for at in range(len(whole)):
        for place in (0, 30, len(whole[at]) - 40, len(whole[at]) - 1):
            lines = list(whole)
            end = place + max(1, len(hurt))
            lines[at] = lines[at][:place] + hurt + lines[at][end:]
            for count in (1, 3):
                at_once, slowly = _newest(tmp_path, lines, count, through)
                assert at_once in (None, slowly)
                is_had += at_once is not None
    assert is_had


def test_a_batch_that_tells_its_places_wrongly_is_looked_at_line_by_line(tmp_path):
    """Marks may come from anybody's file: only those that fit together are a short way."""
    odd = _large_batch(6)
    odd[3] = codec.turn_line(draft("user", "again"), 9, NOW, ("0123abcd", 1, 6))
    for lines in (
        odd,
        _large_batch(6)[:2] + _large_batch(4)[2:],
        _large_batch(6)[2:] * 2,
        _large_batch(2)[:1] + _large_batch(1),
    ):
        for count in range(1, 6):
            at_once, slowly = _newest(tmp_path, lines, count)
            assert at_once in (None, slowly)
