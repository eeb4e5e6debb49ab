"""Appending to one log: check, number, write once under the lock; sync outside it.

What this holds of the log (how long it is, the last ``seq``, some ids) is only a hint that saves
reading: every append first looks whether the file is still the same and as long as it was left.
"""

from __future__ import annotations

import errno
import os
import time

from convmem.errors import (
    ConvmemError,
    DurabilityUnknown,
    StorageError,
    StorageFull,
    TurnConflict,
    storage_error,
)
from convmem.log import codec, heal, records
from convmem.log.ahead import search_ahead
from convmem.log.durability import OpenLog
from convmem.log.files import forget_cached, write_all
from convmem.log.known_ids import KnownIds
from convmem.log.locks import SidecarLock
from convmem.log.removing import deleted
from convmem.quantities import moment_and_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from convmem.log.ahead import Ahead
    from convmem.log.files import Folder
    from convmem.log.removing.tombstones import Buried
    from convmem.log.sheet import Sheet, SheetAnswers
    from convmem.turns import Draft, Turn

# What others appended since is read line by line up to this much, else the end is sought anew.
_CATCH_UP_BYTES = 1 << 20


class FolderGone(StorageError):
    """The folder that held the log was removed, moved or replaced while we had it open."""


class Written:
    """Turns that are in the log and wait for their sync.

    ``answers`` has, for each draft or row of a sheet, its turn or the conflict that kept it out.
    Call ``settle`` or ``let_go``, once.
    """

    __slots__ = ("answers", "bytes", "count", "failure", "log", "ticket", "waited_seconds")

    def __init__(
        self,
        answers: list[Turn | TurnConflict] | SheetAnswers,
        log: OpenLog,
        count: int,
        bytes: int,
        failure: StorageError | None,
        waited_seconds: float,
    ) -> None:
        self.answers = answers
        self.log = log
        self.ticket = log.written
        self.count = count
        self.bytes = bytes
        self.failure = failure
        self.waited_seconds = waited_seconds

    def conflicts(self) -> list[TurnConflict]:
        """Return the conflicts among the answers."""
        if not isinstance(self.answers, list):
            return []  # of a sheet all was new
        return [answer for answer in self.answers if isinstance(answer, TurnConflict)]


