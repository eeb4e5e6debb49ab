"""Snippets: the piece of a text that shows best why it was found."""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import islice

from convmem.search.hits import Snippet
from convmem.search.language.folding import composed
from convmem.search.language.stem import stem
from convmem.search.language.words import CAMEL_PART, STOP_WORDS, placed, tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from convmem.search.language.units import Unit

    # Where a hit starts and ends, and which unit it is of.
    _Hit = tuple[int, int, int]

_MAX_LOOKED_AT = 256 * 1024
_MAX_REGIONS = 8
_MAX_UNITS = 64
_LEFT_OUT = "…"
# Spaces, control characters, and marks that turn the direction of what follows.
# From the beginning of a word only: else a long one takes a time that grows with its square.
_CAMEL_WORD = re.compile("(?<![0-9A-Za-z])[0-9A-Za-z]*[a-z][A-Z][0-9A-Za-z]*")
_BLANKS = re.compile("[\\s\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]+")


def snippet(text: str, units: Iterable[Unit], *, width: int = 160) -> Snippet:
    """Return the piece of *text* with the most of *units* in it; of equals the first.

    On one line, at most *width* characters long and cut between words where there are any, with
    every hit in it marked. Without a hit it is the beginning. Of a long text no more than some
    256 KiB are looked at for each place where something may be.
    """
    wanted = list(islice(units, _MAX_UNITS))
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
    """Return where *units* are in *text*, in order; of a phrase that is not there, its words."""
    words = _Words(placed(text))
    parts = _Words(_camel_parts(text))
    hits: list[_Hit] = []
    for number, unit in enumerate(units):
        found = words.places(unit.words, unit.is_exact, unit.is_prefix)
        if len(unit.words) == 1 and not unit.is_exact:
            found += parts.places(unit.words, False, unit.is_prefix)
        elif not found:
            for asked in unit.asked:
                if asked not in STOP_WORDS:
                    found += words.places(tokens(asked), False, False)
        hits += ((start, end, number) for start, end in found)
    hits.sort()
    return hits


def _camel_parts(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield the parts of camelCase words in *text*, in lower case, and where each stands."""
    for word in _CAMEL_WORD.finditer(text):
        for part in CAMEL_PART.finditer(text, word.start(), word.end()):
            yield part[0].lower(), part.start(), part.end()


class _Words:
    """Words in order, each with where it stands."""

    def __init__(self, placed_words: Iterable[tuple[str, int, int]]) -> None:
        self._placed = list(placed_words)
        self._tokens = [token for token, _, _ in self._placed]
        self._stems = list(map(stem, self._tokens))
        self._at: dict[str, list[int]] = {}
        for at, each in enumerate(self._stems):
            self._at.setdefault(each, []).append(at)

    def places(
        self, words: Sequence[str], is_exact: bool, is_prefix: bool
    ) -> list[tuple[int, int]]:
        """Return where *words* stand one behind the other, from the first to the last of them."""
        whole = list(words[:-1] if is_prefix else words)
        here = self._tokens if is_exact else self._stems
        wanted = whole if is_exact else list(map(stem, whole))
        last = len(words) - 1
        found: list[tuple[int, int]] = []
        for at in self._starts(whole, words[-1]):
            if here[at : at + len(wanted)] != wanted or at + last >= len(here):
                continue
            if not is_prefix or self._tokens[at + last].startswith(words[-1]):
                found.append((self._placed[at][1], self._placed[at + last][2]))
        return found

    def _starts(self, whole: Sequence[str], prefix: str) -> Iterable[int]:
        if whole:
            return self._at.get(stem(whole[0]), ())
        return (at for at, token in enumerate(self._tokens) if token.startswith(prefix))


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
