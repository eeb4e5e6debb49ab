"""Snapshots of sessions, in the state of the conversations of their ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_framework import AgentSession

from convmem import aio

if TYPE_CHECKING:
    from convmem import Archive, Conversation

# Where a session's snapshot is kept, in the state of its conversation.
SNAPSHOT = "agent-framework"


class ConvmemSessionStore:
    """Keeps snapshots of ``AgentSession`` in the state of the conversations of their ids.

    What the framework calls a ``SessionStore``, which is experimental there. The last writer wins.
    A snapshot takes at most 1 MiB: histories go into turns, with ``ConvmemHistoryProvider``, and
    this keeps the rest.
    """

    def __init__(self, archive: Archive | aio.Archive, *, namespace: str | None = None) -> None:
        """Touches no disk; the arguments are as ``ConvmemHistoryProvider`` has them.

        Raises:
            InvalidContinuationId: No namespace can have that name.
        """
        self._archive = aio.Archive.of(archive)
        self._namespace = namespace
        self._conversation("any")

    async def get(self, session_id: str) -> AgentSession | None:
        """Return the session as it was stored, or ``None``.

        Raises:
            ValueError: The id is empty, or the snapshot is none of a session.
            CorruptLog: The state is damaged; ``clear_state`` sets it aside.
        """
        state = await self._archive.run(self._conversation(session_id).state)
        snapshot = state.get(SNAPSHOT)
        if snapshot is None:
            return None
        if type(snapshot) is not dict or type(snapshot.get("session_id")) is not str:
            raise ValueError(f"the state of {session_id!r} holds no snapshot of a session")
        return AgentSession.from_dict(snapshot)

    async def set(self, session_id: str, session: AgentSession) -> None:
        """Store *session* in place of what was there. Durable when it returns.

        Raises:
            ValueError: The id is empty.
            UsageError: Its state cannot be stored exactly, or takes more than 1 MiB: register its
                types with ``register_state_type``. Nothing was changed.
        """
        chat, snapshot = self._conversation(session_id), session.to_dict()
        await self._archive.run(chat.update_state, {SNAPSHOT: snapshot})

    async def delete(self, session_id: str) -> None:
        """Remove the snapshot, if there is one. The turns, and other keys of the state, stay.

        Raises:
            ValueError: The id is empty.
        """
        chat = self._conversation(session_id)

        def deleted() -> None:
            if SNAPSHOT in chat.state():
                chat.update_state({SNAPSHOT: None})

        await self._archive.run(deleted)

    @staticmethod
    def validate_session_id(session_id: str) -> None:
        """Raise ``ValueError`` unless it is text that is not empty."""
        if not isinstance(session_id, str) or not session_id:
            raise ValueError("session_id must be a non-empty string")

    def _conversation(self, session_id: str) -> Conversation:
        self.validate_session_id(session_id)
        return self._archive.sync.conversation(session_id, namespace=self._namespace)
