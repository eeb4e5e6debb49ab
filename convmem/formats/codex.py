"""Codex CLI: ``~/.codex/sessions/YYYY/MM/DD/rollout-<time>-<id>.jsonl``, a record a line.

Told by openai/codex (codex-rs/rollout/src/recorder.rs and policy.rs, codex-rs/protocol) and
skillsynchq/txcript (docs/formats/codex.md). Three generations: ``{timestamp, type, payload}``;
before September 2025 the payloads bare, behind a first line ``{id, timestamp, instructions}``,
with ``{"record_type":"state"}`` between them.

- What is said is taken from ``response_item``: what the model saw. See ``response_items``.
- ``event_msg`` tells the same again for the screen, and is an event without content; only where
  a rollout has no messages of the first kind, its ``user_message`` and ``agent_message`` speak.
- ``session_meta``, ``turn_context``, ``compacted`` and all others are events. The model that a
  ``turn_context`` names is that of what follows.

Records have no ids. A fork begins with its own ``session_meta``, then tells its parent's records
again, that one's ``session_meta`` first, in their order, with new timestamps. So a record's id is
a hash over what was recorded since the ``session_meta`` of its session, times left out: copies
have the ids that they had, and what is said twice has two.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from convmem import jsontext
from convmem.formats.glance import glance
from convmem.formats.openai.response_items import ITEMS, said_by
from convmem.formats.protocol import EVENT, Begin, Record
from convmem.formats.raws import as_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from convmem.formats.protocol import Kept
    from convmem.formats.reading.samples import Sample
    from convmem.formats.reading.sources import Source

NAME = "codex"
TITLE = "Codex CLI"
SUFFIX = ".jsonl"
HAS_IDS = True
GROWS = True
SHARES = True

_ENVELOPES = frozenset(
    "session_meta response_item event_msg turn_context compacted world_state "
    "inter_agent_communication inter_agent_communication_metadata".split()
)
_ROLLOUT = re.compile(r"rollout-.*-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
# So much is read ahead of the first message, to see which of the two kinds a rollout has.
_MOST_AHEAD = 64
_AHEAD_BYTES = 1 << 20

_ITEMS_SPEAK, _EVENTS_SPEAK = "items", "events"


def recognises(sample: Sample) -> bool:
    """Whether the first records are a rollout's, of any generation."""
    found = sample.objects
    if any(_is_envelope(value) for value in found):
        return True
    if any(value == {"record_type": "state"} for value in found):
        return True
    return bool(found) and _is_bare_head(found[0])


def _is_envelope(value: dict[str, Any]) -> bool:
    kind = value.get("type")
    return type(kind) is str and kind in _ENVELOPES and type(value.get("payload")) is dict


def _is_bare_head(value: dict[str, Any]) -> bool:
    return (
        type(value.get("id")) is str
        and type(value.get("timestamp")) is str
        and "instructions" in value
        and value.keys() <= {"id", "timestamp", "instructions", "git"}
    )


def read(source: Source, memory: dict[str, Any]) -> Iterator[Begin | Record]:
    """Yield each record of *source*: as many as it holds, each with its bytes."""
    records = source.records()
    ahead: list[tuple[bytes, Any]] = []
    if "speaks" not in memory:
        speaks = _who_speaks(records, ahead)
        if not ahead:
            return
        if speaks is not None:
            memory["speaks"] = speaks
    chain = _Chain(memory)
    if "conversation" not in memory:
        first = ahead[0][1] if ahead else None
        conversation, parent = _conversation(first, source)
        memory["conversation"], memory["parent"] = conversation, parent
        if conversation is not None and _owner(first) is None:
            chain.begin(conversation)
    yield Begin(memory["conversation"], parent=memory["parent"])
    for raw, value in ahead:
        yield _record(raw, value, memory, chain)
    ahead.clear()
    for raw, value in records:
        yield _record(raw, value, memory, chain)


def _who_speaks(records: Iterator[tuple[bytes, Any]], ahead: list[tuple[bytes, Any]]) -> str | None:
    """Read *ahead* to the first message, and return of which kind it is if events speak alone."""
    size = 0
    has_event = False
    for raw, value in records:
        ahead.append((raw, value))
        size += len(raw)
        kind, payload = _opened(value)
        if kind == "response_item" and payload.get("type") == "message":
            return _ITEMS_SPEAK
        if kind == "event_msg" and _event_says(payload) is not None:
            has_event = True
        if len(ahead) >= _MOST_AHEAD or size >= _AHEAD_BYTES:
            break
    return _EVENTS_SPEAK if has_event else None


def _opened(value: Any) -> tuple[str | None, dict[str, Any]]:
    """Return the kind of a record of any generation, and its payload."""
    if type(value) is not dict:
        return None, {}
    kind, payload = value.get("type"), value.get("payload")
    if type(kind) is not str:
        if _is_bare_head(value):
            return "session_meta", value
        return ("state" if value.get("record_type") == "state" else None), value
    if type(payload) is dict and (kind in _ENVELOPES or kind not in ITEMS):
        return kind, payload
    # A payload without its envelope, as the oldest are.
    return ("response_item", value) if kind in ITEMS else (kind, value)


def _owner(value: Any) -> str | None:
    """Return the id of the session whose records follow, of a ``session_meta``."""
    kind, payload = _opened(value)
    if kind != "session_meta":
        return None
    owner = payload.get("id") or payload.get("session_id")
    return owner if type(owner) is str else None


def _conversation(first: Any, source: Source) -> tuple[str | None, str | None]:
    """Return the ids of the rollout and of the session that it is a sub-agent's of, if it is."""
    owner = _owner(first)
    if owner is not None:
        return owner, _spawned_by(_opened(first)[1])
    named = _ROLLOUT.fullmatch(source.stem)
    return (named[1] if named is not None else source.stem or None), None


