"""What this process knows of threads, so that a put refers to what is there and reads little."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from convmem.adapters.langgraph.packing import fingerprint, json_text, next_key
from convmem.adapters.langgraph.references import absolute

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langgraph.checkpoint.base import ChannelVersions

    from convmem.adapters.langgraph.loaded import Loaded

# Some 300 bytes for each message of each thread.
_MOST_THREADS = 128
# Each call of a subgraph has a namespace of its own.
_MOST_SPACES = 16
# A checkpoint that did not come while so many others did is one that was there before.
_LATE_PUTS = 1024
# A value that takes less is told again by each checkpoint that has it.
_SMALL_CHARACTERS = 512


class Threads:
    """What is known of the threads that were used last. Copies of a saver share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Known] = OrderedDict()

    def known(self, thread_id: str) -> Known:
        """Return what is known of a thread. Use it within ``with``: one at a time."""
        with self._lock:
            known = self._known.pop(thread_id, None) or Known()
            self._known[thread_id] = known
            if len(self._known) > _MOST_THREADS:
                # What a checkpoint that is still to come has to tell is not told anywhere else.
                oldest = next(
                    (name for name, each in self._known.items() if not each.has_early), None
                )
                self._known.pop(oldest or thread_id, None)
        return known

    def forget(self, thread_id: str) -> None:
        """Forget where the thread's messages are."""
        with self.known(thread_id) as known:
            known.forget()


class Space:
    """What is known of one namespace of a thread: how its newest checkpoint tells its channels.

    Attributes:
        checkpoint_id: Which that is.
        told: Its list of messages; or its value, if that is short; or where that is told.
        lists: The list of messages that can be referred to, and where it is told.
    """

    def __init__(self) -> None:
        self.checkpoint_id = ""
        self.versions: dict[str, Any] = {}
        self.told: dict[str, list[int] | dict[str, Any] | int] = {}
        self.lists: dict[str, tuple[int, list[int]]] = {}

    def drop(self, gone: set[int]) -> None:
        """Know no more of what refers to turns that are gone."""
        self.lists = {key: told for key, told in self.lists.items() if told[0] not in gone}
        self.told = {
            key: told
            for key, told in self.told.items()
            if isinstance(told, dict) or gone.isdisjoint([told] if isinstance(told, int) else told)
        }


class Known:
    """What is known of a thread: where its messages are. A turn never changes, but it may go.

    Attributes:
        seqs: Where the message of this fingerprint is.
        tags: How the turn of this ``seq`` is told from another that has its number.
        sure: What was seen since the thread was last read. All else is looked for before use.
        last: The last ``seq`` that was seen.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spaces: OrderedDict[str, Space] = OrderedDict()
        self._puts = 0
        self._there: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._early: dict[tuple[str, str], tuple[int, int]] = {}
        self.forget()

    def __enter__(self) -> Known:
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def forget(self) -> None:
        """Know nothing but what is still to come."""
        self._spaces.clear()
        self.seqs: dict[bytes, int] = {}
        self.tags: dict[int, str] = {}
        self.sure: set[int] = set()
        self.last = 0

    def space(self, ns: str) -> Space:
        """Return what is known of a namespace."""
        space = self._spaces.pop(ns, None) or Space()
        self._spaces[ns] = space
        while len(self._spaces) > _MOST_SPACES:
            oldest = next(name for name in self._spaces if name)
            del self._spaces[oldest]
        return space

    def drop(self, gone: set[int]) -> None:
        """Know no more of what refers to turns that are gone."""
        self.seqs = {key: seq for key, seq in self.seqs.items() if seq not in gone}
        for space in self._spaces.values():
            space.drop(gone)

    @property
    def has_early(self) -> bool:
        """Whether something is known of checkpoints that are still to come."""
        return bool(self._early)

    def note_early(self, ns: str, checkpoint_id: str, seq: int) -> None:
        """Take note that *seq* belongs to a checkpoint, unless that is known to be there.

        LangGraph saves in the background: a task may be done before its checkpoint is saved.
        """
        if not self.is_there(ns, checkpoint_id):
            self._early.setdefault((ns, checkpoint_id), (seq, self._puts))

    def is_there(self, ns: str, checkpoint_id: str) -> bool:
        """Whether a checkpoint was put, or read, by this process, among the last ones."""
        return (ns, checkpoint_id) in self._there

    def _note_there(self, ns: str, checkpoint_id: str) -> None:
        self._early.pop((ns, checkpoint_id), None)
        self._there[ns, checkpoint_id] = None
        while len(self._there) > _LATE_PUTS:
            self._there.popitem(last=False)

    def since(self) -> int | None:
        """Return from where on there is something of checkpoints that are still to come."""
        self._puts += 1
        oldest = self._puts - _LATE_PUTS
        self._early = {key: each for key, each in self._early.items() if each[1] > oldest}
        return min((seq for seq, _ in self._early.values()), default=None)

    def put(
        self,
        ns: str,
        checkpoint_id: str,
        versions: ChannelVersions,
        values: dict[str, dict[str, Any]],
        lists: dict[str, list[int]],
    ) -> None:
        """Take note of a checkpoint that was recorded last, and where its messages are."""
        self._note_there(ns, checkpoint_id)
        space = self.space(ns)
        space.checkpoint_id = checkpoint_id
        space.versions = {channel: versions.get(channel) for channel in values}
        for channel, packed in values.items():
            self._tell(space, channel, packed, self.last)
            if "list" in packed:
                space.told[channel] = lists[channel]
                if "base" not in packed["list"]:
                    space.lists[channel] = self.last, lists[channel]

    def learn(self, ns: str, loaded: Loaded, *, afresh: bool) -> None:
        """Take note of a checkpoint that was read; *afresh*: and be sure of nothing else."""
        if afresh:
            self.sure.clear()
        body, seq = loaded.found.body, loaded.found.seq
        self._note_there(ns, body["id"])
        space = self.space(ns)
        space.checkpoint_id = body["id"]
        versions = loaded.data["channel_versions"]
        space.versions = {channel: versions.get(channel) for channel in body["values"]}
        space.told.clear()
        self.last = max(self.last, seq)
        for channel, packed in body["values"].items():
            self._tell(space, channel, packed, seq)
            if channel in loaded.lists:
                base, whole, present = loaded.lists[channel]
                space.lists[channel] = base, whole
                space.told[channel] = [each for each, _ in present]
                self._learn_messages(present, loaded.tags)

    def _tell(self, space: Space, channel: str, packed: dict[str, Any], seq: int) -> None:
        space.told.pop(channel, None)
        if "at" in packed:
            space.told[channel] = absolute(packed["at"], seq)
        elif "json" in packed or "serde" in packed:
            is_small = len(json_text(packed)) <= _SMALL_CHARACTERS
            space.told[channel] = packed if is_small else seq

    def _learn_messages(self, present: list[tuple[int, BaseMessage]], tags: dict[int, str]) -> None:
        seen: set[bytes] = set()
        for seq, message in present:
            key = next_key(fingerprint(message), seen)
            seen.add(key)
            self.seqs[key] = seq
            self.tags[seq] = tags[seq]
            self.sure.add(seq)
