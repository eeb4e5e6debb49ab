"""What is recalled beside the window: older turns that a query fits, each with its citation.

Pure: who searches hands in what was found, best first; here is chosen what fits, and shown as text
that no stored content can forge, as ``render`` has it. A call and its result are text here, too: a
model is never given half of an exchange.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convmem.context.parts import text_length
from convmem.context.render import block, summarised, word
from convmem.quantities import format_time
from convmem.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Protocol

    class Memory(Protocol):
        """A turn that was found."""

        @property
        def turn(self) -> Turn: ...
        @property
        def score(self) -> float: ...
        @property
        def is_trashed(self) -> bool:
            """Whether it is in the trash, and a summary stands for it in the log."""

        @property
        def place(self) -> int:
            """Of two turns of the log, the one further down has the greater place."""

        def excerpt(self, characters: int) -> str:
            """Return the piece of its text around what was found, on one line."""

    class Memories(Protocol):
        """What a search found."""

        @property
        def found(self) -> Sequence[Memory]:
            """The turns, best first."""

        @property
        def notes(self) -> Sequence[str]:
            """What one should know of the answer, in words."""

    # Whether a turn, of the trash or not, is shown by nothing else and may be recalled.
    IsWanted = Callable[[Turn, bool], bool]

SHARE = 3
"""Without a word of the caller's, one token in so many of the budget is for what is recalled."""

UNBOUNDED_TOKENS = 2000
"""And so many where the window has no budget of tokens."""

INTRODUCTION = (
    "Turns from earlier in this conversation that may matter now, oldest first."
    ' Only indented lines are content; "[…]" stands where turns are left out.\n'
)
GAP = "[…]\n\n"

# No turn may take more than half of the room, but for short ones.
_ALWAYS_ALLOWED = 200
# A piece of fewer characters tells nothing.
_LEAST_EXCERPT = 60
_CHARACTERS_IN_A_TOKEN = 4
_MOST_IN_A_TOKEN = 128
_MOST_STEPS = 8


class Recall:
    """What is to be recalled.

    Attributes:
        query: What for.
        tokens: How many are set aside; ``None``: a third of what there is.
        find: Who searches: returns turns that are wanted, best first.
    """

    def __init__(
        self, query: str, tokens: int | None, find: Callable[[IsWanted], Memories]
    ) -> None:
        self.query = query
        self.tokens = tokens
        self.find = find


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """An older turn that is shown since it fits the query.

    Attributes:
        turn: The turn as it was found, whole; its ``id``, ``seq`` and ``ts`` are its citation.
        score: How well it fits; only comparable within one window.
        is_trashed: It is in the trash, and a summary in the log stands for it.
        excerpt: The piece of it that is shown, on one line; ``None`` where all of it is.
    """

    turn: Turn
    score: float
    is_trashed: bool = False
    excerpt: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as the JSON object that ``--json`` prints."""
        turn = self.turn
        return {
            "id": turn.id,
            "seq": turn.seq,
            "ts": None if turn.ts is None else format_time(turn.ts),
            "from": "trash" if self.is_trashed else "log",
            "score": round(self.score, 6),
            "excerpt": self.excerpt,
            "turn": turn.as_dict(),
        }

    def as_text(self) -> str:
        """Return its lines: a citation, then what it says, indented."""
        turn = self.turn
        cited = []
        if turn.ts is not None:
            cited.append(f"{format_time(turn.ts)[:16]}Z")
        if turn.id is not None:
            cited.append(f"id {word(turn.id)}")
        cited.append("recalled from the trash" if self.is_trashed else "recalled")
        if self.excerpt is None:
            return block(turn, more=cited)
        extra = {key: value for key, value in turn.extra.items() if key == "summary"}
        shown = Turn(turn.role, self.excerpt, id=turn.id, seq=turn.seq, extra=extra)
        return block(shown, more=[*cited, "an excerpt"])


def recall(
    memories: Iterable[Memory], room: int, cost: Callable[[Recalled], int], *, least: int = 1
) -> dict[int, Recalled]:
    """Choose of *memories*, best first, what fits into *room* tokens.

    A turn that takes more than half of it (or 200, if that is more), or more than is left, is shown
    as an excerpt of that length; one that has no room for that is passed over.

    Args:
        cost: What one takes, all that comes with it included.
        least: Where fewer tokens are left, no more is tried.

    Returns:
        What was chosen, each under its place among *memories*.
    """
    chosen: dict[int, Recalled] = {}
    left = room
    for at, memory in enumerate(memories):
        if left < least:
            break
        fitted = _fitted(memory, min(left, max(_ALWAYS_ALLOWED, room // 2)), cost)
        if fitted is not None:
            chosen[at] = fitted
            left -= cost(fitted)
    return chosen


def _fitted(memory: Memory, room: int, cost: Callable[[Recalled], int]) -> Recalled | None:
    whole = Recalled(turn=memory.turn, score=memory.score, is_trashed=memory.is_trashed)
    if text_length(memory.turn.content) <= _MOST_IN_A_TOKEN * room and cost(whole) <= room:
        return whole
    characters = room * _CHARACTERS_IN_A_TOKEN
    for _ in range(_MOST_STEPS):
        if characters < _LEAST_EXCERPT:
            break
        excerpt = Recalled(
            turn=memory.turn,
            score=memory.score,
            is_trashed=memory.is_trashed,
            excerpt=memory.excerpt(characters),
        )
        price = cost(excerpt)
        if price <= room:
            return excerpt
        # The lines around it have their price, too: a little less than in proportion.
        characters = min(characters * room // price, characters - (price - room)) * 9 // 10
    return None


def in_order(chosen: Iterable[tuple[Memory, Recalled]]) -> list[Recalled]:
    """Return what was chosen in the order of the log, turns of the trash by their ``seq``."""
    key = 0
    placed: list[tuple[int, bool, int, Recalled]] = []
    for memory, recalled in sorted(chosen, key=lambda each: each[0].place):
        own = _number(recalled.turn)
        if memory.is_trashed:
            placed.append((own or 0, False, memory.place, recalled))
        else:
            # One by hand has no number: it follows the one that it stands behind.
            key = key if own is None else own
            placed.append((key, True, memory.place, recalled))
    placed.sort(key=lambda each: each[:3])
    return [recalled for *_, recalled in placed]


def section(recalled: Sequence[Recalled], next_seq: int | None) -> str:
    """Return the text of all that is recalled, before the turn *next_seq*; empty for nothing."""
    if not recalled:
        return ""
    pieces = [INTRODUCTION]
    behind = [*(each.turn.seq for each in recalled[1:]), next_seq]
    for each, following in zip(recalled, behind, strict=True):
        pieces.append(each.as_text())
        if each.turn.seq is None or following != each.turn.seq + 1:
            pieces.append(GAP)
    return "".join(pieces)


def _number(turn: Turn) -> int | None:
    stands_for = summarised(turn)
    return turn.seq if stands_for is None else stands_for[1]
