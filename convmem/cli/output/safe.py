"""Text from strangers made safe for a terminal: what could drive it is shown instead."""

from __future__ import annotations

# C0 and C1 controls but tab and newline; marks that turn the direction of text, end lines, or
# carry text that nobody sees.
_UNSAFE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_UNSAFE |= {
    code: f"\\u{code:04x}"
    for first, last in ((0x2028, 0x202E), (0x2066, 0x206F), (0xFFF9, 0xFFFB))
    for code in range(first, last + 1)
}
_UNSAFE |= {code: f"\\U{code:08x}" for code in range(0xE0000, 0xE0080)}
_ENDS = {code: _UNSAFE.pop(code) for code in (0x09, 0x0A)} | {0x0D: _UNSAFE[0x0D]}


def safe(text: str) -> str:
    """Return *text* with whatever could drive a terminal made visible.

    Tabs and newlines stay; the two characters that end a line on Windows count as one newline.
    """
    if text.isprintable():
        return text
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    return text.translate(_UNSAFE)


def safe_name(text: str) -> str:
    """Return *text* made safe and on one line, with no character of it lost or changed."""
    return text if text.isprintable() else safe(text.translate(_ENDS))


def safe_line(text: str) -> str:
    """Return *text* made safe and on one line: each run of white space is one space."""
    return safe(" ".join(text.split()))


def encoded(text: str) -> bytes:
    """Return *text* as UTF-8; half a character, which JSON can hold, is made visible."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace")
