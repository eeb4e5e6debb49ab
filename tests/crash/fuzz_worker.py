"""One process of a fuzzing campaign: every so manieth case of one target.

    fuzz_worker.py TARGET SEED FOLDER FIRST STEP CASES MUTANT

Reports to standard output, a JSON line a second or so: how many cases, how many turns were due in
them, and what was wrong with which case.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from random import Random
from typing import Any

import fuzz_files
import fuzz_logs
import fuzz_repair
import reader_mutants

_TARGETS: dict[str, Any] = {
    "readers": fuzz_logs.Readers,
    "bisection": fuzz_logs.Bisection,
    "searches": fuzz_logs.Searches,
    "looks": fuzz_logs.Looks,
    "follower": fuzz_logs.Follows,
    "repairs": fuzz_repair.Repairs,
    "appends": fuzz_repair.Appends,
    "compactions": fuzz_repair.Compactions,
    "compressed": fuzz_files.Cold,
    "states": fuzz_files.States,
    "dropped ids": fuzz_files.Dropped,
    "convmem.toml": fuzz_files.Toml,
    "text": fuzz_files.Text,
}
_REPORT_SECONDS = 0.5
_MOST_WRONG = 20


def main() -> None:
    """Do the cases."""
    target, seed, folder, first, step, cases, mutant = sys.argv[1:]
    if mutant:
        getattr(reader_mutants, mutant)()
    made = _TARGETS[target]
    bench = made(folder) if made.__init__ is not fuzz_logs.LogBench.__init__ else made()
    report: dict[str, Any] = {"cases": 0, "due": 0, "wrong": []}
    told = time.monotonic()
    wrong = 0
    for number in range(int(first), int(cases), int(step)):
        try:
            due, words = bench.case(Random(f"{seed} {target} {number}"))
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            due, words = 0, f"{error!r} at {where.name}:{where.lineno}"
        report["cases"] += 1
        report["due"] += due
        if words is not None and (wrong := wrong + 1) <= _MOST_WRONG:
            report["wrong"].append([number, words])
        if time.monotonic() - told > _REPORT_SECONDS:
            print(json.dumps(report), flush=True)
            told, report = time.monotonic(), {"cases": 0, "due": 0, "wrong": []}
    print(json.dumps(report), flush=True)
    bench.close()


if __name__ == "__main__":
    main()
