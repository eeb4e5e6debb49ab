"""Queries: what a person types, read as words, phrases and filters. Any text is one.

=============================================  ====================================================
``oslo train``                                 words; a stop word counts only among stop words
``"night train"``                              these words, as written, one behind the other
``paint*``, ``"night tr"*``                    a word that begins so
``-word``, ``-"night train"``                  not in the turn
``foo_bar``, ``a/b.py``, ``用户名``            one behind the other, as one unit
``role:user``, ``role:user,tool``              said by one of these
``id:oslo-trip``, ``ns:work``                  in one of these conversations or namespaces
``since:2026-11-01``, ``until:2d``             when, as ``--since`` takes it; ``since:"today 9:00"``
``meta.project:convmem``, ``meta.a.b:oslo*``   the turn's meta has this value there
=============================================  ====================================================

There are no operators: ``AND``, ``OR`` and ``NOT`` are stop words. A filter that makes no sense is
searched as words. Quotes keep what is in them together in a filter's value, too.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import islice

from convmem.quantities import QuantityError, parse_time
from convmem.search.hits import Value
from convmem.search.language.folding import folded, is_unspaced
from convmem.search.language.units import Said, Unit, holds
from convmem.search.language.words import STOP_WORDS, asked_for, stem, tokens

__all__ = ["Query", "Unit", "holds", "parse"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class Query(Value):
    """What was typed, read.

    Attributes:
        text: As it was typed.
        said: The same without filters, without quotes, and without what is excluded.
        units: What is searched; stop words are left out where there is anything else.
        excluded: What a turn must not hold.
        words: The tokens of ``units`` without stop words; all of them where all are stop words.
            Not stemmed; pairs of characters for scripts without spaces.
        roles, ids, namespaces: One of these; ``None`` is any.
        since, until: From this moment on, and before this one; aware.
        meta: Paths and the values wanted there; of several for one path, one.
    """

    __slots__ = (
        "excluded",
        "ids",
        "meta",
        "namespaces",
        "roles",
        "said",
        "since",
        "text",
        "units",
        "until",
        "words",
    )

    def __init__(
        self,
        *,
        text: str,
        said: str = "",
        units: tuple[Unit, ...] = (),
        excluded: tuple[Unit, ...] = (),
        words: tuple[str, ...] = (),
        roles: frozenset[str] | None = None,
        ids: frozenset[str] | None = None,
        namespaces: frozenset[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        meta: tuple[tuple[tuple[str, ...], str], ...] = (),
    ) -> None:
        self.text = text
        self.said = said
        self.units = units
        self.excluded = excluded
        self.words = words
        self.roles = roles
        self.ids = ids
        self.namespaces = namespaces
        self.since = since
        self.until = until
        self.meta = meta

    def changed(self, **changes: Any) -> Query:
        """Return the query with other values for some of its attributes."""
        return Query(**{**{slot: getattr(self, slot) for slot in self.__slots__}, **changes})

    @property
    def is_narrowed(self) -> bool:
        """Whether there is anything but words that tells which turns are wanted."""
        filters = (self.roles, self.ids, self.since, self.until, self.namespaces)
        return bool(self.meta or self.excluded) or any(each is not None for each in filters)

    def holds_in(self, text: str) -> bool:
        """Whether *text* holds each unit, and nothing that is excluded."""
        said = Said(text)
        return all(said.holds(unit) for unit in self.units) and not any(
            said.holds(unit) for unit in self.excluded
        )

    def meta_holds(self, meta: dict[str, Any] | None) -> bool:
        """Whether a turn's *meta* has, for each path, one of the values wanted there."""
        wanted: dict[tuple[str, ...], bool] = {}
        for path, value in self.meta:
            wanted[path] = wanted.get(path, False) or _has_at(meta, path, value)
        return all(wanted.values())


_QUOTES = '"“”„‟«»＂'
# Compiled where they are met: most queries are plain words, and compiling takes longer than all
# the rest of reading one.
_PIECE = rf"""(?P<minus>-(?=[{_QUOTES}]|[^\W_]))?
    (?:(?P<key>(?i:role|id|ns|since|until|meta\.(?-i:[^\s:{_QUOTES}]+))):(?=\S))?
    (?:[{_QUOTES}](?P<quoted>[^{_QUOTES}]*)(?:[{_QUOTES}](?P<star>\*)?|\Z)|(?P<plain>[^\s{_QUOTES}]+))
    """
# A dash or a full stop of another script parts units; what stands inside identifiers does not.
_BREAKS = "[—–…、。，！？；：「」『』（）《》〈〉【】・]+"
_CONTRACTED = r"(?i)(?<=\w)['’ʼ＇](?:s|t|re|ll|ve|d|m)(?!\w)"
# Of a text that was pasted whole, the beginning tells enough.
_MOST_PIECES = 2000
_AROUND = " \t\r\n.,;:?!()[]{}'`"
_OPERATORS = ("AND", "OR", "NOT")
_SOME_DAY = datetime(2000, 1, 1, tzinfo=UTC)
_OTHER_DAY = datetime(2001, 2, 3, 4, 5, tzinfo=UTC)


