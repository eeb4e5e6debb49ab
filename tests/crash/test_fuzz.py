"""The fuzzing campaign's short form: some thousand distorted files, and each control."""

from __future__ import annotations

import pytest
from lab import Control, Setup, Trial
from trial_fuzz import TRIALS


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_damage_is_survived_and_told(trial: Trial, tmp_path):
    """Disks rot, power goes, people edit files: what is whole is read, and nothing is made up."""
    lacks = trial.missing()
    if lacks is not None:
        pytest.skip(lacks)
    cases = list(trial.cases(Setup(str(tmp_path), 1, trial.short)))
    assert sum(case.count for case in cases) == trial.short
    assert not [str(case.findings) for case in cases if case.findings]


@pytest.mark.parametrize(
    "control",
    [control for trial in TRIALS for control in trial.controls],
    ids=lambda control: control.name,
)
def test_without_a_safeguard_the_fuzzing_finds_it(control: Control, tmp_path):
    """A campaign that can find nothing proves nothing."""
    tried = 0
    for case in control.cases(Setup(str(tmp_path), 1, control.limit)):
        tried += case.count
        if case.findings:
            return
    pytest.fail(f"nothing was found in {tried} cases")
