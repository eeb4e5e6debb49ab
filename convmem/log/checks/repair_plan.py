"""The plan of a repair: which pieces of a log stay, in what order, and what is set aside.

Some 40 bytes of memory for each piece.
"""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass, field
from itertools import pairwise

from convmem.errors import CorruptLog
from convmem.log import codec
from convmem.log.checks import verify_ids, verify_report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem.log.files import Piece

# What a kept piece is, as flags.
PART = 1  # of a line with more on it
OPEN = 2  # no newline of the log's own follows
_MARK = 4
_BATCH = 8
_GOES = 16  # it is there twice


@dataclass(slots=True)
class RepairReport:
    """What a repair did, or with ``dry_run`` would do. Counts and bytes are exact.

    Attributes:
        is_changed: Whether the log was (would be) rewritten.
        split: Lines that held more than one record, or one beside other bytes.
        rescued: Records on them that no reader saw, and that now are lines of their own.
        copies: Turns that stood there twice; the later ones were set aside.
        moved: Turns that stood behind a higher ``seq``, and are in order now.
        loosened: Turns that stand alone now, since the rest of their batch is lost. As they stood
            they are in the quarantine, too.
        set_aside: How many lines and parts of lines of each class went to the quarantine.
        set_aside_bytes: Bytes of all that went there.
        quarantine: The file with them, inside ``.quarantine``; ``None`` if there is none.
        bytes_before, bytes_after: The log's size.
        is_salvaged: Whether the log lay compressed and damaged, and was first made plain of what is
            left of it. ``bytes_before`` is then the size of that.
        compressed: The file in ``.quarantine`` to which the damaged one went.
        left: What cannot be repaired without losing something, as ``verify`` would tell it: ids or
            ``seq`` numbers that two different turns have.
    """

    dry_run: bool = False
    is_changed: bool = False
    split: int = 0
    rescued: int = 0
    copies: int = 0
    moved: int = 0
    loosened: int = 0
    set_aside: dict[str, int] = field(default_factory=dict)
    set_aside_bytes: int = 0
    quarantine: str | None = None
    bytes_before: int = 0
    bytes_after: int = 0
    left: dict[str, int] = field(default_factory=dict)
    is_salvaged: bool = False
    compressed: str | None = None


