"""The trash of a namespace: what left a log, line by line, until it is purged.

One file for each removal, ``.trash/<name>.<time>.<random>.jsonl``, with the lines as they stood.
``….log`` is a log that went as a whole, damage and all, and ``….state`` the state beside it.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from convmem.log import known_ids, lines
from convmem.log.files import chunks_of, temporary_name, write_aside
from convmem.quantities import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convmem.log.files import Folder
    from convmem.log.known_ids import Found

FOLDER = ".trash"
TURNS = "jsonl"
LOG = "log"
STATE = "state"

_NO_MARKS = {ord(mark): None for mark in "-:."}
_STAMP = "%Y%m%dT%H%M%S%fZ"


class TrashFile:
    """One file of the trash.

    Attributes:
        file_name: Its name inside ``.trash``.
        name: The log that it came from.
        removed: When.
        kind: ``TURNS``, ``LOG`` or ``STATE``.
        bytes: Its size.
        continuation_id: The id that the log's name stands for, where it is known.
    """

    __slots__ = ("bytes", "continuation_id", "file_name", "kind", "name", "removed")

    def __init__(self, file_name: str, name: str, removed: datetime, kind: str, size: int) -> None:
        self.file_name = file_name
        self.name = name
        self.removed = removed
        self.kind = kind
        self.bytes = size
        self.continuation_id: str | None = None


def new_file(name: str, now: datetime, kind: str = TURNS) -> str:
    """Return a name for what leaves the log *name* at *now*; names sort by time."""
    return f"{name}.{format_time(now).translate(_NO_MARKS)}.{os.urandom(4).hex()}.{kind}"


def beside(file_name: str, kind: str) -> str:
    """Return the name of the file of another *kind* that went together with *file_name*."""
    return f"{file_name.rpartition('.')[0]}.{kind}"


def fill(
    folder: Folder, name: str, file_name: str, fd: int, spans: Iterable[tuple[int, int]]
) -> None:
    """Copy the byte *spans* of the log *name*, open as *fd*, to a new file, durably."""
    inner = folder.subfolder(FOLDER)
    try:
        write(inner, name, file_name, fd, spans)
    finally:
        inner.close()


def write(
    inner: Folder, name: str, file_name: str, fd: int, spans: Iterable[tuple[int, int]]
) -> None:
    """Make a file of the trash folder *inner* hold byte *spans* of *fd*: whole or not at all."""
    write_aside(inner, file_name, temporary_name(name), chunks_of(fd, spans))


def remove(folder: Folder, file_name: str) -> bool:
    """Remove one file for good; say whether it was there."""
    try:
        inner = folder.existing_subfolder(FOLDER)
    except FileNotFoundError:
        return False
    try:
        return inner.remove(file_name)
    finally:
        inner.close()


def files(folder: Folder, name: str | None = None) -> list[TrashFile]:
    """Return the files that came from the log *name*, or from any, oldest first."""
    try:
        inner = folder.existing_subfolder(FOLDER)
    except FileNotFoundError:
        return []
    try:
        found = [each for each in _read_names(inner) if name is None or each.name == name]
    finally:
        inner.close()
    return sorted(found, key=lambda each: (each.removed, each.file_name))


def _read_names(inner: Folder) -> Iterator[TrashFile]:
    for entry in inner.entries():
        parts = entry.name.rsplit(".", 3)
        if len(parts) != 4 or parts[3] not in (TURNS, LOG, STATE) or parts[0].startswith("."):
            continue
        try:
            removed = datetime.strptime(parts[1], _STAMP).replace(tzinfo=UTC)
            size = inner.stat(entry.name).st_size
        except (ValueError, FileNotFoundError):
            continue  # no name of ours, or purged this moment
        yield TrashFile(entry.name, parts[0], removed, parts[3], size)


def find(folder: Folder, name: str, turn_id: str) -> Found | None:
    """Return the turn *turn_id* of the log *name* if it is in the trash. Reads all of it there."""
    inner: Folder | None = None
    try:
        for each in files(folder, name):
            if each.kind == STATE:
                continue
            inner = inner or folder.existing_subfolder(FOLDER)
            fd = inner.open_file(each.file_name, os.O_RDONLY)
            try:
                end = lines.finished_end(fd, os.fstat(fd).st_size)
                found = known_ids.search(fd, turn_id, 0, end, whole_batches=False)
            finally:
                os.close(fd)
            if found is not None:
                return found
    except FileNotFoundError:
        return None  # purged this moment
    finally:
        if inner is not None:
            inner.close()
    return None
