"""Which files of a namespace are conversations, and in what state: one look at its folder.

What is derived from logs, facts and indexes, is told by it what changed.
"""

from __future__ import annotations

import stat

from convmem import ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from convmem.log.files import Folder

PLAIN = ".jsonl"
COMPRESSED = ".jsonl.zst"


def stamp_of(found: os.stat_result) -> str:
    """Return text that is the same for the same file in the same state, and for no other.

    The time of the inode's own change is in it: the other one can be set back, and often is.
    """
    return (
        f"{found.st_dev:x}.{found.st_ino:x}.{found.st_size:x}"
        f".{found.st_mtime_ns:x}.{found.st_ctime_ns:x}"
    )


def is_same_file(one: str, other: str) -> bool:
    """Whether two stamps are of one file, whatever was done to it."""
    return one.split(".", 2)[:2] == other.split(".", 2)[:2]


def size_in(stamp: str) -> int:
    """Return the size of the file that *stamp* is of, in bytes."""
    return int(stamp.split(".", 3)[2], 16)


def states(
    folder: Folder, names: Iterable[str] | None = None
) -> Iterator[tuple[str, bool, os.stat_result]]:
    """Yield (name, is compressed, state) of each file that is named as a conversation.

    Where both a plain and a compressed file are there, the plain one is the truth.
    """
    if names is not None:
        for name in names:
            # Once more for what thaws between the two looks.
            for ending in (PLAIN, COMPRESSED, PLAIN):
                try:
                    state = folder.stat(name + ending)
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(state.st_mode):
                    yield name, ending == COMPRESSED, state
                    break
        return
    compressed: list[str] = []
    plain: set[str] = set()
    for entry in folder.entries():
        file = entry.name
        try:
            if file.endswith(PLAIN):
                if file[0] != "." and entry.is_file(follow_symlinks=False):
                    name = file[: -len(PLAIN)]
                    if is_of_a_log(name):
                        plain.add(name)
                        yield name, False, entry.stat(follow_symlinks=False)
            elif (
                file.endswith(COMPRESSED)
                and file[0] != "."
                and entry.is_file(follow_symlinks=False)
            ):
                name = file[: -len(COMPRESSED)]
                if is_of_a_log(name):
                    compressed.append(name)
        except FileNotFoundError:
            continue  # removed while we looked
    yield from states(folder, (name for name in compressed if name not in plain))


def is_of_a_log(name: str) -> bool:
    """Whether some id has the name, without ending: other files that end alike are passed over."""
    return ids.is_hashed(name) or ids.decode_name(name) is not None
