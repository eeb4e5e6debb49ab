"""The default store: a folder for each namespace, a JSONL file for each conversation.

Turns go in and come out here; what keeps an archive in order over the years is in ``upkeep``.
"""

from __future__ import annotations

import errno
import os
from time import perf_counter

from convmem import ids
from convmem.errors import (
    ConvmemError,
    DurabilityUnknown,
    StorageError,
    storage_error,
)
from convmem.log import read
from convmem.log.append import FolderGone
from convmem.log.files import Folder
from convmem.log.follow import Cursor, Follower, end_cursor, place_of
from convmem.stores import long_ids
from convmem.stores.places import Places
from convmem.stores.values import Description

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from convmem.log.append import Written
    from convmem.log.durability import Durability
    from convmem.log.read import Filter, StoredTurn
    from convmem.log.records import Damage, OnDamage
    from convmem.log.removing.tombstones import Buried
    from convmem.log.sheet import Sheet
    from convmem.log.state import State
    from convmem.progress import Observer
    from convmem.stores.logs import DirectoryLogs
    from convmem.stores.overview import Overview
    from convmem.stores.removals import DirectoryTrash
    from convmem.stores.upkeep import DirectoryUpkeep
    from convmem.stores.values import Answers, Group
    from convmem.turns import Draft


