"""Turns that are packed into one: all of them come out, and what packs a bomb costs nothing."""

from __future__ import annotations

import base64
import tracemalloc
import zlib

import pytest

from convmem import Turn, copied


def _event(squeezed: bytes, ids: list[str]) -> Turn:
    told = {"from": "other", "ids": ids, "turns": str(base64.b64encode(squeezed), "ascii")}
    return Turn("event", "", meta={copied.KEY: told})


@pytest.mark.parametrize("count", [1, 2, 3000])
def test_what_was_packed_comes_out_line_by_line(count):
    """Long lines, too: they go over what is unpacked at a time."""
    lines = [b'{"role":"user","content":"%s"}' % (b"x" * (at % 7 * 9_000)) for at in range(count)]
    ids = [str(at) for at in range(count)]
    turn = Turn("event", "", meta={copied.KEY: copied.packed("other", ids, lines)})
    assert list(copied.lines_in(turn)) == lines
    assert len(copied.turns_in(turn)) == count


@pytest.mark.parametrize("unit", [b"\n", b"{}\n", b'{"role":"user","content":""}\n'])
def test_a_few_bytes_that_pack_a_hundred_megabytes_are_not_all_unpacked(unit):
    """Anybody who may record can send such a turn, a model by MCP as well."""
    packer = zlib.compressobj(9)
    piece = unit * ((1 << 20) // len(unit))
    squeezed = b"".join(packer.compress(piece) for _ in range(100)) + packer.flush()
    turn = _event(squeezed, ["a", "b"])
    tracemalloc.start()
    try:
        assert len(copied.turns_in(turn)) <= 2
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("squeezed", [b"", b"no zlib", zlib.compress(b"{}\n" * 9)[:-6]])
def test_what_was_written_by_hand_holds_what_can_be_read_of_it(squeezed):
    """A turn that nobody can unpack must not keep its conversation from being read."""
    assert copied.turns_in(_event(squeezed, ["a"])) == []
