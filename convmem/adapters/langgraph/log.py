"""The log of a thread: its checkpoints, the newest first, and the turns that they refer to."""

from __future__ import annotations

import heapq
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple

from convmem import ConversationNotFound
from convmem.adapters.langgraph.packing import SOURCE
from convmem.adapters.langgraph.references import absolute, as_is, coded, decoded, remapped
from convmem.adapters.langgraph.shapes import are_writes, is_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from langchain_core.messages import BaseMessage

    from convmem import Conversation, Turn
    from convmem.adapters.langgraph.packing import Packing

_MARK = b'"source":"langgraph"'
_TAG = b'"tag":"'
# What is looked at from the end, at first and at most at once.
_FIRST_LOOK_TURNS = 32
_LONGEST_LOOK_TURNS = 4096
# Turns that stand farther apart are found by bisection, nearer ones by reading on.
_FAR_TURNS = 512


class NotWhole(Exception):
    """Something that a checkpoint refers to is damaged."""


class Gone(Exception):
    """What a value refers to was dropped, by a policy or by hand."""


class Found(NamedTuple):
    """A checkpoint in a log."""

    seq: int
    id: str
    body: dict[str, Any]
    writes: list[tuple[int, dict[str, Any]]]
    """Their ``seq`` and body, oldest first."""


class Log:
    """A thread's log, read back from its end, and what of it was read."""

    def __init__(self, chat: Conversation, *, is_shared: bool = False) -> None:
        self.chat = chat
        self.is_shared = is_shared  # whether several checkpoints are made of the same turns
        self.last = 0
        self._first: int | None = None
        self._turns: dict[int, Turn] = {}

    @property
    def first(self) -> int:
        """The ``seq`` of the first turn that is left."""
        if self._first is None:
            try:
                seqs = (stored.seq for stored in self.chat.stored_turns())
                self._first = next((seq for seq in seqs if seq is not None), 1)
            except ConversationNotFound:
                return self.last + 1  # all of it was just deleted
        return self._first

    def checkpoints(
        self, ns: str | None, *, behind: tuple[str, Collection[str]] = ("", ())
    ) -> Iterator[Found]:
        """Yield the checkpoints of *ns*, or of all, the newest first, each with its writes.

        Takes no more of the log than is asked for. None where there is no conversation.

        Args:
            ns: A namespace; ``None``: all of them.
            behind: Another namespace, and ids there: look back to the first of these only.
        """
        waiting: list[tuple[int, int, int, Turn]] = []
        writes: dict[tuple[str, str], list[tuple[int, dict[str, Any]]]] = {}
        seen: set[tuple[str, str]] = set()
        floor = 0

        def ready(reached: int) -> Iterator[Found]:
            while waiting and waiting[0][1] > reached:
                _, _, _, turn = heapq.heappop(waiting)
                body = turn.extra["checkpoint"]
                mine = writes.pop((body["ns"], body["id"]), [])
                yield Found(turn.seq or 0, turn.id or "", body, mine[::-1])

        for seq, turn in self.backward():
            kind = kind_of(turn)
            body = turn.extra.get(str(kind), {})
            if seq < floor:
                break
            if body.get("ns") == behind[0] and body.get("id") in behind[1]:
                floor = max(floor, _beginning(body, seq))
            if ns is not None and body.get("ns") != ns:
                continue
            if kind == "writes":
                writes.setdefault((body["ns"], body["checkpoint"]), []).append((seq, body))
            elif kind == "checkpoint" and (key := (body["ns"], body["id"])) not in seen:
                seen.add(key)
                place = body.get("place", seq)
                heapq.heappush(waiting, (-place, _beginning(body, seq), -seq, turn))
            yield from ready(seq - 1)
        yield from ready(-1)

    def backward(self) -> Iterator[tuple[int, Turn]]:
        """Yield the events that are ours, the last first."""
        try:
            block = self.chat.stored_tail(_FIRST_LOOK_TURNS)
        except ConversationNotFound:
            return
        lowest, step = 1 << 62, _FIRST_LOOK_TURNS
        is_all = len(block) < _FIRST_LOOK_TURNS
        while True:
            for stored in reversed(block):
                seq = stored.seq
                if seq is None:
                    continue  # by hand
                self.last = max(self.last, seq)
                lowest = min(lowest, seq)
                if _MARK in stored.line and kind_of(stored.turn) is not None:
                    yield seq, stored.turn
            if is_all or lowest <= self.first:
                return
            step = min(4 * step, _LONGEST_LOOK_TURNS)
            start = max(0, lowest - 1 - step)
            block = []
            try:
                for stored in self.chat.stored_turns(after=start):
                    if (stored.seq or 0) >= lowest:
                        break
                    block.append(stored)
            except ConversationNotFound:
                return
            lowest, is_all = min(lowest, start + 1), start == 0

    def fetch(self, seqs: Iterable[int]) -> None:
        """Read these turns, together where they stand near each other."""
        for stored in _stored(self.chat, set(seqs) - self._turns.keys()):
            self._turns[stored.seq or 0] = stored.turn

    def message(self, seq: int, packing: Packing) -> BaseMessage | None:
        """Return the message that is there, if it is."""
        turn = self._turns.get(seq)
        if turn is None or kind_of(turn) != "message":
            return None
        return packing.message(deepcopy(turn) if self.is_shared else turn)

    def tag(self, seq: int) -> str | None:
        """Return the tag of the message that is there, if it is."""
        turn = self._turns.get(seq)
        return None if turn is None else (turn.meta or {}).get("tag")

    def values_at(self, seq: int, own: int) -> dict[str, Any] | None:
        """Return what the checkpoint there tells of its channels; ``None`` if it was dropped.

        What the event *own* refers to stands before it: a copy tells what is gone as itself.

        Raises:
            NotWhole: It is damaged, or another turn is there.
        """
        if seq >= own:
            return None
        self.fetch([seq])
        turn = self._turns.get(seq)
        if turn is None:
            if seq >= self.first:
                raise NotWhole
            return None
        if kind_of(turn) != "checkpoint":
            raise NotWhole  # the log was numbered anew
        return dict(turn.extra["checkpoint"]["values"])


