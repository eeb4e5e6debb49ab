"""Many turns at once: a batch in one call, and a stream of JSON lines recorded by one process."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

import orjson
from figures import Run, Table, at_least, ratio, spread, turned
from peers.known import (
    AGENT_FRAMEWORK,
    FLOOR,
    LANGCHAIN_SQL,
    OPENAI,
    OURS,
    POWER_CUT,
    PROCESS_DEATH,
    SQLITE,
    Contestant,
    Kind,
)
from peers.protocol import TEXT
from processes import Ended, convmem_environment, convmem_program, run_program
from workers import Refused, Worker

_BATCH = 100
_LOOP_SHARE = 0.5
_BULK = Path(__file__).parent / "peers" / "bulk_programs.py"


def measure(run: Run) -> list[Table]:
    """Measure batches, synced and not, and a stream."""
    durable = (FLOOR, OURS, SQLITE, OPENAI, LANGCHAIN_SQL)
    return [
        _batches(run, durable, durable=True),
        _batches(run, (FLOOR, OURS, SQLITE, AGENT_FRAMEWORK), durable=False),
        *_streams(run),
    ]


def _batches(run: Run, wanted: tuple[Contestant, ...], *, durable: bool) -> Table:
    table = Table(
        f"{'durable' if durable else 'unsynced'} batch, {_BATCH} turns in one call",
        "The floor makes each line with orjson, and writes all of them at once"
        + (", with one fdatasync." if durable else "."),
    )
    place = run.new_folder(f"batch-{durable}")
    workers: dict[Contestant, Worker] = {}
    missing: dict[Contestant, str] = {}
    for who in wanted:
        try:
            (worker,) = run.workers.start(who)
            folder = str(place / who.module)
            worker.ask("open", name="batch", place=folder, chats=["chat"], durable=durable)
            workers[who] = worker
        except Refused as why:
            if who.kind is not Kind.PEER:
                raise
            missing[who] = str(why)
    calls: dict[Contestant, list[float]] = {who: [] for who in workers}
    medians: dict[Contestant, list[float]] = {who: [] for who in workers}
    present = list(workers)
    times = run.pick(5, 5, 2)
    rounds = run.pick(40, 12, 2)
    for number in range(rounds):
        for at in turned(len(present), number):
            who = present[at]
            told = workers[who].ask("append_many", name="batch", count=_BATCH, times=times)
            calls[who] += told["seconds"]
            medians[who].append(median(told["seconds"]))
    for who, worker in workers.items():
        peak_mb = worker.peak_mb
        kept = worker.ask("kept", name="batch")["kept"]
        table.add(
            who.name,
            who.kind,
            survives=(who.durable if durable else who.unsynced) or "",
            **spread(calls[who]),
            us_per_turn=median(medians[who]) / _BATCH * 1e6,
            over_floor=ratio(medians[who], medians[FLOOR]),
            lost=rounds * times * _BATCH - sum(kept or [0]),
            resident_mb=peak_mb,
        )
    for who, why_not in missing.items():
        table.add_missing(who, why_not)
    run.workers.close()
    return table


def _streams(run: Run) -> list[Table]:
    lines = run.pick(100_000, 20_000, 300)
    source, given = _make_stream(run.folder, lines)
    place = run.new_folder("stream")
    record: list[str | Path] = [convmem_program(), "record"]
    env = convmem_environment(place / "archive")

    def bulk(name: str, *more: str) -> list[str | Path]:
        return [sys.executable, _BULK, name, place, *more]

    # What is run (ID stands for a conversation of its own), and what an answered turn survives.
    unsynced: dict[str, tuple[Kind, list[str | Path]]] = {
        "bare orjson loop": (Kind.FLOOR, bulk("loop", "none")),
        "record --jsonl --sync none": (
            Kind.OURS,
            [*record, "ID", "--jsonl", "--sync", "none"],
        ),
        "record_many by 1,000": (Kind.OURS, bulk("record_many", "none", "ID")),
        "sqlite3 NORMAL by 1,000": (Kind.PEER, bulk("sqlite", "NORMAL", "ID")),
    }
    durable: dict[str, tuple[Kind, list[str | Path]]] = {
        "bare orjson loop, fdatasync": (Kind.FLOOR, bulk("loop", "always")),
        "record --jsonl": (Kind.OURS, [*record, "ID", "--jsonl"]),
        "record_many by 1,000": (Kind.OURS, bulk("record_many", "always", "ID")),
        "sqlite3 FULL by 1,000": (Kind.PEER, bulk("sqlite", "FULL", "ID")),
    }
    with_ids = {name: durable[name] for name in list(durable)[:2]}
    record_lines = f"record {lines:,} JSON lines"
    return [
        _stream(run, "durable", f"{record_lines}, durable", durable, POWER_CUT, source, env),
        _stream(run, "unsynced", f"{record_lines}, unsynced", unsynced, PROCESS_DEATH, source, env),
        _stream(
            run,
            "ids",
            f"record {lines // 5:,} JSON lines with ids, durable",
            with_ids,
            POWER_CUT,
            given,
            env,
        ),
    ]


def _make_stream(folder: Path, lines: int) -> tuple[Path, Path]:
    """Write the lines that are recorded; and a fifth of them, with ids."""
    source, given = folder / "turns.jsonl", folder / "turns-with-ids.jsonl"
    made = [
        orjson.dumps({"role": "user", "content": TEXT, "meta": {"number": number}})
        for number in range(lines)
    ]
    source.write_bytes(b"\n".join(made) + b"\n")
    marked = [b'{"id":"turn-%08d",' % at + line[1:] for at, line in enumerate(made[: lines // 5])]
    given.write_bytes(b"\n".join(marked) + b"\n")
    return source, given


def _stream(
    run: Run,
    label: str,
    title: str,
    shapes: dict[str, tuple[Kind, list[str | Path]]],
    survives: str,
    source: Path,
    env: dict[str, str],
) -> Table:
    """Run whole processes that read *source* and keep every line of it."""
    table = Table(
        title,
        "Whole processes, start included. The loop parses each line and writes the bytes that "
        "convmem stores, with an id, a number and a time that cost it nothing. "
        "sqlite3: executemany, a commit for each 1,000.",
        in_picture=label == "durable",
    )
    ended: dict[str, list[Ended]] = {name: [] for name in shapes}
    names = list(shapes)
    lines = source.read_bytes().count(b"\n")
    broken = dict.fromkeys(names, 0)
    for number in range(run.pick(5, 3, 1)):
        for at in turned(len(names), number):
            kind, words = shapes[names[at]]
            chat = f"{label}-{number}-{at}"
            named = [chat if word == "ID" else word for word in words]
            ended[names[at]].append(run_program(named, stdin=source, env=env))
            if kind is Kind.OURS:
                log = Path(env["CONVMEM_ARCHIVE"]) / "default" / f"{chat}.jsonl"
                broken[names[at]] += log.read_bytes().count(b"\n") != lines
    floor = [each.seconds for each in ended[names[0]]]
    for name, (kind, _) in shapes.items():
        seconds = [each.seconds for each in ended[name]]
        over_floor = ratio(seconds, floor)
        speed = 1 / over_floor if over_floor else None
        table.add(
            name,
            kind,
            survives=survives,
            s=median(seconds),
            cpu_s=median(each.cpu_seconds for each in ended[name]),
            lines_per_s=lines / median(seconds),
            over_floor=over_floor,
            lost=broken[name],
            resident_mb=max(each.peak_mb for each in ended[name]),
            goal=at_least(speed, _LOOP_SHARE, " of the loop") if kind is Kind.OURS else ("", None),
        )
    return table
