"""What a list of ten thousand conversations costs, beside looking at their files' sizes.

The floor is the least that any list has to do: ``os.scandir`` and a ``stat`` of each entry, bare,
in a process that runs already. Beside it stand the engine in such a process, and the command as a
whole, its start included. And what one conversation costs among so many, beside one among few.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from measuring import (
    Run,
    Table,
    at_most,
    check,
    console_script,
    environment,
    main,
    ratio,
    run_child,
    spread,
)

import convmem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_GOAL = 15.0
_FEW = 10


def measure(run: Run) -> list[Table]:
    """List archives of small and of large conversations: the first time, and again."""
    many = run.scale.pick(10_000, 2_000, 50)
    large = run.scale.pick(99, 99, 3)
    tables = []
    for title, turns, size in (("of 100 kB", large, 850), ("of 500 bytes", 1, 50)):
        root = run.folder / "archive"
        _make(root, many, turns, size)
        tables.append(_lists(run, root, f"{many:,} conversations {title}"))
        if size > 50:
            tables.append(_among_many(run, root, many))
        shutil.rmtree(root)
    return tables


def _lists(run: Run, root: Path, title: str) -> Table:
    folder = root / "default"
    index = folder / ".index"
    env = environment(root)
    command = [str(console_script()), "list"]

    def engine(count: bool) -> None:
        with convmem.Archive.open(root, observer=convmem.Observer()) as archive:
            archive.overview(count=count)

    def process(*words: str) -> None:
        check(run_child([*command, *words], env=env), "list")

    # What is timed, whether the index is taken away before it, and whether the goal is its own.
    shapes: dict[str, tuple[Callable[[], None], bool, bool]] = {
        "engine, first": (lambda: engine(False), True, True),
        "engine, again": (lambda: engine(False), False, True),
        "convmem list, first": (process, True, True),
        "convmem list, again": (process, False, True),
        "convmem list --json, again": (lambda: process("--json"), False, True),
        "convmem list -l, first": (lambda: process("-l"), True, False),
        "convmem list -l, again": (lambda: process("-l"), False, True),
    }
    floors: dict[str, list[float]] = {name: [] for name in shapes}
    found: dict[str, list[float]] = {name: [] for name in shapes}
    process("-l")  # warms the caches
    for _ in range(run.scale.pick(7, 3, 1)):
        for name, (call, is_first, _) in shapes.items():
            if is_first:
                shutil.rmtree(index, ignore_errors=True)
            floors[name].append(_timed(lambda: _bare(folder)))
            found[name].append(_timed(call))
    table = Table(
        title,
        "Times are medians; a ratio is to the bare scandir and stat just before it. The page "
        "cache is warm. First: without an index; again: with it.",
    )
    table.add("bare scandir and stat", ms=_median(floors["engine, first"]) * 1e3)
    for name, (_, _, has_goal) in shapes.items():
        over = ratio(found[name], floors[name])
        # Among few conversations the start of the process is all there is to see.
        is_judged = has_goal and (run.scale.name == "full" or name.startswith("engine"))
        goal = at_most(over, _GOAL) if is_judged else {}
        table.add(name, ms=_median(found[name]) * 1e3, over_bare=over, **goal)
    return table


def _among_many(run: Run, root: Path, many: int) -> Table:
    """Compare one conversation among many with one among few."""
    few = run.folder / "few"
    _make(few, _FEW, 99, 850)
    calls = run.scale.pick(500, 200, 5)
    table = Table(
        f"one conversation among {many:,}, and among {_FEW}",
        "A ratio is to the same call among few.",
    )
    seconds: dict[str, dict[Path, list[float]]] = {}
    with (
        convmem.Archive.open(root, durability="none") as large,
        convmem.Archive.open(few, durability="none") as small,
    ):
        for _ in range(calls):
            for place, archive in ((root, large), (few, small)):
                chat = archive.conversation("trip-00005")
                shapes: dict[str, Callable[[], object]] = {
                    "tail(10)": lambda chat=chat: chat.tail(10),  # type: ignore[misc]
                    "context(max_tokens=2000)": lambda chat=chat: chat.context(max_tokens=2000),  # type: ignore[misc]
                    "update_state, state": lambda chat=chat: _state(chat),  # type: ignore[misc]
                }
                for name, call in shapes.items():
                    times = seconds.setdefault(name, {}).setdefault(place, [])
                    times.append(_timed(call))
    for name, times in seconds.items():
        over = _median(times[root]) / _median(times[few])
        table.add(name, **spread(times[root]), over_few=over, **at_most(over, 1.5))
    shutil.rmtree(few)
    return table


def _state(chat: convmem.Conversation) -> object:
    chat.update_state({"session": "abc"})
    return chat.state()


def _make(root: Path, conversations: int, turns: int, size: int) -> None:
    with convmem.Archive.open(root, durability="none") as archive:
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


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    raise SystemExit(main("listing", measure))
