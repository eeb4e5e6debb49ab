"""A conversation of a gigabyte: verify, compact and export it, and what a writer feels meanwhile.

Every program is a process of its own. Beside them ``cp`` and ``sync`` of the same bytes, and the
usual tools that read all of it. While each runs, another process records durable turns, one
after the other, and between them writes and syncs a line in a file of its own: what the disk
alone makes everybody wait.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median

from conversations import STEP, make_conversation, turns_in
from figures import Run, Table, at_most, both, percentile, ratio
from peers.known import Kind
from processes import Ended, convmem_environment, convmem_program, run_program

from convmem import Archive

_MB = 1_000_000
_COPY_TIMES = 2.0
_LONGEST_STALL_MS = 20.0
_MOST_MB = 100.0
_BIG, _COPY = "big", "copy"
_FLOOR = "cp, sync"


def measure(run: Run) -> list[Table]:
    """Run each program some times on the conversation, or on a copy of it."""
    megabytes = run.options.size_mb or run.pick(1000, 150, 2)
    root = run.new_folder("archive")
    turns = turns_in(megabytes * _MB)
    log = make_conversation(root, _BIG, turns)
    size = log.stat().st_size
    copy = log.with_name(f"{_COPY}.jsonl")
    env = convmem_environment(root)
    program = convmem_program()
    half = str(turns // 2)
    compact: list[str | Path] = [program, "compact", _COPY]
    # What is run, and whether it works on a copy made just before, in which the writer records.
    shapes: dict[str, tuple[Kind, list[str | Path], bool]] = {
        _FLOOR: (Kind.FLOOR, ["sh", "-c", 'cp "$0" "$1" && sync "$1"', log, copy], False),
        "wc -l": (Kind.PEER, ["wc", "-l", log], False),
        "jq -c .": (Kind.PEER, ["jq", "-c", ".", log], False),
        "verify": (Kind.OURS, [program, "verify", _BIG], False),
        "export --to convmem": (Kind.OURS, [program, "export", _BIG, "--to", "convmem"], False),
        "compact, half goes": (Kind.OURS, [*compact, "--keep-last", half], True),
        "compact, older half goes": (
            Kind.OURS,
            [*compact, "--max-age", f"{int(turns // 2 * STEP.total_seconds())}s"],
            True,
        ),
        "compact --discard, half goes": (
            Kind.OURS,
            [*compact, "--keep-last", half, "--discard"],
            True,
        ),
        "compact, nothing goes": (
            Kind.OURS,
            [*compact, "--keep-last", str(turns * 2)],
            True,
        ),
    }
    table = Table(
        f"a conversation of {size / _MB:,.0f} MB, {turns:,} turns",
        "over_floor = over cp and sync of the same bytes in the same round. The writer records "
        "one durable turn after the other; raw = a bare write and fdatasync between its turns.",
    )
    if shutil.which("jq") is None:
        del shapes["jq -c ."]
        table.add_missing("jq -c .", "no jq program")
    ended: dict[str, list[Ended]] = {name: [] for name in shapes}
    waits: dict[str, list[_Waits]] = {name: [] for name in shapes}
    broken = dict.fromkeys(shapes, 0)
    for _ in range(run.pick(3, 1, 1)):
        for name, (kind, words, on_copy) in shapes.items():
            if on_copy:
                shutil.copyfile(log, copy)
                os.sync()
            chat = _COPY if on_copy else "other" if kind is Kind.FLOOR else _BIG
            with _Writer(root, chat) as writer:
                ended[name].append(run_program(words, env=env))
            waits[name].append(writer.waits())
            if on_copy:
                kept = (
                    int(str(words[words.index("--keep-last") + 1])) if "--keep-last" in words else 0
                )
                broken[name] += _is_wrong(copy, writer.recorded, kept, turns)
            _forget_copy(log.parent)
    floor = [each.seconds for each in ended[_FLOOR]]
    for name, (kind, _, on_copy) in shapes.items():
        _add(table, name, kind, on_copy, ended[name], floor, waits[name], size, broken[name])
    return [table]


def _add(
    table: Table,
    name: str,
    kind: Kind,
    is_compaction: bool,
    ended: list[Ended],
    floor: list[float],
    waits: list[_Waits],
    size: int,
    broken: int,
) -> None:
    seconds = [each.seconds for each in ended]
    over_floor = ratio(seconds, floor)
    peak = max(each.peak_mb for each in ended)
    # The median of the rounds' worst: one round in which the machine stood still is no finding.
    worst = median(wait.worst_ms for wait in waits)
    goal: tuple[str, bool | None] = ("", None)
    if is_compaction:
        goal = both(
            at_most(over_floor, _COPY_TIMES, " × cp"),
            at_most(worst, _LONGEST_STALL_MS, " ms stall"),
            at_most(peak, _MOST_MB, " MB"),
        )
    elif kind is Kind.OURS:
        goal = at_most(peak, _MOST_MB, " MB")
    table.add(
        name,
        kind,
        s=median(seconds),
        cpu_s=median(each.cpu_seconds for each in ended),
        mb_per_s=size / _MB / median(seconds),
        over_floor=over_floor,
        resident_mb=peak,
        writer_p99_ms=median(wait.p99_ms for wait in waits),
        writer_worst_ms=worst,
        raw_worst_ms=median(wait.raw_worst_ms for wait in waits),
        broken=broken if is_compaction else None,
        goal=goal,
    )


def _is_wrong(path: Path, recorded: int, kept: int, turns: int) -> bool:
    """Tell whether a compacted file lacks a turn that was recorded meanwhile, or one kept."""
    with path.open("rb") as file:
        count = new = 0
        for line in file:
            count += 1
            new += b'"role":"user","content":"And by bus?"' in line
    return new < min(recorded, kept or recorded) or count < min(kept, turns)


def _forget_copy(folder: Path) -> None:
    """Remove the copy, what it dropped, and what is remembered of that."""
    for path in (folder, *(folder / name for name in (".trash", ".dropped"))):
        for found in path.glob(f"{_COPY}.*"):
            found.unlink()


class _Waits:
    """How long a writer waited: for its turns, and for a raw write and sync beside them."""

    def __init__(self, turns: list[float], raw: list[float]) -> None:
        self.turns = len(turns)
        self.p99_ms = percentile(turns, 0.99) * 1e3
        self.worst_ms, self.raw_worst_ms = max(turns) * 1e3, max(raw) * 1e3


class _Writer:
    """A process that records into a conversation for as long as the ``with`` lasts."""

    def __init__(self, root: Path, chat: str) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._stop = spawning.Event()
        self._ready = spawning.Event()
        self._file = root.parent / "waits.json"
        self._process = spawning.Process(
            target=_write, args=(root, chat, self._ready, self._stop, self._file)
        )
        self.recorded = 0

    def __enter__(self) -> _Writer:
        self._process.start()
        self._ready.wait()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._process.join()

    def waits(self) -> _Waits:
        """Return how long it waited, once it has ended."""
        waits = _Waits(*json.loads(self._file.read_text()))
        self.recorded = waits.turns
        return waits


def _write(root: Path, chat: str, ready: Event, stop: Event, answer: Path) -> None:
    turns: list[float] = []
    raw: list[float] = []
    fd = os.open(root.parent / "beside", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    clock = time.perf_counter
    with Archive.open(root) as archive:
        conversation = archive.conversation(chat)
        conversation.record("user", "And by bus?")
        ready.set()
        while not stop.is_set() or not turns:
            began = clock()
            conversation.record("user", "And by bus?")
            between = clock()
            os.write(fd, b"And by bus?\n")
            os.fdatasync(fd)
            raw.append(clock() - between)
            turns.append(between - began)
    os.close(fd)
    answer.write_text(json.dumps([turns, raw]))
