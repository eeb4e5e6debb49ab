"""Four processes record while one compacts in a loop and one follows: nothing may go wrong.

Every turn names its writer and its number. Every fourth is dated a year back, so that each
compaction has something to drop and none may touch the others. Afterwards each answered turn is
looked for in the log and in the trash, and the others in what the follower gave out. Beside it
the same writers with nobody else, and raw writes with a sync each: what the disk allows.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from measuring import Run, Table, at_most, main, ratio, spread

from convmem import Archive, LockTimeout, RetentionPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    # The writer, the turn's number, the answered seq, when it was asked for and when answered.
    Answer = tuple[int, int, int, float, float]

_WRITERS = 4
_CHAT = "trip"
_TEXT = "About seven hours, with one change; the line along the lake is the slower one."
_OLD = timedelta(days=365)
_LONGEST_STALL_MS = 20


class Finding:
    """What one round showed."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls: list[float] = []
        self.faults: Counter[str] = Counter()
        self.compactions = 0
        self.dropped = 0
        self.followed = 0

    @property
    def per_s(self) -> float:
        return len(self.calls) / self.seconds


def measure(run: Run) -> list[Table]:
    """Run the rounds, and check each of them."""
    rounds = run.scale.pick(3, 1, 1)
    seconds = run.scale.pick(6.0, 4.0, 0.4)
    raw, alone, all_at_work = "raw write + fdatasync", "writers alone", "with compactor, follower"
    found: dict[str, list[Finding]] = {raw: [], alone: [], all_at_work: []}
    for number in range(rounds):
        for name, findings in found.items():
            archive = run.folder / f"{number}-{len(name)}"
            findings.append(
                _raw_round(archive, seconds)
                if name == raw
                else _round(archive, seconds, with_others=name == all_at_work)
            )
    speed = Table(
        f"{_WRITERS} processes record durably into one conversation",
        "over_raw = throughput as a share of the raw writers'.",
    )
    checks = Table("what came of it", "All of lost, doubled and out of order must be 0.")
    for name, findings in found.items():
        calls = [call for finding in findings for call in finding.calls]
        worst_ms = max(calls) * 1e3
        speed.add(
            name,
            per_s=median(finding.per_s for finding in findings),
            over_raw=ratio(
                [finding.per_s for finding in findings], [finding.per_s for finding in found[raw]]
            ),
            **spread(calls),
            longest_stall_ms=worst_ms,
            **(at_most(worst_ms, _LONGEST_STALL_MS) if name == all_at_work else {}),
        )
        if name == raw:
            continue
        faults = sum((finding.faults for finding in findings), Counter())
        checks.add(
            name,
            answered=len(calls),
            compactions=sum(finding.compactions for finding in findings),
            dropped_to_trash=sum(finding.dropped for finding in findings),
            followed=sum(finding.followed for finding in findings),
            lost=faults["lost"],
            doubled=faults["doubled"],
            out_of_order=faults["out of order"],
            broken=faults.total(),
            goal="0",
            is_met=not faults.total(),
        )
    return [speed, checks]


# --- one round ------------------------------------------------------------------------------------


def _round(archive: Path, seconds: float, *, with_others: bool) -> Finding:
    archive.mkdir()
    finding = Finding()
    with Archive.open(archive) as opened:
        opened.conversation(_CHAT).record("system", "-1 0")
    with _Crew() as crew:
        for writer in range(_WRITERS):
            crew.start(_write, archive, writer, seconds)
        if with_others:
            crew.start(_compact, archive)
            crew.start(_follow, archive)
        answers, calls, finding.seconds = crew.of_writers()
        finding.calls = calls
        others = crew.of_others() if with_others else []
    followed = None
    for kind, told in others:
        if kind == "follower":
            followed = [(seq, text) for seq, text in told]
            finding.followed = len(followed)
        else:
            finding.compactions, finding.dropped = told
    finding.faults.update(_faults(archive, answers, followed))
    return finding


class _Crew:
    """Processes that begin together, and what they tell at their end."""

    def __init__(self) -> None:
        self._forking = multiprocessing.get_context("fork")
        self._started: list[Any] = []
        self._files: list[Path] = []
        self._go = self._forking.Event()
        self._stop = self._forking.Event()

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for process in self._started:
            process.join(30)
            if process.is_alive():
                process.kill()

    def start(self, work: Any, archive: Path, *more: Any) -> None:
        answer = archive / f"answer-{len(self._started)}.json"
        process = self._forking.Process(
            target=work, args=(archive, self._go, self._stop, answer, *more)
        )
        process.start()
        self._started.append(process)
        self._files.append(answer)

    def of_writers(self) -> tuple[list[Answer], list[float], float]:
        """Let all begin; return what the writers were answered, when they are done."""
        self._go.set()
        told = [self._told(at) for at in range(_WRITERS)]
        answers = [tuple(each) for its in told for each in its]
        calls = [answered - asked for *_, asked, answered in answers]
        seconds = max(each[4] for each in answers) - min(each[3] for each in answers)
        return answers, calls, seconds

    def of_others(self) -> list[tuple[str, Any]]:
        """End the others; return what they tell."""
        self._stop.set()
        return [tuple(self._told(at)) for at in range(_WRITERS, len(self._started))]

    def _told(self, at: int) -> Any:
        self._started[at].join(120)
        if self._started[at].exitcode != 0:
            raise SystemExit(f"a process ended with status {self._started[at].exitcode}")
        return json.loads(self._files[at].read_text())


