"""Which turns answer a query best: what they say, what stands beside them, and who said it.

Pure sums over sets of rows; the index brings the rows. Each word of the query counts once for a
turn, rare words more: fully where the turn says it itself, in part where a neighbour does, since
the answer to a question stands beside the words of the question. Where the query names a speaker,
what that speaker said comes first; a few words, and a turn that itself asks, answer little. With an
embedder, likeness of meaning is added to this: weighted, not by the order alone.

The weights are round figures from a wide, flat optimum. They were found on conversations and
questions that were written for convmem (tests/benchmarks/data), on nothing else. Each says what
it brings there: in points of the mean of turn recall@5/10/25/50, for questions in other words
than the turn's, and for questions in its words.
"""

from __future__ import annotations

from math import log, log2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from typing import Any, TypeAlias

    Beside: TypeAlias = tuple[Sequence[int], Sequence[int]]

# What a word counts in a turn that stands one, two … turns behind the one that says it, and in
# one that stands so far before it. (18.0, 16.3; that both sides are not alike: 0.8, 0.7)
BESIDE = ((0.8, 0.5), (0.6, 0.4), (0.4, 0.3), (0.3, 0.2))
REACH = len(BESIDE)
# And in the turn right behind one that asks: there the answer is. (0.2, 0.2)
BEHIND_ASKING = 1.0
# Turns further apart than this are not of one talk, and no neighbours. (0.7, 0.5)
ONE_TALK_SECONDS = 8 * 3600.0
# The neighbours of so many best matches are looked at; others' cannot come among the first.
MOST_MATCHES = 500
# A speaker whom the query names: so much of an average word of the query, for each of the
# speaker's turns. (3.4, 1.4)
NAMED = 0.7
# In a text that name says who was spoken to, not who spoke: so much of an average word. (0.8, 1.2)
NAME_IN_TEXT = 0.1
# A turn that ends in a question says what is not known: so much of its score. (1.5, 0.8)
ASKING = 0.6
# A turn that tells when, if the query asks that: so much of an average word; looked for in so
# many of the best turns. (1.0, 1.0)
TELLS_WHEN = 0.75
MOST_READ = 100
# With an embedder: the turn whose meaning is most like the query's has so much of the best score
# besides; others less, down to none for one that is not among those looked at. More for questions
# in other words, less for those in the same. With the query said as its answer would be said
# (``first_person``): (16.8, 3.6), else (13.5, 2.4).
ALIKE = 0.75
# And so much of that has a turn one, two behind such a one, and one before it. (2.5, 0.6)
BESIDE_ALIKE = ((0.4, 0.2), (0.2, 0.1))
# A turn of so many characters has half of its score. (1.4, 0.8)
SHORT = 30
# The conversations that this was tuned on have no long turns. As in BM25, one that is long holds
# many words by chance; each doubling beyond this many characters takes a tenth.
LONG = 1000
DOUBLED = 0.1


class Unit:
    """One word, phrase or prefix of a query, and the turns that hold it.

    Attributes:
        rows: The candidates that hold it or another form of it (``forms.other_forms``), each once;
            order does not matter. Where it is in very many turns, those that hold another unit,
            too, are enough.
        turns: How many turns hold it in all; at least ``len(rows)``.
        is_name: Whether it is the name of a speaker: of a role, but not ``user``, ``assistant``,
            ``system`` or ``tool``, which are words like others.
    """

    __slots__ = ("is_name", "rows", "turns")

    def __init__(self, rows: Collection[int], turns: int, *, is_name: bool = False) -> None:
        self.rows = rows
        self.turns = turns
        self.is_name = is_name


class Facts:
    """What the index knows of a turn besides its words.

    Attributes:
        size: Its length in characters.
        key: Of turns that answer equally well, the one with the greatest key comes first.
        is_named: Whether the query names who said it.
        is_asking: Whether it ends in a question mark.
    """

    __slots__ = ("is_asking", "is_named", "key", "size")

    def __init__(
        self, size: int, key: Any, *, is_named: bool = False, is_asking: bool = False
    ) -> None:
        self.size = size
        self.key = key
        self.is_named = is_named
        self.is_asking = is_asking


