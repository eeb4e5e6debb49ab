"""What goes on in convmem while the disk is recorded, and what was asked and answered when.

A few processes work on one conversation and its neighbours. Each says, before and after each
thing it does, how much the disk had written down by then: so an answer has its place in the log.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from blocks_mount import kernel
from kill_worker import content_of
from ledger import NAME, NAMESPACE

from convmem import (
    Archive,
    ConversationNotFound,
    ConvmemError,
    Durability,
    Observer,
    RetentionPolicy,
)
from convmem.log import flusher  # noqa: F401 - loaded before the forks
from convmem.log.removing import (  # noqa: F401 - loaded before the forks
    compact,
    named,
    removal,
    restore,
)

_PR_SET_PDEATHSIG = 1
_OTHERS = ("aside", "apart")

# What the role ``keeper`` does in turn.
_UPKEEP = ("compress", "repair", "compact", "delete", "restore", "purge", "delete", "restore")

# What the role ``lazy`` may lose.
LAZY_TURNS, LAZY_SECONDS = 6, 0.03
_DURABILITY = {
    "careless": Durability.NONE,
    "interval": Durability.interval(),
    "lazy": Durability.interval(turns=LAZY_TURNS, seconds=LAZY_SECONDS),
}


@dataclass(frozen=True)
class Plan:
    """Who is at work together; *keeps* as ``ledger.look`` has it."""

    name: str
    roles: tuple[str, ...]
    keeps: int | None = None

    @property
    def moves_all(self) -> bool:
        """Whether turns from anywhere go to the trash, and come back from there."""
        return "keeper" in self.roles or "swapper" in self.roles


_WRITERS = ("single", "batch", "careless")
PLANS = (
    Plan("compaction", (*_WRITERS, "tidier", "tearer", "stater")),
    Plan("deletion", (*_WRITERS[:2], "keeper")),
    Plan("replacement", (*_WRITERS[:2], "swapper", "tearer")),
    Plan("many", ("many", "single", "large", "interval", "tearer")),
    Plan("discarding", (*_WRITERS, "large", "discarder"), keeps=6),
)


@dataclass
class Told:
    """One thing that somebody asked for: turns, or something else that *what* names.

    Attributes:
        asked, told: How much was in the disk's log, and the time; ``told`` is ``None`` if no
            answer came. Before an answer that promises nothing, *is_lasting* is false.
    """

    what: str
    asked: tuple[int, int]
    told: tuple[int, int] | None = None
    ids: list[str] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    detail: Any = None
    is_lasting: bool = True


@dataclass
class Story:
    """All that was asked for while a disk was recorded, and what went wrong then."""

    plan: Plan
    told: list[Told]
    wrong: list[str]

    @classmethod
    def of(cls, plan: Plan, events: list[list[Any]], *, may_refuse: bool = False) -> Story:
        """Read what the processes reported. Was the disk taken from them, it *may refuse* them."""
        told: list[Told] = []
        open_ones: dict[str, Told] = {}
        wrong = []
        for event in events:
            if event[0] == "asked":
                _, who, count, now, what, ids, detail = event
                each = Told(what, (count, now), ids=ids, detail=detail)
                told.append(each)
                open_ones[who] = each
            elif event[0] == "told":
                _, who, count, now, seqs, detail, is_lasting = event
                each = open_ones.pop(who)
                each.told, each.seqs, each.is_lasting = (count, now), seqs, is_lasting
                each.detail = each.detail if detail is None else detail
            elif event[0] == "refused":
                _, who, error = event
                each = open_ones.pop(who)
                if not may_refuse and (each.ids or each.what == "state"):
                    wrong.append(f"{who} was refused: {error}")
            elif event[0] == "wrong" or not may_refuse:
                wrong.append(event[1])
        return cls(plan, told, wrong)


class Company:
    """Everybody in *plan*, at work in *root*, each *times* as long as they must.

    *count* says how much the disk has written down by now.
    """

    def __init__(
        self, root: str, plan: Plan, seed: str, count: Callable[[], int], *, times: int = 1
    ) -> None:
        self._reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 20)
        self._children = []
        for role in plan.roles:
            chance = random.Random(f"{seed} {role}")
            child = os.fork()
            if child == 0:
                try:
                    kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                    os.close(self._reading)
                    _Worker(root, role, chance, count, writing, times).work()
                    os._exit(0)
                finally:
                    os._exit(1)
            self._children.append(child)
        os.close(writing)

    def reports(self) -> list[list[Any]]:
        """Wait until all have ended, and return what they reported."""
        with open(self._reading, "rb") as pipe:
            events = [json.loads(line) for line in pipe.read().splitlines()]
        for child in self._children:
            os.waitpid(child, 0)
        return events

    def kill(self) -> None:
        """Let nobody come to the end."""
        for child in self._children:
            os.kill(child, signal.SIGKILL)


class _Worker:
    """One process at work."""

    def __init__(
        self,
        root: str,
        role: str,
        chance: random.Random,
        count: Callable[[], int],
        pipe: int,
        times: int,
    ) -> None:
        self.role = role
        self._root = root
        self._chance = chance
        self._count = count
        self._pipe = pipe
        self._times = times

    def work(self) -> None:
        """Do what the role does, a few times."""
        durability = _DURABILITY.get(self.role, "always")
        try:
            with Archive.open(
                self._root, durability=durability, lock_timeout_seconds=30, observer=Observer()
            ) as archive:
                getattr(self, f"_{self.role}")(archive)
        except ConvmemError as error:
            self._report("stopped", f"{self.role}: {error!r}")
        except BaseException as error:
            self._report("wrong", f"{self.role}: {error!r}")

    def _often(self, least: int, most: int) -> int:
        return self._chance.randrange(least, most) * self._times

    def _report(self, *what: object) -> None:
        os.write(self._pipe, json.dumps(what).encode() + b"\n")

    def _ask(
        self,
        what: str,
        do: Callable[[], Any],
        *,
        who: str = "",
        ids: tuple[str, ...] | list[str] = (),
        detail: object = None,
        is_lasting: bool = True,
        result: Callable[[Any], object] = lambda _: None,
    ) -> Any:
        who = who or self.role
        self._report("asked", who, self._count(), time.monotonic_ns(), what, ids, detail)
        try:
            done = do()
        except ConvmemError as error:
            self._report("refused", who, repr(error))
            return None
        count, now = self._count(), time.monotonic_ns()
        seqs = [turn.seq for turn in done] if ids else []
        self._report("told", who, count, now, seqs, result(done), is_lasting)
        return done

    # --- who write -----------------------------------------------------------------------------

    def _single(self, archive: Archive) -> None:
        """Two threads, a turn at a time: their syncs may be shared."""

        def record(thread: int) -> None:
            chat = archive.conversation(NAME)
            for nth in range(turns):
                turn_id = f"s{thread}.{nth}"
                self._ask(
                    "turns",
                    lambda turn_id=turn_id: [chat.record("user", content_of(turn_id), id=turn_id)],
                    who=f"single {thread}",
                    ids=[turn_id],
                )

        turns = self._often(4, 12)
        threads = [threading.Thread(target=record, args=(at,)) for at in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _record(self, archive: Archive, ids: list[str], *, critical: bool = False) -> Any:
        chat = archive.conversation(NAME)
        if len(ids) == 1:
            return [chat.record("user", content_of(ids[0]), id=ids[0], critical=critical)]
        drafts = [{"role": "user", "content": content_of(each), "id": each} for each in ids]
        return chat.record_many(drafts, critical=critical)

    def _batch(self, archive: Archive) -> None:
        for nth in range(self._often(3, 8)):
            ids = [f"b{nth}.{at}" for at in range(self._chance.randrange(2, 7))]
            self._ask("turns", lambda ids=ids: self._record(archive, ids), ids=ids)

    def _large(self, archive: Archive) -> None:
        for nth in range(self._often(1, 4)):
            ids = [f"x.large.{nth}"]
            self._ask("turns", lambda ids=ids: self._record(archive, ids), ids=ids)

    def _careless(self, archive: Archive) -> None:
        """Nothing is promised of what is not critical, but that no half and no hole is left."""
        for nth in range(self._often(6, 20)):
            ids = [f"c{nth}.{at}" for at in range(self._chance.randrange(1, 4))]
            critical = self._chance.random() < 0.2
            self._ask(
                "turns",
                lambda ids=ids, critical=critical: self._record(archive, ids, critical=critical),
                ids=ids,
                is_lasting=critical,
            )
            time.sleep(self._chance.random() * 0.002)

    def _interval(self, archive: Archive) -> None:
        """What is recorded under ``interval`` is promised when ``flush`` returns."""
        for nth in range(self._often(2, 5)):
            ids = []
            for at in range(self._chance.randrange(1, 5)):
                ids.append(f"i{nth}.{at}")
                self._ask(
                    "turns",
                    lambda ids=ids: self._record(archive, ids[-1:]),
                    ids=ids[-1:],
                    is_lasting=False,
                )
            self._ask("flush", archive.flush, detail=list(ids))

    def _lazy(self, archive: Archive) -> None:
        """Of what is recorded under ``interval`` that interval's worth may go."""
        for nth in range(self._often(6, 20)):
            ids = [f"l{nth}.{at}" for at in range(self._chance.choice((1, 1, 2, 3)))]
            self._ask(
                "turns", lambda ids=ids: self._record(archive, ids), ids=ids, is_lasting=False
            )
            time.sleep(self._chance.random() ** 4 * 0.03)

    def _many(self, archive: Archive) -> None:
        """One call records to several conversations, and one of them is ours."""
        for nth in range(self._often(2, 6)):
            ids = [f"m{nth}.{at}" for at in range(self._chance.randrange(1, 4))]
            turns = [(NAME, {"role": "user", "content": content_of(e), "id": e}) for e in ids]
            asides = [(self._chance.choice(_OTHERS), ("user", "aside " * 20)) for _ in ids]
            mixed = [each for pair in zip(turns, asides, strict=True) for each in pair]
            # Each turn for itself: several that were asked for, none with another.
            self._ask(
                "turns one by one",
                lambda mixed=mixed: archive.record_to_many(mixed)[::2],
                ids=ids,
            )

    # --- who do other things -------------------------------------------------------------------

    def _wait_for(self, archive: Archive, turns: int) -> Any:
        """Wait until there are some turns, or nobody is likely to record any more."""
        chat = archive.conversation(NAME)
        for _ in range(300):
            try:
                if len(chat.tail(turns)) >= turns:
                    break
            except ConversationNotFound:
                pass
            time.sleep(0.001)
        return chat

    def _tidier(self, archive: Archive) -> None:
        chat = self._wait_for(archive, 6)
        for _ in range(self._often(1, 4)):
            self._compact(chat, self._chance.randrange(2, 8))
            time.sleep(self._chance.random() * 0.01)

    def _discarder(self, archive: Archive) -> None:
        chat = self._wait_for(archive, 8)
        for _ in range(self._often(1, 4)):
            self._compact(chat, self._chance.randrange(6, 10), discard=True)
            time.sleep(self._chance.random() * 0.01)

    def _compact(self, chat: Any, keep_last: int, *, discard: bool = False) -> None:
        self._ask(
            "compact",
            lambda: chat.compact(RetentionPolicy(keep_last=keep_last), discard=discard),
            result=lambda report: report.ranges[-1][1] if report.ranges else 0,
        )

    def _keeper(self, archive: Archive) -> None:
        """Go the round of upkeep, from anywhere on."""
        chat = self._wait_for(archive, 3)
        other = archive.conversation(_OTHERS[0])
        first = self._chance.randrange(len(_UPKEEP))
        for nth in range(first, first + self._often(4, 10)):
            what = _UPKEEP[nth % len(_UPKEEP)]
            if what == "delete":
                self._ask(what, chat.delete, result=lambda removal: removal.last_seq)
            elif what == "repair":
                self._damage("junk", f'{{"id":"junk {nth} {self._chance.random()}","se\n')
                self._ask(what, chat.repair)
            elif what == "compact":
                self._compact(chat, self._chance.randrange(2, 8))
            elif what == "purge":
                other.record("user", "to be purged")
                other.delete()
                self._ask(what, lambda: archive.purge_trash(timedelta(0), only={_OTHERS[0]}))
            else:
                self._ask(what, getattr(chat, what))
            time.sleep(self._chance.random() * 0.004)

    def _swapper(self, archive: Archive) -> None:
        """Take the newest turns out, and now and then put others in their place."""
        chat = self._wait_for(archive, 4)
        for _ in range(self._often(2, 6)):
            goes = [turn.id for turn in chat.tail(5)[:: self._chance.randrange(1, 3)]]
            others = [("user", "in the place of others " * 9)] * self._chance.randrange(4)
            self._ask(
                "swap",
                lambda goes=goes, others=others: chat.replace(others, ids=goes),
                result=lambda came, goes=goes: {
                    "gone": goes,
                    "came": [(turn.id, turn.seq, turn.content) for turn in came],
                },
            )
            time.sleep(self._chance.random() * 0.004)

    def _stater(self, archive: Archive) -> None:
        chat = self._wait_for(archive, 1)
        for nth in range(1, self._often(3, 8)):
            self._ask("state", lambda nth=nth: chat.update_state({"n": nth}), detail=nth)

    def _tearer(self, archive: Archive) -> None:
        """Write half a line under the lock, as a writer does that is killed in the middle."""
        self._wait_for(archive, 3)
        for nth in range(self._often(1, 3)):
            self._damage(
                "tear", f'{{"id":"torn {nth} {self._chance.random()}","seq":1,"ts":"2026-0'
            )
            time.sleep(self._chance.random() * 0.004)

    def _damage(self, what: str, text: str) -> None:
        """Append bytes that are no turn, under the lock and to the file that the name leads to."""
        folder = os.path.join(self._root, NAMESPACE)
        lock = os.open(os.path.join(folder, ".locks", f"{NAME}.lock"), os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            log = os.open(os.path.join(folder, f"{NAME}.jsonl"), os.O_WRONLY | os.O_APPEND)
            try:
                count, now = self._count(), time.monotonic_ns()
                self._report("asked", self.role, count, now, what, [], text)
                os.write(log, text.encode())
                self._report("told", self.role, self._count(), time.monotonic_ns(), [], None, True)
            finally:
                os.close(log)
        except FileNotFoundError:
            pass  # it is deleted, or compressed
        finally:
            os.close(lock)


def sync_all(path: str) -> None:
    """Let the file system that holds *path* write all that it has."""
    fd = os.open(path, os.O_RDONLY)
    try:
        ctypes.CDLL(None).syncfs(fd)
    finally:
        os.close(fd)
