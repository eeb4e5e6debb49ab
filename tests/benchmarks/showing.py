"""The tables for people, and under each its bars: how many times the floor, on a log scale."""

from __future__ import annotations

import math
import sys

from figures import Row, Table
from peers.known import Kind
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

_COLOURS = {Kind.FLOOR: "bright_black", Kind.OURS: "green", Kind.PEER: "blue"}
_BAR_WIDTH = 48
_LABEL_WIDTH = 40
_EIGHTHS = " ▏▎▍▌▋▊▉"


def console() -> Console:
    """Return where tables go; in a pipe as wide as they need."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 180)


def show(table: Table, to: Console) -> None:
    """Print a table, who is not there and why, and the bars."""
    told = ((key, value) for row in table.rows for key, value in row.figures.items())
    columns = list(dict.fromkeys(key for key, value in told if value is not None))
    has_survives = any(row.survives for row in table.rows)
    has_goals = any(row.goal for row in table.rows)
    shown = RichTable(title=table.title, title_justify="left", caption_justify="left")
    shown.caption = "\n".join([table.note, *_absent(table)])
    shown.add_column("")
    if has_survives:
        shown.add_column("survives")
    for column in columns:
        shown.add_column(column.replace("_", " "), justify="right")
    if has_goals:
        shown.add_column("goal")
    for row in table.rows:
        cells = [Text(row.what, "bold" if row.kind is Kind.OURS else "")]
        if row.missing and not has_survives:
            cells[0].append(", not there")
        if has_survives:
            cells.append(Text("not there" if row.missing else row.survives))
        cells += [Text(shown_figure(row.figures.get(column))) for column in columns]
        if has_goals:
            cells.append(_goal(row))
        shown.add_row(*cells)
    to.print(shown)
    for line in _bars(table):
        to.print(line)
    to.print()


def shown_figure(value: float | int | str | None) -> str:
    """Return a figure with three digits or so."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def drawn(table: Table) -> list[tuple[Row, float]]:
    """Return the rows that have something to draw, and how long; none if there are too few."""
    found = []
    for row in table.rows:
        value = row.figures.get(table.bars)
        if isinstance(value, int | float) and value > 0:
            found.append((row, float(value)))
    return found if len(found) > 1 else []


def ends(values: list[float]) -> tuple[float, float]:
    """Return the powers of ten, as exponents, between which the values and the floor's 1 are."""
    low = min(math.floor(math.log10(min(values)) + 1e-9), 0)
    return float(low), float(max(math.ceil(math.log10(max(values)) - 1e-9), low + 1, 0))


def _bars(table: Table) -> list[Text]:
    """Return the bars: from the floor, 1×, to the right what is slower, to the left faster."""
    rows = drawn(table)
    if not rows:
        return []
    low, high = ends([value for _, value in rows])
    one = round(-low / (high - low) * _BAR_WIDTH)
    lines = []
    for row, value in rows:
        length = math.log10(value) / (high - low) * _BAR_WIDTH
        line = Text(f"{row.what[:_LABEL_WIDTH]:>{_LABEL_WIDTH}} ")
        if length < 0:
            line.append(" " * (one - round(-length)))
            line.append("█" * round(-length) or "▏", _COLOURS[row.kind])
        else:
            full, part = divmod(max(round(length * 8), 1), 8)
            line.append(" " * one)
            line.append("█" * full + (_EIGHTHS[part] if part else ""), _COLOURS[row.kind])
        line.append(f" {shown_figure(value)}×", "bold" if row.kind is Kind.OURS else "")
        lines.append(line)
    rule = "".join("┴" if at == one else "─" for at in range(_BAR_WIDTH + 1))
    lines.append(Text(f"{'':>{_LABEL_WIDTH}} {rule}", "bright_black"))
    marks = [" "] * (_BAR_WIDTH + 40)
    for power in sorted({low, 0.0, high}):
        said = f"{10**power:,g}×"
        at = round((power - low) / (high - low) * _BAR_WIDTH)
        marks[at : at + len(said)] = said
    scale = "".join(marks).rstrip() + ", log scale"
    lines.append(Text(f"{'':>{_LABEL_WIDTH}} {scale}", "bright_black"))
    return lines


def _goal(row: Row) -> Text:
    text = Text(row.goal)
    if row.goal:
        said, colour = {True: ("met", "green"), False: ("missed", "red"), None: ("?", "")}[
            row.is_met
        ]
        text.append(f" {said}", colour)
    return text


def _absent(table: Table) -> list[str]:
    """Say who is not there, those with the same reason together."""
    reasons: dict[str, list[str]] = {}
    for row in table.rows:
        if row.missing:
            reasons.setdefault(row.missing, []).append(row.what)
    return [f"not there ({why}): {', '.join(names)}" for why, names in reasons.items()]
