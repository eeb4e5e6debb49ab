"""Conversations that are JSON documents: taken apart into records, and put together again.

The head of a conversation is its object without its messages; a message is a record of its own, so
that it does not change when the conversation goes on. What of their order does not follow from
times and ids stands in the head.
"""

from __future__ import annotations

import json
from functools import cache
from hashlib import blake2b

from convmem import jsontext
from convmem.formats.protocol import EVENT, Begin, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator
    from typing import Any

    from convmem.formats.protocol import Kept

# The id of the record that holds the conversation without its messages.
HEAD = "head"
# Longer ones are hashed by whoever imports, and could not be told from the head any more.
_MOST_CHARACTERS = 160
# What is nested deeper is kept as text: few readers of JSON would take it.
_MOST_DEPTH = 200
_JSON_TYPES = (dict, list, str, int, float, bool, type(None))


def usable_id(value: object) -> str | None:
    """Return *value* if it can be an id as it is: short, printable text."""
    if isinstance(value, str) and 0 < len(value) <= _MOST_CHARACTERS and value.isprintable():
        return value
    return None


def unnamed(*parts: object) -> str:
    """Return the id of a conversation that has none, made of what is always the same in it."""
    made = blake2b(digest_size=16)
    for part in parts:
        made.update(as_json(part) + b"\n")
    return f"unnamed-{made.hexdigest()}"


def as_json(value: Any) -> bytes:
    """Return *value* as compact JSON; NaN and half surrogate pairs as the standard library does."""
    written = _strict(value)
    return _written(value) if written is None else written


def as_raw(value: Any) -> bytes | str:
    """Return a part of a document as ``Record.raw``: text where it is no JSON that all can read.

    Text too where it is a string alone: as JSON that would come back without its quotes.
    """
    written = _strict(value)
    if written is None:
        return str(_written(value), "ascii")
    return str(written, "utf-8") if isinstance(value, str) else written


def parsed(raw: bytes | str) -> Any:
    """Return the value of a raw; ``None`` if it is no JSON at all."""
    try:
        return jsontext.loads(raw if isinstance(raw, bytes) else raw.encode())
    except (jsontext.NotJson, UnicodeEncodeError):
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            return None


def is_deep(value: Any) -> bool:
    """Whether lists and objects lie in each other too deeply for others to read."""
    level = [value]
    for _ in range(_MOST_DEPTH):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(part for part in each.values() if isinstance(part, dict | list))
            elif isinstance(each, list):
                inner.extend(part for part in each if isinstance(part, dict | list))
        if not inner:
            return False
        level = inner
    return True


def head_record(
    head: Any,
    *,
    title: object,
    ts: Any,
    updated: object = None,
    leaf: str | None = None,
    is_known: bool = True,
) -> Record:
    """Return the first record of a conversation: an event that says its title.

    ``meta.leaf`` is the id of the record that its active branch ends in, and ``meta.updated`` by
    which the newest of several heads is told.
    """
    name = title if isinstance(title, str) else ""
    meta: dict[str, Any] = {"kind": "conversation"}
    if name:
        meta["title"] = name
    if leaf is not None:
        meta["leaf"] = leaf
    if isinstance(updated, str | int | float):
        meta["updated"] = updated
    return Record(EVENT, name, as_raw(head), HEAD, ts, meta, is_known)


def stranger(raw: bytes, value: Any) -> Iterator[Begin | Record]:
    """Yield what is no conversation at all as one that holds nothing but itself."""
    yield Begin(unnamed(value))
    # One that is too deep to be read comes as text.
    whole = str(raw, "utf-8", "replace") if type(value) not in _JSON_TYPES else as_raw(value)
    yield Record(EVENT, "", whole, HEAD, None, {"kind": "conversation"}, False)


def apart(
    conversation: dict[str, Any], conversation_id: str, key: str, id_key: str, time_key: str
) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """Return the head of *conversation*, and the messages under *key* with an id each.

    In the head *key* holds no messages but their ids in order, or none of them where the order is
    that of their times and ids.
    """
    messages = conversation.get(key)
    if not isinstance(messages, list):
        return conversation, []
    named: dict[str, Any] = {}
    for at, message in enumerate(messages):
        own = usable_id(message.get(id_key)) if isinstance(message, dict) else None
        if own is None or own == HEAD or own in named:
            own = made_id(conversation_id, at, named)
        named[own] = message
    order = list(named)
    is_sorted = order == _sorted(named, time_key)
    return {**conversation, key: [] if is_sorted else order}, list(named.items())


