"""ChatGPT: the files of conversations in an export of one's data, or one conversation alone.

OpenAI does not document the export; what is known of it was told by mohamed-chs/convoviz
(docs/dev/chatgpt-spec.md, v3.0 of February 2026) and Sinity/polylogue (inferred from 2,122
conversations), and seen in its samples. A file holds an array of conversations, an object with one
under ``conversations``, or one conversation; an export has one such file or dozens.

Each node of ``mapping`` is a turn, on every branch, with the node's id; one without a message is an
event. ``meta.parent`` is the parent node, ``meta.active`` whether the node was in the shown thread,
``current_node`` and what leads to it, when it was imported; which one is by now follows from
``meta.leaf`` of the newest head (see ``documents.head_record``).

- What an assistant says to a tool (``recipient``) is a ``tool_use`` with the node's id: its input
  is the JSON object that was said, else ``{"code"}`` or ``{"text"}``. What a tool says is a
  ``tool_result`` of the call that it hangs below; ``system_error`` is one that failed.
- ``code`` to anybody else is Markdown in a fence. ``thoughts`` are thinking blocks. Recaps, quotes,
  web pages and contexts are the text that they hold, named in ``meta.kind``.
- Pictures, sound and attachments are blocks that name their file: its bytes are not in the JSON.
- ``meta.kind`` is ``hidden`` for what the page does not show: weight 0, or
  ``is_visually_hidden_from_conversation``. ``meta.model`` is ``model_slug``.
- Citations, status, channel, timings and the settings of the conversation stay in ``raw`` alone.
"""

from __future__ import annotations

from convmem.formats import documents
from convmem.formats.chatgpt_content import KINDS, PLAIN, attachments, blocks_of, call, outputs
from convmem.formats.chatgpt_tree import Tree, mapping_of, without_children
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

NAME = "chatgpt"
TITLE = "ChatGPT export"
SUFFIX = ".json"
HAS_IDS = True
GROWS = False
SHARES = False

_WRAPPER = "conversations"
_MAPPING = "mapping"
_BESIDE = {"current_node", "create_time", "update_time", "title", "conversation_id"}
_ROLES = frozenset(("user", "assistant", "system", "tool"))


def recognises(sample: Sample) -> bool:
    """Whether the first conversation has a ``mapping`` of nodes."""
    if sample.first_byte not in (b"[", b"{"):
        return False
    opening = opening_of(sample.head, _WRAPPER)
    names = opening.first | opening.names
    return _MAPPING in names and (bool(names & _BESIDE) or b'"children"' in sample.head)


def read(source: Source, memory: dict[str, Any]) -> Iterator[Begin | Record]:
    """Yield every conversation of *source*: its head, then its nodes, each behind its parent."""
    opening = opening_of(source.head(SAMPLE_BYTES), _WRAPPER)
    if opening.is_list or _WRAPPER in opening.names:
        for raw, value in source.elements(_WRAPPER):
            yield from _conversation(raw, value)
    else:
        yield from _conversation(*source.document())


def native(kept: Iterable[Kept]) -> Iterator[bytes]:
    """Yield the conversation as one JSON object, as an export holds it in its array."""
    head, whole, raws = documents.newest(kept, "update_time")
    if whole is not None:
        yield whole + b"\n"
        return
    if _MAPPING not in head and raws:
        head = {**head, _MAPPING: {}}
    before = b"{"
    for name, value in head.items():
        yield before + documents.as_json(name) + b":"
        if name == _MAPPING and isinstance(value, dict):
            yield from mapping_of(value, raws)
        else:
            yield documents.as_json(value)
        before = b","
    yield (b"{}" if before == b"{" else b"}") + b"\n"


def _conversation(raw: bytes, value: Any) -> Iterator[Begin | Record]:
    if not isinstance(value, dict):
        yield from documents.stranger(raw, value)
        return
    mapping = value.get(_MAPPING)
    ids = [documents.usable_id(value.get(key)) for key in ("conversation_id", "id")]
    first = next(iter(mapping), None) if isinstance(mapping, dict) else None
    conversation_id = ids[0] or ids[1] or documents.unnamed(value.get("create_time"), first)
    yield Begin(conversation_id, last_ts=_moment(value.get("update_time")))
    about: dict[str, Any] = {
        "title": value.get("title"),
        "ts": _moment(value.get("create_time")),
        "updated": value.get("update_time"),
    }
    if not isinstance(mapping, dict):
        yield documents.head_record(value, is_known=False, **about)
        return
    tree = Tree(mapping, conversation_id)
    leaf = tree.leaf(value.get("current_node"))
    yield documents.head_record({**value, _MAPPING: tree.layout}, leaf=leaf, **about)
    active = tree.active(leaf)
    calls: dict[str, str] = {}
    for turn_id in tree.in_order():
        node = tree.nodes[turn_id]
        meta: dict[str, Any] = {"active": turn_id in active}
        parent = tree.parents.get(turn_id)
        if parent is not None:
            meta["parent"] = parent
            if parent in calls:
                calls[turn_id] = calls[parent]
        raw_node = documents.as_raw(without_children(node))
        yield _turn(turn_id, node.get("message"), raw_node, meta, calls)


def _turn(
    turn_id: str,
    message: Any,
    raw: bytes | str,
    meta: dict[str, Any],
    calls: dict[str, str],
) -> Record:
    """Return the record of one node. *calls* names, by node, the call that is being answered."""
    if not isinstance(message, dict):
        meta["kind"] = "node"
        return Record(EVENT, "", raw, turn_id, None, meta, message is None)
    metadata = _object(message, "metadata")
    role = _object(message, "author").get("role")
    content = message.get("content")
    kind = content.get("content_type") if isinstance(content, dict) else None
    is_known = isinstance(kind, str) and kind in KINDS
    ts = _moment(message.get("create_time"))
    if isinstance(metadata.get("model_slug"), str) and metadata["model_slug"]:
        meta["model"] = metadata["model_slug"]
    if metadata.get("is_visually_hidden_from_conversation") is True or message.get("weight") == 0:
        meta["kind"] = "hidden"
    elif isinstance(kind, str) and kind not in PLAIN:
        meta["kind"] = kind
    if not isinstance(role, str) or role not in _ROLES:
        meta.setdefault("kind", "message")
        return Record(EVENT, "", raw, turn_id, ts, meta, False)
    blocks = blocks_of(content)
    blocks += attachments(metadata, blocks)
    recipient = message.get("recipient")
    if role == "tool":
        blocks += outputs(metadata)
        result: dict[str, Any] = {
            "type": "tool_result",
            "tool_use_id": calls.get(turn_id, ""),
            "content": _plain(blocks),
        }
        if kind == "system_error":
            result["is_error"] = True
        return Record(role, [result], raw, turn_id, ts, meta, is_known)
    calls.pop(turn_id, None)
    if role == "assistant" and isinstance(recipient, str) and recipient not in ("", "all"):
        called = call(turn_id, recipient, content)
        if called is not None:
            calls[turn_id] = turn_id
            blocks = [each for each in blocks if each["type"] != "text"] + [called]
    return Record(role, _plain(blocks), raw, turn_id, ts, meta, is_known)


def _plain(blocks: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Return text alone as a string, as it is."""
    if all(block["type"] == "text" for block in blocks):
        return "\n".join(block["text"] for block in blocks)
    return blocks


def _object(value: dict[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _moment(value: Any) -> str | float | None:
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None
