"""One log brought in step with its rows, by going through both or through what was added.

A log that only grew is read from where it was read to; one that was replaced (compacted, restored,
compressed) is compared turn by turn, in one pass over both, and only what is new is indexed.
"""

from __future__ import annotations

from convmem.log.blocks import good_blocks
from convmem.log.files import read_exactly
from convmem.search.index.rows import mark_of, row_of, rows_of
from convmem.stores.log_files import is_same_file, size_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from convmem.log.read import Reader, StoredTurn
    from convmem.log.records import OnDamage
    from convmem.search.index.rows import Row
    from convmem.search.index.writer import Old, Writer

_ROWS_AT_ONCE = 1000
# Short additions are not worth the way in.
_BLOCKWISE_BYTES = 4 << 10
# A log of which this is the stamp's end was not read to its end.
_PARTIAL = "?"
_TOLD_BYTES = 1 << 20


class Overtaken(Exception):
    """Another process went on with the log while it was let write: we begin from there."""


class _OutOfOrder(Exception):
    """Turns came to stand between known ones: the log is indexed anew."""


class Log:
    """A log that is being taken in: what was known of it, and how far it is."""

    __slots__ = ("before", "has_new", "last", "log", "mark", "name", "resume", "stamp", "told")

    def __init__(
        self,
        name: str,
        stamp: str,
        log: int,
        before: str,
        resume: int,
        last: int | None,
        mark: int | None,
    ) -> None:
        self.name = name
        self.stamp = stamp
        self.log = log
        self.before = before
        self.resume = resume
        self.last = last
        self.mark = mark
        self.has_new = False
        self.told = 0

    def begin(self) -> None:
        """Nothing of it is taken in."""
        self.resume = 0
        self.last = self.mark = None
        self.has_new = False


