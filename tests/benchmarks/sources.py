"""What it costs to get whole records out of sources, beside parsing alone.

Ratios of CPU time, from rounds that take turns: ``python tests/benchmarks/sources.py [JSONL]``.
With no file it makes one. Lines are held against orjson on each line of the open file; elements
of an array against orjson on all of it at once, and ijson if it is there. The last table shows
that twice the hostile text takes about twice the time.
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from convmem.formats.reading.sources import Source, sources_in

_ROUNDS = 5
_HOSTILE = {
    "objects never closed": b'{"a":{"b":[',
    "quotes never closed": b'{"',
    "lines never closed": b'{"a":"\n',
    "whole among open": b'{"a":[{"b":1},',
}


def main(words: list[str]) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory(prefix="convmem-benchmark-") as folder:
        lines = Path(words[0]) if words else _made(Path(folder) / "lines.jsonl", 60_000)
        array = Path(folder) / "array.json"
        with lines.open("rb") as source, array.open("wb") as target:
            target.write(b"[" + next(source).rstrip())
            target.writelines(b",\n" + line.rstrip() for line in source if line.strip())
            target.write(b"]")
        _compare("lines", lines, {"orjson for each line": _bare, "records()": _records})
        ways = {"orjson for all at once": _whole, "elements()": _elements}
        try:
            import ijson
        except ImportError:
            print("ijson is not installed")
        else:
            ways[f"ijson ({ijson.backend})"] = _ijson
        _compare("an array", array, ways)
        for name, piece in _HOSTILE.items():
            times = []
            for size in (1 << 20, 2 << 20, 4 << 20):
                hostile = Path(folder) / "hostile.jsonl"
                hostile.write_bytes(piece * (size // len(piece)) + b"\n")
                times.append(_cpu(_records, hostile)[0])
            shown = ", ".join(f"{seconds:.2f} s" for seconds in times)
            print(f"hostile, {name}: 1, 2, 4 MiB take {shown}")


def _compare(what: str, path: Path, ways: dict[str, Callable[[Path], int]]) -> None:
    size = path.stat().st_size
    times: dict[str, list[float]] = {name: [] for name in ways}
    counts = set()
    for _ in range(_ROUNDS):
        for name, way in ways.items():
            seconds, count = _cpu(way, path)
            times[name].append(seconds)
            counts.add(count)
    assert len(counts) == 1, f"they do not agree on how many there are: {counts}"
    floor = times[next(iter(ways))]
    print(f"{what}, {size / 1e6:,.0f} MB, {counts.pop():,} records")
    for name, found in times.items():
        ratio = median(base / mine for base, mine in zip(floor, found, strict=True))
        print(f"  {name:24} {size / median(found) / 1e6:6.0f} MB/s  {ratio:.2f} of the first")


def _cpu(way: Callable[[Path], int], path: Path) -> tuple[float, int]:
    gc.collect()
    began = time.process_time()
    count = way(path)
    return time.process_time() - began, count


def _bare(path: Path) -> int:
    count = 0
    loads = orjson.loads
    with path.open("rb") as file:
        for line in file:
            loads(line)
            count += 1
    return count


def _records(path: Path) -> int:
    return sum(1 for source in _sources(path) for _ in source.records())


def _elements(path: Path) -> int:
    return sum(1 for source in _sources(path) for _ in source.elements())


def _sources(path: Path) -> Iterator[Source]:
    for source in sources_in(str(path), _fail):
        yield source
        source.close()


def _fail(where: str, error: Exception) -> None:
    raise error


def _whole(path: Path) -> int:
    return len(orjson.loads(path.read_bytes()))


def _ijson(path: Path) -> int:
    import ijson

    with path.open("rb") as file:
        return sum(1 for _ in ijson.items(file, "item", use_float=True))


def _made(path: Path, count: int) -> Path:
    """Write something like a session of Claude Code."""
    chance = random.Random(5)
    words = "the of file test return error import value path line a is".split()
    with path.open("wb") as file:
        for number in range(count):
            text = " ".join(chance.choices(words, k=chance.randrange(20, 600)))
            value: dict[str, Any] = {
                "parentUuid": f"{chance.getrandbits(128):032x}",
                "isSidechain": False,
                "cwd": "/home/somebody/project",
                "sessionId": f"{chance.getrandbits(128):032x}",
                "type": "assistant" if number % 2 else "user",
                "message": {
                    "role": "assistant" if number % 2 else "user",
                    "content": [{"type": "text", "text": f'{text}\n\t"{text[:9]}"'}],
                    "usage": {"input_tokens": number, "output_tokens": 7},
                },
                "uuid": f"{chance.getrandbits(128):032x}",
                "timestamp": "2026-01-02T03:04:05.678Z",
            }
            file.write(json.dumps(value).encode() + b"\n")
    return path


if __name__ == "__main__":
    os.nice(5)
    main(sys.argv[1:])
