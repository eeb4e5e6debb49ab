"""Following one log: every committed turn once, in order, whatever happens to the file.

The file may grow, be replaced by a compaction, be cut short, or be removed and made anew. The
descriptor of the file that is being read stays open until all of it was read, so an inode number
that the system gives out again cannot be mistaken for it.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque

from convmem.errors import UsageError
from convmem.log import codec, lines, records
from convmem.log.read import StoredTurn, turns_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from convmem.log.files import Folder
    from convmem.log.read import Reader
    from convmem.log.records import OnDamage

# A look costs some 2 µs; 20 ms between looks is 0.5 % of a core (measured), 250 ms hardly any.
SHORTEST_WAIT_SECONDS = 0.005
LONGEST_WAIT_SECONDS = 0.25
# How far back a log that was cut short is compared with what was seen of it.
_REMEMBERED_LINES = 4096
_REMEMBERED_AT_FIRST = 64


_CURSOR = re.compile("(0|[1-9][0-9]{0,18}):([0-9a-f]{8}|[?]{8}):(0|[1-9][0-9]{0,18})")
# Instead of a checksum: the turn of that number, whatever it says.
ANY_TURN = "????????"


class Cursor:
    """A place between two turns that survives restarts and compactions.

    Attributes:
        seq: The ``seq`` of the last turn before it, 0 at the start.
        crc: Eight hex digits that stand for that turn's line, so that another turn of the same
            number is told apart.
        lines: How many lines without a ``seq`` were read after it.
    """

    __slots__ = ("crc", "lines", "seq")

    def __init__(self, seq: int = 0, crc: str = "00000000", lines: int = 0) -> None:
        self.seq = seq
        self.crc = crc
        self.lines = lines

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Return the cursor that ``str(cursor)`` wrote.

        Raises:
            UsageError: The text is no cursor.
        """
        found = _CURSOR.fullmatch(text.strip())
        if found is None:
            raise UsageError(
                f"not a cursor: {text.strip()[:80]!r}",
                hint="a cursor looks like 17:9f3a01bc:0; without one it starts over",
            )
        return cls(int(found[1]), found[2], int(found[3]))

    def __str__(self) -> str:
        return f"{self.seq}:{self.crc}:{self.lines}"

    def __repr__(self) -> str:
        return f"Cursor({self.seq}, {self.crc!r}, {self.lines})"

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, Cursor) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def after(self, lines: int) -> Cursor:
        """Return the cursor that many lines without a ``seq`` further on."""
        return Cursor(self.seq, self.crc, self.lines + lines)

    def step(self, stored: StoredTurn) -> Cursor:
        """Return the cursor behind *stored*, which comes next."""
        seq = stored.seq
        if seq is None or (not stored.is_sealed and seq <= self.seq):
            return Cursor(self.seq, self.crc, self.lines + 1)
        return Cursor(seq, codec.line_crc(stored.line), 0)


def end_cursor(reader: Reader) -> Cursor:
    """Return the cursor behind the last finished turn of an open log."""
    after = 0
    found = turns_of(records.backward(reader.fd, reader.end, _unnoticed), _unnoticed)
    for stored in found:
        if stored.is_sealed and stored.seq is not None:
            return Cursor().step(stored).after(after)
        after += 1
    return Cursor().after(after)


def place_of(fd: int, end: int, cursor: Cursor) -> int | None:
    """Return the byte behind *cursor* in a log, or ``None`` if the log is not the cursor's.

    Compaction may have dropped the cursor's own turn: the place is then before the next one. Where
    that turn was scrubbed since, the marker in its place is believed to be it.
    """
    if cursor.seq == 0:
        return _skip(fd, 0, end, cursor)
    if cursor.crc == ANY_TURN:
        return records.offset_after(fd, end, cursor.seq)
    if records.last_seq(fd, end) < cursor.seq:
        return None
    start = records.offset_after(fd, end, cursor.seq - 1)
    by_hand = 0
    for offset, line_end, data in lines.forward(fd, start, end):
        if data is None or codec.fault_of(data) is not None:
            continue
        seq = codec.seq_of(data)
        if seq is None:
            by_hand += 1
            continue
        if codec.is_seq_floor(data):
            # All numbered turns were dropped; of the lines by hand we know how many were read.
            left = Cursor(cursor.seq, cursor.crc, max(0, cursor.lines - by_hand))
            return _skip(fd, line_end + 1, end, left)
        if seq > cursor.seq:
            return offset
        if codec.line_crc(data) == cursor.crc or _is_scrubbed(data):
            return _skip(fd, line_end + 1, end, cursor)
        return None
    return end


