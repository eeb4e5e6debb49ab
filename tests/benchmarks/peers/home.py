"""Where the peers live: an environment of their own, outside the tree, kept between runs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

_REQUIREMENTS = Path(__file__).with_name("requirements.txt")


class NotThere(Exception):
    """A peer could not be installed; the text says why."""


def install(name: str, say: Callable[[str], None]) -> None:
    """Install a distribution with its pinned version, if it is not there yet.

    Takes up to a minute the first time, and looks at one file after that.

    Raises:
        NotThere: That failed; the next run tries again.
    """
    with _alone():
        done = _home() / f"{name}.installed"
        if done.exists():
            return
        if not python().exists():
            say(f"making an environment for the peers: {_home()}")
            _run([sys.executable, "-m", "venv", _home()])
        pin = _pins()[name]
        say(f"installing {pin}")
        _run([python(), "-m", "pip", "install", "-q", pin])
        done.touch()


def python() -> Path:
    """Return the interpreter of the peers' environment."""
    return _home() / "bin" / "python"


def program(name: str) -> Path:
    """Return a program of the peers' environment."""
    return _home() / "bin" / name


def _home() -> Path:
    """Return the environment's folder; another for other versions of the peers or of Python."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    mark = hashlib.sha256(_REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    return cache / "convmem-benchmarks" / f"peers-{mark}"


def _pins() -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in _REQUIREMENTS.read_text().splitlines())
    return {line.split("==")[0]: line for line in lines if line}


def _run(words: list[str | Path]) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        ended = subprocess.run(
            [str(word) for word in words],
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotThere(str(error)) from error
    if ended.returncode != 0:
        told = [line for line in ended.stderr.splitlines() if "error" in line.lower()]
        raise NotThere(
            told[-1].removeprefix("ERROR: ")[:120] if told else f"exit status {ended.returncode}"
        )


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold off another run that would install into the same environment meanwhile."""
    _home().parent.mkdir(parents=True, exist_ok=True)
    with (_home().parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
