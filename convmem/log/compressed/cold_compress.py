"""Compressing a log that nobody uses, while somebody may: written aside, read back, exchanged."""

from __future__ import annotations

import os
from datetime import datetime

from convmem.errors import CorruptLog, storage_error
from convmem.log.compressed.cold import file_of, find, thaw, thaw_or_salvage
from convmem.log.compressed.cold_file import ENDING, ColdFile, zstd_library
from convmem.log.compressed.cold_pack import Packer
from convmem.log.compressed.cold_read import Remnant
from convmem.log.compressed.cold_report import (
    ALREADY,
    CHANGED,
    COMPRESSED,
    NOT_COMPRESSED,
    RECENT,
    SALVAGED,
    SMALL,
    UNCOMPRESSED,
    CompressionReport,
)
from convmem.log.count import count
from convmem.log.files import (
    SYNC_EVERY_BYTES,
    read_exactly,
    sync_data,
    temporary_name,
    write_all,
)
from convmem.log.locks import held
from convmem.log.look import look
from convmem.log.removing.rewrite import exclusive, find_leftovers, sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from convmem.log.append import Log
    from convmem.log.removing.rewrite import Leftovers

# Disks give room by such blocks: what saves none saves nothing.
_BLOCK_BYTES = 4096
# A log may thaw between two looks, and be compressed again.
_MOST_LOOKS = 3


def compress(
    log: Log,
    *,
    now: datetime,
    idle_seconds: float | None,
    dry_run: bool,
    timeout_seconds: float,
    leftovers: Leftovers | None,
    healed: Callable[[str], None],
    advanced: Callable[[int], None],
) -> CompressionReport:
    """Put a compressed log in the plain one's place, once it was read back and compared.

    Takes the log's lock only at the beginning and for the exchange; if somebody has appended by
    then, the log stays as it is. With *idle_seconds* only if the last turn is older than that.
    *leftovers* are this log's part of ``find_leftovers``; ``None`` looks for them.

    Raises:
        LockTimeout: A compaction, or another compression, is at work on this log.
        CorruptLog: What was written could not be read back. The log is as it was.
        StorageFull, StorageError: The log is as it was.
        UsageError: zstd is not installed.
        FileNotFoundError: There is no such log.
    """
    try:
        is_cold, size = find(log.folder, log.name)
        if is_cold:
            return CompressionReport(ALREADY, size, size, dry_run)
        try:
            why_not = _why_not(log, now, idle_seconds)
            if why_not is not None:
                return CompressionReport(why_not, size, size, dry_run)
            zstd_library()
            if dry_run:
                return _tried(log, size, advanced)
        except FileNotFoundError:
            return _done_by_others(log, dry_run)
        with exclusive(log.folder, log.name):
            if find(log.folder, log.name)[0]:
                return _done_by_others(log, dry_run)
            return _Compression(log, timeout_seconds, healed).carry_out(leftovers, advanced)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise storage_error(error, f"cannot compress {log.name}.jsonl") from error


def uncompress(
    log: Log,
    *,
    even_damaged: bool,
    dry_run: bool,
    timeout_seconds: float,
    healed: Callable[[str], None],
) -> CompressionReport:
    """Make the log plain again; one that does not unpack whole only with *even_damaged*.

    An append would do it in any case: see ``cold_salvage``.

    Raises:
        FileNotFoundError: There is no such log.
        As ``thaw`` does.
    """
    folder, name = log.folder, log.name
    try:
        for _ in range(_MOST_LOOKS):
            is_cold, size = find(folder, name)
            if is_cold and dry_run:
                try:
                    return _tried_to_unpack(log, size, even_damaged=even_damaged)
                except FileNotFoundError:
                    continue  # thawed since
            report = CompressionReport(NOT_COMPRESSED, size, size, dry_run)
            if dry_run:
                return report
            if is_cold:
                _unpack(log, report, timeout_seconds, even_damaged=even_damaged)
            # What a crash may have left beside it: under the lock the plain one is the truth.
            _, report.bytes_after, _ = log.with_lock(timeout_seconds, healed)
            try:
                folder.remove(name + ENDING)
            finally:
                log.unlock()
            return report
        raise FileNotFoundError(f"{name}.jsonl")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise storage_error(error, f"cannot unpack {name}{ENDING}") from error


def _unpack(
    log: Log, report: CompressionReport, timeout_seconds: float, *, even_damaged: bool
) -> None:
    """Make it plain under the lock itself: taken by way of the log, damage would be no error."""
    with held(log.folder, log.name, timeout_seconds):
        if file_of(log.folder, log.name) is None:
            return  # thawed since
        if even_damaged:
            _, report.quarantine = thaw_or_salvage(log.folder, log.name, log.known_last_seq)
        else:
            thaw(log.folder, log.name)
        report.outcome = UNCOMPRESSED if report.quarantine is None else SALVAGED


def _tried_to_unpack(log: Log, size: int, *, even_damaged: bool) -> CompressionReport:
    """Return what unpacking would give, by doing all but writing it."""
    report = CompressionReport(UNCOMPRESSED, size, 0, dry_run=True)
    try:
        with ColdFile(log.folder, log.name + ENDING) as cold:
            for chunk in cold.plain():
                report.bytes_after += len(chunk)
    except CorruptLog:
        if not even_damaged:
            raise
        left = Remnant(log.folder, log.name, known_last_seq=log.known_last_seq())
        report.outcome, report.bytes_after = SALVAGED, os.fstat(left.fd).st_size
        os.close(left.fd)
    return report


