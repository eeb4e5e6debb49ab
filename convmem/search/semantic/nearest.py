"""Which turns of a namespace are most like a query in meaning: looked through, all that pass.

The filters come first, in SQL; what passes is scored in compiled code, and only the best few
hundred become objects. In memory: some 30 bytes for each turn that has a vector.
"""

from __future__ import annotations

import numpy as np

from convmem.search.semantic.positions import Positions
from convmem.search.semantic.vectors import VectorFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from numpy.typing import NDArray

    from convmem.log.files import Folder
    from convmem.search.index.database import Database
    from convmem.search.index.lookup import Lookup
    from convmem.search.index.wanted import Passes
    from convmem.search.semantic.embedder import Embedder

# Beside those that are wanted, so many more are looked up: some are gone.
_SPARE = 64
# The same text said ever so often is as like as the next one.
_MOST_EQUAL = 5000
_DIGITS = 4


class Asked:
    """What is asked, and who makes a vector of it: once, however many namespaces are searched."""

    __slots__ = ("_vector", "embedder", "text")

    def __init__(self, embedder: Embedder, text: str) -> None:
        self.embedder = embedder
        self.text = text
        self._vector: NDArray[np.float32] | None = None

    def vector(self) -> NDArray[np.float32]:
        """Return the vector.

        Raises:
            EmbedderError: There is none to be had.
        """
        if self._vector is None:
            self._vector = self.embedder.embed([self.text])[0]
        return self._vector


class Nearest:
    """The vectors of one namespace, as they were when ``open`` was called."""

    def __init__(self, positions: Positions, file: VectorFile, words: Lookup, asked: Asked) -> None:
        self._positions = positions
        self._file = file
        self._words = words
        self._asked = asked

    @classmethod
    def open(
        cls, database: Database, folder: Folder, words: Lookup, asked: Asked
    ) -> Nearest | None:
        """Return them; ``None`` where there are none. Within the transaction of *words*.

        Raises:
            UsageError: The vectors there have other dimensions.
            StorageError: They cannot be read.
        """
        embedder = asked.embedder
        file = VectorFile.open(folder, embedder.name, embedder.dimensions)
        positions = Positions(database.connection, embedder.name)
        if not file.count or positions.generation() != file.generation:
            return None
        return cls(positions, file, words, asked)

    def __call__(
        self, passes: Passes, most: int, among: Collection[int] | None = None
    ) -> dict[int, float]:
        """Return the *most* turns that are most alike and pass, with the cosine of each.

        *among*: none but these.
        """
        turns, positions = self._passing(passes)
        if among is not None:
            is_wanted = np.isin(turns, np.fromiter(among, np.int64, len(among)))
            turns, positions = turns[is_wanted], positions[is_wanted]
        if not len(turns):
            return {}
        # The same vector may differ in its seventh digit from one place to another.
        scores = np.round(self._scores(positions), _DIGITS)
        words = self._words
        take = most + _SPARE
        while True:
            best = _greatest(scores, take)
            found = turns[best].tolist()
            words.learn(found)
            # Those that are gone have no facts.
            alive = [
                (turn, score)
                for turn, score in zip(found, scores[best].tolist(), strict=True)
                if turn in words.facts
            ]
            if len(alive) >= most or take >= len(turns):
                alive.sort(key=lambda each: (each[1], words.facts[each[0]].age), reverse=True)
                return dict(alive[:most])
            take *= 4

    def _passing(self, passes: Passes) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return the turns that have a vector and pass, and where it lies."""
        clauses: list[str] = []
        values: list[Any] = []
        if passes.roles is not None:
            clauses.append(f"role in ({','.join('?' * len(passes.roles))})")
            values += passes.roles
        if passes.since is not None:
            clauses.append("ts >= ?")
            values.append(passes.since)
        if passes.until is not None:
            clauses.append("ts < ?")
            values.append(passes.until)
        blocks = self._positions.blocks(self._words.ranges, passes.since)
        turns = [np.empty(0, np.int64)]
        positions = [np.empty(0, np.int32)]
        for some, where in self._positions.of(blocks, " and ".join(clauses), values):
            # Somebody may have cut the file.
            is_there = where < self._file.count
            turns.append(some[is_there])
            positions.append(where[is_there])
        return np.concatenate(turns), np.concatenate(positions)

    def _scores(self, positions: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return how alike the vectors at *positions* are, in any order; one may come twice."""
        file, query = self._file, self._asked.vector()
        wanted = np.zeros(file.count, np.bool_)
        wanted[positions] = True
        ascending = np.flatnonzero(wanted)
        if len(ascending) == file.count:
            return file.scores(query)[positions]
        by_position = np.empty(file.count, np.float32)
        by_position[ascending] = file.scores(query, ascending)
        return by_position[positions]


def _greatest(scores: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """Return the places of the *most* greatest, and of those that are equal to the last of them."""
    if most >= len(scores):
        return np.arange(len(scores))
    least = np.partition(scores, len(scores) - most)[len(scores) - most]
    return np.concatenate(
        [np.flatnonzero(scores > least), np.flatnonzero(scores == least)[-_MOST_EQUAL:]]
    )
