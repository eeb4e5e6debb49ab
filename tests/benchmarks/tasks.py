"""Many tasks in one event loop record at once: python tests/benchmarks/tasks.py

1,000 tasks record to 100 conversations, each a few turns of some 160 bytes, one after the other.
Beside them a heartbeat sleeps for a millisecond at a time: the longest it had to wait is what a
client of the same server would have waited. Just before, in the same loop, the same tasks sleep
instead of recording: that is the loop alone.

Each contestant has a process of its own, and they take turns, in an order that changes with the
round. Figures are medians of the rounds. Afterwards the turns are counted, by a reader of their
own: those that were answered must be there. Packages that are not installed are named and left out.
The exit status is 1 if convmem lost a turn or refused one; a goal that is missed is only shown.

A stall is also what another program takes of the processor, as the loop alone shows. Where others
are at work, ``chrt -f 5 python …`` keeps them away (Linux, as root).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from figures import Table, at_most, percentile, turned
from peers.known import NOTHING, POWER_CUT, PROCESS_DEATH, Kind
from peers.protocol import TEXT
from place import machine, machine_line, workspace
from showing import console, show

from convmem import Archive, aio

# Rounds, tasks, conversations, turns of each task.
_SCALES = {"full": (5, 1000, 100, 5), "quick": (3, 1000, 100, 3), "tiny": (1, 40, 4, 2)}
_STALL_MS = 20.0
_HEARTBEAT_SECONDS = 0.001
# So many tasks begin in one round of the loop, as clients come: all at once, making the tasks
# would be a stall of its own.
_AT_ONCE = 50

Record = Callable[[int], Awaitable[object]]
Kept = Callable[[], Awaitable[int]]


async def ours(folder: Path, chats: int, closing: AsyncExitStack, durability: str) -> Any:
    """Tasks await the async face."""
    archive = await closing.enter_async_context(aio.Archive.open(folder, durability=durability))
    all_chats = [archive.conversation(str(at)) for at in range(chats)]

    async def kept() -> int:
        return sum([1 for chat in all_chats async for _ in chat.turns()])

    return lambda at: all_chats[at].record("user", TEXT), kept


async def in_threads(folder: Path, chats: int, closing: AsyncExitStack) -> Any:
    """The sync face in the loop's own threads: what one writes without an async face."""
    archive = closing.enter_context(Archive.open(folder))
    all_chats = [archive.conversation(str(at)) for at in range(chats)]

    async def kept() -> int:
        return sum(1 for chat in all_chats for _ in chat.turns())

    return lambda at: asyncio.to_thread(all_chats[at].record, "user", TEXT), kept


async def sqlite_session(folder: Path, chats: int, closing: AsyncExitStack) -> Any:
    """All sessions in one database, as its documentation has it."""
    from agents import SQLiteSession

    sessions = [SQLiteSession(str(at), folder / "sessions.db") for at in range(chats)]
    for session in sessions:
        closing.callback(session.close)
    return _of_sessions(sessions)


async def async_sqlite_session(folder: Path, chats: int, closing: AsyncExitStack) -> Any:
    """The same over aiosqlite, which has a thread for each session."""
    from agents.extensions.memory import AsyncSQLiteSession

    sessions = [AsyncSQLiteSession(str(at), folder / "sessions.db") for at in range(chats)]
    for session in sessions:
        closing.push_async_callback(session.close)
    return _of_sessions(sessions)


def _of_sessions(sessions: list[Any]) -> tuple[Record, Kept]:
    item = {"role": "user", "content": TEXT}

    async def kept() -> int:
        return sum([len(await session.get_items()) for session in sessions])

    return lambda at: sessions[at].add_items([item]), kept


async def alone(folder: Path, chats: int, closing: AsyncExitStack) -> Any:
    """Nothing is kept."""

    async def none() -> int:
        return 0

    return lambda at: asyncio.sleep(_HEARTBEAT_SECONDS), none


@dataclass(frozen=True, slots=True)
class Way:
    """One who stands in the table: how it is opened, and what an answered turn survives."""

    name: str
    kind: Kind
    survives: str
    make: Callable[..., Awaitable[Any]]
    options: tuple[str, ...] = ()


WAYS = {
    "alone": Way("the loop alone", Kind.FLOOR, NOTHING, alone),
    "aio": Way("convmem.aio", Kind.OURS, POWER_CUT, ours, ("always",)),
    "aio-none": Way("convmem.aio, unsynced", Kind.OURS, PROCESS_DEATH, ours, ("none",)),
    "to-thread": Way("asyncio.to_thread(chat.record)", Kind.PEER, POWER_CUT, in_threads),
    "sqlite": Way("OpenAI SQLiteSession", Kind.PEER, POWER_CUT, sqlite_session),
    "async-sqlite": Way("OpenAI AsyncSQLiteSession", Kind.PEER, POWER_CUT, async_sqlite_session),
}


