"""What an event says, on one short line: its record keeps the rest."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST = 200


def glance(value: Any) -> str:
    """Return the first line of a text, or of the first text among blocks, cut where it is long."""
    if type(value) is list:
        for block in value:
            text = block.get("text") if type(block) is dict else block
            if type(text) is str and text.strip():
                return glance(text)
    if type(value) is not str:
        return ""
    line = next(iter(value[: 4 * _MOST].strip().splitlines()), "").rstrip()
    return line if len(line) <= _MOST else line[: _MOST - 1] + "…"
