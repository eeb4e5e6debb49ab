"""What a message is as a turn: role, and blocks for what Strands calls content blocks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def as_turn(message: dict[str, Any]) -> tuple[str, Any]:
    """Return role and content of a message, whose bytes are Base64 as Strands stores them."""
    content = message.get("content")
    items = content if isinstance(content, list) else [content]
    blocks = [block for block in map(_block_of, items) if block is not None]
    role = "assistant" if message.get("role") == "assistant" else "user"
    if role == "user" and blocks and all(each["type"] == "tool_result" for each in blocks):
        role = "tool"
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        return role, blocks[0]["text"]
    return role, blocks


def text_of(value: Any) -> str:
    """Return a text as it is, nothing as no text, and all else as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _block_of(item: Any) -> dict[str, Any] | None:
    if not isinstance(item, dict) or len(item) != 1:
        return {"type": "text", "text": text_of(item)}
    [(kind, value)] = item.items()
    make = _BLOCKS.get(kind)
    if make is not None:
        try:
            return make(value)
        except (LookupError, TypeError, AttributeError, ValueError):
            pass  # not of the form that Strands documents: kept as text
    return None if kind == "cachePoint" else {"type": "text", "text": text_of(value)}


def _text_block(value: Any) -> dict[str, Any]:
    return {"type": "text", "text": text_of(value)}


def _tool_use(value: Any) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": value["toolUseId"],
        "name": value["name"],
        "input": value["input"],
    }


def _tool_result(value: Any) -> dict[str, Any]:
    inner = [block for block in map(_block_of, value["content"]) if block is not None]
    is_text = len(inner) == 1 and inner[0]["type"] == "text"
    said = inner[0]["text"] if is_text else inner
    block = {"type": "tool_result", "tool_use_id": value["toolUseId"], "content": said}
    if value.get("status") == "error":
        block["is_error"] = True
    return block


def _medium(value: Any, kind: str) -> dict[str, Any]:
    shape, source = value["format"], value["source"]
    media_type = _MEDIA_TYPES.get(shape) or f"{kind}/{shape}"
    held = source.get("bytes")
    where: dict[str, Any]
    if isinstance(held, dict) and held.get("__bytes_encoded__") is True:
        where = {"type": "base64", "media_type": media_type, "data": held["data"]}
    else:
        where = {"type": "url", "url": source["location"]["uri"]}
    block = {"type": "image" if kind == "image" else "document", "source": where}
    if "name" in value:
        block["title"] = value["name"]
    return block


def _thinking(value: Any) -> dict[str, Any]:
    told = value["reasoningText"]
    block = {"type": "thinking", "thinking": told["text"]}
    if "signature" in told:
        block["signature"] = told["signature"]
    return block


def _cited(value: Any) -> dict[str, Any]:
    return {"type": "text", "text": "".join(each["text"] for each in value["content"])}


_BLOCKS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "text": _text_block,
    "json": _text_block,
    "toolUse": _tool_use,
    "toolResult": _tool_result,
    "image": lambda value: _medium(value, "image"),
    "document": lambda value: _medium(value, "application"),
    "video": lambda value: _medium(value, "video"),
    "audio": lambda value: _medium(value, "audio"),
    "reasoningContent": _thinking,
    "citationsContent": _cited,
    "guardContent": lambda value: _text_block(value["text"]["text"]),
}
_OFFICE = "application/vnd.openxmlformats-officedocument"
_MEDIA_TYPES = {
    "csv": "text/csv",
    "html": "text/html",
    "txt": "text/plain",
    "md": "text/markdown",
    "doc": "application/msword",
    "docx": f"{_OFFICE}.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": f"{_OFFICE}.spreadsheetml.sheet",
}
FORMATS = {media_type: shape for shape, media_type in _MEDIA_TYPES.items()}
