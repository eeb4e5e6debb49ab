"""The file that the index lies in: opened, made, and made anew where it cannot be believed.

    .index/search-….sqlite     one SQLite database in WAL mode, shared by any number of processes

Derived: it may be deleted at any time. Which words stand in which turn is an FTS5 table without
contents and without places (``detail=none``): a third of the size, and nobody can read a
conversation out of it. Of each turn there is one row besides, a few bytes long.

A turn's number says where it stands: numbers are given in blocks of ``BLOCK``, each block is of
one conversation, and within one conversation a higher number stands further down in the log.
"""

from __future__ import annotations

import os
import sqlite3
import stat

from convmem.errors import LockTimeout, StorageError, storage_error
from convmem.log.files import FILE_MODE
from convmem.stores.logs import (
    alone_with_index,
    index_file,
    new_index_file,
    remove_index_files,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from convmem.log.files import Folder

BLOCK = 256
# What nobody said (see ``turns.is_said``) has this in the place of its role.
UNSAID = 0

# Another layout, or other words made of a text: the file is made anew.
_VERSION = 4
# How long to wait for another process that writes. Each of its steps takes a second or two.
_PATIENCE_SECONDS = 60.0
# What FTS5 gathers in memory before it writes: fewer, larger pieces, a fifth less time.
_HASH_BYTES = 32 << 20
_CACHE_KIB = 16 << 10

_SCHEMA = f"""
create table log (
    log integer primary key, name text not null unique, stamp text not null,
    resume integer not null, last integer, mark integer
);
create table block (
    block integer primary key, log integer not null, used integer not null, newest integer
);
create index block_log on block (log);
create table turn (
    turn integer primary key, seq integer, mark integer not null, ts integer,
    role integer not null, size integer not null, asks integer not null,
    place integer not null
);
create table role (role integer primary key, name text not null unique, turns integer not null);
create trigger gone after delete on turn
    begin update role set turns = turns - 1 where role = old.role; end;
create table total (
    one integer primary key check (one = 1), turns integer not null, gone integer not null,
    blocks integer not null
);
insert into total values (1, 0, 0, 0);
create table vectors (
    block integer primary key, upto integer not null, positions blob not null
);
create table embedder (
    one integer primary key check (one = 1), name text not null, generation blob not null,
    is_matched integer not null
);
create virtual table words using fts5 (
    text, content = '', columnsize = 0, detail = 'none', tokenize = 'porter ascii'
);
insert into words (words, rank) values ('hashsize', {_HASH_BYTES});
pragma user_version = {_VERSION};
"""


class NoIndex(Exception):
    """There is no index to be had here; the message says why. A scan answers without one."""


class Database:
    """An open index. Close it, or use it as a context manager; of one thread at a time.

    Attributes:
        connection: The SQLite connection; transactions are begun by hand.
        file: The name of the file.
    """

    def __init__(self, folder: Folder, *, is_fixed: bool = False) -> None:
        """See ``open`` and ``as_it_is``."""
        self._folder = folder
        self._is_fixed = is_fixed
        if is_fixed:
            self.connection, self.file = _fixed(folder)
            self._opened = self._files()
            return
        with alone_with_index(folder):
            try:
                self._connect()
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                _refuse_hopeless(error, folder)
                remove_index_files(folder)
                try:
                    self._connect()
                except sqlite3.DatabaseError as again:
                    _refuse_hopeless(again, folder)
                    raise NoIndex(f"the index in {folder.path}: {again}") from again

    @classmethod
    def open(cls, folder: Folder) -> Database:
        """Open the index in *folder*, which is the database's from now on; make it if need be.

        Raises:
            NoIndex: This SQLite has no FTS5, or the folder cannot be written.
            LockTimeout: Another process is at it, and does not come to an end.
        """
        try:
            return cls(folder)
        except StorageError as error:
            folder.close()
            raise NoIndex(str(error)) from error
        except OSError as error:
            folder.close()
            why = storage_error(error, f"cannot write the index in {folder.path}")
            raise NoIndex(str(why)) from error
        except BaseException:
            folder.close()
            raise

    @classmethod
    def as_it_is(cls, folder: Folder) -> Database | None:
        """Open the index for reading where nothing can be written, as on a read-only disk.

        ``None`` where there is none that is whole. The folder is the database's from now on.
        """
        try:
            return cls(folder, is_fixed=True)
        except (sqlite3.DatabaseError, OSError, NoIndex):
            folder.close()
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def look(self) -> None:
        """Begin to read: all that is read until ``close`` was so at one moment."""
        self.connection.execute("begin")
        self.connection.execute("select 1 from total").fetchone()

    def is_current(self) -> bool:
        """Whether the files are those that SQLite has opened.

        Where somebody removed one of them under SQLite, what was read may be of an earlier state,
        or of a file that others wrote to without our knowing each other.
        """
        return self._opened is not None and self._opened == self._files()

    def _connect(self) -> None:
        """Connect; for who is alone with the index."""
        self.connection, self.file = _connected(self._folder)
        # While we are alone nobody makes the files that SQLite has just opened: those that are
        # there now are the same. Later they might be some that others made in their place.
        self._opened = self._files()

    def _files(self) -> tuple[int, ...] | None:
        """Return which file the database is, and which its log; ``None`` where one is gone."""
        try:
            found = self._folder.stat(self.file)
            if self._is_fixed:
                return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
            return found.st_ino, self._folder.stat(f"{self.file}-wal").st_ino
        except OSError:
            return None

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        self.connection.close()
        self._folder.close()

    def remake(self) -> None:
        """Begin the index anew, empty, unless another process just did."""
        folder = self._folder
        self.connection.close()
        with alone_with_index(folder):
            if index_file(folder) == self.file:
                remove_index_files(folder)
            self._connect()

    def begin(self) -> None:
        """Begin to write; others who write wait until ``commit``.

        Raises:
            LockTimeout: Another process writes, and did not come to an end.
        """
        try:
            self.connection.execute("begin immediate")
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise LockTimeout(
                    f"{self._folder.path}: another process is indexing, and has been for "
                    f"{_PATIENCE_SECONDS:.0f} s",
                    hint="wait for it, or end it; then try again",
                ) from error
            raise

    def commit(self) -> None:
        """Make what was written since ``begin`` visible to all."""
        self.connection.execute("commit")

    def roll_back(self) -> None:
        """Undo what was written since ``begin``."""
        if self.connection.in_transaction:
            self.connection.execute("rollback")


def _in_uri(path: str) -> str:
    """Return *path* as SQLite reads it in a URI, whatever bytes it is of.

    Loading ``urllib.parse`` for it takes as long as asking the index.
    """
    special = b"%?#"
    return "".join(
        chr(byte) if byte < 128 and byte not in special else f"%{byte:02x}"
        for byte in os.fsencode(path)
    )


def _connected(folder: Folder) -> tuple[sqlite3.Connection, str]:
    """Return a connection to the index, and its file's name; for who is alone with it."""
    # Never opened but by SQLite: to close a file lets go of all locks that this process has on it.
    found = index_file(folder)
    if found is not None and not stat.S_ISREG(folder.stat(found).st_mode):
        raise NoIndex(f"{folder.path}/{found} is not a file")
    remove_index_files(folder, but=found)  # what is left of others
    file = new_index_file() if found is None else found
    mode = "rwc" if found is None else "rw"
    where = f"file:{_in_uri(os.path.join(folder.path, file))}?mode={mode}"
    connection = sqlite3.connect(
        where,
        uri=True,
        isolation_level=None,
        timeout=_PATIENCE_SECONDS,
        check_same_thread=False,
    )
    try:
        if found is None:
            os.chmod(file, FILE_MODE, dir_fd=folder.fd)
        version = connection.execute("pragma user_version").fetchone()[0]
        if version != _VERSION:
            _make(connection)
        connection.execute("pragma synchronous = normal")
        connection.execute(f"pragma cache_size = -{_CACHE_KIB}")
    except BaseException:
        connection.close()
        raise
    return connection, file


def _fixed(folder: Folder) -> tuple[sqlite3.Connection, str]:
    """Return a connection that reads a database to which nobody writes, and its file's name.

    Raises:
        NoIndex: There is none, or its end stands in a file that only a writer can read.
    """
    file = index_file(folder)
    if file is None or not stat.S_ISREG(folder.stat(file).st_mode):
        raise NoIndex("there is none")
    if folder.has(f"{file}-wal") and folder.stat(f"{file}-wal").st_size:
        raise NoIndex("it is being written")
    where = f"file:{_in_uri(os.path.join(folder.path, file))}?mode=ro&immutable=1"
    connection = sqlite3.connect(where, uri=True, isolation_level=None, check_same_thread=False)
    try:
        if connection.execute("pragma user_version").fetchone()[0] != _VERSION:
            raise NoIndex("it is of another version")
    except BaseException:
        connection.close()
        raise
    return connection, file


def _make(connection: sqlite3.Connection) -> None:
    """Lay the tables out, unless another process just did."""
    connection.execute("pragma journal_mode = wal")
    connection.execute("begin immediate")
    version = connection.execute("pragma user_version").fetchone()[0]
    if version not in (0, _VERSION):
        connection.execute("rollback")
        raise sqlite3.DatabaseError(f"layout {version} is not this version's")
    if version == 0:
        for statement in _SCHEMA.split(";\n"):
            connection.execute(statement)
    connection.execute("commit")


def _refuse_hopeless(error: Exception, folder: Folder) -> None:
    """Raise where making the file anew would not help."""
    text = str(error)
    if "no such module" in text:
        raise NoIndex("this Python's SQLite has no FTS5") from error
    if "readonly" in text or "unable to open" in text:
        raise NoIndex(f"cannot write the index in {folder.path}: {text}") from error
    if "full" in text:
        raise NoIndex(f"cannot write the index in {folder.path}: the disk is full") from error
    if "locked" in text:
        raise LockTimeout(
            f"{folder.path}: another process is at the index",
            hint="wait for it, or end it; then try again",
        ) from error
