"""Putting lines from the trash back among those of a log, each where its ``seq`` says.

Lines without a ``seq``, and damaged ones, follow the line that they stood behind.
"""

from __future__ import annotations

import heapq
import os
import zlib

from convmem.log import codec, lines, records
from convmem.log.removing import summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from convmem.log.files import Piece
    from convmem.log.records import Damage

_LOG = 0
_LAST = 1 << 64
# A turn's seq and the number of its file are kept as one number: there may be millions.
_FILE_BITS = 32
_FILES = (1 << _FILE_BITS) - 1
# Lines without a seq are held until the next that has one; of a log by hand, only so many.
_MOST_HELD = 1000
_BLOCK = 1 << 20


class Source:
    """A file that lines come from: its descriptor, where it ends, and what it is.

    Attributes:
        name: The file's name in the trash; empty for the log itself.
        is_log: Whether it is a log as it stood, damage included, or turns that left one.
    """

    __slots__ = ("end", "fd", "is_log", "name", "size")

    def __init__(self, fd: int, *, name: str = "", is_log: bool, end: int | None = None) -> None:
        self.fd = fd
        self.name = name
        self.is_log = is_log
        self.size = os.fstat(fd).st_size
        self.end = lines.finished_end(fd, self.size) if end is None else end


class Entry:
    """One line: where it stands, and where it belongs.

    Attributes:
        key: Its place among the lines of all files.
        source: Which file, 0 for the log.
        line: Its bytes, newline not included; ``None`` where it is too long to be a turn.
        seq, turn_id: Its own, the id as JSON; ``None`` without.
        is_turn: Whether it is a turn that readers see.
    """

    __slots__ = ("end", "is_turn", "key", "line", "offset", "seq", "source", "turn_id")

    def __init__(
        self,
        key: int,
        source: int,
        offset: int,
        end: int,
        line: bytes | None,
        *,
        seq: int | None = None,
        turn_id: bytes | None = None,
        is_turn: bool = False,
    ) -> None:
        self.key = key
        self.source = source
        self.offset = offset
        self.end = end
        self.line = line
        self.seq = seq
        self.turn_id = turn_id
        self.is_turn = is_turn


