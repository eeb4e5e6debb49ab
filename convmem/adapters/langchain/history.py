"""``ConvmemChatMessageHistory``: LangChain's message history over a conversation, in both faces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_core.chat_history import BaseChatMessageHistory

from convmem import ConversationNotFound, InvalidTurn, UsageError, aio
from convmem.adapters.langchain.messages import SOURCE, messages_of, storable_turn, turn_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import BaseMessage

    from convmem import Archive, Conversation


class ConvmemChatMessageHistory(BaseChatMessageHistory):
    """The messages of one session, kept in the conversation of the same id.

    Many processes may add to one session at once. A ``limit`` is read from the end of the log, so
    its cost does not follow the length of the session. What other tools recorded there is read as
    messages, too.

    Args:
        session_id: The conversation's id: any text that can be one.
        archive: The program's own; it is never closed here.
        namespace: Whose; the archive's own by default.
        limit: Give only the newest *limit* messages; ``None`` gives all. Results of tools whose
            call is cut off are left out, since models refuse them.

    Raises:
        InvalidContinuationId: Nothing can have that id.
        UsageError: *limit* is negative.
    """

    def __init__(
        self,
        session_id: str,
        archive: Archive | aio.Archive,
        *,
        namespace: str | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        if limit is not None and (type(limit) is not int or limit < 0):
            raise UsageError(f"limit must be a whole number, 0 or more, not {limit!r}")
        self.session_id = session_id
        self.limit = limit
        self._archive = aio.Archive.of(archive)
        self._chat = self._archive.sync.conversation(session_id, namespace=namespace)

    @property
    def messages(self) -> list[BaseMessage]:
        """The messages, oldest first; none where there is no such conversation. Reads the log."""
        try:
            return _newest(self._chat, self.limit)
        except ConversationNotFound:
            return []

    async def aget_messages(self) -> list[BaseMessage]:
        """Return what ``messages`` does."""
        return await self._archive.run(lambda: self.messages)

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append *messages* as one batch: all or none are there, whatever happens.

        Raises:
            InvalidTurn: A message holds what is not JSON; none was stored.
            StorageError, LockTimeout: As ``Conversation.record`` has them.
        """
        turns = [turn_of(message) for message in messages]
        try:
            self._chat.record_many(turns)
        except InvalidTurn:
            pairs = zip(turns, messages, strict=True)
            self._chat.record_many([storable_turn(turn, message) for turn, message in pairs])

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Do what ``add_messages`` does; a cancellation waits until it is settled."""
        await self._archive.run(self.add_messages, messages)

    def clear(self) -> None:
        """Move the whole conversation to the trash: ``convmem trash restore`` brings it back."""
        try:
            self._chat.delete(reason=SOURCE)
        except ConversationNotFound:
            return  # as empty as it is asked to be

    async def aclear(self) -> None:
        """Do what ``clear`` does."""
        await self._archive.run(self.clear)


def _newest(chat: Conversation, limit: int | None) -> list[BaseMessage]:
    """Return the newest *limit* messages. Events among the turns make it look further back."""
    if limit is None:
        return [message for turn in chat.turns() for message in messages_of(turn)]
    count = limit
    while True:
        turns = chat.tail(count)
        found = [message for turn in turns for message in messages_of(turn)]
        if len(found) >= limit or len(turns) < count:
            return _without_orphans(found[len(found) - limit if len(found) > limit else 0 :])
        count *= 4


def _without_orphans(messages: list[BaseMessage]) -> list[BaseMessage]:
    """Return *messages* without the results at their beginning, whose calls were cut off."""
    first = next((at for at, each in enumerate(messages) if each.type != "tool"), len(messages))
    return messages[first:]
