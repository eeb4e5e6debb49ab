"""Who said what through pipes: what went in and what came out, as turns."""

from __future__ import annotations

import codecs
import re

from convmem.cli.running.screen import Screen
from convmem.quantities import format_count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MOST_BEGINNING = 16 << 20
MOST_SHOWN = 1 << 20
MOST_END = 1 << 20
"""So many bytes of one turn are kept: of its beginning, of one that a terminal shows, and end."""
_MOST_JSON = (48 << 20) + 64
"""So long may the beginning become in JSON, where a control character takes six bytes."""
_ROWS = 100
_PIECE = 1 << 14
# Programs that only print hand on blocks of this size or more, which end anywhere.
_BLOCK = 4096
# How a line ends that waits for an answer.
_PROMPT = re.compile(rb"(?:[]:?>$#%)]|\xe2\x9d\xaf|\xc2\xbb|\xe2\x80\xba)(?:\s|\x1b\[[\d;]*m)*\Z")
# What takes more than one byte in JSON, as UTF-8 at the worst.
_LONG = bytes(code for code in range(32) if code not in b"\b\t\n\f\r")
_ESCAPED = b'\b\t\n\f\r"\\'
_HIGH = bytes(range(128, 256))


class Exchange:
    """Makes turns of what passes through two pipes. ``say`` is given each as it is complete.

    What is printed to a terminal of *columns* is plain text there; 0 is for a pipe.
    """

    def __init__(self, say: Callable[[list[tuple[str, str]]], None], columns: int = 0) -> None:
        self._say = say
        self._columns = columns
        self._sent = _Text(MOST_BEGINNING)
        self._printed = _Text(MOST_SHOWN if columns else MOST_BEGINNING)
        self._waits = False
        self._is_stream = False  # nobody waits for answers: all that goes in is one turn
        self._is_at_rest = False

    def sent(self, data: bytes) -> None:
        """Take what the program was given; any piece of it."""
        if self._waits:
            # Somebody had waited for what was printed, and goes on: that was an answer.
            self._waits = False
            self._tell_answer()
        self._sent.add(data)

    def printed(self, data: bytes) -> None:
        """Take what the program printed; any piece of it."""
        self._printed.add(data)
        self._is_at_rest = False

    def waits(self) -> None:
        """Take note that the program prints while nothing more is there to be sent to it.

        Whoever sends may be waiting for that, or be slow. One line, or a few, is a question.
        """
        if not self._sent.is_said_at_once:
            self._is_stream = True
        if not self._is_stream:
            self._tell("user", self._sent)
            self._waits = True

    def left_out(self, count: int) -> None:
        """Take note of *count* bytes that were printed and cannot be had."""
        self._printed.left_out(count)

    def unsent(self, count: int) -> None:
        """Take note of *count* bytes that were sent and cannot be had."""
        self._sent.left_out(count)

    def quiet(self) -> None:
        """Take note that nothing has come for a while: the line that was begun is a prompt."""
        self._is_at_rest = True

    def finish(self) -> None:
        """Tell what has not been told."""
        self._tell("user", self._sent)
        self._tell("assistant", self._printed)

    def _tell_answer(self) -> None:
        """Tell what was printed, but no part of a line that goes on."""
        line = self._printed.take_last_line()
        if self._is_at_rest or _PROMPT.search(line[-_BLOCK:]):
            self._printed.add(line)
            line = b""
        self._tell("assistant", self._printed)
        self._printed.add(line)

    def _tell(self, role: str, text: _Text) -> None:
        said = text.take()
        if self._columns and role == "assistant":
            said = _plain(said, self._columns)
        if said:
            self._say([(role, said)])


def _plain(text: str, columns: int) -> str:
    """Return what stands there when a terminal was given *text*."""
    screen = Screen(columns, _ROWS)
    text = text.replace("\n", "\r\n")
    for at in range(0, len(text), _PIECE):
        screen.feed(text[at : at + _PIECE])
    return screen.said()


class _Text:
    """Bytes as text: whole, or the beginning and the end with a mark between."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._room = _MOST_JSON
        self._beginning = bytearray()
        self._end = bytearray()
        self._left_out = 0

    @property
    def is_said_at_once(self) -> bool:
        """Whether it is one whole line or a few, or nothing."""
        if self._end or self._left_out:
            return False
        text = self._beginning
        return not text or (
            text.endswith(b"\n") and (len(text) < _BLOCK or text.find(b"\n") == len(text) - 1)
        )

    def take_last_line(self) -> bytes:
        """Return what comes behind the last newline, and cut it off."""
        part = self._end or self._beginning
        at = part.rfind(b"\n") + 1
        line = bytes(part[at:])
        del part[at:]
        return line

    def add(self, data: bytes) -> None:
        while data and not self._end and not self._left_out:
            part = data[: min(self._most - len(self._beginning), self._room // 6)]
            if not part:
                break
            self._beginning += part
            self._room -= _most_json(part)
            data = data[len(part) :]
        if not data:
            return
        self._end += data
        if len(self._end) > 2 * MOST_END:
            self._cut()

    def left_out(self, count: int) -> None:
        self._left_out += count + len(self._end)
        self._end.clear()

    def take(self) -> str:
        """Return the text, its last newline cut, and begin anew."""
        if len(self._end) > MOST_END:
            self._cut()
        if self._left_out:
            # Whole characters on both sides of the mark.
            text = codecs.getincrementaldecoder("utf-8")("replace").decode(bytes(self._beginning))
            end = bytes(self._end)
            while end and end[0] & 0xC0 == 0x80:
                end = end[1:]
            mark = f"[… {format_count(self._left_out, 'byte')} left out …]"
            text += f"\n{mark}\n{end.decode('utf-8', 'replace')}"
        else:
            text = (self._beginning + self._end).decode("utf-8", "replace")
        self._beginning.clear()
        self._end.clear()
        self._left_out = 0
        self._room = _MOST_JSON
        return text.removesuffix("\n")

    def _cut(self) -> None:
        self._left_out += len(self._end) - MOST_END
        del self._end[:-MOST_END]


def _most_json(data: bytes) -> int:
    """Return how many bytes *data* may take in JSON: what is no UTF-8 takes three."""
    size = len(data)
    long, escaped, high = (
        size - len(data.translate(None, each)) for each in (_LONG, _ESCAPED, _HIGH)
    )
    return size + 5 * long + escaped + 2 * high
