"""Importing Claude Code sessions beside ``orjson.loads`` of every line, on one core, in turns.

    python tests/benchmarks/importing.py [--mb 100] [--rounds 3]

The sessions are the real ones of ``tests/data/transcripts``, over and over, each time with other
ids, in one file and in many. Prints MB/s of CPU time and of wall time, the ratio, and the most
memory of the importing process for a source and for one four times as long.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAMPLES = Path(__file__).parent.parent / "data" / "transcripts" / "claude_code"
_UUID = re.compile(rb"([0-9a-f]{8})(-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")
_ONE = "00000000-0000-4000-8000-000000000000.jsonl"


def shifted(data: bytes, nth: int) -> bytes:
    """Return *data* with every id another one, the same for the same *nth*."""
    return _UUID.sub(lambda found: b"%08x%b" % (int(found[1], 16) ^ nth, found[2]), data)


def make_sessions(folder: Path, size: int, *, in_one_file: bool) -> int:
    """Write sessions of *size* bytes in all into *folder*; return how many they are."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = [p for p in sorted(SAMPLES.glob("*-*-*-*-*.jsonl")) if p.stat().st_size]
    written = nth = 0
    one = open(folder / _ONE, "wb") if in_one_file else None  # noqa: SIM115 - closed below
    while written < size:
        nth += 1
        for sample in samples:
            data = shifted(sample.read_bytes(), nth)
            if one is not None:
                one.write(data)
            else:
                name = shifted(sample.name.encode(), nth).decode()
                (folder / name).write_bytes(data)
            written += len(data)
    if one is not None:
        one.close()
    return written


def parse_all(folder: Path) -> None:
    """The floor: parse every line, and do nothing with it."""
    from orjson import loads

    for path in sorted(folder.iterdir()):
        with open(path, "rb") as file:
            for line in file:
                loads(line)


def import_all(folder: Path) -> None:
    """What is measured: all of it into a new archive, durable at the end."""
    from convmem import Archive
    from convmem.transfer.importing import Importer

    with tempfile.TemporaryDirectory(dir=folder.parent) as root, Archive.open(root) as archive:
        summary = Importer(archive, "default").run([str(folder)])
        assert summary.added == summary.records > 0


def _apart(what: str, folder: Path) -> tuple[float, float, int]:
    """Do it in a process of its own; return CPU seconds, wall seconds and the most memory."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import importing, pathlib, time, resource\n"
        "import convmem.transfer.importing, convmem.formats.claude_code, orjson\n"
        "began, cpu = time.perf_counter(), time.process_time()\n"
        "getattr(importing, sys.argv[2])(pathlib.Path(sys.argv[3]))\n"
        "print(time.process_time() - cpu, time.perf_counter() - began,"
        " resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parent), what, str(folder)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return float(answer[0]), float(answer[1]), int(answer[2]) << 10


def compare(folder: Path, size: int, rounds: int) -> dict[str, float]:
    """Measure both in turns; return medians."""
    found: dict[str, list[tuple[float, float, int]]] = {"parse_all": [], "import_all": []}
    for _ in range(rounds):
        for what, times in found.items():
            times.append(_apart(what, folder))
    parse = statistics.median(times[0] for times in found["parse_all"])
    cpu = statistics.median(times[0] for times in found["import_all"])
    wall = statistics.median(times[1] for times in found["import_all"])
    memory = max(times[2] for times in found["import_all"])
    return {
        "orjson": size / parse / 1e6,
        "import": size / cpu / 1e6,
        "wall": size / wall / 1e6,
        "ratio": parse / cpu,
        "memory": memory / (1 << 20),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mb", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as scratch:
        began = time.perf_counter()
        for title, in_one_file, size in (
            ("one file", True, options.mb),
            ("one file, four times as long", True, 4 * options.mb),
            ("many files", False, options.mb),
        ):
            folder = Path(scratch) / title.replace(" ", "-")
            written = make_sessions(folder, size * 1_000_000, in_one_file=in_one_file)
            rounds = options.rounds if size == options.mb else 1
            row = compare(folder, written, rounds)
            print(
                f"{title:30} {written / 1e6:6.0f} MB: orjson.loads {row['orjson']:4.0f} MB/s,"
                f" import {row['import']:4.0f} MB/s ({row['wall']:.0f} with the disk),"
                f" ratio {row['ratio']:.2f}, {row['memory']:.0f} MiB",
                flush=True,
            )
        print(f"{time.perf_counter() - began:.0f} s; one core, interleaved, medians")


if __name__ == "__main__":
    main()
