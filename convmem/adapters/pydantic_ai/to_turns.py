"""What a message is as a turn: role, blocks, and the message itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic_ai.messages import ModelMessagesTypeAdapter

from convmem import InvalidTurn
from convmem.adapters.exact import storable
from convmem.adapters.pydantic_ai.entries import EVENT, SOURCE

if TYPE_CHECKING:
    from pydantic_ai.conversation_store import ConversationEntry
    from pydantic_ai.messages import ModelMessage


def turn_of_entry(entry: ConversationEntry) -> dict[str, Any]:
    """Return what is recorded of *entry*."""
    [raw] = _as_json([entry.message])
    role, content = as_turn(raw)
    meta = {"source": SOURCE, "parent": entry.parent_id}
    # Always with the message itself: times and ids of runs, which all have, are in no content.
    turn = {"id": entry.id, "role": role, "content": content, "meta": meta, "raw": raw}
    return storable(turn, raw, SOURCE)


def _as_json(messages: list[ModelMessage]) -> Any:
    try:
        return json.loads(ModelMessagesTypeAdapter.dump_json(messages))
    except ValueError:  # half of a surrogate pair, as cut emoji leave it; or what is no JSON
        pass
    try:
        return ModelMessagesTypeAdapter.dump_python(messages, mode="json")
    except ValueError as error:
        raise InvalidTurn(f"a message holds what is no JSON: {error}") from error


def as_turn(message: dict[str, Any]) -> tuple[str, Any]:
    """Return role and content of a message as its JSON has it.

    Results of tools alone are ``tool``, system prompts alone ``system``; what says nothing at all
    (changes of instructions or tools) is an event.
    """
    is_answer = message.get("kind") == "response"
    blocks: list[dict[str, Any]] = []
    speakers = set()
    for part in message.get("parts") or ():
        made = _blocks_of_part(part)
        blocks += made
        if made:
            is_result = made[0]["type"] == "tool_result"
            kind = part.get("part_kind")
            speakers.add("tool" if is_result else "system" if kind == "system-prompt" else "user")
    if is_answer:
        role = "assistant"
    elif not blocks:
        return EVENT, ""
    else:
        role = speakers.pop() if len(speakers) == 1 else "user"
    if not blocks:
        return role, ""
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        return role, blocks[0]["text"]
    return role, blocks


def text_of(value: Any) -> str:
    """Return a text as it is, all else as JSON: ``null``, too, which a tool may return."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _blocks_of_part(part: dict[str, Any]) -> list[dict[str, Any]]:
    kind, content = part.get("part_kind"), part.get("content")
    if kind == "thinking":
        block = {"type": "thinking", "thinking": content}
        if isinstance(part.get("signature"), str):
            block["signature"] = part["signature"]
        return [block] if content else []
    if kind in ("tool-call", "builtin-tool-call"):
        given = _input_of(part.get("args"))
        return [
            {"type": "tool_use", "id": part["tool_call_id"], "name": part["tool_name"], **given}
        ]
    if kind in ("tool-return", "builtin-tool-return", "retry-prompt") and part.get("tool_name"):
        said = _blocks_of(content)
        is_text = len(said) == 1 and said[0]["type"] == "text"
        block = {"type": "tool_result", "tool_use_id": part["tool_call_id"]}
        block["content"] = said[0]["text"] if is_text else said
        if kind == "retry-prompt" or part.get("outcome") not in (None, "success"):
            block["is_error"] = True
        return [block]
    if kind == "speech":
        return _blocks_of(part["transcript"]) if part.get("transcript") else []
    if kind in ("user-prompt", "system-prompt", "text", "retry-prompt", "retry-feedback"):
        return _blocks_of(content)
    if kind in ("file", "compaction"):
        return _blocks_of(content) if content else []
    return []


def _blocks_of(content: Any) -> list[dict[str, Any]]:
    """Return the content of a prompt, or what a tool returned, as blocks."""
    if isinstance(content, dict) and content.get("kind") in _MEDIA:
        content = [content]
    if isinstance(content, list) and all(
        isinstance(each, str) or (isinstance(each, dict) and each.get("kind") in _MEDIA)
        for each in content
    ):
        return [block for each in content for block in _blocks_of_item(each)]
    return [{"type": "text", "text": text_of(content)}]


def _blocks_of_item(item: Any) -> list[dict[str, Any]]:
    if isinstance(item, str):
        return [{"type": "text", "text": item}]
    kind = item["kind"]
    if kind == "cache-point":
        return []
    source: dict[str, Any] | None = None
    if kind == "binary" and isinstance(item.get("data"), str):
        data = item["data"].replace("-", "+").replace("_", "/")
        source = {"type": "base64", "media_type": item.get("media_type"), "data": data}
    elif kind == "uploaded-file":
        source = {"type": "file", "file_id": item.get("file_id")}
    elif isinstance(item.get("url"), str):
        source = {"type": "url", "url": item["url"]}
    if source is None:
        return [{"type": "text", "text": text_of(item.get("content", item))}]
    is_image = kind == "image-url" or str(item.get("media_type")).startswith("image/")
    return [{"type": "image" if is_image else "document", "source": source}]


_MEDIA = frozenset(
    "text-content structured-content binary uploaded-file cache-point "
    "image-url audio-url video-url document-url".split()
)


def _input_of(args: Any) -> dict[str, Any]:
    if isinstance(args, dict):
        return {"input": args}
    try:
        given = json.loads(args or "{}")
    except (ValueError, TypeError, RecursionError):
        given = None
    return {"input": given} if isinstance(given, dict) else {"input": {}, "arguments": args}
