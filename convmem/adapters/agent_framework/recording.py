"""Messages as turns: recorded once, whether tried again or replayed with what came since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convmem import ConversationNotFound
from convmem.adapters.agent_framework.blocks import blocks_of
from convmem.adapters.agent_framework.messages import (
    EVENT,
    SOURCE,
    is_speaker,
    item_in,
    item_saying,
    spelled,
)
from convmem.adapters.exact import is_same, storable
from convmem.adapters.given_ids import id_of, record_once

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_framework import Message

    from convmem import Conversation

_ROLES = {"developer": "system"}


def turn_of(item: dict[str, Any]) -> dict[str, Any]:
    """Return the turn that a message, as its ``to_dict`` tells it, is recorded as.

    >>> turn_of(Message("user", ["And by train?"]).to_dict())
    {'role': 'user', 'content': 'And by train?'}
    """
    role, content = _said_by(item)
    if role != EVENT and is_same(item_saying(role, content), item):
        return {"role": role, "content": content}
    made: dict[str, Any] = {"role": role, "content": content, "meta": {"source": SOURCE}}
    if role == EVENT:
        made["meta"]["kind"] = _kind(item)
    given = item.get("message_id")
    if type(given) is str and given:
        made["id"] = id_of(given)
    return {**made, "raw": item}


def _said_by(item: dict[str, Any]) -> tuple[str, Any]:
    """Return the role and content of a message; an event where it says nothing."""
    contents = item.get("contents")
    blocks: list[dict[str, Any]] = []
    for each in contents if type(contents) is list else []:
        blocks += blocks_of(each)
    role = item.get("role")
    if type(role) is not str or not is_speaker(role):
        role = "user"
    if not blocks:
        return EVENT, ""
    if role in ("user", "tool") and all(block["type"] == "tool_result" for block in blocks):
        role = "tool"
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        return _ROLES.get(role, role), blocks[0]["text"]
    return _ROLES.get(role, role), blocks


def _kind(item: dict[str, Any]) -> str:
    contents = item.get("contents")
    first = contents[0] if type(contents) is list and contents else None
    kind = first.get("type") if type(first) is dict else None
    return kind if type(kind) is str else "message"


def record(chat: Conversation, messages: Sequence[Message]) -> None:
    """Record what is new of *messages* in one atomic batch; each ``message_id`` once."""
    items = _new(chat, [message.to_dict() for message in messages])
    record_once(
        chat,
        [turn_of(item) for item in items],
        item_in=item_in,
        spelled=spelled,
        storable=_storable,
    )


def _new(chat: Conversation, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return those of *items* that are not a replay of what was said last.

    Costs a look at as many turns, and one more, from the end.
    """
    try:
        turns = chat.tail(len(items) + 1)
    except ConversationNotFound:
        return items
    before = [_identity(item) for turn in turns if (item := item_in(turn)) is not None]
    now = [_identity(item) for item in items]
    known = _overlap(before, now, is_all=len(turns) <= len(items))
    has_ids = any("message_id" in item for item in items[:known])
    if not has_ids and (known == len(items) or (known == 1 and items[0].get("role") == "user")):
        return items  # who says a thing twice may mean it
    return items[known:]


def _overlap(before: list[str], now: list[str], *, is_all: bool) -> int:
    """Return how many of *now*, from its start, end where *before* ends.

    Where *before* *is_all* that was ever said, something may stand before it in *now*.
    """
    if is_all and len(before) > 1:
        for start in range(1, len(now) - len(before) + 1):
            if now[start : start + len(before)] == before:
                return start + len(before)
    for known in range(min(len(before), len(now)), 0, -1):
        if before[-known:] == now[:known]:
            return known
    return 0


def _identity(item: dict[str, Any]) -> str:
    return spelled([item.get("message_id"), item.get("role"), item.get("contents")])


def _storable(turn: dict[str, Any]) -> dict[str, Any]:
    item = turn["raw"] if "raw" in turn else item_saying(turn["role"], turn["content"])
    return storable(turn, item, SOURCE, spelled=spelled)
