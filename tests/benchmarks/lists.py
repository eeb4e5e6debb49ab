"""What a list of ten thousand conversations costs, beside looking at their files' sizes.

The floor is the least that any list has to do: ``os.scandir`` and a ``stat`` of each entry. Beside
it stand the engine in a program that runs already, and the command as a whole, and what one
conversation costs among so many.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from figures import Run, Table, at_most, ratio
from peers.known import Kind
from processes import convmem_environment, convmem_program, run_program

from convmem import Archive, Observer

_TIMES = 15.0
_AMONG_TIMES = 1.5
_FEW = 10
_BARE = """\
import os, sys
for entry in os.scandir(sys.argv[1]):
    print(entry.name, entry.stat().st_size)
"""


def measure(run: Run) -> list[Table]:
    """List archives of large and of small conversations: the first time, and again."""
    many = run.pick(10_000, 2_000, 50)
    tables = []
    for what, turns, size in (("100 kB", run.pick(99, 99, 3), 850), ("500 bytes", 1, 50)):
        root = run.folder / "archive"
        _make(root, many, turns, size)
        title = f"{many:,} conversations of {what}"
        tables.append(_called(run, root, f"overview of {title}, in a running program"))
        tables.append(_from_shell(run, root, f"list {title}, from the shell"))
        if size > 50:
            tables.append(_among_many(run, root, many))
        else:
            tables[-1].in_picture = tables[-2].in_picture = False
        shutil.rmtree(root)
    return tables


def _called(run: Run, root: Path, title: str) -> Table:
    folder, index = root / "default", root / "default" / ".index"

    def overview() -> None:
        with Archive.open(root, observer=Observer()) as archive:
            archive.overview()

    overview()  # warms the caches
    shapes: dict[str, tuple[Kind, Callable[[], object], bool]] = {
        "bare scandir and stat": (Kind.FLOOR, partial(_bare, folder), False),
        "Archive.overview, first": (Kind.OURS, overview, True),
        "Archive.overview, again": (Kind.OURS, overview, False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in shapes}
    for _ in range(run.pick(7, 3, 1)):
        for name, (_, call, is_first) in shapes.items():
            if is_first:
                shutil.rmtree(index, ignore_errors=True)
            seconds[name].append(_timed(call))
    return _table(title, {name: kind for name, (kind, _, _) in shapes.items()}, seconds, _TIMES)


def _from_shell(run: Run, root: Path, title: str) -> Table:
    index = root / "default" / ".index"
    env = convmem_environment(root)
    program = convmem_program()
    shapes: dict[str, tuple[Kind, list[str | Path], bool]] = {
        "scandir and stat, a process": (
            Kind.FLOOR,
            [sys.executable, "-I", "-S", "-c", _BARE, root / "default"],
            False,
        ),
        "ls -l": (Kind.PEER, ["ls", "-l", root / "default"], False),
        "list, first": (Kind.OURS, [program, "list"], True),
        "list, again": (Kind.OURS, [program, "list"], False),
        "list --json, again": (Kind.OURS, [program, "list", "--json"], False),
        "list -l, first": (Kind.OURS, [program, "list", "-l"], True),
        "list -l, again": (Kind.OURS, [program, "list", "-l"], False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in shapes}
    peaks: dict[str, float] = dict.fromkeys(shapes, 0.0)
    for _ in range(run.pick(7, 3, 1)):
        for name, (_, words, is_first) in shapes.items():
            if is_first:
                shutil.rmtree(index, ignore_errors=True)
            ended = run_program(words, env=env)
            seconds[name].append(ended.seconds)
            peaks[name] = max(peaks[name], ended.peak_mb)
    return _table(
        title, {name: kind for name, (kind, _, _) in shapes.items()}, seconds, None, peaks
    )


def _table(
    title: str,
    kinds: dict[str, Kind],
    seconds: dict[str, list[float]],
    goal: float | None,
    peaks: dict[str, float] | None = None,
) -> Table:
    table = Table(title, "First: without an index; again: with it. The page cache is warm.")
    floor = seconds[next(iter(seconds))]
    for name, kind in kinds.items():
        over_floor = ratio(seconds[name], floor)
        table.add(
            name,
            kind,
            ms=median(seconds[name]) * 1e3,
            over_floor=over_floor,
            resident_mb=peaks[name] if peaks else None,
            goal=at_most(over_floor, goal, " × floor")
            if goal and kind is Kind.OURS
            else ("", None),
        )
    return table


def _among_many(run: Run, root: Path, many: int) -> Table:
    """Compare one conversation among many with one among few."""
    few = run.folder / "few"
    _make(few, _FEW, 99, 850)
    table = Table(
        f"one conversation among {many:,}",
        f"over_floor = over the same call among {_FEW}.",
        in_picture=False,
    )
    found: dict[str, dict[Path, list[float]]] = {}
    with (
        Archive.open(root, durability="none") as large,
        Archive.open(few, durability="none") as small,
    ):
        for _ in range(run.pick(500, 200, 5)):
            for place, archive in ((few, small), (root, large)):
                chat = archive.conversation("trip-00005")
                shapes: dict[str, Callable[[], object]] = {
                    "tail(10)": partial(chat.tail, 10),
                    "context(max_tokens=2000)": partial(chat.context, max_tokens=2000),
                    "update_state": partial(chat.update_state, {"session": "abc"}),
                    "state": chat.state,
                }
                for name, call in shapes.items():
                    found.setdefault(name, {}).setdefault(place, []).append(_timed(call))
    for name, seconds in found.items():
        over = median(seconds[root]) / median(seconds[few])
        table.add(
            name,
            Kind.OURS,
            p50_us=median(seconds[root]) * 1e6,
            among_few_us=median(seconds[few]) * 1e6,
            over_floor=over,
            goal=at_most(over, _AMONG_TIMES, " × among few"),
        )
    shutil.rmtree(few)
    return table


def _make(root: Path, conversations: int, turns: int, size: int) -> None:
    with Archive.open(root, durability="none") as archive:
        for number in range(conversations):
            name = f"trip-{number:05d}"
            pairs = [
                (name, ("assistant" if at % 2 else "user", f"Trip {number}, {at}? {'x' * size}"))
                for at in range(turns + 1)
            ]
            archive.record_to_many(pairs)


def _bare(folder: Path) -> int:
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            total += entry.stat().st_size
    return total


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
