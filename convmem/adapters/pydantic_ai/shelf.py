"""What the store does with records and entries, step by step in one thread."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic_ai.conversation_store import ConversationConflict

from convmem import (
    ConversationNotFound,
    ConvmemError,
    CorruptLog,
    InvalidContinuationId,
    LockTimeout,
    StorageError,
    TurnConflict,
)
from convmem.adapters.pydantic_ai.entries import SOURCE
from convmem.adapters.pydantic_ai.forks import packed
from convmem.adapters.pydantic_ai.history import entries_of, history
from convmem.adapters.pydantic_ai.homes import Homes, pass_over
from convmem.adapters.pydantic_ai.records import moment_of, turn_of_record
from convmem.adapters.pydantic_ai.standing import standing, stands
from convmem.adapters.pydantic_ai.to_turns import turn_of_entry

if TYPE_CHECKING:
    from pydantic_ai.conversation_store import ConversationEntry, ConversationRecord

    from convmem import Archive, Conversation, Durability, Turn
    from convmem.adapters.pydantic_ai.entries import Link
    from convmem.adapters.pydantic_ai.standing import Standing


class Shelf:
    """Does what the store is asked for, and raises what the store says that it raises."""

    def __init__(
        self, archive: Archive, namespace: str | None, durability: Durability | str | None
    ) -> None:
        self._archive = archive
        self._namespace = namespace
        self._durability = durability
        self._homes = Homes(archive, namespace)
        self._conversation("any")  # a namespace that cannot be is told of now

    def _conversation(self, conversation_id: str) -> Conversation:
        return self._archive.conversation(
            conversation_id, namespace=self._namespace, durability=self._durability
        )

    def read_record(self, conversation_id: str) -> ConversationRecord | None:
        record = standing(self._conversation(conversation_id)).record
        self._homes.learn(record)
        return record

    def read_records(self, scope: str | None, limit: int | None) -> list[ConversationRecord]:
        found: list[ConversationRecord] = []
        # What cannot be read is passed over: one bad file must not hide all others.
        for row in self._archive.overview(namespace=self._namespace, failed=pass_over):
            if limit is not None and len(found) >= limit:
                # A record is never newer than the last turn of its log.
                oldest = moment_of(found[-1]) if found else None
                if oldest is None or (row.last_ts is not None and row.last_ts < oldest):
                    break
            try:
                record = standing(self._conversation(row.continuation_id)).record
            except (StorageError, CorruptLog):
                continue
            if record is not None and (scope is None or record.scope == scope):
                self._homes.learn(record)
                found.append(record)
                found.sort(key=moment_of, reverse=True)
                if limit is not None:
                    del found[limit:]
        return found

    def write_record(
        self,
        record: ConversationRecord,
        new_entries: list[ConversationEntry],
        expected_revision: str | None,
    ) -> None:
        chat = self._conversation(record.conversation_id)
        now = standing(chat)
        if now.revision != expected_revision:
            raise ConversationConflict(record.conversation_id)
        head, new_ids = record.head_id, {entry.id for entry in new_entries}
        root = new_entries[0].parent_id if head in new_ids else head
        batch = [] if root is None else self._history_to_share(chat, now, root, record)
        batch += [turn_of_entry(entry) for entry in new_entries]
        batch.append(turn_of_record(record, base=now.base, base_seq=now.base_seq))
        try:
            stored = self._append(chat, batch, now)
        except TurnConflict as conflict:
            raise ConversationConflict(record.conversation_id) from conflict
        if stored[-1].seq != now.last_seq + len(batch) and not stands(chat, stored[-1], now):
            raise ConversationConflict(record.conversation_id)
        self._homes.learn(record)

    def _append(self, chat: Conversation, batch: list[dict[str, Any]], now: Standing) -> list[Turn]:
        try:
            return chat.record_many(batch)
        except TurnConflict as conflict:
            # The id says which record this one continues: who comes second is told so by it. Only
            # where the record that bears it was taken out of the log is it in nobody's name.
            if conflict.turn_id != batch[-1]["id"] or standing(chat).revision != now.revision:
                raise
            del batch[-1]["id"]
            return chat.record_many(batch)

    def _history_to_share(
        self, chat: Conversation, now: Standing, root: str, record: ConversationRecord
    ) -> list[dict[str, Any]]:
        """Return what holds the history up to *root*, which the log may have already.

        Raises:
            ConversationConflict: It is nowhere.
        """
        if now.record is not None and now.record.head_id == root:
            return []
        if history(chat, root, 1) is not None:
            return []
        for home in self._homes.that_may_have(root, first=record.forked_from):
            links = self._history_in(home, root, None)
            if links is not None:
                return list(packed(home, links)) if links else []
        raise ConversationConflict(record.conversation_id)

    def delete_record(self, conversation_id: str, expected_revision: str) -> None:
        chat = self._conversation(conversation_id)
        before = None
        while True:
            now = standing(chat)
            if now.revision is None or now.revision != expected_revision:
                raise ConversationConflict(conversation_id)
            try:
                # Looked at while nobody can record: what comes to life stays.
                chat.delete(reason=SOURCE, quiet_since=now.last_ts or datetime.now(UTC))
            except LockTimeout:
                raise
            except ConversationNotFound:
                raise ConversationConflict(conversation_id) from None
            except ConvmemError as error:
                if error.kind != "busy" or now == before:
                    raise
                before = now
                continue
            return

    def read_history(self, head_id: str, limit: int | None) -> list[ConversationEntry]:
        for home in self._homes.that_may_have(head_id):
            links = self._history_in(home, head_id, limit)
            if links is not None:
                self._homes.put(head_id, home)
                return entries_of(links, limit)
        raise KeyError(head_id)

    def _history_in(self, home: str, head_id: str, limit: int | None) -> list[Link] | None:
        try:
            return history(self._conversation(home), head_id, limit)
        except InvalidContinuationId:
            return None  # an entry's id that somebody made up
