"""Hits of a ranked search, for people: whose and when, and below it the snippet with its marks."""

from __future__ import annotations

from convmem.cli.output.layout import cut, fold
from convmem.cli.output.safe import safe, safe_line, safe_name
from convmem.cli.output.turns import local
from convmem.search.said import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem.cli.output.terminal import Sink, Terminal
    from convmem.search.hits import Hit, Snippet
    from convmem.turns import Turn

    # What is shown in one colour, and whether it is a hit.
    Piece = tuple[str, bool]

_MARK = ("bold", "red")
# No more of a neighbour is made safe and measured than could be shown.
_LETTERS_PER_CELL = 4


class HitWriter:
    """Shows hits on a terminal; the neighbours of each around it, dim and on one line each."""

    def __init__(
        self, sink: Sink, terminal: Terminal, *, with_namespace: bool, is_grouped: bool
    ) -> None:
        self._sink = sink
        self._terminal = terminal
        self._with_namespace = with_namespace
        self._is_grouped = is_grouped
        self._group: tuple[str, str] | None = None
        self._is_first = True

    def hit(self, hit: Hit) -> None:
        """Show one."""
        group = (hit.namespace, hit.continuation_id)
        if self._is_grouped and group != self._group:
            self._write(self._terminal.paint(self._name(hit), "bold", "cyan"))
        elif not self._is_first and (hit.before or hit.after):
            self._write(self._terminal.paint("--", "dim"))
        self._group, self._is_first = group, False
        for turn in hit.before:
            self._neighbour(hit, turn)
        self._match(hit)
        for turn in hit.after:
            self._neighbour(hit, turn)

    def flush(self) -> None:
        """Show it now."""
        self._sink.flush()

    def _match(self, hit: Hit) -> None:
        rest = "" if hit.score is None else f"  {hit.score:.2f}"
        if not hit.is_match:
            rest += "  beside a hit"
        self._head(hit, hit.turn, rest, is_dim=False)
        for row in _rows(hit.snippet, max(1, self._terminal.columns - 2)):
            painted = (
                self._terminal.paint(each, *_MARK) if is_hit else each for each, is_hit in row
            )
            self._write("  " + "".join(painted))

    def _neighbour(self, hit: Hit, turn: Turn) -> None:
        self._head(hit, turn, "", is_dim=True)
        width = max(1, self._terminal.columns - 2)
        said = text_of(turn)[: width * _LETTERS_PER_CELL].strip()
        if said:
            self._write("  " + self._terminal.paint(cut(safe_line(said), width), "dim"))

    def _head(self, hit: Hit, turn: Turn, rest: str, *, is_dim: bool) -> None:
        where = "" if self._is_grouped else self._name(hit)
        if turn.seq is not None:
            where = f"{where}:{turn.seq}"
        when = "" if turn.ts is None else f"  {local(turn.ts)[:16]}"
        paint = self._terminal.paint
        about = paint(f"  {safe_line(turn.role)}{when}{rest}", "dim")
        self._write(paint(where, "dim" if is_dim else "cyan") + about)

    def _name(self, hit: Hit) -> str:
        name = safe_name(hit.continuation_id)
        return f"{safe_name(hit.namespace)}/{name}" if self._with_namespace else name

    def _write(self, line: str) -> None:
        self._sink.write(f"{line}\n")


def _rows(snippet: Snippet, width: int) -> Iterator[list[Piece]]:
    """Yield the lines of a snippet, safe to show, folded to *width* cells."""
    shown, marks = _safe(snippet)
    at = 0
    for row in fold(shown, width):
        at = shown.index(row, at)  # where the one before ended, or behind the space there
        yield list(_pieces(shown, marks, at, at + len(row)))
        at += len(row)


def _safe(snippet: Snippet) -> tuple[str, list[tuple[int, int]]]:
    """Return the text made safe, which may be longer, and where the marks are in that."""
    text = snippet.text
    if text.isprintable():
        return text, snippet.marks
    parts: list[str] = []
    marks: list[tuple[int, int]] = []
    at = length = 0
    for start, end in (*snippet.marks, (len(text), len(text))):
        before, marked = _safe_piece(text[at:start]), _safe_piece(text[start:end])
        parts += [before, marked]
        if marked:
            marks.append((length + len(before), length + len(before) + len(marked)))
        length += len(before) + len(marked)
        at = end
    return "".join(parts), marks


def _pieces(text: str, marks: list[tuple[int, int]], start: int, end: int) -> Iterator[Piece]:
    """Yield what stands between *start* and *end*."""
    at = start
    for first, behind in marks:
        first, behind = max(first, at), min(behind, end)
        if first >= behind:
            continue
        if first > at:
            yield text[at:first], False
        yield text[first:behind], True
        at = behind
    if at < end:
        yield text[at:end], False


def _safe_piece(text: str) -> str:
    return safe(text.replace("\n", " ").replace("\t", " "))
