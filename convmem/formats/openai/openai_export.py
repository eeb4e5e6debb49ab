"""Conversations as OpenAI messages, one a line, as fine-tuning takes them.

Calls become ``tool_calls``, each result a ``tool`` message, pictures ``image_url`` parts with
data URLs. Left out are events, and what a model thought. What came from OpenAI messages goes out
as it was spelled.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from convmem import jsontext
from convmem.formats.openai import openai_messages
from convmem.formats.openai.openai_parts import arguments_of, text_in, url_of
from convmem.formats.protocol import EVENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convmem.formats.heads import Head
    from convmem.turns import Turn

_ROLES = frozenset(("system", "developer", "user", "assistant", "tool"))
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_AUDIO = "audio/"


def write(head: Head, turns: Iterable[Turn]) -> Iterator[bytes]:
    """Yield the one line of a conversation, message by message, with the newline at its end."""
    before = b'{"messages":['
    for message in messages(turns):
        yield before + jsontext.dumps(message)
        before = b","
    yield b'{"messages":[]}\n' if before != b"," else b"]}\n"


def chain_items(turns: Iterable[Turn]) -> Iterator[tuple[str, Any]]:
    """Yield role and content of every record that reading what ``write`` writes would give."""
    yield EVENT, ""  # the head
    for message in messages(turns):
        record = openai_messages.record_of(message, None)
        yield record.role, record.content


def messages(turns: Iterable[Turn]) -> Iterator[dict[str, Any]]:
    """Yield the messages of a conversation.

    Calls that their source kept in turns of their own join the message before them, since
    their results must follow one message with all of them.
    """
    last: dict[str, Any] | None = None
    for turn in turns:
        is_own = _is_own(turn)
        for message in messages_of(turn):
            if last is None:
                last = message
            elif not is_own and _goes_on(last, message):
                last["tool_calls"] = last.get("tool_calls", []) + message["tool_calls"]
            else:
                yield last
                last = message
    if last is not None:
        yield last


def message_of(turn: Turn) -> dict[str, Any] | None:
    """Return the one message that *turn* is; ``None`` for none. See ``messages_of``."""
    return next(iter(messages_of(turn)), None)


def messages_of(turn: Turn) -> list[dict[str, Any]]:
    """Return *turn* as messages: none, one, or one for each result and for what stands between."""
    if turn.role == EVENT:
        return []
    meta = turn.meta or {}
    role = turn.role if turn.role in _ROLES else "user"
    if role == "system" and meta.get("kind") == "developer":
        role = "developer"
    if isinstance(turn.content, list):
        made = _of_blocks(role, turn.content, is_own=_is_own(turn))
    elif isinstance(turn.content, str) and meta.get("parts") is True and _is_own(turn):
        made = [{"role": role, "content": [{"type": "text", "text": turn.content}]}]
    elif isinstance(turn.content, str):
        made = [{"role": role, "content": turn.content}]
    elif isinstance(turn.content, dict):
        made = _of_blocks(role, [turn.content], is_own=_is_own(turn))
    else:
        made = [{"role": role, "content": text_in(turn.content)}]
    if len(made) == 1:
        fields = meta.get("fields")
        if isinstance(fields, dict) and _is_own(turn):
            made[0].update(fields)
        elif turn.role not in _ROLES and _NAME.fullmatch(turn.role):
            made[0]["name"] = turn.role
    return made


def _is_own(turn: Turn) -> bool:
    return (turn.meta or {}).get("source") == openai_messages.NAME


def _of_blocks(role: str, blocks: list[Any], *, is_own: bool) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []

    def close() -> None:
        if said or calls:
            made.append(_message("assistant" if calls else role, said, calls, is_own=is_own))
            said.clear()
            calls.clear()

    for block in blocks:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind in ("thinking", "redacted_thinking"):
            continue
        if kind == "tool_use":
            calls.append(block)
        elif kind == "tool_result":
            close()
            made.append(_result(block))
        else:
            if calls:
                close()  # what is said after a call is said in a message after it
            said.append(_part(block))
    close()
    if not made and not blocks and is_own:
        made.append({"role": role, "content": []})
    return made


def _message(
    role: str, said: list[dict[str, Any]], calls: list[dict[str, Any]], *, is_own: bool
) -> dict[str, Any]:
    message: dict[str, Any] = {"role": role}
    if len(said) == 1 and said[0].get("type") == "text" and (calls or not is_own):
        message["content"] = said[0]["text"]
    elif said:
        message["content"] = list(said)
    if len(calls) == 1 and calls[0].get("id") == "":
        message["function_call"] = _function(calls[0])
    elif calls:
        message["tool_calls"] = [
            {"id": text_in(call.get("id")), "type": "function", "function": _function(call)}
            for call in calls
        ]
    return message


def _function(call: dict[str, Any]) -> dict[str, Any]:
    return {"name": text_in(call.get("name")), "arguments": arguments_of(call)}


def _result(block: dict[str, Any]) -> dict[str, Any]:
    content = block.get("content")
    said = [_part(part) for part in content] if isinstance(content, list) else text_in(content)
    called = text_in(block.get("tool_use_id"))
    if called:
        return {"role": "tool", "tool_call_id": called, "content": said}
    return {"role": "function", "content": said}


def _part(block: Any) -> dict[str, Any]:
    """Return a block as a part of a message's content."""
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "text" and isinstance(block.get("text"), str):
        if block.get("refusal") is True:
            return {"type": "refusal", "refusal": block["text"]}
        return {"type": "text", "text": block["text"]}
    if kind == "image" and (url := url_of(block.get("source"))) is not None:
        picture = {"url": url}
        if "detail" in block:
            picture["detail"] = block["detail"]
        return {"type": "image_url", "image_url": picture}
    if kind == "image" and isinstance(block.get("source"), dict):
        # Known by a name alone: the picture itself is not here.
        return {"type": "text", "text": f"[image {text_in(block['source'].get('file_id'))}]"}
    if kind == "document" and (part := _document(block)) is not None:
        return part
    return {"type": "text", "text": text_in(block)}


def _document(block: dict[str, Any]) -> dict[str, Any] | None:
    source = block.get("source")
    if not isinstance(source, dict):
        return None
    kind, data = text_in(source.get("media_type")), source.get("data")
    if source.get("type") == "text" and isinstance(data, str):
        return {"type": "text", "text": data}
    if kind.startswith(_AUDIO) and isinstance(data, str):
        sound = {"data": data, "format": kind.removeprefix(_AUDIO)}
        return {"type": "input_audio", "input_audio": sound}
    file: dict[str, Any] = {}
    if isinstance(block.get("title"), str):
        file["filename"] = block["title"]
    if isinstance(data, str):
        file["file_data"] = url_of(source)
    elif isinstance(source.get("file_id"), str):
        file["file_id"] = source["file_id"]
    else:
        return None
    return {"type": "file", "file": file}


def _goes_on(last: dict[str, Any], message: dict[str, Any]) -> bool:
    """Whether *message* is nothing but calls that the assistant's *last* message can take."""
    return (
        "tool_calls" in message
        and "content" not in message
        and last["role"] == "assistant"
        and "function_call" not in last
    )