def _write(archive: Path, go: Any, stop: Any, answer: Path, writer: int, seconds: float) -> None:
    """Record for so many seconds; tell each turn's number, seq, and times."""
    told: list[Answer] = []
    clock = time.monotonic  # the same for all processes
    long_ago = datetime.now(UTC) - _OLD
    with Archive.open(archive) as opened:
        chat = opened.conversation(_CHAT)
        go.wait()
        end = clock() + seconds
        number = 0
        while (asked := clock()) < end:
            ts = long_ago if number % 4 == 0 else None
            turn = chat.record("user", f"{writer} {number} {_TEXT}", ts=ts)
            told.append((writer, number, turn.seq or 0, asked, clock()))
            number += 1
    answer.write_text(json.dumps(told))


def _compact(archive: Path, go: Any, stop: Any, answer: Path) -> None:
    policy = RetentionPolicy(max_age=_OLD / 2)
    runs = dropped = 0
    with Archive.open(archive) as opened:
        chat = opened.conversation(_CHAT)
        go.wait()
        while not stop.is_set():
            try:
                dropped += chat.compact(policy).dropped
                runs += 1
            except LockTimeout:
                continue  # a writer was in the way for too long; try again
    answer.write_text(json.dumps(("compactor", (runs, dropped))))


def _follow(archive: Path, go: Any, stop: Any, answer: Path) -> None:
    """Follow until told to stop and nothing comes any more."""
    seen: list[tuple[int, str]] = []
    with Archive.open(archive) as opened:
        chat = opened.conversation(_CHAT)
        cursor = None
        go.wait()
        while True:
            was_stopped = stop.is_set()
            following = chat.follow(after=cursor, idle_timeout=0.5)
            seen.extend((turn.seq or 0, turn.text) for turn in following)
            cursor = following.cursor
            if was_stopped:
                break
    answer.write_text(json.dumps(("follower", seen)))


def _raw_round(folder: Path, seconds: float) -> Finding:
    """Let as many processes write and sync lines of the same size into one file."""
    folder.mkdir()
    finding = Finding()
    with _Crew() as crew:
        for writer in range(_WRITERS):
            crew.start(_write_raw, folder, writer, seconds)
        _, finding.calls, finding.seconds = crew.of_writers()
    return finding


def _write_raw(folder: Path, go: Any, stop: Any, answer: Path, writer: int, seconds: float) -> None:
    told: list[Answer] = []
    clock = time.monotonic
    fd = os.open(folder / "raw", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    line = b"x" * (len(_TEXT) + 140) + b"\n"
    go.wait()
    end = clock() + seconds
    while (asked := clock()) < end:
        os.write(fd, line)
        os.fdatasync(fd)
        told.append((writer, len(told), 0, asked, clock()))
    os.close(fd)
    answer.write_text(json.dumps(told))


# --- checking -------------------------------------------------------------------------------------


def _faults(
    archive: Path, answers: list[Answer], followed: list[tuple[int, str]] | None
) -> Iterator[str]:
    """Yield one word for each fault."""
    with Archive.open(archive) as opened:
        kept = [(turn.seq or 0, turn.text) for turn in opened.conversation(_CHAT).turns()]
    trashed: list[tuple[int, str]] = []
    for path in (archive / "default" / ".trash").glob("*.jsonl"):
        with path.open("rb") as file:
            part = [(turn["seq"], turn["content"]) for turn in map(json.loads, file)]
        yield from _disorder(part)
        trashed += part
    yield from _disorder(kept)

    places = Counter(_marks(kept) + _marks(trashed))
    yield from ("doubled" for count in places.values() if count > 1)
    expected = {(writer, number): seq for writer, number, seq, _, _ in answers}
    everywhere = kept + trashed
    stored = dict(zip(_marks(everywhere), (seq for seq, _ in everywhere), strict=True))
    for mark, seq in expected.items():
        if mark not in stored:
            yield "lost"
        elif stored[mark] != seq:
            yield "out of order"
    yield from _against_time(answers)

    if followed is None:
        return
    yield from _disorder(followed)
    given = Counter(_marks(followed))
    yield from ("doubled" for count in given.values() if count > 1)
    # Those dated back may have been dropped before the follower came to them.
    yield from ("lost" for mark in expected if mark[1] % 4 and mark not in given)


def _marks(turns: Iterable[tuple[int, str]]) -> list[tuple[int, int]]:
    """Return (writer, number) of each turn."""
    split = (text.split(" ", 2) for _, text in turns)
    return [(int(words[0]), int(words[1])) for words in split]


def _disorder(turns: list[tuple[int, str]]) -> Iterator[str]:
    """Yield a fault for each turn whose ``seq``, or whose writer's number, does not grow."""
    last_seq = 0
    last: dict[int, int] = {}
    for (seq, _), (writer, number) in zip(turns, _marks(turns), strict=True):
        if seq <= last_seq or number <= last.get(writer, -1):
            yield "out of order"
        last_seq, last[writer] = seq, number


def _against_time(answers: list[Answer]) -> Iterator[str]:
    """Yield a fault for each turn below one that was answered before it was asked for."""
    by_answer = sorted(answers, key=lambda each: each[4])
    highest = at = 0
    for _, _, seq, asked, _ in sorted(answers, key=lambda each: each[3]):
        while at < len(by_answer) and by_answer[at][4] < asked:
            highest = max(highest, by_answer[at][2])
            at += 1
        if seq <= highest:
            yield "out of order"


if __name__ == "__main__":
    raise SystemExit(main("contention", measure))
