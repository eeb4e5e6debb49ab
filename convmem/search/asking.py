"""What a query asks for: all of it, its parts, and the speakers that it names."""

from __future__ import annotations

from convmem.search.index.database import UNSAID
from convmem.search.index.wanted import Wanted
from convmem.search.language.forms import other_forms
from convmem.search.language.units import Unit
from convmem.search.language.words import STOP_WORDS, asked_for, stem
from convmem.turns import EVENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from convmem.search.language.query import Query

# Who says these is no particular person: to name one of them is to say a word.
_COMMON_ROLES = frozenset(
    "user assistant system tool event function developer human ai bot".split()
)


class Asking:
    """A query, as it is asked of turns that these roles said.

    Attributes:
        named: The numbers of the roles that the query names: of speakers.
    """

    def __init__(self, query: Query, roles: dict[int, str]) -> None:
        self._query = query
        named = _named_roles(query, roles)
        self.named = named.keys()
        self._names = {stem(word) for words in named.values() for word in words}

    @property
    def has_less(self) -> bool:
        """Whether there is less to ask for than all of it: not where all of it was quoted."""
        return not self.is_quoted and (len(self.parts()) > 1 or bool(self._names))

    @property
    def is_one_thing(self) -> bool:
        """Whether one thing is asked for: an identifier, say, that has parts."""
        return len(self._query.units) == 1

    @property
    def is_quoted(self) -> bool:
        """Whether all of it was quoted."""
        return all(unit.is_exact for unit in self._query.units)

    def units(self) -> list[Unit]:
        """Return all that must be held, without the names of speakers: those need not be said."""
        units = [unit for unit in self._query.units if not self.is_name(unit)]
        return units or list(self._query.units)

    def parts(self) -> list[Unit]:
        """Return the words of the query, each by itself."""
        parts: dict[tuple[str, ...], Unit] = {}
        for unit in self._query.units:
            if unit.is_prefix or len(unit.asked) == 1:
                parts.setdefault((*unit.terms, unit.words[-1] if unit.is_prefix else ""), unit)
            else:
                telling = [asked for asked in unit.asked if _tells(asked)]
                for asked in telling or unit.asked:
                    part = _word(asked)
                    parts.setdefault((*part.terms, ""), part)
        return list(parts.values())

    def is_name(self, unit: Unit) -> bool:
        """Whether *unit* is of the name of a speaker."""
        return not unit.needs_text and bool(self._names) and self._names.issuperset(unit.terms)


def any_form(*parts: Unit, **more: Any) -> Wanted:
    """Return what holds one of *parts*, or another form of one that is a single word."""
    units: list[Unit] = []
    for part in parts:
        units.append(part)
        if not part.needs_text and len(part.asked) == 1:
            units += map(_word, other_forms(part.asked[0]))
    return Wanted(units, is_any=True, **more)


def role_numbers(wanted: Collection[str] | None, roles: dict[int, str]) -> set[int] | None:
    """Return the numbers of the roles that are *wanted*; ``None`` of all that anybody spoke."""
    if wanted is None:
        return None
    found = {number for number, name in roles.items() if name in wanted}
    # What an import kept, and nobody said, goes by the name of an event.
    return found | {UNSAID} if EVENT in wanted else found


def _word(word: str) -> Unit:
    return Unit(word, (word,), (word,), (stem(word),))


def _tells(word: str) -> bool:
    """Whether a part of an identifier is worth looking for by itself."""
    return word not in STOP_WORDS and (len(word) > 1 or not word.isascii())


def _named_roles(query: Query, roles: dict[int, str]) -> dict[int, tuple[str, ...]]:
    """Return the roles that the query names, each with the words of its name."""
    said = set(query.words)
    named = {}
    for number, name in roles.items():
        words = tuple(asked_for(name))
        if words and name.lower() not in _COMMON_ROLES and said.issuperset(words):
            named[number] = words
    return named
