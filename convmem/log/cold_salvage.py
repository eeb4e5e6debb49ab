"""Making a damaged compressed log plain: all that can still be read, and the file itself kept.

Frame by frame, with or without the table at the end. Of a frame that is damaged those lines count
that carry their own seal and hold it; where something is missing stands a line of NUL bytes, which
every reader takes for what it is.
"""

from __future__ import annotations

import hashlib
import os

from convmem.errors import CorruptLog
from convmem.log import codec, heal, lines
from convmem.log.cold_file import ENDING, ColdFile, zstd_library
from convmem.log.files import sync_data, temporary_name, write_all, write_aside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem.log.files import Folder

_FRAME_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOCK = 1 << 20
_MISSING = codec.HOLE + b"\n"


def salvage(folder: Folder, name: str) -> str:
    """Put a plain log of all that is left in the compressed one's place; return where that went.

    The caller holds the log's lock, and knows that there is no plain log. The compressed file is
    in the quarantine before anything else changes.

    Raises:
        FileNotFoundError: There is no compressed log.
        StorageError, UsageError, OSError: The compressed log stays.
    """
    zstd_library()
    source = folder.open_file(name + ENDING, os.O_RDONLY)
    temporary = temporary_name(name)
    try:
        kept = _set_aside(folder, name, source)
        target = folder.open_file(temporary, os.O_RDWR | os.O_CREAT)
        try:
            _unpack_all(source, target)
            _keep_last_seq(folder, name, target)
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


def _unpack_all(source: int, target: int) -> None:
    """Append what every frame of *source* holds to *target*."""
    size = os.fstat(source).st_size
    at = 0
    is_missing = False  # something before is, and nothing says so yet
    while at < size:
        head = os.pread(source, 8, at)
        if head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:
            behind = at + 8 + int.from_bytes(head[4:8], "little")
            if behind <= size:  # our own facts and table, which hold no turns
                at = behind
                continue
        if head[:4] == _FRAME_MAGIC:
            if is_missing:
                write_all(target, _MISSING)
                is_missing = False
            start = os.lseek(target, 0, os.SEEK_CUR)
            behind, is_whole = _unpack(source, at, target)
            if is_whole:
                at = behind
                continue
            _keep_sealed_lines(target, start)
        is_missing = True
        at = _next_frame(source, at + 1, size)
    if is_missing:
        write_all(target, _MISSING)


def _unpack(source: int, at: int, target: int) -> tuple[int, bool]:
    """Unpack one frame; return where it ends and whether it was whole."""
    zstd = zstd_library()
    unpacker = zstd.ZstdDecompressor()
    last = b"\n"
    try:
        while not unpacker.eof:
            packed = b""
            if unpacker.needs_input:
                packed = os.pread(source, _BLOCK, at)
                if not packed:
                    return at, False
                at += len(packed)
            plain = unpacker.decompress(packed, max_length=_BLOCK)
            write_all(target, plain)
            last = plain[-1:] or last
    except zstd.ZstdError:
        return at, False
    return at - len(unpacker.unused_data), last == b"\n"


def _keep_sealed_lines(target: int, start: int) -> None:
    """Of what stands behind *start* leave the lines that prove to be what was written."""
    end = os.lseek(target, 0, os.SEEK_CUR)
    at = start
    for _, _, line in lines.forward(target, start, end):
        if line is not None and codec.is_intact(line):
            # Never ahead of the reading: what is written was read.
            os.lseek(target, at, os.SEEK_SET)
            write_all(target, line + b"\n")
            at += len(line) + 1
    os.ftruncate(target, at)
    os.lseek(target, at, os.SEEK_SET)


def _next_frame(source: int, start: int, size: int) -> int:
    """Return where the next frame may begin; *size* if none does."""
    at = start
    while at < size:
        data = os.pread(source, _BLOCK + 3, at)
        found = data.find(_FRAME_MAGIC)
        if found >= 0:
            return at + found
        at += _BLOCK
    return size


def _keep_last_seq(folder: Folder, name: str, target: int) -> None:
    """Note how far the numbers went, where the newest turns may be missing."""
    try:
        with ColdFile(folder, name + ENDING) as cold:
            write_all(target, codec.seq_floor_line(cold.facts.last_seq))
    except CorruptLog:
        return  # nobody knows


def _blocks_of(source: int) -> Iterator[bytes]:
    at = 0
    while block := os.pread(source, _BLOCK, at):
        yield block
        at += len(block)
