"""Removing a whole log: it moves to the trash as it is, in one step, and can be brought back."""

from __future__ import annotations

from convmem.errors import storage_error
from convmem.log import deleted, state, trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from convmem.log.append import Log
    from convmem.log.files import Folder


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
    timeout_seconds: float,
    healed: Callable[[str], None],
    going: Callable[[Removal], None],
) -> Removal:
    """Move the log to the trash, and the conversation's state with it; costs the same at any size.

    *going* is told what goes just before it goes; if it raises, nothing does.

    Raises:
        FileNotFoundError: There is no such log.
        LockTimeout, StorageError: The log is as it was.
    """
    folder, name = log.folder, log.name
    try:
        _, end, last_seq = log.with_lock(timeout_seconds, healed)
        try:
            removal = Removal(end, last_seq, trash.new_file(name, now, trash.LOG))
            deleted.remember(folder, name, last_seq)
            inner = folder.subfolder(trash.FOLDER)
            try:
                going(removal)
                inner.take(folder, f"{name}.jsonl", removal.trash)
                # The turns first: a state without a log is no loss, a log without its state is.
                _take_state(folder, inner, name, removal.trash, timeout_seconds)
                inner.sync()
            finally:
                inner.close()
            folder.sync()
        finally:
            log.unlock()
        return removal
    except FileNotFoundError:
        raise
    except OSError as error:
        raise storage_error(error, f"cannot delete {log.name}.jsonl") from error


def _take_state(
    folder: Folder, inner: Folder, name: str, file_name: str, timeout_seconds: float
) -> None:
    try:
        states = folder.existing_subfolder(state.FOLDER)
    except FileNotFoundError:
        return
    lock = state.lock_of(folder, name)
    try:
        lock.acquire(timeout_seconds)
        try:
            inner.take(states, state.file_name(name), trash.beside(file_name, trash.STATE))
            states.sync()
        finally:
            lock.release()
    except FileNotFoundError:
        return  # it has none
    finally:
        states.close()
