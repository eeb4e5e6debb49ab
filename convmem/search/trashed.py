"""Turns of the trash that a query may fit, held so that they are ranked as those of an index are.

There is no index of the trash: it is read, and only turns that hold a word of the query, and those
beside them, are kept.
"""

from __future__ import annotations

from collections import deque
from heapq import nlargest
from math import inf
from zlib import crc32

from convmem.log.read import StoredTurn
from convmem.search.index.rows import ASKS, micros_of
from convmem.search.index.turn_facts import Facts, Place, of_one_talk
from convmem.search.ranking import REACH
from convmem.search.said import text_of
from convmem.search.terms import Terms
from convmem.turns import EVENT, is_said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from convmem.search.index.wanted import Passes, Wanted
    from convmem.search.language.query import Query
    from convmem.turns import Turn

FIRST = 1 << 60
"""Lower numbers are those of an index."""

MOST_CHARACTERS = 64 << 20
"""More than these are not held: the texts of older turns are then left out."""

_FILE_BITS = 40
# Stands in the place of a log's number.
_NO_LOG = -1


class TrashedTurns:
    """Turns of the trash; ``finding.Words`` says what it answers.

    Attributes:
        facts: What is known of the turns that are kept, by number.
        turns: How many turns were looked at, and not only kept.
        is_full: More were not looked at.
    """

    def __init__(self, query: Query, roles: dict[int, str]) -> None:
        """*roles* are those of the log, by their numbers; others get numbers of their own."""
        self._roles = {name: number for number, name in roles.items()}
        self._next_role = max(roles, default=0) + 1
        self._turns: dict[int, Turn] = {}
        self._terms = Terms([*query.units, *query.excluded])
        self._files = 0
        self._characters = 0
        self.facts: dict[int, Facts] = {}
        self.turns = 0
        self.is_full = False

    def take(self, turns: Iterable[Turn], seen: Callable[[Turn], None]) -> None:
        """Look at the turns of one more file. *seen* is told of each."""
        self._files += 1
        before: deque[tuple[int, Turn]] = deque(maxlen=REACH)
        number = FIRST + (self._files << _FILE_BITS)
        behind = 0
        for turn in turns:
            seen(turn)
            if turn.role == EVENT or not is_said(turn):
                continue
            number += 1
            self.turns += 1
            text = text_of(turn)
            is_held = self._terms.take(number, text)
            if not is_held and not behind:
                before.append((number, turn))
                continue
            if is_held:
                for each in before:
                    self._keep(*each, text_of(each[1]))
                before.clear()
            behind = REACH if is_held else behind - 1
            self._keep(number, turn, text)
            if self._characters > MOST_CHARACTERS:
                self.is_full = True
                return

    def _keep(self, number: int, turn: Turn, text: str) -> None:
        role = self._roles.get(turn.role)
        if role is None:
            role = self._roles[turn.role] = self._next_role
            self._next_role += 1
        mark = crc32(f"{turn.seq} {turn.id} {text}".encode("utf-8", "surrogatepass"))
        self.facts[number] = Facts(
            len(text), micros_of(turn.ts), role, mark, int(text.endswith(ASKS))
        )
        self._turns[number] = turn
        self._characters += len(text)

    # --- what the words are in -----------------------------------------------------------------

    def roles(self) -> dict[int, str]:
        """Return the name of each role, by its number."""
        return {number: name for name, number in self._roles.items()}

    def matching(self, wanted: Wanted, most: int = -1) -> list[int]:
        """Return the turns that *wanted* is in, in order; with *most*, so many of them."""
        found = sorted(self._terms.holding(wanted))
        return found if most < 0 else found[:most]

    def newest(self, wanted: Wanted | None, most: int, passes: Passes) -> list[int]:
        """Return the *most* newest turns that *wanted* is in and that pass, newest first."""
        facts = self.facts
        timed = (
            number
            for number in (facts if wanted is None else self.matching(wanted))
            if facts[number].micros is not None and passes(facts[number])
        )
        return nlargest(most, timed, key=lambda number: facts[number].age)

    # --- what is known of a turn ---------------------------------------------------------------

    def beside(
        self, turns: Collection[int], reach: int, within_seconds: float = inf
    ) -> dict[int, tuple[list[int], list[int]]]:
        """Return the neighbours of *turns*, nearest first; see ``lookup.Lookup.beside``."""
        micros = within_seconds * 1e6
        return {
            turn: (self._near(turn, -1, reach, micros), self._near(turn, 1, reach, micros))
            for turn in turns
        }

    def _near(self, turn: int, step: int, reach: int, within_micros: float) -> list[int]:
        found = []
        for other in range(turn + step, turn + step * (reach + 1), step):
            if other not in self.facts:
                break
            found.append(other)
        return of_one_talk(self.facts, turn, found, within_micros)

    def place(self, turn: int) -> Place:
        """Return what ``read`` reads *turn* by."""
        return Place(_NO_LOG, turn, self.facts[turn].mark)

    def read(self, place: Place) -> StoredTurn:
        """Return the turn at *place*."""
        return StoredTurn(b"", place.offset, self._turns[place.offset])


def is_trashed(turn: int) -> bool:
    """Whether a turn of that number is one of the trash."""
    return turn >= FIRST


def is_of_trash(place: Place) -> bool:
    """Whether a turn of the trash stands at *place*."""
    return place.log == _NO_LOG
