"""What one append costs, beside the least that the disk allows and beside SQLite.

Everything appends the same line of about 300 bytes. The floor of a durable append is one write and
one fdatasync; of an unsynced one, the write. Contestants take turns in blocks of a few calls, so
that whatever else the machine does meanwhile meets all of them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sqlite3
import sys
import threading
import time
from pathlib import Path
from statistics import median

import orjson
from measuring import (
    Run,
    Table,
    at_least,
    at_most,
    check,
    console_script,
    environment,
    main,
    percentile,
    ratio,
    run_child,
    spread,
)

from convmem import Archive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Append = Callable[[], object]

TEXT = "About seven hours, with one change; the line along the lake is the slower one. " * 2
_LINE = orjson.dumps(
    {
        "id": "01998a5c-7c1e-7d55-8a30-0d4b7c2e9f11",
        "seq": 1_000_000,
        "ts": "2026-11-21T09:00:00.000000Z",
        "role": "user",
        "content": TEXT,
        "_c": "00000000",
    }
)
_LINE += b"\n"
_BATCH = 100


def measure(run: Run) -> list[Table]:
    """Measure all of it."""
    return [
        _single(run, is_durable=True),
        _single(run, is_durable=False),
        _contended(run),
        _batches(run),
        _bulk(run),
        _tails(run),
    ]


# --- contestants ----------------------------------------------------------------------------------


class Raw:
    """The floor: one write of a line that is ready, and one fdatasync."""

    name = "raw write"

    def __init__(self, place: Path, is_durable: bool) -> None:
        self._fd = os.open(place / "raw", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._is_durable = is_durable

    def append(self) -> None:
        """Append one line."""
        os.write(self._fd, _LINE)
        if self._is_durable:
            os.fdatasync(self._fd)

    def append_many(self, count: int) -> None:
        """Append *count* lines in one write."""
        os.write(self._fd, _LINE * count)
        if self._is_durable:
            os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class Sqlite:
    """SQLite with a write-ahead log, one connection each, one transaction a turn."""

    name = "sqlite3 WAL"

    def __init__(self, place: Path, is_durable: bool) -> None:
        self._connection = sqlite3.connect(
            place / "turns.db", timeout=30, isolation_level=None, check_same_thread=False
        )
        with contextlib.closing(self._connection.cursor()) as cursor:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute(f"PRAGMA synchronous={'FULL' if is_durable else 'NORMAL'}")
            cursor.execute(
                "CREATE TABLE IF NOT EXISTS turns (seq INTEGER PRIMARY KEY, chat TEXT, line BLOB)"
            )

    def append(self) -> None:
        """Insert one row, in a transaction of its own."""
        self._connection.execute("INSERT INTO turns (chat, line) VALUES (?, ?)", ("trip", _LINE))

    def append_many(self, count: int) -> None:
        """Insert *count* rows in one transaction."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            "INSERT INTO turns (chat, line) VALUES (?, ?)", [("trip", _LINE)] * count
        )
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


class Convmem:
    """convmem's ``record`` and ``record_many``."""

    name = "convmem"

    def __init__(self, place: Path, is_durable: bool) -> None:
        durability = "always" if is_durable else "none"
        self._archive = Archive.open(place / "archive", durability=durability)
        self._chat = self._archive.conversation("trip")

    def append(self) -> None:
        """Record one turn."""
        self._chat.record("user", TEXT)

    def append_many(self, count: int) -> None:
        """Record *count* turns as one batch."""
        self._chat.record_many([("user", TEXT)] * count)

    def close(self) -> None:
        self._archive.close()


_CONTESTANTS = (Raw, Convmem, Sqlite)


# --- one writer -----------------------------------------------------------------------------------


