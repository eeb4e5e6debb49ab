"""One process that forks, or runs out of descriptors, while it records.

    processes_worker.py ROLE ROOT SEED MUTANT

Writes what was answered to standard output: [id, seq, content] a line.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from random import Random

from ledger import NAME

from convmem import Archive, ConvmemError, Observer
from convmem.stores import places

_CALLS = ("open", "write", "pread", "fstat", "fdatasync", "fsync", "stat", "dup")
_CONVERSATIONS = 1500
# What was answered goes to a pipe in one write, so that parents and children may share it.
_MOST_BYTES = 4096


def told(turn) -> None:
    """Tell of an answer."""
    data = json.dumps([turn.id, turn.seq, turn.content]).encode() + b"\n"
    assert len(data) <= _MOST_BYTES
    os.write(1, data)


def fork_in_calls(archive: Archive, chance: Random) -> None:
    """Fork at any system call of any thread; parent, children and threads all go on recording."""
    chat = archive.conversation(NAME)
    told(chat.record("user", "first"))
    children: list[int] = []
    real = {name: getattr(os, name) for name in _CALLS}
    is_forking = threading.Lock()
    parent = os.getpid()

    def patched(name):
        def call(*arguments, **keywords):
            if os.getpid() == parent and chance.random() < 0.02 and is_forking.acquire(False):
                try:
                    child = os.fork()
                finally:
                    is_forking.release()
                if child == 0:
                    live_as_a_child(chat, real)
                children.append(child)
            return real[name](*arguments, **keywords)

        return call

    for name in _CALLS:
        setattr(os, name, patched(name))

    def work(thread):
        for at in range(40):
            if at % 8 == 7:
                items = [("user", f"{thread}.{at}.{nth}") for nth in range(3)]
                turns = chat.record_many(items)
            else:
                turns = [chat.record("user", f"{thread}.{at}")]
            for turn in turns:
                real["write"](1, json.dumps([turn.id, turn.seq, turn.content]).encode() + b"\n")

    threads = [threading.Thread(target=work, args=(at,)) for at in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in _CALLS:
        setattr(os, name, real[name])
    for child in children:
        if os.waitpid(child, 0)[1]:
            print(json.dumps(["wrong", 0, "a child failed"]), flush=True)


def live_as_a_child(chat, real) -> None:
    """Record as a forked child: in a thread of its own, since this one is inside a call."""
    for name in _CALLS:
        setattr(os, name, real[name])
    done: list[bool] = []

    def work():
        for at in range(5):
            told(chat.record("user", f"child {os.getpid()} {at}"))
        done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    os._exit(0 if done else 1)


def without_descriptors(archive: Archive, chance: Random) -> None:
    """Use 1,500 conversations while others take all descriptors there are, and give them back."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
    taken: list[int] = []
    refused = 0
    for at in range(3000):
        if chance.random() < 0.05:
            while len(taken) > chance.randrange(40):
                os.close(taken.pop())
        elif chance.random() < 0.05:
            try:
                while True:
                    taken.append(os.dup(1))
            except OSError:
                for _ in range(chance.randrange(4)):
                    os.close(taken.pop())
        nth = chance.randrange(_CONVERSATIONS)
        try:
            turn = archive.conversation(f"c{nth}").record("user", f"{nth} {at}", id=f"{nth}.{at}")
        except ConvmemError:
            refused += 1
            continue
        told(turn)
    for fd in taken:
        os.close(fd)
    print(json.dumps(["refused", refused, None]), flush=True)


def without_noticing_the_fork() -> None:
    """Let a child go on with what it shares with its parent."""
    places.Places._after_fork = lambda self: None


def main() -> None:
    """Do what was asked for."""
    role, root, seed, mutant = sys.argv[1:]
    if mutant:
        globals()[mutant]()
    durability = "always" if role == "fork" else "none"
    with Archive.open(
        root, durability=durability, lock_timeout_seconds=8, observer=Observer()
    ) as archive:
        do = {"fork": fork_in_calls, "descriptors": without_descriptors}[role]
        do(archive, Random(seed))


if __name__ == "__main__":
    main()
