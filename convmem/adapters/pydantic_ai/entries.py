"""Which turn is which entry: what belongs to a history, and by what id pydantic-ai knows it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convmem import Turn

SOURCE = "pydantic-ai"
EVENT = "event"
_FOREIGN = "convmem:"  # what the entry id of a turn that others recorded begins with


@dataclass(frozen=True, slots=True)
class Link:
    """One turn of a history, by its entry's id."""

    entry_id: str
    turn: Turn


def is_ours(turn: Turn) -> bool:
    """Whether a store like this one recorded *turn* as an entry."""
    meta = turn.meta or {}
    if meta.get("source") != SOURCE or "parent" not in meta:
        return False
    # Else it only looks like one.
    return meta["parent"] is None or isinstance(meta["parent"], str)


def is_message(turn: Turn) -> bool:
    """Whether *turn* is part of the history: what is scrubbed is not, nor what nobody said."""
    if is_ours(turn):
        return True
    return turn.role != EVENT and not (turn.content == "" and "scrubbed" in (turn.meta or {}))


def entry_id_of(conversation_id: str, turn: Turn) -> str:
    """Return the id under which pydantic-ai knows *turn*.

    Ids of turns are good within their conversation, those of entries everywhere: what others
    recorded is named with its conversation, so that no two fall together.
    """
    if is_ours(turn) and turn.id is not None:
        return turn.id
    own: Any = turn.id or turn.seq
    if own is None:  # a line written by hand
        said = json.dumps([turn.role, turn.content])
        own = [hashlib.sha256(said.encode()).hexdigest()[:32]]
    return _FOREIGN + json.dumps([conversation_id, own], separators=(",", ":"))


def home_in(entry_id: str) -> str | None:
    """Return the conversation that ``entry_id_of`` put into the id, if it did."""
    if not entry_id.startswith(_FOREIGN):
        return None
    try:
        home = json.loads(entry_id[len(_FOREIGN) :])[0]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return home if isinstance(home, str) and home else None
