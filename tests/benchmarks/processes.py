"""Whole processes: how long they took, and how much memory they had."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LAUNCHER = Path(__file__).with_name("launcher.py")
_started: list[subprocess.Popen[str]] = []


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process did.

    Attributes:
        seconds: By the clock on the wall.
        cpu_seconds: Of processor, in the program and in the kernel for it.
        peak_mb: The most memory that was resident; what is below 10 MB is not told.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float


def run_program(
    words: Sequence[str | Path], *, stdin: Path | None = None, env: dict[str, str] | None = None
) -> Ended:
    """Run a program to its end, its output thrown away.

    Raises:
        SystemExit: It failed: the time of a failure measures nothing.
    """
    asked: dict[str, Any] = {
        "words": [str(word) for word in words],
        "stdin": None if stdin is None else str(stdin),
        "env": dict(os.environ) if env is None else env,
    }
    launcher = _launcher()
    assert launcher.stdin is not None
    assert launcher.stdout is not None
    launcher.stdin.write(json.dumps(asked) + "\n")
    launcher.stdin.flush()
    told = json.loads(launcher.stdout.readline())
    if told.pop("status") != 0:
        raise SystemExit(f"failed: {' '.join(asked['words'])}")
    return Ended(**told)


def _launcher() -> subprocess.Popen[str]:
    if not _started:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_LAUNCHER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        _started.append(process)
        atexit.register(_end)
    return _started[0]


def _end() -> None:
    for process in _started:
        process.communicate()
    _started.clear()


def convmem_environment(archive: Path) -> dict[str, str]:
    """Return the environment of a ``convmem`` process that works in *archive*."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("CONVMEM_")}
    env["CONVMEM_ARCHIVE"] = str(archive)
    return env


def convmem_program() -> Path:
    """Return the ``convmem`` program of this interpreter's environment."""
    path = Path(sysconfig.get_path("scripts")) / "convmem"
    if not path.exists():
        raise SystemExit("no convmem beside this python; install it first: pip install -e .")
    return path
