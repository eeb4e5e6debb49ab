"""The bars as a picture: an SVG file that needs nothing but a viewer, light or dark.

Each table is a panel. Its bars begin at the floor, 1×, and go to the right for what is slower
and to the left for what is faster, all on a log scale. Where some survive a power cut, those that
do not are pale.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from figures import Row, Table
from peers.known import POWER_CUT, Kind
from showing import drawn, ends, shown_figure

_WIDTH, _MARGIN, _GAP = 960, 16, 24
_LABEL, _ROW, _BAR = 186, 17, 11  # a label's width, a row's height, a bar's height
_HEAD, _FOOT = 26, 30  # above and below a panel's rows
_VALUE = 78  # to the right of the longest bar
_PANEL = (_WIDTH - 2 * _MARGIN - _GAP) // 2
_SPAN = _PANEL - _LABEL - _VALUE
_TOP = 78
_LETTERS = 28  # of a label; more do not fit
_MOST_MARKS = 4  # below a panel; with more, every other one is left out
_MET = '<tspan class="met" dx="5">✓</tspan>'
_MISSED = '<tspan class="missed" dx="5">✗</tspan>'

_STYLE = """
  svg { font: 11px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif;
        background: #ffffff; }
  text { fill: #24292f; }
  .title { font-size: 17px; font-weight: 600; }
  .head { font-size: 12px; font-weight: 600; }
  .quiet { fill: #57606a; }
  .grid { stroke: #d8dee4; } .one { stroke: #8c959f; }
  .floor { fill: #8c959f; } .convmem { fill: #1a7f37; } .peer { fill: #6f8fc9; }
  .ours { font-weight: 600; } .weak { opacity: .45; }
  .met { fill: #1a7f37; } .missed { fill: #b35900; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; }
    text { fill: #e6edf3; }
    .quiet { fill: #9198a1; }
    .grid { stroke: #262c36; } .one { stroke: #6e7681; }
    .floor { fill: #6e7681; } .convmem { fill: #3fb950; } .peer { fill: #5475b5; }
    .met { fill: #3fb950; } .missed { fill: #e3a04f; }
  }
"""


def draw(tables: Sequence[Table], about: str) -> str:
    """Return the picture of all tables that have something to draw; *about* stands below it."""
    columns: list[list[str]] = [[], []]
    heights = [_TOP, _TOP]
    for table in tables:
        rows = drawn(table) if table.in_picture else []
        if not rows:
            continue
        at = heights.index(min(heights))
        x = _MARGIN + at * (_PANEL + _GAP)
        columns[at].extend(_panel(table.title, rows, x, heights[at]))
        heights[at] += _HEAD + len(rows) * _ROW + _FOOT
    height = max(heights) + _MARGIN
    note = "how many times the floor: shorter is better, the scale is logarithmic"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
            f' width="{_WIDTH}" height="{height}" role="img" aria-label="speed">',
            f"<style>{_STYLE}</style>",
            _text(_MARGIN, 30, "convmem beside its peers", "title"),
            _text(_MARGIN, 50, note, "quiet"),
            *_legend(_WIDTH - _MARGIN - 500, 50),
            *columns[0],
            *columns[1],
            _text(_MARGIN, height - 10, about, "quiet"),
            "</svg>",
            "",
        ]
    )


def _panel(title: str, rows: list[tuple[Row, float]], x: int, y: int) -> Iterator[str]:
    low, high = ends([value for _, value in rows])
    zero = x + _LABEL

    def place(value: float) -> float:
        return zero + (math.log10(value) - low) / (high - low) * _SPAN

    bottom = y + _HEAD + len(rows) * _ROW
    yield _text(x, y + 14, title, "head")
    for power in range(int(low), int(high) + 1):
        at = place(10.0**power)
        kind = "one" if power == 0 else "grid"
        yield f'<path class="{kind}" d="M{at:.1f} {y + _HEAD - 4}V{bottom}"/>'
        if high - low < _MOST_MARKS or power % 2 == 0:
            yield _text(at, bottom + 12, f"{10**power:,}×", "quiet", "middle")
    for number, (row, value) in enumerate(rows):
        top = y + _HEAD + number * _ROW
        base = top + _BAR - 1.5
        is_ours = row.kind is Kind.OURS
        label = row.what if len(row.what) <= _LETTERS else row.what[: _LETTERS - 1] + "…"
        yield _text(zero - 6, base, label, "ours" if is_ours else "", "end")
        loses = row.survives not in ("", POWER_CUT) and any(
            other.survives == POWER_CUT for other, _ in rows
        )
        shape = f"{row.kind} weak" if loses else str(row.kind)
        left, right = sorted((place(1.0), place(value)))
        width = max(right - left, 1.5)
        yield (
            f'<rect class="{shape}" x="{left:.1f}" y="{top}"'
            f' width="{width:.1f}" height="{_BAR}" rx="1.5"/>'
        )
        mark = ""
        if row.goal and row.is_met is not None:
            mark = _MET if row.is_met else _MISSED
        style = ' class="ours"' if is_ours else ""
        yield (
            f'<text x="{left + width + 4:.1f}" y="{base:.1f}"{style}>{shown_figure(value)}×{mark}'
            "</text>"
        )


def _legend(x: int, y: int) -> Iterator[str]:
    for kind, what, width in (
        ("floor", "floor", 56),
        ("convmem", "convmem", 78),
        ("peer", "peers", 58),
        ("peer weak", "that lose turns in a power cut", 188),
    ):
        yield f'<rect class="{kind}" x="{x}" y="{y - 9}" width="10" height="10" rx="1.5"/>'
        yield _text(x + 14, y, what, "quiet")
        x += width
    yield f'<text class="quiet" x="{x}" y="{y}">{_MET} goal met{_MISSED} missed</text>'


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "") -> str:
    style = f' class="{style}"' if style else ""
    anchor = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{style}{anchor}>{escape(text)}</text>'
