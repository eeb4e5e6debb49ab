"""What a turn says, part by part: text, thoughts, tool calls and results, pictures, other JSON.

Knows the shapes that `convmem.tools` names; what it does not know stays JSON. Pure.
"""

from __future__ import annotations

from convmem import jsontext
from convmem.quantities import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from convmem.turns import Turn

TEXT = "text"  # Markdown, perhaps
RAW = "raw"  # text of a program: shown as it stands
THOUGHT = "thought"
CALL = "call"  # label: the tool's name; value: its arguments
RESULT = "result"  # label: what is known of it; what it says comes in parts of its own
NOTE = "note"  # label: something that is not text
JSON = "json"

_RAW_ROLES = frozenset(("tool", "function", "tool_result"))
_TEXT_KINDS = frozenset(
    ("text", "input_text", "output_text", "user-prompt", "system-prompt", "summary_text")
)
_THOUGHT_KINDS = frozenset(("thinking", "reasoning"))
_CALL_KINDS = frozenset(
    "tool_use server_tool_use mcp_tool_use tool_call tool-call function function_call "
    "custom_tool_call mcp_call".split()
)
_RESULT_KINDS = frozenset(
    "tool_result mcp_tool_result tool-return tool-result function_result "
    "function_call_output custom_tool_call_output".split()
)
_MEDIA = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "audio": "audio",
    "input_audio": "audio",
    "video": "video",
    "document": "document",
    "file": "file",
    "input_file": "file",
}
_NAMES = ("media_type", "mime_type", "mimeType", "format", "filename", "name", "title")
_DEPTH = 3  # results in results; what lies deeper is JSON


class Part:
    """One thing that a turn says. *value* is text, but for calls and JSON: any JSON value."""

    __slots__ = ("kind", "label", "value")

    def __init__(self, kind: str, value: Any = "", label: str = "") -> None:
        self.kind = kind
        self.value = value
        self.label = label


def parts_of(turn: Turn) -> Iterator[Part]:
    """Yield what *turn* says, in its order; of what is no text, as much as helps to read it."""
    text = RAW if turn.role in _RAW_ROLES else TEXT
    calls = _listed_calls(turn)
    if turn.content is not None or not calls:
        yield from _parts(turn.content, text, _DEPTH)
    for call in calls:
        yield _call(call) if isinstance(call, dict) else Part(JSON, call)


def _listed_calls(turn: Turn) -> list[Any]:
    """Return the calls that stand beside the content, as in OpenAI's messages."""
    for place in (turn.extra, turn.meta or {}):
        for name, made in (("tool_calls", list), ("function_call", dict)):
            found = place.get(name)
            if isinstance(found, made) and found:
                return found if isinstance(found, list) else [found]
    return []


def _parts(value: Any, text: str, depth: int) -> Iterator[Part]:
    if isinstance(value, str):
        yield Part(text, value)
    elif isinstance(value, list) and depth > 0:
        for each in value:
            yield from _parts(each, text, depth - 1)
    elif isinstance(value, dict):
        yield from _parts_of_object(value, text, depth)
    else:
        yield Part(JSON, value)


def _parts_of_object(part: dict[str, Any], text: str, depth: int) -> Iterator[Part]:
    kind = part.get("type") or part.get("part_kind") or part.get("kind") or ""
    if not isinstance(kind, str):
        kind = ""
    if not kind and len(part) == 1:  # {"toolUse": {…}}, {"text": "…"}
        ((key, inner),) = part.items()
        if key == "text" and isinstance(inner, str):
            yield Part(text, inner)
            return
        bare = _BARE.get(key)
        if bare is not None and isinstance(inner, dict):
            kind, part = bare, inner
    written = part.get("text")
    if not isinstance(written, str):
        written = part.get("content")
    if kind in _TEXT_KINDS and isinstance(written, str):
        yield Part(text, written)
    elif kind in _TEXT_KINDS and isinstance(written, list) and depth > 0:
        yield from _parts(written, text, depth - 1)
    elif kind in _THOUGHT_KINDS and isinstance(part.get("thinking", written), str):
        yield Part(THOUGHT, part.get("thinking", written))
    elif kind in _CALL_KINDS:
        yield _call(part)
    elif kind in _RESULT_KINDS and depth > 0:
        yield from _result(part, depth)
    elif (name := _MEDIA.get(kind)) is not None:
        yield Part(NOTE, label=_medium(name, part))
    else:
        yield Part(JSON, part)


_BARE = {
    "toolUse": "tool_use",
    "toolResult": "tool_result",
    "functionCall": "function_call",
    "function_call": "function_call",
    "functionResponse": "function_result",
    "function_response": "function_result",
    "inlineData": "image",
    "inline_data": "image",
    "image": "image",
}


def _call(part: dict[str, Any]) -> Part:
    inner = part.get("function")
    if isinstance(inner, dict):
        part = inner
    name = part.get("name") or part.get("tool_name") or "?"
    given: Any = None
    for key in ("input", "arguments", "args", "parameters"):
        if part.get(key) is not None:
            given = part[key]
            break
    if isinstance(given, str) and given.lstrip()[:1] == "{":
        try:
            given = jsontext.loads(given.encode())
        except (ValueError, RecursionError):
            pass  # cut short, or no JSON at all: shown as the text that it is
    return Part(CALL, given, label=str(name))


def _result(part: dict[str, Any], depth: int) -> Iterator[Part]:
    name = part.get("tool_name") or part.get("name") or ""
    failed = part.get("is_error") is True or part.get("status") == "error"
    label = str(name) + (" failed" if failed else "")
    yield Part(RESULT, label=label.strip())
    for key in ("content", "output", "result", "response"):
        if part.get(key) is not None:
            yield from _parts(part[key], RAW, depth - 1)
            return
    yield Part(JSON, part)


def _medium(name: str, part: dict[str, Any]) -> str:
    """Return what is known of a picture, a recording or a file, but not itself."""
    found: list[str] = []
    for place in (part, *(each for each in part.values() if isinstance(each, dict))):
        found += (place[key] for key in _NAMES if isinstance(place.get(key), str))
        for key in ("url", "image_url", "file_id", "data", "bytes", "file_data"):
            if isinstance(place.get(key), str):
                is_text = place.get("type") == "text"
                found.append(_place(key, place[key], is_text=is_text))
    known = ", ".join(dict.fromkeys(found))
    return f"{name}: {known}" if known else name


def _place(key: str, text: str, *, is_text: bool) -> str:
    if key in ("data", "bytes", "file_data", "url", "image_url") and text.startswith("data:"):
        head, _, text = text.partition(",")
        return f"{head[5:].partition(';')[0]}, {format_size(len(text) * 3 // 4)}"
    if key in ("data", "bytes", "file_data"):
        return format_size(len(text) if is_text else len(text) * 3 // 4)
    return text if len(text) <= 200 else f"{text[:200]}…"
