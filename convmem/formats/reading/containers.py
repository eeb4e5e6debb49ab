"""Containers: the plain bytes of what is packed, told by content: gzip, zstd, zip, UTF-16."""

from __future__ import annotations

import codecs
import gzip
import os
import stat
import tempfile
import zipfile
import zlib
from typing import TYPE_CHECKING, Protocol, cast

from convmem.errors import ConvmemError, UsageError, storage_error
from convmem.log.compressed.cold_file import zstd_library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

# A source may unpack to this much; what is larger must not be this many times larger than packed.
# Transcripts pack to a tenth, at times to a hundredth; what is made to fill disks, to less.
_ANY_RATIO_BYTES = 1 << 30
_MOST_TIMES = 250
_STEP = 256 << 10
# A line of text that is longer comes in pieces.
MOST_TEXT_BYTES = 16 << 20

ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
_MEMBER_SUFFIXES = frozenset(("", "json", "jsonl", "ndjson", "db", "md", "gz", "zst"))
# What unpacking something damaged raises; NotImplementedError, RuntimeError: zip's own.
_DAMAGE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError)
_NO_ZIP = (*_DAMAGE, ValueError)


class SourceUnreadable(ConvmemError):
    """A source, or what is in it, cannot be read. Others can."""

    kind = "damaged"


class Origin(Protocol):
    """Where the bytes of a source come from: a file, a member of a zip, standard input.

    Attributes:
        place: What to call it in messages.
        path: The file's absolute path; ``None`` for standard input.
        is_member: Whether the file is a zip, of which this is a part.
        can_reopen: Whether it can be opened more than once.
        packed_bytes: How large a member is in its zip.
    """

    place: str
    packed_bytes: int | None
    path: str | None
    is_member: bool
    can_reopen: bool

    def open(self) -> IO[bytes]:
        """Open it at its beginning; the caller closes it. Raises ``ConvmemError``."""


class FileOrigin:
    """A file of its own."""

    is_member = False
    can_reopen = True
    packed_bytes: int | None = None

    def __init__(self, path: str) -> None:
        self.path: str | None = path
        self.place = path.encode("utf-8", "replace").decode()

    def open(self) -> IO[bytes]:
        """Open the file, if it is a regular one: others might make us wait for ever."""
        assert self.path is not None
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise SourceUnreadable(f"cannot read {self.place}: it is no regular file")
            return open(descriptor, "rb", buffering=0)
        except OSError as error:
            raise storage_error(error, f"cannot read {self.place}") from error


class InputOrigin:
    """A descriptor that is read once, such as standard input's. It stays open."""

    is_member = False
    can_reopen = False
    packed_bytes: int | None = None
    path: str | None = None
    place = "standard input"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def open(self) -> IO[bytes]:
        """Return the descriptor as a file."""
        return open(self._descriptor, "rb", buffering=0, closefd=False)


