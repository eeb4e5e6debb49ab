"""What a keeper of histories must do to stand in the table, and what all of them are given.

Each file beside this one has one, as a class ``History``. It is opened in a process of its own,
in the environment that has its package (see ``worker``), so nothing here may import more than
Python itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

# What every turn says: a sentence or two, as people write.
TEXT = "About seven hours, with one change; the line along the lake is the slower one. " * 2


class Peer(Protocol):
    """Histories of some chats, opened once as a server would, and used by all its threads.

    ``append``, ``append_many`` and ``last`` may be coroutine functions. They return when the
    history says that it is done, and raise if it refuses.
    """

    def __init__(self, place: Path, chats: Sequence[str], *, durable: bool) -> None:
        """Open or make the histories in the folder *place*; several processes may do so at once.

        *durable* asks for turns that survive a power cut when they are answered; who cannot
        choose ignores it.
        """

    def append(self, chat: int) -> Any:
        """Add one turn that says ``TEXT`` to a chat, told by its place among the chats."""

    def append_many(self, chat: int, count: int) -> Any:
        """Add *count* such turns in one call."""

    def last(self, chat: int, count: int) -> Any:
        """Read the last turns, as the program would use them; return how many there were."""

    def kept(self) -> list[int]:
        """Return how many turns each chat has, by the history's own reader."""

    def close(self) -> None:
        """Let go of everything."""
