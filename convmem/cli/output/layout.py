"""Lines that fit: text folded, cut and padded by the cells that a terminal gives each letter."""

from __future__ import annotations

import unicodedata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_TAB_CELLS = 4
# Letters without a width of their own could else make a line of any length.
_LETTERS_PER_CELL = 8
_JOINER = "\u200d"  # makes one emoji of two


class _Cells(dict[str, int]):
    """How many cells each letter takes; where terminals differ, the larger number."""

    def __missing__(self, letter: str) -> int:
        if letter == "\ufe0f":  # makes an emoji, two cells wide, of the letter before it
            cells = 1
        elif unicodedata.east_asian_width(letter) in "WF":
            cells = 2
        else:
            marks = unicodedata.category(letter) in ("Mn", "Me", "Cf") and letter != "\xad"
            cells = 0 if marks or "\u1160" <= letter <= "\u11ff" else 1
        self[letter] = cells
        return cells


_cells = _Cells()


def width_of(text: str) -> int:
    """Return how many cells one line of *text* takes."""
    return len(text) if text.isascii() else sum(_cells[letter] for letter in text)


def fold(text: str, width: int) -> Iterator[str]:
    """Yield the lines of *text*, none wider than *width* cells; nothing but spaces is lost.

    Lines break between words; a word that is too long, and scripts written without spaces, break
    anywhere. Costs what the text is long, however its lines are.
    """
    for line in text.split("\n"):
        if "\t" in line:
            line = line.expandtabs(_TAB_CELLS)
        if line.isascii():
            yield from _fold_ascii(line, width)
        else:
            yield from _fold_any(line, width)


def chop(text: str, width: int) -> Iterator[str]:
    """Yield one line of *text* in pieces of *width* cells; put together they are the text."""
    start = taken = 0
    for at, letter in enumerate(text):
        taken += _cells[letter]
        if taken > width and at > start:
            yield text[start:at]
            start, taken = at, _cells[letter]
    yield text[start:]


def cut(text: str, width: int) -> str:
    """Return one line of *text*, with its end cut off where it is wider than *width* cells."""
    if width_of(text) <= width:
        return text
    taken = 0
    for at, letter in enumerate(text):
        taken += _cells[letter]
        if taken >= width:
            return f"{text[:at]}…" if width > 0 else ""
    return text


def _fold_ascii(line: str, width: int) -> Iterator[str]:
    at, end = 0, len(line)
    while end - at > width:
        space = line.rfind(" ", at, at + width + 1)
        if space <= at or not line[at:space].strip():
            yield line[at : at + width]
            at += width
        else:
            yield line[at:space]
            at = space + 1
    yield line[at:]


def _fold_any(line: str, width: int) -> Iterator[str]:
    start = taken = before = 0
    may_break = 0  # the last place where the line may end
    most = width * _LETTERS_PER_CELL
    for at, letter in enumerate(line):
        cells = _cells[letter]
        if letter == " " or (2 in (cells, before) and cells and line[at - 1] != _JOINER):
            may_break = at
        before = cells
        if at > start and (taken + cells > width or at - start >= most):
            if not line[start:may_break].strip():
                may_break = at
            yield line[start:may_break]
            start = may_break + (line[may_break] == " ")
            if start > at:  # it was this space that did not fit
                taken = 0
                continue
            taken = sum(_cells[each] for each in line[start:at])
        taken += cells
    yield line[start:]
