"""Looking things up in the index: which turns hold a word, and what is known of a turn.

A turn is called by its number, as ``database`` explains. All of it is read in one transaction, so
that what is answered was so at one moment.
"""

from __future__ import annotations

from math import inf

from convmem.search.index.database import BLOCK
from convmem.search.index.turn_facts import Facts, Place, of_one_talk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from typing import Any, TypeAlias

    from convmem.search.index.database import Database
    from convmem.search.index.wanted import Passes, Wanted

    # First and last number of turns that belong to the logs that are searched.
    Range: TypeAlias = tuple[int, int]

_AT_ONCE = 500
# A look into one range costs as much as some dozens of turns.
_BLOCKS_AT_ONCE = 8
_EVERYWHERE = [(0, 1 << 62)]


class Lookup:
    """Answers from one state of an index; within one transaction of the caller's.

    Attributes:
        facts: What is known of the turns that were met so far, by number.
    """

    def __init__(self, database: Database, names: Collection[str] | None) -> None:
        """Search all logs, or only those whose files have one of *names*."""
        self._sql = database.connection
        self.facts: dict[int, Facts] = {}
        self.turns, gone = self._row("select turns, gone from total")
        self._has_gone = bool(gone)
        self._ranges: list[Range] | None = None
        self._logs: dict[int, int] = {}  # of each block that was met
        if names is not None:
            self._narrow(names)

    def _row(self, statement: str, *values: Any) -> tuple[Any, ...]:
        found: tuple[Any, ...] = self._sql.execute(statement, values).fetchone()
        return found

    def _narrow(self, names: Collection[str]) -> None:
        blocks: list[int] = []
        for name in names:
            blocks += (
                block
                for (block,) in self._sql.execute(
                    "select block from block join log using (log) where name = ?", (name,)
                )
            )
        self._ranges = _joined(sorted(blocks))
        self.turns = sum(
            self._row("select count(*) from turn where turn between ? and ?", *each)[0]
            for each in self._ranges
        )

    @property
    def ranges(self) -> list[Range]:
        """The numbers of the turns that are searched, in order."""
        return _EVERYWHERE if self._ranges is None else self._ranges

    def roles(self) -> dict[int, str]:
        """Return the name of each role that somebody has where one searches, by its number."""
        if self._ranges is None:
            return dict(self._sql.execute("select role, name from role where turns > 0").fetchall())
        found: dict[int, str] = {}
        for each in self._ranges:
            found.update(
                self._sql.execute(
                    "select role, name from role where role in"
                    " (select distinct role from turn where turn between ? and ?)",
                    each,
                ).fetchall()
            )
        return found

    def log_names(self) -> dict[int, str]:
        """Return the file name of each log, by its number."""
        return dict(self._sql.execute("select log, name from log").fetchall())

    # --- which turns hold it -------------------------------------------------------------------

    def count(self, wanted: Wanted, most: int) -> int:
        """Return in how many turns *wanted* is, or *most* if that many or more."""
        if self._ranges is not None or self._has_gone:
            return len(self.matching(wanted, most))
        (count,) = self._row(
            "select count(*) from (select 1 from words where words match ? limit ?)",
            wanted.expression,
            most,
        )
        return int(count)

    def matching(
        self, wanted: Wanted, most: int = -1, near: Collection[int] | None = None
    ) -> list[int]:
        """Return the turns that *wanted* is in, in order; with *most*, so many of them.

        *near*: only in the blocks of these turns is looked.
        """
        found: list[int] = []
        ranges = self.ranges
        if near is not None:
            ranges = _joined(sorted({turn // BLOCK for turn in near}))
        for rows in self._matches(wanted, ranges, most):
            for turn, size, micros, role, mark, asks in rows:
                found.append(turn)
                self.facts[turn] = Facts(size, micros, role, mark, asks)
            if 0 <= most <= len(found):
                return found[:most]
        return found

    def _matches(
        self, wanted: Wanted | None, ranges: Iterable[Range], most: int = -1
    ) -> Iterator[list[tuple[int, int, int | None, int, int, int]]]:
        for each in ranges:
            if wanted is None:
                statement = "from turn where turn between ? and ? limit ?"
                values: tuple[Any, ...] = (*each, most)
            else:
                statement = (
                    "from words join turn on turn = words.rowid"
                    " where words match ? and words.rowid between ? and ? limit ?"
                )
                values = (wanted.expression, *each, most)
            yield self._sql.execute(
                f"select turn, size, ts, role, mark, asks {statement}", values
            ).fetchall()

    def newest(self, wanted: Wanted | None, most: int, passes: Passes) -> list[int]:
        """Return the *most* newest turns that *wanted* is in and that pass, newest first.

        Looks at the blocks with the newest turns first, and at no more than it must. Turns
        without a time are never among them. Without *wanted* any turn will do.
        """
        found: list[tuple[int, int]] = []
        ranges = self._ranges
        blocks = self._sql.execute(
            "select newest, block from block where newest is not null order by newest desc, block"
        )
        while True:
            some = blocks.fetchmany(_BLOCKS_AT_ONCE)
            if (
                not some
                or some[0][0] < (passes.since or some[0][0])
                or (len(found) >= most and some[0][0] < found[most - 1][0] >> 32)
            ):
                return [turn for _, turn in found[:most]]
            near = _joined(sorted(block for _, block in some))
            if ranges is not None:
                near = [each for each in near if _overlap(each, ranges)]
            for rows in self._matches(wanted, near):
                for turn, size, micros, role, mark, asks in rows:
                    facts = Facts(size, micros, role, mark, asks)
                    if facts.micros is not None and passes(facts):
                        self.facts[turn] = facts
                        found.append((facts.age, turn))
            found.sort(reverse=True)
            del found[2 * most :]

    # --- what is known of a turn ---------------------------------------------------------------

    def learn(self, turns: Iterable[int]) -> None:
        """Look up the facts of *turns*; those that are gone get none."""
        unknown = [turn for turn in turns if turn not in self.facts]
        for start in range(0, len(unknown), _AT_ONCE):
            piece = unknown[start : start + _AT_ONCE]
            for turn, size, micros, role, mark, asks in self._sql.execute(
                "select turn, size, ts, role, mark, asks from turn"
                f" where turn in ({_marks(piece)})",
                piece,
            ):
                self.facts[turn] = Facts(size, micros, role, mark, asks)

    def beside(
        self, turns: Iterable[int], reach: int, within_seconds: float = inf
    ) -> dict[int, tuple[list[int], list[int]]]:
        """Return, for each turn, the *reach* nearest before it and after it, nearest first.

        A turn that stands further apart in time than *within_seconds* from the one before it, and
        all beyond, are none.
        """
        turns = list(turns)
        wanted = {turn + step for turn in turns for step in range(-reach, reach + 1)}
        self.learn(turn for turn in wanted if turn >= 0)
        micros = within_seconds * 1e6
        return {
            turn: (
                of_one_talk(self.facts, turn, self._beside(turn, reach, -1), micros),
                of_one_talk(self.facts, turn, self._beside(turn, reach, 1), micros),
            )
            for turn in turns
        }

    def _beside(self, turn: int, reach: int, step: int) -> list[int]:
        near = [turn + step * nth for nth in range(1, reach + 1)]
        if all(each in self.facts and each // BLOCK == turn // BLOCK for each in near):
            return near
        # At the end of a block, of a log, or where turns are gone.
        found: list[int] = []
        for block in self._blocks_from(turn // BLOCK, step):
            low, high = block * BLOCK, block * BLOCK + BLOCK - 1
            if step > 0:
                statement = "where turn between ? and ? order by turn limit ?"
                low = max(low, turn + 1)
            else:
                statement = "where turn between ? and ? order by turn desc limit ?"
                high = min(high, turn - 1)
            for each, size, micros, role, mark, asks in self._sql.execute(
                f"select turn, size, ts, role, mark, asks from turn {statement}",
                (low, high, reach - len(found)),
            ):
                self.facts[each] = Facts(size, micros, role, mark, asks)
                found.append(each)
            if len(found) >= reach:
                break
        return found

    def _blocks_from(self, block: int, step: int) -> Iterator[int]:
        """Yield the blocks of one log from *block* on, in the direction of *step*."""
        log = self.log_of(block * BLOCK)
        yield block
        order = "block > ? order by block" if step > 0 else "block < ? order by block desc"
        for (each,) in self._sql.execute(
            f"select block from block where log = ? and {order}", (log, block)
        ):
            yield each

    def log_of(self, turn: int) -> int:
        """Return the number of the log that *turn* stands in."""
        block = turn // BLOCK
        log = self._logs.get(block)
        if log is None:
            log = self._logs[block] = int(
                self._row("select log from block where block = ?", block)[0]
            )
        return log

    def place(self, turn: int) -> Place:
        """Return where *turn* stands."""
        offset, mark = self._row("select place, mark from turn where turn = ?", turn)
        return Place(self.log_of(turn), offset, mark)


def _joined(blocks: list[int]) -> list[Range]:
    """Return the ranges of turns in *blocks*, in order; neighbouring blocks are one range."""
    ranges: list[Range] = []
    for block in blocks:
        first, last = block * BLOCK, block * BLOCK + BLOCK - 1
        if ranges and ranges[-1][1] == first - 1:
            ranges[-1] = (ranges[-1][0], last)
        else:
            ranges.append((first, last))
    return ranges


def _overlap(block: Range, ranges: list[Range]) -> bool:
    return any(first <= block[1] and block[0] <= last for first, last in ranges)


def _marks(values: Sequence[int]) -> str:
    return ",".join("?" * len(values))
