"""Compaction: rewrite a log without the turns that a policy lets go, while others write to it.

The kept lines' bytes are copied aside without the lock; the lock is held only to copy what came
meanwhile and to put the new file in place. At every moment the name leads to one whole log, the
old or the new, and what is dropped is in the trash before it leaves the log.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left

from convmem.errors import ConvmemError, LockTimeout, StorageFull, storage_error
from convmem.log import codec, dropped, heal, lines, locks, trash
from convmem.log.files import owner_of_temporary, sync_data, temporary_name, write_all
from convmem.log.survey import CompactionReport, Survey, loose_turns, report_on, survey_log
from convmem.retention import RetentionPlan, RetentionPolicy, plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from convmem.log.append import Log
    from convmem.log.durability import OpenLog
    from convmem.log.files import Folder

_BLOCK = 1 << 20
# What came meanwhile is copied without the lock until little enough is left to copy under it.
_SMALL_DELTA_BYTES = 64 << 10
_MOST_ROUNDS = 4


def compact(
    log: Log,
    policy: RetentionPolicy,
    *,
    now: datetime,
    discard: bool,
    remember_seconds: float,
    timeout_seconds: float,
    leftovers: Iterable[tuple[str, str]] | None,
    healed: Callable[[str], None],
    advanced: Callable[[int], None],
) -> CompactionReport:
    """Rewrite the log without the turns that *policy* lets go at *now*.

    Needs room for the kept turns, and for the dropped ones unless *discard*. *leftovers* are this
    log's part of ``find_leftovers``, for callers that compact many; ``None`` looks for them.

    Raises:
        LockTimeout: Another compaction is at work on this log.
        StorageFull, StorageError: The log is as it was.
        FileNotFoundError: There is no such log.
    """
    try:
        with _exclusive(log.folder, log.name):
            if leftovers is None:
                leftovers = find_leftovers(log.folder).get(log.name, ())
            opened, end, last_seq = log.with_lock(timeout_seconds, healed)
            try:
                # Under both locks: healing makes such files under the one, compaction under
                # the other.
                _sweep(log.folder, leftovers)
                opened.use()
            finally:
                log.unlock()
            try:
                survey = survey_log(opened.fd, end, policy, now, advanced)
                decided = plan(policy, survey.facts)
                report = report_on(opened.fd, survey, decided, end, last_seq, dry_run=False)
                if decided.dropped:
                    run = _Rewrite(log, opened, survey, decided, report)
                    run.carry_out(
                        end,
                        last_seq,
                        now=now,
                        discard=discard,
                        remember_seconds=remember_seconds,
                        timeout_seconds=timeout_seconds,
                        healed=healed,
                    )
                return report
            finally:
                opened.let_go()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise storage_error(error, f"cannot compact {log.name}.jsonl") from error


class _Rewrite:
    """One rewrite: the files that it makes, and their removal should it fail."""

    def __init__(
        self,
        log: Log,
        opened: OpenLog,
        survey: Survey,
        decided: RetentionPlan,
        report: CompactionReport,
    ) -> None:
        self.log = log
        self.folder = log.folder
        self.opened = opened
        self.survey = survey
        self.plan = decided
        self.report = report
        self.is_replaced = False

    def carry_out(
        self,
        end: int,
        last_seq: int,
        *,
        now: datetime,
        discard: bool,
        remember_seconds: float,
        timeout_seconds: float,
        healed: Callable[[str], None],
    ) -> None:
        self._check_room(discard)
        temporary = temporary_name(self.log.name)
        fd = self.folder.open_file(temporary, os.O_RDWR | os.O_CREAT)
        try:
            try:
                os.fchmod(fd, os.fstat(self.opened.fd).st_mode & 0o777)
                _copy(self.opened.fd, fd, self._kept_pieces())
                # All of this stands before the log loses a byte.
                if not discard:
                    self._fill_trash(now)
                self._quarantine_damage()
                # Retries come by the clock on the wall, also where age is measured otherwise.
                clock = max(now.timestamp(), time.time())
                dropped.remember(
                    self.folder,
                    self.log.name,
                    self._dropped_turns(discard),
                    clock,
                    clock + remember_seconds,
                )
                self._replace(fd, temporary, end, last_seq, timeout_seconds, healed)
            finally:
                os.close(fd)
        except BaseException:
            if not self.is_replaced:
                self.folder.remove(temporary)
                self._empty_trash()
            raise

    def _replace(
        self,
        fd: int,
        temporary: str,
        done: int,
        last_seq: int,
        timeout_seconds: float,
        healed: Callable[[str], None],
    ) -> None:
        """Copy what came since, and put the new file in place of the old."""
        for _ in range(_MOST_ROUNDS):
            end, _ = self._locked_end(timeout_seconds, healed)
            self.log.unlock()
            if end - done <= _SMALL_DELTA_BYTES:
                break
            _copy(self.opened.fd, fd, [(done, end)])
            done = end
        sync_data(fd)
        end, seq_now = self._locked_end(timeout_seconds, healed)
        try:
            _copy(self.opened.fd, fd, [(done, end)])
            if seq_now == last_seq and self.report.needs_seq_floor:
                write_all(fd, codec.seq_floor_line(last_seq))
            # Before the rename: else a power cut may leave the name on an empty file.
            os.fsync(fd)
            self.report.bytes_after = os.fstat(fd).st_size
            self.folder.rename(temporary, f"{self.log.name}.jsonl")
            self.is_replaced = True
            # And the folder, while the lock is held: what is appended to the new file must not
            # be answered while a power cut could still bring the old one back.
            self.folder.sync()
        finally:
            self.log.unlock()

    def _locked_end(self, timeout_seconds: float, healed: Callable[[str], None]) -> tuple[int, int]:
        """Take the lock and return the log's end and last ``seq``; it must be the same file."""
        opened, end, last_seq = self.log.with_lock(timeout_seconds, healed)
        if opened.identity != self.opened.identity:
            self.log.unlock()
            raise ConvmemError(
                f"{self.log.name}.jsonl was replaced while it was being compacted",
                hint="nothing was changed; compact again",
            )
        return end, last_seq

    def _check_room(self, discard: bool) -> None:
        needed = self.report.bytes_after + (0 if discard else self.report.dropped_bytes)
        try:
            room = os.fstatvfs(self.folder.fd)
        except (OSError, AttributeError):
            return  # not every file system tells; a full disk is met when it is met
        free = room.f_bavail * room.f_frsize
        if free < needed:
            raise StorageFull(
                f"compacting {self.log.name}.jsonl needs {needed:,} bytes and {free:,} are free",
                hint="nothing was changed; make room"
                + ("" if discard else ", or drop the turns for good with --discard"),
            )

    def _kept_pieces(self) -> Iterator[tuple[int, int] | bytes]:
        """Yield the byte spans to copy, and lines that must change, in order."""
        loose = sorted(loose_turns(self.survey, self.plan))
        for first, behind in self.plan.runs(kept=True):
            for at in loose[bisect_left(loose, first) : bisect_left(loose, behind)]:
                yield from self.survey.spans(first, at)
                yield codec.without_batch(self.survey.line(self.opened.fd, at))
                first = at + 1
            yield from self.survey.spans(first, behind)

    def _dropped_spans(self) -> Iterator[tuple[int, int]]:
        for first, behind in self.plan.runs(kept=False):
            yield from self.survey.spans(first, behind)

    def _fill_trash(self, now: datetime) -> None:
        name = trash.new_file(self.log.name, now)
        folder = self.folder.subfolder(trash.FOLDER)
        try:
            temporary = temporary_name(self.log.name)
            fd = folder.open_file(temporary, os.O_WRONLY | os.O_CREAT)
            try:
                try:
                    _copy(self.opened.fd, fd, self._dropped_spans())
                    os.fsync(fd)
                finally:
                    os.close(fd)
                folder.rename(temporary, name)
            except BaseException:
                folder.remove(temporary)
                raise
            self.report.trash = name
            folder.sync()
        finally:
            folder.close()

    def _empty_trash(self) -> None:
        """Take back what the trash got, since its turns stay in the log."""
        if self.report.trash is None:
            return
        try:
            folder = self.folder.existing_subfolder(trash.FOLDER)
            try:
                folder.remove(self.report.trash)
            finally:
                folder.close()
        except OSError:
            return  # a turn that is in both places is restored as one
        self.report.trash = None

    def _quarantine_damage(self) -> None:
        damage = self.survey.damage
        if damage:
            spans = list(zip(damage[::2], damage[1::2], strict=True))
            self.report.quarantine = heal.set_aside(
                self.folder, self.log.name, self.opened.fd, spans
            )

    def _dropped_turns(self, discard: bool) -> Iterator[dropped.DroppedTurn]:
        for start, end in self._dropped_spans():
            for _, _, line in lines.forward(self.opened.fd, start, end):
                head = None if line is None else codec.head_of(line)
                if line is None or head is None or not codec.is_sealed(line):
                    continue  # a line by hand has no id that a client could retry
                turn_id = codec.text_of(head[0])
                if discard:
                    # Nothing else will be left to compare a retry with.
                    turn = codec.parse(line)
                    says = 0 if turn is None else dropped.substance(turn)
                else:
                    says = codec.substance_crc(line) or 0
                yield dropped.DroppedTurn(turn_id, head[1], head[2], says, is_parsed=discard)


