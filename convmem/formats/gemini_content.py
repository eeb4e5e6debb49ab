"""What a message of Gemini CLI says, as blocks: the parts of the Gemini API, thoughts and calls."""

from __future__ import annotations

from convmem.formats.documents import as_json, is_deep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_FAILED = ("error", "cancelled")


def blocks_of(message: dict[str, Any], message_id: str) -> list[dict[str, Any]]:
    """Return what *message* says: its thoughts, its parts, its calls and what they answered.

    A call that stands in the parts too is there once.
    """
    blocks = list(_thoughts(message.get("thoughts")))
    blocks += parts_of(message.get("content"), message_id)
    called = {block["id"] for block in blocks if block["type"] == "tool_use"}
    calls = message.get("toolCalls")
    for at, call in enumerate(calls if isinstance(calls, list) else ()):
        if not isinstance(call, dict):
            continue
        call_id = _text(call, "id") or f"{message_id}-{at}"
        if call_id not in called:
            blocks.append(_call(call_id, _text(call, "name"), call.get("args")))
        result = call.get("result")
        shown = call.get("resultDisplay")
        if result is None and isinstance(shown, str):
            result = shown
        if result is not None:
            blocks.append(_result(call_id, _answer(result), call.get("status") in _FAILED))
    return blocks


def parts_of(content: Any, message_id: str) -> Iterator[dict[str, Any]]:
    """Yield *content*, text or one part or a list of both, as blocks."""
    for at, part in enumerate(content if isinstance(content, list) else [content]):
        if isinstance(part, str):
            if part:
                yield {"type": "text", "text": part}
        elif isinstance(part, dict):
            yield from _part(part, f"{message_id}-part-{at}")


def _part(part: dict[str, Any], made_id: str) -> Iterator[dict[str, Any]]:
    text = _text(part, "text")
    if text:
        if part.get("thought") is True:
            yield {"type": "thinking", "thinking": text}
        else:
            yield {"type": "text", "text": text}
    data, file = _object(part, "inlineData"), _object(part, "fileData")
    for place, kind, key in ((data, "base64", "data"), (file, "url", "fileUri")):
        if _text(place, key):
            yield _medium(place, kind, key)
    call, answer = _object(part, "functionCall"), _object(part, "functionResponse")
    if call:
        yield _call(_text(call, "id") or made_id, _text(call, "name"), call.get("args"))
    if answer:
        yield _result(_text(answer, "id"), _said(answer), False)
    code, output = _object(part, "executableCode"), _object(part, "codeExecutionResult")
    if _text(code, "code"):
        yield {"type": "text", "text": _text(code, "code")}
    if _text(output, "output"):
        yield {"type": "text", "text": _text(output, "output")}


def _medium(place: dict[str, Any], kind: str, key: str) -> dict[str, Any]:
    media_type = _text(place, "mimeType")
    source = {"type": kind, "url" if kind == "url" else "data": place[key]}
    if kind == "base64":
        source = {"type": kind, "media_type": media_type, "data": place[key]}
    block: dict[str, Any] = {
        "type": "image" if media_type.startswith("image/") else "document",
        "source": source,
    }
    if _text(place, "displayName") and block["type"] == "document":
        block["title"] = place["displayName"]
    return block


def _thoughts(thoughts: Any) -> Iterator[dict[str, Any]]:
    for thought in thoughts if isinstance(thoughts, list) else ():
        texts = [thought] if isinstance(thought, str) else []
        if isinstance(thought, dict):
            texts = [_text(thought, "subject"), _text(thought, "description")]
        if any(texts):
            yield {"type": "thinking", "thinking": "\n".join(filter(None, texts))}


def _call(call_id: str, name: str, given: Any) -> dict[str, Any]:
    if is_deep(given):
        given = {"text": str(as_json(given), "utf-8")}
    elif given is not None and not isinstance(given, dict):
        given = {"text": given}
    return {"type": "tool_use", "id": call_id, "name": name, "input": given or {}}


def _result(call_id: str, answer: Any, has_failed: bool) -> dict[str, Any]:
    result = {"type": "tool_result", "tool_use_id": call_id, "content": answer}
    if has_failed:
        result["is_error"] = True
    return result


def _answer(result: Any) -> str | list[dict[str, Any]]:
    """Return the parts of an answer: text alone as a string."""
    blocks: list[dict[str, Any]] = []
    for part in result if isinstance(result, list) else [result]:
        answer = _object(part, "functionResponse") if isinstance(part, dict) else {}
        if answer:
            said = _said(answer)
            blocks += [{"type": "text", "text": said}] if said else []
        else:
            blocks += parts_of([part], "")
    if all(block["type"] == "text" for block in blocks):
        return "\n".join(block["text"] for block in blocks)
    return blocks


def _said(answer: dict[str, Any]) -> str:
    """Return what a function has responded: its output or its error, else all of it as JSON."""
    response = answer.get("response")
    if isinstance(response, str):
        return response
    if isinstance(response, dict):
        for key in ("output", "error"):
            if isinstance(response.get(key), str) and len(response) == 1:
                return str(response[key])
    return "" if response is None else str(as_json(response), "utf-8")


def _object(value: dict[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _text(value: dict[str, Any], key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else ""
