"""The line that a person typed, from the keys: edited as the terminal's driver, or a program, does.

Where the driver edits lines (canonical mode), it is known exactly what the program was given.
Where the program does, only plain keys are understood; after an arrow or a Tab the line is unknown,
and has to be read from the screen.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CANONICAL, ECHOED, SIGNALS, CR_IS_NEWLINE, UTF_8 = 1, 2, 4, 8, 16


class Mode(NamedTuple):
    """How the terminal took keys when they came: flags, and the codes of special characters."""

    flags: int
    erase: int
    kill: int
    word_erase: int
    literal: int
    end: int
    interrupt: int
    quit: int
    suspend: int


class Entered(NamedTuple):
    """A line that was sent off.

    Attributes:
        text: What it says, or ``None`` where the keys do not tell.
        is_shown: The driver has echoed every key of it.
        is_hidden: The driver has not echoed every key of it, which it does of lines: a password.
    """

    text: str | None
    is_shown: bool
    is_hidden: bool


# What a terminal says by itself: where its cursor is, what it can do, where the mouse went.
_ANSWERS = re.compile(
    r"\x1b\[\??\d+;\d+R|\x1b\[[IO]|\x1b\[<\d+;\d+;\d+[Mm]|\x1b\[M..."
    r"|\x1b\[[?>][\d;]*\$?[cyun]|\x1b\[\d+;\d+;\d+t|\x1b[\]P_][^\x07\x1b]*(?:\x07|\x1b\\)",
    re.S,
)
_TOKENS = re.compile(
    r"\x1b\[200~|\x1b\[201~|\x1b\[[0-?]*[ -/]*[@-~]|\x1bO[ -~]|\x1b[^\x1b]|[^\x00-\x1f\x7f]+|."
    r"|\n",
    re.S,
)
_UNFINISHED = re.compile(r"\x1b\[[0-?]{0,30}\Z")
_BEGIN_PASTE, _END_PASTE = "\x1b[200~", "\x1b[201~"
_LONGEST = 1 << 20
_WORD = re.compile(r"\S*\s*\Z")
# Of the driver: letters, digits and _ are a word; as it goes by bytes, so is what begins other
# letters, but for two bytes that are signs in Latin-1.
_DRIVERS_WORD = re.compile(r"[\w\u0080-\U0010ffff]*[^\w\u0080-\U0010ffff]*\Z", re.A)


class Typed:
    """The line that is being typed."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._in_paste = False
        self._is_literal = False
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._text: str | None = ""
        self._sent = 0  # of the text: what Ctrl-D has sent off, and no key takes back
        self._is_shown = True
        self._is_hidden = False
        self.has_begun = False

    @property
    def has_lines(self) -> bool:
        """Whether several lines were pasted: what ends is not the input, but one of these."""
        return self._in_paste or "\n" in (self._text or "")

    def forget(self) -> None:
        """Take the line for unknown, since the program has taken some of it in another way."""
        if self.has_begun:
            self._text = None

    def keys(self, data: bytes, mode: Mode) -> Iterator[Entered | str]:
        """Take what was typed; yield each line as it is sent off, and in between what happened.

        That is ``"key"`` for something typed into the line, and ``"given up"`` for Ctrl-C.
        """
        text = self._rest + self._decoder.decode(data)
        self._rest = ""
        if "\x1b" in text:
            if not mode.flags & CANONICAL:
                unfinished = _UNFINISHED.search(text)
                if unfinished:
                    self._rest = unfinished.group()
                    text = text[: unfinished.start()]
            text = _ANSWERS.sub("", text)
        if not text:
            return
        if mode.flags & CANONICAL:
            yield from self._by_driver(text, mode)
        else:
            yield from self._by_program(text, mode)

    def _enter(self) -> Entered:
        text = self._text
        if text is not None and not text.isascii():
            text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        entered = Entered(text, self._is_shown and not self._is_hidden, self._is_hidden)
        self._begin_anew()
        return entered

    def _add(self, text: str) -> None:
        if self._text is not None:
            self._text += text
            if len(self._text) > _LONGEST:
                self._text = None

    # --- the driver edits -----------------------------------------------------------------------

    def _by_driver(self, text: str, mode: Mode) -> Iterator[Entered | str]:
        for letter in text:
            code = ord(letter)
            if self._is_literal:
                self._is_literal = False
            elif mode.flags & SIGNALS and _is(code, mode.interrupt, mode.quit, mode.suspend):
                self._begin_anew()
                yield "given up"
                continue
            elif letter == "\n" or (letter == "\r" and mode.flags & CR_IS_NEWLINE):
                self._note(mode)
                yield self._enter()
                continue
            elif _is(code, mode.literal):
                self._is_literal = True
                continue
            elif _is(code, mode.erase, mode.kill, mode.word_erase, mode.end):
                self._edit(code, mode)
                continue
            self._note(mode)
            yield "key"
            self._add(letter)

    def _note(self, mode: Mode) -> None:
        self.has_begun = True
        if not mode.flags & ECHOED:
            self._is_hidden = True

    def _edit(self, code: int, mode: Mode) -> None:
        if self._text is None:
            return
        if code == mode.end:
            self._sent = len(self._text)
            return
        line = self._text[self._sent :]
        if code == mode.erase and mode.flags & UTF_8:
            line = line[:-1]
        elif code == mode.erase:  # one byte, whatever is left
            line = line.encode("utf-8", "surrogateescape")[:-1].decode("utf-8", "surrogateescape")
        elif code == mode.kill:
            line = ""
        else:
            line = _DRIVERS_WORD.sub("", line)
        self._text = self._text[: self._sent] + line

    # --- the program edits ----------------------------------------------------------------------

    def _by_program(self, text: str, mode: Mode) -> Iterator[Entered | str]:
        self._is_shown = False
        for token in _TOKENS.findall(text):
            if token == _BEGIN_PASTE:
                self._in_paste = True
            elif token == _END_PASTE:
                self._in_paste = False
            elif self._in_paste:
                self.has_begun = True
                yield "key"
                self._add(token.replace("\r", "\n"))
            elif token in ("\r", "\n"):
                self.has_begun = True
                yield self._enter()
                self._is_shown = False
            elif token in ("\x03", "\x1c") or (
                mode.flags & SIGNALS
                and len(token) == 1
                and _is(ord(token), mode.interrupt, mode.quit, mode.suspend)
            ):
                self._begin_anew()
                self._is_shown = False
                yield "given up"
            else:
                self.has_begun = True
                yield "key"
                self._by_key(token)

    def _by_key(self, token: str) -> None:
        if token[0] >= " " and token[0] != "\x7f":
            self._add(token)
        elif self._text is None or token in ("\x04", "\x05"):  # Ctrl-D, Ctrl-E
            return
        elif token in ("\x7f", "\b") and self._text[-1:].isascii():
            self._text = self._text[:-1]
        elif token == "\x15":
            self._text = ""
        elif token == "\x17":
            self._text = _WORD.sub("", self._text)
        else:
            self._text = None


def _is(code: int, *keys: int) -> bool:
    return code != 0 and code in keys
