"""Trials: many processes and threads on one conversation at once, and the order that comes out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator

from lab import Case, Control, Setup, Trial
from load import round_of_load

# Processes, threads of each, turns of each thread, durability.
_SHAPES = ((6, 2, 800, "none"), (4, 4, 150, "always"), (8, 1, 400, "interval"))
# 128 clients that record one turn a second for an hour: 460,800 turns, in eight rounds. Every
# eighth of a thread's records is a batch of three.
_HOUR = ((32, 4, 360, "always"),)
_SMALL = ((4, 2, 120, "none"),)


def _rounds_of(
    shapes: tuple[tuple[int, int, int, str], ...], mutant: tuple[str, str] | None = None
) -> Callable[[Setup], Iterator[Case]]:
    """Return what yields a case for each round."""

    def rounds(setup: Setup) -> Iterator[Case]:
        for number in range(setup.cases or 1):
            if not setup.wants(f"round {number}"):
                continue
            processes, threads, turns, durability = shapes[number % len(shapes)]
            with tempfile.TemporaryDirectory(dir=setup.folder) as place:
                result = round_of_load(
                    place,
                    processes=processes,
                    threads=threads,
                    turns=turns,
                    durability=durability,
                    seed=setup.seed + number,
                    mutant=mutant,
                )
            if mutant is None:
                trial = _HOURS_WORTH if shapes is _HOUR else _LOAD
                _note(trial, result.longest_stall_seconds * 1000)
            yield Case(f"round {number}", result.answered, result.findings)

    return rounds


def _note(trial: Trial, stall_ms: float) -> None:
    worst = "longest stall of a writer, ms"
    trial.notes[worst] = max(trial.notes.get(worst, 0.0), stall_ms)


_LOAD = Trial(
    "many at once",
    "one order for all: answers, files, readers and followers agree on it",
    "rounds",
    _rounds_of(_SHAPES),
    goal=50,
    short=2,
    controls=tuple(
        Control(name, _rounds_of(_SMALL, mutant), limit=10)
        for name, mutant in (
            ("no lock", ("write", "without_lock")),
            ("writers do not look where the name leads", ("write", "without_looking_at_the_name")),
            ("compaction leaves out the delta", ("compact", "without_the_delta")),
            (
                "followers do not look where the name leads",
                ("follow", "without_looking_where_the_name_leads"),
            ),
        )
    ),
)
_HOURS_WORTH = Trial(
    "an hour's worth",
    "32 processes with 4 threads each, durably: one order for all",
    "rounds",
    _rounds_of(_HOUR),
    goal=8,
    short=None,
)
TRIALS = (_LOAD, _HOURS_WORTH)
