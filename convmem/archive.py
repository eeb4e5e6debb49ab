"""What users hold in their hands: an archive, and the conversations in it."""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock

from convmem import turns as turns_module
from convmem.errors import ConversationNotFound, StorageFull, TurnConflict, UsageError
from convmem.ids import encode_name
from convmem.log.durability import Durability
from convmem.log.follow import ANY_TURN, Cursor
from convmem.log.read import Filter
from convmem.progress import LoggingObserver, Observer
from convmem.stores.directory import DirectoryStore
from convmem.stores.values import Group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from datetime import datetime
    from types import TracebackType
    from typing import Any, Self

    from convmem.log.compact import CompactionReport
    from convmem.log.follow import Follower
    from convmem.log.read import StoredTurn
    from convmem.log.records import Damage
    from convmem.retention import RetentionPolicy
    from convmem.stores.protocol import Store
    from convmem.stores.values import Answers, Description
    from convmem.turns import Draft, Turn

DEFAULT_NAMESPACE = "default"
DEFAULT_LOCK_TIMEOUT_SECONDS = 10.0
DEFAULT_REMEMBER_SECONDS = 24 * 3600.0

_PLATFORM: str = sys.platform


def default_root() -> str:
    """Return the archive that is used when none is named: the platform's folder for user data."""
    if _PLATFORM == "linux":
        # What platformdirs answers here, a test holds; importing it costs more than a record.
        base = os.environ.get("XDG_DATA_HOME", "").strip()
        if not os.path.isabs(base):  # as the XDG rules have it
            base = "~/.local/share"
        return os.path.join(os.path.expanduser(base), "convmem")
    import platformdirs

    return platformdirs.user_data_dir("convmem", appauthor=False)


