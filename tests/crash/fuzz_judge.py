"""What must be read of a distorted log, told without convmem's readers.

A line that is, byte for byte, one of those that were written is whole wherever it stands. A line
without a seal that is a turn may be one by hand: who wrote it cannot be told. Nothing else is a
turn.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Sequence

DUE = 2  # must be read, once
ALLOWED = 1  # may be read: nobody can tell whether it was damaged
NEVER = 0

_BATCH = re.compile(rb',"_b":\["([0-9a-f]{8})",([0-9]+),([0-9]+)\],"_c":"[0-9a-f]{8}"\}$')
_SEQ = re.compile(rb'\{"id":"(?:[^"\\]|\\.)*","seq":([0-9]+),')
_MARK = re.compile(rb'\{"_last_seq":[0-9]{1,19},"_c":"[0-9a-f]{8}"\}')


def seal_holds(line: bytes) -> bool:
    """Whether the line carries its own checksum."""
    return line[-17:-10] == b',"_c":"' and b'%08x"}' % zlib.crc32(line[:-17] + b"}") == line[-10:]


def is_mark(line: bytes) -> bool:
    """Whether the line is none of a turn but remembers a number."""
    return _MARK.fullmatch(line) is not None and seal_holds(line)


def batch_of(line: bytes) -> tuple[bytes, int, int] | None:
    """Return name, place and count of a batch's line."""
    found = _BATCH.search(line)
    return None if found is None else (found[1], int(found[2]), int(found[3]))


def seq_of(line: bytes) -> int | None:
    """Return the ``seq`` of a sealed line."""
    found = _SEQ.match(line)
    return None if found is None else int(found[1])


class Written:
    """The lines that were ever written, of all logs of the corpus."""

    def __init__(self, logs: Iterable[bytes]) -> None:
        self.lines = {line for log in logs for line in log.split(b"\n")[:-1]}
        self.by_hand = {line for line in self.lines if not seal_holds(line)}
        self._batches = {line: batch_of(line) for line in self.lines if line not in self.by_hand}

    def batch_of(self, line: bytes) -> tuple[bytes, int, int] | None:
        """Return the batch of a written line."""
        return self._batches.get(line)


class Judged:
    """A distorted log as it must be read.

    ``due`` has offset and bytes of what must be read, in order; ``states`` what each line is;
    ``tail`` is what follows the last newline.
    """

    def __init__(self, data: bytes, written: Written) -> None:
        self.data = data
        self._written = written
        *found, self.tail = data.split(b"\n")
        self.lines = found
        self.states = [_state(line, written) for line in found]
        _judge_batches(found, self.states, written)
        self.offsets: list[int] = []
        at = 0
        for line in found:
            self.offsets.append(at)
            at += len(line) + 1
        self.end = at
        self.due = [
            (at, line)
            for at, line, state in zip(self.offsets, found, self.states, strict=True)
            if state == DUE
        ]

    @property
    def unended(self) -> list[bytes]:
        """The last line if all that it lacks is its newline: the next who writes gives it one."""
        is_one = self.tail in self._written.lines and self._written.batch_of(self.tail) is None
        return [self.tail] if is_one and seal_holds(self.tail) and not is_mark(self.tail) else []

    @property
    def has_whole_batches_only(self) -> bool:
        """Whether no line is of a batch that lacks another."""
        return not any(
            state != DUE and self._written.batch_of(line) is not None
            for line, state in zip(self.lines, self.states, strict=True)
        )

    @property
    def is_scrambled(self) -> bool:
        """Whether lines of a batch stand twice, in another order, or far from each other.

        Only people do that. From its end such a log may look otherwise than from its beginning.
        """
        last: dict[bytes, int] = {}
        open_batch: bytes | None = None
        for line, state in zip(self.lines, self.states, strict=True):
            mark = self._written.batch_of(line)
            if mark is None:
                if state != NEVER or is_mark(line):
                    open_batch = None
                continue
            name, place, _ = mark
            if place <= last.get(name, -1) or (name in last and name != open_batch):
                return True
            last[name], open_batch = place, name
        return False

    def wrong_with(self, read: Sequence[tuple[int, bytes]], *, all_due: bool = True) -> str | None:
        """Say what is wrong with the (offset, line) pairs that a reader gave, in order."""
        places = dict(zip(self.offsets, range(len(self.lines)), strict=True))
        last = -1
        for offset, line in read:
            if offset <= last:
                return f"byte {offset} was read behind byte {last}"
            last = offset
            if offset == self.end and self.tail:
                if line != self.tail or seal_holds(line) or not is_turn(line):
                    return f"the unfinished {line[:200]!r} was read"
                continue
            at = places.get(offset)
            if at is None or self.lines[at] != line:
                return f"{line[:200]!r} was read, which no line is"
            if self.states[at] == NEVER:
                return f"{line[:200]!r} was read, which was never written"
        there = {offset for offset, _ in read}
        missing = [each for each in self.due if each[0] not in there]
        if missing and all_due:
            return f"{missing[0][1][:200]!r} was not read"
        return None

    @property
    def is_in_order(self) -> bool:
        """Whether the numbers of all lines that claim one grow."""
        last = 0
        for line, state in zip(self.lines, self.states, strict=True):
            if state != NEVER or is_mark(line):
                seq = seq_of(line)
                if seq is None and state != NEVER:
                    claimed = json.loads(line).get("seq") if is_turn(line) else None
                    seq = claimed if type(claimed) is int and 0 < claimed < 1 << 53 else None
                if is_mark(line):
                    seq = int(line[13 : line.index(b",")])
                if seq is not None:
                    if seq < last or (seq == last and not is_mark(line)):
                        return False
                    last = seq
        return True


def _state(line: bytes, written: Written) -> int:
    if line in written.lines:
        return NEVER if is_mark(line) else DUE
    if seal_holds(line) or (line[-17:-10] == b',"_c":"' and line[-2:] == b'"}'):
        return NEVER
    return ALLOWED if is_turn(line) else NEVER


def _judge_batches(lines: list[bytes], states: list[int], written: Written) -> None:
    """A batch is due if all of it stands together, and never if its end was surely not written."""
    at = 0
    marks = [
        written.batch_of(line) if state == DUE else None
        for line, state in zip(lines, states, strict=True)
    ]
    seen: set[bytes] = set()
    while at < len(lines):
        mark = marks[at]
        if mark is None:
            at += 1
            continue
        name, place, count = mark
        stop = at
        while stop < len(lines) and marks[stop] == (name, place + stop - at, count):
            stop += 1
        is_whole = place == 0 and stop - at == count and name not in seen
        if not is_whole:
            # Behind it a whole line of something else, or nothing: its end was never written.
            is_torn = place + stop - at < count and (
                stop == len(lines) or (states[stop] == DUE and marks[stop] is None)
            )
            states[at:stop] = [NEVER if is_torn else ALLOWED] * (stop - at)
        seen.add(name)
        at = stop


def is_turn(line: bytes) -> bool:
    """Whether a line without a seal is a turn."""
    if b"\0" in line:
        return False
    try:
        value = json.loads(line.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(value, dict)
        and isinstance(value.get("role"), str)
        and value["role"] != ""
        and "content" in value
    )


def _refuse(text: str) -> None:
    raise ValueError(text)
