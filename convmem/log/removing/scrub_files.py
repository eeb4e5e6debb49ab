"""The files of one conversation that may hold what a turn said, open, and the kinds of them."""

from __future__ import annotations

import os

from convmem.log import heal, lines
from convmem.log.files import temporary_name, write_aside
from convmem.log.removing import trash
from convmem.log.removing.scrub_packed import Packed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import ExitStack

    from convmem.log.files import Folder
    from convmem.log.removing.scrub_find import Survey

LOG = "log"
TRASH = "trash"
QUARANTINE = "quarantine"
AUDIT = "audit"
TEMPORARY = "temporary"
_FOLDERS = {TRASH: trash.FOLDER, QUARANTINE: heal.QUARANTINE}


class File:
    """An open file of the conversation."""

    __slots__ = ("end", "fd", "kind", "name", "packed", "size", "survey")

    def __init__(
        self, kind: str, name: str, fd: int, end: int, size: int, packed: Packed | None = None
    ) -> None:
        self.kind = kind
        self.name = name
        self.fd = fd
        self.end = end
        self.size = size
        self.packed = packed  # where *fd* is what can be read of a compressed file
        self.survey: Survey

    @property
    def is_of_pieces(self) -> bool:
        """Whether it is what was set aside of a log, which may never have been answered."""
        return self.kind == QUARANTINE and self.packed is None


def set_aside_and_in_trash(folder: Folder, name: str, held: ExitStack) -> list[File]:
    """Open what is in the quarantine and in the trash of one log."""
    files = []
    for kind, names in ((QUARANTINE, _quarantined(folder, name)), (TRASH, _in_trash(folder, name))):
        if not names:
            continue
        inner = folder.existing_subfolder(_FOLDERS[kind])
        held.callback(inner.close)
        for file_name in names:
            try:
                fd = inner.open_file(file_name, os.O_RDONLY)
            except FileNotFoundError:
                continue  # purged this moment
            held.callback(os.close, fd)
            if kind == QUARANTINE and file_name.endswith(".zst"):
                packed = Packed(folder, fd)
                held.callback(os.close, packed.fd)
                files.append(File(kind, file_name, packed.fd, packed.size, packed.size, packed))
                continue
            size = os.fstat(fd).st_size
            files.append(File(kind, file_name, fd, lines.finished_end(fd, size), size))
    return files


def replace(folder: Folder, name: str, file: File, chunks: Iterable[bytes]) -> None:
    """Make a *file* of the trash or the quarantine hold *chunks*, if it is there still."""
    inner = folder.existing_subfolder(_FOLDERS[file.kind])
    try:
        if not inner.has(file.name):
            return  # purged meanwhile
        write_aside(inner, file.name, temporary_name(name), chunks)
    finally:
        inner.close()


def _in_trash(folder: Folder, name: str) -> list[str]:
    return [each.file_name for each in trash.files(folder, name) if each.kind != trash.STATE]


def _quarantined(folder: Folder, name: str) -> list[str]:
    """Return the files of damaged bytes, and those of damaged compressed logs.

    ``<name>.<offset>.<sha16>.bin`` and ``<name>.<sha16>.zst``.
    """
    found = []
    for each in folder.names_in(heal.QUARANTINE):
        of_bytes, of_a_log = each.rsplit(".", 3), each.rsplit(".", 2)
        if (len(of_bytes) == 4 and of_bytes[0] == name and of_bytes[3] == "bin") or (
            len(of_a_log) == 3 and of_a_log[0] == name and of_a_log[2] == "zst"
        ):
            found.append(each)
    return sorted(found)
