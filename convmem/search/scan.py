"""Searching without an index: one pass over all logs, to the same answers.

For where no index can be: a Python whose SQLite has no FTS5, a folder that cannot be written, a
full disk. Takes a second for some ten megabytes; remembers some 45 bytes of each turn, and
eight more for each word of the query that it holds.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from functools import partial
from heapq import nlargest
from math import inf

from convmem.errors import ConvmemError, storage_error
from convmem.log.blocks import good_blocks
from convmem.search.index.database import UNSAID
from convmem.search.index.rows import ASKS, mark_of, row_of, rows_of
from convmem.search.index.turn_facts import Facts, Place, of_one_talk
from convmem.search.terms import Terms
from convmem.stores.log_files import size_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from convmem.log.read import Reader
    from convmem.log.records import OnDamage
    from convmem.progress import Observer
    from convmem.search.index.rows import Row
    from convmem.search.index.wanted import Passes, Wanted
    from convmem.search.language.query import Query
    from convmem.stores.caretakers import Logs

TASK = "searching"

_NO_TIME = -(1 << 63)
_TOLD_BYTES = 1 << 20


class ScannedWords:
    """Which turns hold what, as ``lookup.Lookup`` tells it, of the moment when it was made.

    A turn's number is its place in the order of all logs.

    Attributes:
        facts: What is known of the turns that were met so far, by number.
        turns: How many turns there are where one searches.
        failed: Why, for the name of each log that could not be read (whole).
    """

    def __init__(
        self,
        logs: Logs,
        namespace: str,
        query: Query,
        names: Collection[str] | None,
        observer: Observer,
    ) -> None:
        """Read all logs of *namespace*, or only those whose files have one of *names*."""
        self.facts: dict[int, Facts] = {}
        self.failed: dict[str, ConvmemError] = {}
        self._turns = _Turns()
        self._roles: dict[str, int] = {}
        self._names: list[str] = []
        self._starts: list[int] = []  # the number of each log's first turn
        self._terms = Terms([*query.units, *query.excluded])
        self._observer = observer
        stamps = logs.stamps(namespace)
        wanted = sorted(name for name in stamps if names is None or name in names)
        observer.started(TASK, sum(size_in(stamps[name]) for name in wanted))
        for name in wanted:
            self._take(logs, namespace, name)
        observer.finished(TASK)
        self.turns = len(self._turns.places)

    def roles(self) -> dict[int, str]:
        """Return the name of each role, by its number."""
        return {number: name for name, number in self._roles.items()}

    def log_names(self) -> dict[int, str]:
        """Return the file name of each log, by its number."""
        return dict(enumerate(self._names))

    def log_of(self, turn: int) -> int:
        """Return the number of the log that *turn* stands in."""
        return bisect_right(self._starts, turn) - 1

    def place(self, turn: int) -> Place:
        """Return where *turn* stands."""
        turns = self._turns
        return Place(self.log_of(turn), turns.places[turn], turns.marks[turn])

    # --- which turns hold it -------------------------------------------------------------------

    def count(self, wanted: Wanted, most: int) -> int:
        """Return in how many turns *wanted* is, or *most* if that many or more."""
        return min(len(self._terms.holding(wanted)), most)

    def matching(
        self, wanted: Wanted, most: int = -1, near: Collection[int] | None = None
    ) -> list[int]:
        """Return the turns that *wanted* is in, in order; with *most*, so many of them.

        *near*: only these turns are looked at.
        """
        found = sorted(self._terms.holding(wanted))
        if near is not None:
            found = sorted(set(near).intersection(found))
        if most >= 0:
            del found[most:]
        self.learn(found)
        return found

    def newest(self, wanted: Wanted | None, most: int, passes: Passes) -> list[int]:
        """Return the *most* newest turns that *wanted* is in and that pass, newest first.

        Turns without a time are never among them. Without *wanted* any turn will do.
        """
        holding: Iterable[int] = range(self.turns)
        if wanted is not None:
            holding = self._terms.holding(wanted)
        found = nlargest(
            most,
            (
                (facts.age, turn)
                for turn, facts in ((turn, self._turns.facts(turn)) for turn in holding)
                if facts.micros is not None and passes(facts)
            ),
        )
        newest = [turn for _, turn in found]
        self.learn(newest)
        return newest

    # --- what is known of a turn ---------------------------------------------------------------

    def learn(self, turns: Iterable[int]) -> None:
        """Look up the facts of *turns*."""
        for turn in turns:
            if turn not in self.facts:
                self.facts[turn] = self._turns.facts(turn)

    def beside(
        self, turns: Iterable[int], reach: int, within_seconds: float = inf
    ) -> dict[int, tuple[list[int], list[int]]]:
        """Return, for each turn, the *reach* nearest before it and after it, nearest first.

        A turn that stands further apart in time than *within_seconds* from the one before it, and
        all beyond, are none.
        """
        found = {}
        micros = within_seconds * 1e6
        for turn in turns:
            log = self.log_of(turn)
            first = self._starts[log]
            end = self._starts[log + 1] if log + 1 < len(self._starts) else self.turns
            before = list(range(turn - 1, max(first, turn - reach) - 1, -1))
            after = list(range(turn + 1, min(end, turn + reach + 1)))
            self.learn([turn, *before, *after])
            found[turn] = (
                of_one_talk(self.facts, turn, before, micros),
                of_one_talk(self.facts, turn, after, micros),
            )
        return found

    # --- reading -------------------------------------------------------------------------------

    def _take(self, logs: Logs, namespace: str, name: str) -> None:
        """Read one log."""
        start = len(self._turns.places)
        whose = logs.continuation_id(namespace, name) or name
        try:
            with logs.open(namespace, name) as reader:
                self._names.append(name)
                self._starts.append(start)
                self._read(reader, partial(self._observer.damaged, whose))
        except FileNotFoundError:
            pass  # removed since we looked
        except OSError as error:
            self.failed[name] = storage_error(error, f"cannot read {name}")
        except ConvmemError as error:
            self.failed[name] = error

    def _read(self, reader: Reader, damaged: OnDamage) -> None:
        told = 0
        for row in _rows(reader, damaged):
            role, place = row[3], row[5]
            if role is None:
                number = UNSAID
            else:
                number = self._roles.setdefault(role, UNSAID + 1 + len(self._roles))
            self._terms.take(len(self._turns.places), row[4])
            self._turns.add(row, number)
            if place - told >= _TOLD_BYTES:
                self._observer.advanced(TASK, place - told)
                told = place
        self._observer.advanced(TASK, reader.size - told)


class _Turns:
    """What is known of each turn, in columns."""

    __slots__ = ("_asks", "_micros", "_roles", "_sizes", "marks", "places")

    def __init__(self) -> None:
        self.places = array("q")
        self.marks = array("L")
        self._micros = array("q")
        self._sizes = array("L")
        self._roles = array("L")
        self._asks = bytearray()

    def add(self, row: Row, role: int) -> None:
        _, mark, micros, _, text, place = row
        self.places.append(place)
        self.marks.append(mark)
        self._micros.append(_NO_TIME if micros is None else micros)
        self._sizes.append(len(text))
        self._roles.append(role)
        self._asks.append(text.endswith(ASKS))

    def facts(self, turn: int) -> Facts:
        micros = self._micros[turn]
        return Facts(
            self._sizes[turn],
            None if micros == _NO_TIME else micros,
            self._roles[turn],
            self.marks[turn],
            self._asks[turn],
        )


def _rows(reader: Reader, damaged: OnDamage) -> Iterator[Row]:
    """Yield what the index would keep of each turn."""
    start = 0
    for block in good_blocks(reader.fd, reader.end):
        rows = rows_of(block)
        if rows is None:
            break  # from here on turn by turn, to the same end
        yield from rows
        start = block.end
    for stored in reader.in_order(damaged, start=start):
        yield row_of(stored, mark_of(stored.line))