def _single(run: Run, *, is_durable: bool) -> Table:
    place = _new_folder(run, f"single-{is_durable}")
    opened = [contestant(place, is_durable) for contestant in _CONTESTANTS]
    block = run.scale.pick(20, 20, 5) if is_durable else run.scale.pick(500, 200, 20)
    rounds = run.scale.pick(60, 15, 2)
    taken = _interleaved([each.append for each in opened], rounds=rounds, block=block)
    for each in opened:
        each.close()
    if is_durable:
        table = Table("one writer, durable", "Raw: write + fdatasync. SQLite: synchronous=FULL.")
    else:
        table = Table("one writer, not synced", "Raw: write. SQLite: synchronous=NORMAL.")
    medians = [[median(calls) for calls in its_rounds] for its_rounds in taken]
    for at, contestant in enumerate(_CONTESTANTS):
        over_floor = ratio(medians[at], medians[0])
        over_sqlite = ratio(medians[at], medians[-1])
        goal: dict[str, object] = {}
        if contestant is Convmem:
            goal = at_most(over_floor, 1.3) if is_durable else at_most(over_sqlite, 1.0)
        table.add(
            contestant.name,
            **spread([call for calls in taken[at] for call in calls]),
            over_floor=over_floor,
            over_sqlite=over_sqlite,
            **goal,
        )
    return table


def _interleaved(appends: Sequence[Append], *, rounds: int, block: int) -> list[list[list[float]]]:
    """Return the seconds of each call, by contestant and round."""
    taken: list[list[list[float]]] = [[] for _ in appends]
    for append in appends:
        for _ in range(block):
            append()  # files are made, caches filled
    for number in range(rounds):
        for at in _turned(len(appends), number):
            taken[at].append(_timed(appends[at], block))
    return taken


def _turned(count: int, by: int) -> list[int]:
    """Return 0 … count-1, each time beginning with another: nobody always follows the same."""
    return [(at + by) % count for at in range(count)]


def _timed(append: Append, count: int) -> list[float]:
    clock = time.perf_counter
    taken = []
    for _ in range(count):
        began = clock()
        append()
        taken.append(clock() - began)
    return taken


# --- several writers of one conversation ----------------------------------------------------------


def _contended(run: Run) -> Table:
    table = Table(
        "several writers of one conversation, durable",
        "All at once for a time; per_s = appends answered by all of them together. over_one = "
        "throughput over that of one thread of the same kind.",
    )
    rounds = run.scale.pick(5, 3, 1)
    seconds = run.scale.pick(0.7, 0.4, 0.1)
    shapes = (("1 thread", 1, False), ("8 threads", 8, False), ("4 processes", 4, True))
    # For each kind and shape: the throughput of each round, and all calls.
    speeds: dict[tuple[str, str], list[float]] = {}
    calls: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        place = _new_folder(run, f"contended-{number}")
        for shape, count, as_processes in shapes:
            for at in _turned(len(_CONTESTANTS), number):
                contestant = _CONTESTANTS[at]
                work = _in_processes if as_processes else _in_threads
                taken = work(contestant, place, count, seconds)
                key = (contestant.name, shape)
                speeds.setdefault(key, []).append(len(taken) / seconds)
                calls.setdefault(key, []).extend(taken)
    for shape, count, _ in shapes:
        for contestant in _CONTESTANTS:
            key = (contestant.name, shape)
            over_one = 1 / ratio(speeds[contestant.name, "1 thread"], speeds[key])
            goal: dict[str, object] = {}
            if contestant is Convmem and count == 8:
                goal = at_least(over_one, 4.0)
            table.add(
                f"{contestant.name}, {shape}",
                per_s=median(speeds[key]),
                **spread(calls[key]),
                over_floor=1 / ratio(speeds[key], speeds[Raw.name, shape]),
                over_one=over_one,
                **goal,
            )
    return table


