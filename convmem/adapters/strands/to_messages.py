"""What role and content are as a message, whoever recorded them."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from convmem.adapters.strands.to_turns import FORMATS, text_of


def as_message(role: str, content: Any) -> dict[str, Any]:
    """Return what was said as a message, bytes in Base64. Never raises for what it holds.

    Strands knows ``user`` and ``assistant`` alone: all else is the user's.
    """
    blocks = content if isinstance(content, list) else [content]
    said = [_item_of(block) for block in blocks]
    return {"role": "assistant" if role == "assistant" else "user", "content": said}


def _item_of(block: Any) -> dict[str, Any]:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "text" and isinstance(block.get("text"), str):
        return {"text": block["text"]}
    if kind == "tool_use":
        use = {"toolUseId": text_of(block.get("id")), "name": text_of(block.get("name"))}
        return {"toolUse": {**use, "input": block.get("input")}}
    if kind == "tool_result":
        held = block.get("content", [])
        return {
            "toolResult": {
                "toolUseId": text_of(block.get("tool_use_id")),
                "status": "error" if block.get("is_error") is True else "success",
                "content": [
                    _item_of(each) for each in (held if isinstance(held, list) else [held])
                ],
            }
        }
    if kind == "thinking":
        told = {"text": text_of(block.get("thinking"))}
        if isinstance(block.get("signature"), str):
            told["signature"] = block["signature"]
        return {"reasoningContent": {"reasoningText": told}}
    if kind in ("image", "document") and isinstance(block.get("source"), dict):
        made = _medium_item(block)
        if made is not None:
            return made
    return {"text": text_of(block)}


def _medium_item(block: dict[str, Any]) -> dict[str, Any] | None:
    source = block["source"]
    data, media_type = source.get("data"), source.get("media_type")
    if not isinstance(data, str) or not isinstance(media_type, str):
        return None  # of a link Strands has S3's alone
    try:
        base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error):
        return None
    kind, _, shape = media_type.partition("/")
    held = {"bytes": {"__bytes_encoded__": True, "data": data}}
    if kind in ("image", "video", "audio") and shape:
        return {kind: {"format": shape, "source": held}}
    told: dict[str, Any] = {"format": FORMATS.get(media_type, shape)}
    if isinstance(block.get("title"), str):
        told["name"] = block["title"]
    else:
        told["name"] = "document"
    return {"document": {**told, "source": held}}
