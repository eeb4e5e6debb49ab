"""Claude.ai: ``conversations.json`` of an export of one's data, or one conversation alone.

Anthropic does not document the export; what is known of it was inferred by Sinity/polylogue from
316 conversations (schemas/providers/claude-ai), and what the site itself answers has the same
shape. The other files of an export (projects, users, memories) hold no talk: not recognised.

- ``content[]`` says what a message says, and ``text`` where there is no text in it: it repeats it,
  with calls left out. ``text``, ``thinking``, ``tool_use`` and ``tool_result`` are blocks of the
  same name; calls without an id get one of the message's and their place, and a result without
  the id of its call is that of the last one before it.
- Attachments are documents with the text that was taken from them; files are documents that name
  theirs: its bytes are not in the export.
- ``meta.parent`` is ``parent_message_uuid``. Where messages branch, ``meta.active`` says whether
  one was in the shown thread when it was imported: what leads to ``current_leaf_message_uuid``, or
  to the newest message that nobody answered. Which one is by now follows from ``meta.leaf`` of the
  newest head (see ``documents.head_record``).
- Citations, flags, times within a message, summary and account stay in ``raw`` alone.
"""

from __future__ import annotations

from convmem.formats import documents
from convmem.formats.openings import opening_of
from convmem.formats.protocol import EVENT, Begin, Record
from convmem.formats.reading.samples import SAMPLE_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from convmem.formats.protocol import Kept
    from convmem.formats.reading.samples import Sample
    from convmem.formats.reading.sources import Source

NAME = "claude-ai"
TITLE = "Claude.ai export"
SUFFIX = ".json"
HAS_IDS = True
GROWS = False
SHARES = False

_WRAPPER = "conversations"
_MESSAGES = "chat_messages"
_ROLES = {"human": "user", "user": "user", "assistant": "assistant", "system": "system"}
# Blocks that say nothing by themselves.
_SILENT = frozenset(("token_budget", "flag"))


def recognises(sample: Sample) -> bool:
    """Whether the first conversation has ``chat_messages``."""
    if sample.first_byte not in (b"[", b"{"):
        return False
    opening = opening_of(sample.head, _WRAPPER)
    return _MESSAGES in opening.first | opening.names


def read(source: Source, memory: dict[str, Any]) -> Iterator[Begin | Record]:
    """Yield every conversation of *source*: its head, then its messages in their order."""
    opening = opening_of(source.head(SAMPLE_BYTES), _WRAPPER)
    if opening.is_list or _WRAPPER in opening.names:
        for raw, value in source.elements(_WRAPPER):
            yield from _conversation(raw, value)
    else:
        yield from _conversation(*source.document())


def native(kept: Iterable[Kept]) -> Iterator[bytes]:
    """Yield the conversation as one JSON object, as an export holds it in its array."""
    return documents.together(kept, _MESSAGES, "created_at", "updated_at")


def _conversation(raw: bytes, value: Any) -> Iterator[Begin | Record]:
    if not isinstance(value, dict):
        yield from documents.stranger(raw, value)
        return
    conversation_id = documents.usable_id(value.get("uuid")) or documents.unnamed(
        value.get("created_at"), value.get("name")
    )
    head, messages = documents.apart(value, conversation_id, _MESSAGES, "uuid", "created_at")
    ids = {turn_id for turn_id, _ in messages}
    parents = {
        turn_id: message["parent_message_uuid"]
        for turn_id, message in messages
        if isinstance(message, dict)
        and isinstance(message.get("parent_message_uuid"), str)
        and message["parent_message_uuid"] in ids
    }
    leaf = _leaf(value.get("current_leaf_message_uuid"), messages, parents)
    active = _active(leaf, messages, parents)
    yield Begin(conversation_id, last_ts=_time(value.get("updated_at")))
    yield documents.head_record(
        head,
        title=value.get("name"),
        ts=_time(value.get("created_at")),
        updated=value.get("updated_at"),
        leaf=leaf,
        is_known=isinstance(value.get(_MESSAGES), list),
    )
    for turn_id, message in messages:
        meta: dict[str, Any] = {}
        if turn_id in parents:
            meta["parent"] = parents[turn_id]
        if active is not None:
            meta["active"] = turn_id in active
        yield _turn(turn_id, message, meta)


def _leaf(current: object, messages: list[tuple[str, Any]], parents: dict[str, str]) -> str | None:
    """Return the id of the message that the shown thread ends in, where messages have parents."""
    if not parents:
        return None
    inner = set(parents.values())
    ends = {turn_id: message for turn_id, message in messages if turn_id not in inner}
    if isinstance(current, str) and any(turn_id == current for turn_id, _ in messages):
        return current
    newest, newest_time = None, ""
    for turn_id, message in ends.items() if ends else messages:
        time = message.get("created_at") if isinstance(message, dict) else None
        if newest is None or (isinstance(time, str) and time >= newest_time):
            newest, newest_time = turn_id, time if isinstance(time, str) else ""
    return newest