class DirectoryStore:
    """Conversations as JSONL files below *root*. Safe for any number of threads and processes."""

    def __init__(
        self,
        root: str,
        *,
        observer: Observer,
        lock_timeout_seconds: float,
        remember_seconds: float,
    ) -> None:
        self._places = Places(root, observer)
        self._observer = observer
        self._lock_timeout_seconds = lock_timeout_seconds
        self._remember_seconds = remember_seconds
        self._waits = False  # something may wait for the flusher
        self._upkeep: DirectoryUpkeep | None = None
        self._overview: Overview | None = None

    @property
    def trash(self) -> DirectoryTrash:
        """See ``Store.trash``."""
        from convmem.stores.removals import DirectoryTrash

        return DirectoryTrash(
            self._places,
            lock_timeout_seconds=self._lock_timeout_seconds,
        )

    @property
    def upkeep(self) -> DirectoryUpkeep:
        """See ``Store.upkeep``."""
        if self._upkeep is None:
            from convmem.stores.upkeep import DirectoryUpkeep

            self._upkeep = DirectoryUpkeep(
                self._places,
                lock_timeout_seconds=self._lock_timeout_seconds,
                remember_seconds=self._remember_seconds,
            )
        return self._upkeep

    @property
    def overview(self) -> Overview:
        """See ``Store.overview``."""
        if self._overview is None:
            from convmem.stores.overview import Overview

            self._overview = Overview(self._places, observer=self._observer)
        return self._overview

    @property
    def logs(self) -> DirectoryLogs:
        """See ``Store.logs``."""
        from convmem.stores.logs import DirectoryLogs

        return DirectoryLogs(self._places)

    # --- writing -------------------------------------------------------------------------------

    def append(
        self,
        namespace: str,
        continuation_id: str,
        drafts: list[Draft],
        *,
        is_batch: bool,
        durability: Durability,
    ) -> Answers:
        """See ``Store.append``."""
        began = perf_counter()
        try:
            written = self._write(namespace, continuation_id, drafts, is_batch)
            answers = self._settle(written, drafts, durability)
        except ConvmemError as error:
            self._observer.failed(continuation_id, "record", error)
            raise
        self._tell(continuation_id, written, began)
        return answers

    def append_to_many(
        self, groups: Sequence[Group], *, durability: Durability
    ) -> list[Answers | Exception]:
        """See ``Store.append_to_many``. Writes to many before it syncs them, and to any number."""
        settled: list[Answers | Exception] = []
        # Each one written to stays open until it is synced, so only so many at a time.
        most = max(1, self._places.most_logs // 2)
        for first in range(0, len(groups), most):
            settled += self._append_to_some(groups[first : first + most], durability)
        return settled

    def _append_to_some(
        self, groups: Sequence[Group], durability: Durability
    ) -> list[Answers | Exception]:
        began = perf_counter()
        started: list[Written | Exception] = []
        for group in groups:
            try:
                started.append(
                    self._write(
                        group.namespace,
                        group.continuation_id,
                        group.drafts,
                        group.is_batch,
                        group.buried,
                    )
                )
            except Exception as error:  # noqa: BLE001 - each is handed to the caller
                started.append(error)
        settled: list[Answers | Exception] = []
        for group, written in zip(groups, started, strict=True):
            if isinstance(written, Exception):
                settled.append(written)
            else:
                try:
                    settled.append(self._settle(written, group.drafts, durability))
                    self._tell(group.continuation_id, written, began)
                except Exception as error:  # noqa: BLE001 - each is handed to the caller
                    settled.append(error)
            failure = settled[-1]
            if isinstance(failure, ConvmemError):
                self._observer.failed(group.continuation_id, "record", failure)
        return settled

    def _tell(self, continuation_id: str, written: Written, began: float) -> None:
        """Tell the observer of turns that are about to be answered."""
        self._observer.recorded(
            continuation_id,
            written.count,
            written.bytes,
            perf_counter() - began,
            written.waited_seconds,
        )
        if len(written.answers) > written.count:  # retries, or conflicts that stand for themselves
            for conflict in written.conflicts():
                self._observer.failed(continuation_id, "record", conflict)

    def _write(
        self,
        namespace: str,
        continuation_id: str,
        drafts: list[Draft] | Sheet,
        is_batch: bool,
        buried: Buried | None = None,
    ) -> Written:
        for attempt in (1, 2, 3):
            try:
                log = self._places.log(namespace, continuation_id)
                return log.write(
                    drafts,
                    is_batch=is_batch,
                    timeout_seconds=self._lock_timeout_seconds,
                    healed=lambda kept: self._observer.healed(continuation_id, kept),
                    buried=buried,
                )
            except FolderGone:
                self._places.forget_folder(namespace)
                if attempt == 3 or not os.path.isdir(self._places.root):
                    raise
            except StorageError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE) or attempt == 3:
                    raise
                self._places.close_idle(0)
        raise AssertionError("the loop returns or raises")

    def _settle(self, written: Written, drafts: Iterable[Draft], durability: Durability) -> Answers:
        """Do what *durability* asks for what was written, and answer."""
        log = written.log
        try:
            if durability.name == "always":
                log.sync(written.ticket)
            elif durability.name == "interval":
                log.mark_dirty(written.count)
                if log.dirty_turns >= durability.turns:
                    log.sync(written.ticket)
                elif written.count:
                    from convmem.log.flusher import flusher

                    self._waits = True
                    flusher().expect(log, durability.seconds, self, most=self._places.most_logs)
        except DurabilityUnknown as error:
            error.ids = [draft.id for draft in drafts]
            raise
        finally:
            log.let_go()
        if written.failure is not None:
            raise written.failure
        return written.answers

    def flush(self) -> None:
        """See ``Store.flush``."""
        if self._waits:
            from convmem.log.flusher import flusher

            flusher().flush(self)

    def close(self) -> None:
        """See ``Store.close``."""
        try:
            self.flush()
        finally:
            self._places.close()

    # --- state ---------------------------------------------------------------------------------

    def state(self, namespace: str, continuation_id: str, *, now: datetime) -> dict[str, Any]:
        """See ``Store.state``."""
        state = self._state(namespace, continuation_id, create=False)
        return {} if state is None else state.read(now=now)

    def update_state(
        self,
        namespace: str,
        continuation_id: str,
        changes: Mapping[str, Any],
        *,
        until: datetime | None,
        now: datetime,
    ) -> dict[str, Any]:
        """See ``Store.update_state``. Makes no folder where there is nothing to keep in it."""
        create = any(value is not None for value in changes.values())
        state = self._state(namespace, continuation_id, create=create)
        if state is None:
            return {}
        return state.update(
            changes,
            until=until,
            now=now,
            timeout_seconds=self._lock_timeout_seconds,
        )

    def clear_state(self, namespace: str, continuation_id: str) -> bool:
        """See ``Store.clear_state``."""
        state = self._state(namespace, continuation_id, create=False)
        return state is not None and state.clear(
            timeout_seconds=self._lock_timeout_seconds,
            set_aside=lambda kept: self._observer.set_aside(continuation_id, kept),
        )

    def _state(self, namespace: str, continuation_id: str, *, create: bool) -> State | None:
        """Return the conversation's state; ``None`` where there can be none, unless *create*."""
        from convmem.log.state import State

        name = ids.encode_name(continuation_id)
        try:
            folder = self._places.folder(namespace, create=create)
            if ids.is_hashed(name):
                (long_ids.keep if create else long_ids.check)(folder, name, continuation_id)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not create:
                return None
            where = self._places.namespace_path(namespace)
            raise storage_error(error, f"cannot open {where}") from error
        return State(folder, name)

    # --- reading -------------------------------------------------------------------------------

    def newest(
        self,
        namespace: str,
        continuation_id: str,
        count: int | None,
        *,
        filter: Filter,
        damaged: OnDamage,
    ) -> list[StoredTurn]:
        """See ``Store.newest``."""
        began = perf_counter()
        with self._places.reader(namespace, continuation_id) as reader:
            found = read.newest(reader, count, filter, damaged)
        self._observer.read(continuation_id, len(found), perf_counter() - began)
        return found

    def newest_first(
        self, namespace: str, continuation_id: str, *, damaged: OnDamage
    ) -> Generator[StoredTurn]:
        """See ``Store.newest_first``. Raises before the first turn is asked for."""
        reader = self._places.reader(namespace, continuation_id)

        def stream() -> Generator[StoredTurn]:
            with reader:
                yield from reader.newest_first(damaged)

        return stream()

    def in_order(
        self,
        namespace: str,
        continuation_id: str,
        *,
        after: Cursor | int,
        filter: Filter,
        damaged: OnDamage,
    ) -> Iterator[StoredTurn]:
        """See ``Store.in_order``. Raises before the first turn is asked for."""
        reader = self._places.reader(namespace, continuation_id)

        def stream() -> Iterator[StoredTurn]:
            with reader:
                if isinstance(after, Cursor):
                    start = place_of(reader.fd, reader.end, after) or 0
                    found = reader.in_order(damaged, start=start)
                else:
                    found = reader.in_order(damaged, after_seq=after)
                if not filter.wants_all:  # asking turn by turn is felt where there are millions
                    found = (stored for stored in found if filter.wants(stored))
                yield from found

        return stream()

    def follow(
        self,
        namespace: str,
        continuation_id: str,
        *,
        after: Cursor | None,
        idle_seconds: float | None,
        damaged: OnDamage,
    ) -> Follower:
        """See ``Store.follow``."""
        return Follower(
            lambda: Folder.open(self._places.namespace_path(namespace)),
            ids.encode_name(continuation_id),
            after=after,
            idle_seconds=idle_seconds,
            damaged=damaged,
        )

    def newest_and_cursor(
        self,
        namespace: str,
        continuation_id: str,
        count: int | None,
        *,
        filter: Filter,
        damaged: OnDamage,
    ) -> tuple[list[StoredTurn], Cursor]:
        """See ``Store.newest_and_cursor``."""
        began = perf_counter()
        with self._places.reader(namespace, continuation_id) as reader:
            found = read.newest(reader, count, filter, damaged), end_cursor(reader)
        self._observer.read(continuation_id, len(found[0]), perf_counter() - began)
        return found

    def end_cursor(self, namespace: str, continuation_id: str) -> Cursor:
        """See ``Store.end_cursor``."""
        with self._places.reader(namespace, continuation_id) as reader:
            return end_cursor(reader)

    def describe(self, namespace: str, continuation_id: str, *, count: bool) -> Description:
        """See ``Store.describe``."""
        with self._places.reader(namespace, continuation_id) as reader:
            cold = reader.cold_facts
            if cold is not None:
                return Description(
                    continuation_id=continuation_id,
                    namespace=namespace,
                    bytes=cold.plain_bytes,
                    first_ts=_moment(cold.first_ts),
                    last_ts=_moment(cold.last_ts),
                    last_seq=cold.last_seq,
                    turns=cold.turns if count else None,
                )
            last = next(filter_timed(reader.newest_first(_unnoticed)), None)
            first = next(filter_timed(reader.in_order(_unnoticed)), None)
            turns = sum(1 for _ in reader.in_order(_unnoticed)) if count else None
            return Description(
                continuation_id=continuation_id,
                namespace=namespace,
                bytes=reader.size,
                first_ts=None if first is None else first.turn.ts,
                last_ts=None if last is None else last.turn.ts,
                last_seq=reader.last_seq(),
                turns=turns,
            )

    def conversation_ids(self, namespace: str) -> Iterator[str]:
        """See ``Store.conversation_ids``. Files with other names are passed over."""
        return (found for _, found in self._places.names(namespace))

    def namespaces(self) -> list[str]:
        """See ``Store.namespaces``."""
        return self._places.namespaces()

    def path(self, namespace: str, continuation_id: str) -> str:
        """Return where the conversation's log is, or would be."""
        return self._places.path(namespace, continuation_id)


def filter_timed(found: Iterator[StoredTurn]) -> Iterator[StoredTurn]:
    """Yield the turns whose time can be read."""
    return (stored for stored in found if stored.turn.ts is not None)


def _moment(text: str | None) -> datetime | None:
    from datetime import datetime

    return None if text is None else datetime.fromisoformat(text)


def _unnoticed(damage: Damage) -> None:
    """A list tells what there is; what is damaged is told by those who read the turns."""
