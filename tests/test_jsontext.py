"""One JSON, two roads: the fast parser and the exact one must never disagree about content.

A short command goes without orjson, a long-lived process with it; the same bytes must mean the
same to both, and what no reader can be trusted with is refused by both.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import math
import os
import tempfile
import uuid
from unittest import mock

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convmem import Archive, InvalidTurn, jsontext

few = settings(max_examples=int(os.environ.get("CONVMEM_EXAMPLES", "100")), deadline=None)
many = settings(max_examples=3 * few.max_examples, deadline=None)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = (
    st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        [2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, -0.0, 1e16]
    )
)


def values_of(leaves):
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
        max_leaves=12,
    )


VALUES = values_of(st.none() | st.booleans() | NUMBERS | TEXT)
SPELLED_ALIKE = values_of(st.none() | st.booleans() | st.integers(-(2**70), 2**70) | TEXT)


@contextlib.contextmanager
def road(name):
    """Take one of the two roads for a while."""
    fast, calls = (orjson, 0) if name == "orjson" else (None, 1 << 60)
    with (
        mock.patch.object(jsontext, "_orjson", fast),
        mock.patch.object(jsontext, "_calls_before_orjson", calls),
    ):
        yield


def on_both_roads(function, value):
    """Return what *function* makes of *value* on each road: a ``repr``, or the refusal's type."""
    outcomes = []
    for name in ("orjson", "stdlib"):
        with road(name):
            try:
                outcomes.append(repr(function(value)))
            except jsontext.NotJson:
                outcomes.append("refused")
    return outcomes


@few
@given(VALUES)
def test_what_one_road_writes_every_road_reads_back(value):
    """Content is never edited: not a digit of a number, not a code point of a text."""
    for writer in ("orjson", "stdlib"):
        with road(writer):
            text = jsontext.dumps(value)
        assert b"\n" not in text
        assert on_both_roads(jsontext.loads, text) == [repr(value)] * 2
        assert repr(json.loads(text)) == repr(value)


@few
@given(SPELLED_ALIKE)
@example("\x00\x1f\x7f\u2028")
@example({"a": [2**64, -(2**63) - 1]})
def test_both_roads_write_the_same_bytes(value):
    """What a line looks like does not depend on who wrote it (but for how floats are spelled)."""
    written = on_both_roads(jsontext.dumps, value)
    assert written[0] == written[1]


SPOILERS = b'0123456789eE+-."\\u/{}[],: \t\r\n\x00\x1f\x7f\x80\xc3\xed\xa0NIntfa'


@many
@given(VALUES, st.data())
def test_both_roads_agree_on_mangled_text(value, data):
    """Damage that one reader takes for a turn and the other does not would split the truth."""
    text = bytearray(jsontext.dumps(value))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        byte = data.draw(st.sampled_from(SPOILERS))
        match data.draw(st.sampled_from(["insert", "replace", "delete", "cut"])):
            case "insert":
                text.insert(at, byte)
            case "replace" if at < len(text):
                text[at] = byte
            case "delete" if at < len(text):
                del text[at]
            case "cut":
                del text[at:]
    outcomes = on_both_roads(jsontext.loads, bytes(text))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (b"NaN", None),
        (b"Infinity", None),
        (b"[-Infinity]", None),
        (b"1e400", None),
        (b"-1e400", None),
        (b"1e-400", 0.0),
        (b"18446744073709551615", 2**64 - 1),
        (b"18446744073709551616", 2**64),
        (b"-9223372036854775808", -(2**63)),
        (b"-9223372036854775809", -(2**63) - 1),
        (b"1000000000000000000000000000000", 10**30),
        (b"-0", 0),
        (b"-0.0", -0.0),
        (b"0.1000000000000000055511151231257827", 0.1),
        (b"123456789012345678901234567890e-10", 12345678901234567890.123456789),
        (b"01", None),
        (b"1.", None),
        (b".5", None),
        (b"+1", None),
        (b"0x10", None),
        (b"1_000", None),
        ("\u0661".encode(), None),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\ud800"', None),
        (b'{"\\udfff": 1}', None),
        (b'"\\ud800x"', None),
        (b'"\xed\xa0\x80"', None),
        (b'"\xff"', None),
        (b'"\xc0\x80"', None),
        (b'"\\u0000"', "\0"),
        (b'"\x00"', None),
        (b'"\n"', None),
        (b'"\\x41"', None),
        (b'"\x7f"', "\x7f"),
        ('"\u2028"'.encode(), "\u2028"),
        (b"\xef\xbb\xbf1", None),
        (b" \t\r\n1 ", 1),
        (b"\x0b1", None),
        ("\u00a01".encode(), None),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b"[1,]", None),
        (b'{"a":1,}', None),
        (b"[1] [2]", None),
        (b"// no\n1", None),
        (b"'a'", None),
        (b"tru", None),
        (b"", None),
        (b"[" * 100_000, None),
        (b"[" * 100_000 + b"]" * 100_000, None),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_json_is_the_same_on_both_roads(text, meaning):
    """Each of these is read differently by some JSON reader in use."""
    expected = "refused" if meaning is None else repr(meaning)
    assert on_both_roads(jsontext.loads, text) == [expected, expected]


