"""What the rows of llm's database say, as blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convmem import jsontext
from convmem.formats.llm.llm_tables import as_key
from convmem.formats.openai.openai_parts import input_of, text_in

if TYPE_CHECKING:
    from convmem.formats.llm.llm_tables import Row, Rows


def blocks_of_part(rows: Rows, part: Row) -> list[dict[str, Any]]:
    """Return what one part of a message says."""
    payload = _object(part.get("payload"))
    kind = part.get("type")
    if kind in ("text", "reasoning"):
        text = part["text"] if "text" in part else _resolved(rows, payload)
        if kind == "text":
            return [text_block(text_in(text))]
        return [{"type": "thinking", "thinking": text_in(text)}] if text else []
    if kind == "tool_call":
        call = (payload.get("tool_call_id"), payload.get("name"), payload.get("arguments"))
        return [call_of(*call)]
    if kind == "tool_result":
        return [
            result_of(rows, payload, attached(rows, "part_attachments", "part_id", part.get("id")))
        ]
    if kind == "attachment":
        found = attached(rows, "part_attachments", "part_id", part.get("id"))
        return found or [text_block(text_in(payload))]
    return [text_block(text_in(part.get("text", part.get("payload"))))]


def _resolved(rows: Rows, payload: Row) -> str:
    """Return a text that stands as pieces: some of its own, some of fragments."""
    pieces = payload.get("text_ref")
    if not isinstance(pieces, list):
        return text_in(payload.get("text"))
    fragments = {
        as_key(row.get("id")): text_in(row.get("content")) for row in rows.get("fragments", ())
    }
    said = []
    for piece in pieces:
        if isinstance(piece, dict):
            literal = piece.get("literal")
            said.append(
                text_in(literal)
                if "literal" in piece
                else fragments.get(as_key(piece.get("fragment")), "")
            )
    return "".join(said)


def result_of(rows: Rows, row: Row, sent: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return a tool's result, with the attachments that it sent along."""
    if sent is None:
        sent = attached(rows, "tool_results_attachments", "tool_result_id", row.get("id"))
    output, fault = text_in(row.get("output")), text_in(row.get("exception"))
    said = [text_block(text) for text in (output, fault if fault not in output else "") if text]
    block = {
        "type": "tool_result",
        "tool_use_id": text_in(row.get("tool_call_id")),
        "content": content_of(said + sent),
    }
    if fault:
        block["is_error"] = True
    return block


def call_of(id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """Return a call as a block."""
    given = {"input": {}} if arguments is None else {"input": input_of(arguments)["input"]}
    return {"type": "tool_use", "id": text_in(id), "name": text_in(name), **given}


def attached(rows: Rows, table: str, column: str, value: Any) -> list[dict[str, Any]]:
    """Return the attachments that *table* links with *value*, in their order."""
    known = {as_key(row.get("id")): row for row in rows.get("attachments", ())}
    links = [row for row in rows.get(table, ()) if row.get(column) == value]
    links.sort(key=lambda row: row["order"] if isinstance(row.get("order"), int) else 0)
    return [
        _attachment(known[id]) for row in links if (id := as_key(row.get("attachment_id"))) in known
    ]


def _attachment(row: Row) -> dict[str, Any]:
    media_type, content = text_in(row.get("type")), row.get("content")
    block: dict[str, Any] = {"type": "image" if media_type.startswith("image/") else "document"}
    if isinstance(content, dict) and "base64" in content:
        source = {"type": "base64", "media_type": media_type, "data": content["base64"]}
    else:
        path, url = text_in(row.get("path")), text_in(row.get("url"))
        source = {"type": "url", "url": url or (f"file://{path}" if path[:1] == "/" else path)}
    return {**block, "source": source}


def fragments_of(rows: Rows, table: str) -> list[str]:
    """Return the fragments that *table* links, in their order."""
    known = {
        as_key(row.get("id")): text_in(row.get("content")) for row in rows.get("fragments", ())
    }
    links = sorted(
        rows.get(table, ()),
        key=lambda row: row["order"] if isinstance(row.get("order"), int) else 0,
    )
    return [known[id] for row in links if (id := as_key(row.get("fragment_id"))) in known]


def content_of(blocks: list[dict[str, Any]]) -> Any:
    """Return text alone as text."""
    if not blocks:
        return ""
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        return blocks[0]["text"]
    return blocks


def text_block(text: str) -> dict[str, Any]:
    """Return *text* as a block."""
    return {"type": "text", "text": text}


def _object(value: Any) -> Row:
    try:
        parsed = jsontext.loads(value.encode()) if isinstance(value, str) else None
    except ValueError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {}
