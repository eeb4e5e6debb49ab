"""A fault at every call by which convmem changes a disk, one run for each call and kind of fault.

Where the fault is death, the run happens in a forked process that really dies, and reports what
was answered through a pipe. Then this process looks at what is on the disk, retries everything
that was asked for, and looks again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ledger import (
    DOUBLED,
    LOST,
    NAME,
    NAMESPACE,
    OTHER,
    Findings,
    Ledger,
    leftovers,
    look,
    read_files,
)

from convmem import Archive, RetentionPolicy
from convmem.errors import (
    ConversationNotFound,
    ConvmemError,
    DurabilityUnknown,
    LockTimeout,
)
from convmem.log import compact, flusher  # noqa: F401 - loaded, so that all names are bound
from convmem.progress import Observer

KILLED = 77

# --- what is done while the fault strikes ----------------------------------------------------


@dataclass(frozen=True)
class Record:
    """One turn; without an id it cannot be retried."""

    content: str
    id: str | None = None


@dataclass(frozen=True)
class Batch:
    """Turns that belong together."""

    ids: tuple[str, ...]
    content: str


@dataclass(frozen=True)
class Compact:
    """A compaction."""

    keep_last: int
    discard: bool = False
    summary: str | None = None


@dataclass(frozen=True)
class Delete:
    """The whole conversation goes to the trash."""


@dataclass(frozen=True)
class Restore:
    """All that is in the trash comes back."""


@dataclass(frozen=True)
class Purge:
    """What another conversation, ``other``, left in the trash goes for good."""


Step = Record | Batch | Compact | Delete | Restore | Purge


@dataclass
class Scenario:
    """A log as it stands before, and what is then done to it."""

    name: str
    steps: tuple[Step, ...]
    turns: int = 0  # how many turns are there before; the last three are a batch
    damage: Callable[[str], None] | None = None  # done to the file then
    gone: tuple[str, ...] = ()  # the turns that this damage hit
    before: tuple[Step, ...] = ()  # what else was done before, without a fault

    @property
    def restores(self) -> bool:
        """Whether all that was answered has to be in the log again once somebody restores."""
        return any(isinstance(step, Delete | Restore) for step in (*self.before, *self.steps))

    @property
    def keeps(self) -> int | None:
        """How many turns its deleting compaction leaves, if it has one."""
        for step in self.steps:
            if isinstance(step, Compact) and step.discard:
                return step.keep_last
        return None

    def prepare(self, root: str) -> Ledger:
        """Make the log in *root* and return what its clients were told."""
        ledger = Ledger()
        if self.turns:
            with _open(root) as archive:
                for at in range(self.turns - 3):
                    _tell(archive, Record(f"word {at} " * 5, f"t{at}"), ledger.answer)
                ids = tuple(f"t{at}" for at in range(self.turns - 3, self.turns))
                _tell(archive, Batch(ids, "together " * 5), ledger.answer)
                ledger.batches.append(list(ids))
        for step in self.steps:
            if isinstance(step, Batch):
                ledger.batches.append(list(step.ids))
        if self.before:
            with _open(root) as archive:
                for step in self.before:
                    _tell(archive, step, ledger.answer)
        if self.damage is not None:
            self.damage(os.path.join(root, NAMESPACE, f"{NAME}.jsonl"))
        for turn_id in self.gone:
            del ledger.answers[turn_id]
        return ledger


def _torn(path: str) -> None:
    with open(path, "ab") as log:
        log.write(b'{"id":"torn","seq":7,"ts":"2026-05-04T03:02:01Z","role":"us')


def _half_batch(path: str) -> None:
    """Take the batch's last line off, as if its write had been torn there."""
    with open(path, "r+b") as log:
        data = log.read()
        log.truncate(data.rindex(b"\n", 0, -1) + 1)


def _torn_batch(path: str) -> None:
    """Take half of the batch's second line off."""
    with open(path, "r+b") as log:
        ends = [at for at, byte in enumerate(log.read()) if byte == 10]
        log.truncate(ends[-2] - 20)


def _nul_tail(path: str) -> None:
    """As ext4 leaves a file whose size reached the disk before its content."""
    with open(path, "ab") as log:
        log.write(bytes(300))


