"""Gemini CLI: ``~/.gemini/tmp/<project>/chats/session-….jsonl``, or ``.json`` before March 2026.

Its own sources say what it writes (google-gemini/gemini-cli, packages/core/src/services:
chatRecordingTypes.ts, chatRecordingService.ts). A session was one JSON document, written anew each
time; since then it is a line for the session, then one for each message, change and rewind.

- ``user`` is the user; a message of function responses alone is ``tool``. ``gemini`` is the
  assistant: thoughts, text, then each call with what it answered, all in one turn as in the source.
- ``info``, ``error`` and ``warning`` are events with one short line, and so are the other lines:
  ``header``; ``set``, a change of what the header says; ``checkpoint``, one that replaces the
  messages by those of ``meta.keeps``; ``rewind``, behind which the message ``meta.to`` and all
  after it do not count (all of them, if there is none of that id).
- A line whose message was there before is a later version of it: the later one counts.
- ``meta.parent`` stays empty: messages follow each other. ``meta.agent`` names a sub-agent; its
  session is ``<parent session>.agent-<its own id>``, where its folder names the parent.
- Tokens, what was displayed instead of what was sent, and the project's hash stay in ``raw`` alone.

Both generations have the same ids, so a session that was moved from one to the other is there once.
"""

from __future__ import annotations

from convmem.formats import documents
from convmem.formats.gemini_content import blocks_of
from convmem.formats.openings import opening_of
from convmem.formats.protocol import EVENT, Begin, Record
from convmem.formats.raws import as_lines
from convmem.formats.reading.samples import SAMPLE_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from convmem.formats.protocol import Kept
    from convmem.formats.reading.samples import Sample
    from convmem.formats.reading.sources import Source

NAME = "gemini"
TITLE = "Gemini CLI"
SUFFIX = ".jsonl"
HAS_IDS = True
# Of the lines. A document is written anew, so what was read of it is never its beginning again.
GROWS = True
SHARES = False

_MESSAGES = "messages"
_SPOKEN = {"user": "user", "gemini": "assistant"}
_TOLD = ("info", "error", "warning")
_SHORT = 200
_FOLDER = "chats"


def recognises(sample: Sample) -> bool:
    """Whether it begins as a session does, or some line is one of a session."""
    if sample.first_byte != b"{":
        return False
    if _is_header(dict.fromkeys(opening_of(sample.head).names, "")):
        return True
    return any(map(_is_ours, sample.objects))


def _is_ours(value: dict[str, Any]) -> bool:
    if _is_header(value):
        return True
    if value.get("type") == "gemini":
        return "content" in value and "timestamp" in value
    return len(value) == 1 and (
        isinstance(value.get("$set"), dict) or isinstance(value.get("$rewindTo"), str)
    )


def _is_header(value: dict[str, Any]) -> bool:
    return (
        isinstance(value.get("sessionId"), str)
        and "type" not in value
        and ("projectHash" in value or ("startTime" in value and _MESSAGES in value))
    )


def read(source: Source, memory: dict[str, Any]) -> Iterator[Begin | Record]:
    """Yield the session of *source*, of either generation."""
    if not memory and _is_document(source.head(SAMPLE_BYTES)):
        yield from _document(source)
    else:
        yield from _lines(source, memory)


def native(kept: Iterable[Kept]) -> Iterator[bytes]:
    """Yield the session: its lines byte for byte, or its document.

    One that was a document first is given back as the lines that went on from it.
    """
    turns = iter(kept)
    first = next(turns, None)
    if first is None or not _is_head(first):
        yield from as_lines(_with(first, (each for each in turns if not _is_head(each))))
        return
    rest = list(turns)
    header = next((each for each in rest if _is_header_line(each)), None)
    if header is None:
        yield from documents.together([first, *rest], _MESSAGES, "timestamp", "lastUpdated")
    else:
        lines = (each for each in rest if each is not header and not _is_head(each))
        yield from as_lines(_with(header, lines))


def _with(first: Kept | None, rest: Iterable[Kept]) -> Iterator[Kept]:
    if first is not None:
        yield first
    yield from rest


def _kind(kept: Kept) -> object:
    return (kept.turn.meta or {}).get("kind")


def _is_head(kept: Kept) -> bool:
    meta = kept.turn.meta or {}
    return meta.get("replaces", kept.turn.id) == documents.HEAD


def _is_header_line(kept: Kept) -> bool:
    value = documents.parsed(kept.raw or b"") if _kind(kept) == "header" else None
    return isinstance(value, dict) and _is_header(value)


def _is_document(head: bytes) -> bool:
    """Whether *head* begins a document: of one line or more, however long they are."""
    line, end, rest = head.lstrip().partition(b"\n")
    if line.strip() == b"{":
        return True
    if not line.startswith(b"{"):
        return False
    whole = documents.parsed(line)
    if whole is not None:
        # A session of lines has no messages in its first one.
        return not rest.strip() and isinstance(whole, dict) and _MESSAGES in whole
    return _MESSAGES in opening_of(head).names and (not end or line.rstrip()[-1:] in b",[{")


# --- the document -------------------------------------------------------------------------------


