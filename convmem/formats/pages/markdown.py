"""A conversation as Markdown: a section a turn, readable on GitHub, in an editor and in a terminal.

Headings that begin with one or two ``#`` are the export's own; whatever was said cannot make one.
"""

from __future__ import annotations

from html import escape

from convmem.formats.pages.pretty import pretty
from convmem.formats.pages.said import (
    Call,
    Medium,
    Other,
    Result,
    Text,
    Thought,
    copied,
    is_secret,
    parts_of,
    summed_up,
)
from convmem.formats.pages.tame import code, fenced, inline, tame
from convmem.formats.pages.visible import visible, visible_line, visible_output
from convmem.quantities import format_count, format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from convmem.formats.heads import Head
    from convmem.formats.pages.said import Part
    from convmem.turns import Turn

NAME = "markdown"
SUFFIX = ".md"

_ROLES = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"}
# What is longer stands folded; a viewer that knows no folds shows it all the same.
_MAX_LINES = 15
_LINE_LETTERS = 100


def write(head: Head, turns: Iterator[Turn]) -> Iterator[bytes]:
    """Yield the file, turn by turn. Holds one turn at a time; the same turns, the same bytes."""
    yield _top(head).encode(errors="backslashreplace")
    document = _Document()
    for turn in turns:
        for piece in document.turn(turn):
            yield piece.encode(errors="backslashreplace")
    yield document.foot().encode()


def _top(head: Head) -> str:
    told = f"Conversation {code(visible_line(head.continuation_id))}"
    if head.namespace not in ("", "default"):
        told += f" in {code(visible_line(head.namespace))}"
    return f"# {inline(visible_line(head.name))}\n\n{told}. Times are in UTC.\n"


class _Document:
    """What one turn has to know of those before it."""

    def __init__(self) -> None:
        self._count = 0
        self._events = 0
        self._secrets = 0
        self._speaker = ""
        self._by = ""
        self._calls: dict[str, str] = {}

    def foot(self) -> str:
        """Return the last line: how much this was, and what was left out."""
        told = [format_count(self._count, "turn")]
        if self._events:
            told.append(f"{format_count(self._events, 'event')} left out")
        if self._secrets:
            told.append(f"{format_count(self._secrets, 'thought')} of which no text was kept")
        return f"\n---\n\n*{', '.join(told)}*\n"

    def turn(self, turn: Turn) -> Iterator[str]:
        """Yield one turn: its heading, unless it only goes on, then its parts."""
        meta = turn.meta or {}
        elsewhere = copied(meta)
        if elsewhere is not None:
            self._count += 1
            yield f"\n*{elsewhere[0]}, in* {code(elsewhere[1])}\n"
            return
        if turn.role == "event":
            self._events += 1
            return
        parts = list(parts_of(turn))
        if is_secret(parts):
            self._secrets += 1
            return
        self._count += 1
        is_quiet = bool(parts) and all(isinstance(each, Call | Result | Thought) for each in parts)
        goes_on = self._speaker and (turn.role == "tool" or turn.role == self._speaker)
        when = "" if turn.ts is None else turn.ts.isoformat(" ")[:19]
        if is_quiet and goes_on and meta.get("active") is not False:
            when = when[11:]
        else:
            yield f"\n## {' · '.join(self._heading(turn, when))}\n"
            self._speaker = turn.role
            when = ""
        for part in parts:
            for piece in self._part(part, when):
                yield f"\n{piece}\n"
            when = ""

    def _heading(self, turn: Turn, when: str) -> Iterator[str]:
        meta = turn.meta or {}
        summary = summed_up(turn)
        yield (
            f"Summary {summary}"
            if summary
            else inline(_ROLES.get(turn.role) or visible_line(turn.role))
        )
        if when:
            yield when
        if turn.seq is not None:
            yield f"turn {turn.seq}"
        agent, model = meta.get("agent"), meta.get("model")
        if isinstance(agent, str) and agent:
            yield f"agent {inline(visible_line(agent)[:80])}"
        if isinstance(model, str) and model and model[:80] != self._by:
            self._by = model[:80]
            yield inline(visible_line(self._by))
        if meta.get("active") is False:
            yield "not on the active branch"

    def _part(self, part: Part, when: str) -> Iterator[str]:
        """Yield the blocks of one part, without empty lines around them."""
        if isinstance(part, Text):
            yield _output(part.text) if part.is_output else tame(visible(part.text))
        elif isinstance(part, Thought):
            if part.text.strip():
                yield _fold(f"Thinking{_at(when)}", tame(visible(part.text)))
        elif isinstance(part, Call):
            if part.id and len(part.id) <= 200:
                self._calls[part.id] = visible_line(part.name)[:80]
                if len(self._calls) > 1000:
                    del self._calls[next(iter(self._calls))]
            yield from _call(part, when)
        elif isinstance(part, Result):
            yield from self._result(part, when)
        elif isinstance(part, Medium):
            yield from _medium(part)
        else:
            yield fenced(visible(pretty(part.value)), "json")

    def _result(self, part: Result, when: str) -> Iterator[str]:
        name = self._calls.pop(part.call_id, "") or visible_line(part.name)[:80]
        what = "Failure" if part.has_failed else "Result"
        told = f"{what} of {name}" if name else what
        if len(part.parts) > 1 and all(isinstance(each, Other) for each in part.parts):
            values = [each.value for each in part.parts if isinstance(each, Other)]
            body = fenced(visible(pretty(values)), "json")
        else:
            body = "\n\n".join(block for each in part.parts for block in self._part(each, ""))
        lines = body.count("\n") - 1
        if len(part.parts) == 1 and isinstance(part.parts[0], Text) and lines > _MAX_LINES:
            yield _fold(f"{told}{_at(when)}, {format_count(lines, 'line')}", body)
            return
        head = f"{what}{f' of **{inline(name)}**' if name else ''}{_at(when)}"
        if body and "\n" not in body:
            yield f"{head}: {body}"
            return
        yield f"{head}{':' if body else ''}"
        if body:
            yield body


