"""What is searched, and how the answer is wanted."""

from __future__ import annotations

from datetime import UTC, datetime

from convmem.errors import UsageError
from convmem.search.language.query import parse
from convmem.search.page import MEANING, Cursor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from convmem.search.language.query import Query
    from convmem.search.semantic.nearest import Asked


class Request:
    """A query with all that ``Archive.search`` was told besides.

    Attributes:
        query: What is looked for, and in which turns.
        limit: The most hits of a page, or conversations where they are grouped.
        cursor: Behind which hit the page begins.
        reach: How many neighbours each way come with a hit.
        is_grouped: Whether the hits of a conversation are put together.
        asked: What is meant, if turns of like meaning are wanted, too.
    """

    def __init__(
        self,
        query: Query,
        *,
        limit: int,
        cursor: str | None = None,
        reach: int = 0,
        is_grouped: bool = False,
        asked: Asked | None = None,
    ) -> None:
        """Raises: UsageError: Something cannot be meant."""
        if type(limit) is not int or limit < 1:
            raise UsageError(f"limit must be a whole number, 1 or more, not {limit!r}")
        if type(reach) is not int or reach < 0:
            raise UsageError(f"neighbours must be a whole number, 0 or more, not {reach!r}")
        self.query = query
        self.limit = limit
        self.cursor = None if cursor is None else Cursor.parse(cursor)
        self.reach = reach
        self.is_grouped = is_grouped
        self.asked = asked
        if self.cursor is not None and self.cursor.mode == MEANING and asked is None:
            raise UsageError(
                "the cursor is of a search by meaning, and this is one by words",
                hint="search by meaning again, or leave the cursor out",
            )


def query_of(
    text: str,
    *,
    ids: Iterable[str] | None,
    roles: Iterable[str] | None,
    since: datetime | None,
    until: datetime | None,
    meta: Mapping[str, str] | None,
) -> Query:
    """Return the query in *text*, narrowed by what was given beside it."""
    if not isinstance(text, str):
        raise UsageError(f"a query is text, not {type(text).__name__}")
    if meta is not None and not hasattr(meta, "items"):
        raise UsageError("meta must be a mapping of paths to values")
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and not isinstance(moment, datetime):
            raise UsageError(f"{name} must be a datetime, not {moment!r}")
    found = parse(text, now=datetime.now(UTC))
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            raise UsageError(
                f"{name}={moment.isoformat()} has no time zone", hint="use an aware datetime"
            )
    starts = [each for each in (found.since, since) if each is not None]
    ends = [each for each in (found.until, until) if each is not None]
    paths = tuple((tuple(path.split(".")), value) for path, value in (meta or {}).items())
    return found.changed(
        ids=_both(found.ids, ids),
        roles=_both(found.roles, roles),
        since=max(starts, default=None),
        until=min(ends, default=None),
        meta=found.meta + paths,
    )


def _both(one: frozenset[str] | None, other: Iterable[str] | None) -> frozenset[str] | None:
    if other is None:
        return one
    names = frozenset([other] if isinstance(other, str) else other)
    return names if one is None else one & names
