"""How fast texts are taken apart and embedded on this machine, and what a first query costs.

Run it as it is: ``python tests/benchmarks/embedding.py``; ``--tiny`` only tries it. Needs the extra
``semantic``; with ``tokenizers`` installed, that is measured beside convmem's own.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module, util
from random import Random

from convmem.search.semantic import wordpiece
from convmem.search.semantic.embedder import open_embedder

WORDS = (
    "the a of to and in we you it train bridge doctor because remember morning garden violin yes "
    "maybe tomorrow kitchen server timeout deploy error function index budget holiday sister cat"
).split()

_ONE_QUERY = """
import time; start = time.perf_counter()
from convmem.search.semantic.embedder import open_embedder
model = open_embedder("minilm"); opened = time.perf_counter()
model.embed(["when does the train to Oslo leave?"]); done = time.perf_counter()
print(opened - start, done - opened)
"""


def texts(pieces: int, count: int) -> list[str]:
    """Return texts of about so many pieces each."""
    chance = Random(pieces)
    return [" ".join(chance.choices(WORDS, k=pieces - 2)) for _ in range(count)]


def rate(count: int, work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return how many a second, by CPU time and by the clock: the medians."""
    spent = []
    for _ in range(rounds):
        cpu, clock = time.process_time(), time.perf_counter()
        work()
        spent.append((time.process_time() - cpu, time.perf_counter() - clock))
    cpu, clock = (statistics.median(each) for each in zip(*spent, strict=True))
    return count / max(cpu, 1e-9), count / max(clock, 1e-9)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    is_tiny = parser.parse_args().tiny
    rounds = 1 if is_tiny else 3

    short = texts(20, 50 if is_tiny else 20_000)
    own = wordpiece.load()
    print(f"{'texts of 20 pieces, taken apart':40}{'a second':>10}")
    speed = rate(len(short), lambda: [own.encode(t) for t in short], rounds)[0]
    print(f"{'convmem':40}{speed:>10,.0f}")
    if util.find_spec("tokenizers"):
        theirs = import_module("tokenizers").BertWordPieceTokenizer(
            dict(own._numbers), lowercase=True
        )
        speed = rate(len(short), lambda: [theirs.encode(t).ids for t in short], rounds)[0]
        print(f"{'tokenizers':40}{speed:>10,.0f}")

    print(f"\n{'embedded a second':40}{'one core':>10}{'all cores':>11}")
    one, every = open_embedder("minilm", threads=1), open_embedder("minilm", threads=0)
    for model in (one, every):
        model.embed(short[:10])  # from here on the quick session
    for pieces, count in ((20, 200), (60, 80), (150, 30), (256, 20)):
        some = texts(pieces, 2 if is_tiny else count)
        cores = [
            rate(len(some), lambda m=m, some=some: m.embed(some), rounds)[1] for m in (one, every)
        ]
        print(f"{f'texts of {pieces} pieces':40}{cores[0]:>10,.1f}{cores[1]:>11,.1f}")
    query = rate(
        1, lambda: one.embed(["when does the train to Oslo leave?"]), 1 + 9 * (not is_tiny)
    )
    print(f"\n{'a query, in a process that has asked':40}{1e3 / query[1]:>10,.1f} ms")
    ran = [
        subprocess.run([sys.executable, "-c", _ONE_QUERY], capture_output=True, check=True).stdout
        for _ in range(rounds)
    ]
    opened, asked = zip(*[map(float, each.split()) for each in ran], strict=True)
    print(
        f"{'a first query: imports and the model':40}{statistics.median(opened) * 1e3:>10,.1f} ms"
    )
    print(f"{'… and the query':40}{statistics.median(asked) * 1e3:>10,.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
