"""The words of a conversation's log and of its turns in the trash, as if all stood in one log."""

from __future__ import annotations

from heapq import nlargest
from math import inf

from convmem.search.trashed import is_trashed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from convmem.search.finding import Words
    from convmem.search.index.turn_facts import Facts, Place
    from convmem.search.index.wanted import Passes, Wanted
    from convmem.search.trashed import TrashedTurns


class LogAndTrash:
    """Both; each method answers as ``finding.Words`` says."""

    def __init__(self, log: Words, trashed: TrashedTurns) -> None:
        self._log = log
        self._trashed = trashed
        self.facts: dict[int, Facts] = log.facts
        self.facts.update(trashed.facts)
        self.turns = log.turns + trashed.turns

    def roles(self) -> dict[int, str]:
        return {**self._trashed.roles(), **self._log.roles()}

    def log_names(self) -> dict[int, str]:
        return self._log.log_names()

    def log_of(self, turn: int) -> int:
        return self._log.log_of(turn)

    def count(self, wanted: Wanted, most: int) -> int:
        count = self._log.count(wanted, most)
        return min(most, count + len(self._trashed.matching(wanted)))

    def matching(
        self, wanted: Wanted, most: int = -1, near: Collection[int] | None = None
    ) -> list[int]:
        in_log = None if near is None else [turn for turn in near if not is_trashed(turn)]
        found = self._log.matching(wanted, most, in_log)
        if most < 0 or len(found) < most:
            found = found + self._trashed.matching(wanted, -1 if most < 0 else most - len(found))
        return found if near is None else list(set(near).intersection(found))

    def newest(self, wanted: Wanted | None, most: int, passes: Passes) -> list[int]:
        found = self._log.newest(wanted, most, passes)
        found += self._trashed.newest(wanted, most, passes)
        return nlargest(most, found, key=lambda turn: self.facts[turn].age)

    def learn(self, turns: Collection[int]) -> None:
        self._log.learn([turn for turn in turns if not is_trashed(turn)])

    def beside(
        self, turns: Collection[int], reach: int, within_seconds: float = inf
    ) -> dict[int, tuple[list[int], list[int]]]:
        in_log = [turn for turn in turns if not is_trashed(turn)]
        in_trash = [turn for turn in turns if is_trashed(turn)]
        found = self._log.beside(in_log, reach, within_seconds)
        return found | self._trashed.beside(in_trash, reach, within_seconds)

    def place(self, turn: int) -> Place:
        return self._trashed.place(turn) if is_trashed(turn) else self._log.place(turn)
