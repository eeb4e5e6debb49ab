"""Rewriting a log while others write to it: a new file is filled aside, then put in its place.

The new file is filled without the log's lock; the lock is held only to copy what came meanwhile
and to rename. At every moment the name leads to one whole log, the old or the new.
"""

from __future__ import annotations

import os

from convmem.errors import ConvmemError, DurabilityUnknown, LockTimeout
from convmem.log import codec, heal, locks
from convmem.log.files import (
    copy_pieces,
    owner_of_temporary,
    sync_data,
    temporary_name,
    write_all,
)
from convmem.log.removing import deleted, dropped, tombstones, trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self, TypeAlias

    from convmem.log.append import Log
    from convmem.log.files import Folder, Piece

    # (subfolder, name) of files in the making that some dead process left.
    Leftovers: TypeAlias = Iterable[tuple[str, str]]

# What came meanwhile is copied without the lock until little enough is left to copy under it.
_SMALL_DELTA_BYTES = 64 << 10
_MOST_ROUNDS = 4
# Where files in the making may be, besides the folder of the log itself.
_FOLDERS = (trash.FOLDER, dropped.FOLDER, deleted.FOLDER, tombstones.FOLDER, heal.QUARANTINE)


class Rewrite:
    """One rewrite of one log; at most one goes on at a time. Use it as a context manager.

    Entering calls *prepare* and heals the log's end, as an append would. Leaving without
    ``replace`` removes the new file: the log is as it was. With *is_patient* it waits for another
    rewrite to end, up to *timeout_seconds*; else it is told so at once.

    Attributes:
        fd: The log's descriptor, for reading.
        end: Where its committed part ended on entering.
        last_seq: The highest ``seq`` given out by then.
        bytes_after: The size of the new file, once it is in place.
        is_replaced: Whether it is.

    Raises (on entering):
        LockTimeout: Another rewrite of this log is at work, or its lock is not to be had.
        FileNotFoundError: There is no such log.
    """

    def __init__(
        self,
        log: Log,
        *,
        timeout_seconds: float,
        healed: Callable[[str], None],
        leftovers: Leftovers | None = None,
        prepare: Callable[[], None] | None = None,
        is_patient: bool = False,
    ) -> None:
        self.log = log
        self.folder = log.folder
        self.bytes_after = 0
        self.is_replaced = False
        self._timeout_seconds = timeout_seconds
        self._healed = healed
        self._leftovers = leftovers
        self._prepare = prepare
        self._exclusive = exclusive(log.folder, log.name, timeout_seconds if is_patient else 0)
        self._temporary = temporary_name(log.name)
        self._target = -1

    def __enter__(self) -> Self:
        self._exclusive.__enter__()
        try:
            if self._prepare is not None:
                self._prepare()
            self.opened, self.end, self.last_seq = self.log.with_lock(
                self._timeout_seconds, self._healed
            )
            try:
                # Under both locks: healing makes such files under the one, a rewrite under
                # the other.
                leftovers = self._leftovers
                if leftovers is None:
                    leftovers = find_leftovers(self.folder).get(self.log.name, ())
                sweep(self.folder, leftovers)
                # The plain log is the truth: one beside it is what a crash has left.
                self.folder.remove(f"{self.log.name}.jsonl.zst")
                self.opened.written += 1
                self._ticket = self.opened.written
                self.opened.use()
            finally:
                self.log.unlock()
        except BaseException:
            self._exclusive.__exit__()
            raise
        self.fd = self.opened.fd
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            target, self._target = self._target, -1
            if target >= 0:
                os.close(target)
                if not self.is_replaced:
                    self.folder.remove(self._temporary)
        finally:
            self.opened.let_go()
            self._exclusive.__exit__()

    def sync_log(self) -> None:
        """Return once all that the log held on entering survives a power cut, whoever wrote it.

        Raises:
            DurabilityUnknown: The sync failed, and nobody may use this descriptor any more.
        """
        self.opened.sync(self._ticket)

    def copy(self, pieces: Iterable[Piece]) -> None:
        """Append *pieces* to the new file. Any number of calls; without one it is empty."""
        if self._target < 0:
            self._target = self.folder.open_file(self._temporary, os.O_RDWR | os.O_CREAT)
            os.fchmod(self._target, os.fstat(self.fd).st_mode & 0o777)
        copy_pieces(self.fd, self._target, pieces)

    def restart(self) -> None:
        """Empty the new file, to fill it anew."""
        if self._target >= 0:
            os.ftruncate(self._target, 0)
            os.lseek(self._target, 0, os.SEEK_SET)

    def replace(
        self, *, seq_floor: bool = False, behind: Callable[[int], bytes] | None = None
    ) -> None:
        """Copy what others appended since, and put the new file in the log's place, durably.

        Args:
            seq_floor: Write down the highest ``seq``, unless a turn came since that has a higher:
                the new file does not hold the turn that had it.
            behind: Gets the highest ``seq``, and returns the lines of turns that go on from it, to
                stand behind all others; needs no *seq_floor*.

        Raises:
            ConvmemError: The log was replaced by something else meanwhile; it stays as it is.
        """
        self.copy(())
        done = self.end
        for _ in range(_MOST_ROUNDS):
            end, _ = self._locked_end()
            self.log.unlock()
            if end - done <= _SMALL_DELTA_BYTES:
                break
            self.copy([(done, end)])
            done = end
        # Before the rename: else a power cut may leave the name on an empty file.
        sync_data(self._target)
        end, seq_now = self._locked_end()
        try:
            last = b""
            if behind is not None:
                last = behind(seq_now)
            elif seq_floor and seq_now == self.last_seq:
                last = codec.seq_floor_line(seq_now)
            self.copy([(done, end)])
            if last:
                write_all(self._target, last)
            if last or end > done:
                sync_data(self._target)
            self.bytes_after = os.fstat(self._target).st_size
            # Said before it is so: an interrupt may come right behind the rename, and what went to
            # the trash must not be taken back then.
            self.is_replaced = True
            try:
                self.folder.rename(self._temporary, f"{self.log.name}.jsonl")
            except BaseException:
                self.is_replaced = not self.folder.has(self._temporary)
                raise
            # And the folder, while the lock is held: what is appended to the new file must not
            # be answered while a power cut could still bring the old one back.
            try:
                self.folder.sync()
            except OSError as error:
                raise DurabilityUnknown(
                    f"{self.log.name}.jsonl was rewritten, but its folder could not be synced:"
                    f" {error.strerror or error}",
                    hint="a power cut may bring the old file back; nothing of either is lost",
                    errno=error.errno,
                ) from error
        finally:
            self.log.unlock()

    def _locked_end(self) -> tuple[int, int]:
        """Take the lock and return the log's end and last ``seq``; it must be the same file."""
        opened, end, last_seq = self.log.with_lock(self._timeout_seconds, self._healed)
        if opened.identity != self.opened.identity:
            self.log.unlock()
            raise ConvmemError(
                f"{self.log.name}.jsonl was replaced while it was being rewritten",
                hint="nothing was changed; try again",
            )
        return end, last_seq


