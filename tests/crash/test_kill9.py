"""kill -9 for everybody at work on a conversation, again and again, in real processes.

A failure says its seed: run it again with CONVMEM_SEED. CONVMEM_KILL_CYCLES sets how many.
"""

from __future__ import annotations

import os
import random

import pytest
from killing import WRITERS, Killing
from ledger import DOUBLED, LOST, REORDERED

CYCLES = int(os.environ.get("CONVMEM_KILL_CYCLES", "40"))
SEED = int(os.environ.get("CONVMEM_SEED", str(random.SystemRandom().randrange(10**6))))


def test_after_kill_9_every_answered_turn_is_there_once_and_every_retry_is_stored_once(tmp_path):
    """Deploys, out-of-memory killers and impatient operators do not let anybody finish."""
    with Killing(str(tmp_path), SEED) as killing:
        for _ in range(CYCLES):
            killing.cycle()
    print(
        f"seed {SEED}: {killing.cycles} cycles, {killing.answered} turns answered,"
        f" {killing.torn_tails} torn tails, {killing.compactions} compactions,"
        f" {killing.seen} turns followed"
    )
    assert not killing.findings, str(killing.findings)
    assert killing.answered > CYCLES


@pytest.mark.parametrize(
    ("mutant", "roles", "retries"),
    [
        ("without_lock", WRITERS, True),
        ("without_the_delta", (*WRITERS, "compactor"), True),
        # This process would heal what it is not to heal.
        ("without_healing", ("single", "tearer"), False),
    ],
)
def test_kill_9_finds_a_safeguard_taken_out(mutant, roles, retries, tmp_path):
    """What cannot fail proves nothing."""
    with Killing(
        str(tmp_path),
        SEED,
        roles=roles,
        mutant=mutant,
        retries=retries,
        lives_seconds=(0.05, 0.3),  # so that compactions come to their end on a busy machine too
    ) as killing:
        for _ in range(50):
            killing.cycle()
            if any(killing.findings.count(kind) for kind in (LOST, DOUBLED, REORDERED)):
                return
    pytest.fail(f"nothing of note in {killing.cycles} cycles, seed {SEED}: {killing.findings}")
