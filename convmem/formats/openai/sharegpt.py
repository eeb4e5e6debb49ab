"""ShareGPT: conversations as people shared them for training.

``{"id", "conversations": [{"from", "value"}]}`` in an array or one a line; lists of turns alone,
and turns with ``role`` and ``content``, occur too. ``human`` is ``user``, ``gpt`` and the names
of other models are ``assistant``, ``observation`` and its like ``tool``; a name of another kind
than the four usual ones is ``meta.kind``, what else a turn has ``meta.fields``. Ids are not
unique, so they are only told (``meta.id`` of the head, an event, which keeps the line as it was).

From data of that name: lm-sys/FastChat (data/dummy_conversation.json), and LLaMA-Factory's
description of the format (data/README.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convmem.formats.openai.beginnings import beginning, values_of
from convmem.formats.openai.openai_parts import text_in
from convmem.formats.protocol import EVENT, Begin, Record
from convmem.formats.raws import as_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convmem.formats.protocol import Kept
    from convmem.formats.reading.samples import Sample
    from convmem.formats.reading.sources import Source

NAME = "sharegpt"
TITLE = "ShareGPT"
SUFFIX = ".json"
HAS_IDS = False
GROWS = False
SHARES = False

ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(
        "gpt assistant chatgpt bing bard claude model bot function_call".split(), "assistant"
    ),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys("tool observation function function_response".split(), "tool"),
}
# As each role is called where nothing else is said.
NAMES = {"user": "human", "assistant": "gpt", "system": "system", "tool": "tool"}
_KEYS = (("from", "value"), ("role", "content"))


def recognises(sample: Sample) -> bool:
    """Whether what *sample* begins with are lists of turns, some of them with ``from``."""
    values = beginning(sample).values
    known = [turns for value in values if (turns := _turns(value)) is not None]
    # Empty conversations occur, but a source of nothing else could be anything.
    return bool(known) and len(known) * 2 >= len(values) and any(map(any, known))


def read(source: Source, memory: dict[str, Any]) -> Iterator[Begin | Record]:
    """Yield the conversations of *source*, each with the line or the element that it was."""
    _, values = values_of(source)
    is_open = False
    for raw, value in values:
        turns = value.get("conversations") if isinstance(value, dict) else value
        if isinstance(turns, list):
            is_open = True
            yield Begin(None)
            yield _head(raw, value)
            for turn in turns:
                yield record_of(turn, None)
            continue
        if not is_open:
            is_open = True
            yield Begin(None)
        yield record_of(value, raw)


def native(kept: Iterable[Kept]) -> Iterator[bytes]:
    """Yield the object that the conversation was."""
    return as_lines(kept)


def record_of(turn: Any, raw: bytes | None) -> Record:
    """Return what one *turn* of a conversation says. Never raises."""
    for name, said in _KEYS:
        who = turn.get(name) if isinstance(turn, dict) else None
        if not isinstance(who, str) or said not in turn:
            continue
        meta: dict[str, Any] = {}
        role = ROLES.get(who.lower(), EVENT)
        if NAMES.get(role) != who:
            meta["kind"] = who
        rest = {key: value for key, value in turn.items() if key not in (name, said)}
        if not isinstance(turn[said], str):
            rest[said] = turn[said]
        if rest:
            meta["fields"] = rest
        # Somebody that nobody knows has spoken all the same.
        content = text_in(turn[said])
        return Record(role, content, raw, None, None, meta, is_known=role != EVENT)
    return Record(EVENT, "", raw, None, None, {"kind": "unknown"}, is_known=False)


def _head(raw: bytes, value: Any) -> Record:
    meta: dict[str, Any] = {"kind": "conversation"}
    if isinstance(value, dict):
        id, title = value.get("id"), value.get("title")
        if isinstance(id, str | int) and not isinstance(id, bool):
            meta["id"] = id
        if isinstance(title, str) and title:
            meta["title"] = title
    return Record(EVENT, "", raw, None, None, meta)


def _turns(value: Any) -> list[bool] | None:
    """Return of each turn of a conversation whether it surely is one; ``None`` for no such list."""
    turns = value.get("conversations") if isinstance(value, dict) else value
    if not isinstance(turns, list):
        return None
    keys = _KEYS if isinstance(value, dict) else _KEYS[:1]
    found = [
        isinstance(turn, dict)
        and any(isinstance(turn.get(name), str) and said in turn for name, said in keys)
        for turn in turns
    ]
    return found if all(found[:-1]) else None