class Heartbeat:
    """Sleeps for a millisecond, again and again, and notes how long that took."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self.threads = 0
        self.refused: list[str] = []  # what the tasks were told instead

    async def beat(self) -> None:
        """Go on until it is cancelled."""
        last = time.perf_counter()
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            now = time.perf_counter()
            self.gaps.append(now - last)
            last = now
            self.threads = max(self.threads, threading.active_count())


async def _one(way: Way, folder: Path, tasks: int, chats: int, turns: int) -> dict[str, Any]:
    """Measure *way* in this process; return the figures."""
    async with AsyncExitStack() as closing:
        record, kept = await way.make(folder, chats, closing, *way.options)
        for at in range(chats):
            await record(at)
        nothing, _ = await alone(folder, chats, closing)
        _, bare = await _crowd(nothing, tasks, chats, turns)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds, felt = await _crowd(record, tasks, chats, turns)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        found = await kept()
    expected = 0 if way.kind is Kind.FLOOR else chats + tasks * turns
    return {
        "turns_s": tasks * turns / seconds,
        "threads": felt.threads,
        "grown_mb": grown / 1024,
        "stall_max_ms": max(felt.gaps) * 1e3,
        "stall_p99_ms": percentile(felt.gaps, 0.99) * 1e3,
        "alone_max_ms": max(bare.gaps) * 1e3,
        "refused": len(felt.refused),
        "lost": expected - len(felt.refused) - found,
        "told": felt.refused[:1],
    }


async def _crowd(record: Record, tasks: int, chats: int, turns: int) -> tuple[float, Heartbeat]:
    async def one(at: int) -> None:
        for _ in range(turns):
            try:
                await record(at % chats)
            except Exception as error:
                heart.refused.append(str(error))

    heart = Heartbeat()
    beating = asyncio.create_task(heart.beat())
    await asyncio.sleep(0.05)
    began = time.perf_counter()
    running = []
    for at in range(tasks):
        running.append(asyncio.create_task(one(at)))
        if at % _AT_ONCE == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*running)
    seconds = time.perf_counter() - began
    beating.cancel()
    await asyncio.wait((beating,))
    return seconds, heart


def _elsewhere(name: str, folder: Path, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Measure one way in a process of its own.

    Raises:
        LookupError: A package is missing.
    """
    folder.mkdir(mode=0o700)
    words = [sys.executable, "-W", "ignore", __file__, "--one", name, str(folder)]
    done = subprocess.run([*words, *map(str, sizes)], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        raise LookupError(done.stderr.strip())
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _table(rounds: int, sizes: tuple[int, ...], ways: list[str], folder: Path) -> Table:
    tasks, chats, turns = sizes
    table = Table(
        f"{tasks:,} tasks, {chats} conversations, {turns} turns each",
        "stall: how long a heartbeat of 1 ms was kept waiting in the same loop, and, alone, "
        "where the tasks only sleep; the medians of the rounds' longest.",
    )
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    missing: dict[str, str] = {}
    for number in range(rounds):
        for name in (ways[at] for at in turned(len(ways), number)):
            if name not in missing:
                try:
                    told[name].append(_elsewhere(name, folder / f"{name}-{number}", sizes))
                except LookupError as error:
                    missing[name] = str(error)
    for name, found in told.items():
        way = WAYS[name]
        if not found:
            table.add_missing(way.name, missing[name])
            continue
        words = {word for each in found for word in each.pop("told")}
        table.note += "".join(f"\n{way.name} raised: {word}" for word in sorted(words))
        figures: dict[str, Any] = {key: median(each[key] for each in found) for key in found[0]}
        figures["threads"] = max(each["threads"] for each in found)
        figures["stall_worst_ms"] = max(each["stall_max_ms"] for each in found)
        for name_of in ("lost", "refused"):
            figures[name_of] = sum(each[name_of] for each in found)
        is_ours = way.kind is Kind.OURS
        goal = at_most(figures["stall_max_ms"], _STALL_MS, " ms") if is_ours else ("", None)
        table.add(way.name, way.kind, survives=way.survives, goal=goal, **figures)
    return table


def main() -> int:
    """Run what was asked for; return the exit status."""
    parser = argparse.ArgumentParser(description="many tasks that record in one event loop")
    parser.set_defaults(scale="full")
    for scale in ("quick", "tiny"):
        parser.add_argument(f"--{scale}", dest="scale", action="store_const", const=scale)
    parser.add_argument("--only", nargs="+", choices=list(WAYS), metavar="WAY")
    parser.add_argument("--json", metavar="FILE", help="also write the table to FILE as JSON")
    parser.add_argument("--dir", metavar="DIR", help="work below DIR, on a real disk")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, folder, *sizes = options.one
        try:
            found = asyncio.run(_one(WAYS[name], Path(folder), *map(int, sizes)))
        except ImportError as error:
            print(f"not installed: {error.name}", file=sys.stderr)
            return 3
        print(json.dumps(found))
        return 0
    rounds, *sizes = _SCALES[options.scale]
    out = console()
    with workspace(options.dir, may_be_in_memory=options.scale == "tiny") as place:
        about = machine(place)
        out.print(machine_line(about))
        table = _table(rounds, tuple(sizes), options.only or list(WAYS), place)
        show(table, out)
    if options.json:
        report = {"machine": about, "tables": [asdict(table)]}
        Path(options.json).write_text(json.dumps(report, indent=1) + os.linesep)
    ours_refused = [row for row in table.rows if row.kind is Kind.OURS and row.figures["refused"]]
    broken = [row.what for row in table.rows if row.is_broken or row in ours_refused]
    if broken:
        print(f"promises broken: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
