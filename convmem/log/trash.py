"""The trash: where the turns go that a policy or a person removes, until it is purged.

One file for each removal, ``.trash/<name>.<time>.<random>.jsonl``, with the lines as they stood.
"""

from __future__ import annotations

import os

from convmem.log import known_ids, lines
from convmem.quantities import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime

    from convmem.log.files import Folder
    from convmem.log.known_ids import Found

FOLDER = ".trash"

_NO_MARKS = {ord(mark): None for mark in "-:."}


def new_file(name: str, now: datetime) -> str:
    """Return a name for what leaves the log *name* at *now*; names sort by time."""
    return f"{name}.{format_time(now).translate(_NO_MARKS)}.{os.urandom(4).hex()}.jsonl"


def files_of(trash: Folder, name: str) -> list[str]:
    """Return the files that came from the log *name*, oldest first."""
    found = (entry.name for entry in trash.entries())
    return sorted(each for each in found if each.rsplit(".", 3)[0] == name)


def find(folder: Folder, name: str, turn_id: str) -> Found | None:
    """Return the turn *turn_id* of the log *name* if it is in the trash. Reads all of it there."""
    try:
        trash = folder.existing_subfolder(FOLDER)
    except FileNotFoundError:
        return None
    try:
        for each in files_of(trash, name):
            fd = trash.open_file(each, os.O_RDONLY)
            try:
                end = lines.finished_end(fd, os.fstat(fd).st_size)
                found = known_ids.search(fd, turn_id, 0, end, whole_batches=False)
            finally:
                os.close(fd)
            if found is not None:
                return found
    finally:
        trash.close()
    return None
