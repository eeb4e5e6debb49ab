"""Keys of sessions as ids of conversations, one for one: no two keys have the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from convmem import UsageError

if TYPE_CHECKING:
    from claude_agent_sdk.types import SessionKey, SessionListSubkeysKey


class Key(NamedTuple):
    """Which transcript; ``subpath`` is ``None`` for the session itself."""

    project: str
    session: str
    subpath: str | None


_AGENT = ".agent-"
_AGENTS = "subagents/agent-"
_MISTAKEN = r"[%@\x00-\x1f\x7f\ud800-\udfff]|\.(?=agent-)"
_NAMES = re.compile(rf"{_MISTAKEN}|/")
_PATHS = re.compile(_MISTAKEN)
_ESCAPES = re.compile("%u([0-9a-f]{4})|%([0-9a-f]{2})")


def key_of(key: SessionKey | SessionListSubkeysKey) -> Key:
    """Return which transcript the SDK means."""
    return Key(key["project_key"], key["session_id"], key.get("subpath"))


def name_of(key: Key) -> str:
    """Return the id of the conversation of *key*: no two keys have the same."""
    session, at_project = escaped(key.session), "@" + escaped(key.project)
    if key.subpath is None:
        return session + at_project
    if not key.subpath:
        raise UsageError("a subpath cannot be empty", hint="leave it out for the session itself")
    agent = key.subpath.removeprefix(_AGENTS)
    if agent and agent != key.subpath and "/" not in agent:
        return session + _AGENT + escaped(agent) + at_project
    return f"{session}/{escaped(key.subpath, _PATHS)}{at_project}"


def key_in(name: str) -> Key | None:
    """Return the key of a conversation, or ``None`` if it is none of a session."""
    before, at, project = name.rpartition("@")
    if not at:
        return None
    session, slash, path = before.partition("/")
    subpath = _unescaped(path) if slash else None
    if not slash:
        session, dot, agent = before.partition(_AGENT)
        subpath = _AGENTS + _unescaped(agent) if dot else None
    key = Key(_unescaped(project), _unescaped(session), subpath)
    # Only the one spelling that we would write ourselves counts.
    return key if subpath != "" and name_of(key) == name else None


def escaped(text: str, mistaken: re.Pattern[str] = _NAMES) -> str:
    """Return *text* as a part of an id, in which nothing can be taken for what parts them."""
    return mistaken.sub(_escape, text) or "%"


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"%{code:02x}" if code < 0x100 else f"%u{code:04x}"


def _unescaped(text: str) -> str:
    return "" if text == "%" else _ESCAPES.sub(lambda it: chr(int(it[1] or it[2], 16)), text)