class CatchingUp:
    """Brings the rows of one log in step with it."""

    def __init__(
        self,
        log: Log,
        reader: Reader,
        writer: Writer,
        *,
        advanced: Callable[[int], None],
        damaged: OnDamage,
    ) -> None:
        """*advanced* is told how many bytes of the log were dealt with since it was told last."""
        self._log = log
        self._reader = reader
        self._writer = writer
        self._told = advanced
        self._damaged = damaged

    def run(self) -> None:
        """Do it; what was done is noted, and the last step is the caller's to commit.

        Raises:
            Overtaken: Go no further.
            ConvmemError, OSError: The log cannot be read (whole).
        """
        log, writer = self._log, self._writer
        if _only_grew(log, self._reader):
            writer.drop(writer.rows_from(log.log, log.resume))
            self._append(log.resume)
            return
        if log.before == "":
            writer.drop_all(log.log)
            self._append(0)
            return
        try:
            self._compare()
        except _OutOfOrder:
            writer.fresh.clear()
            writer.drop_all(log.log)
            self._append(0)

    def _append(self, start: int) -> None:
        """Take in what stands from the byte *start* on, all of it new."""
        log, reader, writer = self._log, self._reader, self._writer
        if start == 0:
            log.begin()
        if reader.end - start >= _BLOCKWISE_BYTES:
            for block in good_blocks(reader.fd, reader.end, start=start):
                rows = rows_of(block)
                if rows is None:
                    break  # from here on turn by turn, to the same end
                writer.fresh += rows
                self._advanced(rows[-1][1], block.end - block.sizes[-1], block.end)
                if len(writer.fresh) >= _ROWS_AT_ONCE:
                    writer.flush(log.log)
                self._pause()
        for stored in reader.in_order(self._damaged, start=log.resume):
            self._add(row_of(stored, mark_of(stored.line)), stored)
            self._pause()
        writer.flush(log.log)
        self._note(log.stamp)

    def _pause(self) -> None:
        """Let others write, and keep what was done, every so many bytes."""
        log, writer = self._log, self._writer
        if writer.is_due():
            writer.flush(log.log)
            self._note(log.stamp + _PARTIAL)
            writer.step()
            if writer.noted(log.log) != (log.name, log.stamp + _PARTIAL, log.resume):
                raise Overtaken

    def _compare(self) -> None:
        """Go through the rows and the log side by side; keep, drop and add.

        Raises:
            _OutOfOrder: A turn that is not known stands before one that is.
        """
        log, writer = self._log, self._writer
        old = _Side(writer.blocks_of(log.log))
        moved: list[tuple[int, int]] = []
        log.begin()
        for stored in self._reader.in_order(self._damaged, start=0):
            mark = mark_of(stored.line)
            seq = stored.seq
            writer.drop(old.dropped_before(seq, mark))
            row = old.first
            if row is not None and row[1] == seq and row[2] == mark:
                if writer.fresh or log.has_new:
                    raise _OutOfOrder
                if row[3] != stored.offset:
                    moved.append((stored.offset, row[0]))
                    if len(moved) >= _ROWS_AT_ONCE:
                        writer.move(moved)
                old.advance()
                self._passed(mark, stored)
            else:
                if row is not None and row[1] == seq and seq is not None:
                    writer.drop([row])  # other content under the same number
                    old.advance()
                self._add(row_of(stored, mark), stored)
                log.has_new = True
        writer.drop(old.rest())
        writer.move(moved)
        writer.flush(log.log)
        self._note(log.stamp)

    def _add(self, row: Row, stored: StoredTurn) -> None:
        self._writer.fresh.append(row)
        self._passed(row[1], stored)
        if len(self._writer.fresh) >= _ROWS_AT_ONCE:
            self._writer.flush(self._log.log)

    def _passed(self, mark: int, stored: StoredTurn) -> None:
        if stored.offset < self._reader.end:  # a last line without a newline may still grow
            self._advanced(mark, stored.offset, stored.offset + len(stored.line) + 1)

    def _advanced(self, mark: int, last: int, resume: int) -> None:
        """Take down that all is taken in up to *resume*; the turn before it begins at *last*."""
        log = self._log
        length = resume - log.resume
        log.resume, log.last, log.mark = resume, last, mark
        self._writer.work += length
        log.told += length
        if log.told >= _TOLD_BYTES:
            self._tell()

    def _note(self, stamp: str) -> None:
        log = self._log
        self._writer.note(log.log, stamp, log.resume, log.last, log.mark)
        self._tell()

    def _tell(self) -> None:
        self._told(self._log.told)
        self._log.told = 0


def _only_grew(log: Log, reader: Reader) -> bool:
    """Whether all that was read of the log stands there still."""
    if log.last is None or log.mark is None or not is_same_file(log.before, log.stamp):
        return False
    if reader.cold_facts is not None or reader.holes is not None or log.resume > reader.end:
        return False
    line = read_exactly(reader.fd, log.resume - log.last, log.last)
    grew = log.before.endswith(_PARTIAL) or size_in(log.stamp) > size_in(log.before)
    return grew and line[-1:] == b"\n" and mark_of(line[:-1]) == log.mark


class _Side:
    """The known rows of a log, in order, with the one that is next."""

    def __init__(self, blocks: Iterator[list[Old]]) -> None:
        self._rows = (row for rows in blocks for row in rows)
        self.first: Old | None = next(self._rows, None)

    def advance(self) -> None:
        self.first = next(self._rows, None)

    def dropped_before(self, seq: int | None, mark: int) -> list[Old]:
        """Take and return the rows that are gone if the log's next turn is that one."""
        gone = []
        while self.first is not None and _is_before(self.first, seq, mark):
            gone.append(self.first)
            self.advance()
        return gone

    def rest(self) -> Iterator[Old]:
        """Take all that is left."""
        while self.first is not None:
            yield self.first
            self.advance()


def _is_before(row: Old, seq: int | None, mark: int) -> bool:
    """Whether *row* stood before a turn, and so is gone where that turn comes next.

    Turns that were written by hand have no number: one that is not the very next is gone.
    """
    if row[1] is None:
        return not (seq is None and row[2] == mark)
    return seq is not None and row[1] < seq
