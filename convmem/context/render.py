"""A window as text that no stored content can forge: what is indented is content, all else is not.

``[17] user:`` begins a turn, and two spaces begin each line of its content. What could pass for
the end of a line, drive a terminal or turn the direction of text is written ``\\u{…}``, and so is
a backslash that would make one; so the text can be read back exactly.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from convmem.context.parts import is_image, json_text, tool_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from convmem.turns import Turn

# Controls but tab and newline, the line ends of Unicode, and the marks that turn its direction.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
    r"|\\(?=u\{)"
)
_NOT_A_WORD = re.compile(r"[^\w.-]")


def visible(text: str) -> str:
    """Return *text* with everything that is not what it looks like written as ``\\u{…}``."""
    return _HIDDEN.sub(_escaped, text)


def word(text: str) -> str:
    """Return *text* as one word: a role or an id in a line of the window's own."""
    return _NOT_A_WORD.sub(_escaped, text) or "-"


def block(turn: Turn, *, cut: int = 0, is_pinned: bool = False, more: Sequence[str] = ()) -> str:
    """Return a turn's lines: one that says whose it is, then its content, indented.

    Content that is not one text is given in parts, each under its name, as text or as JSON. The
    first line says *more*, which must not hold what was stored, unless as a ``word``.
    """
    told = [word(turn.role), *more]
    stands_for = summarised(turn)
    if stands_for is not None:
        told.append("summary of turns {} to {}".format(*stands_for))
    if cut:
        told.append(f"{cut:,} characters left out")
    fields = tool_fields(turn)
    if isinstance(turn.content, str) and not fields:
        body = _indented(turn.content, 2)
    else:
        told.append("in parts")
        body = "".join(
            f"  {name}:\n{_indented(text, 4)}" for name, text in _parts(turn.content, fields)
        )
    place = "pinned" if is_pinned else turn.seq or "-"
    return f"[{place}] {', '.join(told)}:\n{body}\n"


def summarised(turn: Turn) -> tuple[int, int] | None:
    """Return the first and last ``seq`` that a summary stands for, or ``None`` if it is none."""
    summary = turn.extra.get("summary")
    if turn.role != "system" or turn.seq is not None or not isinstance(summary, dict):
        return None
    first, last = summary.get("first_seq"), summary.get("last_seq")
    return (first, last) if type(first) is int and type(last) is int else None


def _parts(content: Any, fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if isinstance(content, str):
        yield "content", content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and part.keys() == {"type", "text"} and _is_text(part):
                yield "text", part["text"]
            elif is_image(part):
                yield "image", f"{len(json_text(part)):,} bytes, not shown"
            else:
                yield "json", json_text(part)
    else:
        yield "value", json_text(content)
    for name, value in fields.items():
        yield name, json_text(value)


def _is_text(part: dict[str, Any]) -> bool:
    return part["type"] == "text" and isinstance(part["text"], str)


def _indented(text: str, by: int) -> str:
    return "".join(f"{' ' * by}{line}\n" for line in visible(text).split("\n"))


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{{{ord(found[0]):x}}}"
