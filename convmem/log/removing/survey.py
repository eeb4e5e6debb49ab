"""Before a compaction: what stands where in a log, what would go, and what that would leave.

Reads only. What a dry run says and what a compaction does come from the same place.
"""

from __future__ import annotations

import os
import re
from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from operator import itemgetter

from convmem.log import blocks, codec, heal, records
from convmem.log.read import StoredTurn, turns_of
from convmem.log.records import Record
from convmem.log.removing import summary
from convmem.log.removing.survey_apart import Apart, SecondHalf, as_bytes
from convmem.quantities import format_time, parse_stored_time
from convmem.retention import KEPT, Facts, RetentionPlan, RetentionPolicy, TurnFacts, plan
from convmem.tools import HINTS, may_have_tools, tool_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from convmem.log.blocks import Block
    from convmem.log.records import Damage

    Looks: TypeAlias = tuple[int, int, int, int]

_BLOCK = 1 << 20
_MOST_RANGES = 1000
_TURN = b'{"id":"'
_FIRST_BYTES = itemgetter(slice(len(_TURN)))
_HEAD_TO_TIME = re.compile(rb'\{"id":"[^"\\]*","seq":\d+,"ts":"([^"\\]*)"')


@dataclass(slots=True)
class CompactionReport:
    """What a compaction did, or with ``dry_run`` would do. Counts and bytes are exact.

    Attributes:
        kept: Turns that stay (those recorded while it ran not counted).
        dropped: Turns that went; ``reasons`` has how many for each reason.
        dropped_bytes: Bytes of their lines.
        ranges: The ``seq`` of the first and last turn of each run that went; the first 1,000.
        bytes_before, bytes_after: The log's size.
        damaged: Damaged lines; where turns went, these went to ``quarantine``.
        trash: The file with the dropped turns, inside ``.trash``; ``None`` with ``discard``.
        quarantine: The file with the damaged bytes, inside ``.quarantine``.
        summary: The id of the turn that stands for those that went, if one was made.
    """

    kept: int = 0
    dropped: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    dropped_bytes: int = 0
    ranges: list[tuple[int | None, int | None]] = field(default_factory=list)
    bytes_before: int = 0
    bytes_after: int = 0
    damaged: int = 0
    trash: str | None = None
    quarantine: str | None = None
    summary: str | None = None
    dry_run: bool = False
    needs_seq_floor: bool = field(default=False, repr=False)


