"""Keeping the index of words: brought in step ahead of any search, made anew, removed."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from convmem.errors import StorageError
from convmem.search.index.database import Database, NoIndex
from convmem.search.index.sync import bring_in_step
from convmem.stores.log_files import size_in
from convmem.stores.logs import index_file, remove_index, vector_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.errors import ConvmemError
    from convmem.log.files import Folder
    from convmem.progress import Observer
    from convmem.search.semantic.embedder import Embedder
    from convmem.stores.caretakers import Logs


class IndexReport:
    """What there is after the index was brought in step.

    Attributes:
        namespace: Whose it is.
        turns: How many turns it knows.
        index_bytes: How much room it takes on disk.
        log_bytes: How much the logs take that it is of.
        missing: How many turns have no vector still; ``None`` where vectors were not asked for.
        vector_bytes: How much room those take that there are.
        failed: Why, for the id of each conversation that could not be read (whole).
    """

    __slots__ = (
        "failed",
        "index_bytes",
        "log_bytes",
        "missing",
        "namespace",
        "turns",
        "vector_bytes",
    )

    def __init__(
        self,
        namespace: str,
        *,
        turns: int = 0,
        index_bytes: int = 0,
        log_bytes: int = 0,
        missing: int | None = None,
        vector_bytes: int = 0,
        failed: dict[str, ConvmemError] | None = None,
    ) -> None:
        self.namespace = namespace
        self.turns = turns
        self.index_bytes = index_bytes
        self.log_bytes = log_bytes
        self.missing = missing
        self.vector_bytes = vector_bytes
        self.failed = failed or {}


def bring_up(
    logs: Logs,
    namespace: str,
    observer: Observer,
    *,
    rebuild: bool,
    embedder: Embedder | None = None,
) -> IndexReport:
    """Bring the index of *namespace* in step; with *rebuild* make it anew.

    With an *embedder* every turn gets its vector, too; those that are there are not made again.

    Raises:
        StorageError: There can be no index here; searches go without one, and take longer.
        LockTimeout: Another process is indexing, or embedding, and does not come to an end.
        UsageError, EmbedderError: See ``embedding.embed_all``.
    """
    missing = None
    folder = logs.index_folder(namespace, create=True)
    if folder is None:  # no such namespace: nothing to index
        return IndexReport(namespace)
    try:
        turns, failed = _in_step(folder, logs, namespace, observer, rebuild=rebuild)
        if embedder is not None:
            from convmem.search.semantic.embedding import embed_all

            missing, failed = embed_all(logs, namespace, embedder, observer)
    except NoIndex as error:
        raise StorageError(
            f"there can be no index: {error}", hint="search goes without one, and takes longer"
        ) from error
    except sqlite3.DatabaseError as error:
        raise StorageError(
            f"the search index cannot be used: {error}",
            hint="it is derived: remove it with convmem index --drop, and try again",
        ) from error
    return IndexReport(
        namespace,
        turns=turns,
        index_bytes=size_of(logs, namespace),
        log_bytes=sum(map(size_in, logs.stamps(namespace).values())),
        missing=missing,
        vector_bytes=_vector_bytes(logs, namespace),
        failed={logs.continuation_id(namespace, name) or name: why for name, why in failed.items()},
    )


def size_of(logs: Logs, namespace: str) -> int:
    """Return how many bytes the index of *namespace* takes; 0 without one."""
    folder = logs.index_folder(namespace, create=False)
    if folder is None:
        return 0
    try:
        file = index_file(folder)
        files = [] if file is None else [name for name in (file, f"{file}-wal") if folder.has(name)]
        return sum(folder.stat(name).st_size for name in files)
    finally:
        folder.close()


def _vector_bytes(logs: Logs, namespace: str) -> int:
    folder = logs.index_folder(namespace, create=False)
    if folder is None:
        return 0
    with closing(folder):
        return sum(folder.stat(name).st_size for name in vector_files(folder))


def drop(logs: Logs, namespace: str, *, vectors: bool = False) -> int:
    """Remove the index of *namespace* and return how many bytes it took. A search makes it anew.

    With *vectors* these go, too.
    """
    freed = size_of(logs, namespace) + (_vector_bytes(logs, namespace) if vectors else 0)
    folder = logs.index_folder(namespace, create=False)
    if folder is not None:
        try:
            remove_index(folder)
            for name in vector_files(folder) if vectors else ():
                folder.remove(name)
        finally:
            folder.close()
    return freed


def _in_step(
    folder: Folder, logs: Logs, namespace: str, observer: Observer, *, rebuild: bool
) -> tuple[int, dict[str, ConvmemError]]:
    """Do the work on the database in *folder*, which is closed by it."""
    if rebuild:
        remove_index(folder)  # rather than `remake`, which first needs one that can be opened
    with Database.open(folder) as database:
        failed = bring_in_step(database, logs, namespace, observer)
        (turns,) = database.connection.execute("select turns from total").fetchone()
    return turns, failed
