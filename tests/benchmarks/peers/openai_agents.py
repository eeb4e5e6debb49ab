"""OpenAI Agents SDK: ``SQLiteSession``, which keeps items in SQLite with a write-ahead log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agents.memory import SQLiteSession
from protocol import TEXT

_ITEM = {"role": "user", "content": TEXT}


class History:
    """A session for each chat, in one database."""

    def __init__(self, place: Path, chats: Sequence[str], *, durable: bool) -> None:
        self._sessions = [SQLiteSession(chat, place / "sessions.db") for chat in chats]

    async def append(self, chat: int) -> None:
        await self._sessions[chat].add_items([_ITEM])

    async def append_many(self, chat: int, count: int) -> None:
        await self._sessions[chat].add_items([_ITEM] * count)

    async def last(self, chat: int, count: int) -> int:
        return len(await self._sessions[chat].get_items(count))

    async def kept(self) -> list[int]:
        return [len(await session.get_items()) for session in self._sessions]

    def close(self) -> None:
        for session in self._sessions:
            session.close()
