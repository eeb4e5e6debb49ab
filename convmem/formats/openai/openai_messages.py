"""OpenAI messages: what Chat Completions is sent and fine-tuning is fed.

Read are ``{"messages": […]}`` one a line, in an array, or alone in a file; arrays of messages
one a line or alone; and files with a message a line, which are one conversation. A system or
developer message is ``system`` (``meta.kind`` says which); ``tool_calls`` and ``function_call``
become ``tool_use`` blocks, with ``arguments`` beside ``input`` where they were spelled in a way
of their own; ``tool`` and ``function`` messages become ``tool_result`` blocks. Parts of content
become blocks: pictures (``detail`` kept in the block), files and sound (documents), refusals
(text, marked); a text that is the only part is text, with ``meta.parts``. What else a message has,
such as ``name`` and ``weight``, is ``meta.fields``.

The head, an event, keeps the line as it was. From OpenAI's API reference ("Create chat
completion") and its guide to fine-tuning.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from convmem.formats.openai.arrays import as_array_or_lines, read_apart
from convmem.formats.openai.beginnings import beginning
from convmem.formats.openai.openai_parts import input_of, source_of, text_in
from convmem.formats.protocol import EVENT, Begin, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convmem.formats.protocol import Kept
    from convmem.formats.reading.samples import Sample
    from convmem.formats.reading.sources import Source

NAME = "openai-messages"
TITLE = "OpenAI messages"
SUFFIX = ".jsonl"
HAS_IDS = False
GROWS = False
SHARES = False

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
# A line with one of these is somebody else's, whatever its role.
_NOT_OURS = frozenset(
    "continuation_id id ts seq type uuid timestamp sessionId parts from payload".split()
)


def recognises(sample: Sample) -> bool:
    """Whether what *sample* begins with is messages, or holds them."""
    values = beginning(sample).values
    known = sum(_has_messages(value) or _is_message(value) for value in values)
    return known > 0 and known * 2 >= len(values)


def read(source: Source, memory: dict[str, Any]) -> Iterator[Begin | Record]:
    """Yield the conversations of *source*; a message with a line of its own keeps it."""
    return read_apart(source, _conversation, _is_message, record_of)


def native(kept: Iterable[Kept]) -> Iterator[bytes]:
    """Yield the lines of one conversation as they were, or the array that its messages were."""
    return as_array_or_lines(kept)


def _conversation(raw: bytes, value: Any) -> Iterator[Begin | Record] | None:
    """Return what *value* says if it is a whole conversation: its head, and its messages."""
    messages = value.get("messages") if isinstance(value, dict) else value
    if not isinstance(messages, list):
        return None
    told: list[Begin | Record] = [Begin(None), _head(raw, value)]
    return chain(told, (record_of(message, None) for message in messages))


def record_of(message: Any, raw: bytes | None) -> Record:
    """Return what one *message* says. Never raises."""
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(role, str) or role not in ROLES:
        return Record(EVENT, "", raw, None, None, {"kind": "unknown"}, is_known=False)
    rest = {key: value for key, value in message.items() if key not in ("role", "content")}
    content: Any = message.get("content")
    meta: dict[str, Any] = {}
    calls = _calls(rest)
    if ROLES[role] == "tool":
        content = _result(role, content, rest)
    elif calls:
        if content is None or content == "":
            # Null, "" and nothing at all are told apart on the way back.
            if "content" in message:
                rest["content"] = content
            content = calls
        else:
            content = blocks_of(content) + calls
    elif isinstance(content, list):
        content = blocks_of(content)
        if len(content) == 1 and content[0].keys() == {"type", "text"}:
            content, meta["parts"] = content[0]["text"], True
    elif not isinstance(content, str):
        if "content" in message:
            rest["content"] = content
        content = text_in(content)
    if role == "developer":
        meta["kind"] = role
    if rest:
        meta["fields"] = rest
    return Record(ROLES[role], content, raw, None, None, meta)


def blocks_of(content: Any) -> list[Any]:
    """Return *content*, text or parts as OpenAI has them, as blocks; no text of it is lost."""
    parts = content if isinstance(content, list) else [content]
    return [block_of(part) for part in parts]


def block_of(part: Any) -> dict[str, Any]:
    """Return one part of a message's content as a block."""
    if not isinstance(part, dict):
        return {"type": "text", "text": text_in(part)}
    kind = part.get("type")
    kind = kind if isinstance(kind, str) else ""
    inner = part.get(kind)
    if kind == "text" and isinstance(part.get("text"), str):
        return dict(part)
    if kind == "refusal" and isinstance(inner, str):
        return {"type": "text", "text": inner, "refusal": True}
    if isinstance(inner, str) and kind == "image_url":
        return {"type": "image", "source": source_of(inner)}
    if isinstance(inner, dict):
        made = _medium(kind, inner)
        if made is not None:
            return made
    return {"type": "text", "text": text_in(part)}


