"""Searching an archive: opens what tells words apart in each namespace, and makes a page of it."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack
from heapq import merge
from itertools import islice

from convmem.errors import ConversationNotFound, StorageError
from convmem.search.page import ALL, INDEX, MEANING, SCAN, SOME, Cursor, SearchPage
from convmem.search.reading import Changed
from convmem.search.space import Space
from convmem.stores.logs import remove_index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from typing import TypeVar

    from convmem.progress import Observer
    from convmem.search.finding import Fit
    from convmem.search.language.query import Query
    from convmem.search.request import Request
    from convmem.stores.caretakers import Logs

    Answer = TypeVar("Answer")

# How often a search begins again because logs changed under it.
_MOST_TRIES = 5
# Hits of one conversation, where they are grouped.
_MOST_OF_ONE = 3


def search(
    logs: Logs, namespaces: Sequence[str], request: Request, observer: Observer
) -> SearchPage:
    """Return the page of hits in *namespaces* that *request* asks for.

    Raises:
        ConversationNotFound: The query names a conversation that is in none of them.
        LockTimeout: Another process is indexing, and does not come to an end.
        StorageError: The logs change faster than they can be read, or cannot be.
    """
    return until_unchanged(
        logs,
        namespaces,
        lambda distrusted: _searched(logs, namespaces, request, observer, distrusted),
    )


def until_unchanged(
    logs: Logs, namespaces: Sequence[str], look: Callable[[Collection[tuple[str, str]]], Answer]
) -> Answer:
    """Return what *look* answers; try again where logs change under it, or the index is damaged.

    Args:
        look: Is told the namespace and the name of each log that is not what its index says.

    Raises:
        StorageError: The logs change faster than they can be read, or the index stays damaged.
    """
    distrusted: set[tuple[str, str]] = set()
    was_damaged = False
    for _ in range(_MOST_TRIES):
        try:
            return look(distrusted)
        except Changed as changed:
            # A log was compacted, say, after the index was brought in step. Or it was damaged,
            # which no look at its file tells.
            distrusted.add((changed.namespace, changed.name))
        except (sqlite3.DatabaseError, LookupError, TypeError, ValueError) as error:
            # SQLite has no checksums: what is damaged may come as a row that cannot be.
            if was_damaged and isinstance(error, sqlite3.DatabaseError):
                raise StorageError(f"the search index cannot be used: {error}") from error
            if was_damaged:
                raise
            was_damaged = True
            for namespace in namespaces:
                folder = logs.index_folder(namespace, create=False)
                if folder is not None:
                    remove_index(folder)
                    folder.close()
    raise StorageError("the logs change faster than they can be searched", hint="try again")


def _searched(
    logs: Logs,
    namespaces: Sequence[str],
    request: Request,
    observer: Observer,
    distrusted: Collection[tuple[str, str]],
) -> SearchPage:
    query = request.query
    with ExitStack() as stack:
        spaces = [
            stack.enter_context(
                Space(
                    logs,
                    namespace,
                    query,
                    observer,
                    distrusted={name for where, name in distrusted if where == namespace},
                    asked=request.asked,
                )
            )
            for namespace in namespaces
        ]
        _check_ids(spaces, query)
        modes: tuple[str, ...] = (ALL, SOME)
        if request.cursor is not None:
            modes = (request.cursor.mode,)
        elif any(each.knows_meaning for each in spaces):
            modes = (MEANING,)
        chosen = _Chosen([], is_last=True)
        mode = ALL
        for mode in modes:
            chosen = _chosen(spaces, mode, request)
            if not chosen.is_last or not any(each.has_less for each in spaces):
                break
            if chosen.fits and any(each.is_one_thing for each in spaces):
                break  # who asks for an identifier that is there wants nothing like it
        hits = [space.hit(fit, request.reach) for space, fit in chosen.fits]
        for each in spaces:
            each.check()
        return SearchPage(
            hits=hits,
            matched=mode,
            cursor=None if chosen.is_last else str(_cursor_behind(chosen, mode, request.cursor)),
            how=SCAN if any(each.how == SCAN for each in spaces) else INDEX,
            notes=list(dict.fromkeys(note for each in spaces for note in each.notes)),
        )


def _check_ids(spaces: list[Space], query: Query) -> None:
    """Raise for an id in the query that no namespace has."""
    missing = set(query.ids or ()).intersection(*(each.missing for each in spaces))
    if missing:
        raise ConversationNotFound(f"there is no conversation {min(missing)!r} where it was sought")


class _Chosen:
    """What a page shows.

    Attributes:
        fits: With the namespace of each, best first.
        is_last: Whether nothing comes behind.
    """

    def __init__(self, fits: list[tuple[Space, Fit]], *, is_last: bool) -> None:
        self.fits = fits
        self.is_last = is_last


def _chosen(spaces: list[Space], mode: str, request: Request) -> _Chosen:
    best: Iterator[tuple[Space, Fit]] = merge(
        *(_of_one(space, mode, request.cursor) for space in spaces),
        key=lambda found: (-found[1].score, -found[1].age),
    )
    if not request.is_grouped:
        if request.cursor is not None:
            best = _behind(best, request.cursor)
        fits = list(islice(best, request.limit + 1))
        return _Chosen(fits[: request.limit], is_last=len(fits) <= request.limit)
    groups: dict[tuple[str, str], list[tuple[Space, Fit]]] = {}
    for space, fit in best:
        group = (space.namespace, space.conversation_of(fit))
        if group in groups:
            if len(groups[group]) < _MOST_OF_ONE:
                groups[group].append((space, fit))
        elif len(groups) < request.limit:
            groups[group] = [(space, fit)]
    return _Chosen([found for group in groups.values() for found in group], is_last=True)


def _behind(best: Iterator[tuple[Space, Fit]], cursor: Cursor) -> Iterator[tuple[Space, Fit]]:
    """Yield what was not shown of what comes with the cursor's hit or behind it."""
    passed = 0
    for space, fit in best:
        if passed < cursor.shown and cursor.is_at(fit.score, fit.age):
            passed += 1
        else:
            yield space, fit


def _cursor_behind(chosen: _Chosen, mode: str, before: Cursor | None) -> Cursor:
    last = chosen.fits[-1][1]
    cursor = Cursor(mode, last.score, last.age, 0)
    cursor.shown = sum(cursor.is_at(fit.score, fit.age) for _, fit in chosen.fits)
    if before is not None and before.is_at(last.score, last.age):
        cursor.shown += before.shown
    return cursor


def _of_one(space: Space, mode: str, cursor: Cursor | None) -> Iterator[tuple[Space, Fit]]:
    return ((space, fit) for fit in space.fits(mode, cursor))
