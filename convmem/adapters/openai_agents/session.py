"""A session of the Agents SDK: reads from the end of a conversation, appends in atomic batches."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from agents.memory import SessionSettings
from agents.memory.session_settings import coerce_session_settings, resolve_session_limit

from convmem import ConversationNotFound, InvalidTurn, aio
from convmem.adapters.openai_agents.items import items_of, storable_turn_of, turn_of

if TYPE_CHECKING:
    from agents import RunContextWrapper, TResponseInputItem

    from convmem import Archive, Conversation, Durability

_ALL = 1 << 53


class ConvmemSession:
    """One session of the Agents SDK: the conversation of that id, in an archive you have opened.

    Any number of sessions, tasks, threads and processes may share a conversation. Reads of the
    newest items and appends cost the same however long it is. An append that is cancelled is
    settled before the cancellation goes on. Pass it to ``Runner.run(…, session=…)``; make as many
    as you like, they hold nothing.

    Attributes:
        session_id: The conversation's id.
        session_settings: The SDK's: ``limit`` bounds what is read where nobody says how many.
        conversation: The same as convmem has it, for ``search``, ``compact``, ``restore``, …
    """

    session_id: str
    session_settings: SessionSettings | None
    conversation: Conversation

    def __init__(
        self,
        session_id: str,
        archive: Archive | aio.Archive,
        *,
        session_settings: SessionSettings | dict[str, Any] | None = None,
        namespace: str | None = None,
        durability: Durability | str | None = None,
    ) -> None:
        """Name the session. Touches no disk.

        Args:
            session_id: Any text that can name a conversation; distinct ones stay distinct.
            archive: The program's own, which opens and closes it.
            session_settings: As the SDK's sessions take it.
            namespace: Whose; the archive's own by default.
            durability: What an answered ``add_items`` promises; as the archive by default.

        Raises:
            InvalidContinuationId: Nothing can have that id.
        """
        self._archive = aio.Archive.of(archive)
        self.session_id = session_id
        self.session_settings = coerce_session_settings(session_settings or SessionSettings())
        self._chat = self._archive.conversation(
            session_id, namespace=namespace, durability=durability
        )
        self.conversation = self._chat.sync

    async def get_items(
        self, limit: int | None = None, *, wrapper: RunContextWrapper[Any] | None = None
    ) -> list[TResponseInputItem]:
        """Return the newest *limit* items, oldest first; all where no limit is set.

        Reads from the end, as far as it needs. Damaged lines are passed over and never count; a
        session that is not there yet is empty. A negative limit counts all, as with SQLite.
        """
        most = resolve_session_limit(limit, self.session_settings)
        return await self._archive.look(_newest, self.conversation, most)

    async def add_items(
        self,
        items: list[TResponseInputItem],
        *,
        wrapper: RunContextWrapper[Any] | None = None,
    ) -> None:
        """Append *items* as one atomic batch: every reader, after any crash, sees all or none.

        What other tasks append at the same time goes with the same write and sync.

        Raises:
            InvalidTurn: One holds what is no JSON; nothing was stored.
            ConvmemError: The archive is closed, busy or full; nothing was stored.
        """
        if items:
            items = list(items)
            try:
                await self._chat.record_many(map(turn_of, items))  # encoded in a thread
            except InvalidTurn:
                await self._chat.record_many(map(storable_turn_of, items))
        else:
            await self._archive.look(self.conversation.exists)  # which a closed archive refuses

    async def pop_item(
        self, *, wrapper: RunContextWrapper[Any] | None = None
    ) -> TResponseInputItem | None:
        """Move the newest item to the trash and return it; ``None`` where there is none.

        Two that pop at once get two items. Rewrites the log: some 10 ms and more, by its length.
        """
        return await self._archive.run(_pop, self.conversation)

    async def clear_session(self, *, wrapper: RunContextWrapper[Any] | None = None) -> None:
        """Move the whole conversation, and its state, to the trash; ``restore`` brings it back."""
        await self._archive.run(_clear, self.conversation)

    async def _atomic_replace_items(self, items: list[TResponseInputItem]) -> bool:
        """Replace all items in one step, as ``OpenAIResponsesCompactionSession`` asks for.

        What was goes to the trash. ``False``, and nothing done, in a subclass that may see its
        items otherwise than they are stored.
        """
        if type(self) is not ConvmemSession:
            return False
        await self._archive.run(_replace, self.conversation, list(items))
        return True


def _newest(chat: Conversation, limit: int | None) -> list[TResponseInputItem]:
    if limit == 0:
        return []
    most = _ALL if limit is None or limit < 0 else limit
    count = most
    try:
        while True:
            turns = chat.tail(count)
            items = list(chain.from_iterable(map(items_of, turns)))
            if len(items) >= most or len(turns) < count:
                return items[-most:]
            count *= 2  # some of them were no items
    except ConversationNotFound:
        return []


def _pop(chat: Conversation) -> TResponseInputItem | None:
    # Turns that somebody else has popped; and what was written by hand, without an id, stays.
    passed: set[str | None] = {None}
    count = 1
    try:
        while True:
            turns = chat.tail(count)
            popped = [turn for turn in turns if turn.id not in passed and items_of(turn)][-1:]
            if not popped and len(turns) < count:
                return None
            if not popped:
                count *= 2  # those were no items
            elif chat.remove([popped[0].id or ""], reason="pop_item"):
                *others, item = items_of(popped[0])
                if others:
                    # Of somebody's turn that is several items the rest comes back as new ones. A
                    # crash before this leaves it in the trash.
                    chat.record_many(map(turn_of, others))
                return item
            else:
                passed.add(popped[0].id)
    except ConversationNotFound:
        return None


def _clear(chat: Conversation) -> None:
    try:
        chat.delete(reason="clear_session")
    except ConversationNotFound:
        return


def _replace(chat: Conversation, items: list[TResponseInputItem]) -> None:
    try:
        try:
            chat.replace(map(turn_of, items), reason="replace_items")
        except InvalidTurn:
            chat.replace(map(storable_turn_of, items), reason="replace_items")
    except ConversationNotFound:
        return  # nothing is replaced by nothing
