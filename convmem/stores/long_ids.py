"""Ids that are too long for a file name: kept whole in a small file beside the logs.

Written and synced before the first turn is, so that no conversation loses its name.
"""

from __future__ import annotations

import os

from convmem import ids
from convmem.errors import CorruptLog
from convmem.log.files import temporary_name, write_aside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.log.files import Folder

FOLDER = ".ids"


def keep(folder: Folder, name: str, continuation_id: str) -> None:
    """Write the whole id of the log *name* down, durably, unless it is there.

    Raises:
        CorruptLog: The log's name belongs to another id.
    """
    known = find(folder, name)
    if known is None:
        inner = folder.subfolder(FOLDER)
        try:
            write_aside(inner, name, temporary_name(name), [continuation_id.encode()])
        finally:
            inner.close()
    elif known != continuation_id:
        raise _other_id(name, known)


def check(folder: Folder, name: str, continuation_id: str) -> None:
    """Raise ``CorruptLog`` if the log *name* belongs to another id."""
    known = find(folder, name)
    if known is not None and known != continuation_id:
        raise _other_id(name, known)


def find(folder: Folder, name: str) -> str | None:
    """Return the whole id of the log *name*, or ``None`` if nothing was written down."""
    try:
        inner = folder.existing_subfolder(FOLDER)
    except FileNotFoundError:
        return None
    try:
        fd = inner.open_file(name, os.O_RDONLY)
    except FileNotFoundError:
        return None
    finally:
        inner.close()
    try:
        return str(os.pread(fd, ids.MAX_ID_BYTES + 1, 0), "utf-8", "replace")
    finally:
        os.close(fd)


def _other_id(name: str, known: str) -> CorruptLog:
    return CorruptLog(
        f"{name}.jsonl belongs to another conversation, {known[:40]!r}…",
        hint=f"the file in {FOLDER} was changed, or two ids share a SHA-256",
    )
