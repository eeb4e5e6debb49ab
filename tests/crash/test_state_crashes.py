"""Processes that change a state are killed: it is the old one or the new one, never between.

A fault at each single call is among the scenarios of test_faults.py.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from convmem import Archive

_WORKER = """
import sys
from convmem import Archive
with Archive.open(sys.argv[1]) as archive:
    chat = archive.conversation("trip")
    nth = chat.state().get(sys.argv[2], 0)
    while True:
        nth += 1
        text = sys.argv[2] * (nth % 3000)
        chat.update_state({sys.argv[2]: nth, sys.argv[2] + ".text": text})
        print(nth, flush=True)
"""


def test_processes_killed_at_random_leave_every_answered_update(tmp_path):
    """Kill -9 is how servers are restarted: what was answered is there, and belongs together."""
    root = str(tmp_path / "archive")
    chance = random.Random(28)
    for _ in range(6):
        workers = {
            name: subprocess.Popen(
                [sys.executable, "-c", _WORKER, root, name], stdout=subprocess.PIPE
            )
            for name in "ab"
        }
        for worker in workers.values():
            worker.stdout.readline()
        time.sleep(chance.random() * 0.1)
        for worker in workers.values():
            worker.send_signal(signal.SIGKILL)
        answered = {name: worker.communicate()[0].split() for name, worker in workers.items()}
        with Archive.open(root) as archive:
            found = archive.conversation("trip").state()
        for name, numbers in answered.items():
            assert found[name] >= int(numbers[-1] if numbers else 1)
            assert found[f"{name}.text"] == name * (found[name] % 3000)
    assert len(list(Path(root, "default", ".state").iterdir())) <= 2