class _Compression:
    """One compression, from the plain log to the exchange."""

    def __init__(self, log: Log, timeout_seconds: float, healed: Callable[[str], None]) -> None:
        self.log = log
        self.folder = log.folder
        self._timeout_seconds = timeout_seconds
        self._healed = healed
        self._temporary = temporary_name(log.name)

    def carry_out(
        self, leftovers: Leftovers | None, advanced: Callable[[int], None]
    ) -> CompressionReport:
        opened, end, _ = self.log.with_lock(self._timeout_seconds, self._healed)
        try:
            if leftovers is None:
                leftovers = find_leftovers(self.folder).get(self.log.name, ())
            sweep(self.folder, leftovers)
            # The plain log is the truth: one beside it is what a crash has left.
            self.folder.remove(self.log.name + ENDING)
            opened.use()
        finally:
            self.log.unlock()
        try:
            before = os.fstat(opened.fd)
            if before.st_size != end:  # only whole lines are compressed
                return CompressionReport(CHANGED, before.st_size, before.st_size)
            packed = self._fill(opened.fd, before, advanced)
            report = CompressionReport(SMALL, before.st_size, before.st_size)
            if _blocks(packed) < _blocks(before.st_size):
                self._read_back(opened.fd)
                if self._exchange(before):
                    report.outcome, report.bytes_after = COMPRESSED, packed
                else:
                    report.outcome = CHANGED
            return report
        finally:
            self.folder.remove(self._temporary)
            opened.let_go()

    def _fill(self, fd: int, before: os.stat_result, advanced: Callable[[int], None]) -> int:
        """Write the compressed log aside, synced, and return its size."""
        target = self.folder.open_file(self._temporary, os.O_RDWR | os.O_CREAT)
        try:
            waiting = 0

            def write(data: bytes) -> None:
                nonlocal waiting
                write_all(target, data)
                waiting += len(data)
                if waiting >= SYNC_EVERY_BYTES:
                    sync_data(target)
                    waiting = 0

            packer = Packer(write)
            _pack(packer, fd, before.st_size, advanced)
            os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
            os.fsync(target)
            if hasattr(os, "posix_fadvise"):
                # So that what is read back comes from the disk.
                os.posix_fadvise(target, 0, 0, os.POSIX_FADV_DONTNEED)
            return packer.bytes
        finally:
            os.close(target)

    def _read_back(self, fd: int) -> None:
        """Compare what is on disk with the plain log, byte by byte."""
        try:
            with ColdFile(self.folder, self._temporary) as cold:
                at = 0
                for chunk in cold.plain():
                    if read_exactly(fd, len(chunk), at) != chunk:
                        raise cold.damaged("it does not unpack to what was packed")
                    at += len(chunk)
        except CorruptLog as error:
            raise CorruptLog(
                f"{self.log.name}.jsonl does not read back compressed: {error}",
                hint="it stays as it was; the disk or the memory may be failing",
            ) from error

    def _exchange(self, before: os.stat_result) -> bool:
        """Put the compressed log in the plain one's place, unless that has changed since."""
        folder, plain = self.folder, f"{self.log.name}.jsonl"
        self.log.with_lock(self._timeout_seconds, self._healed)
        try:
            now = folder.stat(plain)
            if _state(now) != _state(before):
                return False
            folder.rename(self._temporary, self.log.name + ENDING)
            # Before the plain log goes: a power cut must not bring back neither.
            folder.sync()
            folder.remove(plain)
            folder.sync()
            return True
        finally:
            self.log.unlock()


def _pack(packer: Packer, fd: int, size: int, advanced: Callable[[int], None]) -> None:
    packer.pack(fd, size, advanced)
    ends = look(fd, size)
    counts, _ = count(fd, size, known=None, advanced=_ignore)
    packer.finish(
        {
            "bytes": size,
            "last_seq": ends.last_seq,
            "first_ts": ends.first_ts,
            "last_ts": ends.last_ts,
            "title": ends.title,
            "turns": counts.turns,
            "counts": counts.as_list(),
        }
    )


def _tried(log: Log, size: int, advanced: Callable[[int], None]) -> CompressionReport:
    """Return what compressing would give, by doing all but writing it."""
    fd = log.folder.open_file(f"{log.name}.jsonl", os.O_RDONLY)
    try:
        packer = Packer(lambda data: None)
        _pack(packer, fd, size, advanced)
    finally:
        os.close(fd)
    if _blocks(packer.bytes) >= _blocks(size):
        return CompressionReport(SMALL, size, size, dry_run=True)
    return CompressionReport(COMPRESSED, size, packer.bytes, dry_run=True)


def _done_by_others(log: Log, dry_run: bool) -> CompressionReport:
    """Say so, unless the log is gone by now."""
    _, size = find(log.folder, log.name)
    return CompressionReport(ALREADY, size, size, dry_run)


def _why_not(log: Log, now: datetime, idle_seconds: float | None) -> str | None:
    """Return the reason, if there is one, to leave the log alone; costs a look at its ends."""
    fd = log.folder.open_file(f"{log.name}.jsonl", os.O_RDONLY)
    try:
        found = os.fstat(fd)
        if found.st_size <= _BLOCK_BYTES:
            return SMALL
        if idle_seconds is None:
            return None
        last_ts = look(fd, found.st_size).last_ts
    finally:
        os.close(fd)
    last = found.st_mtime if last_ts is None else datetime.fromisoformat(last_ts).timestamp()
    return RECENT if now.timestamp() - last < idle_seconds else None


def _state(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _blocks(size: int) -> int:
    return -(-size // _BLOCK_BYTES)


def _ignore(amount: int) -> None:
    """Bytes are told of once, when they are packed."""