class Survey:
    """Where every turn and every damaged line of a log stands: some 26 bytes each."""

    def __init__(self) -> None:
        self.facts = Facts()
        self.offsets = array("Q")
        self.damage = array("Q")  # start, end, start, end, …
        self.batches = array("Q")  # first turn, closing turn, …
        self.unclosed = array("Q")  # first turn, last turn, … where the closing line is damaged
        self._open_batch: tuple[bytes, int] | None = None  # its name and its first turn

    def add(self, stored: StoredTurn, cutoff: datetime | None, cutoff_text: str) -> None:
        """Note the next turn."""
        line = stored.line
        self.offsets.append(stored.offset)
        if summary.stands_for(line) is not None and not codec.has_head(line):
            self.facts.add_summary(len(line) + 1)
            return
        is_old = cutoff is not None and _is_older(stored, cutoff, cutoff_text)
        if may_have_tools(line):
            calls, results = tool_ids(stored.turn)
            self.facts.add(TurnFacts(len(line) + 1, is_old, calls, results))
        else:
            self.facts.add_plain(len(line) + 1, is_old)

    def add_block(self, block: Block, cutoff: datetime | None, cutoff_text: str) -> None:
        """Note the turns of a block, to the same effect as ``add_in_batch`` for each."""
        offsets = list(block.offsets)
        count = len(block.lines)
        odd: list[int] = []
        if self._open_batch is not None or not _are_all_turns(block):
            odd = [at for at, line in enumerate(block.lines) if not _is_turn_of_ours(line)]
        if self._open_batch is not None or (odd and block.batches):
            for stored in turns_of(_records(block, offsets, 0, count), self.damaged):
                self.add_in_batch(stored, cutoff, cutoff_text)
            return
        at = len(self.offsets)
        self.batches.extend(at + line for batch in block.batches for line in batch)
        at = 0
        for place in (*odd, count):
            self._add_plain(block, offsets, range(at, place), cutoff, cutoff_text)
            at = place + 1
            # By hand, or what convmem noted for itself.
            for stored in turns_of(_records(block, offsets, place, at), self.damaged):
                self.add(stored, cutoff, cutoff_text)

    def _add_plain(
        self,
        block: Block,
        offsets: list[int],
        places: range,
        cutoff: datetime | None,
        cutoff_text: str,
    ) -> None:
        """Note some lines of a block that are as we write them, each a turn."""
        first = len(self.offsets)
        begin, behind = places.start, places.stop
        self.offsets.extend(offsets[begin:behind])
        if cutoff is None:
            old = bytes(behind - begin)
        else:
            old = _are_older(block.lines[begin:behind], cutoff, cutoff_text)
        self.facts.add_many(block.sizes[begin:behind], old)
        start = offsets[begin] - block.offset
        for at in _hints_of_tools(block, offsets, start, offsets[behind] - block.offset):
            if may_have_tools(block.lines[at]):
                calls, results = tool_ids(StoredTurn(block.lines[at], offsets[at]).turn)
                self.facts.add_tools(first + at - begin, calls, results)

    def add_in_batch(self, stored: StoredTurn, cutoff: datetime | None, cutoff_text: str) -> None:
        """Note the next turn, and whether it belongs to a batch."""
        self.add(stored, cutoff, cutoff_text)
        opened = self._open_batch
        if opened is None and not codec.ends_like_a_batch(stored.line):
            return
        mark = codec.batch_mark(stored.line) if stored.is_sealed else None
        at = len(self.offsets) - 1
        if opened is not None and (mark is None or mark[0] != opened[0]):
            self.unclosed.extend((opened[1], at - 1))
            opened = None
        if mark is not None:
            opened = (mark[0], at if opened is None else opened[1])
            if mark[1] == mark[2] - 1:
                self.batches.extend((opened[1], at))
                opened = None
        self._open_batch = opened

    @property
    def is_in_batch(self) -> bool:
        """Whether the last turn belongs to a batch whose closing line has not come."""
        return self._open_batch is not None

    def close(self) -> None:
        """Say that this was the last turn."""
        if self._open_batch is not None:
            self.unclosed.extend((self._open_batch[1], len(self.offsets) - 1))

    def spans(self, first: int, behind: int) -> Iterator[tuple[int, int]]:
        """Yield the byte spans of the turns ``[first, behind)``, without what stands between."""
        if first >= behind:
            return
        sizes = self.facts.sizes
        start, end = self.offsets[first], self.offsets[behind - 1] + sizes[behind - 1]
        if end - start == sum(sizes[first:behind]):
            yield start, end
        else:  # damage, or what convmem noted for itself: it is in one half or the other
            middle = (first + behind) // 2
            yield from self.spans(first, middle)
            yield from self.spans(middle, behind)

    def line(self, fd: int, at: int) -> bytes:
        """Return the line of turn *at*, without its newline."""
        return os.pread(fd, self.facts.sizes[at] - 1, self.offsets[at])

    @property
    def end(self) -> int:
        """Where the last turn ends."""
        return self.offsets[-1] + self.facts.sizes[-1] if self.offsets else 0

    def damaged(self, damage: Damage) -> None:
        self.damage.extend((damage.offset, damage.offset + damage.length + 1))


class Preview:
    """What would go of a log as it stands, found without a lock and without writing.

    Attributes:
        report: What ``compact`` would do, but for the size of a summary.
        end: Up to where it was read.
    """

    __slots__ = ("_last_bytes", "_seen", "_survey", "end", "report")

    def __init__(self, fd: int, end: int, seen: Looks) -> None:
        self.end = end
        self._seen = seen
        self._last_bytes = _last_bytes(fd, end)
        self._survey = Survey()
        self.report = CompactionReport()

    def survey_of(self, fd: int, end: int) -> Survey | None:
        """Return where the turns are up to ``self.end``, if that holds for the log *fd* still.

        *end* is where its committed part ends now. Turns that came since change nothing; what is
        behind the last turn that was seen may have been half a batch, and is looked at again.
        """
        now = _looks_of(fd)
        if end == self.end and now == self._seen:
            return self._survey
        is_same = now[:2] == self._seen[:2] and _last_bytes(fd, self.end) == self._last_bytes
        is_same = is_same and now[2] > self._seen[2] and self._survey.end == self.end <= end
        return self._survey if is_same else None


