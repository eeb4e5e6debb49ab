"""Which turns a model asked for: the last, those before or behind one, or a piece of one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from convmem import Conversation, ConvmemError, Turn, UsageError
from convmem.adapters.mcp.limits import Limits
from convmem.adapters.mcp.shown import fitting, shown


def turns_asked_for(
    chat: Conversation,
    limits: Limits,
    *,
    count: int,
    before: int | None = None,
    after: int | None = None,
    roles: list[str] | None = None,
    turn: int | None = None,
    offset: int | None = None,
    details: bool = False,
) -> dict[str, Any]:
    """Return the answer of ``tail``: ``turns``, oldest first, and how to get those left out.

    Reads from the end, or from the seq that was named, and no further than it must.

    Raises:
        UsageError: Arguments that contradict each other.
        ConversationNotFound: There is no such conversation; or kind ``not_found``, no such turn.
    """
    if sum(each is not None for each in (before, after, turn)) > 1:
        raise UsageError("before, after and turn do not go together", hint="give one of them")
    if offset is not None and turn is None:
        raise UsageError("offset means nothing without turn")
    damage: list[object] = []
    found: dict[str, Any] = {"conversation": chat.continuation_id}
    if turn is not None:
        wanted = _turn(chat, turn)
        found["turns"] = [shown(wanted, limits.answer_bytes, offset=offset or 0, details=details)]
        return found
    if after is not None:
        rest = _said(chat.turns(after=after, roles=roles, on_damage=damage.append), roles)
        read = list(islice(rest, count + 1))
        turns = fitting(read[:count], limits.answer_bytes, limits.share_bytes, details=details)
        left_out = len(read) - len(turns)
    else:
        read = _newest(chat, count + 1, before, roles, damage.append)
        newest_first = reversed(read[-count:])
        turns = fitting(newest_first, limits.answer_bytes, limits.share_bytes, details=details)
        turns.reverse()
        left_out = len(read) - len(turns)
    found["turns"] = turns
    seqs = [each["seq"] for each in turns if "seq" in each]
    if seqs and left_out and after is None:
        found["older"] = {"before": seqs[0]}
    if seqs and (before is not None or (after is not None and left_out)):
        found["newer"] = {"after": seqs[-1]}
    if damage:
        found["damaged"] = len(damage)
    return found


def _turn(chat: Conversation, seq: int) -> Turn:
    for each in chat.turns(after=seq - 1):
        if each.seq is not None:
            if each.seq == seq:
                return each
            break
    error = ConvmemError(
        f"{chat.continuation_id!r} has no turn {seq:,}", hint="see which there are with: tail"
    )
    error.kind = "not_found"
    raise error


def _newest(
    chat: Conversation,
    count: int,
    before: int | None,
    roles: list[str] | None,
    damaged: Callable[[object], None],
) -> list[Turn]:
    """Return the last *count* turns, of those before the seq *before*.

    Asks for more, and again more, until there are enough that somebody said.
    """
    asked = count
    while True:
        met: list[object] = []
        said: deque[Turn] = deque(maxlen=count)
        if before is None:
            tail = chat.tail(asked, roles=roles)
            said.extend(_said(tail, roles))
            met = [None] * tail.damaged
            is_all = len(tail) < asked
        else:
            start = max(0, before - 1 - asked)
            rest = chat.turns(after=start, roles=roles, on_damage=met.append)
            said.extend(_said(_until(rest, before), roles))
            is_all = start == 0
        if len(said) == count or is_all:
            for each in met:
                damaged(each)
            return list(said)
        asked *= 4


def _until(turns: Iterable[Turn], seq: int) -> Iterator[Turn]:
    for turn in turns:
        if turn.seq is not None and turn.seq >= seq:
            return
        yield turn


def _said(turns: Iterable[Turn], roles: list[str] | None) -> Iterator[Turn]:
    """Leave out what nobody said: events of an import, and what was scrubbed."""
    for turn in turns:
        meta = turn.meta or {}
        is_event = turn.role == "event" and "source" in meta
        if roles is not None or not (is_event or (turn.content == "" and "scrubbed" in meta)):
            yield turn
