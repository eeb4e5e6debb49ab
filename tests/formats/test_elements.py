"""Elements of one large array: one by one, byte for byte, and around damage."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convmem.formats.reading import elements
from convmem.formats.reading.elements import elements_of
from convmem.formats.reading.mining import Tally

VALUES = [
    {"title": "one", "mapping": {"a": {"id": "a", "parts": ["x", {"y": [[]]}]}}, "n": 1.5},
    {"title": 'tw"o }]{[\\', "mapping": {}, "n": 10**30},
    {"title": "thrée", "mapping": {"b": {"id": "b", "parts": []}}, "n": None},
    {"title": "", "mapping": {"": []}, "n": -0.0},
]


def read(data, *keys, step=1 << 20, tally=None):
    """Return the elements of *data*, given in pieces of *step* bytes."""
    at = 0

    def give(size):
        nonlocal at
        piece = data[at : at + min(size, step)]
        at += len(piece)
        return piece

    return list(elements_of(give, keys, Tally() if tally is None else tally))


def dumps(value, **how):
    return json.dumps(value, ensure_ascii=False, **how).encode()


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_elements_come_whole_wherever_a_block_ends(step, indent):
    """A block's end is nobody's business but the reader's."""
    tally = Tally()
    found = read(dumps(VALUES, indent=indent), step=step, tally=tally)
    assert [value for _, value in found] == VALUES
    assert [json.loads(raw) for raw, _ in found] == VALUES
    assert all(b"\n" not in raw for raw, _ in found)
    assert tally.records == len(VALUES)
    assert tally.damaged == 0


def test_elements_come_byte_for_byte():
    """The spelling of a number, the order and doubling of keys: what was written is kept."""
    spelt = [b'{"a" : 1.50e+3,"a":2}', b'{ "u":"\\u00e9\\/" }', b'[ 1 ,{"z":{}} ]']
    assert [raw for raw, _ in read(b" [" + b" ,\n".join(spelt) + b"]\n")] == spelt


def test_the_array_may_stand_under_a_key():
    """Some exports wrap it, beside other things that look like it."""
    data = dumps(
        {"version": 1, "other": [{"no": 1}], "deep": {"messages": [{"no": 2}]},
         "text": '"messages": [', "messages": VALUES, "behind": [{"no": 3}]}
    )  # fmt: skip
    for step in (1, 5, 1 << 20):
        assert [value for _, value in read(data, "conversations", "messages", step=step)] == VALUES
        assert read(data, "nothing", step=step) == []
        assert read(data, step=step) == []


def test_elements_may_be_of_any_type():
    """An array is what somebody put into it."""
    mixed = [1, "a,]b", {"x": 1}, None, [2, [3]], True, -1.5, "", {}, [], "end"]
    for step in (1, 4, 1 << 20):
        assert [value for _, value in read(dumps(mixed), step=step)] == mixed
    assert read(b"[]") == read(b"") == read(b"[ ]\n") == read(b"7") == []


def test_deep_elements_are_read():
    """Leaps are for what is common; nothing is too deep for brackets to be counted."""
    deep = '{"a":' * 40 + "[[1]]" + "}" * 40
    found = read(f"[{deep},{deep}]".encode(), step=50)
    assert [raw for raw, _ in found] == [deep.encode()] * 2


@pytest.mark.parametrize("cut", range(1, len(dumps(VALUES[:3]))))
def test_an_array_that_ends_too_early_gives_what_is_whole(cut):
    """A download broke off: what had come is there, and nothing that never was."""
    tally = Tally()
    data = dumps(VALUES[:3])[:cut]
    found = [value for _, value in read(data, tally=tally)]
    assert found == VALUES[: len(found)]
    whole = sum(data.count(dumps(value)) for value in VALUES[:3])
    assert len(found) == whole
    assert tally.records == whole


@pytest.mark.parametrize(
    "garbage", [b" garbage ", b",,", b"\0\0\0", b"<html>", b"\xff\xfe", b",null,", b"12 34"]
)
def test_garbage_between_elements_is_passed_over(garbage):
    """What stands between two whole elements is no reason to lose either."""
    tally = Tally()
    data = b"[" + (garbage + b",").join(dumps(value) for value in VALUES) + b"]"
    found = [value for _, value in read(data, tally=tally) if isinstance(value, dict)]
    assert found == VALUES


