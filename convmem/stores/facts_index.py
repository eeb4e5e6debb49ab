"""The file in which a namespace's facts are kept: read whole, replaced whole, believed or not.

    .index/facts.jsonl    {"convmem_facts":1,"crc":"9f3a01bc"}   CRC-32 of all that follows
                          ["oslo-trip","<stamp>",first_ts,last_ts,last_seq,"title",is_torn,
                           "<stamp when counted>",counts]

Derived: an index that is not there, damaged or of another version is an empty one, and where it
cannot be written nothing is lost but time. So it is replaced in one step, but never synced.
"""

from __future__ import annotations

import os
import time
import zlib

from convmem import jsontext
from convmem.errors import StorageError, storage_error
from convmem.log.count import Counts
from convmem.log.files import owner_of_temporary, temporary_name, write_all
from convmem.stores.log_files import is_same_file, size_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from convmem.log.files import Folder

FOLDER = ".index"
FILE = "facts.jsonl"

_HEADER = b'{"convmem_facts":1,"crc":"%08x"}'

_LAST_SEQ = 4
_TITLE = 5
# Where an entry has what was counted, and of which state: it may be an earlier one.
_COUNTED = 7
_COUNTS = 8
# What a process that died left behind in the index's folder is removed after so long.
_LITTER_SECONDS = 3600
# From here on the fast reader of JSON pays, whatever the command expected of itself.
_MANY_BYTES = 64 << 10
_MANY_ROWS = 200


class Facts:
    """What is known of one conversation, as of one state of its file.

    Attributes:
        stamp: Which file, in which state; see ``stamp_of``.
        bytes: The file's size.
        is_compressed: Whether the file is a compressed one.
        first_ts, last_ts: The times of the first and last turn that have one, as text.
        last_seq: The highest ``seq`` that was given out; 0 for none.
        title: How the first user turn begins.
        is_torn: Whether the log ends in bytes that are no turn.
        counts: What a whole reading tells, if there was one.
    """

    __slots__ = (
        "bytes",
        "counts",
        "first_ts",
        "is_compressed",
        "is_torn",
        "last_seq",
        "last_ts",
        "stamp",
        "title",
    )

    def __init__(self, stamp: str, size: int, *, is_compressed: bool = False) -> None:
        self.stamp = stamp
        self.bytes = size
        self.is_compressed = is_compressed
        self.first_ts: str | None = None
        self.last_ts: str | None = None
        self.last_seq = 0
        self.title = ""
        self.is_torn = False
        self.counts: Counts | None = None


class Index:
    """The entries of one namespace's index, by file name without ending."""

    __slots__ = ("_identity", "_rows", "bytes")

    def __init__(self, rows: dict[str, list[Any]], size: int, identity: object) -> None:
        self._rows = rows
        self._identity = identity
        self.bytes = size

    @classmethod
    def load(cls, folder: Folder) -> Index:
        """Read the index of *folder*, an empty one where there is none to believe."""
        try:
            inner = folder.existing_subfolder(FOLDER)
            try:
                fd = inner.open_file(FILE, os.O_RDONLY)
            finally:
                inner.close()
            with open(fd, "rb") as file:
                data = file.read()
                found = os.fstat(fd)
        except (OSError, StorageError):
            return cls({}, 0, None)
        return cls(_parsed(data), len(data), (found.st_ino, found.st_mtime_ns))

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, name: str, stamp: str, *, is_compressed: bool) -> Facts | None:
        """Return what is known of *name*, if that is of the state that *stamp* stands for."""
        row = self._rows.get(name)
        if row is None or row[1] != stamp:
            return None
        facts = Facts(stamp, size_in(stamp), is_compressed=is_compressed)
        facts.first_ts, facts.last_ts, facts.last_seq, facts.title, facts.is_torn = row[2:7]
        if row[_COUNTED] == stamp:
            facts.counts = Counts.from_list(row[_COUNTS])
        return facts

    def last_seq(self, name: str) -> int:
        """Return the highest ``seq`` that was ever seen of *name*, whatever became of it since."""
        row = self._rows.get(name)
        return 0 if row is None else int(row[_LAST_SEQ])

    def counted_bytes(self, name: str, stamp: str) -> int:
        """Return how many bytes of the log need not be read again to count it."""
        before = self.counts_before(name, stamp)
        return 0 if before is None or before.place is None else before.place[1]

    def counts_before(self, name: str, stamp: str) -> Counts | None:
        """Return what was counted of the same file before it became what *stamp* says."""
        row = self._rows.get(name)
        if row is None or row[_COUNTED] is None or not is_same_file(row[_COUNTED], stamp):
            return None
        return Counts.from_list(row[_COUNTS])

    def save(self, folder: Folder, facts: Mapping[str, Facts], *, keep_others: bool) -> None:
        """Replace the index by *facts*; with *keep_others* what it has of others stays.

        What was counted before, or by another process meanwhile, is kept: a log that only grew is
        counted from there. Does nothing where the folder cannot be written.
        """
        newest = Index.load(folder)
        before = newest._rows if newest._identity != self._identity else self._rows
        rows = dict(before) if keep_others else {}
        if len(facts) > _MANY_ROWS:
            jsontext.expect_few_calls(0)
        for name, each in facts.items():
            row = _row(name, each)
            theirs = before.get(name)
            if row[_COUNTED] is None and theirs is not None:
                row[_COUNTED:] = theirs[_COUNTED:]
            rows[name] = row
        body = b"".join([b"\n" + jsontext.dumps(row) for row in rows.values()]) + b"\n"
        try:
            _replace(folder, [_HEADER % zlib.crc32(body), body])
        except (OSError, StorageError):
            return


