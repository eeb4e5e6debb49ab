"""``convmem grep`` of texts that hardly any turn holds, beside ripgrep, in turns.

    python tests/benchmarks/grep.py [--mb 1000] [--rounds 5] [--in-many]

The turns are this repository's own words and code, shuffled, in one conversation or in many; one
of them holds what is looked for. Each program is a process of its own and reads from the system's
cache. Prints, for each text, the median seconds, GB/s, and the median of the rounds' ratios; and
the same for patterns that no plain text is known of, where every line is parsed.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from convmem import Archive
from convmem.jsontext import dumps

GOAL = 5.0
HOUSE = Path(__file__).parents[2]
NEEDLE = "Xyzzyplugh-42"
# What is shown, what convmem is asked, what ripgrep is, and in how many turns it is.
SHAPES: tuple[tuple[str, list[str], list[str], int], ...] = (
    ("rare, as it is", [NEEDLE], ["-s", NEEDLE], 1),
    ("rare, any case", [NEEDLE.lower()], ["-i", NEEDLE.lower()], 1),
    ("common letters", ["-s", "another theatre in"], ["-s", "another theatre in"], 0),
    ("common letters, any case", ["another theatre in"], ["-i", "another theatre in"], 0),
    ("expression with a text", ["-s", r"rare\s+one is \w+-42"], ["-s", r"rare\s+one is \w+-42"], 1),
    ("expression without", ["-s", r"X\w{9}-\d\d"], ["-s", r"X\w{9}-\d\d"], 1),
    ("number", ["9876543210"], ["9876543210"], 0),
)


def texts(seed: int) -> Iterator[str]:
    """Yield what turns say, of the length that turns have."""
    chosen = random.Random(seed)
    pieces: list[str] = []
    for path in [*sorted(HOUSE.glob("*.md")), *sorted((HOUSE / "convmem").rglob("*.py"))]:
        pieces += path.read_text(encoding="utf-8").split("\n\n")
    while True:
        text = "\n\n".join(chosen.choices(pieces, k=chosen.choice((1, 1, 1, 2, 3, 8))))
        yield text + " — naïve café 東京 😀" if chosen.random() < 0.05 else text


def make(root: str, megabytes: float, *, in_many: bool) -> int:
    """Record so many megabytes, and one turn that holds the needle; return how many turns."""
    turns = size = 0
    said = texts(7)
    with Archive.open(root, durability="none") as archive:
        while size < megabytes * 1_000_000:
            batch = [
                dumps({"role": ("user", "assistant")[nth % 2], "content": text})
                for nth, text in zip(range(1000), said, strict=False)
            ]
            archive.record_lines(batch, f"chat-{turns // 1000}" if in_many else "chat-0")
            turns += len(batch)
            size += sum(map(len, batch)) + 130 * len(batch)
        archive.conversation("chat-0").record("user", f"the rare one is {NEEDLE} here")
    return turns + 1


def _seconds(words: list[str], *, finds: int) -> float:
    """Run a program; an answer that is not the expected one is no answer, however fast."""
    began = time.perf_counter()
    done = subprocess.run(words, capture_output=True, check=False)
    taken = time.perf_counter() - began
    if done.stdout.count(b"\n") != finds or done.stderr:
        raise SystemExit(f"{words}: {finds} expected\n{(done.stdout + done.stderr).decode()}")
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=float, default=1000.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in-many", action="store_true", help="many conversations, not one")
    parser.add_argument("--dir", help="where to make the archive")
    given = parser.parse_args()
    ripgrep = shutil.which("rg")
    if ripgrep is None:
        print("skipped: needs rg (ripgrep)")
        return
    with tempfile.TemporaryDirectory(dir=given.dir) as root:
        turns = make(root, given.mb, in_many=given.in_many)
        folder = Path(root, "default")
        size = sum(path.stat().st_size for path in folder.glob("*.jsonl"))
        print(f"{size / 1e6:,.0f} MB, {turns:,} turns")
        ours = [sys.executable, "-m", "convmem", "--archive", root, "grep"]
        theirs = [ripgrep, "--no-config", "--no-ignore", "-g", "*.jsonl"]
        start = statistics.median(
            _seconds([sys.executable, "-c", "pass"], finds=0) for _ in range(given.rounds)
        )
        print(f"bare Python's start: {start * 1e3:.0f} ms")
        for what, asked, asked_there, finds in SHAPES:
            rounds = [
                (
                    _seconds([*ours, *asked], finds=finds),
                    _seconds([*theirs, *asked_there, str(folder)], finds=finds),
                )
                for _ in range(given.rounds + 1)
            ][1:]  # the first fills the caches
            mine = statistics.median(each for each, _ in rounds)
            ratio = statistics.median(each / other for each, other in rounds)
            goal = ""
            if what.startswith("rare"):
                goal = f"   goal {GOAL:g}: {'met' if ratio <= GOAL else 'missed'}"
            print(
                f"{what:26} {mine * 1e3:7.0f} ms  {size / mine / 1e9:5.2f} GB/s"
                f"   {ratio:5.1f} x ripgrep{goal}",
                flush=True,
            )


if __name__ == "__main__":
    main()
