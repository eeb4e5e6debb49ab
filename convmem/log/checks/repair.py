"""Repairing one log: records that share a line get lines of their own, damage is set aside.

No byte is lost: what leaves the log is in the quarantine, synced, before the repaired file takes
the log's place in one step. Others read and write meanwhile. A second repair finds nothing to do.

- A line that holds several records is split; a record that was cut short leaves the whole one
  behind it on its own. What counts as a record on such a line: see ``verify_split``.
- NUL bytes, torn, damaged and empty lines, and halves of batches, which were never answered, go to
  the quarantine. Turns whose batch loses its closing line thereby stand alone.
- Of lines that hold the very same turn (same ``seq``, same bytes) the first stays. So does the one
  that readers saw already, of a record that comes to light and its retry. Turns of one id that
  differ otherwise all stay, and are told.
- Turns behind a higher ``seq`` are put in order, as long as no two turns share a ``seq``. If they
  do, the log was put together of several: the lines stay where they are, and that is told.
"""

from __future__ import annotations

import os

from convmem.errors import storage_error
from convmem.log import codec, heal
from convmem.log.checks import repair_survey
from convmem.log.checks.repair_survey import make_plan
from convmem.log.files import check_room, sync_data, write_all
from convmem.log.locks import held
from convmem.log.removing.rewrite import Rewrite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from convmem.log.append import Log
    from convmem.log.checks.repair_plan import Plan, RepairReport
    from convmem.log.files import Folder
    from convmem.log.removing.rewrite import Leftovers


def look(fd: int, size: int, advanced: Callable[[int], None]) -> Plan:
    """Return what there is to repair, for ``repair``; ``changes`` tells whether anything is."""
    return make_plan(fd, size, advanced)


def preview(fd: int, size: int, advanced: Callable[[int], None]) -> RepairReport:
    """Say what ``repair`` would do to a log of *size* bytes. Writes nothing, takes no lock."""
    plan = make_plan(fd, size, advanced)
    report = plan.report
    report.dry_run = True
    if plan.changes:
        last_seq = repair_survey.end_to_pin(fd, size)
        if last_seq is None:
            last_seq = heal.find_end(fd, size).last_seq
        if last_seq > plan.highest:
            report.bytes_after += len(codec.seq_floor_line(last_seq))
    return report


def repair(
    log: Log,
    *,
    timeout_seconds: float,
    healed: Callable[[str], None],
    advanced: Callable[[int], None],
    looked: Plan | None = None,
    leftovers: Leftovers | None = None,
    going: Callable[[RepairReport], None] | None = None,
) -> RepairReport:
    """Repair the log. Where nothing is wrong it is only read, and no lock is taken.

    Needs room for the log and for what is set aside. *looked* is what ``look`` gave shortly
    before; *going* is told what is done, just before it takes effect.

    Raises:
        LockTimeout: A compaction or another repair is at work on this log.
        StorageFull, StorageError: The log holds all that it held.
        FileNotFoundError: There is no such log.
    """
    try:
        if looked is None:
            fd = log.folder.open_file(f"{log.name}.jsonl", os.O_RDONLY)
            try:
                looked = look(fd, os.fstat(fd).st_size, advanced)
            finally:
                os.close(fd)
        if not looked.changes:
            return looked.report
        size = looked.size
        pin = _Pin(log.folder, log.name, timeout_seconds, looked.highest)
        with Rewrite(
            log,
            timeout_seconds=timeout_seconds,
            healed=healed,
            leftovers=leftovers,
            prepare=pin.set,
        ) as rewrite:
            resume = rewrite.end
            surveyed = resume
            if pin.size is not None:
                surveyed, resume = pin.size, pin.end
            elif rewrite.end == size + 1 and os.pread(rewrite.fd, 1, size - 1) != b"\n":
                surveyed = size  # healing has just given the last line its newline
            is_odd = pin.size is not None
            plan = make_plan(rewrite.fd, surveyed, _ignore, is_odd=is_odd, is_still=True)
            report = plan.report
            if pin.size is None and not plan.rewrites:
                # A newline was all that lacked, or somebody else was quicker.
                report.is_changed = surveyed < resume
                report.bytes_after = resume
                return report
            _carry_out(rewrite, plan, pin, resume, going)
            return report
    except FileNotFoundError:
        raise
    except OSError as error:
        raise storage_error(error, f"cannot repair {log.name}.jsonl") from error


def _carry_out(
    rewrite: Rewrite,
    plan: Plan,
    pin: _Pin,
    resume: int,
    going: Callable[[RepairReport], None] | None,
) -> None:
    report = plan.report
    check_room(
        rewrite.folder,
        report.bytes_after + report.set_aside_bytes,
        f"repairing {rewrite.log.name}.jsonl",
        "nothing was changed; make room",
    )
    spans = plan.spans_aside()
    if spans:
        # This stands before the log loses a byte.
        report.quarantine = heal.set_aside(rewrite.folder, rewrite.log.name, rewrite.fd, spans)
    rewrite.copy(plan.pieces())
    needs_floor = False
    if pin.size is None:
        needs_floor = rewrite.last_seq > plan.highest
    else:
        if pin.last_seq > plan.highest:
            rewrite.copy([codec.seq_floor_line(pin.last_seq)])
    if resume < rewrite.end:
        rewrite.copy([(resume, rewrite.end)])  # what others appended behind the mark
    if going is not None:
        going(report)
    rewrite.replace(seq_floor=needs_floor)
    report.bytes_after = rewrite.bytes_after


class _Pin:
    """A mark of the highest ``seq`` behind a damaged end, so that no writer sets that end aside.

    The records in it would go as well: healing knows torn ends only. Under the log's lock.

    Attributes:
        size: How long the log was before; ``None`` where no mark was needed.
        end: Where the mark ends.
        last_seq: What it says.
    """

    def __init__(self, folder: Folder, name: str, timeout_seconds: float, highest: int) -> None:
        self.size: int | None = None
        self.end = self.last_seq = 0
        self._folder = folder
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._highest = highest

    def set(self) -> None:
        """Append the mark if it is needed."""
        with held(self._folder, self._name, self._timeout_seconds):
            try:
                fd = self._folder.open_file(f"{self._name}.jsonl", os.O_RDWR | os.O_APPEND)
            except FileNotFoundError:
                return  # it lies compressed, and ends in a whole line
            try:
                self._set(fd)
            finally:
                os.close(fd)

    def _set(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        last_seq = repair_survey.end_to_pin(fd, size)
        if last_seq is None:
            return
        last_seq = max(last_seq, self._highest)
        line = codec.seq_floor_line(last_seq)
        if size and os.pread(fd, 1, size - 1) != b"\n":
            line = b"\n" + line
        try:
            write_all(fd, line)
            sync_data(fd)
        except BaseException:
            os.ftruncate(fd, size)
            raise
        self.size, self.end, self.last_seq = size, size + len(line), last_seq


def _ignore(amount: int) -> None:
    """The first reading has told of its progress."""
