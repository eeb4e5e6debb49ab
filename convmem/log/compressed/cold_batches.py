"""Turns whose batch lost its other lines to damage: they were answered once, and stand alone now.

Of a log that was written plainly such a half was never answered, and readers pass it over; what
was compressed had been whole.
"""

from __future__ import annotations

import os

from convmem.log import codec, lines, records
from convmem.log.files import write_all_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BLOCK = 1 << 20


def stand_alone(target: int, holes: Mapping[int, str]) -> dict[int, str]:
    """Take the marks off the halves of batches beside *holes* in the log *target*, in place.

    Returns the holes where they are then; the file's position is its end.
    """
    end = os.lseek(target, 0, os.SEEK_CUR)
    names = _batches_beside(target, end, holes)
    halves = _halves(target, end) if names else set()
    at = 0
    moved = {}
    for offset, line_end, line in lines.forward(target, 0, end):
        if offset in holes:
            moved[at] = holes[offset]
        name = _batch_of(line) if offset in halves else None
        if line is not None and name is not None and name in names:
            at += write_all_at(target, codec.without_batch(line), at)
        elif at == offset:
            at = line_end + 1
        else:  # never ahead of the reading: what is written was read
            at = _move(target, offset, line_end + 1, at)
    os.ftruncate(target, at)
    os.lseek(target, at, os.SEEK_SET)
    return moved


def _batches_beside(target: int, end: int, holes: Mapping[int, str]) -> set[bytes]:
    found: set[bytes | None] = set()
    before = None
    is_behind = False
    for offset, _, line in lines.forward(target, 0, end):
        if offset in holes:
            found.add(before)
            is_behind = True
            continue
        before = _batch_of(line)
        if is_behind:
            found.add(before)
            is_behind = False
    return {name for name in found if name is not None}


def _batch_of(line: bytes | None) -> bytes | None:
    mark = codec.batch_mark(line) if line is not None and codec.is_sealed(line) else None
    return None if mark is None else mark[0]


def _halves(target: int, end: int) -> set[int]:
    """Return where the lines begin that readers, in either direction, take for halves."""
    halves: set[int] = set()

    def note(damage: records.Damage) -> None:
        if damage.reason == codec.HALF_BATCH:
            halves.add(damage.offset)

    for found in (
        records.forward(target, 0, end, note),
        records.backward(target, end, note),
    ):
        _read_all(found)
    return halves


def _read_all(found: Iterator[records.Record]) -> None:
    for _ in found:
        pass


def _move(target: int, start: int, end: int, at: int) -> int:
    while start < end:
        data = os.pread(target, min(_BLOCK, end - start), start)
        if not data:
            break
        write_all_at(target, data, at)
        start += len(data)
        at += len(data)
    return at
