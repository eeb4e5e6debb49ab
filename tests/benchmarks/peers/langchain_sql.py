"""LangChain: ``SQLChatMessageHistory`` on SQLite, as its documentation sets it up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from langchain_community.chat_message_histories import SQLChatMessageHistory
from langchain_core.messages import HumanMessage
from protocol import TEXT
from sqlalchemy import create_engine


class History:
    """A history for each chat, over one engine."""

    def __init__(self, place: Path, chats: Sequence[str], *, durable: bool) -> None:
        self._engine = create_engine(f"sqlite:///{place / 'messages.db'}")
        self._histories = [SQLChatMessageHistory(chat, connection=self._engine) for chat in chats]

    def append(self, chat: int) -> None:
        self._histories[chat].add_message(HumanMessage(TEXT))

    def append_many(self, chat: int, count: int) -> None:
        self._histories[chat].add_messages([HumanMessage(TEXT) for _ in range(count)])

    def last(self, chat: int, count: int) -> int:
        return len(self._histories[chat].messages[-count:])

    def kept(self) -> list[int]:
        return [len(history.messages) for history in self._histories]

    def close(self) -> None:
        self._engine.dispose()
