"""``ConvmemConversationStore``: pydantic-ai's face of the shelf, each step in a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_ai.conversation_store import ConversationStore

from convmem import aio
from convmem.adapters.pydantic_ai.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_ai.conversation_store import ConversationEntry, ConversationRecord

    from convmem import Archive, Durability


class ConvmemConversationStore(ConversationStore):
    """A ``ConversationStore`` whose conversations are an archive's. It never closes the archive.

    Any number of processes may use one conversation: of two saves that continue the same revision
    one is stored, and the other raises ``ConversationConflict`` and leaves nothing behind. Saving
    costs an append; loading the last *limit* messages reads the end of the log, however long it is.

    What others recorded in a conversation (the shell, an import, another framework) is part of its
    history: it loads as messages, and counts as a new revision. ``delete`` moves a conversation to
    the trash with all its messages; forks keep theirs. A rewritten history stays stored as a
    branch.

    Args:
        archive: Where; open as long as the store is used.
        namespace: Whose conversations; the archive's own by default. ``scope`` is pydantic-ai's
            and only a label: tenants belong into namespaces.
        durability: What an answered ``save`` promises; as the archive by default.

    Raises:
        InvalidContinuationId: Nothing can have that namespace.
    """

    def __init__(
        self,
        archive: Archive | aio.Archive,
        *,
        namespace: str | None = None,
        durability: Durability | str | None = None,
    ) -> None:
        self._archive = aio.Archive.of(archive)
        self._shelf = Shelf(self._archive.sync, namespace, durability)

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """Return the record, or ``None``. Reads the end of the log.

        Raises:
            InvalidContinuationId: No conversation can have this id.
        """
        return await self._archive.run(self._shelf.read_record, conversation_id)

    async def read_records(
        self, *, scope: str | None = None, limit: int | None = None
    ) -> Sequence[ConversationRecord]:
        """Return the records, newest first.

        Costs one look at the directory, and the end of as many logs as it takes to find *limit*
        records: with a *scope*, of those in between, too.
        """
        return await self._archive.run(self._shelf.read_records, scope, limit)

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Append *new_entries* and the record as one atomic batch; the first of several wins.

        The very same write again is a conflict, too: its revision is no longer the expected one.

        Raises:
            ConversationConflict: As ``ConversationStore`` has it; nothing was stored.
            InvalidTurn: A message cannot be stored exactly; nothing was.
            LockTimeout, StorageFull, StorageError: Nothing was stored.
            DurabilityUnknown: Load it again to see whether it was.
        """
        await self._archive.run(
            self._shelf.write_record, record, list(new_entries), expected_revision
        )

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Move the conversation with its entries to the trash; forks have their own copies."""
        await self._archive.run(self._shelf.delete_record, conversation_id, expected_revision)

    async def read_history(
        self, head_id: str | None, *, limit: int | None = None
    ) -> list[ConversationEntry]:
        """Return the entries up to *head_id*, or the last *limit*, read from the end of the log.

        What a retention policy has moved to the trash is missing at the beginning; what was
        scrubbed, or stood on a damaged line, is passed over.

        Raises:
            LookupError: There is no such entry.
        """
        if head_id is None or limit == 0:
            return []
        return await self._archive.run(self._shelf.read_history, head_id, limit)

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """Return the entry of this id.

        Nearly free when this store has read or written its conversation's record, or the entry,
        lately. Else the logs are searched, first those from the time at which the id was made.

        Raises:
            LookupError: There is no such entry.
        """
        return (await self._archive.run(self._shelf.read_history, entry_id, 1))[-1]
