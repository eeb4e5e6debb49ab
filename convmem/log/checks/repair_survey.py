"""Looking over a log for its repair: what stands on its lines, once they are split.

Reads only: a dry run and a repair make the same plan of the same bytes.
"""

from __future__ import annotations

import os

from convmem.log import codec, heal, lines, records
from convmem.log.checks import verify, verify_report
from convmem.log.checks.repair_plan import OPEN, PART, Plan
from convmem.log.checks.verify_split import split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from convmem.log.checks.verify_report import Finding
    from convmem.log.checks.verify_split import Part


def make_plan(
    fd: int,
    size: int,
    advanced: Callable[[int], None],
    *,
    is_odd: bool = False,
    is_still: bool = False,
) -> Plan:
    """Return what a repair of ``[0, size)`` would do; it changes nothing.

    Where a check finds nothing the log stays as it is, unless it is known to be *odd*. *is_still*
    says that nobody is writing below *size*.
    """
    hidden: set[int] = set()

    def note(finding: Finding) -> None:
        nonlocal is_odd
        is_odd = True
        if finding.kind == verify_report.HALF_BATCH:
            hidden.add(finding.offset)

    checked = verify.verify(fd, size, note, advanced, is_still=is_still)
    plan = Plan(fd, min(checked.size, os.fstat(fd).st_size))
    if is_odd or checked.lines[verify_report.BLANK]:
        _survey(plan, hidden)
        plan.decide()
    return plan


def end_to_pin(fd: int, size: int) -> int | None:
    """Return the ``seq`` to write down behind a damaged end, or ``None`` if healing is no harm.

    Healing sets all behind the last good line aside. A mark behind it makes damage at the end
    damage in the middle, which stays for the repair to split.
    """
    end = heal.find_end(fd, size)
    if end.committed == size or heal.is_unterminated_turn(fd, lines.finished_end(fd, size), size):
        return None
    highest = end.last_seq
    for _, _, data in _tail_lines(fd, end.committed, size):
        if data is not None and codec.fault_of(data) is not None:
            for first, behind, is_record in split(data, highest):
                if is_record:
                    highest = max(highest, codec.seq_of(data[first:behind]) or 0)
    return highest


def _tail_lines(fd: int, start: int, size: int) -> Iterator[lines.Line]:
    yield from lines.forward(fd, start, size)
    end = lines.finished_end(fd, size, start=start)
    if end < size <= end + lines.MAX_LINE_BYTES:
        yield end, size, os.pread(fd, size - end, end)


def _survey(plan: Plan, hidden: set[int]) -> None:
    """Note each piece, and whether it stays.

    *hidden* are the offsets of whole lines that readers hold for halves of batches.
    """
    split_lines = _Lines(plan)
    parts = split_lines.parts
    told: dict[int, int] = {}

    def note(damage: records.Damage) -> None:
        told[damage.offset] = damage.offset + damage.length

    for record in records.of_lines(split_lines.all(), note):
        if record.offset < plan.size:
            plan.add(record.offset, record.data, parts.get(record.offset, 0))
    is_late = False
    for start, end in told.items():
        if start in split_lines.bad:
            continue  # set aside already
        flags = parts.get(start, 0)
        if flags or start in hidden:
            plan.put_aside(start, end, verify_report.HALF_BATCH, flags)
        else:
            # Readers see it; a repair takes nothing away from them.
            plan.add(start, os.pread(plan.fd, end - start, start), 0)
            is_late = True
    if is_late:
        plan.sort_by_place()


class _Lines:
    """The lines of a log as they will be: split where several records share one.

    ``parts`` has flags for the starts of what is only a part of a line or lacks its newline;
    ``bad`` has the starts of what is no record.
    """

    def __init__(self, plan: Plan) -> None:
        self.parts: dict[int, int] = {}
        self.bad: set[int] = set()
        self._plan = plan
        self._highest = 0

    def all(self) -> Iterator[lines.Line]:
        """Yield them, and a mark at the end, behind which no batch goes on."""
        plan = self._plan
        fd, size = plan.fd, plan.size
        end = lines.finished_end(fd, size)
        for offset, line_end, data in lines.forward(fd, 0, end):
            yield from self._of(offset, line_end, data, lacks_newline=False)
        if end < size:
            is_long = size - end > lines.MAX_LINE_BYTES
            data = None if is_long else os.pread(fd, size - end, end)
            yield from self._of(end, size, data, lacks_newline=True)
        yield size, size + 1, codec.seq_floor_line(self._highest)[:-1]

    def _of(
        self, offset: int, end: int, data: bytes | None, *, lacks_newline: bool
    ) -> Iterator[lines.Line]:
        plan = self._plan
        fault = codec.TOO_LONG if data is None else codec.fault_of(data)
        if fault is None and data is not None:
            self._highest = max(self._highest, codec.seq_of(data) or 0)
            if lacks_newline:
                self.parts[offset] = OPEN
            yield offset, end, data
            return
        kind = verify_report.TOO_LONG
        parts: list[Part] = []
        if data is not None:
            kind, _, parts = verify_report.look_at(data, fault or "", self._highest)
            if lacks_newline and kind in verify_report.UNFINISHED:
                kind = verify_report.TORN
        if not parts or data is None:
            if lacks_newline:
                self.parts[offset] = OPEN
            self.bad.add(offset)
            plan.put_aside(offset, end, kind, self.parts.get(offset, 0))
            yield offset, end, data
            return
        plan.report.split += 1
        for first, behind, is_record in parts:
            start, stop = offset + first, offset + behind
            part = data[first:behind]
            is_open = lacks_newline or behind < len(data)
            self.parts[start] = PART | (OPEN if is_open else 0)
            if is_record:
                self._highest = max(self._highest, codec.seq_of(part) or 0)
            else:
                self.bad.add(start)
                plan.put_aside(start, stop, kind, self.parts[start])
            # What was not believed might pass for a line by hand, now that it stands alone.
            is_doubtful = not is_record and codec.fault_of(part) is None
            yield start, stop, None if is_doubtful else part
