"""Items of OpenAI's Responses API as turns: who said them, and what.

What users are told of it: a message is what its role says (``developer`` is ``system``), its
parts text or image blocks; reasoning is a thinking block of its summaries, or of its content
where that is told; a call, of whatever kind, is a ``tool_use`` block of the assistant, whose
``input`` is the object that its arguments spell, or ``{"input": text}``; an output is a
``tool_result`` block. From the API's reference, "The response object", and openai/codex
(codex-rs/protocol/src/models.rs).
"""

from __future__ import annotations

from convmem import jsontext
from convmem.formats.openai.openai_parts import source_of, text_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_TEXTS = frozenset(("input_text", "output_text", "text", "summary_text", "reasoning_text"))

# The types of items that are known; what is none of them may still be a call or its output.
ITEMS = frozenset(
    "message reasoning function_call function_call_output custom_tool_call "
    "custom_tool_call_output local_shell_call local_shell_call_output shell_call "
    "shell_call_output apply_patch_call apply_patch_call_output web_search_call "
    "file_search_call computer_call computer_call_output code_interpreter_call "
    "image_generation_call mcp_call mcp_list_tools mcp_approval_request mcp_approval_response "
    "tool_search_call tool_search_output agent_message additional_tools compaction "
    "compaction_summary compaction_trigger context_compaction ghost_snapshot item_reference "
    "token_count other".split()
)


def said_by(item: dict[str, Any]) -> tuple[str, Any] | None:
    """Return the role and the content of what *item* says; ``None`` where it says nothing.

    What an import and an adapter make of an item is one thing: public, also for other floors.
    Content holds what was said as it is, but for arguments, which are parsed where they spell an
    object that a turn can hold.

    >>> said_by({"content": "And by train?", "role": "user"})
    ('user', 'And by train?')
    """
    kind = item.get("type", "message")  # which a message may leave out
    if type(kind) is not str:
        return None
    if kind == "message":
        role = item.get("role")
        if type(role) is not str or role not in _ROLES or item.get("content") is None:
            return None
        return _ROLES[role], _content(item["content"])
    if kind == "reasoning":
        thought = _thought(item)
        return ("assistant", [{"type": "thinking", "thinking": thought}]) if thought else None
    if kind.endswith("_output"):
        return "tool", [_result(item)]
    if kind.endswith("_call"):
        return "assistant", _call(kind, item)
    return None


def _content(content: Any) -> Any:
    """Return a message's content: text alone as text, else blocks."""
    if type(content) is not list:
        return text_in(content)
    blocks = [_block(part) for part in content]
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        return blocks[0]["text"]
    return blocks


def _block(part: Any) -> dict[str, Any]:
    if type(part) is not dict:
        return {"type": "text", "text": text_in(part)}
    kind = part.get("type")
    text = part.get("refusal") if kind == "refusal" else part.get("text")
    if type(text) is str and type(kind) is str and (kind in _TEXTS or kind == "refusal"):
        return {"type": "text", "text": text}
    if kind in ("input_image", "computer_screenshot", "input_file"):
        made = _medium(part)
        if made is not None:
            return made
    return {"type": "text", "text": text_in(part)}


def _medium(part: dict[str, Any]) -> dict[str, Any] | None:
    is_file = part.get("type") == "input_file"
    block: dict[str, Any] = {"type": "document" if is_file else "image"}
    for key in ("file_data", "file_url") if is_file else ("image_url",):
        place = part.get(key)
        if type(place) is dict:
            place = place.get("url")
        if type(place) is str and place:
            block["source"] = source_of(place)
            break
    else:
        file_id = part.get("file_id")
        if type(file_id) is not str:
            return None
        block["source"] = {"type": "file", "file_id": file_id}
    if type(part.get("filename")) is str:
        block["title"] = part["filename"]
    return block


def _thought(item: dict[str, Any]) -> str:
    for key in ("summary", "content"):
        parts = item.get(key)
        if type(parts) is list and parts:
            texts = [_text_of(part) for part in parts]
            if any(texts):
                return "\n\n".join(texts)
    return ""


def _text_of(part: Any) -> str:
    text = part.get("text") if type(part) is dict else part
    return text if type(text) is str else text_in(part)


def _call(kind: str, item: dict[str, Any]) -> list[dict[str, Any]]:
    called = item.get("call_id") or item.get("id")
    name = item.get("name")
    if type(name) is not str or not name:
        name = kind.removesuffix("_call")
    blocks: list[dict[str, Any]] = [
        {
            "type": "tool_use",
            "id": called if type(called) is str else "",
            "name": name,
            "input": _given(item),
        }
    ]
    picture = item.get("result")
    if kind == "image_generation_call" and type(picture) is str and picture:
        media_type = f"image/{item.get('output_format') or 'png'}"
        source = {"type": "base64", "media_type": media_type, "data": picture}
        blocks.append({"type": "image", "source": source})
    return blocks


# What a call may have beside its arguments, where nothing says which key holds them.
_NOT_GIVEN = frozenset("type id call_id name status result output outputs error results".split())
# Arguments that are nested deeper stay the text they are: a turn's content must end somewhere.
_MAX_DEPTH = 200


def _given(item: dict[str, Any]) -> dict[str, Any]:
    for key in ("arguments", "input", "action"):
        if key in item:
            given = item[key]
            break
    else:
        return {key: item[key] for key in item if key not in _NOT_GIVEN}
    if type(given) is dict:
        return given
    if type(given) is str and given.lstrip()[:1] == "{":
        try:
            value = jsontext.loads(given.encode())
        except (ValueError, RecursionError):
            pass  # a program, or cut short
        else:
            if type(value) is dict and _is_shallow(value):
                return value
    return {"input": given}


def _is_shallow(value: Any) -> bool:
    """Whether *value* is nested no deeper than what a turn can hold, whoever encodes it."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        inner: list[Any] = []
        for each in level:
            inner.extend(each.values() if type(each) is dict else each)
        level = [each for each in inner if type(each) in (dict, list)]
        if not level:
            return True
    return False


def _result(item: dict[str, Any]) -> dict[str, Any]:
    called = item.get("call_id") or item.get("id")
    output = item.get("output")
    if output is None:
        output = {key: item[key] for key in item if key not in _NOT_GIVEN} or None
    has_failed = item.get("success") is False
    if type(output) is dict and "type" not in output:
        # How some versions wrote it, with whether it went well beside it.
        has_failed = has_failed or output.get("success") is False
        for key in ("content", "output"):
            if type(output.get(key)) is str and output.keys() <= {key, "success"}:
                output = output[key]
                break
    block: dict[str, Any] = {
        "type": "tool_result",
        "tool_use_id": called if type(called) is str else "",
        "content": [_block(part) for part in (output if type(output) is list else [output])]
        if type(output) in (list, dict)
        else text_in(output),
    }
    if has_failed:
        block["is_error"] = True
    return block
