"""Reading one log: the newest turns from its end, or all of them in order. Takes no lock.

Readers see what is committed when they look: a turn being written meanwhile is there whole or not
at all. They never write.
"""

from __future__ import annotations

import os
import time

from convmem.errors import CorruptLog, storage_error
from convmem.log import codec, lines, records
from convmem.log.files import read_exactly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from convmem.log.compressed.cold_file import ColdFacts
    from convmem.log.compressed.cold_read import Remnant, Unpacked
    from convmem.log.files import Folder
    from convmem.log.records import OnDamage, Record
    from convmem.turns import Turn


# How long a reader watches an unfinished last line before it calls it torn.
_WRITING_SECONDS = 0.02
_MOST_LOOKS = 3
# What is read of a log's end on opening it: twenty turns of a few lines each.
_LAST_BLOCK = 8 << 10
_MOST_AT_ONCE = 1 << 20


class StoredTurn:
    """A committed turn: its line as it stands, and the turn in it, parsed when asked for."""

    __slots__ = ("_turn", "line", "offset")

    def __init__(self, line: bytes, offset: int, turn: Turn | None = None) -> None:
        self.line = line
        self.offset = offset
        self._turn = turn

    @property
    def turn(self) -> Turn:
        """The turn; a copy of its own for each stored turn."""
        if self._turn is None:
            parsed = codec.parse(self.line)
            if parsed is None:
                raise CorruptLog(f"a sealed line is no turn (byte {self.offset})")
            self._turn = parsed
        return self._turn

    @property
    def is_sealed(self) -> bool:
        """Whether convmem wrote the line; else somebody did by hand."""
        return codec.is_sealed(self.line)

    @property
    def seq(self) -> int | None:
        """The turn's ``seq``, without parsing the rest where possible."""
        return codec.seq_of(self.line) if self.is_sealed else self.turn.seq

    @property
    def role(self) -> str:
        """The turn's role, without parsing the rest where possible."""
        head = codec.head_of(self.line) if self.is_sealed else None
        if head is None or b"\\" in head[3]:
            return self.turn.role
        return str(head[3][1:-1], "utf-8")


