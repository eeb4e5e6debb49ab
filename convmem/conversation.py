"""One conversation: record, read, follow, compact."""

from __future__ import annotations

from convmem import turns as turns_module
from convmem.errors import ConversationNotFound, UsageError
from convmem.following import Following, filter_of
from convmem.log.durability import Durability
from convmem.log.follow import ANY_TURN, Cursor
from convmem.upkeep import Upkeep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime, timedelta
    from typing import Any

    from convmem.archive import Archive
    from convmem.context.recalled import Recall
    from convmem.context.tokens import TokenCounter
    from convmem.context.window import ContextWindow, Pinned
    from convmem.log.read import Filter, StoredTurn
    from convmem.log.records import Damage
    from convmem.stores.protocol import Store
    from convmem.stores.values import Description
    from convmem.turns import Draft, Turn


class TurnList(list["Turn"]):
    """Turns, and how much of the log was passed over on the way to them.

    Attributes:
        damaged: How many damaged lines were skipped. They never count as turns.
    """

    damaged: int = 0


class Conversation(Upkeep):
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
        counted = _Counter(self._damaged())
        stored = self.stored_tail(
            count, roles=roles, since=since, until=until, damaged=counted.damaged
        )
        found = TurnList([each.turn for each in stored])
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
        wanted = filter_of(roles, None, None)
        return Following(follower, wanted, first_seq=after + 1 if isinstance(after, int) else 0)

    def cursor(self) -> Cursor:
        """Return the cursor behind the last turn, for ``follow`` and ``turns`` to go on from."""
        return self._store().end_cursor(self.namespace, self.continuation_id)

    def state(self) -> dict[str, Any]:
        """Return the state: a small JSON object beside the turns, for session ids and tokens.

        It is a copy, without what has expired; empty where there is none, also where the
        conversation is not there yet. Reads one small file and takes no lock.

        Raises:
            CorruptLog: The state is damaged; ``clear_state`` sets it aside.
        """
        from datetime import UTC, datetime

        now = datetime.now(UTC)
        return self._store().state(self.namespace, self.continuation_id, now=now)

    def update_state(
        self, changes: Mapping[str, Any], *, ttl: timedelta | float | None = None
    ) -> dict[str, Any]:
        """Merge *changes* into the state, key by key, and return the state as it is stored then.

        Durable when it returns, whatever the archive's durability. Any number of threads and
        processes may update at once; appends neither wait for it nor it for them.

        Args:
            changes: JSON values by key; ``None`` removes the key. A value is replaced as a whole.
            ttl: When these keys expire, as a ``timedelta`` or seconds from now; 0 or less: at
                once. ``None``: never, also where they had a time before.

        Raises:
            UsageError: A key or a value cannot be stored exactly, a key begins with ``_``, or the
                state would take more than 1 MiB; nothing was changed.
            CorruptLog: The state is damaged; nothing was changed.
            LockTimeout, StorageFull, StorageError: Nothing was changed.
            DurabilityUnknown: It was, but a power cut may undo it.
        """
        from datetime import UTC, datetime

        from convmem.log import state

        now = datetime.now(UTC)
        return self._store().update_state(
            self.namespace,
            self.continuation_id,
            state.checked(changes),
            until=state.expiry(ttl, now),
            now=now,
        )

    def clear_state(self) -> bool:
        """Remove the state; say whether there was one. Damaged bytes go to the quarantine.

        Raises:
            LockTimeout, StorageError: Try again.
        """
        return self._store().clear_state(self.namespace, self.continuation_id)

    def context(
        self,
        *,
        max_tokens: int | None = None,
        max_turns: int | None = None,
        pinned: Pinned = (),
        counter: TokenCounter | None = None,
        form: str = "messages",
        query: str | None = None,
        recall_tokens: int | None = None,
    ) -> ContextWindow:
        """Return the newest turns that fit a model's budget, oldest first and without a gap.

        The newest turn is always there: alone too long, its middle is cut out, and a mark says
        so. A tool's result comes with its call or not at all. Events of an import and what was
        scrubbed are passed over. Reads the end of the log as far as it needs, and its first turn;
        state is never in it.

        With *query*, older turns that fit it best are recalled, too, inside the same budget: of
        the log, and of the trash where a summary stands for them. ``window.recalled`` has them,
        each with its ``id``, ``seq`` and ``ts``. The index that ``Archive.search`` uses is brought
        in step first; the files of the trash are read, some 20 MB a second.

        Args:
            max_tokens: How many tokens all of it may take, what is pinned included.
            max_turns: How many turns, what is recalled not counted; at least one of the two
                bounds must be given.
            pinned: What comes first, whatever else fits: a text (a system message), a ``Turn``,
                a mapping with role and content, or several of these.
            counter: Who counts tokens; by default an estimate, meant to be a little too high.
                ``convmem.context.tokens.token_counter("o200k_base")`` is an exact one.
            form: What is counted: ``messages`` or ``text``, for ``as_messages`` or ``as_text``.
            query: What older turns are recalled for, as ``Archive.search`` takes it.
            recall_tokens: How many tokens are set aside for them; by default a third of the
                budget, or 2,000 without one. What they leave goes to the newest turns, and what
                these leave goes to them. The newest turn comes before both.

        Raises:
            ConversationNotFound: There is no such conversation.
            UsageError: A bound is wrong, or what is pinned takes more than the budget.
            LockTimeout: With *query*: another process is indexing, and does not come to an end.

        >>> archive.conversation("oslo-trip").context(max_tokens=4000).as_messages()
        [{'role': 'user', 'content': 'And by train?'}, …]
        """
        from contextlib import closing

        from convmem.context.window import window_of

        wish = self._recall(query, recall_tokens)
        stored = self._store().newest_first(
            self.namespace, self.continuation_id, damaged=self._damaged()
        )
        with closing(stored):
            return window_of(
                self._said((each.turn for each in stored), newest_first=True),
                lambda: self._said(self.turns(on_damage=lambda _: None), newest_first=False),
                continuation_id=self.continuation_id,
                max_tokens=max_tokens,
                max_turns=max_turns,
                pinned=pinned,
                counter=counter,
                form=form,
                recall=wish,
            )

    def _recall(self, query: str | None, tokens: int | None) -> Recall | None:
        """Return what ``context`` is to recall.

        Raises:
            UsageError: It cannot be meant.
        """
        if tokens is not None and (type(tokens) is not int or tokens < 0):
            raise UsageError(f"recall_tokens must be a whole number, 0 or more, not {tokens!r}")
        if query is None:
            if tokens is not None:
                raise UsageError("recall_tokens means nothing without a query")
            return None
        from datetime import UTC, datetime

        from convmem.context.recalled import Recall
        from convmem.search.memories import Memories, memories

        def find(is_wanted: Callable[[Turn, bool], bool]) -> Memories:
            return memories(
                self._store(),
                self.namespace,
                self.continuation_id,
                query,
                is_wanted,
                now=datetime.now(UTC),
                observer=self._archive._observer,
            )

        return Recall(query, tokens, find)

    def _said(self, turns: Iterable[Turn], *, newest_first: bool) -> Iterator[Turn]:
        """Yield what was said of *turns*: copies, too, which others stand for."""
        for turn in turns:
            if turn.role != turns_module.EVENT:
                if turns_module.is_said(turn):
                    yield turn
                continue
            from convmem import copied

            if not copied.is_repeat(turn, self.continuation_id):
                found = list(filter(turns_module.is_said, copied.turns_in(turn)))
                yield from reversed(found) if newest_first else found

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
            filter=filter_of(roles, since, until),
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
            filter=filter_of(roles, since, until),
            damaged=damaged or self._damaged(),
        )

    def _append(self, drafts: list[Draft], critical: bool) -> list[Turn]:
        answers = self._archive._open_store().append(
            self.namespace,
            self.continuation_id,
            drafts,
            is_batch=True,
            durability=Durability.ALWAYS if critical else self._durability,
        )
        return answers  # type: ignore[return-value]  # a batch raises its conflict

    def _damaged(self) -> Callable[[Damage], None]:
        observer = self._archive._observer
        return lambda damage: observer.damaged(self.continuation_id, damage)

    def _store(self) -> Store:
        return self._archive._open_store()


class _Counter:
    """Passes damage on, and counts it."""

    def __init__(self, tell: Callable[[Damage], None]) -> None:
        self.count = 0
        self._tell = tell

    def damaged(self, damage: Damage) -> None:
        self.count += 1
        self._tell(damage)
