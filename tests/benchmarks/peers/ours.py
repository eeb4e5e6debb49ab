"""convmem: ``record``, ``record_many`` and ``tail`` of one archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from protocol import TEXT

from convmem import Archive


class History:
    """One archive, shared by all threads, as README says."""

    def __init__(self, place: Path, chats: Sequence[str], *, durable: bool) -> None:
        self._archive = Archive.open(place, durability="always" if durable else "none")
        self._chats = [self._archive.conversation(chat) for chat in chats]

    def append(self, chat: int) -> None:
        self._chats[chat].record("user", TEXT)

    def append_many(self, chat: int, count: int) -> None:
        self._chats[chat].record_many([("user", TEXT)] * count)

    def last(self, chat: int, count: int) -> int:
        return len(self._chats[chat].tail(count))

    def kept(self) -> list[int]:
        """Count the turns; their numbers must have no gap and no order but the right one."""
        counts = []
        for chat in self._chats:
            seqs = [turn.seq for turn in chat.turns()]
            if seqs != list(range(1, len(seqs) + 1)):
                raise RuntimeError("turns are missing, doubled or out of order")
            counts.append(len(seqs))
        return counts

    def close(self) -> None:
        self._archive.close()
