"""A store that stands still when a test wants it to, and counts what it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from convmem import aio

PATIENCE_SECONDS = 30.0


class SlowDisk:
    """Stands before the store of an archive. While it is *held*, no append gets through."""

    def __init__(self, archive: aio.Archive) -> None:
        self._store = archive.sync._store
        self._open = threading.Event()
        self._open.set()
        self.arrived = 0  # appends that came as far as here
        self.sizes: list[tuple[str, int]] = []  # of each: whose, how many turns
        self.error: Exception | None = None
        archive.sync._store = self  # type: ignore[assignment]  # it does the same

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold all appends until the block ends."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def append(self, namespace: str, name: str, drafts: Any, **how: Any) -> Any:
        """Wait, then do it, or raise what there is to raise."""
        self._pass(name, len(drafts))
        return self._store.append(namespace, name, drafts, **how)

    def append_to_many(self, groups: Any, **how: Any) -> Any:
        """The same."""
        self._pass(groups[0].continuation_id, sum(len(group.drafts) for group in groups))
        return self._store.append_to_many(groups, **how)

    def _pass(self, name: str, turns: int) -> None:
        self.arrived += 1
        self.sizes.append((name, turns))
        assert self._open.wait(PATIENCE_SECONDS)
        if self.error is not None:
            raise self.error

    async def has_arrived(self, count: int) -> None:
        """Wait until so many appends stand before the disk."""
        await until(lambda: self.arrived >= count)


async def until(is_so: Any) -> None:
    """Let the loop run until *is_so*; fail when it does not come to be so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_so():
            await asyncio.sleep(0.001)


async def rounds(count: int = 20) -> None:
    """Let the loop go round so many times."""
    for _ in range(count):
        await asyncio.sleep(0)
