"""Reading a compressed log as if it were plain: unpacked into a file without a name, as needed.

Small ones are unpacked into memory. Larger ones take room on the archive's own disk (so that what
was private there stays there), or where temporary files go if that one cannot be written or has
no room. Nothing is left behind, whatever happens to the reader.
"""

from __future__ import annotations

import os

from convmem.errors import CorruptLog, StorageFull, storage_error
from convmem.log import codec, lines
from convmem.log.compressed.cold_file import ENDING, SMALL_STEP, ColdFile, zstd_library
from convmem.log.files import write_all, write_all_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem.log.compressed.cold_file import ColdFacts, Part
    from convmem.log.files import Folder

# What one reader may take of the memory.
_IN_MEMORY_BYTES = 4 << 20
_LIKELY_RATIO = 8


class Unpacked:
    """The plain log behind a compressed one. Filled from its end, no further than was asked for.

    Of a part that is damaged those lines are there that hold their own seal; the rest reads as
    bytes that were never written (NUL): readers tell of it as of any damage, and go on behind it.

    Attributes:
        facts: What is known of the log.
        fd: A descriptor of the plain log: only what was asked for is there. The caller's to close.
        holes: Where something is missing, as far as was read, and what.

    Raises (on opening):
        FileNotFoundError: There is no compressed log.
        CorruptLog: Its end is not whole; read what is left of it as a ``Remnant``.

    Raises (on unpacking):
        UsageError: zstd is not installed.
    """

    __slots__ = ("_cold", "_todo", "facts", "fd", "holes")

    def __init__(self, folder: Folder, name: str) -> None:
        self.fd = -1
        self._cold = ColdFile(folder, name + ENDING)
        self.facts: ColdFacts | None = self._cold.facts
        self.holes: dict[int, str] = {}
        self._todo = list(self._cold.parts)
        size = self._cold.facts.plain_bytes
        try:
            self.fd = nameless_file(folder, size)
            os.ftruncate(self.fd, size)
        except OSError as error:
            if self.fd >= 0:
                os.close(self.fd)
            raise storage_error(error, f"cannot unpack {self._cold.path}") from error

    def lines_backward(self) -> Iterator[lines.Line]:
        """Yield the lines from the last to the first, unpacking no more than is taken."""
        for part in reversed(self._cold.parts):
            if self._todo and self._todo[-1] is part:
                self._fill(self._todo.pop())
            yield from lines.backward(self.fd, part.end, start=part.start)

    def fill(self) -> None:
        """Unpack all that was not yet.

        Raises:
            StorageFull: There is no room for it. Looked at before anything is written.
            StorageError: The system refused to read or write.
        """
        if self._todo:
            self._check_room(self._todo[-1].end)
        while self._todo:
            self._fill(self._todo.pop())

    def source(self) -> int:
        """Return a descriptor of the compressed file, the caller's to close."""
        return os.dup(self._cold.fd)

    def close(self) -> None:
        """Close the compressed file."""
        self._cold.close()

    def _fill(self, part: Part) -> None:
        try:
            os.lseek(self.fd, part.start, os.SEEK_SET)
            last = b"\n"
            for chunk in self._cold.unpack(part):
                write_all(self.fd, chunk)
                last = chunk[-1:] or last
            if last != b"\n":
                raise CorruptLog("a part that does not end a line")
        except CorruptLog:
            self._fill_what_is_left(part)
        except OSError as error:
            raise storage_error(error, f"cannot unpack {self._cold.path}") from error

    def _fill_what_is_left(self, part: Part) -> None:
        os.lseek(self.fd, part.start, os.SEEK_SET)
        try:
            for chunk in self._cold.unpack(part, step=SMALL_STEP):
                write_all(self.fd, chunk)
        except CorruptLog:
            pass  # as was to be expected
        self._make_hole(part)

    def _make_hole(self, part: Part) -> None:
        """Leave the lines that prove to be what was written; NUL bytes stand for the rest."""
        end = os.lseek(self.fd, 0, os.SEEK_CUR)
        at = part.start
        for _, _, line in lines.forward(self.fd, part.start, min(end, part.end)):
            if line is not None and codec.is_intact(line):
                at += write_all_at(self.fd, line + b"\n", at)  # never ahead of the reading
        self.holes[at] = f"the part at byte {part.at} of the compressed file is damaged"
        if at == part.end:
            return  # its checksum is all that is damaged
        os.lseek(self.fd, at, os.SEEK_SET)
        left = part.end - at - 1
        while left > 0:
            left -= os.write(self.fd, bytes(min(left, 1 << 20)))
        write_all(self.fd, b"\n")

    def _check_room(self, needed: int) -> None:
        try:
            room = os.fstatvfs(self.fd)
        except (OSError, AttributeError):
            return
        free = room.f_bavail * room.f_frsize
        if room.f_blocks > 0 and free < needed:
            raise StorageFull(
                f"unpacking {self._cold.path} needs {needed:,} bytes and {free:,} are free",
                hint="nothing was changed; make room, or set TMPDIR to where there is some",
            )