class Ranked:
    """A turn that was found.

    Attributes:
        row: Which.
        score: How well it fits; higher is better.
        is_match: Whether it says a word of the query itself, not only a neighbour.
    """

    __slots__ = ("is_match", "row", "score")

    def __init__(self, row: int, score: float, is_match: bool) -> None:
        self.row = row
        self.score = score
        self.is_match = is_match

    def __repr__(self) -> str:
        return f"Ranked({self.row}, {self.score:.3f}, is_match={self.is_match})"


def rank(
    units: Iterable[Unit],
    *,
    turns: int,
    newest: Callable[[Sequence[int], int], Collection[int]],
    beside: Callable[[Sequence[int]], Mapping[int, Beside]],
    facts: Callable[[Sequence[int]], Mapping[int, Facts]],
    tell_when: Callable[[Sequence[int]], Collection[int]] | None = None,
    alike: Mapping[int, float] | None = None,
    most: int = MOST_MATCHES,
) -> list[Ranked]:
    """Return the turns that hold a unit or are alike, and their neighbours, the best first.

    Costs one short step for each row of each unit, and some ten for each of the best *most*; what
    matches less than those is left out. The answer depends on what is given, not on the numbers
    of the rows or their order.

    Args:
        units: Those of the query that any turn holds; a word that stands there twice is one.
        turns: How many turns there are in all.
        newest: Called where more rows fit equally than are looked at: returns so many of the rows
            given, those that come first by their ``Facts.key``.
        beside: Called once, with matching rows. For each, the rows before it and those after it
            in its talk (see ``ONE_TALK_SECONDS``), nearest first, at most ``REACH`` each way; one
            that is left out has none.
        facts: Called once, with all rows that could be answered; those that it leaves out, since
            a filter of the query does, are not.
        tell_when: If the query asks when (``times.asks_when``): called once, with the best
            ``MOST_READ`` rows; returns those whose text tells a time (``times.tells_when``).
        alike: The rows whose meaning is most like the query's, some hundreds that its filters let
            through, and how much: cosines of vectors of these turns alone, without names or
            neighbours, and of the query as ``first_person.said`` gives it.
        most: How many matches are looked at, each with its neighbours.
    """
    units = list(units)
    worths, average = _worths(units, turns)
    held = _held(units)
    value = _Value(worths)
    best = _best(held, value, newest, most)
    looked_at = best if alike is None else list(dict.fromkeys([*best, *alike]))
    around = beside(looked_at)
    candidates = set(looked_at)
    for sides in around.values():
        candidates.update(*sides)
    known = facts(list(candidates))
    scores = {row: value[held.get(row, 0)] for row in known}
    _spread(best, around, held, value, known, scores)
    for row, fact in known.items():
        if fact.is_named:
            scores[row] += NAMED * average
    if alike:
        _add_alike(alike, around, scores)
    for row, fact in known.items():
        scores[row] *= _weight(fact)
    found = _in_order(scores, known)
    if tell_when is not None:
        for row in tell_when(found[:MOST_READ]):
            scores[row] += TELLS_WHEN * average * _weight(known[row])
        found = _in_order(scores, known)
    return [Ranked(row, scores[row], row in held) for row in found]


def rarity(turns: int, holding: int) -> float:
    """Return what a word is worth that *holding* of *turns* turns hold; always above 0."""
    holding = min(holding, turns)
    return log(1.0 + (turns - holding + 0.5) / (holding + 0.5))


class _Value(dict[int, float]):
    """What each set of units is worth, a set being the bits of a number; worked out once."""

    def __init__(self, worths: list[float]) -> None:
        super().__init__()
        self._worths = worths

    def __missing__(self, units: int) -> float:
        value = sum(worth for at, worth in enumerate(self._worths) if units >> at & 1)
        self[units] = value
        return value


