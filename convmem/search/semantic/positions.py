"""Which vector is whose: for each turn of an index, where in the vector file its own lies.

Kept in the index, a row of 4 bytes a turn for each block of turns, for one embedder and one state
of its file. Another embedder, or a file that was rewritten or begun anew, and all of it is empty.
Only what lies in the file is written down here, so a death leaves nothing that leads nowhere.
"""

from __future__ import annotations

import numpy as np

from convmem.search.index.database import BLOCK, UNSAID

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, TypeAlias

    from numpy.typing import NDArray

    from convmem.search.index.lookup import Range

    # Numbers of turns, and the position of each one's vector.
    Owned: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int32]]

NONE = -1
"""In the place of a position: there is no vector."""

# So many at a time: 65,536 turns.
_BLOCKS_AT_ONCE = 256
_NUMBERS = np.dtype("<i4")
_IS_SAID = f"role != {UNSAID} and size > 0"


class Positions:
    """The positions in one index, of the vectors of one embedder. Transactions are the caller's."""

    def __init__(self, connection: sqlite3.Connection, embedder: str) -> None:
        self._sql = connection
        self._embedder = embedder

    def generation(self) -> bytes | None:
        """Return of which state of the vector file they are; ``None``: there are none."""
        found = self._sql.execute("select name, generation from embedder").fetchone()
        return None if found is None or found[0] != self._embedder else bytes(found[1])

    def is_matched(self) -> bool:
        """Whether all turns were looked for in the file since these positions began."""
        return bool(self._sql.execute("select is_matched from embedder").fetchone() == (1,))

    def begin_anew(self, generation: bytes) -> None:
        """Forget all, and be of that state of the file from now on."""
        self._sql.execute("delete from vectors")
        self._sql.execute(
            "insert or replace into embedder values (1, ?, ?, 0)", (self._embedder, generation)
        )

    def set_matched(self) -> None:
        """Take down that all turns were looked for in the file."""
        self._sql.execute("update embedder set is_matched = 1")

    # --- turns without a vector ----------------------------------------------------------------

    def pending(self) -> list[int]:
        """Return the blocks that may hold turns without a vector, those of the newest first."""
        lacking = "left join vectors using (block) where ifnull(upto, 0) < used"
        found = self._sql.execute(
            f"select block from block {'' if self.generation() is None else lacking}"
            " order by newest is null, newest desc, block desc"
        )
        return [block for (block,) in found]

    def missing(self) -> int:
        """Return how many turns that say something have no vector."""
        pending = sorted(self.pending())
        return sum(
            len(self.missing_in(pending[start : start + _BLOCKS_AT_ONCE]))
            for start in range(0, len(pending), _BLOCKS_AT_ONCE)
        )

    def missing_in(self, blocks: Sequence[int]) -> NDArray[np.int64]:
        """Return which turns of *blocks*, in ascending order, say something and have no vector."""
        said = _turns_in(self._sql, blocks, _IS_SAID, ())
        have = np.concatenate([np.empty(0, np.int64), *(turns for turns, _ in self.of(blocks))])
        return np.setdiff1d(said, have, assume_unique=True)

    # --- turns with one ------------------------------------------------------------------------

    def of(
        self, blocks: Sequence[int], where: str = "", values: Sequence[Any] = ()
    ) -> Iterator[Owned]:
        """Yield the turns of *blocks* that have a vector, some ten thousand at a time; all ascend.

        Turns that are gone are among them, unless *where* asks something of their rows.
        """
        if self.generation() is None:
            return
        some: list[int] = []
        blobs: list[bytes] = []
        for stretch in _stretches(blocks):
            for block, blob in self._sql.execute(
                "select block, positions from vectors where block between ? and ? order by block",
                stretch,
            ):
                some.append(block)
                blobs.append(blob)
            if len(some) >= _BLOCKS_AT_ONCE:
                yield self._owned(some, blobs, where, values)
                some, blobs = [], []
        if some:
            yield self._owned(some, blobs, where, values)

    def blocks(self, ranges: Iterable[Range], since: int | None = None) -> list[int]:
        """Return the blocks with vectors in *ranges* of turns; with *since* those so new."""
        found: list[int] = []
        for first, last in ranges:
            newer = "" if since is None else "and newest >= ?"
            found += (
                block
                for (block,) in self._sql.execute(
                    "select block from vectors join block using (block)"
                    f" where block between ? and ? {newer} order by block",
                    (first // BLOCK, last // BLOCK, *([] if since is None else [since])),
                )
            )
        return found

    def write(self, block: int, upto: int, turns: NDArray[np.int64], at: NDArray[np.int32]) -> None:
        """Write down the position of the vector of each of *turns*, all of one block.

        *upto*: so many turns of the block are settled; 0 if others are to be looked at again.
        """
        found = self._sql.execute(
            "select upto, positions from vectors where block = ?", (block,)
        ).fetchone()
        positions = np.full(BLOCK, NONE, _NUMBERS)
        if found is not None:
            positions[:] = np.frombuffer(found[1], _NUMBERS)
            upto = max(upto, found[0])
        positions[turns - block * BLOCK] = at
        self._sql.execute(
            "insert or replace into vectors values (?, ?, ?)", (block, upto, positions.tobytes())
        )

    def move(self, moved: NDArray[np.int64], generation: bytes) -> None:
        """Follow the vectors to where they are after a rewriting of the file."""
        # One more, so that NONE leads to NONE.
        places = np.append(moved, NONE).astype(_NUMBERS)
        for block, blob in self._sql.execute("select block, positions from vectors").fetchall():
            self._sql.execute(
                "update vectors set positions = ? where block = ?",
                (places[np.frombuffer(blob, _NUMBERS)].tobytes(), block),
            )
        self._sql.execute("update embedder set generation = ?", (generation,))

    def used(self, count: int) -> NDArray[np.bool_]:
        """Return for each of *count* vectors whether a turn that is not gone has it."""
        self._sql.execute("delete from vectors where block not in (select block from block)")
        used = np.zeros(count, np.bool_)
        blocks = self.blocks([(0, 1 << 62)])
        for _, positions in self.of(blocks, _IS_SAID):
            used[positions[positions < count]] = True
        return used

    def _owned(
        self, blocks: list[int], blobs: list[bytes], where: str, values: Sequence[Any]
    ) -> Owned:
        positions = np.frombuffer(b"".join(blobs), _NUMBERS)
        first = np.array(blocks, np.int64)
        if where:
            turns = _turns_in(self._sql, blocks, where, values)
            positions = positions[np.searchsorted(first, turns // BLOCK) * BLOCK + turns % BLOCK]
        else:
            turns = (first[:, None] * BLOCK + np.arange(BLOCK)).ravel()
        has = positions >= 0
        return turns[has], positions[has]


def _turns_in(
    connection: sqlite3.Connection, blocks: Sequence[int], where: str, values: Sequence[Any]
) -> NDArray[np.int64]:
    """Return the turns of *blocks*, ascending, whose rows are as *where* asks."""
    found = [np.empty(0, np.int64)]
    for first, last in _stretches(blocks):
        # As one text: an object for each of some hundred thousand turns would take far longer.
        (text,) = connection.execute(
            f"select group_concat(turn) from turn where turn between ? and ? and {where}",
            (first * BLOCK, last * BLOCK + BLOCK - 1, *values),
        ).fetchone()
        if text is not None:
            found.append(np.sort(np.fromstring(text, np.int64, sep=",")))
    return np.concatenate(found)


def _stretches(blocks: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each run of neighbouring *blocks*, which ascend."""
    if not blocks:
        return
    first = last = blocks[0]
    for block in blocks[1:]:
        if block != last + 1 or block - first >= _BLOCKS_AT_ONCE:
            yield first, last
            first = block
        last = block
    yield first, last
