"""A bounded number of threads that carry out calls, started when needed, ended when idle."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from time import monotonic
from typing import Any, TypeVar

from convmem.aio.answers import Call
from convmem.errors import UsageError

T = TypeVar("T")

# A thread that had nothing to do for so long ends. Starting one takes some 0.1 ms.
_IDLE_SECONDS = 10.0
# Commits at a time, with a sync and without. More of them store no more, and take the interpreter
# from the loop for longer: measured with 1,000 tasks, which the loop itself keeps busy.
_MOST_SYNCED = 3
_MOST_UNSYNCED = 1
# One that takes longer than this waits for a slow disk or for somebody's lock, and the interpreter
# has no use for it: another may begin.
_PATIENCE_SECONDS = 0.1


class Threads:
    """Carries out calls in at most *most* threads, in the order they came.

    What waits here is only what tasks wait for: each call stands in line for one task, and leaves
    it when that is cancelled. There is nothing else that could pile up.

    Commits, which write what many tasks record, go before calls. Where there is more than one
    thread, one is kept from each of the two for the other: a long search never keeps a turn
    waiting, nor a dead disk all searches.
    """

    def __init__(self, most: int) -> None:
        if type(most) is not int or most < 1:
            raise UsageError(f"threads must be a whole number, at least 1, not {most!r}")
        self.most = most
        self._most_of_a_kind = max(1, most - 1)
        self._takes_more = True
        self.begin()

    def begin(self) -> None:
        """Begin without threads and without calls, as a forked child must."""
        self._guard = threading.Lock()
        self._unsynced = _Line(_MOST_UNSYNCED)
        self._synced = _Line(_MOST_SYNCED)
        self._calls = _Line(self._most_of_a_kind)
        self._running: set[threading.Thread] = set()
        # Of threads that sleep, the latest to fall asleep is woken: those that are not needed end.
        self._sleeping: list[threading.Lock] = []
        self._when_done: list[threading.Lock] = []
        self._are_watched = False  # commits that may not begin yet, by a thread that sleeps

    # --- for tasks -----------------------------------------------------------------------------

    async def carry_out(self, function: Callable[[], T], *, settles: bool) -> T:
        """Call *function* in a thread and return what it returns, or raise what it raises.

        A task that is cancelled before its turn has come goes at once, and *function* is never
        called. Later it waits for the end of it where it *settles*; else that goes on alone.
        """
        call = self.hand_over(function)
        return await call.outcome(lambda: self.withdraw(call), settles=settles)

    def hand_over(self, function: Callable[[], T]) -> Call[T]:
        """Put *function* in line; somebody must wait for the outcome of the call.

        Raises:
            UsageError: The archive is closed.
        """
        call: Call[T] = Call()
        with self._guard:
            self.check_open()
            self._calls.waiting[call] = lambda: call.carry_out(function)
            try:
                self._wake_one()
            except BaseException:
                del self._calls.waiting[call]
                raise
        return call

    def withdraw(self, call: Call[Any]) -> bool:
        """Take *call* out of the line; ``False`` where a thread has it already."""
        with self._guard:
            return self._calls.waiting.pop(call, None) is not None

    def check_open(self) -> None:
        """Raise if no more calls are taken.

        Raises:
            UsageError: The archive is closed.
        """
        if not self._takes_more:
            raise UsageError("the archive is closed", hint="open it again")

    def commit(self, commits: Collection[Callable[[], None]], *, syncs: bool) -> None:
        """Have each of *commits*, which never raise, called in a thread, before all calls.

        Raises:
            RuntimeError: There is no thread, and none can be started.
        """
        line = self._synced if syncs else self._unsynced
        with self._guard:
            line.waiting.update((each, each) for each in commits)
            try:
                self._wake_for_commits()
            except BaseException:
                for each in commits:
                    del line.waiting[each]
                raise

    def close(self) -> None:
        """Take no more calls from now on. What was taken is carried out."""
        with self._guard:
            self._takes_more = False

    def wait(self) -> None:
        """Return once all that was taken is done, and the threads have ended. Blocks."""
        gate = threading.Lock()
        gate.acquire()
        with self._guard:
            if self._is_busy():
                self._when_done.append(gate)
            else:
                gate.release()
        gate.acquire()
        with self._guard:
            sleeping, self._sleeping = self._sleeping, []
            running = list(self._running)
        for each in sleeping:
            each.release()
        for thread in running:
            thread.join()

    def _is_busy(self) -> bool:
        lines = (self._unsynced, self._synced, self._calls)
        return any(line.waiting or line.at_work for line in lines)

    # --- the threads ---------------------------------------------------------------------------

    def _wake_one(self) -> None:
        if self._sleeping:
            self._sleeping.pop().release()
        elif len(self._running) < self.most:
            # A daemon: an archive that nobody closed must not keep the process alive. Nothing that
            # was answered can be lost with it.
            thread = threading.Thread(target=self._work, name="convmem-aio", daemon=True)
            self._running.add(thread)
            try:
                thread.start()
            except BaseException:
                self._running.remove(thread)
                if not self._running:
                    raise
        # Else whoever is at work looks again when it is done.

    def _wake_for_commits(self) -> None:
        """Wake a thread that takes the next commit, or sees to it that it will be.

        One only, which wakes the next: the loop has better things to do.
        """
        if self._are_commits_waiting() and (self._next_line() is not None or not self._are_watched):
            self._wake_one()

    def _work(self) -> None:
        gate = threading.Lock()
        gate.acquire()
        while True:
            with self._guard:
                line = self._next_line()
                if line is not None:
                    what, function = line.waiting.popitem(last=False)
                    line.at_work[what] = monotonic()
                    self._wake_for_commits()
                else:
                    if not self._takes_more and not self._is_busy():
                        self._running.remove(threading.current_thread())
                        return
                    watches = self._are_commits_waiting() and not self._are_watched
                    self._are_watched = self._are_watched or watches
                    self._sleeping.insert(0 if watches else len(self._sleeping), gate)
            if line is None:
                if not self._sleep(gate, watches=watches):
                    return
                continue
            function()
            with self._guard:
                del line.at_work[what]
                del what, function
                if self._when_done and not self._is_busy():
                    for each in self._when_done:
                        each.release()
                    self._when_done.clear()

    def _next_line(self) -> _Line | None:
        """Return the line whose first may be begun."""
        if len(self._unsynced.at_work) + len(self._synced.at_work) < self._most_of_a_kind:
            for line in (self._unsynced, self._synced):
                if line.waiting and line.has_room():
                    return line
        if self._calls.waiting and len(self._calls.at_work) < self._most_of_a_kind:
            return self._calls
        return None

    def _are_commits_waiting(self) -> bool:
        return bool(self._unsynced.waiting or self._synced.waiting)

    def _sleep(self, gate: threading.Lock, *, watches: bool) -> bool:
        """Wait to be woken; ``False`` when the thread is to end. Who *watches* wakes by itself."""
        is_woken = gate.acquire(timeout=_PATIENCE_SECONDS if watches else _IDLE_SECONDS)
        with self._guard:
            if watches:
                self._are_watched = False
            if not is_woken and gate in self._sleeping:
                self._sleeping.remove(gate)
                if not watches:
                    self._running.remove(threading.current_thread())
                return watches
        if not is_woken:
            gate.acquire()  # somebody has just opened it
        return True


class _Line:
    """What waits, in order, and since when what is at work has been.

    Attributes:
        most: How many may be at work at a time.
    """

    __slots__ = ("at_work", "most", "waiting")

    def __init__(self, most: int) -> None:
        self.most = most
        self.waiting: OrderedDict[Any, Callable[[], None]] = OrderedDict()
        self.at_work: dict[Any, float] = {}

    def has_room(self) -> bool:
        """Whether another may begin: those that take too long do not count."""
        if len(self.at_work) < self.most:
            return True
        since = monotonic() - _PATIENCE_SECONDS
        return sum(began > since for began in self.at_work.values()) < self.most
