"""aider's chat history (``.aider.chat.history.md``): text that is only ever appended to.

A session begins at ``# aider chat started at …``: a conversation, whose head, an event, is that
line. ``#### `` begins a line of the user's, ``> `` one of aider's own (``tool``), the rest is the
model's; a turn is a stretch of lines of one kind, with the blank lines that were written with it,
and its ``raw`` is that text exactly, so that joined they are the file. Only the last stretch may
still grow. Blank lines tell one input of the user's from the next. Within a code fence nothing is
a mark, unless the fence is never closed, or the line is surely aider's own: an input (behind a
blank line, with two blanks at its end) or the count of tokens that follows an answer. A session's
start is one anywhere.

A session is told by its start, to the second, and a turn by its place in it: one that has grown is
a later version of that turn. The start is the only time there is, in local time and without a
zone: it is taken as a time of this machine's zone, and all turns of the session have it.
``meta.model`` is what ``> Model:`` said last. Text that is not UTF-8 is ``{"base64": …}``.

From aider's source: aider/io.py (``append_chat_history``, ``user_input``, ``ai_output``) and
aider/utils.py (``split_chat_history_markdown``).
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from convmem import jsontext
from convmem.formats.protocol import EVENT, Begin, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convmem.formats.protocol import Kept
    from convmem.formats.reading.samples import Sample
    from convmem.formats.reading.sources import Source

NAME = "aider"
TITLE = "aider"
SUFFIX = ".md"
HAS_IDS = True
GROWS = False
SHARES = False

_HEAD, _USER, _TOOL, _MODEL = "head", "user", "tool", "assistant"
_STARTED = re.compile(rb"# aider chat started at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
_FENCE = re.compile(rb" {0,3}(`{3,}|~{3,})([^\r\n]*)")
_TOKENS = re.compile(rb"> Tokens: [\d.,]+[kM]? sent")
_MODEL_NAMED = re.compile(rb"> (?:Main m|M)odel: (\S+)")
_MARKS = {_USER: b"####", _TOOL: b">"}


def recognises(sample: Sample) -> bool:
    """Whether a session starts within *sample*, and no line before it is JSON."""
    if sample.is_database or sample.first_byte in (b"{", b"["):
        return False
    return any(_STARTED.match(line) for line in sample.head.split(b"\n"))


def read(source: Source, memory: dict[str, Any]) -> Iterator[Begin | Record]:
    """Yield the sessions of *source*, stretch by stretch; the last one may still grow."""
    ts: str | None = None
    model: str | None = None
    session = ""
    counts: dict[str, int] = {}
    for kind, lines in _stretches(source.text_lines()):
        raw = _raw(b"".join(lines))
        if kind == _HEAD or not session:
            ts, model = _time_of(lines), None
            session = _session(lines)
            yield Begin(session, last_ts=ts)
        at = counts[session] = counts.get(session, -1) + 1
        meta: dict[str, Any] = {}
        if kind == _HEAD:
            meta["kind"] = "session"
        elif kind == _MODEL and model is not None:
            meta["model"] = model
        for line in lines if kind == _TOOL else ():
            named = _MODEL_NAMED.match(line)
            if named:
                model = str(named[1], "utf-8", "replace")
        text = _text(lines, _MARKS.get(kind))
        role, text = (EVENT, text.removeprefix("# ")) if kind == _HEAD else (kind, text)
        yield Record(role, text, raw, f"{session}.{at}", ts, meta)


def native(kept: Iterable[Kept]) -> Iterator[bytes]:
    """Yield the text of one session as it was, each stretch as it was read last."""
    origins: dict[str | None, str | None] = {}
    raws: dict[str | None, bytes | str] = {}
    for each in kept:
        if each.raw is None:
            continue
        id, replaced = each.turn.id, (each.turn.meta or {}).get("replaces")
        origin = origins[id] = origins.get(replaced, replaced) if replaced else id
        raws[origin] = each.raw
    for raw in raws.values():
        yield raw.encode() if isinstance(raw, str) else _unpacked(raw)


def _stretches(lines: Iterable[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Yield stretches of lines with their kind. Holds one, or all that follows an open fence."""
    kind = ""
    held: list[bytes] = []
    fence = b""
    opened = 0  # where in ``held`` the fence begins
    for line in lines:
        if _STARTED.match(line):
            before = _blank_before(_HEAD, held) if kind else held
            held = held if kind else []  # nothing but blank lines
            yield from _closed(kind, held, opened if fence else None)
            kind, held, fence = _HEAD, [*before, line], b""
            continue
        is_mark = _kind_of(line)
        if fence and not _is_surely_ours(line, held):
            if _closes(line, fence):
                fence = b""
            held.append(line)
            continue
        fence = b""
        if not is_mark or not kind:
            kind = kind or is_mark
            held.append(line)
        elif is_mark != kind or (is_mark == _USER and not held[-1].strip()):
            before = _blank_before(is_mark, held)
            yield kind, held
            kind, held = is_mark, [*before, line]
        else:
            held.append(line)
        if is_mark == _MODEL and (found := _FENCE.match(line)) and not _is_inline(found):
            fence, opened = found[1], len(held) - 1
    yield from _closed(kind, held, opened if fence else None)


