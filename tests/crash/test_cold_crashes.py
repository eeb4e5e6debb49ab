"""Those who compress and thaw are killed while others record: no turn is ever lost.

A fault at each single call is among the scenarios of test_faults.py. The controls at the end take
one safeguard out each, and must be caught.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutants
import pytest
from faults import no_sync
from ledger import NAME, NAMESPACE

from convmem import Archive, ConvmemError, Observer
from convmem.log.compressed import cold_file

TURNS = 40
CYCLES = int(os.environ.get("CONVMEM_KILL_CYCLES", "60"))
SEED = int(os.environ.get("CONVMEM_SEED", str(random.SystemRandom().randrange(10**6))))


def _open(root: str) -> Archive:
    return Archive.open(root, durability="none", lock_timeout_seconds=0.0, observer=Observer())


def test_both_folders_and_files_are_synced_before_the_other_file_goes(tmp_path, monkeypatch):
    """A power cut keeps what was synced, in any order it likes: neither file must be missing."""
    steps: list[str] = []

    def noting(name: str, real: Callable) -> Callable:
        def call(*args: Any, **more: Any) -> Any:
            what = args[0]
            if isinstance(what, int):
                what = os.path.basename(os.readlink(f"/proc/self/fd/{what}"))
            steps.append(f"{name} {'aside' if str(what).endswith('.tmp') else what}")
            return real(*args, **more)

        return call

    for name in ("rename", "unlink", "fsync", "fdatasync"):
        monkeypatch.setattr(os, name, noting(name, getattr(os, name)))
    monkeypatch.setattr("convmem.log.files.sync_data", noting("fsync", os.fdatasync))
    with _open(str(tmp_path / "archive")) as archive:
        for nth in range(TURNS):
            archive.conversation(NAME).record("user", f"{nth} " * 150)
        steps.clear()
        archive.conversation(NAME).compress()
        packed = [each for each in steps if "fdatasync" not in each and ".locks" not in each]
        steps.clear()
        archive.conversation(NAME).uncompress()
        thawed = [each for each in steps if "fdatasync" not in each and ".locks" not in each]
    exchange = ["fsync aside", "rename aside", f"fsync {NAMESPACE}", "unlink"]
    assert _in_this_order(packed, [*exchange[:3], f"unlink {NAME}.jsonl", exchange[2]])
    assert _in_this_order(thawed, [*exchange[:3], f"unlink {NAME}.jsonl.zst", exchange[2]])


def _in_this_order(steps: list[str], wanted: list[str]) -> bool:
    rest = iter(steps)
    return all(any(step == each for step in rest) for each in wanted)


# --- kill -9 ---------------------------------------------------------------------------------


class Life:
    """Two that record and one that compresses, until they are killed.

    With *rots*, also a disk that loses the ends of compressed files.
    """

    def __init__(
        self,
        root: str,
        seed: int,
        mutant: Callable[[], None] | None = None,
        *,
        rots: bool = False,
    ) -> None:
        self.root = root
        self.rots = rots
        self.cuts = 0
        self.chance = random.Random(seed)
        self.mutant = mutant
        self.cycles = 0
        self.answered: dict[str, int] = {}
        self.exchanges = 0
        with _open(root) as archive:
            for nth in range(TURNS):
                turn = archive.conversation(NAME).record("user", "x" * 400, id=f"t{nth}")
                self.answered[turn.id] = turn.seq or 0

    def cycle(self) -> str:
        """Let them live, kill them, and say what is not as promised."""
        self.cycles += 1
        reading, writing = os.pipe()
        children = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            for role in ("writer", "other writer", "compressor", "disk")[: 3 + self.rots]:
                child = os.fork()
                if child == 0:
                    try:
                        os.close(reading)
                        if self.mutant is not None:
                            self.mutant()
                        self._live(role, writing)
                    finally:
                        os._exit(1)
                children.append(child)
        os.close(writing)
        time.sleep(0.02 + self.chance.random() * 0.1)
        self.chance.shuffle(children)
        for child in children:
            os.kill(child, signal.SIGKILL)
            time.sleep(self.chance.random() * 0.003)
        with open(reading, "rb") as pipe:
            lines = pipe.read().splitlines()
        for child in children:
            os.waitpid(child, 0)
        for line in lines:
            what, _, rest = line.decode().partition(" ")
            if what == "answer":
                turn_id, seq = rest.split()
                self.answered[turn_id] = int(seq)
            elif what == "exchanged":
                self.exchanges += 1
            elif what == "cut":
                self.cuts += 1
            else:
                return line.decode()
        return self._judge()

    def _live(self, role: str, pipe: int) -> None:
        chance = random.Random(f"{role} {self.cycles} {self.chance.random()}")
        _without_syncs()
        try:
            archive = Archive.open(
                self.root, durability="none", lock_timeout_seconds=10, observer=Observer()
            )
            chat = archive.conversation(NAME)
            for nth in range(10**6):
                if role == "disk":
                    time.sleep(chance.random() * 0.01)
                    if self._cut(chance):
                        os.write(pipe, b"cut \n")
                    continue
                if role == "compressor":
                    done = (
                        chat.compress()
                        if chance.random() < 0.8
                        else chat.uncompress(even_damaged=self.rots)
                    )
                    if done.is_done:
                        os.write(pipe, b"exchanged \n")
                    continue
                turn_id = f"{self.cycles}.{role[0]}.{nth}"
                turn = chat.record("user", turn_id * 20, id=turn_id)
                os.write(pipe, f"answer {turn_id} {turn.seq}\n".encode())
                if nth % 3 == 2:  # else nothing is ever idle for as long as an exchange takes
                    time.sleep(chance.random() * 0.05)
        except BaseException as error:
            os.write(pipe, f"wrong {role}: {error!r}\n".encode()[:4000])

    def _cut(self, chance: random.Random) -> bool:
        """Cut convmem's own notes off, or a part of them: no turn stands there."""
        try:
            fd = os.open(Path(self.root, NAMESPACE, f"{NAME}.jsonl.zst"), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            size = os.fstat(fd).st_size
            if os.pread(fd, 4, size - 4) != cold_file.SEEKABLE_MAGIC.to_bytes(4, "little"):
                return False  # done already
            os.ftruncate(fd, size - chance.randrange(1, 200))
            return True
        finally:
            os.close(fd)

    def _judge(self) -> str:
        with _open(self.root) as archive:
            chat = archive.conversation(NAME)
            try:
                found = [(turn.id, turn.seq) for turn in chat.turns()]
            except ConvmemError as error:
                return f"it cannot be read: {error}"
        if len(dict(found)) < len(found):
            return "doubled"
        seqs = [seq for _, seq in found]
        if seqs != sorted(set(seqs)):
            return "out of order"
        lost = [each for each in self.answered.items() if each not in found]
        return f"lost: {lost[:5]} of {len(self.answered)}" if lost else ""


def _without_syncs() -> None:
    """Do no syncs: no kill sees the difference, and much more happens in a short life."""
    os.fsync = no_sync
    for name, module in list(sys.modules.items()):
        if name.startswith("convmem.") and hasattr(module, "sync_data"):
            module.sync_data = no_sync


@pytest.mark.parametrize("rots", [False, True], ids=["good disk", "bad disk"])
def test_after_kill_9_every_answered_turn_is_there(rots, tmp_path):
    """Out-of-memory killers like those best who compress; and disks lose the ends of files."""
    life = Life(str(tmp_path / "archive"), SEED, rots=rots)
    cycles = max(1, CYCLES // 2)
    for _ in range(cycles):
        wrong = life.cycle()
        assert not wrong, f"seed {SEED}, cycle {life.cycles}: {wrong}"
    print(
        f"seed {SEED}: {life.cycles} cycles, {len(life.answered)} turns, {life.exchanges} times,"
        f" {life.cuts} cuts"
    )
    assert life.exchanges > cycles / 4
    assert (life.cuts > cycles / 20) == rots
    with _open(life.root) as archive:
        archive.conversation(NAME).uncompress(even_damaged=True)
        archive.conversation(NAME).compress()
        archive.conversation(NAME).uncompress()
    folder = Path(life.root, NAMESPACE)
    left = {f"{NAME}.jsonl", ".locks", *([".quarantine"] if rots else [])}
    assert set(os.listdir(folder)) == left
    assert not list(folder.rglob("*.tmp"))


# --- controls --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mutant",
    [
        mutants.without_a_second_look_at_the_log,
        mutants.with_the_plain_log_gone_first,
        mutants.with_the_compressed_log_gone_first,
    ],
)
def test_kill_9_finds_a_safeguard_taken_out(mutant, tmp_path):
    """What cannot fail proves nothing."""
    life = Life(str(tmp_path / "archive"), SEED, mutant)
    for _ in range(200):
        if life.cycle():
            return
    pytest.fail(f"nothing of note in {life.cycles} cycles, seed {SEED}")
