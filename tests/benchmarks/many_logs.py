"""``compact --all`` over thousands of conversations, as cron runs it, beside ``cp`` and ``sync``.

The peer copies the same bytes just before: what compaction then works on is that copy. One policy
lets nothing go, one touches every tenth conversation, one drops half of each. What a policy leaves
alone must be as it was: names, inodes, sizes and times of change of everything in the archive.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from conversations import STEP, lines, turns_in
from figures import Run, Table, at_most, ratio
from peers.known import Kind
from processes import Ended, convmem_environment, convmem_program, run_program

_MB = 1_000_000
_COPY_TIMES = 2.0  # at least half the speed
_LONGER = 1.2  # every tenth conversation, than the others


def measure(run: Run) -> list[Table]:
    """Make the conversations once, and for each policy and round a copy that is compacted."""
    count = run.pick(10_000, 1_000, 20)
    base, copy = run.folder / "base", run.folder / "copy"
    turns, size = _make(base, count, run.pick(100_000, 100_000, 3_000))
    shapes = {
        "nothing goes": str(turns * 2),
        "every tenth loses its oldest": str(turns),
        "half of each goes": str(turns // 2),
    }
    copied: dict[str, list[Ended]] = {name: [] for name in shapes}
    ended: dict[str, list[Ended]] = {name: [] for name in shapes}
    broken = dict.fromkeys(shapes, 0)
    env = convmem_environment(copy)
    for _ in range(run.pick(3, 1, 1)):
        for name, keep_last in shapes.items():
            copied[name].append(_copy_and_sync(base, copy))
            before = _looks(copy)
            policy = ["--keep-last", keep_last, "--quiet"]
            words: list[str | Path] = [convmem_program(), "compact", "--all", *policy]
            ended[name].append(run_program(words, env=env))
            broken[name] += _changed_in_vain(before, _looks(copy), name)
            shutil.rmtree(copy)
            subprocess.run(["sync"], check=True)
    table = Table(
        f"compact --all of {count:,} conversations, {size / _MB:,.0f} MB",
        "over_floor = over cp -r and sync of the same bytes, just before. broken = files that "
        "changed though the policy leaves them alone.",
    )
    floor = [each.seconds for its in copied.values() for each in its]
    table.add("cp -r, sync", Kind.FLOOR, s=median(floor), over_floor=1.0)
    for name in shapes:
        seconds = [each.seconds for each in ended[name]]
        over_floor = ratio(seconds, [each.seconds for each in copied[name]])
        table.add(
            name,
            Kind.OURS,
            s=median(seconds),
            cpu_s=median(each.cpu_seconds for each in ended[name]),
            mb_per_s=size / _MB / median(seconds),
            over_floor=over_floor,
            resident_mb=max(each.peak_mb for each in ended[name]),
            broken=broken[name],
            goal=at_most(over_floor, _COPY_TIMES, " × cp"),
        )
    return [table]


def _make(base: Path, count: int, size: int) -> tuple[int, int]:
    """Make *count* conversations of about *size* bytes; return turns of most, and all bytes."""
    folder = base / "default"
    folder.mkdir(parents=True)
    for path in (base, folder):
        path.chmod(0o700)
    now = datetime.now(UTC)
    turns = turns_in(size)
    usual, longer = (
        b"".join(lines(int(turns * times), now - turns * STEP)) for times in (1, _LONGER)
    )
    total = 0
    for at in range(count):
        path = folder / f"chat-{at:05}.jsonl"
        path.touch(mode=0o600)
        total += path.write_bytes(usual if at % 10 else longer)
    subprocess.run(["sync"], check=True)
    return turns, total


def _copy_and_sync(source: Path, target: Path) -> Ended:
    copied = run_program(["sh", "-c", 'cp -r "$0" "$1" && sync', source, target])
    for folder in (target, target / "default"):
        folder.chmod(0o700)
    return copied


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
