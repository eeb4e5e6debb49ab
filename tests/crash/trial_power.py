"""Trials: the power is cut, on three file systems, at every point of what convmem made them write.

After each write, and in each window between two flushes with some of what was not flushed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from blocks_mount import missing
from lab import Case, Control, Setup, Trial
from power_child import cases_of

# 10,000 images together.
_GOALS = {"ext4": 4_000, "xfs": 3_000, "btrfs": 3_000}
_SHORT = {"ext4": 80, "xfs": 40, "btrfs": 40}
_MUTANTS = (
    "without_syncing_appends",
    "without_syncing_the_new_file",
    "without_syncing_folders",
    "with_nul_bytes_kept",
)


def _trial(kind: str) -> Trial:
    notes: dict[str, float] = {}

    def cases(setup: Setup) -> Iterator[Case]:
        return cases_of("power_bench.py", setup, kind, notes)

    return Trial(
        f"power cut, {kind}",
        "after a power cut at any write, what was answered before it is there",
        "images",
        cases,
        goal=_GOALS[kind],
        short=_SHORT[kind],
        controls=tuple(
            Control(mutant.replace("_", " "), _mutated(kind, mutant), limit=400)
            for mutant in _MUTANTS
            # btrfs leaves no NUL bytes at the end of a file.
            if (kind, mutant) != ("btrfs", "with_nul_bytes_kept")
        ),
        missing=lambda: missing(kind),
        notes=notes,
    )


def _mutated(kind: str, mutant: str) -> Callable[[Setup], Iterator[Case]]:
    return lambda setup: cases_of("power_bench.py", setup, kind, {}, mutant=mutant)


TRIALS = tuple(_trial(kind) for kind in _GOALS)
