"""Several records on one line, or one beside torn bytes: which parts of the line are records.

A part is believed to be a record only if nothing can have made it up:

- A *sealed* part if its checksum holds, and if the bytes around it show that it is no value inside
  another record, whose content may be any JSON: a log read by a tool, say. Inside JSON an object
  stands behind ``:``, ``,`` or ``[`` and before ``,``, ``]`` or ``}``. Where a torn record ends in
  just such a byte, the part must also have the ``seq`` that comes next.
- An *unsealed* part only at the line's start, behind a believed part or NUL bytes, or where the
  record before it was cut: at the very byte where the JSON before it breaks off. Nothing but
  another record, NUL bytes or the line's end may follow. It must not look like one of ours: that
  has lost its seal, and who knows what else. A record inside a *string* is never taken for one,
  since its quotes are escaped there; one that is a value of a torn record is, by these rules, left
  with it.

What is in doubt goes to the quarantine with the rest: no turn is made up, and no byte is lost.
"""

from __future__ import annotations

import json
import re
import zlib

from convmem.log import codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    # Start and end within the line, and whether it is a record.
    Part: TypeAlias = tuple[int, int, bool]

_SEAL = re.compile(rb',"_c":"([0-9a-f]{8})"\}')
_START = re.compile(rb'\{"(?:id|_last_seq)":')
_ANY_START = re.compile(rb'\{[ \t]*"')
_GAP = re.compile(rb"[\0 \t\r]+")
# Where a string or a number was cut, what is left of the last token is told as the error's place.
_CUT_TOKEN = re.compile(rb"\\?(?:u?[0-9a-fA-F]{0,4})?|[a-zA-Z]{1,8}|[-+.eE0-9]{1,4}")
# A torn record that ends where one of its first values, none of them an object, was to come.
_CUT_HEAD = re.compile(
    rb'\{"id":(?:"[^"\\]*(?:\\.[^"\\]*)*","seq":(?:\d+,"ts":(?:"[^"\\]*","role":)?)?)?'
)
# What a record of ours has, and a line by hand hardly ever.
_OURS = {"id", "seq", "ts"}
_HEAD_BYTES = 16 << 10
# What checksums of one line may cost, twice; a line made to cost more is left as it is.
_MOST_WORK_BYTES = 1 << 29

_DECODER = json.JSONDecoder()


def split(line: bytes, last_seq: int) -> list[Part]:
    """Return the parts of a damaged *line*, in order: every byte is in one of them.

    *last_seq* is the highest ``seq`` of the lines before. No intact line is ever passed here.
    Costs a JSON parse of the line, and checksums of what may be sealed.
    """
    cutter = _Cutter(line)
    parts: list[Part] = []
    at = rest = 0
    is_sure = True
    while at < len(line):
        end = cutter.record_at(at, is_sure)
        if end is None:
            gap = _GAP.match(line, at)
            if gap is not None:
                at = gap.end()
                continue
            at, end = cutter.next_start(at, last_seq)
            is_sure = False
            if end is None:
                continue
        if rest < at:
            parts.append((rest, at, False))
        parts.append((at, end, True))
        last_seq = max(last_seq, codec.claimed_seq(line[at : at + _HEAD_BYTES]) or 0)
        at = rest = end
        is_sure = True
    if rest < len(line):
        parts.append((rest, len(line), False))
    return parts


def is_cut_short(line: bytes) -> bool:
    """Whether *line* is the beginning of a JSON object, and nothing more."""
    if not line.startswith(b"{"):
        return False
    breaks = _Cutter(line).decode(0)[1]
    return breaks is not None and _CUT_TOKEN.fullmatch(line, breaks) is not None


def _is_by_hand(part: bytes) -> bool:
    """Whether an unsealed *part* is surely no sealed record that has lost its end, and the seal.

    A single rotted byte can end a string early, and with it the record: what is left is JSON, a
    turn even, that nobody said.
    """
    if codec.fault_of(part) is not None:
        return False
    value = codec.parse_object(part)
    return not value.keys() >= _OURS and not any(key.startswith("_") for key in value)


class _Budget:
    """How much was spent on checksums."""

    __slots__ = ("spent",)

    def __init__(self) -> None:
        self.spent = 0