def _in_threads(contestant: type, place: Path, count: int, seconds: float) -> list[float]:
    """Return the seconds of every call of *count* threads; SQLite gets a connection for each."""
    shared = [contestant(place, True)]
    if contestant is Sqlite:
        shared += [contestant(place, True) for _ in range(count - 1)]
    ready = threading.Barrier(count)
    taken: list[float] = []

    def work(at: int) -> None:
        mine = shared[at % len(shared)]
        mine.append()
        ready.wait()
        taken.extend(_timed_until(mine.append, time.perf_counter() + seconds))

    threads = [threading.Thread(target=work, args=(at,)) for at in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in shared:
        each.close()
    return taken


def _in_processes(contestant: type, place: Path, count: int, seconds: float) -> list[float]:
    """Return the seconds of every call of *count* processes."""
    forking = multiprocessing.get_context("fork")
    ready = forking.Barrier(count)
    answers = forking.Queue()
    started = [
        forking.Process(target=_work, args=(contestant, place, seconds, ready, answers))
        for _ in range(count)
    ]
    for process in started:
        process.start()
    taken = [call for _ in started for call in answers.get(timeout=seconds + 60)]
    for process in started:
        process.join()
    return taken


def _work(contestant: type, place: Path, seconds: float, ready: object, answers: object) -> None:
    mine = contestant(place, True)
    mine.append()
    ready.wait()  # type: ignore[attr-defined]
    answers.put(  # type: ignore[attr-defined]
        _timed_until(mine.append, time.perf_counter() + seconds)
    )
    mine.close()


def _timed_until(append: Append, end: float) -> list[float]:
    clock = time.perf_counter
    taken = []
    began = clock()
    while began < end:
        append()
        now = clock()
        taken.append(now - began)
        began = now
    return taken


# --- many turns at once ---------------------------------------------------------------------------


def _batches(run: Run) -> Table:
    table = Table(
        f"{_BATCH} turns in one call", "Raw and SQLite: one write, or one transaction, for all."
    )
    rounds = run.scale.pick(40, 12, 2)
    for is_durable in (True, False):
        place = _new_folder(run, f"batch-{is_durable}")
        opened = [contestant(place, is_durable) for contestant in _CONTESTANTS]
        taken = _interleaved(
            [lambda each=each: each.append_many(_BATCH) for each in opened],  # type: ignore[misc]
            rounds=rounds,
            block=run.scale.pick(5, 5, 2),
        )
        medians = [[median(calls) for calls in its_rounds] for its_rounds in taken]
        for at, contestant in enumerate(_CONTESTANTS):
            table.add(
                f"{contestant.name}, {'durable' if is_durable else 'not synced'}",
                **spread([call for calls in taken[at] for call in calls]),
                us_per_turn=median(medians[at]) / _BATCH * 1e6,
                over_floor=ratio(medians[at], medians[0]),
                over_sqlite=ratio(medians[at], medians[-1]),
            )
            opened[at].close()
    return table


_BARE_LOOP = """\
import sys, orjson
with open(sys.argv[1], "wb") as out:
    for line in sys.stdin.buffer:
        out.write(orjson.dumps(orjson.loads(line)) + b"\\n")
"""


def _bulk(run: Run) -> Table:
    """Record a stream of JSON lines from the shell, as whole processes."""
    lines = run.scale.pick(100_000, 20_000, 500)
    rounds = run.scale.pick(5, 3, 1)
    source = run.folder / "turns.jsonl"
    with source.open("wb") as file:
        for number in range(lines):
            turn = {"role": "user", "content": TEXT, "meta": {"number": number}}
            file.write(orjson.dumps(turn) + b"\n")
    given = run.folder / "turns-with-ids.jsonl"
    with source.open("rb") as file, given.open("wb") as out:
        for number, line in zip(range(lines // 5), file, strict=False):
            out.write(b'{"id":"turn-%08d",' % number + line[1:])
    place = _new_folder(run, "bulk")
    script = console_script()
    loop: list[str | Path] = [sys.executable, "-c", _BARE_LOOP, place / "loop.jsonl"]
    bare, bare_given = "bare orjson loop", "bare orjson loop, ids given"
    shapes: dict[str, tuple[list[str | Path], Path]] = {
        bare: (loop, source),
        "record ID --jsonl --sync none": (
            [script, "record", "", "--jsonl", "--sync", "none"],
            source,
        ),
        "record ID --jsonl": ([script, "record", "", "--jsonl"], source),
        bare_given: (loop, given),
        "record ID --jsonl, ids given": ([script, "record", "", "--jsonl"], given),
    }
    env = environment(place / "archive")
    found: dict[str, list[float]] = {name: [] for name in shapes}
    peaks: dict[str, float] = dict.fromkeys(shapes, 0.0)
    for number in range(rounds):
        for nth, (name, (words, stdin)) in enumerate(shapes.items()):
            if words is not loop:
                words = [*words[:2], f"bulk-{number}-{nth}", *words[3:]]
            child = check(run_child(words, stdin=stdin, env=env), name)
            found[name].append(child.seconds)
            peaks[name] = max(peaks[name], child.peak_mb)
    table = Table(
        f"record --jsonl, {lines:,} lines",
        "Whole processes, start included. The bare loop parses, writes and syncs nothing. "
        "Lines with ids given are a fifth as many.",
    )
    for name, seconds in found.items():
        has_ids = shapes[name][1] is given
        speed = 1 / ratio(seconds, found[bare_given if has_ids else bare])
        table.add(
            name,
            s=median(seconds),
            lines_per_s=(lines // 5 if has_ids else lines) / median(seconds),
            speed_over_loop=speed,
            resident_mb=peaks[name],
            **({} if shapes[name][0] is loop else at_least(speed, 0.5)),
        )
    return table


# --- the last turns -------------------------------------------------------------------------------


def _tails(run: Run) -> Table:
    table = Table(
        "the last 20 turns",
        "Bare: open, read blocks backwards to 21 newlines, orjson.loads of 20 lines. over_short = "
        "over the same in the shortest conversation.",
    )
    lengths = run.scale.pick((100, 10_000, 200_000), (100, 10_000), (100,))
    rounds = run.scale.pick(30, 15, 2)
    place = _new_folder(run, "tails")
    with Archive.open(place / "archive", durability="none") as archive:
        first: dict[str, float] = {}
        for length in lengths:
            chat = archive.conversation(f"trip-{length}")
            # Each a turn of its own, not of a batch: a reader must look at the whole of a batch.
            for start in range(0, length, 1000):
                turns = [(chat.continuation_id, ("user", TEXT))] * min(1000, length - start)
                archive.record_to_many(turns)
            path = chat.path
            taken = _interleaved(
                [
                    lambda path=path: _bare_tail(path, 20),  # type: ignore[misc]
                    lambda chat=chat: chat.tail(20),  # type: ignore[misc]
                    lambda chat=chat: chat.stored_tail(20),  # type: ignore[misc]
                ],
                rounds=rounds,
                block=20,
            )
            medians = [[median(calls) for calls in its_rounds] for its_rounds in taken]
            names = ("bare backward read", "chat.tail(20)", "chat.stored_tail(20), unparsed")
            for at, name in enumerate(names):
                calls = [call for its_calls in taken[at] for call in its_calls]
                over_floor = ratio(medians[at], medians[0])
                middle = median(medians[at])
                table.add(
                    f"{name} of {length:,}",
                    p50_us=middle * 1e6,
                    p99_us=percentile(calls, 0.99) * 1e6,
                    over_floor=over_floor,
                    over_short=middle / first.setdefault(name, middle),
                    **(at_most(over_floor, 2.0) if at == 1 else {}),
                )
    return table


def _bare_tail(path: str, count: int) -> list[object]:
    fd = os.open(path, os.O_RDONLY)
    try:
        at = os.fstat(fd).st_size
        block = 4096
        data = b""
        while at > 0 and data.count(b"\n") <= count:
            take = min(block, at)
            at -= take
            block *= 2
            data = os.pread(fd, take, at) + data
        return [orjson.loads(line) for line in data.split(b"\n")[-count - 1 : -1]]
    finally:
        os.close(fd)


def _new_folder(run: Run, name: str) -> Path:
    folder = run.folder / name
    folder.mkdir()
    return folder


if __name__ == "__main__":
    raise SystemExit(main("append", measure))