def forget(folder: Folder, name: str) -> None:
    """Forget how the log *name* begins, and what is known of any state of it but its last ``seq``.

    Raises:
        StorageError: The index holds it still, and cannot be written.
    """
    rows = Index.load(folder)._rows
    row = rows.get(name)
    try:
        _remove_all_in_the_making(folder)
        if row is None or not row[_TITLE]:
            return
        rows[name] = [name, "", None, None, row[_LAST_SEQ], "", False, None, None]
        body = b"".join([b"\n" + jsontext.dumps(each) for each in rows.values()]) + b"\n"
        _replace(folder, [_HEADER % zlib.crc32(body), body])
    except OSError as error:
        raise storage_error(error, f"cannot write {folder.path}/{FOLDER}") from error


def _remove_all_in_the_making(folder: Folder) -> None:
    """Whoever makes one meanwhile does without."""
    try:
        inner = folder.existing_subfolder(FOLDER)
    except FileNotFoundError:
        return
    try:
        for entry in inner.entries():
            if owner_of_temporary(entry.name) is not None:
                inner.remove(entry.name)
    finally:
        inner.close()


def _row(name: str, facts: Facts) -> list[Any]:
    return [
        name,
        facts.stamp,
        facts.first_ts,
        facts.last_ts,
        facts.last_seq,
        facts.title,
        facts.is_torn,
        None if facts.counts is None else facts.stamp,
        None if facts.counts is None else facts.counts.as_list(),
    ]


def _parsed(data: bytes) -> dict[str, list[Any]]:
    start = data.find(b"\n")
    if start < 0 or data[:start] != _HEADER % zlib.crc32(memoryview(data)[start:]):
        return {}
    if len(data) > _MANY_BYTES:
        jsontext.expect_few_calls(0)
    lines = data[start + 1 : -1].replace(b"\n", b",")
    try:
        rows = jsontext.loads(b"[%b]" % lines)
    except jsontext.NotJson:
        return {}
    return {row[0]: row for row in rows}


def _replace(folder: Folder, chunks: list[bytes]) -> None:
    inner = folder.subfolder(FOLDER, is_lasting=False)
    try:
        _sweep(inner)
        temporary = temporary_name(FILE)
        fd = inner.open_file(temporary, os.O_WRONLY | os.O_CREAT)
        try:
            try:
                for chunk in chunks:
                    write_all(fd, chunk)
            finally:
                os.close(fd)
            inner.rename(temporary, FILE)
        except BaseException:
            inner.remove(temporary)
            raise
    finally:
        inner.close()


def _sweep(inner: Folder) -> None:
    for entry in inner.entries():
        if owner_of_temporary(entry.name) is not None:
            age = time.time() - entry.stat(follow_symlinks=False).st_mtime
            if age > _LITTER_SECONDS:
                inner.remove(entry.name)
