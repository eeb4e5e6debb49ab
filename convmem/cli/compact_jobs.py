"""Working on many conversations: here, or shared out to helper processes."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from multiprocessing import get_context
from threading import Lock, get_ident

from convmem import maintenance
from convmem.archive import Archive
from convmem.cli.interrupts import ctrl_c_waits, let_ctrl_c_through
from convmem.cli.output.messages import Healing, Messages
from convmem.cli.places import observed
from convmem.cli.several import size_of
from convmem.cli.summarizing import Summarizer
from convmem.errors import ConvmemError
from convmem.maintenance import Done, Work
from convmem.progress import Observer

# Conversations that a helper is given at a time.
_SHARE = 32
# Small conversations that one process works on at a time. Most of the work is waiting for syncs,
# and those that wait together share them. Large ones come one by one, for the memory they take.
_AT_ONCE = 16
_SMALL_BYTES = 4 << 20
# Starting a helper takes a fifth of a second: for few bytes it is not worth it.
_WORTH_BYTES = 16 << 20
_WORTH_CONVERSATIONS = 500


@dataclass(frozen=True, slots=True)
class Job:
    """What is the same for every conversation; goes to helper processes as it is."""

    root: str
    now: datetime
    dry_run: bool
    discard: bool
    lock_timeout_seconds: float
    remember_seconds: float
    log: str
    as_json: bool
    quiet: bool
    summarizer: Summarizer | None = None

    def opened(self, observer: Observer) -> Archive:
        """Open the archive."""
        return Archive.open(
            self.root,
            lock_timeout_seconds=self.lock_timeout_seconds,
            remember_seconds=self.remember_seconds,
            observer=observed(observer, self.log),
        )


def helpers_for(asked: int | None, setting: int, works: Sequence[Work], total_bytes: int) -> int:
    """Return how many processes should work: as *asked*, else as many as there are cores."""
    if asked is not None:
        return asked
    if total_bytes < _WORTH_BYTES and len(works) < _WORTH_CONVERSATIONS:
        return 1
    if setting:
        return setting
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not every system says which cores are ours
        return os.cpu_count() or 1


def carry_out(
    job: Job, works: Sequence[Work], helpers: int, advance: Callable[[int], None]
) -> Iterator[Done]:
    """Do all of *works*, in order; *advance* is told of the bytes that were gone through."""
    if helpers > 1 and len(works) > 1:
        return _in_processes(job, works, helpers, advance)
    return _one_by_one(job, works, advance)


def _one_by_one(job: Job, works: Sequence[Work], advance: Callable[[int], None]) -> Iterator[Done]:
    progress = _Advancing(Messages(as_json=job.as_json, quiet=job.quiet), advance)
    with job.opened(progress) as archive:
        if len(works) > 1:
            for namespace in {work.namespace for work in works}:
                archive.expect_many_compactions(namespace=namespace)
        if job.dry_run or job.summarizer is not None or len(works) == 1:
            for work in works:
                yield from _do(job, archive, work)
        else:
            for done in _side_by_side(job, archive, works):
                progress.tell()
                yield done


def _do(job: Job, archive: Archive, work: Work) -> Iterator[Done]:
    return maintenance.carry_out(
        archive,
        work,
        now=job.now,
        dry_run=job.dry_run,
        discard=job.discard,
        summarize=job.summarizer,
    )


def _side_by_side(job: Job, archive: Archive, works: Sequence[Work]) -> Iterator[Done]:
    """Do *works*, several small ones at a time: they wait for the disk together."""
    waiting: deque[Future[list[Done]]] = deque()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            for work in works:
                chat = archive.conversation(work.continuation_id, namespace=work.namespace)
                if size_of(chat) > _SMALL_BYTES:
                    while waiting:
                        yield from waiting.popleft().result()
                    yield from _do(job, archive, work)
                    continue
                waiting.append(pool.submit(lambda work: list(_do(job, archive, work)), work))
                if len(waiting) >= 2 * _AT_ONCE:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _in_processes(
    job: Job, works: Sequence[Work], helpers: int, advance: Callable[[int], None]
) -> Iterator[Done]:
    rest = iter(works)
    shares = list(iter(lambda: list(islice(rest, _SHARE)), []))
    # Not forked: the children must not share this process's open files and locks.
    pool = ProcessPoolExecutor(
        max_workers=min(helpers, len(shares)),
        mp_context=get_context("spawn"),
        initializer=_let_ctrl_c_end_us,
    )
    try:
        # Helpers inherit that Ctrl-C waits, until they are ready to die of it without a word.
        with ctrl_c_waits():
            answers = pool.map(_work_on_share, [job] * len(shares), shares)
        for outcomes in answers:
            for done in outcomes:
                advance(done.bytes_before)
                yield done
        pool.shutdown()
    except BrokenProcessPool:
        raise ConvmemError(
            "a helper process died", hint="nothing is lost; what was not done was not changed"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _work_on_share(job: Job, works: list[Work]) -> list[Done]:
    return list(_one_by_one(job, works, _ignore))


def _let_ctrl_c_end_us() -> None:
    """In a helper: Ctrl-C goes to the whole group, and what it interrupts loses nothing."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    let_ctrl_c_through()


class _Advancing(Healing):
    """Passes progress on to the bar, and says what had to be healed on the way."""

    def __init__(self, messages: Messages, advance: Callable[[int], None]) -> None:
        super().__init__(messages)
        self._advance = advance
        self._teller = get_ident()
        self._guard = Lock()
        self._untold = 0

    def advanced(self, task: str, amount: int) -> None:
        with self._guard:
            self._untold += amount
        if get_ident() == self._teller:
            self.tell()

    def tell(self) -> None:
        """Pass on what other threads have got through: the bar is drawn by one."""
        with self._guard:
            amount, self._untold = self._untold, 0
        self._advance(amount)


def _ignore(amount: int) -> None:
    """A helper's progress is told by what it has done."""
