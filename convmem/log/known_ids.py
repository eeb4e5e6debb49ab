"""Whether a log already holds a given id: exactly, and in bounded memory.

Made ids are new by construction and never looked up. For given ones a small log that is asked
again keeps a set of hashes; anything else is a search of the bytes. A hash only says "perhaps":
the bytes decide.
"""

from __future__ import annotations

import json
import os

from convmem import jsontext
from convmem.log import codec, lines, records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from convmem.turns import Turn

# A set of this many hashes takes some 1.5 MiB; a log above either bound is searched each time.
MOST_HASHES = 20_000
LARGEST_LOG_BYTES = 4 << 20
_BLOCK = 1 << 20
# A search for one id takes a third of the time that looking at every line does.
_FEW = 3


class Found:
    """The first turn with the id that was asked for, and where its line begins."""

    __slots__ = ("offset", "turn")

    def __init__(self, turn: Turn, offset: int) -> None:
        self.turn = turn
        self.offset = offset


class KnownIds:
    """What is known of the ids in ``[0, covered)`` of one log. Used under the log's lock.

    ``hashes`` is ``None`` where no set is kept.
    """

    __slots__ = ("covered", "hashes", "lookups")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew: nothing is known."""
        self.hashes: set[int] | None = None
        self.covered = 0
        self.lookups = 0

    def extend(self, fd: int, committed: int) -> None:
        """Learn the ids of ``[covered, committed)``; make the set first where it will pay."""
        if self.hashes is None:
            if self.lookups < 2 or committed > LARGEST_LOG_BYTES:
                return
            self.hashes, self.covered = set(), 0
        for _, _, line in lines.forward(fd, self.covered, committed):
            if line is not None:
                turn_id = _id_of(line)
                if turn_id is not None:
                    self.hashes.add(hash(turn_id))
        self.covered = committed
        self._bound()

    def add(self, turn_ids: list[str], committed: int) -> None:
        """Learn ids that were just written, up to *committed*."""
        if self.hashes is not None:
            self.hashes.update(map(hash, turn_ids))
            self.covered = committed
            self._bound()

    def may_hold(self, turn_id: str) -> bool:
        """Whether *turn_id* could be in the log: certainly not, or perhaps."""
        return self.hashes is None or hash(turn_id) in self.hashes

    def _bound(self) -> None:
        if self.hashes is not None and len(self.hashes) > MOST_HASHES:
            self.hashes, self.lookups = None, 0


def search(
    fd: int, turn_id: str, start: int, end: int, *, whole_batches: bool = True
) -> Found | None:
    """Return the first turn with *turn_id* among the lines of ``[start, end)``.

    Reads them all if need be, in blocks of 1 MiB: about a second for a gigabyte. A turn of a
    batch that was torn does not count, unless *whole_batches* is false.
    """
    firsts = (
        _search_spelling(fd, spelling, turn_id, start, end, whole_batches)
        for spelling in _spellings(turn_id)
    )
    return min(filter(None, firsts), key=lambda found: found.offset, default=None)


def _spellings(turn_id: str) -> set[bytes]:
    """Return how the id may stand in a line: as we write it, or as other JSON writers do.

    Not found is an id by hand with escapes that no writer makes (``\\u0061`` for ``a``).
    """
    ascii_only = json.dumps(turn_id).encode()
    spellings = {jsontext.dumps(turn_id), ascii_only}
    return spellings | {each.replace(b"/", b"\\/") for each in spellings}


def _search_spelling(
    fd: int, wanted: bytes, turn_id: str, start: int, end: int, whole_batches: bool
) -> Found | None:
    at = start
    while at < end:
        data = os.pread(fd, min(_BLOCK, end - at) + len(wanted) - 1, at)
        if not data:
            return None
        from_ = 0
        while (hit := data.find(wanted, from_)) >= 0:
            if at + hit + len(wanted) > end:
                return None
            found, line_end = _turn_at(fd, at + hit, start, end, turn_id, whole_batches)
            if found is not None:
                return found
            from_ = max(hit + 1, line_end - at)
        at += max(_BLOCK, from_)
    return None


def search_all(fd: int, turn_ids: Collection[str], start: int, end: int) -> dict[str, Found]:
    """Return the first turn with each of *turn_ids* among the lines of ``[start, end)``.

    Few are searched for one by one; for many each line is looked at once, however many they are.
    """
    if len(turn_ids) <= _FEW:
        searched = ((turn_id, search(fd, turn_id, start, end)) for turn_id in turn_ids)
        return {turn_id: turn for turn_id, turn in searched if turn is not None}
    found: dict[str, Found] = {}
    wanted = set(turn_ids)
    for offset, _, line in lines.forward(fd, start, end):
        turn_id = None if line is None else _id_of(line)
        if turn_id in wanted and turn_id is not None:
            turn, _ = _turn_at(fd, offset, start, end, turn_id, True)
            if turn is not None:
                found[turn_id] = turn
                wanted.remove(turn_id)
                if not wanted:
                    break
    return found


def _turn_at(
    fd: int, offset: int, start: int, end: int, turn_id: str, whole_batches: bool
) -> tuple[Found | None, int]:
    """Return the turn whose line holds *offset*, if it is the one, and where that line ends."""
    line_start = lines.finished_end(fd, offset, start=start)
    for at, line_end, line in lines.forward(fd, line_start, end, block=64 << 10):
        if line is None or codec.fault_of(line) is not None:
            return None, line_end + 1
        turn = codec.parse(line)
        if turn is None or turn.id != turn_id:
            return None, line_end + 1
        if whole_batches and not _is_whole(fd, at, line, end):
            return None, line_end + 1
        return Found(turn, at), line_end + 1
    return None, end


def _is_whole(fd: int, offset: int, line: bytes, end: int) -> bool:
    """Whether the turn at *offset* is no part of a batch that was torn."""
    mark = codec.batch_mark(line) if codec.is_sealed(line) else None
    if mark is None:
        return True
    stop = offset
    for _, line_end, data in lines.forward(fd, offset, end):
        if data is not None and codec.fault_of(data) is None:
            other = codec.batch_mark(data) if codec.is_sealed(data) else None
            if other is None or other[0] != mark[0]:
                break
        stop = line_end + 1
    for record in records.backward(fd, stop, _unnoticed):
        if record.offset <= offset:
            return record.offset == offset
    return False


def _unnoticed(damage: records.Damage) -> None:
    """Readers tell of it."""


def _id_of(line: bytes) -> str | None:
    encoded = codec.id_of(line) if codec.is_sealed(line) else None
    if encoded is not None:
        try:
            return codec.text_of(encoded)
        except ValueError:
            return None  # the line is damaged, and its id no text any more
    turn = codec.parse(line)
    return None if turn is None else turn.id
