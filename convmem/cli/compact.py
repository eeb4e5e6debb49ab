"""``convmem compact``: let old turns go under a policy, by hand or from cron."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from convmem.archive import Archive
from convmem.cli import values
from convmem.cli.boundary import EXIT_CODES
from convmem.cli.output.bar import Bar
from convmem.cli.output.messages import Messages, stdout_is_terminal
from convmem.cli.places import namespace_of, open_archive, root_of
from convmem.cli.spec import Context
from convmem.errors import ConversationNotFound, ConvmemError, UsageError
from convmem.log.survey import CompactionReport
from convmem.progress import Observer
from convmem.quantities import format_size
from convmem.retention import RetentionPolicy

# Conversations that a worker process is given at a time.
_SHARE = 32


@dataclass(frozen=True, slots=True)
class _Job:
    """What is the same for every conversation; goes to worker processes as it is."""

    root: str
    namespace: str
    policy: RetentionPolicy
    discard: bool
    dry_run: bool
    now: datetime


_Outcome = tuple[str, CompactionReport | ConvmemError]


def run(
    context: Context,
    *,
    continuation_ids: list[str],
    all_conversations: bool,
    keep_last: str | None,
    max_age: str | None,
    max_bytes: str | None,
    discard: bool,
    dry_run: bool,
    jobs: str | None,
    quiet: bool,
    json: bool,
) -> int:
    """Compact, and return the exit status."""
    if not continuation_ids and not all_conversations:
        raise UsageError(
            "name the conversations to compact, or say --all",
            hint="nothing is compacted by default",
        )
    if continuation_ids and all_conversations:
        raise UsageError("--all and ids do not go together", hint="choose one of them")
    policy = RetentionPolicy(
        keep_last=values.count("--keep-last", keep_last),
        max_age=values.duration("--max-age", max_age),
        max_bytes=values.size("--max-bytes", max_bytes),
    )
    if policy.is_empty:
        raise UsageError(
            "there is no policy, so nothing would go",
            hint="give --keep-last N, --max-age 90d or --max-bytes 50M",
        )
    workers = values.count("--jobs", jobs, least=1) or 1
    job = _Job(root_of(context), namespace_of(context), policy, discard, dry_run, datetime.now(UTC))
    with open_archive(context, observer=Observer()) as archive:
        if all_conversations:
            names = sorted(chat.continuation_id for chat in archive.conversations())
        else:
            names = list(dict.fromkeys(continuation_ids))
            for name in names:
                archive.conversation(name)  # wrong usage is said before anything is changed
        talk = _Talk(Messages(as_json=json, quiet=quiet), as_json=json, quiet=quiet, job=job)
        total = _total_bytes(archive, names)
    with Bar("compacting", total, quiet=quiet) as bar:
        outcomes = (
            _in_processes(job, names, workers, bar.advance)
            if workers > 1 and len(names) > 1
            else _one_by_one(job, names, bar.advance)
        )
        for name, outcome in outcomes:
            talk.tell(name, outcome)
    talk.sum_up(len(names))
    if not talk.failures:
        return 0
    if len(names) == 1 and not all_conversations:
        return EXIT_CODES.get(talk.failures[0].kind, 1)
    return 7


class _Talk:
    """Says what happened to each conversation, and to all."""

    def __init__(self, messages: Messages, *, as_json: bool, quiet: bool, job: _Job) -> None:
        self.failures: list[ConvmemError] = []
        self._messages = messages
        self._as_json = as_json
        self._quiet = quiet
        self._job = job
        # From cron one line for all is enough; who tries it dry wants to see each.
        self._tells_each = job.dry_run or stdout_is_terminal()
        self._changed = 0
        self._turns = 0
        self._bytes = 0

    def tell(self, name: str, outcome: CompactionReport | ConvmemError) -> None:
        """Say what happened to one conversation."""
        if isinstance(outcome, ConvmemError):
            self.failures.append(outcome)
            self._messages.error(outcome, where=f"{name}: ", continuation_id=name)
            return
        self._changed += outcome.dropped > 0
        self._turns += outcome.dropped
        self._bytes += outcome.dropped_bytes
        if self._as_json:
            from convmem.cli.output.machine import write_object

            write_object(_as_dict(name, self._job.namespace, outcome))
        elif self._tells_each and outcome.dropped and not self._quiet:
            print(_sentence(name, outcome))

    def sum_up(self, count: int) -> None:
        """Say what happened in all, if anything did."""
        if self._as_json or self._quiet or (not self._turns and not self._tells_each):
            return
        if not self._turns:
            print("nothing to drop")
            return
        verb = "would drop" if self._job.dry_run else "dropped"
        to = "for good" if self._job.discard else "to the trash"
        print(
            f"{verb} {self._turns:,} turns ({format_size(self._bytes)}) {to},"
            f" from {self._changed:,} of {count:,} conversations"
        )


def _one_by_one(
    job: _Job, names: Sequence[str], advance: Callable[[int], None]
) -> Iterator[_Outcome]:
    with _opened(job, _Advancing(advance)) as archive:
        if len(names) > 1:
            archive.expect_many_compactions()
        for name in names:
            yield name, _compact_one(archive, job, name)


def _in_processes(
    job: _Job, names: Sequence[str], workers: int, advance: Callable[[int], None]
) -> Iterator[_Outcome]:
    rest = iter(names)
    shares = list(iter(lambda: list(islice(rest, _SHARE)), []))
    from multiprocessing import get_context

    # Not forked: the children must not share this process's open files and locks.
    pool = ProcessPoolExecutor(
        max_workers=min(workers, len(shares)),
        mp_context=get_context("spawn"),
        initializer=_let_ctrl_c_end_us,
    )
    try:
        # Helpers inherit that Ctrl-C waits, until they are ready to die of it without a word.
        with _ctrl_c_waits():
            answers = pool.map(_compact_share, [job] * len(shares), shares)
        for outcomes in answers:
            for name, outcome in outcomes:
                if isinstance(outcome, CompactionReport):
                    advance(outcome.bytes_before)
                yield name, outcome
        pool.shutdown()
    except BrokenProcessPool:
        raise ConvmemError(
            "a helper process died", hint="nothing is lost; what was not compacted was not changed"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _let_ctrl_c_end_us() -> None:
    """In a helper: Ctrl-C goes to the whole group, and what it interrupts loses nothing."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _compact_share(job: _Job, names: list[str]) -> list[_Outcome]:
    return list(_one_by_one(job, names, _ignore))


