"""Conversations whose records stand one a line, or as the elements of one array, and back.

In an array they are preceded by a head that says so: an event with an empty array as its record.
"""

from __future__ import annotations

from convmem.formats.openai.beginnings import ARRAY, values_of
from convmem.formats.protocol import EVENT, Begin, Record
from convmem.formats.raws import as_bytes, as_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from convmem.formats.protocol import Kept
    from convmem.formats.reading.sources import Source

_EMPTY = b"[]"


def array_head() -> Record:
    """Return the record that goes before those which were the elements of an array."""
    return Record(EVENT, "", _EMPTY, None, None, {"kind": "conversation"})


def read_apart(
    source: Source,
    whole: Callable[[bytes, Any], Iterable[Begin | Record] | None],
    is_ours: Callable[[Any], bool],
    record_of: Callable[[Any, bytes | None], Record],
) -> Iterator[Begin | Record]:
    """Yield what a source holds in which a value is a whole conversation, or one record of one.

    *whole* returns what a whole one says, or ``None``. Records that stand alone are one
    conversation, until a whole one comes; *is_ours* says what begins another behind that.
    """
    shape, values = values_of(source)
    is_open = are_loose = False
    for raw, value in values:
        said = whole(raw, value)
        if said is not None:
            is_open, are_loose = True, False
            yield from said
            continue
        if not is_open or (not are_loose and is_ours(value)):
            is_open = are_loose = True
            yield Begin(None)
            if shape == ARRAY:
                yield array_head()
        yield record_of(value, raw)


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
