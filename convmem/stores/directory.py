"""The default store: a folder for each namespace, a JSONL file for each conversation.

    <archive>/<namespace>/<name>.jsonl

Nothing of a conversation is kept in memory but open descriptors and hints, and of those only so
many: any number of conversations can be used in turn.
"""

from __future__ import annotations

import errno
import os
import weakref
from _thread import allocate_lock

from convmem import ids
from convmem.errors import (
    ConversationNotFound,
    CorruptLog,
    DurabilityUnknown,
    InvalidContinuationId,
    StorageError,
    storage_error,
)
from convmem.log import read, records
from convmem.log.append import FolderGone, Log
from convmem.log.files import Folder, temporary_name, write_aside
from convmem.log.follow import Cursor, Follower, end_cursor, place_of
from convmem.log.read import Filter, Reader
from convmem.log.records import Damage
from convmem.stores.values import Description

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from convmem.log.append import Written
    from convmem.log.durability import Durability
    from convmem.log.read import StoredTurn
    from convmem.log.records import OnDamage
    from convmem.log.survey import CompactionReport
    from convmem.progress import Observer
    from convmem.retention import RetentionPolicy
    from convmem.stores.values import Answers, Group
    from convmem.turns import Draft

_ENDING = ".jsonl"
# Where an id too long for a file name is kept whole.
_LONG_IDS = ".ids"
_MOST_FOLDERS = 16
# Two descriptors each: the log and its lock.
_MOST_LOGS = 64


