"""When a turn counts as acknowledged, and the syncs that many writers share.

The write itself always happens at once, so no policy loses anything when the process dies. They
differ in what an operating-system crash or a power cut may take.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock

from convmem.errors import DurabilityUnknown
from convmem.log.files import close_aside, forget_cached, sync_data
from convmem.log.locks import fcntl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.log.files import Folder


class Durability:
    """A durability policy.

    ``Durability.ALWAYS`` (the default): an answered turn survives a power cut. Writers that ask
    at the same time share one sync.

    ``Durability.interval(turns=…, seconds=…)``: synced when that many turns or seconds have gone
    by since the first that was not, whichever comes first, and at close, exit and SIGTERM. A
    power cut takes at most those.

    ``Durability.NONE``: the operating system decides, often within 30 seconds.

    The names ``"always"``, ``"interval"`` and ``"none"`` are taken wherever a policy is.
    """

    __slots__ = ("name", "seconds", "turns")

    ALWAYS: Durability
    NONE: Durability

    def __init__(self, name: str, *, turns: int = 100, seconds: float = 1.0) -> None:
        if name not in ("always", "interval", "none"):
            raise ValueError(f"durability is always, interval or none, not {name!r}")
        if turns < 1:
            raise ValueError(f"turns must be at least 1, not {turns}")
        if not 0 < seconds < 1e9:
            raise ValueError(f"seconds must be more than 0, not {seconds}")
        self.name = name
        self.turns = turns
        self.seconds = seconds

    @classmethod
    def interval(cls, *, turns: int = 100, seconds: float = 1.0) -> Durability:
        """Return the policy that syncs every *turns* turns or *seconds* seconds."""
        return cls("interval", turns=turns, seconds=seconds)

    @classmethod
    def of(cls, policy: Durability | str) -> Durability:
        """Return *policy*, or the policy of that name."""
        return cls(policy) if isinstance(policy, str) else policy

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Durability):
            return NotImplemented
        return (self.name, self.turns, self.seconds) == (other.name, other.turns, other.seconds)

    def __hash__(self) -> int:
        return hash((self.name, self.turns, self.seconds))

    def __repr__(self) -> str:
        if self.name == "interval":
            return f"Durability.interval(turns={self.turns}, seconds={self.seconds:g})"
        return f"Durability.{self.name.upper()}"


Durability.ALWAYS = Durability("always")
Durability.NONE = Durability("none")


class OpenLog:
    """One open log file, and the syncs that its writers share.

    Each writer takes a ticket for what it wrote, under the log's lock. Whoever syncs first syncs
    for all who had written by then; the others find their ticket covered and return at once. It
    belongs to one inode: a writer must sync the file that holds its bytes, not the one that a
    compaction has put in its place since.
    """

    __slots__ = (
        "_guard",
        "_is_syncing",
        "_users",
        "_waiting",
        "dirty_since",
        "dirty_turns",
        "failed",
        "fd",
        "folder",
        "folder_synced",
        "identity",
        "name",
        "synced",
        "written",
    )

    def __init__(self, folder: Folder, name: str, fd: int) -> None:
        self.folder = folder
        self.name = name
        self.fd = fd
        found = os.fstat(fd)
        self.identity = (found.st_dev, found.st_ino)
        self.written = 0
        self.synced = 0
        # Nobody can know whether the process that made the file got as far as syncing its name.
        self.folder_synced = False
        self.failed: str | None = None
        self.dirty_turns = 0
        self.dirty_since = 0.0
        self._is_syncing = False
        self._waiting: list[_Waiter] = []  # in the order they came
        self._guard = allocate_lock()
        # One for each user. Who takes the bottom one is the last: no lock is needed to know that.
        self._users = [True]

    def use(self) -> None:
        """Keep the descriptor open until ``let_go``: a sync may come after the log moved on."""
        self._users.append(False)

    def let_go(self) -> None:
        """End one use; the last one closes."""
        if self._users.pop():
            close_aside(self.fd)

    def sync(self, ticket: int) -> None:
        """Return once everything up to *ticket* survives a power cut.

        Raises:
            DurabilityUnknown: A sync of this file failed, now or before. It is not tried again:
                the kernel may have dropped the pages, and would then report success.
        """
        mine = _Waiter(ticket)
        try:
            with self._guard:
                if self._is_settled(ticket):
                    return
                if not self._is_syncing:
                    # In one go: an interrupt between would keep the others waiting for ever.
                    self._is_syncing = mine.leads = True
                else:
                    self._waiting.append(mine)
            if not mine.leads:
                mine.gate.acquire()
            # Who is woken has been synced for, or is the next to sync.
            if mine.leads:
                self._sync_for_all()
            else:
                self._is_settled(ticket)
        except BaseException:
            self._wait_no_more(mine)
            raise
        finally:
            if mine.leads:
                self._hand_over()

    def _is_settled(self, ticket: int) -> bool:
        if self.failed is not None:
            raise DurabilityUnknown(
                f"{self._where()}: an earlier sync failed: {self.failed}",
                hint="open the archive again and retry the unanswered ids",
            )
        return self.synced >= ticket and self.folder_synced

    def _where(self) -> str:
        return os.path.join(self.folder.path, self.name)

    def _sync_for_all(self) -> None:
        covered = self.written
        turns = self.dirty_turns
        try:
            sync_in_turns(self.fd)
            if not self.folder_synced:
                self.folder.sync()
                self.folder_synced = True
        except OSError as error:
            self.failed = error.strerror or str(error)
            forget_cached(self.fd)
            raise DurabilityUnknown(
                f"{self._where()}: sync failed: {self.failed}",
                hint="nothing of this call is acknowledged: see dmesg; then open the archive"
                " again (or call again) and retry the same ids",
                errno=error.errno,
            ) from error
        self.synced = covered
        with self._guard:
            self.dirty_turns = max(0, self.dirty_turns - turns)

    def _hand_over(self) -> None:
        """Wake those whose turns are safe, or lost, and before them the one who syncs next.

        Only one of the others: woken all together, each would cost a switch of threads for
        nothing, and stand before the one whose sync the disk waits for.
        """
        with self._guard:
            done = self.written if self.failed is not None else self.synced
            woken = [each for each in self._waiting if each.ticket <= done]
            self._waiting = [each for each in self._waiting if each.ticket > done]
            if self._waiting:
                following = self._waiting.pop(0)
                following.leads = True
                woken.insert(0, following)
            else:
                self._is_syncing = False
        for each in woken:
            each.gate.release()

    def _wait_no_more(self, waiter: _Waiter) -> None:
        """Take one who was interrupted from among those who wait."""
        with self._guard:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def mark_dirty(self, turns: int) -> bool:
        """Count turns that wait for a sync; say whether they are the first to wait."""
        with self._guard:
            first = self.dirty_turns == 0
            if first:
                self.dirty_since = time.monotonic()
            self.dirty_turns += turns
            return first


def sync_in_turns(fd: int) -> None:
    """Sync a log that other processes sync too: one after the other, where that is needed.

    On btrfs (seen on Linux 6.18, without convmem too) a sync may return before anything is written
    while another process syncs the same file. A file system of that kind has no device of its own;
    on others no one waits, and the journal does the work of many at once.

    Raises:
        OSError: The sync failed.
    """
    turns = None if os.major(os.fstat(fd).st_dev) else fcntl
    if turns is not None:
        turns.flock(fd, turns.LOCK_EX)  # of the log itself, which nobody else locks
    try:
        sync_data(fd)
    finally:
        if turns is not None:
            turns.flock(fd, turns.LOCK_UN)


class _Waiter:
    """A thread that asked for a sync.

    Attributes:
        ticket: What it waits for.
        gate: Closed until it is woken.
        leads: Whether it is the one who syncs, for itself and for all who wrote before.
    """

    __slots__ = ("gate", "leads", "ticket")

    def __init__(self, ticket: int) -> None:
        self.ticket = ticket
        self.leads = False
        self.gate = allocate_lock()
        self.gate.acquire()
