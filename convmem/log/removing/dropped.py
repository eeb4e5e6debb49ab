"""The ids of turns that a policy dropped, remembered for a while.

A client may retry a turn that was stored, answered into a broken connection, and compacted away
since: without this it would be stored a second time. One small file per log, rewritten by each
compaction; a line that is past its time counts no more.
"""

from __future__ import annotations

import os
import re
from array import array

from convmem import jsontext
from convmem.log import codec, lines
from convmem.log.files import temporary_name, write_aside
from convmem.log.removing import apart, dropped_lines
from convmem.log.removing.dropped_lines import remembered, whole_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Iterator
    from typing import Any

    from convmem.log.files import Folder
    from convmem.turns import Draft

FOLDER = ".dropped"
# A line as we write it; until when it counts.
_UNTIL = re.compile(
    rb'^\{"id":"[^"\\\n]*","seq":\d+,"ts":"[^"\\\n]*",'
    rb'"(?:line":"[0-9a-f]{8}"|substance":\d+,"parsed":(?:true|false)),"until":(\d+)\}\n',
    re.MULTILINE,
)
_CHUNK = 1 << 20
_BEHIND_ID = b'","seq":'


class DroppedTurn:
    """A turn that left its log: its id, its place and time, and a CRC of what it said."""

    __slots__ = ("_seal", "_substance", "is_parsed", "seq", "ts_text", "turn_id")

    def __init__(self, turn_id: str, known: dict[str, Any]) -> None:
        self.turn_id = turn_id
        self.seq: int = known["seq"]
        self.ts_text: str = known["ts"]
        self._seal: str | None = known.get("line")
        self._substance: int | None = known.get("substance")
        # Of what the line says, or of its bytes: the trash then has the line itself.
        self.is_parsed: bool = known.get("parsed", False)

    def is_said_by(self, draft: Draft) -> bool:
        """Whether *draft* says what the turn said; where not ``is_parsed``, in the same bytes."""
        if self._seal is not None:
            line = codec.turn_line(draft, self.seq, self.ts_text, None)
            return codec.line_crc(line[:-1]) == self._seal
        if self.is_parsed:
            return dropped_lines.substance(draft) == self._substance
        return codec.draft_substance(draft) == self._substance


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
        for block in whole_lines(fd):
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
        for block in whole_lines(fd):
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
    folder: Folder,
    name: str,
    fd: int,
    spans: Iterable[tuple[int, int]],
    *,
    is_discarded: bool,
    now: float,
    until: float,
) -> None:
    """Remember the turns in byte *spans* of the log *fd* until *until*, durably.

    What is past its time is forgotten. With *is_discarded* nothing else will be left to compare a
    retry with.
    """

    def chunks() -> Iterator[bytes]:
        yield from _still_known(folder, name, now)
        places = list(spans)
        is_large = sum(end - start for start, end in places) >= apart.WORTH_BYTES
        if is_large and (yield from _said_apart(fd, places, until, is_discarded)):
            return
        yield from remembered(fd, places, until, is_discarded=is_discarded)

    inner = folder.subfolder(FOLDER)
    try:
        write_aside(inner, f"{name}.jsonl", temporary_name(name), chunks())
    finally:
        inner.close()


def _said_apart(
    fd: int, spans: list[tuple[int, int]], until: float, is_discarded: bool
) -> Generator[bytes, None, bool]:
    """Yield what another process puts together; return whether that was all of it."""
    process = apart.started("dropped", fd, repr(until), str(int(is_discarded)))
    if process is None or process.stdin is None or process.stdout is None:
        return False
    try:
        with process.stdin as given:
            given.write(array("Q", [place for span in spans for place in span]).tobytes())
        if process.stdout.read(len(apart.BEGIN)) != apart.BEGIN:
            return False
        last = b""
        while chunk := process.stdout.read(_CHUNK):
            yield last + chunk[:-1]
            last = chunk[-1:]
        if last == apart.END:
            return True
    except BrokenPipeError:
        pass
    finally:
        apart.finished(process)
    yield b"\n"  # it may have died in the middle of a line, which then is none
    return False


def _still_known(folder: Folder, name: str, now: float) -> Iterator[bytes]:
    """Yield the lines of the file as it stands that are not past their time."""
    fd = _open(folder, name)
    if fd is None:
        return
    try:
        end = lines.finished_end(fd, os.fstat(fd).st_size)
        for block in whole_lines(fd, 0, end):
            untils = _UNTIL.findall(block)
            if len(untils) == block.count(b"\n") and min(map(int, untils)) > now:
                yield block  # nearly always all of them: a tenth of the time
                continue
            known = ((line, _parsed(line)) for line in block.split(b"\n")[:-1])
            yield b"".join(
                [line + b"\n" for line, what in known if what is not None and what["until"] > now]
            )
    finally:
        os.close(fd)


def forget(
    folder: Folder, name: str, now: float, picked: Callable[[list[str]], Collection[str]]
) -> None:
    """Forget, durably, those turns of the log *name* whose ids are *picked* from those handed over.

    The caller holds ``rewrite.exclusive``.
    """

    def left() -> Iterator[bytes]:
        for block in _still_known(folder, name, now):
            found = block.split(b"\n")[:-1]
            ids = [jsontext.loads(line)["id"] for line in found]
            gone = picked(ids)
            lines_left = [
                line + b"\n"
                for line, turn_id in zip(found, ids, strict=True)
                if turn_id not in gone
            ]
            if lines_left:
                yield b"".join(lines_left)

    if not folder.has(f"{FOLDER}/{name}.jsonl"):
        return
    inner = folder.existing_subfolder(FOLDER)
    try:
        write_aside(inner, f"{name}.jsonl", temporary_name(name), left())
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
        for block in whole_lines(fd):
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


_KINDS = {"id": str, "seq": int, "ts": str, "until": int}
_BY_LINE = {"line": str}
_BY_SUBSTANCE = {"substance": int, "parsed": bool}


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return what a line remembers, or ``None`` if it was damaged: then it is forgotten."""
    try:
        known = jsontext.loads(line)
    except jsontext.NotJson:
        return None
    if not isinstance(known, dict):
        return None
    kinds = _KINDS | (_BY_LINE if "line" in known else _BY_SUBSTANCE)
    return known if all(isinstance(known.get(key), kinds[key]) for key in kinds) else None


def _start_of(turn_id: str) -> bytes:
    return b'{"id":' + jsontext.dumps(turn_id)[:-1] + _BEHIND_ID


def _turn_in(line: bytes, turn_id: str, now: float) -> DroppedTurn | None:
    known = _parsed(line)
    if known is None or known["until"] <= now or known["id"] != turn_id:
        return None  # the last: of two lines that damage has made one
    return DroppedTurn(turn_id, known)


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
