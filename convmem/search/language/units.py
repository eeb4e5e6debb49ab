"""Units: the single things that are searched, and when a text holds one.

The one meaning that the index, the scan and the snippets share: all the terms of a unit are in the
text's, and where it is a phrase its words stand one behind the other.
"""

from __future__ import annotations

from convmem.search.language.folding import is_unspaced
from convmem.search.language.prefixes import prefix_expression
from convmem.search.language.words import index_tokens, stem, tokens


class Unit:
    """One thing that is searched. Two of the same words, looked for in the same way, are equal.

    Attributes:
        text: As it was typed, without quotes and signs around it.
        words: Its tokens in order, folded and not stemmed.
        asked: The tokens that the index must hold, not stemmed: what ``MATCH`` is given. Without
            the last of ``words`` where that is only the beginning of one.
        terms: The stems of ``asked``: what the index's vocabulary calls them.
        is_phrase: The words must stand one behind the other.
        is_exact: The words must stand so, not another form of them.
        is_prefix: The last of ``words`` is the beginning of a word.
    """

    # Not a dataclass: making one takes longer than reading any query.
    __slots__ = ("asked", "is_exact", "is_phrase", "is_prefix", "terms", "text", "words")

    def __init__(
        self,
        text: str,
        words: tuple[str, ...],
        asked: tuple[str, ...],
        terms: tuple[str, ...],
        is_phrase: bool = False,
        is_exact: bool = False,
        is_prefix: bool = False,
    ) -> None:
        self.text = text
        self.words = words
        self.asked = asked
        self.terms = terms
        self.is_phrase = is_phrase
        self.is_exact = is_exact
        self.is_prefix = is_prefix

    def _key(self) -> tuple[object, ...]:
        return self.words, self.asked, self.is_phrase, self.is_exact, self.is_prefix

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unit) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Unit({self.text!r}, {self.words!r})"

    @property
    def tokens(self) -> tuple[str, ...]:
        """``asked``, and the beginning of a word where there is one."""
        return (*self.asked, self.words[-1]) if self.is_prefix else self.asked

    @property
    def expression(self) -> str:
        """The turns that can hold the unit, for ``MATCH`` of a table with ``detail=none``.

        Where the unit is a phrase, exact or a prefix these are more than do: see ``holds``.
        """
        # A character of a script without spaces is the beginning of a pair, or stands alone.
        parts = [f'"{token}"{"*" if is_unspaced(token) else ""}' for token in self.asked]
        if self.is_prefix:
            parts.append(f"({prefix_expression(self.words[-1])})")
        return f"({' AND '.join(parts)})"

    @property
    def needs_text(self) -> bool:
        """Whether the index alone cannot tell that a turn holds the unit."""
        return self.is_phrase or self.is_exact or self.is_prefix


def holds(unit: Unit, text: str) -> bool:
    """Whether *text* holds *unit*: what the index says, and the order of the words besides."""
    return Said(text).holds(unit)


class Said:
    """A text's words, each form of them worked out once."""

    __slots__ = ("_held", "_terms", "_tokens", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._held: set[str] | None = None
        self._terms: set[str] | None = None
        self._tokens: list[str] | None = None

    def holds(self, unit: Unit) -> bool:
        """Whether the text holds *unit*."""
        if self._held is None or self._terms is None:
            self._held = set(index_tokens(self.text))
            self._terms = set(map(stem, self._held))
        if not self._terms.issuperset(unit.terms):
            return False
        if unit.is_prefix:
            prefix = unit.words[-1]
            if not any(token.startswith(prefix) for token in self._held):
                return False
        if not (unit.is_phrase or unit.is_exact):
            return True
        if self._tokens is None:
            self._tokens = tokens(self.text)
        return _stands_in(unit, self._tokens)


def _stands_in(unit: Unit, found: list[str]) -> bool:
    """Whether the words of *unit* stand one behind the other among *found*."""
    same = (lambda word: word) if unit.is_exact else stem
    whole = list(unit.words)
    prefix = whole.pop() if unit.is_prefix else None
    wanted = [same(word) for word in whole]
    here = found if unit.is_exact else list(map(stem, found))
    if not wanted:
        return any(token.startswith(prefix or "") for token in found)
    at, end_of_starts = -1, max(0, len(found) - len(unit.words) + 1)
    while True:
        try:
            at = here.index(wanted[0], at + 1, end_of_starts)
        except ValueError:
            return False
        end = at + len(wanted)
        if here[at:end] == wanted and (prefix is None or found[end].startswith(prefix)):
            return True
