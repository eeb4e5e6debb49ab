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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType

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
        self._waiting: list[LockType] = []  # a closed gate for each thread that waits for it
        self._guard = allocate_lock()
        self._users = 1

    def use(self) -> None:
        """Keep the descriptor open until ``let_go``: a sync may come after the log moved on."""
        with self._guard:
            self._users += 1

    def let_go(self) -> None:
        """End one use; the last one closes."""
        with self._guard:
            self._users -= 1
            if self._users:
                return
        close_aside(self.fd)

    def sync(self, ticket: int) -> None:
        """Return once everything up to *ticket* survives a power cut.

        Raises:
            DurabilityUnknown: A sync of this file failed, now or before. It is not tried again:
                the kernel may have dropped the pages, and would then report success.
        """
        leads = False
        try:
            while not leads:
                with self._guard:
                    self._check()
                    if self.synced >= ticket and self.folder_synced:
                        return
                    if not self._is_syncing:
                        # In one go: an interrupt between would keep the others waiting for ever.
                        self._is_syncing = leads = True
                        continue
                    gate = allocate_lock()
                    gate.acquire()
                    self._waiting.append(gate)
                gate.acquire()
            self._sync_for_all()
        finally:
            if leads:
                self._let_all_go_on()

    def _check(self) -> None:
        if self.failed is not None:
            raise DurabilityUnknown(
                f"{self._where()}: an earlier sync failed: {self.failed}",
                hint="open the archive again and retry the unanswered ids",
            )

    def _where(self) -> str:
        return os.path.join(self.folder.path, self.name)

    def _sync_for_all(self) -> None:
        covered = self.written
        turns = self.dirty_turns
        try:
            sync_data(self.fd)
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

    def _let_all_go_on(self) -> None:
        """Wake all who wait, at once: one by one, those whose turns are safe already would stand
        before the next one to sync, and keep the disk idle."""
        with self._guard:
            self._is_syncing = False
            waiting, self._waiting = self._waiting, []
        for gate in waiting:
            gate.release()

    def mark_dirty(self, turns: int) -> bool:
        """Count turns that wait for a sync; say whether they are the first to wait."""
        with self._guard:
            first = self.dirty_turns == 0
            if first:
                self.dirty_since = time.monotonic()
            self.dirty_turns += turns
            return first
