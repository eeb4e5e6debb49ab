"""Strands: ``FileSessionManager``, a file for each message, written aside and renamed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from protocol import TEXT
from strands.session.file_session_manager import FileSessionManager
from strands.types.session import SessionAgent, SessionMessage

_AGENT = "agent"
_MESSAGE = {"role": "user", "content": [{"text": TEXT}]}


class History:
    """A manager for each chat. It leaves the numbers to its caller: one writer a chat."""

    def __init__(self, place: Path, chats: Sequence[str], *, durable: bool) -> None:
        self._chats = chats
        self._managers = [FileSessionManager(chat, storage_dir=str(place)) for chat in chats]
        for chat, manager in zip(chats, self._managers, strict=True):
            agent = SessionAgent(agent_id=_AGENT, state={}, conversation_manager_state={})
            manager.create_agent(chat, agent)
        self._next = [0] * len(chats)

    def append(self, chat: int) -> None:
        message = SessionMessage.from_message(_MESSAGE, self._next[chat])
        self._managers[chat].create_message(self._chats[chat], _AGENT, message)
        self._next[chat] += 1

    def append_many(self, chat: int, count: int) -> None:
        for _ in range(count):
            self.append(chat)

    def last(self, chat: int, count: int) -> int:
        first = max(0, self._next[chat] - count)
        found = self._managers[chat].list_messages(self._chats[chat], _AGENT, count, first)
        return len(found)

    def kept(self) -> list[int]:
        return [
            len(manager.list_messages(chat, _AGENT))
            for chat, manager in zip(self._chats, self._managers, strict=True)
        ]

    def close(self) -> None:
        pass
