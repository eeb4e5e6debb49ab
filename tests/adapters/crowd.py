"""Several processes on one session at once, one killed in the middle, and a log that was damaged.

A worker is the source of a program. It gets its arguments and, as the last one, its number; it
imports what it needs, calls ``ready()``, which waits for all others, and tells what was answered
by ``tell(value)``, one JSON value a line.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import convmem

_HOUSE = Path(convmem.__file__).parents[1]
_BEFORE = """
import json, sys

def ready():
    print('"ready"', flush=True)
    sys.stdin.readline()

def tell(value):
    print(json.dumps(value), flush=True)

"""
_PATIENCE_SECONDS = 240


def together(worker: str, *arguments: object, count: int = 4) -> list[list[Any]]:
    """Run *count* of *worker* at once; return what each told. All must end well."""
    running = [_started(worker, arguments, number) for number in range(count)]
    try:
        for each in running:
            _wait_until_ready(each)
        for each in running:
            _let_go(each)
        outputs = [each.communicate(timeout=_PATIENCE_SECONDS) for each in running]
    finally:
        for each in running:
            each.kill()
            each.wait()
    for each, (_, errors) in zip(running, outputs, strict=True):
        assert each.returncode == 0, errors
    return [[json.loads(line) for line in out.splitlines()] for out, _ in outputs]


def killed(worker: str, *arguments: object, after: int) -> list[Any]:
    """Run one *worker*, kill it with SIGKILL once it told *after* values; return what it told."""
    running = _started(worker, arguments, 0)
    try:
        _wait_until_ready(running)
        _let_go(running)
        assert running.stdout is not None
        told = [json.loads(running.stdout.readline()) for _ in range(after)]
        running.send_signal(signal.SIGKILL)
        # What it told between the last look and its death was answered, too.
        rest = running.stdout.read().splitlines(keepends=True)
        told += [json.loads(line) for line in rest if line.endswith("\n")]
    finally:
        running.kill()
        running.communicate()  # closes its pipes, too
    assert running.returncode == -signal.SIGKILL
    return told


def tear(path: str | os.PathLike[str], *, at_line: int) -> None:
    """Damage a log as crashes and disks do: *at_line* loses its middle, and garbage ends the file.

    The lines around it stay as they are; one turn is lost, and the last line is torn.
    """
    lines = Path(path).read_bytes().splitlines(keepends=True)
    hurt = lines[at_line]
    lines[at_line] = hurt[: len(hurt) // 3] + b"\x00\xff" + hurt[len(hurt) // 2 :]
    Path(path).write_bytes(b"".join(lines) + b'{"id":"torn","seq":9')


def _started(worker: str, arguments: tuple[object, ...], number: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(_HOUSE), "PYTHONWARNINGS": "ignore"}
    words = [str(each) for each in (*arguments, number)]
    return subprocess.Popen(
        [sys.executable, "-c", _BEFORE + worker, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def _wait_until_ready(running: subprocess.Popen[str]) -> None:
    assert running.stdout is not None
    line = running.stdout.readline()
    if line != '"ready"\n':
        running.kill()
        raise AssertionError(running.communicate()[1])


def _let_go(running: subprocess.Popen[str]) -> None:
    assert running.stdin is not None
    running.stdin.write("\n")
    running.stdin.flush()
