"""Trials: a fault at every call that changes a disk, and a fault in the recovery from one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator

import faults
import mutants
from faults import COMPANY, FAULTS, SCENARIOS, Bench
from lab import Case, Control, Setup, Trial

_TWICE = (
    faults.KILLED_BEFORE,
    faults.KILLED_WITHIN,
    faults.SHORT_THEN_FULL,
    faults.EIO_ONCE,
    faults.EIO_FOR_EVER,
    faults.FULL_FOR_EVER,
)


def single_faults(setup: Setup) -> Iterator[Case]:
    """Yield a case for each fault and each company at each call of each scenario."""
    for scenario in SCENARIOS:
        with tempfile.TemporaryDirectory(dir=setup.folder) as place:
            bench = Bench(place, scenario)
            for at, kind in bench.cases((*FAULTS, *COMPANY)):
                label = f"{scenario.name}, {kind} {at}"
                if setup.wants(label):
                    findings, outcome = bench.run(at, kind)
                    yield Case(label, len(outcome.answers), findings)


def double_faults(setup: Setup) -> Iterator[Case]:
    """Yield a case for each death, and each fault at each call of the recovery from it."""
    for scenario in SCENARIOS:
        with tempfile.TemporaryDirectory(dir=setup.folder) as place:
            for what, findings, outcome in Bench(place, scenario).run_twice(_TWICE):
                label = f"{scenario.name}, {what}"
                if setup.wants(label):
                    yield Case(label, len(outcome.answers), findings)


def _control(mutant: Callable[[], None], name: str, kinds: tuple[str, ...]) -> Control:
    scenario = next(each for each in SCENARIOS if each.name == name)

    def cases(setup: Setup) -> Iterator[Case]:
        bench = Bench(setup.folder, scenario)
        for at, kind in [(0, ""), *bench.cases(kinds)]:
            findings, outcome = bench.run(at, kind, mutant)
            yield Case(f"{name}, {kind} {at}", len(outcome.answers), findings)

    return Control(mutant.__name__.replace("_", " "), cases)


_CONTROLS = (
    _control(mutants.without_healing, "append after a torn line", ()),
    _control(mutants.without_taking_back, "batch", (faults.SHORT_THEN_FULL,)),
    _control(mutants.without_lock, "record", (faults.WRITER,)),
    _control(mutants.without_looking_at_the_name, "record", (faults.COMPACTOR,)),
    _control(mutants.without_looking_for_the_id, "retry", ()),
    _control(mutants.without_the_delta, "compaction to the trash", (faults.WRITER,)),
    _control(mutants.without_trash, "compaction to the trash", ()),
    _control(mutants.without_memory_of_the_dropped, "compaction to the trash", ()),
    _control(
        mutants.without_memory_of_the_last_seq,
        "compaction that drops everything",
        (faults.KILLED_BEFORE,),
    ),
)

TRIALS = (
    Trial(
        "one fault",
        "whichever call the crash or the full disk hits, who retries is made whole",
        "faults",
        single_faults,
        goal=None,
        short=None,
        controls=_CONTROLS,
    ),
    Trial(
        "death, then a fault",
        "a fault at any call of the recovery from a crash is recovered from as well",
        "pairs",
        double_faults,
        goal=None,
        short=None,
    ),
)
