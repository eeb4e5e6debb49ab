"""The SDK's items as turns, and turns of anybody's as items.

What an item says is read as an import of the Responses API reads it; back, each item is spelled as
the SDK itself does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convmem.adapters.exact import (
    compact,
    is_same,
    spelled_in_ascii,
    storable,
    text_of,
    unspelled,
)
from convmem.adapters.media import address_of
from convmem.formats.openai.response_items import said_by

if TYPE_CHECKING:
    from agents import TResponseInputItem

    from convmem import Turn

SOURCE = "openai-agents"
_EVENT = "event"


def turn_of(item: TResponseInputItem) -> dict[str, Any]:
    """Return the turn that *item* is recorded as; with ``raw`` unless ``items_of`` can do without.

    >>> turn_of({"content": "And by train?", "role": "user"})
    {'role': 'user', 'content': 'And by train?'}
    """
    said = said_by(item) if type(item) is dict else None
    if said is None:
        meta = {"source": SOURCE, "kind": _kind(item)}
        # Text as ``raw`` always spells an item.
        raw = spelled_in_ascii(item) if type(item) is str else item
        return {"role": _EVENT, "content": "", "meta": meta, "raw": raw}
    role, content = said
    if _says_it_all(role, content, item):
        return {"role": role, "content": content}
    return {"role": role, "content": content, "meta": {"source": SOURCE}, "raw": item}


def storable_turn_of(item: TResponseInputItem) -> dict[str, Any]:
    """Return the turn that *item* is recorded as where JSON as UTF-8 cannot say it."""
    return storable(turn_of(item), item, SOURCE)


def items_of(turn: Turn) -> list[TResponseInputItem]:
    """Return what *turn*, whoever recorded it, is to the SDK: mostly one item, or none."""
    meta = turn.meta
    if meta is not None:
        if meta.get("source") == SOURCE and "raw" in turn.extra:
            return [unspelled(turn.extra["raw"])]
        if turn.content == "" and "scrubbed" in meta:
            return []
    if turn.role == _EVENT:
        return []
    return _items_saying(turn.role, turn.content)


def _says_it_all(role: str, content: Any, item: dict[str, Any]) -> bool:
    try:
        return is_same(_items_saying(role, content), [item])
    except (ValueError, TypeError):
        return False  # it holds what is no JSON


def _kind(item: Any) -> str:
    kind = item.get("type") if type(item) is dict else None
    return kind if type(kind) is str and kind else "item"


def _items_saying(role: str, content: Any) -> list[dict[str, Any]]:
    """Return items that say what a turn says, each spelled as the SDK itself does."""
    speaker = role if role in ("assistant", "system") else "user"
    if type(content) is str:
        return [{"content": content, "role": speaker}]
    items: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for block in content if type(content) is list else [content]:
        alone = _item_alone(block) if type(block) is dict else None
        if alone is None:
            said.append(_part(block, speaker))
        else:
            if said:
                items.append(_message(said, speaker))
                said = []
            items.append(alone)
    if said:
        items.append(_message(said, speaker))
    return items


def _item_alone(block: dict[str, Any]) -> dict[str, Any] | None:
    """Return the item that a block is by itself, or ``None`` if it is part of a message."""
    kind = block.get("type")
    if kind == "tool_use":
        return {
            "arguments": compact(block.get("input") or {}, allow_nan=True),
            "call_id": text_of(block.get("id")),
            "name": text_of(block.get("name")),
            "type": "function_call",
        }
    if kind == "tool_result":
        found = block.get("content")
        output = [_part(each, "tool") for each in found] if type(found) is list else text_of(found)
        return {
            "call_id": text_of(block.get("tool_use_id")),
            "output": output,
            "type": "function_call_output",
        }
    if kind == "thinking":
        summary = {"text": text_of(block.get("thinking")), "type": "summary_text"}
        return {"summary": [summary], "type": "reasoning"}
    return None


def _message(parts: list[dict[str, Any]], speaker: str) -> dict[str, Any]:
    content = parts[0]["text"] if len(parts) == 1 and "text" in parts[0] else parts
    return {"content": content, "role": speaker}


def _part(block: Any, speaker: str) -> dict[str, Any]:
    source = block.get("source") if type(block) is dict else None
    if type(source) is dict and block.get("type") in ("image", "document"):
        # An assistant's messages are text to the API.
        made = None if speaker == "assistant" else _medium_part(block, source)
        return made or _text_part(_name_of(block, source), speaker)
    text = block.get("text") if type(block) is dict else block
    return _text_part(text if type(text) is str else text_of(block), speaker)


def _text_part(text: str, speaker: str) -> dict[str, Any]:
    if speaker == "assistant":
        return {"annotations": [], "text": text, "type": "output_text"}
    return {"type": "input_text", "text": text}


def _medium_part(block: dict[str, Any], source: dict[str, Any]) -> dict[str, Any] | None:
    data, url, file_id = source.get("data"), source.get("url"), source.get("file_id")
    if type(data) is str:
        data = address_of(text_of(source.get("media_type")), data)
    is_image = block["type"] == "image"
    part: dict[str, Any] = {"type": "input_image" if is_image else "input_file"}
    if is_image:
        part["detail"] = "auto"
    if type(data) is str:
        part["image_url" if is_image else "file_data"] = data
    elif type(url) is str:
        part["image_url" if is_image else "file_url"] = url
    elif type(file_id) is str:
        part["file_id"] = file_id
    else:
        return None
    if not is_image and type(block.get("title")) is str:
        part["filename"] = block["title"]
    return part


def _name_of(block: dict[str, Any], source: dict[str, Any]) -> str:
    told = (block.get("title"), source.get("url"), source.get("file_id"), source.get("media_type"))
    return f"[{block['type']}: {next((each for each in told if type(each) is str), 'not shown')}]"
