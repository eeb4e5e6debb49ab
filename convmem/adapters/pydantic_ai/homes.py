"""In which conversation an entry is: remembered, read off its id, or searched for."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from convmem.adapters.pydantic_ai.entries import home_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_ai.conversation_store import ConversationRecord

    from convmem import Archive, ConvmemError

_MOST_HOMES = 10_000
_SLACK = timedelta(minutes=1)


class Homes:
    """Knows in which conversation an entry is, at once of those that were used last."""

    def __init__(self, archive: Archive, namespace: str | None) -> None:
        self._archive = archive
        self._namespace = namespace
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}

    def put(self, entry_id: str, home: str) -> None:
        """Remember it; what was not used for longest is forgotten."""
        with self._lock:
            self._known.pop(entry_id, None)
            self._known[entry_id] = home
            if len(self._known) > _MOST_HOMES:
                del self._known[next(iter(self._known))]

    def learn(self, record: ConversationRecord | None) -> None:
        """Take in where the ends of the record's histories are: they are asked for next."""
        if record is not None:
            for entry_id in (*record.branches, record.head_id):
                if entry_id is not None:
                    self.put(entry_id, record.conversation_id)

    def that_may_have(self, entry_id: str, *, first: str | None = None) -> Iterator[str]:
        """Yield the conversations that may have the entry, the likeliest first, all in the end."""
        likely = [self._known.get(entry_id), first, home_in(entry_id)]
        told = dict.fromkeys(each for each in likely if each)
        yield from told
        made_at = _made_at(entry_id)

        def fits(row: Any) -> bool:
            if made_at is None or row.first_ts is None or row.last_ts is None:
                return False
            return bool(row.first_ts - _SLACK <= made_at <= row.last_ts + _SLACK)

        rows = self._archive.overview(namespace=self._namespace, failed=pass_over)
        for row in sorted(rows, key=fits, reverse=True):
            if row.continuation_id not in told:
                yield row.continuation_id


def pass_over(conversation_id: str, error: ConvmemError) -> None:
    """Leave a conversation that cannot be read out of a list."""


def _made_at(entry_id: str) -> datetime | None:
    """Return when an id was made, as a UUIDv7 says."""
    if len(entry_id) != 36 or entry_id[14] != "7":
        return None
    try:
        return datetime.fromtimestamp(int(entry_id[:8] + entry_id[9:13], 16) / 1000, UTC)
    except (ValueError, OverflowError):
        return None
