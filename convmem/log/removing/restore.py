"""Bringing turns back from the trash: each to its place in the order, byte for byte.

A turn that is in both places, as after a compaction that was killed, comes back as one. What
cannot come back, since its ``seq`` or its id means another turn by now, stays in the trash.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from convmem.errors import LockTimeout, storage_error
from convmem.log import records, state
from convmem.log.read import Reader
from convmem.log.removing import trash
from convmem.log.removing.merging import Merge, Source
from convmem.log.removing.rewrite import Rewrite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from convmem.log.append import Log
    from convmem.log.files import Folder, Piece
    from convmem.log.removing.trash import TrashFile


class Restoration:
    """What came back, or would.

    Attributes:
        restored: Turns that are in the log again; ``bytes`` of their lines.
        already_there: Turns that the log had all along.
        conflicts: Turns that stay in the trash: their ``seq`` or id is another turn's by now.
        unwanted: Turns that stay in the trash since they were not asked for.
        damaged: Lines that stay there since they were damaged in it.
        first_seq, last_seq: Of the turns that came back.
        files: The files of the trash that were looked at.
        summaries: Turns that stood for what is back, as JSON objects: they left the log.
        has_state: Whether the conversation's state came back too.
        left_states: States that stay in the trash, since there is one by now, or a newer one.
    """

    def __init__(self) -> None:
        self.restored = 0
        self.bytes = 0
        self.already_there = 0
        self.conflicts = 0
        self.unwanted = 0
        self.damaged = 0
        self.first_seq: int | None = None
        self.last_seq: int | None = None
        self.files: list[str] = []
        self.summaries: list[dict[str, Any]] = []
        self.has_state = False
        self.left_states = 0

    def take(self, merge: Merge) -> None:
        """Take over what a merge found."""
        self.restored = merge.restored
        self.bytes = merge.bytes
        self.already_there = merge.already_there
        self.conflicts = merge.conflicts
        self.unwanted = merge.unwanted
        self.damaged = merge.damaged
        self.first_seq = merge.first_seq
        self.last_seq = merge.last_seq
        self.summaries = merge.summaries


def preview(
    folder: Folder, name: str, files: list[TrashFile], wants: Callable[[bytes], bool] | None
) -> Restoration:
    """Say what ``restore`` would do. Writes nothing."""
    done = Restoration()
    with ExitStack() as held:
        sources = _open_all(folder, files, held, done)
        try:
            reader = held.enter_context(Reader(folder, name))
            current = Source(reader.fd, is_log=True, end=reader.end)
        except FileNotFoundError:
            current = _nothing(held)
        done.take(_tried(sources, wants, current, _Nowhere(), _ignore))
    # A state alone does not begin a conversation.
    begins = bool(done.restored) or _is_there(folder, name)
    done.has_state = begins and _newest_state(files) is not None and not _has_state(folder, name)
    done.left_states = _states(files) - done.has_state
    return done


def restore(
    log: Log,
    files: list[TrashFile],
    *,
    wants: Callable[[bytes], bool] | None,
    timeout_seconds: float,
    healed: Callable[[str], None],
    going: Callable[[Restoration], None],
    went: Callable[[], None],
    advanced: Callable[[int], None],
) -> Restoration:
    """Put the lines of *files* that *wants* takes, or all, back into the log.

    The log is made if need be. Others may read and write meanwhile. *going* is told what comes
    back just before it does, *went* when it is there. The files of the trash go once the log is
    in place; what has to stay stays in them.

    Raises:
        LockTimeout: A compaction, repair or other restoration was at work on this log for too long.
        StorageError: The log and the trash are as they were.
    """
    done = Restoration()
    made = False
    try:
        with ExitStack() as held:
            sources = _open_all(log.folder, files, held, done)
            if not _is_there(log.folder, log.name):
                merge = _tried(sources, wants, _nothing(held), _Nowhere(), _ignore)
                done.take(merge)
                if not merge.restored:
                    return done
                is_whole = [source.is_log for source in sources] == [True] and wants is None
                if is_whole and not (merge.conflicts or merge.summaries):
                    # A log that went as a whole comes back as a whole.
                    going(done)
                    if _moved_back(log, sources[0], timeout_seconds):
                        went()
                        _put_away(log, held, files, [], merge, done, timeout_seconds)
                        return done
                made = True
            log.make(timeout_seconds, healed)
            rewrite = held.enter_context(
                Rewrite(log, timeout_seconds=timeout_seconds, healed=healed, is_patient=True)
            )
            _check_that_they_are_current(log.folder, sources)
            current = Source(rewrite.fd, is_log=True, end=rewrite.end)
            merge = _tried(sources, wants, current, rewrite, advanced)
            done.take(merge)
            if merge.restored or merge.summaries:
                going(done)
                rewrite.replace(seq_floor=merge.highest_seq < rewrite.last_seq)
                went()
                made = False
            _put_away(log, held, files, sources, merge, done, timeout_seconds)
        return done
    except FileNotFoundError as error:
        raise LockTimeout(
            f"{log.name}.jsonl was restored, purged or deleted by somebody else meanwhile",
            hint="nothing is lost; see what is in the trash now, and try again",
        ) from error
    except OSError as error:
        raise storage_error(error, f"cannot restore {log.name}.jsonl") from error
    finally:
        if made:
            log.unmake(timeout_seconds)


class _Nowhere:
    """Where a trial puts the new log."""

    def restart(self) -> None:
        """Nothing is there to be emptied."""

    def copy(self, pieces: Iterable[Piece]) -> None:
        """Go through all."""
        for _ in pieces:
            pass


def _tried(
    sources: list[Source],
    wants: Callable[[bytes], bool] | None,
    current: Source,
    target: Rewrite | _Nowhere,
    advanced: Callable[[int], None],
) -> Merge:
    """Merge into *target*. Summaries go only where all that they stand for comes back."""
    merge = Merge(sources, wants or _all, supersedes=wants is None)
    target.copy(merge.pieces(current, advanced))
    if (merge.conflicts or merge.damaged) and merge.summaries:
        merge = Merge(sources, wants or _all, supersedes=False)
        target.restart()
        target.copy(merge.pieces(current, advanced))
    return merge


def _put_away(
    log: Log,
    held: ExitStack,
    files: list[TrashFile],
    sources: list[Source],
    merge: Merge,
    done: Restoration,
    timeout_seconds: float,
) -> None:
    """Leave in the trash what did not come back, and nothing else."""
    inner = log.folder.existing_subfolder(trash.FOLDER)
    held.callback(inner.close)
    left = zip(sources, merge.kept, merge.kept_damage, strict=False)
    # The newest first: a summary names a file that is older than the one which the summary is in.
    for source, turns, damage in reversed(list(left)):
        _shrink(inner, log.name, source, turns, damage)
    newest = _newest_state(files)
    if newest is not None:
        done.has_state = _restore_state(log, inner, newest, timeout_seconds)
        done.left_states = _states(files) - done.has_state
    inner.sync()


def _moved_back(log: Log, source: Source, timeout_seconds: float) -> bool:
    """Put a log of the trash in the place where none is; say whether there still was none."""
    inner = log.folder.existing_subfolder(trash.FOLDER)
    try:
        last_seq = records.last_seq(source.fd, source.end)
        return log.adopt(inner, source.name, last_seq, timeout_seconds)
    finally:
        inner.close()


def _open_all(
    folder: Folder, files: list[TrashFile], held: ExitStack, done: Restoration
) -> list[Source]:
    inner = folder.existing_subfolder(trash.FOLDER)
    sources = []
    try:
        for each in files:
            if each.kind == trash.STATE:
                continue
            fd = inner.open_file(each.file_name, os.O_RDONLY)
            held.callback(os.close, fd)
            sources.append(Source(fd, name=each.file_name, is_log=each.kind == trash.LOG))
            done.files.append(each.file_name)
    finally:
        inner.close()
    return sources


def _check_that_they_are_current(folder: Folder, sources: list[Source]) -> None:
    """Raise ``FileNotFoundError`` if a file was replaced since it was opened, before the locks.

    What a turn said that was scrubbed meanwhile stands in the old one still.
    """
    inner = folder.existing_subfolder(trash.FOLDER)
    try:
        for source in sources:
            if not os.path.samestat(inner.stat(source.name), os.fstat(source.fd)):
                raise FileNotFoundError(source.name)
    finally:
        inner.close()


def _nothing(held: ExitStack) -> Source:
    """Return an empty log: where one was deleted, there is nothing to merge with."""
    fd = os.open(os.devnull, os.O_RDONLY)
    held.callback(os.close, fd)
    return Source(fd, is_log=True)


def _is_there(folder: Folder, name: str) -> bool:
    try:
        Reader(folder, name).close()
    except FileNotFoundError:
        return False
    return True


def _newest_state(files: list[TrashFile]) -> TrashFile | None:
    states = [each for each in files if each.kind == trash.STATE]
    return states[-1] if states else None


def _states(files: list[TrashFile]) -> int:
    return sum(each.kind == trash.STATE for each in files)


def _has_state(folder: Folder, name: str) -> bool:
    return folder.has(f"{state.FOLDER}/{state.file_name(name)}")


def _shrink(
    inner: Folder,
    name: str,
    source: Source,
    turns: list[tuple[int, int]],
    damage: list[tuple[int, int]],
) -> None:
    """Leave in the trash what did not come back, and remove a file that nothing is left of.

    What is left of a whole log is no log any more: its turns go to a file of turns.
    """
    if source.size > source.end:
        damage.append((source.end, source.size))  # a torn line at its end
    if source.size and sum(end - start for start, end in (*turns, *damage)) == source.size:
        return
    if not source.is_log:
        turns, damage = sorted(turns + damage), []
    if turns:
        trash.write(inner, name, trash.beside(source.name, trash.TURNS), source.fd, turns)
    if damage:
        trash.write(inner, name, source.name, source.fd, damage)
    elif source.is_log or not turns:
        inner.remove(source.name)


def _restore_state(log: Log, inner: Folder, file: TrashFile, timeout_seconds: float) -> bool:
    """Put a state back, unless the conversation has one by now: then the trash keeps it."""
    states = log.folder.subfolder(state.FOLDER)
    lock = state.lock_of(log.folder, log.name)
    try:
        lock.acquire(timeout_seconds)
        try:
            states.stat(state.file_name(log.name))
            return False
        except FileNotFoundError:
            states.take(inner, file.file_name, state.file_name(log.name))
            states.sync()
            return True
        finally:
            lock.release()
    finally:
        states.close()


def _all(line: bytes) -> bool:
    return True


def _ignore(amount: int) -> None:
    """Nobody watches."""
