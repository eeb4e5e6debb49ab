"""Keeping the vectors in step with the index: a few by a search, all by a run of its own.

One process at a time embeds for a namespace; ``vector_making`` is what it does.
"""

from __future__ import annotations

from contextlib import contextmanager

from convmem.errors import LockTimeout, StorageError
from convmem.log.locks import SidecarLock
from convmem.search.index.database import Database
from convmem.search.index.sync import bring_in_step
from convmem.search.reading import Changed
from convmem.search.semantic.positions import Positions
from convmem.search.semantic.vector_making import FEW, BegunAnew, Making
from convmem.search.semantic.vectors import VectorFile, remove_others

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem.errors import ConvmemError
    from convmem.log.files import Folder
    from convmem.progress import Observer
    from convmem.search.semantic.embedder import Embedder
    from convmem.stores.caretakers import Logs

_LOCK = "vectors"
_PATIENCE_SECONDS = 2.0
_MOST_ROUNDS = 20
# New turns that come while it goes on are taken in, but not for ever.
_ROUNDS = 3


def keep_up(
    database: Database,
    logs: Logs,
    namespace: str,
    embedder: Embedder,
    observer: Observer,
    *,
    is_whole: bool = False,
) -> int:
    """Give vectors to turns that have none, if that is soon done; return how many have none still.

    Vectors that an index made anew does not know of yet are found again; if the index *is whole*,
    all logs having been read, those that are then no turn's go: of what was scrubbed, say.

    Raises:
        UsageError: The vectors that are there have other dimensions.
        EmbedderError: The embedder failed.
        StorageError: The vectors cannot be read.
    """
    positions = Positions(database.connection, embedder.name)
    with _folder(logs, namespace) as folder:
        file = VectorFile.open(folder, embedder.name, embedder.dimensions)
        noted = positions.generation()
        is_known = noted == file.generation and not file.is_cut
        # A file that was removed, or damaged, leaves positions that lead nowhere.
        if (is_known and positions.is_matched()) or (noted is None and not file.count):
            missing = positions.missing()
            if not missing or missing > FEW:
                return missing
        try:
            # Who rewrites the file is done in a moment; who embeds is not.
            with _locked(folder, patience_seconds=0 if is_known else _PATIENCE_SECONDS):
                making = Making(database, logs, namespace, folder, embedder, observer)
                if not making.is_matched():
                    making.run(embeds=False)
                    if is_whole:
                        making.tidy(is_thorough=True)
                    making.set_matched()
                if 0 < positions.missing() <= FEW:
                    making.run(embeds=True)
        except (LockTimeout, Changed, BegunAnew, StorageError):
            pass  # somebody is at it, a log changes, the disk is full: what there is will do
    return positions.missing()


def embed_all(
    logs: Logs, namespace: str, embedder: Embedder, observer: Observer
) -> tuple[int, dict[str, ConvmemError]]:
    """Bring the index in step, and give every turn that says something its vector.

    Vectors of turns that are gone go, too, where they are many, and those of other embedders.

    Returns:
        How many turns have no vector still, as they came meanwhile; and why, for the file name of
        each log that could not be read (whole).

    Raises:
        LockTimeout: Another process is embedding here.
        UsageError, EmbedderError, StorageError: As ``keep_up`` has it.
        NoIndex: There can be no index here.
    """
    distrusted: set[str] = set()
    with _folder(logs, namespace) as folder, _locked(folder, patience_seconds=_PATIENCE_SECONDS):
        for nth in range(_MOST_ROUNDS):
            with _opened(logs, namespace) as database:
                failed = bring_in_step(database, logs, namespace, observer, distrusted)
                making = Making(database, logs, namespace, folder, embedder, observer)
                try:
                    making.run(embeds=True)
                except Changed as changed:
                    distrusted.add(changed.name)
                    continue
                except BegunAnew:
                    continue
            # Opened anew: the index may have been removed, or made anew by another process,
            # meanwhile. An empty one would have every vector taken for nobody's.
            with _opened(logs, namespace) as database:
                failed = bring_in_step(database, logs, namespace, observer, distrusted)
                making = Making(database, logs, namespace, folder, embedder, observer)
                missing = making.missing()
                if missing and nth + 1 < _ROUNDS:
                    continue
                if not missing:
                    # What a log said that cannot be read just now may be read again.
                    if not failed:
                        making.tidy(is_thorough=not making.is_matched())
                    making.set_matched()
            remove_others(folder, embedder.name)
            return missing, failed
    raise StorageError("the logs change faster than they can be embedded", hint="try again")


@contextmanager
def _folder(logs: Logs, namespace: str) -> Iterator[Folder]:
    folder = logs.index_folder(namespace, create=True)
    if folder is None:
        raise StorageError(f"there is no namespace {namespace!r}")
    try:
        yield folder
    finally:
        folder.close()


@contextmanager
def _opened(logs: Logs, namespace: str) -> Iterator[Database]:
    folder = logs.index_folder(namespace, create=True)
    if folder is None:
        raise StorageError(f"there is no namespace {namespace!r}")
    with Database.open(folder) as database:
        yield database


@contextmanager
def _locked(folder: Folder, *, patience_seconds: float) -> Iterator[None]:
    """Be the one that embeds.

    Raises:
        LockTimeout: Another process is.
    """
    lock = SidecarLock(folder, _LOCK)
    try:
        lock.acquire(patience_seconds)
    except LockTimeout as error:
        raise LockTimeout(
            f"another process is making vectors in {folder.path}",
            hint="it does the same work: let it; what it has made by now is found already",
        ) from error
    try:
        yield
    finally:
        lock.release()
        lock.close()
