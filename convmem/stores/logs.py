"""The logs of a directory store as they lie on disk, for what is derived from all of them."""

from __future__ import annotations

from convmem.errors import storage_error
from convmem.log.read import Reader
from convmem.stores.log_files import COMPRESSED, stamp_of, states

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Container

    from convmem.log.files import Folder
    from convmem.stores.places import Places

_INDEX = ".index"


class DirectoryLogs:
    """See ``caretakers.Logs``."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def stamps(self, namespace: str, *, known: Container[str] = ()) -> dict[str, str]:
        """See ``Logs.stamps``."""
        folder = self._folder(namespace)
        if folder is None:
            return {}
        try:
            return {
                name: _stamp(is_compressed, state) for name, is_compressed, state in states(folder, known=known)
            }
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

    def index_folder(self, namespace: str, *, create: bool) -> Folder | None:
        """See ``Logs.index_folder``."""
        folder = self._folder(namespace)
        if folder is None:
            return None
        try:
            if create:
                return folder.subfolder(_INDEX, is_lasting=False)
            return folder.existing_subfolder(_INDEX)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error(error, f"cannot open {folder.path}/{_INDEX}") from error

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
