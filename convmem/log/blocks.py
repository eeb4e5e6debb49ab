"""A log by the block: lines as convmem writes them, checked many at a time.

Checking line by line costs a reader some 4 µs each, mostly for the way in and out of functions.
Here whole blocks go through the same checks. What is unusual (damage, a batch that is not closed)
ends it: who asked reads on from there record by record, to the same answer.
"""

from __future__ import annotations

import os
from itertools import accumulate

from convmem.log import codec, lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Below what the C library gets from the system anew each time: fresh pages cost four times what
# reading into them does.
BLOCK_BYTES = 120 << 10
# A batch that is longer than this is left to who reads record by record.
_LONGEST_BATCH_BYTES = 8 << 20


class Block:
    """Good lines that follow each other, and no batch of which only a part is among them.

    Attributes:
        offset, end: Where it begins and ends, in bytes from the start of the file.
        data: Its bytes; ``lines`` are its lines, without their newlines.
        sizes: Bytes of each line, newline included.
        batches: (first line, closing line) of each batch.
        is_sealed: Whether convmem wrote all of them; else somebody wrote some by hand.
    """

    __slots__ = ("batches", "data", "end", "is_sealed", "lines", "offset", "sizes")

    def __init__(self, offset: int, data: bytes, found: list[bytes], sizes: list[int]) -> None:
        self.offset = offset
        self.end = offset + len(data)
        self.data = data
        self.lines = found
        self.sizes = sizes
        self.batches: list[tuple[int, int]] = []
        self.is_sealed = True

    @property
    def offsets(self) -> Iterator[int]:
        """Where each line begins, and where the last ends."""
        return accumulate(self.sizes, initial=self.offset)


def good_blocks(fd: int, end: int, *, start: int = 0) -> Iterator[Block]:
    """Yield the blocks of ``[start, end)`` from the first on, up to the first that is not good.

    *start* begins a line, *end* is behind a newline. What is behind the last block may be good
    for the most part.
    """
    at = start
    take = BLOCK_BYTES
    while at < end:
        data = os.pread(fd, min(take, end - at), at)
        cut = data.rfind(b"\n") + 1
        if not cut:
            if not data or take > lines.MAX_LINE_BYTES:
                return
            take *= 2  # a line that is longer than a block
            continue
        block = _checked(at, data if cut == len(data) else data[:cut])
        if block is None:
            return
        if not block.lines:
            if at + cut >= end or take >= _LONGEST_BATCH_BYTES:
                return
            take *= 2
            continue
        take = BLOCK_BYTES
        yield block
        at = block.end


def _checked(offset: int, data: bytes) -> Block | None:
    """Return the block up to the first batch that is not closed in it; ``None`` if it is bad."""
    found = data.split(b"\n")
    found.pop()
    sizes = [len(line) + 1 for line in found]
    if max(sizes) > lines.MAX_LINE_BYTES + 1:
        return None
    # The last bytes of each line: a seal, and before it what may end a batch's mark.
    ends = b"".join([line[-_END_BYTES:] for line in found])
    is_sealed = len(ends) == _END_BYTES * len(found) and _are_intact(found, ends)
    if not is_sealed and any(codec.fault_of(line) is not None for line in found):
        return None
    batches: list[tuple[int, int]] = []
    if b"]" in (ends[::_END_BYTES] if is_sealed else ends):
        cut = _find_batches(found, batches)
        if cut < len(found):
            del found[cut:], sizes[cut:]
            data = data[: sum(sizes)]
    block = Block(offset, data, found, sizes)
    block.is_sealed = is_sealed
    block.batches = batches
    return block


_END_BYTES = codec.SEAL_BYTES + 1


def _are_intact(found: list[bytes], ends: bytes) -> bool:
    """Whether ``codec.is_intact`` is true of every line; *ends* are the last 18 bytes of each."""
    seals = bytearray(ends)
    del seals[::_END_BYTES]
    return seals == codec.seals_of(found)


def _find_batches(found: list[bytes], batches: list[tuple[int, int]]) -> int:
    """Append (first, closing line) of each batch; return how many lines stand before one that is
    not closed, all of them if each is."""
    first = -1
    name = b""
    for at, line in enumerate(found):
        mark = None
        if line[-_END_BYTES : -_END_BYTES + 1] == b"]" and codec.is_sealed(line):
            mark = codec.batch_mark(line)
        if first >= 0 and (mark is None or mark[0] != name):
            return first
        if mark is not None:
            if first < 0:
                first, name = at, mark[0]
            if mark[1] == mark[2] - 1:
                batches.append((first, at))
                first = -1
    return len(found) if first < 0 else first
