"""The ids of turns that a policy dropped, remembered for a while.

A client may retry a turn that was stored, answered into a broken connection, and compacted away
since: without this it would be stored a second time. One small file per log, rewritten by each
compaction; a line that is past its time counts no more.

    {"id":"…","seq":17,"ts":"…Z","line":"9f3a01bc","until":1763720000}

``line`` is the checksum that the turn's own line had: a retry says the same if it would make that
very line. A turn whose line cannot be made again so, such as one of a batch, has a checksum of what
it said instead: ``substance``, and whether that is of what it means (``parsed``) or of its bytes.
"""

from __future__ import annotations

import os
import re
import zlib

from convmem import jsontext
from convmem.log import apart, codec, lines
from convmem.log.files import temporary_name, write_aside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from typing import Any

    from convmem.log.files import Folder
    from convmem.turns import Draft, Turn

FOLDER = ".dropped"
_BLOCK = 120 << 10  # see ``blocks.BLOCK_BYTES``


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
            return _substance(draft) == self._substance
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
                turn_id = starts.get(line[: line.find(b'","seq":') + 2])
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
        if sum(end - start for start, end in places) < apart.WORTH_BYTES:
            yield from remembered(fd, places, until, is_discarded=is_discarded)
            return
        from convmem.log import dropped_apart

        yield from dropped_apart.remembered(fd, places, until, is_discarded=is_discarded)

    inner = folder.subfolder(FOLDER)
    try:
        write_aside(inner, f"{name}.jsonl", temporary_name(name), chunks())
    finally:
        inner.close()


def _still_known(folder: Folder, name: str, now: float) -> Iterator[bytes]:
    """Yield the lines of the file as it stands that are not past their time."""
    fd = _open(folder, name)
    if fd is None:
        return
    try:
        end = lines.finished_end(fd, os.fstat(fd).st_size)
        for block in _blocks(fd, 0, end):
            known = ((line, _parsed(line)) for line in block.split(b"\n")[:-1])
            yield b"".join(
                [line + b"\n" for line, what in known if what is not None and what["until"] > now]
            )
    finally:
        os.close(fd)


def remembered(
    fd: int, spans: Iterable[tuple[int, int]], until: float, *, is_discarded: bool
) -> Iterator[bytes]:
    """Yield what is to be remembered of the turns in byte *spans* of the log *fd*, by the block."""
    for start, end in spans:
        for block in _blocks(fd, start, end):
            yield b"".join(_of_lines(block.split(b"\n")[:-1], until, is_discarded))


def _of_lines(found: list[bytes], until: float, is_discarded: bool) -> Iterator[bytes]:
    behind = b'","until":%d}\n' % until
    begins = _ONE_SPELLING_HEAD if is_discarded else _HEAD
    for line, head in zip(found, map(begins.match, found), strict=True):
        if (
            head is not None
            and line[-17:-10] == b',"_c":"'
            and (line[-18:-17] != b"]" or codec.batch_mark(line) is None)
            and (not is_discarded or _has_one_spelling(line))
        ):
            yield head[0] + b',"line":"' + line[-10:-2] + behind  # nearly every line
        else:
            yield _by_substance(line, until, is_discarded)


# A text is all of what such a turn says, but for ``meta`` or one more key.
_HEAD = re.compile(rb'\{"id":"[^"\\]*","seq":\d+,"ts":"[0-9A-Z.:-]*"(?=,"role":)')
_ONE_SPELLING_HEAD = re.compile(_HEAD.pattern[:-1] + rb'"[^"\\]*","content":")')
# Before each of seq, ts, role, content, _c, and of one more key at most.
_MOST_SEPARATORS = 6


def _has_one_spelling(line: bytes) -> bool:
    """Whether turns that say the same as *line*, whose content is text, all have its bytes.

    True where no object in it has two keys, whose order could be another, and no number.
    """
    return line.count(b',"') <= _MOST_SEPARATORS and (
        line[-18:-17] == b'"' or line[-19:-17] == b'"}'
    )


def _by_substance(line: bytes, until: float, is_discarded: bool) -> bytes:
    head = codec.head_of(line) if codec.is_sealed(line) else None
    if head is None:
        return b""  # a line by hand has no id that a client could retry
    if is_discarded:
        turn = codec.parse(line)
        says = 0 if turn is None else _substance(turn)
    else:
        says = codec.substance_crc(line) or 0
    return b'{"id":%b,"seq":%d,"ts":%b,"substance":%d,"parsed":%b,"until":%d}\n' % (
        jsontext.dumps(codec.text_of(head[0])),
        head[1],
        jsontext.dumps(head[2]),
        says,
        b"true" if is_discarded else b"false",
        until,
    )


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


def _substance(turn: Turn | Draft) -> int:
    """Return a CRC-32 that turns share which say the same, however their lines are spelled."""
    return zlib.crc32(jsontext.canonical([turn.role, turn.content, turn.meta, turn.extra]))


def _start_of(turn_id: str) -> bytes:
    return b'{"id":' + jsontext.dumps(turn_id) + b","


def _turn_in(line: bytes, turn_id: str, now: float) -> DroppedTurn | None:
    known = _parsed(line)
    if known is None or known["until"] <= now:
        return None
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


def _blocks(fd: int, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Yield whole lines, some hundred kilobytes at a time."""
    at = start
    take = _BLOCK
    while end is None or at < end:
        data = os.pread(fd, take if end is None else min(take, end - at), at)
        cut = data.rfind(b"\n") + 1
        if cut:
            yield data[:cut]
            at += cut
            take = _BLOCK
        elif len(data) == take:
            take *= 2  # a line that is longer than a block
        else:
            return
