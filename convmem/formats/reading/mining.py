"""Mining: the whole records that stand in damaged lines.

What writers leave when they crash or race: two records on one line, a record cut short with the
next one right behind it, runs of NULs, a newline in the middle of a record, stray bytes. All that
is whole comes out, in order and as it was; what is not is counted. The work follows the length of
a line also where somebody made it hostile.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from convmem import jsontext
from convmem.turns import MAX_TURN_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    # How far the source is read with it, the record's bytes on one line, and what they say.
    Mined = tuple[int, bytes, Any]
    # Where it begins, where the next begins, what stands there, whether no newline is behind it.
    _Line = tuple[int, int, bytes, bool]

# Longer lines are no records: a turn would not hold them.
MOST_BYTES = MAX_TURN_BYTES

# A record that newlines broke is put together again from at most so many lines; and so many
# lines of a source are tried for it in vain before it is no longer tried.
_MOST_JOINED = 1_000
_MOST_TRIED_LINES = 100_000

# Records cut short are searched for whole ones inside, until so much is read again in vain.
_READ_AGAIN_BYTES = 1 << 20
_READ_AGAIN_TIMES = 8
_MOST_TOO_DEEP = 64
_WINDOW = 512

_START = re.compile(r'\{[ \t\r\n]*+(?:["}]|\Z)')
# What a number or a constant looks like that is not all there yet.
_BEGUN = re.compile(r"-|\.|[eE][-+]|-?[A-Za-z]{0,8}")
_ESCAPE = re.compile(r"\\?u?[0-9a-fA-F]{0,4}")
_STRINGS = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_LEXEMES = re.compile(r'[^"{}\[\]]*+(?:"(?:[^"\\]++|\\.)*+"[^"{}\[\]]*+)*+', re.DOTALL)
_STRAY = re.compile("[\udc80-\udcff]")


class Tally:
    """What was met on the way through a source.

    Attributes:
        records: Whole records.
        fused: Lines on which more than one record stood, or parts of more than one.
        cut: Records of which a part is missing; they were left out.
        nuls: Lines in which NULs stood; they were dropped.
        joined: Records that stray newlines had broken into lines.
        unreadable: Other things that are no records, and records with bytes that are no text.
        too_long: Lines too long for any turn; they were left out.
        unfinished: 1 if the source ends in a record that is perhaps still being written.
    """

    __slots__ = (
        *("cut", "fused", "joined", "nuls", "records", "too_long", "unfinished", "unreadable"),
    )

    def __init__(self) -> None:
        self.records = self.fused = self.cut = self.nuls = 0
        self.joined = self.unreadable = self.too_long = self.unfinished = 0

    @property
    def damaged(self) -> int:
        """How much damage there is, all in all. What is not written yet is none."""
        return self.fused + self.cut + self.nuls + self.joined + self.unreadable + self.too_long


class Loose(bytes):
    """The bytes of a record that is no strict JSON: others may not read it, or not alike."""

    __slots__ = ()


def as_told(raw: bytes) -> bytes:
    """Return *raw*, as ``Loose`` unless it is strict JSON."""
    try:
        jsontext.loads(raw)
    except jsontext.NotJson:
        return Loose(raw)
    return raw


class TooDeep(str):
    """What stands for the value of a record that is nested too deeply for Python: its text."""

    __slots__ = ()


def read_leniently(text: bytes) -> Any:
    """Return what *text*, one JSON value in UTF-8, says; what is no strict JSON as near as can be.

    NaN, infinities, lone surrogates, raw control characters and any depth are let through: a
    value that is too deep for Python comes as ``TooDeep``.

    Raises:
        ValueError: It is no JSON value.
    """
    try:
        return jsontext.loads(text)
    except jsontext.NotJson:
        pass
    as_text = str(text, "utf-8")
    try:
        return _DECODER.decode(as_text)
    except RecursionError:
        start = len(as_text) - len(as_text.lstrip())
        if _end_of_deep(as_text, start) != len(as_text.rstrip()):
            raise ValueError("nested too deeply") from None
        return TooDeep(as_text)


def on_one_line(text: bytes) -> bytes:
    """Return JSON *text* without newlines: in strings escaped, elsewhere spaces."""
    if b"\n" not in text:
        return text
    return _STRINGS.sub(_escaped, text.decode(*_AS_IT_IS)).replace("\n", " ").encode(*_AS_IT_IS)


class Miner:
    """Takes the lines of one source that are no JSON, and the lines behind those that may go on.

    Attributes:
        is_holding: Whether a record was begun that may go on in the next line. Then ``take``
            wants every line that is not whole, and ``finish`` what comes instead of one.
    """

    __slots__ = ("_held", "_tally", "_tries", "_work", "is_holding")

    def __init__(self, tally: Tally) -> None:
        self.is_holding = False
        self._tally = tally
        self._held: list[_Line] = []
        self._tries = _MOST_TRIED_LINES
        self._work = 0

    def take(self, start: int, end: int, line: bytes, *, is_last: bool = False) -> Iterator[Mined]:
        """Yield the whole records of *line*, which stands between *start* and *end*.

        With *is_last* there is no newline behind it: it may be in the middle of being written,
        and what is then left for later is counted as unfinished.
        """
        yield from self._take_all([(start, end, line, is_last)])

    def finish(self) -> Iterator[Mined]:
        """Yield what is in the lines held back: a whole line follows, or nothing."""
        while self._held:
            yield from self._give_up()

    def _take_all(self, lines: list[_Line]) -> Iterator[Mined]:
        waiting = lines[::-1]
        while waiting:
            line = waiting.pop()
            if not self._held:
                yield from self._mine(line)
                continue
            self._held.append(line)
            text = self._together()
            joined = self._whole_of(text) if text else None
            if joined is not None:
                yield from self._joined(text, *joined)
            elif self.is_holding:
                continue
            else:
                # Whatever the first of them is, the others may be something else without it.
                held = self._release()
                waiting += held[:0:-1]
                yield from self._mine(held[0], may_hold=False)

    def _give_up(self) -> Iterator[Mined]:
        held = self._release()
        yield from self._mine(held[0], may_hold=False)
        yield from self._take_all(held[1:])

    def _release(self) -> list[_Line]:
        held, self._held, self.is_holding = self._held, [], False
        self._tries -= len(held)
        self._work = 0
        return held

    def _together(self) -> str:
        """Return the lines held back as one text; nothing where they cannot be whole yet."""
        if b"}" not in self._held[-1][2] and len(self._held) > 2 and not self._held[-1][3]:
            self.is_holding = len(self._held) <= _MOST_JOINED and self._held_bytes() <= MOST_BYTES
            return ""
        return b"\n".join([line for _, _, line, _ in self._held]).decode(*_AS_IT_IS)

    def _held_bytes(self) -> int:
        return self._held[-1][1] - self._held[0][0]

    def _whole_of(self, text: str) -> tuple[Any, int] | None:
        """Return the record that *text* begins with, and where it ends; hold on if it goes on."""
        size = self._held_bytes()
        self._work += size
        try:
            return _DECODER.raw_decode(text, 0)
        except (ValueError, RecursionError) as error:
            goes_on = _reaches_end(error, text)
        if goes_on and self._held[-1][3]:
            self._tally.unfinished = 1
            self._held = []
            self.is_holding = True
            return None
        self.is_holding = (
            goes_on
            and len(self._held) <= _MOST_JOINED
            and size <= MOST_BYTES
            and self._work <= _READ_AGAIN_BYTES + _READ_AGAIN_TIMES * size
        )
        return None

    def _joined(self, text: str, value: Any, text_end: int) -> Iterator[Mined]:
        _, end, _, is_last = self._release()[-1]
        self._tally.joined += 1
        self._tally.records += 1
        rest = text[text_end:].encode(*_AS_IT_IS)
        raw, value = _as_record(text[:text_end], value, self._tally)
        if not rest or rest.isspace():
            yield end, raw, value
            return
        rest_at = end - len(rest) - (not is_last)
        yield rest_at, raw, value
        self._tally.fused += 1
        yield from self._mine((rest_at, end, rest, is_last))

    def _mine(self, line: _Line, *, may_hold: bool = True) -> Iterator[Mined]:
        start, end, text, is_last = line
        if b"\0" not in text:
            yield from self._mine_piece(line, may_hold)
            return
        self._tally.nuls += 1
        without = text.replace(b"\0", b"")
        if not without or without.isspace():
            return
        try:
            value = read_leniently(without)
        except ValueError:
            pass
        else:
            self._tally.records += 1
            yield end, without, value
            return
        pieces = [found.span() for found in re.finditer(rb"[^\0]+", text)]
        for from_, to in pieces:
            is_end = to == pieces[-1][1]
            piece = (
                start + from_,
                end if is_end else start + to,
                text[from_:to],
                is_last and is_end,
            )
            yield from self._mine_piece(piece, may_hold and is_end)

    def _mine_piece(self, line: _Line, may_hold: bool) -> Iterator[Mined]:
        """Yield the whole records of a line in which no NULs stand."""
        start, end, piece, is_last = line
        if not piece or piece.isspace():
            return
        try:
            value = read_leniently(piece)
        except ValueError:
            pass
        else:
            self._tally.records += 1
            yield end, piece, value
            return
        text = piece.decode(*_AS_IT_IS)
        search = _Search(text, self._tally, is_last or (may_hold and self._tries > 0))
        waiting: tuple[bytes, Any] | None = None
        given = 0  # characters of the text
        for from_, to, value in search:
            if waiting is not None:
                start += len(text[given : search.last_end].encode(*_AS_IT_IS))
                given = search.last_end
                yield start, *waiting
            waiting = _as_record(text[from_:to], value, self._tally)
            self._tally.records += 1
        rest_at = search.rest_at
        if rest_at is not None:
            start += len(text[given:rest_at].encode(*_AS_IT_IS))
        if waiting is not None:
            yield end if rest_at is None else start, *waiting
        if rest_at is not None and is_last:
            self._tally.unfinished = 1
        elif rest_at is not None:
            self._held = [(start, end, text[rest_at:].encode(*_AS_IT_IS), False)]
            self.is_holding = True


class _Search:
    """The whole objects in a text, from left to right.

    Attributes:
        rest_at: Where at the text's end an object begins that may go on behind it, if that may be.
        last_end: Where the object before the one given last ended.
    """

    __slots__ = ("_keeps_rest", "_tally", "_text", "last_end", "rest_at")

    def __init__(self, text: str, tally: Tally, keeps_rest: bool) -> None:
        self.rest_at: int | None = None
        self.last_end = 0
        self._text = text
        self._tally = tally
        self._keeps_rest = keeps_rest

    def __iter__(self) -> Iterator[tuple[int, int, Any]]:
        text, tally = self._text, self._tally
        budget = _READ_AGAIN_BYTES + _READ_AGAIN_TIMES * len(text)
        too_deep = 0
        pieces = 0  # records, whole and cut
        is_garbage = False
        is_open = False  # a record was begun and has not ended
        over_at = 0  # where the open one is over at the latest
        behind = 0  # where the last whole one ended
        at = 0
        while (found := _START.search(text, at)) is not None:
            start = found.start()
            if is_open and start >= over_at:
                tally.cut += 1
                is_open = False
            elif not is_open and not _is_blank(text, behind, start):
                is_garbage = True
            at = start + 1
            try:
                value, end, wrong_at, reaches_end = _read_object(text, start)
            except RecursionError:
                whole = _end_of_deep(text, start)
                if whole is None:
                    too_deep += 1
                    if not is_open:
                        is_open, pieces, over_at = True, pieces + 1, len(text)
                    if too_deep > _MOST_TOO_DEEP:
                        break
                    continue
                value, end, wrong_at, reaches_end = TooDeep(text[start:whole]), whole, -1, False
            if wrong_at >= 0:
                if not is_open and self._keeps_rest and reaches_end:
                    self.rest_at = start
                    break
                budget -= wrong_at - start
                last_start = _last_start(text, start, wrong_at)
                if not is_open:
                    is_open, pieces, over_at = True, pieces + 1, last_start
                if budget < 0:
                    at = max(at, last_start)
                behind = at
                continue
            at = end
            if is_open and _goes_on(text, end):
                continue  # a part of the one that was begun
            if is_open:
                tally.cut += 1
                is_open = False
            pieces += 1
            yield start, end, value
            self.last_end = behind = end
        if is_open:
            tally.cut += 1
        elif self.rest_at is None and not _is_blank(text, behind, len(text)):
            is_garbage = True
        tally.fused += pieces + (self.rest_at is not None) > 1
        tally.unreadable += is_garbage


def _as_record(text: str, value: Any, tally: Tally) -> tuple[bytes, Any]:
    """Return the bytes of a record, on one line and in UTF-8, and its value."""
    if "\n" in text:
        text = _STRINGS.sub(_escaped, text).replace("\n", " ")
    text = text.replace("\0", "")
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        tally.unreadable += 1
        raw = _STRAY.sub("\ufffd", text).encode()
        value = read_leniently(raw)
    return raw, value


def _escaped(found: re.Match[str]) -> str:
    return found[0].replace("\r", "\\r").replace("\n", "\\n")


def _read_object(text: str, start: int) -> tuple[Any, int, int, bool]:
    """Return the object that begins at *start* and its end; or where it is wrong, at least 0, and
    whether only because the text ends.

    Reads in windows: an error's position is counted in lines, from the beginning of what is read,
    so that each error would cost as much as all of a text that is full of them.
    """
    size = _WINDOW
    while True:
        part = text[start : start + size]
        is_all = start + size >= len(text)
        try:
            value, end = _DECODER.raw_decode(part)
        except ValueError as error:
            wrong_at = _place_of(error, part)
            if is_all or wrong_at < len(part) - 16:
                return None, 0, start + wrong_at, is_all and _reaches_end(error, part)
            size *= 8
        else:
            return value, start + end, -1, False


def _reaches_end(error: BaseException, text: str) -> bool:
    """Whether nothing is wrong with *text* but that it ends too early."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    if error.msg.startswith("Unterminated string"):
        return True
    rest = text[error.pos : error.pos + 16].rstrip()
    if "escape" in error.msg:
        return _ESCAPE.fullmatch(rest) is not None
    return len(text) - error.pos < 16 and _BEGUN.fullmatch(rest) is not None


