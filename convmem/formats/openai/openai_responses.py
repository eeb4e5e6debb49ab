"""OpenAI Responses: the items that the Responses API takes and gives.

Read are items one a line or in an array, lists of items (``{"object": "list", "data": […]}``)
and whole responses (``{"object": "response", "output": […]}``, whose id is the conversation's),
one a line or alone in a file. Items are mapped by ``response_items``; a call that a server has
answered itself (code interpreter, MCP, file search) holds the result too, and a program is a call.
Items that neither speak nor call (lists of tools, approvals, compaction, settings, reasoning that
is encrypted) are events. ``meta.kind`` is the item's type, or ``developer``.

From OpenAI's API reference ("Responses", "Conversations") and the types of its Python library,
openai 3.54: ``ResponseItem`` and ``ResponseInputItem``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convmem.formats.openai.arrays import as_array_or_lines, read_apart
from convmem.formats.openai.beginnings import beginning
from convmem.formats.openai.response_items import said_by
from convmem.formats.protocol import EVENT, Begin, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convmem.formats.protocol import Kept
    from convmem.formats.reading.samples import Sample
    from convmem.formats.reading.sources import Source

NAME = "openai-responses"
TITLE = "OpenAI Responses items"
SUFFIX = ".jsonl"
HAS_IDS = False
GROWS = False
SHARES = False

_SPEAKING = frozenset(
    "message reasoning function_call function_call_output custom_tool_call custom_tool_call_output"
    " web_search_call file_search_call tool_search_call tool_search_output computer_call"
    " computer_call_output code_interpreter_call image_generation_call mcp_call local_shell_call"
    " local_shell_call_output shell_call shell_call_output apply_patch_call apply_patch_call_output"
    " program program_output".split()
)
# Kinds that say nothing: kept, and not shown.
_SILENT = frozenset(
    "additional_tools compaction compaction_trigger configuration_update item_reference"
    " mcp_approval_request mcp_approval_response mcp_list_tools".split()
)
KINDS = _SPEAKING | _SILENT
# What servers say of calls that they answered themselves.
_ANSWERS = ("output", "outputs", "results", "error")
# A line with one of these is somebody else's: Codex's, Claude Code's, convmem's.
_NOT_OURS = frozenset(
    "payload record_type sessionId uuid continuation_id seq timestamp messages".split()
)


def recognises(sample: Sample) -> bool:
    """Whether what *sample* begins with is items, responses or a list of items."""
    values = beginning(sample).values
    known = 0
    for value in values:
        if not isinstance(value, dict) or not _NOT_OURS.isdisjoint(value):
            return False
        items = _items(value)
        if items is not None:
            known += value.get("object") == "response" or any(map(_is_item, items))
        else:
            known += _is_item(value)
    # A message may come without its type; something must tell it from one of Chat Completions.
    return known * 2 > len(values) and any(map(_is_telling, values))


def read(source: Source, memory: dict[str, Any]) -> Iterator[Begin | Record]:
    """Yield the items of *source*; those of a response or a list lie in that, the head's record."""
    return read_apart(source, _whole, _is_item, record_of)


def native(kept: Iterable[Kept]) -> Iterator[bytes]:
    """Yield the lines of one conversation as they were, or the array that its items were."""
    return as_array_or_lines(kept)


def _whole(raw: bytes, value: Any) -> Iterator[Begin | Record] | None:
    """Return what *value* says if it is a response or a list of items."""
    items = _items(value)
    return None if items is None else _response(raw, value, items)


def record_of(item: Any, raw: bytes | None) -> Record:
    """Return what one *item* says. Never raises."""
    if not isinstance(item, dict):
        return Record(EVENT, "", raw, None, None, {"kind": "unknown"}, is_known=False)
    kind, id = item.get("type"), item.get("id")
    id = id if isinstance(id, str) and id else None
    if kind is None and "role" in item and "content" in item:
        item = {**item, "type": "message"}
        kind = "message"
    kind = kind if isinstance(kind, str) else "unknown"
    is_known = kind in KINDS
    said = None if kind in _SILENT else _said(kind, item)
    if said is None:
        if kind == "message":
            is_known = False  # by somebody whom nobody knows
        return Record(EVENT, "", raw, id, None, {"kind": kind}, is_known)
    role, content = said
    meta = {"kind": kind}
    if kind == "message":
        meta = {"kind": "developer"} if item["role"] == "developer" else {}
    return Record(role, content, raw, id, None, meta, is_known)


def _said(kind: str, item: dict[str, Any]) -> tuple[str, Any] | None:
    if kind in ("program", "program_output"):
        is_call = kind == "program"
        item = {**item, "type": "program_call" if is_call else kind, "name": kind}
        if not is_call:
            item["output"] = item.get("result")
    said = said_by(item)
    if said is not None and kind.endswith("_call"):
        said[1].extend(_answers(item))
    return said


def _answers(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the results that a call's own item holds."""
    for key in _ANSWERS:
        if not item.get(key):
            continue
        answer = {
            "type": "function_call_output",
            "call_id": item.get("call_id") or item.get("id"),
            "output": item[key],
        }
        if isinstance(item[key], list):
            answer["output"] = [_part(part) for part in item[key]]
        made = said_by(answer)
        if made is not None:
            if key == "error":
                made[1][0]["is_error"] = True
            yield from made[1]


def _part(part: Any) -> Any:
    """Return a part of such a result as one of a message's content."""
    if isinstance(part, dict):
        if isinstance(part.get("logs"), str):
            return {"type": "text", "text": part["logs"]}
        if part.get("type") == "image" and isinstance(part.get("url"), str):
            return {"type": "input_image", "image_url": part["url"]}
    return part


def _response(raw: bytes, value: dict[str, Any], items: list[Any]) -> Iterator[Begin | Record]:
    id, when, model = value.get("id"), value.get("created_at"), value.get("model")
    is_response = value.get("object") == "response"
    ts = when if isinstance(when, int | float) and not isinstance(when, bool) else None
    yield Begin(id if is_response and isinstance(id, str) and id else None, last_ts=ts)
    meta: dict[str, Any] = {"kind": "response" if is_response else "list"}
    yield Record(EVENT, "", raw, "head" if is_response else None, ts, meta)
    for item in items:
        record = record_of(item, None)
        record.ts = ts
        if isinstance(model, str) and record.role == "assistant":
            record.meta["model"] = model
        yield record


def _items(value: Any) -> list[Any] | None:
    """Return the items of a response or of a list of items; ``None`` for anything else."""
    if not isinstance(value, dict):
        return None
    kind = value.get("object")
    items = value.get("output" if kind == "response" else "data")
    return items if kind in ("response", "list") and isinstance(items, list) else None


def _is_item(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    kind = value.get("type")
    if kind in (None, "message"):
        # Of an item, not of a message in some other envelope.
        return isinstance(value.get("role"), str) and "content" in value
    return isinstance(kind, str) and kind in KINDS


def _is_telling(value: dict[str, Any]) -> bool:
    items = _items(value)
    if items is not None:
        return value.get("object") == "response" or any(
            "type" in item for item in items if isinstance(item, dict)
        )
    kind = value.get("type")
    return isinstance(kind, str) and kind in KINDS