def preview(
    fd: int,
    end: int,
    policy: RetentionPolicy,
    now: datetime,
    advanced: Callable[[int], None],
    *,
    dry_run: bool,
    take_in_summaries: bool = False,
) -> Preview:
    """Look what would go. *end* is where the last finished line ends."""
    seen = _looks_of(fd)
    looked = Preview(fd, end, seen)
    looked._survey = survey = survey_log(fd, end, policy, now, advanced)
    size = seen[2]
    if heal.is_unterminated_turn(fd, end, size):
        line = os.pread(fd, size - end, end)
        survey.add(StoredTurn(line, end), policy.cutoff(now), "")
        end = size + 1  # with the newline that it will get
    last_seq = records.last_seq(fd, min(end, size))
    decided = plan(policy, survey.facts, take_in_summaries=take_in_summaries)
    looked.report = report_on(fd, survey, decided, end, last_seq, dry_run=dry_run)
    if not decided.dropped:
        # It stays without the newline that it lacks.
        looked.report.bytes_before = looked.report.bytes_after = min(end, size)
    return looked


def survey_log(
    fd: int, end: int, policy: RetentionPolicy, now: datetime, advanced: Callable[[int], None]
) -> Survey:
    """Read the log once and note where its turns are and what the decision needs of them."""
    survey = Survey()
    cutoff = policy.cutoff(now)
    cutoff_text = "" if cutoff is None else format_time(cutoff)
    told = 0
    with SecondHalf(fd, end, cutoff_text) as second:
        told = _add_blocks(survey, fd, 0, second.start, cutoff, cutoff_text, advanced)
        is_half = told == second.start < end and not survey.is_in_batch
        if is_half and second.add_to(survey):
            advanced(end - told)
            return survey
    _add_rest(survey, fd, told, end, cutoff, cutoff_text, advanced)
    return survey


def survey_from(fd: int, start: int, end: int) -> Survey:
    """Note where the turns of ``[start, end)`` are; *start* stands between batches."""
    survey = Survey()
    _add_rest(survey, fd, start, end, None, "", _unwatched)
    return survey


def answer(fd: int, start: int, end: int, cutoff_text: str) -> bytes:
    """Return what ``survey_apart`` takes; nothing unless all of ``[start, end)`` is good."""
    survey = Survey()
    survey.facts = facts = Apart()
    cutoff = parse_stored_time(cutoff_text) if cutoff_text else None
    done = _add_blocks(survey, fd, start, end, cutoff, cutoff_text, _unwatched)
    if done < end or survey.damage or survey.is_in_batch:
        return b""
    return as_bytes(survey, facts)


def _add_rest(
    survey: Survey,
    fd: int,
    told: int,
    end: int,
    cutoff: datetime | None,
    cutoff_text: str,
    advanced: Callable[[int], None],
) -> None:
    """Note the turns from *told* to the end: by the block while all is good, then one by one."""
    if not survey.is_in_batch:
        told = _add_blocks(survey, fd, told, end, cutoff, cutoff_text, advanced)
    for stored in turns_of(records.forward(fd, told, end, survey.damaged), survey.damaged):
        survey.add_in_batch(stored, cutoff, cutoff_text)
        if stored.offset - told >= _BLOCK:
            advanced(stored.offset - told)
            told = stored.offset
    survey.close()
    advanced(end - told)


def _add_blocks(
    survey: Survey,
    fd: int,
    start: int,
    end: int,
    cutoff: datetime | None,
    cutoff_text: str,
    advanced: Callable[[int], None],
) -> int:
    """Note the turns of the good blocks from *start* on; return where these end."""
    for block in blocks.good_blocks(fd, end, start=start):
        survey.add_block(block, cutoff, cutoff_text)
        advanced(block.end - start)
        start = block.end
    return start


def loose_turns(survey: Survey, decided: RetentionPlan, *, cut: int = -1) -> set[int]:
    """Return the kept turns whose batch has, or will have, no closing line: they stand alone.

    So do those before the turn *cut*, where a line that is no part of their batch will stand.
    """
    loose: set[int] = set()
    for first, closing in zip(survey.batches[::2], survey.batches[1::2], strict=True):
        if first <= cut < closing:
            loose.update(at for at in range(first, cut) if decided[at] == KEPT)
        if decided[closing] != KEPT:
            loose.update(at for at in range(first, closing) if decided[at] == KEPT)
    for first, last in zip(survey.unclosed[::2], survey.unclosed[1::2], strict=True):
        loose.update(at for at in range(first, last + 1) if decided[at] == KEPT)
    return loose