class exclusive(locks.held):  # noqa: N801 - read as a verb: with exclusive(...)
    """At most one rewrite of a log at a time; the second waits for *timeout_seconds*."""

    __slots__ = ("_name",)

    def __init__(self, folder: Folder, name: str, timeout_seconds: float = 0) -> None:
        super().__init__(folder, name, timeout_seconds, "lock.c")
        self._name = name

    def __enter__(self) -> None:
        try:
            super().__enter__()
        except LockTimeout:
            raise LockTimeout(
                f"{self._name}.jsonl is being compacted or repaired by somebody else",
                hint="nothing to do: the other one goes on; try again when it is done",
            ) from None


def find_leftovers(folder: Folder) -> dict[str, list[tuple[str, str]]]:
    """Return, for each log, the (subfolder, name) of its files in the making.

    Some may belong to work that goes on: remove them only while holding the locks of that log.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for inner_name in ("", *_FOLDERS):
        try:
            inner = folder if not inner_name else folder.existing_subfolder(inner_name)
        except FileNotFoundError:
            continue
        for entry in inner.entries():
            owner = owner_of_temporary(entry.name)
            if owner is not None:
                found.setdefault(owner, []).append((inner_name, entry.name))
        if inner is not folder:
            inner.close()
    return found


def sweep(folder: Folder, leftovers: Leftovers) -> None:
    """Remove files in the making that died with their makers; the caller keeps live ones out."""
    for inner_name, name in leftovers:
        if not inner_name:
            folder.remove(name)
            continue
        inner = folder.existing_subfolder(inner_name)
        try:
            inner.remove(name)
        finally:
            inner.close()
