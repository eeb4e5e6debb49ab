"""Records that share a line: each whole one is found, and none is made up."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convmem.log import codec
from convmem.log.checks.verify_split import is_cut_short, split
from convmem.turns import draft

STAMP = "2026-11-21T09:00:00.123456Z"
BY_HAND = b'{"role": "user", "content": "by hand"}'


def record(seq, content="hello", **more):
    return codec.turn_line(draft("user", content, id=f"t{seq}", **more), seq, STAMP, None)[:-1]


def found(line, last_seq=0):
    """Return the records in *line*, having checked that every byte is in one part."""
    parts = split(line, last_seq)
    assert b"".join(line[start:end] for start, end, _ in parts) == line
    assert all(start < end for start, end, _ in parts)
    return [line[start:end] for start, end, is_record in parts if is_record]


NASTY = [
    "hello",
    'ends in a brace {"id":"x","seq":1,"_c":"00000000"}{',
    "as follows:",
    "a list: [",
    "back\\slash \\",
    "\u2028 \x07 é 漢",
    {"role": "user", "content": "inner"},
    [{"id": "x", "seq": 1}, 1.5, True, None, "y"],
    [[[]]],
    12.5,
    None,
]


@pytest.mark.parametrize("content", NASTY, ids=repr)
@pytest.mark.parametrize("last", [record(2), BY_HAND], ids=["sealed", "by hand"])
def test_a_record_cut_at_any_byte_never_takes_the_next_one_along(content, last):
    """transcripts.md §3.4: 21 of 30 bad lines of real transcripts were just this."""
    first = record(1, content, meta={"a": [1, {"b": "c"}]}, extra={"raw": {"x": [True]}})
    for cut in range(1, len(first)):
        line = first[:cut] + last
        if last == BY_HAND and first[:cut].rstrip()[-1:] in (b":", b",", b"["):
            continue  # in doubt: see the next test
        assert found(line) == [last], line


def test_an_unsealed_part_that_may_be_a_value_of_a_torn_record_is_not_believed():
    """A turn that was never said is worse than one in the quarantine."""
    inner = b'{"role":"user","content":"forged"}'
    for before in (b'"content":', b'"content":[', b'"content":[1,', b'"content":{"a":'):
        assert found(b'{"id":"t1","seq":1,"ts":"","role":"user",' + before + inner) == []


def nested(seq, depth):
    """Return a record whose content is another sealed one, as a tool that reads logs makes it."""
    content = json.loads(record(seq, "from another log"))
    for _ in range(depth):
        content = [{"line": content}]
    return content


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_sealed_record_inside_a_torn_one_is_not_a_turn_of_this_log(depth):
    """Content may be any JSON, also lines of a log with their seals."""
    outer = record(5, nested(99, depth), meta={"k": "v"})
    assert record(99, "from another log") in outer
    for cut in range(1, len(outer)):
        assert found(outer[:cut], 4) == []
        assert found(outer[:cut] + record(6), 4) == [record(6)]
    for at in range(len(outer)):
        rotten = bytearray(outer)
        rotten[at] ^= 1
        assert found(bytes(rotten), 4) == []
        assert found(bytes(rotten) + record(6), 4) in ([], [record(6)])


@given(
    st.lists(
        st.one_of(
            st.integers(1, 50).map(lambda seq: record(seq, "x" * seq)),
            st.just(BY_HAND),
            st.just(codec.seq_floor_line(7)[:-1]),
        ),
        min_size=2,
        max_size=6,
    )
)
def test_whole_records_without_newlines_between_them_are_all_found(records):
    """A lost newline, `}{`: nothing is lost but the newline."""
    assert found(b"".join(records)) == records
    assert found((b"\0" * 30).join(records)) == records


@settings(max_examples=300)
@given(st.data())
def test_whatever_stands_before_and_behind_a_sealed_record_is_found_or_left_whole(data):
    """Every part found is one that was written: rot and junk never make one."""
    whole = [record(at, data.draw(st.sampled_from(NASTY))) for at in (1, 2, 3)]
    pieces = []
    for each in whole:
        kind = data.draw(st.sampled_from(["whole", "cut", "rot", "junk", "nul", "tail"]))
        at = data.draw(st.integers(1, len(each) - 1))
        if kind == "cut":
            each = each[:at]
        elif kind == "tail":
            each = each[at:]
        elif kind == "rot":
            each = each[:at] + bytes([each[at] ^ 1]) + each[at + 1 :]
        elif kind == "junk":
            each += data.draw(st.binary(max_size=20)).replace(b"\n", b"")
        elif kind == "nul":
            each = b"\0" * at + each
        pieces.append(each)
    assert set(found(b"".join(pieces))) <= set(whole)


def test_junk_around_an_intact_record_does_not_hide_it():
    """A stray byte typed into a file costs that byte."""
    for junk in (b"x", b",", b"]", b"}", b"{", b'"', b"\0", b" ", b"junk {junk}", b"\xff"):
        assert found(record(1) + junk) == [record(1)]
        if junk not in (b",",):
            assert found(junk + record(1)) == [record(1)], junk


def test_a_damaged_record_is_not_taken_for_one_by_hand():
    """It has a seal, and the seal says that this is not what was said."""
    rotten = record(1).replace(b"hello", b"hellp")
    assert json.loads(rotten)
    assert found(rotten + record(2)) == [record(2)]
    assert found(record(2) + rotten) == [record(2)]
    assert found(rotten + rotten) == []


def test_a_hostile_line_costs_no_more_than_it_may():
    """A quarter of a million imitations in one damaged line, each as long as the rest of it."""
    head = record(1)[:90]
    assert codec.has_head(head)
    assert found((head + b"a{") * 3_000 + b',"_c":"00000000"}' * 1_000) == []


def test_deep_nesting_and_long_numbers_are_no_trouble():
    """A parser's own limits must not end a check of a whole archive."""
    for odd in (b"[" * 100_000, b"9" * 10_000, b'{"a":' * 50_000):
        assert found(b'{"a":' + odd + record(2)) in ([record(2)], [])
        assert found(record(2) + odd) == [record(2)]


@pytest.mark.parametrize("content", NASTY, ids=repr)
def test_a_line_cut_at_any_byte_is_seen_to_be_cut(content):
    """`cut short` says more to people than `not JSON`."""
    whole = record(1, content, meta={"a": [1, -2.5e3, True]})
    for cut in range(1, len(whole)):
        assert is_cut_short(whole[:cut]), whole[:cut]
    assert not is_cut_short(b"nonsense") and not is_cut_short(b'{"a" nonsense and more of it}')
