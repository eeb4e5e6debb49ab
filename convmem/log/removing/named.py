"""Taking just these turns out of a log, and putting others behind it, in one step.

What stands before the first turn that goes is copied as it is: taking out the last turn of a long
log costs the copy, not a look at every line.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left

from convmem.errors import storage_error
from convmem.log import codec, heal, known_ids, lines
from convmem.log.append import lines_of
from convmem.log.files import check_room
from convmem.log.removing.compact import Run
from convmem.log.removing.rewrite import Rewrite
from convmem.log.removing.survey import CompactionReport, Survey, report_on, survey_from
from convmem.quantities import moment_and_text
from convmem.retention import plan_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from convmem.log.append import Log
    from convmem.log.removing.rewrite import Leftovers
    from convmem.retention import RetentionPlan
    from convmem.turns import Draft, Turn

# How far from the end the ids are looked for first; then sixteen times as far, and so on.
_NEAR_BYTES = 64 << 10


class Taken:
    """What went out of a log, and what came in its place.

    Attributes:
        report: As of a compaction; its ``kept`` are lines, damaged ones among them.
        gone: The turns that went, in order, where they were named.
        came: The turns that came, as stored.
        came_bytes: The bytes of their lines.
    """

    __slots__ = ("came", "came_bytes", "gone", "report")

    def __init__(self, report: CompactionReport) -> None:
        self.report = report
        self.gone: list[Turn] = []
        self.came: list[Turn] = []
        self.came_bytes = 0


def take_out(
    log: Log,
    turn_ids: Collection[str] | None,
    drafts: list[Draft],
    *,
    reason: str,
    now: datetime,
    remember_seconds: float,
    timeout_seconds: float,
    leftovers: Leftovers | None,
    healed: Callable[[str], None],
    going: Callable[[Taken], None],
    went: Callable[[], None],
) -> Taken | None:
    """Move the turns with *turn_ids*, or all, to the trash, and append *drafts* behind the others.

    Returns ``None``, with nothing changed, where none of them is there. Turns that others append
    meanwhile stay, and stand before those of *drafts*, which are one atomic batch. Waits for
    another rewrite of the log to end. *leftovers*, *going* and *went* are as with ``compact``.

    Raises:
        LockTimeout: Others were at work on this log for too long.
        StorageFull, StorageError: The log is as it was.
        FileNotFoundError: There is no such log.
    """
    try:
        with Rewrite(
            log,
            timeout_seconds=timeout_seconds,
            healed=healed,
            leftovers=leftovers,
            is_patient=True,
        ) as rewrite:
            start, survey, decided = _decide(rewrite.fd, rewrite.end, turn_ids)
            if not decided.dropped:
                return None
            taken = Taken(
                report_on(rewrite.fd, survey, decided, rewrite.end, rewrite.last_seq, dry_run=False)
            )
            taken.report.reasons = {reason: decided.dropped}
            if turn_ids is not None:
                taken.gone = _turns_of(rewrite.fd, survey, decided)
            taken.came_bytes = sum(len(draft.head) + len(draft.tail) + 128 for draft in drafts)
            check_room(
                log.folder,
                start + taken.report.bytes_after + taken.report.dropped_bytes + taken.came_bytes,
                f"rewriting {log.name}.jsonl",
                "nothing was changed; make room",
            )
            Run(
                rewrite,
                survey,
                decided,
                taken.report,
                now,
                timeout_seconds,
                start=start,
                behind=_Behind(drafts, taken) if drafts else None,
            ).carry_out(remember_seconds=remember_seconds, going=lambda _: going(taken), went=went)
            return taken
    except FileNotFoundError:
        raise
    except OSError as error:
        raise storage_error(error, f"cannot rewrite {log.name}.jsonl") from error


def find(fd: int, end: int, turn_ids: Collection[str]) -> list[int]:
    """Return where the turns with *turn_ids* begin in ``[0, end)``, in order.

    Searches from the end backwards, and stops when it has all: of an id that the log has twice,
    as after a copy by hand, it is the newer that is found.
    """
    left = set(turn_ids)
    places: list[int] = []
    reach = _NEAR_BYTES
    while left:
        start = 0 if reach >= end else lines.line_start_after(fd, end - reach, end)
        found = known_ids.search_all(fd, left, start, end)
        places += [each.offset for each in found.values()]
        left.difference_update(found)
        if start == 0:
            break
        reach *= 16
    return sorted(places)


def _decide(
    fd: int, end: int, turn_ids: Collection[str] | None
) -> tuple[int, Survey, RetentionPlan]:
    """Return where the survey begins, the survey, and which of its turns go."""
    if turn_ids is None:
        survey = survey_from(fd, 0, end)
        count = len(survey.offsets)
        return 0, survey, plan_for(range(count), count)
    places = find(fd, end, turn_ids)
    if not places:
        return end, Survey(), plan_for((), 0)
    start = _safe_start(fd, places[0])
    survey = survey_from(fd, start, end)
    named = [bisect_left(survey.offsets, place) for place in places]
    return start, survey, plan_for(named, len(survey.offsets))


def _safe_start(fd: int, place: int) -> int:
    """Return where a line at or before *place* begins that a log could as well end before.

    That is between two batches, and not behind damage; 0 if need be.
    """
    start = place
    mark = _batch_at(fd, place)
    for offset, _, line in lines.backward(fd, place):
        if line is None or codec.fault_of(line) is not None:
            return 0
        other = codec.batch_mark(line) if codec.is_sealed(line) else None
        if mark is None or other is None or other[0] != mark[0]:
            break
        start = offset
    return start if heal.find_end(fd, start).committed == start else 0


def _batch_at(fd: int, place: int) -> tuple[bytes, int, int] | None:
    end = os.fstat(fd).st_size
    for _, _, line in lines.forward(fd, place, end):
        is_sealed = line is not None and codec.is_sealed(line)
        return codec.batch_mark(line) if is_sealed and line is not None else None
    return None


def _turns_of(fd: int, survey: Survey, decided: RetentionPlan) -> list[Turn]:
    found = (
        codec.parse(survey.line(fd, at))
        for first, behind in decided.runs(kept=False)
        for at in range(first, behind)
    )
    return [turn for turn in found if turn is not None]


class _Behind:
    """Numbers the drafts on from the last turn, once it is known, and returns their lines."""

    def __init__(self, drafts: list[Draft], taken: Taken) -> None:
        self._drafts = drafts
        self._taken = taken

    def __call__(self, last_seq: int) -> bytes:
        moment, text = moment_and_text(time.time_ns() // 1000)
        made = b"".join(lines_of(self._drafts, last_seq + 1, text, True))
        self._taken.came_bytes = len(made)
        self._taken.came = [
            draft.stored_as(seq, moment) for seq, draft in enumerate(self._drafts, last_seq + 1)
        ]
        return made
