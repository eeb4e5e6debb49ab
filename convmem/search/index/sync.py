"""Bringing the index in step with the logs, at a cost that follows what changed since.

What changed is told by a look at each log's file. A log that only grew is read from where it was
read to; one that was replaced (compacted, restored, compressed) is compared turn by turn, in one
pass over both, and only what is new is indexed. What is gone loses its row; its words stay, and
are passed over, until a fifth of all is gone and the index is made anew.

Every step is one transaction of at most some tens of megabytes: a kill loses one step, and two
processes take turns and share the work.
"""

from __future__ import annotations

import sqlite3
from collections import Counter

from convmem.errors import ConvmemError, storage_error
from convmem.log.blocks import good_blocks
from convmem.log.files import read_exactly
from convmem.search.index.database import BLOCK, UNSAID, NoIndex
from convmem.search.index.rows import ASKS, mark_of, row_of, rows_of
from convmem.search.language.words import index_text
from convmem.stores.log_files import is_same_file, size_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import TypeAlias

    from convmem.log.read import Reader, StoredTurn
    from convmem.log.records import Damage
    from convmem.progress import Observer
    from convmem.search.index.database import Database
    from convmem.search.index.rows import Row
    from convmem.stores.caretakers import Logs

    # turn, seq, mark, place, size
    Old: TypeAlias = tuple[int, int | None, int, int, int]

TASK = "indexing"

_STEP_BYTES = 32 << 20
_ROWS_AT_ONCE = 1000
# Short additions are not worth the way in.
_BLOCKWISE_BYTES = 4 << 10
# A log of which this is the stamp's end was not read to its end.
_PARTIAL = "?"
# The stamp of no file.
_DISTRUSTED = "-"
# Those who write all the time do not keep a search from its end: what was there when it began is
# in after the first round, and what moved meanwhile after the second.
_ROUNDS = 3
_MOST_ROUNDS = 100
# Words of turns that are gone cost time and room: then the index is made anew.
_GONE_AT_LEAST = 10_000
_GONE_SHARE = 5


def bring_in_step(
    database: Database,
    logs: Logs,
    namespace: str,
    observer: Observer,
    distrusted: Collection[str] = (),
) -> dict[str, ConvmemError]:
    """Make the index say what the logs said when this was called, or later.

    Args:
        distrusted: Names of logs that are not what the index says, though their files may seem
            not to have changed: they are compared turn by turn.

    Returns:
        Why, for the file name of each log that could not be read (whole).

    Raises:
        NoIndex: It cannot be written; a scan can answer.
        LockTimeout: Another process writes and does not come to an end.
        sqlite3.DatabaseError: The index is damaged.
    """
    failed: dict[str, ConvmemError] = {}
    try:
        _distrust(database, distrusted)
        for nth in range(_MOST_ROUNDS):
            todo = _changed(database, logs, namespace, failed)
            if todo is None:
                break
            one = _Round(database, logs, namespace, observer, failed)
            one.run(*todo)
            if nth + 1 >= _ROUNDS and not one.was_overtaken:
                break
    except sqlite3.OperationalError as error:
        database.roll_back()
        if "full" in str(error) or "readonly" in str(error) or "disk I/O" in str(error):
            raise NoIndex(f"the index cannot be written: {error}") from error
        raise
    except BaseException:
        database.roll_back()
        raise
    return failed


def _distrust(database: Database, names: Collection[str]) -> None:
    if names:
        database.begin()
        for name in names:
            database.connection.execute(
                "update log set stamp = ? where name = ? and stamp != ''", (_DISTRUSTED, name)
            )
        database.commit()


def _changed(
    database: Database, logs: Logs, namespace: str, failed: dict[str, ConvmemError]
) -> tuple[dict[str, str], list[str]] | None:
    """Return the logs to read with their stamps, and those that are gone; ``None`` for neither."""
    known = dict(database.connection.execute("select name, stamp from log").fetchall())
    stamps = logs.stamps(namespace, known=known)
    if known == stamps:
        return None
    new = {
        name: stamp
        for name, stamp in stamps.items()
        if known.get(name) != stamp and name not in failed
    }
    gone = [name for name in known if name not in stamps]
    return (new, gone) if new or gone else None


class _Overtaken(Exception):
    """Another process went on with the log while it was let write: we begin from there."""


class _OutOfOrder(Exception):
    """Turns came to stand between known ones: the log is indexed anew."""


