"""Turns as messages: the very message that was recorded, or one that says what others did."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agent_framework import Message

from convmem.adapters.exact import unspelled
from convmem.adapters.media import address_of

if TYPE_CHECKING:
    from convmem import Turn

SOURCE = "agent-framework"
EVENT = "event"


def message_of(turn: Turn) -> Message | None:
    """Return what *turn*, whoever recorded it, is to the framework; ``None`` where it is nothing:
    other programs' events, and what was scrubbed."""
    item = item_in(turn)
    if item is None:
        return None
    try:
        return Message.from_dict(item)
    except (ValueError, TypeError, KeyError, AttributeError):
        # Written by another version of the framework, or by hand: what it says is left.
        return Message.from_dict(item_saying(_speaker(turn.role), turn.text))


def item_in(turn: Turn) -> dict[str, Any] | None:
    """Return the message that *turn* is, as ``Message.from_dict`` takes it, or ``None``."""
    meta = turn.meta or {}
    if meta.get("source") == SOURCE and "raw" in turn.extra:
        raw = unspelled(turn.extra["raw"])
        if type(raw) is dict:
            return raw
    if turn.role == EVENT or (turn.content == "" and "scrubbed" in meta):
        return None
    return item_saying(_speaker(turn.role), turn.content)


def _speaker(role: str) -> str:
    return role if role in ("user", "assistant", "system", "tool") or is_speaker(role) else "user"


def item_saying(role: str, content: Any) -> dict[str, Any]:
    """Return the message that says what a turn says, spelled as the framework itself does."""
    blocks = content if type(content) is list else [content]
    contents = [_content_of(block) for block in blocks]
    if role == "tool" and not any(each["type"] == "function_result" for each in contents):
        role = "user"  # a result of nobody's call, which no model takes
    return {"type": "message", "role": role, "contents": contents, "additional_properties": {}}


def _content_of(block: Any) -> dict[str, Any]:
    kind = block.get("type") if type(block) is dict else None
    if kind == "tool_use":
        told = {
            "call_id": shown(block.get("id")),
            "name": shown(block.get("name")),
            "arguments": _compact_of(block.get("input")),
            "hosted": False,
        }
        return _content("function_call", told)
    if kind == "tool_result":
        return _result_content(block)
    if kind == "thinking":
        return _content("text_reasoning", {"text": shown(block.get("thinking"))})
    source = block.get("source") if type(block) is dict else None
    if kind in ("image", "document") and type(source) is dict:
        made = _medium_content(kind, source)
        if made is not None:
            return made
    text = block.get("text") if type(block) is dict else block
    return _content("text", {"text": text if type(text) is str else shown(block)})


def _content(kind: str, told: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, **told, "additional_properties": {}}


def _compact_of(given: Any) -> str:
    if type(given) is not dict:
        return "{}"
    return json.dumps(given, ensure_ascii=False, default=str, separators=(",", ":"))


def _result_content(block: dict[str, Any]) -> dict[str, Any]:
    found = block.get("content")
    items = [_content_of(each) for each in (found if type(found) is list else [shown(found)])]
    texts = [each["text"] for each in items if each["type"] == "text" and each["text"]]
    told: dict[str, Any] = {"call_id": shown(block.get("tool_use_id"))}
    if block.get("is_error") is True:
        told["exception"] = "FunctionInvocationError"  # as the framework writes all of them
    told.update(result="\n".join(texts), items=items)
    return _content("function_result", told)


def _medium_content(kind: str, source: dict[str, Any]) -> dict[str, Any] | None:
    media_type, data, url = source.get("media_type"), source.get("data"), source.get("url")
    if type(data) is str and type(media_type) is str:
        uri = address_of(media_type, data)
        return _content("data", {"uri": uri, "media_type": media_type})
    if type(url) is str:
        guessed = "image/*" if kind == "image" else "application/octet-stream"
        return _content("uri", {"uri": url, "media_type": guessed})
    if type(source.get("file_id")) is str:
        return _content("hosted_file", {"file_id": source["file_id"]})
    return None


def shown(value: Any) -> str:
    """Return a text as it is, nothing as no text, and all else as ``spelled`` has it."""
    if value is None:
        return ""
    return value if type(value) is str else spelled(value)


def spelled(value: Any) -> str:
    """Return *value* as JSON; what JSON has no word for as its own text."""
    return json.dumps(value, default=str, separators=(",", ":"))


def is_speaker(role: str) -> bool:
    """Whether a role can be a turn's: a short word, and none that means nobody."""
    return 0 < len(role) <= 64 and role.isprintable() and role == role.strip() and role != EVENT
