"""What an archive asks of the place where conversations are kept.

The default is ``directory.DirectoryStore``: one JSONL file for each conversation on one disk.
Engines that many hosts share can stand in its place.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from convmem.log.durability import Durability
    from convmem.log.follow import Cursor, Follower
    from convmem.log.read import Filter, StoredTurn
    from convmem.log.records import OnDamage
    from convmem.stores.caretakers import Logs, Overview, Trash, Upkeep
    from convmem.stores.values import Answers, Description, Group
    from convmem.turns import Draft


class Store(Protocol):
    """Keeps conversations by namespace and continuation id. Safe for any number of threads.

    Methods that read raise ``ConversationNotFound`` where there is no such conversation.
    """

    def append(
        self,
        namespace: str,
        continuation_id: str,
        drafts: list[Draft],
        *,
        is_batch: bool,
        durability: Durability,
    ) -> Answers:
        """Append *drafts* and return, once *durability* holds, the answer to each."""

    def append_to_many(
        self, groups: Sequence[Group], *, durability: Durability
    ) -> list[Answers | Exception]:
        """Append to several conversations; one that fails does not stop the others."""

    def newest(
        self,
        namespace: str,
        continuation_id: str,
        count: int | None,
        *,
        filter: Filter,
        damaged: OnDamage,
    ) -> list[StoredTurn]:
        """Return the last *count* turns that pass, oldest first; all with ``None``."""

    def newest_first(
        self, namespace: str, continuation_id: str, *, damaged: OnDamage
    ) -> Generator[StoredTurn]:
        """Yield the turns from the last to the first, reading what is taken; ``close`` ends it."""

    def in_order(
        self,
        namespace: str,
        continuation_id: str,
        *,
        after: Cursor | int,
        filter: Filter,
        damaged: OnDamage,
    ) -> Iterator[StoredTurn]:
        """Yield the turns behind *after*, oldest first, in flat memory."""

    def follow(
        self,
        namespace: str,
        continuation_id: str,
        *,
        after: Cursor | None,
        idle_seconds: float | None,
        damaged: OnDamage,
    ) -> Follower:
        """Return a follower; the conversation need not be there yet."""

    def newest_and_cursor(
        self,
        namespace: str,
        continuation_id: str,
        count: int | None,
        *,
        filter: Filter,
        damaged: OnDamage,
    ) -> tuple[list[StoredTurn], Cursor]:
        """Return what ``newest`` does, and the cursor behind it, from one look."""

    def end_cursor(self, namespace: str, continuation_id: str) -> Cursor:
        """Return the cursor behind the last turn."""

    def state(self, namespace: str, continuation_id: str, *, now: datetime) -> dict[str, Any]:
        """Return the state of a conversation, empty where there is none, there or not."""

    def update_state(
        self,
        namespace: str,
        continuation_id: str,
        changes: Mapping[str, Any],
        *,
        until: datetime | None,
        now: datetime,
    ) -> dict[str, Any]:
        """Merge *changes*, which expire at *until*, into the state durably; return it as it is."""

    def clear_state(self, namespace: str, continuation_id: str) -> bool:
        """Remove the state; say whether there was one. Damaged bytes are set aside."""

    @property
    def trash(self) -> Trash:
        """What was removed: there to be looked at, brought back, or purged."""

    @property
    def upkeep(self) -> Upkeep:
        """What keeps the conversations in order: compaction, compression, checks, repair."""

    @property
    def overview(self) -> Overview:
        """What looks at all conversations at once: the list, figures, health."""

    @property
    def logs(self) -> Logs:
        """The logs as they lie there: for what is derived from all of them."""

    def path(self, namespace: str, continuation_id: str) -> str:
        """Return where the conversation is kept, as people would name it."""

    def describe(self, namespace: str, continuation_id: str, *, count: bool) -> Description:
        """Return what is known of one conversation without reading it whole, unless *count*."""

    def conversation_ids(self, namespace: str) -> Iterator[str]:
        """Yield the ids of the conversations in *namespace*, in no order."""

    def namespaces(self) -> list[str]:
        """Return the names of the namespaces, sorted."""

    def flush(self) -> None:
        """Return once everything appended so far survives a power cut."""

    def close(self) -> None:
        """Flush, and give all resources back. Closing twice is harmless."""