def _beginning(body: dict[str, Any], seq: int) -> int:
    """Return from where on there may be something of a checkpoint: writes, or of a subgraph."""
    place: int = body.get("place", seq)
    return min(place, absolute(body.get("since", place), seq))


def missing(chat: Conversation, seqs: set[int]) -> set[int]:
    """Return those of *seqs* that the log has no turn of."""
    return seqs - {stored.seq for stored in _stored(chat, seqs)}


def _stored(chat: Conversation, seqs: set[int]) -> Iterator[Any]:
    """Yield the turns of these numbers that are there; by one reading where they are near."""
    wanted = sorted(seq for seq in seqs if seq > 0)
    at = 0
    while at < len(wanted):
        try:
            stored_turns = chat.stored_turns(after=wanted[at] - 1)
        except ConversationNotFound:
            return  # it was just deleted
        for stored in stored_turns:
            seq = stored.seq
            if seq is None:
                continue  # by hand
            while at < len(wanted) and wanted[at] < seq:
                at += 1  # it is gone
            if at < len(wanted) and wanted[at] == seq:
                yield stored
                at += 1
            if at == len(wanted) or wanted[at] - seq > _FAR_TURNS:
                break
        else:
            return


def event_of(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the turn that tells *body*."""
    return {"role": "event", "content": "", "meta": {"source": SOURCE, "kind": kind}, kind: body}


def turns_of_savers(chat: Conversation) -> Iterator[Turn]:
    """Yield the turns that a saver recorded, in order."""
    for stored in chat.stored_turns():
        is_likely = _MARK in stored.line or _TAG in stored.line
        if is_likely and stored.seq is not None and kind_of(stored.turn) is not None:
            yield stored.turn


def kind_of(turn: Turn) -> str | None:
    """Return what a turn of a saver is: a checkpoint, writes, or a message."""
    meta = turn.meta or {}
    if meta.get("source") == SOURCE:
        kind = meta.get("kind")
        is_told = _SHAPES.get(kind) if type(kind) is str else None
        return kind if is_told is not None and is_told(turn.extra.get(str(kind))) else None
    return "message" if type(meta.get("tag")) is str and meta.get("source") == "langchain" else None


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "message": lambda body: True,
    "checkpoint": is_checkpoint,
    "writes": are_writes,
}


def events_of(found: Found) -> Iterator[int]:
    """Yield the other events that a checkpoint refers to."""
    for packed in found.body["values"].values():
        ref = packed.get("at", packed.get("list", {}).get("base"))
        if ref is not None:
            yield absolute(ref, found.seq)


def spelled_out(packed: dict[str, Any], own: int, channel: str | None, log: Log) -> dict[str, Any]:
    """Return the same value without a reference to another event, and with whole numbers.

    Raises:
        NotWhole, Gone: That event is damaged, or was dropped.
    """
    if "at" in packed and channel is not None:
        seq = absolute(packed["at"], own)
        values = log.values_at(seq, own)
        if values is None or channel not in values:
            raise Gone
        return remapped(values[channel], seq, as_is)
    if "list" in packed:
        seqs = seqs_told(packed["list"], own, channel, log)
        return {"list": {"refs": coded(seqs), "tags": packed["list"]["tags"]}}
    return remapped(packed, own, as_is)


def seqs_told(spec: dict[str, Any], own: int, channel: str | None, log: Log) -> list[int]:
    """Return where the messages of a list are; 0 for each that went with the list it was in."""
    seqs = decoded(spec["refs"], own)
    if "base" not in spec:
        return seqs
    base = absolute(spec["base"], own)
    values = log.values_at(base, own)
    if values is None:
        return [0] * spec["take"] + seqs
    told = values.get(channel or "", {}).get("list")
    if told is None:
        raise NotWhole
    return decoded(told["refs"], base)[: spec["take"]] + seqs
