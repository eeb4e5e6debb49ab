"""What a turn says, as one text: what every way of searching looks at.

All text that a reader of the turn would see, in its order: of the content, and of tool calls that
stand beside it. Keys, ids, pictures and signatures are not text.
"""

from __future__ import annotations

from convmem.context.parts import is_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from convmem.turns import Turn

# Values of these keys name or carry things; nobody reads them.
_UNREAD = frozenset(
    "type id tool_use_id tool_call_id call_id toolUseId toolCallId signature encrypted_content "
    "media_type mime_type mimeType cache_control kind part_kind".split()
)
CALLS = "tool_calls"
"""The other key of a turn that holds what it says."""


def text_of(turn: Turn) -> str:
    """Return the text of *turn*, its pieces joined by newlines; empty where there is none."""
    return text_in(turn.content, turn.extra.get(CALLS))


def text_in(content: Any, calls: Any) -> str:
    """Return what ``text_of`` does of a turn with that content and those tool calls."""
    if isinstance(content, str) and not calls:
        return content
    pieces: list[str] = []
    _gather(content, pieces)
    _gather(calls, pieces)
    return "\n".join(pieces)


def _gather(value: Any, pieces: list[str]) -> None:
    """Append the texts in *value*; numbers are text, true, false and null are not."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            if each:
                pieces.append(each)
        elif isinstance(each, list):
            waiting.extend(reversed(each))
        elif isinstance(each, dict):
            if not is_image(each):
                waiting.extend(inner for key, inner in reversed(each.items()) if key not in _UNREAD)
        elif isinstance(each, int | float) and not isinstance(each, bool):
            pieces.append(str(each))
