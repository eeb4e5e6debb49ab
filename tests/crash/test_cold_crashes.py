"""A fault, a death or company at every call that compresses or thaws: no turn is ever lost.

The controls at the end take one safeguard out each, and must be caught.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faults import (
    EIO_FOR_EVER,
    EIO_ONCE,
    FULL_FOR_EVER,
    FULL_ONCE,
    KILLED,
    KILLED_BEFORE,
    KILLED_WITHIN,
    READER,
    SHORT_THEN_FULL,
    WRITER,
    Shim,
)
from ledger import NAME, NAMESPACE

from convmem import Archive, ConvmemError, LockTimeout, Observer, RetentionPolicy
from convmem.log import cold, cold_compress, cold_file, cold_pack
from convmem.log.files import Folder

TURNS = 40
CYCLES = int(os.environ.get("CONVMEM_KILL_CYCLES", "60"))
SEED = int(os.environ.get("CONVMEM_SEED", str(random.SystemRandom().randrange(10**6))))
KINDS = (
    *(KILLED_BEFORE, KILLED_WITHIN, SHORT_THEN_FULL),
    *(FULL_ONCE, FULL_FOR_EVER, EIO_ONCE, EIO_FOR_EVER),
)
COMPANY = (WRITER, READER)
_DEADLY = ("killed before", "killed after", "killed within")


def _record(chat: Any) -> None:
    chat.record("user", "new", id="new")


def _compact(chat: Any) -> None:
    chat.compact(RetentionPolicy(keep_last=TURNS - 1))


@dataclass(frozen=True)
class Case:
    """A conversation, compressed before or not, and what is done to it."""

    name: str
    is_cold: bool
    do: Callable[[Any], object]
    leaves: int = TURNS  # how many turns are there afterwards


CASES = [
    Case("compress", False, lambda chat: chat.compress()),
    Case("compress and record", False, lambda chat: (chat.compress(), _record(chat))),
    Case("uncompress", True, lambda chat: chat.uncompress()),
    Case("record", True, _record),
    Case("compact", True, _compact, TURNS - 1),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def _open(root: str) -> Archive:
    return Archive.open(root, durability="none", lock_timeout_seconds=0.0, observer=Observer())


@pytest.fixture
def template(tmp_path, monkeypatch):
    """Return a function that makes the archive of a case anew, and the plain bytes in it."""
    monkeypatch.setattr(cold_pack, "PART_BYTES", 10_000)

    def make(is_cold: bool) -> str:
        root = str(tmp_path / "run")
        kept = str(tmp_path / f"template {is_cold}")
        if not os.path.exists(kept):
            with _open(kept) as archive:
                chat = archive.conversation(NAME)
                for nth in range(TURNS):
                    chat.record("user", f"{nth} " * 150, id=f"t{nth}")
                if is_cold:
                    assert chat.compress().is_done
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(kept, root)
        return root

    return make


def _act(root: str, case: Case, shim: Shim) -> str:
    """Do it with the fault, and return what went wrong that may not."""
    shim.install()
    try:
        with _open(root) as archive:
            case.do(archive.conversation(NAME))
        return ""
    except ConvmemError:
        return ""
    except Exception as error:
        return f"an error that is not convmem's: {error!r}"
    finally:
        shim.remove()


def _run(root: str, case: Case, at: int, kind: str, company: Callable[[], None]) -> Shim:
    shim = Shim(at, kind, company)
    if kind not in _DEADLY:
        wrong = _act(root, case, shim)
        assert not wrong, f"{kind} at {at} {shim.calls[-3:]}: {wrong}"
        return shim
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os._exit(1 if _act(root, case, shim) else 0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, KILLED)
    return shim


def _judge(root: str, case: Case, also: set[str]) -> str:
    """Say what is not as promised: now, after all is retried, and after it is put in order."""
    gone = TURNS - case.leaves
    if gone and also:  # what came in between counts among those that a compaction keeps
        gone += 1
    must = {f"t{nth}" for nth in range(gone, TURNS)} | also
    may = {f"t{nth}" for nth in range(TURNS)} | {"new", "other"}
    with _open(root) as archive:
        chat = archive.conversation(NAME)
        try:
            for what in ("left behind", "retried", "in order"):
                found = [turn.id for turn in chat.turns()]
                if not must <= set(found) <= may or len(set(found)) < len(found):
                    return f"{what}: {len(found)} turns, without {must - set(found)}"
                seqs = [turn.seq for turn in chat.turns()]
                if seqs != sorted(set(seqs)):
                    return f"{what}: out of order"
                if [turn.id for turn in chat.tail(3)] != found[-3:]:
                    return f"{what}: the end is another"
                if what == "left behind":
                    for turn_id in must - also:
                        content = f"{turn_id[1:]} " * 150
                        if chat.record("user", content, id=turn_id).seq != int(turn_id[1:]) + 1:
                            return f"{turn_id} was stored twice"
                    _record(chat)
                    must |= {"new"}
                elif what == "retried":
                    chat.compress()
                    chat.uncompress()
        except ConvmemError as error:
            return f"it cannot be used any more: {error}"
    left = set(os.listdir(os.path.join(root, NAMESPACE)))
    if not left <= {f"{NAME}.jsonl", ".locks", ".trash", ".dropped", ".quarantine", ".audit"}:
        return f"never cleared away: {left}"
    return ""


@each_case
@pytest.mark.parametrize("kind", KINDS)
def test_no_turn_is_lost_whatever_fails_at_whichever_call(case, kind, template):
    """Disks fill up and machines are switched off in the middle of the night's clean-up."""
    calls = _run(template(case.is_cold), case, 0, "", lambda: None).calls
    assert len(calls) > 5
    for at in range(1, len(calls) + 1):
        root = template(case.is_cold)
        _run(root, case, at, kind, lambda: None)
        wrong = _judge(root, case, set())
        assert not wrong, f"{kind} at call {at}, {calls[at - 1]}: {wrong}"


