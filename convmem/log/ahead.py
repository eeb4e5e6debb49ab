"""Looking for given ids before the lock is taken: what was found, in which file, up to where."""

from __future__ import annotations

import os
import time

from convmem.errors import storage_error
from convmem.log import dropped, heal, known_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.errors import StorageError
    from convmem.log.durability import OpenLog
    from convmem.log.files import Folder
    from convmem.log.known_ids import Found, KnownIds


def search_ahead(folder: Folder, name: str, ids: list[str], known: KnownIds) -> Ahead:
    """Look the ids up in the log *name* without its lock: reading a large one would keep others
    waiting. What was recorded meanwhile is looked at under it.
    """
    known.lookups += 1
    try:
        ahead = Ahead(dropped.find_all(folder, name, ids, time.time()))
    except OSError as error:
        raise _unreadable(error, folder, name) from error
    hashes = known.hashes
    wanted = ids if hashes is None else [each for each in ids if hash(each) in hashes]
    if not wanted:
        return ahead
    try:
        fd = folder.open_file(f"{name}.jsonl", os.O_RDONLY)
    except FileNotFoundError:
        return ahead
    except OSError as error:
        raise _unreadable(error, folder, name) from error
    try:
        found = os.fstat(fd)
        ahead.identity = (found.st_dev, found.st_ino)
        # Not to the last finished line: a batch that is being written has lines there that
        # are not committed yet, and must be searched again once they are.
        end = heal.find_end(fd, found.st_size).committed
        ahead.found = known_ids.search_all(fd, wanted, 0, end)
        ahead.wanted.update(wanted)
        ahead.searched = end
    except OSError as error:
        raise _unreadable(error, folder, name) from error
    finally:
        os.close(fd)
    return ahead


def _unreadable(error: OSError, folder: Folder, name: str) -> StorageError:
    return storage_error(error, f"cannot read {os.path.join(folder.path, name)}.jsonl")


class Ahead:
    """What a search before the lock has found, in which file, up to where."""

    __slots__ = ("_dropped", "_is_current", "found", "identity", "searched", "wanted")

    def __init__(self, gone: dropped.Known) -> None:
        self.identity = (0, 0)
        self.searched = 0
        self.found: dict[str, Found] = {}
        self.wanted: set[str] = set()
        self._dropped = gone
        self._is_current: bool | None = None

    def find(self, log: OpenLog, turn_id: str, committed: int) -> Found | None:
        """Return the first turn with *turn_id*, reading only what was not read before."""
        start = 0
        if log.identity == self.identity and self.searched <= committed and turn_id in self.wanted:
            start = self.searched
            earlier = self.found.get(turn_id)
            if earlier is not None:
                return earlier
        return known_ids.search(log.fd, turn_id, start, committed)

    def find_dropped(self, folder: Folder, name: str, turn_id: str) -> dropped.DroppedTurn | None:
        """Return the turn if it was dropped, reading again only after a compaction since."""
        if self._is_current is None:
            self._is_current = dropped.is_as_known(folder, name, self._dropped)
        if self._is_current:
            return self._dropped.turns.get(turn_id)
        return dropped.find(folder, name, turn_id, time.time())
