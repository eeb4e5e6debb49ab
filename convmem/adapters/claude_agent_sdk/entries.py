"""Turns as entries: what was recorded, by whomever, as the lines of one transcript."""

from __future__ import annotations

import uuid
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from convmem import ConversationNotFound
from convmem.adapters.exact import unspelled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem import Conversation, Cursor, Turn
    from convmem.adapters.claude_agent_sdk.keys import Key

SOURCE = "claude-code"
_EVENT = "event"
# What a transcript links one to the next.
_CHAINED = ("user", "assistant", "system", "attachment", "progress")


def entries_in(chat: Conversation, key: Key, after: Cursor | int = 0) -> Iterator[dict[str, Any]]:
    """Yield the entries of a conversation; what others recorded is put into the session's chain."""
    try:
        turns = chat.turns(after=after)
    except ConversationNotFound:
        return
    parent: str | None = None
    for turn in turns:
        entry = entry_of(turn, key.session, parent=parent, is_sidechain=key.subpath is not None)
        if entry is not None:
            yield entry
            if entry.get("type") in _CHAINED and type(entry.get("uuid")) is str:
                parent = entry["uuid"]


def entry_of(
    turn: Turn, session_id: str, *, parent: str | None = None, is_sidechain: bool = False
) -> dict[str, Any] | None:
    """Return the entry that *turn* was, or a message of the session that says what it says.

    ``None`` of other programs' events and of what was scrubbed.
    """
    meta = turn.meta or {}
    if meta.get("source") == SOURCE and "raw" in turn.extra:
        raw = unspelled(turn.extra["raw"])
        if type(raw) is dict:
            return raw
    if turn.role == _EVENT or ("scrubbed" in meta and turn.content == ""):
        return None
    own = _uuid_of(turn)
    entry: dict[str, Any] = {
        "parentUuid": parent,
        "isSidechain": is_sidechain,
        "userType": "external",
        "sessionId": session_id,
        "uuid": str(own),
        "timestamp": _timestamp(turn),
    }
    if turn.role == "system":
        told = {"subtype": "informational", "content": turn.text, "level": "info"}
        return {"type": "system", **entry, **told}
    content = _blocks(turn)
    if turn.role != "assistant":
        return {"type": "user", **entry, "message": {"role": "user", "content": content}}
    model = meta.get("model")
    message = {
        "id": f"msg_{own.hex}",
        "type": "message",
        "role": "assistant",
        "model": model if type(model) is str else "unknown",
        "content": [{"type": "text", "text": content}] if type(content) is str else content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }
    return {"type": "assistant", **entry, "message": message}


def _blocks(turn: Turn) -> Any:
    """Return the content where the Messages API takes it, else its text."""
    content = turn.content
    blocks = content if type(content) is list else []
    if blocks and all(type(it) is dict and type(it.get("type")) is str for it in blocks):
        return blocks
    return turn.text


def _uuid_of(turn: Turn) -> uuid.UUID:
    """Return the turn's id where it is a UUID, else always the same one that stands for it."""
    with suppress(ValueError):
        if turn.id is not None and str(uuid.UUID(turn.id)) == turn.id:
            return uuid.UUID(turn.id)
    name = turn.id if turn.id is not None else f"{turn.seq} {turn.role} {turn.text}"
    return uuid.uuid5(uuid.NAMESPACE_OID, name)


def _timestamp(turn: Turn) -> str:
    moment = turn.ts or datetime.fromtimestamp(0, UTC)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