class MemberOrigin:
    """A member of a zip."""

    is_member = True
    can_reopen = True

    def __init__(self, within: Origin, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self.path = within.path
        self.place = f"{within.place}: {info.filename.encode('utf-8', 'replace').decode()}"
        self.name = info.filename
        self.size = info.file_size
        self.packed_bytes: int | None = info.compress_size
        self._archive = archive
        self._info = info

    def open(self) -> IO[bytes]:
        """Open the member for unpacking as it is read."""
        if self._info.flag_bits & 1:
            raise SourceUnreadable(
                f"cannot read {self.place}: it is encrypted", hint="unzip it and import the files"
            )
        try:
            return self._archive.open(self._info)
        except _DAMAGE as error:
            raise SourceUnreadable(f"cannot read {self.place}: {_words(error)}") from error


class Unpacked:
    """The plain bytes of an origin, from its beginning on. A byte order mark is left out.

    Attributes:
        is_plain: Whether they lie in a file just so: what begins at an offset can be sought.
        at: Where the next byte stands among the plain bytes.
        first: Where the first one stood: behind a byte order mark.
        fault: What kept the rest from being read, once it has.
    """

    def __init__(self, origin: Origin) -> None:
        """Open it.

        Raises:
            ConvmemError: It cannot be read at all, or not without a library that is missing.
        """
        self.fault: str | None = None
        self.at = self.first = 0
        self._ahead = b""
        self._place = origin.place
        self._file = origin.open()
        self._raw = self._plain = _Filled(self._file)
        self._packed_bytes = origin.packed_bytes
        self._is_packed = False
        self._decoder: codecs.IncrementalDecoder | None = None
        try:
            self._unpack()
        except BaseException:
            self.close()
            raise
        self.is_plain = (
            origin.can_reopen
            and not origin.is_member
            and not self._is_packed
            and self._decoder is None
        )

    def _unpack(self) -> None:
        magic = self._plain.peek(4)
        if magic[:2] == b"\x1f\x8b":
            unzipped = gzip.GzipFile(fileobj=cast("IO[bytes]", self._raw))
            self._plain = _Filled(cast("IO[bytes]", unzipped))
            self._is_packed = True
        elif magic == b"\x28\xb5\x2f\xfd":
            try:
                zstd = zstd_library()
            except UsageError:
                raise SourceUnreadable(
                    f"cannot read {self._place}: that needs zstd, which is not installed",
                    hint="pip install 'convmem[zstd]'",
                ) from None
            self._plain = _Filled(zstd.ZstdFile(self._raw), zstd.ZstdError)
            self._is_packed = True
        magic = self._plain.peek(4)
        # Without a NUL in what follows these are stray bytes: all formats begin with ASCII.
        if magic[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and 0 in magic[2:]:
            self._decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")
        elif magic[:3] == codecs.BOM_UTF8:
            self._plain.read(3)
            self.at = self.first = 3
        if self._plain.error is not None and not magic:
            raise SourceUnreadable(f"cannot read {self._place}: {_words(self._plain.error)}")

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most about *size*; none at the end, or where ``fault`` says."""
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
        else:
            data = self._read(size)
        self.at += len(data)
        return data

    def peek(self, size: int) -> bytes:
        """Return the next *size* bytes, fewer at the end, without passing them."""
        while len(self._ahead) < size and (data := self._read(size - len(self._ahead))):
            self._ahead += data
        return self._ahead[:size]

    def bytes_before(self, offset: int, most: int) -> bytes:
        """Return the bytes before *offset* of a plain file, at most *most*."""
        start = max(0, offset - most)
        return os.pread(self._file.fileno(), offset - start, start)

    def plain_size(self) -> int:
        """Return how long a plain file is by now."""
        return os.fstat(self._file.fileno()).st_size

    def _read(self, size: int) -> bytes:
        if self.fault is not None:
            return b""
        data = self._plain.read(size)
        while self._decoder is not None:
            try:
                text = self._decoder.decode(data, not data)
            except UnicodeDecodeError:
                self.fault = f"{self._place}: the text is cut in the middle of a character"
                return b""
            if text or not data:
                data = text.encode("utf-8", "surrogatepass")
                break
            data = self._plain.read(size)
        if not data and self._plain.error is not None:
            self.fault = f"{self._place}: {_words(self._plain.error)}"
        if self.at > _ANY_RATIO_BYTES and (self._is_packed or self._packed_bytes is not None):
            packed = self._raw.count if self._packed_bytes is None else self._packed_bytes
            if self.at > packed * _MOST_TIMES:
                self.fault = f"{self._place}: it unpacks to more than {_MOST_TIMES} times its size"
        return data

    def seek(self, offset: int) -> None:
        """Go on at *offset*; in what is not plain by reading up to there.

        Raises:
            SourceUnreadable: It lies behind what was read from something that is read once.
        """
        if self.is_plain:
            self._file.seek(offset)
            self._plain = _Filled(self._file)
            self._ahead = b""
            self.fault = None
            self.at = offset
            return
        if offset < self.at:
            raise SourceUnreadable(f"cannot read {self._place} a second time")
        while self.at < offset and self.read(min(_STEP, offset - self.at)):
            pass

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Filled:
    """A file that reads as much as it is asked for, and keeps an error until all before is read."""

    def __init__(self, file: IO[bytes], *errors: type[Exception]) -> None:
        self.error: Exception | None = None
        self.count = 0
        self._read = getattr(file, "read1", file.read)
        self._errors: tuple[type[Exception], ...] = (*_DAMAGE, *errors)
        self._ahead = b""

    def peek(self, size: int) -> bytes:
        """Return the next *size* bytes, fewer at the end, without passing them."""
        if len(self._ahead) < size:
            self._ahead = self.read(size)
            self.count -= len(self._ahead)
        return self._ahead[:size]

    def read(self, size: int = -1) -> bytes:
        """Return the next *size* bytes; fewer at the end."""
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        parts = [data] if data else []
        missing = size - len(data)
        while missing > 0 and self.error is None:
            try:
                part = self._read(missing)
            except self._errors as error:
                self.error = error
                break
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        # Without a copy where it came in one piece.
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self.count += len(data)
        return data


def members_of(origin: Origin, file: IO[bytes] | None) -> Iterator[MemberOrigin]:
    """Yield what may be a transcript in the zip *origin*, or in *file* where that holds it.

    Raises:
        SourceUnreadable: It is no whole zip.
    """
    try:
        archive = zipfile.ZipFile(file if file is not None else origin.path or "")
    except _NO_ZIP as error:
        raise SourceUnreadable(f"cannot read {origin.place}: {_words(error)}") from error
    with archive:
        for info in archive.infolist():
            if not info.is_dir() and may_be_transcript(info.filename):
                yield MemberOrigin(origin, archive, info)


def may_be_transcript(name: str) -> bool:
    """Whether a member of a zip is worth a look, by how its name ends."""
    base = name.replace("\\", "/").rpartition("/")[2]
    suffix = base.rpartition(".")[2].lower() if "." in base[1:] else ""
    return suffix in _MEMBER_SUFFIXES


def spool(read: Callable[[int], bytes]) -> IO[bytes]:
    """Return a file with a name, gone when it is closed, that holds all that *read* gives."""
    file = tempfile.NamedTemporaryFile(prefix="convmem-")  # noqa: SIM115
    try:
        while data := read(_STEP):
            file.write(data)
        file.flush()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return cast("IO[bytes]", file)


def _words(error: BaseException) -> str:
    words = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return words[:1].lower() + words[1:]
