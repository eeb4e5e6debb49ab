"""LangChain's messages as turns, and turns as messages, whoever recorded them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict

from convmem.adapters.exact import storable, unspelled
from convmem.adapters.media import source_of

if TYPE_CHECKING:
    from convmem import Turn

SOURCE = "langchain"

_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}
_KINDS = {"user": "human", "assistant": "ai", "system": "system"}
# How parts of a content are spelled; the first is how what others recorded is told.
_FORMS = ("standard", "anthropic", "openai")


def turn_of(message: BaseMessage) -> dict[str, Any]:
    """Return *message* as a turn, as ``record_many`` takes it."""
    told = message_to_dict(message)
    role, content = _said(told["type"], told["data"])
    found = _fields(told, role, content)
    if found is None:
        return {"role": role, "content": content, "meta": {"source": SOURCE}, "raw": told}
    fields, form = found
    turn: dict[str, Any] = {"role": role, "content": content}
    if fields or form != _FORMS[0]:
        turn["meta"] = {"source": SOURCE}
        if form != _FORMS[0]:
            turn["meta"]["form"] = form
        if fields:
            turn["meta"]["fields"] = fields
    return turn


def storable_turn(turn: dict[str, Any], message: BaseMessage) -> dict[str, Any]:
    """Return *turn*; where JSON as UTF-8 cannot say it, one that keeps *message* as text."""
    return storable(turn, message_to_dict(message), SOURCE)


def messages_of(turn: Turn) -> list[BaseMessage]:
    """Return the messages that *turn* stands for, whoever recorded it. Never raises for what it is.

    None for an event and for a turn that was scrubbed; several where one turn holds the results
    of several tools.
    """
    meta = turn.meta or {}
    found: list[BaseMessage]
    if turn.role == "event" or (turn.content == "" and "scrubbed" in meta):
        return []
    if meta.get("source") == SOURCE:
        try:
            found = messages_from_dict([_own(turn, meta)])
        except (TypeError, ValueError, LookupError, AttributeError):
            pass  # somebody changed it: what it says still counts
        else:
            return found
    try:
        found = messages_from_dict(_built(turn.role, turn.content, _FORMS[0]))
    except (TypeError, ValueError, LookupError, AttributeError):
        # Blocks that look like Anthropic's and are not.
        found = messages_from_dict(_built(turn.role, turn.text, _FORMS[0]))
    return found


def _own(turn: Turn, meta: dict[str, Any]) -> dict[str, Any]:
    """Return the message, as a dictionary, of a turn that ``turn_of`` made."""
    raw = unspelled(turn.extra.get("raw"))
    if raw is not None:
        return dict(raw)
    told = _built(turn.role, turn.content, meta.get("form", _FORMS[0]))[0]
    data = {**told["data"], **meta.get("fields", {})}
    return {"type": data.get("type", told["type"]), "data": data}


def _fields(told: dict[str, Any], role: str, content: Any) -> tuple[dict[str, Any], str] | None:
    """Return what of a message role and content do not tell, and its form.

    ``None`` where the message cannot be built back from these.
    """
    data = told["data"]
    parts = data["content"]
    for form in _FORMS if isinstance(parts, list) else _FORMS[:1]:
        built = _built(role, content, form)
        if len(built) != 1 or _text(built[0]["data"]["content"]) != _text(parts):
            continue
        known = built[0]["data"]
        base = message_to_dict(messages_from_dict(built)[0])["data"]
        fields = {
            key: value
            for key, value in data.items()
            if key not in base or _text(base[key]) != _text(value)
        }
        if "content" in fields:
            return None
        merged = {**known, **fields}
        try:
            again = messages_from_dict([{"type": merged.get("type", told["type"]), "data": merged}])
        except (TypeError, ValueError, LookupError):
            return None
        return (fields, form) if _text(message_to_dict(again[0])) == _text(told) else None
    return None


def _text(value: Any) -> str:
    """Return *value* as JSON; what is none is told as Python tells it, and ends as no turn."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=repr)


def _said(kind: str, data: dict[str, Any]) -> tuple[str, Any]:
    """Return role and content of a message."""
    kind = kind.removesuffix("MessageChunk").lower()
    kind = "tool" if kind == "function" else kind
    blocks: Any = data["content"]
    if not isinstance(blocks, str):
        blocks = [_block(part) for part in blocks]
    if kind == "tool":
        result = {"type": "tool_result", "tool_use_id": data.get("tool_call_id") or ""}
        result["content"] = blocks
        if data.get("status") == "error":
            result["is_error"] = True
        return "tool", [result]
    if kind == "chat":
        role = data["role"]
        is_word = isinstance(role, str) and role in _KINDS
        return (role if is_word else "user"), blocks
    there = {each.get("id") for each in blocks if _is_block(each, "tool_use")}
    calls = [
        {"type": "tool_use", "id": call["id"] or "", "name": call["name"], "input": call["args"]}
        for call in data.get("tool_calls") or ()
        if call["id"] not in there
    ]
    role = _ROLES.get(kind, "user")
    if not calls:
        return role, blocks
    if isinstance(blocks, str):
        blocks = [{"type": "text", "text": blocks}] if blocks else []
    return role, blocks + calls


