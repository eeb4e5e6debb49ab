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

BLOCK_BYTES = 1 << 20
# A batch that is longer than this is left to who reads record by record.
_MOST_BLOCKS = 8


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

    def __init__(self, offset: int, data: bytes, found: list[bytes]) -> None:
        self.offset = offset
        self.end = offset + len(data)
        self.data = data
        self.lines = found
        self.sizes = [len(line) + 1 for line in found]
        self.batches: list[tuple[int, int]] = []
        self.is_sealed = True

    @property
    def offsets(self) -> Iterator[int]:
        """Where each line begins, and where the last ends."""
        return accumulate(self.sizes, initial=self.offset)


def good_blocks(fd: int, end: int) -> Iterator[Block]:
    """Yield the blocks of ``[0, end)`` from the first on, up to the first that is not good.

    *end* is behind a newline. What is behind the last block may be good for the most part.
    """
    at = 0
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
            if at + cut >= end or take >= _MOST_BLOCKS * BLOCK_BYTES:
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
    is_sealed = codec.are_intact(found)
    if not is_sealed and any(codec.fault_of(line) is not None for line in found):
        return None
    if max(map(len, found)) > lines.MAX_LINE_BYTES:
        return None
    batches: list[tuple[int, int]] = []
    if b'],"_c":"' in data:
        cut = _find_batches(found, batches)
        if cut < len(found):
            data = data[: sum(map(len, found[:cut])) + cut]
            del found[cut:]
    block = Block(offset, data, found)
    block.is_sealed = is_sealed
    block.batches = batches
    return block


def _find_batches(found: list[bytes], batches: list[tuple[int, int]]) -> int:
    """Append (first, closing line) of each batch; return how many lines stand before one that is
    not closed, all of them if each is."""
    first = -1
    name = b""
    for at, line in enumerate(found):
        mark = codec.batch_mark(line) if codec.ends_like_a_batch(line) else None
        if mark is not None and not codec.is_sealed(line):
            mark = None
        if first >= 0 and (mark is None or mark[0] != name):
            return first
        if mark is not None:
            if first < 0:
                first, name = at, mark[0]
            if mark[1] == mark[2] - 1:
                batches.append((first, at))
                first = -1
    return len(found) if first < 0 else first