class Merge:
    """One merge of the log and some files of the trash.

    Iterate over ``pieces``; what it found stands in the attributes afterwards.

    Attributes:
        restored, bytes: Turns that came from the trash, and the bytes of their lines.
        already_there: Lines of the trash that are in the log, or came from another file.
        conflicts: Turns of the trash whose ``seq`` or id means another turn of the log.
        unwanted: Turns of the trash that were not asked for.
        damaged: Lines that were turns when they went, and are none any more.
        summaries: The summaries that were left out, since what they stand for comes back.
        kept: For each file of the trash, the spans of turns that have to stay in it.
        kept_damage: And those of what is no turn.
        highest_seq: Of all lines that the merge gave.
        first_seq, last_seq: Of the turns that came back.
    """

    def __init__(
        self,
        trash: Sequence[Source],
        wants: Callable[[bytes], bool],
        *,
        supersedes: bool,
    ) -> None:
        self._trash = trash
        # Where all comes back, the summaries that stood for it go.
        self._files = {source.name for source in trash} if supersedes else set()
        self._wants = wants
        self.restored = self.bytes = self.already_there = self.conflicts = self.unwanted = 0
        self.damaged = 0
        self.summaries: list[dict[str, Any]] = []
        self.kept: list[list[tuple[int, int]]] = [[] for _ in trash]
        self.kept_damage: list[list[tuple[int, int]]] = [[] for _ in trash]
        self.highest_seq = 0
        self.first_seq: int | None = None
        self.last_seq: int | None = None
        # For each file, the highest seq of those that were removed before it.
        self._bases = [0] * len(trash)
        # Turns of the log by the hash of their id, and lines without one by their CRC.
        self._in_log: dict[int, tuple[int | None, str]] = {}
        self._loose: dict[int, int] = {}
        # Of each id in the trash, the newest turn: its file and its seq.
        self._newest: dict[int, int] = {}  # seq << _FILE_BITS | file
        self._restored_loose: set[int] = set()
        # Of each file of the trash: whether a compaction that was killed had only copied it, and
        # whether the last numbered line of it was there already.
        self._never_left = [False] * len(trash)
        self._was_there = [False] * len(trash)

    def pieces(self, log: Source, advanced: Callable[[int], None]) -> Iterator[Piece]:
        """Yield the whole new log in order: spans of the log, and lines from the trash.

        Holds some 170 bytes for each turn in the trash while the ids are compared.
        """
        if log.end or len(self._trash) > 1:
            self._look_for_ids(log)
        sources = [log, *self._trash]
        merged = heapq.merge(
            *(
                _entries(source, at, base)
                for at, (source, base) in enumerate(zip(sources, [0, *self._bases], strict=True))
            ),
            key=lambda entry: (entry.key, entry.source),
        )
        chosen = self._chosen(merged)
        start = behind = -1  # the span of the log that is being put together
        told = 0
        for entry, strip in _batches(chosen):
            if entry.source == _LOG and not strip:
                if entry.offset != behind:
                    if start >= 0:
                        yield start, behind
                    start = entry.offset
                behind = entry.end + 1
                if behind - told >= _BLOCK:
                    advanced(behind - told)
                    told = behind
                continue
            if start >= 0:
                yield start, behind
                start = behind = -1
            yield from _piece(sources[entry.source], entry, strip)
        if start >= 0:
            yield start, behind

    # --- choosing ------------------------------------------------------------------------------

    def _look_for_ids(self, log: Source) -> None:
        """Find what the log and the trash have in common, and what the trash has twice."""
        wanted = self._newest
        loose: set[int] = set()
        highest = 0
        for at, source in enumerate(self._trash, start=1):
            self._bases[at - 1] = highest
            for entry in _entries(source, at):
                highest = max(highest, entry.seq or 0)
                if entry.turn_id is not None:
                    known = hash(entry.turn_id)
                    place = (entry.seq or 0) << _FILE_BITS | at
                    if place >= wanted.get(known, 0):
                        wanted[known] = place
                elif entry.line is not None:
                    loose.add(zlib.crc32(entry.line))
        for entry in _entries(log, _LOG):
            if entry.line is None:
                continue
            if entry.turn_id is None:
                crc = zlib.crc32(entry.line)
                if crc in loose:
                    self._loose[crc] = self._loose.get(crc, 0) + 1
                continue
            known = hash(entry.turn_id)
            if known in wanted:
                self._in_log.setdefault(known, (entry.seq, codec.line_crc(entry.line)))
                place = wanted[known]
                if place >> _FILE_BITS == (entry.seq or 0):
                    self._never_left[(place & _FILES) - 1] = True

    def _chosen(self, merged: Iterable[Entry]) -> Iterator[Entry]:
        """Yield what belongs into the new log, each turn once."""
        seq = -1
        ids: dict[bytes | None, str] = {}  # of the turns that came with that seq, and what they say
        for entry in merged:
            if entry.seq is not None and entry.seq != seq:
                seq = entry.seq
                ids.clear()
            line = entry.line
            if line is not None and codec.is_seq_floor(line):
                continue
            if line is not None and self._is_superseded(entry, line):
                self.summaries.append(codec.parse_object(line))
                continue
            if entry.source != _LOG:
                if not entry.is_turn and not self._trash[entry.source - 1].is_log:
                    # Damaged since it went: in the log it would be damage that was not there.
                    self.damaged += 1
                    self._keep(entry)
                    continue
                if line is None or not self._wants(line):
                    self._keep(entry)
                    self.unwanted += entry.is_turn
                    continue
                verdict = self._verdict(entry, line, ids)
                if entry.seq is not None:
                    self._was_there[entry.source - 1] = verdict == "there"
                if verdict == "there":
                    self.already_there += 1
                    continue
                if verdict == "conflict":
                    self.conflicts += 1
                    self._keep(entry)
                    continue
                self._count(entry)
            if entry.seq is not None:
                ids[entry.turn_id] = "" if line is None else codec.line_crc(line)
                self.highest_seq = max(self.highest_seq, entry.seq)
            yield entry

    def _verdict(self, entry: Entry, line: bytes, ids: dict[bytes | None, str]) -> str:
        """Say of a line of the trash whether it is "new", "there" already, or a "conflict"."""
        if entry.turn_id is not None:
            found = self._in_log.get(hash(entry.turn_id))
            if found is not None:
                return "there" if found == (entry.seq, codec.line_crc(line)) else "conflict"
            if entry.turn_id in ids:
                # It stands in two files of the trash; unless two logs were put together by hand.
                return "there" if ids[entry.turn_id] == codec.line_crc(line) else "conflict"
            if entry.seq is not None:
                # The same id was given again once the first turn was gone: the newer counts.
                newest = self._newest.get(hash(entry.turn_id), 0) >> _FILE_BITS
                is_older = newest > entry.seq
                return "conflict" if ids or is_older else "new"
            known = zlib.crc32(line)
            if known in self._restored_loose:
                return "there"
            self._restored_loose.add(known)
            return "new"
        # Nothing but its bytes tells it apart, and the same may be said twice. But what went
        # together with it tells whether it ever left.
        crc = zlib.crc32(line)
        if self._never_left[entry.source - 1] and self._loose.get(crc, 0):
            self._loose[crc] -= 1
            return "there"
        if self._was_there[entry.source - 1] and crc in self._restored_loose:
            return "there"
        self._restored_loose.add(crc)
        return "new"

    def _count(self, entry: Entry) -> None:
        self.restored += entry.is_turn
        self.bytes += entry.end - entry.offset + 1
        if entry.seq is not None:
            self.first_seq = entry.seq if self.first_seq is None else self.first_seq
            self.last_seq = entry.seq

    def _is_superseded(self, entry: Entry, line: bytes) -> bool:
        """Whether a line is a summary, and the turns that it stands for come back."""
        said = summary.stands_for(line) if self._files else None
        return said is not None and said.get("trash") in self._files

    def _keep(self, entry: Entry) -> None:
        kept = (self.kept if entry.is_turn else self.kept_damage)[entry.source - 1]
        if kept and kept[-1][1] == entry.offset:
            kept[-1] = (kept[-1][0], entry.end + 1)
        else:
            kept.append((entry.offset, entry.end + 1))