@each_case
@pytest.mark.parametrize("kind", COMPANY)
def test_whoever_comes_in_between_at_whichever_call_sees_every_turn(case, kind, template):
    """Nobody waits for a compression, and nobody is told that a conversation is not there."""
    calls = _run(template(case.is_cold), case, 0, "", lambda: None).calls
    for at in range(1, len(calls) + 1):
        root = template(case.is_cold)
        also: set[str] = set()
        seen: list[int] = []

        def company(root=root, also=also, seen=seen) -> None:
            with _open(root) as archive:
                chat = archive.conversation(NAME)
                if kind == READER:
                    seen.append(len(list(chat.turns())))
                    return
                try:
                    chat.record("user", "other", id="other")
                    also.add("other")
                except LockTimeout:
                    return  # kept waiting while the log is exchanged

        _run(root, case, at, kind, company)
        assert all(case.leaves <= count <= TURNS + 1 for count in seen), seen
        wrong = _judge(root, case, also)
        assert not wrong, f"{kind} at call {at}, {calls[at - 1]}: {wrong}"


def test_both_folders_and_files_are_synced_before_the_other_file_goes(template, monkeypatch):
    """A power cut keeps what was synced, in any order it likes: neither file must be missing."""
    steps: list[str] = []

    def noting(name: str, real: Callable) -> Callable:
        def call(*args: Any, **more: Any) -> Any:
            what = args[0]
            if isinstance(what, int):
                what = os.path.basename(os.readlink(f"/proc/self/fd/{what}"))
            steps.append(f"{name} {'aside' if str(what).endswith('.tmp') else what}")
            return real(*args, **more)

        return call

    for name in ("rename", "unlink", "fsync", "fdatasync"):
        monkeypatch.setattr(os, name, noting(name, getattr(os, name)))
    monkeypatch.setattr("convmem.log.files.sync_data", noting("fsync", os.fdatasync))
    with _open(template(False)) as archive:
        archive.conversation(NAME).compress()
        packed = [each for each in steps if "fdatasync" not in each and ".locks" not in each]
        steps.clear()
        archive.conversation(NAME).uncompress()
        thawed = [each for each in steps if "fdatasync" not in each and ".locks" not in each]
    exchange = ["fsync aside", "rename aside", f"fsync {NAMESPACE}", "unlink"]
    assert _in_this_order(packed, [*exchange[:3], f"unlink {NAME}.jsonl", exchange[2]])
    assert _in_this_order(thawed, [*exchange[:3], f"unlink {NAME}.jsonl.zst", exchange[2]])


