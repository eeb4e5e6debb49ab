"""A checkpoint as LangGraph has it, made of what a log holds of it."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import CheckpointTuple, writes_sort_key

from convmem.adapters.langgraph.log import Gone, NotWhole, seqs_told, spelled_out
from convmem.adapters.langgraph.references import absolute, as_is, decoded, referred, remapped

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import PendingWrite

    from convmem.adapters.langgraph.log import Found, Log
    from convmem.adapters.langgraph.packing import Packing

# Under this key of its metadata a checkpoint tells how much of it is gone: compacted or damaged.
MISSING = "convmem_missing"


class Loaded:
    """A checkpoint made of what a log holds.

    Attributes:
        is_whole: Whether all that it tells by reference to another event could be told.
        lists: Of each channel that is a list of messages: where its base is told, the base, and
            the messages that are there, each with its ``seq``.
    """

    def __init__(
        self, log: Log, found: Found, packing: Packing, *, channels: set[str] | None = None
    ) -> None:
        self.found = found
        self.is_whole = True
        self.missing = 0
        self.lists: dict[str, tuple[int, list[int], list[tuple[int, BaseMessage]]]] = {}
        self.tags: dict[int, str] = {}
        self._log = log
        self._packing = packing
        self.data = packing.unpacked(found.body["data"])
        self.metadata = packing.unpacked(found.body["metadata"])
        told = found.body["values"]
        values = {key: told[key] for key in told if channels is None or key in channels}
        writes = [(seq, body, each) for seq, body in found.writes for each in body["values"]]
        log.fetch(self._needed(values, writes))
        self.values: dict[str, Any] = {}
        for channel, packed in values.items():
            try:
                self.values[channel] = self._value(packed, found.seq, channel)
            except NotWhole:
                self.is_whole = False
                self.missing += 1
            except Gone:
                self.missing += 1
        self.writes = self._written(writes)

    def tuple(self, config: RunnableConfig) -> CheckpointTuple:
        """Return it as LangGraph has it."""
        body = self.found.body
        conf = config["configurable"]
        metadata = {**self.metadata, MISSING: self.missing} if self.missing else self.metadata
        parent = body["parent"]
        return CheckpointTuple(
            config=config,
            checkpoint={**self.data, "channel_values": self.values},
            metadata=metadata,
            parent_config=config_of(conf["thread_id"], body["ns"], parent) if parent else None,
            pending_writes=self.writes,
        )

    def _needed(self, values: dict[str, Any], writes: list[Any]) -> set[int]:
        """Return where all messages stand that values and writes refer to."""
        needed: set[int] = set()
        own = self.found.seq
        for channel, packed in values.items():
            try:
                needed.update(referred(spelled_out(packed, own, channel, self._log)))
            except (NotWhole, Gone):
                pass  # it is told where the value is made
        for seq, _, (_, _, packed) in writes:
            needed.update(referred(remapped(packed, seq, as_is)))
        return needed

    def _written(self, writes: list[Any]) -> list[PendingWrite]:
        kept: dict[tuple[str, int], tuple[tuple[str, str, int], str, Any, int]] = {}
        for seq, body, (index, channel, packed) in writes:
            key = body["task"], index
            if index >= 0 and key in kept:
                continue
            kept[key] = writes_sort_key(body["path"], *key), channel, packed, seq
        found: list[PendingWrite] = []
        for order, channel, packed, seq in sorted(kept.values(), key=lambda each: each[0]):
            try:
                found.append((order[1], channel, self._value(packed, seq, None)))
            except (Gone, NotWhole):
                self.missing += 1
        return found

    def _value(self, packed: dict[str, Any], own: int, channel: str | None) -> Any:
        if "json" in packed:
            return deepcopy(packed["json"]) if self._log.is_shared else packed["json"]
        if "serde" in packed:
            return self._packing.unpacked(packed)
        if "dict" in packed:
            return {key: self._value(item, own, None) for key, item in packed["dict"].items()}
        if "message" in packed:
            seq = absolute(packed["message"], own)
            message = self._log.message(seq, self._packing)
            if message is None or self._log.tag(seq) != packed["tag"]:
                raise Gone
            return message
        if "at" in packed:
            seq = absolute(packed["at"], own)
            values = self._log.values_at(seq, own)
            if values is None or channel not in values:
                raise Gone
            return self._value(values[channel], seq, channel)
        return self._messages(packed["list"], own, channel)

    def _messages(self, spec: dict[str, Any], own: int, channel: str | None) -> list[BaseMessage]:
        log = self._log
        seqs = seqs_told(spec, own, channel, log)
        for seq, tag in zip((min(seqs), max(seqs)), spec["tags"], strict=True):
            there = log.tag(seq)
            if there is not None and there != tag:
                raise NotWhole  # the log was numbered anew
        present = [
            (seq, message)
            for seq in seqs
            if (message := log.message(seq, self._packing)) is not None
        ]
        if channel is not None:
            base = absolute(spec["base"], own) if "base" in spec else own
            whole = seqs if "base" not in spec else self._base(base, own, channel)
            self.lists[channel] = base, whole, present
            self.tags.update((seq, log.tag(seq) or "") for seq, _ in present)
        messages = [message for _, message in present]
        if len(present) < len(seqs):
            messages = _without_halves(messages)
            self.missing += len(seqs) - len(messages)
        return messages

    def _base(self, seq: int, own: int, channel: str) -> list[int]:
        values = self._log.values_at(seq, own)
        return [] if values is None else decoded(values[channel]["list"]["refs"], seq)


def config_of(thread_id: Any, ns: str, checkpoint_id: str) -> RunnableConfig:
    """Return what names a checkpoint."""
    conf = {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}
    return {"configurable": conf}


def _without_halves(messages: list[BaseMessage]) -> list[BaseMessage]:
    """Return *messages* without results whose call is gone, and calls without all their results.

    A model refuses them for ever. A call at the very end may still be answered.
    """
    results = {each.tool_call_id for each in messages if each.type == "tool"}
    kept: list[BaseMessage] = []
    calls: set[str | None] = set()
    for at, each in enumerate(messages):
        mine = {call["id"] for call in getattr(each, "tool_calls", None) or ()}
        if each.type == "tool":
            if each.tool_call_id in calls:
                kept.append(each)
        elif mine <= results or all(later.type == "tool" for later in messages[at + 1 :]):
            calls |= mine
            kept.append(each)
    return kept
