"""Turns that were found, for people: whose, and the lines that match, cut to the window."""

from __future__ import annotations

from convmem.cli.output.layout import cut, width_of
from convmem.cli.output.safe import safe, safe_line, safe_name
from convmem.cli.output.turns import local
from convmem.search.said import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem.cli.output.terminal import Sink, Terminal
    from convmem.search.patterns.grep import Shown

    # A line, and where in it the pattern is.
    Line = tuple[str, list[tuple[int, int]]]

# Of a turn that is shown for itself, without a match, so many lines are enough to know it.
_MOST_LINES = 3
_STYLES = ("bold", "red")
_GAP = "…"


def lines_of(shown: Shown) -> Iterator[Line]:
    """Yield the lines of a turn that match; of one without a match all."""
    if shown.match is None or not shown.match.spans:
        text = text_of(shown.stored.turn) if shown.match is None else shown.match.text
        for line in text.split("\n"):
            yield line, []
        return
    text, spans = shown.match.text, shown.match.spans
    at = 0
    while at < len(spans):
        start = text.rfind("\n", 0, spans[at][0]) + 1
        end = text.find("\n", spans[at][0])
        end = len(text) if end < 0 else end
        marks: list[tuple[int, int]] = []
        while at < len(spans) and spans[at][0] <= end:
            first, behind = spans[at]
            marks.append((first - start, min(behind, end) - start))
            if behind > end + 1:  # it goes on in the next line
                spans = [*spans[:at], (end + 1, behind), *spans[at + 1 :]]
                break
            at += 1
        yield text[start:end], marks


class FoundWriter:
    """Shows what was found on a terminal."""

    def __init__(self, sink: Sink, terminal: Terminal, *, with_namespace: bool) -> None:
        self._sink = sink
        self._terminal = terminal
        self._with_namespace = with_namespace

    def turn(self, namespace: str, continuation_id: str, shown: Shown) -> None:
        """Show a turn: a line that says whose and when, and below it what matches."""
        turn, paint = shown.stored.turn, self._terminal.paint
        columns = self._terminal.columns
        where = self._name(namespace, continuation_id)
        if turn.seq is not None:
            where = f"{where}:{turn.seq}"
        when = "" if turn.ts is None else f"  {local(turn.ts)[:16]}"
        rest = f"  {safe_line(turn.role)}{when}"
        is_match = shown.match is not None
        rows = [paint(where, "cyan" if is_match else "dim") + paint(rest, "dim")]
        has_marks = shown.match is not None and bool(shown.match.spans)
        for at, (line, marks) in enumerate(lines_of(shown)):
            if at == _MOST_LINES and not has_marks:
                rows.append(paint(f"  {_GAP}", "dim"))
                break
            fitting = self._fitting(line, marks, max(1, columns - 2))
            rows.append(f"  {fitting}" if fitting else "")
        self._sink.write("\n".join(rows) + "\n")
        self._sink.flush()  # whoever looks wants the first before the last is found

    def apart(self) -> None:
        """Say that turns are left out here."""
        self._sink.write(self._terminal.paint("--", "dim") + "\n")

    def count(self, namespace: str, continuation_id: str, count: int) -> None:
        """Show how many turns of a conversation match."""
        name = self._terminal.paint(self._name(namespace, continuation_id), "cyan")
        self._sink.write(f"{name}:{count}\n")

    def name(self, namespace: str, continuation_id: str) -> None:
        """Show a conversation that has a match."""
        self._sink.write(self._name(namespace, continuation_id) + "\n")

    def flush(self) -> None:
        """Show it now."""
        self._sink.flush()

    def _name(self, namespace: str, continuation_id: str) -> str:
        name = safe_name(continuation_id)
        return f"{safe_name(namespace)}/{name}" if self._with_namespace else name

    def _fitting(self, line: str, marks: list[tuple[int, int]], width: int) -> str:
        """Return as much of a line as there is room for, around its first match."""
        first, behind = marks[0] if marks else (0, 0)
        start = 0
        # No more is made safe and measured than could be shown.
        if width_of(_shown(line[: min(behind, first + width) + 1])) > width:
            start = max(0, first - width // 3)
        end = min(len(line), start + width + 1)
        room = width
        row = ""
        if start:
            row, room = _GAP, room - 1
        for text, is_match in _pieces(line, marks, start, end):
            fits = cut(text, room)
            row += self._terminal.paint(fits, *_STYLES) if is_match else fits
            room -= width_of(fits)
            if fits != text or room <= 0:
                return row
        return row


def _pieces(
    line: str, marks: list[tuple[int, int]], start: int, end: int
) -> Iterator[tuple[str, bool]]:
    """Yield what stands between *start* and *end*, safe to show, and whether it is a match."""
    at = start
    for first, behind in marks:
        first, behind = max(first, at), min(behind, end)
        if first >= behind:
            continue
        if first > at:
            yield _shown(line[at:first]), False
        yield _shown(line[first:behind]), True
        at = behind
    if at < end:
        yield _shown(line[at:end]), False


def _shown(text: str) -> str:
    return safe(text).replace("\t", "    ")
