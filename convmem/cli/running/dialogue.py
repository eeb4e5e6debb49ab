"""Who said what at a terminal: the keys that went in and the text that came out, as turns.

What the person sent is told by two witnesses. The keys say what was typed; the screen says what
was shown of it. Where the driver of the terminal edits lines it is the keys that count, once it
has echoed them; where the program does, the screen. What neither the driver echoed nor the screen
showed is in no turn: so no password is.

What the program said is what it left on the screen between two inputs. The text left of the input,
the prompt, belongs to neither; it is kept as the end of what was said where it may be a question.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

from convmem.cli.running.keys import Entered, Mode, Typed
from convmem.cli.running.screen import Screen
from convmem.quantities import format_count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from convmem.cli.running.screen import Place

MOST_BEGINNING = 1 << 20
MOST_END = 1 << 20
"""So many bytes of what a program prints between two inputs are kept: of its beginning and end."""
_PIECE = 1 << 14
_MOST_TEXT = 8 << 20
# What asks for nothing but the next command.
_SIGNS = frozenset("$#%>❯➜»›λ")
# What the driver shows of Ctrl-Z and the like behind a prompt, where a program goes on there.
_GIVEN_UP = re.compile(r"(?:\^[A-Z\\])+\Z")
_NUMBERS = re.compile(r"\d+")  # IPython counts its prompts
# How the driver of a terminal shows what is no letter.
_CARETS = {code: f"^{chr(code ^ 64)}" for code in (*range(9), *range(10, 32), 127)}
# What is shown of a password.
_STARS = frozenset("*•●·")


class _Waiting(NamedTuple):
    """A line that was sent off, and whose echo has not come to its end yet."""

    entered: Entered
    start: Place | None  # where its input began, if that is known
    seen: str  # what stood on the screen then


class Dialogue:
    """Makes turns of what passes between a person and a program.

    Args:
        say: Is given turns as they are complete: roles with texts, in order.
        columns: How wide the window is.
        height: How many rows it has.
    """

    def __init__(
        self, say: Callable[[list[tuple[str, str]]], None], columns: int, height: int
    ) -> None:
        self._say = say
        self._screen = Screen(columns, height)
        self._screen.on_line_feed = self._line_ends
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._typed = Typed()
        self._is_by_driver = True
        self._is_given_up = False
        self._start: Place | None = None  # where the input that is being typed begins
        self._seen = ""
        self._waiting: list[_Waiting] = []
        self._prompt = ""
        self._whole_prompt = ""  # with whatever stood left of it
        self._is_quiet = False
        self._before = ""  # what was said ahead of what is on the screen
        self._size = 0
        self._end: bytearray | None = None  # of what is too long, the latest
        self._left_out = 0

    def resized(self, columns: int, height: int) -> None:
        """Take the window's new size."""
        self._catch_up()
        self._screen.resize(columns, height)

    def printed(self, data: bytes) -> None:
        """Take what the program printed; any piece of it."""
        self._is_quiet = False
        if self._end is not None:
            self._end += data
            if len(self._end) > 2 * MOST_END:
                self._left_out += len(self._end) - MOST_END
                del self._end[:-MOST_END]
            return
        if not self._screen.is_full_screen:
            self._size += len(data)
        self._screen.feed(self._decoder.decode(data))
        if self._size > MOST_BEGINNING:
            self._end = bytearray()

    def left_out(self, count: int) -> None:
        """Take note of *count* bytes that were printed and cannot be had."""
        if self._end is None:
            self._end = bytearray()
        self._left_out += count + len(self._end)
        self._end.clear()

    def typed(self, data: bytes, mode: Mode) -> None:
        """Take what the person typed, and how the terminal took it."""
        self._catch_up()
        self._is_by_driver = bool(mode.flags & 1)
        for each in self._typed.keys(data, mode):
            if self._screen.is_full_screen:
                self._start = None
            elif isinstance(each, Entered):
                self._begin_input()
                self._waiting.append(_Waiting(each, self._start, self._seen))
                self._start = None
                self._is_quiet = False
            elif each == "given up":
                self._start = None
                self._is_given_up = True
            else:
                self._begin_input()

    def _begin_input(self) -> None:
        if self._start is None and (self._is_quiet or not self._waiting):
            self._start = self._screen.place
            self._seen = self._screen.seen()

    def quiet(self) -> None:
        """Take note that nothing has come for a while."""
        self._catch_up()
        self._is_quiet = True
        self._waiting = [
            each
            for each in self._waiting
            if (each.start is not None and not each.entered.is_hidden)
            or (each.entered.is_shown and each.entered.text)
        ]
        if self._waiting or self._start or self._screen.is_full_screen or not self._prompt:
            return
        first, _, line = self._screen.line()
        if line.rstrip() == self._prompt.rstrip():
            # The same prompt again: what was said is complete.
            self._tell(self._said(first))
            self._begin(first)

    def finish(self) -> None:
        """Tell what has not been told."""
        self._catch_up()
        self._screen.is_full_screen = False
        self._screen.feed(self._decoder.decode(b"", True))
        if self._waiting:
            self._line_ends()
        for each in self._waiting:
            if each.entered.is_shown and each.entered.text:
                self._tell(self._said(None), each.entered.text)
                self._begin(self._screen.place[0] + 1)
        said = self._said(None).rstrip()
        above, _, last = said.rpartition("\n")
        is_prompt = bool(self._prompt) and last.rstrip() == self._prompt.rstrip()
        self._tell(above if is_prompt else said)

    # --- what is too long -----------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Go on with the end of what was too long, with a mark where its middle was."""
        if self._end is None:
            return
        rest, self._end = bytes(self._end), None
        if len(rest) > MOST_END:
            self._left_out += len(rest) - MOST_END
            rest = rest[-MOST_END:]
        if self._left_out:
            # It begins with whole lines on both sides of the mark.
            cut = rest.find(b"\n") + 1
            self._left_out += cut
            rest = rest[cut:]
            said = self._said(None)
            mark = f"[… {format_count(self._left_out, 'byte')} of output left out …]"
            self._before = f"{said}\n{mark}\n"
            self._left_out = 0
            self._decoder.reset()
            self._screen.begin_below()
            if len(self._before) > _MOST_TEXT:
                self._tell(self._before.rstrip("\n"))
                self._before = ""
        for at in range(0, len(rest), _PIECE):
            self._screen.feed(self._decoder.decode(rest[at : at + _PIECE]))
        self._size = 0

    # --- the end of an input --------------------------------------------------------------------

    def _line_ends(self) -> None:
        """See whether the line that is about to end is an input."""
        if not self._waiting:
            is_within = self._typed.has_lines or self._screen.stays_on_its_line()
            if self._start is not None and not is_within:
                # Something else than an echo: the input is where the next key finds the cursor.
                self._start = None
                if not self._is_by_driver:
                    self._typed.forget()
            return
        for at, each in enumerate(self._waiting):
            if each.entered.is_hidden and self._is_echo_of_a_later(at):
                continue  # whoever asked for a password did not end the line behind it
            if self._settled(each):
                early = [one.entered for one in self._waiting[:at]]
                del self._waiting[: at + 1]
                for entered in early:
                    if entered.is_shown and entered.text:
                        self._say([("user", entered.text)])
                return

    def _is_echo_of_a_later(self, at: int) -> bool:
        line = self._screen.line()[2].rstrip()
        later = (each.entered for each in self._waiting[at + 1 :])
        return any(
            not each.is_hidden and each.text and line.endswith(each.text.rstrip()) for each in later
        )

    def _settled(self, waiting: _Waiting) -> bool:
        """Tell the input and what was said before, if this is the end of its echo."""
        entered, start, seen = waiting
        text = entered.text
        first, last, line = self._screen.line()
        if start is None or not self._screen.is_there(start[0]):
            start, prompt, shown = None, "", line
        else:
            first = self._screen.line(start[0])[0]
            prompt = self._screen.between((first, 0), start)
            shown = self._screen.between(start)
        if text is not None and "\n" in text and self._screen.stands_below():
            return False  # the program shows all of its lines once more
        if entered.is_hidden:
            return start is not None or not shown
        if text == "":
            if start is None and line.strip() and line.rstrip() != self._prompt.rstrip():
                return False
            if start is None or not shown.strip():
                self._nothing_was_sent(first, last, prompt or line)
            return True
        if text is not None and start is None and line.rstrip().endswith(text.rstrip()):
            self._told(first, last, line[: line.rfind(text.rstrip())], text)
        elif text is not None and start is not None and _is_echo(shown, entered):
            # Keys may come before the prompt does.
            bare = text.rstrip()
            at = 0 if shown.startswith(bare) else max(shown.rfind(bare), 0)
            self._told(first, last, prompt + shown[:at], text)
        elif start is None and (text is not None or not line):
            return False
        elif text is not None and (entered.is_shown or _has_come(text, seen, self._screen.seen())):
            # The echo is mixed with other things, or stands elsewhere: those are kept.
            self._tell(self._said(last + 1), text)
            self._begin(last + 1)
        else:
            if self._prompt and line.startswith(self._prompt):
                prompt, shown = self._prompt, line[len(self._prompt) :]
                first = self._screen.line()[0]
            if not _is_mask(shown.strip(), text):
                self._told(first, last, prompt, shown.strip("\n").rstrip())
        return True

    def _nothing_was_sent(self, first: int, last: int, prompt: str) -> None:
        """Enter alone: what was said goes on, without one more prompt."""
        ahead, prompt = self._without_known_prompt(prompt)
        if ahead.strip():
            said = self._said(first)
            self._screen.begin(last + 1)
            self._before = f"{said}\n{ahead}\n" if said else f"{ahead}\n"
        elif not self._is_question(prompt):
            self._screen.blank(first, last)
        self._prompt = prompt or self._prompt

    def _told(self, first: int, last: int, prompt: str, text: str) -> None:
        said = self._said(first)
        ahead, prompt = self._without_known_prompt(prompt)
        if ahead.strip():
            said = f"{said}\n{ahead}" if said else ahead
        if self._is_question(prompt):
            said = f"{said}\n{prompt.rstrip()}" if said else prompt.rstrip()
        if prompt.strip():
            self._prompt = prompt
        self._tell(said, text)
        self._begin(last + 1)

    def _without_known_prompt(self, prompt: str) -> tuple[str, str]:
        """Return what stands left of the prompt that was there before, and that prompt.

        An answer whose last line has no end has the next prompt on that line.
        """
        if self._is_given_up:
            prompt = _GIVEN_UP.sub("", prompt)
            self._is_given_up = False
        known, whole = self._prompt.strip(), prompt.rstrip()
        before, self._whole_prompt = self._whole_prompt, whole
        numbered = r"\d+".join(map(re.escape, _NUMBERS.split(known)))
        found = re.search(rf"{numbered}\Z", whole) if known else None
        if found is None or not whole[: found.start()].strip():
            return "", prompt
        if whole == before and not any(letter.isalnum() for letter in known):
            return "", prompt  # "$ " has become "host$ ", for good
        return prompt[: found.start()], prompt[found.start() :]

    def _is_question(self, prompt: str) -> bool:
        bare = prompt.strip()
        return (
            _NUMBERS.sub("", bare) != _NUMBERS.sub("", self._prompt.strip())
            and bare[-1:] not in _SIGNS
            and any(letter.isalnum() for letter in bare)
        )

    # --- what was said --------------------------------------------------------------------------

    def _said(self, end: int | None) -> str:
        return f"{self._before}{self._screen.said(end)}"

    def _begin(self, row: int) -> None:
        self._screen.begin(row)
        self._before = ""
        self._size = 0

    def _tell(self, said: str, sent: str = "") -> None:
        said = said.strip("\n").rstrip()
        turns = [("assistant", said)] if said.strip() else []
        if sent.strip():
            turns.append(("user", sent))
        if turns:
            self._say(turns)


def _is_echo(shown: str, entered: Entered) -> bool:
    """Whether *shown* is the input; a program may show hints and the time beside it."""
    text = (entered.text or "").rstrip()
    return shown.rstrip() == text.translate(_CARETS) if entered.is_shown else _is_in(text, shown)


def _is_mask(shown: str, text: str | None) -> bool:
    """Whether it is what programs show of a password: nothing, stars, or one sign for each key."""
    return _STARS.issuperset(shown) or (
        text is not None and len(shown) == len(text) and len(set(shown)) == 1 and shown != text
    )


def _has_come(text: str, before: str, now: str) -> bool:
    """Whether *text* is there now once more than *before*: by itself it may stand anywhere."""
    if "\n" in text:
        return _is_in(text, now) and not _is_in(text, before)
    bare = text.rstrip()
    return now.count(bare) > before.count(bare)


def _is_in(text: str, shown: str) -> bool:
    """Whether *text* was shown there; lines of one paste may have prompts of their own."""
    if "\n" not in text:
        return text.rstrip() in shown
    at = 0
    for line in text.split("\n"):
        at = shown.find(line.strip(), at)
        if at < 0:
            return False
        at += len(line.strip())
    return True
