"""Transcripts of every format, made for the tests: what their tools would have written.

``MADE`` has a maker for each format: ``make(folder, count)`` writes a source in which *count*
things were said, and returns its path. One with a greater count begins as one with a smaller does.
"""

from __future__ import annotations

import json
import sqlite3
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

SAMPLES = Path(__file__).parent / "data" / "transcripts"
SESSION = "5b3c9a52-0d2e-4c11-9f10-0000000000{:02x}"


def lines(values):
    """Return *values* as JSON lines."""
    return b"".join(json.dumps(value, ensure_ascii=False).encode() + b"\n" for value in values)


def when(nth):
    moment = datetime(2026, 3, 1) + timedelta(seconds=nth)
    return f"{moment.isoformat()}.123Z"


def uuid(kind, nth):
    return f"{kind:08x}-1111-4222-8333-{nth:012x}"


# --- Claude Code ---------------------------------------------------------------------------------


def claude_record(nth, *, session=1, of=0, says=None, **more):
    """Return the record *nth* of a talk; *of* makes its uuids others than those of other talks."""
    is_question = nth % 2 == 0
    text = f"turn {nth} of talk {of}" if says is None else says
    message = {"role": "user", "content": text}
    if not is_question:
        message = {
            "id": f"msg_{of}_{nth}",
            "role": "assistant",
            "model": "claude-x",
            "content": [{"type": "text", "text": text}],
        }
    return {
        "parentUuid": uuid(of, nth - 1) if nth else None,
        "isSidechain": False,
        "userType": "external",
        "cwd": "/home/ada",
        "sessionId": SESSION.format(session),
        "version": "2.0.1",
        "type": "user" if is_question else "assistant",
        "message": message,
        "uuid": uuid(of, nth),
        "timestamp": when(nth),
        **more,
    }


def claude_records(start, end, **how):
    return [claude_record(nth, **how) for nth in range(start, end)]


def claude_file(folder, session=1):
    return Path(folder, f"{SESSION.format(session)}.jsonl")


def claude_code(folder, count):
    path = claude_file(folder)
    snapshot = {"type": "file-history-snapshot", "messageId": "m", "snapshot": {"files": {}}}
    path.write_bytes(lines([snapshot, *claude_records(0, count)]))
    return path


# --- the others ----------------------------------------------------------------------------------


def codex(folder, count):
    name = uuid(0xC0DE, 1)
    path = Path(folder, f"rollout-2026-03-01T10-00-00-{name}.jsonl")
    records = [
        {
            "timestamp": when(0),
            "type": "session_meta",
            "payload": {"id": name, "timestamp": when(0), "cwd": "/x", "originator": "cli"},
        }
    ]
    for nth in range(count):
        role = "assistant" if nth % 2 else "user"
        part = {"type": "output_text" if nth % 2 else "input_text", "text": f"turn {nth}"}
        records.append(
            {
                "timestamp": when(nth),
                "type": "response_item",
                "payload": {"type": "message", "role": role, "content": [part]},
            }
        )
    path.write_bytes(lines(records))
    return path


def gemini(folder, count):
    path = Path(folder, "session-2026-03-01T10-00-7b1d0a44.jsonl")
    records = [
        {
            "sessionId": "7b1d0a44-2222-4000-8000-00000000000a",
            "projectHash": "ab" * 32,
            "startTime": when(0),
            "lastUpdated": when(0),
            "kind": "main",
        }
    ]
    for nth in range(count):
        said = "gemini" if nth % 2 else "user"
        record = {"id": f"g-{nth}", "timestamp": when(nth), "type": said, "content": f"turn {nth}"}
        records.append(record)
    path.write_bytes(lines(records))
    return path


def gemini_document(folder, count):
    path = Path(folder, "session-2025-11-02T10-15-3f2a9c1e.json")
    messages = [
        {
            "id": f"d-{nth}",
            "timestamp": when(nth),
            "type": "gemini" if nth % 2 else "user",
            "content": f"turn {nth}",
        }
        for nth in range(count)
    ]
    document = {
        "sessionId": "3f2a9c1e-2222-4000-8000-00000000000b",
        "projectHash": "ab" * 32,
        "startTime": when(0),
        "lastUpdated": when(0),
        "messages": messages,
    }
    path.write_text(json.dumps(document))
    return path


def chatgpt_conversation(name, count):
    mapping = {"root": {"id": "root", "message": None, "parent": None, "children": []}}
    parent = "root"
    for nth in range(count):
        node = uuid(0x6A7, nth)
        mapping[parent]["children"].append(node)
        mapping[node] = {
            "id": node,
            "message": {
                "id": node,
                "author": {"role": "assistant" if nth % 2 else "user", "metadata": {}},
                "create_time": 1770000000.5 + nth,
                "content": {"content_type": "text", "parts": [f"turn {nth}"]},
                "status": "finished_successfully",
                "weight": 1.0,
                "recipient": "all",
                "metadata": {},
            },
            "parent": parent,
            "children": [],
        }
        parent = node
    return {
        "title": f"Talk {name}",
        "create_time": 1770000000.0,
        "update_time": 1770000000.5,
        "mapping": mapping,
        "current_node": parent,
        "conversation_id": name,
        "id": name,
    }


