"""What verbs share that work on several conversations: which, how much there is, what to tell."""

from __future__ import annotations

import os

from convmem.archive import Archive
from convmem.cli.output.messages import Healing
from convmem.errors import ConvmemError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from convmem.cli.output.bar import Bar
    from convmem.conversation import Conversation


def chosen(
    archive: Archive, continuation_ids: list[str], all_conversations: bool, verb: str
) -> list[str]:
    """Return the conversations that are meant; wrong usage is said before anything is done."""
    if not continuation_ids and not all_conversations:
        raise UsageError(
            f"name the conversations to {verb}, or say --all", hint="see them with: convmem list"
        )
    if continuation_ids and all_conversations:
        raise UsageError("--all and ids do not go together", hint="choose one of them")
    if all_conversations:
        return sorted(chat.continuation_id for chat in archive.conversations())
    names = list(dict.fromkeys(continuation_ids))
    for name in names:
        archive.conversation(name)
    return names


def total_bytes(chats: Iterable[Conversation]) -> int:
    """Return how many bytes there are to read in all of *chats*."""
    return sum(map(size_of, chats))


def size_of(chat: Conversation) -> int:
    """Return the size of its file; 0 if that cannot be told: it is said when it is its turn."""
    try:
        return os.stat(chat.path).st_size
    except (OSError, ConvmemError):
        return 0


class Watch(Healing):
    """Tells of tails that were healed, and passes progress on to the bar."""

    bar: Bar | None = None

    def advanced(self, task: str, amount: int) -> None:
        """Draw it."""
        if self.bar is not None:
            self.bar.advance(amount)
