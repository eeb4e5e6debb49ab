"""What people see on a terminal: turns to read, through a pager or not, a list of conversations.

Content is a stranger's: control characters in it are shown, never sent to the terminal.
"""

from __future__ import annotations

import os

from convmem.cli.output.safe import safe, safe_line, safe_name
from convmem.cli.output.terminal import StandardOutput, Terminal
from convmem.cli.output.turns import PlainWriter, TurnWriter, local
from convmem.quantities import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from typing import Protocol

    from convmem.cli.output.messages import Messages
    from convmem.cli.output.pager import Pager
    from convmem.cli.output.terminal import Sink
    from convmem.log.removing.trash import TrashFile

    class Row(Protocol):
        """What the list shows of a conversation."""

        @property
        def namespace(self) -> str: ...
        @property
        def continuation_id(self) -> str: ...
        @property
        def last_ts(self) -> datetime | None: ...
        @property
        def title(self) -> str: ...
        @property
        def turns(self) -> int | None: ...
        @property
        def bytes(self) -> int: ...
        @property
        def is_compressed(self) -> bool: ...


__all__ = [
    "age",
    "local",
    "plain_writer",
    "print_list",
    "safe",
    "safe_line",
    "safe_name",
    "turn_writer",
]

_UNITS = ((31_557_600, "y"), (2_629_800, "mo"), (86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def turn_writer(env: Mapping[str, str]) -> TurnWriter:
    """Return what shows turns on the terminal: text folded, no Markdown, no pager."""
    return TurnWriter(StandardOutput(), Terminal(env))


def pager(env: Mapping[str, str], messages: Messages, *, is_wanted: bool) -> Pager:
    """Return where long output goes at a terminal, for a ``with`` block."""
    from convmem.cli.output.pager import Pager, command_in

    command = command_in(env) if is_wanted else None
    return Pager(command, StandardOutput(), Terminal(env), messages, env)


def markdown_writer(env: Mapping[str, str], sink: Sink) -> TurnWriter:
    """Return what shows turns with their Markdown laid out, into *sink*."""
    from convmem.cli.output.markdown import MarkdownRenderer

    terminal = Terminal(env)
    return TurnWriter(sink, terminal, MarkdownRenderer(terminal))


def plain_writer(*, make_safe: bool) -> PlainWriter:
    """Return what prints turns as text; *make_safe* where people look."""
    return PlainWriter(StandardOutput(), make_safe=make_safe)


def print_list(rows: Iterable[Row], *, with_namespace: bool, with_turns: bool) -> None:
    """Print a table of conversations. *with_turns* is the long form: times rather than ages.

    Where the window is narrow the size goes first, then the title, then the turns. Ids fold: an
    id with its end cut off would name another conversation.
    """
    from datetime import UTC, datetime

    from convmem.cli.output.tables import Column, lines_of

    found = list(rows)
    if not found:
        return
    now = datetime.now(UTC)
    terminal = Terminal(os.environ)
    letters = 19 if terminal.columns >= 60 else 16
    with_times = with_turns and terminal.columns >= 30
    when = [
        "-" if at is None else local(at)[:letters] if with_times else age(at, now)
        for at in (each.last_ts for each in found)
    ]
    heading = "last activity" if with_times else "age"
    columns = [Column(heading, when, styles=("dim",), right=not with_times)]
    if with_namespace:
        namespaces = [safe_name(each.namespace) for each in found]
        columns.append(Column("namespace", namespaces, least=9))
    ids = [safe_name(each.continuation_id) for each in found]
    columns.append(Column("conversation", ids, least=36, styles=("cyan",)))
    titles = [safe_line(each.title) for each in found]
    if any(titles):
        columns.append(Column("title", titles, keep=2, least=12, cuts=True, styles=("dim",)))
    if with_turns or any(each.turns is not None for each in found):
        turns = ["-" if each.turns is None else f"{each.turns:,}" for each in found]
        columns.append(Column("turns", turns, keep=1, right=True))
    loose = "    " if any(each.is_compressed for each in found) else ""
    sizes = [format_size(each.bytes) + (" zst" if each.is_compressed else loose) for each in found]
    columns.append(Column("size", sizes, keep=3, right=True))
    out = StandardOutput()
    for line in lines_of(columns, terminal):
        out.write(f"{line}\n")
    out.flush()


def print_trash(found: Sequence[tuple[str, TrashFile, str]], *, with_namespace: bool) -> None:
    """Print a table of what is in the trash: (namespace, file, what it holds)."""
    from convmem.cli.output.tables import Column, lines_of

    if not found:
        return
    terminal = Terminal(os.environ)
    columns = [Column("removed", [local(each.removed)[:16] for _, each, _ in found])]
    if with_namespace:
        columns.append(Column("namespace", [safe_name(name) for name, _, _ in found], least=9))
    ids = [safe_name(each.continuation_id or each.name) for _, each, _ in found]
    columns.append(Column("conversation", ids, least=36, styles=("cyan",)))
    columns.append(Column("holds", [what for _, _, what in found], keep=1))
    sizes = [format_size(each.bytes) for _, each, _ in found]
    columns.append(Column("size", sizes, keep=2, right=True))
    out = StandardOutput()
    for line in lines_of(columns, terminal):
        out.write(f"{line}\n")
    out.flush()


def age(moment: datetime, now: datetime) -> str:
    """Return how long ago *moment* was, in its largest unit: ``3 min``, ``2 d``."""
    seconds = int((now - moment).total_seconds())
    if seconds < 0:
        return f"in {_largest(-seconds)}"
    return _largest(seconds)


def _largest(seconds: int) -> str:
    for length, name in _UNITS:
        if seconds >= length:
            return f"{seconds // length} {name}"
    return "now"
