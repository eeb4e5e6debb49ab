"""Finding the turns of one namespace that fit a query best, whatever holds the words.

First the turns that hold everything that was asked for; where those are too few, turns that hold
some of it, or stand beside one that does. What is bounded: no more than ``MOST`` turns are ranked
at once. Of words that stand in more turns than that, the newest turns are ranked.
"""

from __future__ import annotations

from heapq import nlargest
from itertools import accumulate, chain

from convmem.search.asking import Asking, any_form, role_numbers
from convmem.search.index.rows import micros_of
from convmem.search.index.wanted import Passes, Wanted
from convmem.search.language.query import holds
from convmem.search.language.times import asks_when, tells_when
from convmem.search.page import ALL, MEANING
from convmem.search.ranking import ONE_TALK_SECONDS, REACH, Facts, Ranked, rank
from convmem.search.ranking import Unit as Held
from convmem.search.said import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from typing import Protocol

    from convmem.log.read import StoredTurn
    from convmem.search.index import turn_facts
    from convmem.search.language.query import Query, Unit
    from convmem.search.page import Cursor
    from convmem.search.semantic.nearest import Nearest

    class Words(Protocol):
        """Which turns hold what: the index, or a scan. ``lookup.Lookup`` says what each does."""

        facts: dict[int, turn_facts.Facts]
        turns: int

        def roles(self) -> dict[int, str]: ...
        def log_names(self) -> dict[int, str]: ...
        def log_of(self, turn: int) -> int: ...
        def count(self, wanted: Wanted, most: int) -> int: ...
        def matching(
            self, wanted: Wanted, most: int = -1, near: Collection[int] | None = None
        ) -> list[int]: ...
        def newest(self, wanted: Wanted | None, most: int, passes: Passes) -> list[int]: ...
        def learn(self, turns: Collection[int]) -> None: ...
        def beside(
            self, turns: Collection[int], reach: int, within_seconds: float = ...
        ) -> dict[int, tuple[list[int], list[int]]]: ...
        def place(self, turn: int) -> turn_facts.Place: ...


MOST = 10_000
"""So many turns that hold a word are looked at for it; beyond that only the newest."""

_NEWEST = 500
# So many of the best are ranked with all that stands beside them; the others come behind. Two
# hundred give the same figures in tests/benchmarks/retrieval.py.
_BEST = 500
# So many turns are told to be alike in meaning; more where the turn's own line must tell the rest.
_MOST_ALIKE = 200
_MOST_ALIKE_CHECKED = 2000
# Rarer words of a longer query tell more than enough.
_MOST_UNITS = 32
_MOST_COUNTED = 256


class Fit:
    """A turn that fits.

    Attributes:
        turn: Its number in the index.
        score: How well.
        age: Orders those of equal score, the highest first; the same in every index.
        is_match: Whether it holds something of the query itself.
        stored: The turn as it was read.
    """

    __slots__ = ("age", "is_match", "score", "stored", "turn")

    def __init__(
        self, turn: int, score: float, age: int, stored: StoredTurn, *, is_match: bool
    ) -> None:
        self.turn = turn
        self.score = score
        self.age = age
        self.is_match = is_match
        self.stored = stored