def _document(source: Source) -> Iterator[Begin | Record]:
    raw, value = source.document()
    if not isinstance(value, dict):
        yield from documents.stranger(raw, value)
        return
    begin, agent = _begun(value, source)
    begin.last_ts = _time(value.get("lastUpdated"))
    yield begin
    head, messages = documents.apart(
        value, str(begin.continuation_id), _MESSAGES, "id", "timestamp"
    )
    yield documents.head_record(
        head,
        title=value.get("summary"),
        ts=_time(value.get("startTime")),
        updated=value.get("lastUpdated"),
        is_known=isinstance(value.get(_MESSAGES), list),
    )
    for turn_id, message in messages:
        yield _message(message, documents.as_raw(message), turn_id, agent)


# --- the lines ----------------------------------------------------------------------------------


def _lines(source: Source, memory: dict[str, Any]) -> Iterator[Begin | Record]:
    agent: str | None = memory.get("agent")
    begun: str | None = memory.get("session")
    if begun is not None:
        yield Begin(begun, parent=memory.get("parent"))
    for raw, value in source.records():
        is_header = type(value) is dict and _is_header(value)
        if is_header or begun is None:
            begin, agent = _begun(value if is_header else {}, source)
            if begin.continuation_id != begun:
                begun = begin.continuation_id
                memory.update(session=begun, agent=agent, parent=begin.parent)
                yield begin
        if type(value) is not dict:
            yield _event("line", raw, None, agent, is_known=False)
        elif is_header:
            yield _event("header", raw, value.get("startTime"), agent, value.get("summary"))
            yield from _wrapped(value.get(_MESSAGES), agent)
        elif "$rewindTo" in value:
            record = _event("rewind", raw, None, agent)
            record.meta["to"] = value["$rewindTo"] if type(value["$rewindTo"]) is str else ""
            yield record
        elif "$set" in value or "$snapshot" in value:
            yield _changed(value, raw, agent)
        else:
            yield _message(value, raw, _line_id(value), agent)


def _begun(header: dict[str, Any], source: Source) -> tuple[Begin, str | None]:
    """Return the session that *header* names, and the sub-agent whose it is."""
    own = documents.usable_id(header.get("sessionId"))
    session = own or documents.usable_id(source.stem) or documents.unnamed(header)
    if header.get("kind") != "subagent":
        return Begin(session), None
    parent = documents.usable_id(source.folder)
    if parent is None or parent == _FOLDER or own is None:
        return Begin(session), session
    return Begin(f"{parent}.agent-{session}", parent=parent), session


def _line_id(message: dict[str, Any]) -> str | None:
    own = documents.usable_id(message.get("id"))
    return None if own == documents.HEAD else own


def _wrapped(messages: Any, agent: str | None) -> Iterator[Record]:
    """Yield the messages of a document on one line, which the header's record holds."""
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            record = _message(message, b"", _line_id(message), agent)
            record.raw = None
            if record.id is not None:
                yield record


def _changed(value: dict[str, Any], raw: bytes, agent: str | None) -> Record:
    changes = value.get("$set", value)
    if not isinstance(changes, dict):
        return _event("set", raw, None, agent, is_known=False)
    record = _event("set", raw, changes.get("lastUpdated"), agent, changes.get("summary"))
    if isinstance(changes.get(_MESSAGES), list):
        record.meta["kind"] = "checkpoint"
        record.meta["keeps"] = [
            message["id"]
            for message in changes[_MESSAGES]
            if isinstance(message, dict) and isinstance(message.get("id"), str)
        ]
    return record


def _event(
    kind: str,
    raw: bytes | str,
    ts: Any,
    agent: str | None,
    title: Any = None,
    *,
    is_known: bool = True,
) -> Record:
    meta: dict[str, Any] = {"kind": kind}
    if agent is not None:
        meta["agent"] = agent
    content = ""
    if isinstance(title, str) and title:
        meta["title"] = title
        content = _short(title)
    return Record(EVENT, content, raw, None, _time(ts), meta, is_known)


# --- messages -----------------------------------------------------------------------------------


def _message(message: Any, raw: bytes | str, turn_id: str | None, agent: str | None) -> Record:
    kind = message.get("type") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(kind, str):
        return _named(_event("message", raw, None, agent, is_known=False), turn_id)
    ts = message.get("timestamp")
    if kind not in _SPOKEN:
        record = _event(kind[:_SHORT], raw, ts, agent, is_known=kind in _TOLD)
        if kind in _TOLD:
            texts = (block.get("text", "") for block in blocks_of(message, ""))
            record.content = _short(" ".join(texts))
        return _named(record, turn_id)
    meta: dict[str, Any] = {}
    model = message.get("model")
    if isinstance(model, str) and model:
        meta["model"] = model
    if agent is not None:
        meta["agent"] = agent
    blocks = blocks_of(message, turn_id or "")
    role = _SPOKEN[kind]
    if role == "user" and blocks and all(block["type"] == "tool_result" for block in blocks):
        role = "tool"
    content: Any = blocks
    if all(block["type"] == "text" for block in blocks):
        content = "\n".join(block["text"] for block in blocks)
    return Record(role, content, raw, turn_id, _time(ts), meta)


def _named(record: Record, turn_id: str | None) -> Record:
    record.id = turn_id
    return record


def _short(text: str) -> str:
    return " ".join(text[: 4 * _SHORT].split())[:_SHORT]


def _time(value: Any) -> str | float | None:
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None
