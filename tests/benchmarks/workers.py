"""Contestants at work: each in a process of its own, in the environment that has its package."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peers import home
from peers.known import Contestant

_WORKER = Path(__file__).parent / "peers" / "worker.py"


class Refused(Exception):
    """A contestant is not there, or could not do what it was asked; the text says why."""


class Worker:
    """One process, and one contestant in it."""

    def __init__(self, contestant: Contestant) -> None:
        """Start it.

        Raises:
            Refused: It did not come up.
        """
        self.peak_mb = 0.0
        python = home.python() if contestant.needs else sys.executable
        words = [str(python), "-W", "ignore", str(_WORKER), contestant.module]
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            self.answer()
        except Refused:
            self.close()
            raise

    def ask(self, verb: str, **words: Any) -> dict[str, Any]:
        """Have something done, and return what it says."""
        self.tell(verb, **words)
        return self.answer()

    def tell(self, verb: str, **words: Any) -> None:
        """Have something done; ``answer`` waits for it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": verb, **words}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Refused("it ended") from None

    def answer(self) -> dict[str, Any]:
        """Return the answer to the oldest question without one."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Refused(f"it ended with exit status {self._process.wait()}")
        told: dict[str, Any] = json.loads(line)
        if "error" in told:
            raise Refused(told["error"])
        self.peak_mb = max(self.peak_mb, told["peak_mb"] or 0.0)
        return told

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


class Workers:
    """Starts workers, and remembers who is not there, and why."""

    def __init__(self, *, with_peers: bool, say: Callable[[str], None]) -> None:
        """With *with_peers*, peers are installed when they are first asked for."""
        self._with_peers = with_peers
        self._say = say
        self._missing: dict[str, str] = {}
        self._started: list[Worker] = []

    def start(self, contestant: Contestant, count: int = 1) -> list[Worker]:
        """Start *count* workers of one kind.

        Raises:
            Refused: It is not there.
        """
        self.need(contestant.needs)
        started = []
        for _ in range(count):
            started.append(Worker(contestant))
            self._started.append(started[-1])
        return started

    def need(self, distributions: Sequence[str]) -> None:
        """Install what a peer needs, if it is not there yet.

        Raises:
            Refused: It cannot be installed, or peers are not wanted.
        """
        for name in distributions:
            if not self._with_peers:
                raise Refused("--no-peers")
            if name not in self._missing:
                try:
                    home.install(name, self._say)
                    self._missing[name] = ""
                except home.NotThere as why:
                    self._missing[name] = str(why)
            if self._missing[name]:
                raise Refused(self._missing[name])

    def close(self) -> None:
        """End all that were started."""
        for worker in self._started:
            worker.close()
        self._started.clear()


def at_once(
    workers: Sequence[Worker], verb: str, words: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Have each worker do its own words from the same moment on; return what they say."""
    at = time.monotonic() + (0.005 if len(workers) > 1 else 0.0)
    for worker, its_words in zip(workers, words, strict=True):
        worker.tell(verb, at=at, **its_words)
    return [worker.answer() for worker in workers]
