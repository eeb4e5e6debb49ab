"""Damage in lines: what is whole comes out, in order and as it was; the rest is counted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convmem.formats.reading import mining
from convmem.formats.reading.mining import Miner, Tally, TooDeep
from convmem.formats.reading.sources import Source


class Bytes:
    """An origin that gives bytes from memory: what a file would give, without the file."""

    place = "bytes"
    path = None
    is_member = False
    can_reopen = True
    packed_bytes = None

    def __init__(self, data):
        self.data = data

    def open(self):
        import io

        return io.BytesIO(self.data)


def read(data):
    source = Source(Bytes(data), "s.jsonl")
    found = list(source.records())
    return source, [raw for raw, _ in found], [value for _, value in found]


def line_of(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


A = b'{"type":"user","text":"one"}'
B = b'{"type":"assistant","text":"two","more":{"x":[1,{"y":"}{"}]}}'
C = b'{"type":"user","text":"three"}'


def test_two_records_on_one_line_are_two_records():
    """A writer that lost a newline lost nothing else."""
    source, raws, _ = read(A + B + b"\n" + C + b"\n")
    assert raws == [A, B, C]
    assert source.tally.fused == 1
    assert source.tally.damaged == 1
    assert source.offset == len(A + B + C) + 2


@pytest.mark.parametrize("cut", range(1, len(B)))
def test_a_record_cut_short_does_not_take_the_next_one_along(cut):
    """Wherever the crash was: behind it the next process wrote on, on the same line."""
    source, raws, _ = read(A + b"\n" + B[:cut] + C + b"\n" + A + b"\n")
    assert C in raws
    assert raws[0] == A
    assert raws[-1] == A
    assert 1 <= source.tally.cut + source.tally.unreadable <= 2


def test_pieces_of_a_cut_record_are_no_records():
    """What a record held is not what somebody said."""
    piece = b'{"type":"user","parts":[{"a":1},{"b":2},{"c":"cut he'
    _, raws, _ = read(piece + C + b"\n")
    assert raws == [C]


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0" + A + b"\n" + B + b"\n",
        A + b"\0\0\0" + B + b"\n",
        A + b"\n" + B + b"\0\0\0\n",
        A + b"\n\0\0\0\n" + B + b"\n",
        A + b"\n" + B + b"\n\0\0\0",
    ],
)
def test_nuls_around_records_are_dropped(data):
    """What a power cut leaves where a file had grown but nothing was written yet."""
    source, raws, _ = read(data)
    assert raws == [A, B]
    assert source.tally.nuls == 1


def test_a_hole_of_many_megabytes_does_not_take_the_record_behind_it_along(monkeypatch):
    """A sparse file that is longer than any line may be is not one line."""
    from convmem.formats.reading import sources_lines

    monkeypatch.setattr(sources_lines, "MOST_BYTES", 1 << 20)
    for begin in (b"", A + b"\n", A + b"\n" + B[:9]):
        source, raws, _ = read(begin + bytes(4 << 20) + C + b"\n")
        assert raws[-1] == C
        assert raws[:-1] == ([A] if begin else [])
        assert source.tally.nuls
        assert source.offset == len(begin) + (4 << 20) + len(C) + 1


def test_a_line_that_no_turn_could_hold_is_passed_over(monkeypatch):
    """Memory follows the longest line that may be, not the longest there is."""
    from convmem.formats.reading import sources_lines

    monkeypatch.setattr(sources_lines, "MOST_BYTES", 1 << 20)
    long = b'{"text":"' + b"x" * (3 << 20) + b'"}'
    source, raws, _ = read(A + b"\n" + long + b"\n" + B + b"\n")
    assert raws == [A, B]
    assert source.tally.too_long == 1
    assert source.offset == len(A + long + B) + 3


def test_a_record_that_newlines_broke_is_put_together_again():
    """A newline that was not escaped is the writer's fault, and no reason to lose a record."""
    broken = b'{"type":"user","text":"first\nsecond\nthird","n":\n1}'
    source, raws, values = read(A + b"\n" + broken + b"\n" + C + b"\n")
    assert raws[0::2] == [A, C]
    assert raws[1] == b'{"type":"user","text":"first\\nsecond\\nthird","n": 1}'
    assert values[1]["text"] == "first\nsecond\nthird"
    assert source.tally.joined == 1
    assert source.tally.damaged == 1


def test_a_cut_record_is_not_put_together_with_whole_ones():
    """The line behind it is whole by itself: it is what it says it is."""
    source, raws, _ = read(b'{"type":"user","message":\n' + A + b"\n" + B + b"\n")
    assert raws == [A, B]
    assert source.tally.cut == 1


