"""Time and chance that are the same in every run, so that a case can be told by its label.

Random names and numbers come from a counter, and the times of turns and removals from another.
Each life of a process counts from a place of its own: names never meet those of an earlier one.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

_BEGINNING = datetime(2026, 5, 1, tzinfo=UTC)
_MOST_TICKS = 10_000
_PID = 4711

_ticks = 0
_life = 0
_draws = 0


@contextmanager
def same_chance(life: int) -> Iterator[None]:
    """Begin the life of this number; everything random in it is the same whenever it is begun."""
    global _life, _ticks, _draws
    before = (_life, _ticks, _draws, os.urandom, os.getpid)
    makers = [
        (module, module.new_turn_id)
        for name, module in list(sys.modules.items())
        if name.startswith("convmem.") and hasattr(module, "new_turn_id")
    ]
    _life, _ticks, _draws = life, life * _MOST_TICKS, 0
    os.urandom = _urandom
    os.getpid = lambda: _PID
    for module, _ in makers:
        module.new_turn_id = _new_turn_id
    try:
        yield
    finally:
        _life, _ticks, _draws, os.urandom, os.getpid = before
        for module, maker in makers:
            module.new_turn_id = maker


def now() -> datetime:
    """Return the time, which goes on by a second each time it is asked for."""
    global _ticks
    _ticks += 1
    return _BEGINNING + timedelta(seconds=_ticks)


def _new_turn_id() -> str:
    digits = _urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-7{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


def _urandom(size: int) -> bytes:
    global _draws
    _draws += 1
    return hashlib.sha256(b"%d %d" % (_life, _draws)).digest()[:size]
