"""What is left of a damaged compressed log: read by everybody, made plain by the next append.

Frame by frame, with or without the table at the end. Of a frame that is damaged those lines count
that carry their own seal and hold it; where something is missing stands a line of NUL bytes, which
every reader takes for what it is. The compressed file itself goes to the quarantine.
"""

from __future__ import annotations

import hashlib
import os

from convmem import jsontext
from convmem.errors import CorruptLog, StorageFull
from convmem.log import codec, heal, lines
from convmem.log.compressed import cold_batches
from convmem.log.compressed.cold_file import (
    CHECKSUM_BYTES,
    ENDING,
    FACTS_MAGIC,
    FRAME_MAGIC,
    SMALL_STEP,
    TABLE_MAGIC,
    ColdFile,
    next_frame,
    zstd_library,
)
from convmem.log.files import sync_data, temporary_name, write_all, write_aside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem.log.files import Folder

_BLOCK = 1 << 20
_MISSING = codec.HOLE + b"\n"
_CLAIM_BYTES = 4 << 10
# How far what a damaged line says of its number is believed beyond the ones that are known.
_MOST_AHEAD = 1_000_000
# How much an unknown amount of plain bytes may take before the room is looked at, and must leave.
_ROOM_EVERY_BYTES = 16 << 20
_ROOM_LEFT_BYTES = 32 << 20


def salvage(folder: Folder, name: str, known_last_seq: int) -> str:
    """Put a plain log of all that is left in the compressed one's place; return where that went.

    The caller holds the log's lock, and knows that there is no plain log. The compressed file is
    in the quarantine before anything else changes. The log goes on behind *known_last_seq*, or
    behind what the file itself says, if that is higher.

    Raises:
        FileNotFoundError: There is no compressed log.
        StorageError, UsageError, OSError: The compressed log stays.
    """
    zstd_library()
    source = folder.open_file(name + ENDING, os.O_RDONLY)
    temporary = temporary_name(name)
    try:
        found = os.fstat(source)
        kept = _set_aside(folder, name, source)
        target = folder.open_file(temporary, os.O_RDWR | os.O_CREAT)
        try:
            unpack(folder, name, source, target, known_last_seq)
            # When the conversation was last used is what people sort by.
            os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
            sync_data(target)
        finally:
            os.close(target)
        folder.rename(temporary, f"{name}.jsonl")
        folder.sync()
        folder.remove(name + ENDING)
        folder.sync()
        return kept
    except BaseException:
        folder.remove(temporary)
        raise
    finally:
        os.close(source)


def unpack(
    folder: Folder,
    name: str,
    source: int,
    target: int,
    known_last_seq: int = 0,
    *,
    marks_end: bool = False,
) -> dict[int, str]:
    """Write the plain log of what is left of *source* to the empty file *target*.

    Returns where in it something is missing, and of which part of the file. With *marks_end* the
    end is told of, too, where only what convmem noted for itself is missing.
    """
    run = _Salvage(source, target, known_last_seq)
    try:
        with ColdFile(folder, name + ENDING) as cold:
            run.stated = {part.at: (part.size, part.end - part.start) for part in cold.parts}
            run.take_facts(cold.facts.last_seq, cold.facts.plain_bytes)
    except CorruptLog:
        pass  # its end is damaged: the frames alone tell
    run.unpack_all(marks_end=marks_end)
    if not run.holes:
        return {}
    return cold_batches.stand_alone(target, run.holes)


