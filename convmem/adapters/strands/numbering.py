"""Which turn is which message: Strands' ids, and the numbers of what others recorded."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from convmem import ConversationNotFound
from convmem.adapters.strands.stored import own_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem import Conversation, Turn

_EVENT = "event"
_FIRST_LOOK = 48  # a window of 40 messages, most often
_MOST_ENDS = 10_000


def numbered_from(chat: Conversation, first: int) -> list[tuple[int, Turn]]:
    """Return the messages with ids from *first* on, in their order; all where it is negative."""
    for turns, is_all in _ever_more(chat, _FIRST_LOOK):
        in_order = (own_number(turn) for turn in turns if not _is_moved(turn))
        if not is_all and not any(each is not None and each <= first for each in in_order):
            continue
        return [each for each in _numbered(turns) if each[0] >= first or first < 0]
    raise AssertionError("a log has an end")


def message_turn(chat: Conversation, number: int) -> Turn | None:
    """Return the message of this id; Strands' own where others recorded one in its place."""
    same = [turn for each, turn in numbered_from(chat, max(number, 0)) if each == number]
    own = [turn for turn in same if own_number(turn) is not None]
    found = own or same
    return found[0] if found else None


class Ends:
    """Remembers the ends of conversations that were written to, so that most appends look less."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[int, int]] = {}  # seq and id of the last message

    def before(self, chat: Conversation, number: int) -> int | None:
        """Return the ``seq`` of the last turn, if every message has a lower id than *number*.

        Else ``None``. Reads the last turn; or some more, where somebody else has recorded since
        ``learn``.
        """
        known = self._known.get(chat.continuation_id)
        if known is not None and known[1] < number and _ends_with(chat, known[0]):
            return known[0]
        return _look_before(chat, number)

    def learn(self, chat: Conversation, seq: int, number: int) -> None:
        """Take in that message *number*, the highest, was recorded as turn *seq*, the last."""
        with self._lock:
            self._known.pop(chat.continuation_id, None)
            self._known[chat.continuation_id] = seq, number
            if len(self._known) > _MOST_ENDS:
                del self._known[next(iter(self._known))]


def _ends_with(chat: Conversation, seq: int) -> bool:
    try:
        end = chat.cursor()
    except ConversationNotFound:
        return False
    return end.seq == seq and not end.lines


def _look_before(chat: Conversation, number: int) -> int | None:
    for turns, is_all in _ever_more(chat, 4):
        own = [turn for turn in turns if own_number(turn) is not None]
        # One that was not moved has a higher id than all before it.
        if is_all or not all(map(_is_moved, own)):
            if any((own_number(turn) or 0) >= number for turn in own):
                return None
            return (turns[-1].seq or 0) if turns else 0
    raise AssertionError("a log has an end")


def _numbered(turns: list[Turn]) -> list[tuple[int, Turn]]:
    """Return the messages among *turns* with their ids: what others recorded follows on."""
    made: list[tuple[int, Turn]] = []
    own: dict[int, int] = {}
    last = -1
    for turn in turns:
        number = own_number(turn)
        if number is None:
            if _is_said(turn):
                last += 1
                made.append((last, turn))
            continue
        last = max(last, number)
        if number in own:
            made[own[number]] = (number, turn)  # as it was said later
        else:
            own[number] = len(made)
            made.append((number, turn))
    made.sort(key=lambda each: each[0])
    return made


def _ever_more(chat: Conversation, count: int) -> Iterator[tuple[list[Turn], bool]]:
    """Yield the last *count* turns, and whether these are all; then more and more of them."""
    while True:
        try:
            turns: list[Turn] = chat.tail(count)
        except ConversationNotFound:
            turns = []
        yield turns, len(turns) < count
        count *= 4


def _is_moved(turn: Turn) -> bool:
    return bool((turn.meta or {}).get("moved"))


def _is_said(turn: Turn) -> bool:
    return turn.role != _EVENT and not (turn.content == "" and "scrubbed" in (turn.meta or {}))
