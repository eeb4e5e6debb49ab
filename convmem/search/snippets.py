"""Snippets: the piece of a text that shows best why it was found."""

from __future__ import annotations

import re
from bisect import bisect_right

from convmem.search.hits import Snippet
from convmem.search.words import STOP_WORDS, composed, placed, stem, tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from convmem.search.query import Unit

    # Where a hit starts and ends, and which unit it is of.
    _Hit = tuple[int, int, int]

_MAX_LOOKED_AT = 256 * 1024
_MAX_REGIONS = 8
_LEFT_OUT = "…"
# Spaces, control characters, and marks that turn the direction of what follows.
_BLANKS = re.compile("[\\s\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]+")
_CAMEL_WORD = re.compile("[0-9A-Za-z]*[a-z][A-Z][0-9A-Za-z]*")
_CAMEL_PART = re.compile("[A-Z]+(?![a-z])[0-9]*|[A-Z]?[a-z]+[0-9]*|[0-9]+")


def snippet(text: str, units: Iterable[Unit], *, width: int = 160) -> Snippet:
    """Return the piece of *text* with the most of *units* in it; of equals the first.

    On one line, at most *width* characters long and cut between words where there are any, with
    every hit in it marked. Without a hit it is the beginning. Of a long text no more than some
    256 KiB are looked at for each place where something may be.
    """
    wanted = list(units)
    beginning = _Region(text, 0, wanted)
    best = beginning
    if not beginning.hits:
        later = (_Region(text, start, wanted) for start in _later_starts(text, wanted))
        best = next((region for region in later if region.hits), beginning)
    return _cut(best, max(width, 8))


class _Region:
    """A stretch of a long text, as it is shown, and what was found in it."""

    __slots__ = ("hits", "is_first", "is_last", "text")

    def __init__(self, text: str, start: int, units: Sequence[Unit]) -> None:
        end = start + _MAX_LOOKED_AT
        self.text = _BLANKS.sub(" ", composed(text[start:end])).strip()
        self.hits = _hits(self.text, units)
        self.is_first = start == 0
        self.is_last = end >= len(text)


def _later_starts(text: str, units: Sequence[Unit]) -> Iterator[int]:
    """Yield where to look behind the beginning: a little before where a word seems to be."""
    end = _MAX_LOOKED_AT
    if len(text) <= end:
        return
    beginnings = {_beginning(word) for unit in units for word in unit.words}
    if not beginnings:
        return
    ways = "|".join(map(re.escape, sorted(beginnings, key=len, reverse=True)))
    seems = re.compile(ways, re.IGNORECASE)
    for _ in range(_MAX_REGIONS):
        found = seems.search(text, end)
        if found is None:
            return
        start = max(found.start() - 1024, end)
        yield start
        end = start + _MAX_LOOKED_AT


def _beginning(word: str) -> str:
    """Return what *word* and its stem begin with."""
    other = stem(word)
    pairs = enumerate(zip(word, other, strict=False))
    return word[: next((at for at, (one, two) in pairs if one != two), min(len(word), len(other)))]


def _hits(text: str, units: Sequence[Unit]) -> list[_Hit]:
    """Return the places of *units* in *text*, in order; of a unit that is nowhere, of its words."""
    found = list(placed(text))
    here = [token for token, _, _ in found]
    stems = list(map(stem, here))
    at_stem: dict[str, list[int]] = {}
    for at, each in enumerate(stems):
        at_stem.setdefault(each, []).append(at)
    hits: list[_Hit] = []

    def add(number: int, words: Sequence[str], is_exact: bool, is_prefix: bool) -> bool:
        whole = list(words[:-1] if is_prefix else words)
        same = whole if is_exact else list(map(stem, whole))
        line = here if is_exact else stems
        count = len(words)
        if whole:
            starts: Iterable[int] = at_stem.get(stem(whole[0]), ())
        else:
            starts = [at for at, token in enumerate(here) if token.startswith(words[0])]
        before = len(hits)
        for at in starts:
            last = at + count - 1
            if last >= len(here) or line[at : at + len(whole)] != same:
                continue
            if is_prefix and not here[last].startswith(words[-1]):
                continue
            hits.append((found[at][1], found[last][2], number))
        return len(hits) > before

    for number, unit in enumerate(units):
        is_there = add(number, unit.words, unit.is_exact, unit.is_prefix)
        if len(unit.words) == 1:
            if not unit.is_exact:
                hits += _in_camel_case(text, unit, number)
        elif not is_there:
            parts = [tuple(tokens(token)) for token in unit.asked]
            for words in parts:
                if len(words) > 1 or words[0] not in STOP_WORDS:
                    add(number, words, False, False)
    hits.sort()
    return hits


def _in_camel_case(text: str, unit: Unit, number: int) -> Iterator[_Hit]:
    """Yield where the word of *unit* is a part of a longer one."""
    word = unit.words[0]
    other = stem(word)
    for whole in _CAMEL_WORD.finditer(text):
        for part in _CAMEL_PART.finditer(text, whole.start(), whole.end()):
            lower = part[0].lower()
            if lower.startswith(word) if unit.is_prefix else stem(lower) == other:
                yield part.start(), part.end(), number


def _cut(region: _Region, width: int) -> Snippet:
    """Cut the text of *region* to *width* around the best of its hits."""
    text, hits = region.text, region.hits
    if len(text) <= width - (not region.is_first) - (not region.is_last):
        start, end = 0, len(text)
    else:
        room = width - 2
        first, last = _best(hits, room)
        start = max(0, first - max(0, (room - (last - first)) // 3))
        end = min(len(text), start + room)
        start = max(0, end - room)
        if start and (space := text.find(" ", start - 1, min(start + 24, first))) >= 0:
            start = space + 1
        if end < len(text) and (space := text.rfind(" ", max(end - 24, last), end + 1)) >= 0:
            end = space
    head = _LEFT_OUT if start or not region.is_first else ""
    tail = _LEFT_OUT if end < len(text) or not region.is_last else ""
    shift = len(head) - start
    marks: list[tuple[int, int]] = []
    for at, to, _ in hits:
        at, to = max(at, start) + shift, min(to, end) + shift
        if at >= to:
            continue
        if marks and at <= marks[-1][1]:
            marks[-1] = marks[-1][0], max(to, marks[-1][1])
        else:
            marks.append((at, to))
    return Snippet(f"{head}{text[start:end]}{tail}", marks)


def _best(hits: list[_Hit], room: int) -> tuple[int, int]:
    """Return from where to where the most units are within *room*; the first of equals."""
    best, span = 0, (0, 0)
    starts = [at for at, _, _ in hits]
    for number, (at, to, _) in enumerate(hits):
        inside = hits[number : bisect_right(starts, at + room)]
        inside = [hit for hit in inside if hit[1] <= at + room] or [(at, to, 0)]
        count = len({unit for _, _, unit in inside})
        if count > best:
            best, span = count, (at, min(at + room, max(hit[1] for hit in inside)))
    return span
