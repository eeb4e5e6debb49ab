"""Trials: everybody at work on a conversation is killed with kill -9, again and again."""

from __future__ import annotations

from collections.abc import Iterator

from killing import WRITERS, Killing
from lab import Case, Control, Setup, Trial
from upkeep import UpkeepKilling


def kills(setup: Setup) -> Iterator[Case]:
    """Yield a case for each time that writers, a compactor and a follower were killed."""
    with Killing(setup.folder, setup.seed) as killing:
        yield from _cycles(killing, setup)


def upkeep_kills(setup: Setup) -> Iterator[Case]:
    """Yield a case for each time that those who tidy up, delete, restore and repair were killed."""
    with UpkeepKilling(setup.folder, setup.seed) as killing:
        yield from _cycles(killing, setup)


def _cycles(killing: Killing, setup: Setup) -> Iterator[Case]:
    for number in range(setup.cases or 1):
        before = killing.answered
        findings = killing.cycle()
        yield Case(f"cycle {number}", killing.answered - before, findings)


def _control(mutant: str, roles: tuple[str, ...], retries: bool) -> Control:
    def cases(setup: Setup) -> Iterator[Case]:
        with Killing(
            setup.folder,
            setup.seed,
            roles=roles,
            mutant=mutant,
            retries=retries,
            lives_seconds=(0.05, 0.3),  # so that compactions come to their end on a busy machine
        ) as killing:
            yield from _cycles(killing, setup)

    return Control(mutant.replace("_", " "), cases)


TRIALS = (
    Trial(
        "kill -9",
        "after kill -9 of everybody, what was answered is there once, and retries store once",
        "cycles",
        kills,
        goal=10_000,
        short=60,
        controls=(
            _control("without_lock", WRITERS, True),
            _control("without_the_delta", (*WRITERS, "compactor"), True),
            _control("without_healing", ("single", "tearer"), False),
        ),
    ),
    Trial(
        "kill -9 of upkeep",
        "the same for those who compact, sum up, delete, restore, purge, compress and repair",
        "cycles",
        upkeep_kills,
        goal=1_000,
        short=40,
    ),
)