@pytest.fixture(scope="module")
def shared_chat():
    with tempfile.TemporaryDirectory() as root, Archive.open(root, durability="none") as archive:
        yield archive.conversation("exact")


@few
@given(VALUES, st.dictionaries(TEXT, VALUES, max_size=3))
@example(2**63, {})
@example(-(2**64), {})
@example({"a": [10**40, {"b": 2**64 + 1}]}, {"big": 2**64})
@example("a\nb\u2028c\u0085d\r\n", {})
@example([], {})
@example(None, {})
def test_any_json_value_comes_back_exactly(shared_chat, value, meta):
    """O9, K16, A7: integers beyond 64 bits, line separators, nulls: stored is what was given."""
    answer = shared_chat.record("user", value, meta=meta)
    (turn,) = shared_chat.tail(1)
    assert repr((turn.content, turn.meta)) == repr((value, meta))
    assert turn == answer


@dataclasses.dataclass
class Point:
    x: int = 1


# What, and where in its field; ``None`` where the message names the field alone.
UNSTORABLE = [
    (math.nan, ""),
    (math.inf, ""),
    ([1, -math.inf], "[1]"),
    ({"a": {"b": [0, math.nan]}}, ".a.b[1]"),
    ("\ud800", None),
    (["fine", "\udfff"], None),
    ({"\ud800": 1}, None),
    ({1: 2}, ""),
    ({"a": {None: 2}}, ".a"),
    (datetime.datetime(2026, 1, 1), ""),
    ({"when": datetime.date(2026, 1, 1)}, ".when"),
    (uuid.UUID(int=1), ""),
    (Point(), ""),
    (b"bytes", ""),
    ({1, 2}, ""),
    (object(), ""),
    pytest.param(10**5000, None, id="5000 digits"),
]


@pytest.mark.parametrize("name", ["orjson", "stdlib"])
@pytest.mark.parametrize(("bad", "place"), UNSTORABLE)
def test_what_is_no_json_is_refused_by_its_place(tmp_path, name, bad, place):
    """A8: a clear error, nothing half-written; encoders alone would turn NaN into null."""
    root = tmp_path / "archive"
    with Archive.open(root) as archive, road(name):
        chat = archive.conversation("a")
        for field, attempt in [
            ("content", lambda: chat.record("user", bad)),
            (
                "meta" if place is None else "meta.key",
                lambda: chat.record("user", "", meta={"key": bad}),
            ),
            ("key", lambda: chat.record("user", "", key=bad)),
            ("turn 1: content", lambda: chat.record_many([("user", "good"), ("user", bad)])),
        ]:
            with pytest.raises(InvalidTurn) as caught:
                attempt()
            assert (field if place is None else field + place) in str(caught.value)
        assert not root.exists()
        chat.record("user", "first")
        before = (root / "default" / "a.jsonl").read_bytes()
        with pytest.raises(InvalidTurn):
            chat.record("user", bad)
        assert (root / "default" / "a.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["orjson", "stdlib"])
@pytest.mark.parametrize("depth", [100, 250, 256, 400, 480, 500, 600, 900, 1000, 1100, 50_000])
def test_what_was_recorded_however_deep_can_be_read(tmp_path, name, depth):
    """A turn that is stored and can then not be parsed would be lost to every reader."""
    value: object = "bottom"
    for _ in range(depth):
        value = [value]
    with Archive.open(tmp_path, durability="none") as archive:
        chat = archive.conversation("deep")
        with road(name):
            try:
                chat.record("user", value)
            except InvalidTurn as error:
                assert "nested too deeply" in str(error)
                return
        for reader in ("orjson", "stdlib"):
            with road(reader):
                (turn,) = chat.tail(1)
                found = turn.content
                for _ in range(depth):
                    (found,) = found
                assert found == "bottom"
