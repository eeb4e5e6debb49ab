"""What the index knows of a turn without reading it: its facts, and the place where it stands."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Facts:
    """What the index knows of a turn.

    Attributes:
        size: Its text, in characters.
        micros: When, in microseconds since 1970, or ``None``.
        role: The number of its role.
        mark: Stands for what it says; the same in every index.
        asks: Whether it ends in a question.
    """

    __slots__ = ("asks", "mark", "micros", "role", "size")

    def __init__(self, size: int, micros: int | None, role: int, mark: int, asks: int) -> None:
        self.size = size
        self.micros = micros
        self.role = role
        self.mark = mark
        self.asks = bool(asks)

    @property
    def age(self) -> int:
        """Orders turns by time, the newest highest, and those of one time in some fixed way."""
        return ((self.micros or 0) << 32) + self.mark


class Place:
    """Where a turn stands: in which log, at which byte, and what stood there."""

    __slots__ = ("log", "mark", "offset")

    def __init__(self, log: int, offset: int, mark: int) -> None:
        self.log = log
        self.offset = offset
        self.mark = mark


def of_one_talk(
    facts: Mapping[int, Facts], turn: int, others: list[int], micros: float
) -> list[int]:
    """Return those of *others*, nearest first, that are of one talk with *turn*."""
    before = facts[turn].micros
    for at, other in enumerate(others):
        now = facts[other].micros
        if now is not None and before is not None and abs(now - before) > micros:
            return others[:at]
        before = now if now is not None else before
    return others
