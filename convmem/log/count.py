"""One whole reading of a log: how many turns, whose, from when, and what is damaged.

What a count found can be kept, and a log that only grew since is counted from where that ended.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter

from convmem.log import blocks, codec, lines, records
from convmem.log.files import read_exactly
from convmem.log.look import unfinished_turn
from convmem.quantities import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from convmem.log.blocks import Block
    from convmem.log.records import Damage
    from convmem.turns import Turn

# A shorter log is counted whole whenever it changed: that takes a millisecond, and needs no belief
# that what was there before was left alone.
CONTINUE_FROM_BYTES = 256 << 10
MOST_DAYS = 400

_TOLD_BYTES = 1 << 20
_TS_CHARACTERS = 27
# Stands for the days before those that are told apart, and for turns without a time.
EARLIER = ""
UNTIMED = "-"


class Counts:
    """What a whole reading of one log tells. Every figure is measured.

    Attributes:
        turns: How many there are.
        roles: How many of each role.
        days: For each day (UTC, ``2026-11-21``) the turns of it and the bytes of their lines. The
            newest 400 days that have any; all before stands under ``EARLIER``, and turns that
            have no time under ``UNTIMED``.
        oldest, newest: The earliest and the latest time of a turn, as ``format_time`` writes
            them; ``None`` where no turn has one.
        unsealed: Turns that were written by hand.
        damaged, damaged_bytes: Lines that are no turn, and their bytes.
        place: Where a later count may go on: the start and end of the last line and its CRC-32;
            ``None`` where the log does not end in a line that settles all before it.
    """

    __slots__ = (
        "damaged",
        "damaged_bytes",
        "days",
        "newest",
        "oldest",
        "place",
        "roles",
        "turns",
        "unsealed",
    )

    def __init__(self) -> None:
        self.turns = 0
        self.roles: dict[str, int] = {}
        self.days: dict[str, list[int]] = {}
        self.oldest: str | None = None
        self.newest: str | None = None
        self.unsealed = 0
        self.damaged = 0
        self.damaged_bytes = 0
        self.place: tuple[int, int, int] | None = None

    def as_list(self) -> list[Any]:
        """Return the counts as JSON values. Compressed logs hold them: the order is for ever."""
        return [
            self.turns,
            self.roles,
            self.days,
            self.oldest,
            self.newest,
            self.unsealed,
            self.damaged,
            self.damaged_bytes,
            None if self.place is None else list(self.place),
        ]

    @classmethod
    def from_list(cls, values: list[Any]) -> Counts:
        """Return what ``as_list`` was called on."""
        found = cls()
        found.turns, found.roles, found.days, found.oldest, found.newest = values[:5]
        found.unsealed, found.damaged, found.damaged_bytes, place = values[5:]
        found.place = None if place is None else (place[0], place[1], place[2])
        return found


class Tally:
    """Counts turns as they are met, for a reading that is made for other ends too."""

    def __init__(self, known: Counts | None = None) -> None:
        self._counts = Counts() if known is None else Counts.from_list(known.as_list())
        self._roles: dict[bytes, int] = {}
        self._days = {day: list(held) for day, held in self._counts.days.items()}
        self._day = ""
        self._held = [0, 0]
        self._turns = 0

    def add(self, line: bytes, offset: int = 0) -> None:
        """Count the committed *line* (its newline not included) that stands at *offset*."""
        is_sealed = codec.is_sealed(line)
        head = codec.head_of(line) if is_sealed else None
        if head is not None and len(head[2]) == _TS_CHARACTERS and head[2][-1] == "Z":
            self._turns += 1
            role = head[3]
            self._roles[role] = self._roles.get(role, 0) + 1
            self._note_time(head[2], len(line) + 1)
        elif not codec.is_seq_floor(line):
            turn = codec.parse(line)
            if turn is None:
                self.damaged(records.Damage(offset, len(line), codec.NOT_A_TURN))
            else:
                self.add_turn(turn, len(line) + 1, is_sealed=is_sealed)

    def add_block(self, block: Block) -> None:
        """Count the turns of a whole block: the same as line by line, at half the cost."""
        heads = codec.heads_of(block.lines) if block.is_sealed else [None]
        good = [head for head in heads if head is not None]
        times = [head[3] for head in good]
        if len(good) < len(block.lines) or not _are_our_times(times):
            for line, offset in zip(block.lines, block.offsets, strict=False):
                self.add(line, offset)
            return
        self._turns += len(good)
        for role, many in Counter([head[4] for head in good]).items():
            self._roles[role] = self._roles.get(role, 0) + many
        first, last = str(min(times), "ascii"), str(max(times), "ascii")
        if first[:10] == last[:10]:
            self._note_time(first, 0, turns=0)
            self._note_time(last, sum(block.sizes), turns=len(good))
        else:
            for ts, size in zip(times, block.sizes, strict=True):
                self._note_time(str(ts, "ascii"), size)

    def add_turn(self, turn: Turn, size: int, *, is_sealed: bool) -> None:
        """Count *turn*, whose line takes *size* bytes."""
        counts = self._counts
        self._turns += 1
        counts.unsealed += not is_sealed
        counts.roles[turn.role] = counts.roles.get(turn.role, 0) + 1
        if turn.ts is None:
            held = self._days.setdefault(UNTIMED, [0, 0])
            held[0] += 1
            held[1] += size
        else:
            self._note_time(format_time(turn.ts), size)

    def damaged(self, damage: Damage) -> None:
        """Count what is no turn."""
        self._counts.damaged += 1
        self._counts.damaged_bytes += damage.length

    def counts(self) -> Counts:
        """Return what was counted; the tally is then used up."""
        counts = self._counts
        counts.turns += self._turns
        for encoded, many in self._roles.items():
            role = codec.text_of(encoded)
            counts.roles[role] = counts.roles.get(role, 0) + many
        counts.days = _newest_days(self._days)
        return counts

    def _note_time(self, ts: str, size: int, *, turns: int = 1) -> None:
        counts = self._counts
        if counts.newest is None or ts > counts.newest:
            counts.newest = ts
        if counts.oldest is None or ts < counts.oldest:
            counts.oldest = ts
        day = ts[:10]
        if day != self._day:  # a day's turns mostly stand together
            self._day = day
            self._held = self._days.setdefault(day, [0, 0])
        self._held[0] += turns
        self._held[1] += size


def count(
    fd: int,
    size: int,
    *,
    known: Counts | None,
    may_be_torn: bool = True,
    advanced: Callable[[int], None],
) -> tuple[Counts, int]:
    """Read the log *fd*, *size* bytes long, and return its counts and how many bytes were read.

    Goes on from *known* where the log still has what was counted then. An unfinished last line is
    damage where it *may be torn*: not where somebody may just be writing it. *advanced* is told
    of the bytes as they are read. Takes no lock.
    """
    start = 0
    if known is not None and known.place is not None and _only_grew(fd, size, known.place):
        start = known.place[1]
    else:
        known = None
    tally = Tally(known)
    end = lines.finished_end(fd, size, start=start)
    told = start
    if start == 0:
        for block in blocks.good_blocks(fd, end):
            tally.add_block(block)
            advanced(block.end - told)
            told = block.end
    for record in records.forward(fd, told, end, tally.damaged):
        tally.add(record.data, record.offset)
        if record.end - told >= _TOLD_BYTES:
            advanced(record.end - told)
            told = record.end
    advanced(size - told)
    if end < size:
        by_hand = unfinished_turn(fd, end, size)
        if by_hand is not None:
            tally.add_turn(by_hand.turn, size - end, is_sealed=False)
        elif may_be_torn:
            tally.damaged(records.Damage(end, size - end, codec.TORN))
    found = tally.counts()
    found.place = None if end < size else _place(fd, size)
    return found, size - start


def _only_grew(fd: int, size: int, place: tuple[int, int, int]) -> bool:
    start, end, crc = place
    if not CONTINUE_FROM_BYTES <= end <= size:
        return False
    return zlib.crc32(read_exactly(fd, end - start, start)) == crc


def _place(fd: int, end: int) -> tuple[int, int, int] | None:
    """Return the place of the last line, if no line behind can change what those before it say.

    True of a turn of its own and of a batch's closing line, both whole.
    """
    if end < CONTINUE_FROM_BYTES:
        return None
    for start, stop, line in lines.backward(fd, end):
        if line is None or codec.head_of(line) is None or not codec.is_intact(line):
            return None
        mark = codec.batch_mark(line) if codec.ends_like_a_batch(line) else None
        if mark is not None and mark[1] != mark[2] - 1:
            return None
        return start, stop + 1, zlib.crc32(os.pread(fd, stop + 1 - start, start))
    return None


def _are_our_times(times: list[bytes]) -> bool:
    """Whether all are as ``format_time`` writes them, so that they sort as text."""
    return set(map(len, times)) == {_TS_CHARACTERS} and not b"".join(
        [ts[-1:] for ts in times]
    ).strip(b"Z")


def _newest_days(days: dict[str, list[int]]) -> dict[str, list[int]]:
    """Return *days* with all but the newest put together, so that no log has any number of them."""
    named = sorted(day for day in days if day[:1].isdigit())
    if len(named) <= MOST_DAYS:
        return days
    kept = {day: days[day] for day in days if not day[:1].isdigit()}
    before = list(kept.get(EARLIER, [0, 0]))
    for day in named[:-MOST_DAYS]:
        before[0] += days[day][0]
        before[1] += days[day][1]
    kept[EARLIER] = before
    kept.update((day, days[day]) for day in named[-MOST_DAYS:])
    return kept
