"""Pages of the list of conversations, the latest first, and the cursor from one to the next."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from convmem import Archive, UsageError
from convmem.adapters.mcp.limits import Limits
from convmem.adapters.mcp.shown import how_many_fit


def page_of_rows(
    archive: Archive,
    namespace: str,
    limits: Limits,
    *,
    limit: int,
    cursor: str | None = None,
    contains: str | None = None,
    failed: list[str],
) -> tuple[list[Any], str | None]:
    """Return at most *limit* rows of ``archive.overview``, and the cursor of the next page.

    A conversation that is used between two pages moves to the front, and may then be on neither;
    none is on both.

    Args:
        contains: Only those with this in their id or title, in small letters or capitals.
        failed: Gets the ids of conversations that cannot be read.

    Raises:
        UsageError: It is no such cursor.
    """
    rows = archive.overview(namespace=namespace, failed=lambda name, error: failed.append(name))
    rows.sort(key=lambda row: row.continuation_id)
    rows.sort(key=lambda row: row.last_text, reverse=True)
    if cursor is not None:
        last_text, last_id = _place(cursor)
        rows = [
            row
            for row in rows
            if row.last_text < last_text
            or (row.last_text == last_text and row.continuation_id > last_id)
        ]
    if contains is not None:
        part = contains.casefold()
        rows = [
            row
            for row in rows
            if part in row.continuation_id.casefold() or part in (row.title or "").casefold()
        ]
    del failed[limits.turns :]
    page = rows[:limit]
    page = page[: how_many_fit([row_shown(row) for row in page], limits.answer_bytes)]
    return page, _cursor(page[-1]) if len(page) < len(rows) else None


def row_shown(row: Any) -> dict[str, Any]:
    """Return a row as a model gets it, without what is empty."""
    told = {
        "conversation": row.continuation_id,
        "title": row.title,
        "last": row.last_text,
        "last_seq": row.last_seq,
    }
    return {name: value for name, value in told.items() if value}


def _cursor(row: Any) -> str:
    place = json.dumps([row.last_text, row.continuation_id], ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(place).decode().rstrip("=")


def _place(cursor: str) -> tuple[str, str]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        last_text, last_id = json.loads(base64.b64decode(padded, b"-_", validate=True))
        if isinstance(last_text, str) and isinstance(last_id, str):
            return last_text, last_id
    except (ValueError, TypeError, binascii.Error, RecursionError):
        pass
    raise UsageError(
        f"{cursor[:60]!r} is no cursor of this list",
        hint="take the one that the page before this one gave",
    )
