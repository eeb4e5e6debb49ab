"""Many processes and threads on one conversation at once, and what may be said of it afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ledger import (
    DOUBLED,
    LOST,
    NAME,
    OTHER,
    REORDERED,
    Findings,
    Ledger,
    look,
    read_files,
    triples,
)
from load_worker import LAST_ID, SHARED

from convmem import Archive

Answer = tuple[str, int, str, int, int]  # id, seq, content, begun, answered


@dataclass
class Result:
    """What a round came to."""

    findings: Findings = field(default_factory=Findings)
    answered: int = 0
    seconds: float = 0.0
    longest_stall_seconds: float = 0.0
    compactions: int = 0
    dropped: int = 0
    looks: int = 0
    followed: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.answered} turns in {self.seconds:.2f} s,"
            f" longest stall of a writer {self.longest_stall_seconds * 1000:.1f} ms,"
            f" {self.compactions} compactions dropped {self.dropped},"
            f" {self.looks} looks at the end, followed {self.followed}"
        )


_PATIENCE_SECONDS = 900


def run_together(tasks: Iterable[dict[str, Any]], stop: str, root: str) -> list[dict[str, Any]]:
    """Run each task in an interpreter of its own, all from one moment; return their results.

    The tasks that have no end of their own get the file *stop*, and a last turn to follow, once
    the others are done.
    """
    script = os.path.join(os.path.dirname(__file__), "load_worker.py")
    started = []
    for task in tasks:
        process = subprocess.Popen(
            [sys.executable, script, json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append((task, process))
    try:
        for _, process in started:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        for _, process in started:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        results: dict[int, bytes] = {}
        for have_an_end in (True, False):
            for at, (task, process) in enumerate(started):
                if (task["role"] in ("write", "race")) == have_an_end:
                    results[at] = process.communicate(timeout=_PATIENCE_SECONDS)[0]
            if have_an_end:
                with Archive.open(root, lock_timeout_seconds=60) as archive:
                    archive.conversation(NAME).record("user", "the end", id=LAST_ID)
                with open(stop, "wb"):
                    pass
        return [json.loads(results[at]) for at in range(len(started))]
    finally:
        for _, process in started:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()


def round_of_load(
    folder: str,
    *,
    processes: int,
    threads: int,
    turns: int,
    durability: str,
    keep_last: int = 300,
    followers: int = 2,
    readers: int = 1,
    seed: int = 0,
    mutant: tuple[str, str] | None = None,
) -> Result:
    """Let *processes* × *threads* record *turns* each while one process compacts in a loop.

    The second follower stops and starts again from its cursor. *mutant* names who works without
    a safeguard (``write``, ``compact`` or ``follow``), and which.
    """
    root, stop = os.path.join(folder, "archive"), os.path.join(folder, "stop")
    common: dict[str, Any] = {"root": root, "stop": stop, "durability": durability, "seed": seed}
    tasks: list[dict[str, Any]] = [
        {"role": "write", "process": at, "threads": threads, "turns": turns}
        for at in range(processes)
    ]
    tasks.append({"role": "compact", "keep_last": keep_last})
    tasks += [{"role": "follow", "restarts": at % 2 == 1} for at in range(followers)]
    tasks += [{"role": "read"}] * readers
    if mutant is not None:
        common["idle_seconds"] = 3  # the last turn may be lost
        for task in tasks:
            if task["role"] == mutant[0]:
                task["mutant"] = mutant[1]
    results = run_together([common | task for task in tasks], stop, root)
    return _judge(root, [(task["role"], found) for task, found in zip(tasks, results, strict=True)])


def _judge(root: str, results: list[tuple[str, dict[str, Any]]]) -> Result:
    result = Result()
    findings = result.findings
    answers: list[Answer] = []
    for role, found in results:
        for text in found["wrong"]:
            findings.add(OTHER, f"{role}: {text}")
        if role == "write":
            answers += map(tuple, found["answers"])
        elif role == "compact":
            result.compactions, result.dropped = found["compactions"], found["dropped"]
    result.answered = len(answers)
    if not answers:
        findings.add(OTHER, "nobody was answered")
        return result
    result.seconds = (max(a[4] for a in answers) - min(a[3] for a in answers)) / 1e9
    result.longest_stall_seconds = max(a[4] - a[3] for a in answers) / 1e9

    ledger = Ledger()
    for turn_id, seq, content, _, _ in answers:
        ledger.answer(turn_id, seq, content)
    findings.extend(look(root, ledger))
    findings.extend(ledger.findings)
    files = read_files(root)
    in_trash = {seq: turn_id for turn_id, seq, _ in triples(files.trash)}
    stored = in_trash | {seq: turn_id for turn_id, seq, _ in triples(files.log)}
    last = len(ledger.answers) + 1
    if sorted(stored) != list(range(1, last + 1)):
        findings.add(OTHER, f"the numbers 1 to {last} are not all there once")
    _check_moments(answers, findings)
    for role, found in results:
        if role == "read":
            result.looks += len(found["ends"])
            _check_ends(answers, found["ends"], findings)
        elif role == "follow":
            result.followed.append(len(found["seen"]))
            _check_followed(found["seen"], stored, in_trash, findings)
    return result


def _check_moments(answers: list[Answer], findings: Findings) -> None:
    """What was answered before another call began stands before it, but for retries."""
    by_answer = sorted((answered, seq) for _, seq, _, _, answered in answers)
    at = highest = 0
    for turn_id, seq, _, begun, _ in sorted(answers, key=lambda answer: answer[3]):
        while by_answer[at][0] < begun:
            highest = max(highest, by_answer[at][1])
            at += 1
        if seq <= highest and not turn_id.startswith(SHARED):
            text = f"{turn_id} got {seq} though {highest} was answered before it was asked for"
            findings.add(REORDERED, text)


def _check_ends(answers: list[Answer], ends: list[list[int]], findings: Findings) -> None:
    """A reader sees at least what was answered before it began."""
    by_answer = sorted((answered, seq) for _, seq, _, _, answered in answers)
    moments = [moment for moment, _ in by_answer]
    highest = [0]
    for _, seq in by_answer:
        highest.append(max(highest[-1], seq))
    for begun, seen in ends:
        due = highest[bisect_left(moments, begun)]
        if seen < due:
            findings.add(LOST, f"a reader saw up to {seen} though {due} was answered before")


def _check_followed(
    seen: list[list[Any]], stored: dict[int, str], in_trash: dict[int, str], findings: Findings
) -> None:
    """A follower gives each turn once and in order, but for what was dropped before it came by."""
    last = 0
    for seq, turn_id in seen:
        if seq <= last:
            findings.add(DOUBLED if seq == last else REORDERED, f"followed {seq} after {last}")
        if stored.get(seq) != turn_id:
            findings.add(OTHER, f"followed {turn_id} as {seq}, which is {stored.get(seq)}")
        last = seq
    missing = stored.keys() - {seq for seq, _ in seen} - in_trash.keys()
    if missing:
        findings.add(LOST, f"never followed, though never dropped: {sorted(missing)[:5]}")


def race(folder: str, *, processes: int, seconds: float) -> tuple[list[int], float]:
    """Let *processes* record as fast as they can; return their counts and the worst time of one."""
    root, stop = os.path.join(folder, "archive"), os.path.join(folder, "stop")
    task = {"role": "race", "root": root, "durability": "none", "seconds": seconds}
    results = run_together([task] * processes, stop, root)
    return sorted(each["count"] for each in results), max(each["worst"] for each in results) / 1e9
