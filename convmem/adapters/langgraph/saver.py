"""``ConvmemSaver``: LangGraph's checkpointer over conversations, both its faces."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    get_checkpoint_id,
    get_checkpoint_metadata,
)

from convmem import ConversationNotFound, UsageError, aio
from convmem.adapters.langgraph.batch import Batch
from convmem.adapters.langgraph.copying import copies_of
from convmem.adapters.langgraph.data_types import DataSerializer
from convmem.adapters.langgraph.known import Threads
from convmem.adapters.langgraph.loaded import Loaded, config_of
from convmem.adapters.langgraph.log import Log
from convmem.adapters.langgraph.packing import SOURCE, Packing
from convmem.adapters.langgraph.removing import keep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import (
        ChannelVersions,
        Checkpoint,
        CheckpointMetadata,
        CheckpointTuple,
        DeltaChannelHistory,
    )
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from convmem import Archive, Conversation, Durability
    from convmem.adapters.langgraph.known import Known
    from convmem.adapters.langgraph.log import Found


class ConvmemSaver(BaseCheckpointSaver[Any]):
    """Keeps the checkpoints of graphs in an archive; many processes may work on one thread.

    The newest checkpoint is the one that was recorded last. What no longer is there (compacted,
    scrubbed, damaged) is left out of a checkpoint and counted in its metadata, under
    ``convmem_missing``; with a message that is gone goes what means nothing without it (a result
    without its call). Messages are turns in the clear where *serde* is LangGraph's own; with any
    other, such as ``EncryptedSerializer``, all that a checkpoint holds goes through it.

    Args:
        archive: The program's own; it is never closed here.
        serde: What values other than JSON and messages are told by. By default LangGraph's own,
            made to make data only: whoever can record a turn cannot have anything called. One that
            you give is used as it is; what it trusts, it trusts of everybody who can record.
        namespace: Whose; the archive's own by default.
        durability: What an answered ``put`` promises; the archive's own by default.
    """

    def __init__(
        self,
        archive: Archive | aio.Archive,
        *,
        serde: SerializerProtocol | None = None,
        namespace: str | None = None,
        durability: Durability | str | None = None,
    ) -> None:
        super().__init__(serde=serde or DataSerializer())
        self._archive = aio.Archive.of(archive)
        self._namespace = namespace
        self._durability = durability
        self._chat(SOURCE)  # raises for a namespace that cannot be one
        self._threads = Threads()

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Record a checkpoint, and what messages are new in it, as one atomic batch.

        Costs what is new, and a look at each message that the lists that changed hold. The same id
        again stands for the one before it.

        Raises:
            InvalidContinuationId: Nothing can have that thread's id.
            StorageError, LockTimeout: Nothing was stored.
        """
        ns, parent = _ns(config), get_checkpoint_id(config)
        thread_id, name = config["configurable"]["thread_id"], checkpoint["id"]
        chat = self._chat(thread_id)
        versions = checkpoint["channel_versions"]
        with self._threads.known(str(thread_id)) as known:
            if not parent and not ns:
                known.sure.clear()  # a thread that begins, maybe again
            elif parent and known.space(ns).checkpoint_id != parent:
                loaded = self._load(chat, ns, parent)
                if loaded is not None:
                    known.learn(ns, loaded, afresh=False)
            space = known.space(ns)
            old = space.versions if space.checkpoint_id == parent else {}
            same = {
                channel
                for channel in old.keys() - new_versions.keys()
                if old[channel] == versions.get(channel)
            }
            while True:
                batch = Batch(self._packing, known)
                values = {
                    channel: batch.value(space, channel, value, channel in same)
                    for channel, value in checkpoint["channel_values"].items()
                }
                if batch.is_sure(chat):
                    break
            told = {key: item for key, item in checkpoint.items() if key != "channel_values"}
            body: dict[str, Any] = {
                "ns": ns,
                "id": name,
                "parent": parent or None,
                "data": self._packing.packed(told),
                "metadata": self._packing.packed(dict(get_checkpoint_metadata(config, metadata))),
                "values": values,
            }
            since = known.since()
            if since is not None:
                body["since"] = since
            seq = batch.record(chat, "checkpoint", body)
            known.put(ns, name, versions, values, batch.lists)
            _note_parents(known, config, seq)
        return config_of(thread_id, ns, name)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Record what a task wrote, as one event behind the messages that are new in it.

        Written again, the first of a task's writes stays; of errors, interrupts and the like the
        last.
        """
        ns = _ns(config)
        thread_id = config["configurable"]["thread_id"]
        checkpoint_id = config["configurable"]["checkpoint_id"]
        if not writes:
            return
        chat = self._chat(thread_id)
        with self._threads.known(str(thread_id)) as known:
            # LangGraph saves in the background: the checkpoint itself may come later, and with it
            # what was said before this.
            is_early = not known.is_there(ns, checkpoint_id)
            while True:
                batch = Batch(self._packing, known)
                pack = self._packing.packed if is_early else batch.packed
                values = [
                    [WRITES_IDX_MAP.get(channel, index), channel, pack(value)]
                    for index, (channel, value) in enumerate(writes)
                ]
                if batch.is_sure(chat):
                    break
            body = {"ns": ns, "checkpoint": checkpoint_id, "task": task_id, "path": task_path}
            seq = batch.record(chat, "writes", {**body, "values": values})
            known.note_early(ns, checkpoint_id, seq)
            _note_parents(known, config, seq)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the newest checkpoint, or the one that *config* names; ``None`` if not there.

        The newest is found from the log's end; its messages are read wherever they stand.
        """
        thread_id, ns = config["configurable"]["thread_id"], _ns(config)
        wanted = get_checkpoint_id(config)
        chat = self._chat(thread_id)
        with self._threads.known(str(thread_id)) as known:
            behind = _birth(known, config)
        loaded = self._load(chat, ns, wanted, behind)
        if loaded is not None and loaded.missing:
            # Somebody may have pruned the thread while it was read; else it is the same again.
            loaded = self._load(chat, ns, wanted, behind)
        if loaded is None:
            if not ns:
                self._threads.forget(str(thread_id))
            return None
        with self._threads.known(str(thread_id)) as known:
            known.learn(ns, loaded, afresh=not ns)
        return loaded.tuple(config if wanted else config_of(thread_id, ns, loaded.found.body["id"]))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield checkpoints, the newest first, reading back from the log's end as they are taken.

        Without *config* those of every thread, thread by thread.
        """
        wanted = get_checkpoint_id(config) if config else None
        ns = config["configurable"].get("checkpoint_ns") if config else None
        end = get_checkpoint_id(before) if before else None
        left = math.inf if limit is None else limit
        for thread_id, chat in self._chats(config):
            if left <= 0:
                return
            log = Log(chat, is_shared=True)
            for found in log.checkpoints(ns):
                name = found.body["id"]
                if (wanted and name != wanted) or (end and name >= end):
                    continue
                if filter:
                    metadata = self._packing.unpacked(found.body["metadata"])
                    if any(metadata.get(key) != value for key, value in filter.items()):
                        continue
                loaded = Loaded(log, found, self._packing)
                if not loaded.is_whole:
                    continue
                yield loaded.tuple(config_of(thread_id, found.body["ns"], name))
                left -= 1
                if left <= 0:
                    return

    def delete_thread(self, thread_id: str) -> None:
        """Move the whole conversation of the thread to the trash; restoring brings it back."""
        try:
            self._chat(thread_id).delete(reason=SOURCE)
        except ConversationNotFound:
            pass  # as gone as it is asked to be
        self._threads.forget(str(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Move what these runs recorded to the trash, in every thread. Reads them all.

        Checkpoints, their writes, and messages that no other checkpoint holds.
        """
        gone = set(run_ids)
        for _, chat in self._chats(None) if gone else ():
            self._keep(
                chat,
                lambda found: [
                    each
                    for each in found
                    if self._packing.unpacked(each.body["metadata"]).get("run_id") not in gone
                ],
            )

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Record all that a thread holds once more, as another thread, in one atomic batch.

        Turns that no graph recorded stay where they are.
        """
        try:
            copies = copies_of(self._chat(source_thread_id))
        except ConversationNotFound:
            return
        if copies:
            self._chat(target_thread_id).record_many(copies)
        self._threads.forget(str(target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Move to the trash all but the newest checkpoint of each namespace of these threads.

        What the newest needs stays: its writes, its messages, and where its graph has a
        ``DeltaChannel`` the checkpoints back to that channel's last snapshot. Rewrites the log:
        some 10 ms and more, by its length.

        Args:
            thread_ids: Which; those that are not there are passed over.
            strategy: ``keep_latest``; or ``delete``, which is ``delete_thread``.

        Raises:
            UsageError: There is no such strategy.
        """
        if strategy not in ("keep_latest", "delete"):
            raise UsageError(f"no such strategy: {strategy!r}", hint="keep_latest, or delete")
        for thread_id in thread_ids:
            if strategy == "delete":
                self.delete_thread(thread_id)
            else:
                self._keep(self._chat(thread_id), self._newest)

    def get_next_version(self, current: Any, channel: None) -> Any:
        """Return the version that follows *current*: a number, or text as other savers have it."""
        if isinstance(current, str):  # of a thread that was brought here from one of them
            return f"{int(current.partition('.')[0]) + 1:032}.0"
        return super().get_next_version(current, channel)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return what each of *channels* was last told as, and what was written to it since.

        Reads back once along the checkpoint's ancestors, as far as the last of these values.
        """
        told: dict[str, DeltaChannelHistory] = {channel: {"writes": []} for channel in channels}
        log = Log(self._chat(config["configurable"]["thread_id"]))
        wanted, target = get_checkpoint_id(config), None
        left = set(channels)
        for found in log.checkpoints(_ns(config)):
            if target is None:
                if not wanted or found.body["id"] == wanted:
                    target, wanted = found, found.body["parent"]
                continue
            if not left or not wanted:
                break
            if found.body["id"] != wanted:
                continue
            wanted = found.body["parent"]
            loaded = Loaded(log, found, self._packing, channels=left)
            for write in reversed(loaded.writes):
                if write[1] in left:
                    told[write[1]]["writes"].append(write)
            for channel in left & loaded.values.keys():
                told[channel]["seed"] = loaded.values[channel]
            left -= loaded.values.keys()
        for each in told.values():
            each["writes"].reverse()
        return told

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Do what ``put`` does; a cancellation waits until it is settled."""
        return await self._archive.run(self.put, config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Do what ``put_writes`` does; a cancellation waits until it is settled."""
        await self._archive.run(self.put_writes, config, writes, task_id, task_path)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return what ``get_tuple`` does."""
        return await self._archive.run(self.get_tuple, config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yield what ``list`` does, some at a time."""
        found = self.list(config, filter=filter, before=before, limit=limit)
        size = 1  # who wants the newest only should not wait for more
        while some := await self._archive.run(_taken, found, size):
            for each in some:
                yield each
            size = min(2 * size, 16)

    async def adelete_thread(self, thread_id: str) -> None:
        """Do what ``delete_thread`` does."""
        await self._archive.run(self.delete_thread, thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Do what ``delete_for_runs`` does."""
        await self._archive.run(self.delete_for_runs, run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Do what ``copy_thread`` does."""
        await self._archive.run(self.copy_thread, source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Do what ``prune`` does."""
        await self._archive.run(lambda: self.prune(thread_ids, strategy=strategy))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return what ``get_delta_channel_history`` does."""
        return await self._archive.run(
            lambda: self.get_delta_channel_history(config=config, channels=channels)
        )

    @property
    def _packing(self) -> Packing:
        return Packing(self.serde)  # which ``with_allowlist`` may have changed in a copy

    def _chat(self, thread_id: Any) -> Conversation:
        return self._archive.sync.conversation(
            str(thread_id), namespace=self._namespace, durability=self._durability
        )

    def _chats(self, config: RunnableConfig | None) -> Iterator[tuple[Any, Conversation]]:
        if config is not None:
            thread_id = config["configurable"]["thread_id"]
            yield thread_id, self._chat(thread_id)
            return
        for chat in self._archive.sync.conversations(namespace=self._namespace):
            yield chat.continuation_id, self._chat(chat.continuation_id)

    def _load(
        self,
        chat: Conversation,
        ns: str,
        wanted: str | None,
        behind: tuple[str, Collection[str]] = ("", ()),
    ) -> Loaded | None:
        """Return the newest checkpoint that is whole, else the newest; or the one *wanted*."""
        log = Log(chat)
        newest: Loaded | None = None
        for found in log.checkpoints(ns, behind=behind):
            if not wanted or found.body["id"] == wanted:
                loaded = Loaded(log, found, self._packing)
                if loaded.is_whole or wanted:
                    return loaded
                newest = newest or loaded
        return newest

    def _keep(
        self, chat: Conversation, choose: Callable[[Sequence[Found]], Sequence[Found]]
    ) -> None:
        try:
            keep(chat, choose)
        except ConversationNotFound:
            pass  # as gone as it is asked to be
        finally:
            self._threads.forget(chat.continuation_id)

    def _newest(self, found: Sequence[Found]) -> Sequence[Found]:
        """Return those of the checkpoints of a thread, the newest first, that ``prune`` keeps."""
        kept: list[Found] = []
        wanted: dict[str, tuple[str | None, set[str]]] = {}
        for each in found:
            body = each.body
            metadata = self._packing.unpacked(body["metadata"])
            if body["ns"] not in wanted:
                left = set(metadata.get("counters_since_delta_snapshot") or ())
            else:
                parent, left = wanted[body["ns"]]
                if not left or body["id"] != parent:
                    continue
            kept.append(each)
            wanted[body["ns"]] = body["parent"], left - body["values"].keys()
        return kept


def _taken(found: Iterator[CheckpointTuple], count: int) -> Sequence[CheckpointTuple]:
    return [*islice(found, count)]


def _ns(config: RunnableConfig) -> str:
    return str(config["configurable"].get("checkpoint_ns", "") or "")


def _birth(known: Known, config: RunnableConfig) -> tuple[str, Collection[str]]:
    """Return behind which checkpoint of which namespace all of a subgraph's own must be.

    A call of a subgraph has a namespace of its own, which names a task of the checkpoint that it
    was called from. That one may be still to come; then it is all behind the newest that there is.
    """
    parent_ns, _, task = _ns(config).rpartition("|")
    name = (config["configurable"].get("checkpoint_map") or {}).get(parent_ns)
    if ":" not in task or not name:
        return "", ()
    newest = known.space(parent_ns).checkpoint_id
    return parent_ns, {name, newest} if newest < name else {name}


def _note_parents(known: Known, config: RunnableConfig, seq: int) -> None:
    """Take note of what was recorded of a subgraph, whose parents may be still to come."""
    ns = _ns(config)
    for parent_ns, name in (config["configurable"].get("checkpoint_map") or {}).items():
        if parent_ns != ns:
            known.note_early(parent_ns, name, seq)
