"""The records of an open vector file: found by the key of a text, scored, looked at for damage.

A record: key of the text, scale, int8[dimensions], CRC-32. A number that is at most 0.4 % of its
vector's largest one away from what it was stands for it; see ``tests/benchmarks/vectors.py``.
"""

from __future__ import annotations

import zlib
from itertools import pairwise

import numpy as np

from convmem.errors import UsageError, storage_error
from convmem.log.files import read_exactly
from convmem.search.semantic import vector_header
from convmem.search.semantic.texts import KEY_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

CHANGED = (
    "an embedder that has changed needs a new name; or delete the file, and the vectors are made"
    " again"
)
"""What to do about vectors whose dimensions are not those of the file."""

# Looked through at a time: what a core's cache holds as float32. From 460,800 numbers on OpenBLAS
# starts threads for a product, and waiting for them takes longer than the product.
_NUMBERS = 384 * 1024
# Records wanted that lie so near to each other are read at one go.
_NEAR = 32
# A vector of length 1 has no number above 1.
_MAX_SCALE = 1.001 / 127


class Records:
    """The records that count, by position, of a file that another opens and closes.

    Attributes:
        path: Where the file is.
        dimensions: How many numbers a vector has.
        count: How many vectors there are: positions are 0 to ``count - 1``.
    """

    __slots__ = (
        "_fd",
        "_halves",
        "_order",
        "_record",
        "_rows",
        "_size",
        "_sorted",
        "count",
        "dimensions",
        "path",
    )

    def __init__(self, path: str, dimensions: int) -> None:
        self._fd = -1
        self._record = _record(dimensions)
        self._size: int = self._record.itemsize
        self._rows = max(_NUMBERS // dimensions, 1)
        self.path = path
        self.dimensions = dimensions
        self._forget()

    def _forget(self) -> None:
        """Be as of a file that is empty."""
        self.count = 0
        # The keys by position, in two halves; the positions by first half; the first halves so.
        self._halves: NDArray[np.uint64] = np.empty((0, 2), np.uint64)
        self._order: NDArray[np.int64] = np.empty(0, np.int64)
        self._sorted: NDArray[np.uint64] = np.empty(0, np.uint64)

    def positions_of(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """Return where the vector of each key stands; -1 where there is none.

        The first call reads the file once (0.2 s for a million vectors), later ones what was
        appended since. Holds 32 bytes in memory for each vector.
        """
        self._learn_keys()
        wanted = np.frombuffer(b"".join(keys), "<u8").reshape(-1, 2)
        found = np.full(len(wanted), -1, np.int64)
        at = np.searchsorted(self._sorted, wanted[:, 0])
        # One key in 2**64 shares its first half with another, so this mostly goes round once.
        open_ones = np.arange(len(wanted))
        while len(open_ones):
            inside = at[open_ones] < len(self._sorted)
            open_ones = open_ones[inside]
            open_ones = open_ones[self._sorted[at[open_ones]] == wanted[open_ones, 0]]
            positions = self._order[at[open_ones]]
            is_same = self._halves[positions, 1] == wanted[open_ones, 1]
            found[open_ones[is_same]] = positions[is_same]
            open_ones = open_ones[~is_same]
            at[open_ones] += 1
        return found

    def scores(
        self, query: NDArray[np.float32], positions: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Return how alike *query* and each vector are: the cosine, from -1 to 1.

        Of all vectors, or of those at *positions*, which ascend. Exact but for the rounding to
        int8. Cost follows the number of vectors: 0.1 s for a million of 384 numbers, less for few
        positions. In memory: 4 bytes for each, and 2 MB.

        Raises:
            UsageError: The query has other dimensions, or a position is not there.
            StorageError: The file cannot be read.
        """
        if query.shape != (self.dimensions,):
            raise UsageError(
                f"the query's vector has {query.size} numbers, and those in {self.path}"
                f" have {self.dimensions}",
                hint=CHANGED,
            )
        self._check_positions(positions)
        found = np.empty(self.count if positions is None else len(positions), np.float32)
        floats = np.empty((self._rows, self.dimensions), np.float32)
        query = np.ascontiguousarray(query, np.float32)
        for start, records in self._pieces(positions):
            rows = floats[: len(records)]
            np.copyto(rows, records["vector"])
            scale = records["scale"]
            alike = found[start : start + len(records)]
            np.matmul(rows, query, out=alike)
            alike *= scale
            # A damaged scale must not put its vector above all others.
            alike[~((scale >= 0) & (scale <= _MAX_SCALE))] = -1
        return found

    def damaged(self) -> NDArray[np.int64]:
        """Return the positions whose records are not as they were written. Reads the whole file.

        Half a second for a million.
        """
        bad = []
        size = self._size
        for start, records in self._pieces(None):
            data = memoryview(records.tobytes())
            checks = records["check"].tolist()
            bad += [
                start + at
                for at, check in enumerate(checks)
                if zlib.crc32(data[at * size : (at + 1) * size - 4]) != check
            ]
        return np.array(bad, np.int64)

    def _place(self, position: int) -> int:
        return vector_header.BYTES + position * self._size

    def _check_positions(self, positions: NDArray[np.int64] | None) -> None:
        if positions is None or not len(positions):
            return
        if positions[0] < 0 or positions[-1] >= self.count or (np.diff(positions) <= 0).any():
            raise UsageError(
                f"positions in {self.path} ascend from 0 to {self.count - 1}",
                hint="it may have been rewritten meanwhile: refresh() tells",
            )

    def _pieces(
        self, positions: NDArray[np.int64] | None
    ) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Yield records, some at a time, with the place of the first among all asked."""
        if positions is None:
            for start in range(0, self.count, self._rows):
                yield start, self._read(start, min(start + self._rows, self.count))
            return
        # Where there is a gap, or the record belongs to the next stretch, a new piece begins.
        near = _NEAR if len(positions) * 64 < self.count else self._rows
        begins = np.diff(positions // self._rows, prepend=-1) > 0
        begins[1:] |= np.diff(positions) > near
        edges = [*np.flatnonzero(begins).tolist(), len(positions)]
        for start, end in pairwise(edges):
            first = int(positions[start])
            records = self._read(first, int(positions[end - 1]) + 1)
            if len(records) == end - start:
                yield start, records
            else:
                yield start, records[positions[start:end] - first]

    def _read(self, first: int, end: int) -> NDArray[np.void]:
        try:
            data = read_exactly(self._fd, (end - first) * self._size, self._place(first))
            if len(data) < (end - first) * self._size:
                # Somebody has cut it: what is missing is like nothing.
                data = data.ljust((end - first) * self._size, b"\0")
            return np.frombuffer(data, self._record)
        except OSError as error:
            raise storage_error(error, f"cannot read {self.path}") from error

    def _learn_keys(self) -> None:
        known = len(self._halves)
        if known == self.count:
            return
        halves = np.empty((self.count, 2), np.uint64)
        halves[:known] = self._halves
        for first in range(known, self.count, self._rows):
            end = min(first + self._rows, self.count)
            keys = np.ascontiguousarray(self._read(first, end)["key"])
            halves[first:end] = keys.view("<u8").reshape(-1, 2)
        self._halves = halves
        self._order = np.argsort(halves[:, 0], kind="stable")
        self._sorted = halves[self._order, 0]


def _record(dimensions: int) -> np.dtype[np.void]:
    padded = -dimensions % 4
    return np.dtype(
        {
            "names": ["key", "scale", "vector", "check"],
            "formats": [f"V{KEY_BYTES}", "<f4", (np.int8, (dimensions,)), "<u4"],
            "offsets": [0, 16, 20, 20 + dimensions + padded],
            "itemsize": 24 + dimensions + padded,
        }
    )


def records_of(
    record: np.dtype[np.void], keys: Sequence[bytes], vectors: NDArray[np.float32]
) -> bytes:
    """Return the records of *vectors* as bytes."""
    if any(len(key) != KEY_BYTES for key in keys):
        raise ValueError(f"a key has {KEY_BYTES} bytes")
    data = bytearray(len(keys) * record.itemsize)
    records = np.frombuffer(data, record)
    records["key"] = np.frombuffer(b"".join(keys), f"V{KEY_BYTES}")
    scale = np.abs(vectors).max(axis=1) / np.float32(127)
    records["scale"] = scale
    records["vector"] = np.rint(vectors / np.where(scale == 0, 1, scale)[:, None])
    size = record.itemsize
    view = memoryview(data)
    records["check"] = [zlib.crc32(view[at : at + size - 4]) for at in range(0, len(data), size)]
    return bytes(data)