class _Cutter:
    """Looks at one line, and keeps count of what that costs."""

    def __init__(self, line: bytes) -> None:
        self._line = line
        self._view = memoryview(line)
        # A character for each byte: only places matter here.
        self._text = str(line, "latin-1")
        self._certain = _Budget()
        self._uncertain = _Budget()
        self._decoded: tuple[int, tuple[int | None, int | None]] = (-1, (None, None))

    def record_at(self, at: int, is_sure: bool) -> int | None:
        """Return where the record ends that starts at *at*, where a record may be unsealed."""
        end = self._sealed_end(at, self._certain)
        if end is not None:
            return end if is_sure or self._may_end(end, b",]}") else None
        if self._line[at : at + 1] != b"{":
            return None
        end = self.decode(at)[0]
        if end is None or not _is_by_hand(self._line[at:end]):
            return None
        behind = self._next_byte(end)
        return end if behind in b"{\0" else None

    def next_start(self, at: int, last_seq: int) -> tuple[int, int | None]:
        """Return where a record may start behind *at*, and its end if it was found already."""
        breaks = self.decode(at)[1]
        limit = len(self._line)
        if breaks is not None:
            limit = self._start_at_break(at, breaks)
        claimed = codec.claimed_seq(self._line[at : at + _HEAD_BYTES]) or 0
        known = max(last_seq, claimed - 1)
        for found in _START.finditer(self._line, at + 1, min(limit + 8, len(self._line))):
            start = found.start()
            if start >= limit:
                break
            end = self._sealed_end(start, self._uncertain)
            if end is None or not self._may_end(end, b",]}"):
                continue
            before = self._line[at:start].rstrip(b" \t\r")[-1:]
            if before not in (b":", b",", b"["):
                return start, end
            if _CUT_HEAD.fullmatch(self._line, at, start):
                return start, end
            seq = codec.claimed_seq(self._line[start : start + _HEAD_BYTES]) or 0
            if known < seq <= known + 2:
                return start, end
        return limit, None

    def decode(self, at: int) -> tuple[int | None, int | None]:
        """Parse JSON from *at*: where the value ends, or else where it breaks off, if known."""
        if self._decoded[0] != at:
            answer: tuple[int | None, int | None]
            try:
                answer = (_DECODER.raw_decode(self._text, at)[1], None)
            except json.JSONDecodeError as error:
                is_open = error.msg.startswith("Unterminated string")
                answer = (None, len(self._line) if is_open else error.pos)
            except (ValueError, RecursionError):
                answer = (None, None)
            self._decoded = (at, answer)
        return self._decoded[1]

    def _start_at_break(self, at: int, breaks: int) -> int:
        """Return where the object starts at which the JSON from *at* on breaks off; else the end.

        In a string the object's first quote ends the string, so it breaks off right behind that.
        """
        line = self._line
        gap = _GAP.match(line, breaks)
        behind = breaks if gap is None else gap.end()
        for found in _ANY_START.finditer(
            line, max(at + 1, breaks - 8), min(len(line), behind + 16)
        ):
            start = found.start()
            if found.end() == breaks or start == behind:
                return start
            if start > breaks and _CUT_TOKEN.fullmatch(line, breaks, start):
                return start
        return len(line)

    def _sealed_end(self, start: int, budget: _Budget) -> int | None:
        """Return where the record ends that starts at *start*, if its checksum holds."""
        line = self._line
        head = line[start : start + _HEAD_BYTES]
        if not codec.has_head(head):
            floor = _SEAL.search(line, start, start + 60)
            if floor is None or not codec.is_seq_floor(line[start : floor.end()]):
                return None
        crc = 0
        done = start
        for seal in _SEAL.finditer(line, start):
            budget.spent += seal.start() - done + 512
            if budget.spent > _MOST_WORK_BYTES:
                return None
            crc = zlib.crc32(self._view[done : seal.start()], crc)
            done = seal.start()
            if b"%08x" % zlib.crc32(b"}", crc) == seal[1]:
                return seal.end()
        return None

    def _may_end(self, end: int, forbidden: bytes) -> bool:
        behind = self._next_byte(end)
        return not behind or behind not in forbidden

    def _next_byte(self, at: int) -> bytes:
        return self._line[at : at + 64].lstrip(b" \t\r")[:1]
