"""convmem with one safeguard taken out: each must be noticed, else the harness proves nothing.

They change the process that calls them for good: call them only in one that is going to end.
"""

from __future__ import annotations

import os
import time

from convmem.log import (
    append,
    codec,
    deleted,
    dropped,
    files,
    heal,
    known_ids,
    locks,
    restore,
    rewrite,
    trash,
)


def without_healing() -> None:
    """Append straight behind whatever a crash left."""

    def healed(folder, name, fd, size):
        return heal.End(size, heal.find_end(fd, size).last_seq), None

    heal.heal = healed


def without_taking_back() -> None:
    """Leave the part of a write that failed, and do not heal it either."""
    without_healing()
    append.Log._roll_back = lambda self, log, start, written, is_batch: 0


def without_lock() -> None:
    """Let everybody write at once."""
    locks.SidecarLock.acquire = lambda self, timeout_seconds: None
    locks.SidecarLock.release = lambda self: None


def without_looking_at_the_name() -> None:
    """Go on with the open file, also when a compaction has put another in its place."""
    real = append.Log._current

    def current(self, healed, *, create):
        return self._open or real(self, healed, create=create)

    append.Log._current = current


def without_looking_for_the_id() -> None:
    """Take every turn for a new one."""
    known_ids.search = lambda fd, turn_id, start, end: None


def without_the_delta() -> None:
    """Put the compacted file in place without what was recorded meanwhile."""
    real = rewrite.copy_pieces

    def copy(source, target, pieces):
        if not isinstance(pieces, list):
            real(source, target, pieces)
            time.sleep(0.003)  # as a longer log takes, so that there is a delta

    rewrite.copy_pieces = copy


def without_trash() -> None:
    """Drop turns without keeping them anywhere."""
    trash.fill = lambda *given: None


def without_memory_of_the_dropped() -> None:
    """Forget the ids of what was dropped."""
    dropped.remember = lambda *given, **options: None


def without_memory_of_the_last_seq() -> None:
    """Forget how far the numbers went when all turns are dropped."""
    codec.seq_floor_line = lambda last_seq: b""


def without_trash_of_deleted_logs() -> None:
    """Delete a log for good, in the place of moving it to the trash."""
    real = files.Folder.take

    def take(self, other, source, target):
        if target.endswith(f".{trash.LOG}"):
            other.remove(source)
        else:
            real(self, other, source, target)

    files.Folder.take = take


def with_the_trash_emptied_first() -> None:
    """Restore as if to move: take the turns out of the trash, then put them into the log."""
    real = restore._tried

    def tried(sources, wants, current, target, advanced):
        merge = real(sources, wants, current, target, advanced)
        if isinstance(target, rewrite.Rewrite):
            for source in sources:
                path = os.path.join(target.folder.path, trash.FOLDER, source.name)
                if os.path.exists(path):
                    os.unlink(path)
            time.sleep(0.003)
        return merge

    restore._tried = tried


def without_memory_of_the_deleted() -> None:
    """Begin a deleted conversation anew with the number 1."""
    deleted.last_seq = lambda folder, name: 0


def with_turns_restored_twice() -> None:
    """Take no notice of what the log has already, as it has after a restore that was killed."""
    restore.Merge._verdict = lambda self, entry, line, ids: "new"
