"""Processes that record, compact, follow and tear until they are killed; ``killing`` starts them.

One warm process takes orders from standard input, a JSON object a line, and forks a process for
each role: starting an interpreter for each would take longer than what is to be killed lives. The
order ``"kill"`` ends them all with SIGKILL. All report on standard output; a report is shorter
than what a pipe takes in one step, so they do not mix.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import sys
import tempfile
import time
import zlib
from datetime import timedelta

import mutants
from ledger import NAME, NAMESPACE

from convmem import Archive, ConvmemError, LockTimeout, Observer, RetentionPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from convmem import Conversation

LARGEST = 70_000
LARGEST_BATCH = 7
# What is said in the place of other turns: its ids are made, and nobody knows them.
INSTEAD = "in the place of others"


def ids_of(cycle: int, role: str, nth: int) -> list[str]:
    """Return the ids of what *role* records as its *nth*."""
    stem = f"{cycle}.{role}.{nth}"
    if role != "batch":
        return [stem]
    return [f"{stem}.{at}" for at in range(1 + zlib.crc32(stem.encode()) % LARGEST_BATCH)]


def content_of(turn_id: str) -> str:
    """Return what the turn of that id says: always the same."""
    chance = random.Random(turn_id)
    most = LARGEST if ".large." in turn_id else 900
    return (turn_id + " ") * (1 + chance.randrange(most) // (len(turn_id) + 1))


def record(archive: Archive, cycle: int, role: str, nth: int) -> list[int | None]:
    """Record, or record again, what *role* records as its *nth*; return the ``seq`` of each."""
    chat = archive.conversation(NAME)
    ids = ids_of(cycle, role, nth)
    if role != "batch":
        return [chat.record("user", content_of(ids[0]), id=ids[0]).seq]
    turns = [{"role": "user", "content": content_of(each), "id": each} for each in ids]
    return [turn.seq for turn in chat.record_many(turns)]


def report(*what: object) -> None:
    """Tell the one who started us."""
    os.write(1, json.dumps(what).encode() + b"\n")


def _write(order: dict, role: str) -> None:
    durability = {"single": "always", "batch": "none", "large": "interval"}[role]
    with Archive.open(order["root"], durability=durability, observer=Observer()) as archive:
        for nth in range(1_000_000):
            seqs = record(archive, order["cycle"], role, nth)
            report("answer", role, nth, seqs)
            if nth == 0:
                report("up", role)
            if role == "large" and record(archive, order["cycle"], role, nth) != seqs:
                report(
                    "wrong", f"a retry of {ids_of(order['cycle'], role, nth)[0]} got another seq"
                )


def _compact(order: dict, chance: random.Random) -> None:
    with Archive.open(order["root"], observer=Observer()) as archive:
        chat = archive.conversation(NAME)
        while not chat.exists():
            time.sleep(0.001)
        chat.compact(RetentionPolicy(keep_last=80))
        report("up", "compactor")
        while True:
            time.sleep(chance.random() * 0.003)
            try:
                if chat.compact(RetentionPolicy(keep_last=chance.randrange(20, 80))).dropped:
                    report("compacted")
            except LockTimeout:
                report("wrong", "a dead compaction still holds its lock")


def _follow(order: dict) -> None:
    with Archive.open(order["root"], observer=Observer()) as archive:
        following = archive.conversation(NAME).follow(after=order["cursor"])
        report("up", "follower")
        for turn in following:
            if turn.seq is None or turn.content == INSTEAD:
                continue  # a summary, or what has no id of ours
            report("seen", turn.id, turn.seq, str(following.cursor))


def _tear(order: dict, chance: random.Random) -> None:
    """Write half a line, under the lock as a writer does, and get no further."""
    folder = os.path.join(order["root"], NAMESPACE)
    time.sleep(chance.random() * order["lives"])
    try:
        lock = os.open(os.path.join(folder, ".locks", f"{NAME}.lock"), os.O_RDWR)
    except FileNotFoundError:
        return signal.pause()
    fcntl.flock(lock, fcntl.LOCK_EX)
    # By name and under the lock: so it is the file that the name leads to.
    log = os.open(os.path.join(folder, f"{NAME}.jsonl"), os.O_WRONLY | os.O_APPEND)
    part = f'{{"id":"torn in {order["cycle"]}","seq":1,"ts":"2026-0'
    os.write(log, part.encode())
    report("torn", part)
    return signal.pause()


def _keep_at(action: Callable[[Conversation], object], order: dict, role: str) -> None:
    """Do the same to the conversation again and again; being refused is no fault of either."""
    chance = random.Random(f"{order['seed']} {role}")
    with Archive.open(
        order["root"], durability="none", lock_timeout_seconds=0.05, observer=Observer()
    ) as archive:
        chat = archive.conversation(NAME)
        report("up", role)
        while True:
            time.sleep(chance.random() * 0.004)
            try:
                action(chat)
                report("did", role)
            except ConvmemError as error:
                report("refused", role, error.kind)


def _sum_up(chat: Conversation) -> None:
    chat.compact(
        RetentionPolicy(keep_last=15), summarize=lambda turns: f"{sum(1 for _ in turns)} turns"
    )


def _replace_some(chat: Conversation) -> None:
    newest = chat.tail(6)
    chat.replace([("user", INSTEAD)] * 3, ids=[turn.id for turn in newest[::2] if turn.id])


def _purge_another(chat: Conversation) -> None:
    """Purge what somebody else left in the same trash: none of ours may go with it."""
    archive = chat._archive
    other = archive.conversation("another")
    other.record("user", "to be purged")
    other.update_state({"session": "to be purged"})
    other.delete()
    archive.purge_trash(timedelta(0), only={"another"})
    archive.purge_trash(timedelta(days=1))


UPKEEP: dict[str, Callable[[Conversation], object]] = {
    "tidier": lambda chat: chat.compact(RetentionPolicy(keep_last=25)),
    "summer": _sum_up,
    "remover": lambda chat: chat.remove(turn.id for turn in chat.tail(3) if turn.id),
    "replacer": _replace_some,
    "deleter": lambda chat: chat.delete(),
    "restorer": lambda chat: chat.restore(),
    "purger": _purge_another,
    "packer": lambda chat: chat.compress(),
    "repairer": lambda chat: chat.repair(),
    "stater": lambda chat: chat.update_state({"session": os.getpid()}),
}


def _without_syncs() -> None:
    """Do no syncs: no kill sees the difference, and much more happens in a short life."""

    def no_sync(fd: int) -> None:
        """Take a sync's place."""

    os.fsync = no_sync
    for name, module in list(sys.modules.items()):
        if name.startswith("convmem.") and hasattr(module, "sync_data"):
            module.sync_data = no_sync