class Filter:
    """Which turns a reader wants. An empty filter wants all.

    A turn without a readable time is outside every range of time.
    """

    __slots__ = ("roles", "since", "until")

    def __init__(
        self,
        *,
        roles: frozenset[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        self.roles = roles
        self.since = since
        self.until = until

    @property
    def wants_all(self) -> bool:
        """Whether every turn passes."""
        return self.roles is None and self.since is None and self.until is None

    def wants(self, stored: StoredTurn) -> bool:
        """Whether the turn passes."""
        if self.roles is not None and stored.role not in self.roles:
            return False
        if self.since is None and self.until is None:
            return True
        moment = stored.turn.ts
        if moment is None or (self.since is not None and moment < self.since):
            return False
        return self.until is None or moment < self.until


class Reader:
    """An open log for one reading, as long as it was when it was opened.

    ``end`` is where its last finished line ends. Close it, or use it as a context manager. A log
    that lies compressed is unpacked as far as it is read.
    """

    __slots__ = ("_cold", "_fd", "_last_block", "_path", "end", "size")

    def __init__(self, folder: Folder, name: str) -> None:
        self._path = os.path.join(folder.path, f"{name}.jsonl")
        self._cold: Unpacked | Remnant | None = None
        try:
            self._fd = folder.open_file(f"{name}.jsonl", os.O_RDONLY)
        except FileNotFoundError:
            self._fd, self._cold = _open_cold(folder, name)
        self.size = self.end = os.lseek(self._fd, 0, os.SEEK_END)
        self._last_block = b""
        if self._cold is None:  # else only whole lines were compressed
            take = min(_LAST_BLOCK, self.size)
            self._last_block = read_exactly(self._fd, take, self.size - take)
            if self._last_block[-1:] != b"\n":
                self.end = lines.finished_end(self._fd, self.size)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()
        if isinstance(error, OSError):
            raise storage_error(error, f"cannot read {self._path}") from error

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    @property
    def fd(self) -> int:
        """A descriptor of the whole plain log."""
        if self._cold is not None:
            self._cold.fill()
        return self._fd

    @property
    def cold_facts(self) -> ColdFacts | None:
        """What a compressed log says of itself, had without unpacking.

        ``None`` of a plain one, and of one whose end is damaged.
        """
        return None if self._cold is None else self._cold.facts

    @property
    def holes(self) -> dict[int, str] | None:
        """Where a compressed log does not unpack, and what of it; ``None`` of a plain log."""
        if self._cold is None:
            return None
        self._cold.fill()
        return self._cold.holes

    def close(self) -> None:
        """Close the descriptor."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        if self._cold is not None:
            self._cold.close()

    def newest_at_once(self, count: int) -> list[StoredTurn] | None:
        """Return the last *count* turns, oldest first, from one block at the log's end.

        Where they begin inside a batch, that is looked through for holes, some 2 GB a second.
        ``None`` where the block would be too long, or any line there is unusual: ``newest_first``
        can tell then, at twice the cost.
        """
        if self.end != self.size or not self._last_block:
            return None
        found = self._last_lines(count)
        if found is None or not codec.are_intact(found) or codec.leaves_a_batch_open(found):
            return None
        offset = self.end - sum(map(len, found)) - len(found)
        if (
            found
            and codec.place_in_batch(found[0])
            and not records.is_whole_before(self._fd, offset, found)
        ):
            return None
        turns = codec.parse_all(found)
        if turns is None:
            return None
        stored = []
        for line, turn in zip(found, turns, strict=True):
            stored.append(StoredTurn(line, offset, turn))
            offset += len(line) + 1
        return stored

    def _last_lines(self, count: int) -> list[bytes] | None:
        """Return the last *count* lines, or all there are; ``None`` where they are too long."""
        data = self._last_block
        while True:
            found = data.rsplit(b"\n", count + 1)
            found.pop()
            if len(found) > count:
                del found[0]
                return found
            if len(data) == self.end:
                return found
            if len(data) >= _MOST_AT_ONCE:
                return None
            # As much as that many lines of this length take, and some more.
            length = len(data) // max(1, len(found) - 1)
            take = min(max(2 * len(data), (count + 4) * length), _MOST_AT_ONCE, self.end)
            data = read_exactly(self._fd, take, self.end - take)
            if len(data) < take:
                return None  # cut meanwhile

    def newest_first(self, damaged: OnDamage) -> Iterator[StoredTurn]:
        """Yield the turns from the last to the first; the cost follows what is taken."""
        last = self._unterminated(damaged)
        if last is not None:
            yield last
        damaged = self._named(damaged)
        if self._cold is None:
            found = records.backward(self._fd, self.end, damaged)
        else:
            found = records.backward_among(self._cold.lines_backward(), damaged)
        yield from turns_of(found, damaged)

    def in_order(
        self, damaged: OnDamage, *, after_seq: int = 0, start: int | None = None
    ) -> Iterator[StoredTurn]:
        """Yield the turns behind *after_seq* (found by bisection), or from the byte *start* on."""
        if start is None:
            start = records.offset_after(self.fd, self.end, after_seq)
        damaged = self._named(damaged)
        yield from turns_of(records.forward(self.fd, start, self.end, damaged), damaged)
        last = self._unterminated(damaged)
        if last is not None:
            yield last

    def last_seq(self) -> int:
        """Return the highest ``seq`` that was given out, also if its turn was dropped since."""
        facts = self.cold_facts
        if facts is not None:
            return facts.last_seq
        return records.last_seq(self._fd, self.end)

    def _named(self, damaged: OnDamage) -> OnDamage:
        """Return what is told of the damage, with the words for what did not unpack."""
        cold = self._cold
        if cold is None:
            return damaged

        def tell(damage: records.Damage) -> None:
            reason = cold.holes.get(damage.offset, damage.reason)
            damaged(records.Damage(damage.offset, damage.length, reason))

        return tell

    def _unterminated(self, damaged: OnDamage) -> StoredTurn | None:
        """Return a turn that was written by hand as the last line, without a newline.

        A sealed line without its newline is one that a writer is in the middle of.
        """
        if self.size == self.end:
            return None
        if self.size - self.end <= lines.MAX_LINE_BYTES:
            line = os.pread(self.fd, self.size - self.end, self.end)
            if not codec.is_sealed(line) and codec.fault_of(line) is None:
                turn = codec.parse(line)
                if turn is not None:
                    return StoredTurn(line, self.end, turn)
        # It may be a turn that is just being written. Who writes is done within moments.
        time.sleep(_WRITING_SECONDS)
        if os.fstat(self.fd).st_size == self.size:
            damaged(records.Damage(self.end, self.size - self.end, codec.TORN))
        return None


def _open_cold(folder: Folder, name: str) -> tuple[int, Unpacked | Remnant | None]:
    """Open the log where its plain file was not there a moment ago.

    Raises:
        FileNotFoundError: It is not there at all.
    """
    for _ in range(_MOST_LOOKS):
        try:
            folder.stat(f"{name}.jsonl.zst")
            from convmem.log.compressed.cold_read import open_cold

            cold = open_cold(folder, name)
            return cold.fd, cold
        except FileNotFoundError:
            pass
        try:
            # It may have thawed between the two looks.
            return folder.open_file(f"{name}.jsonl", os.O_RDONLY), None
        except FileNotFoundError:
            continue  # and been compressed again
    raise FileNotFoundError(f"{name}.jsonl")


def turns_of(found: Iterator[Record], damaged: OnDamage) -> Iterator[StoredTurn]:
    """Yield the turns among committed records, without what convmem noted for itself."""
    for record in found:
        line = record.data
        if codec.has_head(line) and codec.is_sealed(line):
            yield StoredTurn(line, record.offset)
        elif codec.is_seq_floor(line):
            continue
        else:
            turn = codec.parse(line)
            if turn is None:
                damaged(records.Damage(record.offset, len(line), codec.NOT_A_TURN))
            else:
                yield StoredTurn(line, record.offset, turn)


def newest(
    reader: Reader, count: int | None, filter: Filter, damaged: OnDamage
) -> list[StoredTurn]:
    """Return the last *count* turns that pass, oldest first; all with ``None``."""
    taken: list[StoredTurn] = []
    if count == 0:
        return taken
    if count is not None and filter.wants_all:
        at_once = reader.newest_at_once(count)
        if at_once is not None:
            return at_once
    wants = filter.wants
    for stored in reader.newest_first(damaged):
        if wants(stored):
            taken.append(stored)
            if len(taken) == count:
                break
    taken.reverse()
    return taken
