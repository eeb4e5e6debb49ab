"""The promise of the ``interval`` policy, kept by a timer when nobody comes to keep it.

One thread for all logs of a process, started with the first turn that waits. What waits is also
synced at close, at exit and on SIGTERM.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time

from convmem.errors import DurabilityUnknown
from convmem.log.durability import sync_in_turns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from convmem.log.durability import OpenLog
    from convmem.log.files import Folder


class Flusher:
    """Knows every open log with turns that wait, and when each must be synced at the latest."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._due: dict[OpenLog, tuple[float, object]] = {}
        self._failures: dict[object, DurabilityUnknown] = {}
        self._thread: threading.Thread | None = None

    def expect(self, log: OpenLog, seconds: float, owner: object, *, most: int) -> None:
        """Sync *log* within *seconds* from its first waiting turn on, in the name of *owner*.

        Each log that waits is held open. Where more than *most* would wait, the one that has
        waited longest is synced here and now.

        Raises:
            DurabilityUnknown: That sync failed.
        """
        with self._wake:
            if log in self._due:
                return
            log.use()
            self._due[log] = (log.dirty_since + seconds, owner)
            oldest = next(iter(self._due)) if len(self._due) > most else None
            if oldest is not None:
                del self._due[oldest]
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="convmem-flusher", daemon=True
                )
                self._thread.start()
            self._wake.notify()
        failure = None if oldest is None else _synced(oldest)
        if failure is not None:
            raise failure

    def flush(self, owner: object = None) -> None:
        """Sync all that waits for *owner*, or for anybody, now.

        Raises:
            DurabilityUnknown: The first failure, also of the timer since; all have been tried.
        """
        with self._wake:
            taken = [log for log, (_, of) in self._due.items() if owner is None or of is owner]
            for log in taken:
                del self._due[log]
            failure = self._failures.pop(owner, None)
        _sync_folders(taken)
        for log in taken:
            failure = _synced(log) or failure
        if failure is not None:
            raise failure

    def flush_from_signal(self) -> None:
        """Sync what waits without taking a lock: the thread that was interrupted may hold it."""
        for log in list(self._due):
            try:
                sync_in_turns(log.fd)
            except OSError as error:
                log.failed = str(error)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._due:
                    self._wake.wait()
                log, (due, owner) = min(self._due.items(), key=lambda item: item[1][0])
                left = due - time.monotonic()
                if left > 0:
                    self._wake.wait(left)
                    continue
                del self._due[log]
            failure = _synced(log)
            if failure is not None:
                # The next append to that log raises; so does closing its archive.
                with self._wake:
                    self._failures[owner] = failure


def _sync_folders(logs: list[OpenLog]) -> None:
    """Sync the names of new logs, each folder once for all that are in it.

    Where that fails, each log tries it for itself and says so.
    """
    new: dict[Folder, list[OpenLog]] = {}
    for log in logs:
        if not log.folder_synced:
            new.setdefault(log.folder, []).append(log)
    for folder, inside in new.items():
        if len(inside) > 1:
            try:
                folder.sync()
            except OSError:
                continue
            for log in inside:
                log.folder_synced = True


def _synced(log: OpenLog) -> DurabilityUnknown | None:
    try:
        log.sync(log.written)
    except DurabilityUnknown as error:
        return error
    finally:
        log.let_go()
    return None


_flusher: Flusher | None = None
_made = threading.Lock()


def flusher() -> Flusher:
    """Return the flusher of this process, making it the first time."""
    global _flusher
    with _made:
        if _flusher is None:
            _flusher = Flusher()
        return _flusher


def flush_on_sigterm() -> None:
    """Sync what waits when SIGTERM ends the process, unless the program handles it itself.

    Does nothing outside the main thread, where Python takes no signal handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    if _flusher is not None:
        _flusher.flush_from_signal()
    # As if we had never been here: the parent sees a process that SIGTERM ended.
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _flush_at_exit() -> None:
    if _flusher is not None:
        _flusher.flush()


def _forget_after_fork() -> None:
    # The thread, and what waited for it, stayed with the parent.
    global _flusher, _made
    _flusher = None
    _made = threading.Lock()


atexit.register(_flush_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
