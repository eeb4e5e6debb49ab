"""Kill everybody who is at work on one conversation, look at what they left, and go on with it."""

from __future__ import annotations

import json
import os
import random
import selectors
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

from kill_worker import content_of, ids_of, record
from ledger import (
    LOST,
    NAME,
    OTHER,
    REORDERED,
    Findings,
    Ledger,
    TrashRead,
    leftovers,
    look,
    read_files,
)

from convmem import Archive, ConvmemError, Observer, RetentionPolicy

WRITERS = ("single", "batch", "large")
EVERYBODY = (*WRITERS, "compactor", "follower", "tearer")
_LIVES_SECONDS = (0.004, 0.060)
# A conversation of its own for so many cycles: all of its trash is compared after each.
_CYCLES_PER_ARCHIVE = 20
_PATIENCE_SECONDS = 60


class Killing:
    """Cycles of work and SIGKILL on conversations in *folder*.

    Every choice follows from *seed*; what the machine does with it does not. *mutant* names what
    is taken out of the workers' convmem; *retries* is whether this process, whose convmem is
    whole, retries what was not answered; *lives_seconds* is how long they live at least and at
    most once all are up.
    """

    def __init__(
        self,
        folder: str,
        seed: int,
        *,
        roles: tuple[str, ...] = EVERYBODY,
        mutant: str | None = None,
        retries: bool = True,
        lives_seconds: tuple[float, float] = _LIVES_SECONDS,
    ) -> None:
        self.folder = folder
        self.seed = seed
        self.roles = roles
        self.retries = retries
        self.lives_seconds = lives_seconds
        self.findings = Findings()
        self.cycles = self.answered = self.torn_tails = self.seen = self.compactions = 0
        self._root = ""
        self._worker = subprocess.Popen(
            [sys.executable, os.path.join(os.path.dirname(__file__), "kill_worker.py")]
            + ([mutant] if mutant else []),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._worker.stdout is not None
        self._reports = self._worker.stdout.fileno()
        os.set_blocking(self._reports, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reports, selectors.EVENT_READ)
        self._rest = b""

    def __enter__(self) -> Killing:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._worker.stdin is not None and self._worker.stdout is not None
        self._worker.stdin.close()
        self._worker.wait()
        self._selector.close()
        self._worker.stdout.close()
        shutil.rmtree(self._root, ignore_errors=True)

    def cycle(self) -> Findings:
        """Let everybody live for a moment, kill them, judge; return what was wrong."""
        number = self.cycles
        self.cycles += 1
        if number % _CYCLES_PER_ARCHIVE == 0:
            self._begin_anew(number)
        chance = random.Random(f"{self.seed} {number}")
        lives = chance.uniform(*self.lives_seconds)
        before = self._ledger.highest_seq
        reports = self._live(
            {
                "root": self._root,
                "cycle": number,
                "seed": f"{self.seed} {number}",
                "roles": [role for role in self.roles if role != "tearer"],
                "lives": lives,
                "syncs": number % 4 == 0,
                "cursor": self._cursor,
            },
            lives,
            is_torn="tearer" in self.roles and number % 2 == 1,
        )
        findings = Findings()
        unanswered = self._take(number, reports, findings)
        findings.extend(self._look("after the kill: "))
        if not findings and self.retries:
            findings.extend(self._recover(number, unanswered, before))
        where = f"seed {self.seed}, cycle {number} ({lives * 1000:.0f} ms): "
        self.findings.extend(findings, where)
        return findings

    def _begin_anew(self, number: int) -> None:
        if self._root:
            shutil.rmtree(self._root)
        self._root = os.path.join(self.folder, f"archive-{number}")
        self._ledger = Ledger()
        self._trash_read: TrashRead = {}
        self._torn: list[str] = []
        self._cursor: str | None = None
        self._last_seen = 0

    # --- living and dying ------------------------------------------------------------------

    def _live(self, order: dict[str, Any], lives: float, *, is_torn: bool) -> list[list[Any]]:
        self._order(order)
        reports: list[list[Any]] = []
        patience = time.monotonic() + _PATIENCE_SECONDS
        while sum(each[0] == "up" for each in reports) < len(order["roles"]):
            reports += self._hear(patience)
            if any(each[0] == "wrong" for each in reports) or time.monotonic() > patience:
                break
        if is_torn:
            # Now, and not before: it takes the lock and keeps it.
            self._order(order | {"roles": ["tearer"]})
        deadline = time.monotonic() + lives
        while time.monotonic() < deadline:
            reports += self._hear(deadline)
        self._order("kill")
        while not reports or reports[-1][0] != "gone":
            reports += self._hear(patience)
            if time.monotonic() > patience:
                raise TimeoutError("the worker does not answer")
        return reports

    def _order(self, order: object) -> None:
        assert self._worker.stdin is not None
        self._worker.stdin.write(json.dumps(order).encode() + b"\n")
        self._worker.stdin.flush()

    def _hear(self, until: float) -> list[list[Any]]:
        """Return what was reported next, or nothing when it is *until*."""
        if not self._selector.select(max(0.0, until - time.monotonic())):
            return []
        data = os.read(self._reports, 1 << 16)
        if not data:
            raise EOFError(f"the worker ended with {self._worker.wait()}")
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    # --- judging -----------------------------------------------------------------------------

    def _take(self, cycle: int, reports: list[list[Any]], findings: Findings) -> dict[str, int]:
        """Write down what was answered; return for each writer the first that was not."""
        unanswered = {role: 0 for role in WRITERS if role in self.roles}
        for what, *rest in reports:
            if what == "answer":
                role, nth, seqs = rest
                unanswered[role] = nth + 1
                ids = ids_of(cycle, role, nth)
                for turn_id, seq in zip(ids, seqs, strict=True):
                    self.answered += 1
                    self._ledger.answer(turn_id, seq, content_of(turn_id))
                self._ledger.batches.append(ids)
            elif what == "seen":
                turn_id, seq, self._cursor = rest
                self.seen += 1
                if seq <= self._last_seen:
                    text = f"the follower gave {turn_id}, {seq}, after {self._last_seen}"
                    findings.add(REORDERED, text)
                self._last_seen = seq
                # What a reader saw stays as it was, answered or not.
                self._ledger.answer(turn_id, seq, content_of(turn_id))
            elif what == "compacted":
                self.compactions += 1
            elif what == "torn":
                self._torn.append(rest[0])
            elif what == "wrong":
                findings.add(OTHER, rest[0])
            elif what == "gone" and set(rest[0]) != {-signal.SIGKILL}:
                findings.add(OTHER, f"not all lived until they were killed: {rest[0]}")
        for role, nth in unanswered.items():
            self._ledger.batches.append(ids_of(cycle, role, nth))
        return unanswered

    def _look(self, when: str) -> Findings:
        findings = Findings()
        findings.extend(look(self._root, self._ledger, trash_read=self._trash_read), when)
        findings.extend(self._ledger.findings, when)
        self._ledger.findings = Findings()
        return findings

    def _recover(self, cycle: int, unanswered: dict[str, int], before: int) -> Findings:
        findings = Findings()
        left = read_files(self._root, self._trash_read)
        self.torn_tails += bool(left.tail)
        try:
            with Archive.open(self._root, durability="none", observer=Observer()) as archive:
                for role, nth in unanswered.items():
                    seqs = record(archive, cycle, role, nth)
                    for turn_id, seq in zip(ids_of(cycle, role, nth), seqs, strict=True):
                        self._ledger.answer(turn_id, seq or 0, content_of(turn_id))
                        if seq is None or seq <= before:
                            findings.add(REORDERED, f"{turn_id} got {seq}, of an earlier cycle")
        except ConvmemError as error:
            findings.add(OTHER, f"cannot be used afterwards: {error!r}")
            return findings
        findings.extend(self._look("after the retries: "))
        files = read_files(self._root, self._trash_read)
        for line in files.log:
            if not line.is_good:
                findings.add(OTHER, f"a line that is none: {line.data[:60]!r}")
        for piece in [left.tail, *(part.encode() for part in self._torn)]:
            if piece and not files.holds(piece):
                findings.add(LOST, f"bytes that are nowhere: {piece[:60]!r}")
        self._torn.clear()
        if cycle % _CYCLES_PER_ARCHIVE == _CYCLES_PER_ARCHIVE - 1:
            with Archive.open(self._root, observer=Observer()) as archive:
                archive.conversation(NAME).compact(RetentionPolicy(keep_last=1_000_000))
            for path in leftovers(self._root):
                findings.add(OTHER, f"never cleared away: {os.path.basename(path)}")
        return findings
