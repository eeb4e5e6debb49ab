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
    skip: int | None = None,
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
    if offset is not None and turn is None and count != 1:
        raise UsageError("offset goes with turn, or with count=1")
    if skip is not None and turn is not None:
        raise UsageError("skip and turn do not go together", hint="give one of them")
    damage: list[object] = []
    found: dict[str, Any] = {"conversation": chat.continuation_id}
    if turn is not None:
        wanted = _turn(chat, turn)
        found["turns"] = [shown(wanted, limits.answer_bytes, offset=offset or 0, details=details)]
        return found
    skipped = skip or 0
    if after is not None:
        rest = _said(_behind(chat, after, roles, damage.append), roles)
        read = list(islice(rest, skipped, skipped + count + 1))
        page = read[:count]
    else:
        read = _newest(chat, skipped + count + 1, before, roles, damage.append)
        read = read[: max(0, len(read) - skipped)]
        page = read[: -count - 1 : -1]
    if offset:
        turns = [shown(each, limits.answer_bytes, offset=offset, details=details) for each in page]
    else:
        turns = fitting(page, limits.answer_bytes, limits.share_bytes, details=details)
    if after is None:
        turns.reverse()
    found["turns"] = turns
    left_out = len(read) - len(turns)
    pages = _Pages(turns, before, after, skipped, count)
    if after is None:
        if left_out:
            found["older"] = pages.ahead_of(0)
        if turns and (before is not None or skipped):
            found["newer"] = pages.newer()
    elif left_out:
        found["newer"] = pages.behind(len(turns) - 1)
    pages.say_where_cuts_go_on()
    if damage:
        found["damaged"] = len(damage)
    return found


class _Pages:
    """How to ask for what is not on a page of turns, each at most once.

    A turn that was added to the log by hand has no ``seq``: its place is told by the next one that
    has, and ``skip``, how many to leave out from there.
    """

    def __init__(
        self,
        turns: list[dict[str, Any]],
        before: int | None,
        after: int | None,
        skipped: int,
        count: int,
    ) -> None:
        self._turns = turns
        self._before = before
        self._after = after
        self._skipped = skipped
        self._count = count

    def ahead_of(self, at: int) -> dict[str, int]:
        """Return where the turns before that at *at* are, read from the end."""
        for behind, each in enumerate(self._turns[at:]):
            if "seq" in each:
                return _place("before", each["seq"], behind)
        return _place("before", self._before, self._skipped + len(self._turns) - at)

    def behind(self, at: int) -> dict[str, int]:
        """Return where the turns behind that at *at* are, read onwards."""
        for ahead, each in enumerate(reversed(self._turns[: at + 1])):
            if "seq" in each:
                return _place("after", each["seq"], ahead)
        return _place("after", self._after, self._skipped + at + 1)

    def newer(self) -> dict[str, int]:
        """Return where those behind a page are that was read from the end."""
        if any("seq" in each for each in self._turns):
            return self.behind(len(self._turns) - 1)
        if self._skipped or self._before is None:
            return _place("before", self._before, max(0, self._skipped - self._count))
        # How many without a seq there are before this page is not known: they come again.
        return _place("after", self._before - 1, 0)

    def say_where_cuts_go_on(self) -> None:
        """Complete the turns that are cut and have no seq by which to ask for the rest."""
        for at, each in enumerate(self._turns):
            cut = each.get("cut", {})
            if "next_offset" in cut:
                place = self.ahead_of(at + 1) if self._after is None else self.behind(at - 1)
                cut["more"] = {"count": 1, **place, "offset": cut.pop("next_offset")}


def _place(name: str, seq: int | None, skip: int) -> dict[str, int]:
    return ({} if seq is None else {name: seq}) | ({"skip": skip} if skip else {})


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


def _behind(
    chat: Conversation, seq: int, roles: list[str] | None, damaged: Callable[[object], None]
) -> Iterator[Turn]:
    """Yield the turns behind that of *seq*; also those right behind it that have none."""
    turns = chat.turns(after=max(0, seq - 1), on_damage=damaged)
    is_behind = seq == 0
    for turn in turns:
        is_first = not is_behind and turn.seq is not None and turn.seq >= seq
        is_behind = is_behind or is_first
        is_it = is_first and turn.seq == seq
        if is_behind and not is_it and (roles is None or turn.role in roles):
            yield turn


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
