"""Trials: many processes and threads on one conversation at once, and the order that comes out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from lab import Case, Setup, Trial
from load import round_of_load

# Processes, threads of each, turns of each thread, durability.
_SHAPES = ((6, 2, 800, "none"), (4, 4, 150, "always"), (8, 1, 400, "interval"))


def rounds(setup: Setup) -> Iterator[Case]:
    """Yield a case for each round; put the longest stall of a writer among the notes."""
    for number in range(setup.cases or 1):
        processes, threads, turns, durability = _SHAPES[number % len(_SHAPES)]
        with tempfile.TemporaryDirectory(dir=setup.folder) as place:
            result = round_of_load(
                place,
                processes=processes,
                threads=threads,
                turns=turns,
                durability=durability,
                seed=setup.seed + number,
            )
        worst = "longest stall of a writer, ms"
        _LOAD.notes[worst] = max(_LOAD.notes.get(worst, 0.0), result.longest_stall_seconds * 1000)
        yield Case(f"round {number}", result.answered, result.findings)


_LOAD = Trial(
    "many at once",
    "one order for all: answers, files, readers and followers agree on it",
    "rounds",
    rounds,
    goal=50,
    short=2,
)
TRIALS = (_LOAD,)