class DirectoryStore:
    """Conversations as JSONL files below *root*. Safe for any number of threads and processes.

    The folder is made by the first append. Once it was there it is not made again: a folder that
    went away is an error, not an empty archive.
    """

    def __init__(
        self,
        root: str,
        *,
        observer: Observer,
        lock_timeout_seconds: float,
        remember_seconds: float,
    ) -> None:
        self.root = root
        self._observer = observer
        self._lock_timeout_seconds = lock_timeout_seconds
        self._remember_seconds = remember_seconds
        self._root_was_there = os.path.isdir(root)
        self._leftovers: dict[str, dict[str, list[tuple[str, str]]]] = {}
        self._most_logs = _descriptors_to_use() // 2
        self._start()
        _stores.append(weakref.ref(self, _stores.remove))

    def _start(self) -> None:
        self._guard = allocate_lock()
        self._folders: dict[str, Folder] = {}
        self._logs: dict[tuple[str, str], Log] = {}
        self._waits = False  # something may wait for the flusher

    # --- writing -------------------------------------------------------------------------------

    def append(
        self,
        namespace: str,
        continuation_id: str,
        drafts: Sequence[Draft],
        *,
        is_batch: bool,
        durability: Durability,
    ) -> Answers:
        """See ``Store.append``."""
        written = self._write(namespace, continuation_id, drafts, is_batch)
        return self._settle(written, drafts, durability)

    def append_to_many(
        self, groups: Sequence[Group], *, durability: Durability
    ) -> list[Answers | Exception]:
        """See ``Store.append_to_many``. Writes to many before it syncs them, and to any number."""
        settled: list[Answers | Exception] = []
        # Each one written to stays open until it is synced, so only so many at a time.
        most = max(1, self._most_logs // 2)
        for first in range(0, len(groups), most):
            settled += self._append_to_some(groups[first : first + most], durability)
        return settled

    def _append_to_some(
        self, groups: Sequence[Group], durability: Durability
    ) -> list[Answers | Exception]:
        started: list[Written | Exception] = []
        for group in groups:
            try:
                started.append(
                    self._write(group.namespace, group.continuation_id, group.drafts, False)
                )
            except Exception as error:  # noqa: BLE001 - each is handed to the caller
                started.append(error)
        settled: list[Answers | Exception] = []
        for group, written in zip(groups, started, strict=True):
            if isinstance(written, Exception):
                settled.append(written)
                continue
            try:
                settled.append(self._settle(written, group.drafts, durability))
            except Exception as error:  # noqa: BLE001 - each is handed to the caller
                settled.append(error)
        return settled

    def _write(
        self, namespace: str, continuation_id: str, drafts: Sequence[Draft], is_batch: bool
    ) -> Written:
        name = ids.encode_name(continuation_id)
        for attempt in (1, 2, 3):
            try:
                log = self._log(namespace, continuation_id, name)
                return log.write(
                    drafts,
                    is_batch=is_batch,
                    timeout_seconds=self._lock_timeout_seconds,
                    healed=lambda kept: self._observer.healed(continuation_id, kept),
                )
            except FolderGone:
                self._forget_folder(namespace)
                if attempt == 3 or not os.path.isdir(self.root):
                    raise
            except StorageError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE) or attempt == 3:
                    raise
                self._close_idle(0)
        raise AssertionError("the loop returns or raises")

    def _settle(self, written: Written, drafts: Sequence[Draft], durability: Durability) -> Answers:
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
                    flusher().expect(log, durability.seconds, self, most=self._most_logs)
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
            with self._guard:
                logs, self._logs = self._logs, {}
                folders, self._folders = self._folders, {}
            for log in logs.values():
                log.close_if_idle()
            folders.clear()

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
        with self._reader(namespace, continuation_id) as reader:
            return read.newest(reader, count, filter.wants, damaged)

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
        reader = self._reader(namespace, continuation_id)

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
            lambda: Folder.open(self._namespace_path(namespace)),
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
        with self._reader(namespace, continuation_id) as reader:
            return read.newest(reader, count, filter.wants, damaged), end_cursor(reader)

    def end_cursor(self, namespace: str, continuation_id: str) -> Cursor:
        """See ``Store.end_cursor``."""
        with self._reader(namespace, continuation_id) as reader:
            return end_cursor(reader)

    def describe(self, namespace: str, continuation_id: str, *, count: bool) -> Description:
        """See ``Store.describe``."""
        with self._reader(namespace, continuation_id) as reader:
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
        try:
            folder = self._folder(namespace, create=False)
        except FileNotFoundError:
            return
        for entry in folder.entries():
            name, ending = os.path.splitext(entry.name)
            if ending != _ENDING or not entry.is_file(follow_symlinks=False):
                continue
            try:
                found = (
                    self._long_id(folder, name) if ids.is_hashed(name) else ids.decode_name(name)
                )
            except StorageError as error:  # what stands there in its place hides no other
                self._observer.damaged(name, Damage(0, 0, str(error)))
                continue
            if found is not None and ids.stands_for(name, found):
                yield found

    def namespaces(self) -> list[str]:
        """See ``Store.namespaces``."""
        try:
            root = Folder.open(self.root)
        except FileNotFoundError:
            return []
        found = []
        for entry in root.entries():
            if entry.is_dir(follow_symlinks=False):
                namespace = ids.decode_name(entry.name)
                if namespace is not None:
                    found.append(namespace)
        return sorted(found)

    def path(self, namespace: str, continuation_id: str) -> str:
        """Return where the conversation's log is, or would be."""
        name = ids.encode_name(continuation_id)
        return os.path.join(self._namespace_path(namespace), name + _ENDING)

    # --- compacting ----------------------------------------------------------------------------

    def compact(
        self,
        namespace: str,
        continuation_id: str,
        policy: RetentionPolicy,
        *,
        now: datetime,
        discard: bool,
        dry_run: bool,
        advanced: Callable[[int], None],
    ) -> CompactionReport:
        """See ``Store.compact``."""
        from convmem.log import compact, survey

        if dry_run:
            with self._reader(namespace, continuation_id) as reader:
                return survey.preview(reader.fd, reader.end, reader.size, policy, now)
        name = ids.encode_name(continuation_id)
        self._reader(namespace, continuation_id).close()  # there, and a file
        leftovers = self._leftovers.get(namespace)
        try:
            return compact.compact(
                self._log(namespace, continuation_id, name),
                policy,
                now=now,
                discard=discard,
                remember_seconds=self._remember_seconds,
                timeout_seconds=self._lock_timeout_seconds,
                leftovers=None if leftovers is None else leftovers.get(name, ()),
                healed=lambda kept: self._observer.healed(continuation_id, kept),
                advanced=advanced,
            )
        except FileNotFoundError:
            raise self._not_found(namespace, continuation_id) from None

    def expect_many_compactions(self, namespace: str) -> None:
        """Look for dead temporary files once, instead of once for each conversation."""
        from convmem.log import compact

        try:
            self._leftovers[namespace] = compact.find_leftovers(
                self._folder(namespace, create=False)
            )
        except FileNotFoundError:
            return

    # --- folders and logs ----------------------------------------------------------------------

    def _namespace_path(self, namespace: str) -> str:
        name = ids.encode_name(namespace)
        if ids.is_hashed(name):
            raise InvalidContinuationId(
                f"namespace {namespace[:40]!r}… is too long",
                hint=f"its folder's name may take {ids.MAX_NAME_BYTES} bytes",
            )
        return os.path.join(self.root, name)

    def _folder(self, namespace: str, *, create: bool) -> Folder:
        """Return the open folder of *namespace*.

        Raises:
            FileNotFoundError: It is not there and *create* is false.
        """
        with self._guard:
            folder = self._folders.pop(namespace, None)
            if folder is not None and folder.is_current():
                self._folders[namespace] = folder
                return folder
        path = self._namespace_path(namespace)
        if create and self._root_was_there and not os.path.isdir(self.root):
            raise FolderGone(
                f"the archive {self.root} is gone",
                hint="it was removed, moved or unmounted while convmem had it open",
            )
        root = Folder.open(self.root, create=create)
        self._root_was_there = True
        try:
            inner = os.path.basename(path)
            folder = root.subfolder(inner) if create else root.existing_subfolder(inner)
        finally:
            root.close()
        with self._guard:
            self._folders[namespace] = folder
            while len(self._folders) > _MOST_FOLDERS:
                # Logs that are open there keep their folder; it closes with the last of them.
                del self._folders[next(iter(self._folders))]
        return folder

    def _forget_folder(self, namespace: str) -> None:
        with self._guard:
            self._folders.pop(namespace, None)
            for key in [key for key in self._logs if key[0] == namespace]:
                del self._logs[key]

    def _log(self, namespace: str, continuation_id: str, name: str) -> Log:
        key = (namespace, name)
        with self._guard:
            log = self._logs.pop(key, None)
            if log is not None:
                self._logs[key] = log  # the last one used is the last one closed
                return log
        try:
            folder = self._folder(namespace, create=True)
            if ids.is_hashed(name):
                self._keep_long_id(folder, name, continuation_id)
        except OSError as error:
            raise storage_error(error, f"cannot open {self._namespace_path(namespace)}") from error
        with self._guard:
            log = self._logs.setdefault(key, Log(folder, name))
        if len(self._logs) > self._most_logs:
            self._close_idle(self._most_logs)
        return log

    def _close_idle(self, most: int) -> None:
        """Close logs that nobody uses just now, the longest unused first, down to *most*."""
        with self._guard:
            for key in list(self._logs):
                if len(self._logs) <= most:
                    return
                if self._logs[key].close_if_idle():
                    del self._logs[key]

    def _reader(self, namespace: str, continuation_id: str) -> Reader:
        name = ids.encode_name(continuation_id)
        try:
            reader = Reader(self._folder(namespace, create=False), name)
        except FileNotFoundError:
            raise self._not_found(namespace, continuation_id) from None
        except OSError as error:
            where = self.path(namespace, continuation_id)
            raise storage_error(error, f"cannot read {where}") from error
        if ids.is_hashed(name):
            self._check_long_id(namespace, name, continuation_id)
        return reader

    def _not_found(self, namespace: str, continuation_id: str) -> ConversationNotFound:
        within = "" if namespace == "default" else f" in namespace {namespace!r}"
        return ConversationNotFound(
            f"there is no conversation {continuation_id!r}{within}",
            hint="see what there is with: convmem list",
        )

    # --- ids that are too long for a file name -------------------------------------------------

    def _keep_long_id(self, folder: Folder, name: str, continuation_id: str) -> None:
        """Write the whole id down, durably, before the first turn is."""
        known = self._long_id(folder, name)
        if known is None:
            inner = folder.subfolder(_LONG_IDS)
            try:
                write_aside(inner, name, temporary_name(name), [continuation_id.encode()])
            finally:
                inner.close()
        elif known != continuation_id:
            raise _other_id(name, known)

    def _check_long_id(self, namespace: str, name: str, continuation_id: str) -> None:
        known = self._long_id(self._folder(namespace, create=False), name)
        if known is not None and known != continuation_id:
            raise _other_id(name, known)

    def _long_id(self, folder: Folder, name: str) -> str | None:
        try:
            inner = folder.existing_subfolder(_LONG_IDS)
        except FileNotFoundError:
            return None
        try:
            fd = inner.open_file(name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        finally:
            inner.close()
        try:
            return str(os.pread(fd, ids.MAX_ID_BYTES + 1, 0), "utf-8", "replace")
        finally:
            os.close(fd)

    def _after_fork(self) -> None:
        """In a forked child: let go of all that is shared with the parent, and begin anew.

        Closing a descriptor does not release the parent's lock; unlocking it would.
        """
        self._start()


def filter_timed(found: Iterator[StoredTurn]) -> Iterator[StoredTurn]:
    """Yield the turns whose time can be read."""
    return (stored for stored in found if stored.turn.ts is not None)


def _other_id(name: str, known: str) -> CorruptLog:
    return CorruptLog(
        f"{name}{_ENDING} belongs to another conversation, {known[:40]!r}…",
        hint=f"the file in {_LONG_IDS} was changed, or two ids share a SHA-256",
    )


def _unnoticed(damage: Damage) -> None:
    """A list tells what there is; what is damaged is told by those who read the turns."""


def _descriptors_to_use() -> int:
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows
        return 2 * _MOST_LOGS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 2 * _MOST_LOGS
    return max(4, min(2 * _MOST_LOGS, soft // 4))


_stores: list[weakref.ref[DirectoryStore]] = []


def _after_fork_in_child() -> None:
    for reference in tuple(_stores):
        store = reference()
        if store is not None:
            store._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

__all__ = ["DirectoryStore", "Filter", "records"]