class _Round:
    """One going through of what changed."""

    def __init__(
        self,
        database: Database,
        logs: Logs,
        namespace: str,
        observer: Observer,
        failed: dict[str, ConvmemError],
    ) -> None:
        self._database = database
        self._sql = database.connection
        self._logs = logs
        self._namespace = namespace
        self._observer = observer
        self._failed = failed
        self._roles: dict[str, int] = {}
        self.was_overtaken = False
        self._work = 0  # bytes read since the last commit
        self._fresh: list[Row] = []

    def run(self, todo: dict[str, str], gone: list[str]) -> None:
        """Take in the logs of *todo*, and forget *gone*."""
        self._observer.started(TASK, sum(map(size_in, todo.values())))
        self._begin()
        if self._is_worn_out():
            self._sql.execute("rollback")
            self._database.remake()
            self._sql = self._database.connection
            self._begin()
        for name in gone:
            if self._logs.stamp(self._namespace, name) is None:
                self._forget(name)
        for name in self._in_order(todo):
            self._take(name)
            if self._work >= _STEP_BYTES:
                self._step()
        self._database.commit()
        self._observer.finished(TASK)

    def _begin(self) -> None:
        self._database.begin()
        self._roles = dict(self._sql.execute("select name, role from role").fetchall())
        self._work = 0

    def _step(self) -> None:
        self._database.commit()
        self._begin()

    def _is_worn_out(self) -> bool:
        turns, gone = self._sql.execute("select turns, gone from total").fetchone()
        return bool(gone >= _GONE_AT_LEAST and gone * _GONE_SHARE >= turns)

    def _in_order(self, todo: dict[str, str]) -> list[str]:
        """Return the names so that their turns' numbers rise: FTS5 gathers those in one piece."""
        last = dict(
            self._sql.execute(
                "select name, max(block) from log join block using (log) group by name"
                if len(todo) > 1
                else "select '', 0"
            ).fetchall()
        )
        new = max(last.values(), default=0) + 1
        return sorted(todo, key=lambda name: (last.get(name, new), name))

    # --- one log -------------------------------------------------------------------------------

    def _take(self, name: str) -> None:
        """Bring one log's turns in step."""
        stamp = self._logs.stamp(self._namespace, name)
        known = self._sql.execute(
            "select log, stamp, resume, last, mark from log where name = ?", (name,)
        ).fetchone()
        if known is not None and known[1] == stamp:
            return  # another process was faster
        if stamp is None:
            self._forget(name)
            return
        if known is None:
            self._sql.execute("insert into log values (null, ?, '', 0, null, null)", (name,))
            log = int(self._sql.execute("select last_insert_rowid()").fetchone()[0])
            known = (log, "", 0, None, None)
        try:
            with self._logs.open(self._namespace, name) as reader:
                self._read(_Log(name, stamp, *known), reader)
        except _Overtaken:
            self._fresh.clear()
            self.was_overtaken = True
        except FileNotFoundError:
            self._forget(name)
        except OSError as error:
            self._fail(name, storage_error(error, f"cannot read {name}"))
        except ConvmemError as error:
            self._fail(name, error)

    def _fail(self, name: str, error: ConvmemError) -> None:
        """Take what was read so far for what it is, and look at all of it next time."""
        self._fresh.clear()
        self._failed[name] = error
        self._sql.execute("update log set stamp = '' where name = ?", (name,))

    def _read(self, log: _Log, reader: Reader) -> None:
        if _only_grew(log, reader):
            self._drop(self._rows_from(log, log.resume))
            self._append(log, reader, log.resume)
            return
        if log.before == "":
            self._drop(row for rows in self._blocks_of(log) for row in rows)
            self._append(log, reader, 0)
            return
        try:
            self._compare(log, reader)
        except _OutOfOrder:
            self._fresh.clear()
            self._drop(row for rows in self._blocks_of(log) for row in rows)
            self._append(log, reader, 0)

    def _append(self, log: _Log, reader: Reader, start: int) -> None:
        """Take in what stands from the byte *start* on, all of it new."""
        if start == 0:
            log.begin()
        if reader.end - start >= _BLOCKWISE_BYTES:
            for block in good_blocks(reader.fd, reader.end, start=start):
                rows = rows_of(block)
                if rows is None:
                    break  # from here on turn by turn, to the same end
                self._fresh += rows
                self._advanced(log, rows[-1][1], block.end - block.sizes[-1], block.end)
                if len(self._fresh) >= _ROWS_AT_ONCE:
                    self._flush(log)
                self._pause(log)
        for stored in reader.in_order(self._tell(log), start=log.resume):
            self._add(log, row_of(stored, mark_of(stored.line)), stored, reader)
            self._pause(log)
        self._flush(log)
        self._note(log, log.stamp)

    def _pause(self, log: _Log) -> None:
        """Let others write, and keep what was done, every so many bytes."""
        if self._work >= _STEP_BYTES:
            self._flush(log)
            self._note(log, log.stamp + _PARTIAL)
            self._step()
            noted = self._sql.execute(
                "select name, stamp, resume from log where log = ?", (log.log,)
            ).fetchone()
            if noted != (log.name, log.stamp + _PARTIAL, log.resume):
                raise _Overtaken

    def _compare(self, log: _Log, reader: Reader) -> None:
        """Go through the rows and the log side by side; keep, drop and add.

        Raises:
            _OutOfOrder: A turn that is not known stands before one that is.
        """
        old = _Side(self._blocks_of(log))
        moved: list[tuple[int, int]] = []
        log.begin()
        for stored in reader.in_order(self._tell(log), start=0):
            mark = mark_of(stored.line)
            seq = stored.seq
            dropped = old.dropped_before(seq, mark)
            self._drop(dropped)
            row = old.first
            if row is not None and row[1] == seq and row[2] == mark:
                if self._fresh or log.has_new:
                    raise _OutOfOrder
                if row[3] != stored.offset:
                    moved.append((stored.offset, row[0]))
                    if len(moved) >= _ROWS_AT_ONCE:
                        self._move(moved)
                old.advance()
                self._passed(log, mark, stored, reader)
            else:
                if row is not None and row[1] == seq and seq is not None:
                    self._drop([row])  # other content under the same number
                    old.advance()
                self._add(log, row_of(stored, mark), stored, reader)
                log.has_new = True
        self._drop(old.rest())
        self._move(moved)
        self._flush(log)
        self._note(log, log.stamp)

    def _add(self, log: _Log, row: Row, stored: StoredTurn, reader: Reader) -> None:
        self._fresh.append(row)
        self._passed(log, row[1], stored, reader)
        if len(self._fresh) >= _ROWS_AT_ONCE:
            self._flush(log)

    def _passed(self, log: _Log, mark: int, stored: StoredTurn, reader: Reader) -> None:
        if stored.offset < reader.end:  # a last line without a newline may still grow
            self._advanced(log, mark, stored.offset, stored.offset + len(stored.line) + 1)

    def _advanced(self, log: _Log, mark: int, last: int, resume: int) -> None:
        """Take down that all is taken in up to *resume*; the turn before it begins at *last*."""
        length = resume - log.resume
        log.resume, log.last, log.mark = resume, last, mark
        self._work += length
        log.told += length
        if log.told >= 1 << 20:
            self._observer.advanced(TASK, log.told)
            log.told = 0

    def _tell(self, log: _Log) -> _Damaged:
        return _Damaged(
            self._observer, self._logs.continuation_id(self._namespace, log.name) or log.name
        )

    # --- rows ----------------------------------------------------------------------------------

    def _blocks_of(self, log: _Log) -> Iterator[list[Old]]:
        """Yield the rows of a log, block by block, in order."""
        # As far as they are used by now: new rows come to stand in the last block meanwhile.
        blocks = self._sql.execute(
            "select block, used from block where log = ? order by block", (log.log,)
        ).fetchall()
        for block, used in blocks:
            yield self._sql.execute(
                "select turn, seq, mark, place, size from turn"
                " where turn between ? and ? order by turn",
                (block * BLOCK, block * BLOCK + used - 1),
            ).fetchall()

    def _rows_from(self, log: _Log, place: int) -> list[Old]:
        """Return the rows of the log's last block that stand at *place* or behind it."""
        (block,) = self._sql.execute(
            "select max(block) from block where log = ?", (log.log,)
        ).fetchone()
        if block is None:
            return []
        return self._sql.execute(
            "select turn, seq, mark, place, size from turn"
            " where turn between ? and ? and place >= ?",
            (block * BLOCK, block * BLOCK + BLOCK - 1, place),
        ).fetchall()

    def _flush(self, log: _Log) -> None:
        """Write down the rows that were gathered."""
        fresh = self._fresh
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
        self._sql.execute(
            "update total set turns = turns + ?, characters = characters + ? where one = 1",
            (len(fresh), sum(len(row[4]) for row in fresh)),
        )
        fresh.clear()

    def _room(self, log: _Log) -> tuple[int, int]:
        """Return the block that the log's next turn goes to, and how many stand in it."""
        found = self._sql.execute(
            "select block, used from block where log = ? order by block desc limit 1", (log.log,)
        ).fetchone()
        if found is not None and found[1] < BLOCK:
            return int(found[0]), int(found[1])
        self._sql.execute("update total set blocks = blocks + 1 where one = 1")
        (block,) = self._sql.execute("select blocks from total").fetchone()
        self._sql.execute("insert into block values (?, ?, 0, null)", (block, log.log))
        return int(block), 0

    def _role(self, name: str) -> int:
        role = self._roles.get(name)
        if role is None:
            self._sql.execute("insert into role values (null, ?, 0)", (name,))
            role = int(self._sql.execute("select last_insert_rowid()").fetchone()[0])
            self._roles[name] = role
        return role

    def _drop(self, rows: Iterator[Old] | list[Old]) -> None:
        turns = characters = 0
        for row in rows:
            self._sql.execute("delete from turn where turn = ?", (row[0],))
            turns += 1
            characters += row[4]
        if turns:
            self._sql.execute(
                "update total set turns = turns - ?, characters = characters - ?, gone = gone + ?"
                " where one = 1",
                (turns, characters, turns),
            )

    def _move(self, moved: list[tuple[int, int]]) -> None:
        self._sql.executemany("update turn set place = ? where turn = ?", moved)
        moved.clear()

    def _note(self, log: _Log, stamp: str) -> None:
        self._sql.execute(
            "update log set stamp = ?, resume = ?, last = ?, mark = ? where log = ?",
            (stamp, log.resume, log.last, log.mark, log.log),
        )
        self._observer.advanced(TASK, log.told)
        log.told = 0

    def _forget(self, name: str) -> None:
        found = self._sql.execute("select log from log where name = ?", (name,)).fetchone()
        if found is not None:
            log = _Log(name, "", found[0], "", 0, None, None)
            self._drop(row for rows in self._blocks_of(log) for row in rows)
            self._sql.execute("delete from block where log = ?", (log.log,))
            self._sql.execute("delete from log where log = ?", (log.log,))


