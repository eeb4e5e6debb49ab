"""Text in which nothing hides: controls and marks that turn its direction are shown by name.

Done before anything is escaped or parsed, so that a page and a Markdown file show the same.
"""

from __future__ import annotations

import re

# Controls but tab and newline; what ends lines, turns their direction, or carries text that nobody
# sees. The marks that only say what a letter's direction is (U+200E, U+200F) stay.
_SHOWN = {
    code: f"⟨U+{code:04X}⟩"
    for first, last in (
        (0x00, 0x08),
        (0x0B, 0x1F),
        (0x7F, 0x9F),
        (0x2028, 0x202E),
        (0x2066, 0x206F),
        (0xD800, 0xDFFF),
        (0xFFF9, 0xFFFB),
        (0xE0000, 0xE007F),
    )
    for code in range(first, last + 1)
}
_COLOUR = re.compile("\x1b\\[[0-9;:]*m")


def visible(text: str) -> str:
    """Return *text* with line ends as newlines and everything that hides made visible."""
    if text.isprintable():
        return text
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    return text.translate(_SHOWN)


def visible_line(text: str) -> str:
    """Return *text* made visible and on one line: each run of white space is one space."""
    return visible(" ".join(text.split()))


def visible_output(text: str) -> str:
    """Return what a program printed, made visible: its colours are left out, and nothing else."""
    return visible(without_colours(text))


def without_colours(text: str) -> str:
    """Return what a program printed without the marks that colour it on a terminal."""
    return _COLOUR.sub("", text) if "\x1b" in text else text
