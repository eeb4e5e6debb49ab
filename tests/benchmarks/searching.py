"""Ranked search over an archive of any size: the index, cold searches, and one turn more.

    python tests/benchmarks/searching.py [--mb 100] [--conversations 250] [--rounds 7] [--keep DIR]

Writes an archive of turns of some 500 bytes, made of sentences of Python's own library, then
prints, each beside its floor in the same run:

- the index: MB of log a second of CPU time, beside a bare FTS5 table (contentless, its defaults)
  that is given the same texts; and its share of the logs' size;
- ``convmem search`` as a whole process where nothing changed, beside ``python -c pass``, for words
  that stand in no, few, some and very many turns;
- a search right after one turn was recorded, in this archive and in one of a hundredth.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from convmem import Archive

_SENTENCE = re.compile(r"(?<=[.;:])\s+")
_NEEDLE = "zanzibarquartz"
_TURN_TEXT = 360
_AT_ONCE = 5000


def sentences() -> list[str]:
    """Return the sentences of the docstrings and comments of the standard library's modules."""
    found: list[str] = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = path.read_text("utf-8", "replace")
        for block in re.findall(r'"""(.*?)"""|((?:^[ \t]*#.*\n)+)', text, re.S | re.M):
            words = " ".join("".join(block).replace("#", " ").split())
            found += [each for each in _SENTENCE.split(words) if 20 < len(each) < 300]
    return found


def make_archive(root: Path, megabytes: float, conversations: int) -> int:
    """Record turns of about 500 bytes each; one in each 100,000 holds the needle."""
    pick = random.Random(6)
    known = sentences()
    turns = max(2, int(megabytes * 1e6 / 500 / conversations))
    made = 0
    with Archive.open(root, durability="none") as archive:
        for nth in range(conversations):
            waiting = []
            for at in range(turns):
                text = pick.choice(known)
                while len(text) < _TURN_TEXT * pick.random() * 2:
                    text += " " + pick.choice(known)
                made += 1
                if made % 100_000 == 50:
                    text += f" {_NEEDLE}"
                role = ("user", "assistant")[at % 2]
                waiting.append((role, text))
                if len(waiting) == _AT_ONCE or at == turns - 1:
                    archive.record_to_many((f"talk-{nth:05}", turn) for turn in waiting)
                    waiting = []
    return made


def logs(root: Path) -> list[Path]:
    return sorted((root / "default").glob("*.jsonl"))


def build_floor(root: Path, folder: Path) -> float:
    """Return the CPU seconds that a bare FTS5 table takes for the same texts."""
    import orjson

    database = folder / "floor.sqlite"
    database.unlink(missing_ok=True)
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = normal")
    connection.execute("create virtual table words using fts5 (text, content = '')")
    began = time.process_time()
    row = 0
    for path in logs(root):
        connection.execute("begin")
        with open(path, "rb") as file:
            texts = [orjson.loads(line)["content"] for line in file]
        connection.executemany(
            "insert into words (rowid, text) values (?, ?)", enumerate(texts, row + 1)
        )
        row += len(texts)
        connection.execute("commit")
    connection.close()
    return time.process_time() - began


def build_index(root: Path) -> float:
    """Return the CPU seconds that the whole index takes, in a process of its own."""
    shutil.rmtree(root / "default" / ".index", ignore_errors=True)
    code = (
        "import sys, time; from convmem import Archive\n"
        "began = time.process_time(); Archive.open(sys.argv[1]).search('nothing')\n"
        "print(time.process_time() - began)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def cold(root: Path, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each whole process, in rounds: bare Python among them."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    env["CONVMEM_ARCHIVE"] = str(root)
    program = shutil.which("convmem", path=os.path.dirname(sys.executable)) or "convmem"
    shapes = {"python -c pass": [sys.executable, "-c", "pass"]}
    for name, words in (
        ("no turn", "xyzzyplugh"),
        ("few turns", _NEEDLE),
        ("some turns", "traceback filename"),
        ("very many turns", "object"),
        ("a question", "how do I open a compressed file for reading"),
    ):
        shapes[f"search, {name}"] = [program, "search", words, "--json"]
    taken: dict[str, list[float]] = {name: [] for name in shapes}
    for _ in range(rounds + 1):
        for name, command in shapes.items():
            began = time.perf_counter()
            subprocess.run(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            taken[name].append(time.perf_counter() - began)
    return {name: seconds[1:] for name, seconds in taken.items()}


def one_more(root: Path, rounds: int) -> float:
    """Return the seconds of a search that must find a turn recorded right before it."""
    taken = []
    with Archive.open(root, durability="none") as archive:
        for nth in range(rounds + 1):
            word = f"needle{os.getpid()}x{nth}"
            archive.conversation("talk-00001").record("user", f"And here is {word}.")
            began = time.perf_counter()
            page = archive.search(word)
            taken.append(time.perf_counter() - began)
            assert len(page) == 1, word
    return statistics.median(taken[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=float, default=100)
    parser.add_argument("--conversations", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--keep", type=Path, help="where to make the archive, or find it made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = options.keep or folder / "archive"
        if not root.exists():
            turns = make_archive(root, options.mb, options.conversations)
            print(f"{turns:,} turns in {options.conversations:,} conversations")
        size = sum(path.stat().st_size for path in logs(root))
        ours, floors = [], []
        for _ in range(1 if size > 4e8 else 3):
            floors.append(build_floor(root, folder))
            ours.append(build_index(root))
        index = sum(path.stat().st_size for path in (root / "default" / ".index").iterdir())
        own, floor = statistics.median(ours), statistics.median(floors)
        print(
            f"index: {size / 1e6 / own:.1f} MB/s of {size / 1e6:,.0f} MB; bare FTS5 "
            f"{size / 1e6 / floor:.1f} MB/s: {own / floor:.2f} times its CPU time; "
            f"{100 * index / size:.0f} % of the logs"
        )
        taken = cold(root, options.rounds)
        bare = taken["python -c pass"]
        for case, seconds in taken.items():
            over = statistics.median(one / base for one, base in zip(seconds, bare, strict=True))
            allowed = statistics.median(
                one / (3 * base + 0.020) for one, base in zip(seconds, bare, strict=True)
            )
            print(
                f"{case:28} {1e3 * statistics.median(seconds):7.1f} ms  {over:5.2f} x bare"
                f"  {allowed:5.2f} of 3 x bare + 20 ms"
            )
        small = folder / "small"
        make_archive(small, size / 1e8, max(2, options.conversations // 100))
        with Archive.open(small) as archive:
            archive.search("nothing")
        little, much = one_more(small, options.rounds), one_more(root, options.rounds)
        print(
            f"a search right after one new turn: {1e3 * much:.1f} ms; in an archive of a "
            f"hundredth {1e3 * little:.1f} ms"
        )


if __name__ == "__main__":
    main()
