"""One process among many on one conversation; ``load`` starts it and says what it is to do.

Takes its task as JSON in its first argument, says ``ready``, starts at the first line that it
reads, and writes what came of it as JSON when it is done.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from itertools import pairwise

import mutants
import reader_mutants
from ledger import NAME

from convmem import Archive, ConversationNotFound, LockTimeout, Observer, RetentionPolicy

LAST_ID = "the last one"
BATCH = 3
# What several processes record, each as if it were the retry of another's.
SHARED = "shared."


def content_of(label: str) -> str:
    """Return what the turn of that label says."""
    return label + " words" * (len(label) * 7 % 60)


def write(archive: Archive, task: dict) -> dict:
    """Record with several threads: single turns, batches, and retries of those with ids."""
    answers: list[tuple] = []  # id, seq, label, begun, answered
    wrong: list[str] = []

    def work(thread: int) -> None:
        chat = archive.conversation(NAME)
        for nth in range(task["turns"]):
            label = f"{task['process']}.{thread}.{nth}"
            gives_ids = (task["process"] + thread) % 2
            if gives_ids and nth % 6 == 1:
                label = f"{SHARED}{nth}"
            turn_id = label if gives_ids else None
            begun = time.monotonic_ns()
            try:
                if nth % 8 == 7:
                    drafts = [("user", content_of(f"{label}.{at}")) for at in range(BATCH)]
                    turns = chat.record_many(drafts)
                else:
                    turns = [chat.record("user", content_of(label), id=turn_id)]
            except Exception as error:
                wrong.append(f"{label}: {error!r}")
                return
            answered = time.monotonic_ns()
            answers.extend((turn.id, turn.seq, turn.content, begun, answered) for turn in turns)
            if (
                turn_id
                and nth % 10 == 0
                and chat.record("user", content_of(label), id=turn_id) != turns[0]
            ):
                wrong.append(f"a retry of {label} was answered with another turn")

    threads = [threading.Thread(target=work, args=(at,)) for at in range(task["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"answers": answers, "wrong": wrong}


def compact(archive: Archive, task: dict) -> dict:
    """Compact in a loop."""
    chat = archive.conversation(NAME)
    wrong: list[str] = []
    done = dropped = 0
    while not os.path.exists(task["stop"]):
        try:
            dropped += chat.compact(RetentionPolicy(keep_last=task["keep_last"])).dropped
            done += 1
        except ConversationNotFound:
            pass
        except LockTimeout as error:
            wrong.append(repr(error))
        time.sleep(0.001)
    return {"compactions": done, "dropped": dropped, "wrong": wrong}


def read(archive: Archive, task: dict) -> dict:
    """Read the end over and over, and now and then all; return when which end was seen."""
    chat = archive.conversation(NAME)
    ends: list[tuple[int, int]] = []
    wrong: list[str] = []
    looks = 0
    while not os.path.exists(task["stop"]):
        begun = time.monotonic_ns()
        try:
            last = chat.tail(1)
            ends.append((begun, last[0].seq if last else 0))
            looks += 1
            if looks % 20 == 0:
                _read_all(list(chat.turns()), wrong)
        except ConversationNotFound:
            ends.append((begun, 0))
        time.sleep(0.0005)
    return {"ends": ends, "wrong": wrong[:20]}


def _read_all(turns: list, wrong: list[str]) -> None:
    seqs = [turn.seq for turn in turns]
    if any(later <= earlier for earlier, later in pairwise(seqs)):
        wrong.append("a reader saw turns out of order")
    # Compaction takes the oldest: of a batch the first turns may be missing, never the last.
    there = {turn.content.split(" ")[0] for turn in turns}
    halves = [
        label
        for label in there
        if label.count(".") == 3 and f"{label.rsplit('.', 1)[0]}.{BATCH - 1}" not in there
    ]
    if halves:
        wrong.append(f"a reader saw half of the batch of {halves[0]}")


def follow(archive: Archive, task: dict) -> dict:
    """Follow to the last turn; with restarts, each from the cursor of the one before."""
    chat = archive.conversation(NAME)
    chance = random.Random(task["seed"])
    seen: list[tuple[int | None, str | None]] = []
    cursor: str | None = None
    while not seen or seen[-1][1] != LAST_ID:
        following = chat.follow(after=cursor, idle_timeout=task.get("idle_seconds", 600))
        left = chance.randrange(1, 200) if task["restarts"] else 1 << 60
        for turn in following:
            seen.append((turn.seq, turn.id))
            left -= 1
            if turn.id == LAST_ID or not left:
                break
        else:
            return {"seen": seen, "wrong": ["the follower never came to the last turn"]}
        cursor = str(following.cursor)
        following.close()
    return {"seen": seen, "wrong": []}


def race(archive: Archive, task: dict) -> dict:
    """Record as fast as can be for some seconds."""
    chat = archive.conversation(NAME)
    count = worst = 0
    now = time.monotonic_ns()
    end = now + int(task["seconds"] * 1e9)
    while now < end:
        chat.record("user", "as fast as can be")
        before, now = now, time.monotonic_ns()
        worst = max(worst, now - before)
        count += 1
    return {"count": count, "worst": worst, "wrong": []}


def main() -> None:
    """Do the task."""
    task = json.loads(sys.argv[1])
    if "mutant" in task:
        getattr(mutants if hasattr(mutants, task["mutant"]) else reader_mutants, task["mutant"])()
    doing = {"write": write, "compact": compact, "read": read, "follow": follow, "race": race}
    with Archive.open(
        task["root"], durability=task["durability"], lock_timeout_seconds=600, observer=Observer()
    ) as archive:
        print("ready", flush=True)
        sys.stdin.readline()
        result = doing[task["role"]](archive, task)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
