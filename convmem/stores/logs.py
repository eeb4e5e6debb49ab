"""The logs of a directory store as they lie on disk, for what is derived from all of them."""

from __future__ import annotations

import os
import stat

from convmem.errors import storage_error
from convmem.log.locks import held
from convmem.log.read import Reader
from convmem.stores.log_files import COMPRESSED, PLAIN, is_of_a_log, stamp_of, states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from convmem.log.files import Folder
    from convmem.stores.places import Places

INDEX_FOLDER = ".index"
# The index of words. Derived: it may be removed at any time, with what SQLite keeps beside it.
# Each one that is made has a name of its own: whoever still has a removed one open ends by
# removing, by name, what SQLite keeps beside it, and must not meet the files of another.
_INDEX = ("search-", ".sqlite")
_INDEX_LOCK = "search"

_VECTORS = ("vectors-", ".bin")

# Held for some milliseconds at a time.
_PATIENCE_SECONDS = 60.0


def index_file(inner: Folder) -> str | None:
    """Return the name of the index of words in the folder it lies in; ``None`` without one."""
    names = (name for name in _index_files(inner) if name.endswith(_INDEX[1]))
    return min(names, default=None)


def new_index_file() -> str:
    """Return a name for an index that is to be made."""
    return os.urandom(8).hex().join(_INDEX)


def remove_index(inner: Folder) -> None:
    """Remove the index of words from the open folder it lies in.

    Who has it open goes on with what was removed.

    Raises:
        StorageError, LockTimeout: It is there still.
    """
    if _index_files(inner):
        with alone_with_index(inner):
            remove_index_files(inner)


def remove_index_files(inner: Folder, *, but: str | None = None) -> None:
    """Remove what there is of any index *but* one; for who is ``alone_with_index``."""
    # The database first: without the rest it might be read as it never was.
    for name in sorted(_index_files(inner), key=len):
        if but is None or not name.startswith(but):
            inner.remove(name)


def _index_files(inner: Folder) -> list[str]:
    return [entry.name for entry in inner.entries() if entry.name.startswith(_INDEX[0])]


def alone_with_index(inner: Folder) -> held:
    """Keep others from opening, making and removing the index of words meanwhile.

    Two that are made at once would each be filled, and one of them for nothing.

    Raises:
        StorageError, LockTimeout: The lock is not to be had.
    """
    return held(inner, _INDEX_LOCK, _PATIENCE_SECONDS)


def vectors_file(embedder: str) -> str:
    """Return the name of the file of vectors for what the embedder's name hashes to."""
    return embedder.join(_VECTORS)


def vector_files(inner: Folder) -> list[str]:
    """Return the names of the files of vectors in the folder they lie in, one for each embedder."""
    before, behind = _VECTORS
    return sorted(
        entry.name
        for entry in inner.entries()
        if entry.name.startswith(before) and entry.name.endswith(behind)
    )


def forget_words(folder: Folder) -> None:
    """Remove the words that were found in a namespace's turns: they may be of one that is gone.

    Raises:
        StorageError: They are there still.
    """
    try:
        inner = folder.existing_subfolder(INDEX_FOLDER)
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage_error(error, f"cannot open {folder.path}/{INDEX_FOLDER}") from error
    try:
        remove_index(inner)
    except OSError as error:
        raise storage_error(error, f"cannot remove the index in {inner.path}") from error
    finally:
        inner.close()


class DirectoryLogs:
    """See ``caretakers.Logs``."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def stamps(self, namespace: str, *, known: Container[str] = ()) -> dict[str, str]:
        """See ``Logs.stamps``."""
        folder = self._folder(namespace)
        if folder is None:
            return {}
        found = {}
        unknown: set[str] = set()
        try:
            # Not by ``states``: for thousands of logs this is most of what a search takes.
            for file in folder.names():
                name = file[: -len(PLAIN)]
                if file.endswith(PLAIN) and name in known:
                    try:
                        state = os.stat(file, dir_fd=folder.fd, follow_symlinks=False)
                    except FileNotFoundError:
                        continue  # removed while we looked
                    if stat.S_ISREG(state.st_mode):
                        found[name] = stamp_of(state)
                elif file.endswith((PLAIN, COMPRESSED)):
                    unknown.add(file.removesuffix(COMPRESSED).removesuffix(PLAIN))
            # A compressed log is none where the plain one is there, too.
            ours = filter(is_of_a_log, unknown.difference(found))
            for name, is_compressed, state in states(folder, ours):
                found[name] = _stamp(is_compressed, state)
            return found
        except OSError as error:
            raise storage_error(error, f"cannot read {folder.path}") from error

    def stamp(self, namespace: str, name: str) -> str | None:
        """See ``Logs.stamp``."""
        folder = self._folder(namespace)
        if folder is not None:
            for _, is_compressed, state in states(folder, (name,)):
                return _stamp(is_compressed, state)
        return None

    def continuation_id(self, namespace: str, name: str) -> str | None:
        """See ``Logs.continuation_id``."""
        folder = self._folder(namespace)
        return None if folder is None else self._places.id_of(folder, name)

    def open(self, namespace: str, name: str) -> Reader:
        """See ``Logs.open``."""
        folder = self._folder(namespace)
        if folder is None:
            raise FileNotFoundError(name)
        return Reader(folder, name)

    def forget_words(self, namespace: str) -> None:
        """See ``Logs.forget_words``."""
        folder = self._folder(namespace)
        if folder is not None:
            forget_words(folder)

    def index_folder(self, namespace: str, *, create: bool) -> Folder | None:
        """See ``Logs.index_folder``."""
        folder = self._folder(namespace)
        if folder is None:
            return None
        try:
            if create:
                return folder.subfolder(INDEX_FOLDER, is_lasting=False)
            return folder.existing_subfolder(INDEX_FOLDER)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error(error, f"cannot open {folder.path}/{INDEX_FOLDER}") from error

    def _folder(self, namespace: str) -> Folder | None:
        try:
            return self._places.folder(namespace, create=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            where = self._places.namespace_path(namespace)
            raise storage_error(error, f"cannot open {where}") from error


def _stamp(is_compressed: bool, state: os.stat_result) -> str:
    return stamp_of(state) + (COMPRESSED if is_compressed else "")
