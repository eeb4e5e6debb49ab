"""What an iterator yields, for ``async for``: fetched in blocks, when somebody asks for more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Iterator
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from convmem.errors import UsageError

if TYPE_CHECKING:
    from types import TracebackType

    from convmem.aio.answers import Call
    from convmem.aio.threads import Threads

S = TypeVar("S")
T = TypeVar("T")

# A block ends with whichever comes first: a way through a thread is not paid for each item, and the
# first hit of a long search is not kept back.
_MOST_ITEMS = 256
_MOST_BYTES = 1 << 20
_MOST_SECONDS = 0.005


class Iterating(ABC):
    """Is iterated once, and closed by an ``async with`` block around it."""

    @abstractmethod
    async def aclose(self) -> None:
        """End the iteration and give back what is held open. Closing twice is harmless."""

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


class Stream(Iterating, Generic[T]):
    """Yields items in order. Whoever takes them slowly has them read slowly: nothing is read ahead
    but one block.

    ``aclose`` gives back what is held open; so does the last reference, after a ``break``. Where a
    task is cancelled while it waits, nothing is lost: who asks next goes on from there. One task at
    a time may ask. Errors of the call itself, such as a conversation that is not there, come when
    the first item is asked for.
    """

    def __init__(
        self,
        threads: Threads,
        begin: Callable[[], Iterator[S]],
        *,
        size_of: Callable[[S], int] | None = None,
        given: Callable[[S], T] | None = None,
    ) -> None:
        self._threads = threads
        self._source: _Source[T] = _Source(begin, size_of, given)
        self._fetching: Call[None] | None = None
        self._is_asked = False

    async def __anext__(self) -> T:
        if self._is_asked:
            raise UsageError("another task is waiting for the same stream", hint="open one each")
        block = self._source.block
        if not block and self._source.is_open:
            self._is_asked = True
            try:
                await self._fetch()
            finally:
                self._is_asked = False
        if not block:
            raise StopAsyncIteration
        return block.popleft()

    async def aclose(self) -> None:
        """End the iteration and give back what is held open. Closing twice is harmless."""
        if self._source.is_open:
            await self._threads.carry_out(self._source.close, settles=True)

    async def _fetch(self) -> None:
        call = self._fetching
        if call is None or not call.is_from_here():
            call = self._fetching = self._threads.hand_over(self._source.fill)
        waiting = call
        try:
            await call.outcome(lambda: self._take_back(waiting), settles=False)
        except CancelledError:
            raise  # what is being read is for whoever asks next
        except BaseException:
            self._fetching = None
            raise
        self._fetching = None

    def _take_back(self, call: Call[None]) -> bool:
        was_waiting = self._threads.withdraw(call)
        if was_waiting:
            self._fetching = None
        return was_waiting


class _Source(Generic[T]):
    """An iterator, and the block of it that was read and not yet given."""

    def __init__(
        self,
        begin: Callable[[], Iterator[Any]],
        size_of: Callable[[Any], int] | None,
        given: Callable[[Any], T] | None,
    ) -> None:
        self.block: deque[T] = deque()
        self.is_open = True
        self._begin = begin
        self._size_of = size_of
        self._given = given
        self._items: Iterator[Any] | None = None
        self._error: BaseException | None = None  # that came behind what is in the block
        self._guard = Lock()

    def fill(self) -> None:
        """Read a block, unless there is one. Empty is only the last."""
        with self._guard:
            if self.block or not self.is_open:
                return
            error, self._error = self._error, None
            try:
                if error is not None:
                    raise error
                if self._items is None:
                    self._items = self._begin()
                self._read(self._items)
            except BaseException as error:
                if self.block:
                    self._error = error
                    return
                self._close()
                raise
            if not self.block:
                self._close()

    def _read(self, items: Iterator[Any]) -> None:
        size = 0
        enough = monotonic() + _MOST_SECONDS
        for item in items:
            self.block.append(item if self._given is None else self._given(item))
            size += 0 if self._size_of is None else self._size_of(item)
            if len(self.block) >= _MOST_ITEMS or size >= _MOST_BYTES or monotonic() >= enough:
                return

    def close(self) -> None:
        """Give back what is held open, once nobody reads."""
        with self._guard:
            self.block.clear()
            self._close()

    def _close(self) -> None:
        self.is_open = False
        items, self._items = self._items, None
        close = getattr(items, "close", None)
        if close is not None:
            close()
