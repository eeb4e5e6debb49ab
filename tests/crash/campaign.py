"""The crash laboratory with one command: python tests/crash/campaign.py

Carries out every trial at length and prints what was tried, how many turns were answered
meanwhile, and how many of them were lost, doubled, reordered or halved. Then it takes the
safeguards out of convmem, one at a time, and sees whether the trials notice.

The exit code is 0 if nothing was wrong, every control was caught, and something could be run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field

from lab import Control, Setup, Trial
from ledger import KINDS, Findings
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from trials import TRIALS


@dataclass(slots=True)
class Tally:
    """What came of one trial."""

    trial: Trial
    cases: int = 0
    answered: int = 0
    seconds: float = 0.0
    findings: Findings = field(default_factory=Findings)
    skipped: str | None = None
    uncaught: list[str] = field(default_factory=list)
    caught: int = 0
    broken: str | None = None  # why it was not carried out to its end

    @property
    def is_good(self) -> bool:
        return not self.findings and not self.uncaught and self.broken is None

    def as_json(self) -> dict[str, object]:
        return {
            "test": self.trial.name,
            "promise": self.trial.promise,
            "unit": self.trial.unit,
            "skipped": self.skipped,
            "broken": self.broken,
            "cases": self.cases,
            "answered": self.answered,
            "seconds": round(self.seconds, 1),
            **{kind: self.findings.count(kind) for kind in KINDS},
            "controls_caught": self.caught,
            "controls_not_caught": self.uncaught,
            "notes": self.trial.notes,
        }


def main() -> int:
    """Run what was asked for; return the exit code."""
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 140)
    if options.list:
        for trial in TRIALS:
            goal = "all there are" if trial.goal is None else f"{trial.goal:,}"
            print(f"{trial.name}: {trial.promise} ({goal} {trial.unit})")
        return 0
    chosen = [trial for trial in TRIALS if not options.only or trial.name in options.only]
    console.print(f"seed {options.seed}")
    tallies = _carry_out(chosen, options, console)
    console.print(_table(tallies))
    _explain(tallies, options.seed, console)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(
                {"seed": options.seed, "tests": [t.as_json() for t in tallies]}, file, indent=1
            )
            file.write("\n")
    if all(tally.skipped is not None for tally in tallies):
        console.print("this machine could run none of them: that shows nothing")
        return 1
    if options.case is not None and not any(tally.cases for tally in tallies):
        console.print(f"no case is called {options.case!r}: that shows nothing", markup=False)
        return 1
    return int(not all(tally.is_good for tally in tallies))


def _carry_out(chosen: list[Trial], options: argparse.Namespace, console: Console) -> list[Tally]:
    tallies = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        for trial in chosen:
            tally = Tally(trial, skipped=trial.missing())
            tallies.append(tally)
            if tally.skipped is not None:
                console.print(f"{trial.name}: skipped: {tally.skipped}", markup=False)
                continue
            try:
                _try(trial, tally, options, progress)
                if not options.no_controls and options.case is None:
                    for control in trial.controls:
                        _take_out(control, tally, options, progress)
            except KeyboardInterrupt:
                tally.broken = "interrupted"
                break
            except Exception:  # hours of other trials must not go with this one
                tally.broken = traceback.format_exc()
            if not console.is_terminal:  # where no bar is shown, a long run must say that it lives
                console.print(
                    f"{trial.name}: {tally.cases:,} {trial.unit}, {tally.seconds:,.0f} s,"
                    f" {'as promised' if tally.is_good else 'NOT AS PROMISED'}",
                    markup=False,
                    highlight=False,
                )
    return tallies


def _try(trial: Trial, tally: Tally, options: argparse.Namespace, progress: Progress) -> None:
    wanted = None if trial.goal is None else max(1, round(trial.goal * options.scale))
    task = progress.add_task(escape(trial.name), total=wanted)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for case in trial.cases(Setup(folder, options.seed, wanted, options.case)):
            tally.cases += case.count
            tally.answered += case.answered
            tally.findings.extend(case.findings, f"case {case.label!r}: ")
            progress.advance(task, case.count)
    tally.seconds = time.perf_counter() - began
    progress.update(task, total=tally.cases, completed=tally.cases)


def _take_out(
    control: Control, tally: Tally, options: argparse.Namespace, progress: Progress
) -> None:
    task = progress.add_task(escape(f"  {control.name}"), total=control.limit)
    tried = 0
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for case in control.cases(Setup(folder, options.seed, control.limit)):
            tried += case.count
            progress.advance(task, case.count)
            if case.findings:
                tally.caught += 1
                break
            if tried >= control.limit:
                tally.uncaught.append(control.name)
                break
        else:
            tally.uncaught.append(control.name)
    progress.remove_task(task)


def _table(tallies: list[Tally]) -> Table:
    table = Table("test", "cases", "answered turns", *KINDS, "controls caught", "seconds")
    for column in table.columns[1:]:
        column.justify = "right"
    for tally in tallies:
        name = escape(tally.trial.name)
        if tally.skipped is not None:
            table.add_row(name, escape(f"skipped: {tally.skipped}"))
            continue
        counts = [tally.findings.count(kind) for kind in KINDS]
        controls = tally.caught + len(tally.uncaught)
        table.add_row(
            name,
            f"{tally.cases:,} {tally.trial.unit}",
            f"{tally.answered:,}",
            *(f"{count:,}" for count in counts),
            f"{tally.caught} of {controls}" if controls else "",
            f"{tally.seconds:,.0f}",
        )
    return table


def _explain(tallies: list[Tally], seed: int, console: Console) -> None:
    for tally in tallies:
        for what, value in tally.trial.notes.items():
            console.print(f"{tally.trial.name}: {what}: {value:,.0f}", markup=False)
        if tally.findings:
            console.print(f"{tally.trial.name}:\n{tally.findings}", markup=False, highlight=False)
            console.print(
                f"again: campaign.py --only {tally.trial.name!r} --seed {seed} --case LABEL",
                markup=False,
                highlight=False,
            )
        if tally.broken is not None:
            console.print(
                f"{tally.trial.name}: not carried out to its end: {tally.broken}",
                markup=False,
                highlight=False,
            )
        for name in tally.uncaught:
            console.print(f"{tally.trial.name}: not caught: {name}", markup=False)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="say what there is, and end")
    parser.add_argument("--only", action="append", metavar="NAME", help="this trial (repeatable)")
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        metavar="X",
        help="so much of each goal that is a number (default: 1)",
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--case", metavar="LABEL", help="only the case of this label, again")
    parser.add_argument("--no-controls", action="store_true", help="leave the controls out")
    parser.add_argument("--json", metavar="FILE", help="write the table here too")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the archives stand")
    options = parser.parse_args()
    options.folder = os.path.realpath(options.folder)
    if options.scale <= 0:
        parser.error("--scale must be above 0")
    if not os.path.isdir(options.folder):
        parser.error(f"there is no folder {options.folder}")
    if options.json:
        try:
            # Now: after hours it would be too late to hear of it.
            with open(options.json, "a", encoding="utf-8"):
                pass
        except OSError as error:
            parser.error(f"cannot write {options.json}: {error.strerror}")
    unknown = set(options.only or ()) - {trial.name for trial in TRIALS}
    if unknown:
        parser.error(f"no such trial: {', '.join(sorted(unknown))}; see --list")
    return options


if __name__ == "__main__":
    sys.exit(main())