class Finding:
    """One query over the turns of one namespace.

    Attributes:
        asking: What the query asks for.
    """

    def __init__(
        self,
        words: Words,
        read: Callable[[turn_facts.Place], StoredTurn],
        query: Query,
        notes: list[str],
        nearest: Nearest | None = None,
    ) -> None:
        """*notes* takes what one should know of the answer, in words.

        *nearest* tells which turns are alike in meaning, where that is wanted.
        """
        self._words = words
        self._read = read
        self._query = query
        self._notes = notes
        self._nearest = nearest
        self._alike: Mapping[int, float] | None = None
        # What was quoted, where it is not enough to hold something like it.
        self._required: list[Unit] = []
        roles = words.roles()
        self._passes = Passes(
            role_numbers(query.roles, roles), micros_of(query.since), micros_of(query.until)
        )
        self.asking = Asking(query, roles)
        self._excluded = [unit for unit in query.excluded if not unit.needs_text]

    def fits(self, mode: str, cursor: Cursor | None) -> Iterator[Fit]:
        """Yield the turns that fit in that *mode*, best first, behind the *cursor*.

        Each is read and checked when it is asked for. What is ordered as the cursor's own hit is
        among them: who pages knows how many of those were shown.
        """
        ranked = self._ranked(mode)
        for each in ranked:
            age = self._words.facts[each.row].age
            if cursor is not None and not cursor.is_at_or_behind(each.score, age):
                continue
            stored = self._read(self._words.place(each.row))
            if self._holds(stored, mode):
                yield Fit(each.row, each.score, age, stored, is_match=self._is_match(each))

    def _ranked(self, mode: str) -> Iterable[Ranked]:
        if mode == ALL:
            return self._all()
        if mode == MEANING and self._nearest is not None:
            self._required = list(self._query.units) if self.asking.is_quoted else []
            among = self._quoting() if self._required else None
            most = _MOST_ALIKE_CHECKED if self._query.meta else _MOST_ALIKE
            self._alike = self._nearest(self._passes, most, among)
            # What only stands beside the least alike says nothing of what was asked.
            return (each for each in self._some() if each.score > 0 or self._is_match(each))
        return self._whole_first(self._some())

    def _whole_first(self, some: Iterable[Ranked]) -> Iterator[Ranked]:
        """Put before all others the turns that hold everything: too few to fill a page."""
        whole = {fit.turn for fit in self.fits(ALL, None)}
        if not whole:
            yield from some
            return
        ranked = list(some)
        top = ranked[0].score if ranked else 0.0
        for each in ranked:
            if each.row in whole:
                yield Ranked(each.row, top + each.score, True)
        yield from (each for each in ranked if each.row not in whole)

    def _is_match(self, ranked: Ranked) -> bool:
        return ranked.is_match or (self._alike is not None and ranked.row in self._alike)

    def _all(self) -> Iterable[Ranked]:
        units = self.asking.units()[:_MOST_COUNTED]
        if not units:
            return self._newest() if self._query.is_narrowed else []
        wanted = Wanted(units, excluded=self._excluded)
        rows = self._rows(wanted)
        # What all hold is worth the same to each: one unit stands for it.
        return (each for each in self._rank([Held(rows, len(rows))]) if each.is_match)

    def _newest(self) -> list[Ranked]:
        """Return the newest of the turns that pass, where nothing is asked for but that."""
        turns = self._words.newest(None, _NEWEST, self._passes)
        return [Ranked(turn, 0.0, True) for turn in turns]

    def _some(self) -> Iterable[Ranked]:
        parts = self.asking.parts()[:_MOST_COUNTED]
        counts = {part: self._words.count(any_form(part), MOST) for part in parts}
        parts = sorted((part for part in parts if counts[part]), key=lambda part: counts[part])
        del parts[_MOST_UNITS:]
        if not parts:
            if not self._alike:
                return []
            self._notes.append("no turn holds any of these words: this is what is nearest to them")
            return self._rank([])
        light = self._light(parts, counts)
        if self._required:
            among = Wanted(self._required)
            rows = set(self._quoting())
        elif light:
            # Turns that hold none of these words but frequent ones are left out.
            among = any_form(*light, excluded=self._excluded)
            rows = set()
            for part in light:
                rows.update(self._words.matching(any_form(part, excluded=self._excluded)))
            rows = self._passing(rows)
        else:
            among = any_form(*parts, excluded=self._excluded)
            rows = set(self._rows(among))
        held = []
        # Of words that stand everywhere, not every turn is fetched to rank the newest.
        near = rows if len(rows) <= _NEWEST else None
        for part in parts:
            holding = rows.intersection(
                self._words.matching(any_form(part, among=among), near=near)
            )
            if holding:
                held.append(Held(holding, counts[part], is_name=self.asking.is_name(part)))
        return self._rank(held)

    def _quoting(self) -> Collection[int]:
        return self._rows(Wanted(self._required, excluded=self._excluded))

    def _light(self, parts: list[Unit], counts: dict[Unit, int]) -> list[Unit]:
        """Return the rarest of *parts*: those whose turns can all be looked at."""
        sums = accumulate(counts[part] for part in parts)
        return [part for part, turns in zip(parts, sums, strict=True) if turns < MOST]

    def _rows(self, wanted: Wanted) -> Collection[int]:
        """Return the turns to rank: all that are wanted and pass, or the newest of too many."""
        words = self._words
        if words.count(wanted, MOST) < MOST:
            return self._passing(words.matching(wanted))
        self._notes.append(
            f"more than {MOST:,} turns hold that: only the newest {_NEWEST:,} of them were ranked"
        )
        return words.newest(wanted, _NEWEST, self._passes)

    def _passing(self, turns: Collection[int]) -> set[int]:
        facts = self._words.facts
        return {turn for turn in turns if self._passes(facts[turn])}

    def _rank(self, held: list[Held]) -> Iterator[Ranked]:
        words = self._words
        known = words.facts

        def newest(turns: Sequence[int], most: int) -> list[int]:
            return nlargest(most, turns, key=lambda turn: known[turn].age)

        def facts(turns: Sequence[int]) -> dict[int, Facts]:
            words.learn(turns)
            return {
                turn: Facts(
                    known[turn].size,
                    known[turn].age,
                    is_named=known[turn].role in self.asking.named,
                    is_asking=known[turn].asks,
                )
                for turn in turns
                if turn in known and self._passes(known[turn])
            }

        def tell_when(turns: Sequence[int]) -> list[int]:
            return [
                turn for turn in turns if tells_when(text_of(self._read(words.place(turn)).turn))
            ]

        ranked = rank(
            held,
            turns=words.turns,
            newest=newest,
            beside=lambda turns: words.beside(turns, REACH, ONE_TALK_SECONDS),
            facts=facts,
            tell_when=tell_when if asks_when(self._query.text) else None,
            alike=self._alike,
            most=_BEST,
        )
        return chain(ranked, self._rest(held, ranked))

    def _rest(self, held: list[Held], ranked: list[Ranked]) -> Iterator[Ranked]:
        """Yield what holds something and was not ranked, since so much fits better: the newest
        first, behind all that was."""
        seen = {each.row for each in ranked}
        rest = {row for unit in held for row in unit.rows if row not in seen}
        least = ranked[-1].score if ranked else 0.0
        facts = self._words.facts
        rows = sorted(self._passing(rest), key=lambda row: facts[row].age, reverse=True)
        for row in rows:
            yield Ranked(row, least - abs(least) / 2 - 1.0, True)

    def _holds(self, stored: StoredTurn, mode: str) -> bool:
        """Whether a turn holds what the index alone could not tell."""
        query = self._query
        if query.meta and not query.meta_holds(stored.turn.meta):
            return False
        checked = self._required
        if mode == ALL:
            checked = [unit for unit in query.units if unit.needs_text]
        if not checked and not query.excluded:
            return True
        text = text_of(stored.turn)
        return all(holds(unit, text) for unit in checked) and not any(
            holds(unit, text) for unit in query.excluded
        )