def _in_this_order(steps: list[str], wanted: list[str]) -> bool:
    rest = iter(steps)
    return all(any(step == each for step in rest) for each in wanted)


_DEATHS = (KILLED_BEFORE, KILLED_WITHIN)
HEALING = [
    (case, harm, kind)
    for case, harm, kinds in (
        (
            Case("salvage", True, lambda chat: chat.uncompress(even_damaged=True)),
            "part",
            (*_DEATHS, FULL_ONCE, EIO_ONCE),
        ),
        (Case("record", True, _record), "part", (*_DEATHS, SHORT_THEN_FULL, FULL_FOR_EVER)),
        (Case("record", True, _record), "cut", (*_DEATHS, FULL_ONCE, EIO_ONCE)),
        (
            Case("compact", True, lambda chat: chat.compact(RetentionPolicy(keep_last=10)), 10),
            "part",
            _DEATHS,
        ),
        (Case("repair", True, lambda chat: chat.repair()), "cut", _DEATHS),
        (Case("delete", True, lambda chat: chat.delete()), "part", _DEATHS),
    )
    for kind in kinds
]


def _harm(root: str, harm: str) -> bytes:
    """Damage the second part, or cut the last one short; return what is left of the file."""
    path = Path(root, NAMESPACE, f"{NAME}.jsonl.zst")
    folder = Folder.open(str(path.parent))
    with cold_file.ColdFile(folder, path.name) as file:
        part = file.parts[1 if harm == "part" else -1]
    data = bytearray(path.read_bytes())
    if harm == "part":
        data[part.at + part.size // 2] ^= 1
    else:
        del data[part.at + part.size // 2 :]
    path.write_bytes(data)
    return bytes(data)


@pytest.mark.parametrize(
    ("case", "harm", "kind"), HEALING, ids=lambda each: getattr(each, "name", each)
)
def test_the_damaged_file_is_kept_whatever_fails_while_its_rest_is_saved(
    case, harm, kind, template
):
    """It may be all that is left; and what is saved of it is saved once, and whole."""
    harmed = b""

    def prepare() -> str:
        nonlocal harmed
        root = template(True)
        harmed = _harm(root, harm)
        return root

    with _open(prepare()) as archive:
        chat = archive.conversation(NAME)
        chat.uncompress(even_damaged=True)
        left = [turn.id for turn in chat.turns()]
        fewer = left[-case.leaves :]
        last_seq = chat.describe().last_seq
    assert TURNS / 3 < len(left) < TURNS
    calls = _run(prepare(), case, 0, "", lambda: None).calls
    assert len(calls) > 5
    for at in range(1, len(calls) + 1):
        root = prepare()
        _run(root, case, at, kind, lambda: None)
        where = f"{kind} at call {at}, {calls[at - 1]}"
        folder = Path(root, NAMESPACE)
        there = [*folder.glob("*.zst"), *folder.glob(".quarantine/*.zst")]
        assert harmed in [each.read_bytes() for each in there], where
        with _open(root) as archive:
            chat = archive.conversation(NAME)
            if case.name == "delete" and not chat.exists():
                chat.restore()
            # A reader of the compressed file may see less than what is saved of it.
            lies_packed = (folder / f"{NAME}.jsonl.zst").exists()
            found = [turn.id for turn in chat.turns() if turn.id != "new"]
            assert set(found) <= set(left), where
            assert len(found) > TURNS / 3 if lies_packed else found in (left, fewer), where
            _record(chat)
            turns = list(chat.turns())
            assert [turn.id for turn in turns[:-1]] in (left, fewer), where
            assert (turns[-1].id, turns[-1].seq) == ("new", last_seq + 1), where
            chat.compact(RetentionPolicy(keep_last=1))
        kept = [each.read_bytes() for each in folder.glob(".quarantine/*.zst")]
        assert kept == [harmed], where
        assert not [*folder.glob(".*.tmp"), *folder.glob(".quarantine/.*.tmp")], where


# --- kill -9 ---------------------------------------------------------------------------------


class Life:
    """Two that record and one that compresses, until they are killed.

    With *rots*, also a disk that loses the ends of compressed files.
    """

    def __init__(
        self,
        root: str,
        seed: int,
        mutant: Callable[[], None] | None = None,
        *,
        rots: bool = False,
    ) -> None:
        self.root = root
        self.rots = rots
        self.cuts = 0
        self.chance = random.Random(seed)
        self.mutant = mutant
        self.cycles = 0
        self.answered: dict[str, int] = {}
        self.exchanges = 0
        with _open(root) as archive:
            for nth in range(TURNS):
                turn = archive.conversation(NAME).record("user", "x" * 400, id=f"t{nth}")
                self.answered[turn.id] = turn.seq or 0

    def cycle(self) -> str:
        """Let them live, kill them, and say what is not as promised."""
        self.cycles += 1
        reading, writing = os.pipe()
        children = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            for role in ("writer", "other writer", "compressor", "disk")[: 3 + self.rots]:
                child = os.fork()
                if child == 0:
                    try:
                        os.close(reading)
                        if self.mutant is not None:
                            self.mutant()
                        self._live(role, writing)
                    finally:
                        os._exit(1)
                children.append(child)
        os.close(writing)
        time.sleep(0.02 + self.chance.random() * 0.1)
        self.chance.shuffle(children)
        for child in children:
            os.kill(child, signal.SIGKILL)
            time.sleep(self.chance.random() * 0.003)
        with open(reading, "rb") as pipe:
            lines = pipe.read().splitlines()
        for child in children:
            os.waitpid(child, 0)
        for line in lines:
            what, _, rest = line.decode().partition(" ")
            if what == "answer":
                turn_id, seq = rest.split()
                self.answered[turn_id] = int(seq)
            elif what == "exchanged":
                self.exchanges += 1
            elif what == "cut":
                self.cuts += 1
            else:
                return line.decode()
        return self._judge()

    def _live(self, role: str, pipe: int) -> None:
        chance = random.Random(f"{role} {self.cycles} {self.chance.random()}")
        _without_syncs()
        try:
            archive = Archive.open(
                self.root, durability="none", lock_timeout_seconds=10, observer=Observer()
            )
            chat = archive.conversation(NAME)
            for nth in range(10**6):
                if role == "disk":
                    time.sleep(chance.random() * 0.01)
                    if self._cut(chance):
                        os.write(pipe, b"cut \n")
                    continue
                if role == "compressor":
                    done = (
                        chat.compress()
                        if chance.random() < 0.8
                        else chat.uncompress(even_damaged=self.rots)
                    )
                    if done.is_done:
                        os.write(pipe, b"exchanged \n")
                    continue
                turn_id = f"{self.cycles}.{role[0]}.{nth}"
                turn = chat.record("user", turn_id * 20, id=turn_id)
                os.write(pipe, f"answer {turn_id} {turn.seq}\n".encode())
                if nth % 3 == 2:  # else nothing is ever idle for as long as an exchange takes
                    time.sleep(chance.random() * 0.05)
        except BaseException as error:
            os.write(pipe, f"wrong {role}: {error!r}\n".encode()[:4000])

    def _cut(self, chance: random.Random) -> bool:
        """Cut convmem's own notes off, or a part of them: no turn stands there."""
        try:
            fd = os.open(Path(self.root, NAMESPACE, f"{NAME}.jsonl.zst"), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            size = os.fstat(fd).st_size
            if os.pread(fd, 4, size - 4) != cold_file.SEEKABLE_MAGIC.to_bytes(4, "little"):
                return False  # done already
            os.ftruncate(fd, size - chance.randrange(1, 200))
            return True
        finally:
            os.close(fd)

    def _judge(self) -> str:
        with _open(self.root) as archive:
            chat = archive.conversation(NAME)
            try:
                found = [(turn.id, turn.seq) for turn in chat.turns()]
            except ConvmemError as error:
                return f"it cannot be read: {error}"
        if len(dict(found)) < len(found):
            return "doubled"
        seqs = [seq for _, seq in found]
        if seqs != sorted(set(seqs)):
            return "out of order"
        lost = [each for each in self.answered.items() if each not in found]
        return f"lost: {lost[:5]} of {len(self.answered)}" if lost else ""


def _without_syncs() -> None:
    """Do no syncs: no kill sees the difference, and much more happens in a short life."""

    def no_sync(fd: int) -> None:
        """Take a sync's place."""

    os.fsync = no_sync
    for name, module in list(sys.modules.items()):
        if name.startswith("convmem.") and hasattr(module, "sync_data"):
            module.sync_data = no_sync


@pytest.mark.parametrize("rots", [False, True], ids=["good disk", "bad disk"])
def test_after_kill_9_every_answered_turn_is_there(rots, tmp_path):
    """Out-of-memory killers like those best who compress; and disks lose the ends of files."""
    life = Life(str(tmp_path / "archive"), SEED, rots=rots)
    cycles = max(1, CYCLES // 2)
    for _ in range(cycles):
        wrong = life.cycle()
        assert not wrong, f"seed {SEED}, cycle {life.cycles}: {wrong}"
    print(
        f"seed {SEED}: {life.cycles} cycles, {len(life.answered)} turns, {life.exchanges} times,"
        f" {life.cuts} cuts"
    )
    assert life.exchanges > cycles / 4
    assert (life.cuts > cycles / 20) == rots
    with _open(life.root) as archive:
        archive.conversation(NAME).uncompress(even_damaged=True)
        archive.conversation(NAME).compress()
        archive.conversation(NAME).uncompress()
    folder = Path(life.root, NAMESPACE)
    left = {f"{NAME}.jsonl", ".locks", *([".quarantine"] if rots else [])}
    assert set(os.listdir(folder)) == left
    assert not list(folder.rglob("*.tmp"))


# --- controls --------------------------------------------------------------------------------


def _without_a_second_look() -> None:
    """Exchange the files without looking whether somebody has written since."""
    cold_compress._state = lambda found: (0, 0, 0, 0)
    real = cold_compress._Compression._read_back

    def slowly(self: Any, fd: int) -> None:
        real(self, fd)
        time.sleep(0.005)  # as a longer log takes

    cold_compress._Compression._read_back = slowly


def _plain_file_first() -> None:
    """Remove the plain file before the compressed one has its name."""
    real = cold_compress._Compression._exchange

    def exchange(self: Any, before: os.stat_result) -> bool:
        self.log.with_lock(10, self._healed)
        try:
            self.folder.remove(f"{NAME}.jsonl")
            time.sleep(0.01)
            self.folder.rename(self._temporary, f"{NAME}.jsonl.zst")
        finally:
            self.log.unlock()
        return True

    assert real
    cold_compress._Compression._exchange = exchange


def _compressed_file_first() -> None:
    """Remove the compressed file before the plain one has its name."""
    real = cold.write_aside

    def late(folder: Any, name: str, temporary: str, chunks: Any) -> None:
        plain = list(chunks)
        folder.remove(f"{NAME}.jsonl.zst")
        time.sleep(0.01)
        real(folder, name, temporary, plain)

    cold.write_aside = late


@pytest.mark.parametrize(
    "mutant", [_without_a_second_look, _plain_file_first, _compressed_file_first]
)
def test_kill_9_finds_a_safeguard_taken_out(mutant, tmp_path):
    """What cannot fail proves nothing."""
    life = Life(str(tmp_path / "archive"), SEED, mutant)
    for _ in range(200):
        if life.cycle():
            return
    pytest.fail(f"nothing of note in {life.cycles} cycles, seed {SEED}")


def test_a_fault_at_every_call_finds_a_safeguard_taken_out(template, monkeypatch):
    """The same for the deaths that are dealt out one by one."""

    def exchange(self: Any, before: os.stat_result) -> bool:
        self.log.with_lock(10, self._healed)
        self.folder.remove(f"{NAME}.jsonl")
        self.folder.rename(self._temporary, f"{NAME}.jsonl.zst")
        self.log.unlock()
        return True

    monkeypatch.setattr(cold_compress._Compression, "_exchange", exchange)
    case = CASES[0]
    calls = _run(template(False), case, 0, "", lambda: None).calls
    wrong = []
    for at in range(1, len(calls) + 1):
        for kind in (KILLED_BEFORE, KILLED_WITHIN):
            root = template(False)
            _run(root, case, at, kind, lambda: None)
            wrong += [found for found in [_judge(root, case, set())] if found]
    assert wrong
