"""convmem with one safeguard taken out: each must be noticed, else the harness proves nothing.

They change the process that calls them for good: call them only in one that is going to end.
"""

from __future__ import annotations

import time

from convmem.log import append, codec, compact, dropped, heal, known_ids, locks, rewrite


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
    compact._Run._fill_trash = lambda self, name: None


def without_memory_of_the_dropped() -> None:
    """Forget the ids of what was dropped."""
    dropped.remember = lambda folder, name, turns, now, until: None


def without_memory_of_the_last_seq() -> None:
    """Forget how far the numbers went when all turns are dropped."""
    codec.seq_floor_line = lambda last_seq: b""
