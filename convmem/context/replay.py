"""A stream of turns that can be gone through again: each is taken and counted once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convmem.context.cutting import Cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from convmem.turns import Turn


class Replay:
    """The turns of a stream from its beginning, as often as they are asked for."""

    def __init__(self, turns: Iterable[Turn], cost: Callable[[Cut], int]) -> None:
        self._rest = iter(turns)
        self._cost = cost
        self._taken: list[Turn] = []
        # By which turn it is, not by what it says; each is held, so that no other becomes it.
        self._costs: dict[int, tuple[Turn, int]] = {}

    def __iter__(self) -> Iterator[Turn]:
        at = 0
        while True:
            if at == len(self._taken):
                turn = next(self._rest, None)
                if turn is None:
                    return
                self._taken.append(turn)
            yield self._taken[at]
            at += 1

    def cost(self, cut: Cut) -> int:
        """Return what a turn takes, counted the first time where it is whole."""
        if cut.characters:
            return self._cost(cut)
        known = self._costs.get(id(cut.turn))
        if known is None:
            known = self._costs[id(cut.turn)] = (cut.turn, self._cost(cut))
        return known[1]
