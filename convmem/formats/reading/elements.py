"""Elements: what stands in one large JSON array, one by one and byte for byte.

Found by brackets alone: one regular expression leaps from bracket to bracket, over strings and
over what holds no more brackets, so that most of the work is done in C. Where the array is
damaged, it goes on at the next thing that begins as its elements do and has their keys.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from convmem import jsontext
from convmem.formats.reading.mining import as_told, on_one_line, read_leniently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from convmem.formats.reading.mining import Tally

_BLOCK = 1 << 20
# An element may be more than a turn: a whole conversation. It is held in memory several times.
_MOST_ELEMENT_BYTES = 256 << 20
# So much is read again in vain, to find where a damaged array goes on.
_READ_AGAIN_BYTES = 1 << 20
_READ_AGAIN_TIMES = 8
_ALIKE = 0.75
_MOST_KEY_BYTES = 1 << 10

# So deep an element is leapt over at once; what is deeper takes more leaps.
_LEAP_LEVELS = 8
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_PLAIN = rb'[^"{}\[\]]*+(?:' + _STRING + rb'[^"{}\[\]]*+)*+'
# To the next bracket, or to where a string or the text ends too early.
_BRACKET = re.compile(_PLAIN + rb"([{}\[\]])?+", re.DOTALL)


def _closed(levels: int) -> bytes:
    """Return what matches brackets, closed again, with at most so many levels in them."""
    inside = _PLAIN if levels == 0 else _PLAIN + rb"(?:" + _closed(levels - 1) + _PLAIN + rb")*+"
    return rb"[{\[]" + inside + rb"[}\]]"


# The same, but over brackets that are closed again.
_OUTER_BRACKET = re.compile(
    _PLAIN + rb"(?:" + _closed(_LEAP_LEVELS) + _PLAIN + rb")*+([{}\[\]])?+", re.DOTALL
)
_LAST_KEY = re.compile(rb"(" + _STRING + rb")\s*+:\s*+\Z", re.DOTALL)
_FIRST_KEY = re.compile(rb"\{\s*+(" + _STRING + rb")\s*+:", re.DOTALL)
_BETWEEN = b" \t\r\n,\0"


def elements_of(
    read: Callable[[int], bytes], keys: tuple[str, ...], tally: Tally
) -> Iterator[tuple[bytes, Any]]:
    """Yield bytes, on one line, and value of each element of the array that *read* gives.

    The array stands alone, or in an object under the first of *keys* that comes. Arrays one
    behind the other are as one. Memory follows the longest element.
    """
    return _Reading(read, keys, tally).elements()


class _Reading:
    """One way through an array. ``depth`` counts the brackets that are open at ``at``."""

    def __init__(self, read: Callable[[int], bytes], keys: tuple[str, ...], tally: Tally) -> None:
        self._read = read
        self._keys = keys
        self._tally = tally
        self._buffer = b""
        self._at = 0  # behind the last bracket
        self._depth = 0
        self._level = 0  # the depth of the elements; 0 outside of the array
        self._begun = -1  # where an element begins
        self._gap = 0  # where the text at hand begins, between elements or keys
        self._is_lost = False  # whether damage left nobody to say where the array goes on
        self._siblings: set[str] = set()
        self._signature: re.Pattern[bytes] | None = None
        self._budget = _READ_AGAIN_BYTES

    def elements(self) -> Iterator[tuple[bytes, Any]]:
        """Yield them."""
        while data := self._read(max(_BLOCK, len(self._buffer) >> 1)):
            self._budget += _READ_AGAIN_TIMES * len(data)
            self._compact()
            self._buffer += data
            yield from self._scan()
            if self._begun >= 0 and len(self._buffer) - self._begun > _MOST_ELEMENT_BYTES:
                self._tally.too_long += 1
                self._recover(len(self._buffer))
        while self._begun >= 0:
            # It ends within an element. What is whole behind its beginning has gone by unseen.
            if not self._is_lost:
                self._tally.cut += 1
            self._recover(len(self._buffer))
            yield from self._scan()
        yield from self._between(len(self._buffer))

    def _compact(self) -> None:
        start = self._at
        if self._begun >= 0:
            start = self._begun
        elif self._level or self._depth == 1:
            start = self._gap
        self._buffer = self._buffer[start:]
        self._at -= start
        self._gap -= start
        self._begun = self._begun - start if self._begun >= 0 else -1

    def _scan(self) -> Iterator[tuple[bytes, Any]]:
        """Go from bracket to bracket through what is there."""
        while True:
            if self._begun >= 0:
                begun = self._begun
                yield from self._through_element()
                if self._begun == begun:
                    return  # its end is not there yet
                continue
            found = _BRACKET.match(self._buffer, self._at)
            if found is None or found.lastindex is None:
                return
            self._at = found.end()
            bracket = found[1]
            is_opening = bracket in b"{["
            if not self._level:
                self._outside(bracket, is_opening)
            elif is_opening:
                yield from self._between(self._at - 1)
                self._begun = self._at - 1
                self._depth = self._level + 1
            else:
                yield from self._between(self._at - 1)
                self._gap = self._at
                if not self._is_lost:
                    self._depth = self._level - 1
                    self._level = 0
                    if self._depth:
                        self._keys = ()  # it was under one of them

    def _through_element(self) -> Iterator[tuple[bytes, Any]]:
        """Go to the end of the element, if it is there, and yield it, if it is one."""
        buffer, at, depth, level = self._buffer, self._at, self._depth, self._level
        match = _OUTER_BRACKET.match
        while depth > level:
            found = match(buffer, at)
            if found is None or found.lastindex is None:
                break
            at = found.end()
            depth += 1 if found[1] in b"{[" else -1
        self._at, self._depth = at, depth
        if depth > level:
            return
        raw = buffer[self._begun : at]
        value = None
        try:
            value = jsontext.loads(raw)
        except jsontext.NotJson:
            try:
                value = read_leniently(raw.replace(b"\0", b""))
            except ValueError:
                if not self._is_lost:
                    self._tally.cut += 1
                self._recover(at)
                return
            if b"\0" in raw:
                self._tally.nuls += 1
                raw = raw.replace(b"\0", b"")
            raw = as_told(on_one_line(raw))
        else:
            if b"\n" in raw:
                raw = raw.replace(b"\n", b" ")
        self._begun = -1
        self._gap = at
        if self._is_lost and not self._is_sibling(value):
            return
        self._is_lost = False
        if isinstance(value, dict) and value:
            self._siblings = set(value)
            if self._signature is None:
                self._signature = _signature(raw)
        self._tally.records += 1
        yield raw, value

    def _outside(self, bracket: bytes, is_opening: bool) -> None:
        """Look for where the array begins."""
        depth = self._depth
        if is_opening and bracket == b"[" and (depth == 0 or (depth == 1 and self._is_key())):
            self._level = depth + 1
        self._depth = max(0, depth + (1 if is_opening else -1))
        self._gap = self._at

    def _is_key(self) -> bool:
        """Whether one of the keys stands before the bracket at hand."""
        if not self._keys:
            return False
        start = max(self._gap, self._at - _MOST_KEY_BYTES)
        found = _LAST_KEY.search(self._buffer, start, self._at - 1)
        try:
            return found is not None and jsontext.loads(found[1]) in self._keys
        except jsontext.NotJson:
            return False

    def _between(self, end: int) -> Iterator[tuple[bytes, Any]]:
        """Yield the elements that have no brackets: they stand between those that do."""
        if not self._level:
            return
        text = self._buffer[self._gap : end]
        self._gap = end
        stripped = text.strip(_BETWEEN)
        if not stripped or self._is_lost:
            return
        try:
            values = read_leniently(b"[" + stripped + b"]")
        except ValueError:
            self._tally.unreadable += 1
            return
        for value in values:
            self._tally.records += 1
            yield json.dumps(value).encode(), value

    def _recover(self, end: int) -> None:
        """Go on behind an element that is none: where the next one seems to begin, if in it."""
        begun, self._begun = self._begun, -1
        self._is_lost = True
        signature = self._signature or _signature(self._buffer[begun : begun + 4096])
        found = None
        if signature is not None and self._budget > 0:
            found = signature.search(self._buffer, begun + 1, end)
        self._depth = self._level
        if found is None:
            self._at = self._gap = end
            return
        self._budget -= end - found.start()
        self._begun = found.start()
        self._at = self._begun + 1
        self._depth += 1

    def _is_sibling(self, value: Any) -> bool:
        if not isinstance(value, dict):
            return False
        return len(self._siblings & value.keys()) >= _ALIKE * len(self._siblings)


def _signature(element: bytes) -> re.Pattern[bytes] | None:
    """Return what finds where things begin that begin as *element* does."""
    found = _FIRST_KEY.match(element)
    return None if found is None else re.compile(rb"\{\s*+" + re.escape(found[1]) + rb"\s*+:")
