"""Trials: a fault at every call that changes a disk, and a fault in the recovery from one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator

import faults
import mutants
from bench import Bench
from faults import COMPANY, FAULTS
from lab import Case, Control, Setup, Trial
from ledger import DOUBLED, LOST, OTHER
from scenarios import BY_NAME, SCENARIOS

# What may strike the recovery from a death, besides another one.
TWICE = (
    faults.SHORT,
    faults.SHORT_THEN_FULL,
    faults.FULL_FOR_EVER,
    faults.EIO_ONCE,
    faults.EIO_FOR_EVER,
    faults.INTERRUPTED_AFTER,
)


def single_faults(setup: Setup) -> Iterator[Case]:
    """Yield a case for each fault and each company at each call of each scenario."""
    for bench in _benches(setup):
        for at, kind in bench.cases((*FAULTS, *COMPANY)):
            label = f"{bench.scenario.name}, {kind} {at}"
            if setup.wants(label):
                findings, told = bench.run(at, kind)
                yield Case(label, len(told.ledger.answers), findings)


def double_faults(setup: Setup) -> Iterator[Case]:
    """Yield a case for each death, and each fault at each call of the recovery from it."""
    for bench in _benches(setup):
        name = bench.scenario.name

        def wants(what: str, name: str = name) -> bool:
            return setup.wants(f"{name}, {what}")

        for what, findings, told in bench.run_twice(TWICE, wants=wants):
            yield Case(f"{name}, {what}", len(told.ledger.answers), findings)


def _benches(setup: Setup) -> Iterator[Bench]:
    for scenario in SCENARIOS:
        if setup.only is None or setup.only.startswith(f"{scenario.name}, "):
            with tempfile.TemporaryDirectory(dir=setup.folder) as place:
                yield Bench(place, scenario)


# A safeguard, the scenario in which it is taken out, the faults that strike then, what is found.
SAFEGUARDS: tuple[tuple[Callable[[], None], str, tuple[str, ...], str], ...] = (
    (mutants.without_healing, "append after a torn line", (), LOST),
    (mutants.without_setting_aside, "append after a torn line", (), LOST),
    (mutants.without_taking_back, "batch", (faults.SHORT_THEN_FULL,), LOST),
    (mutants.without_lock, "record", (faults.WRITER,), DOUBLED),
    (mutants.without_looking_at_the_name, "record", (faults.COMPACTOR,), LOST),
    (mutants.without_looking_for_the_id, "retry", (), DOUBLED),
    (mutants.without_long_ids, "a long name", (), LOST),
    (mutants.without_the_delta, "compaction to the trash", (faults.WRITER,), LOST),
    (mutants.without_trash, "compaction to the trash", (), LOST),
    (mutants.without_trash, "compaction that sums up", (), LOST),
    (
        mutants.with_the_trash_taken_back_by_an_interrupt,
        "compaction to the trash",
        (faults.INTERRUPTED_AFTER,),
        LOST,
    ),
    (mutants.without_notes, "compaction to the trash", (), OTHER),
    (mutants.without_memory_of_the_dropped, "compaction to the trash", (), DOUBLED),
    (mutants.without_tombstones, "compaction of imported turns", (), OTHER),
    (mutants.without_tombstones, "delete imported turns", (), OTHER),
    (
        mutants.with_tombstones_too_late,
        "compaction of imported turns",
        (faults.KILLED_BEFORE,),
        OTHER,
    ),
    (
        mutants.without_scrubbing_the_trash,
        "scrub in the log, the trash and the quarantine",
        (),
        OTHER,
    ),
    (
        mutants.without_scrubbing_the_quarantine,
        "scrub in the log, the trash and the quarantine",
        (),
        OTHER,
    ),
    (
        mutants.without_memory_of_the_last_seq,
        "compaction that drops everything",
        (faults.KILLED_BEFORE,),  # the process that lives on knows it
        DOUBLED,
    ),
    (mutants.without_trash, "replace all", (), LOST),
    (mutants.without_notes, "replace all", (), OTHER),
    (mutants.without_the_delta, "replace some", (faults.WRITER,), LOST),
    (
        mutants.with_replacements_recorded_afterwards,
        "replace some",
        (faults.KILLED_BEFORE,),
        OTHER,
    ),
    (mutants.without_memory_of_the_dropped, "remove here and there", (), DOUBLED),
    (mutants.without_tombstones, "remove imported turns", (), OTHER),
    (
        mutants.without_memory_of_the_last_seq,
        "remove the only turn",
        (faults.KILLED_BEFORE,),
        DOUBLED,
    ),
    (mutants.without_trash_of_deleted_logs, "delete", (), LOST),
    (mutants.without_memory_of_the_deleted, "begin a deleted log anew", (), DOUBLED),
    (
        mutants.with_the_trash_emptied_first,
        "restore what a compaction took",
        (faults.KILLED_BEFORE,),
        LOST,
    ),
    (
        mutants.with_turns_restored_twice,
        "restore what a compaction took",
        (faults.EIO_ONCE,),
        DOUBLED,
    ),
    (mutants.with_all_of_the_trash_purged, "purge", (), LOST),
    (mutants.without_setting_aside, "repair a damaged line", (), LOST),
    (mutants.with_states_written_in_place, "update a state", (faults.KILLED_WITHIN,), OTHER),
    (mutants.with_states_written_in_place, "update a state", (faults.READER_WITHIN,), OTHER),
    (mutants.without_lock_of_states, "update a state", (faults.WRITER,), LOST),
    (mutants.without_setting_aside, "clear a damaged state", (), LOST),
    (mutants.with_the_plain_log_gone_first, "compress", (faults.KILLED_BEFORE,), LOST),
    (mutants.without_a_second_look_at_the_log, "compress", (faults.WRITER,), LOST),
    (mutants.with_the_compressed_log_gone_first, "uncompress", (faults.KILLED_BEFORE,), LOST),
    (mutants.without_the_damaged_file, "salvage", (), LOST),
    (
        mutants.with_short_writes_believed,
        "record behind half a compressed batch",
        (faults.SHORT,),
        LOST,
    ),
)


def _control(mutant: Callable[[], None], name: str, kinds: tuple[str, ...]) -> Control:
    def cases(setup: Setup) -> Iterator[Case]:
        bench = Bench(setup.folder, BY_NAME[name])
        for at, kind in [(0, ""), *bench.cases(kinds)]:
            findings, told = bench.run(at, kind, mutant)
            yield Case(f"{name}, {kind} {at}", len(told.ledger.answers), findings)

    return Control(f"{mutant.__name__.replace('_', ' ')}: {name}", cases)


TRIALS = (
    Trial(
        "one fault",
        "whichever call the crash or the full disk hits, who retries is made whole",
        "faults",
        single_faults,
        goal=None,
        short=None,
        controls=tuple(_control(*each[:3]) for each in SAFEGUARDS),
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
