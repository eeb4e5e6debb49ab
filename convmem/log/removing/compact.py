"""Compaction: rewrite a log without the turns that a policy lets go, while others write to it.

What is dropped is in the trash before it leaves the log. A summary may stand in its place.
"""

from __future__ import annotations

import time
from bisect import bisect_left

from convmem.errors import UsageError, storage_error
from convmem.log import codec, heal, lines
from convmem.log.files import check_room, chunks_of
from convmem.log.removing import dropped, summary, tombstones, trash
from convmem.log.removing.at_once import all_at_once
from convmem.log.removing.rewrite import Rewrite
from convmem.log.removing.survey import CompactionReport, Survey, loose_turns, report_on, survey_log
from convmem.retention import RetentionPlan, RetentionPolicy, plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from convmem.log.append import Log
    from convmem.log.files import Piece
    from convmem.log.removing.rewrite import Leftovers
    from convmem.log.removing.summary import Summarizer
    from convmem.log.removing.survey import Preview


def compact(
    log: Log,
    policy: RetentionPolicy,
    *,
    now: datetime,
    discard: bool,
    remember_seconds: float,
    timeout_seconds: float,
    leftovers: Leftovers | None,
    healed: Callable[[str], None],
    advanced: Callable[[int], None],
    summarize: Summarizer | None = None,
    going: Callable[[CompactionReport], None] | None = None,
    went: Callable[[], None] | None = None,
    looked: Preview | None = None,
) -> CompactionReport:
    """Rewrite the log without the turns that *policy* lets go at *now*.

    *looked* is what a first look without the lock has found: the log is not read once more unless
    it was changed since by something else than appending.

    Needs room for the kept turns, and for the dropped ones unless *discard*. *leftovers* are this
    log's part of ``find_leftovers``, for callers that compact many; ``None`` looks for them. With
    *summarize* one turn takes the place of those that go. *going* is told what goes when all is
    ready and just before it leaves the log, *went* when it has left.

    Raises:
        LockTimeout: Another compaction is at work on this log.
        StorageFull, StorageError: The log is as it was.
        FileNotFoundError: There is no such log.
    """
    if summarize is not None and discard:
        raise UsageError(
            "a summary stands for turns that are in the trash",
            hint="leave out either the summary or the discarding",
        )
    try:
        with Rewrite(
            log, timeout_seconds=timeout_seconds, healed=healed, leftovers=leftovers
        ) as rewrite:
            survey = None if looked is None else looked.survey_of(rewrite.fd, rewrite.end)
            if looked is not None and survey is not None:
                rewrite.end = looked.end  # what came since is copied with what comes meanwhile
            else:
                survey = survey_log(rewrite.fd, rewrite.end, policy, now, advanced)
            decided = plan(policy, survey.facts, take_in_summaries=summarize is not None)
            report = report_on(
                rewrite.fd, survey, decided, rewrite.end, rewrite.last_seq, dry_run=False
            )
            if decided.dropped:
                check_room(
                    log.folder,
                    report.bytes_after + (0 if discard else report.dropped_bytes),
                    f"compacting {log.name}.jsonl",
                    "nothing was changed; make room"
                    + ("" if discard else ", or drop the turns for good with --discard"),
                )
                Run(rewrite, survey, decided, report, now, timeout_seconds).carry_out(
                    discard=discard,
                    remember_seconds=remember_seconds,
                    summarize=summarize,
                    going=going,
                    went=went,
                )
            return report
    except FileNotFoundError:
        raise
    except OSError as error:
        raise storage_error(error, f"cannot compact {log.name}.jsonl") from error


# In less, threads save nothing.
_LARGE_BYTES = 16 << 20