@pytest.mark.parametrize("cut", range(2, len(dumps(VALUES[0]))))
def test_an_element_cut_short_does_not_take_all_others_along(cut):
    """Brackets do not add up any more: it goes on with what looks like the elements before."""
    tally = Tally()
    first, second, third, last = (dumps(value) for value in VALUES)
    data = b"[" + second + b"," + first[:cut] + b"," + third + b"," + last + b"]"
    found = [raw for raw, _ in read(data, tally=tally)]
    assert found == [second, third, last]
    assert tally.cut >= 1


def test_pieces_of_a_cut_element_are_no_elements():
    """A message is no conversation, though both may begin with the same key."""
    talk = {"uuid": "c1", "name": "x", "chat": [{"uuid": "m1", "text": "a"}] * 3}
    data = b"[" + dumps(talk) + b"," + dumps(talk)[:-9]
    assert [value for _, value in read(data)] == [talk]


def test_an_element_that_is_too_long_is_passed_over_in_bounded_memory(monkeypatch):
    """Brackets that never close again do not make us read a whole disk into memory."""
    monkeypatch.setattr(elements, "_MOST_ELEMENT_BYTES", 1 << 20)
    tally = Tally()
    first, second, third, _ = (dumps(value) for value in VALUES)
    for long in (b'{"title":"' + b"x" * (9 << 20) + b'"},', b'{"open":[' + b"1," * (4 << 20)):
        data = b"[" + first + b"," + long + second + b"," + third + b"]"
        found = [raw for raw, _ in read(data, step=1 << 18, tally=tally)]
        assert found[0] == first
        assert found[-1] == third
    assert tally.too_long >= 1


def test_raw_newlines_and_constants_are_taken():
    """What lenient readers take is whole: on one line all the same."""
    found = read(b'[{"a":"x\ny","n":NaN},\n{"b":\n1}]')
    assert [raw for raw, _ in found] == [b'{"a":"x\\ny","n":NaN}', b'{"b": 1}']
    assert found[0][1]["a"] == "x\ny"


def test_arrays_one_behind_the_other_are_as_one():
    """Split exports put together again with ``cat``."""
    data = dumps(VALUES[:2]) + b"\n" + dumps(VALUES[2:])
    assert [value for _, value in read(data)] == VALUES


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=80) | st.text(st.sampled_from('{}[]":,\\ \n1a'), max_size=80),
    st.integers(1, 9),
)
def test_anything_can_be_read(data, step):
    """A source is what somebody else wrote: it never ends the program."""
    data = data.encode() if isinstance(data, str) else data
    for raw, _ in read(b"[" + data, "a", step=step):
        assert b"\n" not in raw


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(anything, max_size=6), st.integers(1, 40), st.sampled_from([None, 1]))
def test_any_array_comes_as_it_is(values, step, indent):
    """Blocks, brackets in strings, empty things: none of it changes an element."""
    data = dumps(values, indent=indent)
    assert [value for _, value in read(data, step=step)] == values
    wrapped = dumps({"k": 1, "list": values}, indent=indent)
    assert [value for _, value in read(wrapped, "list", step=step)] == values


@pytest.mark.parametrize(
    "hostile",
    [
        b'[{"' * 20_000,
        b"[" * 100_000,
        b'[{"a":' * 20_000,
        b'[{"a":1},' + b'{"a":[' * 30_000,
        b'[{"a":1},{"a":"' + b'{"a":1},' * 30_000,
        b'["' + b'\\"' * 100_000,
        b'{"' + b'\\"' * 100_000 + b'":[[',
    ],
)
def test_hostile_arrays_cost_what_their_length_costs(hostile, monkeypatch):
    """What is read again to find the way costs a bounded part of what is read."""
    spent = 0

    class Counting:
        def __init__(self, pattern):
            self.pattern = pattern

        def match(self, text, at):
            nonlocal spent
            found = self.pattern.match(text, at)
            spent += found.end() - at + 1
            return found

    for name in ("_BRACKET", "_OUTER_BRACKET"):
        monkeypatch.setattr(elements, name, Counting(getattr(elements, name)))
    read(hostile, step=1 << 14)
    assert spent < 40 * len(hostile) + (4 << 20)
