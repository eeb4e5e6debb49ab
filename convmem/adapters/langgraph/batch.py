"""A batch: the messages that are new, and behind them the event that refers to them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage

from convmem.adapters.langgraph.log import event_of, missing
from convmem.adapters.langgraph.packing import are_messages, fingerprint, is_json, next_key
from convmem.adapters.langgraph.references import coded, shared

if TYPE_CHECKING:
    from collections.abc import Iterable

    from convmem import Conversation
    from convmem.adapters.langgraph.known import Known, Space
    from convmem.adapters.langgraph.packing import Packing

# A long value that does not change is told again after so many turns, so that a retention policy
# that keeps more costs a thread nothing but old messages.
_TOLD_AGAIN_TURNS = 256
# A list is told as an earlier one plus this many messages, or plus the root of twice its length:
# what that costs is then the same as what telling the whole list now and then costs.
_MOST_ADDED = 32


class Batch:
    """Messages on their way into a log, and the event that refers to them.

    Attributes:
        lists: Where the messages of each channel are, once all is recorded.
    """

    def __init__(self, packing: Packing, known: Known) -> None:
        self._packing = packing
        self._known = known
        self._turns: list[dict[str, Any]] = []
        # A message of the batch is ``~place`` until it has a seq.
        self._fresh: dict[bytes, int] = {}
        self._unsure: set[int] = set()
        self._events: set[int] = set()
        self.lists: dict[str, list[int]] = {}
        # References are made once it is known how many turns stand before the event.
        self._coded: list[tuple[dict[str, Any], list[int]]] = []

    def value(self, space: Space, channel: str, value: Any, is_same: bool) -> dict[str, Any]:
        """Return the value of a channel as a checkpoint tells it."""
        known = self._known
        told = space.told.get(channel) if is_same else None
        if isinstance(told, dict):
            return told
        if isinstance(told, int) and known.last - told < _TOLD_AGAIN_TURNS:
            self._use(told)
            return {"at": told}
        if not are_messages(value):
            return self.packed(value)
        entries = told if isinstance(told, list) and len(told) == len(value) else self._refs(value)
        self.lists[channel] = entries
        base, whole = space.lists.get(channel, (0, []))
        take = shared(whole, entries)
        added = len(entries) - take
        if not take or added > max(_MOST_ADDED, math.isqrt(2 * len(entries))):
            return self._list(entries, 0, {})
        self._use(base)
        return self._list(entries, take, {"base": base, "take": take})

    def packed(self, value: Any) -> dict[str, Any]:
        """Return a value of a write, or one that is not a list of messages."""
        # One without an id is given one by who takes it over: it is then another, and told then.
        if are_messages(value) and all(message.id for message in value):
            return self._list(self._refs(value), 0, {})
        if isinstance(value, BaseMessage) and value.id:
            entries = self._refs([value])
            packed: dict[str, Any] = {"message": 0, "tag": self._tag(entries[0])}
            self._coded.append((packed, entries))
            return packed
        if type(value) is dict and any(map(are_messages, value.values())) and is_json([*value]):
            return {"dict": {key: self.packed(item) for key, item in value.items()}}
        return self._packing.packed(value)

    def is_sure(self, chat: Conversation) -> bool:
        """Whether all that is referred to is there; if not, what is gone is known no more.

        An event is looked for each time: who prunes a thread tells it anew, and it goes.
        """
        unsure = self._events | self._unsure
        gone = missing(chat, unsure)
        self._known.sure |= unsure - gone
        if gone:
            self._known.drop(gone)
        return not gone

    def record(self, chat: Conversation, kind: str, body: dict[str, Any]) -> int:
        """Append the messages and the event, and return its ``seq``."""
        at = len(self._turns)
        for holder, entries in self._coded:
            if "message" in holder:
                holder["message"] = entries[0] if entries[0] > 0 else [at - ~entries[0]]
                continue
            take = holder["list"].get("take", 0)
            holder["list"]["refs"] = coded(
                [each if each > 0 else [at - ~each] for each in entries[take:]]
            )
            ends = _lowest(entries), _highest(entries)
            holder["list"]["tags"] = [self._tag(each) for each in ends]
        stored = chat.record_many([*self._turns, event_of(kind, body)])
        seqs = [turn.seq or 0 for turn in stored]
        known = self._known
        for key, place in self._fresh.items():
            known.seqs[key] = seqs[~place]
            known.tags[seqs[~place]] = self._tag(place)
        known.sure.update(seqs)
        known.last = seqs[-1]
        for channel, entries in self.lists.items():
            self.lists[channel] = [each if each > 0 else seqs[~each] for each in entries]
        return known.last

    def _list(self, entries: list[int], take: int, spec: dict[str, Any]) -> dict[str, Any]:
        packed = {"list": spec}
        self._coded.append((packed, entries))
        return packed

    def _refs(self, messages: Iterable[BaseMessage]) -> list[int]:
        entries: list[int] = []
        seen: set[bytes] = set()
        known, fresh, sure = self._known.seqs, self._fresh, self._known.sure
        for message in messages:  # all of a long list, at each step: kept tight
            key = fingerprint(message)
            if key in seen:
                key = next_key(key, seen)
            seen.add(key)
            found = known.get(key)
            if found is None:
                found = fresh.get(key)
                if found is None:
                    self._turns.append(self._packing.turn(message, key[:4].hex()))
                    found = fresh[key] = ~(len(self._turns) - 1)
            elif found not in sure:
                self._unsure.add(found)
            entries.append(found)
        return entries

    def _use(self, seq: int) -> None:
        self._events.add(seq)

    def _tag(self, entry: int) -> str:
        return self._known.tags[entry] if entry > 0 else str(self._turns[~entry]["meta"]["tag"])


def _lowest(entries: list[int]) -> int:
    known = [each for each in entries if each > 0]
    return min(known) if known else max(entries)


def _highest(entries: list[int]) -> int:
    lowest = min(entries)
    return max(entries) if lowest > 0 else lowest
