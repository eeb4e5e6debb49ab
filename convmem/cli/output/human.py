"""What people see on a terminal: turns to read, a table of conversations.

Content is a stranger's: control characters in it are shown, never sent to the terminal.
"""

from __future__ import annotations

from datetime import datetime

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from convmem.quantities import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from convmem.log.read import StoredTurn
    from convmem.stores.values import Description

_COLOURS = {"user": "cyan", "assistant": "green", "system": "yellow", "tool": "magenta"}

# C0 and C1 controls but tab and newline, and the marks that turn the direction of text.
_UNSAFE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_UNSAFE |= {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
del _UNSAFE[0x09], _UNSAFE[0x0A]


class TurnWriter:
    """Prints turns for people: who and when on one line, what below."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=False)

    def write(self, stored: StoredTurn) -> None:
        """Print one turn."""
        turn = stored.turn
        head = Text(safe(turn.role), style=f"bold {_COLOURS.get(turn.role, 'blue')}")
        if turn.ts is not None:
            head.append(f"  {local(turn.ts)}", style="dim")
        if turn.seq is not None:
            head.append(f"  {turn.seq}", style="dim")
        self._console.print(head)
        self._console.print(Padding(Text(safe(turn.text)), (0, 0, 0, 2), expand=False))

    def flush(self) -> None:
        """Show it now."""
        self._console.file.flush()


def print_list(found: Iterable[Description], *, with_namespace: bool, with_turns: bool) -> None:
    """Print a table of conversations."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("last activity", style="dim", no_wrap=True)
    if with_namespace:
        table.add_column("namespace", overflow="fold")
    table.add_column("conversation", overflow="fold")
    if with_turns:
        table.add_column("turns", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for each in found:
        cells = [Text("-" if each.last_ts is None else local(each.last_ts))]
        if with_namespace:
            cells.append(Text(safe(each.namespace)))
        cells.append(Text(safe(each.continuation_id), style="cyan"))
        if with_turns:
            cells.append(Text(f"{each.turns:,}"))
        cells.append(Text(format_size(each.bytes)))
        table.add_row(*cells)
    Console(highlight=False).print(table)


def safe(text: str) -> str:
    """Return *text* with whatever could drive a terminal made visible."""
    return text.translate(_UNSAFE)


def local(moment: datetime) -> str:
    """Return the time as the clock on the wall shows it."""
    try:
        return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return moment.strftime("%Y-%m-%d %H:%M:%SZ")
