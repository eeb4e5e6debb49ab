"""The terminal that people look at: how wide and high it is, and what it can show."""

from __future__ import annotations

import os
import sys

from convmem.cli.output.messages import write_bytes
from convmem.cli.output.safe import encoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    class Sink(Protocol):
        """Where text for people goes."""

        def write(self, text: str) -> None:
            """Take *text*, whole lines of it."""

        def flush(self) -> None:
            """Show it now."""


_DEFAULT = (80, 24)
# In less, nothing can be laid out; and a number that is no width at all is not obeyed.
_LEAST = 8
_MOST = 10_000

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}


class Terminal:
    """Standard output as people see it. Its size is asked for anew each time: windows change.

    Attributes:
        has_styles: Whether bold and dim letters can be shown; not where ``TERM`` is ``dumb``.
        has_colours: Whether colours are wanted too; not where ``NO_COLOR`` is set.
    """

    __slots__ = ("_env", "has_colours", "has_styles")

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.has_styles = env.get("TERM", "") not in ("", "dumb", "unknown")
        self.has_colours = self.has_styles and not env.get("NO_COLOR")

    @property
    def columns(self) -> int:
        """How many cells a line has: ``COLUMNS``, else what the terminal says."""
        return _number(self._env.get("COLUMNS")) or self._measured()[0]

    @property
    def rows(self) -> int:
        """How many lines there are: ``LINES``, else what the terminal says."""
        return _number(self._env.get("LINES")) or self._measured()[1]

    def paint(self, text: str, *styles: str) -> str:
        """Return *text*, one line of it, in *styles* as far as the terminal has them."""
        if not self.has_styles or not text:
            return text
        codes = [_CODES[style] for style in styles if self.has_colours or style in ("bold", "dim")]
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if codes else text

    def _measured(self) -> tuple[int, int]:
        try:
            columns, rows = os.get_terminal_size(sys.stdout.fileno())
        except (OSError, ValueError):
            return _DEFAULT
        return max(columns, _LEAST) if columns else _DEFAULT[0], rows or _DEFAULT[1]


class StandardOutput:
    """Standard output, for text."""

    def write(self, text: str) -> None:
        """Write *text*."""
        write_bytes(encoded(text))

    def write_bytes(self, data: bytes) -> None:
        """Write what is encoded already."""
        write_bytes(data)

    def flush(self) -> None:
        """Show it now."""
        sys.stdout.buffer.flush()


def _number(text: str | None) -> int:
    if not text or not (text.isascii() and text.isdigit()) or len(text) > 6:
        return 0
    return int(text) if _LEAST <= int(text) <= _MOST else 0
