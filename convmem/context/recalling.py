"""Sharing the budget between the newest turns and older ones that a query fits. Pure.

The newest turn comes first, then what is recalled within its share, then all that is left goes to
newest turns, and what these leave goes to what is recalled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convmem.context.recalled import (
    GAP,
    INTRODUCTION,
    SHARE,
    UNBOUNDED_TOKENS,
    Recalled,
    in_order,
    recall,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from convmem.context.choosing import Choice
    from convmem.context.recalled import Memory, Recall
    from convmem.context.tokens import TokenCounter
    from convmem.turns import Turn

# A turn's citation alone takes so much.
_LEAST_TOKENS = 32


class Room:
    """How many tokens there are, and what is recalled takes of them.

    Attributes:
        tokens: All that there are; ``None``: without an end.
        fixed: What comes with whatever is recalled; *around* is the part of it that is no text.
    """

    def __init__(self, tokens: int | None, counter: TokenCounter, around: int) -> None:
        self.tokens = tokens
        self.fixed = around + counter.count(INTRODUCTION)
        self._counter = counter
        self._gap = counter.count(GAP)

    def cost(self, recalled: Recalled) -> int:
        """Return what one turn takes, with the gap behind it."""
        return self._counter.count(recalled.as_text()) + self._gap

    def of(self, chosen: dict[int, Recalled]) -> int:
        """Return what all of them take."""
        return self.fixed + sum(map(self.cost, chosen.values())) if chosen else 0


def recall_beside(
    chosen_within: Callable[[int | None], Choice],
    newest_alone: Callable[[], Choice],
    wish: Recall,
    room: Room,
) -> tuple[Choice, list[Recalled], list[str]]:
    """Return the newest turns, what is recalled before them, and the notes of the search.

    Args:
        chosen_within: Chooses the newest turns for so many tokens.
        newest_alone: Chooses the newest turn, or the exchange that it ends, with all the room.
    """
    newest = newest_alone()
    if any(cut.characters for cut in newest.cuts):
        return newest, [], []
    share = _share(wish, room, newest)
    smallest = chosen_within(None if room.tokens is None else room.tokens - share)
    memories = wish.find(_wanted(smallest))
    found = list(memories.found)
    chosen: dict[int, Recalled] = {}
    if share > room.fixed:
        chosen = recall(found, share - room.fixed, room.cost, least=_LEAST_TOKENS)
    choice = smallest
    if room.tokens is not None:
        # With what was not used the window grows, perhaps over turns that were recalled: what
        # these took is free again.
        while True:
            choice = chosen_within(room.tokens - room.of(chosen))
            is_left_out = _wanted(choice)
            beyond = {at: each for at, each in chosen.items() if _is(is_left_out, found[at])}
            if len(beyond) == len(chosen):
                break
            chosen = beyond
        left = room.tokens - choice.tokens - (room.of(chosen) or room.fixed)
        rest = [
            at for at, memory in enumerate(found) if at not in chosen and _is(is_left_out, memory)
        ]
        more = recall([found[at] for at in rest], left, room.cost, least=_LEAST_TOKENS)
        chosen |= {rest[at]: each for at, each in more.items()}
    pairs = [(found[at], each) for at, each in chosen.items()]
    return choice, in_order(pairs), list(memories.notes)


def _share(wish: Recall, room: Room, newest: Choice) -> int:
    """Return the tokens that are set aside: what the newest turn takes is not among them."""
    if room.tokens is None:
        return UNBOUNDED_TOKENS if wish.tokens is None else wish.tokens
    wanted = room.tokens // SHARE if wish.tokens is None else wish.tokens
    return max(0, min(wanted, room.tokens - newest.tokens))


def _wanted(choice: Choice) -> Callable[[Turn, bool], bool]:
    """Return what says of a turn whether it is older than the choice, or in the trash."""
    shown = [cut.turn for cut in choice.cuts]
    seqs = {turn.seq for turn in shown if turn.seq is not None}
    first = min(seqs, default=None)
    unnumbered = [turn for turn in shown if turn.seq is None]

    def is_left_out(turn: Turn, is_trashed: bool) -> bool:
        if turn.seq is None:
            return turn not in unnumbered
        if is_trashed or first is None:
            return turn.seq not in seqs
        return turn.seq < first

    return is_left_out


def _is(is_left_out: Callable[[Turn, bool], bool], memory: Memory) -> bool:
    return is_left_out(memory.turn, memory.is_trashed)
