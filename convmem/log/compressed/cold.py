"""Cold logs: a conversation that nobody uses lies compressed, and thaws when somebody appends.

At every moment the plain log or a whole, verified compressed one is there. Where a crash has left
both, the plain one is the truth and the other a leftover.
"""

from __future__ import annotations

import os

from convmem.errors import CorruptLog
from convmem.log.compressed.cold_file import ENDING, ColdFacts, ColdFile, zstd_library
from convmem.log.files import check_room, temporary_name, write_aside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from convmem.log.files import Folder


def file_of(folder: Folder, name: str) -> str | None:
    """Return the name of the compressed file that is the log; ``None`` where a plain one is."""
    if size_of(folder, f"{name}.jsonl") is None and size_of(folder, name + ENDING) is not None:
        return name + ENDING
    return None


def find(folder: Folder, name: str) -> tuple[bool, int]:
    """Return whether the log lies compressed, and the size of its file.

    Raises:
        FileNotFoundError: There is no such log.
    """
    for _ in range(3):  # it may thaw between the two looks, and even be compressed again
        size = size_of(folder, f"{name}.jsonl")
        if size is not None:
            return False, size
        size = size_of(folder, name + ENDING)
        if size is not None:
            return True, size
    raise FileNotFoundError(f"{name}.jsonl")


def facts(folder: Folder, name: str) -> ColdFacts | None:
    """Return what is known of a compressed log, from its last few KiB; needs no zstd.

    ``None`` where there is none, or none that is whole: readers say what is wrong with it.
    """
    try:
        with ColdFile(folder, name + ENDING) as cold:
            return cold.facts
    except (FileNotFoundError, CorruptLog):
        return None


def thaw_or_salvage(
    folder: Folder, name: str, known_last_seq: Callable[[], int]
) -> tuple[bool, str | None]:
    """Put the plain log in the compressed one's place, also where that is damaged.

    Returns whether there was one, and the file in the quarantine to which a damaged one went. As
    with ``thaw`` the caller holds the log's lock; see ``cold_salvage`` for *known_last_seq*.

    Raises:
        StorageFull, UsageError, OSError: The compressed log stays.
    """
    try:
        return thaw(folder, name), None
    except CorruptLog:
        from convmem.log.compressed import cold_salvage

        return True, cold_salvage.salvage(folder, name, known_last_seq())


def thaw(folder: Folder, name: str) -> bool:
    """Put the plain log in the compressed one's place, durably; ``False`` if there is none.

    The caller holds the log's lock, and knows that there is no plain log.

    Raises:
        CorruptLog: The compressed log does not unpack whole; it stays.
        StorageFull, UsageError, OSError: The compressed log stays.
    """
    try:
        cold = ColdFile(folder, name + ENDING)
    except FileNotFoundError:
        return False
    with cold:
        zstd_library()
        found = os.fstat(cold.fd)
        check_room(
            folder,
            cold.facts.plain_bytes,
            f"unpacking {cold.path}",
            "nothing was changed; make room and try again",
        )
        # Checked to the last byte before it gets its name.
        write_aside(folder, f"{name}.jsonl", temporary_name(name), cold.plain())
    # When the conversation was last used is what people sort by.
    os.utime(f"{name}.jsonl", ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=folder.fd)
    folder.remove(name + ENDING)
    folder.sync()
    return True


def size_of(folder: Folder, file_name: str) -> int | None:
    """Return how many bytes the file has, ``None`` if it is not there."""
    try:
        return folder.stat(file_name).st_size
    except FileNotFoundError:
        return None
