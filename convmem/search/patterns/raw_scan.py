"""The fast way through a log: its bytes are searched for a text, and few lines are ever parsed.

A line is taken as likely wherever it may hold the text; whoever asked then looks at what it says.
None that does is passed over, however its JSON is written: a letter may stand for itself or as an
escape, and a number be spelled otherwise than it reads.
"""

from __future__ import annotations

import os
import re
from itertools import product

from convmem import jsontext
from convmem.log import lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

# Within a core's own cache, since it is searched several times.
_BLOCK_BYTES = 256 << 10

# What a pass over a byte costs and what a look at a place does, in ns; and how much text is
# counted to learn which letters are rare in it.
_PASS_COST = 0.045
_LOOK_COST = 3000.0
_SAMPLE_BYTES = 16 << 10
_MOST_SAMPLES = 8
_MOST_WASTED = 8
_MOST_SPELLINGS = 16
_LONGEST_WINDOW = 4
_LOOKED_AT = 16

# A text that may be a part of how a number reads.
_NUMBER = re.compile(r"[+-]?[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]*)?")
# ASCII letters that have relatives elsewhere: those that ``re.IGNORECASE`` takes for the same.
_RELATIVES = {"i": "\u0130\u0131", "k": "\u212a", "s": "\u017f"}
_CASED_BELOW = 0x20000


