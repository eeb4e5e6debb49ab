"""Which conversation is whose: names of sessions and agents as ids of conversations."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convmem import Archive, Conversation, Durability

DEFAULT_AGENT = "default"
_NOTED = "strands:"


class Places:
    """The conversations of sessions, agents and multi-agents. Touches no disk until asked to.

    Raises:
        InvalidContinuationId: Nothing can have that namespace.
    """

    def __init__(
        self, archive: Archive, namespace: str | None, durability: Durability | str | None
    ) -> None:
        self._archive = archive
        self._namespace = namespace
        self._durability = durability
        self._conversation("any")  # a namespace that cannot be is told of now

    def session(self, session_id: str) -> Conversation:
        """Return the session's own, which is its default agent's, too.

        Raises:
            ValueError: The id has a path separator.
        """
        return self._conversation(_checked(session_id, "session"))

    def agent(self, session_id: str, agent_id: str) -> Conversation:
        """Return an agent's. Raises: As ``session``."""
        session, agent = _checked(session_id, "session"), _checked(agent_id, "agent")
        return self._conversation(session if agent == DEFAULT_AGENT else f"{session}/{agent}")

    def multi_agent(self, session_id: str, multi_agent_id: str) -> Conversation:
        """Return a multi-agent's. Raises: As ``session``."""
        session, agent = _checked(session_id, "session"), _checked(multi_agent_id, "agent")
        return self._conversation(f"{session}/multi_agent/{agent}")

    def note(self, session_id: str, chat: Conversation) -> None:
        """Let the session know of a conversation that has a state and may never have turns."""
        if chat.continuation_id != session_id:
            self._conversation(session_id).update_state({_NOTED + chat.continuation_id: True})

    def beside(self, session_id: str) -> list[Conversation]:
        """Return all conversations of the session but its own. Costs one look at the directory."""
        state = self.session(session_id).state()
        names = {key.removeprefix(_NOTED) for key in state if key.startswith(_NOTED)}
        for chat in self._archive.conversations(namespace=self._namespace):
            if chat.continuation_id.partition("/")[0] == session_id:
                names.add(chat.continuation_id)
        return [self._conversation(name) for name in sorted(names - {session_id})]

    def _conversation(self, continuation_id: str) -> Conversation:
        return self._archive.conversation(
            continuation_id, namespace=self._namespace, durability=self._durability
        )


def _checked(name: str, kind: str) -> str:
    if "/" in name or os.path.basename(name) != name:
        raise ValueError(f"{kind}_id={name} | id cannot contain path separators")
    return name