def _spawned_by(meta: dict[str, Any]) -> str | None:
    inner = meta.get("source")
    for key in ("subagent", "thread_spawn"):
        inner = inner.get(key) if type(inner) is dict else None
    for place in (inner, meta):
        parent = place.get("parent_thread_id") if type(place) is dict else None
        if type(parent) is str and parent:
            return parent
    return None


class _Chain:
    """The ids of records, each over what was recorded before it: see the module's description."""

    __slots__ = ("_memory", "_owners", "_state")

    def __init__(self, memory: dict[str, Any]) -> None:
        self._memory = memory
        self._state = bytes.fromhex(memory.get("chain", ""))
        # The sessions that the first lines name; ``None`` once others have come, from where on
        # such a line is a record like any other.
        self._owners: list[str] | None = memory.setdefault("owners", [])

    def begin(self, owner: str) -> None:
        """From here on, records are those of session *owner*, from its first."""
        self._step(b"session", owner.encode("utf-8", "surrogatepass"))

    def id_of(self, raw: bytes, value: Any) -> str:
        """Return the id of the next record."""
        owner = _owner(value)
        if self._owners is None or owner is None or owner in self._owners:
            self._memory["owners"] = self._owners = None
            self._step(self._state, _said(raw, value))
            return self._made()
        self._owners.append(owner)
        self.begin(owner)
        made = self._made()
        # Some forks leave out the line that says whose records follow.
        origin = _opened(value)[1].get("forked_from_id")
        if type(origin) is str:
            self.begin(origin)
        return made

    def _made(self) -> str:
        return "codex-" + self._state.hex()

    def _step(self, before: bytes, what: bytes) -> None:
        self._state = blake2b(what, digest_size=16, key=before).digest()
        self._memory["chain"] = self._state.hex()


def _said(raw: bytes, value: Any) -> bytes:
    """Return what a record says, less what a copy of it says otherwise."""
    if type(value) is not dict:
        return raw
    try:
        return jsontext.dumps(
            {key: value[key] for key in value if key not in ("timestamp", "ordinal")}
        )
    except jsontext.NotJson:
        return raw


def _record(raw: bytes, value: Any, memory: dict[str, Any], chain: _Chain) -> Record:
    id = chain.id_of(raw, value)
    kind, payload = _opened(value)
    within = payload.get("type")
    if type(within) is not str:
        within = ""
    ts = _time(value, payload)
    meta: dict[str, Any] = {}
    said = None
    is_known = kind == "state" or kind in _ENVELOPES
    if kind == "response_item":
        if within == "message":
            memory["speaks"] = _ITEMS_SPEAK
        said = said_by(payload)
        if said is None:
            is_known = within in ITEMS
    elif kind == "event_msg" and memory.get("speaks") != _ITEMS_SPEAK:
        said = _event_says(payload)
    elif kind == "turn_context" and type(payload.get("model")) is str:
        memory["model"] = payload["model"]
    if said is not None:
        role, content = said
        if role == "assistant" and "model" in memory:
            meta["model"] = memory["model"]
        if type(payload.get("phase")) is str:
            meta["kind"] = payload["phase"]
        return Record(role, content, raw, id, ts, meta)
    if kind is not None:
        is_within = kind in ("response_item", "event_msg")
        meta["kind"] = f"{kind}/{within}" if is_within and within else kind
    if kind == "turn_context" and "model" in memory:
        meta["model"] = memory["model"]
    content = ""
    if kind == "compacted" or within in _NOTED:
        content = glance(payload.get(_NOTED.get(within, "message")))
    elif within == "thread_name_updated" and type(payload.get("thread_name")) is str:
        meta["title"] = content = glance(payload["thread_name"])
    return Record(EVENT, content, raw, id, ts, meta, is_known)


# Events that tell what nothing else does, and where they tell it.
_NOTED = {
    "error": "message",
    "warning": "message",
    "stream_error": "message",
    "turn_aborted": "reason",
    "thread_rolled_back": "reason",
}


def _event_says(payload: dict[str, Any]) -> tuple[str, Any] | None:
    """Return the role and the content of a message that is told for the screen."""
    kind = payload.get("type")
    if kind == "item_completed" and type(payload.get("item")) is dict:
        return _item_says(payload["item"])
    key = "text" if kind == "agent_reasoning" else "message"
    text = payload.get(key)
    if type(text) is not str or not text:
        return None
    if kind == "user_message":
        images = payload.get("images")
        if type(images) is list and images:
            pictures = [{"type": "input_image", "image_url": each} for each in images]
            parts = [{"type": "input_text", "text": text}, *pictures]
            return said_by({"type": "message", "role": "user", "content": parts})
        return "user", text
    if kind == "agent_message":
        return "assistant", text
    if kind == "agent_reasoning":
        return "assistant", [{"type": "thinking", "thinking": text}]
    return None


def _item_says(item: dict[str, Any]) -> tuple[str, Any] | None:
    role = {"UserMessage": "user", "AgentMessage": "assistant"}.get(str(item.get("type")))
    parts = item.get("content")
    if role is None or type(parts) is not list:
        return None
    texts = [part.get("text") for part in parts if type(part) is dict]
    if not texts or not all(type(text) is str for text in texts):
        return None
    return role, "\n".join(str(text) for text in texts)


def _time(value: Any, payload: dict[str, Any]) -> str | float | None:
    if type(value) is not dict:
        return None
    ts = value.get("timestamp") or payload.get("timestamp")
    return ts if type(ts) in (str, int, float) else None


def native(kept: Iterable[Kept]) -> Iterator[bytes]:
    """Yield the lines again, as they were."""
    return as_lines(kept)
