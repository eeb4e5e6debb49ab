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

from convmem import jsontext
from convmem.errors import CorruptLog, UsageError
from convmem.log import codec, lines
from convmem.log.files import read_exactly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Any

    from convmem.log.files import Folder

ENDING = ".jsonl.zst"

# Measured on transcripts: level 3 gives 3.5x at 220-360 MB/s; 6 gives 4 % less at a third of the
# speed. One frame for all would save 1 %.
LEVEL = 3
PART_BYTES = 1 << 20
_BLOCK = 1 << 20
# Read at once from the end: nearly always the table and the facts, in one go.
_END_BYTES = 16 << 10
_MOST_FACTS_BYTES = 16 << 20

_FRAME = Struct("<II")  # magic, bytes that follow
_ENTRY = Struct("<II")  # bytes compressed, bytes plain
_FOOT = Struct("<IBI")  # entries, descriptor, magic
_FACTS_MAGIC = 0x184D2A50
_TABLE_MAGIC = 0x184D2A5E
_SEEKABLE_MAGIC = 0x8F92EAB1
_MOST_U32 = 0xFFFFFFFF


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

    def unpack(self, part: Part) -> Iterator[bytes]:
        """Yield the plain bytes of *part*, a megabyte at a time and never more than were stated.

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
                    packed = os.pread(self.fd, min(_BLOCK, stop - at), at)
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
        return CorruptLog(
            f"{self.path} is damaged: {why}",
            hint="nothing was changed; fetch it from a backup, or save what is left of it with:"
            " convmem compress --undo --damaged ID",
        )

    def _read_end(self) -> ColdFacts:
        size = os.fstat(self.fd).st_size
        start = max(0, size - _END_BYTES)
        data = read_exactly(self.fd, size - start, start)
        if len(data) < _FOOT.size:
            raise self._not_whole()
        count, descriptor, magic = _FOOT.unpack_from(data, len(data) - _FOOT.size)
        table_bytes = _FRAME.size + count * _ENTRY.size + _FOOT.size
        if magic != _SEEKABLE_MAGIC or descriptor or not count or table_bytes > size:
            raise self._not_whole()
        table = self._slice(data, start, size - table_bytes, size)
        if _FRAME.unpack_from(table) != (_TABLE_MAGIC, table_bytes - _FRAME.size):
            raise self._not_whole()
        at = plain = 0
        last = 0
        for last, plain_size in _ENTRY.iter_unpack(table[_FRAME.size : -_FOOT.size]):
            if plain_size:
                self.parts.append(Part(plain, plain + plain_size, at, last))
            at += last
            plain += plain_size
        # The last entry is that of the facts.
        if at + table_bytes != size or not _FRAME.size <= last <= _MOST_FACTS_BYTES:
            raise self._not_whole()
        frame = self._slice(data, start, at - last, at)
        if _FRAME.unpack_from(frame) != (_FACTS_MAGIC, last - _FRAME.size):
            raise self._not_whole()
        line = frame[_FRAME.size : -1]
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


class Packer:
    """Writes a compressed log: ``pack`` once, then ``finish``. *write* is given its bytes."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.bytes = 0
        self._write = write
        self._crc = 0
        self._table = bytearray()

    def pack(self, fd: int, size: int, advanced: Callable[[int], None]) -> None:
        """Compress the first *size* bytes of the plain log *fd*, part by part."""
        zstd = zstd_library()
        setting = zstd.CompressionParameter
        packer = zstd.ZstdCompressor(
            options={setting.compression_level: LEVEL, setting.checksum_flag: 1}
        )
        at = 0
        while at < size:
            end = lines.line_start_after(fd, min(at + PART_BYTES, size) - 1, size)
            if end - at > _MOST_U32:
                raise UsageError("a line of more than 4 GiB is too long to be compressed")
            packer.set_pledged_input_size(end - at)
            start, before = at, self.bytes
            while at < end:
                data = os.pread(fd, min(_BLOCK, end - at), at)
                if not data:
                    raise CorruptLog("the log was cut short while it was being compressed")
                self._crc = zlib.crc32(data, self._crc)
                self._put(packer.compress(data))
                at += len(data)
                advanced(len(data))
            self._put(packer.flush(packer.FLUSH_FRAME))
            self._table += _ENTRY.pack(self.bytes - before, end - start)

    def finish(self, told: dict[str, Any]) -> None:
        """Write the facts and the table."""
        told = {"convmem_cold": 1, **told, "crc": self._crc}
        facts = codec.sealed(jsontext.dumps(told)[:-1])
        self._put(_FRAME.pack(_FACTS_MAGIC, len(facts)) + facts)
        self._table += _ENTRY.pack(_FRAME.size + len(facts), 0)
        count = len(self._table) // _ENTRY.size
        foot = _FOOT.pack(count, 0, _SEEKABLE_MAGIC)
        length = len(self._table) + len(foot)
        self._put(_FRAME.pack(_TABLE_MAGIC, length) + bytes(self._table) + foot)

    def _put(self, data: bytes) -> None:
        if data:
            self.bytes += len(data)
            self._write(data)


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
