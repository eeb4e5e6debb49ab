"""A conversation as one HTML page that stands alone: to read, to search, to keep.

What was said is a stranger's. It is escaped or rebuilt from parsed Markdown, never passed on; and
the page's own policy lets no script run but the page's, and nothing be loaded from anywhere.
"""

from __future__ import annotations

from html import escape

from convmem.formats.pages.html_page import foot, top
from convmem.formats.pages.html_parts import Calls, part_html
from convmem.formats.pages.said import Call, Result, Thought, copied, is_secret, parts_of, summed_up
from convmem.formats.pages.visible import visible_line
from convmem.quantities import format_count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from convmem.formats.heads import Head
    from convmem.turns import Turn

NAME = "html"
SUFFIX = ".html"

_ROLES = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"}
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = tuple(
    "January February March April May June July August September October November December".split()
)


def write(head: Head, turns: Iterator[Turn]) -> Iterator[bytes]:
    """Yield the page, piece by piece. Holds one turn at a time; the same turns, the same bytes."""
    yield top(head).encode(errors="backslashreplace")
    page = _Page()
    for turn in turns:
        for piece in page.turn(turn):
            yield piece.encode(errors="backslashreplace")
    yield foot(page.said()).encode()


class _Page:
    """What one turn has to know of those before it."""

    def __init__(self) -> None:
        self._calls = Calls()
        self._count = 0
        self._events = 0
        self._secrets = 0
        self._last_seq = 0
        self._day = ""
        self._by = ""
        self._speaker = ""

    def said(self) -> str:
        """Return what the page's last line says of the whole."""
        told = [format_count(self._count, "turn")]
        if self._events:
            told.append(f"{format_count(self._events, 'event')} left out")
        if self._secrets:
            told.append(f"{format_count(self._secrets, 'thought')} of which no text was kept")
        return ", ".join(told)

    def turn(self, turn: Turn) -> Iterator[str]:
        """Yield one turn as HTML, under its day where that is a new one."""
        meta = turn.meta or {}
        elsewhere = copied(meta)
        if turn.role == "event" and elsewhere is None:
            self._events += 1
            return
        parts = list(parts_of(turn)) if elsewhere is None else []
        if is_secret(parts):
            self._secrets += 1
            return
        self._count += 1
        if turn.ts is not None:
            yield from self._new_day(turn.ts)
        anchor = self._anchor(turn.seq)
        if elsewhere is not None:
            yield _note(anchor, ", in ".join(elsewhere))
            return
        role = turn.role if turn.role in _ROLES else "other"
        kinds = [role]
        if all(isinstance(part, Call | Result | Thought) for part in parts) and parts:
            kinds.append("quiet")
            if self._speaker == turn.role or role == "tool":
                kinds.append("same")
        if role != "tool":
            self._speaker = turn.role
        if meta.get("active") is False:
            kinds.append("aside")
        yield f'<article class="turn {" ".join(kinds)}" id="{anchor}" data-role="{role}">\n'
        yield self._heading(turn, anchor)
        yield '<div class="said">\n'
        for part in parts:
            yield from part_html(part, self._calls, anchor)
        if not parts:
            yield '<p class="none">Nothing</p>\n'
        yield "</div>\n</article>\n"

    def _anchor(self, seq: int | None) -> str:
        """Return the turn's own name in the page: by its ``seq``, which no filter changes."""
        if seq is not None and seq > self._last_seq:
            self._last_seq = seq
            return f"t{seq}"
        return f"n{self._count}"

    def _new_day(self, moment: datetime) -> Iterator[str]:
        day = moment.isoformat()[:10]
        if day != self._day:
            self._day = day
            month = _MONTHS[moment.month - 1]
            said = f"{_DAYS[moment.weekday()]}, {moment.day} {month} {moment.year}"
            yield f'<p class="day"><time datetime="{day}">{said}</time></p>\n'

    def _heading(self, turn: Turn, anchor: str) -> str:
        name = _ROLES.get(turn.role) or visible_line(turn.role)
        told = summed_up(turn)
        if told:
            name = "Summary"
        made = [f'<header><h2>{escape(name)}</h2> <a class="at" href="#{anchor}"']
        number = f"#{turn.seq}" if turn.seq is not None else ""
        if turn.ts is not None:
            exact = turn.ts.isoformat()[:19]
            made.append(f' title="{f"{number}, " if number else ""}{exact[:10]} {exact[11:]} UTC">')
            made.append(f'<time datetime="{exact}Z">{exact[11:]}</time></a>')
        else:
            made.append(f">{number or '#'}</a>")
        if told:
            made.append(f' <span class="by">{escape(told)}</span>')
        made += self._by_whom(turn)
        if (turn.meta or {}).get("active") is False:
            made.append(' <span class="by branch">not on the active branch</span>')
        return "".join(made) + "</header>\n"

    def _by_whom(self, turn: Turn) -> Iterator[str]:
        meta = turn.meta or {}
        model, agent = meta.get("model"), meta.get("agent")
        if isinstance(agent, str) and agent:
            yield f' <span class="by">agent {escape(visible_line(agent)[:80])}</span>'
        # A model is named where it changes: saying it a thousand times tells nobody anything.
        if isinstance(model, str) and model and model[:80] != self._by:
            self._by = model[:80]
            yield f' <span class="by">{escape(visible_line(self._by))}</span>'


def _note(anchor: str, text: str) -> str:
    return f'<p class="note" id="{anchor}">{escape(text)}</p>\n'