class Run:
    """One removal of turns: what it puts where, and what it takes back should it fail.

    *start* is where *survey* begins: what stands before stays as it is, byte for byte, and its
    lines are counted as kept. *behind* gives the lines of turns that come with it; see
    ``Rewrite.replace``.
    """

    def __init__(
        self,
        rewrite: Rewrite,
        survey: Survey,
        decided: RetentionPlan,
        report: CompactionReport,
        now: datetime,
        timeout_seconds: float,
        *,
        start: int = 0,
        behind: Callable[[int], bytes] | None = None,
    ) -> None:
        self.rewrite = rewrite
        self.folder = rewrite.folder
        self.name = rewrite.log.name
        self.survey = survey
        self.plan = decided
        self.report = report
        self.now = now
        self.timeout_seconds = timeout_seconds
        self.start = start
        self.behind = behind

    def carry_out(
        self,
        *,
        discard: bool = False,
        remember_seconds: float,
        summarize: Summarizer | None = None,
        going: Callable[[CompactionReport], None] | None,
        went: Callable[[], None] | None,
    ) -> None:
        """Do it all; on any failure before the new log is in place, the old one stays."""
        marker = None
        if not discard:
            self.report.trash = trash.new_file(self.name, self.now)
        if summarize is not None:
            marker = self._summarized(summarize)
        try:
            # Also what was recorded without a sync: were it in the trash and not in the log after
            # a power cut, its numbers would be given out again, and it could never come back.
            self.rewrite.sync_log()
            # All of this stands before the log loses a byte.
            self._fill(marker, discard=discard, remember_seconds=remember_seconds)
            self._quarantine_damage()
            if going is not None:
                going(self.report)
            self.rewrite.replace(seq_floor=self.report.needs_seq_floor, behind=self.behind)
            self.report.bytes_after = self.rewrite.bytes_after
        except BaseException:
            if not self.rewrite.is_replaced:
                self._empty_trash()
            raise
        finally:
            if self.rewrite.is_replaced and went is not None:
                went()

    def _summarized(self, summarize: Summarizer) -> bytes:
        """Return the line of the turn that stands for those that go."""
        fd = self.rewrite.fd
        going = (
            line
            for start, end in self._dropped_spans()
            for _, _, line in lines.forward(fd, start, end)
            if line is not None
        )
        marker = summary.make(summarize, going, trash=self.report.trash or "", now=self.now)
        self.report.summary = marker.turn_id
        return marker.line

    def _kept_pieces(self, marker: bytes | None) -> Iterator[Piece]:
        """Yield the byte spans to copy, and lines that must change, in order."""
        for chunk in chunks_of(self.rewrite.fd, [(0, self.start)]):
            self.report.kept += chunk.count(b"\n")
            yield chunk
        # The marker stands where the newest of the turns stood that it stands for.
        place = -1 if marker is None else self.plan.last_dropped
        loose = sorted(loose_turns(self.survey, self.plan, cut=place))
        for first, behind in self.plan.runs(kept=True):
            if marker is not None and first > place:
                yield marker
                marker = None
            for at in loose[bisect_left(loose, first) : bisect_left(loose, behind)]:
                yield from self.survey.spans(first, at)
                yield codec.without_batch(self.survey.line(self.rewrite.fd, at))
                first = at + 1
            yield from self.survey.spans(first, behind)
        if marker is not None:
            yield marker

    def _dropped_spans(self) -> Iterator[tuple[int, int]]:
        for first, behind in self.plan.runs(kept=False):
            yield from self.survey.spans(first, behind)

    def _fill(self, marker: bytes | None, *, discard: bool, remember_seconds: float) -> None:
        """Fill the new file, the trash, and the memory of what goes: of a large log all at once."""
        jobs: list[Callable[[], None]] = [
            lambda: self.rewrite.copy(self._kept_pieces(marker)),
            lambda: self._remember(remember_seconds, is_discarded=discard),
            self._bury,
        ]
        name = self.report.trash
        if name is not None:
            jobs.insert(
                1,
                lambda: trash.fill(
                    self.folder, self.name, name, self.rewrite.fd, self._dropped_spans()
                ),
            )
        if self.report.bytes_before >= _LARGE_BYTES:
            all_at_once(jobs)
        else:
            for job in jobs:
                job()

    def _remember(self, seconds: float, *, is_discarded: bool) -> None:
        # Retries come by the clock on the wall, also where age is measured otherwise.
        clock = max(self.now.timestamp(), time.time())
        dropped.remember(
            self.folder,
            self.name,
            self.rewrite.fd,
            self._dropped_spans(),
            is_discarded=is_discarded,
            now=clock,
            until=clock + seconds,
        )

    def _bury(self) -> None:
        tombstones.bury(
            self.folder,
            self.name,
            tombstones.imported(self.rewrite.fd, self._dropped_spans()),
            timeout_seconds=self.timeout_seconds,
        )

    def _empty_trash(self) -> None:
        """Take back what the trash got, since its turns stay in the log."""
        if self.report.trash is None:
            return
        try:
            trash.remove(self.folder, self.report.trash)
        except OSError:
            return  # a turn that is in both places is restored as one
        self.report.trash = None

    def _quarantine_damage(self) -> None:
        damage = self.survey.damage
        if damage:
            spans = list(zip(damage[::2], damage[1::2], strict=True))
            self.report.quarantine = heal.set_aside(self.folder, self.name, self.rewrite.fd, spans)