def _worths(units: list[Unit], turns: int) -> tuple[list[float], float]:
    """Return what each unit is worth, and a word of the query on average, without names."""
    worths = [rarity(turns, unit.turns) for unit in units]
    words = [worth for worth, unit in zip(worths, units, strict=True) if not unit.is_name]
    if not words:
        return worths, sum(worths) / max(1, len(worths))
    average = sum(words) / len(words)
    for at, unit in enumerate(units):
        if unit.is_name:
            worths[at] = min(worths[at], NAME_IN_TEXT * average)
    return worths, average


def _held(units: list[Unit]) -> dict[int, int]:
    """Return for each row the units that it holds, as the bits of a number."""
    held: dict[int, int] = {}
    for at, unit in enumerate(units):
        bit = 1 << at
        if not held:
            held = dict.fromkeys(unit.rows, bit)
            continue
        get = held.get
        for row in unit.rows:
            held[row] = get(row, 0) | bit
    return held


def _best(
    held: dict[int, int],
    value: _Value,
    newest: Callable[[Sequence[int], int], Collection[int]],
    most: int,
) -> list[int]:
    """Return the *most* rows whose units are worth most, the best first."""
    alike: dict[int, list[int]] = {}
    for row, units in held.items():
        if units in alike:
            alike[units].append(row)
        else:
            alike[units] = [row]
    best: list[int] = []
    # Not by the value alone: of two sets worth the same, always the same one is cut.
    for units in sorted(alike, key=lambda units: (-value[units], units)):
        room = most - len(best)
        rows = alike[units]
        best += rows if len(rows) <= room else newest(rows, room)
        if len(best) >= most:
            break
    return best


def _spread(
    best: list[int],
    around: Mapping[int, Beside],
    held: dict[int, int],
    value: _Value,
    known: Mapping[int, Facts],
    scores: dict[int, float],
) -> None:
    """Add to *scores* what the neighbours say: each unit once, from where it counts most."""
    counted = {row: held.get(row, 0) for row in scores}

    def give(units: int, row: int, weight: float) -> None:
        new = units & ~counted[row]
        if new:
            counted[row] |= new
            scores[row] += weight * value[new]

    givers = [(held[row], around[row]) for row in best if row in around]
    for row in best:
        behind = around[row][1] if row in around else ()
        if behind and behind[0] in scores and row in known and known[row].is_asking:
            give(held[row], behind[0], BEHIND_ASKING)
    for weight, side, at in _STEPS:
        for units, sides in givers:
            rows = sides[side]
            if at < len(rows) and rows[at] in scores:
                give(units, rows[at], weight)


# The greatest first: a unit counts from the neighbour that it counts most from.
_STEPS = sorted(
    (
        (weight, side, at)
        for at, weights in enumerate(BESIDE)
        for side, weight in zip((1, 0), weights, strict=True)
    ),
    reverse=True,
)


def _add_alike(
    alike: Mapping[int, float], around: Mapping[int, Beside], scores: dict[int, float]
) -> None:
    """Add to *scores* what being alike, and standing beside such a turn, brings."""
    least, greatest = min(alike.values()), max(alike.values())
    scale = ALIKE * (max(scores.values(), default=0.0) or 1.0)
    # Not the cosine itself: the least alike is no better than one that was not looked at.
    apart = greatest - least
    for row, cosine in alike.items():
        share = scale * (cosine - least) / apart if apart else scale
        if row in scores:
            scores[row] += share
        if row in around:
            for at, weights in enumerate(BESIDE_ALIKE):
                for rows, weight in zip(reversed(around[row]), weights, strict=True):
                    if at < len(rows) and rows[at] in scores:
                        scores[rows[at]] += weight * share


def _weight(fact: Facts) -> float:
    """Return how much of its score a turn keeps for its length and kind."""
    weight = fact.size / (fact.size + SHORT)
    if fact.size > LONG:
        weight /= 1.0 + DOUBLED * log2(fact.size / LONG)
    return weight * ASKING if fact.is_asking else weight


def _in_order(scores: dict[int, float], known: Mapping[int, Facts]) -> list[int]:
    """Return the rows, the best first."""
    return sorted(scores, key=lambda row: (scores[row], known[row].key), reverse=True)
