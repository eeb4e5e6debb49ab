"""Turns as they come: what ``Conversation.follow`` returns, and which turns a reader asks for."""

from __future__ import annotations

from _thread import allocate_lock

from convmem.errors import UsageError
from convmem.log.read import Filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from datetime import datetime

    from convmem.log.follow import Cursor, Follower
    from convmem.log.read import StoredTurn
    from convmem.turns import Turn


class Given:
    """A turn, and how the ``Following`` stood when it had been given."""

    __slots__ = ("cursor", "diverged", "missed", "turn")

    def __init__(self, turn: Turn, following: Following) -> None:
        self.turn = turn
        self.cursor = following.cursor
        self.missed = following.missed
        self.diverged = following.diverged


class Following:
    """Turns as they come. Iterate it; ``close`` ends the iteration from any thread.

    Attributes:
        cursor: Behind the last turn that was given. ``str(following.cursor)`` goes on from there
            in another process: ``chat.follow(after=text)``.
    """

    def __init__(self, follower: Follower, wanted: Filter, *, first_seq: int) -> None:
        self._follower = follower
        self._running = allocate_lock()

        def is_wanted(stored: StoredTurn) -> bool:
            seq = stored.seq
            return (seq is None or seq >= first_seq) and wanted.wants(stored)

        self._is_wanted = is_wanted
        # Neither of them knows this object: one that is dropped gives its descriptors back at once.
        self._turns = _passing(follower, is_wanted)
        self._looking: Generator[StoredTurn] | None = None

    @property
    def cursor(self) -> Cursor:
        """Where to go on from."""
        return self._follower.cursor

    @property
    def diverged(self) -> int:
        """How often the log was removed or made anew, so that the iteration began again."""
        return self._follower.diverged

    @property
    def missed(self) -> int:
        """How many turns a compaction, or a deletion, took before they were seen."""
        return self._follower.missed

    def __iter__(self) -> Iterator[Turn]:
        return self

    def __next__(self) -> Turn:
        return self._next().turn

    def attach(self) -> None:
        """Find the place in the log now, instead of when the first turn is asked for."""
        with self._running:
            self._follower.attach()

    def stored(self) -> Iterator[StoredTurn]:
        """Iterate over stored lines, unparsed, instead."""
        return iter(self._next_or_none, None)

    def at_hand(self, *, most: int, most_bytes: int) -> tuple[list[Given], bool]:
        """Return what is there by now, in portions, and whether the log had anything new.

        For those who wait for many at once: it does not wait. Do not iterate beside it.
        """
        found: list[Given] = []
        is_new = False
        size = 0
        with self._running:
            if self._looking is None:
                self._looking = self._follower.look()
            for stored in self._looking:
                is_new = True
                if self._is_wanted(stored):
                    found.append(Given(stored.turn, self))
                size += len(stored.line)
                if len(found) >= most or size >= most_bytes:
                    return found, is_new
            self._looking = None
        return found, is_new

    def rest(self) -> None:
        """Give back what is held open; the next turn that is asked for opens it again."""
        with self._running:
            if self._looking is not None:
                self._looking.close()
                self._looking = None
            self._follower.release()

    def close(self) -> None:
        """End the iteration, at the latest 0.25 s from now."""
        self._follower.close()
        # A thread in the middle of it ends by itself, and gives back what it holds.
        if self._running.acquire(False):
            try:
                self._turns.close()
                if self._looking is not None:
                    self._looking.close()
                self._follower.release()
            finally:
                self._running.release()

    def _next(self) -> StoredTurn:
        with self._running:
            return next(self._turns)

    def _next_or_none(self) -> StoredTurn | None:
        with self._running:
            return next(self._turns, None)


def _passing(follower: Follower, is_wanted: Callable[[StoredTurn], bool]) -> Generator[StoredTurn]:
    found = iter(follower)
    try:
        yield from filter(is_wanted, found)
    finally:
        found.close()


def filter_of(
    roles: Iterable[str] | None, since: datetime | None, until: datetime | None
) -> Filter:
    """Return the filter that these say.

    Raises:
        UsageError: A time has no zone.
    """
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            raise UsageError(f"{name} has no time zone", hint="give an aware datetime")
    if isinstance(roles, str):
        roles = (roles,)
    return Filter(roles=None if roles is None else frozenset(roles), since=since, until=until)