def _copy(source: int, target: int, pieces: Iterable[tuple[int, int] | bytes]) -> None:
    """Append byte spans of *source*, and lines as given, to *target*.

    Synced every megabyte: one large sync at the end would make every other writer of the disk
    wait for it (51 ms measured on ext4 for 100 MiB).
    """
    waiting = 0
    for piece in pieces:
        if isinstance(piece, bytes):
            write_all(target, piece)
            waiting += len(piece)
            continue
        at, end = piece
        while at < end:
            data = os.pread(source, min(_BLOCK, end - at), at)
            if not data:
                raise ConvmemError("the log was cut short while it was being compacted")
            write_all(target, data)
            at += len(data)
            waiting += len(data)
            if waiting >= _BLOCK:
                sync_data(target)
                waiting = 0


class _exclusive:  # noqa: N801 - read as a verb: with _exclusive(...)
    """At most one compaction of a log at a time; the second is told so at once."""

    def __init__(self, folder: Folder, name: str) -> None:
        import filelock

        folder.subfolder(locks.FOLDER, is_lasting=False).close()
        self._name = name
        self._lock = filelock.FileLock(
            os.path.join(folder.path, locks.FOLDER, f"{name}.lock.c"), timeout=0, mode=0o600
        )

    def __enter__(self) -> None:
        import filelock

        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise LockTimeout(
                f"{self._name}.jsonl is being compacted by somebody else",
                hint="nothing to do: the other compaction goes on",
            ) from None
        except OSError as error:
            raise storage_error(error, f"cannot lock {self._name}.jsonl for compaction") from error

    def __exit__(self, *exception: object) -> None:
        self._lock.release()


def find_leftovers(folder: Folder) -> dict[str, list[tuple[str, str]]]:
    """Return, for each log, the (subfolder, name) of its files in the making.

    Some may belong to work that goes on: remove them only while holding the locks of that log.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for inner_name in ("", trash.FOLDER, dropped.FOLDER, heal.QUARANTINE):
        try:
            inner = folder if not inner_name else folder.existing_subfolder(inner_name)
        except FileNotFoundError:
            continue
        for entry in inner.entries():
            owner = owner_of_temporary(entry.name)
            if owner is not None:
                found.setdefault(owner, []).append((inner_name, entry.name))
        if inner is not folder:
            inner.close()
    return found


def _sweep(folder: Folder, leftovers: Iterable[tuple[str, str]]) -> None:
    """Remove files in the making that died with their makers; the caller keeps live ones out."""
    for inner_name, name in leftovers:
        if not inner_name:
            folder.remove(name)
            continue
        inner = folder.existing_subfolder(inner_name)
        try:
            inner.remove(name)
        finally:
            inner.close()
