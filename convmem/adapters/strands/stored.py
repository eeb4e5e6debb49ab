"""A message with its id and times as a turn, and back: what it says, and what is beside that."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from strands.types.session import SessionMessage, decode_bytes_values, encode_bytes_values

from convmem.adapters.exact import is_same, storable, unspelled
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


def storable_turn(turn: dict[str, Any], session_message: SessionMessage) -> dict[str, Any]:
    """Return *turn*; where JSON as UTF-8 cannot say it, one that keeps its message as text."""
    return storable(turn, encode_bytes_values(session_message.to_message()), SOURCE)


def session_message_of(number: int, turn: Turn) -> SessionMessage:
    """Return *turn*, whoever recorded it, as the message of this id."""
    meta = turn.meta or {}
    is_own = own_number(turn) is not None
    made = SessionMessage(_message_in(turn, meta) if is_own else _message_said(turn, {}), number)
    if meta.get("redacted") is True and is_own:
        made.redact_message = made.message
    when = "" if turn.ts is None else turn.ts.isoformat()
    made.created_at = str(meta.get("created_at", when)) if is_own else when
    made.updated_at = str(meta.get("updated_at", when)) if is_own else when
    return made


def _message_in(turn: Turn, meta: dict[str, Any]) -> Any:
    """Return the message that Strands recorded; what the turn says where it is none any more."""
    raw, fields = unspelled(turn.extra.get("raw")), meta.get("fields")
    if type(raw) is dict and type(raw.get("role")) is str and type(raw.get("content")) is list:
        with suppress(ValueError, TypeError):
            return decode_bytes_values(raw)
    return _message_said(turn, fields if type(fields) is dict else {})


def _message_said(turn: Turn, fields: dict[str, Any]) -> Any:
    told = as_message(turn.role, turn.content)
    with suppress(ValueError, TypeError):
        return decode_bytes_values({**told, **fields, **told})
    return as_message(turn.role, turn.text)  # what it says of bytes is no Base64


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
    return number if type(number) is int and number >= 0 else None
