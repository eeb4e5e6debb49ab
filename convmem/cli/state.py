"""``convmem state``: read and change the small JSON document beside a conversation."""

from __future__ import annotations

import sys

from convmem import jsontext
from convmem.cli import values
from convmem.cli.output.machine import write_object
from convmem.cli.output.messages import Messages, is_terminal, stdout_is_terminal, write_bytes
from convmem.cli.places import open_archive
from convmem.cli.standard_input import read_some
from convmem.errors import CorruptLog, UsageError
from convmem.log.state import MAX_BYTES
from convmem.progress import Observer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from convmem.cli.spec import Context
    from convmem.conversation import Conversation

_ACTIONS = ("get", "set", "unset", "clear")
_STDIN = "-"
_HINT = "see convmem state --help"


def run(
    context: Context,
    *,
    continuation_id: str,
    action: str,
    words: list[str],
    ttl: str | None,
    dry_run: bool,
    quiet: bool,
    json: bool,
) -> int:
    """Do what *action* says, and return the exit status."""
    jsontext.expect_few_calls()
    if action not in _ACTIONS:
        raise UsageError(f"{action!r} is no action: get, set, unset or clear", hint=_HINT)
    if ttl is not None and action != "set":
        raise UsageError(f"--ttl does not go with {action}", hint=_HINT)
    if dry_run and action not in ("unset", "clear"):
        raise UsageError(f"--dry-run does not go with {action}", hint=_HINT)
    messages = Messages(as_json=json, quiet=quiet)
    ttl_seconds = values.duration("--ttl", ttl)
    with open_archive(context, observer=_SetAside(messages), messages=messages) as archive:
        chat = archive.conversation(continuation_id)
        if action == "get":
            return _get(chat, words, messages, as_json=json)
        if action == "set":
            return _set(chat, _changes(words), ttl_seconds, as_json=json)
        if action == "unset":
            return _unset(chat, words, dry_run=dry_run, as_json=json)
        return _clear(chat, words, dry_run=dry_run, as_json=json)


def complete_actions(incomplete: str) -> list[str]:
    """Return the actions that begin with *incomplete*, for the shell."""
    return [action for action in _ACTIONS if action.startswith(incomplete)]


def _get(chat: Conversation, words: list[str], messages: Messages, *, as_json: bool) -> int:
    if len(words) > 1:
        raise UsageError("get takes one KEY, or none for all", hint=_HINT)
    value: Any = chat.state()
    if not value:
        chat.describe()  # an error where there is no conversation either
    for key in words:
        if key not in value:
            messages.warn("no_key", f"the state of {chat.continuation_id} has no {key!r}", key=key)
            return 1
        value = value[key]
    is_text = isinstance(value, str) and not as_json
    if stdout_is_terminal() and not as_json:
        from convmem.cli.output.safe import safe

        write_bytes(safe(value if is_text else _pretty(value)).encode() + b"\n")
    else:
        write_bytes((value.encode() if is_text else jsontext.dumps(value)) + b"\n")
    return 0


def _set(
    chat: Conversation, changes: dict[str, Any], ttl_seconds: float | None, *, as_json: bool
) -> int:
    stored = chat.update_state(changes, ttl=ttl_seconds)
    if as_json:
        write_object(stored)
    return 0


def _unset(chat: Conversation, words: list[str], *, dry_run: bool, as_json: bool) -> int:
    if not words:
        raise UsageError("unset needs a KEY", hint="to remove all: convmem state ID clear")
    state = chat.state()
    was_there = bool(state)
    if dry_run:
        gone = [key for key in dict.fromkeys(words) if key in state]
        state = {key: value for key, value in state.items() if key not in gone}
        if not as_json:
            _tell(f"would remove {key}" for key in gone)
    else:
        state = chat.update_state(dict.fromkeys(words))
    if not was_there:
        chat.describe()
    if as_json:
        write_object(state)
    return 0


def _clear(chat: Conversation, words: list[str], *, dry_run: bool, as_json: bool) -> int:
    if words:
        raise UsageError("clear takes no KEY", hint="to remove some: convmem state ID unset KEY")
    try:
        keys = list(chat.state())
        would = [f"would remove {key}" for key in keys]
    except CorruptLog:
        keys = []
        would = ["would set the damaged state aside in .quarantine"]
    # Without a look at what was read: what has expired is still on the disk.
    cleared = bool(would) if dry_run else chat.clear_state()
    if not cleared:
        chat.describe()
    if as_json:
        write_object({"cleared": cleared, "dry_run": dry_run, "keys": keys})
    elif dry_run:
        _tell(would)
    return 0


class _SetAside(Observer):
    """Says where the bytes of a damaged state went."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages

    def set_aside(self, continuation_id: str, quarantined: str) -> None:
        """Say it."""
        self._messages.warn(
            "set_aside",
            f"{continuation_id}: the damaged state was set aside in .quarantine/{quarantined}",
            continuation_id=continuation_id,
            quarantine=quarantined,
        )


def _changes(words: list[str]) -> dict[str, Any]:
    """Read ``KEY=TEXT`` and ``KEY:=JSON``; without any, a JSON object from standard input."""
    if not words:
        if is_terminal(sys.stdin):
            raise UsageError("set needs KEY=VALUE, or a JSON object on standard input", hint=_HINT)
        return _object(_input())
    changes: dict[str, Any] = {}
    is_read = False
    for word in words:
        key, equals, text = word.partition("=")
        is_json = key.endswith(":")
        key = key[:-1] if is_json else key
        if not equals or not key:
            raise UsageError(f"{word!r} is neither KEY=TEXT nor KEY:=JSON", hint=_HINT)
        if key in changes:
            raise UsageError(f"{key!r} is set twice")
        data = text.encode("utf-8", "surrogateescape")
        if text == _STDIN:
            if is_read:
                raise UsageError("only one value can come from standard input")
            is_read = True
            # Cut as for a turn: what the shell's $(…) would cut as well.
            data = _input().removesuffix(b"\n")
        changes[key] = _json(key, data) if is_json else _text(key, data)
    return changes


def _input() -> bytes:
    parts = []
    size = 0
    while data := read_some(1 << 16):
        parts.append(data)
        size += len(data)
        if size > MAX_BYTES:
            raise UsageError(f"standard input is too long: a state takes {MAX_BYTES:,} bytes")
    return b"".join(parts)


def _text(key: str, data: bytes) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{key}: not UTF-8 at byte {error.start}") from None


def _json(key: str, data: bytes) -> Any:
    try:
        return jsontext.loads(data)
    except jsontext.NotJson as error:
        raise UsageError(
            f"{key}: not JSON: {error}", hint=f"for text leave out the colon: {key}=…"
        ) from None


def _object(data: bytes) -> dict[str, Any]:
    value = _json("standard input", data)
    if not isinstance(value, dict):
        raise UsageError("standard input is not a JSON object")
    return value


def _pretty(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False, indent=2)


def _tell(lines: Iterable[str]) -> None:
    from convmem.cli.boundary import one_line

    write_bytes("".join(f"{one_line(line)}\n" for line in lines).encode())
