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
    from convmem.log.records import Damage

QUARANTINE = ".quarantine"
_COPY_BLOCK = 1 << 20


class End:
    """The end of a log: ``committed`` bytes, the highest ``seq`` so far."""

    __slots__ = ("committed", "last_seq")

    def __init__(self, committed: int, last_seq: int) -> None:
        self.committed = committed
        self.last_seq = last_seq


def find_end(fd: int, size: int) -> End:
    """Return the end of the committed part of ``[0, size)``, reading backwards from there."""
    finished = lines.finished_end(fd, size)
    hinted = 0

    def note(damage: Damage) -> None:
        nonlocal hinted
        # A finished line that was damaged later may have been answered: its seq is spent.
        if damage.reason == codec.CHECKSUM:
            head = codec.head_of(os.pread(fd, 4096, damage.offset))
            if head is not None:
                hinted = max(hinted, head[1])

    for record in records.backward(fd, finished, note):
        # A seq that damage claims is believed only where it is the next of its kind.
        last = records.last_seq(fd, record.end + 1)
        return End(record.end + 1, hinted if last < hinted <= last + 1_000_000 else last)
    return End(0, hinted)


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
    end = find_end(fd, size)
    if end.committed == size:
        return end, None
    if is_unterminated_turn(fd, end.committed, size):
        write_all(fd, b"\n")
        sync_data(fd)
        return find_end(fd, size + 1), None
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
