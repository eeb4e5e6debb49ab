"""Scrubbing: what one turn said goes for good, wherever it lies, and a marker stays in its place.

Each file is replaced as a whole, so a crash at any moment leaves the old or the new one, and who
scrubs again finishes.
"""

from __future__ import annotations

from contextlib import ExitStack

from convmem.errors import LockTimeout, UsageError, storage_error
from convmem.log import locks
from convmem.log.read import Reader
from convmem.log.removing import tombstones
from convmem.log.removing.rewrite import Rewrite, exclusive, find_leftovers, sweep
from convmem.log.removing.scrub_files import LOG, TEMPORARY, File, set_aside_and_in_trash
from convmem.log.removing.scrub_find import Wanted
from convmem.log.removing.scrub_plan import Place, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from convmem.log.append import Log
    from convmem.log.files import Folder
    from convmem.log.removing.scrub_plan import Scrubbed

_MOST_DIGITS = 18


def wanted(turn: str | int) -> Wanted:
    """Return which turn *turn* means: a number is a ``seq``, text an id, or else a ``seq``.

    Raises:
        UsageError: It is neither.
    """
    if type(turn) is int and turn > 0:
        return Wanted(None, turn)
    if isinstance(turn, str) and turn:
        is_number = turn.isascii() and turn.isdecimal() and len(turn) <= _MOST_DIGITS
        return Wanted(turn, int(turn) if is_number else None)
    raise UsageError(f"a turn is named by its id or its number, not by {turn!r}")


def preview(
    folder: Folder, name: str, wanted: Wanted, *, now: datetime, advanced: Callable[[int], None]
) -> Scrubbed:
    """Say what ``scrub`` would do. Takes no lock and writes nothing."""
    with ExitStack() as held:
        files = set_aside_and_in_trash(folder, name, held)
        try:
            reader = held.enter_context(Reader(folder, name))
            files.append(File(LOG, f"{name}.jsonl", reader.fd, reader.end, reader.size))
        except FileNotFoundError:
            pass
        plan = Plan(folder, name, files, wanted, now, advanced)
        plan.done.dry_run = True
        _add_leftovers(plan.done, folder, find_leftovers(folder).get(name, []))
        return plan.done


def scrub(
    log: Log,
    wanted: Wanted,
    *,
    now: datetime,
    timeout_seconds: float,
    healed: Callable[[str], None],
    going: Callable[[Scrubbed, list[bytes]], None],
    went: Callable[[], None],
    advanced: Callable[[int], None],
) -> Scrubbed:
    """Remove what the *wanted* turn said from every file of the conversation.

    Reads all of them, and writes those anew that held it; others may read and write meanwhile. A
    log that was deleted is not made again. *going* is told what goes, and its good lines, just
    before the first of it does, *went* when some of it has.

    Raises:
        TurnNotFound: Nothing was changed.
        UsageError: The ``seq`` is that of several turns.
        LockTimeout: A compaction, repair or restoration is at work on this log.
        StorageError: Each file is as it was, or scrubbed: scrub again.
    """
    orders = _Orders(log, wanted, now, timeout_seconds, healed, going, went, advanced)
    name = log.name
    try:
        for _ in range(3):  # somebody may delete it, or bring it back, in between
            done = orders.of_a_log() or orders.of_a_deleted_one()
            if done is not None:
                return done
        raise LockTimeout(
            f"{name}.jsonl comes and goes: somebody deletes and restores it",
            hint="each of its files is as it was, or scrubbed; try again",
        )
    except OSError as error:
        raise storage_error(error, f"cannot scrub {name}.jsonl") from error


class _Orders:
    """What was asked for, to be carried out on a log that is there, or on what one has left."""

    def __init__(
        self,
        log: Log,
        wanted: Wanted,
        now: datetime,
        timeout_seconds: float,
        healed: Callable[[str], None],
        going: Callable[[Scrubbed, list[bytes]], None],
        went: Callable[[], None],
        advanced: Callable[[int], None],
    ) -> None:
        self.log = log
        self.folder = log.folder
        self.name = log.name
        self.wanted = wanted
        self.now = now
        self.timeout_seconds = timeout_seconds
        self.healed = healed
        self.going = going
        self.went = went
        self.advanced = advanced

    def of_a_log(self) -> Scrubbed | None:
        """Scrub a log and all beside it; ``None`` if there is none."""
        dead = find_leftovers(self.folder).get(self.name, [])
        try:
            with (
                Rewrite(
                    self.log, timeout_seconds=self.timeout_seconds, healed=self.healed
                ) as rewrite,
                ExitStack() as held,
            ):
                files = set_aside_and_in_trash(self.folder, self.name, held)
                end = rewrite.end
                files.append(File(LOG, f"{self.name}.jsonl", rewrite.fd, end, end))
                return self._carry_out(files, dead, rewrite)
        except FileNotFoundError:
            return None

    def of_a_deleted_one(self) -> Scrubbed | None:
        """Scrub what a deleted log has left; ``None`` if there is a log by now."""
        with exclusive(self.folder, self.name), ExitStack() as held:
            # It is begun anew, or brought back as a whole, only by who holds this one.
            lock = locks.SidecarLock(self.folder, self.name)
            held.callback(lock.close)
            lock.acquire(self.timeout_seconds)
            held.callback(lock.release)
            if any(self.folder.has(self.name + ending) for ending in (".jsonl", ".jsonl.zst")):
                return None
            dead = find_leftovers(self.folder).get(self.name, [])
            sweep(self.folder, dead)
            files = set_aside_and_in_trash(self.folder, self.name, held)
            return self._carry_out(files, dead, None)

    def _carry_out(
        self, files: list[File], dead: list[tuple[str, str]], rewrite: Rewrite | None
    ) -> Scrubbed:
        plan = Plan(self.folder, self.name, files, self.wanted, self.now, self.advanced)
        _add_leftovers(plan.done, self.folder, dead)
        if plan.changes or plan.in_audit:
            self.going(plan.done, plan.lines)
            if plan.done.turn_id is not None:
                # An import would bring it back as soon as a policy has dropped the marker.
                tombstones.bury(
                    self.folder,
                    self.name,
                    [plan.done.turn_id, *plan.copies],
                    timeout_seconds=self.timeout_seconds,
                )
            plan.carry_out(rewrite, self.went)
        return plan.done


def _add_leftovers(done: Scrubbed, folder: Folder, dead: list[tuple[str, str]]) -> None:
    """Tell of files in the making that died with their makers: whatever they held, they go."""
    for inner_name, file_name in dead:
        path = f"{inner_name}/{file_name}" if inner_name else file_name
        if done.dry_run or not folder.has(path):
            done.places.append(Place(TEMPORARY, path))
