"""How long after a turn is recorded somebody who follows has it, in another process."""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from figures import Run, Table, spread
from peers.known import Kind
from peers.protocol import TEXT
from processes import convmem_environment, convmem_program

from convmem import Archive

_FOLLOW = """\
import sys
from convmem import Archive
with Archive.open(sys.argv[1]) as archive:
    chat = archive.conversation(sys.argv[2])
    for turn in chat.follow(after=chat.cursor()):
        print(turn.text, flush=True)
"""
_PAUSES = (0.01, 0.3, 2.0)
_PATIENCE = 30.0


class _Follower:
    """A process that prints a line for each turn."""

    def __init__(self, words: Sequence[str | Path], env: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env
        )
        assert self._process.stdout is not None
        self._fd = self._process.stdout.fileno()

    def wait(self) -> bool:
        """Wait for the end of the next line; tell whether it came."""
        output = b""
        while not output.endswith(b"\n"):
            ready, _, _ = select.select([self._fd], [], [], _PATIENCE)
            more = os.read(self._fd, 1 << 16) if ready else b""
            if not more:
                return False
            output += more
        return output.count(b"\n") == 1

    def end(self) -> None:
        self._process.terminate()
        self._process.communicate()


@dataclass(frozen=True, slots=True)
class _Way:
    """How a turn is written, and who follows."""

    name: str
    kind: Kind
    write: Callable[[], object]
    follower: _Follower


def measure(run: Run) -> list[Table]:
    """Record a turn after a pause, wait until the follower prints it, and so on."""
    root = run.new_folder("archive")
    raw = run.folder / "raw.jsonl"
    line = b'{"role":"user","content":"%s"}\n' % TEXT.encode()
    raw.write_bytes(line)
    env = convmem_environment(root)
    tables = []
    with Archive.open(root, durability="none") as archive, raw.open("ab", buffering=0) as file:
        chats = {name: archive.conversation(name) for name in ("called", "shell")}
        for chat in chats.values():
            chat.record("user", TEXT)
        ways = (
            _Way(
                "write, coreutils tail -f",
                Kind.FLOOR,
                lambda: file.write(line),
                _Follower(["tail", "-n", "0", "-f", raw]),
            ),
            _Way(
                "Conversation.follow",
                Kind.OURS,
                lambda: chats["called"].record("user", TEXT),
                _Follower([sys.executable, "-c", _FOLLOW, root, "called"]),
            ),
            _Way(
                "convmem tail -f --json",
                Kind.OURS,
                lambda: chats["shell"].record("user", TEXT),
                _Follower([convmem_program(), "tail", "shell", "-n", "0", "-f", "--json"], env),
            ),
        )
        try:
            time.sleep(run.pick(3.0, 2.0, 1.5))  # until all of them look
            for pause in run.pick(_PAUSES, _PAUSES, _PAUSES[:1]):
                times = max(run.pick(15, 5, 3), int(run.pick(2.0, 0.5, 0.0) / pause))
                tables.append(_paused(ways, pause, times))
        finally:
            for way in ways:
                way.follower.end()
    return tables


def _paused(ways: tuple[_Way, ...], pause: float, times: int) -> Table:
    table = Table(
        f"follow: a turn every {pause:g} s",
        "From the moment before the turn is written, unsynced, until the follower's output is "
        "there. coreutils tail is woken by the kernel; convmem looks 4 to 200 times a second.",
        in_picture=pause in (_PAUSES[0], _PAUSES[-1]),
    )
    found: dict[str, list[float]] = {way.name: [] for way in ways}
    broken = dict.fromkeys(found, 0)
    # Uneven pauses: even ones would meet a follower that looks evenly always at the same moment.
    uneven = random.Random(1)
    for _ in range(times):
        for way in ways:
            time.sleep(pause * uneven.uniform(0.7, 1.3) / len(ways))
            began = time.perf_counter()
            way.write()
            broken[way.name] += not way.follower.wait()
            found[way.name].append(time.perf_counter() - began)
    floor = median(found[ways[0].name])
    for way in ways:
        over_floor = median(found[way.name]) / floor
        figures = spread(found[way.name])
        lost = broken[way.name]
        table.add(way.name, way.kind, **figures, over_floor=over_floor, lost=lost)
    return table
