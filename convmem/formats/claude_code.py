"""Claude Code: ``~/.claude/projects/<folder>/<session>.jsonl``, a record a line, only appended to.

The vendor says where sessions lie and that their records may change; what is known of them was
told by skillsynchq/txcript (docs/formats/claude-code.md) and daaain/claude-code-log
(dev-docs/messages.md), and counted in real files.

- ``user`` and ``assistant`` say what ``message.content`` says, unchanged: it has the shape of the
  Messages API already. A ``user`` record that holds tool results alone was said by ``tool``.
- An ``attachment`` of a command that was queued while the model worked, typed by a person, is
  said by ``user``: no other record of it says so.
- Everything else is an event with one short line: ``system``, ``progress``, titles, snapshots.
- ``meta.parent`` is ``parentUuid`` (behind a compaction ``logicalParentUuid``), ``meta.agent`` the
  sub-agent, ``meta.model`` the model, ``meta.title`` a title that the session was given.
- ``toolUseResult``, usage, working folder, version and branch stay in ``raw`` alone.

A session is named by its file, whatever its records say: a fork begins with records that still
name the session that they were copied from. A sub-agent's file (``agent-<id>.jsonl``) is a
conversation of its own, ``<session>.agent-<id>``. Where the name says nothing (standard input, a
file renamed), records belong to the session that they name.
"""

from __future__ import annotations

import re

from convmem.formats.glance import glance
from convmem.formats.protocol import EVENT, Begin, Record
from convmem.formats.raws import as_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from convmem.formats.protocol import Kept
    from convmem.formats.reading.samples import Sample
    from convmem.formats.reading.sources import Source

NAME = "claude-code"
TITLE = "Claude Code"
SUFFIX = ".jsonl"
HAS_IDS = True
GROWS = True
SHARES = True

_SESSION = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_AGENT = "agent-"
_ENVELOPED = ("user", "assistant", "system", "progress", "attachment")
# Records without a session (titles, snapshots) may stand before the first that names one.
_MOST_HELD = 256


def recognises(sample: Sample) -> bool:
    """Whether some record has the envelope or a kind of its own that only Claude Code writes."""
    return any(map(_is_ours, sample.objects))


def _is_ours(value: dict[str, Any]) -> bool:
    kind = value.get("type")
    if type(kind) is not str or "role" in value or "payload" in value:
        return False
    if kind in ("user", "assistant") and type(value.get("message")) is dict:
        return type(value.get("uuid")) is str or type(value.get("sessionId")) is str
    if kind in _ENVELOPED:
        return type(value.get("uuid")) is str and type(value.get("sessionId")) is str
    if kind == "summary":
        return type(value.get("leafUuid")) is str
    if kind == "file-history-snapshot":
        return "snapshot" in value
    return kind in _EVENTS and type(value.get("sessionId")) is str


def read(source: Source, memory: dict[str, Any]) -> Iterator[Begin | Record]:
    """Yield each record of *source*: as many as it holds, each with its bytes."""
    stem = source.stem
    if _SESSION.fullmatch(stem):
        yield Begin(stem)
        yield from _mapped(source.records())
    else:
        yield from _by_what_they_name(source, memory)


def _mapped(records: Iterable[tuple[bytes, Any]]) -> Iterator[Record]:
    """Yield a Record for each of *records*. Called for every record of years: kept tight."""
    for raw, value in records:
        if type(value) is not dict:
            yield Record(EVENT, "", raw, None, None, {}, False)
            continue
        get = value.get
        id, ts = get("uuid"), get("timestamp")
        if type(id) is not str or not id:
            id = None
        if type(ts) is not str:
            ts = _time(value)
        role, content, meta, is_known = said_by(value)
        fork = get("forkedFrom")
        if fork is None:
            yield Record(role, content, raw, id, ts, meta, is_known)
        else:
            origin = fork.get("messageUuid") if type(fork) is dict else None
            if type(origin) is not str or not origin:
                origin = None
            yield Record(role, content, raw, id, ts, meta, is_known, origin)


def said_by(record: dict[str, Any]) -> tuple[str, Any, dict[str, Any], bool]:
    """Return who said a record, what, what else is told of it, and whether its kind is known.

    That is role, content and ``meta`` (without ``source``) of the turn that stands for it. Public:
    what mirrors a session while it runs records the same turns as an import of it afterwards.
    """
    get = record.get
    kind, message = get("type"), get("message")
    meta: dict[str, Any] = {}
    parent = get("parentUuid") or get("logicalParentUuid")
    if type(parent) is str:
        meta["parent"] = parent
    is_known = True
    if (kind == "user" or kind == "assistant") and type(message) is dict:
        content = message.get("content")
        role = kind
        if type(content) is list:
            if kind == "user" and _are_results(content):
                role = "tool"
        elif type(content) is not str:
            role, content, is_known = EVENT, "", False
            meta["kind"] = kind
        model = message.get("model")
        if type(model) is str:
            meta["model"] = model
        if get("isSidechain") is True and type(get("agentId")) is not str:
            meta["kind"] = "sidechain"
        if get("isMeta") is True:
            meta["kind"] = "meta"
        if get("isApiErrorMessage") is True:
            meta["kind"] = "api-error"
        if get("isCompactSummary") is True:
            meta["kind"] = "compact-summary"
    else:
        role = EVENT
        told = _EVENTS.get(kind) if type(kind) is str else None
        if told is None:
            content, is_known = "", False
            if type(kind) is str:
                meta["kind"] = kind
        else:
            meta["kind"] = kind
            content = told(record, meta)
            if kind == "attachment" and (prompt := _queued_prompt(record)):
                role, content = "user", prompt
    agent = get("agentId")
    if type(agent) is str:
        meta["agent"] = agent
    return role, content, meta, is_known


