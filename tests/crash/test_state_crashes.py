"""A fault, a death or company at every call that changes a state: it is the old one or the new one.

The controls at the end take one safeguard out each, and must be caught.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faults import (
    FAULTS,
    KILLED,
    KILLED_BEFORE,
    KILLED_WITHIN,
    READER,
    READER_WITHIN,
    WRITER,
    WRITER_WITHIN,
    Shim,
)

from convmem import Archive, ConvmemError, CorruptLog, LockTimeout, Observer
from convmem.log import state

OLD = {"session": "old " * 30, "kept": 1}
NEW = {"session": "new " * 60, "kept": 1, "token": "x"}
COMPANY = (WRITER, WRITER_WITHIN, READER, READER_WITHIN)
_DEADLY = ("killed before", "killed after", "killed within")


@dataclass(frozen=True)
class Case:
    """What there is, what is done, and what there is to be then; a damaged state reads as None."""

    name: str
    before: dict[str, Any]
    after: dict[str, Any]
    do: Callable[[Any], object]
    damage: bytes | None = None


CASES = [
    Case("the first of an archive", {}, NEW, lambda chat: chat.update_state(NEW)),
    Case("update", OLD, NEW, lambda chat: chat.update_state(NEW, ttl=3600)),
    Case("the last key", OLD, {}, lambda chat: chat.update_state(dict.fromkeys(OLD))),
    Case("clear", OLD, {}, lambda chat: chat.clear_state()),
    Case("clear damage", OLD, {}, lambda chat: chat.clear_state(), damage=b'{"session":"o\0ld"}\n'),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def _open(root):
    return Archive.open(root, lock_timeout_seconds=0.0, observer=Observer())


def _read(root):
    with _open(root) as archive:
        try:
            return archive.conversation("trip").state()
        except CorruptLog:
            return "damaged"


class Bench:
    """A place where one case is run again and again from the same files."""

    def __init__(self, folder, case):
        self.case = case
        self.root = str(folder / "run")
        self.template = str(folder / "template")
        with _open(self.template) as archive:
            chat = archive.conversation("trip")
            if case.before:
                chat.record("user", "hello")
                chat.update_state(case.before)
        if case.damage is not None:
            Path(self.template, "default", ".state", "trip.json").write_bytes(case.damage)
        self.before = "damaged" if case.damage is not None else case.before
        self.calls = []
        self.calls = self.run(0, "")[1]

    def run(self, at, kind, mutant=None):
        """Run with one fault; return what was wrong, and the calls that were made."""
        shutil.rmtree(self.root, ignore_errors=True)
        if os.path.exists(self.template):
            shutil.copytree(self.template, self.root)
        if mutant is None and kind not in _DEADLY:
            return self._judge(kind, *self._play(at, kind))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            status = 99
            try:
                if mutant is not None:
                    mutant()
                ended, wrong, _ = self._play(at, kind)
                status = 98 if wrong else 0 if ended is None else 97
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 99:
            return ["an error that is not convmem's"], self.calls
        ended = None if status == 0 else "killed" if status == KILLED else "failed"
        return self._judge(kind, ended, ["company"] if status == 98 else [], self.calls)

    def _play(self, at, kind):
        """Return how it ended (None: well), what others saw that cannot be, and the calls."""
        wrong = []
        joined = []

        def company():
            if kind in (READER, READER_WITHIN):
                seen = _read(self.root)
                if seen not in (self.before, self.case.after):
                    wrong.append(f"a reader saw {seen!r}")
                return
            with _open(self.root) as other:
                try:
                    other.conversation("trip").update_state({"other": 1})
                    joined.append(1)
                except (LockTimeout, CorruptLog):
                    pass  # kept waiting, as it should be

        shim = Shim(at, kind, company)
        archive = _open(self.root)
        shim.install()
        try:
            self.case.do(archive.conversation("trip"))
            ended = None
        except ConvmemError as error:
            ended = error.kind
        finally:
            shim.remove()
            archive.close()
        if joined:
            # Before or behind ours, never undone by it; but a clear may come behind.
            found = _read(self.root)
            if self.case.do.__code__.co_names[-1] != "clear_state" and found.pop("other", 0) != 1:
                wrong.append("another's update was lost")
            with _open(self.root) as again:
                again.conversation("trip").update_state({"other": None})
        return ended, wrong, shim.calls

    def _judge(self, kind, ended, wrong, calls):
        found = _read(self.root)
        allowed = [self.case.after] if ended is None else [self.before, self.case.after]
        if ended in ("full", "io"):
            allowed = [self.before]
        if found not in allowed:
            wrong.append(f"after {ended}: {found!r}")
        if self.case.damage is not None and found != "damaged":
            kept = list(Path(self.root, "default", ".quarantine").glob("trip+state.*"))
            if [path.read_bytes() for path in kept] != [self.case.damage]:
                wrong.append("the damaged bytes are gone")
        with _open(self.root) as archive:
            chat = archive.conversation("trip")
            try:
                self.case.do(chat)
                if chat.state() != self.case.after:
                    wrong.append(f"and after a retry: {chat.state()!r}")
                chat.update_state({"done": 1})
            except ConvmemError as error:
                wrong.append(f"a retry fails: {error}")
        left = list(Path(self.root).rglob(".state/.*"))
        if left:
            wrong.append(f"left behind: {left}")
        return wrong, calls

    def try_all(self, kinds, mutant=None):
        """Return all that was wrong, with each of these faults at each call."""
        found = []
        for at, name in enumerate(self.calls, 1):
            for kind in kinds:
                if name != "write" and kind.endswith("within"):
                    continue
                wrong, _ = self.run(at, kind, mutant)
                found += [f"{kind} at call {at} ({name}): {each}" for each in wrong]
        return found


@each_case
def test_whatever_fails_the_state_is_the_old_one_or_the_new_one(case, tmp_path):
    """A killed process or a full disk must cost no session; a retry then makes it the new one."""
    bench = Bench(tmp_path, case)
    assert bench.run(0, "")[0] == []
    assert bench.try_all(FAULTS) == []


@each_case
def test_whoever_reads_or_writes_meanwhile_sees_one_of_the_two_and_loses_nothing(case, tmp_path):
    """A28: at every point where somebody else may come in."""
    assert Bench(tmp_path, case).try_all(COMPANY) == []


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


# --- controls ---------------------------------------------------------------------------------


def _written_in_place():
    def write(folder, name, temporary, chunks):
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=folder.fd)
        for chunk in chunks:
            state_write(fd, chunk)
        os.close(fd)

    def state_write(fd, data):
        while data:
            data = data[os.write(fd, data) :]

    state.write_aside = write


def _without_lock():
    class NoLock:
        def acquire(self, timeout_seconds):
            """Let everybody in."""

        release = close = lambda self: None

    state.lock_of = lambda folder, name: NoLock()


def _without_quarantine():
    state.State._quarantine = lambda self: "nowhere"


@pytest.mark.parametrize(
    ("mutant", "case", "kinds"),
    [
        (_written_in_place, CASES[1], (KILLED_BEFORE, KILLED_WITHIN)),
        (_written_in_place, CASES[1], (READER_WITHIN,)),
        (_without_lock, CASES[1], (WRITER,)),
        (_without_quarantine, CASES[4], (KILLED_BEFORE,)),
    ],
    ids=range(4),
)
def test_a_safeguard_taken_out_is_noticed(mutant, case, kinds, tmp_path):
    """What cannot fail proves nothing."""
    assert Bench(tmp_path, case).try_all(kinds, mutant)