def newest_kept_seq(fd: int, survey: Survey, decided: RetentionPlan) -> int:
    for at in range(len(decided) - 1, -1, -1):
        if decided[at] == KEPT:
            seq = codec.seq_of(survey.line(fd, at))
            if seq is not None:
                return seq
    return 0


def _is_older(stored: StoredTurn, cutoff: datetime, cutoff_text: str) -> bool:
    head = codec.head_of(stored.line) if stored.is_sealed else None
    if head is not None and len(head[2]) == len(cutoff_text) and head[2][-1:] == "Z":
        return head[2] < cutoff_text  # times of one length and zone sort as text
    moment = stored.turn.ts
    return moment is not None and moment < cutoff


def report_on(
    fd: int, survey: Survey, decided: RetentionPlan, end: int, last_seq: int, *, dry_run: bool
) -> CompactionReport:
    report = CompactionReport(
        kept=len(decided) - decided.dropped,
        dropped=decided.dropped,
        reasons=decided.reasons,
        bytes_before=end,
        bytes_after=end,
        damaged=len(survey.damage) // 2,
        dry_run=dry_run,
    )
    if not decided.dropped:
        return report
    sizes = survey.facts.sizes
    report.dropped_bytes = sum(
        sum(sizes[first:behind]) for first, behind in decided.runs(kept=False)
    )
    kept_bytes = sum(sizes) - report.dropped_bytes
    for at in loose_turns(survey, decided):
        line = survey.line(fd, at)
        kept_bytes -= len(line) + 1 - len(codec.without_batch(line))
    if newest_kept_seq(fd, survey, decided) < last_seq:
        report.needs_seq_floor = True
        kept_bytes += len(codec.seq_floor_line(last_seq))
    report.bytes_after = kept_bytes
    report.ranges = [
        (codec.seq_of(survey.line(fd, first)), codec.seq_of(survey.line(fd, behind - 1)))
        for first, behind in islice(decided.runs(kept=False), _MOST_RANGES)
    ]
    return report


def _are_all_turns(block: Block) -> bool:
    """Whether ``_is_turn_of_ours`` is true of every line: nearly always."""
    if not block.is_sealed or b',"seq":null,"ts":' in block.data:
        return False
    return b"".join(map(_FIRST_BYTES, block.lines)) == _TURN * len(block.lines)


def _is_turn_of_ours(line: bytes) -> bool:
    """Whether an intact *line* is a turn that convmem recorded, and no summary or mark of its own.

    A seal is believed: what begins as we begin a turn need not be taken apart to be one.
    """
    return line.startswith(_TURN) and codec.is_sealed(line) and b'"seq":null' not in line


def _are_older(lines: list[bytes], cutoff: datetime, cutoff_text: str) -> bytes:
    """Say for each line that is as we write it whether its time is before the cut-off."""
    heads = list(map(_HEAD_TO_TIME.match, lines))
    texts = [head[1] for head in heads if head is not None]
    if len(texts) == len(lines) and are_comparable(texts, cutoff_text):
        limit = cutoff_text.encode()
        return bytes([text < limit for text in texts])
    return bytes([_is_older(StoredTurn(line, 0), cutoff, cutoff_text) for line in lines])


def _records(block: Block, offsets: list[int], begin: int, behind: int) -> Iterator[Record]:
    for at in range(begin, min(behind, len(block.lines))):
        yield Record(offsets[at], offsets[at + 1] - 1, block.lines[at])


def are_comparable(texts: list[bytes], cutoff_text: str) -> bool:
    """Whether all are times of the same length and zone as the cut-off: they sort as text."""
    joined = b"".join(texts)
    length = len(cutoff_text)
    ends = joined[length - 1 :: length]
    is_even = len(joined) == length * len(texts) and set(map(len, texts)) <= {length}
    return is_even and ends == b"Z" * len(texts) and joined.isascii()


def _hints_of_tools(block: Block, offsets: list[int], start: int, stop: int) -> list[int]:
    """Return the lines between two places of a block that may have tool calls or results."""
    found = set()
    for hint in HINTS:
        at = start
        while (at := block.data.find(hint, at, stop)) >= 0:
            line = bisect_right(offsets, block.offset + at) - 1
            found.add(line)
            at = offsets[line + 1] - block.offset
    return sorted(found)


def _looks_of(fd: int) -> Looks:
    """Return what changes with a log: device, inode, size, and when it was last written to."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _last_bytes(fd: int, end: int) -> bytes:
    return os.pread(fd, min(end, 64), max(0, end - 64))


def _unwatched(amount: int) -> None:
    """Who asked tells of the progress."""
