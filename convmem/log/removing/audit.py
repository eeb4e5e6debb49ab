"""What went, when and why: one JSON line for each removal and each return, in a file a month.

    .audit/2026-11.jsonl

Written before anything goes, so that a crash in between leaves a line for what is still there,
and never a gap without a line. Nothing of convmem removes these files. They hold no content, but
for summaries that went when the turns came back which they stood for.
"""

from __future__ import annotations

import os

from convmem import jsontext
from convmem.log import lines
from convmem.log.files import sync_data, write_all, write_all_at
from convmem.log.locks import fcntl
from convmem.quantities import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
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


def summaries(folder: Folder, turn_id: str) -> list[str]:
    """Return the files that still say what the summary *turn_id* said."""
    return _with_summary(folder, turn_id, os.O_RDONLY)


def scrub_summary(folder: Folder, turn_id: str) -> None:
    """Blank what the summary *turn_id* said, in place: others may hold the files open, to append.

    Raises:
        OSError: It may be there still.
    """
    _with_summary(folder, turn_id, os.O_RDWR)


def _with_summary(folder: Folder, turn_id: str, flags: int) -> list[str]:
    wanted = jsontext.dumps(turn_id)
    found = []
    try:
        inner = folder.existing_subfolder(FOLDER)
    except FileNotFoundError:
        return []
    try:
        for name in folder.names_in(FOLDER):
            fd = inner.open_file(name, flags)
            try:
                places = list(_places(fd, wanted))
                for offset, length in places if flags == os.O_RDWR else ():
                    write_all_at(fd, b" " * length, offset)
                if places:
                    found.append(name)
                    sync_data(fd)
            finally:
                os.close(fd)
    finally:
        inner.close()
    return sorted(found)


def _places(fd: int, wanted: bytes) -> Iterator[tuple[int, int]]:
    """Yield where the content of the summary with the id *wanted* stands, without its quotes.

    Who dies while blanks take its place leaves a text that begins with some.
    """
    for offset, _, line in lines.forward(fd, 0, os.fstat(fd).st_size):
        at = -1 if line is None else line.find(b'"id":' + wanted)
        if line is None or at < 0 or b'"summaries":' not in line[:at]:
            continue
        try:
            notes = jsontext.loads(line)["summaries"]
        except (jsontext.NotJson, KeyError):
            continue
        for said in notes:
            content = jsontext.dumps(said.get("content"))[1:-1]
            start = line.find(b'"content":"' + content, at) + len(b'"content":"')
            if jsontext.dumps(said.get("id")) == wanted and content.strip(b" "):
                yield offset + start, len(content)


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
