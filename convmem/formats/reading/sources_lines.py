"""Lines, a block of them at a time: what makes reading millions of them cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convmem import jsontext
from convmem.formats.reading.mining import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from convmem.formats.reading.mining import Tally

    # How many bytes are left out in front of the first line; the lines; whether all their numbers
    # surely fit into 64 bits; whether it is what stands behind the last newline, alone.
    Block = tuple[int, list[bytes], bool, bool]

_BLOCK = 512 << 10
# Digits become one, all else another; newlines stay: long numbers and their lines are found in C.
_DIGITS = bytes(
    0x30 if 0x30 <= byte <= 0x39 else byte if byte == 0x0A else 0x78 for byte in range(256)
)
# The shortest run of digits that may not fit into 64 bits.
_LONG_NUMBER = b"0" * 19


def blocks_of_lines(read: Callable[[int], bytes], tally: Tally) -> Iterator[Block]:
    """Yield the lines that *read* gives, without their newlines, in blocks.

    Left out are lines too long for any turn, and holes: NULs by the block, which end a line.
    Memory follows the longest line.
    """
    pending: list[bytes] = []  # the beginning of a line
    size = left_out = 0
    is_too_long = False
    while data := read(_BLOCK):
        lines = data.split(b"\n")
        tail = lines.pop()
        if not lines and not is_too_long and _is_hole(data):
            if pending:
                yield left_out, [b"".join(pending)], False, False
                pending, size = [], 0
                left_out = -1  # there is no newline behind it
            else:
                tally.nuls += left_out == 0
            left_out += len(data)
            continue
        first = 0  # of the lines not yet given
        if lines and is_too_long:
            left_out += len(lines[0]) + 1
            is_too_long = False
            first = 1
        elif lines and pending:
            pending.append(lines[0])
            line = b"".join(pending)
            pending, size = [], 0
            yield left_out, [line], jsontext.is_exact(line), False
            left_out = 0
            first = 1
        for number in _with_long_numbers(data):
            if first <= number < len(lines):
                yield left_out, lines[first:number], True, False
                yield 0, [lines[number]], False, False
                left_out = 0
                first = number + 1
        if first < len(lines):
            yield left_out, lines[first:] if first else lines, True, False
            left_out = 0
        if is_too_long:
            left_out += len(tail)
        elif tail:
            pending.append(tail)
            size += len(tail)
            if size > MOST_BYTES:
                tally.too_long += 1
                left_out += size
                pending, size = [], 0
                is_too_long = True
    if pending:
        line = b"".join(pending)
        yield left_out, [line], jsontext.is_exact(line), True
    elif left_out:
        yield left_out, [], True, True


def _with_long_numbers(data: bytes) -> list[int]:
    """Return which lines of *data* hold a number that may not fit into 64 bits."""
    digits = data.translate(_DIGITS)
    at = digits.find(_LONG_NUMBER)
    numbers = []
    counted = number = 0
    while at >= 0:
        number += digits.count(b"\n", counted, at)
        numbers.append(number)
        counted = digits.find(b"\n", at)
        if counted < 0:
            break
        at = digits.find(_LONG_NUMBER, counted)
    return numbers


def _is_hole(data: bytes) -> bool:
    return len(data) >= _BLOCK >> 4 and data[:1] == b"\0" and not data.strip(b"\0")
