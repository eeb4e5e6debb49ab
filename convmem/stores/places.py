"""Where things are in an archive of JSONL files, and which of them are open.

    <archive>/<namespace>/<name>.jsonl

Nothing of a conversation is kept in memory but open descriptors and hints, and of those only so
many: any number of conversations can be used in turn.
"""

from __future__ import annotations

import os
import weakref
from _thread import allocate_lock

from convmem import ids
from convmem.errors import (
    ConversationNotFound,
    InvalidContinuationId,
    StorageError,
    storage_error,
)
from convmem.log.append import FolderGone, Log
from convmem.log.files import Folder
from convmem.log.read import Reader
from convmem.log.records import Damage
from convmem.stores import long_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from convmem.progress import Observer

ENDING = ".jsonl"
# What stands beside the namespaces.
_SETTINGS = "convmem.toml"
_MOST_FOLDERS = 16
# Two descriptors each: the log and its lock.
_MOST_LOGS = 64


class Places:
    """The folders and logs below *root*. Safe for any number of threads, and across fork.

    The folder is made by the first append. Once it was there it is not made again: a folder that
    went away is an error, not an empty archive.
    """

    def __init__(self, root: str, observer: Observer) -> None:
        self.root = root
        self.most_logs = _descriptors_to_use() // 2
        self._observer = observer
        self._root_was_there = os.path.isdir(root)
        self._start()
        _all.append(weakref.ref(self, _all.remove))

    def _start(self) -> None:
        self._guard = allocate_lock()
        self._folders: dict[str, Folder] = {}
        self._logs: dict[tuple[str, str], Log] = {}

    # --- folders -------------------------------------------------------------------------------

    def namespace_path(self, namespace: str) -> str:
        """Return where the folder of *namespace* is, or would be."""
        name = ids.encode_name(namespace)
        if name == _SETTINGS:
            raise InvalidContinuationId(
                f"namespace {namespace!r} has the name of the archive's settings",
                hint="take another name",
            )
        if ids.is_hashed(name):
            raise InvalidContinuationId(
                f"namespace {namespace[:40]!r}… is too long",
                hint=f"its folder's name may take {ids.MAX_NAME_BYTES} bytes",
            )
        return os.path.join(self.root, name)

    def path(self, namespace: str, continuation_id: str) -> str:
        """Return where the conversation's log is, plain or compressed, or would be."""
        name = ids.encode_name(continuation_id)
        plain = os.path.join(self.namespace_path(namespace), name + ENDING)
        if not os.path.lexists(plain) and os.path.lexists(f"{plain}.zst"):
            return f"{plain}.zst"
        return plain

    def namespaces(self) -> list[str]:
        """Return the names of the namespaces, sorted."""
        try:
            root = Folder.open(self.root)
        except FileNotFoundError:
            return []
        found = []
        for entry in root.entries():
            if entry.is_dir(follow_symlinks=False) and entry.name != _SETTINGS:
                namespace = ids.decode_name(entry.name)
                if namespace is not None:
                    found.append(namespace)
        return sorted(found)

    def folder(self, namespace: str, *, create: bool) -> Folder:
        """Return the open folder of *namespace*.

        Raises:
            FileNotFoundError: It is not there and *create* is false.
        """
        with self._guard:
            folder = self._folders.pop(namespace, None)
            if folder is not None and folder.is_current():
                self._folders[namespace] = folder
                return folder
        path = self.namespace_path(namespace)
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
        except FileNotFoundError:
            raise
        except OSError as error:
            raise storage_error(error, f"cannot open {path}") from error
        finally:
            root.close()
        with self._guard:
            self._folders[namespace] = folder
            while len(self._folders) > _MOST_FOLDERS:
                # Logs that are open there keep their folder; it closes with the last of them.
                del self._folders[next(iter(self._folders))]
        return folder

    def forget_folder(self, namespace: str) -> None:
        """Open the folder of *namespace*, and its logs, anew next time."""
        with self._guard:
            self._folders.pop(namespace, None)
            for key in [key for key in self._logs if key[0] == namespace]:
                del self._logs[key]

    def names(self, namespace: str) -> Iterator[tuple[str, str]]:
        """Yield (file name without its ending, id) of every conversation, in no order.

        Files with other names are passed over.
        """
        try:
            folder = self.folder(namespace, create=False)
        except FileNotFoundError:
            return
        plain: set[str] = set()
        compressed: list[str] = []
        for entry in folder.entries():
            name, ending = os.path.splitext(entry.name)
            if ending == ENDING:
                plain.add(name)
            elif ending == ".zst" and name.endswith(ENDING):
                name = name[: -len(ENDING)]
            else:
                continue
            if not entry.is_file(follow_symlinks=False):
                continue
            if ending != ENDING:
                compressed.append(name)
                continue
            found = self.id_of(folder, name)
            if found is not None:
                yield name, found
        for name in compressed:
            found = self.id_of(folder, name) if name not in plain else None
            if found is not None:
                yield name, found

    def id_of(self, folder: Folder, name: str) -> str | None:
        """Return the id of the conversation whose file is called *name*, ``None`` if it is none."""
        try:
            found = long_ids.find(folder, name) if ids.is_hashed(name) else ids.decode_name(name)
        except StorageError as error:  # what stands there in its place hides no other
            self._observer.damaged(name, Damage(0, 0, str(error)))
            return None
        return found if found is not None and ids.stands_for(name, found) else None

    # --- logs ----------------------------------------------------------------------------------

    def log(self, namespace: str, continuation_id: str) -> Log:
        """Return the writing side of the conversation's log; makes folders, not the log."""
        name = ids.encode_name(continuation_id)
        key = (namespace, name)
        with self._guard:
            log = self._logs.pop(key, None)
            if log is not None:
                self._logs[key] = log  # the last one used is the last one closed
                return log
        try:
            folder = self.folder(namespace, create=True)
            if ids.is_hashed(name):
                long_ids.keep(folder, name, continuation_id)
        except OSError as error:
            raise storage_error(error, f"cannot open {self.namespace_path(namespace)}") from error
        with self._guard:
            log = self._logs.setdefault(key, Log(folder, name, _last_seq_listed))
        if len(self._logs) > self.most_logs:
            self.close_idle(self.most_logs)
        return log

    def close_idle(self, most: int) -> None:
        """Close logs that nobody uses just now, the longest unused first, down to *most*."""
        with self._guard:
            for key in list(self._logs):
                if len(self._logs) <= most:
                    return
                if self._logs[key].close_if_idle():
                    del self._logs[key]

    def close(self) -> None:
        """Give back every descriptor that nobody uses just now."""
        with self._guard:
            logs, self._logs = self._logs, {}
            folders, self._folders = self._folders, {}
        for log in logs.values():
            log.close_if_idle()
        folders.clear()

    def reader(self, namespace: str, continuation_id: str) -> Reader:
        """Open the conversation's log for one reading.

        Raises:
            ConversationNotFound: It is not there.
        """
        name = ids.encode_name(continuation_id)
        try:
            folder = self.folder(namespace, create=False)
            reader = Reader(folder, name)
        except FileNotFoundError:
            raise self.not_found(namespace, continuation_id) from None
        except OSError as error:
            where = self.path(namespace, continuation_id)
            raise storage_error(error, f"cannot read {where}") from error
        if ids.is_hashed(name):
            long_ids.check(folder, name, continuation_id)
        return reader

    def healed_in(self, continuation_id: str) -> Callable[[str], None]:
        """Return what tells the observer that the log of a conversation was healed."""
        return lambda kept: self._observer.healed(continuation_id, kept)

    def not_found(self, namespace: str, continuation_id: str) -> ConversationNotFound:
        """Return the error that says there is no such conversation."""
        within = "" if namespace == "default" else f" in namespace {namespace!r}"
        return ConversationNotFound(
            f"there is no conversation {continuation_id!r}{within}",
            hint="see what there is with: convmem list",
        )

    def not_in_trash(self, namespace: str, continuation_id: str) -> ConversationNotFound:
        """Return the error that says there is nothing of it in the trash."""
        within = "" if namespace == "default" else f" in namespace {namespace!r}"
        return ConversationNotFound(
            f"nothing of conversation {continuation_id!r}{within} is in the trash",
            hint="see what is there with: convmem trash list",
        )

    def _after_fork(self) -> None:
        """In a forked child: let go of all that is shared with the parent, and begin anew.

        Closing a descriptor does not release the parent's lock; unlocking it would.
        """
        self._start()


def _last_seq_listed(folder: Folder, name: str) -> int:
    """Return the ``seq`` that the last list knew of a log, for where damage has taken it."""
    from convmem.stores.facts_index import Index

    return Index.load(folder).last_seq(name)


def _descriptors_to_use() -> int:
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows
        return 2 * _MOST_LOGS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 2 * _MOST_LOGS
    return max(4, min(2 * _MOST_LOGS, soft // 4))


_all: list[weakref.ref[Places]] = []


def _after_fork_in_child() -> None:
    for reference in tuple(_all):
        places = reference()
        if places is not None:
            places._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
