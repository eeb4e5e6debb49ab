"""Which turns hold the terms of a query, told from their texts: to the same answers as the index.

What it remembers are the turns that hold something, eight bytes for each term of each.
"""

from __future__ import annotations

import re
from array import array

from convmem.search.language.forms import other_forms
from convmem.search.language.prefixes import prefix_expression
from convmem.search.language.words import index_text, index_tokens, stem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from convmem.search.index.wanted import Wanted
    from convmem.search.language.query import Unit

    # What a turn holds or does not: a term, or a beginning.
    Atom: TypeAlias = str | tuple[str]

# FTS5 cuts longer terms.
_TERM_BYTES = 32768
# Looking for so many beginnings takes longer than taking the text apart.
_MOST_BEGINNINGS = 32
# A stem begins as its word does, but for so many of its last letters.
_STEMMED_LETTERS = 3
_ASKED_FOR = re.compile(r'"([^"]*)"(\*?)')


class Terms:
    """Which turns hold the terms that some units ask for."""

    def __init__(self, units: Iterable[Unit]) -> None:
        self._holding: dict[Atom, array[int]] = {}
        for unit in units:
            for atom in _atoms(unit):
                self._holding.setdefault(atom, array("q"))
        self._whole = {atom for atom in self._holding if isinstance(atom, str)}
        self._beginnings = tuple(atom[0] for atom in self._holding if isinstance(atom, tuple))
        seen = {*self._beginnings}
        seen.update(term[: max(1, len(term) - _STEMMED_LETTERS)] for term in self._whole)
        self._seen = tuple(sorted(seen)) if len(seen) <= _MOST_BEGINNINGS else ("",)

    def take(self, turn: int, text: str) -> bool:
        """Note what the *turn* with that text holds; say if it is anything. Turns come in order."""
        if not self._holding or not text:
            return False
        # Of plain text the index is given nothing that does not stand in it as it is.
        given = (text if text.isascii() else index_text(text)).lower()
        if not any(beginning in given for beginning in self._seen):
            return False
        tokens: Iterable[str] = set(index_tokens(text))
        if not self._beginnings:  # stemming takes most of the time
            tokens = [token for token in tokens if token.startswith(self._seen)]
        terms = {_as_kept(stem(token)) for token in tokens}
        is_any = not self._whole.isdisjoint(terms)
        for term in self._whole & terms:
            self._holding[term].append(turn)
        if self._beginnings:
            begin_so = [term for term in terms if term.startswith(self._beginnings)]
            for beginning in self._beginnings:
                if any(term.startswith(beginning) for term in begin_so):
                    self._holding[(beginning,)].append(turn)
            is_any = is_any or bool(begin_so)
        return is_any

    def holding(self, wanted: Wanted) -> set[int]:
        """Return the turns that *wanted* is in."""
        each = map(self._holding_unit, wanted.units)
        found = set().union(*each) if wanted.is_any else set.intersection(*each)
        if wanted.among is not None:
            found &= self.holding(wanted.among)
        for unit in wanted.excluded:
            found -= self._holding_unit(unit)
        return found

    def _holding_unit(self, unit: Unit) -> set[int]:
        """Return the turns that ``unit.expression`` finds in an index."""
        found: set[int] | None = None
        for term in unit.terms:
            turns = set(self._holding[_as_kept(term)])
            found = turns if found is None else found & turns
        if unit.is_prefix:
            turns = set()
            for atom in _prefix_atoms(unit):
                turns.update(self._holding[atom])
            found = turns if found is None else found & turns
        return found or set()


def _atoms(unit: Unit) -> list[Atom]:
    """Return what *unit*, its single words and their other forms can ask for."""
    atoms: list[Atom] = [_as_kept(term) for term in unit.terms]
    atoms += (_as_kept(stem(form)) for asked in unit.asked for form in other_forms(asked))
    return [*atoms, *_prefix_atoms(unit)] if unit.is_prefix else atoms


def _prefix_atoms(unit: Unit) -> list[Atom]:
    """Return what an index is asked for words that begin as the last of *unit*."""
    asked = _ASKED_FOR.findall(prefix_expression(unit.words[-1]))
    return [(_as_kept(stem(text)),) if star else _as_kept(stem(text)) for text, star in asked]


def _as_kept(term: str) -> str:
    """Return the term as FTS5 keeps it, and looks for it."""
    if len(term) * 4 <= _TERM_BYTES:
        return term
    return term.encode("utf-8", "replace")[:_TERM_BYTES].decode("utf-8", "replace")
