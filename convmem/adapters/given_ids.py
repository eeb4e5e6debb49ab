"""Ids that a framework gives: a retry is stored once, and nothing that was said gets lost.

A framework that tries again hands over the same item under the same id. Where the id is taken by
an item that says something else, both are kept: the second as ``<id>~<digest>``, an id that follows
from what it says, so that a retry of it is stored once, too.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from convmem import InvalidTurn, TurnConflict
from convmem.adapters.exact import is_sayable

if TYPE_CHECKING:
    from collections.abc import Callable

    from convmem import Conversation, Turn

_MAX_CHARACTERS = 170  # of a turn's id, and some room for what is put behind it
_MAX_KEPT = _MAX_CHARACTERS - 20


def id_of(given: str) -> str:
    """Return the turn's id for the one that a framework gave: its own where it can be one."""
    if len(given) <= _MAX_CHARACTERS and is_sayable(given):
        return given
    return f"r-{digest(given)[:32]}"


def digest(text: str) -> str:
    """Return the hexadecimal SHA-256 of any text, also of half of a surrogate pair."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def record_once(
    chat: Conversation,
    turns: list[dict[str, Any]],
    *,
    item_in: Callable[[Turn], Any],
    spelled: Callable[[Any], str],
    storable: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    """Record *turns* as one atomic batch, without those that are stored under their ids already.

    Args:
        chat: Where.
        turns: As ``record_many`` takes them; those with an ``id`` have ``raw`` and ``meta``.
        item_in: What item a stored turn holds, to compare with ``raw``; ``None`` if none.
        spelled: The text of an item: two of the same text are the same.
        storable: What stands for a turn when JSON cannot say all of them; mostly the turn itself.

    Raises:
        ConvmemError: As ``record_many`` raises it; nothing was stored.
    """
    is_plain = False
    while turns:
        try:
            chat.record_many(turns)
            return
        except TurnConflict as conflict:
            turns = _settled(chat, turns, conflict, item_in, spelled)
        except InvalidTurn:
            if is_plain:
                raise
            is_plain = True
            turns = [storable(turn) for turn in turns]


def _settled(
    chat: Conversation,
    turns: list[dict[str, Any]],
    conflict: TurnConflict,
    item_in: Callable[[Turn], Any],
    spelled: Callable[[Any], str],
) -> list[dict[str, Any]]:
    """Return *turns* without what is stored under the id that is taken, the others renamed."""
    taken = conflict.turn_id
    # Without a seq the id is twice in *turns*: the first of them keeps it.
    stored: str | None = None
    if conflict.seq is not None:
        found = next(chat.turns(after=conflict.seq - 1), None)
        item = None if found is None or found.id != taken else item_in(found)
        stored = "" if item is None else spelled(item)  # nothing where it was dropped since
    kept = []
    for turn in turns:
        if turn.get("id") == taken:
            said = spelled(turn["raw"])
            if stored is None:
                stored = said
            elif said == stored:
                continue
            else:
                version = f"{taken[:_MAX_KEPT]}~{digest(said)[:16]}"
                turn = {**turn, "id": version, "meta": {**turn["meta"], "replaces": taken}}
        kept.append(turn)
    return kept
