"""The lines that a program left on a terminal: cursor moves, overwriting and wrapping carried out.

A small emulation, for text: where letters stand, and which rows are one line that was too long for
the window. Colours, titles and the like are dropped, and so is all that is written to the
alternate screen, which editors and pagers use. Rows that scroll off the top are kept as text.
"""

from __future__ import annotations

import re
import unicodedata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Place = tuple[int, int]
    """A row, counted from the first that ever was, and a column."""

_TOKENS = re.compile(
    r"[^\x00-\x1f\x7f-\x9f]+"  # text
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # what moves and erases
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles, links, and whatever else is a string
    r"|\x1b[ -/]*[0-~]"
    r"|[\x00-\x1f\x7f-\x9f]"
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)\Z")
_STRING_ENDS = re.compile(r"\x07|\x1b\\|\x1b(?=[^\\])")
# Of a string, such as a picture, that is longer nothing is kept, while its end is looked for.
_LONGEST_UNFINISHED = 4096
_FULL_SCREEN = frozenset(("47", "1047", "1049"))
_MOST_STEPS = 4096
_TAB = 8


class Screen:
    """The main screen of a terminal, from the row on where ``begin`` was called.

    ``on_line_feed`` is called before each line feed is carried out.
    """

    def __init__(self, columns: int, height: int) -> None:
        self.on_line_feed: Callable[[], None] | None = None
        self.is_full_screen = False
        self._rest = ""
        self._in_string = False
        self._columns = max(columns, 2)
        self._height = max(height, 2)
        self._rows: list[list[str]] = [[]]
        self._goes_on = [False]  # whether the row below is the same line
        self._top = 0
        self._row = 0  # among the rows that can be seen
        self._column = 0
        self._saved = (0, 0)
        self._inserts = False
        self._start = 0
        self._gone: list[str] = []

    def resize(self, columns: int, height: int) -> None:
        """Take the window's new size; what stands there stays where it is."""
        self._columns = max(columns, 2)
        self._height = max(height, 2)
        while len(self._rows) > self._height:
            self._scroll()

    @property
    def place(self) -> Place:
        """Where the cursor is."""
        return self._top + self._row, self._column

    def begin(self, row: int) -> None:
        """Let ``said`` start with *row*; what stands above is forgotten."""
        self._start = row
        self._gone.clear()

    def said(self, end: int | None = None) -> str:
        """Return the text from where it began to the row *end*, which is not part of it."""
        last = len(self._rows) if end is None else max(end - self._top, 0)
        parts = list(self._gone)
        first = max(self._start - self._top, 0)
        parts += [self._text_of(at) for at in range(first, min(last, len(self._rows)))]
        return "".join(parts).rstrip("\n")

    def line(self, row: int | None = None) -> tuple[int, int, str]:
        """Return the first and last row of the line that *row*, or the cursor, is on, and its text.

        A row that has scrolled off is a line without text.
        """
        at = self._row if row is None else row - self._top
        if not 0 <= at < len(self._rows):
            return self._top + at, self._top + at, ""
        first = last = at
        while first > 0 and self._goes_on[first - 1]:
            first -= 1
        while last + 1 < len(self._rows) and self._goes_on[last]:
            last += 1
        text = "".join("".join(row) for row in self._rows[first : last + 1])
        return self._top + first, self._top + last, text

    def between(self, start: Place, end: Place | None = None) -> str:
        """Return the text from *start* to *end*, or to the end of the cursor's line."""
        row, column = start
        if row < self._top:
            row, column = self._top, 0
        last, until = (self.line()[1], None) if end is None else end
        parts = []
        for at in range(row - self._top, min(last - self._top + 1, len(self._rows))):
            cells = self._rows[at]
            if at + self._top == last and until is not None:
                cells = cells[:until]
            if at + self._top == row:
                cells = cells[column:]
            parts.append("".join(cells))
            if at + self._top < last and not self._goes_on[at]:
                parts.append("\n")
        return "".join(parts)

    def seen(self) -> str:
        """Return all that can be seen, lines that were too long for the window joined again."""
        return "".join(self._text_of(at) for at in range(len(self._rows)))

    def is_there(self, row: int) -> bool:
        """Whether *row* has not scrolled off."""
        return self._top <= row < self._top + len(self._rows)

    def begin_below(self) -> None:
        """Begin on a new row, whatever was left unfinished."""
        self._rest, self._in_string = "", False
        self._line_feed()
        self._column = 0
        self.begin(self._top + self._row)

    def blank(self, first: int, last: int) -> None:
        """Empty the rows *first* to *last*."""
        for row in range(max(first, self._top), last + 1):
            self._rows[row - self._top] = []

    def stays_on_its_line(self) -> bool:
        """Whether a line feed would only go down within a line that has several rows."""
        return self._goes_on[self._row] and self._row + 1 < len(self._rows)

    def stands_below(self) -> bool:
        """Whether there is something on the row below the cursor."""
        return self._row + 1 < len(self._rows) and bool(self._rows[self._row + 1])

    # --- what the program writes ----------------------------------------------------------------

    def feed(self, text: str) -> None:
        """Carry out what a program wrote; any piece of it."""
        if self._rest:
            text = self._rest + text
            self._rest = ""
        if self._in_string:
            end = _STRING_ENDS.search(text)
            if end is None:
                self._rest = text[-1:] if text[-1:] == "\x1b" else ""
                return
            text = text[end.end() :]
            self._in_string = False
        if "\x1b" in text:
            cut = _UNFINISHED.search(text)
            if cut is not None:
                rest = cut.group()
                text = text[: cut.start()]
                if len(rest) <= _LONGEST_UNFINISHED:
                    self._rest = rest
                else:
                    self._in_string = True
        for token in _TOKENS.findall(text):
            first = token[0]
            if first == "\x1b":
                self._escape(token)
            elif self.is_full_screen:
                continue
            elif first == "\r":
                self._column = 0
            elif first == "\n" or first == "\x0b" or first == "\x0c":
                if self.on_line_feed is not None:
                    self.on_line_feed()
                self._line_feed()
            elif first >= " " and first != "\x7f" and not "\x80" <= first <= "\x9f":
                self._write(token)
            elif first == "\b":
                self._column = max(0, min(self._column, self._columns - 1) - 1)
            elif first == "\t":
                self._tab()

    def _write(self, text: str) -> None:
        if not text.isascii():
            self._write_wide(text)
            return
        at = 0
        while at < len(text):
            if self._column >= self._columns:
                self._wrap()
            piece = text[at : at + self._columns - self._column]
            self._put(list(piece))
            at += len(piece)

    def _write_wide(self, text: str) -> None:
        """Write text in which letters may take no column, or two: the second is then empty."""
        for letter in text:
            if letter.isascii():
                width = 1
            elif unicodedata.east_asian_width(letter) in "WF":
                width = 2
            else:
                width = 0 if unicodedata.category(letter) in ("Mn", "Me", "Cf") else 1
            if width == 0:
                self._join(letter)
                continue
            if self._column + width > self._columns:
                self._wrap()
            self._put([letter, ""] if width == 2 else [letter])

    def _put(self, cells: list[str]) -> None:
        row = self._rows[self._row]
        column = self._column
        self._start = min(self._start, self._top + self._row)
        if column == len(row):  # by far the most
            row += cells
        elif self._inserts:
            self._pad(row, column)
            row[column:column] = cells
            del row[self._columns :]
        else:
            self._pad(row, column)
            end = column + len(cells)
            self._split(row, column)
            self._split(row, end)
            row[column:end] = cells
        self._column = column + len(cells)

    def _join(self, mark: str) -> None:
        """Add an accent, or what glues emoji together, to the letter before the cursor."""
        row = self._rows[self._row]
        at = min(self._column, len(row)) - 1
        while at > 0 and row[at] == "":
            at -= 1
        if at >= 0:
            row[at] += mark

    def _tab(self) -> None:
        row = self._rows[self._row]
        end = min((self._column // _TAB + 1) * _TAB, self._columns - 1)
        if self._column >= len(row) and end > self._column:
            self._put(["\t", *[""] * (end - self._column - 1)])
        self._column = max(end, self._column)

    @staticmethod
    def _pad(row: list[str], column: int) -> None:
        if column > len(row):
            row.extend(" " * (column - len(row)))

    @staticmethod
    def _split(row: list[str], column: int) -> None:
        """Turn a letter of two columns, or a tab, that would be cut at *column* into spaces."""
        if column >= len(row) or row[column] != "":
            return
        at = column
        while at > 0 and row[at] == "":
            at -= 1
        while at < len(row) and (at < column or row[at] == ""):
            row[at] = " "
            at += 1

    # --- rows -----------------------------------------------------------------------------------

    def _wrap(self) -> None:
        self._goes_on[self._row] = True
        self._line_feed()
        self._column = 0

    def _line_feed(self) -> None:
        self._row += 1
        if self._row == len(self._rows):
            self._rows.append([])
            self._goes_on.append(False)
            if len(self._rows) > self._height:
                self._scroll()

    def _scroll(self) -> None:
        if self._top >= self._start:
            self._gone.append(self._text_of(0))
        del self._rows[0], self._goes_on[0]
        self._top += 1
        self._row = max(self._row - 1, 0)

    def _text_of(self, at: int) -> str:
        text = "".join(self._rows[at])
        return text if self._goes_on[at] else text.rstrip(" ") + "\n"

    def _go(self, row: int, column: int) -> None:
        self._row = min(max(row, 0), self._height - 1)
        self._column = min(max(column, 0), self._columns - 1)
        while len(self._rows) <= self._row:
            self._rows.append([])
            self._goes_on.append(False)

    # --- escape sequences -----------------------------------------------------------------------

    def _escape(self, token: str) -> None:
        if token[1:2] == "[" and len(token) > 2:
            self._control(token[2:-1], token[-1])
        elif token == "\x1bc":
            self.is_full_screen = False
            self._erase_all()
            self._go(0, 0)
        elif self.is_full_screen:
            return
        elif token == "\x1b7":
            self._saved = (self._row, self._column)
        elif token == "\x1b8":
            self._go(*self._saved)
        elif token == "\x1bM":
            self._go(self._row - 1, self._column)
        elif token in ("\x1bD", "\x1bE"):
            self._line_feed()
            if token == "\x1bE":
                self._column = 0

    def _control(self, body: str, final: str) -> None:
        if body[:1] == "?":
            if final in "hl" and not _FULL_SCREEN.isdisjoint(body[1:].split(";")):
                self.is_full_screen = final == "h"
            return
        if self.is_full_screen or final == "m":
            return
        words = body.split(";")
        if not all(word.isdecimal() for word in words if word):
            return
        numbers = [min(int(word or 0), _MOST_STEPS) for word in words]
        first = numbers[0]
        count = first or 1
        row, column = self._row, self._column
        if final in _MOVES:
            down, right = _MOVES[final]
            self._go(row + down * count, 0 if final in "EF" else column + right * count)
        elif final in "G`":
            self._go(row, count - 1)
        elif final == "d":
            self._go(count - 1, column)
        elif final in "Hf":
            self._go(count - 1, ((numbers[1] if len(numbers) > 1 else 0) or 1) - 1)
        elif final == "s":
            self._saved = (row, column)
        elif final == "u":
            self._go(*self._saved)
        elif final == "S":
            for _ in range(min(count, len(self._rows) - 1)):
                self._scroll()
        elif final in "hl" and first == 4:
            self._inserts = final == "h"
        else:
            self._edit(final, first, count)

    def _edit(self, final: str, first: int, count: int) -> None:
        """Carry out what erases, or moves letters and rows aside."""
        row = self._rows[self._row]
        column = self._column
        if final == "K":
            self._erase_row(self._row, first)
        elif final == "J":
            if first >= 2:
                if first == 2:
                    self._erase_all()
                return
            self._erase_row(self._row, first)
            others = range(self._row + 1, len(self._rows)) if first == 0 else range(self._row)
            for at in others:
                self._rows[at] = []
                self._goes_on[at] = False
        elif final == "P":
            self._split(row, column)
            del row[column : column + count]
        elif final == "@" and column < len(row):
            row[column:column] = " " * count
            del row[self._columns :]
        elif final == "X":
            row[column : column + count] = " " * len(row[column : column + count])
        elif final == "L":
            for _ in range(min(count, self._height)):
                self._rows.insert(self._row, [])
                self._goes_on.insert(self._row, False)
            del self._rows[self._height :], self._goes_on[self._height :]
        elif final == "M":
            del self._rows[self._row : self._row + count]
            del self._goes_on[self._row : self._row + count]
            self._go(self._row, self._column)

    def _erase_row(self, at: int, part: int) -> None:
        row = self._rows[at]
        column = min(self._column, self._columns - 1)
        if part == 0:
            self._split(row, column)
            del row[column:]
            self._goes_on[at] = False
        elif part == 1:
            row[: column + 1] = " " * min(column + 1, len(row))
        else:
            self._rows[at] = []
            self._goes_on[at] = False

    def _erase_all(self) -> None:
        self._rows = [[] for _ in self._rows]
        self._goes_on = [False] * len(self._rows)


# By how many rows and columns one step goes.
_MOVES = {
    "A": (-1, 0),
    "B": (1, 0),
    "e": (1, 0),
    "C": (0, 1),
    "a": (0, 1),
    "D": (0, -1),
    "E": (1, 0),
    "F": (-1, 0),
}