def _skip(fd: int, start: int, end: int, cursor: Cursor) -> int:
    """Return the byte behind the lines from *start* on that *cursor* has counted.

    Compaction may have dropped some of them: a turn with a number of its own is none of them.
    """
    count = cursor.lines
    if count:
        for stored in turns_of(records.forward(fd, start, end, _unnoticed), _unnoticed):
            if not count or cursor.step(stored).lines == 0:
                break
            start = stored.offset + len(stored.line) + 1
            count -= 1
    return min(start, end)


class Follower:
    """Yields turns as they are committed. Iterate it; it ends when it is closed or idle too long.

    Attributes:
        cursor: Behind the last turn that was yielded. Save ``str(cursor)`` to go on from there
            in another process.
        missed: How many numbers were given out and dropped again before they were seen.
        diverged: How often the log turned out not to be the one that was followed before
            (removed and made anew, or cut short and written again).
    """

    def __init__(
        self,
        open_folder: Callable[[], Folder],
        name: str,
        *,
        after: Cursor | None,
        damaged: OnDamage,
        idle_seconds: float | None = None,
    ) -> None:
        self.cursor = after or Cursor()
        self.diverged = 0
        self.missed = 0
        self._has_changed = after is not None  # since the last turn: some may be gone
        self._open_folder = open_folder
        self._folder: Folder | None = None
        self._file = f"{name}.jsonl"
        self._damaged = damaged
        self._idle_seconds = idle_seconds
        self._fd = self._held = -1  # first of all, for whoever clears up
        self._identity = (0, 0)
        self._offset = 0
        self._shape = (-1, -1)
        # Where the lines read last began, what they were, and the cursors behind them.
        self._seen: deque[tuple[int, str, Cursor]] = deque(maxlen=_REMEMBERED_LINES)
        self._closed = False

    def __iter__(self) -> Generator[StoredTurn]:
        wait = SHORTEST_WAIT_SECONDS
        idle_since = time.monotonic()
        try:
            while not self._closed:
                found = False
                for stored in self.look():
                    found = True
                    yield stored
                    if self._is_closed():
                        return
                now = time.monotonic()
                if found:
                    wait, idle_since = SHORTEST_WAIT_SECONDS, now
                    continue
                if self._idle_seconds is not None and now - idle_since >= self._idle_seconds:
                    return
                time.sleep(wait)
                wait = min(wait * 1.2, LONGEST_WAIT_SECONDS)
        finally:
            # Here and not in ``close``: another thread must not close what this one reads, since
            # the number may be another file's by the next read.
            self.release()

    def attach(self) -> None:
        """Open the log and find the place in it now, instead of with the first turn."""
        if self._fd < 0 and self._stat() is not None:
            self._change_over()

    def close(self) -> None:
        """End the iteration: within 0.25 s, from any thread."""
        self._closed = True

    def release(self) -> None:
        """Give back what is held open. Not while another thread iterates."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        self._hold(-1)
        self._folder = None

    def __del__(self) -> None:
        self.release()

    def _is_closed(self) -> bool:
        return self._closed

    def look(self) -> Generator[StoredTurn]:
        """Yield what was committed since the last look, and end."""
        # First where the name leads, then the rest of the file we have: once the name leads
        # elsewhere nobody appends to the old file, so this reads all of it.
        named = self._stat()
        if self._fd >= 0:
            yield from self._drain()
            if named is None or (named.st_dev, named.st_ino) == self._identity:
                return
        if named is not None and not self._closed:
            self._change_over()
            if self._fd >= 0:
                yield from self._drain()

    def _stat(self) -> os.stat_result | None:
        """Return what the log's name leads to, or ``None``; the folder too may come and go."""
        try:
            if self._folder is None or not self._folder.is_current():
                self._folder = None
                self._folder = self._open_folder()
            try:
                return self._folder.stat(self._file)
            except FileNotFoundError:
                return self._folder.stat(f"{self._file}.zst")  # it may lie compressed
        except FileNotFoundError:
            return None

    def _drain(self) -> Iterator[StoredTurn]:
        found = os.fstat(self._fd)
        size = found.st_size
        # The time too: a healed tail and the turn after it may be of one length.
        if (size, found.st_mtime_ns) == self._shape:
            return
        self._shape = (size, found.st_mtime_ns)
        if size < self._offset or not self._last_is_there(size):
            self._cut_short(size)
        end = lines.finished_end(self._fd, size, start=self._offset)
        told: list[records.Damage] = []
        for stored in turns_of(
            records.forward(self._fd, self._offset, end, told.append), told.append
        ):
            self._tell(told)
            self._count_missed(stored)
            self._offset = stored.offset + len(stored.line) + 1
            self.cursor = self.cursor.step(stored)
            self._seen.append((stored.offset, codec.line_crc(stored.line), self.cursor))
            yield stored
        # Damage that no turn follows may yet be healed, or be a batch in the making: it is told
        # once a turn has come behind it.

    def _count_missed(self, stored: StoredTurn) -> None:
        """Count a gap in the numbers behind the place where the log was replaced: unseen turns."""
        if self._has_changed and stored.seq is not None:
            if self.cursor.seq:
                self.missed += max(0, stored.seq - self.cursor.seq - 1)
            self._has_changed = False

    def _tell(self, told: list[records.Damage]) -> None:
        for damage in told:
            self._damaged(damage)
        told.clear()

    def _last_is_there(self, size: int) -> bool:
        """Whether the line that was read last still stands where it stood."""
        if not self._seen:
            return True
        offset, crc, _ = self._seen[-1]
        line = _line_at(self._fd, offset, size)
        return line is not None and codec.line_crc(line) == crc

    def _cut_short(self, size: int) -> None:
        """Find the last line that was read and is still there; go on behind it."""
        while self._seen:
            if self._last_is_there(size):
                offset, _, self.cursor = self._seen[-1]
                line = _line_at(self._fd, offset, size) or b""
                self._offset = offset + len(line) + 1
                return
            self._seen.pop()
        self._offset = 0
        self.cursor = Cursor()
        self.diverged += 1

    def _change_over(self) -> None:
        """Open the file that the name leads to now, and find our place in it."""
        try:
            if self._folder is None:
                return
            held = -1
            try:
                fd = self._folder.open_file(self._file, os.O_RDONLY)
                found = os.fstat(fd)
            except FileNotFoundError:
                fd, held = self._unpack(self._folder)
                found = os.fstat(held)
        except FileNotFoundError:
            return
        identity = (found.st_dev, found.st_ino)
        self._hold(held)
        if fd < 0:
            self._identity = identity
            return
        end = lines.finished_end(fd, os.fstat(fd).st_size)
        if not end and self.cursor != Cursor():
            # Just made, after a deletion: whether it goes on from our place is told by its first
            # turn. Until then the next look comes here again.
            os.close(fd)
            return
        self._shape = (-1, -1)
        place = None
        if self._fd < 0 or self._continues(fd, end):
            place = place_of(fd, end, self.cursor)
        if place is None:
            place = 0
            if self.cursor != Cursor():
                self.diverged += 1
            self.cursor = Cursor()
        self._has_changed = self._has_changed or self._fd >= 0
        old, self._fd = self._fd, fd
        if old >= 0:
            os.close(old)
        self._identity = identity
        self._offset = place
        self._remember(place)

    def _hold(self, held: int) -> None:
        """Keep the compressed file open that is read, so that its number is not given out again."""
        old, self._held = self._held, held
        if old >= 0:
            os.close(old)

    def _unpack(self, folder: Folder) -> tuple[int, int]:
        """Return a descriptor of the plain log behind a compressed one, and one of that.

        The first is -1 if it is the log that was read to its end, compressed since.
        """
        from convmem.log.compressed.cold_read import open_cold

        cold = open_cold(folder, self._file.removesuffix(".jsonl"))
        try:
            facts = cold.facts
            if (
                facts is not None
                and self._fd >= 0
                and (facts.plain_bytes, facts.last_seq) == (self._offset, self.cursor.seq)
            ):
                os.close(cold.fd)
                return -1, cold.source()
            cold.fill()
            if facts is None:  # no turn will follow in this file, with which it would be told
                end = max(cold.holes, default=0)
                self._damaged(records.Damage(end, 0, cold.holes.get(end, "")))
            return cold.fd, cold.source()
        finally:
            cold.close()

    def _remember(self, place: int) -> None:
        """Note the lines before *place*, as if they had been read: the log may be cut there."""
        self._seen.clear()
        before = []
        for stored in turns_of(records.backward(self._fd, place, _unnoticed), _unnoticed):
            before.append(stored)
            if len(before) == _REMEMBERED_AT_FIRST:
                break
        cursor = Cursor()
        for stored in reversed(before):
            cursor = cursor.step(stored)
            self._seen.append((stored.offset, codec.line_crc(stored.line), cursor))

    def _continues(self, fd: int, end: int) -> bool:
        """Whether the new file is the one we have, compacted or with old turns brought back.

        The first number that stands in both decides. Without this, a log that was removed and has
        grown past our place would pass for it.
        """
        if self._has_our_turn(fd, end) or self._remembers_our_seq(fd, end):
            return True
        ours = _numbered(self._fd, os.fstat(self._fd).st_size)
        seq, line = next(ours, (0, b""))
        earliest = None
        for their_seq, theirs in _numbered(fd, end):
            if their_seq > self.cursor.seq:
                break
            while 0 < seq < their_seq:
                seq, line = next(ours, (0, b""))
            if seq == their_seq:
                return codec.line_crc(theirs) == codec.line_crc(line) or (
                    _is_scrubbed(theirs) and codec.id_of(theirs) == codec.id_of(line)
                )
            earliest = earliest or theirs
        # Nothing of ours is left in it. What was brought back was said before our last turn, what
        # was recorded in a log made anew was said after it.
        return earliest is None or not self._was_said_after_ours(earliest)

    def _was_said_after_ours(self, theirs: bytes) -> bool:
        if not self._seen:
            return True
        last = _line_at(self._fd, self._seen[-1][0], os.fstat(self._fd).st_size)
        ours, other = codec.parse(last or b""), codec.parse(theirs)
        if ours is None or other is None or ours.ts is None or other.ts is None:
            return True
        return other.ts > ours.ts

    def _remembers_our_seq(self, fd: int, end: int) -> bool:
        """Whether the new file ends by saying that numbers as high as ours were given out."""
        for _, _, data in lines.backward(fd, end):
            is_floor = data is not None and codec.is_intact(data) and codec.is_seq_floor(data)
            return is_floor and data is not None and (codec.seq_of(data) or 0) >= self.cursor.seq
        return False

    def _has_our_turn(self, fd: int, end: int) -> bool:
        """Whether the turn that was yielded last stands in the new file."""
        if not self.cursor.seq or self.cursor.crc == ANY_TURN:
            return False
        start = records.offset_after(fd, end, self.cursor.seq - 1)
        for _, _, data in lines.forward(fd, start, end, block=64 << 10):
            if data is None or codec.fault_of(data) is not None:
                continue
            if codec.seq_of(data) is not None:
                return codec.line_crc(data) == self.cursor.crc or _is_scrubbed(data)
        return False


def _numbered(fd: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the line of each intact turn that has one."""
    for _, _, line in lines.forward(fd, 0, end, block=64 << 10):
        if line is None or codec.fault_of(line) is not None or codec.is_seq_floor(line):
            continue
        seq = codec.seq_of(line)
        if seq is not None:
            yield seq, line


def _is_scrubbed(line: bytes) -> bool:
    """Whether the line stands where another one stood: what that said is gone for good."""
    from convmem.log.removing.scrub_marker import is_marker  # hardly ever asked

    return is_marker(line)


def _line_at(fd: int, offset: int, end: int) -> bytes | None:
    """Return the finished line that begins at *offset*, if one does before *end*."""
    for _, _, line in lines.forward(fd, offset, end, block=4096):
        return line
    return None


def _unnoticed(damage: records.Damage) -> None:
    """Told when it is read, not when a place is looked for."""
