"""After a crash: where the committed part of a log ends, and what becomes of the rest.

The rest (a torn line, bytes that were never written, half a batch) goes to the quarantine byte
for byte before the log is cut, so that no crash in between can lose it. Always under the lock.
"""

from __future__ import annotations

import os

from convmem.log import codec, lines, records
from convmem.log.files import sync_data, temporary_name, write_all, write_aside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem.log.files import Folder
    from convmem.log.records import Damage, Record

QUARANTINE = ".quarantine"
_COPY_BLOCK = 1 << 20
_CLAIMS_BYTES = 1 << 20


class End:
    """The end of a log: ``committed`` bytes, the highest ``seq`` so far."""

    __slots__ = ("committed", "last_seq")

    def __init__(self, committed: int, last_seq: int) -> None:
        self.committed = committed
        self.last_seq = last_seq


def find_end(fd: int, size: int) -> End:
    """Return the end of the committed part of ``[0, size)``, reading backwards from there.

    Damaged lines behind the last turn stay if all of them seem to have been turns: they may have
    been answered, and repair may still make turns of them. A hole, part of a batch, or what never
    was a turn goes, and all behind it.
    """
    finished = lines.finished_end(fd, size)
    claimed = unread = 0
    is_torn = False

    def note(damage: Damage) -> None:
        nonlocal claimed, is_torn, unread
        claims = 0
        if damage.reason not in (codec.HALF_BATCH, codec.NUL):
            # It may have been answered: its seq is spent.
            claims, seals = _claims(fd, damage)
            unread += seals if not claims else 0
        claimed = max(claimed, claims)
        is_torn = is_torn or not claims

    last = committed = 0
    for record in records.backward(fd, finished, note):
        last = records.highest_seq(fd, record.end, records.last_seq(fd, record.end + 1))
        # Of a batch that lost its closing line the numbers up to that one are spent.
        missing = _missing_of_batch(record)
        last = max(last, (codec.seq_of(record.data) or 0) + missing if missing else 0)
        committed = _end_of_batch(fd, record, finished)
        break
    if not is_torn:
        committed = finished
    # What damage claims is believed only where it could be so.
    last = claimed if last < claimed <= last + 1_000_000 else last
    return End(committed, last + unread)


def _claims(fd: int, damage: Damage) -> tuple[int, int]:
    """Return the highest ``seq`` that damaged bytes seem to have had, and how many seals they have.

    They may be several lines. Both are 0 where none of them seems to have been a whole one of ours.
    """
    length = min(damage.length, _CLAIMS_BYTES)
    start = os.pread(fd, length, damage.offset)
    end = os.pread(fd, length, damage.offset + damage.length - length)
    seals = max(codec.count_of_seals(start), codec.count_of_seals(end))
    if not seals:
        return 0, 0
    return max([0, *codec.claimed_seqs(start), *codec.claimed_seqs(end)]), seals


def _end_of_batch(fd: int, record: Record, finished: int) -> int:
    """Return where the batch of the last good *record* ends, its damaged last lines included."""
    end = record.end + 1
    missing = _missing_of_batch(record)
    for _, line_end, data in lines.forward(fd, end, finished):
        if missing <= 0:
            break
        missing -= 1 if data is None else max(1, codec.count_of_seals(data))
        end = line_end + 1
    return end


def _missing_of_batch(record: Record) -> int:
    """Return how many turns of the batch of *record* came behind it."""
    mark = codec.batch_mark(record.data) if codec.is_sealed(record.data) else None
    return 0 if mark is None else mark[2] - 1 - mark[1]


def is_unterminated_turn(fd: int, start: int, size: int) -> bool:
    """Whether ``[start, size)`` is one whole turn that lacks nothing but its newline."""
    if not 0 < size - start <= lines.MAX_LINE_BYTES:
        return False
    line = os.pread(fd, size - start, start)
    return (
        b"\n" not in line
        and codec.fault_of(line) is None
        and (not codec.is_sealed(line) or codec.batch_mark(line) is None)
    )


def heal(folder: Folder, name: str, fd: int, size: int) -> tuple[End, str | None]:
    """Make the log end with a whole line; return its end and the quarantine file, if one was made.

    The caller holds the lock. Whatever crashes in here, the next call finishes: the quarantine
    file's name follows from its place and its content.
    """
    if is_unterminated_turn(fd, lines.finished_end(fd, size), size):
        write_all(fd, b"\n")
        sync_data(fd)
        size += 1
    end = find_end(fd, size)
    if end.committed == size:
        return end, None
    kept = set_aside(folder, name, fd, [(end.committed, size)])
    os.ftruncate(fd, end.committed)
    sync_data(fd)
    return end, kept


def set_aside(folder: Folder, name: str, fd: int, spans: list[tuple[int, int]]) -> str:
    """Copy the byte *spans* of a log into one quarantine file, durably; return its name."""
    import hashlib  # a tenth of a short command's time, and hardly ever needed

    digest = hashlib.sha256()
    for chunk in _chunks(fd, spans):
        digest.update(chunk)
    target = f"{name}.{spans[0][0]}.{digest.hexdigest()[:16]}.bin"
    quarantine = folder.subfolder(QUARANTINE)
    try:
        write_aside(quarantine, target, temporary_name(name), _chunks(fd, spans))
    finally:
        quarantine.close()
    return target


def _chunks(fd: int, spans: list[tuple[int, int]]) -> Iterator[bytes]:
    for start, end in spans:
        at = start
        while at < end:
            data = os.pread(fd, min(_COPY_BLOCK, end - at), at)
            if not data:
                return
            yield data
            at += len(data)
