"""The committed lines of a log, forwards and backwards, with the damage passed over and told.

A batch counts as whole once its closing line is there: it was one write, and what is torn loses
its end. Lines missing before that were dropped by a compaction, unless bytes that were never
written (NUL) stand among them: then a power cut took a piece out of the middle, and none of the
batch was ever answered.
"""

from __future__ import annotations

import os

from convmem.log import codec, lines
from convmem.log.files import read_exactly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias


_NEAR_BYTES = 4 << 10
# What is looked through at a time for holes: more than nearly every turn takes.
_THROUGH_BYTES = 1 << 20


class Damage:
    """Bytes of a log that are not a turn.

    Attributes:
        offset: Where they begin, in bytes from the start of the file.
        length: How many they are, newline not included.
        reason: Why, in words.
    """

    __slots__ = ("length", "offset", "reason")

    def __init__(self, offset: int, length: int, reason: str) -> None:
        self.offset = offset
        self.length = length
        self.reason = reason

    def __repr__(self) -> str:
        return f"Damage(offset={self.offset}, length={self.length}, reason={self.reason!r})"


class Record:
    """One committed line: where it stands and its bytes, newline not included."""

    __slots__ = ("data", "end", "offset")

    def __init__(self, offset: int, end: int, data: bytes) -> None:
        self.offset = offset
        self.end = end
        self.data = data


if TYPE_CHECKING:
    OnDamage: TypeAlias = Callable[[Damage], None]


def forward(fd: int, start: int, end: int, damaged: OnDamage) -> Iterator[Record]:
    """Yield the committed records of ``[start, end)`` in order; *start* begins a line.

    A batch whose closing line has not come by *end* is withheld: it is being written, or torn.
    """
    return _committed(lines.forward(fd, start, end), damaged, backwards=False)


def backward(fd: int, end: int, damaged: OnDamage, *, start: int = 0) -> Iterator[Record]:
    """Yield the committed records of ``[start, end)``, newest first; *end* is behind a newline."""
    return _committed(lines.backward(fd, end, start=start), damaged, backwards=True)


def of_lines(found: Iterable[lines.Line], damaged: OnDamage) -> Iterator[Record]:
    """Yield the committed records among *found*: lines in order, as they would stand in a log."""
    return _committed(found, damaged, backwards=False)


def backward_among(found: Iterable[lines.Line], damaged: OnDamage) -> Iterator[Record]:
    """Yield the committed records among lines that come newest first, to the log's beginning."""
    return _committed(found, damaged, backwards=True)


def _committed(
    found: Iterable[lines.Line], damaged: OnDamage, *, backwards: bool
) -> Iterator[Record]:
    held: list[Record] = []  # lines of the batch that is being put together
    batch: bytes | None = None  # its name
    torn: bytes | None = None  # the batch that is known to be no whole
    missing = 0  # lines between the last of held and the batch's closing line (forwards)
    bad = 0  # lines that were finished and then damaged, since the last good one or hole
    hole = False  # there was one since the last good one: bytes that were never written

    for offset, end, data in found:
        if (
            data is not None
            and not held
            and not codec.ends_like_a_batch(data)
            and codec.is_intact(data)
        ):
            bad, hole = 0, False  # nearly every line: whole, and a turn of its own
            yield Record(offset, end, data)
            continue
        fault = codec.TOO_LONG if data is None else codec.fault_of(data)
        if fault is not None or data is None:
            damaged(Damage(offset, end - offset, fault or codec.TOO_LONG))
            bad += 1 if data is None else max(1, codec.count_of_seals(data))
            if data is not None and codec.HOLE in data:
                hole, bad = True, 0
                if held:
                    _give_up(held, damaged)
                    held, torn = [], batch
            elif held and not backwards and bad >= missing:
                # All its lines were written, and the closing one was damaged since.
                yield from held
                held = []
            continue
        record = Record(offset, end, data)
        mark = codec.batch_mark(data) if codec.is_sealed(data) else None
        if held and (mark is None or mark[0] != batch):
            if backwards:  # what is missing before was dropped by a compaction
                yield from held
            else:  # the closing line never came
                _give_up(held, damaged)
            held = []
        if mark is None:
            yield record
        else:
            name, place, count = mark
            if backwards:
                is_torn = not held and place + bad < count - 1
            else:
                is_torn = not held and hole and place > 0
            # Forwards the lines behind a hole look like those behind a compaction.
            if is_torn or (name == torn and not backwards):
                damaged(Damage(offset, end - offset, codec.HALF_BATCH))
                torn = name
            else:
                held.append(record)
                batch, missing = name, count - 1 - place
                if (place if backwards else missing) == 0:
                    yield from held
                    held = []
        bad, hole = 0, False
    if held and backwards:
        yield from held


