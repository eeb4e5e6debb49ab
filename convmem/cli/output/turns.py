"""Turns for people: who and when on one line, below it what was said, as wide as the window is."""

from __future__ import annotations

from convmem import copied, jsontext
from convmem.cli.output import parts
from convmem.cli.output.layout import fold, width_of
from convmem.cli.output.safe import safe, safe_line
from convmem.log.read import StoredTurn
from convmem.turns import EVENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from typing import Any

    from convmem.cli.output.parts import Part
    from convmem.cli.output.terminal import Sink, Terminal
    from convmem.turns import Turn

    # Markdown and a width to the lines it makes; none where it is better shown as it is.
    Rendering = Callable[[str, int], list[str] | None]

_COLOURS = {"user": "cyan", "assistant": "green", "system": "yellow", "tool": "magenta"}

# How much is shown of what is no text: JSON, and each argument of a call.
_MAX_LETTERS = 600
_MAX_LINES = 8
_MAX_ARGUMENTS = 20

# Handed on at once, so that a turn of any length is laid out in little memory.
_LINES_TOGETHER = 200


class TurnWriter:
    """Shows turns on a terminal, under a line for each day.

    Text is folded, or laid out by *render*. Nothing that is stored can fail to be shown: what
    cannot be laid out is printed as it is.
    """

    def __init__(self, sink: Sink, terminal: Terminal, render: Rendering | None = None) -> None:
        self._sink = sink
        self._terminal = terminal
        self._render = render
        self._day = ""
        self._is_first = True

    def write(self, stored: StoredTurn) -> None:
        """Show one turn."""
        columns = self._terminal.columns
        margin = "  " if columns >= 40 else " "
        turn = stored.turn
        if turn.role == EVENT and not turn.text:
            # What another tool noted for itself; ``--json`` has it. But copies of turns are said.
            for copy in copied.lines_in(turn):
                self.write(StoredTurn(copy, 0))
            return
        lines = self._head(turn, columns)
        width = columns - len(margin)
        for line in _safely(self._said(turn, width), stored, width):
            lines.append(margin + line if line else "")
            if len(lines) >= _LINES_TOGETHER:
                self._write(lines)
                lines = []
        self._write(lines)

    def flush(self) -> None:
        """Show it now."""
        self._sink.flush()

    def _write(self, lines: list[str]) -> None:
        if lines:
            self._sink.write("\n".join(lines) + "\n")

    # --- who and when ---------------------------------------------------------------------------

    def _head(self, turn: Turn, columns: int) -> list[str]:
        paint = self._terminal.paint
        lines = [] if self._is_first else [""]
        self._is_first = False
        clock = ""
        if turn.ts is not None:
            day, clock = _local(turn.ts)
            if day != self._day:
                self._day = day
                lines.append(paint(f"── {day} ".ljust(min(columns, 60), "─")[:columns], "dim"))
        role, seq = safe_line(turn.role) or "?", "" if turn.seq is None else f"#{turn.seq}"
        gap = "  "
        if width_of(f"{role}  {clock}  {seq}") > columns:
            gap, clock = " ", clock[:5]
        colour = _COLOURS.get(turn.role, "blue")
        rest = gap.join(each for each in (clock, seq) if each)
        *before, role = fold(role, columns)
        lines += (paint(line, "bold", colour) for line in before)
        if width_of(role) + len(gap) + len(rest) <= columns:
            line = paint(role, "bold", colour)
            lines.append(f"{line}{gap}{paint(rest, 'dim')}" if rest else line)
        else:
            lines.append(paint(role, "bold", colour))
            lines += (paint(line, "dim") for line in fold(rest, columns))
        return lines

    # --- what was said --------------------------------------------------------------------------

    def _said(self, turn: Turn, width: int) -> Iterator[str]:
        for at, part in enumerate(parts.parts_of(turn)):
            lines = self._part(part, width)
            if at and part.kind in (parts.CALL, parts.THOUGHT, parts.RESULT):
                yield ""
            yield from lines

    def _part(self, part: Part, width: int) -> Iterable[str]:
        if part.kind == parts.TEXT and self._render is not None:
            lines = self._render(part.value, width)
            if lines is not None:
                return lines
        if part.kind in (parts.TEXT, parts.RAW):
            return _fold_text(part.value, width)
        if part.kind == parts.THOUGHT:
            return self._painted(_fold_text(f"(thinking)\n{part.value}", width), "dim")
        if part.kind == parts.CALL:
            return self._call(part, width)
        if part.kind == parts.RESULT:
            return self._painted(fold(f"← {safe_line(part.label) or 'result'}", width), "magenta")
        if part.kind == parts.NOTE:
            return self._painted(fold(f"[{safe_line(part.label)}]", width), "dim")
        return self._painted(_fold_text(_clipped(_as_text(part.value)), width), "dim")

    def _painted(self, lines: Iterable[str], *styles: str) -> Iterator[str]:
        return (self._terminal.paint(line, *styles) for line in lines)

    def _call(self, part: Part, width: int) -> Iterator[str]:
        name = f"→ {safe_line(part.label)}"
        given = part.value
        if isinstance(given, dict) and len(given) == 1:
            ((key, value),) = given.items()
            alone = safe(f"{key}: {_as_text(value)}")
            if "\n" not in alone and width_of(f"{name}  {alone}") <= width:
                yield f"{self._terminal.paint(name, 'bold', 'magenta')}  {alone}"
                return
        yield from self._painted(fold(name, width), "bold", "magenta")
        if not isinstance(given, dict):
            if given not in (None, ""):
                yield from _indented(_fold_text(_clipped(_as_text(given)), max(1, width - 2)))
            return
        for at, (key, value) in enumerate(given.items()):
            if at == _MAX_ARGUMENTS:
                yield f"  … {len(given) - at:,} more arguments"
                return
            text = f"{key}: {_clipped(_as_text(value))}"
            first, *more = text.split("\n")
            yield from _indented(_fold_text(first, max(1, width - 2)))
            if more:
                yield from _indented(_fold_text("\n".join(more), max(1, width - 4)), "    ")


