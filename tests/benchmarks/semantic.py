"""What a search by meaning costs over a whole archive, beside a bare product of numpy in memory.

    python tests/benchmarks/semantic.py [--turns 100000] [--tiny]

Each turn has a vector of its own, of 384 numbers, from an embedder that costs nothing: made, not
meant. Searches run in turns with the product, in one warm process. Memory is what one search adds
to a process at its height. How fast a real model embeds, ``embedding.py`` shows; what of it comes
through ``archive.index(semantic=True)`` is measured here if ``minilm`` is installed. Needs numpy.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import median

import numpy as np
from numpy.typing import NDArray

from convmem import Archive
from convmem.errors import ConvmemError
from convmem.search.semantic.embedder import open_embedder

WIDTH = 384
START = datetime(2024, 1, 1, tzinfo=UTC)
WORDS = (
    "train bridge doctor morning garden violin kitchen server timeout deploy error function index "
    "budget holiday sister cat window paper river bread lamp ticket mountain letter winter"
).split()


class Made:
    """An embedder whose vectors follow from the text's hash, and cost next to nothing."""

    name = "made"
    dimensions = WIDTH

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        """Return a row for each text."""
        seeds = [int.from_bytes(text.encode()[-8:], "little") for text in texts]
        return np.array(
            [np.random.default_rng(seed).standard_normal(WIDTH, np.float32) for seed in seeds]
        )


_HEIGHT = """
import sys
sys.path.insert(0, sys.argv[2])
from semantic import Made, START, QUERY
from convmem import Archive
def height():
    # Not getrusage's: that one begins with what the process had from which this one came.
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
with Archive.open(sys.argv[1], embedder=Made()) as archive:
    archive.search(QUERY, namespace="few", semantic=True)
    before = height()
    archive.search(QUERY, semantic=True)
    print(height() - before)
"""
QUERY = "what did we say in turn 00000777"


def fill(archive: Archive, turns: int, namespace: str) -> None:
    """Record so many turns, in conversations of a thousand."""
    for first in range(0, turns, 1000):
        archive.conversation(f"talk-{first}", namespace=namespace).record_many(
            {
                "role": ("user", "assistant")[at % 2],
                "content": f"{WORDS[at % 25]} {WORDS[at // 25 % 25]} turn {at:08}",
                "ts": (START + timedelta(minutes=at)).isoformat(),
            }
            for at in range(first, min(first + 1000, turns))
        )


def times(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of CPU of each work, taken in turns."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            began = time.process_time()
            work()
            spent[name].append((time.process_time() - began) * 1e3)
    return {name: median(each) for name, each in spent.items()}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=100_000)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    turns = 2_000 if options.tiny else options.turns
    with tempfile.TemporaryDirectory() as root:
        with Archive.open(root, embedder=Made(), durability="none") as archive:
            fill(archive, turns, "default")
            fill(archive, 50, "few")
            archive.index("few", semantic=True)
            archive.index()
            began = time.process_time()
            report = archive.index(semantic=True)
            took = time.process_time() - began
            print(
                f"{turns:,} turns; vectors {report.vector_bytes / 1e6:.0f} MB, made and stored in"
                f" {took:.1f} s of CPU, most of it in the made embedder"
            )
            _print_searches(archive, turns, 2 if options.tiny else 7)
        if os.path.exists("/proc/self/status"):
            _print_memory(root, turns)
    _print_minilm(60 if options.tiny else 1_000)
    return 0


def _print_searches(archive: Archive, turns: int, rounds: int) -> None:
    table = np.random.default_rng(0).standard_normal((turns, WIDTH), np.float32)
    query = Made().embed([QUERY])[0]
    last = START + timedelta(minutes=turns * 9 // 10)
    took = times(
        {
            "numpy, a product with a table in memory": lambda: table @ query,
            "search by words": lambda: archive.search(QUERY),
            "search by meaning": lambda: archive.search(QUERY, semantic=True),
            "  said by one of two roles": lambda: archive.search(
                QUERY, semantic=True, roles=["user"]
            ),
            "  of the newest tenth": lambda: archive.search(QUERY, semantic=True, since=last),
            "  in one conversation": lambda: archive.search(
                QUERY, semantic=True, continuation_ids=["talk-0"]
            ),
        },
        rounds,
    )
    for name, milliseconds in took.items():
        print(f"{name:42} {milliseconds:8.1f} ms")


def _print_memory(root: str, turns: int) -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    done = subprocess.run(
        [sys.executable, "-c", _HEIGHT, root, here], capture_output=True, text=True, check=True
    )
    table = turns * WIDTH * 4 / 1e6
    print(f"memory that a search adds: {float(done.stdout):.0f} MB; as a table: {table:.0f} MB")


def _print_minilm(turns: int) -> None:
    try:
        embedder = open_embedder("minilm")
    except ConvmemError as error:
        print(f"minilm: skipped: {error}")
        return
    with (
        tempfile.TemporaryDirectory() as root,
        Archive.open(root, embedder=embedder, durability="none") as archive,
    ):
        fill(archive, turns, "default")
        archive.index()
        began = time.process_time()
        archive.index(semantic=True)
        took = time.process_time() - began
        print(f"minilm, turns of some 15 pieces: {turns / took:.0f} a second and core")


if __name__ == "__main__":
    sys.exit(main())
