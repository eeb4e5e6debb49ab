"""Trials: the file system crashes while convmem works, and loses what it had not written.

Under ``always`` nothing that was answered goes; under ``interval`` that interval's worth at most;
under ``none`` the end; and what remains has no gap, whatever was promised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from blocks_mount import missing
from lab import Case, Control, Setup, Trial
from power_child import cases_of

_KINDS = ("ext4", "xfs")
_MUTANTS = {
    "ext4": ("without_syncing_appends", "without_syncing_folders", "with_nul_bytes_kept"),
    # It leaves NUL bytes too seldom to count on.
    "xfs": ("without_syncing_appends", "without_syncing_folders"),
}


def _trial(kind: str) -> Trial:
    notes: dict[str, float] = {}

    def cases(setup: Setup) -> Iterator[Case]:
        return cases_of("shutdown_bench.py", setup, kind, notes)

    return Trial(
        f"system crash, {kind}",
        "after a crash of the system no more is gone than the policy says, and only from the end",
        "crashes",
        cases,
        goal=500,
        short=15,
        controls=tuple(
            Control(mutant.replace("_", " "), _mutated(kind, mutant), limit=400)
            for mutant in _MUTANTS[kind]
        ),
        missing=lambda: missing(kind),
        notes=notes,
    )


def _mutated(kind: str, mutant: str) -> Callable[[Setup], Iterator[Case]]:
    return lambda setup: cases_of("shutdown_bench.py", setup, kind, {}, mutant=mutant)


TRIALS = tuple(_trial(kind) for kind in _KINDS)