class Remnant:
    """What is left of a compressed log whose end is damaged: unpacked whole, as it is opened.

    Stands in for ``Unpacked``. Where something is missing, and at the end, is a line of NUL bytes.

    Raises (on opening):
        FileNotFoundError: There is no compressed log.
        UsageError: zstd is not installed.
        StorageFull, StorageError: The system refused to read or write.
    """

    __slots__ = ("_source", "fd", "holes")

    facts = None

    def __init__(self, folder: Folder, name: str, *, known_last_seq: int | None = None) -> None:
        from convmem.log.compressed import cold_salvage

        self.fd = -1
        zstd_library()
        self._source = folder.open_file(name + ENDING, os.O_RDONLY)
        try:
            # How much it is nobody knows.
            likely = _LIKELY_RATIO * os.fstat(self._source).st_size
            self.fd = nameless_file(folder, max(_IN_MEMORY_BYTES, likely) + 1)
            self.holes = cold_salvage.unpack(
                folder,
                name,
                self._source,
                self.fd,
                known_last_seq or 0,
                marks_end=known_last_seq is None,
            )
        except BaseException as error:
            self.close()
            if self.fd >= 0:
                os.close(self.fd)
            if isinstance(error, OSError):
                path = os.path.join(folder.path, name + ENDING)
                raise storage_error(error, f"cannot unpack {path}") from error
            raise

    def lines_backward(self) -> Iterator[lines.Line]:
        """Yield the lines from the last to the first."""
        yield from lines.backward(self.fd, os.fstat(self.fd).st_size)

    def fill(self) -> None:
        """All of it is there."""

    def source(self) -> int:
        """Return a descriptor of the compressed file, the caller's to close."""
        return os.dup(self._source)

    def close(self) -> None:
        """Close the compressed file. Closing twice is harmless."""
        source, self._source = self._source, -1
        if source >= 0:
            os.close(source)

    def __del__(self) -> None:
        if getattr(self, "_source", -1) >= 0:
            self.close()


def open_cold(folder: Folder, name: str) -> Unpacked | Remnant:
    """Open a compressed log for reading, however damaged it is.

    Raises:
        FileNotFoundError: There is none.
        UsageError: Its end is damaged, and zstd is not installed.
        StorageFull, StorageError: The system refused to read or write.
    """
    try:
        return Unpacked(folder, name)
    except CorruptLog:
        return Remnant(folder, name)


def nameless_file(folder: Folder, size: int) -> int:
    """Return an open file that has no name, where *size* bytes have room if anywhere."""
    if size <= _IN_MEMORY_BYTES and hasattr(os, "memfd_create"):
        return os.memfd_create("convmem")
    if hasattr(os, "O_TMPFILE"):
        try:
            fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=folder.fd)
        except OSError:
            pass  # read-only, not ours to write, or a file system that cannot
        else:
            room = os.fstatvfs(fd)
            if room.f_bavail * room.f_frsize > size:
                return fd
            os.close(fd)
    import tempfile

    with tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())
