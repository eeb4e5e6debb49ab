"""The last 20 turns of short and long conversations: in a running program, and from the shell."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from conversations import make_conversation
from figures import Run, Table, at_most, both, ratio, spread, turned
from peers.known import (
    AGENT_FRAMEWORK,
    FLOOR,
    LANGCHAIN_FILE,
    LANGCHAIN_SQL,
    OPENAI,
    OURS,
    SQLITE,
    STRANDS,
    Contestant,
    Kind,
)
from processes import Ended, convmem_environment, convmem_program, run_program
from workers import Refused, Worker

_COUNT = 20
_FLOOR_TIMES = 2.0
_SLOW_ROUNDS = 5
_FLAT = 1.5  # the longest conversation, over the shortest
_WANTED = (
    FLOOR,
    OURS,
    SQLITE,
    OPENAI,
    STRANDS,
    LANGCHAIN_SQL,
    LANGCHAIN_FILE,
    AGENT_FRAMEWORK,
)
_FILL_AT_ONCE = 10_000


def measure(run: Run) -> list[Table]:
    """Measure conversations of some lengths."""
    lengths = run.pick((100, 10_000, 2_000_000), (100, 10_000), (100,))
    archive = run.new_folder("archive")
    paths = {length: make_conversation(archive, f"chat-{length}", length) for length in lengths}
    shortest: dict[str, float] = {}
    tables = []
    for length in lengths:
        tables.append(_called(run, archive, length, shortest))
        tables.append(_from_shell(run, archive, paths[length], length))
    return tables


def _called(run: Run, archive: Path, length: int, shortest: dict[str, float]) -> Table:
    table = Table(
        f"the last {_COUNT} of {length:,} turns, in a running program",
        "The floor opens the file, reads backwards until 21 line ends are there, and parses 20 "
        "lines. over_short = over the same among the fewest turns.",
    )
    place = run.new_folder(f"length-{length}")
    workers: dict[Contestant, Worker] = {}
    missing: dict[Contestant, str] = {}
    left_out: list[str] = []
    for who in _WANTED:
        if who.longest is not None and length > who.longest:
            left_out.append(who.name)
            continue
        try:
            (worker,) = run.workers.start(who)
            _fill(worker, who, archive, place, length)
            workers[who] = worker
        except Refused as why:
            if who.kind is not Kind.PEER:
                raise
            missing[who] = str(why)
    if left_out:
        table.note += f" Left out, since this takes them minutes: {', '.join(left_out)}."
    calls: dict[Contestant, list[float]] = {who: [] for who in workers}
    medians: dict[Contestant, list[float]] = {who: [] for who in workers}
    broken = 0
    present = list(workers)
    for number in range(run.pick(30, 15, 2)):
        for at in turned(len(present), number):
            who = present[at]
            # Seconds for a call, with thousands of turns: a few are enough to see that.
            slow = who.longest is not None and length > 100
            if slow and number >= _SLOW_ROUNDS:
                continue
            told = workers[who].ask("last", name="last", count=_COUNT, times=1 if slow else 20)
            calls[who] += told["seconds"]
            medians[who].append(median(told["seconds"]))
            broken += who is OURS and told["found"] != _COUNT
    for who, worker in workers.items():
        over_floor = ratio(medians[who], medians[FLOOR][: len(medians[who])])
        middle = median(medians[who])
        over_short = middle / shortest.setdefault(who.name, middle)
        goal: tuple[str, bool | None] = ("", None)
        if who is OURS:
            flat = at_most(over_short, _FLAT, " × short")
            goal = both(at_most(over_floor, _FLOOR_TIMES, " × floor"), flat)
        table.add(
            "bare backward read" if who is FLOOR else who.name,
            who.kind,
            **spread(calls[who]),
            over_floor=over_floor,
            over_short=over_short,
            resident_mb=worker.peak_mb,
            broken=broken if who is OURS else None,
            goal=goal,
        )
    for who, why_not in missing.items():
        table.add_missing(who, why_not)
    run.workers.close()
    return table


def _fill(worker: Worker, who: Contestant, archive: Path, place: Path, length: int) -> None:
    """Give a contestant a chat of so many turns; the floor and convmem read the same file."""
    chats = [f"chat-{length}"]
    if who is OURS or who is FLOOR:
        folder = archive if who is OURS else archive / "default"
        worker.ask("open", name="last", place=str(folder), chats=chats, durable=False)
        return
    folder = place / who.module
    worker.ask("open", name="last", place=str(folder), chats=chats, durable=False)
    for start in range(0, length, _FILL_AT_ONCE):
        count = min(_FILL_AT_ONCE, length - start)
        worker.ask("append_many", name="last", count=count, times=1)


def _from_shell(run: Run, archive: Path, path: Path, length: int) -> Table:
    table = Table(
        f"the last {_COUNT} of {length:,} turns, from the shell",
        "Whole processes. coreutils tail prints the lines as they are; convmem checks and parses "
        "each.",
    )
    env = convmem_environment(archive)
    tail: list[str | Path] = [convmem_program(), "tail", path.stem, "-n", str(_COUNT), "--json"]
    shapes: dict[str, tuple[Kind, list[str | Path]]] = {
        "coreutils tail": (Kind.FLOOR, ["tail", "-n", str(_COUNT), path]),
        "convmem tail --json": (Kind.OURS, tail),
    }
    ended: dict[str, list[Ended]] = {name: [] for name in shapes}
    for _ in range(run.pick(15, 7, 1)):
        for name, (_, words) in shapes.items():
            ended[name].append(run_program(words, env=env))
    floor = [each.seconds for each in ended["coreutils tail"]]
    for name, (kind, _) in shapes.items():
        table.add(
            name,
            kind,
            ms=median(each.seconds for each in ended[name]) * 1e3,
            cpu_ms=median(each.cpu_seconds for each in ended[name]) * 1e3,
            over_floor=ratio([each.seconds for each in ended[name]], floor),
            resident_mb=max(each.peak_mb for each in ended[name]),
        )
    return table