def test_a_broken_record_behind_a_cut_one_is_put_together():
    """One damage does not hide that the next can be mended."""
    broken = b'{"b":"y\nz"}'
    for cut in (b'{"a":\n', b'{"a":"x\n'):
        source, raws, _ = read(cut + broken + b"\n" + C + b"\n")
        assert raws == [b'{"b":"y\\nz"}', C]
        assert source.tally.cut == 1


@pytest.mark.parametrize(
    "line",
    [
        b'{"n":NaN,"i":-Infinity}',
        b'{"s":"\\ud800 alone"}',
        b'{"i":123456789012345678901234567890}',
        b'{"a":1,"a":2}',
        b'{"tab":"a\tb"}',
        b'  {"a" : 1}\r',
        b'{"big":1e999}',
        b'{"long":' + b"9" * 5000 + b"}",
        b"[1,2]",
        b'"text"',
    ],
)
def test_what_only_lenient_readers_take_is_whole_and_verbatim(line):
    """Nothing is missing from it: it is the reader that is strict."""
    source, raws, _ = read(line + b"\n" + line)
    assert raws == [line, line]
    assert source.tally.damaged == 0
    assert source.unterminated


def test_integers_of_any_length_stay_exact():
    """A float that looks like them is another number."""
    numbers = [10**30 + 1, 2**64, -(2**63) - 1, 2**63]
    data = b"".join(line_of({"n": number}) + b"\n" + A + b"\n" for number in numbers)
    _, _, values = read(data)
    assert [value["n"] for value in values if "n" in value] == numbers


def test_a_record_too_deep_for_python_is_kept_as_text():
    """Depth is no damage; what cannot be looked into can still be kept."""
    deep = b'{"a":' * 3000 + b'"]}"' + b"}" * 3000
    source, raws, values = read(deep + b"\n" + A + deep + b"\n")
    assert raws == [deep, A, deep]
    assert isinstance(values[0], TooDeep)
    assert isinstance(values[2], TooDeep)
    assert source.tally.fused == 1


def test_bytes_that_are_no_text_are_replaced_and_counted():
    """A log holds text; what was readable of the record stays readable."""
    source, raws, values = read(b'{"a":"caf\xe9"}\n' + b"\xff\xfe" + A + b"\n")
    assert raws == ['{"a":"caf\ufffd"}'.encode(), A]
    assert values[0] == {"a": "caf\ufffd"}
    assert source.tally.unreadable == 2


@pytest.mark.parametrize("cut", range(1, len(B)))
def test_a_record_being_written_is_left_for_later(cut):
    """An import in the middle of an append neither loses the record nor counts it as damage."""
    data = A + b"\n" + B[:cut]
    source, raws, _ = read(data)
    assert raws == [A]
    assert source.tally.unfinished == 1
    assert source.tally.damaged == 0
    assert source.offset == len(A) + 1
    assert not source.unterminated
    again = Source(Bytes(A + b"\n" + B + b"\n"), "s.jsonl")
    again.start_at(source.offset)
    assert [raw for raw, _ in again.records()] == [B]


def test_what_is_wrong_at_the_end_is_not_waited_for():
    """A last line that can become nothing whole is mined now: nobody may ever write on."""
    source, raws, _ = read(A + b"\n" + b'{"a":"cut' + C)
    assert raws == [A, C]
    assert source.tally.unfinished == 0
    assert source.unterminated


def test_reading_on_in_the_middle_of_a_fused_line_gives_the_rest():
    """Whoever stopped behind the first of two records on a line gets the second, once."""
    data = A + B + C[:5] + A + b"\n" + C + b"\n"
    source = Source(Bytes(data), "s.jsonl")
    _, expected, _ = read(data)
    for count in range(1, len(expected) + 1):
        source.start_at(0)
        records = source.records()
        got = [next(records)[0] for _ in range(count)]
        records.close()
        source.start_at(source.offset)
        assert got + [raw for raw, _ in source.records()] == expected


# --- anything at all --------------------------------------------------------------------------

words = st.text(
    st.sampled_from('ab{}[]":,\\ \n\t\0é😀\u2028') | st.characters(codec="utf-8"), max_size=8
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["type", "uuid", "text", "message", "a b", "é", "x-y", "0"])
records = st.dictionaries(names, values, min_size=1, max_size=4).map(
    lambda value: {"first": 1, **value}
)
damages = st.sampled_from(
    ["none", "none", "fused", "cut", "nuls before", "nuls behind", "stray", "blank", "crlf"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(records, damages, st.integers(1, 10**6)), max_size=8))