def _block(part: Any) -> dict[str, Any]:
    """Return one part of a message's content as a block, whichever provider spelled it."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = part.get("type")
    url = part.get("image_url")
    if kind == "image_url" and isinstance(url, dict | str):
        found = url.get("url") if isinstance(url, dict) else url
        if isinstance(found, str):
            return {"type": "image", "source": source_of(found)}
    if kind in ("image", "audio", "video", "file") and "source" not in part:
        source = _standard_source(part)
        if source is not None:
            return {"type": "image" if kind == "image" else "document", "source": source}
    if kind == "reasoning" and isinstance(part.get("reasoning"), str):
        return {"type": "thinking", "thinking": part["reasoning"]}
    shape = _SHAPES.get(kind) if isinstance(kind, str) else None
    if shape is not None and isinstance(part.get(shape[0]), shape[1]):
        return dict(part)
    return {"type": "text", "text": _text(part)}


_SHAPES: dict[str, tuple[str, Any]] = {
    "text": ("text", str),
    "thinking": ("thinking", str),
    "tool_use": ("input", dict),
    "image": ("source", dict),
    "document": ("source", dict),
}


def _standard_source(part: dict[str, Any]) -> dict[str, Any] | None:
    if isinstance(part.get("base64"), str):
        kind = part.get("mime_type")
        return {"type": "base64", "media_type": kind or "", "data": part["base64"]}
    for key, name in (("url", "url"), ("file_id", "file")):
        if isinstance(part.get(key), str):
            return {"type": name, key: part[key]}
    return None


def _built(role: str, content: Any, form: str) -> list[dict[str, Any]]:
    """Return the messages, as dictionaries, that *role* and *content* say."""
    blocks = content if isinstance(content, list) else None
    results = [each for each in blocks or () if _is_block(each, "tool_result")]
    told = [_result(each, form) for each in results]
    if results and len(results) == len(blocks or ()):
        return told
    rest = content
    if blocks is not None and results:
        rest = [each for each in blocks if not _is_block(each, "tool_result")]
    kind = _KINDS.get(role, "ai" if role == "model" else "human")
    data: dict[str, Any] = {}
    if role == "tool":  # one that names no call
        return [*told, {"type": "tool", "data": {"content": _as_text(rest), "tool_call_id": ""}}]
    if kind == "ai" and blocks is not None:
        calls = [each for each in rest if _is_block(each, "tool_use")]
        data["tool_calls"] = [_call(each) for each in calls]
        if form != "anthropic":
            rest = [each for each in rest if not _is_block(each, "tool_use")]
            if calls and not rest:
                rest = ""
            elif calls and len(rest) == 1 and _is_plain_text(rest[0]):
                rest = rest[0]["text"]
    data["content"] = _parts(rest, form)
    if role not in _KINDS and role != "model":
        return [*told, {"type": "chat", "data": {**data, "role": role}}]
    return [*told, {"type": kind, "data": data}]


def _result(block: dict[str, Any], form: str) -> dict[str, Any]:
    data = {"content": _parts(block.get("content", ""), form)}
    data["tool_call_id"] = str(block.get("tool_use_id", ""))
    if block.get("is_error") is True:
        data["status"] = "error"
    return {"type": "tool", "data": data}


def _call(block: dict[str, Any]) -> dict[str, Any]:
    given = block.get("input")
    return {
        "name": str(block.get("name", "")),
        "args": given if isinstance(given, dict) else {"input": given},
        "id": block.get("id"),
        "type": "tool_call",
    }


def _parts(content: Any, form: str) -> Any:
    """Return blocks as the parts of a message's content, in the spelling *form*."""
    if not isinstance(content, list):
        return _as_text(content)
    return content if form == "anthropic" else [_part(each, form) for each in content]


def _part(block: Any, form: str) -> Any:
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        return {"type": "text", "text": _as_text(block)}
    kind, source = block["type"], block.get("source")
    if kind == "thinking" and block.keys() == {"type", "thinking"} and form == "standard":
        return {"type": "reasoning", "reasoning": block["thinking"]}
    if kind in ("image", "document") and isinstance(source, dict):
        return _medium(kind, source, form) or block
    if kind in _SHAPES or form != "standard":
        return block
    return {"type": "text", "text": _as_text(block)}


def _medium(kind: str, source: dict[str, Any], form: str) -> dict[str, Any] | None:
    how, media_type = source.get("type"), source.get("media_type")
    if form == "openai":
        if kind != "image" or how not in ("url", "base64"):
            return None
        url = source.get("url") if how == "url" else f"data:{media_type};base64,{source['data']}"
        return {"type": "image_url", "image_url": {"url": url}}
    name = kind if kind == "image" else str(media_type or "").partition("/")[0]
    if name not in ("image", "audio", "video"):
        name = "file"
    if how == "base64":
        return {"type": name, "base64": source.get("data"), "mime_type": media_type}
    key = "file_id" if how == "file" else "url"
    return {"type": name, key: source[key]} if key in source else None


def _is_block(value: Any, kind: str) -> bool:
    return isinstance(value, dict) and value.get("type") == kind


def _is_plain_text(block: Any) -> bool:
    return _is_block(block, "text") and block.keys() == {"type", "text"}


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(map(_as_text, value))
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        return str(value["text"])
    return "" if value is None else _text(value)
