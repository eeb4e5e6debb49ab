"""How far the numbers went in logs that were deleted: who begins one anew goes on from there.

One small file for each, ``.deleted/<name>``, kept for as long as turns of it are in the trash, so
that a turn that comes back never meets another one with its ``seq``.
"""

from __future__ import annotations

import os

from convmem.log import codec
from convmem.log.files import temporary_name, write_aside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.log.files import Folder

FOLDER = ".deleted"


def remember(folder: Folder, name: str, seq: int) -> None:
    """Write down, durably, that the log *name* gave out every ``seq`` up to *seq*."""
    inner = folder.subfolder(FOLDER)
    try:
        write_aside(inner, name, temporary_name(name), [codec.seq_floor_line(seq)])
    finally:
        inner.close()


def last_seq(folder: Folder, name: str) -> int:
    """Return the highest ``seq`` that a deleted log *name* gave out, 0 if there was none."""
    try:
        inner = folder.existing_subfolder(FOLDER)
    except FileNotFoundError:
        return 0
    try:
        fd = inner.open_file(name, os.O_RDONLY)
    except FileNotFoundError:
        return 0
    finally:
        inner.close()
    try:
        line = os.pread(fd, 200, 0).rstrip(b"\n")
    finally:
        os.close(fd)
    # A damaged one only means that the numbers may begin anew, as they would without it.
    return (codec.seq_of(line) or 0) if codec.is_intact(line) else 0


def forget(folder: Folder, name: str) -> None:
    """Nothing of the log *name* can come back any more."""
    try:
        inner = folder.existing_subfolder(FOLDER)
    except FileNotFoundError:
        return
    try:
        inner.remove(name)
    finally:
        inner.close()


def names(folder: Folder) -> list[str]:
    """Return the logs that something is remembered of."""
    return folder.names_in(FOLDER)
