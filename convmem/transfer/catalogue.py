"""What was imported from where, so that what did not change is not read again.

Derived: without it everything is read again, and nothing is stored twice. One SQLite file in the
namespace's ``.import`` folder. What it says is written once the turns it speaks of are durable.
"""

from __future__ import annotations

import os
import sqlite3
from urllib.parse import quote

from convmem import jsontext
from convmem.errors import storage_error
from convmem.log.files import Folder
from convmem.log.locks import SidecarLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Any, Self

FOLDER = ".import"
_FILE = "catalogue.sqlite"
# Another layout: the file is made anew.
_VERSION = 1
_SCHEMA = """
create table sources (
    place text primary key, stamp text not null, format text not null, bytes integer not null,
    tail text not null, memory text not null, conversation text
) without rowid;
create table samples (record integer primary key, conversation text not null);
create table chains (link text primary key, conversation text not null) without rowid;
"""


class Entry:
    """What is known of a source.

    Attributes:
        stamp: What its file was like when it was read: device, number, size, time.
        format: The format it was read as; empty where none recognises it.
        offset: Where the last whole record ended.
        tail: The checksum of what stands before that.
        memory: What the format and the importer need to read on.
        conversation: The conversation that it went to, where it is one.
    """

    __slots__ = ("conversation", "format", "memory", "offset", "stamp", "tail")

    def __init__(
        self,
        stamp: str,
        format: str,
        offset: int = 0,
        tail: str = "",
        memory: dict[str, Any] | None = None,
        conversation: str | None = None,
    ) -> None:
        self.stamp = stamp
        self.format = format
        self.offset = offset
        self.tail = tail
        self.memory: dict[str, Any] = memory or {}
        self.conversation = conversation


class Catalogue:
    """The catalogue of one namespace. For one process at a time: whoever imports holds its lock.

    Attributes:
        is_new: Whether it knows nothing yet.
    """

    def __init__(
        self,
        folder: Folder,
        lock: SidecarLock | None,
        connection: sqlite3.Connection,
        *,
        is_new: bool,
    ) -> None:
        self._folder = folder
        self._lock = lock
        self._connection = connection
        self.is_new = is_new

    @classmethod
    def open(cls, namespace_path: str, *, timeout_seconds: float) -> Catalogue:
        """Open the catalogue of the namespace at *namespace_path*; make it if it is not there.

        Raises:
            LockTimeout: Another import is at work in the namespace, and was for that long.
        """
        namespace = Folder.open(namespace_path, create=True)
        try:
            folder = namespace.subfolder(FOLDER)
        finally:
            namespace.close()
        lock = SidecarLock(folder, _FILE)
        lock.acquire(timeout_seconds)
        try:
            try:
                return cls._opened(folder, lock)
            except sqlite3.DatabaseError:
                for suffix in ("", "-journal", "-wal", "-shm"):
                    folder.remove(_FILE + suffix)
                return cls._opened(folder, lock)
        except BaseException:
            lock.release()
            lock.close()
            raise

    @classmethod
    def peeked_at(cls, namespace_path: str) -> Catalogue | None:
        """Open the catalogue as it stands, to look into and not to write; ``None`` without one."""
        try:
            folder = Folder.open(namespace_path).existing_subfolder(FOLDER)
        except FileNotFoundError:
            return None
        where = f"file:{quote(os.path.join(folder.path, _FILE))}?mode=ro"
        try:
            connection = sqlite3.connect(where, uri=True, isolation_level=None)
            version = connection.execute("pragma user_version").fetchone()[0]
        except sqlite3.Error:
            return None
        if version != _VERSION:
            connection.close()
            return None
        return cls(folder, None, connection, is_new=False)

    @classmethod
    def _opened(cls, folder: Folder, lock: SidecarLock) -> Catalogue:
        is_new = not folder.has(_FILE)
        if is_new:
            os.close(folder.open_file(_FILE, os.O_RDWR | os.O_CREAT))
        try:
            connection = sqlite3.connect(os.path.join(folder.path, _FILE), isolation_level=None)
        except OSError as error:
            raise storage_error(error, f"cannot open {folder.path}/{_FILE}") from error
        try:
            connection.execute("pragma synchronous = normal")
            if connection.execute("pragma quick_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("what is in it was harmed")
            if connection.execute("pragma user_version").fetchone()[0] != _VERSION:
                for (name,) in connection.execute(
                    "select name from sqlite_master where type = 'table'"
                ).fetchall():
                    connection.execute(f'drop table "{name}"')
                connection.executescript(_SCHEMA + f"pragma user_version = {_VERSION};")
                is_new = True
        except BaseException:
            connection.close()
            raise
        return cls(folder, lock, connection, is_new=is_new)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, and let the next import in."""
        self._connection.close()
        if self._lock is not None:
            self._lock.release()
            self._lock.close()
        self._folder.close()

    def note_chains(self, chains: Iterable[tuple[str, str]]) -> None:
        """Write down which conversations end with which links."""
        self.note((), chains)

    def entry(self, place: str) -> Entry | None:
        """Return what is known of the source at *place*."""
        row = self._connection.execute(
            "select stamp, format, bytes, tail, memory, conversation from sources where place = ?",
            (place,),
        ).fetchone()
        if row is None:
            return None
        stamp, format, offset, tail, memory, conversation = row
        return Entry(
            stamp,
            format,
            offset,
            tail,
            jsontext.loads(memory.encode()),
            conversation,
        )

    def note(
        self,
        entries: Iterable[tuple[str, Entry]],
        chains: Iterable[tuple[str, str]],
    ) -> None:
        """Write down what was read, all or nothing. The turns must be durable by now."""
        rows = [
            (
                place,
                each.stamp,
                each.format,
                each.offset,
                each.tail,
                jsontext.dumps(each.memory).decode(),
                each.conversation,
            )
            for place, each in entries
        ]
        self._begin()
        connection = self._connection
        connection.executemany("insert or replace into sources values (?,?,?,?,?,?,?)", rows)
        connection.executemany("insert or replace into chains values (?,?)", chains)
        connection.execute("commit")

    def note_samples(self, samples: Iterable[tuple[int, str]]) -> None:
        """Take down into which conversation records went, by their sample keys. The first stays.

        Found from now on, and kept with the next ``note``.
        """
        self._begin()
        self._connection.executemany("insert or ignore into samples values (?,?)", samples)

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("begin immediate")

    def conversations_with(self, samples: Iterable[int]) -> set[str]:
        """Return the conversations into which records with one of these sample keys went."""
        found: set[str] = set()
        for sample in samples:
            row = self._connection.execute(
                "select conversation from samples where record = ?", (sample,)
            ).fetchone()
            if row is not None:
                found.add(row[0])
        return found

    def chained(self, link: str) -> str | None:
        """Return the conversation whose records end, or ended, with that link of their chain."""
        row = self._connection.execute(
            "select conversation from chains where link = ?", (link,)
        ).fetchone()
        return None if row is None else str(row[0])