def _closed(kind: str, held: list[bytes], opened: int | None) -> Iterator[tuple[str, list[bytes]]]:
    """Yield what is held at a session's end; where a fence is open, that fence is none."""
    if opened is not None:
        lines, held = held[opened:], held[:opened]
        for line in lines:
            is_mark = _kind_of(line)
            if is_mark and (is_mark != kind or (is_mark == _USER and not held[-1].strip())):
                before = _blank_before(is_mark, held)
                if held:
                    yield kind, held
                kind, held = is_mark, before
            held.append(line)
    if held:
        yield kind or _MODEL, held


def _blank_before(kind: str, held: list[bytes]) -> list[bytes]:
    """Take the blank line that belongs to a stretch of *kind* from what stands before it.

    aider writes one before all but its own lines, together with them: so nothing that was read
    before changes when the history goes on.
    """
    has_one = kind != _TOOL and len(held) > 1 and not held[-1].strip()
    return [held.pop()] if has_one else []


def _kind_of(line: bytes) -> str:
    """Return whose line it is by its first letters; nothing for a blank one."""
    text = line.rstrip()
    if not text:
        return ""
    if line.startswith(b"#### ") or text == b"####":
        return _USER
    return _TOOL if line.startswith(b"> ") or text == b">" else _MODEL


def _is_surely_ours(line: bytes, held: list[bytes]) -> bool:
    """Whether aider has written this line, whatever is open."""
    if not line.rstrip(b"\r\n").endswith(b"  "):
        return False
    is_input = line.startswith(b"#### ") and bool(held) and not held[-1].strip()
    return is_input or _TOKENS.match(line) is not None


def _is_inline(found: re.Match[bytes]) -> bool:
    """Whether what looks like a fence is code within a line."""
    return found[1][:1] == b"`" and b"`" in found[2]


def _closes(line: bytes, fence: bytes) -> bool:
    found = _FENCE.match(line)
    return found is not None and found[1].startswith(fence) and not found[2].strip()


def _text(lines: list[bytes], mark: bytes | None = None) -> str:
    if mark is not None:
        lines = [line.rstrip().removeprefix(mark).removeprefix(b" ") + b"\n" for line in lines]
    text = str(b"".join(lines), "utf-8", "replace").replace("\r\n", "\n")
    return text.strip("\r\n")


def _session(lines: list[bytes]) -> str:
    """Return the id of the session that begins with *lines*: when it was started."""
    for line in lines:
        if found := _STARTED.match(line):
            return "aider-" + str(found[1], "ascii").replace(" ", "T").replace(":", "-")
    return "aider-" + blake2b(lines[0], digest_size=8).hexdigest()


def _time_of(lines: list[bytes]) -> str | None:
    for line in lines:
        if found := _STARTED.match(line):
            try:
                return datetime.fromisoformat(str(found[1], "ascii")).astimezone().isoformat()
            except (ValueError, OverflowError, OSError):
                return None  # no such day, or one that the zone does not reach
    return None


def _raw(text: bytes) -> bytes | str:
    try:
        return str(text, "utf-8")
    except UnicodeDecodeError:
        return jsontext.dumps({"base64": str(b64encode(text), "ascii")})


def _unpacked(raw: bytes) -> bytes:
    try:
        return b64decode(jsontext.loads(raw)["base64"], validate=True)
    except (ValueError, KeyError, TypeError):
        return raw
