"""A conversation of a gigabyte: what reading its end, reading it all and compacting it cost.

Every command is a process of its own. Nothing but ``show --json`` and ``compact`` may read it
all, and nothing may hold it in memory. Compaction stands beside ``cp`` and ``sync`` of the same
bytes, and while it runs another process records turns and tells how long it ever had to wait.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from measuring import (
    Child,
    Run,
    Table,
    at_most,
    check,
    console_script,
    environment,
    main,
    percentile,
    ratio,
    run_child,
)

from convmem import Archive
from convmem.log import codec
from convmem.quantities import format_time
from convmem.turns import draft

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_MOST_MB = 100
_LONGEST_STALL_MS = 20
_MB = 1_000_000
_SENTENCES = (
    "The early train leaves at ten past six and takes the coast line.",
    "About seven hours, with one change; the way along the lake is the slower one.",
    "Die Fähre fährt nur im Sommer, und man muß eine Stunde vorher da sein.",
    "A ticket for the whole day costs less than two single ones.",
    "夜行列車なら朝の八時に着きます。",
    "Then I would rather stay a night on the way, somewhere with a view.",
)
_CHAT = "big"
_COPY = "copy"
_STEP = timedelta(seconds=1)  # between two turns


def measure(run: Run) -> list[Table]:
    """Make the conversation, read it, compact copies of it."""
    megabytes = run.options.size_mb or run.scale.pick(1000, 150, 2)
    archive = run.folder / "archive"
    turns, size = make_conversation(archive, _CHAT, megabytes * _MB)
    make_conversation(archive, "small", 20 * size // turns)
    what = f"{turns:,} turns, {size / _MB:,.0f} MB"
    env = environment(archive)
    return [
        _reading(run, env, what, f"turn-{turns // 2}"),
        *_compacting(run, env, archive, what, turns, size),
    ]


def make_conversation(archive: Path, name: str, size: int) -> tuple[int, int]:
    """Make a conversation of about *size* bytes; return how many turns and bytes it has.

    Its lines are what recording one by one would have written: every 50th turn is a tool call and
    the next its result, and its times end now. They are written without recording, in seconds.
    """
    with Archive.open(archive, durability="none") as opened:
        chat = opened.conversation(name)
        chat.record("system", "You plan journeys.")
        path = chat.path
    average = sum(len(line) for line in _lines(1000, datetime.now(UTC))) / 1000
    turns = max(20, int(size / average))
    with open(path, "wb", buffering=1 << 20) as file:
        file.writelines(_lines(turns, datetime.now(UTC) - turns * _STEP))
    return turns, os.path.getsize(path)


def _lines(turns: int, start: datetime) -> Iterator[bytes]:
    drafts = []
    for at in range(50):
        text = " ".join(_SENTENCES[(at + nth) % len(_SENTENCES)] for nth in range(6))
        extra: dict[str, Any] = {}
        role = "assistant" if at % 2 else "user"
        if at == 47:
            call = {"id": "call-1", "type": "function", "function": {"name": "timetable"}}
            extra = {"tool_calls": [call]}
        elif at == 48:
            role, extra = "tool", {"tool_call_id": "call-1"}
        drafts.append(draft(role, text, id="turn-0", meta={"model": "small"}, extra=extra))
    # What differs from turn to turn is put in by hand: a draft for each would take a minute.
    heads = [b'{"id":"turn-%d"'] * len(drafts)
    for seq in range(1, turns + 1):
        if seq % 1000 == 1:
            moment = start + seq * _STEP
            ts_text = format_time(moment)
        at = seq % len(drafts)
        made = drafts[at]
        made.head = heads[at] % seq
        yield codec.turn_line(made, seq, ts_text, None)


# --- reading --------------------------------------------------------------------------------------


def _reading(run: Run, env: dict[str, str], what: str, turn_id: str) -> Table:
    script = console_script()
    shapes: dict[str, tuple[list[str | Path], list[str | Path], bool]] = {
        # Words for the big one, the same for a small one, and whether it reads all of it.
        "tail -n 20": ([script, "tail", _CHAT, "-n", "20"], [script, "tail", "small"], False),
        "list": ([script, "list"], [script, "list"], False),
        "record ID TEXT": (
            [script, "record", _CHAT, "And by bus?"],
            [script, "record", "small", "And by bus?"],
            False,
        ),
        "record ID TEXT --id, a new id": (
            [script, "record", _CHAT, "And by bus?", "--id", "NEW"],
            [script, "record", "small", "And by bus?", "--id", "NEW"],
            True,
        ),
        "show | head -n 1": (
            ["sh", "-c", '"$0" show big | head -n 1', script],
            ["sh", "-c", '"$0" show small | head -n 1', script],
            False,
        ),
        "show --json": ([script, "show", _CHAT, "--json"], [script, "show", "small"], True),
        "wc -l": (["wc", "-l", "LOG"], ["wc", "-l", "LOG"], True),
        "list --long": ([script, "list", "--long"], [script, "list"], True),
    }
    log = Path(env["CONVMEM_ARCHIVE"]) / "default" / f"{_CHAT}.jsonl"
    rounds = run.scale.pick(3, 2, 1)
    found: dict[str, list[tuple[Child, Child]]] = {name: [] for name in shapes}
    for number in range(rounds):
        for name, (words, small, reads_all) in shapes.items():
            if reads_all and number > 0:
                continue  # seconds each
            pair = []
            for given in (words, small):
                put = {"LOG": log, "NEW": f"{turn_id}-{number}"}
                filled = [put.get(str(word), word) for word in given]
                pair.append(check(run_child(filled, env=env), name))
            found[name].append((pair[0], pair[1]))
    table = Table(
        f"reading {what}",
        "Each a process of its own; beside it the same on a conversation of 20 turns. read = by "
        "read calls, the program's own files not counted (what the small one read).",
    )
    for name, pairs in found.items():
        peak = max(big.peak_mb for big, _ in pairs)
        read = [
            (big.read_kb or 0) - (small.read_kb or 0) for big, small in pairs if name != "wc -l"
        ]
        if name == "list":
            read = []  # both list both
        table.add(
            name,
            ms=median(big.seconds for big, _ in pairs) * 1e3,
            small_ms=None if not read else median(small.seconds for _, small in pairs) * 1e3,
            read_kb=max(0.0, median(read)) if read else None,
            resident_mb=peak,
            **({} if name == "wc -l" else at_most(peak, _MOST_MB)),
        )
    return table


# --- compacting -----------------------------------------------------------------------------------


def _compacting(
    run: Run, env: dict[str, str], archive: Path, what: str, turns: int, size: int
) -> list[Table]:
    script = console_script()
    folder = archive / "default"
    log, copy = folder / f"{_CHAT}.jsonl", folder / f"{_COPY}.jsonl"
    age = f"{turns // 2}s"
    shapes: dict[str, list[str]] = {
        f"--keep-last {turns // 2}": ["--keep-last", str(turns // 2)],
        "--max-age, half of it": ["--max-age", age],
        f"--keep-last {turns // 2} --discard": ["--keep-last", str(turns // 2), "--discard"],
        "--keep-last, nothing goes": ["--keep-last", str(turns * 2)],
    }
    rounds = run.scale.pick(1, 1, 1)
    compacted: dict[str, list[Child]] = {name: [] for name in shapes}
    copied: dict[str, list[float]] = {name: [] for name in shapes}
    calm: list[_Waits] = []
    stalls: dict[str, list[_Waits]] = {name: [] for name in shapes}
    for _ in range(rounds):
        for name, policy in shapes.items():
            with _Writer(archive, None) as writer:
                copied[name].append(_copy_and_sync(log, copy))
            calm.append(writer.waits())
            with _Writer(archive, _COPY) as writer:
                words = [script, "compact", _COPY, *policy]
                compacted[name].append(check(run_child(words, env=env), name))
            stalls[name].append(writer.waits())
            _forget_copy(folder)
    table = Table(
        f"compacting {what}",
        "Beside cp and sync of the same bytes, just before. Dropped turns go to the trash, so "
        "that all but --discard write everything once.",
    )
    for name, children in compacted.items():
        over = ratio([child.seconds for child in children], copied[name])
        peak = max(child.peak_mb for child in children)
        table.add(
            name,
            s=median(child.seconds for child in children),
            cpu_s=median(child.cpu_seconds for child in children),
            cp_and_sync_s=median(copied[name]),
            over_cp=over,
            mb_per_s=size / _MB / median(child.seconds for child in children),
            resident_mb=peak,
            goal=f"≤ 2, ≤ {_MOST_MB} MB",
            is_met=over <= 2 and peak <= _MOST_MB,
        )
    waits = Table(
        "a writer meanwhile",
        "It records one durable turn after the other, and between them writes and syncs a line "
        "in a file of its own: what the disk alone makes everybody wait.",
    )
    for name, its_waits in (("cp and sync", calm), *stalls.items()):
        worst = max(wait.worst_ms for wait in its_waits)
        has_goal = name != "cp and sync"
        waits.add(
            name,
            turns=sum(wait.turns for wait in its_waits),
            p50_ms=median(wait.p50_ms for wait in its_waits),
            p99_ms=max(wait.p99_ms for wait in its_waits),
            worst_ms=worst,
            raw_p50_ms=median(wait.raw_p50_ms for wait in its_waits),
            raw_p99_ms=max(wait.raw_p99_ms for wait in its_waits),
            raw_worst_ms=max(wait.raw_worst_ms for wait in its_waits),
            **(at_most(worst, _LONGEST_STALL_MS) if has_goal else {}),
        )
    return [table, waits]


def _copy_and_sync(source: Path, target: Path) -> float:
    began = time.perf_counter()
    subprocess.run(["cp", str(source), str(target)], check=True)
    subprocess.run(["sync", str(target)], check=True)
    return time.perf_counter() - began


def _forget_copy(folder: Path) -> None:
    """Remove the copy, what it dropped, and what is remembered of that."""
    for path in (folder, *(folder / name for name in (".trash", ".dropped"))):
        for found in path.glob(f"{_COPY}.*"):
            found.unlink()


class _Waits:
    """How long a writer waited: for its turns, and for a raw write and sync beside them."""

    def __init__(self, turns: list[float], raw: list[float]) -> None:
        self.turns = len(turns)
        self.p50_ms, self.raw_p50_ms = median(turns) * 1e3, median(raw) * 1e3
        self.p99_ms, self.raw_p99_ms = percentile(turns, 0.99) * 1e3, percentile(raw, 0.99) * 1e3
        self.worst_ms, self.raw_worst_ms = max(turns) * 1e3, max(raw) * 1e3


class _Writer:
    """A process that records for as long as the ``with`` lasts; with no name, in another log."""

    def __init__(self, archive: Path, name: str | None) -> None:
        forking = multiprocessing.get_context("fork")
        self._stop = forking.Event()
        self._ready = forking.Event()
        self._file = archive.parent / "waits.json"
        self._process = forking.Process(
            target=_write, args=(archive, name or "other", self._ready, self._stop, self._file)
        )

    def __enter__(self) -> _Writer:
        self._process.start()
        self._ready.wait()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._process.join()

    def waits(self) -> _Waits:
        """Return how long it waited, once it has ended."""
        return _Waits(*json.loads(self._file.read_text()))


def _write(archive: Path, name: str, ready: Any, stop: Any, answer: Path) -> None:
    turns: list[float] = []
    raw: list[float] = []
    beside = archive.parent / "beside"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    clock = time.perf_counter
    with Archive.open(archive) as opened:
        chat = opened.conversation(name)
        chat.record("user", "And by bus?")
        ready.set()
        while not stop.is_set() or not turns:
            began = clock()
            chat.record("user", "And by bus?")
            between = clock()
            os.write(fd, b"And by bus?\n")
            os.fdatasync(fd)
            raw.append(clock() - between)
            turns.append(between - began)
    os.close(fd)
    answer.write_text(json.dumps([turns, raw]))


_SIZE = ("--size-mb", {"type": int, "metavar": "N", "help": "how large; 1000 if not told"})

if __name__ == "__main__":
    raise SystemExit(main("big conversation", measure, [_SIZE]))
