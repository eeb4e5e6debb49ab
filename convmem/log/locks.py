"""The lock that every writer of one log holds: a sidecar file, never renamed, never emptied.

Not the log itself: compaction replaces that file, and a lock on the old one would guard nothing.
On POSIX this is ``flock`` on the sidecar, the same kernel lock that filelock takes, 60 times
cheaper; elsewhere it is filelock. A holder that is killed lets go at once; there is no stale lock.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock

from convmem.errors import LockTimeout, StorageDenied, StorageError, storage_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from convmem.log.files import Folder

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None

FOLDER = ".locks"

# A holder needs some 20 µs, so the first waits are short. The longest is kept short too: a waiter
# that sleeps while the lock is free is what starves under load.
_FIRST_WAIT_SECONDS = 20e-6
_LONGEST_WAIT_SECONDS = 1e-3


class SidecarLock:
    """Exclusive among the threads of a process and among processes.

    Between threads by a lock of the process (two threads would share the descriptor, and with it
    the kernel's lock), between processes by the kernel.
    """

    __slots__ = ("_fd", "_folder", "_identity", "_name", "_path", "_threads")

    def __init__(self, folder: Folder, name: str, ending: str = "lock") -> None:
        self._folder = folder
        self._name = f"{name}.{ending}"
        self._path = os.path.join(folder.path, FOLDER, self._name)
        self._threads = allocate_lock()
        self._fd = -1
        self._identity = (0, 0)

    def acquire(self, timeout_seconds: float) -> float:
        """Take the lock; return the seconds that this took where others held it, else 0.

        Raises:
            LockTimeout: It was held by others for *timeout_seconds*.
            StorageError: The lock file cannot be made or opened.
        """
        # A negative time-out would mean "for ever" to the thread lock.
        patience = max(0.0, timeout_seconds)
        began: float | None = None  # to wait
        if not self._threads.acquire(False):
            began = time.monotonic()
            if not self._threads.acquire(True, min(patience, 1e9)):
                raise self._timeout(patience)
        try:
            if self._fd < 0 or not _try_lock(self._fd) or not self._still_there():
                began = self._acquire_from_processes(patience, began)
        except BaseException as error:
            self.close()  # an interrupt may have come after the kernel gave us the lock
            self._threads.release()
            if isinstance(error, OSError):
                raise storage_error(error, f"cannot lock {self._path}") from error
            raise
        return 0.0 if began is None else time.monotonic() - began

    def release(self) -> None:
        """Let go."""
        try:
            if fcntl is not None:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
            else:  # pragma: no cover - Windows
                import filelock

                filelock.unlock_descriptor(self._fd)
        finally:
            self._threads.release()

    def close(self) -> None:
        """Give the descriptor back. The caller holds nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    def close_if_idle(self, also: Callable[[], None]) -> bool:
        """Give the descriptor back, and do *also*, unless a thread is at work here just now."""
        if not self._threads.acquire(False):
            return False
        also()
        self.close()
        self._threads.release()
        return True

    def _acquire_from_processes(self, patience: float, began: float | None) -> float | None:
        """Take the kernel's lock; return when the waiting began, if there was any."""
        wait = _FIRST_WAIT_SECONDS
        while True:
            if self._fd < 0:
                self._open()
            if _try_lock(self._fd):
                if self._still_there():
                    return began
                self.close()
                if not self._folder.is_current():
                    raise StorageError(f"the folder {self._folder.path} is gone")
                continue
            now = time.monotonic()
            if began is None:
                began = now
            deadline = began + patience
            if now >= deadline:
                raise self._timeout(patience)
            # Jitter, so that waiters do not come back in step. The clock's last digits will do.
            jitter = 0.5 + (time.perf_counter_ns() & 0x3FF) / 0x400
            time.sleep(min(wait * jitter, deadline - now))
            wait = min(wait * 1.5, _LONGEST_WAIT_SECONDS)

    def _still_there(self) -> bool:
        """Whether the path leads to the file that we hold.

        Somebody may have removed the lock folder meanwhile, or moved the archive: the next
        process would then lock another file, and both would hold "the" lock.
        """
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def _open(self) -> None:
        try:
            folder = self._folder.subfolder(FOLDER, is_lasting=False)
            try:
                try:
                    self._fd = folder.open_file(self._name, os.O_RDWR)
                except FileNotFoundError:
                    try:
                        self._fd = folder.open_file(self._name, os.O_RDWR | os.O_CREAT)
                    except FileExistsError:  # another process was quicker
                        self._fd = folder.open_file(self._name, os.O_RDWR)
            finally:
                folder.close()
        except OSError as error:
            raise storage_error(error, f"cannot lock {self._path}") from error
        found = os.fstat(self._fd)
        self._identity = (found.st_dev, found.st_ino)

    def _timeout(self, waited: float) -> LockTimeout:
        return LockTimeout(
            f"{self._path} was held by others for {waited:g} s",
            hint="nothing was written; try again, or see who holds it with: fuser -v FILE",
        )


class held:  # noqa: N801 - read as a verb: with held(...)
    """Hold the lock of *name* for a ``with`` block, and give its descriptor back behind it.

    Raises (on entering):
        LockTimeout, StorageError: It is not to be had.
    """

    __slots__ = ("_lock", "_timeout_seconds")

    def __init__(
        self, folder: Folder, name: str, timeout_seconds: float, ending: str = "lock"
    ) -> None:
        self._lock = SidecarLock(folder, name, ending)
        self._timeout_seconds = timeout_seconds

    def __enter__(self) -> None:
        self._lock.acquire(self._timeout_seconds)

    def __exit__(self, *exception: object) -> None:
        self._lock.release()
        self._lock.close()


def is_held(folder: Folder, file_name: str) -> bool:
    """Whether somebody holds the lock *file_name* in the lock folder just now.

    Waits for nothing, makes nothing and keeps nothing; a writer that comes in the same
    microsecond only tries once more.
    """
    if fcntl is None:  # pragma: no cover - Windows
        return False
    try:
        fd = folder.open_file(file_name, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        # Not by closing alone: a process that is just being forked has the descriptor too.
        fcntl.flock(fd, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def remove_unneeded(folder: Folder, is_needed: Callable[[str], bool]) -> None:
    """Remove the lock files of logs that are not there any more.

    Each is held while it is asked for the last time whether it *is needed* (its log's name is
    given), and while it goes: whoever waits for it finds that it is gone, and makes a new one.
    """
    if fcntl is None:  # pragma: no cover - Windows
        return
    try:
        inner = folder.existing_subfolder(FOLDER)
    except FileNotFoundError:
        return
    try:
        for entry in list(inner.entries()):
            name = entry.name.partition("+")[0] if "+" in entry.name else entry.name
            for ending in (".lock.c", ".lock"):
                name = name.removesuffix(ending)
            if not is_needed(name):
                _remove_if_free(inner, entry.name, name, is_needed)
    finally:
        inner.close()


def _remove_if_free(
    inner: Folder, file_name: str, name: str, is_needed: Callable[[str], bool]
) -> None:
    try:
        fd = inner.open_file(file_name, os.O_RDWR)
    except (FileNotFoundError, StorageDenied):
        return  # gone already, or nothing of ours
    try:
        if not _try_lock(fd):
            return
        try:
            if not is_needed(name) and os.fstat(fd).st_ino == inner.stat(file_name).st_ino:
                inner.remove(file_name)
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # type: ignore[union-attr]
    except FileNotFoundError:
        return
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    if fcntl is None:  # pragma: no cover - Windows
        import filelock

        return bool(filelock.lock_descriptor(fd, blocking=False))
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
