"""Lines of a file, forwards and backwards, in memory that follows the longest line.

Split on the byte ``\\n`` and nothing else: content may hold any other separator. A line that is
too long to be a turn is passed over without being kept: its data is ``None``.
"""

from __future__ import annotations

import os

from convmem.log.files import read_exactly
from convmem.turns import MAX_TURN_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Small, since the first or the last few turns are what is asked for most; it grows when more is
# wanted.
FIRST_FORWARD_BLOCK = 4 << 10
LAST_FORWARD_BLOCK = 1 << 20
FIRST_BACKWARD_BLOCK = 4 << 10
LAST_BACKWARD_BLOCK = 1 << 20
# What a line holds beyond the turn's own text: id, marks, seal.
MAX_LINE_BYTES = MAX_TURN_BYTES + (64 << 10)

if TYPE_CHECKING:
    # Where it starts, where it ends (newline not included), and its bytes.
    Line = tuple[int, int, bytes | None]


def forward(fd: int, start: int, end: int, *, block: int | None = None) -> Iterator[Line]:
    """Yield the finished lines of ``[start, end)``, first to last; *start* begins a line.

    Bytes after the last newline are not yielded. Reads *block* bytes at a time; without it, from
    4 KiB on twice as many each time, up to 1 MiB.
    """
    take = block or FIRST_FORWARD_BLOCK
    offset = start
    at = start
    carry: list[bytes] = []
    carried = 0
    while at < end:
        data = os.pread(fd, min(take, end - at), at)
        if not data:
            return
        at += len(data)
        if block is None:
            take = min(take * 2, LAST_FORWARD_BLOCK)
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and carried:
            first = lines[0]
            length = carried + len(first)
            if length <= MAX_LINE_BYTES:
                carry.append(first)
                yield offset, offset + length, b"".join(carry)
            else:
                yield offset, offset + length, None
            offset += length + 1
            carry, carried = [], 0
            del lines[0]
        for line in lines:
            length = len(line)
            yield offset, offset + length, line
            offset += length + 1
        if rest:
            carried += len(rest)
            if carried <= MAX_LINE_BYTES:
                carry.append(rest)
            else:
                carry.clear()


def backward(fd: int, end: int, *, start: int = 0) -> Iterator[Line]:
    """Yield the finished lines of ``[start, end)``, last to first; *end* is behind a newline.

    Reads blocks of 4 KiB that double up to 1 MiB: the cost follows what is taken.
    """
    stop = end - 1  # the newline that ends the line sought
    at = stop
    block = FIRST_BACKWARD_BLOCK
    carry: list[bytes] = []  # the line sought, its last part first
    while at > start:
        take = min(block, at - start)
        block = min(block * 2, LAST_BACKWARD_BLOCK)
        data = read_exactly(fd, take, at - take)
        if len(data) < take:
            return  # cut short under us: nothing before is certain any more
        at -= take
        lines = data.split(b"\n")
        if len(lines) > 1:
            line_start = at + take - len(lines[-1])
            if stop - line_start <= MAX_LINE_BYTES:
                carry.append(lines[-1])
                yield line_start, stop, b"".join(reversed(carry))
            else:
                yield line_start, stop, None
            stop = line_start - 1
            for line in reversed(lines[1:-1]):
                yield stop - len(line), stop, line
                stop -= len(line) + 1
            carry = []
        if stop - at <= MAX_LINE_BYTES:
            carry.append(lines[0])
        else:
            carry.clear()
    if stop >= start:
        whole = stop - start <= MAX_LINE_BYTES
        yield start, stop, b"".join(reversed(carry)) if whole else None


def finished_end(fd: int, size: int, *, start: int = 0) -> int:
    """Return where the last finished line ends, newline included; *start* if there is none."""
    at = size
    block = 256
    while at > start:
        take = min(block, at - start)
        block = min(block * 8, LAST_BACKWARD_BLOCK)
        at -= take
        found = read_exactly(fd, take, at).rfind(b"\n")
        if found >= 0:
            return at + found + 1
    return start


def line_start_after(fd: int, offset: int, end: int) -> int:
    """Return where the first line that starts after *offset* begins; *end* if none does."""
    at = offset
    while at < end:
        data = os.pread(fd, min(4096, end - at), at)
        if not data:
            return end
        found = data.find(b"\n")
        if found >= 0:
            return at + found + 1
        at += len(data)
    return end
