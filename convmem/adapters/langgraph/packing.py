"""Packing: values and messages as JSON and back, exactly; in the clear only where they may be."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from convmem import Turn
from convmem.adapters.langchain.messages import messages_of, turn_of
from convmem.adapters.langgraph.shapes import is_typed

if TYPE_CHECKING:
    from langgraph.checkpoint.serde.base import SerializerProtocol

SOURCE = "langgraph"


class Packing:
    """How values become JSON: as they are where that is exact and nothing to hide, or by serde."""

    def __init__(self, serde: SerializerProtocol) -> None:
        self.serde = serde
        # Any other may be there to keep what is said from readers of the log.
        self.is_plain = isinstance(serde, JsonPlusSerializer)

    def packed(self, value: Any) -> dict[str, Any]:
        """Return *value* as an event tells it."""
        if self.is_plain and is_json(value):
            return {"json": value}
        kind, data = self.serde.dumps_typed(value)
        return {"serde": [kind, base64.b64encode(data).decode()]}

    def unpacked(self, packed: dict[str, Any]) -> Any:
        """Return the value that ``packed`` was given."""
        if "json" in packed:
            return packed["json"]
        kind, data = packed["serde"]
        return self.serde.loads_typed((kind, base64.b64decode(data)))

    def turn(self, message: BaseMessage, tag: str) -> dict[str, Any]:
        """Return the turn that *message* becomes."""
        said: dict[str, Any] = {"role": "event", "content": ""}
        if self.is_plain and message.type != "remove":
            turn = turn_of(message)
            if is_json(turn) and self._is_exact(turn, message):
                meta = {"source": "langchain", **turn.get("meta", {}), "tag": tag}
                return {**turn, "meta": meta}
            # What it holds is for serde. It is said all the same, and should be found.
            said = {"role": turn["role"], "content": _as_json(turn["content"])}
        kind, data = self.serde.dumps_typed(message)
        meta = {"source": SOURCE, "kind": "message", "tag": tag}
        return {**said, "meta": meta, "serde": [kind, base64.b64encode(data).decode()]}

    def _is_exact(self, turn: dict[str, Any], message: BaseMessage) -> bool:
        """Whether *turn*, once it is read, is *message* again."""
        extra = {"raw": turn["raw"]} if "raw" in turn else {}
        read = Turn(turn["role"], turn["content"], meta=turn.get("meta"), extra=extra)
        return _is_same(messages_of(read)[0], message)

    def message(self, turn: Turn) -> BaseMessage | None:
        """Return the message that *turn* is; ``None`` where it is none, or was scrubbed."""
        if is_typed(turn.extra.get("serde")):
            kind, data = turn.extra["serde"]
            loaded = self.serde.loads_typed((kind, base64.b64decode(data)))
            return loaded if isinstance(loaded, BaseMessage) else None
        found = messages_of(turn)
        return found[0] if found else None


def fingerprint(message: BaseMessage) -> bytes:
    """Return 16 bytes that stand for all that *message* holds, as it is now."""
    kind = type(message)
    told = (kind.__module__, kind.__qualname__, message.__dict__, message.__pydantic_extra__)
    try:
        _, data = _FOR_FINGERPRINTS.dumps_typed(told)
    except Exception:  # noqa: BLE001 - what only a serializer of the user's can hold
        return os.urandom(16)  # is never known again: it is stored at each step
    return hashlib.blake2b(data, digest_size=16).digest()


_FOR_FINGERPRINTS = JsonPlusSerializer()


def next_key(key: bytes, seen: set[bytes]) -> bytes:
    """Return the key of a message: another one where a list has it twice, as it was said twice."""
    while key in seen:
        key += b"+"
    return key


def are_messages(value: Any) -> bool:
    """Whether *value* is a list of messages, with at least one."""
    return (
        type(value) is list and bool(value) and all(isinstance(each, BaseMessage) for each in value)
    )


def _is_same(one: BaseMessage, other: BaseMessage) -> bool:
    return type(one) is type(other) and fingerprint(one) == fingerprint(other)


def is_json(value: Any) -> bool:
    """Whether *value* comes back from JSON as the very same, types included."""
    kind = type(value)
    if kind is str:
        return _is_text(value)
    if kind is dict:
        return all(
            type(key) is str and is_json(key) and is_json(item) for key, item in value.items()
        )
    if kind is list:
        return all(map(is_json, value))
    if kind is int:
        return bool(abs(value) < 1 << 53)
    if kind is float:
        return math.isfinite(value)
    return value is None or kind is bool


def _as_json(value: Any) -> Any:
    """Return *value* as near as JSON comes to it, for people to read."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return json.loads(text.encode("utf-8", "replace"), parse_constant=str)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def json_text(value: Any) -> str:
    """Return a packed value as text, to see how long it is."""
    return json.dumps(value, ensure_ascii=False)