def _active(
    leaf: str | None, messages: list[tuple[str, Any]], parents: dict[str, str]
) -> set[str] | None:
    """Return the ids of what leads to *leaf*; ``None`` where there is one thread alone."""
    if leaf is None:
        return None
    found: set[str] = set()
    at: str | None = leaf
    while at is not None and at not in found:
        found.add(at)
        at = parents.get(at)
    return found if len(found) < len(messages) else None


def _turn(turn_id: str, message: Any, meta: dict[str, Any]) -> Record:
    raw = documents.as_raw(message)
    sender = message.get("sender") if isinstance(message, dict) else None
    role = _ROLES.get(sender) if isinstance(sender, str) else None
    if role is None:
        ts = _time(message.get("created_at")) if isinstance(message, dict) else None
        return Record(EVENT, "", raw, turn_id, ts, {**meta, "kind": "message"}, False)
    blocks: list[dict[str, Any]] = []
    is_known = True
    parts = message.get("content")
    for at, part in enumerate(parts if isinstance(parts, list) else ()):
        is_known = _add(part, f"{turn_id}-{at}", blocks) and is_known
    text = parts if isinstance(parts, str) else message.get("text")
    if isinstance(text, str) and text and not any(block["type"] == "text" for block in blocks):
        blocks.append({"type": "text", "text": text})
    blocks += _attached(message)
    content: Any = blocks
    if all(block["type"] == "text" for block in blocks):
        content = "\n".join(block["text"] for block in blocks)
    return Record(role, content, raw, turn_id, _time(message.get("created_at")), meta, is_known)


def _add(part: Any, made_id: str, blocks: list[dict[str, Any]]) -> bool:
    """Add what *part* of a message says to its *blocks*; say whether its kind is known."""
    if isinstance(part, str):
        blocks += [{"type": "text", "text": part}] if part else []
        return False
    if not isinstance(part, dict):
        return False
    kind = part.get("type")
    if kind == "tool_use":
        given = part.get("input")
        if documents.is_deep(given):
            given = {"text": str(documents.as_json(given), "utf-8")}
        name = part.get("name")
        blocks.append(
            {
                "type": "tool_use",
                "id": _text(part, "id") or made_id,
                "name": name if isinstance(name, str) else "",
                "input": given if isinstance(given, dict) else {},
            }
        )
        if given and not isinstance(given, dict):
            blocks[-1]["input"] = {"text": given}
        return True
    if kind == "tool_result":
        calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        result: dict[str, Any] = {
            "type": "tool_result",
            "tool_use_id": _text(part, "tool_use_id") or (calls[-1] if calls else ""),
            "content": _answer(part.get("content")),
        }
        if part.get("is_error") is True:
            result["is_error"] = True
        blocks.append(result)
        return True
    if isinstance(kind, str) and kind in _SILENT:
        return True
    # Thoughts, text, and kinds that nobody knows yet: whatever of both there is.
    thinking, text = _text(part, "thinking"), _text(part, "text")
    if thinking:
        blocks.append({"type": "thinking", "thinking": thinking})
    if text:
        blocks.append({"type": "text", "text": text})
    return kind in ("text", "thinking")


def _answer(content: Any) -> str | list[dict[str, Any]]:
    """Return what a tool has answered, as blocks; each text with its title and its address."""
    if isinstance(content, str):
        return content
    blocks: list[dict[str, Any]] = []
    for part in content if isinstance(content, list) else ():
        if isinstance(part, str):
            blocks.append({"type": "text", "text": part})
        if not isinstance(part, dict):
            continue
        file_id = _text(part, "file_uuid")
        source = part.get("source")
        if (
            part.get("type") == "image"
            and isinstance(source, dict)
            and not documents.is_deep(source)
        ):
            blocks.append({"type": "image", "source": source})
        elif part.get("type") == "image" and file_id:
            blocks.append({"type": "image", "source": {"type": "file", "file_id": file_id}})
        texts = [_text(part, name) for name in ("title", "url", "text", "content")]
        if any(texts):
            blocks.append({"type": "text", "text": "\n".join(filter(None, texts))})
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        return str(blocks[0]["text"])
    return blocks


def _attached(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    named = set()  # what a message says of a file under one name, it may say under another again
    for name in ("attachments", "files", "files_v2"):
        files = message.get(name)
        for file in files if isinstance(files, list) else ():
            own = _text(file, "file_uuid") if isinstance(file, dict) else ""
            if isinstance(file, dict) and not (own and own in named):
                named.add(own)
                yield from _file(file)


def _file(file: dict[str, Any]) -> Iterator[dict[str, Any]]:
    title, text = _text(file, "file_name"), _text(file, "extracted_content")
    place = _text(file, "file_uuid") or title or _text(file, "id")
    if text:
        source = {"type": "text", "media_type": "text/plain", "data": text}
    elif place:
        source = {"type": "file", "file_id": place}
    else:
        return
    block: dict[str, Any] = {"type": "document", "source": source}
    if title:
        block["title"] = title
    yield block


def _text(value: dict[str, Any], key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else ""


def _time(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
