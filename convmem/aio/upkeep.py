"""What keeps one conversation in order, awaitable. See ``convmem.upkeep``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from datetime import datetime, timedelta
    from typing import Any

    from convmem.aio.archive import Archive
    from convmem.conversation import Conversation as SyncConversation
    from convmem.log.checks.repair_plan import RepairReport
    from convmem.log.checks.verify_report import Finding, VerifyReport
    from convmem.log.compressed.cold_report import CompressionReport
    from convmem.log.removing.removal import Removal
    from convmem.log.removing.restore import Restoration
    from convmem.log.removing.scrub_plan import Scrubbed
    from convmem.log.removing.survey import CompactionReport
    from convmem.log.removing.tombstones import Buried
    from convmem.retention import RetentionPolicy
    from convmem.turns import Turn


class Upkeep:
    """The part of a ``Conversation`` that removes, brings back, checks and repairs.

    A task that is cancelled while one of these is at work waits for its end. Functions that are
    given are called in a thread.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        sync: SyncConversation
        archive: Archive

    async def compact(
        self,
        policy: RetentionPolicy,
        *,
        discard: bool = False,
        dry_run: bool = False,
        now: datetime | None = None,
        summarize: Callable[[Iterator[Turn]], str] | None = None,
    ) -> CompactionReport:
        """Let the turns go that *policy* does not keep, as ``convmem.Conversation.compact``."""
        return await self.archive.run(
            self.sync.compact,
            policy,
            discard=discard,
            dry_run=dry_run,
            now=now,
            summarize=summarize,
        )

    async def remove(
        self, ids: Iterable[str], *, reason: str = "asked", now: datetime | None = None
    ) -> list[Turn]:
        """Move the turns of these ids to the trash, as ``convmem.Conversation.remove``."""
        return await self.archive.run(self.sync.remove, ids, reason=reason, now=now)

    async def replace(
        self,
        turns: Iterable[Any],
        *,
        ids: Iterable[str] | None = None,
        reason: str = "asked",
        now: datetime | None = None,
    ) -> list[Turn]:
        """Put *turns* in the place of others in one step, as ``convmem.Conversation.replace``."""
        return await self.archive.run(self.sync.replace, turns, ids=ids, reason=reason, now=now)

    async def delete(
        self,
        *,
        reason: str = "asked",
        quiet_since: datetime | None = None,
        dry_run: bool = False,
        now: datetime | None = None,
    ) -> Removal:
        """Move the whole conversation to the trash, as ``convmem.Conversation.delete``."""
        return await self.archive.run(
            self.sync.delete, reason=reason, quiet_since=quiet_since, dry_run=dry_run, now=now
        )

    async def restore(
        self,
        *,
        since: datetime | None = None,
        removed_since: datetime | None = None,
        dry_run: bool = False,
        now: datetime | None = None,
    ) -> Restoration:
        """Bring back what is in the trash of it, as ``convmem.Conversation.restore``."""
        return await self.archive.run(
            self.sync.restore, since=since, removed_since=removed_since, dry_run=dry_run, now=now
        )

    async def buried(self, turn_ids: Collection[str]) -> Buried:
        """Return which of these an import leaves out, as ``convmem.Conversation.buried``."""
        return await self.archive.look(self.sync.buried, turn_ids)

    async def unbury(self) -> int:
        """Let an import bring back what was removed, as ``convmem.Conversation.unbury``."""
        return await self.archive.run(self.sync.unbury)

    async def scrub(
        self, turn: str | int, *, dry_run: bool = False, now: datetime | None = None
    ) -> Scrubbed:
        """Remove what one turn said, for good, as ``convmem.Conversation.scrub``."""
        return await self.archive.run(self.sync.scrub, turn, dry_run=dry_run, now=now)

    async def compress(
        self,
        *,
        idle: timedelta | float | None = None,
        dry_run: bool = False,
        now: datetime | None = None,
    ) -> CompressionReport:
        """Compress the whole conversation, as ``convmem.Conversation.compress``."""
        return await self.archive.run(self.sync.compress, idle=idle, dry_run=dry_run, now=now)

    async def uncompress(
        self, *, even_damaged: bool = False, dry_run: bool = False
    ) -> CompressionReport:
        """Make the log plain again, as ``convmem.Conversation.uncompress``."""
        return await self.archive.run(
            self.sync.uncompress, even_damaged=even_damaged, dry_run=dry_run
        )

    async def verify(self, *, on_finding: Callable[[Finding], None] | None = None) -> VerifyReport:
        """Read the whole log and say what is wrong, as ``convmem.Conversation.verify``."""
        return await self.archive.look(self.sync.verify, on_finding=on_finding)

    async def repair(self, *, dry_run: bool = False, now: datetime | None = None) -> RepairReport:
        """Set damage aside, and turns in order, as ``convmem.Conversation.repair``."""
        return await self.archive.run(self.sync.repair, dry_run=dry_run, now=now)
