"""Short forms: forks in calls, no descriptors, any text as a name, and walks against a model."""

from __future__ import annotations

import pytest
import trial_model
import trial_processes
from lab import Control, Setup, Trial

TRIALS = (*trial_processes.TRIALS, *trial_model.TRIALS)


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_nothing_is_lost(trial: Trial, tmp_path):
    """Servers fork, run out of files, take ids from strangers, and do all things in any order."""
    cases = list(trial.cases(Setup(str(tmp_path), 1, trial.short)))
    assert sum(case.count for case in cases) == trial.short
    assert not [str(case.findings) for case in cases if case.findings]


@pytest.mark.parametrize(
    "control",
    [control for trial in TRIALS for control in trial.controls],
    ids=lambda control: control.name,
)
def test_without_a_safeguard_it_is_noticed(control: Control, tmp_path):
    """A trial that can find nothing proves nothing."""
    for case in control.cases(Setup(str(tmp_path), 1, control.limit)):
        if case.findings:
            return
    pytest.fail("nothing was found")