# --- lines of one file -------------------------------------------------------------------------


def _entries(source: Source, at: int, base: int = 0) -> Iterator[Entry]:
    """Yield every line of a file in order, with its place among the lines of all.

    Twice the highest ``seq`` so far; what stands in a log without one belongs just before the
    next that has one, since what went from before it went first. At the log's end it stays the
    end; where a file of the trash has no ``seq`` at all, it follows *base*.
    """
    highest = 0
    held: list[Entry] = []
    for entry in _log_entries(source, at) if source.is_log else _turn_entries(source, at):
        if entry.seq is not None:
            highest = max(highest, entry.seq)
            for each in held:
                each.key = 2 * highest - 1
                yield each
            held = []
        elif (source.is_log or not highest) and len(held) < _MOST_HELD:
            held.append(entry)
            continue
        else:  # more than anybody writes by hand: these follow what they stood behind
            for each in held:
                each.key = 2 * highest
                yield each
            held = []
        entry.key = 2 * highest
        yield entry
    for entry in held:
        entry.key = _LAST if at == _LOG else 2 * (highest or base)
        yield entry


def _turn_entries(source: Source, at: int) -> Iterator[Entry]:
    """Each line is a turn, whatever its batch lacks by now."""
    for offset, end, line in lines.forward(source.fd, 0, source.end):
        if line is None or codec.fault_of(line) is not None:
            yield Entry(0, at, offset, end, line)
        else:
            yield _turn_entry(at, offset, end, line)


def _log_entries(source: Source, at: int) -> Iterator[Entry]:
    """Turns, and between them the damage, in the order in which they stand."""
    damage: list[Damage] = []
    behind = 0
    for record in records.forward(source.fd, 0, source.end, damage.append):
        yield from _damaged(source, at, damage, before=record.offset)
        yield _turn_entry(at, record.offset, record.end, record.data)
        behind = record.end + 1
    # Damage, and a batch that lacks its end: that is no turn, but bytes to be kept.
    for offset, end, line in lines.forward(source.fd, behind, source.end):
        yield Entry(0, at, offset, end, line)


def _damaged(source: Source, at: int, damage: list[Damage], *, before: int) -> Iterator[Entry]:
    damage.sort(key=lambda each: each.offset)
    while damage and damage[0].offset < before:
        first = damage.pop(0)
        line = None
        if first.length <= lines.MAX_LINE_BYTES:
            line = os.pread(source.fd, first.length, first.offset)
        yield Entry(0, at, first.offset, first.offset + first.length, line)


def _turn_entry(at: int, offset: int, end: int, line: bytes) -> Entry:
    head = codec.head_of(line) if codec.is_sealed(line) else None
    if head is not None:
        return Entry(0, at, offset, end, line, seq=head[1], turn_id=head[0], is_turn=True)
    turn = codec.parse(line)
    if turn is None:
        return Entry(0, at, offset, end, line)
    turn_id = None if turn.id is None else codec.json_of(turn.id)
    return Entry(0, at, offset, end, line, seq=turn.seq, turn_id=turn_id, is_turn=True)


# --- batches -----------------------------------------------------------------------------------


def _batches(chosen: Iterable[Entry]) -> Iterator[tuple[Entry, bool]]:
    """Say of each line whether its batch mark must go.

    A batch without its closing line reads as one that was torn: its turns then stand alone.
    """
    held: list[Entry] = []
    name: bytes | None = None
    for entry in chosen:
        mark = None
        if entry.is_turn and entry.line is not None and codec.is_sealed(entry.line):
            mark = codec.batch_mark(entry.line)
        if held and (mark is None or mark[0] != name):
            yield from ((each, True) for each in held)
            held = []
        if mark is None:
            yield entry, False
            continue
        name = mark[0]
        held.append(entry)
        if mark[1] == mark[2] - 1:
            yield from ((each, False) for each in held)
            held = []
    yield from ((each, True) for each in held)


def _piece(source: Source, entry: Entry, strip: bool) -> Iterator[bytes]:
    if entry.line is not None:
        yield codec.without_batch(entry.line) if strip else entry.line + b"\n"
        return
    at = entry.offset
    while at < entry.end + 1:
        data = os.pread(source.fd, min(_BLOCK, entry.end + 1 - at), at)
        if not data:
            return
        yield data
        at += len(data)
