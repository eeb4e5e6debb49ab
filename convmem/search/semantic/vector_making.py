"""Making the vectors that turns lack: those that are in the file are found, the others embedded.

A batch of vectors lies in the file, durably, before it is written down whose they are, and a vector
goes by its text: who is killed, or whose index is made anew, finds every vector again without
embedding anything. Texts that are alike are embedded once. The newest turns come first.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager

import numpy as np

from convmem.errors import StorageError
from convmem.search.index.database import BLOCK, UNSAID
from convmem.search.index.turn_facts import Place
from convmem.search.reading import TurnReader
from convmem.search.said import text_of
from convmem.search.semantic.blanking import alone_with_vectors
from convmem.search.semantic.positions import NONE, Positions
from convmem.search.semantic.texts import MOST_CHARACTERS, key_of, said_for_meaning
from convmem.search.semantic.vectors import VectorFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from convmem.log.files import Folder
    from convmem.progress import Observer
    from convmem.search.index.database import Database
    from convmem.search.semantic.embedder import Embedder
    from convmem.stores.caretakers import Logs

TASK = "embedding"

FEW = 64
"""So many turns are embedded by a search that meets them: what a second does."""

_BLOCKS_AT_ONCE = 4
# What is embedded and stored at a time: a second's work for a small model, and what is lost if
# it is killed.
_TEXTS_AT_ONCE = 64
# The file is written anew where so small a part of its vectors, one in so many, is nobody's.
_UNUSED_SHARE = 5


class BegunAnew(Exception):
    """The file of vectors, or the index, is another one: begin again."""


class Making:
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
        self._folder = folder
        with alone_with_vectors(folder):
            self._file = VectorFile.open(folder, embedder.name, embedder.dimensions, is_writer=True)
            if self._file.is_cut:  # then positions lead to what is not there: begin with what is
                self._file.rewrite(np.arange(self._file.count))
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
                f"select ifnull(sum(min(size, {MOST_CHARACTERS})), 0) from turn"
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
            with alone_with_vectors(self._folder):
                # What was scrubbed since these texts were read is not to come back.
                self._check()
                first = self._file.append(keys, vectors)
            found.update(zip(keys, range(first, first + len(keys)), strict=True))
            self._observer.advanced(TASK, sum(len(texts[key]) for key in keys))
        return found

    def _check(self) -> None:
        """Raise if what is to be written down would be of another file."""
        self._file.refresh()
        if not self._file.generation == self._generation == self._positions.generation():
            raise BegunAnew

    def tidy(self, *, is_thorough: bool) -> None:
        """Rid the file of vectors that no turn has: of any, or only where they are many."""
        with self._writing():
            self._check()
            used = self._positions.used(self._file.count)
            unused = int(np.count_nonzero(~used))
            if unused and (is_thorough or unused * _UNUSED_SHARE >= len(used)):
                with alone_with_vectors(self._folder):
                    self._check()
                    moved = self._file.rewrite(np.flatnonzero(used))
                self._generation = self._file.generation
                self._positions.move(moved, self._generation)
