"""kill -9 for a repair at random moments, in real processes, while somebody else records.

A failure says its seed: run it again with CONVMEM_SEED.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from verify_logs import BY_HAND, line

import convmem
from convmem import Archive, Observer

SEED = int(os.environ.get("CONVMEM_SEED", str(random.SystemRandom().randrange(10**6))))
CYCLES = int(os.environ.get("CONVMEM_REPAIR_KILLS", "8"))

# Repairs once for each line of standard input, and says when it begins and when it is done.
WORKER = """
import os, sys
from convmem import Archive, Observer
exec(sys.argv[2])
chat = Archive.open(sys.argv[1], durability="none", observer=Observer()).conversation("trip")
chat.repair(dry_run=True)  # so that all is loaded
for _ in sys.stdin:
    os.write(1, b"begun\\n")
    chat.repair()
    os.write(1, b"done\\n")
"""

MUTANTS = {
    "the quarantine is not written": """
from convmem.log import heal
heal.set_aside = lambda folder, name, fd, spans: "nothing"
""",
    "the log is rewritten where it stands": """
from convmem.log.removing import rewrite
from convmem.log.files import write_all
def replace(self, *, seq_floor=False):
    self.copy(())
    data = os.pread(self._target, 1 << 30, 0)
    fd = self.folder.open_file(self.log.name + ".jsonl", os.O_RDWR)
    os.ftruncate(fd, 0)
    for at in range(0, len(data), 512):
        write_all(fd, data[at:at + 512])
    self.folder.remove(self._temporary)
    self.is_replaced = True
rewrite.Rewrite.replace = replace
""",
    "what comes meanwhile is not copied": """
from convmem.log.removing import rewrite
def replace(self, *, seq_floor=False):
    self.copy(())
    self.folder.rename(self._temporary, self.log.name + ".jsonl")
    self.is_replaced = True
rewrite.Rewrite.replace = replace
""",
}


def broken():
    """Return (a broken log, what it becomes), some 800 turns."""
    data, sound = [], []
    for seq in range(1, 800, 4):
        one, two = line(seq, "x" * 300), line(seq + 1)
        data += [one[:-1], two, line(seq + 2)[:70], BY_HAND, b"\n", b"\0" * 50, b"junk\n"]
        sound += [one, two, BY_HAND + b"\n"]
    data.append(line(800))
    sound.append(line(800))
    return b"".join(data), b"".join(sound)


class Kills:
    """Kills repairs of one log after another, and looks at what they left."""

    def __init__(self, folder, mutant=""):
        self.folder = folder
        self.mutant = mutant
        self.data, self.sound = broken()
        self.chance = random.Random(SEED)
        self.findings = []
        self.killed = self.took_seconds = 0

    def cycle(self, number):
        root = self.folder / f"archive-{number}"
        log = root / "default" / "trip.jsonl"
        log.parent.mkdir(mode=0o700, parents=True)
        root.chmod(0o700)
        log.write_bytes(self.data)
        with Writer(root) as writer:
            for _ in range(3):
                if self._repair(root, log, may_kill=True):
                    break
                self._look(root, log, writer, "after the kill")
            else:
                self._repair(root, log, may_kill=False)
        self._look(root, log, writer, "at the end", is_done=True)

    def _repair(self, root, log, *, may_kill):
        """Repair, or be killed in it; return whether it came to its end."""
        with subprocess.Popen(
            [sys.executable, "-c", WORKER, str(root), self.mutant],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(convmem.__file__).parents[1])},
        ) as worker:
            worker.stdin.write(b"\n")
            worker.stdin.flush()
            assert worker.stdout.readline() == b"begun\n"
            began = time.monotonic()
            if may_kill:
                # Most of it is reading; half of the kills come when the new file is there.
                if self.chance.random() < 0.5:
                    deadline = began + 10
                    while time.monotonic() < deadline and worker.poll() is None:
                        if any(name.endswith(".tmp") for name in os.listdir(log.parent)):
                            break
                    time.sleep(self.chance.uniform(0, 0.02))
                else:
                    time.sleep(self.chance.uniform(0, self.took_seconds or 0.3))
                worker.send_signal(signal.SIGKILL)
            else:
                worker.stdin.close()
            is_done = worker.stdout.readline() == b"done\n"
            if is_done:
                self.took_seconds = time.monotonic() - began
            worker.wait()
        self.killed += not is_done
        return is_done

    def _look(self, root, log, writer, when, *, is_done=False):
        """Note what is wrong."""
        with writer.paused():
            now = log.read_bytes()
            answered = list(writer.answered)
            aside = [path.read_bytes() for path in log.parent.glob(".quarantine/*.bin")]
        allowed = (self.sound,) if is_done else (self.sound, self.data)
        start = next((each for each in allowed if now.startswith(each)), None)
        if start is None:
            self.findings.append(f"{when}: neither the old log nor the new one")
            return
        if start == self.sound and Counter(self.data) - Counter(now) - sum(
            map(Counter, aside), Counter()
        ):
            self.findings.append(f"{when}: bytes are nowhere")
        found = [each for each in now[len(start) :].splitlines() if b"_last_seq" not in each]
        seqs = [int(each.split(b'"seq":')[1].split(b",")[0]) for each in found]
        if seqs != answered:
            lost = sorted(set(answered) - set(seqs))[:5]
            self.findings.append(f"{when}: of {len(answered)} answered turns {lost} are lost")
        left = [name for name in os.listdir(log.parent) if name.endswith(".tmp")]
        if is_done and left:
            self.findings.append(f"{when}: never cleared away: {left}")


class Writer:
    """Records turn after turn, and keeps their numbers."""

    def __init__(self, root):
        self.answered = []
        self._archive = Archive.open(root, durability="none", observer=Observer())
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._talk)

    def paused(self):
        return self._lock

    def _talk(self):
        chat = self._archive.conversation("trip")
        while not self._stop.wait(0.0005):
            with self._lock:
                self.answered.append(chat.record("user", "meanwhile").seq)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()
        self._archive.close()


def test_kill_9_in_a_repair_loses_nothing_and_the_next_one_ends_it(tmp_path):
    """P7, P8: the log is the old one or the new one, and every byte and answered turn is there."""
    kills = Kills(tmp_path)
    number = 0
    # How many are killed depends on the machine: some end before they can be.
    while number < CYCLES or (not kills.killed and number < 10 * CYCLES):
        kills.cycle(number)
        number += 1
    print(f"seed {SEED}: {kills.killed} repairs killed in {number} logs")
    assert not kills.findings, (SEED, kills.findings)
    assert kills.killed


@pytest.mark.parametrize("mutant", MUTANTS)
def test_kill_9_finds_a_repair_without_its_safeguards(mutant, tmp_path):
    """What cannot fail proves nothing."""
    kills = Kills(tmp_path, MUTANTS[mutant])
    for number in range(40):
        kills.cycle(number)
        if kills.findings:
            return
    pytest.fail(f"seed {SEED}: nothing found")