class Log:
    """The writing side of one log. Safe for any number of threads."""

    __slots__ = (
        "_committed",
        "_file",
        "_is_new",
        "_known",
        "_known_last_seq",
        "_last_seq",
        "_lock",
        "_open",
        "_path",
        "folder",
        "name",
    )

    def __init__(
        self,
        folder: Folder,
        name: str,
        known_last_seq: Callable[[Folder, str], int] | None = None,
    ) -> None:
        self.folder = folder
        self.name = name
        self._known_last_seq = known_last_seq  # to others, who may know what damage has taken
        self._file = f"{name}.jsonl"
        self._path = os.path.join(folder.path, self._file)
        self._lock = SidecarLock(folder, name)
        self._open: OpenLog | None = None
        self._committed = -1
        self._last_seq = 0
        self._is_new = False
        self._known = KnownIds()

    def write(
        self,
        drafts: list[Draft] | Sheet,
        *,
        is_batch: bool,
        timeout_seconds: float,
        healed: Callable[[str], None],
        buried: Buried | None = None,
    ) -> Written:
        """Append *drafts* in one write: all or none with *is_batch*, else the lines that fit.

        A draft whose id is there already is answered with the turn that was stored first. With
        *is_batch* a conflict keeps out all; else each is among the answers. With *buried* nothing
        is written if more was buried since: ``BuriedMeanwhile``.

        Raises:
            LockTimeout, TurnConflict, StorageFull, StorageError, DurabilityUnknown, FolderGone
        """
        if isinstance(drafts, list):
            given = [draft.id for draft in drafts if draft.is_given]
        else:
            given = list(drafts.given.values())
        ahead = search_ahead(self.folder, self.name, given, self._known) if given else None
        waited = self._acquire(timeout_seconds)
        try:
            if buried is not None:
                # Whoever deletes buries first, and then takes this lock to move the log away.
                buried.check(self.folder, self.name)
            if isinstance(drafts, list):
                return self._write_locked(drafts, is_batch, ahead, healed, waited)
            return self._write_sheet(drafts, ahead, healed, waited)
        except (TurnConflict, DurabilityUnknown):
            raise  # nothing was written, and what is believed of the file still holds
        except BaseException as error:
            self._remove_if_made_in_vain()
            if self._open is not None and getattr(error, "errno", None) == errno.EIO:
                forget_cached(self._open.fd)  # a sync in healing may have failed
            self._forget()
            if isinstance(error, OSError):
                raise storage_error(error, f"cannot append to {self._path}") from error
            raise
        finally:
            self._lock.release()

    def make(self, timeout_seconds: float, healed: Callable[[str], None]) -> None:
        """Make the log, without a turn, if it is not there."""
        self._acquire(timeout_seconds)
        try:
            self._current(healed, create=True)
            self._is_new = False
        except BaseException:
            self._forget()
            raise
        finally:
            self._lock.release()

    def adopt(self, inner: Folder, file_name: str, last_seq: int, timeout_seconds: float) -> bool:
        """Make a file of the folder *inner* the log, durably. Its last ``seq`` is *last_seq*.

        ``False`` where there is a log, or where one that was deleted later went on from there.
        """
        self._acquire(timeout_seconds)
        try:
            if deleted.last_seq(self.folder, self.name) > last_seq:
                return False
            if self.folder.has(self._file) or self.folder.has(f"{self._file}.zst"):
                return False
            self._forget()
            self.folder.take(inner, file_name, self._file)
            inner.sync()
            self.folder.sync()
            return True
        finally:
            self._lock.release()

    def unmake(self, timeout_seconds: float) -> None:
        """Remove the log if there is nothing in it."""
        self._acquire(timeout_seconds)
        try:
            if self.folder.stat(self._file).st_size == 0:
                self.folder.remove(self._file)
                self._forget()
        except OSError:
            return  # it is gone, or it is empty and does no harm
        finally:
            self._lock.release()

    def with_lock(
        self, timeout_seconds: float, healed: Callable[[str], None]
    ) -> tuple[OpenLog, int, int]:
        """Take the lock, heal, and return (open log, committed bytes, last ``seq``).

        The caller calls ``unlock``, also when this log's file is replaced meanwhile.
        """
        self._acquire(timeout_seconds)
        try:
            return self._current(healed, create=False), self._committed, self._last_seq
        except BaseException:
            self._forget()
            self._lock.release()
            raise

    def unlock(self) -> None:
        """Let the lock go that ``with_lock`` took."""
        self._lock.release()

    def __del__(self) -> None:
        log, self._open = self._open, None
        if log is not None:
            log.let_go()

    def close_if_idle(self) -> bool:
        """Give the descriptors back unless somebody is at work here, or a sync has failed."""
        if self._open is not None and self._open.failed is not None:
            return False
        # While the thread lock is held: a writer that comes in between must not find its
        # descriptor closed, since the number may be another log's by then.
        return self._lock.close_if_idle(self._forget)

    def _write_locked(
        self,
        drafts: Sequence[Draft],
        is_batch: bool,
        ahead: Ahead | None,
        healed: Callable[[str], None],
        waited_seconds: float,
    ) -> Written:
        log = self._current(healed, create=True)
        start, first = self._committed, self._last_seq + 1
        now, now_text = moment_and_text(time.time_ns() // 1000)
        if ahead is not None:
            ahead.hand_on(log, self._known, start)
        if ahead is not None or self._known.is_kept:
            self._known.extend(log.fd, start)
        answers: list[Turn | TurnConflict]
        if ahead is None:
            fresh = drafts
            answers = [draft.stored_as(seq, now) for seq, draft in enumerate(drafts, first)]
        else:
            answers, fresh = ahead.answers(log, start, drafts, first, now)
            if is_batch:
                for answer in answers:
                    if isinstance(answer, TurnConflict):
                        raise answer
        failure = None
        if fresh:
            kept, error = self._put(log, lines_of(fresh, first, now_text, is_batch), is_batch)
            if error is not None:
                failure = _in_part(error, self._path, answers, first + kept)
                fresh = fresh[:kept]
            if self._known.is_kept:
                self._known.add(
                    [draft.id for draft in fresh], self._committed, were_given=ahead is not None
                )
        else:
            # All were known from before a deletion: no conversation begins with that.
            self._remove_if_made_in_vain()
        # Also for a turn that was known: who wrote it may have died before the sync.
        log.written += 1
        log.use()
        return Written(answers, log, len(fresh), self._committed - start, failure, waited_seconds)

    def _put(self, log: OpenLog, lines: list[bytes], is_batch: bool) -> tuple[int, OSError | None]:
        """Write lines that are numbered on from the last; return how many stay, and why not all.

        Raises: Why none stays.
        """
        data = lines[0] if len(lines) == 1 else b"".join(lines)
        start, kept, failure = self._committed, len(lines), None
        try:
            write_all(log.fd, data)
        except BaseException as error:
            kept = self._roll_back(log, start, lines, is_batch)
            if kept == 0 or not isinstance(error, OSError):
                raise
            failure = error
            data = b"".join(lines[:kept])
        self._is_new = False
        self._committed = start + len(data)
        self._last_seq += kept
        return kept, failure

    def _write_sheet(
        self,
        sheet: Sheet,
        ahead: Ahead | None,
        healed: Callable[[str], None],
        waited_seconds: float,
    ) -> Written:
        """Do what ``_write_locked`` does without looking at single turns, if all are new."""
        log = self._current(healed, create=True)
        start, first = self._committed, self._last_seq + 1
        if ahead is not None:
            ahead.hand_on(log, self._known, start)
        if ahead is not None or self._known.is_kept:
            self._known.extend(log.fd, start)
        if ahead is not None and not self._are_new(log, sheet, ahead):
            return self._write_locked(list(sheet), False, ahead, healed, waited_seconds)
        from convmem.log.sheet import SheetAnswers  # there is none without its room

        _, now_text = moment_and_text(time.time_ns() // 1000)
        answers = SheetAnswers(sheet, first, now_text)
        kept, error = self._put(log, sheet.lines(first, now_text), False)
        failure = None if error is None else _in_part(error, self._path, answers, first + kept)
        if self._known.is_kept:
            ids = [sheet.id_of(row) for row in range(kept)]
            self._known.add(ids, self._committed, were_given=ahead is not None)
        log.written += 1
        log.use()
        return Written(answers, log, kept, self._committed - start, failure, waited_seconds)

    def _are_new(self, log: OpenLog, sheet: Sheet, ahead: Ahead) -> bool:
        """Whether certainly no id that the sheet's turns came with was seen before."""
        ids = sheet.given.values()
        if len(set(ids)) < len(ids) or ahead.knows_dropped():
            return False
        if self._known.is_kept:
            return not self._known.perhaps(ids)
        return self._committed == 0 or ahead.knows_none(log, self._committed)

    def _remove_if_made_in_vain(self) -> None:
        """A first turn that could not be stored must not leave a conversation without turns."""
        log, self._is_new = self._open if self._is_new else None, False
        try:
            if log is not None and os.fstat(log.fd).st_size == 0:
                self.folder.remove(self._file)
        except OSError:
            return  # it is empty, and does no harm

    def _acquire(self, timeout_seconds: float) -> float:
        try:
            return self._lock.acquire(timeout_seconds)
        except StorageError as error:
            if not self.folder.is_current():
                raise self._folder_gone() from error
            raise

    def _folder_gone(self) -> FolderGone:
        return FolderGone(
            f"the folder {self.folder.path} is gone",
            hint="it was removed, moved or replaced while convmem had it open",
        )

    def _current(self, healed: Callable[[str], None], *, create: bool) -> OpenLog:
        """Return the open log that the name leads to now, whole to its last byte."""
        log = self._open
        if log is not None and log.failed is not None:
            raise DurabilityUnknown(
                f"{self._path}: an earlier sync failed: {log.failed}",
                hint="open the archive again and retry the unanswered ids",
            )
        # A conversation is what its path leads to now, not where the folder was moved since.
        try:
            found = os.lstat(self._path)
        except OSError:
            found = None
        if log is None or found is None or (found.st_dev, found.st_ino) != log.identity:
            if not self.folder.is_current():
                raise self._folder_gone()
            log = self._reopen(healed, create=create)
            size = os.fstat(log.fd).st_size
        else:
            size = found.st_size
        if size != self._committed:
            self._catch_up(log, size, healed)
        return log

    def _reopen(self, healed: Callable[[str], None], *, create: bool) -> OpenLog:
        last_seq = self._last_seq
        self._forget()
        flags = os.O_RDWR | os.O_APPEND
        for _ in range(100):
            try:
                fd = self.folder.open_file(self._file, flags)
                break
            except FileNotFoundError:
                if self._thaw(healed, last_seq):
                    continue
                if not create:
                    raise
            try:
                fd = self.folder.open_file(self._file, flags | os.O_CREAT)
                self._is_new = True
                break
            except FileExistsError:
                continue  # made by hand in this very moment
        else:
            raise ConvmemError(f"{self._path} comes and goes; giving up")
        self._open = OpenLog(self.folder, self._file, fd)
        self._last_seq = last_seq
        # Another file: a compaction of the one we knew, or one that was made anew.
        self._known.forget()
        return self._open

    def _thaw(self, healed: Callable[[str], None], last_seq: int) -> bool:
        """Make the log plain again if it lies compressed; say whether it did.

        One that is damaged goes to the quarantine, and what is left of it goes on.
        """
        try:
            self.folder.stat(f"{self.name}.jsonl.zst")
        except FileNotFoundError:
            return False
        from convmem.log.compressed import cold

        was_there, kept = cold.thaw_or_salvage(
            self.folder, self.name, lambda: self.known_last_seq(last_seq)
        )
        if kept is not None:
            healed(kept)
        return was_there

    def known_last_seq(self, at_least: int = 0) -> int:
        """Return the highest ``seq`` that is known to have been given out, but for the log's."""
        known = max(at_least, self._last_seq)
        if self._known_last_seq is not None:
            known = max(known, self._known_last_seq(self.folder, self.name))
        return known

    def _catch_up(self, log: OpenLog, size: int, healed: Callable[[str], None]) -> None:
        known = self._committed
        if 0 <= known < size <= known + _CATCH_UP_BYTES and (
            known == 0 or os.pread(log.fd, 1, known - 1) == b"\n"
        ):
            end = known
            for record in records.forward(log.fd, known, size, _unnoticed):
                end = record.end + 1
                self._last_seq = max(self._last_seq, codec.seq_of(record.data) or 0)
            if end == size:
                self._committed = size
                return
        if size < known:
            self._known.forget()
        if size == 0:
            self._committed = 0
            self._go_on_from_a_deleted_one()
            return
        end_found, kept = heal.heal(self.folder, self.name, log.fd, size)
        self._committed = end_found.committed
        # Never below what we gave out: a seq that was answered is not used again.
        self._last_seq = max(self._last_seq, end_found.last_seq)
        if not end_found.last_seq:
            self._go_on_from_a_deleted_one()
        if kept is not None:
            healed(kept)

    def _go_on_from_a_deleted_one(self) -> None:
        """A log of that name may have been deleted: its numbers are not given out again."""
        self._last_seq = max(self._last_seq, deleted.last_seq(self.folder, self.name))

    def _roll_back(self, log: OpenLog, start: int, written: list[bytes], is_batch: bool) -> int:
        """Take a part-written append back; return how many of its lines stay.

        Lines that are whole may have been read already: where each stands for itself they stay.
        """
        present = os.fstat(log.fd).st_size - start
        end = 0
        whole = 0
        for line in written:
            if end + len(line) > present:
                break
            end += len(line)
            whole += 1
        if whole == len(written):
            return whole  # an interrupt that came after the write
        if is_batch:
            end = whole = 0
        try:
            os.ftruncate(log.fd, start + end)
        except OSError:
            # The next append finds the torn end and heals it; the write's own error is raised.
            return whole
        return whole

    def _forget(self) -> None:
        """Drop what is believed of the file: after any failure nothing of it is certain."""
        self._committed = -1
        log = self._open
        # One whose sync failed stays, so that the failure stays known.
        if log is not None and log.failed is None:
            self._open = None
            log.let_go()


def lines_of(drafts: Sequence[Draft], first: int, now_text: str, is_batch: bool) -> list[bytes]:
    """Return the lines that store *drafts* as the turns from *first* on."""
    count = len(drafts)
    batch = os.urandom(4).hex() if is_batch and count > 1 else None
    return [
        codec.turn_line(
            draft,
            first + at,
            draft.ts_text or now_text,
            None if batch is None else (batch, at, count),
        )
        for at, draft in enumerate(drafts)
    ]


def _in_part(
    error: OSError, where: str, answers: Iterable[Turn | TurnConflict], first_lost: int
) -> StorageError:
    """Return the error of a write that did not get as far as turn *first_lost*, with the others."""
    failure = storage_error(error, f"cannot append to {where}")
    if isinstance(failure, StorageFull):
        failure.answers = [
            answer if isinstance(answer, TurnConflict) or (answer.seq or 0) < first_lost else None
            for answer in answers
        ]
        failure.stored = [
            answer
            for answer in failure.answers
            if answer is not None and not isinstance(answer, TurnConflict)
        ]
        failure.hint = f"{len(failure.stored)} turns before it were kept; make room and try again"
    return failure


def _unnoticed(damage: records.Damage) -> None:
    """Damage in the middle stays where it is; readers tell of it."""
