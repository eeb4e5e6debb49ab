"""Trials: the real command line when system calls fail, disks are full, and nobody may or listens.

Each case is a process ``python -m convmem`` as users and cron start it, with its exit code, its
messages, its acknowledgements, and what is on the disk then and after the next call.
"""

from __future__ import annotations

import os
import queue
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TypeVar

import injection
import surroundings
from before_and_after import Archives
from commands import COMMANDS, READING, WRITING, Command
from injection import Fault
from lab import Case, Control, Setup, Trial
from ledger import OTHER, Findings
from surroundings import Trouble
from verdict import Judgement

_T = TypeVar("_T")

_AT_ONCE = 2 * (os.cpu_count() or 1)  # a process waits for the disk half of its time


def injected(
    setup: Setup,
    commands: Sequence[Command] = (*WRITING, *READING),
    mutant: str | None = None,
    calls: Sequence[str] = tuple(injection.ERRORS),
) -> Iterator[Case]:
    """Yield a case for each error, and for a kill, at each system call of each command."""
    with _places(setup.folder) as (archives, places):

        def list_faults(command: Command) -> list[Fault]:
            archives.after(command)
            with places.one() as place:
                found = injection.calls(command, archives, place, mutant)
            return [each for each in injection.faults(command, found) if each.call.name in calls]

        def strike(fault: Fault) -> Judgement | None:
            with places.one() as place:
                for _ in range(3):
                    judgement = injection.strike(fault, archives, place, mutant)
                    if judgement is not None:
                        return judgement
                    # Python opened more or fewer files of its own than before: look again.
                    for call in injection.calls(fault.command, archives, place, mutant):
                        if (call.name, call.own) == (fault.call.name, fault.call.own):
                            fault = replace(fault, call=call)
            return None

        with _pool() as pool:
            found = [fault for faults in pool.map(list_faults, commands) for fault in faults]
            chosen = _chosen(setup, found, lambda fault: fault.label)
            for fault, judgement in zip(chosen, pool.map(strike, chosen), strict=True):
                if judgement is None:
                    if fault.command.has_threads:
                        continue  # they shared a sync, and never got as far
                    findings = Findings()
                    findings.add(OTHER, "the fault met nothing, three times")
                    judgement = Judgement(findings, 0)
                yield Case(fault.label, judgement.answered, judgement.findings)


def troubled(
    setup: Setup,
    troubles: Callable[[], Iterable[Trouble]],
    commands: Sequence[Command] = (*WRITING, *READING),
    mutant: str | None = None,
) -> Iterator[Case]:
    """Yield a case for each command in each trouble."""
    pairs = [
        (trouble, command)
        for trouble in troubles()
        for command in commands
        if trouble.concerns(command)
    ]
    chosen = _chosen(setup, pairs, lambda pair: f"{pair[1].name}, {pair[0].name}")
    with _places(setup.folder) as (archives, places), _pool() as pool:
        for command in dict.fromkeys(command for _, command in chosen):
            archives.after(command)

        def suffer(pair: tuple[Trouble, Command]) -> Judgement:
            with places.one() as place:
                return surroundings.suffer(*pair, archives, place, mutant)

        for (trouble, command), judgement in zip(chosen, pool.map(suffer, chosen), strict=True):
            yield Case(f"{command.name}, {trouble.name}", judgement.answered, judgement.findings)


def _all_that_is_full(setup: Setup) -> Iterator[Case]:
    return troubled(setup, surroundings.full_disks)


def _all_that_is_denied(setup: Setup) -> Iterator[Case]:
    return troubled(setup, surroundings.denials)


def _all_streams(setup: Setup) -> Iterator[Case]:
    return troubled(setup, lambda: (*surroundings.streams(), *surroundings.few_descriptors()))


def _injected_control(mutant: str, name: str, calls: tuple[str, ...]) -> Control:
    def cases(setup: Setup) -> Iterator[Case]:
        return injected(replace(setup, cases=None), (COMMANDS[name],), mutant, calls)

    return Control(mutant.replace("_", " "), cases)


def _full_control(mutant: str, name: str) -> Control:
    def cases(setup: Setup) -> Iterator[Case]:
        return troubled(
            replace(setup, cases=None), surroundings.full_disks, (COMMANDS[name],), mutant
        )

    return Control(mutant.replace("_", " "), cases)


class _Places:
    """Folders to work in, one for each who works at the same time."""

    def __init__(self, folder: str) -> None:
        self._free: queue.SimpleQueue[str] = queue.SimpleQueue()
        for number in range(_AT_ONCE):
            place = os.path.join(folder, f"place{number}")
            os.mkdir(place)
            self._free.put(place)

    @contextmanager
    def one(self) -> Iterator[str]:
        """Lend a folder."""
        place = self._free.get()
        try:
            yield place
        finally:
            self._free.put(place)


@contextmanager
def _places(folder: str) -> Iterator[tuple[Archives, _Places]]:
    with tempfile.TemporaryDirectory(dir=folder) as inner:
        inner = os.path.realpath(inner)
        yield Archives(inner), _Places(inner)


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    with ExitStack() as stack:
        pool = ThreadPoolExecutor(_AT_ONCE)
        stack.callback(pool.shutdown, cancel_futures=True)
        yield pool


def _chosen(setup: Setup, found: list[_T], label: Callable[[_T], str]) -> list[_T]:
    if setup.only is not None:
        return [each for each in found if label(each) == setup.only]
    if setup.cases is None or setup.cases >= len(found):
        return found
    return random.Random(setup.seed).sample(found, setup.cases)


TRIALS = (
    Trial(
        "failing system calls at the command line",
        "whichever call fails, the exit code and the message say so, and no answer is lost",
        "processes",
        injected,
        goal=None,
        short=60,
        controls=(
            _injected_control("without_healing", "record after a torn line", ("openat",)),
            _injected_control("with_the_answer_before_the_write", "record", ("write",)),
            _injected_control("with_the_answer_before_the_sync", "record", ("fdatasync",)),
        ),
        missing=injection.missing,
    ),
    Trial(
        "a full disk at the command line",
        "a full disk or a size limit changes nothing, and with room it goes on by itself",
        "processes",
        _all_that_is_full,
        goal=None,
        short=20,
        controls=(
            _full_control("without_taking_back", "record"),
            _full_control("with_the_answer_before_the_write", "record --jsonl"),
        ),
        missing=surroundings.missing_disks,
    ),
    Trial(
        "no permission at the command line",
        "what may not be read or written is named, and nothing is half done",
        "processes",
        _all_that_is_denied,
        goal=None,
        short=20,
        missing=surroundings.missing_denials,
    ),
    Trial(
        "nobody listens at the command line",
        "closed and full outputs and too few descriptors cost no turn",
        "processes",
        _all_streams,
        goal=None,
        short=20,
    ),
)