def _give_up(held: list[Record], damaged: OnDamage) -> None:
    for record in held:
        damaged(Damage(record.offset, record.end - record.offset, codec.HALF_BATCH))


def is_whole_before(fd: int, offset: int, found: list[bytes]) -> bool:
    """Whether the batch is whole of which *found*, the good lines from *offset* on, have the end.

    What ``backward`` would find out line by line, at a twentieth of the cost: a batch whose closing
    line is there can only have lost lines to a hole, which is NUL, and no good line holds any. So
    it is whole if there is no NUL back to its first line, or to the log's. ``False`` also where
    that cannot be told in this way.
    """
    mark = codec.batch_mark(found[0])
    if mark is None:
        return False
    name, place, count = mark
    in_order = [(name, nth, count) for nth in range(place, min(place + len(found), count))]
    if in_order[-1:] != [(name, count - 1, count)]:
        return False
    if any(codec.batch_mark(line) != each for line, each in zip(found, in_order, strict=False)):
        return False
    first = b',"_b":["%b",0,%d],"_c":"' % (name, count)
    its_end = len(first) + len(b'9f3a01bc"}\n')
    at, behind = offset, b""
    while at > 0:
        take = min(_THROUGH_BYTES, at)
        at -= take
        data = read_exactly(fd, take, at)
        if len(data) < take:
            return False  # cut meanwhile
        start = (data + behind).rfind(first)
        if data.find(b"\0", max(0, start)) >= 0:
            return False
        if start >= 0:
            if (data + behind)[start + its_end - 1 : start + its_end] != b"\n":
                return False
            _, _, line = next(lines.backward(fd, at + start + its_end))
            return (
                line is not None
                and codec.is_intact(line)
                and codec.batch_mark(line) == (name, 0, count)
            )
        if at > 0 and b'["%b",' % name not in data:
            return False  # it began with lines that were dropped since, or they are very long
        behind = data[:its_end]
    return True


def last_seq(fd: int, end: int) -> int:
    """Return the highest ``seq`` in reach of the end, or 0.

    Reads to the newest line that convmem sealed; lines by hand after it may carry a higher one.
    """
    highest = 0
    for record in backward(fd, end, _pass):
        seq = codec.seq_of(record.data)
        if seq is not None:
            highest = max(highest, seq)
            if codec.is_sealed(record.data):
                break
    return highest


def highest_seq(fd: int, end: int, last: int) -> int:
    """Return the highest ``seq`` of all, where *last* is that of the newest lines.

    The two differ only where sealed lines were appended by hand (a trash file, say). That is
    looked for at a score of places, ever closer to the end, and on each of the last lines; only
    where it shows all is read.
    """
    probes = [0] + [end - (end >> k) for k in range(1, 32) if end >> k > 512]
    near = os.pread(fd, _NEAR_BYTES, max(0, end - _NEAR_BYTES)).split(b"\n")
    if all(_seq_near(fd, at) <= last for at in probes) and all(
        (codec.claimed_seq(line) or 0) <= last for line in near
    ):
        return last
    for _, _, data in lines.forward(fd, 0, end):
        if data is not None and codec.is_sealed(data) and codec.seal_holds(data):
            last = max(last, codec.seq_of(data) or 0)
    return last


def _seq_near(fd: int, offset: int) -> int:
    """Return the ``seq`` that a line claims which begins soon behind *offset*, or 0."""
    data = os.pread(fd, 1 << 10, offset)
    start = data.find(b"\n") + 1 if offset else 0
    return codec.claimed_seq(data[start:]) or 0


def offset_after(fd: int, end: int, seq: int) -> int:
    """Return where the first line with a ``seq`` above *seq* begins, by bisection; *end* if none.

    Lines without a ``seq`` count to the line before them.
    """
    if seq <= 0:
        return 0
    low, high = 0, end  # nothing before low is above, and what starts behind high is
    while high - low > 64 << 10:
        middle = (low + high) // 2
        at, known = _next_seq(fd, middle, high)
        if known is None or known > seq:
            high = middle
        else:
            low = at
    for offset, _, data in lines.forward(fd, low, end):
        if data is None or codec.fault_of(data) is not None:
            continue
        found = codec.seq_of(data)
        if found is not None and found > seq:
            return offset
    return end


def _next_seq(fd: int, offset: int, end: int) -> tuple[int, int | None]:
    """Return the start and the ``seq`` of the first line behind *offset* that has one."""
    start = lines.line_start_after(fd, offset, end)
    for at, _, data in lines.forward(fd, start, end, block=16 << 10):
        if data is not None and codec.fault_of(data) is None:
            seq = codec.seq_of(data)
            if seq is not None:
                return at, seq
    return end, None


def _pass(damage: Damage) -> None:
    """Damage that is of no interest to the question asked."""
