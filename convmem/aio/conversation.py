"""One conversation, awaitable: record, read, follow. See ``convmem.conversation``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convmem import turns as turns_module
from convmem.aio.following import Following
from convmem.aio.recording import Recording
from convmem.aio.streams import Stream
from convmem.aio.upkeep import Upkeep
from convmem.log.durability import Durability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime, timedelta
    from typing import Any

    from convmem.aio.archive import Archive
    from convmem.context.tokens import TokenCounter
    from convmem.context.window import ContextWindow, Pinned
    from convmem.conversation import Conversation as SyncConversation
    from convmem.conversation import TurnList
    from convmem.log.follow import Cursor
    from convmem.log.records import Damage
    from convmem.stores.values import Description
    from convmem.turns import Draft, Turn


class Conversation(Upkeep):
    """All turns under one continuation id.

    Holds no turns and no open files, and belongs to no event loop: keep it, share it among tasks,
    make as many as you like.

    Attributes:
        sync: The ``convmem.Conversation`` that does the work.
        archive: Where it is.
    """

    __slots__ = ("archive", "sync")

    def __init__(self, archive: Archive, sync: SyncConversation) -> None:
        self.archive = archive
        self.sync = sync

    def __repr__(self) -> str:
        return f"aio.{self.sync!r}"

    @property
    def continuation_id(self) -> str:
        """Its id."""
        return self.sync.continuation_id

    @property
    def namespace(self) -> str:
        """The tenant that it belongs to."""
        return self.sync.namespace

    async def record(
        self,
        role: str,
        content: Any,
        *,
        id: str | None = None,
        meta: Mapping[str, Any] | None = None,
        ts: datetime | str | float | None = None,
        critical: bool = False,
        **extra: Any,
    ) -> Turn:
        """Append one turn and return it as stored, once the archive's durability holds.

        As ``convmem.Conversation.record``, with the same errors. Turns that other tasks record at
        the same time go with the same write and sync. Calls are stored in the order in which they
        began. What is given must not be changed before the answer is there.

        A task that is cancelled while its turn waits goes at once, and nothing is stored. Once the
        writing has begun, the cancellation waits until the turn is stored, or is not.
        """

        def make() -> list[Draft]:
            return [turns_module.draft(role, content, id=id, meta=meta, ts=ts, extra=extra)]

        return (await self._record(make, critical))[0]

    async def record_many(self, turns: Iterable[Any], *, critical: bool = False) -> list[Turn]:
        """Append *turns* as one atomic batch: every reader, after any crash, sees all or none.

        As ``convmem.Conversation.record_many``; order and cancellation are as ``record`` has them.
        *turns* is iterated in a thread.
        """
        return await self._record(lambda: turns_module.drafts_from(turns), critical)

    async def tail(
        self,
        count: int = 10,
        *,
        roles: Iterable[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> TurnList:
        """Return the last *count* turns, oldest first, as ``convmem.Conversation.tail``."""
        return await self.archive.look(self.sync.tail, count, roles=roles, since=since, until=until)

    def turns(
        self,
        *,
        after: int | Cursor = 0,
        since: datetime | None = None,
        until: datetime | None = None,
        roles: Iterable[str] | None = None,
        on_damage: Callable[[Damage], None] | None = None,
    ) -> Stream[Turn]:
        """Return an async iterator over the turns in order, as of now; memory stays flat.

        As ``convmem.Conversation.turns``, but it opens the log when the first turn is asked for,
        and raises ``ConversationNotFound`` then. Read in blocks of at most 256 turns.
        """
        return Stream(
            self.archive._threads,
            lambda: self.sync.stored_turns(
                after=after, since=since, until=until, roles=roles, damaged=on_damage
            ),
            size_of=lambda stored: len(stored.line),
            given=lambda stored: stored.turn,
        )

    def follow(
        self,
        *,
        after: int | Cursor | str | None = None,
        roles: Iterable[str] | None = None,
        idle_timeout: float | None = None,
    ) -> Following:
        """Return an async iterator over every committed turn, once and in order, as it comes.

        As ``convmem.Conversation.follow``. All who follow share one thread of the archive's; none
        of them keeps others from recording.
        """
        return self.archive._following(
            self.sync.follow(after=after, roles=roles, idle_timeout=idle_timeout), idle_timeout
        )

    async def cursor(self) -> Cursor:
        """Return the cursor behind the last turn, for ``follow`` and ``turns`` to go on from."""
        return await self.archive.look(self.sync.cursor)

    async def state(self) -> dict[str, Any]:
        """Return the state beside the turns, as ``convmem.Conversation.state``."""
        return await self.archive.look(self.sync.state)

    async def update_state(
        self, changes: Mapping[str, Any], *, ttl: timedelta | float | None = None
    ) -> dict[str, Any]:
        """Merge *changes* into the state, as ``convmem.Conversation.update_state``."""
        return await self.archive.run(self.sync.update_state, changes, ttl=ttl)

    async def clear_state(self) -> bool:
        """Remove the state; say whether there was one."""
        return await self.archive.run(self.sync.clear_state)

    async def context(
        self,
        *,
        max_tokens: int | None = None,
        max_turns: int | None = None,
        pinned: Pinned = (),
        counter: TokenCounter | None = None,
        form: str = "messages",
        query: str | None = None,
        recall_tokens: int | None = None,
    ) -> ContextWindow:
        """Return the newest turns that fit a budget, as ``convmem.Conversation.context``."""
        return await self.archive.look(
            self.sync.context,
            max_tokens=max_tokens,
            max_turns=max_turns,
            pinned=pinned,
            counter=counter,
            form=form,
            query=query,
            recall_tokens=recall_tokens,
        )

    async def path(self) -> str:
        """Return where the conversation's log is, or would be. For people and their tools."""
        return await self.archive.look(lambda: self.sync.path)

    async def exists(self) -> bool:
        """Whether the conversation is there; it is also when a policy has dropped all its turns."""
        return await self.archive.look(self.sync.exists)

    async def describe(self, *, count: bool = False) -> Description:
        """Return size, times and last ``seq``, from the log's ends; with *count* read it all."""
        return await self.archive.look(self.sync.describe, count=count)

    async def _record(self, make: Callable[[], list[Draft]], critical: bool) -> list[Turn]:
        durability = Durability.ALWAYS if critical else self.sync._durability
        return await self.archive._recorder.record(Recording(self.sync, make, durability))