class RawScan:
    """Looks for the lines of logs that may hold a text. Keep it for many logs, in one thread.

    Args:
        literal: The text, without a newline and not empty.
        ignores_case: Whether it may stand there in any case, as ``re.IGNORECASE`` has it.
    """

    def __init__(self, literal: str, *, ignores_case: bool) -> None:
        spellings = [_cases_of(letter) if ignores_case else [letter] for letter in literal]
        self._spellings = [[_as_json(each) for each in some] for some in spellings]
        self._needles: list[bytes] = []
        self._sample = b""  # what the needles were chosen by
        self._check: re.Pattern[str] | None = None
        self._reach = 0
        if all(len(some) == 1 for some in spellings):
            self._needles = [_as_json(literal)]
        else:
            self._check = re.compile(re.escape(str(_as_json(literal), "utf-8")), re.IGNORECASE)
            self._reach = sum(max(map(len, some)) for some in self._spellings)
        self._alarms = _alarms({each for some in spellings for each in some}, literal)
        self._block = _Block(_BLOCK_BYTES)

    def lines(self, fd: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the likely lines of ``[start, end)`` in order: where each begins, and its bytes.

        *start* begins a line, *end* is behind a newline. Memory follows the longest line; one
        that is too long to be a turn is passed over.
        """
        block = self._block
        at = start
        while at < end:
            length = block.read(fd, at, end - at)
            cut = block.data.rfind(b"\n", 0, length) + 1
            if not cut:
                if length < block.size:
                    return  # cut short under us
                if block.size > lines.MAX_LINE_BYTES:
                    at = lines.line_start_after(fd, at, end)
                    block = self._block
                else:
                    block = _Block(2 * block.size)
                continue
            block.end_at(cut)
            for first, behind in self._likely(block):
                yield at + first, bytes(block.data[first:behind])
            at += cut
            block = self._block  # what a long line needed is given back

    def is_likely(self, line: bytes) -> bool:
        """Whether *line* may hold the text."""
        if not self._needles:
            self._choose(line)
        for needle in self._needles:
            if needle in line:
                if self._check is None or self._check.search(str(line, "utf-8", "replace")):
                    return True
                break
        for needle, regex in self._alarms:
            if needle in line and (regex is None or regex.search(line)):
                return True
        return False

    def _likely(self, block: _Block) -> list[tuple[int, int]]:
        """Return where the likely lines of a block begin and end, in order."""
        data, length = block.data, block.length
        if self._check is not None and len(self._sample) < min(length, _SAMPLE_BYTES) // 4:
            self._choose(bytes(data[: min(length, _SAMPLE_BYTES)]))
        found: dict[int, int] = {}
        wasted = last_wasted = 0
        for needle in self._needles:
            at = block.find(needle, 0)
            while at >= 0:
                if self._check is None or self._is_there(data, at):
                    first = data.rfind(b"\n", 0, at) + 1
                    found[first] = at = data.find(b"\n", at)
                else:
                    wasted, last_wasted = wasted + 1, at
                    at += 1
                at = block.find(needle, at)
        if wasted > _MOST_WASTED and len(self._sample) < _MOST_SAMPLES * _SAMPLE_BYTES:
            # There is more of it here than the sample had: choose again, with some of this.
            first = max(0, last_wasted - _SAMPLE_BYTES // 2)
            self._choose(bytes(data[first : min(length, first + _SAMPLE_BYTES)]))
        for needle, regex in self._alarms:
            at = block.find(needle, 0)
            while at >= 0:
                if regex is None or regex.match(data, at) is not None:
                    first = data.rfind(b"\n", 0, at) + 1
                    found[first] = at = data.find(b"\n", at)
                else:
                    at += len(needle)
                at = block.find(needle, at)
        return sorted(found.items())

    def _is_there(self, data: bytearray, at: int) -> bool:
        """Whether the whole text stands, in some case, around the place of a needle."""
        assert self._check is not None
        around = bytes(data[max(0, at - self._reach) : at + self._reach])
        return self._check.search(str(around, "utf-8", "replace")) is not None

    def _choose(self, more: bytes) -> None:
        """Choose the letters to look for, in all their cases: those that are cheapest to find."""
        self._sample = sample = self._sample + more
        best = float("inf")
        some = self._spellings[:_LOOKED_AT]
        for first in range(len(some)):
            for behind in range(first + 1, min(first + _LONGEST_WINDOW, len(some)) + 1):
                needles = list(map(b"".join, product(*some[first:behind])))
                if len(needles) > _MOST_SPELLINGS:
                    break
                # What is not seen in a sample may still be there at times.
                seen = sum(map(sample.count, needles)) + 0.5
                cost = len(needles) * _PASS_COST + seen / (len(sample) + 1) * _LOOK_COST
                if cost < best:
                    best, self._needles = cost, needles


class _Block:
    """Some bytes of a file, whole lines, searched as fast as the system's C library can."""

    __slots__ = ("_address", "_strstr", "_view", "data", "length", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.length = 0
        self.data = bytearray(size + 1)
        self._view = memoryview(self.data)[:size]
        self._strstr = _strstr()
        self._address = 0
        if self._strstr is not None:
            import ctypes

            self._address = ctypes.addressof(ctypes.c_char.from_buffer(self.data))

    def read(self, fd: int, at: int, most: int) -> int:
        """Read what stands at *at*; return how many bytes that are."""
        if hasattr(os, "preadv"):
            return os.preadv(fd, [self._view[:most]], at)
        data = os.pread(fd, min(most, self.size), at)
        self._view[: len(data)] = data
        return len(data)

    def end_at(self, length: int) -> None:
        """Let the block end there."""
        self.length = length
        self.data[length] = 0
        # A text in C ends at its first NUL. In a log that is damage.
        if self._strstr is not None and self.data.find(0, 0, length) >= 0:
            self._strstr = None
        elif self._strstr is None:
            self._strstr = _strstr()

    def find(self, needle: bytes, at: int) -> int:
        """Return the first place of *needle* from *at* on, or -1."""
        if self._strstr is None:
            return self.data.find(needle, at, self.length)
        found = self._strstr(self._address + at, needle)
        return -1 if found is None else int(found) - self._address


_found_strstr: list[Any] = []


def _strstr() -> Callable[[int, bytes], int | None] | None:
    """Return the C library's search, which looks at 32 or 64 bytes at once; ``None`` without.

    Python's own takes five times as long.
    """
    if not _found_strstr:
        function = None
        try:
            import ctypes

            function = ctypes.CDLL(None).strstr
            function.restype = ctypes.c_void_p
            function.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
        except (ImportError, OSError, AttributeError, TypeError):
            pass  # no such library, or one that is not asked in this way: Python's own will do
        _found_strstr.append(function)
    strstr: Callable[[int, bytes], int | None] | None = _found_strstr[0]
    return strstr


def _as_json(text: str) -> bytes:
    """Return *text* as it stands in a line that convmem wrote, without its quotes."""
    return jsontext.dumps(text)[1:-1]


def _alarms(letters: set[str], literal: str) -> list[tuple[bytes, re.Pattern[bytes] | None]]:
    """Return what makes a line likely though the text is not seen in it.

    Bytes, and what stands there then.
    """
    found: list[tuple[bytes, re.Pattern[bytes] | None]] = []
    if _NUMBER.fullmatch(literal):
        # Numbers are read as text, and may be spelled in many ways. Where content is a text and
        # there are no calls, there are none.
        found += [
            (b"\\u", None),
            (b'"content"', re.compile(rb'"content"(?!:")')),
            (b'"tool_calls"', None),
        ]
    else:
        codes = {f"{ord(each):04x}" for each in letters if ord(each) < 0x10000}
        if any(ord(each) >= 0x10000 for each in letters):
            codes.add("d[89ab]..")
        escapes = "|".join(sorted(codes)).encode()
        found.append((b"\\u", re.compile(rb"\\u(?i:%b)" % escapes)))
    if "/" in letters:
        found.append((b"\\/", None))
    return found


def _cases_of(letter: str) -> list[str]:
    """Return all letters that ``re.IGNORECASE`` takes for *letter*."""
    if letter.isascii():
        small = letter.lower()
        return sorted({small, letter.upper(), *_RELATIVES.get(small, "")})
    return sorted({letter, *re.findall(re.escape(letter), _cased_letters(), re.IGNORECASE)})


_cased: list[str] = []


def _cased_letters() -> str:
    """Return every letter that has a case, as one text."""
    if not _cased:
        every = map(chr, [*range(0xD800), *range(0xE000, _CASED_BELOW)])
        _cased.append("".join(each for each in every if each.lower() != each.upper()))
    return _cased[0]
