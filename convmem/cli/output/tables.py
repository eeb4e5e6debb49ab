"""Tables for a terminal: columns side by side, as many as there is room for."""

from __future__ import annotations

from convmem.cli.output.layout import chop, cut, width_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from convmem.cli.output.terminal import Terminal

_GAP = 2


class Column:
    """One column, its heading and its cells, each one safe line.

    Args:
        keep: 0 for a column that is always there; else the highest number goes first where there
            is no room.
        least: How narrow the column may become. Its cells then fold, or with *cuts* lose their
            end; ``None`` for a column that is as wide as its widest cell.
        cuts: Whether the end of a cell may be cut off.
    """

    __slots__ = (
        "cells",
        "cuts",
        "heading",
        "keep",
        "least",
        "natural",
        "right",
        "smallest",
        "styles",
    )

    def __init__(
        self,
        heading: str,
        cells: list[str],
        *,
        keep: int = 0,
        least: int | None = None,
        cuts: bool = False,
        right: bool = False,
        styles: tuple[str, ...] = (),
    ) -> None:
        self.heading = heading
        self.cells = cells
        self.keep = keep
        self.least = least
        self.cuts = cuts
        self.right = right
        self.styles = styles
        # How wide it would like to be, and how narrow it may become.
        self.natural = max(map(width_of, (heading, *cells)))
        self.smallest = self.natural if least is None else min(least, self.natural)


def lines_of(columns: Sequence[Column], terminal: Terminal) -> Iterator[str]:
    """Yield the lines of a table that is no wider than the terminal, its headings first."""
    room = terminal.columns
    shown = _that_fit(columns, room)
    widths = _widths(shown, room)
    headings = [cut(column.heading, width) for column, width in zip(shown, widths, strict=True)]
    rows = zip(*(column.cells for column in shown), strict=True)
    yield from _row(shown, widths, headings, terminal, ("bold",))
    for row in rows:
        yield from _row(shown, widths, row, terminal, None)


def _that_fit(columns: Sequence[Column], room: int) -> list[Column]:
    shown = list(columns)
    while sum(column.smallest + _GAP for column in shown) - _GAP > room:
        worst = max(shown, key=lambda column: column.keep)
        if worst.keep == 0:
            break
        shown.remove(worst)
    return shown


def _widths(shown: list[Column], room: int) -> list[int]:
    """Give each column what it needs, and those that can do with less what is left, in order."""
    left = room - sum(column.smallest + _GAP for column in shown) + _GAP
    widths = []
    for column in shown:
        more = min(max(left, 0), column.natural - column.smallest)
        left -= more
        widths.append(column.smallest + more)
    can_fold = [at for at, column in enumerate(shown) if column.least is not None]
    while left < 0:  # even what must be there is too wide: what can fold does so
        widest = max(can_fold, key=lambda at: widths[at], default=None)
        if widest is None or widths[widest] == 1:
            break
        widths[widest] -= 1
        left += 1
    return widths


def _row(
    shown: list[Column],
    widths: list[int],
    cells: Sequence[str],
    terminal: Terminal,
    styles: tuple[str, ...] | None,
) -> Iterator[str]:
    folded = [
        [cut(cell, width)] if column.cuts else list(chop(cell, width))
        for column, width, cell in zip(shown, widths, cells, strict=True)
    ]
    for at in range(max(map(len, folded))):
        line = []
        for column, width, pieces in zip(shown, widths, folded, strict=True):
            piece = pieces[at] if at < len(pieces) else ""
            space = " " * (width - width_of(piece))
            shown_as = terminal.paint(piece, *(column.styles if styles is None else styles))
            line.append(space + shown_as if column.right else shown_as + space)
        yield (" " * _GAP).join(line).rstrip()
