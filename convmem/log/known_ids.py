"""Whether a log already holds a given id: exactly, and in bounded memory.

Made ids are new by construction and never looked up. For given ones a small log that is asked
again keeps a set of hashes, one into which many are recorded a sieve; anything else is a search of
the bytes. A hash only says "perhaps": the bytes decide.
"""

from __future__ import annotations

import json
import os
import weakref

from convmem import jsontext
from convmem.log import codec, lines, records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from typing import ClassVar

    from convmem.log.sieve import Sieve
    from convmem.turns import Turn

# A set of this many hashes takes some 1.5 MiB; a log above either bound is searched each time.
MOST_HASHES = 20_000
LARGEST_LOG_BYTES = 4 << 20
_BLOCK = 1 << 20
# So many ids at once are a stream, of which more is to come; so are so many calls one after the
# other. Making a sieve takes as long as some ten searches for an id.
MANY = 500
_MANY_CALLS = 8
# So many logs of the process keep a sieve: at most 16 MiB each.
_MOST_SIEVES = 8
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

    ``hashes`` is ``None`` where no set is kept. A few logs of the process keep a sieve instead: the
    last ones into which many ids were recorded.
    """

    __slots__ = ("__weakref__", "_sieve", "covered", "hashes", "lookups")

    _with_sieve: ClassVar[list[weakref.ref[KnownIds]]] = []

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew: nothing is known."""
        self.hashes: set[int] | None = None
        self._sieve: Sieve | None = None
        self.covered = 0
        self.lookups = 0

    @property
    def is_kept(self) -> bool:
        """Whether anything is kept that tells new ids from others."""
        return self.hashes is not None or self._sieve is not None

    def extend(self, fd: int, committed: int) -> None:
        """Learn the ids of ``[covered, committed)``; make the set first where it will pay."""
        if not self.is_kept:
            if self.lookups < 2 or committed > LARGEST_LOG_BYTES:
                return
            self.hashes, self.covered = set(), 0
        if self.covered < committed:
            self._learn(_ids_between(fd, self.covered, committed), committed, is_stream=False)

    def wants_sieve(self, count: int, end: int) -> bool:
        """Whether a sieve of a log of *end* bytes will pay, where *count* ids are asked for now."""
        if self.is_kept or end <= LARGEST_LOG_BYTES:
            return False
        return count >= MANY or self.lookups > _MANY_CALLS

    def add(self, turn_ids: list[str], committed: int, *, were_given: bool) -> None:
        """Learn ids that were just written, up to *committed*: some were given, or all are new."""
        if self.is_kept:
            self._learn(turn_ids, committed, is_stream=were_given and len(turn_ids) >= MANY)

    def adopt(self, sieve: Sieve, covered: int) -> None:
        """Go on with a sieve of the ids in ``[0, covered)``, made without the lock."""
        if not self.is_kept:
            self._keep(sieve)
            self.covered = covered

    def may_hold(self, turn_id: str) -> bool:
        """Whether *turn_id* could be in the log: certainly not, or perhaps."""
        return bool(self.perhaps([turn_id]))

    def perhaps(self, turn_ids: Collection[str]) -> Collection[str]:
        """Return those of *turn_ids* that could be in the log; the others certainly are not."""
        hashes, sieve = self.hashes, self._sieve
        if hashes is not None:
            return [turn_id for turn_id in turn_ids if hash(turn_id) in hashes]
        return turn_ids if sieve is None else sieve.perhaps(turn_ids)

    def _learn(self, turn_ids: Iterable[str], committed: int, *, is_stream: bool) -> None:
        sieve = self._sieve  # another log may take it away meanwhile
        if sieve is not None:
            sieve.add(map(hash, turn_ids))
        elif self.hashes is not None:
            self.hashes.update(map(hash, turn_ids))
            if len(self.hashes) > MOST_HASHES:
                self._give_up_the_set(is_stream=is_stream)
        self.covered = committed

    def _give_up_the_set(self, *, is_stream: bool) -> None:
        hashes, self.hashes, self.lookups = self.hashes, None, 0
        if is_stream and hashes is not None:
            from convmem.log.sieve import Sieve

            sieve = Sieve()
            sieve.add(hashes)
            self._keep(sieve)

    def _keep(self, sieve: Sieve) -> None:
        keepers = [each for each in KnownIds._with_sieve if each() not in (None, self)]
        for each in keepers[: -_MOST_SIEVES + 1]:
            oldest = each()
            if oldest is not None:
                oldest._sieve, oldest.lookups = None, 0
        KnownIds._with_sieve = [*keepers[-_MOST_SIEVES + 1 :], weakref.ref(self)]
        self._sieve = sieve


def sieve_of(fd: int, end: int) -> Sieve:
    """Return a sieve of the ids in ``[0, end)``. Reads it all."""
    from convmem.log.sieve import Sieve

    sieve = Sieve()
    sieve.add(map(hash, _ids_between(fd, 0, end)))
    return sieve


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


def _ids_between(fd: int, start: int, end: int) -> Iterator[str]:
    for _, _, line in lines.forward(fd, start, end):
        turn_id = None if line is None else _id_of(line)
        if turn_id is not None:
            yield turn_id


def _id_of(line: bytes) -> str | None:
    encoded = codec.id_of(line) if codec.is_sealed(line) else None
    if encoded is not None:
        try:
            return codec.text_of(encoded)
        except ValueError:
            return None  # the line is damaged, and its id no text any more
    turn = codec.parse(line)
    return None if turn is None else turn.id
