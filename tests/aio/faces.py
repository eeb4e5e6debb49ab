"""Both faces of an archive behind one: the sync one, and the async one driven from a loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from convmem import Archive, aio


class Driven:
    """An object of the async face that is used as its sync twin is.

    Each call is a run of the loop; what comes by ``async for`` is iterated as usual.
    """

    def __init__(self, runner: asyncio.Runner, inner: Any) -> None:
        self._runner = runner
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name == "path":  # a property there, since it asks the disk
            return self._given(value())
        if not inspect.ismethod(value):
            return value
        return lambda *given, **named: self._given(value(*given, **named))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self._given(self._runner.run(_next_of(self._inner)))
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Driven:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it, whatever that is called there."""
        close = getattr(self._inner, "aclose", None) or self._inner.close
        self._runner.run(_awaited(close()))

    def _given(self, value: Any) -> Any:
        if inspect.isawaitable(value):
            value = self._runner.run(_awaited(value))
        if isinstance(value, aio.Conversation) or hasattr(value, "__anext__"):
            return Driven(self._runner, value)
        return value


async def _awaited(value: Any) -> Any:
    return await value


async def _next_of(iterator: Any) -> Any:
    return await anext(iterator)


class Opener:
    """Opens archives with one of the two faces, and closes them."""

    def __init__(self, face: str) -> None:
        self.face = face
        self._runner = asyncio.Runner()
        self._closing: list[Callable[[], None]] = []

    def __call__(self, root: str, **options: Any) -> Any:
        """Open the archive at *root*."""
        options.setdefault("durability", "none")
        opened: Any
        if self.face == "sync":
            opened = Archive.open(root, **options)
        else:
            opened = Driven(self._runner, aio.Archive.open(root, **options))
        self._closing.append(opened.close)
        return opened

    def together(self, calls: list[Callable[[], Any]]) -> list[Any]:
        """Make all calls: at once where that can be; return values and errors in their order."""
        if self.face == "sync":
            return [_tried(call) for call in calls]

        async def all_at_once() -> list[Any]:
            return await asyncio.gather(*(call() for call in calls), return_exceptions=True)

        return self._runner.run(all_at_once())

    def close(self) -> None:
        """Close what was opened, and the loop."""
        for close in self._closing:
            close()
        self._runner.close()


def _tried(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return error