class Archive:
    """A directory of conversations. Open one per process and share it among threads.

    Use it as a context manager, or call ``close``. Nothing is cached that could go stale: what
    another process records is seen by the next read.
    """

    def __init__(
        self,
        store: Store,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        durability: Durability | str = "always",
        observer: Observer | None = None,
    ) -> None:
        encode_name(namespace)
        self._store = store
        self._namespace = namespace
        self._durability = Durability.of(durability)
        self._observer = observer or LoggingObserver()
        self._closed = False
        if self._durability.name == "interval":
            from convmem.log.flusher import flush_on_sigterm

            flush_on_sigterm()

    @classmethod
    def open(
        cls,
        root: str | os.PathLike[str] | None = None,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        durability: Durability | str = "always",
        lock_timeout_seconds: float = DEFAULT_LOCK_TIMEOUT_SECONDS,
        remember_seconds: float = DEFAULT_REMEMBER_SECONDS,
        observer: Observer | None = None,
    ) -> Archive:
        """Open the archive at *root*. Touches no disk: the first record makes the directory.

        Args:
            root: Where; ``~`` is expanded, and a relative path is made absolute now, so that a
                later change of the working directory changes nothing. ``None``: the platform's
                folder for user data.
            namespace: The tenant that ``conversation`` uses unless told another.
            durability: What an answered ``record`` promises; ``always``, ``interval``, ``none``,
                or a ``Durability``.
            lock_timeout_seconds: How long to wait for other writers of the same conversation.
            remember_seconds: How long the ids of compacted turns are remembered, so that a late
                retry is not stored twice.
            observer: Is told of damage and progress. By default damage is logged.
        """
        path = default_root() if root is None else os.path.expanduser(os.fspath(root))
        watched = observer or LoggingObserver()
        store = DirectoryStore(
            os.path.realpath(path),
            observer=watched,
            lock_timeout_seconds=lock_timeout_seconds,
            remember_seconds=remember_seconds,
        )
        return cls(store, namespace=namespace, durability=durability, observer=watched)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Sync what waits and give all resources back. Closing twice is harmless.

        Raises:
            DurabilityUnknown: A sync failed, now or in the background since the last answer.
        """
        self._closed = True
        self._store.close()

    def flush(self) -> None:
        """Return once everything recorded so far under ``interval`` survives a power cut."""
        self._store.flush()

    def conversation(
        self,
        continuation_id: str,
        *,
        namespace: str | None = None,
        durability: Durability | str | None = None,
    ) -> Conversation:
        """Return the conversation of that id, there or not yet. Touches no disk.

        Raises:
            InvalidContinuationId: Nothing can have that id.
        """
        encode_name(continuation_id)
        return Conversation(
            self,
            continuation_id,
            self._namespace if namespace is None else _checked_namespace(namespace),
            self._durability if durability is None else Durability.of(durability),
        )

    def conversations(self, *, namespace: str | None = None) -> Iterator[Conversation]:
        """Yield the conversations of a namespace, in no order. Costs one look at the directory."""
        place = self._namespace if namespace is None else _checked_namespace(namespace)
        for continuation_id in self._open_store().conversation_ids(place):
            yield Conversation(self, continuation_id, place, self._durability)

    def namespaces(self) -> list[str]:
        """Return the names of all namespaces, sorted."""
        return self._open_store().namespaces()

    def expect_many_compactions(self, *, namespace: str | None = None) -> None:
        """Say that many conversations are about to be compacted, so that what is common to them
        is looked up once."""
        self._open_store().expect_many_compactions(
            self._namespace if namespace is None else _checked_namespace(namespace)
        )

    def record_to_many(
        self, turns: Iterable[tuple[str, Any]], *, namespace: str | None = None
    ) -> list[Turn | Exception]:
        """Append (continuation id, turn) pairs, each for itself; return each one's answer in order.

        What cannot be stored is answered with its error and does not stop the others. Turns of
        one conversation keep their order, and all share as few writes and syncs as can be.
        """
        place = self._namespace if namespace is None else _checked_namespace(namespace)
        answers: list[Turn | Exception | None] = []
        groups: dict[str, tuple[Group, list[int]]] = {}
        for continuation_id, turn in turns:
            at = len(answers)
            answers.append(None)
            try:
                if continuation_id not in groups:
                    encode_name(continuation_id)
                made = turns_module.draft_of(turn)
            except Exception as error:  # noqa: BLE001 - each is an answer
                answers[at] = error
                continue
            if continuation_id not in groups:
                groups[continuation_id] = (Group(place, continuation_id, []), [])
            group, places = groups[continuation_id]
            group.drafts.append(made)
            places.append(at)
        settled = self._open_store().append_to_many(
            [group for group, _ in groups.values()], durability=self._durability
        )
        for (group, places), outcome in zip(groups.values(), settled, strict=True):
            for nth, at in enumerate(places):
                answers[at] = _one_of(outcome, nth, group.drafts[nth])
        return [answer for answer in answers if answer is not None]

    def _open_store(self) -> Store:
        if self._closed:
            raise UsageError("the archive is closed", hint="open it again")
        return self._store


class TurnList(list["Turn"]):
    """Turns, and how much of the log was passed over on the way to them.

    Attributes:
        damaged: How many damaged lines were skipped. They never count as turns.
    """

    damaged: int = 0


class Conversation:
    """All turns under one continuation id.

    Holds no turns and no open files: keep it, share it among threads, make as many as you like.
    """

    __slots__ = ("_archive", "_durability", "continuation_id", "namespace")

    def __init__(
        self, archive: Archive, continuation_id: str, namespace: str, durability: Durability
    ) -> None:
        self._archive = archive
        self._durability = durability
        self.continuation_id = continuation_id
        self.namespace = namespace

    def __repr__(self) -> str:
        return f"Conversation({self.continuation_id!r}, namespace={self.namespace!r})"

    def record(
        self,
        role: str,
        content: Any,
        *,
        id: str | None = None,
        meta: Mapping[str, Any] | None = None,
        ts: datetime | str | float | None = None,
        critical: bool = False,
        **extra: Any,
    ) -> Turn:
        """Append one turn and return it as stored, once the archive's durability holds.

        Args:
            role: Who speaks: any short word.
            content: A string, or any JSON value. Stored as it is.
            id: The turn's own id. With one, a retry is stored once and answered with the turn
                that was stored first.
            meta: A JSON object of your own.
            ts: When, if not now: an aware ``datetime``, ISO 8601, or seconds since 1970.
            critical: Sync this turn before answering, whatever the archive's policy.
            **extra: Any other key of the turn.

        Raises:
            InvalidTurn: It cannot be stored; nothing was.
            TurnConflict: The id is taken by a turn with other content.
            LockTimeout: Others held the conversation for too long.
            StorageFull, StorageError: The system refused; the log is as it was.
            DurabilityUnknown: The sync failed; the turn is not acknowledged.
        """
        made = turns_module.draft(role, content, id=id, meta=meta, ts=ts, extra=extra)
        return self._append([made], critical)[0]

    def record_many(self, turns: Iterable[Any], *, critical: bool = False) -> list[Turn]:
        """Append *turns* as one atomic batch: every reader, after any crash, sees all or none.

        Each is a ``Turn``, a mapping with ``role`` and ``content`` (and ``id``, ``ts``, ``meta``,
        other keys), or a ``(role, content)`` pair. Returns them as stored. Turns whose ids are
        there already are answered with the first; a conflict keeps the whole batch out.

        Raises: As ``record``.
        """
        drafts = turns_module.drafts_from(turns)
        return self._append(drafts, critical) if drafts else []

    def tail(
        self,
        count: int = 10,
        *,
        roles: Iterable[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> TurnList:
        """Return the last *count* turns (that pass the filters), oldest first.

        Reads backwards from the end in blocks of 4 KiB and more: the cost follows what is
        returned, not the length of the conversation. Takes no lock. Damaged lines are skipped
        and counted in ``.damaged``.

        Raises:
            ConversationNotFound: There is no such conversation.
            UsageError: *count* is negative.

        >>> [turn.text for turn in archive.conversation("oslo-trip").tail(2)]
        ['And by train?', 'About seven hours.']
        """
        found = TurnList()
        counted = _Counter(self._damaged())
        stored = self.stored_tail(
            count, roles=roles, since=since, until=until, damaged=counted.damaged
        )
        found.extend(each.turn for each in stored)
        found.damaged = counted.count
        return found

    def turns(
        self,
        *,
        after: int | Cursor = 0,
        since: datetime | None = None,
        until: datetime | None = None,
        roles: Iterable[str] | None = None,
        on_damage: Callable[[Damage], None] | None = None,
    ) -> Iterator[Turn]:
        """Yield the turns in order, oldest first, as of now; memory stays flat.

        Args:
            after: Only turns behind this ``seq`` (found by bisection) or cursor.
            since: Only turns from this time on.
            until: Only turns before this time.
            roles: Only turns of these roles.
            on_damage: Is told of each damaged line; else the archive's observer is.

        Raises:
            ConversationNotFound: There is no such conversation. Raised by the call itself.
        """
        stored = self.stored_turns(
            after=after, since=since, until=until, roles=roles, damaged=on_damage
        )
        return (each.turn for each in stored)

    def follow(
        self,
        *,
        after: int | Cursor | str | None = None,
        roles: Iterable[str] | None = None,
        idle_timeout: float | None = None,
    ) -> Following:
        """Return an iterator over every committed turn, once and in order, as it comes.

        Goes on through appends by others, compaction, truncation, and removal with re-creation;
        the conversation need not be there yet.

        Args:
            after: Start behind this ``seq`` or cursor; ``None`` starts with the first turn.
                ``chat.cursor()`` is the end as of now.
            roles: Only turns of these roles.
            idle_timeout: End when nothing came for so many seconds; ``None`` never ends.
        """
        start: Cursor | None
        if isinstance(after, str):
            start = Cursor.parse(after)
        elif isinstance(after, int):
            start = Cursor(after, ANY_TURN) if after > 0 else None
        else:
            start = after
        follower = self._store().follow(
            self.namespace,
            self.continuation_id,
            after=start,
            idle_seconds=idle_timeout,
            damaged=self._damaged(),
        )
        wanted = _filter(roles, None, None)
        return Following(follower, wanted, first_seq=after + 1 if isinstance(after, int) else 0)

    def cursor(self) -> Cursor:
        """Return the cursor behind the last turn, for ``follow`` and ``turns`` to go on from."""
        return self._store().end_cursor(self.namespace, self.continuation_id)

    def compact(
        self,
        policy: RetentionPolicy,
        *,
        discard: bool = False,
        dry_run: bool = False,
        now: datetime | None = None,
    ) -> CompactionReport:
        """Let the turns go that *policy* does not keep; return exactly what went and why.

        They move to the trash, or are deleted with *discard*. Others may read and write
        meanwhile: nothing of theirs is lost, and they wait only for the last few kilobytes.

        Args:
            now: What age is measured from; the present by default.

        Raises:
            ConversationNotFound, LockTimeout (another compaction is at work), StorageFull.
        """
        if policy.is_empty:
            raise UsageError(
                "the policy keeps everything", hint="give keep_last, max_age or max_bytes"
            )
        from datetime import UTC, datetime

        observer = self._archive._observer
        task = self.continuation_id
        return self._store().compact(
            self.namespace,
            self.continuation_id,
            policy,
            now=datetime.now(UTC) if now is None else now,
            discard=discard,
            dry_run=dry_run,
            advanced=lambda amount: observer.advanced(task, amount),
        )

    @property
    def path(self) -> str:
        """Where the conversation's log is, or would be. For people and their tools."""
        return self._store().path(self.namespace, self.continuation_id)

    def exists(self) -> bool:
        """Whether the conversation is there; it is also when a policy has dropped all its turns."""
        try:
            self.describe()
        except ConversationNotFound:
            return False
        return True

    def describe(self, *, count: bool = False) -> Description:
        """Return size, times and last ``seq``, from the log's ends; with *count* read it all."""
        return self._store().describe(self.namespace, self.continuation_id, count=count)

    def stored_tail(
        self,
        count: int | None,
        *,
        roles: Iterable[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        damaged: Callable[[Damage], None] | None = None,
    ) -> list[StoredTurn]:
        """Return what ``tail`` does as stored lines, unparsed. ``None`` counts all."""
        if count is not None and (type(count) is not int or count < 0):
            raise UsageError(f"how many turns must be 0 or more, not {count!r}")
        return self._store().newest(
            self.namespace,
            self.continuation_id,
            count,
            filter=_filter(roles, since, until),
            damaged=damaged or self._damaged(),
        )

    def stored_tail_and_cursor(
        self, count: int | None, wanted: Filter
    ) -> tuple[list[StoredTurn], Cursor]:
        """Return the last *count* turns and the cursor behind all, from one look at the log."""
        return self._store().newest_and_cursor(
            self.namespace, self.continuation_id, count, filter=wanted, damaged=self._damaged()
        )

    def stored_turns(
        self,
        *,
        after: int | Cursor = 0,
        roles: Iterable[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        damaged: Callable[[Damage], None] | None = None,
    ) -> Iterator[StoredTurn]:
        """Yield what ``turns`` does as stored lines, unparsed."""
        return self._store().in_order(
            self.namespace,
            self.continuation_id,
            after=after,
            filter=_filter(roles, since, until),
            damaged=damaged or self._damaged(),
        )

    def _append(self, drafts: list[Draft], critical: bool) -> list[Turn]:
        answers = self._store().append(
            self.namespace,
            self.continuation_id,
            drafts,
            is_batch=True,
            durability=Durability.ALWAYS if critical else self._durability,
        )
        return [_turn_of(answer) for answer in answers]

    def _damaged(self) -> Callable[[Damage], None]:
        observer = self._archive._observer
        return lambda damage: observer.damaged(self.continuation_id, damage)

    def _store(self) -> Store:
        return self._archive._open_store()


class Following:
    """Turns as they come. Iterate it; ``close`` ends the iteration from any thread.

    Attributes:
        cursor: Behind the last turn that was given. ``str(following.cursor)`` goes on from there
            in another process: ``chat.follow(after=text)``.
    """

    def __init__(self, follower: Follower, wanted: Filter, *, first_seq: int) -> None:
        self._follower = follower
        self._wanted = wanted
        self._first_seq = first_seq
        self._running = allocate_lock()
        self._turns = self._iterate()

    @property
    def cursor(self) -> Cursor:
        """Where to go on from."""
        return self._follower.cursor

    @property
    def diverged(self) -> int:
        """How often the log was removed or made anew, so that the iteration began again."""
        return self._follower.diverged

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

    def close(self) -> None:
        """End the iteration, at the latest 0.25 s from now."""
        self._follower.close()
        # A thread in the middle of it ends by itself, and gives back what it holds.
        if self._running.acquire(False):
            try:
                self._turns.close()
                self._follower.release()
            finally:
                self._running.release()

    def _next(self) -> StoredTurn:
        with self._running:
            return next(self._turns)

    def _next_or_none(self) -> StoredTurn | None:
        with self._running:
            return next(self._turns, None)

    def _iterate(self) -> Generator[StoredTurn]:
        found = iter(self._follower)
        try:
            for stored in found:
                seq = stored.seq
                if (seq is None or seq >= self._first_seq) and self._wanted.wants(stored):
                    yield stored
        finally:
            found.close()


class _Counter:
    """Passes damage on, and counts it."""

    def __init__(self, tell: Callable[[Damage], None]) -> None:
        self.count = 0
        self._tell = tell

    def damaged(self, damage: Damage) -> None:
        self.count += 1
        self._tell(damage)


def _filter(roles: Iterable[str] | None, since: datetime | None, until: datetime | None) -> Filter:
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            raise UsageError(f"{name} has no time zone", hint="give an aware datetime")
    if isinstance(roles, str):
        roles = (roles,)
    return Filter(roles=None if roles is None else frozenset(roles), since=since, until=until)


def _turn_of(answer: Turn | TurnConflict) -> Turn:
    if isinstance(answer, TurnConflict):
        raise answer
    return answer


def _one_of(outcome: Answers | Exception, nth: int, draft: Draft) -> Turn | Exception:
    if not isinstance(outcome, Exception):
        return outcome[nth]
    if isinstance(outcome, StorageFull):  # the disk took some of the lines
        return next((turn for turn in outcome.stored if turn.id == draft.id), outcome)
    return outcome


def _checked_namespace(namespace: str) -> str:
    encode_name(namespace)
    return namespace
