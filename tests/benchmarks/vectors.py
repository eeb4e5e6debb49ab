"""How fast vectors are looked through, beside a bare product in memory, and what rounding costs.

Run it as it is: ``python tests/benchmarks/vectors.py``; ``--count 1000000`` for a million (408 MB
on disk, and 1.5 GB in memory for what it is compared with: ``--no-floor`` does without). ``--tiny``
only tries it. Needs numpy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from convmem.log.files import Folder
from convmem.search.semantic.texts import key_of
from convmem.search.semantic.vectors import VectorFile

WIDTH = 384
_AT_ONCE = 10_000


def made(count: int, seed: int) -> NDArray[np.float32]:
    """Return vectors that lie in bundles, as those of sentences do: 1 subject for 50."""
    chance = np.random.default_rng(seed)
    subjects = np.random.default_rng(0).standard_normal((max(count // 50, 1), WIDTH), np.float32)
    found = subjects[chance.integers(0, len(subjects), count)]
    found += chance.standard_normal((count, WIDTH), np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def milliseconds(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median of each work's times, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(each) for name, each in times.items()}


def measured(place: str, count: int, rounds: int, *, has_floor: bool) -> None:
    """Print one table for *count* vectors."""
    folder = Folder.open(os.path.join(place, f"{count}"), create=True)
    file = VectorFile.open(folder, "made", WIDTH, is_writer=True)
    table = np.empty((count if has_floor else 0, WIDTH), np.float32)
    spent = 0.0
    for first in range(0, count, _AT_ONCE):
        end = min(first + _AT_ONCE, count)
        rows = made(end - first, first + 1)
        keys = [key_of(str(at)) for at in range(first, end)]
        start = time.perf_counter()
        file.append(keys, rows)
        spent += time.perf_counter() - start
        if has_floor:
            table[first:end] = rows
    size = os.stat(os.path.join(folder.path, file.name)).st_size
    print(f"\n{count:,} vectors of {WIDTH}: {size / 1e6:,.0f} MB; appended {count / spent:,.0f}/s")

    query = made(1, 1)[0]
    chance = np.random.default_rng(3)
    parts = {
        share: np.sort(chance.choice(count, max(count // share, 1), replace=False))
        for share in (1000, 100, 10)
    }
    works: dict[str, Callable[[], object]] = {
        "all vectors": lambda: file.scores(query),
        **{
            f"1 in {share} of them": lambda chosen=chosen: file.scores(query, chosen)
            for share, chosen in parts.items()
        },
        "open and all": lambda: VectorFile.open(folder, "made", WIDTH).scores(query),
        "256 texts looked up": lambda: file.positions_of([key_of(str(at)) for at in range(256)]),
        "every record's CRC-32": lambda: file.damaged(),
    }
    if has_floor:
        works = {"floor: float32 @ query in memory": lambda: table @ query, **works}
    start = time.perf_counter()
    file.positions_of([key_of("0")])
    first_look = (time.perf_counter() - start) * 1e3
    for name, spent in milliseconds(works, rounds).items():
        print(f"{name:36}{spent:>10.1f} ms")
    print(f"{'the first look-up of texts':36}{first_look:>10.1f} ms")
    if has_floor:
        recall(file, table, rounds)


def recall(file: VectorFile, table: NDArray[np.float32], rounds: int) -> None:
    """Print how many of the ten nearest are the ten nearest still."""
    same = []
    first = []
    for at in np.random.default_rng(4).choice(len(table), min(rounds * 10, len(table)), False):
        exact, rounded = table @ table[at], file.scores(table[at])
        best, found = np.argsort(-exact)[:11], np.argsort(-rounded)[:11]
        same.append(len(set(best) & set(found)) / len(best))
        first.append(best[0] == found[0])
    print(f"{'recall@10 of int8 beside float32':36}{np.mean(same):>10.3f}")
    print(f"{'the same one first':36}{np.mean(first):>10.3f}")


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--no-floor", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        if given.tiny:
            measured(place, 500, 1, has_floor=True)
        else:
            measured(place, given.count, 7, has_floor=not given.no_floor)
    return 0


if __name__ == "__main__":
    sys.exit(main())