def _medium(kind: str, inner: dict[str, Any]) -> dict[str, Any] | None:
    url, data, file_id = inner.get("url"), inner.get("data"), inner.get("file_id")
    block: dict[str, Any]
    if kind == "image_url" and isinstance(url, str):
        block = {"type": "image", "source": source_of(url)}
        if "detail" in inner:
            block["detail"] = inner["detail"]
        return block
    if kind == "input_audio" and isinstance(data, str):
        sound = {"media_type": f"audio/{text_in(inner.get('format'))}", "data": data}
        return {"type": "document", "source": {"type": "base64", **sound}}
    if kind == "file":
        data = inner.get("file_data")
        if isinstance(data, str):
            block = {"type": "document", "source": source_of(data)}
        elif isinstance(file_id, str):
            block = {"type": "document", "source": {"type": "file", "file_id": file_id}}
        else:
            return None
        if isinstance(inner.get("filename"), str):
            block["title"] = inner["filename"]
        return block
    return None


def _calls(rest: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a message's calls as blocks, taken out of *rest*, its other members."""
    blocks: list[dict[str, Any]] = []
    listed = rest.get("tool_calls")
    if isinstance(listed, list) and listed:
        made = [_call(call) for call in listed]
        if None not in made:
            del rest["tool_calls"]
            blocks += [block for block in made if block is not None]
    called = rest.get("function_call")
    if isinstance(called, dict) and isinstance(called.get("name"), str):
        del rest["function_call"]
        blocks.append(_tool_use("", called["name"], called.get("arguments")))
    return blocks


def _call(call: Any) -> dict[str, Any] | None:
    if not isinstance(call, dict):
        return None
    function = call.get("function")
    if not isinstance(function, dict):
        function = call.get("custom")
        if not isinstance(function, dict):
            return None
        function = {"name": function.get("name"), "arguments": {"input": function.get("input")}}
    return _tool_use(
        text_in(call.get("id")), text_in(function.get("name")), function.get("arguments")
    )


def _tool_use(id: str, name: str, arguments: Any) -> dict[str, Any]:
    given = {"input": {}, "arguments": ""} if arguments is None else input_of(arguments)
    return {"type": "tool_use", "id": id, "name": name, **given}


def _result(role: str, content: Any, rest: dict[str, Any]) -> Any:
    """Return a tool's message as a result; as it is where it says nothing of a call."""
    said = blocks_of(content) if isinstance(content, list) else text_in(content)
    called = rest.get("tool_call_id")
    if isinstance(called, str):
        del rest["tool_call_id"]
    elif role == "function":
        called = ""  # the call that it answers has no id either
    else:
        return said
    return [{"type": "tool_result", "tool_use_id": called, "content": said}]


def _head(raw: bytes, value: Any) -> Record:
    meta = {"kind": "conversation"}
    title = value.get("title") if isinstance(value, dict) else None
    if isinstance(title, str) and title:
        meta["title"] = title
    return Record(EVENT, "", raw, None, None, meta)


def _has_messages(value: Any) -> bool:
    messages = value.get("messages") if isinstance(value, dict) else value
    if not isinstance(messages, list) or (isinstance(value, dict) and "sessionId" in value):
        return False
    if not messages:
        return isinstance(value, dict)
    return any(_is_message(message, in_list=True) for message in messages)


def _is_message(value: Any, *, in_list: bool = False) -> bool:
    if not isinstance(value, dict):
        return False
    role = value.get("role")
    if not isinstance(role, str) or role not in ROLES:
        return False
    if not in_list and not _NOT_OURS.isdisjoint(value):
        return False
    return "content" in value or "tool_calls" in value or "function_call" in value
