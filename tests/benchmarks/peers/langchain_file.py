"""LangChain: ``FileChatMessageHistory``, which writes one JSON file anew for each message."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from langchain_community.chat_message_histories import FileChatMessageHistory
from langchain_core.messages import HumanMessage
from protocol import TEXT


class History:
    """A file for each chat."""

    def __init__(self, place: Path, chats: Sequence[str], *, durable: bool) -> None:
        self._histories = [FileChatMessageHistory(str(place / f"{chat}.json")) for chat in chats]

    def append(self, chat: int) -> None:
        self._histories[chat].add_message(HumanMessage(TEXT))

    def append_many(self, chat: int, count: int) -> None:
        self._histories[chat].add_messages([HumanMessage(TEXT) for _ in range(count)])

    def last(self, chat: int, count: int) -> int:
        return len(self._histories[chat].messages[-count:])

    def kept(self) -> list[int]:
        return [len(history.messages) for history in self._histories]

    def close(self) -> None:
        pass
