"""The crash tests at length: python tests/crash/campaign.py --kill-cycles 1000 --seed 7

Prints what was tried, how many turns were answered meanwhile, and how many of them were lost,
doubled, reordered or halved. The exit code is 1 if there were any.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Iterator

from faults import (
    COMPANY,
    EIO_FOR_EVER,
    EIO_ONCE,
    FAULTS,
    FULL_FOR_EVER,
    KILLED_BEFORE,
    KILLED_WITHIN,
    SCENARIOS,
    SHORT_THEN_FULL,
    Bench,
)
from killing import Killing
from ledger import KINDS, Findings
from load import round_of_load
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from upkeep import UpkeepKilling

_TWICE = (KILLED_BEFORE, KILLED_WITHIN, SHORT_THEN_FULL, EIO_ONCE, EIO_FOR_EVER, FULL_FOR_EVER)
# Processes, threads of each, turns of each thread, durability.
_SHAPES = ((6, 2, 800, "none"), (4, 4, 150, "always"), (8, 1, 400, "interval"))

Case = tuple[int, Findings]  # answered turns, and what was wrong


class _Tally:
    """One row of the table."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cases = self.answered = 0
        self.findings = Findings()
        self.note = ""


def single_faults(folder: str) -> Iterator[Case]:
    """Yield a case for each fault and each company at each call of each scenario."""
    for scenario in SCENARIOS:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            bench = Bench(place, scenario)
            for at, kind in bench.cases((*FAULTS, *COMPANY)):
                findings, outcome = bench.run(at, kind)
                where = Findings()
                where.extend(findings, f"{scenario.name}, {kind} {at}: ")
                yield len(outcome.answers), where


def double_faults(folder: str) -> Iterator[Case]:
    """Yield a case for each death, and each fault at each call of the recovery from it."""
    for scenario in SCENARIOS:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            for what, findings, outcome in Bench(place, scenario).run_twice(_TWICE):
                where = Findings()
                where.extend(findings, f"{scenario.name}, {what}: ")
                yield len(outcome.answers), where


def kill_cycles(folder: str, cycles: int, seed: int) -> Iterator[Case]:
    """Yield a case for each cycle."""
    with Killing(folder, seed) as killing:
        for _ in range(cycles):
            before = killing.answered
            findings = killing.cycle()
            where = Findings()
            where.extend(findings, f"seed {seed}, cycle {killing.cycles - 1}: ")
            yield killing.answered - before, where


def upkeep_cycles(folder: str, cycles: int, seed: int) -> Iterator[Case]:
    """Yield a case for each cycle of those who tidy up, delete, restore and repair."""
    with UpkeepKilling(folder, seed) as killing:
        for _ in range(cycles):
            before = killing.answered
            findings = killing.cycle()
            where = Findings()
            where.extend(findings, f"seed {seed}, cycle {killing.cycles - 1}: ")
            yield killing.answered - before, where


def concurrency_rounds(folder: str, rounds: int, seed: int, stalls: list[float]) -> Iterator[Case]:
    """Yield a case for each round; put each one's longest stall among *stalls*."""
    for nth in range(rounds):
        processes, threads, turns, durability = _SHAPES[nth % len(_SHAPES)]
        with tempfile.TemporaryDirectory(dir=folder) as place:
            result = round_of_load(
                place,
                processes=processes,
                threads=threads,
                turns=turns,
                durability=durability,
                seed=seed + nth,
            )
        stalls.append(result.longest_stall_seconds)
        where = Findings()
        where.extend(result.findings, f"round {nth}: ")
        yield result.answered, where


def main() -> int:
    """Run what was asked for; return the exit code."""
    options = _options()
    console = Console()
    console.print(f"seed {options.seed}")
    stalls: list[float] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        plan: list[tuple[str, int | None, Iterator[Case]]] = []
        if not options.no_faults:
            plan.append(("one fault", None, single_faults(folder)))
            plan.append(("death, then a fault", None, double_faults(folder)))
        if options.kill_cycles:
            cycles = kill_cycles(folder, options.kill_cycles, options.seed)
            plan.append(("kill -9", options.kill_cycles, cycles))
        if options.upkeep_cycles:
            cycles = upkeep_cycles(folder, options.upkeep_cycles, options.seed)
            plan.append(("kill -9 of upkeep", options.upkeep_cycles, cycles))
        if options.concurrency_rounds:
            rounds = concurrency_rounds(folder, options.concurrency_rounds, options.seed, stalls)
            plan.append(("many at once", options.concurrency_rounds, rounds))
        tallies = _carry_out(plan, console)
    console.print(_table(tallies))
    if stalls:
        console.print(f"longest stall of a writer: {max(stalls) * 1000:.0f} ms")
    for tally in tallies:
        if tally.findings:
            console.print(f"{tally.name}:\n{tally.findings}", markup=False, highlight=False)
    return int(any(tally.findings for tally in tallies))


def _carry_out(
    plan: list[tuple[str, int | None, Iterator[Case]]], console: Console
) -> list[_Tally]:
    tallies = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        for name, total, cases in plan:
            tally = _Tally(name)
            tallies.append(tally)
            task = progress.add_task(name, total=total)
            for answered, findings in cases:
                tally.cases += 1
                tally.answered += answered
                tally.findings.extend(findings)
                progress.advance(task)
            progress.update(task, total=tally.cases)
    return tallies


def _table(tallies: list[_Tally]) -> Table:
    table = Table("test", "cases", "answered turns", *KINDS)
    for tally in tallies:
        figures = [tally.cases, tally.answered, *(tally.findings.count(kind) for kind in KINDS)]
        table.add_row(tally.name, *(f"{figure:,}" for figure in figures))
    return table


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kill-cycles", type=int, default=1000, metavar="N")
    parser.add_argument("--upkeep-cycles", type=int, default=300, metavar="N")
    parser.add_argument("--concurrency-rounds", type=int, default=20, metavar="N")
    parser.add_argument("--no-faults", action="store_true", help="leave the single faults out")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the archives stand")
    options = parser.parse_args()
    options.folder = os.path.realpath(options.folder)
    return options


if __name__ == "__main__":
    sys.exit(main())
