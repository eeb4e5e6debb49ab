"""Cuts the power: records what convmem makes a disk write, and mounts the disk as it was between.

A program of its own, started by ``trial_power``, so that its mounts are nobody else's and end with
it. Takes its task as JSON in its argument; prints a JSON object a line for each image.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import random
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mutants
from blocks_device import BLOCK, BlockDevice, Entry
from blocks_mount import SECTOR, Loop, alone, kernel, make_image
from ledger import OTHER, Findings
from power_judge import Judge, without_syncs
from power_work import PLANS, Company, Plan, Story, sync_all

from convmem.log import durability

_SUBSETS_PER_WINDOW = 2
# From so many images on, each one of each recording is tried; of fewer, some of every plan.
_MANY = 1000
# What a file system writes in one piece or cannot be mounted at all: its super block.
_IN_ONE_PIECE = {"ext4": ((0, BLOCK),), "xfs": (), "btrfs": ((64 << 10, 68 << 10),)}
_PR_SET_PDEATHSIG = 1

Piece = tuple[int, int, int]


@dataclass(frozen=True)
class Image:
    """A disk after a power cut: all that was flushed, and some of what was not.

    Attributes:
        flushed: So many entries of the log are on it for certain.
        pieces: What else is, as (entry, from byte, to byte).
        cut_at: So many entries had come when the power was cut.
    """

    label: str
    flushed: int
    pieces: tuple[Piece, ...]
    cut_at: int


def images(log: list[Entry], chance: random.Random, kind: str) -> Iterator[Image]:
    """Yield the disk after each write, and as each flush could have found it if it failed."""
    window: list[int] = []
    begin = 0
    for at, entry in enumerate(log):
        if not entry.is_flush:
            window.append(at)
            continue
        yield from _of_window(log, begin, window, at, chance, kind)
        window, begin = [], at + 1
    yield from _of_window(log, begin, window, len(log), chance, kind)


def _of_window(
    log: list[Entry], begin: int, window: list[int], end: int, chance: random.Random, kind: str
) -> Iterator[Image]:
    """Yield the images between two flushes, of which *end* is the second."""
    for nth, at in enumerate(window):
        whole = tuple((each, 0, log[each].length) for each in window[: nth + 1])
        # Nothing more was written before the next write, but more may have been answered.
        yield Image(f"after {at + 1}", begin, whole, _next_write(log, at))
    for nth in range(_SUBSETS_PER_WINDOW):
        if not window or (len(window) == 1 and log[window[0]].length <= SECTOR):
            return
        last = chance.randrange(len(window))
        cut_at = window[last + 1] if last + 1 < len(window) else end
        pieces = _some_of(log, window[: last + 1], chance, kind)
        yield Image(f"some of {begin} to {end}, {nth}", begin, pieces, cut_at)


def _next_write(log: list[Entry], at: int) -> int:
    """Return how many entries there are before the next write after *at*."""
    for later in range(at + 1, len(log)):
        if not log[later].is_flush:
            return later
    return len(log)


def _some_of(
    log: list[Entry], window: list[int], chance: random.Random, kind: str
) -> tuple[Piece, ...]:
    """Choose among writes that were never flushed: whole ones, or blocks; and tear the last."""
    share = chance.random()
    by_block = chance.random() < 0.5
    pieces: list[Piece] = []
    for at in window:
        length = log[at].length
        size = BLOCK if by_block else length
        pieces += [
            (at, start, min(start + size, length))
            for start in range(0, length, size)
            if chance.random() < share
        ]
    if pieces:
        at, start, end = pieces[-1]
        if end - start > SECTOR and not _is_in_one_piece(kind, log[at].offset + start):
            sectors = chance.randrange(1, (end - start) // SECTOR + 1)
            pieces[-1] = (at, start, start + sectors * SECTOR)
    return tuple(pieces)


def _is_in_one_piece(kind: str, offset: int) -> bool:
    return any(start <= offset < end for start, end in _IN_ONE_PIECE[kind])


class Bench:
    """A disk on which stories are recorded and images of it judged."""

    def __init__(self, folder: str, kind: str) -> None:
        self.kind = kind
        self.folder = folder
        self._mounted = os.path.join(folder, "mounted")
        os.mkdir(self._mounted)
        self._image = os.path.join(folder, "image")
        make_image(kind, self._image)
        path = os.path.join(folder, "disk")
        with open(path, "wb"):
            pass
        self.device = BlockDevice(self._image)
        alone()
        self.device.mount(path)
        self.loop = Loop(kind, path, self._mounted)

    def close(self) -> None:
        """Leave nothing behind."""
        try:
            self.loop.close()
        finally:
            self.device.close()

    @property
    def _root(self) -> str:
        return os.path.join(self._mounted, "archive")

    def record(self, plan: Plan, seed: str) -> tuple[list[Entry], list[list[Any]]]:
        """Record one story on a disk that is empty but for its file system."""
        self.device.advance(0)
        self.loop.mount()
        sync_all(self._mounted)
        self.device.record()
        events = Company(self._root, plan, seed, lambda: self.device.count).reports()
        sync_all(self._mounted)
        self.loop.unmount()
        return self.device.stop(), events

    def judge(self, image: Image, judge: Judge) -> Findings:
        """Mount the disk as it was, and judge what is there."""
        self.device.advance(image.flushed)
        self.device.add(list(image.pieces))
        try:
            self.loop.mount()
        except OSError as error:
            findings = Findings()
            findings.add(OTHER, f"the file system cannot be mounted any more: {error}")
            return findings
        try:
            with without_syncs():
                return judge.judge(self._root, image.cut_at)
        finally:
            self.loop.abandon()


def run(task: dict[str, Any], bench: Bench) -> None:
    """Try images until there were enough."""
    left = task["cases"] or _MANY
    number = 0
    wanted = task["only"]
    if wanted is not None:
        number = int(wanted.split(",")[1].split()[-1])
    while left > 0:
        plan = PLANS[number % len(PLANS)]
        kept = os.path.join(task["keep"] or "", f"power-cut-{bench.kind}-{task['seed']}-{number}")
        seed = f"{task['seed']} {number}"
        if wanted is not None and os.path.exists(kept + ".disk"):
            log = bench.device.load(kept + ".disk")
            with open(kept + ".json", encoding="utf-8") as file:
                events = json.load(file)
        else:
            log, events = bench.record(plan, seed)
        story = Story.of(plan, events)
        judge = Judge(story)
        found = Findings()
        for text in story.wrong:
            found.add(OTHER, text)
        all_images = list(images(log, random.Random(seed), bench.kind))
        if (task["cases"] or _MANY) < _MANY and wanted is None:
            some = math.ceil((task["cases"] or _MANY) / len(PLANS))
            order = range(len(all_images))
            chosen = sorted(random.Random(seed).sample(order, min(some, len(all_images))))
            all_images = [all_images[at] for at in chosen]
        answered = sum(len(each.seqs) for each in story.told if each.is_lasting)
        is_kept = False
        for image in all_images:
            label = f"{plan.name}, recording {number}, {image.label}"
            if wanted not in (None, label):
                continue
            found.extend(bench.judge(image, judge))
            if found and not is_kept and task["keep"]:
                is_kept = True
                _keep(kept, bench.device, events)
                print(f"the recording is kept as {kept}.disk and .json", file=sys.stderr)
            print(
                json.dumps({"label": label, "answered": answered, "findings": found.found}),
                flush=True,
            )
            found, answered = Findings(), 0
            left -= 1
            if left <= 0:
                break
        notes = {
            "recordings": 1,
            "times that an answered turn was looked for": judge.looked_for,
            "torn ends": judge.torn_tails,
            "of these with NUL bytes": judge.nul_tails,
        }
        print(json.dumps({"notes": notes}), flush=True)
        if wanted is not None:
            return
        number += 1


def _keep(path: str, device: BlockDevice, events: list[list[Any]]) -> None:
    """Keep the recording, so that the very same image can be made again."""
    device.save(path + ".disk")
    with open(path + ".json", "w", encoding="utf-8") as file:
        json.dump(events, file)


def _let_syncs_take_turns() -> None:
    """Let no two processes sync one log at the same time.

    btrfs (Linux 6.18) may answer a sync before anything is written while another process syncs the
    same file, also one that convmem has nothing to do with: what is promised here needs more.
    """

    def sync(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            os.fdatasync(fd)
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)

    durability.sync_data = sync


def main() -> None:
    """Do the task."""
    kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    task = json.loads(sys.argv[1])
    if task["kind"] == "btrfs":
        _let_syncs_take_turns()
    if task["mutant"]:
        getattr(mutants, task["mutant"])()
    bench = Bench(task["folder"], task["kind"])
    try:
        run(task, bench)
    finally:
        bench.close()


if __name__ == "__main__":
    main()
