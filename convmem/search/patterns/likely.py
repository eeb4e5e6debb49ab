"""The turns of a log that may hold what is looked for: all, or those in lines that are likely."""

from __future__ import annotations

from convmem.log import blocks, codec, lines, records
from convmem.log.read import StoredTurn, turns_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem.log.read import Reader
    from convmem.log.records import Damage, OnDamage, Record
    from convmem.search.patterns.raw_scan import RawScan


def all_turns(reader: Reader, damaged: OnDamage, *, is_parsed: bool) -> Iterator[StoredTurn]:
    """Yield every turn, as ``reader.in_order`` does, in some two thirds of the time.

    Args:
        reader: The log.
        damaged: Is told of all damage.
        is_parsed: Whether the turns in them will be asked for: they are parsed together.
    """
    done = 0
    for block in blocks.good_blocks(reader.fd, reader.end):
        done = block.end
        turns = codec.parse_all(block.lines) if is_parsed else None
        if turns is not None:
            yield from map(StoredTurn, block.lines, block.offsets, turns)
        elif not is_parsed and block.is_sealed and None not in codec.heads_of(block.lines):
            yield from map(StoredTurn, block.lines, block.offsets)
        else:
            found = zip(block.lines, block.offsets, strict=False)
            yield from turns_of(
                (records.Record(at, at + len(line), line) for line, at in found), damaged
            )
    yield from reader.in_order(damaged, start=done)


def likely_turns(reader: Reader, scan: RawScan, damaged: OnDamage) -> Iterator[StoredTurn]:
    """Yield every turn that may match, as *scan* has it.

    Whether it is committed is judged as any reader judges it. *damaged* is told of damage in
    likely lines, and beside them in their batches.
    """
    fd = reader.fd
    holes = reader.holes or {}

    def tell(damage: Damage) -> None:
        reason = holes.get(damage.offset, damage.reason)
        damaged(records.Damage(damage.offset, damage.length, reason))

    done = 0  # what stands before was judged
    for offset, line in scan.lines(fd, 0, reader.end):
        if offset < done:
            continue
        record = records.Record(offset, offset + len(line), line)
        if not codec.is_intact(line):
            fault = codec.fault_of(line)
            if fault is not None:
                tell(records.Damage(offset, len(line), fault))
                done = record.end + 1
                continue
        if codec.batch_mark(line) is None or not codec.is_sealed(line):
            done = record.end + 1
            yield from turns_of(iter((record,)), tell)
            continue
        # What stands beside it in its batch decides whether it counts.
        for each in _committed_around(fd, reader.end, record, done, tell):
            done = each.end + 1
            if scan.is_likely(each.data):
                yield from turns_of(iter((each,)), tell)
            if each.offset >= offset and _closes(each.data, line):
                break
        else:
            done = reader.end
    yield from reader.in_order(tell, start=reader.end)  # a line by hand without its newline


def _committed_around(
    fd: int, end: int, record: Record, done: int, damaged: OnDamage
) -> Iterator[Record]:
    """Yield what is committed from *done* on, judged from before the batch of *record*."""

    def tell(damage: Damage) -> None:
        if damage.offset >= done:
            damaged(damage)

    start = _start_of_batch(fd, record)
    return (each for each in records.forward(fd, start, end, tell) if each.offset >= done)


def _start_of_batch(fd: int, record: Record) -> int:
    """Return where a reading must begin to judge the batch of *record*: behind a line that is
    good and ends whatever stood before."""
    for _, stop, line in lines.backward(fd, record.offset):
        if line is not None and codec.is_intact(line):
            mark = codec.batch_mark(line)
            if mark is None or (mark[1] == mark[2] - 1 and not _is_same_batch(line, record.data)):
                return stop + 1
    return 0


def _closes(line: bytes, other: bytes) -> bool:
    """Whether nothing behind *line* can be of the batch of *other*, a line before it."""
    mark = codec.batch_mark(line) if codec.is_sealed(line) else None
    return mark is None or mark[1] == mark[2] - 1 or not _is_same_batch(line, other)


def _is_same_batch(line: bytes, other: bytes) -> bool:
    mark, mark_of_other = codec.batch_mark(line), codec.batch_mark(other)
    return mark is not None and mark_of_other is not None and mark[0] == mark_of_other[0]