class Plan:
    """What becomes of ``[0, size)`` of a log.

    Attributes:
        fd, size: Of what.
        report: All but what only the doing can tell.
        highest: The highest ``seq`` that stays.
        rewrites: Whether more is to do than to give the last line its newline.
    """

    def __init__(self, fd: int, size: int) -> None:
        self.report = RepairReport(bytes_before=size, bytes_after=size)
        self.highest = 0
        self.rewrites = False
        self.fd = fd
        self.size = size
        self._starts = array("Q")
        self._lengths = array("Q")  # newline not included
        self._seqs = array("Q")  # 0 for none
        self._hashes = array("q")  # of ids, 0 for none
        self._flags = bytearray()
        self._aside: dict[int, tuple[int, str]] = {}  # start: end (newline included), class
        self._order: array[int] | range = range(0)
        self._loose: set[int] = set()

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return self.report.is_changed

    def pieces(self) -> Iterator[Piece]:
        """Yield what the repaired log consists of."""
        start = end = 0
        for at in self._order:
            first = self._starts[at]
            behind = first + self._lengths[at]
            is_open = bool(self._flags[at] & OPEN)
            if at in self._loose or first != end:
                if start < end:
                    yield start, end
                start = end = first
            if at in self._loose:
                yield codec.without_batch(self._line(at))
                start = end = 0
            elif is_open:
                yield start, behind
                yield b"\n"
                start = end = 0
            else:
                end = behind + 1
        if start < end:
            yield start, end

    def spans_aside(self) -> list[tuple[int, int]]:
        """Return the byte spans that go to the quarantine, in order."""
        spans = [(start, end) for start, (end, _) in self._aside.items()]
        spans += [(self._starts[at], self._end(at)) for at in self._loose]
        return sorted(spans)

    # --- making it ---------------------------------------------------------------------------

    def add(self, start: int, line: bytes, flags: int) -> None:
        """Note a record, and what it is but for its marks."""
        if codec.is_seq_floor(line):
            flags |= _MARK
        elif codec.is_sealed(line) and codec.batch_mark(line) is not None:
            flags |= _BATCH
        seq = codec.seq_of(line)
        encoded = None if flags & _MARK else verify_ids.id_of(line)
        if encoded is None and not flags & _MARK and codec.parse(line) is None:
            # Sealed, and yet no turn.
            self.put_aside(start, start + len(line), verify_report.NOT_A_TURN, flags)
            return
        self._starts.append(start)
        self._lengths.append(len(line))
        self._seqs.append(seq or 0)
        self._hashes.append(0 if encoded is None else hash(encoded))
        self._flags.append(flags)

    def put_aside(self, start: int, end: int, kind: str, flags: int) -> None:
        """Note what is no record."""
        self._aside[start] = end + (not flags & OPEN), kind
        told = self.report.set_aside
        told[kind] = told.get(kind, 0) + 1

    def sort_by_place(self) -> None:
        """Put the pieces that were noted late where they stand."""
        order = sorted(range(len(self._starts)), key=self._starts.__getitem__)
        for name in ("_starts", "_lengths", "_seqs", "_hashes"):
            old = getattr(self, name)
            setattr(self, name, array(old.typecode, (old[at] for at in order)))
        self._flags = bytearray(self._flags[at] for at in order)

    def decide(self) -> None:
        """Find copies and the order; then what stands alone, and what all of it comes to."""
        self._find_copies()
        self._put_in_order()
        self._find_loose()
        self._count()

    def _find_copies(self) -> None:
        """Let later copies of a turn go, and rescued records whose retry was stored."""
        wanted = verify_ids.IdHashes(each for each in self._hashes if each).repeated()
        first: dict[bytes, int] = {}
        for at, found in enumerate(self._hashes):
            if found not in wanted:
                continue
            line = self._line(at)
            encoded = verify_ids.id_of(line)
            if encoded is None:
                continue
            earlier = first.setdefault(encoded, at)
            if earlier == at:
                continue
            how = verify_ids.compare(self._line(earlier), line)
            if how == verify_ids.COPY or (how == verify_ids.SAME and self._flags[at] & PART):
                self._let_go(at)
            elif how == verify_ids.SAME and self._flags[earlier] & PART:
                self._let_go(earlier)
                first[encoded] = at
            else:
                self._leave(verify_report.DUPLICATE_ID)

    def _let_go(self, at: int) -> None:
        self._flags[at] |= _GOES
        self.report.copies += 1
        self._aside[self._starts[at]] = self._end(at), verify_report.DUPLICATE_ID

    def _leave(self, kind: str) -> None:
        self.report.left[kind] = self.report.left.get(kind, 0) + 1

    def _put_in_order(self) -> None:
        """Sort by ``seq`` where each turn has its own; lines without one stay behind the line
        before them.

        Where two turns share one, the log was put together of several: no order is the right one,
        and the lines stay where they are.
        """
        stays = array("Q", (at for at, flags in enumerate(self._flags) if not flags & _GOES))
        self._order = stays
        highest = moved = 0
        for at in stays:
            seq = self._seqs[at]
            if seq:
                moved += seq <= highest - bool(self._flags[at] & _MARK)
                highest = max(highest, seq)
        self.highest = highest
        if not moved:
            return
        turns = sorted(
            self._seqs[at] for at in stays if self._seqs[at] and not self._flags[at] & _MARK
        )
        if any(one == two for one, two in pairwise(turns)):
            self.report.left[verify_report.SEQ_DISORDER] = moved
            return
        # Twice the seq, and one more for marks: they stand behind the turn that has theirs.
        keys = array("Q", bytes(8 * len(self._starts)))
        key = 0
        for at in stays:
            if self._seqs[at]:
                key = 2 * self._seqs[at] + bool(self._flags[at] & _MARK)
            keys[at] = key
        self._order = array("Q", sorted(stays, key=keys.__getitem__))
        self.report.moved = moved

    def _find_loose(self) -> None:
        """Find the turns of batches that have no closing line behind them, as they stand now."""
        held: list[int] = []
        name = b""
        for at in self._order:
            mark = codec.batch_mark(self._line_end(at)) if self._flags[at] & _BATCH else None
            if held and (mark is None or mark[0] != name):
                self._loose.update(held)
                held = []
            if mark is not None:
                name = mark[0]
                held.append(at)
                if mark[1] == mark[2] - 1:
                    held = []
        self._loose.update(held)

    def _count(self) -> None:
        report = self.report
        report.loosened = len(self._loose)
        report.rescued = sum(
            1 for at in self._order if self._flags[at] & PART and not self._flags[at] & _MARK
        )
        spans = self.spans_aside()
        report.set_aside_bytes = sum(end - start for start, end in spans)
        after = sum(
            len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
            for piece in self.pieces()
        )
        has_open = any(self._flags[at] & OPEN for at in self._order)
        report.bytes_after = after
        covered = sum(self._end(at) - self._starts[at] for at in self._order)
        covered += sum(end - start for start, (end, _) in self._aside.items())
        if covered != self.size:
            raise CorruptLog(
                f"the plan of repair accounts for {covered:,} of {self.size:,} bytes",
                hint="nothing was changed; this is a bug in convmem, please report it",
            )
        self.rewrites = bool(spans or report.moved or report.split)
        report.is_changed = self.rewrites or has_open

    def _end(self, at: int) -> int:
        """Return where the piece ends, its newline included if it has one of its own."""
        return self._starts[at] + self._lengths[at] + (not self._flags[at] & OPEN)

    def _line(self, at: int) -> bytes:
        return os.pread(self.fd, self._lengths[at], self._starts[at])

    def _line_end(self, at: int) -> bytes:
        length = min(self._lengths[at], 256)
        return os.pread(self.fd, length, self._starts[at] + self._lengths[at] - length)
