"""Trials: a million distorted files, read, followed, searched, repaired, compacted, restored.

Each target has worker processes of its own, as many as there are processors; every case follows
from the seed, the target and its number, so that any can be had again.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator

from fuzz_files import missing_for_cold
from lab import Case, Control, Setup, Trial, nothing_missing
from ledger import LOST, OTHER, Findings

_WORKER = os.path.join(os.path.dirname(__file__), "fuzz_worker.py")


def _cases_of(target: str, mutant: str = "") -> Callable[[Setup], Iterator[Case]]:
    """Return what yields the cases of a target, some hundreds together."""

    def cases(setup: Setup) -> Iterator[Case]:
        wanted = setup.cases or 1
        if setup.only is not None:
            yield from _run(setup, target, mutant, int(setup.only), 1, int(setup.only) + 1)
            return
        yield from _run(setup, target, mutant, 0, min(os.cpu_count() or 1, wanted), wanted)

    return cases


def _run(
    setup: Setup, target: str, mutant: str, first: int, step: int, cases: int
) -> Iterator[Case]:
    selector = selectors.DefaultSelector()
    workers = []
    for at in range(step):
        folder = os.path.join(setup.folder, f"{target}.{at}")
        os.makedirs(folder, exist_ok=True)
        words = [target, setup.seed, folder, first + at, step, cases, mutant]
        worker = subprocess.Popen(
            [sys.executable, _WORKER, *map(str, words)], stdout=subprocess.PIPE
        )
        workers.append(worker)
        selector.register(worker.stdout, selectors.EVENT_READ, worker)
    try:
        while selector.get_map():
            for key, _ in selector.select():
                line = key.fileobj.readline()
                if line:
                    yield _case(json.loads(line))
                    continue
                selector.unregister(key.fileobj)
                if key.data.wait():
                    findings = Findings()
                    findings.add(OTHER, f"a worker ended with {key.data.returncode}")
                    yield Case(target, 0, findings, 0)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            worker.stdout.close()
        selector.close()


def _case(report: dict) -> Case:
    findings = Findings()
    for number, words in report["wrong"]:
        lost = any(each in words for each in ("was not read", "is gone", "lost", "nowhere"))
        findings.add(LOST if lost else OTHER, f"{number}: {words}")
    label = str(report["wrong"][0][0]) if report["wrong"] else "all"
    return Case(label, report["due"], findings, report["cases"])


def _trial(
    target: str,
    promise: str,
    goal: int,
    short: int,
    *caught: tuple[str, str],
    missing: Callable[[], str | None] = nothing_missing,
) -> Trial:
    return Trial(
        f"fuzz {target}",
        promise,
        "cases",
        _cases_of(target),
        goal=goal,
        short=short,
        controls=tuple(
            Control(name, _cases_of(target, mutant), limit=2000) for name, mutant in caught
        ),
        missing=missing,
    )


TRIALS = (
    _trial(
        "readers",
        "all undamaged turns are read, once and in order, from either end; nothing else is",
        300_000,
        1000,
        ("seals are not looked at", "without_looking_at_seals"),
        ("a batch counts without its end", "with_half_batches"),
    ),
    _trial("bisection", "turns after a number are found by bisection in a damaged log", 60_000, 60),
    _trial(
        "searches", "an id is found if readers see its turn, alone and among many", 120_000, 300
    ),
    _trial("looks", "lists, counts and checks agree with what readers see", 80_000, 150),
    _trial(
        "follower",
        "damaged, cut, grown, replaced between two looks: what is whole is followed",
        100_000,
        300,
        ("it does not look whether its place is still there", "without_checking_the_place"),
    ),
    _trial(
        "repairs",
        "no byte is lost, nothing is made up, all is sound; a second repair changes nothing",
        50_000,
        150,
        ("what looks like JSON on a shared line is believed", "with_any_json_believed"),
        ("what is set aside is not kept", "without_quarantine"),
    ),
    _trial(
        "appends",
        "a turn recorded behind damage gets a new number, and all others stay",
        60_000,
        200,
        ("what stands behind the last good line is forgotten", "without_quarantine"),
    ),
    _trial(
        "compactions",
        "compacting a damaged log, and restoring from a damaged trash, keeps all",
        40_000,
        100,
        ("dropped turns are not kept", "without_trash"),
    ),
    _trial(
        "compressed",
        "whole parts of a damaged compressed log are read whole",
        40_000,
        150,
        missing=missing_for_cold,
    ),
    _trial("states", "a damaged state is told, never taken for another", 50_000, 200),
    _trial("dropped ids", "damaged memories of dropped turns hide no others", 30_000, 100),
    _trial("convmem.toml", "any settings are read, or refused in words", 30_000, 80),
    _trial("text", "any line of input is stored as it was given, or refused", 50_000, 500),
)
