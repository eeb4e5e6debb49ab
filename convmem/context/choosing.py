"""Choosing the turns that fit: newest first, without a gap, tool calls together with results.

Pure: the turns come as a stream from the newest on, and no more is taken from it than is needed.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from convmem.context.cutting import Cut, cut_to_fit
from convmem.context.parts import text_length
from convmem.tools import tool_ids
from convmem.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Cost = Callable[[Cut], int]

# How far back the call that the newest turn answers is looked for.
_REACH = 200
# A text longer than this for each token left is not counted: it cannot fit.
_MOST_IN_A_TOKEN = 128


class Choice:
    """What was chosen.

    Attributes:
        cuts: The turns, oldest first.
        tokens: What they take.
        is_orphan: The newest turn is the result of a tool call that is not among them.
        passed: How many older turns were looked at and left out.
        has_more: There may be more of those.
    """

    def __init__(self) -> None:
        self.cuts: list[Cut] = []  # newest first while it is being filled
        self.tokens = 0
        self.is_orphan = False
        self.passed = 0
        self.has_more = False


def choose(
    newest_first: Iterable[Turn], room: int | None, max_turns: int | None, cost: Cost
) -> Choice:
    """Choose from *newest_first* what fits into *room* tokens and *max_turns* turns.

    The newest turn is always there, cut if need be, and if it answers a tool call, the turns
    from that call on are, even where they are more than *max_turns*. An older exchange of calls
    and results that does not fit as a whole ends the choice, as does one whose call is nowhere.
    """
    choice = Choice()
    rest = _take_newest(iter(newest_first), choice, room, cost)
    waiting: list[Cut] = []
    tokens = 0
    pending: set[str] = set()
    for turn in rest:
        waiting.append(Cut(turn))
        if max_turns is not None and len(choice.cuts) + len(waiting) > max_turns:
            choice.has_more = True
            break
        left = None if room is None else room - choice.tokens - tokens
        if left is not None and _is_hopeless(turn, left):
            choice.has_more = True
            break
        price = cost(waiting[-1])
        if left is not None and price > left:
            choice.has_more = True
            break
        tokens += price
        calls, results = tool_ids(turn)
        pending.update(results)
        pending.difference_update(calls)
        if not pending:
            choice.cuts += waiting
            choice.tokens += tokens
            waiting, tokens = [], 0
    choice.passed = len(waiting)
    choice.cuts.reverse()
    if choice.is_orphan:  # its call may have been beyond the reach, and fit all the same
        made = {call for cut in choice.cuts for call in tool_ids(cut.turn)[0]}
        choice.is_orphan = not made.issuperset(tool_ids(choice.cuts[-1].turn)[1])
    return choice


def _take_newest(
    turns: Iterator[Turn], choice: Choice, room: int | None, cost: Cost
) -> Iterator[Turn]:
    """Choose the newest turn, with the call that it answers; return the turns before these."""
    exchange: list[Turn] = []
    pending: set[str] = set()
    for turn in turns:
        exchange.append(turn)
        calls, results = tool_ids(turn)
        pending.update(results)
        pending.difference_update(calls)
        if not pending or len(exchange) >= _REACH:
            break
    if not exchange:
        return turns
    if not pending:
        cuts, fits = _fitted(exchange, room, cost, may_flatten=not any(map(_has_tools, exchange)))
        if fits or len(exchange) == 1:
            choice.cuts = cuts
            choice.tokens = sum(map(cost, cuts))
            return turns
    choice.is_orphan = True
    choice.cuts, _ = _fitted(exchange[:1], room, cost, may_flatten=True)
    choice.tokens = sum(map(cost, choice.cuts))
    return chain(exchange[1:], turns)


def _fitted(
    turns: list[Turn], room: int | None, cost: Cost, *, may_flatten: bool
) -> tuple[list[Cut], bool]:
    whole = [Cut(turn) for turn in turns]
    if room is None:
        return whole, True
    if not any(_is_hopeless(turn, room) for turn in turns) and sum(map(cost, whole)) <= room:
        return whole, True
    return cut_to_fit(turns, room, cost, may_flatten=may_flatten)


def _is_hopeless(turn: Turn, room: int) -> bool:
    return text_length(turn.content) > _MOST_IN_A_TOKEN * max(room, 1)


def _has_tools(turn: Turn) -> bool:
    return any(tool_ids(turn))
