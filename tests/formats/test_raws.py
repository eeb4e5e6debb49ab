"""The bytes under ``raw``: what an export gives back must be what was imported, to the byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_lines import JSON, TEXT

from convmem.formats.protocol import Kept
from convmem.formats.raws import as_lines, raw_of
from convmem.log import codec
from convmem.turns import Turn

few = settings(max_examples=200, deadline=None)

# Keys that are, or look like, the one that is sought.
KEYS = st.sampled_from(["raw", "ra", '"raw":', ',"raw":', "meta", "_b", "_c", "\\"]) | TEXT
NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | KEYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
SPACES = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n\t", " : ")])


def line_of(turn, spelled, *, seal=False, batch=False):
    body = json.dumps(turn, separators=(",", ":")).encode()[:-1]
    if spelled is not None:
        body += b',"raw":' + spelled
    if batch:
        body += b',"_b":["9f3a01bc",0,2]'
    return codec.sealed(body)[:-1] if seal else body + b"}"


def turn_of(content, meta):
    return {"id": "a", "seq": 1, "ts": "x", "role": "user", "content": content, "meta": meta}


@few
@given(NESTED, NESTED, NESTED, SPACES, st.booleans(), st.booleans())
def test_the_bytes_under_raw_come_back_as_they_were(content, meta, value, spaces, seal, batch):
    """A byte-equal export has nothing else to go by, and content may hold any key it likes."""
    spelled = json.dumps(value, separators=spaces, ensure_ascii=False).encode()
    line = line_of(turn_of(content, meta), spelled, seal=seal, batch=seal and batch)
    assert raw_of(line) == (value if isinstance(value, str) else spelled)


@few
@given(NESTED, NESTED, st.booleans())
def test_a_turn_without_raw_has_none(content, meta, seal):
    """A key of that name deep in what somebody said is no source record."""
    assert raw_of(line_of(turn_of(content, meta), None, seal=seal)) is None


@few
@given(st.dictionaries(KEYS, NESTED, max_size=6), SPACES, st.booleans())
def test_raw_is_found_at_any_place(value, spaces, is_ascii):
    """Lines written by hand or by other programs have their keys in any order."""
    line = json.dumps(value, separators=spaces, ensure_ascii=is_ascii).encode()
    found = raw_of(line)
    if "raw" not in value:
        assert found is None
    elif isinstance(value["raw"], str):
        assert found == value["raw"]
    else:
        assert json.loads(found) == value["raw"]
        assert found in line


@pytest.mark.parametrize(
    "spelled",
    [b"1.50", b"123456789012345678901234567890", b'{"a":1,"a":2}', b"1E2", b'{"raw":{"raw":1}}'],
)
def test_what_a_parser_would_change_is_not_changed(spelled):
    """A number with a zero at its end is the same number, and another file."""
    assert raw_of(line_of(turn_of("", None), spelled, seal=True)) == spelled


def test_the_last_of_two_counts_as_it_does_for_every_reader():
    """JSON readers take the last of two keys of a name; taking another would export a stranger."""
    assert raw_of(b'{"role":"user","content":"","raw":1,"raw":[2]}') == b"[2]"
    assert raw_of(b'{"raw":1,"role":"user","raw":[2],"content":""}') == b"[2]"
    assert raw_of(b'{"role":"user","\\u0072aw":[2],"content":""}') == b"[2]"


def test_depth_beyond_the_fast_parser_is_no_obstacle():
    """A hostile record must not be the one that is lost."""
    spelled = b"[" * 3000 + b"]" * 3000
    assert raw_of(line_of(turn_of("x", None), spelled, seal=True)) == spelled


@few
@given(st.lists(JSON.map(lambda value: json.dumps(value).encode())), st.booleans())
def test_lines_are_joined_to_the_file_they_were(raws, unterminated):
    """Four in five sessions lack their last newline; the export must lack it too."""
    turns = [Kept(Turn("user", "", meta={"source": "x"}), raw) for raw in raws]
    if raws and unterminated:
        turns[-1].turn.meta["unterminated"] = True
    made = b"".join(as_lines(turns))
    assert made == b"\n".join(raws) + (b"\n" if raws and not unterminated else b"")


def test_a_last_line_that_was_continued_has_its_newline():
    """The file grew on after it was imported without its last newline."""
    turns = [
        Kept(Turn("user", "", meta={"unterminated": True}), b"1"),
        Kept(Turn("user", "", meta={}), b"2"),
    ]
    assert b"".join(as_lines(turns)) == b"1\n2\n"