def _no_newline(path: str) -> None:
    """Add a turn by hand, as some editors do: without a newline."""
    with open(path, "ab") as log:
        log.write(b'{"role":"user","content":"by hand"}')


def _flipped(path: str) -> None:
    """Damage the second turn."""
    with open(path, "r+b") as log:
        at = log.read().index(b"word 1")
        log.seek(at)
        log.write(b"w0rd")


_LAST_THREE = ("t3", "t4", "t5")
_TWO = (Record("and then", "n0"), Record("and now", "n1"))

SCENARIOS = (
    Scenario("first record of an archive", (Record("hello", "n0"), Record("again", "n1"))),
    Scenario("record", (Record("without an id"), Record("and another")), turns=6),
    Scenario(
        "batch",
        (Batch(("n0", "n1", "n2", "n3"), "long " * 40), Record("x", "n4")),
        turns=6,
    ),
    Scenario(
        "retry",
        (Record("word 1 " * 5, "t1"), Batch(_LAST_THREE, "together " * 5), Record("new", "n0")),
        turns=6,
    ),
    Scenario("append after a torn line", _TWO, turns=6, damage=_torn),
    Scenario(
        "append after half a batch",
        (Batch(_LAST_THREE, "together " * 5), Record("new", "n0")),
        turns=6,
        damage=_half_batch,
        gone=_LAST_THREE,
    ),
    Scenario("append after a torn batch", _TWO, turns=6, damage=_torn_batch, gone=_LAST_THREE),
    Scenario("append after NUL bytes", _TWO, turns=6, damage=_nul_tail),
    Scenario(
        "append after a lost newline",
        _TWO,
        turns=6,
        damage=_no_newline,
    ),
    Scenario("compaction to the trash", (Compact(2), Record("new", "n0")), turns=8),
    Scenario(
        "compaction that deletes, with a damaged line",
        (Compact(3, discard=True),),
        turns=8,
        damage=_flipped,
        gone=("t1",),
    ),
    Scenario("compaction that drops everything", (Compact(0), Record("new", "n0")), turns=6),
    Scenario("compaction that sums up", (Compact(2, summary="they talked"),), turns=8),
    Scenario(
        "compaction that sums up once more",
        (Compact(1, summary="and talked"), Record("new", "n0")),
        turns=8,
        before=(Compact(4, summary="they talked"),),
    ),
    Scenario("delete", (Delete(), Record("new", "n0")), turns=6),
    Scenario("delete a damaged log", (Delete(),), turns=6, damage=_torn),
    Scenario(
        "restore what a compaction took",
        (Restore(), Record("new", "n0")),
        turns=8,
        before=(Compact(2), Compact(1)),
    ),
    Scenario(
        "restore a deleted log", (Restore(), Record("new", "n0")), turns=6, before=(Delete(),)
    ),
    Scenario(
        "restore into a log begun anew",
        (Restore(),),
        turns=6,
        before=(Compact(2, summary="they talked"), Delete(), Record("anew", "a0")),
    ),
    Scenario("purge", (Delete(), Purge(), Record("new", "n0")), turns=6),
)


# --- faults ----------------------------------------------------------------------------------

CALLS = ("write", "ftruncate", "rename", "unlink", "mkdir", "fsync", "fchmod", "chmod", "open")
_NEEDS_ROOM = ("write", "open", "mkdir", "rename", "fsync", "fdatasync")

KILLED_BEFORE = "killed before"
KILLED_AFTER = "killed after"
KILLED_WITHIN = "killed within"
SHORT = "short write"
SHORT_THEN_FULL = "short write, then full"
FULL_ONCE = "full once"
FULL_FOR_EVER = "full for ever"
QUOTA_ONCE = "quota once"
EIO_ONCE = "EIO once"
EIO_FOR_EVER = "EIO for ever"
WRITER = "another writer"
WRITER_WITHIN = "another writer within"
COMPACTOR = "another compaction"
READER = "a reader"
READER_WITHIN = "a reader within"

