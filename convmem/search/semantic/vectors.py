"""The vector file: what an embedder made of many texts, each once, looked through in one pass.

    vectors-<embedder>.bin   header, 128 bytes: magic, version, dimensions, hash of the embedder's
                             name, generation, CRC-32 · count, CRC-32
                             records: key of the text, scale, int8[dimensions], CRC-32

Derived, and appended to. The count is written when the records before it are on the disk, so what
a death or a power cut leaves behind it is nobody's, and the next append writes over it. Nothing is
ever cut off: who reads meanwhile sees whole records only. A number that is at most 0.4 % of its
vector's largest one away from what it was stands for it; see ``tests/benchmarks/vectors.py``.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
import zlib
from itertools import pairwise

import numpy as np

from convmem.errors import UsageError, storage_error
from convmem.log.files import (
    owner_of_temporary,
    read_exactly,
    sync_data,
    temporary_name,
    write_all_at,
    write_aside,
)
from convmem.stores.logs import vector_files, vectors_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from convmem.log.files import Folder

KEY_BYTES = 16

_MAGIC = b"convmemv"
_VERSION = 1
# magic, version, dimensions, hash of the name, generation; behind it its CRC-32.
_ABOUT = struct.Struct("<8sII16s16s")
# How many records count, and the CRC-32 of that and the generation. Within one sector of a disk.
_COUNT = struct.Struct("<QI")
_COUNT_AT = 64
_HEADER_BYTES = 128
# Who reads a count while it is written over looks again, so often.
_LOOKS = 100

# Looked through at a time: what a core's cache holds as float32. From 460,800 numbers on OpenBLAS
# starts threads for a product, and waiting for them takes longer than the product.
_NUMBERS = 384 * 1024
# Records wanted that lie so near to each other are read at one go.
_NEAR = 32
_MAX_DIMENSIONS = 1 << 16
# A vector of length 1 has no number above 1.
_MAX_SCALE = 1.001 / 127


class VectorFile:
    """An embedder's vectors, by position. One thread at a time; closes itself when let go.

    Attributes:
        name: The file's name in its folder.
        dimensions: How many numbers a vector has.
        count: How many vectors there are: positions are 0 to ``count - 1``.
        generation: Changes when positions do: with ``rewrite``, and when the file begins anew.
        begun_anew: Why what was there could not be used; ``None`` mostly.
    """

    __slots__ = (
        "_embedder",
        "_fd",
        "_folder",
        "_halves",
        "_is_writer",
        "_order",
        "_record",
        "_rows",
        "_size",
        "_sorted",
        "begun_anew",
        "count",
        "dimensions",
        "generation",
        "name",
    )

    def __init__(self, folder: Folder, embedder: str, dimensions: int, is_writer: bool) -> None:
        self._folder = folder
        self._embedder = embedder
        self._is_writer = is_writer
        self._fd = -1
        self._record = _record(dimensions)
        self._size: int = self._record.itemsize
        self._rows = max(_NUMBERS // dimensions, 1)
        self.name = name_of(embedder)
        self.dimensions = dimensions
        self.begun_anew: str | None = None
        self._forget()

    def _forget(self) -> None:
        """Be as of a file that is empty."""
        self.count = 0
        self.generation = b""
        # The keys by position, in two halves; the positions by first half; the first halves so.
        self._halves: NDArray[np.uint64] = np.empty((0, 2), np.uint64)
        self._order: NDArray[np.int64] = np.empty(0, np.int64)
        self._sorted: NDArray[np.uint64] = np.empty(0, np.uint64)

    @classmethod
    def open(
        cls, folder: Folder, embedder: str, dimensions: int, *, is_writer: bool = False
    ) -> VectorFile:
        """Return the file of *embedder*'s vectors in *folder*; it may be empty. Reads 128 bytes.

        Where there is none a writer makes one, and where it is damaged or of another version a
        writer removes it and begins anew; readers find it empty. A writer holds its lock for all
        it does; readers need none.

        Raises:
            UsageError: The vectors there have other dimensions.
            StorageError: It cannot be read, or made.
        """
        if not 0 < dimensions <= _MAX_DIMENSIONS:
            raise UsageError(f"a vector of {dimensions} numbers cannot be kept")
        opened = cls(folder, embedder, dimensions, is_writer)
        opened.refresh()
        return opened

    def close(self) -> None:
        """Close the descriptor. Closing twice is harmless."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    def refresh(self) -> bool:
        """See what others have appended or rewritten; say whether positions have changed.

        Raises:
            UsageError, StorageError: As ``open`` does.
        """
        before = self.generation
        try:
            if self._fd < 0 or not self._is_current():
                self._reopen()
            self._read_count()
        except _Damaged as error:
            self.begun_anew = f"{self._where()} {error}"
            self.close()
            self._forget()
            if self._is_writer:
                self._folder.remove(self.name)
                self._make()
        except OSError as error:
            raise storage_error(error, f"cannot read {self._where()}") from error
        return self.generation != before

    def append(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> int:
        """Append a row of *vectors* for each of *keys*, durably; return the first one's position.

        A row has length 1, or is all zeros. A death at any moment leaves all of them or none.

        Raises:
            UsageError: They are not as many rows as keys, or of other dimensions.
            StorageError: The system refused. None of them counts.
        """
        if vectors.shape != (len(keys), self.dimensions):
            shape = " × ".join(map(str, vectors.shape))
            raise UsageError(
                f"{len(keys)} vectors of {self.dimensions} numbers were due for"
                f" {self._where()}, and {shape} came",
                hint=_CHANGED,
            )
        self.refresh()
        first = self.count
        if not keys:
            return first
        data = _records(self._record, keys, vectors)
        try:
            write_all_at(self._fd, data, self._place(first))
            # Before they count: a power cut may otherwise leave zeros where records should be.
            sync_data(self._fd)
            self._write_count(self._fd, self.generation, first + len(keys))
        except OSError as error:
            raise storage_error(error, f"cannot append to {self._where()}") from error
        self.count = first + len(keys)
        return first

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
                f"the query's vector has {query.size} numbers, and those in {self._where()}"
                f" have {self.dimensions}",
                hint=_CHANGED,
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

    def rewrite(self, keep: NDArray[np.int64]) -> NDArray[np.int64]:
        """Leave only the vectors at *keep*, which ascend; return the new place of each old one.

        What goes is -1. The new file is written aside and put in the old one's place, so a death
        leaves one or the other; readers go on with the old one until they ``refresh``.

        Raises:
            UsageError: A position is not there.
            StorageError: The system refused; the old file stands.
        """
        self.refresh()
        self._check_positions(keep)
        generation = os.urandom(16)
        moved = np.full(self.count, -1, np.int64)
        moved[keep] = np.arange(len(keep))

        def chunks() -> Iterator[bytes]:
            yield self._header(generation, len(keep))
            for _, records in self._pieces(keep):
                yield records.tobytes()

        self._replace(chunks())
        return moved

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

    def _where(self) -> str:
        return os.path.join(self._folder.path, self.name)

    def _place(self, position: int) -> int:
        return _HEADER_BYTES + position * self._size

    def _is_current(self) -> bool:
        try:
            found = self._folder.stat(self.name)
        except FileNotFoundError:
            return False
        mine = os.fstat(self._fd)
        return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)

    def _reopen(self) -> None:
        self.close()
        self._forget()
        flags = os.O_RDWR if self._is_writer else os.O_RDONLY
        try:
            self._fd = self._folder.open_file(self.name, flags)
        except FileNotFoundError:
            if self._is_writer:
                self._make()
            return
        self.generation = self._read_about()

    def _read_about(self) -> bytes:
        """Return the generation, if the file is what it should be."""
        data = read_exactly(self._fd, _ABOUT.size + 4, 0)
        about = data[: _ABOUT.size]
        if data[_ABOUT.size :] != zlib.crc32(about).to_bytes(4, "little"):
            raise _Damaged("was damaged")
        magic, version, dimensions, embedder, generation = _ABOUT.unpack(about)
        if magic != _MAGIC or version != _VERSION or embedder != _hash(self._embedder):
            raise _Damaged("was made by another version of convmem")
        if dimensions != self.dimensions:
            raise UsageError(
                f"the embedder {self._embedder} gives vectors of {self.dimensions} numbers, and"
                f" those of that name in {self._where()} have {dimensions}",
                hint=_CHANGED,
            )
        assert isinstance(generation, bytes)
        return generation

    def _read_count(self) -> None:
        if self._fd < 0:
            return
        for look in range(_LOOKS):
            data = read_exactly(self._fd, _COUNT.size, _COUNT_AT)
            if len(data) == _COUNT.size:
                count, check = _COUNT.unpack(data)
                if check == zlib.crc32(data[:8], zlib.crc32(self.generation)):
                    break
            time.sleep(0 if look < _LOOKS // 2 else 0.001)
        else:
            raise _Damaged("was damaged")
        # One that was copied while it grew may be shorter than it says.
        there = (os.fstat(self._fd).st_size - _HEADER_BYTES) // self._size
        self.count = min(count, there)

    def _make(self) -> None:
        self._replace(iter([self._header(os.urandom(16), 0)]))

    def _replace(self, chunks: Iterator[bytes]) -> None:
        try:
            _sweep(self._folder, self.name)
            write_aside(self._folder, self.name, temporary_name(self.name), chunks)
            self._reopen()
            self._read_count()
        except OSError as error:
            raise storage_error(error, f"cannot write {self._where()}") from error

    def _header(self, generation: bytes, count: int) -> bytes:
        about = _ABOUT.pack(_MAGIC, _VERSION, self.dimensions, _hash(self._embedder), generation)
        header = about + zlib.crc32(about).to_bytes(4, "little")
        return (header.ljust(_COUNT_AT, b"\0") + _counted(generation, count)).ljust(
            _HEADER_BYTES, b"\0"
        )

    @staticmethod
    def _write_count(fd: int, generation: bytes, count: int) -> None:
        write_all_at(fd, _counted(generation, count), _COUNT_AT)

    def _check_positions(self, positions: NDArray[np.int64] | None) -> None:
        if positions is None or not len(positions):
            return
        if positions[0] < 0 or positions[-1] >= self.count or (np.diff(positions) <= 0).any():
            raise UsageError(
                f"positions in {self._where()} ascend from 0 to {self.count - 1}",
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
            raise storage_error(error, f"cannot read {self._where()}") from error

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


def key_of(text: str) -> bytes:
    """Return the key of *text*: BLAKE2b-128. Two texts never share one."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


def name_of(embedder: str) -> str:
    """Return the name of the file that holds the vectors of the embedder so called."""
    return vectors_file(_hash(embedder)[:8].hex())


def remove_others(folder: Folder, embedder: str) -> list[str]:
    """Remove the vectors of all other embedders; return the names of their files.

    Vectors tell much of their texts: what is deleted must not live on in a file that is forgotten.
    """
    mine = name_of(embedder)
    return [name for name in vector_files(folder) if name != mine and folder.remove(name)]


class _Damaged(Exception):
    """The file cannot be used, and why."""


_CHANGED = (
    "an embedder that has changed needs a new name; or delete the file, and the vectors are made"
    " again"
)


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


def _records(
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


def _counted(generation: bytes, count: int) -> bytes:
    number = count.to_bytes(8, "little")
    return number + zlib.crc32(number, zlib.crc32(generation)).to_bytes(4, "little")


def _hash(embedder: str) -> bytes:
    return hashlib.blake2b(embedder.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _sweep(folder: Folder, name: str) -> None:
    """Remove what a writer that died has left in the making; the lock says that none is at it."""
    for entry in folder.entries():
        if owner_of_temporary(entry.name) == name:
            folder.remove(entry.name)