def chatgpt(folder, count):
    path = Path(folder, "chatgpt-export.zip")
    talk = chatgpt_conversation(uuid(0xABC, 0), count)
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("conversations.json", json.dumps([talk]))
        packed.writestr("user.json", "{}")
    return path


def claude_ai(folder, count):
    path = Path(folder, "conversations.json")
    messages = [
        {
            "uuid": uuid(0xA1, nth),
            "text": f"turn {nth}",
            "content": [{"type": "text", "text": f"turn {nth}", "citations": []}],
            "sender": "assistant" if nth % 2 else "human",
            "created_at": when(nth),
            "updated_at": when(nth),
            "attachments": [],
            "files": [],
        }
        for nth in range(count)
    ]
    talk = {
        "uuid": uuid(0xA0, 0),
        "name": "A talk",
        "created_at": when(0),
        "updated_at": when(1),
        "account": {"uuid": uuid(0xA2, 0)},
        "chat_messages": messages,
    }
    path.write_text(json.dumps([talk]))
    return path


def llm(folder, count):
    """Write what llm 0.31 did: each of its rows is a question and its answer."""
    path = Path(folder, "logs.db")
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as made:
        made.execute("create table conversations (id text primary key, name text, model text)")
        made.execute(
            "create table responses (id text primary key, model text, prompt text, system text,"
            " prompt_json text, options_json text, response text, response_json text,"
            " conversation_id text references conversations(id), duration_ms integer,"
            " datetime_utc text)"
        )
        made.execute("insert into conversations values ('01hq', 'turn 0', 'gpt-x')")
        for nth in range(0, count, 2):
            made.execute(
                "insert into responses values (?,?,?,null,null,'{}',?,null,'01hq',12,?)",
                (
                    f"01hq{nth:04}",
                    "gpt-x",
                    f"turn {nth}",
                    f"turn {nth + 1}",
                    f"2026-03-01T10:{nth // 60 % 60:02}:{nth % 60:02}.000000+00:00",
                ),
            )
    made.close()
    return path


def openai_messages(folder, count):
    path = Path(folder, "training.jsonl")
    talk = [
        {"role": "assistant" if nth % 2 else "user", "content": f"turn {nth}"}
        for nth in range(count)
    ]
    path.write_bytes(lines([{"messages": talk}]))
    return path


def openai_responses(folder, count):
    path = Path(folder, "items.jsonl")
    items = [
        {
            "type": "message",
            "id": f"msg_{nth:04}",
            "role": "assistant" if nth % 2 else "user",
            "status": "completed",
            "content": [
                {"type": "output_text" if nth % 2 else "input_text", "text": f"turn {nth}"}
            ],
        }
        for nth in range(count)
    ]
    path.write_bytes(lines(items))
    return path


def sharegpt(folder, count):
    path = Path(folder, "shared.json")
    turns = [
        {"from": "gpt" if nth % 2 else "human", "value": f"turn {nth}"} for nth in range(count)
    ]
    path.write_text(json.dumps([{"id": "identity_0", "conversations": turns}], indent=2))
    return path


def aider(folder, count):
    path = Path(folder, ".aider.chat.history.md")
    text = "\n# aider chat started at 2026-03-01 10:00:00\n\n> Model: gpt-x  \n\n"
    for nth in range(count):
        text += f"turn {nth}\n\n" if nth % 2 else f"#### turn {nth}  \n\n"
    path.write_text(text)
    return path


def own(folder, count):
    path = Path(folder, "exported.jsonl")
    turns = [
        {
            "continuation_id": "oslo-trip",
            "seq": nth + 1,
            "id": f"own-{nth}",
            "ts": f"2026-03-01T10:00:{nth:02}.000000Z",
            "role": "assistant" if nth % 2 else "user",
            "content": f"turn {nth}",
        }
        for nth in range(count)
    ]
    path.write_bytes(lines(turns))
    return path


MADE = {
    "convmem": own,
    "claude-code": claude_code,
    "codex": codex,
    "gemini": gemini,
    "gemini, one document": gemini_document,
    "chatgpt": chatgpt,
    "claude-ai": claude_ai,
    "llm": llm,
    "openai-messages": openai_messages,
    "openai-responses": openai_responses,
    "sharegpt": sharegpt,
    "aider": aider,
}
# Whose native export is the source, byte for byte.
LINES = ("claude-code", "codex", "gemini", "openai-messages", "openai-responses", "aider")


def values_in(path):
    """Return what a source that is no file of lines says, as values that can be compared."""
    path = Path(path)
    data = path.read_bytes()
    if data.startswith(b"SQLite"):
        with sqlite3.connect(path) as opened:
            tables = ("conversations", "responses")
            found = {
                name: sorted(
                    (
                        {key: each for key, each in dict(row).items() if each is not None}
                        for row in _rows(opened, name)
                    ),
                    key=str,
                )
                for name in tables
            }
        opened.close()
        return found
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            data = packed.read("conversations.json")
    value = json.loads(data)
    return value if isinstance(value, list) else [value]


def _rows(opened, table):
    opened.row_factory = sqlite3.Row
    return opened.execute(f"select * from {table}").fetchall()
