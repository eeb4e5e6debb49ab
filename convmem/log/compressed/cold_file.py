"""The file of a compressed log: parts of whole lines, what is known of the log, a table of both.

    part part … {facts} {table}

Ordinary zstd in its public seekable form, ``zstd -dc`` gives the plain log back. Each part is a
frame of its own with a checksum, a megabyte of whole lines: damage stays within one, and the end
is read without the beginning. The facts are JSON, in a frame that zstd passes over.
"""

from __future__ import annotations

import os
import zlib
from importlib import import_module
from struct import Struct

from convmem import ids, jsontext
from convmem.errors import CorruptLog, UsageError
from convmem.log import codec
from convmem.log.files import read_exactly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType
    from typing import Any

    from convmem.log.files import Folder

ENDING = ".jsonl.zst"

_BLOCK = 1 << 20
# Read at once from the end: nearly always the table and the facts, in one go.
_END_BYTES = 16 << 10
_MOST_FACTS_BYTES = 16 << 20

CHECKSUM_BYTES = 4
# By how much a damaged part is unpacked at once.
SMALL_STEP = 4 << 10

# Frames that zstd passes over, and the table as its authors published it.
FRAME = Struct("<II")  # magic, bytes that follow
ENTRY = Struct("<II")  # bytes compressed, bytes plain
FOOT = Struct("<IBI")  # entries, descriptor, magic
FACTS_MAGIC = 0x184D2A50
TABLE_MAGIC = 0x184D2A5E
SEEKABLE_MAGIC = 0x8F92EAB1
# What every other frame begins with.
FRAME_MAGIC = b"\x28\xb5\x2f\xfd"


def next_frame(fd: int, start: int, size: int) -> int:
    """Return where a frame may begin, from *start* on, of a file of *size* bytes; else *size*."""
    at = start
    while at < size:
        found = os.pread(fd, _BLOCK + 3, at).find(FRAME_MAGIC)
        if found >= 0:
            return at + found
        at += _BLOCK
    return size


class Part:
    """One part: its bytes ``[at, at + size)`` hold the plain log's ``[start, end)``."""

    __slots__ = ("at", "end", "size", "start")

    def __init__(self, start: int, end: int, at: int, size: int) -> None:
        self.start = start
        self.end = end
        self.at = at
        self.size = size


class ColdFacts:
    """What is known of a compressed log without unpacking it.

    Attributes:
        plain_bytes: The size of the plain log.
        compressed_bytes: The size of its file.
        crc: The CRC-32 of the plain log.
        last_seq: The highest ``seq`` that was given out, 0 for none.
        first_ts, last_ts: The times of its first and last turn that have one, as ``format_time``
            writes them; ``None`` with none.
        title: How the first user turn begins.
        turns: How many there are.
        counts: ``Counts.as_list()`` of a whole reading.
    """

    __slots__ = (
        "compressed_bytes",
        "counts",
        "crc",
        "first_ts",
        "last_seq",
        "last_ts",
        "plain_bytes",
        "title",
        "turns",
    )

    def __init__(self, told: dict[str, Any], compressed_bytes: int) -> None:
        self.compressed_bytes = compressed_bytes
        self.plain_bytes: int = told["bytes"]
        self.crc: int = told["crc"]
        self.last_seq: int = told["last_seq"]
        self.first_ts: str | None = told["first_ts"]
        self.last_ts: str | None = told["last_ts"]
        self.title: str = told["title"]
        self.turns: int = told["turns"]
        self.counts: list[Any] = told["counts"]