class _Log:
    """A log that is being taken in: what was known of it, and how far it is."""

    __slots__ = ("before", "has_new", "last", "log", "mark", "name", "resume", "stamp", "told")

    def __init__(
        self,
        name: str,
        stamp: str,
        log: int,
        before: str,
        resume: int,
        last: int | None,
        mark: int | None,
    ) -> None:
        self.name = name
        self.stamp = stamp
        self.log = log
        self.before = before
        self.resume = resume
        self.last = last
        self.mark = mark
        self.has_new = False
        self.told = 0

    def begin(self) -> None:
        """Nothing of it is taken in."""
        self.resume = 0
        self.last = self.mark = None
        self.has_new = False


def _only_grew(log: _Log, reader: Reader) -> bool:
    """Whether all that was read of the log stands there still."""
    if log.last is None or log.mark is None or not is_same_file(log.before, log.stamp):
        return False
    if reader.cold_facts is not None or reader.holes is not None or log.resume > reader.end:
        return False
    line = read_exactly(reader.fd, log.resume - log.last, log.last)
    grew = log.before.endswith(_PARTIAL) or size_in(log.stamp) > size_in(log.before)
    return grew and line[-1:] == b"\n" and mark_of(line[:-1]) == log.mark


class _Side:
    """The known rows of a log, in order, with the one that is next."""

    def __init__(self, blocks: Iterator[list[Old]]) -> None:
        self._rows = (row for rows in blocks for row in rows)
        self.first: Old | None = next(self._rows, None)

    def advance(self) -> None:
        self.first = next(self._rows, None)

    def dropped_before(self, seq: int | None, mark: int) -> list[Old]:
        """Take and return the rows that are gone if the log's next turn is that one."""
        gone = []
        while self.first is not None and _is_before(self.first, seq, mark):
            gone.append(self.first)
            self.advance()
        return gone

    def rest(self) -> Iterator[Old]:
        """Take all that is left."""
        while self.first is not None:
            yield self.first
            self.advance()


def _is_before(row: Old, seq: int | None, mark: int) -> bool:
    """Whether *row* stood before a turn, and so is gone where that turn comes next.

    Turns that were written by hand have no number: one that is not the very next is gone.
    """
    if row[1] is None:
        return not (seq is None and row[2] == mark)
    return seq is not None and row[1] < seq


class _Damaged:
    """Hands damage on to the observer, under the conversation's id."""

    def __init__(self, observer: Observer, continuation_id: str) -> None:
        self._observer = observer
        self._continuation_id = continuation_id

    def __call__(self, damage: Damage) -> None:
        self._observer.damaged(self._continuation_id, damage)
