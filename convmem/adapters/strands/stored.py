"""A message with its id and times as a turn, and back: what it says, and what is beside that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strands.types.session import SessionMessage, decode_bytes_values, encode_bytes_values

from convmem.adapters.exact import is_same
from convmem.adapters.strands.to_messages import as_message
from convmem.adapters.strands.to_turns import as_turn

if TYPE_CHECKING:
    from convmem import Turn

SOURCE = "strands"


def turn_of(session_message: SessionMessage) -> dict[str, Any]:
    """Return what is recorded of a message."""
    message = encode_bytes_values(session_message.to_message())
    role, content = as_turn(message)
    meta: dict[str, Any] = {
        "source": SOURCE,
        "message_id": session_message.message_id,
        "created_at": session_message.created_at,
        "updated_at": session_message.updated_at,
    }
    if session_message.redact_message is not None:
        meta["redacted"] = True
    fields = {key: value for key, value in message.items() if key not in ("role", "content")}
    if fields:
        meta["fields"] = fields
    turn = {"role": role, "content": content, "meta": meta}
    if not is_same({**as_message(role, content), **fields}, message):
        turn["raw"] = message
    return turn


def session_message_of(number: int, turn: Turn) -> SessionMessage:
    """Return *turn*, whoever recorded it, as the message of this id."""
    meta = turn.meta or {}
    is_own = own_number(turn) is not None
    told = turn.extra.get("raw") if is_own else None
    if not isinstance(told, dict):
        fields = meta.get("fields") if is_own else None
        told = {**as_message(turn.role, turn.content), **(fields or {})}
    message = decode_bytes_values(told)
    made = SessionMessage(message, number)
    if meta.get("redacted") is True and is_own:
        made.redact_message = message
    when = "" if turn.ts is None else turn.ts.isoformat()
    made.created_at = str(meta.get("created_at", when)) if is_own else when
    made.updated_at = str(meta.get("updated_at", when)) if is_own else when
    return made


def as_stored(message: SessionMessage) -> SessionMessage:
    """Return what reading *message* will give: of a redacted one, what it may show."""
    shown = message.to_message()
    return SessionMessage(
        shown,
        message.message_id,
        None if message.redact_message is None else shown,
        message.created_at,
        message.updated_at,
    )


def own_number(turn: Turn) -> int | None:
    """Return the message id with which Strands recorded *turn*, if it did."""
    meta = turn.meta or {}
    number = meta.get("message_id") if meta.get("source") == SOURCE else None
    return number if type(number) is int else None
