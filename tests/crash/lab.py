"""What a trial of the crash laboratory is: what it promises, its cases, and its controls.

A trial yields cases; each says how many turns were answered in it and what was not as promised.
Its controls are the same with one safeguard taken out of convmem: they must find something, or
the trial proves nothing. ``campaign.py`` carries trials out; the test_*.py here are short forms.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ledger import Findings


@dataclass(frozen=True, slots=True)
class Case:
    """One case, or *count* alike, and what came of it."""

    label: str  # with the seed, it says which case this was
    answered: int
    findings: Findings
    count: int = 1


@dataclass(frozen=True, slots=True)
class Setup:
    """What a trial is given.

    Attributes:
        folder: An empty folder of its own, on a real disk. Whoever gave it removes it.
        seed: Every choice follows from it.
        cases: How many cases to try, ``None`` for all there are.
        only: If given, the label of the one case that is wanted again.
    """

    folder: str
    seed: int
    cases: int | None = None
    only: str | None = None

    def wants(self, label: str) -> bool:
        """Whether the case of this label is to be tried."""
        return self.only is None or self.only == label


@dataclass(frozen=True, slots=True)
class Control:
    """The trial with a safeguard taken out: *cases* must have a finding among them."""

    name: str
    cases: Callable[[Setup], Iterator[Case]]
    limit: int = 200  # cases without a finding after which it counts as not caught


def nothing_missing() -> str | None:
    """Say that any machine can run this."""
    return None


@dataclass(frozen=True, slots=True)
class Trial:
    """One row of the campaign's table.

    Attributes:
        name: As in the table, and for ``--only``.
        promise: What must hold, in one line.
        unit: What one case is, in the plural.
        cases: Yields them; stops by itself after ``Setup.cases``.
        goal: How many a full campaign tries; ``None`` where all there are is a known number.
        short: How many the suite's short form tries; ``None`` as above.
        controls: What must be caught.
        missing: Says what this machine lacks to run it, or ``None``.
        notes: Figures worth a line under the table, filled while the cases run.
    """

    name: str
    promise: str
    unit: str
    cases: Callable[[Setup], Iterator[Case]]
    goal: int | None
    short: int | None
    controls: tuple[Control, ...] = ()
    missing: Callable[[], str | None] = nothing_missing
    notes: dict[str, float] = field(default_factory=dict)


def may_not_mount() -> str | None:
    """Say so where we may not mount: not root, or root of a container without the right to."""
    if os.geteuid() != 0:
        return "not root"
    try:
        tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return "unshare is not installed"
    return None if tried.returncode == 0 else "may not mount, though root"