class ColdFile:
    """An open compressed log. Close it, or let it go: it closes itself.

    Raises (on opening):
        FileNotFoundError: There is none.
        CorruptLog: It ends otherwise than it was written, or convmem did not write it.
    """

    __slots__ = ("facts", "fd", "parts", "path")

    def __init__(self, folder: Folder, file_name: str) -> None:
        self.path = os.path.join(folder.path, file_name)
        self.fd = folder.open_file(file_name, os.O_RDONLY)
        self.parts: list[Part] = []
        self.facts = self._read_end()

    def close(self) -> None:
        """Close the descriptor. Closing twice is harmless."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> ColdFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            self.close()

    def unpack(self, part: Part, *, step: int = _BLOCK) -> Iterator[bytes]:
        """Yield the plain bytes of *part*, a megabyte at a time and never more than were stated.

        Where it is damaged, what comes before that is had with a small *step*, in bytes.

        Raises:
            CorruptLog: It does not hold them whole; what was yielded cannot be trusted.
        """
        zstd = zstd_library()
        unpacker = zstd.ZstdDecompressor()
        due = part.end - part.start
        at, stop = part.at, part.at + part.size
        try:
            while not unpacker.eof:
                packed = b""
                if unpacker.needs_input:
                    # The checksum by itself: what comes before it is had though it is wrong.
                    behind = stop if stop - at <= CHECKSUM_BYTES else stop - CHECKSUM_BYTES
                    packed = os.pread(self.fd, min(step, behind - at), at)
                    if not packed:
                        break
                    at += len(packed)
                # One byte more than is due is as good as any number.
                plain = unpacker.decompress(packed, max_length=min(_BLOCK, due + 1))
                due -= len(plain)
                if due < 0:
                    break
                yield plain
        except zstd.ZstdError as error:
            raise self.damaged(f"the part at byte {part.at} does not unpack: {error}") from None
        if not unpacker.eof or due or at != stop or unpacker.unused_data:
            raise self.damaged(f"the part at byte {part.at} is not as long as it should be")

    def plain(self) -> Iterator[bytes]:
        """Yield the plain log, checked to its last byte.

        Raises:
            CorruptLog: It cannot be had whole; it may be raised at the very end.
        """
        crc = 0
        for part in self.parts:
            for chunk in self.unpack(part):
                crc = zlib.crc32(chunk, crc)
                yield chunk
        if crc != self.facts.crc:
            raise self.damaged("what it unpacks to has another checksum than what was packed")

    def damaged(self, why: str) -> CorruptLog:
        """Return the error that says so, and what can be done."""
        from shlex import quote

        name = os.path.basename(self.path).removesuffix(ENDING)
        found = ids.decode_name(name)
        which = "ID" if found is None or not found.isprintable() else quote(found)
        return CorruptLog(
            f"{self.path} is damaged: {why}",
            hint="nothing was changed; fetch it from a backup, or save what is left of it with:"
            f" convmem compress --undo --damaged {which}",
        )

    def _read_end(self) -> ColdFacts:
        size = os.fstat(self.fd).st_size
        start = max(0, size - _END_BYTES)
        data = read_exactly(self.fd, size - start, start)
        if len(data) < FOOT.size:
            raise self._not_whole()
        count, descriptor, magic = FOOT.unpack_from(data, len(data) - FOOT.size)
        table_bytes = FRAME.size + count * ENTRY.size + FOOT.size
        if magic != SEEKABLE_MAGIC or descriptor or not count or table_bytes > size:
            raise self._not_whole()
        table = self._slice(data, start, size - table_bytes, size)
        if FRAME.unpack_from(table) != (TABLE_MAGIC, table_bytes - FRAME.size):
            raise self._not_whole()
        at = plain = 0
        last = 0
        for last, plain_size in ENTRY.iter_unpack(table[FRAME.size : -FOOT.size]):
            if plain_size:
                self.parts.append(Part(plain, plain + plain_size, at, last))
            at += last
            plain += plain_size
        # The last entry is that of the facts.
        if at + table_bytes != size or not FRAME.size <= last <= _MOST_FACTS_BYTES:
            raise self._not_whole()
        frame = self._slice(data, start, at - last, at)
        if FRAME.unpack_from(frame) != (FACTS_MAGIC, last - FRAME.size):
            raise self._not_whole()
        line = frame[FRAME.size : -1]
        if not codec.is_intact(line):
            raise self._not_whole()
        told = jsontext.loads(line)
        if told.get("convmem_cold") != 1:
            raise self.damaged("it was written by a newer convmem")
        if told["bytes"] != plain:
            raise self._not_whole()
        return ColdFacts(told, size)

    def _slice(self, data: bytes, start: int, at: int, end: int) -> bytes:
        if at >= start:
            return data[at - start : end - start]
        return read_exactly(self.fd, end - at, at)

    def _not_whole(self) -> CorruptLog:
        return self.damaged("its end is missing, or convmem did not write it")


def zstd_library() -> ModuleType:
    """Return the module that packs and unpacks.

    Raises:
        UsageError: It is not installed.
    """
    global _library
    if _library is None:
        for name in ("compression.zstd", "backports.zstd"):  # Python's own from 3.14 on
            try:
                _library = import_module(name)
                return _library
            except ImportError:
                continue
        raise UsageError(
            "compressed conversations need zstd, which is not installed",
            hint="pip install 'convmem[zstd]'; nothing was changed",
        )
    return _library


_library: ModuleType | None = None