FAULTS = (
    KILLED_BEFORE,
    KILLED_AFTER,
    KILLED_WITHIN,
    SHORT,
    SHORT_THEN_FULL,
    FULL_ONCE,
    FULL_FOR_EVER,
    QUOTA_ONCE,
    EIO_ONCE,
    EIO_FOR_EVER,
)
# Not faults but company: everything that others may do, at every point where they may do it.
COMPANY = (WRITER, WRITER_WITHIN, COMPACTOR, READER, READER_WITHIN)
_ONLY_WRITES = (QUOTA_ONCE, KILLED_WITHIN, SHORT, SHORT_THEN_FULL, WRITER_WITHIN, READER_WITHIN)
_DEADLY = (KILLED_BEFORE, KILLED_AFTER, KILLED_WITHIN)
_ERRORS = {
    FULL_ONCE: errno.ENOSPC,
    FULL_FOR_EVER: errno.ENOSPC,
    QUOTA_ONCE: errno.EDQUOT,
    EIO_ONCE: errno.EIO,
    EIO_FOR_EVER: errno.EIO,
}

_write_for_real = os.write


def _no_sync(fd: int) -> None:
    """Take a sync's place."""


class Shim:
    """Stands between convmem and ``os``: counts the calls and strikes at one of them."""

    def __init__(self, at: int, kind: str, company: Callable[[], None]) -> None:
        self.at = at
        self.kind = kind
        self.company = company
        self.calls: list[str] = []
        self.is_off = False
        self.is_full_next = False
        self._displaced: list[tuple[object, str, Callable]] = []

    def install(self) -> None:
        """Take the place of the calls, also where they were bound by another name."""
        for name in CALLS:
            # Nothing that is looked at here depends on a sync that was really done, only on one
            # that failed; whoever cuts the power must look elsewhere.
            real = getattr(os, name) if name != "fsync" else _no_sync
            self._put(os, name, self._standing_in(name, real))
        sync_data = self._standing_in("fdatasync", _no_sync)
        for name, module in list(sys.modules.items()):
            if name.startswith("convmem.") and hasattr(module, "sync_data"):
                self._put(module, "sync_data", sync_data)

    def remove(self) -> None:
        """Give everything its place back."""
        for module, name, real in self._displaced:
            setattr(module, name, real)

    def _put(self, module: object, name: str, stand_in: Callable) -> None:
        self._displaced.append((module, name, getattr(module, name)))
        setattr(module, name, stand_in)

    def _standing_in(self, name: str, real: Callable) -> Callable:
        def call(*args, **kwargs):
            if self.is_off or (name == "open" and not args[1] & os.O_CREAT):
                return real(*args, **kwargs)
            self.calls.append(name)
            return self._meet(name, real, args, kwargs)

        return call

    def _meet(self, name: str, real: Callable, args: tuple, kwargs: dict) -> object:
        if self.is_full_next and name == "write":
            self.is_full_next = False
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        here = len(self.calls) == self.at
        since = 0 < self.at <= len(self.calls)
        kind = self.kind
        if (
            (here and kind in (FULL_ONCE, QUOTA_ONCE, EIO_ONCE))
            or (since and kind == EIO_FOR_EVER)
            or (since and kind == FULL_FOR_EVER and name in _NEEDS_ROOM)
        ):
            raise OSError(_ERRORS[kind], os.strerror(_ERRORS[kind]))
        if not here:
            return real(*args, **kwargs)
        if kind == KILLED_BEFORE:
            os._exit(KILLED)
        if kind == KILLED_AFTER:
            real(*args, **kwargs)
            os._exit(KILLED)
        if kind in _ONLY_WRITES and name == "write":  # in two parts, with something between
            fd, data = args
            part = bytes(data[: len(data) // 2])
            real(fd, part)
            if kind == KILLED_WITHIN:
                os._exit(KILLED)
            if kind == SHORT_THEN_FULL:
                self.is_full_next = True
            elif kind != SHORT:
                self._let_in()
            return len(part)
        if kind in (WRITER, COMPACTOR, READER):
            self._let_in()
        return real(*args, **kwargs)

    def _let_in(self) -> None:
        self.is_off = True
        try:
            self.company()
        finally:
            self.is_off = False


# --- one run ---------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What a run reported before it ended or was killed."""

    answers: list[tuple[str, int, object]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)

    def take(self, what: str, *rest: Any) -> None:
        """Take one report."""
        if what == "answer":
            self.answers.append((rest[0], rest[1], rest[2]))
        elif what == "calls":
            self.calls = rest[0]
        else:
            self.findings.add(what, rest[0])


Mutant = Callable[[], None]


def run(
    root: str,
    steps: tuple[Step, ...],
    ledger: Ledger,
    keeps: int | None,
    *,
    at: int = 0,
    kind: str = "",
    mutant: Mutant | None = None,
) -> Outcome:
    """Do *steps* with the fault *kind* at call *at* (0: none).

    In a process of its own where it is to be killed, or is to run with a *mutant*; else in this
    one, which is five times quicker.
    """
    outcome = Outcome()
    if kind not in _DEADLY and mutant is None:
        _play(root, steps, ledger, keeps, at, kind, outcome.take)
        return outcome
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
            _play(
                root,
                steps,
                ledger,
                keeps,
                at,
                kind,
                lambda *what: _write_for_real(writing, json.dumps(what).encode() + b"\n"),
            )
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with open(reading, "rb") as pipe:
        reported = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) not in (0, KILLED):
        outcome.findings.add(OTHER, f"the run ended with {os.waitstatus_to_exitcode(status)}")
    for line in reported.splitlines():
        outcome.take(*json.loads(line))
    return outcome


def _play(
    root: str,
    steps: tuple[Step, ...],
    ledger: Ledger,
    keeps: int | None,
    at: int,
    kind: str,
    report: Callable[..., object],
) -> None:
    known = ledger.copy()

    def tell(turn_id: str, seq: int, content: object) -> None:
        known.answer(turn_id, seq, content)
        report("answer", turn_id, seq, content)

    def company() -> None:
        findings = _company(root, kind, known, keeps, tell)
        for found in findings.found:
            for text in findings.found[found]:
                report(found, f"{kind}: {text}")

    shim = Shim(at, kind, company)
    shim.install()
    try:
        _client(root, steps, tell)
    except Exception as error:
        report(OTHER, f"an error that is not convmem's: {error!r} in {_place_of(error)}")
    finally:
        shim.remove()
    report("calls", shim.calls)


def _place_of(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if os.sep + "convmem" + os.sep in frame.filename]
    names = (f"{os.path.basename(frame.filename)}:{frame.name}" for frame in ours[-3:])
    return " > ".join(names)


def _client(root: str, steps: tuple[Step, ...], tell: Callable) -> None:
    """Do the steps; then those that failed once more, with all that is believed of the file."""
    archive = _open(root, durability="always")
    failed: list[Step] = []
    for step in steps:
        try:
            _tell(archive, step, tell)
        except ConvmemError as error:
            failed.append(step)
            if isinstance(error, DurabilityUnknown):
                archive.close()
                archive = _open(root, durability="always")
    for step in failed:
        try:
            _tell(archive, step, tell)
        except ConvmemError:
            continue
    archive.close()


def _company(root: str, kind: str, known: Ledger, keeps: int | None, tell: Callable) -> Findings:
    """Let somebody else in at this moment; say what they saw that cannot be."""
    findings = Findings()
    if kind in (READER, READER_WITHIN):
        return look(root, known, keeps=keeps)
    with _open(root) as other:
        try:
            if kind == COMPACTOR:
                _tell(other, Compact(keeps or 2, discard=keeps is not None), tell)
            else:
                _tell(other, Record("from somebody else", "other"), tell)
        except (LockTimeout, ConversationNotFound):
            pass  # kept waiting, as it should be
        except ConvmemError as error:
            findings.add(OTHER, f"somebody else was refused: {error!r}")
    return findings


def _open(root: str, *, durability: str = "none") -> Archive:
    return Archive.open(root, durability=durability, lock_timeout_seconds=0.0, observer=Observer())


def _tell(archive: Archive, step: Step, tell: Callable) -> None:
    """Do one step and tell its answers."""
    chat = archive.conversation(NAME)
    if isinstance(step, Compact):
        words = step.summary
        chat.compact(
            RetentionPolicy(keep_last=step.keep_last),
            discard=step.discard,
            summarize=None if words is None else lambda turns: words,
        )
        return
    if isinstance(step, Delete):
        chat.delete()
        return
    if isinstance(step, Restore):
        chat.restore()
        return
    if isinstance(step, Purge):
        other = archive.conversation("other")
        other.record("user", "to be purged")
        other.delete()
        archive.purge_trash(timedelta(0), only={"other"})
        return
    if isinstance(step, Record):
        turns = [chat.record("user", step.content, id=step.id)]
    else:
        drafts = [{"role": "user", "content": step.content, "id": each} for each in step.ids]
        turns = chat.record_many(drafts)
    for turn in turns:
        tell(turn.id, turn.seq, turn.content)


# --- what must be true afterwards ------------------------------------------------------------


def judge(root: str, scenario: Scenario, ledger: Ledger) -> Findings:
    """Judge what a run left behind: as it is, and after every client has retried."""
    findings = Findings()
    findings.extend(look(root, ledger, keeps=scenario.keeps), "left behind: ")
    left = read_files(root)
    findings.extend(_half_compaction(scenario, ledger, left.raw))

    if scenario.restores:
        findings.extend(_restored(root, ledger))
    with _open(root) as archive:
        again: list[Step] = [step for step in scenario.steps if _can_be_retried(step)]
        in_batches = {turn_id for batch in ledger.batches for turn_id in batch}
        again += [
            Record(str(content), turn_id)
            for turn_id, (_, content) in list(ledger.answers.items())
            if turn_id not in in_batches
        ]
        highest = ledger.highest_seq
        try:
            for step in again:
                _tell(archive, step, ledger.answer)
            last = archive.conversation(NAME).record("user", "afterwards", id="last")
        except (ConvmemError, OSError) as error:
            findings.add(OTHER, f"cannot be used afterwards: {error!r}")
            return findings
        ledger.answer("last", last.seq or 0, "afterwards")
        if (last.seq or 0) <= highest:
            findings.add(DOUBLED, f"seq {last.seq} was given out before, up to {highest}")
    findings.extend(ledger.findings)
    findings.extend(look(root, ledger, keeps=scenario.keeps), "after all retried: ")

    healed = read_files(root)
    by_hand = {
        line.data for line in healed.log if not line.is_good and line.data[:8] == b'{"role":'
    }
    known_bad = {line.data for line in left.log if not line.is_good}
    for line in healed.log:
        if not line.is_good and line.data not in by_hand | known_bad:
            findings.add(OTHER, f"a line that is none: {line.data[:60]!r}")
    if healed.tail:
        findings.add(OTHER, f"the log does not end with a line: {healed.tail[:60]!r}")
    for piece in (*(line.data for line in left.log), left.tail):
        if piece and not healed.holds(piece):
            findings.add(LOST, f"bytes that are nowhere: {piece[:60]!r}")

    with _open(root) as archive:
        archive.conversation(NAME).compact(RetentionPolicy(keep_last=1_000_000))
    for path in leftovers(root):
        if not os.path.basename(path).startswith(f".{NAME}."):
            continue  # those of another conversation go when that one is compacted
        findings.add(OTHER, f"never cleared away: {os.path.basename(path)}")
    return findings


def _restored(root: str, ledger: Ledger) -> Findings:
    """Restore, and say what is then not in the log."""
    findings = Findings()
    with _open(root) as archive:
        chat = archive.conversation(NAME)
        try:
            done = chat.restore()
            if done.conflicts:
                findings.add(DOUBLED, f"{done.conflicts} turns do not come back")
        except ConversationNotFound:
            pass  # nothing is in the trash
        except (ConvmemError, OSError) as error:
            findings.add(OTHER, f"cannot be restored: {error!r}")
        there = {turn.id for turn in chat.turns()} if chat.exists() else set()
    lost = [turn_id for turn_id in ledger.answers if turn_id not in there]
    if lost:
        findings.add(LOST, f"{lost} did not come back")
    return findings


def _can_be_retried(step: Step) -> bool:
    return isinstance(step, Batch) or (isinstance(step, Record) and step.id is not None)


def _half_compaction(scenario: Scenario, ledger: Ledger, raw: bytes) -> Findings:
    """The name leads to the old log or to the new one: what went, went together."""
    findings = Findings()
    for step in () if scenario.before else scenario.steps:
        if isinstance(step, Compact):
            turns = [turn_id for turn_id in ledger.answers if turn_id[0] == "t"]
            goes = turns[: max(0, len(turns) - step.keep_last)]
            there = [turn_id for turn_id in goes if b'{"id":"%b"' % turn_id.encode() in raw]
            if there and len(there) != len(goes):
                findings.add(LOST, f"of {goes} only {there} are left in the log")
    return findings


class Bench:
    """A place where one scenario is run again and again from the same state."""

    def __init__(self, folder: str, scenario: Scenario) -> None:
        self.scenario = scenario
        self._template = os.path.join(folder, "template")
        self._root = os.path.join(folder, "run")
        os.makedirs(self._template, mode=0o700)
        self._ledger = scenario.prepare(self._template)
        self.calls = self.run(0, "")[1].calls

    def run(
        self, at: int, kind: str, mutant: Mutant | None = None, *, template: str | None = None
    ) -> tuple[Findings, Outcome]:
        """Run with one fault and judge what it left."""
        root = self._fresh(template or self._template)
        ledger = self._ledger.copy()
        outcome = self._run_in(root, ledger, at, kind, mutant, self.scenario.steps)
        findings = judge(root, self.scenario, ledger)
        findings.extend(outcome.findings)
        return findings, outcome

    def cases(self, kinds: tuple[str, ...]) -> Iterator[tuple[int, str]]:
        """Yield every (call, fault) there is for this scenario."""
        return _cases(self.calls, kinds)

    def run_twice(
        self, kinds: tuple[str, ...], *, one_in: int = 1
    ) -> Iterator[tuple[str, Findings, Outcome]]:
        """Kill at every call, and then let a fault strike at every call of the recovery.

        Deaths that leave the same bytes behind and the same answers given are recovered from
        once. *one_in* takes only so many of the second faults, others after each death.
        """
        seen: set[str] = set()
        wreck = self._template + ".wreck"
        for first, death in self.cases((KILLED_BEFORE, KILLED_WITHIN)):
            root = self._fresh(self._template)
            ledger = self._ledger.copy()
            self._run_in(root, ledger, first, death, None, self.scenario.steps)
            state = _state_of(root, ledger)
            if state in seen:
                continue
            seen.add(state)
            shutil.rmtree(wreck, ignore_errors=True)
            os.rename(root, wreck)

            def again(at: int, kind: str, known: Ledger = ledger) -> tuple[Findings, Outcome]:
                root, after = self._fresh(wreck), known.copy()
                outcome = self._run_in(root, after, at, kind, None, self.scenario.steps)
                findings = judge(root, self.scenario, after)
                findings.extend(outcome.findings)
                return findings, outcome

            findings, outcome = again(0, "")
            yield f"{death} {first}", findings, outcome
            cases = list(_cases(outcome.calls, kinds))
            for second, fault in cases[len(seen) % one_in :: one_in]:
                yield f"{death} {first}, then {fault} {second}", *again(second, fault)

    def _run_in(
        self,
        root: str,
        ledger: Ledger,
        at: int,
        kind: str,
        mutant: Mutant | None,
        steps: tuple[Step, ...],
    ) -> Outcome:
        """Run in *root* and write the answers into *ledger*."""
        keeps = self.scenario.keeps
        outcome = run(root, steps, ledger, keeps, at=at, kind=kind, mutant=mutant)
        for turn_id, seq, content in outcome.answers:
            ledger.answer(turn_id, seq, content)
        return outcome

    def _fresh(self, template: str) -> str:
        shutil.rmtree(self._root, ignore_errors=True)
        shutil.copytree(template, self._root)
        return self._root


def _cases(calls: list[str], kinds: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    for at, name in enumerate(calls, 1):
        for kind in kinds:
            # To be killed after a call is to be killed before the next one.
            if (name == "write" or kind not in _ONLY_WRITES) and (
                kind != KILLED_AFTER or at == len(calls)
            ):
                yield at, kind


def _state_of(root: str, ledger: Ledger) -> str:
    """Return what stands for the files below *root* and the answers given."""
    digest = hashlib.sha256(repr(sorted(ledger.answers)).encode())
    for folder, _, names in sorted(os.walk(root)):
        for name in sorted(names, key=_without_chance):
            with open(os.path.join(folder, name), "rb") as file:
                shape = [(line[:40], len(line)) for line in file.read().split(b"\n")]
            digest.update(repr((folder, _without_chance(name), shape)).encode())
    return digest.hexdigest()


def _without_chance(name: str) -> str:
    """Return a file name without the parts that differ from run to run."""
    return ".".join(part for part in name.split(".") if not part.isalnum() or len(part) < 5)