class _Salvage:
    """One way through a damaged file.

    Attributes:
        stated: How long the frames are, packed and plain, by where they begin, if the table
            tells.
        holes: Where in the plain log something is missing, and what.
    """

    def __init__(self, source: int, target: int, known_last_seq: int) -> None:
        self.stated: dict[int, tuple[int, int]] = {}
        self.holes: dict[int, str] = {}
        self._source = source
        self._target = target
        self._size = os.fstat(source).st_size
        self._plain_bytes: int | None = None  # that there should be
        self._known = known_last_seq
        self._given = 0  # the highest seq of the lines that are there
        self._claimed = 0  # the same of damaged lines
        self._gap: int | None = None  # where something is missing and nothing says so yet
        self._unchecked = 0

    def take_facts(self, last_seq: int, plain_bytes: int) -> None:
        """Note what convmem wrote down when it compressed the log."""
        self._known = max(self._known, last_seq)
        self._plain_bytes = plain_bytes

    def unpack_all(self, *, marks_end: bool) -> None:
        """Append what every frame holds, and what was missed."""
        at = frames = 0
        while at < self._size:
            head = os.pread(self._source, 8, at)
            if head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:
                at = self._pass_over(at, head)
                continue
            if head[:4] == FRAME_MAGIC:
                self._tell_of_gap()
                start = os.lseek(self._target, 0, os.SEEK_CUR)
                behind, is_whole = self._unpack(at)
                if is_whole:
                    self._note_numbers(start)
                    at, frames = behind, frames + 1
                    continue
                self._keep_sealed_lines(start)
            if self._gap is None:
                self._gap = at
            at = next_frame(self._source, at + 1, self._size)
        unpacked = os.lseek(self._target, 0, os.SEEK_CUR)
        if not frames and not unpacked and self._gap is None:
            self._gap = 0
        if self._plain_bytes is not None and not self.holes:
            # Nothing is missing if all is there that convmem noted; else nobody knows where.
            self._gap = None if unpacked == self._plain_bytes else self._gap or at
        self._finish(marks_end)

    def _finish(self, marks_end: bool) -> None:
        """Write what ends the log: readers meet no torn end, and the numbers go on behind it."""
        is_marked = marks_end or self._gap is not None
        if marks_end and self._gap is None:
            at = os.lseek(self._target, 0, os.SEEK_CUR)
            self._write(_MISSING)
            self.holes[at] = "the end of the compressed file, convmem's own notes, is damaged"
        self._tell_of_gap()
        last_seq = max(self._given, self._known)
        # Where convmem's own notes are there they are better than what damage makes of a number.
        if self._plain_bytes is None and last_seq < self._claimed <= last_seq + _MOST_AHEAD:
            last_seq = self._claimed
        if is_marked or last_seq > self._given:
            self._write(codec.seq_floor_line(last_seq))

    def _tell_of_gap(self) -> None:
        if self._gap is not None:
            at = os.lseek(self._target, 0, os.SEEK_CUR)
            self.holes[at] = f"what begins at byte {self._gap} of the compressed file is damaged"
            self._write(_MISSING)
            self._gap = None

    def _pass_over(self, at: int, head: bytes) -> int:
        """Return where it goes on behind a frame that holds no turns; read convmem's notes."""
        behind = at + 8 + int.from_bytes(head[4:8], "little")
        magic = int.from_bytes(head[:4], "little")
        if behind <= self._size:
            line = b""
            if magic == FACTS_MAGIC and behind - at < _BLOCK:
                line = os.pread(self._source, behind - at - 8, at + 8)[:-1]
            if codec.is_intact(line):
                told = jsontext.loads(line)
                self.take_facts(told["last_seq"], told["bytes"])
            return behind
        if magic not in (FACTS_MAGIC, TABLE_MAGIC) and self._gap is None:
            self._gap = at
        # Cut short; ours stand behind all turns.
        return next_frame(self._source, at + 1, self._size)

    def _unpack(self, at: int) -> tuple[int, bool]:
        """Unpack one frame; return where it ends and whether it was whole."""
        zstd = zstd_library()
        unpacker = zstd.ZstdDecompressor()
        size, most = self.stated.get(at, (None, None))
        checksum = self._size if size is None else at + size - CHECKSUM_BYTES
        done = 0
        last = b"\n"
        try:
            while not unpacker.eof:
                packed = b""
                if unpacker.needs_input:
                    step = min(SMALL_STEP, checksum - at) if at < checksum else SMALL_STEP
                    packed = os.pread(self._source, step, at)
                    if not packed:
                        return at, False
                    at += len(packed)
                plain = unpacker.decompress(packed, max_length=_BLOCK)
                done += len(plain)
                if most is not None and done > most:
                    return at, False  # it might go on without end
                self._write(plain)
                last = plain[-1:] or last
        except zstd.ZstdError:
            return at, False
        return at - len(unpacker.unused_data), last == b"\n"

    def _keep_sealed_lines(self, start: int) -> None:
        """Of what stands behind *start* leave the lines that prove to be what was written."""
        target = self._target
        end = os.lseek(target, 0, os.SEEK_CUR)
        at = behind = start
        for _, line_end, line in lines.forward(target, start, end):
            behind = line_end + 1
            if line is not None and codec.is_intact(line):
                self._given = max(self._given, codec.seq_of(line) or 0)
                # Never ahead of the reading: what is written was read.
                os.lseek(target, at, os.SEEK_SET)
                write_all(target, line + b"\n")
                at += len(line) + 1
            elif line is not None:
                self._claimed = max([self._claimed, *codec.claimed_seqs(line)])
        cut_short = os.pread(target, min(_CLAIM_BYTES, end - behind), behind)
        self._claimed = max([self._claimed, *codec.claimed_seqs(cut_short)])
        os.ftruncate(target, at)
        os.lseek(target, at, os.SEEK_SET)

    def _note_numbers(self, start: int) -> None:
        end = os.lseek(self._target, 0, os.SEEK_CUR)
        for _, _, line in lines.forward(self._target, start, end):
            if line is None:
                continue
            if codec.fault_of(line) is None:
                self._given = max(self._given, codec.seq_of(line) or 0)
            else:
                self._claimed = max([self._claimed, *codec.claimed_seqs(line)])

    def _write(self, data: bytes) -> None:
        write_all(self._target, data)
        self._unchecked += len(data)
        if self._unchecked >= _ROOM_EVERY_BYTES:
            self._unchecked = 0
            self._check_room()

    def _check_room(self) -> None:
        try:
            room = os.fstatvfs(self._target)
        except (OSError, AttributeError):
            return
        if room.f_blocks > 0 and room.f_bavail * room.f_frsize < _ROOM_LEFT_BYTES:
            raise StorageFull(
                "there is no room to unpack a damaged compressed conversation",
                hint="nothing was changed; make room and try again",
            )


def _set_aside(folder: Folder, name: str, source: int) -> str:
    """Copy the compressed file to the quarantine. Done again after a crash it is the same file."""
    digest = hashlib.sha256()
    for block in _blocks_of(source):
        digest.update(block)
    kept = f"{name}.{digest.hexdigest()[:16]}.zst"
    quarantine = folder.subfolder(heal.QUARANTINE)
    try:
        write_aside(quarantine, kept, temporary_name(name), _blocks_of(source))
    finally:
        quarantine.close()
    return kept


def _blocks_of(source: int) -> Iterator[bytes]:
    at = 0
    while block := os.pread(source, _BLOCK, at):
        yield block
        at += len(block)
