"""One cheap look at a log's two ends: when it was last used, and what it is about.

Two reads of 4 KiB, checksums and no JSON beyond one line, for logs as convmem writes them. What is
unusual there (damage, lines by hand, lines longer than that) takes the readers' slower road, to the
same answer.
"""

from __future__ import annotations

import os

from convmem.log import codec, lines, records
from convmem.log.files import read_exactly
from convmem.log.read import StoredTurn, turns_of
from convmem.quantities import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem.turns import Turn

    # Id as JSON, seq, ts, role as JSON.
    Head = tuple[bytes, int, str, bytes]

TITLE_CHARACTERS = 60

_BLOCK = 4 << 10
# Where a title is looked for: some systems begin with instructions of 20 kB and more.
_TITLE_BYTES = 64 << 10
_TS_CHARACTERS = 27
_USER = b'"user"'
_CONTENT = b',"content":'


class Ends:
    """What the two ends of a log tell.

    Attributes:
        first_ts, last_ts: The times of its first and last turn that have one, as ``format_time``
            writes them; ``None`` with none.
        last_seq: The highest ``seq`` that was given out, 0 for none.
        title: How the first user turn begins, else the first turn; at most 60 characters.
        is_torn: Whether the log ends in bytes that are no turn, or in one that is being written.
    """

    __slots__ = ("first_ts", "is_torn", "last_seq", "last_ts", "title")

    def __init__(
        self,
        first_ts: str | None,
        last_ts: str | None,
        last_seq: int,
        title: str,
        *,
        is_torn: bool = False,
    ) -> None:
        self.first_ts = first_ts
        self.last_ts = last_ts
        self.last_seq = last_seq
        self.title = title
        self.is_torn = is_torn


def look(fd: int, size: int) -> Ends:
    """Look at the log *fd*, *size* bytes long. Takes no lock.

    Raises:
        OSError: The system refused to read.
    """
    tail = os.pread(fd, _BLOCK, max(0, size - _BLOCK))
    last = _head_of_last(tail, size)
    if last is None:
        return _look_closely(fd, size)
    head = tail if size <= _BLOCK else os.pread(fd, _BLOCK, 0)
    behind = head.find(b"\n")
    line = head[:behind] if behind >= 0 else _first_line(fd, size)
    # Of a batch the first line is believed without a look at the closing one, which may be far:
    # what is torn was torn at the end, and that is known to be whole.
    first = _head_of(line)
    if first is None:
        return _look_closely(fd, size)
    title = _title_in(line) if first[3] == _USER else _find_title(fd, size)
    return Ends(first[2], last[2], last[1], title)


def title_of(turn: Turn) -> str:
    """Return how *turn* begins: one line of at most 60 characters, runs of white space as one."""
    return _title_of_text(turn.text)


def _title_of_text(text: str) -> str:
    for line in text[:_BLOCK].split("\n"):
        words = " ".join(line.split())
        if words:
            return words if len(words) <= TITLE_CHARACTERS else words[: TITLE_CHARACTERS - 1] + "…"
    return ""


def _head_of_last(tail: bytes, size: int) -> Head | None:
    """Return the head of the last line, if it is as we write it and surely committed."""
    if tail[-1:] != b"\n":
        return None
    start = tail.rfind(b"\n", 0, -1) + 1
    if start == 0 and size > len(tail):
        return None
    line = tail[start:-1]
    mark = codec.batch_mark(line) if codec.ends_like_a_batch(line) else None
    if mark is not None and mark[1] != mark[2] - 1:
        return None  # a batch that is being written, or that a crash has torn
    return _head_of(line)


def _head_of(line: bytes) -> Head | None:
    """Return the head of a line as we write it; ``None`` for any other, and for a damaged one."""
    found = codec.head_of(line)
    if found is None or not codec.is_intact(line):
        return None
    ts = found[2]
    return found if len(ts) == _TS_CHARACTERS and ts[-1] == "Z" else None


def _first_line(fd: int, size: int) -> bytes:
    for _, _, line in lines.forward(fd, 0, size):
        return line or b""
    return b""


def _title_in(line: bytes) -> str:
    """Return the title that a good line of ours gives."""
    # Nothing before the content can hold these bytes: a quote within a string has a backslash.
    start = line.find(_CONTENT) + len(_CONTENT) + 1
    end = line.find(b'"', start)
    if line[start - 1 : start] == b'"' and line.find(b"\\", start, end) < 0:
        return _title_of_text(str(line[start:end], "utf-8"))
    turn = codec.parse(line)
    return "" if turn is None else title_of(turn)


def _look_closely(fd: int, size: int) -> Ends:
    """The same by way of the readers, for whatever a log may hold."""
    end = lines.finished_end(fd, size)
    by_hand = unfinished_turn(fd, end, size)
    last_ts = _ts_of_one(by_hand, turns_of(records.backward(fd, end, _pass), _pass))
    first_ts = _ts_of_one(None, turns_of(records.forward(fd, 0, end, _pass), _pass))
    return Ends(
        first_ts if first_ts is not None else last_ts,
        last_ts,
        records.last_seq(fd, end),
        _find_title(fd, end) or ("" if by_hand is None else title_of(by_hand.turn)),
        is_torn=by_hand is None and (end < size or _ends_in_damage(fd, end)),
    )


def unfinished_turn(fd: int, end: int, size: int) -> StoredTurn | None:
    """Return the turn that somebody wrote by hand as the last line, without its newline."""
    if not 0 < size - end <= lines.MAX_LINE_BYTES:
        return None
    line = read_exactly(fd, size - end, end)
    is_whole = not codec.is_sealed(line) and codec.fault_of(line) is None
    turn = codec.parse(line) if is_whole else None
    return None if turn is None else StoredTurn(line, end, turn)


def _ts_of_one(before: StoredTurn | None, found: Iterator[StoredTurn]) -> str | None:
    """Return the time of the first turn that has one."""
    if before is not None and before.turn.ts is not None:
        return format_time(before.turn.ts)
    for stored in found:
        if stored.turn.ts is not None:
            return format_time(stored.turn.ts)
    return None


def _find_title(fd: int, end: int) -> str:
    """Return the title, read line by line as far as one is looked for."""
    first: Turn | None = None
    for offset, _, line in lines.forward(fd, 0, end):
        if first is not None and offset >= _TITLE_BYTES:
            break
        if line is None or codec.fault_of(line) is not None or codec.is_seq_floor(line):
            continue
        if first is not None and (head := codec.head_of(line)) is not None and head[3] != _USER:
            continue
        turn = codec.parse(line)
        if turn is not None and turn.role == "user":
            return title_of(turn)
        first = first or turn
    return "" if first is None else title_of(first)


def _ends_in_damage(fd: int, end: int) -> bool:
    """Whether the last finished line is none that readers would take."""
    met: list[records.Damage] = []
    last = next(records.backward(fd, end, met.append), None)
    # What is damaged within the last batch, or before it, is met before its closing line is given.
    return any(last is None or damage.offset > last.offset for damage in met)


def _pass(damage: records.Damage) -> None:
    """Damage is counted by who reads all; a look passes over it."""
