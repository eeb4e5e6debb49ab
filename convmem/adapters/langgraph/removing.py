"""Removing checkpoints: what goes with them, and what others have to tell anew then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convmem.adapters.langgraph.log import (
    Gone,
    Log,
    NotWhole,
    event_of,
    events_of,
    kind_of,
    missing,
    spelled_out,
    turns_of_savers,
)
from convmem.adapters.langgraph.packing import SOURCE
from convmem.adapters.langgraph.references import absolute, as_is, referred, remapped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from convmem import Conversation
    from convmem.adapters.langgraph.log import Found


def keep(chat: Conversation, choose: Callable[[Sequence[Found]], Sequence[Found]]) -> None:
    """Move the checkpoints that *choose* does not return to the trash, and what only they need.

    Others may go on with the thread meanwhile. A crash leaves nothing worse than too much.

    Raises:
        ConversationNotFound, LockTimeout, StorageFull, StorageError, UsageError: As ``remove``.
    """
    log = Log(chat)
    found = [*log.checkpoints(None)]
    kept = [*choose(found)]
    if len(kept) == len(found):
        return
    # Others refer to what the newest refers to, or to the newest.
    for each in {each.body["ns"]: each for each in reversed(found)}.values():
        log.fetch([each.seq, *events_of(each)])
    going = _Going(log, kept)
    chat.record_many(going.replacing)
    chat.remove(going.ids, reason=SOURCE)
    late = [each for each in Log(chat).checkpoints(None) if each.seq > log.last]
    broken = [each for each in late if missing(chat, set(events_of(each)))]
    chat.record_many(_retold(log, broken))


class _Going:
    """What goes so that some checkpoints are all that a thread has, and what takes its place.

    Attributes:
        ids: The turns that go.
        replacing: Checkpoints that stay, told without what goes.
    """

    def __init__(self, log: Log, kept: list[Found]) -> None:
        moved = _moved(kept)
        self.replacing = _retold(log, [each for each in kept if each.seq in moved])
        self.ids: list[str] = []
        stay = {each.seq for each in kept} - moved
        names = {(each.body["ns"], each.body["id"]) for each in kept}
        there: set[tuple[str, str]] = set()
        writes: list[tuple[str, int, dict[str, Any]]] = []
        messages: dict[int, str] = {}
        for turn in turns_of_savers(log.chat):
            seq, id, kind = turn.seq or 0, turn.id or "", kind_of(turn)
            if seq > log.last:
                break  # others recorded it meanwhile
            if kind == "message":
                messages[seq] = id
            elif kind == "writes":
                writes.append((id, seq, turn.extra[kind]))
            elif kind == "checkpoint":
                there.add((turn.extra[kind]["ns"], turn.extra[kind]["id"]))
                if seq not in stay:
                    self.ids.append(id)
        needed = {
            seq
            for each in kept
            for channel, packed in each.body["values"].items()
            for seq in _needed_by(packed, each.seq, channel, log)
        }
        for id, seq, body in writes:
            name = body["ns"], body["checkpoint"]
            if name in there and name not in names:
                self.ids.append(id)
            else:  # those of a checkpoint that is still to come, too
                for _, _, packed in body["values"]:
                    needed |= _needed_by(packed, seq, None, log)
        self.ids += [id for seq, id in messages.items() if seq not in needed]


def _moved(kept: list[Found]) -> set[int]:
    """Return which of *kept* refer to an event that is none of them, or is told anew itself."""
    stay = {each.seq for each in kept}
    moved: set[int] = set()
    while more := {
        each.seq
        for each in kept
        if each.seq not in moved and not (stay - moved).issuperset(events_of(each))
    }:
        moved |= more
    return moved


def _needed_by(packed: dict[str, Any], own: int, channel: str | None, log: Log) -> set[int]:
    try:
        return referred(spelled_out(packed, own, channel, log))
    except (NotWhole, Gone):
        return referred(remapped(packed, own, as_is))


def _retold(log: Log, found: list[Found]) -> list[dict[str, Any]]:
    """Return events that tell the same as those of *found*, without reference to other events."""
    made = []
    for each in reversed(found):
        values = {}
        for channel, packed in each.body["values"].items():
            try:
                values[channel] = spelled_out(packed, each.seq, channel, log)
            except (NotWhole, Gone):
                continue  # it could not be told before
        place = each.body.get("place", each.seq)
        since = absolute(each.body.get("since", place), each.seq)
        body = {**each.body, "values": values, "since": since, "place": place}
        made.append(event_of("checkpoint", body))
    return made