def _play(order: dict, role: str) -> None:
    if not order["syncs"]:
        _without_syncs()
    chance = random.Random(f"{order['seed']} {role}")
    if role == "compactor":
        _compact(order, chance)
    elif role == "follower":
        _follow(order)
    elif role == "tearer":
        _tear(order, chance)
    elif role in UPKEEP:
        _keep_at(UPKEEP[role], order, role)
    else:
        _write(order, role)


def _warm_up() -> None:
    """Load here, once, what every role would load after its fork."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Archive.open(folder, observer=Observer()) as archive,
    ):
        for role in ("single", "batch", "large"):
            record(archive, 0, role, 0)
            record(archive, 0, role, 0)
        chat = archive.conversation(NAME)
        chat.compact(RetentionPolicy(keep_last=2))
        for _ in chat.follow(idle_timeout=0.001):
            pass


def main() -> None:
    """Take orders until there are none."""
    if len(sys.argv) > 1:
        getattr(mutants, sys.argv[1])()
    _warm_up()
    children: list[int] = []
    for line in sys.stdin.buffer:
        order = json.loads(line)
        if order != "kill":
            for role in order["roles"]:
                child = os.fork()
                if child == 0:
                    try:
                        os.close(0)
                        _play(order, role)
                    except BaseException as error:
                        report("wrong", f"{role}: {error!r}")
                    finally:
                        os._exit(3)
                children.append(child)
            continue
        for child in children:
            os.kill(child, signal.SIGKILL)
        ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        children.clear()
        report("gone", ends)
    # Whoever gave the orders is gone.
    for child in children:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
