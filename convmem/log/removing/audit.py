"""What went, when and why: one JSON line for each removal and each return, in a file a month.

    .audit/2026-11.jsonl

Written before anything goes, so that a crash in between leaves a line for what is still there,
and never a gap without a line. Nothing of convmem removes these files.
"""

from __future__ import annotations

import os

from convmem import jsontext
from convmem.log.files import write_all
from convmem.log.locks import fcntl
from convmem.quantities import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any

    from convmem.log.files import Folder

FOLDER = ".audit"


def note(folder: Folder, now: datetime, entry: Mapping[str, Any]) -> None:
    """Append *entry* to the audit log of the namespace in *folder*.

    Args:
        now: When, as age is measured; the month of it names the file.

    Raises:
        OSError: It could not be written; then nothing should go.
    """
    text = format_time(now)
    line = jsontext.dumps({"ts": text, "pid": os.getpid(), **entry}) + b"\n"
    name = f"{text[:7]}.jsonl"
    inner = folder.subfolder(FOLDER, is_lasting=False)
    try:
        fd = _open(inner, name)
        try:
            if fcntl is not None:
                # Others may be in the middle of a line: it must not pass for one that is torn.
                fcntl.flock(fd, fcntl.LOCK_EX)
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line  # a crash has torn the last one
            try:
                write_all(fd, line)
            except OSError:
                # Half a line on a full disk; the next one would mend it, but nothing should change.
                if os.fstat(fd).st_size < size + len(line):
                    os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)
    finally:
        inner.close()


def _open(inner: Folder, name: str) -> int:
    flags = os.O_RDWR | os.O_APPEND
    while True:
        try:
            return inner.open_file(name, flags)
        except FileNotFoundError:
            try:
                return inner.open_file(name, flags | os.O_CREAT)
            except FileExistsError:
                continue  # another process was quicker
