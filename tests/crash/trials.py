"""All trials of the crash laboratory, in the order in which a campaign carries them out."""

from __future__ import annotations

import trial_command_line
import trial_device
import trial_faults
import trial_fuzz
import trial_kills
import trial_load
import trial_model
import trial_power
import trial_processes
import trial_shutdown
from lab import Trial

TRIALS: tuple[Trial, ...] = (
    *trial_faults.TRIALS,
    *trial_kills.TRIALS,
    *trial_load.TRIALS,
    *trial_fuzz.TRIALS,
    *trial_processes.TRIALS,
    *trial_model.TRIALS,
    *trial_power.TRIALS,
    *trial_shutdown.TRIALS,
    *trial_command_line.TRIALS,
    *trial_device.TRIALS,
)
