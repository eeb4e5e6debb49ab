"""A damaged compressed log that was set aside: what of it can be read, and it anew without a turn.

Part by part, as it is salvaged. Parts that are not changed keep their bytes, readable or not. Of a
damaged part that held the turn only stays what can be read, and what convmem noted at the end goes:
the beginning of the conversation stands there.
"""

from __future__ import annotations

import os

from convmem.log import codec, lines
from convmem.log.compressed.cold_file import FRAME_MAGIC, next_frame, zstd_library
from convmem.log.compressed.cold_pack import LEVEL
from convmem.log.compressed.cold_read import nameless_file
from convmem.log.files import read_exactly, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from convmem.log.files import Folder
    from convmem.log.removing.scrub_target import Target

_NOTES_MAGIC = b"\x2a\x4d\x18"  # behind one byte of any kind 5x
_BLOCK = 1 << 20
_SMALLEST_STEP = 1
# No part holds more than one line of any length, and some that are short.
_MOST_PLAIN_BYTES = lines.MAX_LINE_BYTES + (1 << 20)
_LIKELY_RATIO = 8


class _Part:
    """Bytes ``[at, end)`` of the file, and what they hold: ``[start, stop)`` of the plain one."""

    __slots__ = (
        "at",
        "end",
        "first_seq",
        "is_note",
        "is_whole",
        "last_seq",
        "last_ts",
        "start",
        "stop",
    )

    def __init__(self, at: int) -> None:
        self.at = self.end = at
        self.start = self.stop = 0
        self.is_whole = False
        self.is_note = False
        self.first_seq = self.last_seq = 0
        self.last_ts = ""

    def among(self, edits: Sequence[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
        """Return those of *edits* that change what it holds."""
        return [each for each in edits if each[0] < self.stop and each[1] > self.start]


class Packed:
    """The readable lines of one damaged compressed log, in a file without a name.

    Attributes:
        fd: That file, the caller's to close; ``size`` is how long it is.
        has_notes: Whether convmem's own notes are there, which tell how the first turn begins.

    Raises (on opening):
        UsageError: zstd is not installed.
    """

    def __init__(self, folder: Folder, source: int) -> None:
        zstd_library()
        self._source = source
        self._source_size = os.fstat(source).st_size
        self._parts: list[_Part] = []
        self.has_notes = False
        self.size = 0
        self.fd = nameless_file(folder, _LIKELY_RATIO * self._source_size)
        try:
            self._unpack_all()
        except BaseException:
            os.close(self.fd)
            raise

    def may_hide(self, target: Target, edits: Sequence[tuple[int, int, bytes]]) -> bool:
        """Whether the turn may stand where nothing can be read, despite *edits*.

        Turns stand in order: what was read before and behind tells what is missing. But one that
        was lost may have been recorded again, under a new number and with its old time.
        """
        seq, spoken = target.seq, target.ts_text
        last_seq = max((part.last_seq for part in self._parts), default=0)
        last_ts = max((part.last_ts for part in self._parts), default="")
        is_newer = seq is not None and seq > last_seq
        if is_newer and spoken is not None and spoken > last_ts:
            return False
        before = 0
        for at, part in enumerate(self._parts):
            before = max(before, part.last_seq)
            if part.is_whole or part.is_note or part.among(edits):
                continue
            behind = [each.first_seq for each in self._parts[at + 1 :] if each.first_seq]
            if seq is None or is_newer or (before < seq and (not behind or seq < behind[0])):
                return True
        return False

    def chunks(self, edits: Sequence[tuple[int, int, bytes]]) -> Iterator[bytes]:
        """Yield the file anew, with *edits* of what it unpacks to, and without notes."""
        for part in self._parts:
            if part.is_note:
                continue
            ours = part.among(edits)
            if not ours:
                at = part.at
                while at < part.end:
                    data = read_exactly(self._source, min(_BLOCK, part.end - at), at)
                    yield data
                    at += len(data)
                continue
            plain = []
            at = part.start
            for start, end, after in ours:
                plain.append(read_exactly(self.fd, max(0, start - at), at))
                if start >= part.start:  # else it stands in the part before
                    plain.append(after)
                at = min(end, part.stop)
            plain.append(read_exactly(self.fd, part.stop - at, at))
            yield _packed(b"".join(plain))

    def _unpack_all(self) -> None:
        at = 0
        while at < self._source_size:
            part = _Part(at)
            part.start = self.size
            head = os.pread(self._source, 8, at)
            behind = at + 8 + int.from_bytes(head[4:8], "little")
            if head[1:4] == _NOTES_MAGIC and head[0] & 0xF0 == 0x50 and behind <= self._source_size:
                part.is_note = self.has_notes = True
                part.end = behind
            elif head[:4] == FRAME_MAGIC:
                self._unpack(part)
            else:
                part.end = next_frame(self._source, at + 1, self._source_size)
            part.stop = self.size
            self._parts.append(part)
            at = part.end

    def _unpack(self, part: _Part) -> None:
        """Append what one frame holds, as far as it can be read."""
        plain, end = self._plain_of(part.at, _BLOCK)
        if end is None:  # an error hides what else was in the same bite
            plain, end = self._plain_of(part.at, _SMALLEST_STEP)
        part.is_whole = end is not None
        part.end = next_frame(self._source, part.at + 1, self._source_size) if end is None else end
        if plain and plain[-1:] != b"\n":
            plain += b"\n"  # the next part begins a line
        heads = [head for head in map(codec.head_of, plain.split(b"\n")) if head is not None]
        if heads:
            part.first_seq = min(head[1] for head in heads)
            part.last_seq = max(head[1] for head in heads)
            part.last_ts = max(head[2] for head in heads)
        write_all(self.fd, plain)
        self.size += len(plain)

    def _plain_of(self, at: int, step: int) -> tuple[bytes, int | None]:
        """Return what the frame at *at* gives, and where it ends: ``None`` if it is damaged."""
        zstd = zstd_library()
        unpacker = zstd.ZstdDecompressor()
        done: list[bytes] = []
        length = 0
        try:
            while not unpacker.eof:
                data = os.pread(self._source, step, at) if unpacker.needs_input else b""
                if (unpacker.needs_input and not data) or length > _MOST_PLAIN_BYTES:
                    return b"".join(done), None
                at += len(data)
                done.append(unpacker.decompress(data, max_length=_BLOCK))
                length += len(done[-1])
        except zstd.ZstdError:
            return b"".join(done), None
        return b"".join(done), at - len(unpacker.unused_data)


def _packed(plain: bytes) -> bytes:
    zstd = zstd_library()
    setting = zstd.CompressionParameter
    options = {setting.compression_level: LEVEL, setting.checksum_flag: 1}
    packed: bytes = zstd.compress(plain, options=options)
    return packed
