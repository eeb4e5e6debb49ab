"""Bringing the index in step with the logs, at a cost that follows what changed since.

What changed is told by a look at each log's file. What is done of a log says ``catching_up``, and
how it is written down ``writer``.

Every step is one transaction of at most some tens of megabytes: a kill loses one step, and two
processes take turns and share the work.
"""

from __future__ import annotations

import sqlite3
from functools import partial

from convmem.errors import ConvmemError, storage_error
from convmem.search.index.catching_up import CatchingUp, Log, Overtaken
from convmem.search.index.database import NoIndex
from convmem.search.index.writer import Writer
from convmem.stores.log_files import size_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from convmem.progress import Observer
    from convmem.search.index.database import Database
    from convmem.stores.caretakers import Logs

TASK = "indexing"

# The stamp of no file.
_DISTRUSTED = "-"
_MOST_ROUNDS = 100


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
        # One round takes in all that was there when it began; those who write all the time do not
        # keep a search from its end.
        for _ in range(_MOST_ROUNDS):
            todo = _changed(database, logs, namespace, failed)
            if todo is None:
                break
            one = _Round(database, logs, namespace, observer, failed)
            one.run(*todo)
            if one.is_whole:
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


def is_in_step(database: Database, logs: Logs, namespace: str) -> bool:
    """Whether the index says what the logs say now; for one that cannot be written."""
    return _changed(database, logs, namespace, {}) is None


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
        self._writer = Writer(database)
        self._logs = logs
        self._namespace = namespace
        self._observer = observer
        self._failed = failed
        self.is_whole = True

    def run(self, todo: dict[str, str], gone: list[str]) -> None:
        """Take in the logs of *todo*, and forget *gone*."""
        self._observer.started(TASK, sum(map(size_in, todo.values())))
        self._writer.begin()
        if self._writer.renewed_if_worn_out():
            self.is_whole = False  # what did not change is to be taken in, too
        for name in gone:
            if self._logs.stamp(self._namespace, name) is None:
                self._writer.forget(name)
        for name in self._in_order(todo):
            self._take(name)
            if self._writer.is_due():
                self._writer.step()
        self._database.commit()
        self._observer.finished(TASK)

    def _in_order(self, todo: dict[str, str]) -> list[str]:
        """Return the names so that their turns' numbers rise: FTS5 gathers those in one piece."""
        last = dict(
            self._database.connection.execute(
                "select name, max(block) from log join block using (log) group by name"
                if len(todo) > 1
                else "select '', 0"
            ).fetchall()
        )
        new = max(last.values(), default=0) + 1
        return sorted(todo, key=lambda name: (last.get(name, new), name))

    def _take(self, name: str) -> None:
        """Bring one log's turns in step."""
        stamp = self._logs.stamp(self._namespace, name)
        sql = self._database.connection
        known = sql.execute(
            "select log, stamp, resume, last, mark from log where name = ?", (name,)
        ).fetchone()
        if known is not None and known[1] == stamp:
            return  # another process was faster
        if stamp is None:
            self._writer.forget(name)
            return
        if known is None:
            sql.execute("insert into log values (null, ?, '', 0, null, null)", (name,))
            log = int(sql.execute("select last_insert_rowid()").fetchone()[0])
            known = (log, "", 0, None, None)
        try:
            with self._logs.open(self._namespace, name) as reader:
                whose = self._logs.continuation_id(self._namespace, name) or name
                CatchingUp(
                    Log(name, stamp, *known),
                    reader,
                    self._writer,
                    advanced=partial(self._observer.advanced, TASK),
                    damaged=partial(self._observer.damaged, whose),
                ).run()
        except Overtaken:
            self._writer.fresh.clear()
            self.is_whole = False
        except FileNotFoundError:
            self._writer.forget(name)
        except OSError as error:
            self._fail(name, storage_error(error, f"cannot read {name}"))
        except ConvmemError as error:
            self._fail(name, error)

    def _fail(self, name: str, error: ConvmemError) -> None:
        """Take what was read so far for what it is, and look at all of it next time."""
        self._writer.fresh.clear()
        self._failed[name] = error
        self._database.connection.execute("update log set stamp = '' where name = ?", (name,))