def _are_results(content: list[Any]) -> bool:
    """Whether tool results are all that *content* holds."""
    for block in content:
        if type(block) is not dict or block.get("type") != "tool_result":
            return False
    return bool(content)


def _time(value: dict[str, Any]) -> str | float | None:
    """Return the time of a record whose ``timestamp`` is no text."""
    ts = value.get("timestamp")
    if ts is None:
        snapshot = value.get("snapshot")
        if type(snapshot) is dict:
            ts = snapshot.get("timestamp")
    return ts if type(ts) in (str, int, float) else None


def _by_what_they_name(source: Source, memory: dict[str, Any]) -> Iterator[Begin | Record]:
    """Yield the records of a file that is a sub-agent's, or whose name says nothing."""
    agent: str = memory.get("agent", "")
    if not memory and source.stem.startswith(_AGENT):
        agent = source.stem[len(_AGENT) :]
    current: str | None = memory.get("conversation")
    session: str | None = memory.get("session")
    if current is not None:
        yield Begin(current, parent=session)
    values: list[Any] = []
    held: list[Record] = []
    for record in _mapped(_noted(source.records(), values)):
        value = values.pop()
        named = _session_of(value)
        # A sub-agent's file is one conversation, even where its session was forked or resumed.
        if named is not None and not (agent and current is not None):
            if agent and not _is_of_agent(value):
                agent = ""  # a session, in a file that somebody named so
            memory["agent"] = agent
            of_agent = agent or _agent_of(value)
            name = f"{named}.{_AGENT}{of_agent}" if of_agent else named
            if name != current:
                current, session = name, named if of_agent else None
                memory["conversation"], memory["session"] = current, session
                yield Begin(current, parent=session)
        held.append(record)
        if current is None:
            if len(held) < _MOST_HELD:
                continue
            current = memory["conversation"] = source.stem or None
            yield Begin(current)
        yield from held
        held.clear()
    if held:
        yield Begin(source.stem or None)
        yield from held


def _noted(records: Iterable[tuple[bytes, Any]], values: list[Any]) -> Iterator[tuple[bytes, Any]]:
    """Yield *records*, and put the value of each where whoever asked for it finds it."""
    for record in records:
        values.append(record[1])
        yield record


def _session_of(value: Any) -> str | None:
    if type(value) is not dict:
        return None
    # What the program prints as it goes (stream-json) spells it the other way.
    session = value.get("sessionId") or value.get("session_id")
    return session if type(session) is str else None


def _is_of_agent(value: dict[str, Any]) -> bool:
    return value.get("isSidechain") is True or type(value.get("agentId")) is str


def _agent_of(value: dict[str, Any]) -> str:
    agent = value.get("agentId")
    return agent if value.get("isSidechain") is True and type(agent) is str else ""


def _queued_prompt(value: dict[str, Any]) -> str | list[Any] | None:
    """Return what somebody typed while the model worked, of an ``attachment``."""
    attached = value.get("attachment")
    if type(attached) is not dict or attached.get("type") != "queued_command":
        return None
    prompt = attached.get("prompt")
    # Other modes are the program's own: that a task in the background has ended.
    is_typed = attached.get("commandMode", "prompt") == "prompt"
    return prompt if is_typed and type(prompt) in (str, list) else None


def _system(value: dict[str, Any], meta: dict[str, Any]) -> str:
    subtype = value.get("subtype")
    if type(subtype) is str:
        meta["kind"] = "system/" + subtype
    return glance(value.get("content"))


def _within(key: str, said: str) -> Callable[[dict[str, Any], dict[str, Any]], str]:
    """Return a teller for records whose object under *key* has a type of its own."""

    def tell(value: dict[str, Any], meta: dict[str, Any]) -> str:
        inner = value.get(key)
        if type(inner) is not dict:
            return ""
        kind = inner.get("type")
        if type(kind) is str:
            meta["kind"] += "/" + kind
        return glance(inner.get(said))

    return tell


def _saying(key: str, *, is_title: bool = False) -> Callable[[dict[str, Any], dict[str, Any]], str]:
    """Return a teller for records that say one thing, under *key*."""

    def tell(value: dict[str, Any], meta: dict[str, Any]) -> str:
        said = glance(value.get(key))
        if is_title and said:
            meta["title"] = said
        return said

    return tell


def _nothing(value: dict[str, Any], meta: dict[str, Any]) -> str:
    return ""


# What the records tell that are no messages; what they add to ``meta`` they put there.
_EVENTS: dict[str, Callable[[dict[str, Any], dict[str, Any]], str]] = {
    "system": _system,
    "progress": _within("data", "hookName"),
    "attachment": _within("attachment", "content"),
    "summary": _saying("summary", is_title=True),
    "custom-title": _saying("customTitle", is_title=True),
    "ai-title": _saying("aiTitle", is_title=True),
    "agent-name": _saying("agentName"),
    "last-prompt": _saying("lastPrompt"),
    "permission-mode": _saying("permissionMode"),
    "mode": _saying("mode"),
    "pr-link": _saying("prUrl"),
    "queue-operation": _saying("content"),
    "task-summary": _saying("summary"),
    "tag": _saying("tag"),
}
_EVENTS |= dict.fromkeys(
    "agent-color agent-setting atis-latch attribution-snapshot bridge-session checkpoint "
    "compact-boundary content-replacement cost-state diagnostic file-history-delta "
    "file-history-snapshot fork-context-ref frame-link marble-origami-commit "
    "marble-origami-snapshot relocated result saved_hook_context started todo "
    "worktree-state".split(),
    _nothing,
)


def native(kept: Iterable[Kept]) -> Iterator[bytes]:
    """Yield the lines again, as they were."""
    return as_lines(kept)
