"""Writing the rows of the index, a step at a time: each step is one transaction.

A row is gathered, and written down with some hundred others. What is gone loses its row; its words
stay, and are passed over, until a fifth of all is gone and the index is made anew.
"""

from __future__ import annotations

from collections import Counter

from convmem.search.index.database import BLOCK, UNSAID
from convmem.search.index.rows import ASKS
from convmem.search.language.words import index_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    from convmem.search.index.database import Database
    from convmem.search.index.rows import Row

    # turn, seq, mark, place
    Old: TypeAlias = tuple[int, int | None, int, int]

_STEP_BYTES = 32 << 20
# Words of turns that are gone cost time and room: then the index is made anew.
_GONE_AT_LEAST = 10_000
_GONE_SHARE = 5


class Writer:
    """Writes to an index. A log is called by its number.

    Attributes:
        fresh: Rows of one log that were gathered, and wait for ``flush``.
        work: How many bytes of logs were read for what is not committed yet.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = database.connection
        self._roles: dict[str, int] = {}
        self.fresh: list[Row] = []
        self.work = 0

    # --- steps ---------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a step: others wait until its end."""
        self._database.begin()
        self._roles = dict(self._sql.execute("select name, role from role").fetchall())
        self.work = 0

    def step(self) -> None:
        """Keep what was done, let others write, and begin the next step."""
        self._database.commit()
        self.begin()

    def is_due(self) -> bool:
        """Whether so much was done that it should be kept."""
        return self.work >= _STEP_BYTES

    def renewed_if_worn_out(self) -> bool:
        """Make the index anew if too much of it is of turns that are gone; say if it was."""
        turns, gone = self._sql.execute("select turns, gone from total").fetchone()
        if gone >= _GONE_AT_LEAST and gone * _GONE_SHARE >= turns:
            self._sql.execute("rollback")
            self._database.remake()
            self._sql = self._database.connection
            self.begin()
            return True
        return False

    # --- rows ----------------------------------------------------------------------------------

    def blocks_of(self, log: int) -> Iterator[list[Old]]:
        """Yield the rows of a log, block by block, in order."""
        # As far as they are used by now: new rows come to stand in the last block meanwhile.
        blocks = self._sql.execute(
            "select block, used from block where log = ? order by block", (log,)
        ).fetchall()
        for block, used in blocks:
            yield self._sql.execute(
                "select turn, seq, mark, place from turn where turn between ? and ? order by turn",
                (block * BLOCK, block * BLOCK + used - 1),
            ).fetchall()

    def rows_from(self, log: int, place: int) -> list[Old]:
        """Return the rows of the log's last block that stand at *place* or behind it."""
        (block,) = self._sql.execute(
            "select max(block) from block where log = ?", (log,)
        ).fetchone()
        if block is None:
            return []
        return self._sql.execute(
            "select turn, seq, mark, place from turn where turn between ? and ? and place >= ?",
            (block * BLOCK, block * BLOCK + BLOCK - 1, place),
        ).fetchall()

    def flush(self, log: int) -> None:
        """Write down the rows that were gathered of a log."""
        fresh = self.fresh
        if not fresh:
            return
        start = 0
        while start < len(fresh):
            block, used = self._room(log)
            piece = fresh[start : start + BLOCK - used]
            first = block * BLOCK + used
            self._sql.executemany(
                "insert into words (rowid, text) values (?, ?)",
                [(turn, index_text(row[4])) for turn, row in enumerate(piece, first) if row[4]],
            )
            self._sql.executemany(
                "insert into turn values (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        turn,
                        seq,
                        mark,
                        micros,
                        UNSAID if role is None else self._role(role),
                        len(text),
                        text.endswith(ASKS),
                        place,
                    )
                    for turn, (seq, mark, micros, role, text, place) in enumerate(piece, first)
                ],
            )
            newest = max((row[2] for row in piece if row[2] is not None), default=None)
            self._sql.execute(
                "update block set used = ?2, newest = max(ifnull(newest, ?3), ifnull(?3, newest))"
                " where block = ?1",
                (block, used + len(piece), newest),
            )
            start += len(piece)
        # Taken off again by a trigger where a turn goes: a role that nobody has is no speaker.
        spoken = Counter(row[3] for row in fresh if row[3] is not None)
        self._sql.executemany(
            "update role set turns = turns + ? where role = ?",
            [(turns, self._role(role)) for role, turns in spoken.items()],
        )
        self._sql.execute("update total set turns = turns + ? where one = 1", (len(fresh),))
        fresh.clear()

    def drop(self, rows: Iterable[Old]) -> None:
        """Drop rows that were known."""
        turns = 0
        for row in rows:
            self._sql.execute("delete from turn where turn = ?", (row[0],))
            turns += 1
        if turns:
            self._sql.execute(
                "update total set turns = turns - ?, gone = gone + ? where one = 1",
                (turns, turns),
            )

    def drop_all(self, log: int) -> None:
        """Drop all rows of a log."""
        self.drop(row for rows in self.blocks_of(log) for row in rows)

    def move(self, moved: list[tuple[int, int]]) -> None:
        """Take down the new places of turns, and clear the list."""
        self._sql.executemany("update turn set place = ? where turn = ?", moved)
        moved.clear()

    def note(self, log: int, stamp: str, resume: int, last: int | None, mark: int | None) -> None:
        """Take down how far a log is taken in."""
        self._sql.execute(
            "update log set stamp = ?, resume = ?, last = ?, mark = ? where log = ?",
            (stamp, resume, last, mark, log),
        )

    def noted(self, log: int) -> tuple[str, str, int] | None:
        """Return the file name of a log, its stamp, and how far it is taken in."""
        found: tuple[str, str, int] | None = self._sql.execute(
            "select name, stamp, resume from log where log = ?", (log,)
        ).fetchone()
        return found

    def forget(self, name: str) -> None:
        """Know nothing any more of the log of that file name."""
        found = self._sql.execute("select log from log where name = ?", (name,)).fetchone()
        if found is not None:
            self.drop_all(found[0])
            self._sql.execute("delete from block where log = ?", found)
            self._sql.execute("delete from log where log = ?", found)

    def _room(self, log: int) -> tuple[int, int]:
        """Return the block that the log's next turn goes to, and how many stand in it."""
        found = self._sql.execute(
            "select block, used from block where log = ? order by block desc limit 1", (log,)
        ).fetchone()
        if found is not None and found[1] < BLOCK:
            return int(found[0]), int(found[1])
        self._sql.execute("update total set blocks = blocks + 1 where one = 1")
        (block,) = self._sql.execute("select blocks from total").fetchone()
        self._sql.execute("insert into block values (?, ?, 0, null)", (block, log))
        return int(block), 0

    def _role(self, name: str) -> int:
        role = self._roles.get(name)
        if role is None:
            self._sql.execute("insert into role values (null, ?, 0)", (name,))
            role = int(self._sql.execute("select last_insert_rowid()").fetchone()[0])
            self._roles[name] = role
        return role