def _compact_one(archive: Archive, job: _Job, name: str) -> CompactionReport | ConvmemError:
    try:
        return archive.conversation(name).compact(
            job.policy, discard=job.discard, dry_run=job.dry_run, now=job.now
        )
    except ConvmemError as error:
        return error


def _opened(job: _Job, observer: Observer) -> Archive:
    return Archive.open(job.root, namespace=job.namespace, observer=observer)


class _Advancing(Observer):
    """Passes progress on to the bar."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance

    def advanced(self, task: str, amount: int) -> None:
        self._advance(amount)


def _total_bytes(archive: Archive, names: Sequence[str]) -> int:
    total = 0
    for name in names:
        try:
            total += os.stat(archive.conversation(name).path).st_size
        except (OSError, ConversationNotFound):
            continue  # told when it is its turn
    return total


def _sentence(name: str, report: CompactionReport) -> str:
    from convmem.cli.boundary import one_line

    verb = "would go" if report.dry_run else "dropped"
    why = ", ".join(f"{reason} {count:,}" for reason, count in report.reasons.items())
    runs = ", ".join(
        f"{first}" if first == last else f"{first}-{last}" for first, last in report.ranges[:5]
    )
    more = ", …" if len(report.ranges) > 5 else ""
    return (
        f"{one_line(name)}: {report.dropped:,} turns ({format_size(report.dropped_bytes)}) {verb}"
        f" [{why}; seq {runs}{more}]; {report.kept:,} kept,"
        f" {format_size(report.bytes_before)} to {format_size(report.bytes_after)}"
    )


def _as_dict(name: str, namespace: str, report: CompactionReport) -> dict[str, Any]:
    return {
        "continuation_id": name,
        "namespace": namespace,
        "dry_run": report.dry_run,
        "kept": report.kept,
        "dropped": report.dropped,
        "reasons": report.reasons,
        "ranges": report.ranges,
        "dropped_bytes": report.dropped_bytes,
        "bytes_before": report.bytes_before,
        "bytes_after": report.bytes_after,
        "damaged": report.damaged,
        "trash": report.trash,
        "quarantine": report.quarantine,
    }


def _ignore(amount: int) -> None:
    """A worker's progress is told by its outcomes."""
