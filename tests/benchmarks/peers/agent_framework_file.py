"""Microsoft Agent Framework: ``FileHistoryProvider``, a file of JSON lines for each session."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import count
from pathlib import Path

warnings.simplefilter("ignore")  # it calls itself experimental

from agent_framework import FileHistoryProvider, Message  # noqa: E402
from protocol import TEXT  # noqa: E402

_numbers = count()


class History:
    """One provider. Each message has an id of its own: without, it may pass for a replay."""

    def __init__(self, place: Path, chats: Sequence[str], *, durable: bool) -> None:
        self._provider = FileHistoryProvider(place)
        self._chats = chats

    async def append(self, chat: int) -> None:
        await self._provider.save_messages(self._chats[chat], [_message()])

    async def append_many(self, chat: int, count: int) -> None:
        await self._provider.save_messages(self._chats[chat], [_message() for _ in range(count)])

    async def last(self, chat: int, count: int) -> int:
        return len((await self._provider.get_messages(self._chats[chat]))[-count:])

    async def kept(self) -> list[int]:
        return [len(await self._provider.get_messages(chat)) for chat in self._chats]

    def close(self) -> None:
        pass


def _message() -> Message:
    return Message("user", [TEXT], message_id=f"message-{next(_numbers)}")