class PlainWriter:
    """Prints turns as text: a line that says who and when, then what was said, as it stands.

    Nothing is cut, folded or coloured. Only where people look is the text made safe.
    """

    def __init__(self, sink: Sink, *, make_safe: bool) -> None:
        self._sink = sink
        self._make_safe = make_safe
        self._is_first = True

    def write(self, stored: StoredTurn) -> None:
        """Print one turn."""
        turn = stored.turn
        head = [safe_line(turn.role) or "?"]
        if turn.ts is not None:
            head.append(" ".join(_local(turn.ts)).partition(" ")[2])
        if turn.seq is not None:
            head.append(f"#{turn.seq}")
        said = "\n".join(_safely(_plain_parts(turn), stored, None))
        if self._make_safe:
            said = safe(said)
        if said and not said.endswith("\n"):
            said += "\n"
        start = "" if self._is_first else "\n"
        self._is_first = False
        self._sink.write(f"{start}{'  '.join(head)}\n{said}")

    def flush(self) -> None:
        """Hand what was printed to whoever reads."""
        self._sink.flush()


def local(moment: datetime) -> str:
    """Return the time as the clock on the wall shows it, such as ``2026-11-21 09:00:00``."""
    return " ".join(_local(moment)).partition(" ")[2]


def _local(moment: datetime) -> tuple[str, str]:
    """Return the day, with its name, and the time of day."""
    try:
        moment = moment.astimezone()
        clock = moment.strftime("%H:%M:%S")
    except (OverflowError, OSError, ValueError):
        clock = moment.strftime("%H:%M:%SZ")
    return f"{moment:%a} {moment.isoformat()[:10]}", clock


def _plain_parts(turn: Turn) -> Iterator[str]:
    for part in parts.parts_of(turn):
        if part.kind in (parts.TEXT, parts.RAW):
            yield part.value
        elif part.kind == parts.THOUGHT:
            yield f"(thinking)\n{part.value}"
        elif part.kind == parts.CALL:
            given = "" if part.value is None else f" {_as_text(part.value)}"
            yield f"→ {safe_line(part.label)}{given}"
        elif part.kind == parts.RESULT:
            yield f"← {safe_line(part.label) or 'result'}"
        elif part.kind == parts.NOTE:
            yield f"[{safe_line(part.label)}]"
        else:
            yield _as_text(part.value)


def _safely(lines: Iterator[str], stored: StoredTurn, width: int | None) -> Iterator[str]:
    """Yield *lines*; where making them fails, the turn's stored line instead of what is left."""
    try:
        yield from lines
    except Exception:  # noqa: BLE001 - a mistake in the lay-out must not hide what was said
        text = stored.line.decode(errors="replace")
        yield from [text] if width is None else _fold_text(text, width)


def _fold_text(text: str, width: int) -> Iterator[str]:
    text = safe(text).rstrip("\n")
    return fold(text, width) if text else iter(())


def _indented(lines: Iterable[str], space: str = "  ") -> Iterator[str]:
    return (space + line for line in lines)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else str(jsontext.dumps(value), "utf-8")


def _clipped(text: str) -> str:
    """Return the start of a long text, and how much more there is."""
    end = min(len(text), _MAX_LETTERS)
    at = -1
    for _ in range(_MAX_LINES):
        at = text.find("\n", at + 1, end)
        if at < 0:
            break
    else:
        end = at
    # A few letters more take less room than saying that they are not there.
    if len(text) - end <= 40 and at < 0:
        return text
    return f"{text[:end]} … {len(text) - end:,} more characters"
