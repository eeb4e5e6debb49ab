"""Crashes a file system under convmem: it loses all that it had not written, as the system would.

A program of its own, started by ``trial_shutdown``, so that its mounts are nobody else's and end
with it. Takes its task as JSON in its argument; prints a JSON object a line for each crash.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import shutil
import signal
import struct
import sys
import threading
import time
from typing import Any

import mutants
from blocks_mount import FLUSH_ALL, FLUSH_JOURNAL, FLUSH_NOTHING, Loop, alone, kernel, make_image
from kill_worker import content_of
from ledger import LOST, OTHER, Findings, read_files
from power_judge import Judge
from power_work import LAZY_SECONDS, LAZY_TURNS, Company, Plan, Story, sync_all

from convmem.log import durability

_PR_SET_PDEATHSIG = 1
# Who is at work, by what an answer promises.
PLANS = (
    Plan("always", ("single", "batch", "stater", "tidier")),
    Plan("interval", ("lazy",)),
    Plan("none", ("careless",)),
    Plan("interval beside always", ("lazy", "single")),
    Plan("none beside always", ("careless", "batch")),
)
_LIVES_SECONDS = (0.0, 0.15)
# They are to be at work still when the system crashes.
_TIMES = 60


class Pulse:
    """How long the machine let a process wait at most, as that process tells it until it dies.

    It shares four numbers: when its heart beat last, the longest pause between two beats, when
    the sync began that is under way, and how long the longest took.
    """

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, mmap.PAGESIZE)

    def reset(self) -> None:
        self._shared[:32] = bytes(32)

    def beat(self) -> None:
        """Beat every millisecond, for ever; in a thread of the process at work."""
        last = time.monotonic_ns()
        longest = 0
        while True:
            time.sleep(0.001)
            now = time.monotonic_ns()
            longest, last = max(longest, now - last), now
            struct.pack_into("<QQ", self._shared, 0, last, longest)

    def measure(self, fd: int) -> None:
        """Sync, and say how long it took."""
        began = time.monotonic_ns()
        struct.pack_into("<Q", self._shared, 16, began)
        os.fdatasync(fd)
        longest = struct.unpack_from("<Q", self._shared, 24)[0]
        took = time.monotonic_ns() - began
        struct.pack_into("<QQ", self._shared, 16, 0, max(longest, took))

    def longest_wait_seconds(self, end: int) -> float:
        """Return what a turn may have waited beyond its interval until *end*: for the machine to
        let the process go on, and for a sync that was under way and the one after it."""
        last, longest, began, slowest = struct.unpack_from("<4Q", self._shared)
        if not last:
            return float("inf")  # its heart never beat: of such a process nothing can be said
        pause = max(longest, end - last)
        sync = max(slowest, end - began if began else 0)
        return (2 * pause + 2 * sync) / 1e9


class Bench:
    """A file system that crashes again and again."""

    def __init__(self, folder: str, kind: str, seed: int) -> None:
        self.seed = seed
        self._mounted = os.path.join(folder, "mounted")
        os.mkdir(self._mounted)
        image = os.path.join(folder, "image")
        make_image(kind, image)
        self.loop = Loop(kind, image, self._mounted)
        self.pulse = Pulse()
        self.notes: dict[str, float] = {}

    def close(self) -> None:
        """Leave nothing behind."""
        self.loop.close()

    def cycle(self, number: int) -> tuple[Plan, int, Findings]:
        """Let everybody work, crash, and judge; return the plan, the answers, what was wrong."""
        chance = random.Random(f"{self.seed} {number}")
        plan = PLANS[number % len(PLANS)]
        flag = chance.choice((FLUSH_NOTHING,) * 4 + (FLUSH_JOURNAL,) * 4 + (FLUSH_ALL,))
        self.loop.mount()
        root = os.path.join(self._mounted, "archive")
        shutil.rmtree(root, ignore_errors=True)
        sync_all(self._mounted)
        self.pulse.reset()
        company = Company(root, plan, f"{self.seed} {number}", lambda: 0, times=_TIMES)
        time.sleep(0.03 + chance.uniform(*_LIVES_SECONDS))
        crashed = time.monotonic_ns()
        self.loop.shut_down(flag)
        company.kill()
        story = Story.of(plan, company.reports(), may_refuse=True)
        for each in story.told:
            # A sync that meets the crash in the middle may still return as if all were well; in
            # a real crash nobody would have heard of it.
            if each.told is not None and each.told[1] >= crashed:
                each.told = None
        self.loop.unmount()
        self.loop.mount()
        findings = Findings()
        for text in story.wrong:
            findings.add(OTHER, text)
        self._check_interval(root, story, crashed, findings)
        judge = Judge(story)
        findings.extend(judge.judge(root, 0))
        self.loop.unmount()
        self._note("torn ends", judge.torn_tails)
        self._note("of these with NUL bytes", judge.nul_tails)
        answered = sum(len(each.seqs) for each in story.told if each.told is not None)
        return plan, answered, findings

    def _check_interval(self, root: str, story: Story, crashed: int, findings: Findings) -> None:
        """Of what was only promised by interval, or not at all, the end may be gone: how much?"""
        there = {line.id for line in read_files(root).log if line.is_turn}
        gone = [
            each
            for each in story.told
            if each.told is not None and not each.is_lasting and not there.issuperset(each.ids)
        ]
        self._note("answered turns that were not promised, and went", sum(map(_size, gone)))
        if "lazy" not in story.plan.roles or not gone:
            return
        if sum(map(_size, gone)) >= LAZY_TURNS:
            findings.add(LOST, f"{sum(map(_size, gone))} turns of an interval of {LAZY_TURNS}")
        slack = self.pulse.longest_wait_seconds(crashed)
        oldest = min(each.told[1] for each in gone if each.told is not None)
        age = (crashed - oldest) / 1e9
        self._note("oldest of an interval of 30 ms, ms", 0, at_least=age * 1000)
        if age > LAZY_SECONDS + slack:
            findings.add(LOST, f"a turn answered {age:.3f} s ago; the interval is {LAZY_SECONDS} s")

    def _note(self, what: str, amount: float, *, at_least: float = 0.0) -> None:
        self.notes[what] = max(self.notes.get(what, 0.0) + amount, at_least)


def _size(each: Any) -> int:
    return len(each.ids)


def main() -> None:
    """Do the task."""
    kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    task = json.loads(sys.argv[1])
    alone()
    content_of("loaded")
    if task["mutant"]:
        getattr(mutants, task["mutant"])()
    bench = Bench(task["folder"], task["kind"], task["seed"])
    if durability.sync_data is os.fdatasync:
        durability.sync_data = bench.pulse.measure
    os.register_at_fork(
        after_in_child=lambda: threading.Thread(target=bench.pulse.beat, daemon=True).start()
    )
    wanted = task["only"]
    first = 0 if wanted is None else int(wanted.split()[-1])
    try:
        for number in range(first, first + (task["cases"] if wanted is None else 1)):
            plan, answered, findings = bench.cycle(number)
            case = {
                "label": f"{plan.name}, crash {number}",
                "answered": answered,
                "findings": findings.found,
            }
            print(json.dumps(case), flush=True)
        print(json.dumps({"notes": bench.notes}), flush=True)
    finally:
        bench.close()


if __name__ == "__main__":
    main()
