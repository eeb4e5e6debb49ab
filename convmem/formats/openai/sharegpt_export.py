"""Conversations as ShareGPT: ``{"id", "conversations": [{"from", "value"}]}``, one object each.

Turns are text: calls and results stand in it as ``<tool_call>`` and ``<tool_response>`` with
their JSON, pictures and files as ``<image>`` and ``<file>``. Left out are events, and what a model
thought. What came from ShareGPT goes out as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convmem import jsontext
from convmem.formats.openai import sharegpt
from convmem.formats.openai.openai_parts import text_in
from convmem.formats.protocol import EVENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convmem.formats.heads import Head
    from convmem.turns import Turn

_PLACES = {"image": "<image>", "document": "<file>"}
_BETWEEN = "\n\n"


def write(head: Head, turns: Iterable[Turn]) -> Iterator[bytes]:
    """Yield the one object of a conversation, turn by turn, with no newline at its end."""
    yield b'{"id":%b,"conversations":[' % jsontext.dumps(head.continuation_id)
    before = b""
    for turn in turns:
        message = message_of(turn)
        if message is not None:
            yield before + jsontext.dumps(message)
            before = b","
    yield b"]}"


def chain_items(turns: Iterable[Turn]) -> Iterator[tuple[str, Any]]:
    """Yield role and content of every record that reading what ``write`` writes would give."""
    yield EVENT, ""  # the head
    for turn in turns:
        message = message_of(turn)
        if message is not None:
            record = sharegpt.record_of(message, None)
            yield record.role, record.content


def message_of(turn: Turn) -> dict[str, Any] | None:
    """Return *turn* as ShareGPT has it; ``None`` for one that says nothing there."""
    meta = turn.meta or {}
    if meta.get("source") == sharegpt.NAME and (own := _own(turn, meta)) is not None:
        return own
    if turn.role == EVENT:
        return None
    text = _text(turn.content)
    if text is None:
        return None
    name = sharegpt.NAMES.get(turn.role, "human")
    if turn.role == "user" and _is_answer(turn.content):
        name = "tool"
    return {"from": name, "value": text}


def _own(turn: Turn, meta: dict[str, Any]) -> dict[str, Any] | None:
    kind, fields = meta.get("kind"), meta.get("fields")
    name = sharegpt.NAMES.get(turn.role) if kind is None else kind
    if not isinstance(name, str) or (turn.role == EVENT and kind in (None, "conversation")):
        return None
    if turn.role == EVENT and kind == "unknown":
        return None
    message: dict[str, Any] = {"from": name, "value": turn.content}
    if isinstance(fields, dict):
        message.update(fields)
    return message


def _text(content: Any) -> str | None:
    """Return what is said as text; ``None`` where nothing is but thoughts."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else [content]
    said = [text for block in blocks if (text := _block(block)) is not None]
    return _BETWEEN.join(said) if said else None


def _block(block: Any) -> str | None:
    if not isinstance(block, dict):
        return text_in(block)
    kind = block.get("type")
    if kind in ("thinking", "redacted_thinking"):
        return None
    if kind == "text" and isinstance(block.get("text"), str):
        return str(block["text"])
    if kind == "tool_use":
        call = {"name": block.get("name"), "arguments": block.get("input")}
        return f"<tool_call>\n{text_in(call)}\n</tool_call>"
    if kind == "tool_result":
        return f"<tool_response>\n{_text(block.get('content')) or ''}\n</tool_response>"
    return _PLACES.get(kind if isinstance(kind, str) else "") or text_in(block)


def _is_answer(content: Any) -> bool:
    """Whether a user's turn is nothing but results, as Anthropic's API has them."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(block, dict) and block.get("type") == "tool_result" for block in content)
    )
