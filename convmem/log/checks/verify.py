"""Checking one log: every byte of it is of one class, and what is wrong is told. Reads only.

Memory follows the longest line, and takes 8 bytes for each turn: a hash of its id, by which turns
of one id are found. Where hashes are alike the log is read once more, and the bytes decide.
"""

from __future__ import annotations

import os
import time
from itertools import islice

from convmem import jsontext
from convmem.log import codec, lines, records
from convmem.log.checks import verify_ids
from convmem.log.checks.verify_report import (
    BLANK,
    CHECKSUM,
    DUPLICATE_ID,
    HALF_BATCH,
    MARK,
    MOST_FINDINGS,
    NOT_A_TURN,
    NOT_UNPACKED,
    OK,
    SEQ_DISORDER,
    TOO_LONG,
    TORN,
    UNFINISHED,
    UNSEALED,
    Finding,
    VerifyReport,
    look_at,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeAlias

    # Where a line starts and ends, its bytes if it is good, else why it is not.
    Checked: TypeAlias = tuple[int, int, bytes | None, str]

_BLOCK = 1 << 20
# So many ids that came twice are compared in one reading of the log.
_IDS_AT_A_TIME = 100_000
# How long what is unfinished at the end is watched before it is called torn, and how often.
_WRITING_SECONDS = 0.02
_MOST_LOOKS = 4


def verify(
    fd: int,
    size: int,
    found: Callable[[Finding], None],
    advanced: Callable[[int], None],
    *,
    is_still: bool = False,
    holes: Mapping[int, str] | None = None,
) -> VerifyReport:
    """Read ``[0, size)`` of a log and say of each byte what it is, and which turns share an id.

    *holes* are the places where a compressed log did not unpack, and why.

    What is unfinished at the end is looked at again after 20 ms, as long as it grows: a turn that
    is being written is no damage, and not counted. Unless it is known that the log *is still*.
    """
    check = _Check(fd, found, advanced, holes or {})
    for _ in range(_MOST_LOOKS):
        end = lines.finished_end(fd, size, start=min(check.size, size))
        check.take_all(in_order(fd, check.size, end))
        if check.size >= size or check.takes_line_by_hand(end, size):
            break
        now = size
        if not is_still:
            time.sleep(_WRITING_SECONDS)
            now = os.fstat(fd).st_size
        if now == size:
            check.take_all(in_order(fd, check.size, end, is_final=True))
            if not check.takes_line_by_hand(end, size):
                check.take_torn(end, size)
            break
        size = now  # it grew, or was healed
    check.tell_of_other_holes()
    check.look_for_shared_ids()
    return check.finish()


def in_order(fd: int, start: int, end: int, *, is_final: bool = False) -> Iterator[Checked]:
    """Yield the lines of ``[start, end)``, each in its place.

    Readers are told of a batch's lines late, and of those behind which its closing line is still
    missing not at all; these are given only when it is *final* that it will not come.
    """
    at = start
    damaged: dict[int, records.Damage] = {}

    def note(damage: records.Damage) -> None:
        damaged[damage.offset] = damage

    def told_until(stop: int) -> Iterator[Checked]:
        nonlocal at
        while at < stop and at in damaged:
            damage = damaged.pop(at)
            at += damage.length + 1
            yield damage.offset, at - 1, None, damage.reason

    for record in records.forward(fd, start, end, note):
        if at != record.offset:
            yield from told_until(record.offset)
        at = record.end + 1
        yield record.offset, record.end, record.data, ""
    yield from told_until(end)
    if is_final:
        for offset, line_end, _ in lines.forward(fd, at, end):
            told = damaged.get(offset)
            yield offset, line_end, None, codec.HALF_BATCH if told is None else told.reason


class _Check:
    """One check of one log, line by line. ``size`` is how far it has come."""

    def __init__(
        self,
        fd: int,
        tell: Callable[[Finding], None],
        advanced: Callable[[int], None],
        holes: Mapping[int, str],
    ) -> None:
        self.size = 0
        self._holes = holes
        self._told_holes: set[int] = set()
        self._fd = fd
        self._tell = tell
        self._advanced = advanced
        self._told = 0
        self._number = 0  # of the last line
        self._highest = 0
        self._ids = verify_ids.IdHashes()
        self._report = VerifyReport()
        self._finished = 0  # where the last finished line ends

    def take_all(self, checked: Iterator[Checked]) -> None:
        """Count these lines."""
        add_id = self._ids.add
        is_sealed, start_of = codec.is_sealed, codec.start_of
        ok_bytes = ok_lines = 0
        for offset, end, data, reason in checked:
            self._number += 1
            if data is None:
                self._take_damaged(offset, end, reason)
            else:
                start = start_of(data) if is_sealed(data) else None
                if start is None:
                    self._take_odd(offset, end, data)
                else:
                    encoded, seq = start[0], int(start[1])
                    add_id(encoded if b"\\" not in encoded else verify_ids.plain_id(encoded))
                    ok_bytes += end + 1 - offset
                    ok_lines += 1
                    if seq > self._highest and self._report.first_seq is not None:
                        self._highest = seq
                    else:
                        self._take_seq(offset, end, data, seq)
            self.size = self._finished = end + 1
            if end - self._told > _BLOCK:
                self._advance()
        self._report.bytes[OK] += ok_bytes
        self._report.lines[OK] += ok_lines
        self._report.turns += ok_lines

    def takes_line_by_hand(self, end: int, size: int) -> bool:
        """Count the last line if it is a whole turn by hand that lacks only its newline."""
        if self.size != end or size - end > lines.MAX_LINE_BYTES:
            return False
        data = os.pread(self._fd, size - end, end)
        if codec.is_sealed(data) or codec.fault_of(data) is not None:
            return False
        self._number += 1
        self.size = size
        self._take_odd(end, size, data, newline=0)
        return True

    def take_torn(self, end: int, size: int) -> None:
        """Count the unfinished last line, if there is one."""
        if end >= size:
            return
        self._number += 1
        self.size = size
        kind, words = TORN, "unfinished"
        seq = None
        if size - end > lines.MAX_LINE_BYTES:
            kind, words = TOO_LONG, codec.TOO_LONG
        else:
            data = os.pread(self._fd, size - end, end)
            seq = codec.claimed_seq(data)
            reason = codec.fault_of(data)
            if reason is None:
                words = "lacks its newline"
            else:
                kind, words, _ = look_at(data, reason, self._highest)
                if kind in UNFINISHED:
                    kind, words = TORN, "unfinished"
        self._count(kind, size - end)
        if kind != BLANK:
            self._find(Finding(self._number, end, size - end, kind, words, seq=seq))

    def tell_of_other_holes(self) -> None:
        """Tell of the parts that are damaged though every line of them is there."""
        for offset in sorted(self._holes.keys() - self._told_holes):
            words = self._holes[offset]
            self._find(Finding(self._number, offset, 0, NOT_UNPACKED, words))

    def look_for_shared_ids(self) -> None:
        """Tell of every turn that has the id of one before it."""
        repeated = iter(sorted(self._ids.repeated()))
        while wanted := set(islice(repeated, _IDS_AT_A_TIME)):
            first: dict[bytes, tuple[int, int, int]] = {}
            for number, (offset, end, data, _) in enumerate(self._again(), 1):
                encoded = None if data is None else verify_ids.id_of(data)
                if data is None or encoded is None or hash(encoded) not in wanted:
                    continue
                if encoded in first:
                    self._find_shared(number, offset, data, encoded, first[encoded])
                else:
                    first[encoded] = number, offset, end - offset

    def finish(self) -> VerifyReport:
        """Return what was found."""
        self._report.size = self.size
        self._report.last_seq = self._highest or None
        self._advance()
        return self._report

    def _advance(self) -> None:
        self._advanced(self.size - self._told)
        self._told = self.size

    def _again(self) -> Iterator[Checked]:
        yield from in_order(self._fd, 0, self._finished, is_final=True)
        if self.size > self._finished:
            data = os.pread(self._fd, self.size - self._finished, self._finished)
            good = codec.fault_of(data) is None and not codec.is_sealed(data)
            yield self._finished, self.size, data if good else None, codec.TORN

    def _take_damaged(self, offset: int, end: int, reason: str) -> None:
        length = end - offset
        turn_id = seq = None
        if offset in self._holes:
            kind, words = NOT_UNPACKED, self._holes[offset]
            self._told_holes.add(offset)
        elif reason == codec.TOO_LONG:
            kind, words = TOO_LONG, reason
        else:
            data = os.pread(self._fd, length, offset)
            kind, words, parts = look_at(data, reason, self._highest)
            seq = codec.claimed_seq(data)
            head = codec.head_of(data) if kind in (HALF_BATCH, CHECKSUM) else None
            if head is not None:
                turn_id = _text(head[0])
            for start, stop, is_record in parts:
                if is_record:
                    self._highest = max(self._highest, codec.seq_of(data[start:stop]) or 0)
        self._count(kind, length + 1)
        if kind != BLANK:
            self._find(Finding(self._number, offset, length, kind, words, turn_id, seq))

    def _take_odd(self, offset: int, end: int, data: bytes, *, newline: int = 1) -> None:
        """Count a good line that is not of convmem's usual shape: a mark, or one by hand."""
        length = end - offset
        if codec.is_seq_floor(data):
            self._count(MARK, length + newline)
            seq = codec.seq_of(data) or 0
            if seq < self._highest:
                # Writers go on behind the mark: it would have them give a seq out again.
                words = f"the mark of seq {seq} stands behind {self._highest}"
                self._find(Finding(self._number, offset, length, SEQ_DISORDER, words, None, seq))
            self._highest = max(self._highest, seq)
            return
        turn = codec.parse(data)
        if turn is None:
            self._count(NOT_A_TURN, length + newline)
            words = "JSON, but not a turn"
            self._find(Finding(self._number, offset, length, NOT_A_TURN, words))
            return
        self._count(OK if codec.is_sealed(data) else UNSEALED, length + newline)
        self._report.turns += 1
        if turn.id is not None:
            self._ids.add(jsontext.dumps(turn.id))
        if turn.seq is not None:
            self._take_seq(offset, end, data, turn.seq)

    def _take_seq(self, offset: int, end: int, data: bytes, seq: int) -> None:
        report = self._report
        report.first_seq = seq if report.first_seq is None else min(report.first_seq, seq)
        if seq > self._highest:
            self._highest = seq
            return
        encoded = verify_ids.id_of(data)
        turn_id = None if encoded is None else _text(encoded)
        words = f"seq {seq} stands behind {self._highest}"
        self._find(Finding(self._number, offset, end - offset, SEQ_DISORDER, words, turn_id, seq))

    def _find_shared(
        self, number: int, offset: int, data: bytes, encoded: bytes, first: tuple[int, int, int]
    ) -> None:
        first_number, first_offset, first_length = first
        how = verify_ids.compare(os.pread(self._fd, first_length, first_offset), data)
        words = {
            verify_ids.COPY: f"line {first_number} is the same turn",
            verify_ids.SAME: f"line {first_number} has the same id and says the same",
            verify_ids.OTHER: f"line {first_number} has the same id and says something else",
        }[how]
        self._find(
            Finding(
                number, offset, len(data), DUPLICATE_ID, words, _text(encoded), codec.seq_of(data)
            )
        )

    def _count(self, kind: str, length: int) -> None:
        self._report.bytes[kind] += length
        self._report.lines[kind] += 1

    def _find(self, finding: Finding) -> None:
        found = self._report.found
        found[finding.kind] = found.get(finding.kind, 0) + 1
        if len(self._report.findings) < MOST_FINDINGS:
            self._report.findings.append(finding)
        self._tell(finding)


def _text(encoded: bytes) -> str | None:
    """Return the id that damaged or good JSON text holds, if it can be read."""
    try:
        return codec.text_of(encoded)
    except ValueError:
        return None
