"""Following any number of conversations with one thread, which looks for all who wait."""

from __future__ import annotations

import heapq
import itertools
import threading
import weakref
from asyncio import CancelledError
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from convmem.aio.answers import Call, send_back
from convmem.aio.streams import Iterating
from convmem.errors import UsageError
from convmem.log.follow import LONGEST_WAIT_SECONDS, SHORTEST_WAIT_SECONDS

if TYPE_CHECKING:
    from convmem.aio.threads import Threads
    from convmem.following import Following as SyncFollowing
    from convmem.following import Given
    from convmem.log.follow import Cursor
    from convmem.turns import Turn

# What one look brings at most: the others that follow wait for it.
_MOST_TURNS = 256
_MOST_BYTES = 1 << 20
_IDLE_SECONDS = 10.0


class Following(Iterating):
    """Turns as they come, for ``async for``. Any number of them share one thread.

    It stops without an error where the archive is closed, wherever it is then; see ``cursor``.
    ``aclose`` ends it and gives back what is held open; so does the last reference, after a
    ``break``. A task that is cancelled while it waits misses nothing: what is held open is given
    back, and who asks next goes on from there. One task at a time may ask.
    """

    def __init__(
        self, followed: SyncFollowing, idle_timeout: float | None, watch: Watch, threads: Threads
    ) -> None:
        self._place = _Place(followed, idle_timeout)
        self._watch = watch
        self._threads = threads
        self._is_asked = False
        self._cursor = followed.cursor
        self._missed = self._diverged = 0

    def __del__(self) -> None:
        # Nobody waits, so the thread is not at work on it.
        self._place.followed.close()

    @property
    def cursor(self) -> Cursor:
        """Behind the last turn that was given; ``chat.follow(after=cursor)`` goes on from there."""
        return self._cursor

    @property
    def diverged(self) -> int:
        """How often the log was removed or made anew, so that the iteration began again."""
        return self._diverged

    @property
    def missed(self) -> int:
        """How many turns a compaction, or a deletion, took before they were seen."""
        return self._missed

    async def __anext__(self) -> Turn:
        if self._is_asked:
            raise UsageError("another task follows with the same object", hint="open one each")
        place = self._place
        if not place.block and not place.is_over:
            call: Call[None] = Call()
            self._watch.ask(place, call)
            self._is_asked = True
            try:
                await call.outcome(lambda: self._watch.withdraw(place), settles=False)
            except CancelledError:
                self._watch.withdraw(place)  # also where the turns had just come
                raise
            finally:
                self._is_asked = False
        if not place.block:
            raise StopAsyncIteration
        given = place.block.popleft()
        self._cursor, self._missed, self._diverged = given.cursor, given.missed, given.diverged
        return given.turn

    async def attach(self) -> None:
        """Find the place in the log now, instead of when the first turn is asked for."""
        await self._threads.carry_out(self._place.followed.attach, settles=False)

    async def aclose(self) -> None:
        """End the iteration, also for who waits, and give back what is held open."""
        if not self._place.is_closed:
            self._place.block.clear()
            call: Call[None] = Call()
            self._watch.close_place(self._place, call)
            await call.outcome(lambda: False, settles=True)


class _Place:
    """Where somebody who follows is."""

    def __init__(self, followed: SyncFollowing, idle_seconds: float | None) -> None:
        self.followed = followed
        self.block: deque[Given] = deque()
        self.asked: Call[None] | None = None  # by the task that waits
        self.closers: list[Call[None]] = []
        self.is_over = False
        self.is_closed = False
        self.wait = SHORTEST_WAIT_SECONDS
        self.idle_seconds = idle_seconds
        self.idle_since: float | None = None
        self.due: tuple[float, int] | None = None  # its valid place in the queue


