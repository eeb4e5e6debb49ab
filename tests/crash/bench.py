"""The bench: one scenario carried out again and again from the same state, each time with a fault.

Where the fault is death, the run happens in a forked process that really dies, and reports what
was answered through a pipe. Then this process looks at what is on the disk, retries everything
that was asked for, and looks again.
"""

from __future__ import annotations

import json
import os
import traceback
import warnings
from collections.abc import Callable, Iterator

import faults
from chance import same_chance
from clients import client, somebody_else
from faults import (
    COMPACTOR,
    DEADLY,
    KILLED,
    KILLED_AFTER,
    READER,
    READER_WITHIN,
    Call,
    Shim,
    Witness,
)
from judging import judge, seen
from ledger import OTHER, Findings
from scenario import Scenario
from steps import Compact, Record, UpdateOfAnother
from told import Told
from tree import Tree

Mutant = Callable[[], None]
Death = tuple[str, Tree, Told]

_write_for_real = os.write


class Bench:
    """A place where one scenario is run from the same state with every fault.

    Attributes:
        calls: The calls that change the disk in a run without a fault, by name.
        opens: How many files are opened in it.
    """

    def __init__(self, folder: str, scenario: Scenario) -> None:
        self.scenario = scenario
        self._root = os.path.join(folder, "run")
        self._told, self._damaged = scenario.prepare(self._root)
        self._tree = Tree.of(self._root)
        self._judged: dict[tuple[str, str], Findings] = {}
        told = self.run(0, "")[1]
        self.calls, self.opens = told.calls, told.opens

    def cases(self, kinds: tuple[str, ...]) -> Iterator[tuple[int, str]]:
        """Yield every (place, fault) there is for this scenario.

        A compaction sets damage aside for good, also where a repair would have made turns of it.
        """
        if self.scenario.hidden:
            kinds = tuple(kind for kind in kinds if kind != COMPACTOR)
        return faults.cases(self.calls, self.opens, kinds)

    def run(self, at: int, kind: str, mutant: Mutant | None = None) -> tuple[Findings, Told]:
        """Run with one fault and judge what it left."""
        return self._run_from(self._tree, self._told, at, kind, mutant=mutant)

    def sites(self, at: int, kind: str) -> set[Call]:
        """Run with one fault; return the lines of convmem that led to a call."""
        found: set[Call] = set()
        self._tree.lay(self._root)
        self._play(self._told.copy(), at, kind, 1, sites=found)
        return found

    def deaths(self) -> Iterator[Death]:
        """Yield what every death leaves behind, and what was told before it.

        Nobody dies for that: what is on the disk at a moment is what a death then would leave.
        """
        return self._deaths_from(self._tree, self._told, 1)

    def left_by(self, death: str, at: int) -> Death:
        """Return the same for one death, of a process that really dies."""
        self._tree.lay(self._root)
        told = self._told.copy()
        self._fork(told, at, death, 1, None)
        return f"{death} {at}", Tree.of(self._root), told

    def judge_death(self, death: Death) -> Findings:
        """Judge what a death left behind."""
        _, tree, told = death
        tree.lay(self._root)
        return self._judge(tree, told.copy())

    def run_twice(
        self,
        kinds: tuple[str, ...],
        *,
        one_in: tuple[int, int] = (1, 1),
        wants: Callable[[str], bool] = bool,
    ) -> Iterator[tuple[str, Findings, Told]]:
        """Die at every call, and then let a fault strike at every call of the recovery.

        The fault is another death, or one of *kinds*. Deaths that leave the same behind (see
        ``Tree.digest``) and the same answers given are recovered from once. *one_in* takes only so
        many of the deaths, and of the faults after each; *wants* says of a label whether it is
        wanted.
        """
        wrecks: set[tuple[str, str]] = set()
        for death in self.deaths():
            _, tree, told = death
            key = (tree.digest(), told.as_text())
            if key not in wrecks:
                wrecks.add(key)
                if len(wrecks) % one_in[0] == 0:
                    yield from self._recover(death, kinds, len(wrecks), one_in[1], wants)

    def _recover(
        self,
        death: Death,
        kinds: tuple[str, ...],
        first: int,
        one_in: int,
        wants: Callable[[str], bool],
    ) -> Iterator[tuple[str, Findings, Told]]:
        what, tree, told = death
        findings, after = self._run_from(tree, told, 0, "", life=2)
        if wants(what):
            yield what, findings, after
        known = {(tree.digest(), told.as_text())}
        for at, again in enumerate(self._deaths_from(tree, told, 2), first):
            label = f"{what}, then {again[0]}"
            key = (again[1].digest(), again[2].as_text())
            if key not in known and at % one_in == 0 and wants(label):
                known.add(key)
                yield label, self.judge_death(again), again[2]
        for at, (place, fault) in enumerate(faults.cases(after.calls, after.opens, kinds), first):
            label = f"{what}, then {fault} {place}"
            if at % one_in == 0 and wants(label):
                yield label, *self._run_from(tree, told, place, fault, life=2)

    def _run_from(
        self,
        tree: Tree,
        known: Told,
        at: int,
        kind: str,
        *,
        life: int = 1,
        mutant: Mutant | None = None,
    ) -> tuple[Findings, Told]:
        tree.lay(self._root)
        told = known.copy()
        if kind in DEADLY or mutant is not None:
            self._fork(told, at, kind, life, mutant)
        else:
            self._play(told, at, kind, life)
        findings = self._judge(Tree.of(self._root), told)
        findings.extend(told.findings)
        return findings, told

    def _judge(self, left: Tree, told: Told) -> Findings:
        """Judge what lies there; what is the same as before was judged before."""
        key = (left.digest(), told.as_text())
        if key not in self._judged:
            self._judged[key] = judge(self._root, self.scenario, told, self._damaged)
        findings = Findings()
        findings.extend(self._judged[key])
        return findings

    def _deaths_from(self, tree: Tree, known: Told, life: int) -> Iterator[Death]:
        found: list[Death] = []
        told = known.copy()
        tree.lay(self._root)

        def witness(at: int, death: str) -> None:
            found.append((f"{death} {at}", Tree.of(self._root), told.copy()))

        self._play(told, 0, "", life, witness=witness)
        witness(len(told.calls), KILLED_AFTER)
        return iter(found)

    def _fork(self, told: Told, at: int, kind: str, life: int, mutant: Mutant | None) -> None:
        """Play in a process of its own, that may die of it."""
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            # The child of a test runner with threads: it touches nothing of theirs.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                os.close(reading)
                if mutant is not None:
                    mutant()
                told.forward = lambda *what: _write_for_real(
                    writing, json.dumps(what).encode() + b"\n"
                )
                self._play(told, at, kind, life)
                os._exit(0)
            finally:
                os._exit(1)
        os.close(writing)
        with open(reading, "rb") as pipe:
            reported = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status not in (0, KILLED):
            told.findings.add(OTHER, f"the run ended with {status}")
        for line in reported.splitlines():
            told.take(*json.loads(line))

    def _play(
        self,
        told: Told,
        at: int,
        kind: str,
        life: int,
        *,
        witness: Witness | None = None,
        sites: set[Call] | None = None,
    ) -> None:
        shim = Shim(at, kind, lambda: self._company(kind, told), witness=witness, sites=sites)
        with same_chance(life):
            umask = os.umask(self.scenario.umask)
            shim.install()
            try:
                client(self._root, self.scenario.steps, told)
            except Exception as error:
                what = f"an error that is not convmem's: {error!r} in {_place_of(error)}"
                told.take(OTHER, what)
            finally:
                shim.remove()
                os.umask(umask)
        told.take("calls", shim.calls, shim.opens)

    def _company(self, kind: str, told: Told) -> None:
        """Let somebody else in at this moment; tell what they saw that cannot be."""
        if kind in (READER, READER_WITHIN):
            findings = seen(self._root, self.scenario, told)
        elif kind == COMPACTOR:
            keeps = self.scenario.keeps
            compact = Compact(keeps or 2, discard=keeps is not None)
            findings = somebody_else(self._root, (compact,), told)
        else:
            record = Record("from somebody else", "other")
            change = (UpdateOfAnother(),) if self.scenario.has_state else ()
            findings = somebody_else(self._root, (record, *change), told)
        for what, texts in findings.found.items():
            for text in texts:
                told.take(what, f"{kind}: {text}")


def _place_of(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if os.sep + "convmem" + os.sep in frame.filename]
    names = (f"{os.path.basename(frame.filename)}:{frame.name}" for frame in ours[-3:])
    return " > ".join(names)
