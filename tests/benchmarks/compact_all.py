"""``compact --all`` over thousands of conversations, as cron runs it, beside ``cp`` and ``sync``.

The peer copies the same bytes just before: what compaction then works on is that copy. One policy
lets nothing go, one touches every tenth conversation, one drops half of each. What a policy leaves
alone must be as it was: names, inodes, sizes and times of change of everything in the archive.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from big_conversation import _STEP, _lines
from measuring import Run, Table, check, console_script, environment, main, ratio, run_child

_MB = 1_000_000
_MOST_TIMES = 2  # at least half the speed
_LONGER = 1.2  # every tenth conversation, than the others


def measure(run: Run) -> list[Table]:
    """Make the conversations once, and for each policy and round a copy that is compacted."""
    count = run.options.conversations or run.scale.pick(10_000, 1_000, 20)
    base = run.folder / "base"
    turns, size = _make(base, count, run.scale.pick(100_000, 100_000, 3_000))
    shapes = {
        "nothing goes": str(turns * 2),
        "every tenth loses its oldest": str(turns),
        "half of each goes": str(turns // 2),
    }
    copied: dict[str, list[float]] = {name: [] for name in shapes}
    seconds: dict[str, list[float]] = {name: [] for name in shapes}
    cpu: dict[str, list[float]] = {name: [] for name in shapes}
    peak = dict.fromkeys(shapes, 0.0)
    broken = dict.fromkeys(shapes, 0)
    copy = run.folder / "copy"
    script, env = console_script(), environment(copy)
    for _ in range(run.scale.pick(3, 3, 1)):
        for name, keep_last in shapes.items():
            copied[name].append(_copy_and_sync(base, copy))
            before = _looks(copy)
            words: list[str | Path] = [script, "compact", "--all", "--keep-last", keep_last]
            child = check(run_child([*words, "--quiet"], env=env), name)
            seconds[name].append(child.seconds)
            cpu[name].append(child.cpu_seconds)
            peak[name] = max(peak[name], child.peak_mb)
            broken[name] += _changed_in_vain(before, _looks(copy), name)
            shutil.rmtree(copy)
            subprocess.run(["sync"], check=True)
    table = Table(
        f"compacting all of {count:,} conversations, {size / _MB:,.0f} MB",
        "Beside cp -r and sync of the same bytes, just before, medians. cores = what the program "
        "used. broken = files that changed though the policy leaves them alone.",
    )
    for name in shapes:
        over = ratio(seconds[name], copied[name])
        table.add(
            name,
            s=median(seconds[name]),
            cpu_s=median(cpu[name]),
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
            cp_and_sync_s=median(copied[name]),
            over_cp=over,
            mb_per_s=size / _MB / median(seconds[name]),
            resident_mb=peak[name],
            broken=broken[name],
            goal=f"≤ {_MOST_TIMES}",
            is_met=over <= _MOST_TIMES,
        )
    return [table]


def _make(base: Path, count: int, size: int) -> tuple[int, int]:
    """Make *count* conversations of about *size* bytes; return turns of most, and all bytes."""
    folder = base / "default"
    folder.mkdir(parents=True)
    for path in (base, folder):
        path.chmod(0o700)
    now = datetime.now(UTC)
    average = sum(len(line) for line in _lines(1000, now)) / 1000
    turns = max(10, int(size / average))
    usual, longer = (
        b"".join(_lines(int(turns * times), now - turns * _STEP)) for times in (1, _LONGER)
    )
    total = 0
    for at in range(count):
        path = folder / f"chat-{at:05}.jsonl"
        path.touch(mode=0o600)
        total += path.write_bytes(usual if at % 10 else longer)
    subprocess.run(["sync"], check=True)
    return turns, total


def _copy_and_sync(source: Path, target: Path) -> float:
    began = time.perf_counter()
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    subprocess.run(["sync"], check=True)
    seconds = time.perf_counter() - began
    for folder in (target, target / "default"):
        folder.chmod(0o700)
    return seconds


def _looks(archive: Path) -> dict[str, tuple[int, int, int, int]]:
    """Return (inode, size, times of change) of everything in the archive."""
    found = {}
    for folder, _, names in os.walk(archive):
        for name in (".", *names):
            path = os.path.join(folder, name)
            its = os.stat(path)
            key = os.path.relpath(path, archive)
            found[key] = (its.st_ino, its.st_size, its.st_mtime_ns, its.st_ctime_ns)
    return found


def _changed_in_vain(
    before: dict[str, tuple[int, int, int, int]],
    after: dict[str, tuple[int, int, int, int]],
    shape: str,
) -> int:
    """Return how many files changed, came or went of conversations that are to be left alone."""
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    if shape == "nothing goes":
        return len(changed)
    if shape.startswith("half"):
        return 0
    places = (os.path.basename(name).lstrip(".").split(".")[0] for name in changed)
    return sum(place.startswith("chat-") and not place.endswith("0") for place in places)


_CONVERSATIONS = ("--conversations", {"type": int, "metavar": "N", "help": "how many"})

if __name__ == "__main__":
    raise SystemExit(main("compact --all", measure, [_CONVERSATIONS]))
