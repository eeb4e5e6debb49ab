"""Conversations whose records stand one a line, or as the elements of one array, and back.

In an array they are preceded by a head that says so: an event with an empty array as its record.
"""

from __future__ import annotations

from convmem.formats.protocol import EVENT, Record
from convmem.formats.raws import as_bytes, as_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convmem.formats.protocol import Kept

_EMPTY = b"[]"


def array_head() -> Record:
    """Return the record that goes before those which were the elements of an array."""
    return Record(EVENT, "", _EMPTY, None, None, {"kind": "conversation"})


def as_array_or_lines(kept: Iterable[Kept]) -> Iterator[bytes]:
    """Yield the records of one conversation as they stood: lines byte for byte, or an array."""
    turns = iter(kept)
    first = next(turns, None)
    if first is None:
        return
    if first.raw is None or as_bytes(first.raw) != _EMPTY:
        yield from as_lines(each for part in ((first,), turns) for each in part)
        return
    before = b"["
    for each in turns:
        if each.raw is not None:
            yield before + as_bytes(each.raw)
            before = b",\n"
    yield b"[]\n" if before == b"[" else b"]\n"
