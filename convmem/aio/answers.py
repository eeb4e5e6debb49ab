"""The way of a call through a thread and back to the event loop that it came from."""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# So many calls are answered before the loop gets its turn: with what their tasks do then, some
# 30 µs each, that is about a millisecond.
_ANSWERS_AT_A_TIME = 32


class Call(Generic[T]):
    """A call that a task waits for.

    It is made on a loop, taken by one thread, which gives it its value or its error, and brought
    back by the loop's ``Mailbox``. Nothing of the loop's is touched by a thread.
    """

    __slots__ = ("_is_back", "_mailbox", "_waiter", "context", "error", "value")

    value: T

    def __init__(self) -> None:
        self._mailbox = _mailbox_of(asyncio.get_running_loop())
        self._waiter: asyncio.Future[None] | None = None
        self._is_back = False
        self.context = contextvars.copy_context()
        self.error: BaseException | None = None

    def carry_out(self, function: Callable[[], T]) -> None:
        """Call *function* in this thread, in the context of the task, and send the outcome back."""
        try:
            self.value = self.context.run(function)
        except BaseException as error:  # noqa: BLE001 - it is raised where it belongs
            self.error = error
        send_back((self,))

    async def outcome(self, withdraw: Callable[[], bool], *, settles: bool) -> T:
        """Wait for the outcome, and return or raise it.

        A task that is cancelled takes its call back with *withdraw*, which says whether no thread
        had begun with it. If one had, and it *settles*, the cancellation waits for the end.
        """
        cancelled: asyncio.CancelledError | None = None
        while not self._is_back:
            # A new one each time: a task that is cancelled cancels what it waits for.
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                if self._is_back:
                    raise
                if withdraw() or not settles:
                    raise
                cancelled = cancelled or error
            except BaseException:  # the task itself is being thrown away
                withdraw()
                raise
            finally:
                self._waiter = None
        try:
            if cancelled is not None:
                raise cancelled
            if self.error is not None:
                raise self.error
            return self.value
        finally:
            # Their tracebacks know this frame: nothing should have to wait for the collector.
            self.error = cancelled = None

    def is_from_here(self) -> bool:
        """Whether the running loop is the one that it was made on."""
        return self._mailbox is _mailbox_of(asyncio.get_running_loop())

    def after_this_round(self, function: Callable[[], None]) -> None:
        """Have the loop call *function* soon; once, however many ask for it until then."""
        self._mailbox.call_soon(function)

    def _arrive(self) -> None:
        self._is_back = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def send_back(calls: Iterable[Call[Any]]) -> None:
    """Hand calls that are settled to their loops: one call to each loop for all of them."""
    by_mailbox: dict[Mailbox, list[Call[Any]]] = {}
    for call in calls:
        by_mailbox.setdefault(call._mailbox, []).append(call)
    for mailbox, arrived in by_mailbox.items():
        mailbox.put(arrived)


class Mailbox:
    """What threads have for one loop. It is emptied in slices, between which the loop goes round.

    However many threads answer, the loop is woken once, and never runs more than a slice at once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._guard = Lock()
        self._arrived: deque[Call[Any]] = deque()
        self._soon: set[Callable[[], None]] = set()
        self._is_expected = False  # the loop knows that there is something

    def put(self, calls: Iterable[Call[Any]]) -> None:
        """Leave *calls* for the loop; from any thread. Of a loop that is closed nobody waits."""
        with self._guard:
            self._arrived.extend(calls)
            if self._is_expected:
                return
            self._is_expected = True
        loop = self._loop()
        try:
            if loop is not None:
                loop.call_soon_threadsafe(self._empty)
        except RuntimeError:  # closed: its tasks are gone
            self._arrived.clear()

    def call_soon(self, function: Callable[[], None]) -> None:
        """Have the loop, which runs here, call *function* after what is ready now; once."""
        if function not in self._soon:
            self._soon.add(function)
            asyncio.get_running_loop().call_soon(self._call, function)

    def _call(self, function: Callable[[], None]) -> None:
        self._soon.discard(function)
        function()

    def _empty(self) -> None:
        for _ in range(_ANSWERS_AT_A_TIME):
            try:
                self._arrived.popleft()._arrive()
            except IndexError:
                break
        with self._guard:
            if not self._arrived:
                self._is_expected = False
                return
        loop = self._loop()
        if loop is not None:
            loop.call_soon(self._empty)


_mailboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox] = (
    weakref.WeakKeyDictionary()
)
_making = Lock()


def _mailbox_of(loop: asyncio.AbstractEventLoop) -> Mailbox:
    found = _mailboxes.get(loop)
    if found is None:
        with _making:
            found = _mailboxes.setdefault(loop, Mailbox(loop))
    return found
