"""Runs a bench, a program of its own that takes disks away, and hands its cases on."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator

from lab import Case, Setup
from ledger import Findings

_PATIENCE_SECONDS = 20


def cases_of(
    program: str, setup: Setup, kind: str, notes: dict[str, float], *, mutant: str | None = None
) -> Iterator[Case]:
    """Yield what the bench *program* prints of the file system *kind*; add to *notes*.

    What a failing case needs to be tried again is kept beside ``setup.folder``.
    """
    task = {
        "kind": kind,
        "folder": setup.folder,
        "keep": os.path.dirname(setup.folder) if mutant is None else None,
        "seed": setup.seed,
        "cases": setup.cases,
        "only": setup.only,
        "mutant": mutant,
    }
    path = os.path.join(os.path.dirname(__file__), program)
    with subprocess.Popen(
        [sys.executable, path, json.dumps(task)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as bench:
        assert bench.stdout is not None
        try:
            for line in bench.stdout:
                told = json.loads(line)
                if "notes" in told:
                    for what, amount in told["notes"].items():
                        notes[what] = notes.get(what, 0) + amount
                else:
                    findings = Findings()
                    findings.found.update(told["findings"])
                    yield Case(told["label"], told["answered"], findings)
            code = bench.wait()
            if code:
                raise ChildProcessError(f"{program} ended with {code}")
        finally:
            # In the middle of something: its mounts and its loop device end with it.
            bench.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                bench.wait(_PATIENCE_SECONDS)
            bench.kill()
