"""Blanking the vectors of what a turn said that is scrubbed: in place, in every file, at once.

A vector tells much of its text. Its record becomes zeros, which are no text's; no other is moved.
The file's generation changes with it, so that an index that thinks the vector is there looks for
it again, and who embeds the text just now drops it. Needs no numpy: what made the vectors may not
be installed any more.
"""

from __future__ import annotations

import os
import zlib
from contextlib import closing

from convmem.errors import ConvmemError, StorageError, storage_error
from convmem.log import codec
from convmem.log.files import read_exactly, sync_data, write_all_at
from convmem.log.locks import held
from convmem.search.said import text_of
from convmem.search.semantic import vector_header
from convmem.search.semantic.texts import key_of, said_for_meaning
from convmem.stores.logs import vector_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from convmem.log.files import Folder
    from convmem.stores.caretakers import Logs

_LOCK = "vectors-in-place"
# Held for as long as a batch, or the whole file, takes to be written.
_PATIENCE_SECONDS = 60.0
_BLOCK_BYTES = 1 << 20


class Blanking:
    """Keeps the vectors of one namespace in step with the scrubbing of one turn.

    Before it, while the text is known: who is killed then finds the turn where it was, and scrubs
    again. And behind it, for what another process has made of the text meanwhile.
    """

    def __init__(self, logs: Logs, namespace: str) -> None:
        self._logs = logs
        self._namespace = namespace
        self._keys: set[bytes] = set()

    def before(self, lines: Iterable[bytes]) -> None:
        """Blank the vectors of what *lines* say, which are about to go. Raises nothing for it."""
        for line in lines:
            turn = codec.parse(line)
            text = "" if turn is None else said_for_meaning(text_of(turn))
            if text:
                self._keys.add(key_of(text))
        try:
            self._blank(is_last=False)
        except ConvmemError:
            return  # what is to go goes, whatever is derived from it; ``behind`` tries again

    def behind(self) -> None:
        """Blank them once more, now that nobody can read the turn.

        Raises:
            StorageError: There may be one still.
        """
        try:
            self._blank(is_last=True)
        except ConvmemError as error:
            raise StorageError(
                f"the turn was scrubbed, but the vector of what it said may be left: {error}",
                hint="make the vectors anew, or do without: convmem index --drop --semantic",
            ) from error

    def _blank(self, *, is_last: bool) -> None:
        if not self._keys:
            return
        folder = self._logs.index_folder(self._namespace, create=False)
        if folder is None:
            return
        with closing(folder):
            # Who makes the first of them has not read the turn yet.
            if not vector_files(folder):
                return
            with alone_with_vectors(folder):
                for name in vector_files(folder):
                    blank(folder, name, self._keys, is_last=is_last)


def alone_with_vectors(folder: Folder) -> held:
    """Keep others from changing the files of vectors in *folder* meanwhile.

    Raises:
        LockTimeout, StorageError: The lock is not to be had.
    """
    return held(folder, _LOCK, _PATIENCE_SECONDS)


def blank(folder: Folder, name: str, keys: Collection[bytes], *, is_last: bool = True) -> None:
    """Make zeros of each record of *keys* in a file of vectors, durably; for who is alone with it.

    Reads the file once, a megabyte at a time. Its generation changes if there was one, or if this
    *is the last* time. A file that no reader could use is removed.

    Raises:
        StorageError: They may be there still.
    """
    try:
        try:
            fd = folder.open_file(name, os.O_RDWR)
        except FileNotFoundError:
            return
        try:
            size = vector_header.record_bytes(read_exactly(fd, vector_header.BYTES, 0))
            if size is None:
                folder.remove(name)
                folder.sync()
                return
            places = list(_places(fd, size, keys))
            if places:
                # First: who dies in between leaves no index that counts on what is blank.
                _renew(fd)
                zeros = bytes(size - 4)
                record = zeros + zlib.crc32(zeros).to_bytes(4, "little")
                for place in places:
                    write_all_at(fd, record, place)
                sync_data(fd)
            if places or is_last:
                _renew(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise storage_error(error, f"cannot blank {folder.path}/{name}") from error


def _places(fd: int, size: int, keys: Collection[bytes]) -> Iterator[int]:
    """Yield where records of *keys* begin, also behind those that count."""
    at = vector_header.BYTES
    while data := read_exactly(fd, max(_BLOCK_BYTES // size, 1) * size, at):
        for key in keys:
            found = data.find(key)
            while found >= 0:
                if found % size == 0:
                    yield at + found
                found = data.find(key, found + 1)
        at += len(data)


def _renew(fd: int) -> None:
    """Give the file another generation, in one write within one sector."""
    header = read_exactly(fd, vector_header.BYTES, 0)
    write_all_at(fd, vector_header.renewed(header, os.urandom(16)), 0)
    sync_data(fd)
