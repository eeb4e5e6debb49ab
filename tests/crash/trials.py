"""All trials of the crash laboratory, in the order in which a campaign carries them out."""

from __future__ import annotations

import trial_faults
import trial_kills
import trial_load
from lab import Trial

TRIALS: tuple[Trial, ...] = (
    *trial_faults.TRIALS,
    *trial_kills.TRIALS,
    *trial_load.TRIALS,
)