def test_all_that_is_whole_comes_out_in_order(parts):
    """Whatever happened to the others, a record that is all there is not lost."""
    data = b""
    expected = []
    for record, damage, number in parts:
        line = line_of(record)
        if damage == "cut":
            # The next one begins right where this one stops.
            data += line[: 1 + number % (len(line) - 1)]
            continue
        expected.append(line)
        data += {
            "fused": line,
            "nuls before": bytes(number % 9) + line + b"\n",
            "nuls behind": line + bytes(number % 9) + b"\n",
            "stray": b"\xff\xfe " + line + b"\n",
            "blank": b"\n \n" + line + b"\n\n",
            "crlf": line + b"\r\n",
        }.get(damage, line + b"\n")
    # Without a newline the last one is perhaps being written: cut behind a colon, and with a record
    # right behind that, it may yet become one that holds the other.
    source, raws, _ = read(data + b"\n")
    left = iter(raw.rstrip(b"\r") for raw in raws)
    missing = [line for line in expected if not any(line == raw for raw in left)]
    assert not missing
    assert source.tally.unfinished == 0
    assert source.offset == len(data) + 1


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text(st.sampled_from('{}[]":,\\ \n\0a1'), max_size=60))
def test_anything_can_be_read(data):
    """A source is what somebody else wrote: it never ends the program."""
    data = data.encode() if isinstance(data, str) else data
    source, raws, _ = read(data)
    for raw in raws:
        assert b"\n" not in raw
        raw.decode()
    assert source.offset <= len(data)
    assert source.offset == len(data) or source.tally.unfinished
    assert source.tally.records == len(raws)


NUMBERS = b'{"n":[3.97e+16,-1.5E-7,0,-12,true,null,false],"s":"\\ud83d\\ude00\\n\\\\","e":{}}'


@pytest.mark.parametrize("cut", range(1, len(NUMBERS)))
def test_no_beginning_of_a_record_is_taken_for_damage(cut):
    """Numbers, constants and escapes that are half there are half there, not wrong."""
    source, raws, _ = read(A + b"\n" + NUMBERS[:cut])
    assert raws == [A]
    assert (source.offset, source.tally.unfinished) == (len(A) + 1, 1)


@settings(max_examples=100, deadline=None)
@given(st.lists(records, min_size=1, max_size=3), st.integers(0, 10**6))
def test_wherever_a_file_is_cut_the_two_readings_together_give_all(parts, number):
    """Read while it is written: what the first run leaves, the second one takes, and no more."""
    data = b"".join(line_of(part) + b"\n" for part in parts)
    cut = number % len(data)
    first, raws, _ = read(data[:cut])
    second = Source(Bytes(data), "s.jsonl")
    second.start_at(first.offset)
    assert raws + [raw for raw, _ in second.records()] == [line_of(part) for part in parts]


@pytest.mark.parametrize(
    "hostile",
    [
        b'{"' * 50_000,
        b'{"a":' * 20_000,
        b'{"a":{"b":[' * 10_000,
        b'{"a":"\n' * 20_000,
        b'{"a":\n' * 20_000,
        b"{}" * 50_000 + b"{",
        b'{"a":"}\n' + b"}\n" * 50_000,
        b"{" + b" " * 100_000 + b"{",
        b'{"a":[' + b'{"b":1},' * 10_000,
        b'{"x":[{"y":[' * 300 + b"1," * 50_000,
    ],
)
def test_hostile_lines_cost_what_their_length_costs(hostile, monkeypatch):
    """Twice the length is at most about twice the work, whatever somebody made up."""

    def work(data):
        spent = 0
        decoder = mining._DECODER

        class Counting:
            def raw_decode(self, text, at=0):
                nonlocal spent
                try:
                    value, end = decoder.raw_decode(text, at)
                except json.JSONDecodeError as error:
                    # It counts lines from the beginning of the text to say where it is.
                    spent += mining._place_of(error, text) + 10
                    raise
                except RecursionError:
                    spent += 10_000
                    raise
                spent += end - at + 10
                return value, end

            def decode(self, text):
                nonlocal spent
                spent += len(text)
                return decoder.decode(text)

        monkeypatch.setattr(mining, "_DECODER", Counting())
        list(Source(Bytes(data + b"\n"), "s.jsonl").records())
        monkeypatch.setattr(mining, "_DECODER", decoder)
        return spent

    assert work(hostile) < 40 * len(hostile) + (4 << 20)


def test_the_miner_counts_what_it_leaves_out():
    """Whoever imports is told how much was damaged, and of what kind."""
    tally = Tally()
    miner = Miner(tally)
    lines = [b"no json", A + b" garbage", B[:30], A + B[:30] + C]
    at = 0
    found = []
    for line in lines:
        found += [raw for _, raw, _ in miner.take(at, at + len(line) + 1, line)]
        at += len(line) + 1
    found += [raw for _, raw, _ in miner.finish()]
    assert found == [A, A, C]
    assert (tally.unreadable, tally.cut, tally.fused) == (2, 2, 1)
