"""The history provider: the messages of sessions, the newest of them read from the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_framework import HistoryProvider

from convmem import ConversationNotFound, UsageError, aio
from convmem.adapters.agent_framework.messages import message_of
from convmem.adapters.agent_framework.recording import record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent_framework import Message

    from convmem import Archive, Conversation, Turn

# Where a session without an id is kept, as the framework's file provider has it.
DEFAULT_SESSION = "default"


class ConvmemHistoryProvider(HistoryProvider):
    """Keeps the messages of sessions in an archive you have opened: one of ``context_providers``.

    A session's messages are the turns of the conversation of its id. Loading the newest
    *max_messages* costs the same however long it is. Any number of tasks, threads and processes may
    share one provider or have their own, also for one session.
    """

    DEFAULT_SOURCE_ID = "convmem_history"

    def __init__(
        self,
        archive: Archive | aio.Archive,
        *,
        namespace: str | None = None,
        source_id: str = DEFAULT_SOURCE_ID,
        max_messages: int | None = None,
        skip_excluded: bool = False,
        load_messages: bool = True,
        store_inputs: bool = True,
        store_context_messages: bool = False,
        store_context_from: set[str] | None = None,
        store_outputs: bool = True,
    ) -> None:
        """Touches no disk.

        Args:
            archive: The program's own, which opens and closes it.
            namespace: Where the sessions are; the archive's own by default. Two providers of one
                agent, such as one for audits, need one each.
            source_id: As the framework has it.
            max_messages: Load the newest so many, and leave out a first one that answers a call
                which is not among them. ``None``: all.
            skip_excluded: Do not load what a compaction of the framework has marked as excluded.
            load_messages, store_inputs, store_context_messages: As the framework has it.
            store_context_from, store_outputs: As the framework has it.

        Raises:
            UsageError: *max_messages* is not a whole number, 1 or more.
            InvalidContinuationId: No namespace can have that name.
        """
        super().__init__(
            source_id,
            load_messages=load_messages,
            store_inputs=store_inputs,
            store_context_messages=store_context_messages,
            store_context_from=store_context_from,
            store_outputs=store_outputs,
        )
        if max_messages is not None and (type(max_messages) is not int or max_messages < 1):
            raise UsageError(f"max_messages must be 1 or more, not {max_messages!r}")
        self.max_messages = max_messages
        self.skip_excluded = skip_excluded
        self._archive = aio.Archive.of(archive)
        self._namespace = namespace
        self.conversation(None)

    def conversation(self, session_id: str | None) -> Conversation:
        """Return the conversation that holds a session: for ``search``, ``context``, ``compact`` …

        Raises:
            InvalidContinuationId: Nothing can have that id.
        """
        name = session_id or DEFAULT_SESSION
        return self._archive.sync.conversation(name, namespace=self._namespace)

    async def get_messages(
        self, session_id: str | None, *, state: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Message]:
        """Return the messages of a session, oldest first. Damage is passed over."""
        chat = self.conversation(session_id)
        return await self._archive.run(_load, chat, self.max_messages, self.skip_excluded)

    async def save_messages(
        self,
        session_id: str | None,
        messages: Sequence[Message],
        *,
        state: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record *messages* as one atomic batch: all or none, also after a crash.

        A message whose ``message_id`` is there already is stored once; one of the same id that says
        something else is kept, too. Of messages that repeat what was said last and go on from it,
        as workflows hand them over, what is new is stored; the same words said again are stored
        again. A call that is cancelled is settled first.

        Raises:
            ConvmemError: The archive is closed, busy or full; nothing was stored, so try again.
        """
        chat = self.conversation(session_id)
        if messages:
            await self._archive.run(record, chat, list(messages))


def _load(chat: Conversation, most: int | None, skips_excluded: bool) -> list[Message]:
    def messages_in(turns: Iterable[Turn]) -> list[Message]:
        made = [each for each in map(message_of, turns) if each is not None]
        if skips_excluded:
            made = [each for each in made if not each.additional_properties.get("_excluded")]
        return made

    try:
        if most is None:
            return messages_in(chat.turns())
        count = most
        while True:
            turns = chat.tail(count)
            found = messages_in(turns)
            if len(found) >= most or len(turns) < count:
                return _without_orphans(found[-most:])
            count *= 2  # some of them were no messages
    except ConversationNotFound:
        return []


def _without_orphans(messages: list[Message]) -> list[Message]:
    """Leave out what comes first and answers calls that are cut off: no model takes it."""
    called = {
        content.call_id
        for message in messages
        for content in message.contents
        if content.type == "function_call"
    }
    for at, message in enumerate(messages):
        answers = [each.call_id for each in message.contents if each.type == "function_result"]
        if called.issuperset(answers):
            return messages[at:]
    return []
