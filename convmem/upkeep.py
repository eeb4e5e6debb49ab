"""What keeps one conversation in order: compact, delete, restore, compress, verify, repair."""

from __future__ import annotations

from time import perf_counter

from convmem.errors import ConvmemError, UsageError
from convmem.following import filter_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from datetime import datetime, timedelta

    from convmem.archive import Archive
    from convmem.log.checks.repair_plan import RepairReport
    from convmem.log.checks.verify_report import Finding, VerifyReport
    from convmem.log.compressed.cold_report import CompressionReport
    from convmem.log.removing.removal import Removal
    from convmem.log.removing.restore import Restoration
    from convmem.log.removing.scrub_plan import Scrubbed
    from convmem.log.removing.summary import Summarizer
    from convmem.log.removing.survey import CompactionReport
    from convmem.log.removing.tombstones import Buried
    from convmem.retention import RetentionPolicy
    from convmem.stores.protocol import Store
    from convmem.turns import Turn


class Upkeep:
    """The part of a ``Conversation`` that operators use."""

    __slots__ = ()

    if TYPE_CHECKING:
        continuation_id: str
        namespace: str
        _archive: Archive

        def _store(self) -> Store: ...

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


def _unheard(finding: Finding) -> None:
    """The report has it as well."""


def _of_turns(summarize: Callable[[Iterator[Turn]], str]) -> Summarizer:
    """Let a function of turns read stored lines."""
    from convmem.log import codec

    def of_lines(lines: Iterator[bytes]) -> str:
        turns = (codec.parse(line) for line in lines)
        return summarize(turn for turn in turns if turn is not None)

    return of_lines
