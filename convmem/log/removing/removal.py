"""Removing a whole log: it moves to the trash as it is, in one step, and can be brought back."""

from __future__ import annotations

from contextlib import closing

from convmem.errors import ConvmemError, DurabilityUnknown, storage_error
from convmem.log import state
from convmem.log.compressed.cold_file import ENDING
from convmem.log.look import look
from convmem.log.removing import deleted, tombstones, trash
from convmem.quantities import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from convmem.log.append import Log
    from convmem.log.durability import OpenLog
    from convmem.log.files import Folder
    from convmem.log.look import Ends


class StillInUse(ConvmemError):
    """Somebody spoke in the conversation since it was looked at; it stays."""

    kind = "busy"


class Removal:
    """A log that went, or would go.

    Attributes:
        bytes: Its size.
        last_seq: The highest ``seq`` that it gave out.
        trash: Its file inside ``.trash``.
    """

    __slots__ = ("bytes", "last_seq", "trash")

    def __init__(self, size: int, last_seq: int, trash_file: str) -> None:
        self.bytes = size
        self.last_seq = last_seq
        self.trash = trash_file


def remove(
    log: Log,
    *,
    now: datetime,
    quiet_since: datetime | None,
    timeout_seconds: float,
    healed: Callable[[str], None],
    going: Callable[[Removal], None],
    went: Callable[[], None],
) -> Removal:
    """Move the log to the trash, and the conversation's state with it.

    The log is read once, for what was imported is not to come back by an import; others may write
    meanwhile. A compressed log is unpacked first, and needs the room for that.

    *going* is told what goes just before it goes, and if it raises, nothing does; *went* that it is
    gone, whatever may fail then.

    Raises:
        FileNotFoundError: There is no such log.
        StillInUse: There is a turn from after *quiet_since*; the log is as it was.
        LockTimeout, StorageError: The log is as it was.
        DurabilityUnknown: It is in the trash, but a power cut may bring it back.
    """
    folder, name = log.folder, log.name
    lock = state.lock_of(folder, name)

    def bury(fd: int, start: int, end: int) -> None:
        ids = tombstones.imported(fd, [(start, end)])
        tombstones.bury(folder, name, ids, timeout_seconds=timeout_seconds)

    try:
        first, buried = _locked(log, quiet_since, timeout_seconds, healed)
        try:
            bury(first.fd, 0, buried)
            opened, end, last_seq = log.with_lock(timeout_seconds, healed)
        finally:
            first.let_go()
        try:
            if quiet_since is not None:
                _check_quiet(name, look(opened.fd, end), quiet_since)
            # What came meanwhile: all of it, if it is another file by now.
            bury(opened.fd, buried if opened is first else 0, end)
            removal = Removal(end, last_seq, trash.new_file(name, now, trash.LOG))
            deleted.remember(folder, name, last_seq)
            inner = folder.subfolder(trash.FOLDER)
            try:
                lock.acquire(timeout_seconds)
                try:
                    going(removal)
                    # A compressed copy that a crash has left would be the conversation by then.
                    folder.remove(name + ENDING)
                    inner.take(folder, f"{name}.jsonl", removal.trash)
                    went()
                    _settle(folder, inner, name, removal.trash)
                finally:
                    lock.release()
            finally:
                inner.close()
        finally:
            log.unlock()
        return removal
    except FileNotFoundError:
        raise
    except OSError as error:
        raise storage_error(error, f"cannot delete {log.name}.jsonl") from error


def left_behind(folder: Folder, name: str) -> str | None:
    """Return the trash's file of a deleted log whose state stayed, as when a deletion was killed.

    ``None`` where there is no such state, or where the name has a log again: then it is its own.
    """
    if folder.has(f"{name}.jsonl") or folder.has(name + ENDING):
        return None
    if not folder.has(f"{state.FOLDER}/{state.file_name(name)}"):
        return None
    logs = [each.file_name for each in trash.files(folder, name) if each.kind == trash.LOG]
    if not logs or folder.has(f"{trash.FOLDER}/{trash.beside(logs[-1], trash.STATE)}"):
        return None
    return logs[-1]


def finish(folder: Folder, name: str, *, timeout_seconds: float) -> Removal | None:
    """Do what is left of a deletion that died between the log and its state.

    Raises:
        LockTimeout, StorageError: The state stays where it is.
        DurabilityUnknown: It is in the trash, but a power cut may bring it back.
    """
    lock = state.lock_of(folder, name)
    lock.acquire(timeout_seconds)
    try:
        file_name = left_behind(folder, name)
        if file_name is None:
            return None
        inner = folder.subfolder(trash.FOLDER)
        try:
            _settle(folder, inner, name, file_name)
        finally:
            inner.close()
        return Removal(0, deleted.last_seq(folder, name), file_name)
    except OSError as error:
        raise storage_error(error, f"cannot delete the state of {name}.jsonl") from error
    finally:
        lock.release()
        lock.close()


def _locked(
    log: Log,
    quiet_since: datetime | None,
    timeout_seconds: float,
    healed: Callable[[str], None],
) -> tuple[OpenLog, int]:
    """Return the log, for reading without its lock, and its end. The caller lets it go."""
    opened, end, _ = log.with_lock(timeout_seconds, healed)
    try:
        if quiet_since is not None:
            _check_quiet(log.name, look(opened.fd, end), quiet_since)
        opened.use()
        return opened, end
    finally:
        log.unlock()


def _check_quiet(name: str, ends: Ends, quiet_since: datetime) -> None:
    if ends.last_ts is not None and ends.last_ts > format_time(quiet_since):
        raise StillInUse(
            f"{name}.jsonl has a turn of {ends.last_ts}", hint="it is in use again, so it stays"
        )


def _settle(folder: Folder, inner: Folder, name: str, file_name: str) -> None:
    """Take the state too, and make all of it survive a power cut.

    The turns went first: a state without a log is no loss, a log without its state is.
    """
    try:
        try:
            states = folder.existing_subfolder(state.FOLDER)
        except FileNotFoundError:
            pass
        else:
            with closing(states):
                _take_state(states, inner, name, file_name)
        inner.sync()
        folder.sync()
    except OSError as error:
        raise DurabilityUnknown(
            f"{name}.jsonl is in the trash, but that could not be synced:"
            f" {error.strerror or error}",
            hint="a power cut may bring it back; nothing of it is lost",
            errno=error.errno,
        ) from error


def _take_state(states: Folder, inner: Folder, name: str, file_name: str) -> None:
    try:
        inner.take(states, state.file_name(name), trash.beside(file_name, trash.STATE))
    except FileNotFoundError:
        return  # it has none
    states.sync()