def together(kept: Iterable[Kept], key: str, time_key: str, updated_key: str) -> Iterator[bytes]:
    """Yield the conversation that ``apart`` has taken apart, with what was added to it since."""
    head, whole, raws = newest(kept, updated_key)
    order = head.get(key, [])
    if not isinstance(order, list) or whole is not None:
        yield (as_json(head) if whole is None else whole) + b"\n"
        return
    ids = _sorted({each: parsed(raw) for each, raw in raws.items()}, time_key)
    if order:
        listed = dict.fromkeys(each for each in order if each in raws)
        ids = [*listed, *(each for each in ids if each not in listed)]
    before = b"{"
    for name, value in {key: [], **head}.items() if key not in head and raws else head.items():
        yield before + as_json(name) + b":"
        if name == key:
            yield b"[" + b",".join(as_bytes(raws[each]) for each in ids) + b"]"
        else:
            yield as_json(value)
        before = b","
    yield (b"{}" if before == b"{" else b"}") + b"\n"


def newest(
    kept: Iterable[Kept], updated_key: str
) -> tuple[dict[str, Any], bytes | None, dict[str, bytes | str]]:
    """Return the newest head of a conversation, and the last version of each other record by id.

    Between them stands the head as it was where that is no object at all. An older export that was
    imported after a newer one does not take the head back.
    """
    origins: dict[str, str] = {}
    raws: dict[str, bytes | str] = {}
    head: dict[str, Any] = {}
    whole: bytes | None = None
    for each in kept:
        turn_id = each.turn.id
        if each.raw is None or turn_id is None:
            continue
        replaced = (each.turn.meta or {}).get("replaces")
        if isinstance(replaced, str):
            origins[turn_id] = origins.get(replaced, replaced)
        origin = origins.get(turn_id, turn_id)
        if origin != HEAD:
            raws[origin] = each.raw
            continue
        value = parsed(each.raw)
        if not isinstance(value, dict):
            whole = as_bytes(each.raw)
        elif not _is_older(value.get(updated_key), head.get(updated_key)):
            head, whole = value, None
    return head, whole, raws


def as_bytes(raw: bytes | str) -> bytes:
    """Return a raw as it stands within a document."""
    return raw.strip() if isinstance(raw, bytes) else raw.encode("utf-8", "replace").strip()


def made_id(conversation_id: str, at: int, taken: Container[str]) -> str:
    """Return an id for a part that has none of its own: its place in the conversation."""
    made = f"{conversation_id[:100]}#{at}"
    while made in taken:
        made += "'"
    return made


def _sorted(named: dict[str, Any], time_key: str) -> list[str]:
    def place(name: str) -> tuple[str, str]:
        message = named[name]
        time = message.get(time_key) if isinstance(message, dict) else None
        return (time if isinstance(time, str) else "", name)

    return sorted(named, key=place)


def _is_older(time: object, other: object) -> bool:
    if isinstance(time, str) and isinstance(other, str):
        return time < other
    if isinstance(time, int | float) and isinstance(other, int | float):
        return time < other
    return False


def _strict(value: Any) -> bytes | None:
    """Return *value* as JSON that all can read; ``None`` if it cannot be written so."""
    # What writes JSON fast makes null of the numbers that JSON has no word for.
    if not _is_finite(value):
        return None
    try:
        return _writer()(value)
    except (TypeError, ValueError):
        pass  # numbers of more than 64 bits, half surrogate pairs, depth
    if is_deep(value):
        return None
    try:
        return jsontext.dumps(value)
    except jsontext.NotJson:
        return None


@cache
def _writer() -> Callable[[Any], bytes]:
    return jsontext.fast()[1]


def _is_finite(value: Any) -> bool:
    todo = [value]
    for each in todo:
        if type(each) is dict:
            todo.extend(each.values())
        elif type(each) is list:
            todo.extend(each)
        elif type(each) is float and each - each != 0.0:
            return False
    return True


def _written(value: Any) -> bytes:
    """Write JSON of any depth, in ASCII."""
    out: list[str] = []
    todo: list[tuple[bool, Any]] = [(False, value)]
    while todo:
        is_text, each = todo.pop()
        if is_text:
            out.append(each)
        elif isinstance(each, dict) and each:
            out.append("{")
            todo.append((True, "}"))
            for at, (key, inner) in enumerate(reversed(each.items())):
                if at:
                    todo.append((True, ","))
                todo += ((False, inner), (True, json.dumps(key) + ":"))
        elif isinstance(each, list) and each:
            out.append("[")
            todo.append((True, "]"))
            for at, inner in enumerate(reversed(each)):
                if at:
                    todo.append((True, ","))
                todo.append((False, inner))
        else:
            out.append(json.dumps(each))
    return "".join(out).encode()