def _call(part: Call, when: str) -> Iterator[str]:
    name, given = visible_line(part.name)[:200], part.given
    head = f"**{inline(name)}**{_at(when)}"
    if given is None or given == {} or given == "":
        yield head
        return
    if isinstance(given, dict):
        about = given.get("description")
        if isinstance(about, str) and len(given) > 1 and 0 < len(about) <= 200:
            given = {key: each for key, each in given.items() if key != "description"}
            head += f": {inline(visible_line(about))}"
    blocks = list(_arguments(given))
    body = "\n\n".join(blocks)
    lines = body.count("\n") - 1
    if lines > _MAX_LINES:
        yield _fold(f"{name}{_at(when)}, {format_count(lines, 'line')}", body)
        return
    yield head
    yield body


def _arguments(given: Any) -> Iterator[str]:
    """Yield a call's arguments: JSON, but texts of several lines as the text that they are."""
    if isinstance(given, str):
        yield fenced(visible(given))
        return
    long = {}
    if isinstance(given, dict):
        long = {
            key: each
            for key, each in given.items()
            if isinstance(each, str) and ("\n" in each or key == "command")
        }
        given = {key: each for key, each in given.items() if key not in long}
    if given or not long:
        yield fenced(visible(pretty(given)), "json")
    for key, text in long.items():
        if key != "command":
            yield f"{code(visible_line(key))}:"
        yield fenced(visible(text).rstrip("\n"), "sh" if key == "command" else "")


def _medium(part: Medium) -> Iterator[str]:
    title = visible_line(part.title)
    named = f"{part.kind}{f', {inline(title)}' if title else ''}"
    if part.text:
        yield f"*{named}:*"
        yield fenced(visible(part.text))
    elif part.base64:
        kind = inline(visible_line(part.media_type)[:100])
        size = format_size(len(part.base64) * 3 // 4)
        yield f"*[{named}{f', {kind}' if kind else ''}, {size}: not in this file]*"
    else:
        yield f"*{named}:* {code(visible_line(part.place))}"


def _output(text: str) -> str:
    shown = visible_output(text).rstrip("\n")
    if "\n" not in shown and len(shown) <= _LINE_LETTERS and shown.strip():
        return code(shown)
    return fenced(shown)


def _fold(told: str, body: str) -> str:
    return f"<details><summary>{escape(told)}</summary>\n\n{body}\n\n</details>"


def _at(when: str) -> str:
    return f" ({when})" if when else ""
