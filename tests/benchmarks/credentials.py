"""How many credentials are found, how many findings are none, and how fast: all of it made up.

Run it as it is: ``python tests/benchmarks/credentials.py``. ``--tiny`` only tries it. A folder of
JSON lines or texts that hold no credential, named as an argument, is looked at as well: whatever
is found there is shown, with its place.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

from credentials_made import AROUND, KINDS, NAMED, harmless

from convmem.secrets import detector
from convmem.secrets.masking import redacted

Spans = list[tuple[int, int]]


def cases(count: int) -> Iterator[tuple[str, str, Spans]]:
    """Yield (kind, text, where its credentials are)."""
    for seed in range(count):
        chance = Random(seed)
        for kind, make in KINDS.items():
            for around in AROUND:
                secret = make(chance)
                start = around.index("%s")
                yield kind, around % secret, [(start, start + len(secret))]
        for kind, make_named in NAMED.items():
            before, secret, after = make_named(chance)
            text = f"see:\n{before}{secret}{after}\nwell\n"
            start = 5 + len(before)
            yield kind, text, [(start, start + len(secret))]
        for kind, text in harmless(chance).items():
            yield kind, text, []


def judge(find: Callable[[str], Spans], count: int) -> dict[str, list[int]]:
    """Return by kind: credentials, those that were covered whole, findings that cover none."""
    by_kind: dict[str, list[int]] = {}
    for kind, text, wanted in cases(count):
        tally = by_kind.setdefault(kind, [0, 0, 0])
        found = find(text)
        tally[0] += len(wanted)
        for start, end in wanted:
            tally[1] += any(first <= start and end <= last for first, last in found)
        for first, last in found:
            tally[2] += not any(first < end and start < last for start, end in wanted)
    return by_kind


def ours(text: str) -> Spans:
    """As convmem finds."""
    return [(each.start, each.end) for each in detector.find(text)]


def alone(text: str) -> Spans:
    """As the detector's own rules find, without ours and in the text as it stands."""
    found = []
    for each in _ALONE.scan(text.encode()):
        if each.visible:
            start = len(text.encode()[: each.location["start_offset"]].decode())
            found.append((start, start + len(each.secret)))
    return found


def megabytes_a_second(size: int, work: Callable[[], object], goes: int = 5) -> float:
    """Return the speed of the fastest go, in CPU time."""
    best = float("inf")
    for _ in range(goes):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return size / 1e6 / max(best, 1e-9)


def turns(count: int) -> list[dict[str, object]]:
    """Return turns as a coding agent's transcript has them, one in a hundred with a credential."""
    chance = Random(7)
    made = []
    for at in range(count):
        texts = harmless(chance)
        # What begins like a credential and is none costs most, and is rare.
        near = {"placeholders", "talk of keys"} if at % 50 else set()
        said = "\n".join(chance.sample([texts[kind] for kind in texts if kind not in near], 4))
        if at % 100 == 0:
            said += "\nexport KEY=" + KINDS["github"](chance)
        made.append(
            {
                "content": [
                    {"type": "text", "text": said},
                    {"type": "tool_use", "id": f"t{at}", "name": "Bash", "input": {"n": at}},
                ],
                "meta": {"source": "made", "model": "none"},
                "raw": {"uuid": f"{chance.getrandbits(128):032x}", "message": {"content": said}},
            }
        )
    return made


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("folder", nargs="?", type=Path)
    given = parser.parse_args()
    count = 1 if given.tiny else 20

    print(f"{'':24}{'credentials':>12}{'recall':>9}{'findings too many':>19}")
    for name, find in (("convmem", ours), ("the detector alone", alone)):
        by_kind = judge(find, count)
        wanted, hit, extra = (sum(column) for column in zip(*by_kind.values(), strict=True))
        print(f"{name:24}{wanted:>12,}{hit / wanted:>9.1%}{extra:>19,}")
        for kind, (of, found, more) in by_kind.items():
            if found < of or more:
                print(f"  {kind:22}{of:>12,}{found / of if of else 1:>9.1%}{more:>19,}")

    made = turns(20 if given.tiny else 2000)
    lines = [json.dumps(turn, ensure_ascii=False) for turn in made]
    text = "\n".join(lines)
    size = len(text.encode())
    print(f"\nMB/s over {size / 1e6:.1f} MB of turns, CPU time, best of 5")
    near = [harmless(Random(at))["placeholders"] for at in range(len(made))]
    rows = (
        ("a bare pass: bytes.count", lambda: text.encode().count(b"\n")),
        ("json.loads of each line", lambda: [json.loads(line) for line in lines]),
        ("find, all in one text", lambda: detector.find(text)),
        ("redacted, turn by turn", lambda: [redacted(turn) for turn in made]),
    )
    for name, work in rows:
        print(f"{name:28}{megabytes_a_second(size, work):>10,.0f}")
    nothing_else = sum(map(len, near))
    speed = megabytes_a_second(nothing_else, lambda: [detector.find(text) for text in near])
    print(f"{'find, placeholders alone':28}{speed:>10,.0f}")
    if given.folder is not None:
        show_findings(given.folder)
    return 0


def show_findings(folder: Path) -> None:
    """Show what is found in a folder, masked."""
    size = 0
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        size += len(text)
        for each in detector.find(text):
            print(f"{path.name}: character {each.start}: {each.rule}, {each.end - each.start} long")
    print(f"{size / 1e6:.1f} MB looked at")


def _load_alone() -> object:
    from importlib import import_module

    kingfisher = import_module("kingfisher_sdk")
    return kingfisher.Scanner(kingfisher.Rules(), base64=False)


if __name__ == "__main__":
    _ALONE = _load_alone()
    sys.exit(main())