def parse(text: str, *, now: datetime | None = None) -> Query:
    """Return what *text* asks for. Never raises.

    Args:
        now: Aware; what ``since:2d`` counts from. Without it only times that need none are filters.
    """
    units: list[Unit] = []
    excluded: list[Unit] = []
    said: list[str] = []
    filters = _Filters(now)
    for minus, key, quoted, star, plain in islice(_pieces(text), _MOST_PIECES):
        if key and not minus and filters.take(key, plain or quoted or "", quoted is not None):
            continue
        into = excluded if minus else units
        if not minus:
            said.append((f"{key}:" if key else "") + (plain or quoted or ""))
        if key:
            into += _plain_units(f"{key}:{plain or ''}")
        if quoted is not None:
            into += _unit(quoted, is_quoted=True, is_prefix=bool(star))
        elif not key:
            into += _plain_units(plain or "")
    is_shouted = text.isupper()
    units = list(dict.fromkeys(units))
    telling = [unit for unit in units if not _is_stop(unit, is_shouted)] or units
    words = [word for unit in telling for word in unit.tokens]
    telling_words = [word for word in words if word not in STOP_WORDS]
    return Query(
        text=text,
        said=" ".join(said),
        units=tuple(telling),
        excluded=tuple(dict.fromkeys(excluded)),
        words=tuple(dict.fromkeys(telling_words or words)),
        roles=frozenset(filters.roles) or None,
        ids=frozenset(filters.ids) or None,
        namespaces=frozenset(filters.namespaces) or None,
        since=filters.since,
        until=filters.until,
        meta=tuple(filters.meta),
    )


def _pieces(text: str) -> Iterator[tuple[str | None, ...]]:
    """Yield what stands between spaces: its minus, key, quoted text with its star, other text."""
    if text.isascii() and text.replace(" ", "").isalnum():
        for word in text.split():
            yield None, None, None, None, word
        return
    for piece in re.finditer(_PIECE, text, re.VERBOSE):
        yield piece["minus"], piece["key"], piece["quoted"], piece["star"], piece["plain"]


def _plain_units(text: str) -> list[Unit]:
    if text.isalnum() and text.isascii():
        return _unit(text)
    units: list[Unit] = []
    for part in re.split(_BREAKS, text):
        bare = part.rstrip("*")
        is_prefix = bare != part and bare[-1:].isalnum()
        units += _unit(re.sub(_CONTRACTED, "", bare), is_prefix=is_prefix)
    return units


def _unit(text: str, *, is_quoted: bool = False, is_prefix: bool = False) -> list[Unit]:
    """Return the unit of *text*: none where it has no word."""
    words = tokens(text)
    if not words:
        return []
    is_prefix = is_prefix and not is_unspaced(words[-1])
    asked = asked_for(text)
    if is_prefix:
        del asked[-1]
    return [
        Unit(
            text=text.strip(_AROUND),
            words=tuple(words),
            asked=tuple(asked),
            terms=tuple(map(stem, asked)),
            is_phrase=len(words) > 1,
            is_exact=is_quoted,
            is_prefix=is_prefix,
        )
    ]


def _is_stop(unit: Unit, is_shouted: bool) -> bool:
    """Whether *unit* is a stop word; ``IT`` and ``WHO`` are none, unless all is upper case."""
    if unit.needs_text or unit.words[0] not in STOP_WORDS:
        return False
    is_acronym = len(unit.text) > 1 and unit.text.isupper() and unit.text not in _OPERATORS
    return is_shouted or not is_acronym


class _Filters:
    """What the filters of one query say."""

    def __init__(self, now: datetime | None) -> None:
        self.now = now
        self.roles: set[str] = set()
        self.ids: set[str] = set()
        self.namespaces: set[str] = set()
        self.since: datetime | None = None
        self.until: datetime | None = None
        self.meta: list[tuple[tuple[str, ...], str]] = []

    def take(self, key: str, value: str, is_quoted: bool) -> bool:
        """Note the filter *key*; ``False`` where it makes no sense."""
        name = key.lower()
        if name in ("since", "until"):
            moment = _moment(value, self.now)
            if moment is None:
                return False
            if name == "since":
                self.since = max(self.since or moment, moment)
            else:
                self.until = min(self.until or moment, moment)
            return True
        values = [value] if is_quoted else [each for each in value.split(",") if each]
        values = [each for each in values if each.strip()]
        if not values:
            return False
        if name.startswith("meta."):
            path = tuple(key[len("meta.") :].split("."))
            if not all(path):
                return False
            self.meta += [(path, each) for each in values]
        else:
            {"role": self.roles, "id": self.ids, "ns": self.namespaces}[name].update(values)
        return True


def _moment(value: str, now: datetime | None) -> datetime | None:
    try:
        if now is not None:
            return parse_time(value, now=now)
        moment = parse_time(value, now=_SOME_DAY)
        return moment if moment == parse_time(value, now=_OTHER_DAY) else None
    except QuantityError:
        return None


def _has_at(value: Any, path: tuple[str, ...], wanted: str) -> bool:
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    is_prefix = wanted.endswith("*") and len(wanted) > 1
    looked_for = folded(wanted[:-1] if is_prefix else wanted)
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, dict | list):
            continue
        shown = str(each).lower() if isinstance(each, bool) or each is None else str(each)
        found = folded(shown)
        if found == looked_for or (is_prefix and found.startswith(looked_for)):
            return True
    return False
