"""The vector file: what an embedder made of many texts, each once, opened, appended to, rewritten.

    vectors-<embedder>.bin   header (``vector_header``), and a record for each vector
                             (``vector_records``)

Derived, and appended to. The count is written when the records before it are on the disk, so what
a death or a power cut leaves behind it is nobody's, and the next append writes over it. Nothing is
ever cut off: who reads meanwhile sees whole records only.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from contextlib import suppress

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
from convmem.search.semantic import vector_header
from convmem.search.semantic.vector_records import CHANGED, Records, records_of
from convmem.stores.logs import vector_files, vectors_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from convmem.log.files import Folder

# Who reads a count while it is written over looks again, so often.
_LOOKS = 100
_MAX_DIMENSIONS = 1 << 16


class VectorFile(Records):
    """An embedder's vectors, by position. One thread at a time; closes itself when let go.

    Attributes:
        name: The file's name in its folder.
        dimensions: How many numbers a vector has.
        count: How many vectors there are: positions are 0 to ``count - 1``.
        generation: Changes when positions do: with ``rewrite``, when the file begins anew, and
            when vectors are blanked.
        is_cut: Whether it lacks vectors that it once had.
        begun_anew: Why what was there could not be used; ``None`` mostly.
    """

    __slots__ = (
        "_embedder",
        "_folder",
        "_is_writer",
        "begun_anew",
        "generation",
        "is_cut",
        "name",
    )

    def __init__(self, folder: Folder, embedder: str, dimensions: int, is_writer: bool) -> None:
        self.name = name_of(embedder)
        super().__init__(os.path.join(folder.path, self.name), dimensions)
        self._folder = folder
        self._embedder = embedder
        self._is_writer = is_writer
        self.begun_anew: str | None = None

    def _forget(self) -> None:
        super()._forget()
        self.generation = b""
        self.is_cut = False

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
            self.begun_anew = f"{self.path} {error}"
            self.close()
            self._forget()
            if self._is_writer:
                self._folder.remove(self.name)
                self._make()
        except OSError as error:
            raise storage_error(error, f"cannot read {self.path}") from error
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
                f" {self.path}, and {shape} came",
                hint=CHANGED,
            )
        self.refresh()
        first = self.count
        if not keys:
            return first
        data = records_of(self._record, keys, vectors)
        try:
            write_all_at(self._fd, data, self._place(first))
            # Before they count: a power cut may otherwise leave zeros where records should be.
            sync_data(self._fd)
            write_all_at(
                self._fd,
                vector_header.counted(self.generation, first + len(keys)),
                vector_header.COUNT_AT,
            )
        except OSError as error:
            raise storage_error(error, f"cannot append to {self.path}") from error
        self.count = first + len(keys)
        return first

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
        size = vector_header.ABOUT.size
        data = read_exactly(self._fd, size + 4, 0)
        about = data[:size]
        if data[size:] != zlib.crc32(about).to_bytes(4, "little"):
            raise _Damaged("was damaged")
        magic, version, dimensions, embedder, generation = vector_header.ABOUT.unpack(about)
        is_ours = magic == vector_header.MAGIC and version == vector_header.VERSION
        if not is_ours or embedder != _hash(self._embedder):
            raise _Damaged("was made by another version of convmem")
        if dimensions != self.dimensions:
            raise UsageError(
                f"the embedder {self._embedder} gives vectors of {self.dimensions} numbers, and"
                f" those of that name in {self.path} have {dimensions}",
                hint=CHANGED,
            )
        assert isinstance(generation, bytes)
        return generation

    def _read_count(self) -> None:
        if self._fd < 0:
            return
        for look in range(_LOOKS):
            data = read_exactly(self._fd, vector_header.COUNT.size, vector_header.COUNT_AT)
            count = vector_header.count_in(data, self.generation)
            if count is not None:
                break
            self._look_for_another_generation()
            time.sleep(0 if look < _LOOKS // 2 else 0.001)
        else:
            raise _Damaged("was damaged")
        # One that was copied while it grew may be shorter than it says.
        there = (os.fstat(self._fd).st_size - vector_header.BYTES) // self._size
        self.count = min(count, there)
        self.is_cut = count > there

    def _look_for_another_generation(self) -> None:
        """Be of the one that is there by now: what is scrubbed is blanked in place."""
        with suppress(_Damaged):  # it is just being written, or stays so: the count will tell
            generation = self._read_about()
            if generation != self.generation:
                self._forget()
                self.generation = generation

    def _make(self) -> None:
        self._replace(iter([self._header(os.urandom(16), 0)]))

    def _replace(self, chunks: Iterator[bytes]) -> None:
        try:
            _sweep(self._folder, self.name)
            write_aside(self._folder, self.name, temporary_name(self.name), chunks)
            self._reopen()
            self._read_count()
        except OSError as error:
            raise storage_error(error, f"cannot write {self.path}") from error

    def _header(self, generation: bytes, count: int) -> bytes:
        return vector_header.packed(self.dimensions, _hash(self._embedder), generation, count)


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


def _hash(embedder: str) -> bytes:
    return hashlib.blake2b(embedder.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _sweep(folder: Folder, name: str) -> None:
    """Remove what a writer that died has left in the making; the lock says that none is at it."""
    for entry in folder.entries():
        if owner_of_temporary(entry.name) == name:
            folder.remove(entry.name)
