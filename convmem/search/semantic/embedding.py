"""Making the vectors that turns lack: in step with the index, a batch at a time, at any pace.

One process at a time embeds for a namespace. A batch of vectors lies in the file, durably, before
it is written down whose they are, and a vector goes by its text: who is killed, or whose index is
made anew, finds every vector again without embedding anything. Texts that are alike are embedded
once. The newest turns come first.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager

import numpy as np

from convmem.errors import LockTimeout, StorageError
from convmem.log.locks import SidecarLock
from convmem.search.index.database import BLOCK, UNSAID, Database
from convmem.search.index.lookup import Place
from convmem.search.index.sync import bring_in_step
from convmem.search.reading import Changed, TurnReader
from convmem.search.said import text_of
from convmem.search.semantic.positions import NONE, Positions
from convmem.search.semantic.vectors import VectorFile, key_of, remove_others

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from convmem.errors import ConvmemError
    from convmem.log.files import Folder
    from convmem.progress import Observer
    from convmem.search.semantic.embedder import Embedder
    from convmem.stores.caretakers import Logs

TASK = "embedding"

FEW = 64
"""So many turns are embedded by a search that meets them: what a second does."""

_LOCK = "vectors"
_MOST_CHARACTERS = 8000
_BLOCKS_AT_ONCE = 4
# What is embedded and stored at a time: a second's work for a small model, and what is lost if
# it is killed.
_TEXTS_AT_ONCE = 64
_PATIENCE_SECONDS = 2.0
_MOST_ROUNDS = 20
# New turns that come while it goes on are taken in, but not for ever.
_ROUNDS = 3
# The file is written anew where so small a part of its vectors, one in so many, is nobody's.
_UNUSED_SHARE = 5


def said_for_meaning(text: str) -> str:
    """Return what is embedded for a turn that says *text*; empty if it is to have no vector.

    The text by itself: with the speaker's name, or the turn before it, fewer were found (1.4 to
    2.9 points of mean turn recall, hybrid). Of a long one the beginning.
    """
    text = text.strip()[:_MOST_CHARACTERS]
    # Half of a character, as JSON may hold one, is no text to those who embed.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


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
        is_known = positions.generation() == file.generation
        if (is_known and positions.is_matched()) or not file.count:
            missing = positions.missing()
            if not missing or missing > FEW:
                return missing
        try:
            # Who rewrites the file is done in a moment; who embeds is not.
            with _locked(folder, patience_seconds=0 if is_known else _PATIENCE_SECONDS):
                work = _Work(database, logs, namespace, folder, embedder, observer)
                if not work.is_matched():
                    work.run(embeds=False)
                    if is_whole:
                        work.tidy(is_thorough=True)
                    work.set_matched()
                if 0 < positions.missing() <= FEW:
                    work.run(embeds=True)
        except (LockTimeout, Changed, _BegunAnew, StorageError):
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
                work = _Work(database, logs, namespace, folder, embedder, observer)
                try:
                    work.run(embeds=True)
                except Changed as changed:
                    distrusted.add(changed.name)
                    continue
                except _BegunAnew:
                    continue
            # Opened anew: the index may have been made anew by another process meanwhile.
            with _opened(logs, namespace) as database:
                work = _Work(database, logs, namespace, folder, embedder, observer)
                missing = work.missing()
                if missing and nth + 1 < _ROUNDS:
                    continue
                if not missing:
                    # What a log said that cannot be read just now may be read again.
                    if not failed:
                        work.tidy(is_thorough=not work.is_matched())
                    work.set_matched()
            remove_others(folder, embedder.name)
            return missing, failed
    raise StorageError("the logs change faster than they can be embedded", hint="try again")


class _BegunAnew(Exception):
    """The file of vectors, or the index, is another one: begin again."""


class _Work:
    """What is done by the one process that embeds."""

    def __init__(
        self,
        database: Database,
        logs: Logs,
        namespace: str,
        folder: Folder,
        embedder: Embedder,
        observer: Observer,
    ) -> None:
        self._database = database
        self._logs = logs
        self._namespace = namespace
        self._embedder = embedder
        self._observer = observer
        self._positions = Positions(database.connection, embedder.name)
        self._file = VectorFile.open(folder, embedder.name, embedder.dimensions, is_writer=True)
        self._generation = self._file.generation
        if self._positions.generation() != self._generation:
            with self._writing():
                self._positions.begin_anew(self._generation)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Write to the index: all of what is done inside, or none."""
        self._database.begin()
        try:
            yield
            self._database.commit()
        except sqlite3.OperationalError as error:
            # A full disk, say: nothing that making the index anew would mend.
            raise StorageError(f"the index cannot be written: {error}") from error
        finally:
            self._database.roll_back()

    def is_matched(self) -> bool:
        """See ``Positions.is_matched``."""
        return self._positions.is_matched()

    def set_matched(self) -> None:
        """See ``Positions.set_matched``."""
        if not self._positions.is_matched():
            with self._writing():
                self._positions.set_matched()

    def missing(self) -> int:
        """Return how many turns have no vector."""
        return self._positions.missing()

    def run(self, *, embeds: bool) -> None:
        """Give the turns that lack a vector one that is in the file, or else make it if *embeds*.

        Raises:
            Changed: A log is not what the index says.
        """
        pending = self._positions.pending()
        is_little = self._is_little(pending) and self.is_matched()
        self._observer.started(TASK, self._characters(pending))
        names = dict(self._database.connection.execute("select log, name from log").fetchall())
        try:
            with TurnReader(self._logs, self._namespace, names) as reader:
                for start in range(0, len(pending), _BLOCKS_AT_ONCE):
                    blocks = sorted(pending[start : start + _BLOCKS_AT_ONCE])
                    self._take(blocks, reader, embeds=embeds, looks=not is_little)
        finally:
            self._observer.finished(TASK)

    def _is_little(self, pending: list[int]) -> bool:
        """Whether looking for vectors in the file would take longer than making them."""
        return len(pending) <= FEW and self._positions.missing() <= FEW

    def _characters(self, pending: list[int]) -> int:
        sql = self._database.connection
        return sum(
            sql.execute(
                f"select ifnull(sum(min(size, {_MOST_CHARACTERS})), 0) from turn"
                f" where turn between ? and ? and role != {UNSAID}",
                (block * BLOCK, block * BLOCK + BLOCK - 1),
            ).fetchone()[0]
            for block in pending
        )

    def _take(self, blocks: list[int], reader: TurnReader, *, embeds: bool, looks: bool) -> None:
        """Settle the turns of some blocks."""
        used, wanted = self._wanted(blocks)
        texts: dict[bytes, str] = {}
        keys: list[tuple[int, bytes]] = []
        for turn, place in wanted:
            text = said_for_meaning(text_of(reader.read(place).turn))
            if text:
                key = key_of(text)
                texts[key] = text
                keys.append((turn, key))
        found = self._found(list(texts)) if looks and texts else {}
        self._observer.advanced(TASK, sum(len(texts[key]) for key in found))
        if embeds:
            found |= self._made({key: text for key, text in texts.items() if key not in found})
        with self._writing():
            self._check()
            for block in blocks:
                mine = [
                    (turn, found[key])
                    for turn, key in keys
                    if turn // BLOCK == block and key in found
                ]
                settled = all(key in found for turn, key in keys if turn // BLOCK == block)
                self._positions.write(
                    block,
                    used[block] if settled else 0,
                    np.array([turn for turn, _ in mine], np.int64),
                    np.array([at for _, at in mine], np.int32),
                )

    def _wanted(self, blocks: list[int]) -> tuple[dict[int, int], list[tuple[int, Place]]]:
        """Return how much of *blocks* is used, and which turns of them lack a vector, and where."""
        sql = self._database.connection
        sql.execute("begin")
        try:
            marks = ",".join(map(str, blocks))
            found = sql.execute(
                f"select block, log, used from block where block in ({marks})"
            ).fetchall()
            used = {block: used for block, _, used in found}
            logs = {block: log for block, log, _ in found}
            missing = set(self._positions.missing_in(blocks).tolist())
            wanted = [
                (turn, Place(logs[block], place, mark))
                for block in logs
                for turn, place, mark in sql.execute(
                    "select turn, place, mark from turn where turn between ? and ?",
                    (block * BLOCK, block * BLOCK + BLOCK - 1),
                )
                if turn in missing
            ]
        finally:
            sql.execute("commit")
        return used, wanted

    def _found(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Return where the vectors lie that are there already."""
        places = self._file.positions_of(keys).tolist()
        return {key: at for key, at in zip(keys, places, strict=True) if at != NONE}

    def _made(self, texts: dict[bytes, str]) -> dict[bytes, int]:
        """Embed *texts*; return where their vectors lie."""
        found: dict[bytes, int] = {}
        # Of like length together: a model takes as long for each of a batch as for the longest.
        order = sorted(texts, key=lambda key: len(texts[key]))
        for start in range(0, len(order), _TEXTS_AT_ONCE):
            keys = order[start : start + _TEXTS_AT_ONCE]
            vectors = self._embedder.embed([texts[key] for key in keys])
            first = self._file.append(keys, vectors)
            found.update(zip(keys, range(first, first + len(keys)), strict=True))
            self._observer.advanced(TASK, sum(len(texts[key]) for key in keys))
        return found

    def _check(self) -> None:
        """Raise if what is to be written down would be of another file."""
        self._file.refresh()
        if not self._file.generation == self._generation == self._positions.generation():
            raise _BegunAnew

    def tidy(self, *, is_thorough: bool) -> None:
        """Rid the file of vectors that no turn has: of any, or only where they are many."""
        with self._writing():
            self._check()
            used = self._positions.used(self._file.count)
            unused = int(np.count_nonzero(~used))
            if unused and (is_thorough or unused * _UNUSED_SHARE >= len(used)):
                moved = self._file.rewrite(np.flatnonzero(used))
                self._positions.move(moved, self._file.generation)


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
