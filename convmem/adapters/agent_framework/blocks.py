"""Contents of messages as blocks: calls, results, media, and the text of everything else."""

from __future__ import annotations

import json
from typing import Any

from convmem.adapters.agent_framework.messages import shown
from convmem.adapters.exact import MAX_DEPTH, compact
from convmem.adapters.media import source_of


def blocks_of(content: Any) -> list[dict[str, Any]]:
    """Return the blocks that a content is: mostly one, none where it says nothing."""
    if type(content) is not dict:
        return [{"type": "text", "text": shown(content)}]
    kind = content.get("type")
    if kind == "text":
        return [{"type": "text", "text": shown(content.get("text"))}]
    if kind == "text_reasoning":
        thought = content.get("text")
        return [{"type": "thinking", "thinking": thought}] if type(thought) is str else []
    if kind in ("data", "uri", "hosted_file"):
        return [_medium(content)]
    if type(kind) is str and kind.endswith("_call"):
        return [_call(kind, content)]
    if type(kind) is str and kind.endswith("_result"):
        return [_result(content)]
    if kind == "error":
        told = (content.get("error_code"), content.get("message"), content.get("error_details"))
        words = ": ".join(each for each in told if type(each) is str and each)
        return [{"type": "text", "text": f"[error: {words}]"}]
    if kind == "function_approval_request":
        return [{"type": "text", "text": f"[may this be called? {_called(content)}]"}]
    if kind == "function_approval_response":
        answer = "yes" if content.get("approved") is True else "no"
        return [{"type": "text", "text": f"[{answer}: {_called(content)}]"}]
    # What a command printed; and of what there may be in later versions, its text.
    printed = [content.get(key) for key in ("stdout", "stderr", "text")]
    texts = [each for each in printed if type(each) is str and each]
    return [{"type": "text", "text": "\n".join(texts)}] if texts else []


def _called(content: dict[str, Any]) -> str:
    call = content.get("function_call")
    if type(call) is not dict:
        return "a function"
    return f"{shown(call.get('name'))} {shown(call.get('arguments'))}".strip()


def _medium(content: dict[str, Any]) -> dict[str, Any]:
    uri, media_type = content.get("uri"), content.get("media_type")
    is_image = type(media_type) is str and media_type.startswith("image/")
    block: dict[str, Any] = {"type": "image" if is_image else "document"}
    if type(uri) is not str:
        block["source"] = {"type": "file", "file_id": shown(content.get("file_id"))}
        return block
    block["source"] = source_of(uri)
    return block


def _call(kind: str, content: dict[str, Any]) -> dict[str, Any]:
    name = content.get("name") or content.get("tool_name") or kind.removesuffix("_call")
    given: Any = content.get("arguments")
    if given is None:
        given = {key: content[key] for key in ("inputs", "commands", "actions") if key in content}
    if type(given) is not dict:
        read = _read(given) if type(given) is str else None
        given = {"input": given} if read is None else read
    called = shown(content.get("call_id"))
    return {"type": "tool_use", "id": called, "name": shown(name), "input": given}


def _read(arguments: str) -> dict[str, Any] | None:
    """Return the object that *arguments* spell, or ``None`` if they spell none to be stored."""
    if not arguments.strip():
        return {}
    # Deeper than this, arguments stay the text they are: a turn's content must end somewhere.
    if arguments.lstrip()[:1] != "{" or arguments.count("{") + arguments.count("[") > MAX_DEPTH:
        return None
    try:
        value = json.loads(arguments)
        compact(value).encode()  # which refuses NaN, infinity and half of a surrogate pair
    except ValueError:
        return None  # cut short
    return value if type(value) is dict else None


def _result(content: dict[str, Any]) -> dict[str, Any]:
    found: Any = content.get("result")
    for key in ("items", "output", "outputs", "screenshot"):
        value = content.get(key)
        # Of text alone ``result`` has it all.
        if value is not None and not (type(found) is str and _is_text(value)):
            found = value
            break
    if type(found) is dict:
        found = [found]
    if type(found) is list:
        found = [block for each in found for block in blocks_of(each)]
    elif type(found) is not str:
        found = shown(found)
    called = shown(content.get("call_id"))
    block = {"type": "tool_result", "tool_use_id": called, "content": found}
    if content.get("exception") is not None:
        block["is_error"] = True
    return block


def _is_text(items: Any) -> bool:
    return type(items) is list and all(
        type(each) is dict and each.get("type") == "text" for each in items
    )
