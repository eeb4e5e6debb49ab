"""kill -9 for those who tidy up, delete, restore, purge and repair, while others write.

A failure says its seed: run it again with CONVMEM_SEED. CONVMEM_UPKEEP_CYCLES sets how many.
"""

from __future__ import annotations

import os
import random

import pytest
from ledger import DOUBLED, LOST, REORDERED
from upkeep import UPKEEP, UpkeepKilling

CYCLES = int(os.environ.get("CONVMEM_UPKEEP_CYCLES", "24"))
SEED = int(os.environ.get("CONVMEM_SEED", str(random.SystemRandom().randrange(10**6))))


def test_whoever_is_killed_at_upkeep_every_answered_turn_is_there_once_and_comes_back(tmp_path):
    """Nightly runs are what the out-of-memory killer meets; what they move may not fall down."""
    with UpkeepKilling(str(tmp_path), SEED) as killing:
        for _ in range(CYCLES):
            killing.cycle()
    print(
        f"seed {SEED}: {killing.cycles} cycles, {killing.answered} turns answered,"
        f" {killing.restored} restored at the end; {killing.done}"
    )
    assert not killing.findings, str(killing.findings)
    assert killing.answered > CYCLES
    # A restoration goes through everything: on a busy machine none of a few may live to its end.
    assert all(killing.done[role] for role in UPKEEP if role != "restorer")


@pytest.mark.parametrize(
    ("mutant", "roles"),
    [
        ("without_trash", ("single", "tidier")),
        ("without_trash_of_deleted_logs", ("single", "deleter")),
        ("with_the_trash_emptied_first", ("single", "tidier", "restorer")),
        ("without_memory_of_the_deleted", ("single", "deleter", "restorer")),
        ("with_turns_restored_twice", ("single", "tidier", "restorer")),
    ],
)
def test_kill_9_finds_a_safeguard_of_upkeep_taken_out(mutant, roles, tmp_path):
    """What cannot fail proves nothing."""
    with UpkeepKilling(
        str(tmp_path), SEED, roles=roles, mutant=mutant, lives_seconds=(0.03, 0.2)
    ) as killing:
        for _ in range(60):
            killing.cycle()
            if any(killing.findings.count(kind) for kind in (LOST, DOUBLED, REORDERED)):
                return
    pytest.fail(f"nothing of note in {killing.cycles} cycles, seed {SEED}: {killing.findings}")
