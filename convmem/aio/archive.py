"""An archive, awaitable: opened once, shared by all tasks. See ``convmem.archive``."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from convmem.aio.answers import Call
from convmem.aio.conversation import Conversation
from convmem.aio.following import Following, Watch
from convmem.aio.recording import Recorder
from convmem.aio.streams import Stream
from convmem.aio.threads import Threads
from convmem.archive import (
    DEFAULT_LOCK_TIMEOUT_SECONDS,
    DEFAULT_NAMESPACE,
    DEFAULT_REMEMBER_SECONDS,
)
from convmem.archive import Archive as SyncArchive
from convmem.errors import UsageError

if TYPE_CHECKING:
    import re
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta
    from types import TracebackType
    from typing import Any, Self

    from convmem.errors import ConvmemError
    from convmem.following import Following as SyncFollowing
    from convmem.log.durability import Durability
    from convmem.log.records import Damage
    from convmem.log.removing.trash import TrashFile
    from convmem.progress import Observer
    from convmem.rules import Rules
    from convmem.search.hits import Hit
    from convmem.search.page import SearchPage
    from convmem.search.upkeep import IndexReport
    from convmem.stores.health import Health, Limits
    from convmem.stores.recorded_lines import RecordedLines
    from convmem.stores.stats import Stats
    from convmem.stores.values import ListRow
    from convmem.turns import Turn

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_THREADS = 8


class Archive:
    """A directory of conversations. Open one per process and share it among tasks and threads.

    Use it as an async context manager, or await ``close``. It belongs to no event loop: several may
    use it, one after the other or at the same time.

    Functions that are given, observers, and the embedder are called in threads, in the context of
    the task that waits; for turns of several tasks that go together, in that of the first.

    Attributes:
        sync: The ``convmem.Archive`` that does the work; it may be used as well, in threads.
    """

    def __init__(self, sync: SyncArchive, *, threads: int = DEFAULT_THREADS) -> None:
        self.sync = sync
        self._threads = Threads(threads)
        self._recorder = Recorder(self._threads)
        self._watch = Watch()
        _all[id(sync)] = self

    @classmethod
    def open(
        cls,
        root: str | os.PathLike[str] | None = None,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        durability: Durability | str = "always",
        lock_timeout_seconds: float = DEFAULT_LOCK_TIMEOUT_SECONDS,
        remember_seconds: float = DEFAULT_REMEMBER_SECONDS,
        observer: Observer | None = None,
        embedder: Any = None,
        threads: int = DEFAULT_THREADS,
    ) -> Archive:
        """Open the archive at *root*, as ``convmem.Archive.open``. Touches no disk, starts nothing.

        Args:
            threads: How many may be at work at once; they are started when they are needed, and end
                when they are not. One more, if somebody follows.

        >>> async with aio.Archive.open("conversations") as archive:
        ...     await archive.conversation("oslo-trip").record("user", "How do I get to Oslo?")
        """
        return cls(
            SyncArchive.open(
                root,
                namespace=namespace,
                durability=durability,
                lock_timeout_seconds=lock_timeout_seconds,
                remember_seconds=remember_seconds,
                observer=observer,
                embedder=embedder,
            ),
            threads=threads,
        )

    @classmethod
    def of(cls, archive: SyncArchive | Archive) -> Archive:
        """Return the async face of *archive*: the same one for all who ask, and of one, itself.

        Raises:
            UsageError: It is no archive, such as the path of one.
        """
        if isinstance(archive, Archive):
            return archive
        if not isinstance(archive, SyncArchive):
            raise UsageError(
                f"an archive is needed, not {type(archive).__name__}",
                hint="open one with Archive.open(path), and hand that over",
            )
        with _finding:
            return _all.get(id(archive)) or cls(archive)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Take no more calls, wait for those that were made, sync what waits, and let all go.

        The loop runs meanwhile. Those who follow stop where they are, which need not be the end of
        the log; ``cursor`` tells where that is. Closing twice is harmless; the second waits for the
        first.

        Raises:
            DurabilityUnknown: A sync failed, now or in the background since the last answer.
        """
        self._threads.close()
        self._recorder.hand_over()
        self._watch.close()

        def finish() -> None:
            self._threads.wait()
            self._watch.wait()
            self.sync.close()

        call: Call[None] = Call()
        threading.Thread(
            target=call.carry_out, args=(finish,), name="convmem-aio-close", daemon=True
        ).start()
        await call.outcome(lambda: False, settles=True)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call *function* in one of the archive's threads and return what it returns.

        For steps that read and write in one go with the sync API. A task that is cancelled while it
        waits for a thread goes at once, and *function* is never called; later the cancellation
        waits until it has come to its end, so that its outcome is never in doubt.
        """
        return await self._threads.carry_out(lambda: function(*args, **kwargs), settles=True)

    async def look(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what ``run`` does with a function that only reads: a cancellation does not wait."""
        return await self._threads.carry_out(lambda: function(*args, **kwargs), settles=False)

    async def flush(self) -> None:
        """Return once everything recorded so far under ``interval`` survives a power cut."""
        await self.run(self.sync.flush)

    def conversation(
        self,
        continuation_id: str,
        *,
        namespace: str | None = None,
        durability: Durability | str | None = None,
    ) -> Conversation:
        """Return the conversation of that id, there or not yet. Touches no disk.

        Raises:
            InvalidContinuationId: Nothing can have that id.
        """
        return Conversation(
            self,
            self.sync.conversation(continuation_id, namespace=namespace, durability=durability),
        )

    def conversations(self, *, namespace: str | None = None) -> Stream[Conversation]:
        """Return an async iterator over the conversations of a namespace, in no order."""
        return Stream(
            self._threads,
            lambda: self.sync.conversations(namespace=namespace),
            given=lambda found: Conversation(self, found),
        )

    async def overview(
        self,
        *,
        namespace: str | None = None,
        count: bool = False,
        failed: Callable[[str, ConvmemError], None] | None = None,
    ) -> list[ListRow]:
        """Return what ``convmem list`` shows of a namespace, as ``convmem.Archive.overview``."""
        return await self.look(self.sync.overview, namespace=namespace, count=count, failed=failed)

    async def stats(
        self,
        *,
        namespace: str | None = None,
        continuation_ids: Iterable[str] | None = None,
        failed: Callable[[str, ConvmemError], None] | None = None,
    ) -> Stats:
        """Return figures of a namespace, or of some of it, as ``convmem.Archive.stats``."""
        return await self.look(
            self.sync.stats, namespace=namespace, continuation_ids=continuation_ids, failed=failed
        )

    async def health(self, limits: Limits | None = None) -> Health:
        """Return how the whole archive is, as ``convmem.Archive.health``."""
        return await self.look(self.sync.health, limits)

    def grep(
        self,
        pattern: str | re.Pattern[str],
        *,
        continuation_ids: Iterable[str] | None = None,
        namespace: str | None = None,
        ignore_case: bool | None = None,
        fixed: bool = False,
        invert: bool = False,
        roles: Iterable[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        max_per_conversation: int | None = None,
        before: int = 0,
        after: int = 0,
    ) -> Stream[Hit]:
        """Return an async iterator over the turns whose text holds *pattern*, as they are found.

        As ``convmem.Archive.grep``, whose errors come when the first hit is asked for.
        """
        return Stream(
            self._threads,
            lambda: self.sync.grep(
                pattern,
                continuation_ids=continuation_ids,
                namespace=namespace,
                ignore_case=ignore_case,
                fixed=fixed,
                invert=invert,
                roles=roles,
                since=since,
                until=until,
                max_per_conversation=max_per_conversation,
                before=before,
                after=after,
            ),
        )

    async def namespaces(self) -> list[str]:
        """Return the names of all namespaces, sorted."""
        return await self.look(self.sync.namespaces)

    async def expect_many_compactions(self, *, namespace: str | None = None) -> None:
        """Say that many conversations are about to be compacted, so that what is common to them
        is looked up once."""
        await self.run(self.sync.expect_many_compactions, namespace=namespace)

    async def record_to_many(
        self, turns: Iterable[tuple[str, Any]], *, namespace: str | None = None
    ) -> list[Turn | Exception]:
        """Append (continuation id, turn) pairs, each for itself, as
        ``convmem.Archive.record_to_many``."""
        return await self.run(self.sync.record_to_many, turns, namespace=namespace)

    async def record_lines(
        self,
        lines: Sequence[bytes | None],
        continuation_id: str | None = None,
        *,
        namespace: str | None = None,
    ) -> RecordedLines:
        """Append turns given as JSON lines, as ``convmem.Archive.record_lines``."""
        return await self.run(self.sync.record_lines, lines, continuation_id, namespace=namespace)

    async def search(
        self,
        query: str,
        *,
        limit: int = 10,
        continuation_ids: Iterable[str] | None = None,
        namespace: str | None = None,
        all_namespaces: bool = False,
        roles: Iterable[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        meta: Mapping[str, str] | None = None,
        neighbours: int = 0,
        grouped: bool = False,
        cursor: str | None = None,
        semantic: bool = False,
    ) -> SearchPage:
        """Return the turns that fit *query* best, as ``convmem.Archive.search``."""
        return await self.look(
            self.sync.search,
            query,
            limit=limit,
            continuation_ids=continuation_ids,
            namespace=namespace,
            all_namespaces=all_namespaces,
            roles=roles,
            since=since,
            until=until,
            meta=meta,
            neighbours=neighbours,
            grouped=grouped,
            cursor=cursor,
            semantic=semantic,
        )

    async def index(
        self, namespace: str | None = None, *, rebuild: bool = False, semantic: bool = False
    ) -> IndexReport:
        """Bring the index that ``search`` uses in step now, as ``convmem.Archive.index``."""
        return await self.run(self.sync.index, namespace, rebuild=rebuild, semantic=semantic)

    async def drop_index(self, namespace: str | None = None, *, semantic: bool = False) -> int:
        """Remove the index of a namespace and return its bytes."""
        return await self.run(self.sync.drop_index, namespace, semantic=semantic)

    async def trash(self, *, namespace: str | None = None) -> list[TrashFile]:
        """Return what is in the trash of a namespace, oldest first."""
        return await self.look(self.sync.trash, namespace=namespace)

    def trash_turns(
        self,
        file: TrashFile,
        *,
        namespace: str | None = None,
        on_damage: Callable[[Damage], None],
    ) -> Stream[Turn]:
        """Return an async iterator over the turns in one of the files that ``trash`` returned."""
        return Stream(
            self._threads,
            lambda: self.sync.trash_turns(file, namespace=namespace, on_damage=on_damage),
        )

    async def purge_trash(
        self,
        older_than: timedelta,
        *,
        namespace: str | None = None,
        only: Collection[str] | None = None,
        dry_run: bool = False,
        now: datetime | None = None,
    ) -> list[TrashFile]:
        """Remove for good what has been in the trash for so long, as
        ``convmem.Archive.purge_trash``."""
        return await self.run(
            self.sync.purge_trash,
            older_than,
            namespace=namespace,
            only=only,
            dry_run=dry_run,
            now=now,
        )

    async def rules(self) -> Rules:
        """Return what the archive's ``convmem.toml`` says of retention, read now."""
        return await self.look(self.sync.rules)

    def _following(self, followed: SyncFollowing, idle_timeout: float | None) -> Following:
        """Return *followed* for ``async for``; see ``Conversation.follow``."""
        return Following(followed, idle_timeout, self._watch, self._threads)

    def _begin_in_child(self) -> None:
        """In a forked child: the threads, and the tasks that waited, stayed with the parent."""
        self._threads.begin()
        self._recorder.begin()
        self._watch.begin()


# By the archive beneath. None is kept by this alone, and while it is there, so is its archive.
_all: weakref.WeakValueDictionary[int, Archive] = weakref.WeakValueDictionary()
_finding = threading.Lock()


def _after_fork_in_child() -> None:
    global _finding
    _finding = threading.Lock()
    for archive in tuple(_all.values()):
        archive._begin_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