def _place_of(error: BaseException, text: str) -> int:
    if not isinstance(error, json.JSONDecodeError):
        return len(text)
    # The end of a string was searched for in all that follows.
    return len(text) if error.msg.startswith("Unterminated string") else error.pos


def _last_start(text: str, start: int, wrong_at: int) -> int:
    """Return the only place before *wrong_at* that is worth a look where time is short."""
    at = text.rfind("{", start + 1, wrong_at)
    if at >= 0 and not text[at + 1 : wrong_at].strip(' \t\r"'):
        return at
    return wrong_at


def _goes_on(text: str, end: int) -> bool:
    """Whether what stands behind an object says that it is a part of a larger one."""
    while end < len(text) and text[end] in " \t\r":
        end += 1
    return end < len(text) and text[end] in ",:]}"


def _is_blank(text: str, start: int, end: int) -> bool:
    between = text[start:end]
    return not between or not between.strip(" \t\r\n\ufeff")


def _end_of_deep(text: str, start: int) -> int | None:
    """Return where the value that begins at *start* ends, by its brackets alone."""
    open_brackets: list[str] = []
    at = start
    while True:
        at = _end_of_match(_LEXEMES, text, at)
        if at >= len(text) or text[at] == '"':
            return None
        bracket = text[at]
        at += 1
        if bracket in "{[":
            open_brackets.append("}" if bracket == "{" else "]")
        elif not open_brackets or open_brackets.pop() != bracket:
            return None
        if not open_brackets:
            return at


def _end_of_match(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _integer(digits: str) -> Any:
    try:
        return int(digits)
    except ValueError:
        return digits  # more than Python turns into a number: as it stands there


_AS_IT_IS = ("utf-8", "surrogateescape")
_DECODER = json.JSONDecoder(strict=False, parse_int=_integer)
