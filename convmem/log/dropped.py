"""The ids of turns that a policy dropped, remembered for a while.

A client may retry a turn that was stored, answered into a broken connection, and compacted away
since: without this it would be stored a second time. One small file per log, rewritten by each
compaction; a line that is past its time counts no more.
"""

from __future__ import annotations

import os
import zlib

from convmem import jsontext
from convmem.log import lines
from convmem.log.files import temporary_name, write_aside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from typing import Any

    from convmem.log.files import Folder
    from convmem.turns import Draft, Turn

FOLDER = ".dropped"
_BEHIND_ID = b'","seq":'
_BLOCK = 1 << 20


class DroppedTurn:
    """A turn that left its log: its id, its place and time, and what it said, as a CRC."""

    __slots__ = ("is_parsed", "seq", "substance", "ts_text", "turn_id")

    def __init__(
        self, turn_id: str, seq: int, ts_text: str, substance: int, *, is_parsed: bool
    ) -> None:
        self.turn_id = turn_id
        self.seq = seq
        self.ts_text = ts_text
        self.substance = substance
        # Of what the line says, or of its bytes: the trash then has the line itself.
        self.is_parsed = is_parsed


class Known:
    """What was found of some ids, and the identity of the file: ``None`` if there was none."""

    __slots__ = ("identity", "turns")

    def __init__(
        self, identity: tuple[int, int, int, int] | None, turns: dict[str, DroppedTurn]
    ) -> None:
        self.identity = identity
        self.turns = turns


def find(folder: Folder, name: str, turn_id: str, now: float) -> DroppedTurn | None:
    """Return the turn with *turn_id* if it was dropped and is still remembered at *now*."""
    fd = _open(folder, name)
    if fd is None:
        return None
    try:
        # The id leads its line, so it is found without parsing the others.
        start = _start_of(turn_id)
        for block in _blocks(fd):
            at = 0 if block.startswith(start) else block.find(b"\n" + start) + 1
            while at or block.startswith(start):
                known = _turn_in(block[at : block.index(b"\n", at)], turn_id, now)
                if known is not None:
                    return known
                # A compaction that failed may have remembered it before, and for less long.
                at = block.find(b"\n" + start, at) + 1
                if not at:
                    break
    finally:
        os.close(fd)
    return None


def find_all(folder: Folder, name: str, turn_ids: Collection[str], now: float) -> Known:
    """Return those of *turn_ids* that ``find`` finds, and in which file they were looked for."""
    fd = _open(folder, name)
    if fd is None:
        return Known(None, {})
    try:
        found: dict[str, DroppedTurn] = {}
        starts = {_start_of(turn_id): turn_id for turn_id in turn_ids}
        for block in _blocks(fd):
            for line in block.split(b"\n"):
                turn_id = starts.get(line[: line.find(_BEHIND_ID) + len(_BEHIND_ID)])
                if turn_id is not None and turn_id not in found:
                    known = _turn_in(line, turn_id, now)
                    if known is not None:
                        found[turn_id] = known
        return Known(_identity(os.fstat(fd)), found)
    finally:
        os.close(fd)


def is_as_known(folder: Folder, name: str, known: Known) -> bool:
    """Whether the file is still the one in which *known* was found."""
    try:
        found = folder.stat(f"{FOLDER}/{name}.jsonl")
    except (FileNotFoundError, NotADirectoryError):
        return known.identity is None
    return _identity(found) == known.identity


def remember(
    folder: Folder, name: str, turns: Iterable[DroppedTurn | bytes], now: float, until: float
) -> None:
    """Remember *turns* until *until*, durably, and forget what is past its time.

    Turns that are in the trash may be given as ``codec.remembered_part`` of their lines.
    """
    behind = b',"parsed":false,"until":%d}\n' % until

    def chunks() -> Iterator[bytes]:
        fd = _open(folder, name)
        if fd is not None:
            try:
                end = lines.finished_end(fd, os.fstat(fd).st_size)
                for _, _, line in lines.forward(fd, 0, end):
                    known = None if line is None else _parsed(line)
                    if line is not None and known is not None and known["until"] > now:
                        yield line + b"\n"
            finally:
                os.close(fd)
        for turn in turns:
            if isinstance(turn, bytes):
                yield turn + behind
                continue
            yield b'{"id":%b,"seq":%d,"ts":%b,"substance":%d,"parsed":%b,"until":%d}\n' % (
                jsontext.dumps(turn.turn_id),
                turn.seq,
                jsontext.dumps(turn.ts_text),
                turn.substance,
                b"true" if turn.is_parsed else b"false",
                until,
            )

    inner = folder.subfolder(FOLDER)
    try:
        write_aside(inner, f"{name}.jsonl", temporary_name(name), _gathered(chunks()))
    finally:
        inner.close()


def names(folder: Folder) -> list[str]:
    """Return the logs that something is remembered of."""
    return [each.removesuffix(".jsonl") for each in folder.names_in(FOLDER)]


def forget_if_past(folder: Folder, name: str, now: float) -> None:
    """Remove what is remembered of the log *name* if at *now* all of it is past its time."""
    fd = _open(folder, name)
    if fd is None:
        return
    try:
        for block in _blocks(fd):
            for line in block.splitlines():
                known = _parsed(line)
                if known is not None and known["until"] > now:
                    return
    finally:
        os.close(fd)
    inner = folder.existing_subfolder(FOLDER)
    try:
        inner.remove(f"{name}.jsonl")
    finally:
        inner.close()


_KINDS = {"id": str, "seq": int, "ts": str, "substance": int, "parsed": bool, "until": int}


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return what a line remembers, or ``None`` if it was damaged: then it is forgotten."""
    try:
        known = jsontext.loads(line)
    except jsontext.NotJson:
        return None
    if not isinstance(known, dict):
        return None
    sound = all(isinstance(known.get(key), kind) for key, kind in _KINDS.items())
    return known if sound else None


def substance(turn: Turn | Draft) -> int:
    """Return a CRC-32 that turns share which say the same, however their lines are spelled."""
    return zlib.crc32(jsontext.canonical([turn.role, turn.content, turn.meta, turn.extra]))


def _start_of(turn_id: str) -> bytes:
    return b'{"id":' + jsontext.dumps(turn_id)[:-1] + _BEHIND_ID


def _turn_in(line: bytes, turn_id: str, now: float) -> DroppedTurn | None:
    known = _parsed(line)
    if known is None or known["until"] <= now or known["id"] != turn_id:
        return None  # the last: of two lines that damage has made one
    return DroppedTurn(
        turn_id, known["seq"], known["ts"], known["substance"], is_parsed=known["parsed"]
    )


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    # A new file may get the number of one that was replaced, but not its time and size as well.
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _open(folder: Folder, name: str) -> int | None:
    try:
        inner = folder.existing_subfolder(FOLDER)
    except FileNotFoundError:
        return None
    try:
        return inner.open_file(f"{name}.jsonl", os.O_RDONLY)
    except FileNotFoundError:
        return None
    finally:
        inner.close()


def _blocks(fd: int) -> Iterator[bytes]:
    """Yield whole lines, a megabyte or so at a time."""
    rest = b""
    at = 0
    while data := os.pread(fd, _BLOCK, at):
        at += len(data)
        cut = data.rfind(b"\n") + 1
        yield rest + data[:cut]
        rest = data[cut:]


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)
