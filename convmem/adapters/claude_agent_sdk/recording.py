"""Entries as turns: what a transcript's entry is recorded as, once however often it comes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from convmem.adapters.claude_agent_sdk.entries import SOURCE, entry_of
from convmem.adapters.exact import is_sayable, sayable
from convmem.adapters.given_ids import id_of, record_once
from convmem.formats.claude_code import said_by

if TYPE_CHECKING:
    from convmem import Conversation

# Twice an entry, and what else a turn has, must stay within the 64 MiB of a turn.
_MAX_CHARACTERS = 15 << 20


def turn_of(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the turn that a transcript's entry is recorded as.

    >>> turn_of({"type": "tag", "tag": "trip"})
    {'role': 'event', 'content': 'trip', 'meta': {'source': 'claude-code', 'kind': 'tag'}, 'raw': …}
    """
    role, content, meta, _ = said_by(entry)
    fork = entry.get("forkedFrom")
    origin = fork.get("messageUuid") if type(fork) is dict else None
    if type(origin) is str and origin:
        meta["copy_of"] = origin
    made: dict[str, Any] = {}
    given = entry.get("uuid")
    if type(given) is str and given:
        made["id"] = id_of(given)
    ts = _time(entry)
    if ts is not None:
        made["ts"] = ts
    made.update(role=role, content=content, meta={"source": SOURCE, **meta}, raw=entry)
    return made


def record(chat: Conversation, entries: list[dict[str, Any]]) -> None:
    """Record *entries* in one atomic batch: each ``uuid`` once, but what differs is kept."""
    record_once(
        chat,
        [turn_of(entry) for entry in entries],
        item_in=lambda turn: entry_of(turn, ""),
        spelled=_spelled,
        storable=_storable,
    )


def _spelled(entry: Any) -> str:
    return json.dumps(entry, sort_keys=True, separators=(",", ":"))


def _storable(turn: dict[str, Any]) -> dict[str, Any]:
    """Return *turn*; where JSON cannot say it, with its entry as a text that does."""
    if is_sayable(turn["raw"], max_characters=_MAX_CHARACTERS):
        return turn
    raw = json.dumps(turn["raw"], separators=(",", ":"))
    made = {**turn, "content": sayable(turn["content"]), "meta": sayable(turn["meta"])}
    if len(raw) > _MAX_CHARACTERS:
        made["content"], made["meta"]["kind"] = "", "too long"
    return {**made, "raw": raw}


def _time(entry: dict[str, Any]) -> datetime | None:
    told = entry.get("timestamp")
    if told is None and type(entry.get("snapshot")) is dict:
        told = entry["snapshot"].get("timestamp")
    try:
        if type(told) is str:
            moment = datetime.fromisoformat(told)
            return moment.astimezone(UTC) if moment.tzinfo is not None else None
        if isinstance(told, int | float) and not isinstance(told, bool):
            return datetime.fromtimestamp(told, UTC)
    except (ValueError, OverflowError, OSError):
        return None  # no time, or none that there can be
    return None
