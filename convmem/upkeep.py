"""What keeps one conversation in order: compact, delete, restore, compress, verify, repair."""

from __future__ import annotations

from time import perf_counter

from convmem.errors import ConversationNotFound, ConvmemError, InvalidTurn, UsageError
from convmem.following import filter_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from datetime import datetime, timedelta
    from typing import Any

    from convmem.archive import Archive
    from convmem.log.checks.repair_plan import RepairReport
    from convmem.log.checks.verify_report import Finding, VerifyReport
    from convmem.log.compressed.cold_report import CompressionReport
    from convmem.log.removing.named import Taken
    from convmem.log.removing.removal import Removal
    from convmem.log.removing.restore import Restoration
    from convmem.log.removing.scrub_plan import Scrubbed
    from convmem.log.removing.summary import Summarizer
    from convmem.log.removing.survey import CompactionReport
    from convmem.log.removing.tombstones import Buried
    from convmem.retention import RetentionPolicy
    from convmem.stores.protocol import Store
    from convmem.turns import Draft, Turn


class Upkeep:
    """The part of a ``Conversation`` that operators use."""

    __slots__ = ()

    if TYPE_CHECKING:
        continuation_id: str
        namespace: str
        _archive: Archive

        def _store(self) -> Store: ...

        def _append(self, drafts: list[Draft], critical: bool) -> list[Turn]: ...

    def compact(
        self,
        policy: RetentionPolicy,
        *,
        discard: bool = False,
        dry_run: bool = False,
        now: datetime | None = None,
        summarize: Callable[[Iterator[Turn]], str] | None = None,
    ) -> CompactionReport:
        """Let the turns go that *policy* does not keep; return exactly what went and why.

        They move to the trash, or are deleted with *discard*. Others may read and write
        meanwhile: nothing of theirs is lost, and they wait only for the last few kilobytes.

        Args:
            now: What age is measured from; the present by default.
            summarize: Gets the turns that go, earlier summaries among them, and returns what one
                turn says in their place. If it raises, or returns nothing, nothing is changed.
                Does not go with *discard*.

        Raises:
            ConversationNotFound, LockTimeout (another compaction is at work), StorageFull;
            UsageError if the keep-list of ``convmem.toml`` holds the conversation.
        """
        if policy.is_empty:
            raise UsageError(
                "the policy keeps everything", hint="give keep_last, max_age or max_bytes"
            )
        from datetime import UTC, datetime

        self._archive._refuse_if_kept(self.namespace, self.continuation_id)
        observer = self._archive._observer
        task = self.continuation_id
        began = perf_counter()
        try:
            report = self._store().upkeep.compact(
                self.namespace,
                self.continuation_id,
                policy,
                now=datetime.now(UTC) if now is None else now,
                discard=discard,
                dry_run=dry_run,
                advanced=lambda amount: observer.advanced(task, amount),
                summarize=None if summarize is None else _of_turns(summarize),
            )
        except ConvmemError as error:
            observer.failed(task, "compact", error)
            raise
        if not dry_run:
            observer.compacted(task, report, perf_counter() - began)
        return report

    def remove(
        self, ids: Iterable[str], *, reason: str = "asked", now: datetime | None = None
    ) -> list[Turn]:
        """Move the turns with these *ids* to the trash, in one atomic step; return those that were
        there, in order.

        Just these: a tool's result stays where only its call is named. Ids that are not there are
        passed over, also where somebody else removed the turn a moment ago: of two that remove
        the same turn at the same time, one gets it. Every reader, after any crash, sees all of
        them or none. Durable when it returns. The ``seq`` of what went is not given out again, and
        a late retry of it is answered with the turn that went, as after ``compact``.

        The ids are searched for from the end. The log is written anew, and synced: some 10 ms, and
        some 3 ms for each megabyte of it. Others may read and write meanwhile. Damaged lines
        behind the first turn that goes are set aside in the quarantine.

        Args:
            reason: A word for the audit log.
            now: When they go, as the trash counts its age; the present by default.

        Raises:
            ConversationNotFound, LockTimeout, StorageFull, StorageError: The log is as it was.
            DurabilityUnknown: They went, but a power cut may bring them back.
            UsageError: The keep-list of ``convmem.toml`` holds the conversation.

        >>> last = archive.conversation("oslo-trip").tail(1)
        >>> archive.conversation("oslo-trip").remove(turn.id for turn in last)
        [Turn(…)]
        """
        taken = self._take_out("remove", _ids_of(ids), [], reason, now)
        return [] if taken is None else taken.gone

    def replace(
        self,
        turns: Iterable[Any],
        *,
        ids: Iterable[str] | None = None,
        reason: str = "asked",
        now: datetime | None = None,
    ) -> list[Turn]:
        """Move all turns, or those with these *ids*, to the trash and append *turns*, in one atomic
        step; return them as stored.

        Every reader and follower, after any crash, sees the old or the new. All turns are those
        that are there when it begins: what others append meanwhile stays, and stands before
        *turns*. Where there is nothing to go, it is a ``record_many``. Durable when it returns;
        ``seq`` goes on. It costs what ``remove`` does.

        ``restore`` brings what went back to its place, before *turns*, which stay.

        Args:
            turns: As ``record_many`` takes them, but without ids: new ones are made. Without any,
                what goes, goes.
            ids: As ``remove`` takes them; those that are not there are passed over.
            reason: A word for the audit log.
            now: When the others go, as the trash counts its age; the present by default.

        Raises:
            InvalidTurn: One of *turns* cannot be stored, or has an id; nothing was changed.
            ConversationNotFound: There is none, and no *turns* to begin it with.
            LockTimeout, StorageFull, StorageError: The log is as it was.
            DurabilityUnknown: It was done, but a power cut may undo it; done again, *turns* come
            twice.
            UsageError: The keep-list of ``convmem.toml`` holds the conversation.
        """
        from convmem.turns import drafts_from

        drafts = drafts_from(turns)
        for at, draft in enumerate(drafts):
            if draft.is_given:
                raise InvalidTurn(
                    f"turn {at}: it has an id of its own, {draft.id!r}",
                    hint="leave it out: what replaces other turns gets new ids",
                )
        wanted = None if ids is None else _ids_of(ids)
        try:
            taken = self._take_out("replace", wanted, drafts, reason, now)
        except ConversationNotFound:
            if not drafts:
                raise
            taken = None
        if taken is None:
            return self._append(drafts, True) if drafts else []
        return taken.came

    def _take_out(
        self,
        event: str,
        ids: Collection[str] | None,
        drafts: list[Draft],
        reason: str,
        now: datetime | None,
    ) -> Taken | None:
        from datetime import UTC, datetime

        self._archive._refuse_if_kept(self.namespace, self.continuation_id)
        observer = self._archive._observer
        task = self.continuation_id
        began = perf_counter()
        try:
            taken = self._store().upkeep.take_out(
                self.namespace,
                self.continuation_id,
                ids,
                drafts,
                event=event,
                reason=reason,
                now=datetime.now(UTC) if now is None else now,
            )
        except ConversationNotFound:
            raise
        except ConvmemError as error:
            observer.failed(task, event, error)
            raise
        if taken is not None:
            seconds = perf_counter() - began
            observer.compacted(task, taken.report, seconds)
            if taken.came:
                observer.recorded(task, len(taken.came), taken.came_bytes, seconds, 0.0)
        return taken

    def delete(
        self,
        *,
        reason: str = "asked",
        quiet_since: datetime | None = None,
        dry_run: bool = False,
        now: datetime | None = None,
    ) -> Removal:
        """Move the whole conversation, and its state, to the trash. Reads it once.

        Turns that were imported do not come back by an import; see ``buried``.

        Args:
            reason: A word for the audit log.
            quiet_since: Only if there is no turn from after this; looked at while nobody can
                record, so that a conversation that comes to life stays.
            now: When it goes, as the trash counts its age; the present by default.

        Raises:
            ConversationNotFound, LockTimeout, StorageError; ``ConvmemError`` of kind ``busy`` if
            there is such a turn; UsageError if the keep-list of ``convmem.toml`` holds it.
        """
        from datetime import UTC, datetime

        self._archive._refuse_if_kept(self.namespace, self.continuation_id)
        return self._store().trash.delete(
            self.namespace,
            self.continuation_id,
            now=datetime.now(UTC) if now is None else now,
            reason=reason,
            quiet_since=quiet_since,
            dry_run=dry_run,
        )

    def restore(
        self,
        *,
        since: datetime | None = None,
        removed_since: datetime | None = None,
        dry_run: bool = False,
        now: datetime | None = None,
    ) -> Restoration:
        """Bring back what is in the trash of this conversation: each turn to its place, byte for
        byte, with its ``seq``. Others may read and write meanwhile.

        Reads the log and the trash whole, and holds some 170 bytes for each turn in the trash
        unless the log was deleted as a whole.

        Args:
            since: Only turns from this time on.
            removed_since: Only what was removed from this time on.
            now: When, for the audit log.

        Raises:
            ConversationNotFound: Nothing of it is in the trash.
            LockTimeout, StorageError: The log and the trash are as they were.
        """
        from datetime import UTC, datetime

        filter_of(None, since, removed_since)
        observer = self._archive._observer
        task = self.continuation_id
        return self._store().trash.restore(
            self.namespace,
            self.continuation_id,
            since=since,
            removed_since=removed_since,
            now=datetime.now(UTC) if now is None else now,
            dry_run=dry_run,
            advanced=lambda amount: observer.advanced(task, amount),
        )

    def buried(self, turn_ids: Collection[str]) -> Buried:
        """Return those of *turn_ids* that were imported and then compacted away or deleted.

        An import leaves them out, for good: also when the trash was purged. ``record`` does not
        ask. Nearly free where nothing of the conversation was ever removed. A turn that was
        restored may be among them.
        """
        return self._store().trash.buried(self.namespace, self.continuation_id, turn_ids)

    def unbury(self) -> int:
        """Let an import bring back what was removed; return how many turns it then may.

        Raises:
            LockTimeout: A compaction or restoration is at work on the conversation.
        """
        return self._store().trash.unbury(self.namespace, self.continuation_id)

    def scrub(
        self, turn: str | int, *, dry_run: bool = False, now: datetime | None = None
    ) -> Scrubbed:
        """Remove what one turn said, everywhere and for good; a marker stays in its place.

        From the log, also a compressed one, which becomes plain; from the trash; from damaged bytes
        in the quarantine; files that killed processes left; the index; and its vector. What stays
        has the turn's id, ``seq``, time and role, ``content`` ``""`` and ``meta``
        ``{"scrubbed": time}``. A retry of it is answered with that. Others may read and write
        meanwhile. Reads all that there is of the conversation, and the files of vectors, and writes
        anew each file of turns that held it: room is needed for that.

        Not reached are copies elsewhere: other turns and conversations that say the same, backups,
        snapshots of the file system, and blocks of the disk that are free now. The keep-list of
        ``convmem.toml`` does not hinder it.

        Args:
            turn: An id, or a ``seq``. Text of digits is a ``seq`` unless a turn has that id.
            dry_run: Say where it would be removed; writes nothing.
            now: When, as the marker says; the present by default.

        Raises:
            ConversationNotFound: There is nothing of it, neither a log nor in the trash.
            ConvmemError: Of kind ``not_found``: it has no such turn.
            UsageError: Several turns have that ``seq``; nothing was changed.
            LockTimeout, StorageFull, StorageError: Each file is as it was, or done: go on.
        """
        from datetime import UTC, datetime

        from convmem.search.semantic.blanking import Blanking

        observer = self._archive._observer
        task = self.continuation_id
        vectors = Blanking(self._store().logs, self.namespace)
        try:
            done = self._store().trash.scrub(
                self.namespace,
                self.continuation_id,
                turn,
                now=datetime.now(UTC) if now is None else now,
                dry_run=dry_run,
                going=vectors.before,
                advanced=lambda amount: observer.advanced(task, amount),
            )
            vectors.behind()
        except ConvmemError as error:
            observer.failed(task, "scrub", error)
            raise
        return done

    def compress(
        self,
        *,
        idle: timedelta | float | None = None,
        dry_run: bool = False,
        now: datetime | None = None,
    ) -> CompressionReport:
        """Compress the whole conversation with zstd, for good reading and until the next append.

        What was written is read back and compared before the plain log goes. Others may read
        and write meanwhile: if somebody has appended, the log stays as it is.

        Args:
            idle: Only if the last turn is older than this (a ``timedelta``, or seconds).
            dry_run: Say what it would give; writes nothing.
            now: What *idle* counts to; the present by default.

        Raises:
            ConversationNotFound, LockTimeout, StorageFull, StorageError: The log is as it was.
            UsageError: zstd is not installed: ``pip install 'convmem[zstd]'``.
        """
        from datetime import UTC, datetime, timedelta

        observer = self._archive._observer
        task = self.continuation_id
        return self._store().upkeep.compress(
            self.namespace,
            self.continuation_id,
            now=datetime.now(UTC) if now is None else now,
            idle_seconds=idle.total_seconds() if isinstance(idle, timedelta) else idle,
            dry_run=dry_run,
            advanced=lambda amount: observer.advanced(task, amount),
        )

    def uncompress(self, *, even_damaged: bool = False, dry_run: bool = False) -> CompressionReport:
        """Make the log plain again now; the next append would do it too.

        Args:
            even_damaged: Where it does not unpack whole, save what is left: the damaged file goes
                to the quarantine, and what is missing is told of as any damage is.
            dry_run: Only try whether it would; writes nothing.

        Raises:
            ConversationNotFound, LockTimeout, StorageFull, StorageError: The log is as it was.
            CorruptLog: The compressed log is damaged; it stays.
            UsageError: zstd is not installed.
        """
        return self._store().upkeep.uncompress(
            self.namespace, self.continuation_id, even_damaged=even_damaged, dry_run=dry_run
        )

    def verify(self, *, on_finding: Callable[[Finding], None] | None = None) -> VerifyReport:
        """Read the whole log and say of each byte what it is, and of each fault where. Reads only.

        Takes 8 bytes of memory for each turn. *on_finding* is told of each fault; the report's
        ``findings`` has the first 1,000.

        Raises:
            ConversationNotFound: There is no such conversation.
        """
        observer = self._archive._observer
        task = self.continuation_id
        return self._store().upkeep.verify(
            self.namespace,
            self.continuation_id,
            found=_unheard if on_finding is None else on_finding,
            advanced=lambda amount: observer.advanced(task, amount),
        )

    def repair(self, *, dry_run: bool = False, now: datetime | None = None) -> RepairReport:
        """Split records that share a line, set damage aside in the quarantine, put turns in order.

        No byte is lost, and no turn that readers see; where nothing is wrong nothing is written.
        Others may read and write meanwhile. What cannot be repaired is in the report's ``left``.

        Args:
            dry_run: Say exactly what would be done; writes nothing.
            now: When, for the audit log; the present by default.

        Raises:
            ConversationNotFound, LockTimeout (a compaction is at work), StorageFull, StorageError:
            The log holds all that it held.
        """
        from datetime import UTC, datetime

        observer = self._archive._observer
        task = self.continuation_id
        return self._store().upkeep.repair(
            self.namespace,
            self.continuation_id,
            now=datetime.now(UTC) if now is None else now,
            dry_run=dry_run,
            advanced=lambda amount: observer.advanced(task, amount),
        )


def _ids_of(ids: Iterable[str]) -> set[str]:
    """Return the ids that a log may hold.

    Raises:
        UsageError: They are one text, whose letters would be taken for ids, or no texts.
    """
    found = [ids] if isinstance(ids, str) else list(ids)
    if isinstance(ids, str) or not all(isinstance(each, str) for each in found):
        raise UsageError(f"ids must be turn ids, several or none, not {ids!r}")
    return set(filter(_is_text, found))


def _is_text(text: str) -> bool:
    """Whether it can be written at all: no turn has an id with half a character in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unheard(finding: Finding) -> None:
    """The report has it as well."""


def _of_turns(summarize: Callable[[Iterator[Turn]], str]) -> Summarizer:
    """Let a function of turns read stored lines."""
    from convmem.log import codec

    def of_lines(lines: Iterator[bytes]) -> str:
        turns = (codec.parse(line) for line in lines)
        return summarize(turn for turn in turns if turn is not None)

    return of_lines