class Watch:
    """One thread that looks, in turn, at the logs that somebody waits for."""

    def __init__(self) -> None:
        self._places: weakref.WeakSet[_Place] = weakref.WeakSet()
        self.begin()

    def begin(self) -> None:
        """Begin without a thread, as a forked child must."""
        self._wake = threading.Condition(threading.Lock())
        self._queue: list[tuple[float, int, _Place]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def ask(self, place: _Place, call: Call[None]) -> None:
        """Settle *call* once *place* has turns in its block, or is over."""
        with self._wake:
            if self._is_closed:
                raise UsageError("the archive is closed", hint="open it again")
            place.asked = call
            if place.idle_since is None:
                place.idle_since = monotonic()
            place.wait = SHORTEST_WAIT_SECONDS
            self._put(place, 0.0)

    def withdraw(self, place: _Place) -> bool:
        """Wait no more for *place*; what it holds open is given back soon."""
        with self._wake:
            place.asked = None
            self._put(place, 0.0)
        return True

    def close_place(self, place: _Place, call: Call[None]) -> None:
        """End *place*, and settle *call* once nothing of it is open."""
        with self._wake:
            place.closers.append(call)
            self._put(place, 0.0)

    def close(self) -> None:
        """End all places. The thread ends once that is done."""
        with self._wake:
            self._is_closed = True
            for place in tuple(self._places):
                place.is_over = True
                if not place.is_closed:
                    self._put(place, 0.0)
            self._wake.notify()

    def wait(self) -> None:
        """Return once the thread has ended, after ``close``. Blocks."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _put(self, place: _Place, due: float) -> None:
        number = next(self._numbers)
        place.due = (due, number)
        self._places.add(place)
        heapq.heappush(self._queue, (due, number, place))
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="convmem-aio-follow", daemon=True)
            thread.start()
            self._thread = thread
        elif self._queue[0][1] == number:
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                place = self._next()
                if place is None:
                    self._thread = None
                    return
            done = self._attend(place)
            send_back(done)
            del place, done

    def _next(self) -> _Place | None:
        """Wait for the next place that is due; ``None`` when there was none for long."""
        while True:
            if not self._queue:
                if self._is_closed:
                    return None
                if not self._wake.wait(_IDLE_SECONDS) and not self._queue:
                    return None
                continue
            due, number, place = self._queue[0]
            if place.due == (due, number):
                left = due - monotonic()
                if left > 0:
                    del place
                    self._wake.wait(left)
                    continue
                place.due = None
                heapq.heappop(self._queue)
                return place
            heapq.heappop(self._queue)  # it was put in again since
            del place

    def _attend(self, place: _Place) -> list[Call[None]]:
        """Do for *place* what is due; return the calls that are settled by it."""
        with self._wake:
            asked, closers = place.asked, place.closers
            place.closers = []
            ends = bool(closers) or place.is_over
        if ends:
            place.is_over = place.is_closed = True
            place.followed.close()
            return self._settled(place, closers)
        if asked is None:
            place.followed.rest()
            return []
        error: BaseException | None = None
        found: list[Given] = []
        is_new = False
        try:
            found, is_new = place.followed.at_hand(most=_MOST_TURNS, most_bytes=_MOST_BYTES)
        except BaseException as raised:  # noqa: BLE001 - it is raised where it belongs
            error = raised
        now = monotonic()
        if found:
            place.block.extend(found)
            place.idle_since = None
        if found or error is not None:
            return self._settled(place, [], error)
        if is_new:  # all of it was filtered out
            place.idle_since, place.wait = now, SHORTEST_WAIT_SECONDS
        with self._wake:
            if place.due is None and place.asked is asked:
                wait = place.wait
                if place.idle_seconds is not None:
                    idle = now - (place.idle_since or now)
                    if idle >= place.idle_seconds:
                        place.is_over = True
                        wait = 0.0
                    wait = min(wait, place.idle_seconds - idle)
                place.wait = min(place.wait * 1.2, LONGEST_WAIT_SECONDS)
                self._put(place, now + wait)
        return []

    def _settled(
        self, place: _Place, closers: list[Call[None]], error: BaseException | None = None
    ) -> list[Call[None]]:
        with self._wake:
            asked, place.asked = place.asked, None
        for each in closers:
            each.value = None
        if asked is None:
            return closers
        asked.value, asked.error = None, error
        return [*closers, asked]
