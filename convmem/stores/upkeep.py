"""What keeps an archive of JSONL files in order over the years, beside turns coming and going."""

from __future__ import annotations

import os

from convmem import ids
from convmem.errors import storage_error
from convmem.log import audit, codec, compact, deleted, removal, restore, rewrite, survey, trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from typing import Any

    from convmem.log.append import Log
    from convmem.log.cold_compress import CompressionReport
    from convmem.log.files import Folder
    from convmem.log.removal import Removal
    from convmem.log.repair_plan import RepairReport
    from convmem.log.restore import Restoration
    from convmem.log.summary import Summarizer
    from convmem.log.survey import CompactionReport
    from convmem.log.trash import TrashFile
    from convmem.log.verify_report import Finding, VerifyReport
    from convmem.progress import Observer
    from convmem.retention import RetentionPolicy
    from convmem.stores.places import Places


class DirectoryUpkeep:
    """Compacts, deletes, restores, checks and repairs the logs of a directory store.

    Methods that name a conversation raise ``ConversationNotFound`` where there is none.
    """

    def __init__(
        self,
        places: Places,
        *,
        observer: Observer,
        lock_timeout_seconds: float,
        remember_seconds: float,
    ) -> None:
        self._places = places
        self._observer = observer
        self._lock_timeout_seconds = lock_timeout_seconds
        self._remember_seconds = remember_seconds
        self._leftovers: dict[str, dict[str, list[tuple[str, str]]]] = {}

    def compact(
        self,
        namespace: str,
        continuation_id: str,
        policy: RetentionPolicy,
        *,
        now: datetime,
        discard: bool,
        dry_run: bool,
        advanced: Callable[[int], None],
        summarize: Summarizer | None = None,
    ) -> CompactionReport:
        """Let the turns go that *policy* lets go at *now*; see ``log.compact``.

        Looks first, without a lock: where nothing goes, nothing is changed on disk.
        """
        with self._places.reader(namespace, continuation_id) as reader:
            looked = survey.preview(
                reader.fd,
                reader.end,
                policy,
                now,
                advanced,
                dry_run=dry_run,
                take_in_summaries=summarize is not None,
            )
        if dry_run:
            return looked.report
        folder = self._places.folder(namespace, create=False)
        leftovers = self._leftovers.get(namespace)
        if leftovers is None:
            leftovers = rewrite.find_leftovers(folder)
        its_leftovers = leftovers.get(ids.encode_name(continuation_id), ())
        if not looked.report.dropped and not its_leftovers:
            return looked.report
        noted = _Noted(folder, now, namespace)

        def going(report: CompactionReport) -> None:
            noted.note(
                "compact",
                continuation_id,
                turns=report.dropped,
                bytes=report.dropped_bytes,
                reasons=report.reasons,
                ranges=report.ranges[:_MOST_RANGES],
                kept=report.kept,
                trash=report.trash,
                quarantine=report.quarantine,
                summary=report.summary,
            )

        try:
            with noted:
                return compact.compact(
                    self._places.log(namespace, continuation_id),
                    policy,
                    now=now,
                    discard=discard,
                    remember_seconds=self._remember_seconds,
                    timeout_seconds=self._lock_timeout_seconds,
                    leftovers=its_leftovers,
                    healed=lambda kept: self._observer.healed(continuation_id, kept),
                    advanced=_told_already,
                    summarize=summarize,
                    going=going,
                    went=noted.went,
                    looked=looked,
                )
        except FileNotFoundError:
            raise self._places.not_found(namespace, continuation_id) from None

    def expect_many(self, namespace: str) -> None:
        """Look for dead temporary files once, instead of once for each conversation."""
        try:
            self._leftovers[namespace] = rewrite.find_leftovers(
                self._places.folder(namespace, create=False)
            )
        except FileNotFoundError:
            return

    # --- whole conversations, and the trash ----------------------------------------------------

    def delete(
        self, namespace: str, continuation_id: str, *, now: datetime, reason: str, dry_run: bool
    ) -> Removal:
        """Move a whole conversation, and its state, to the trash. Costs the same at any size."""
        with self._places.reader(namespace, continuation_id) as reader:
            if dry_run:
                return removal.Removal(reader.size, reader.last_seq(), "")
        noted = _Noted(self._places.folder(namespace, create=False), now, namespace)

        def going(gone: Removal) -> None:
            noted.note(
                "delete",
                continuation_id,
                bytes=gone.bytes,
                last_seq=gone.last_seq,
                reasons={reason: 1},
                trash=gone.trash,
            )

        try:
            with noted:
                return removal.remove(
                    self._places.log(namespace, continuation_id),
                    now=now,
                    timeout_seconds=self._lock_timeout_seconds,
                    healed=lambda kept: self._observer.healed(continuation_id, kept),
                    going=going,
                    went=noted.went,
                )
        except FileNotFoundError:
            raise self._places.not_found(namespace, continuation_id) from None

    def trash(self, namespace: str, continuation_id: str | None = None) -> list[TrashFile]:
        """Return what is in the trash, of one conversation or of all, oldest first."""
        name = None if continuation_id is None else ids.encode_name(continuation_id)
        try:
            folder = self._places.folder(namespace, create=False)
        except FileNotFoundError:
            return []
        found = trash.files(folder, name)
        for each in found:
            each.continuation_id = self._places.id_of(folder, each.name)
        return found

    def restore(
        self,
        namespace: str,
        continuation_id: str,
        *,
        since: datetime | None,
        removed_since: datetime | None,
        now: datetime,
        dry_run: bool,
        advanced: Callable[[int], None],
    ) -> Restoration:
        """Bring back what is in the trash of one conversation; see ``log.restore``.

        Args:
            since: Only turns from this time on.
            removed_since: Only what was removed from this time on.

        Raises:
            ConversationNotFound: Nothing of it is in the trash.
        """
        files = [
            each
            for each in self.trash(namespace, continuation_id)
            if removed_since is None or each.removed >= removed_since
        ]
        if not files:
            raise self._places.not_in_trash(namespace, continuation_id)
        wants = None if since is None else _Since(since)
        folder = self._places.folder(namespace, create=False)
        name = ids.encode_name(continuation_id)
        if dry_run:
            return restore.preview(folder, name, files, wants)
        noted = _Noted(folder, now, namespace)

        def going(done: Restoration) -> None:
            noted.note(
                "restore",
                continuation_id,
                turns=done.restored,
                bytes=done.bytes,
                ranges=[(done.first_seq, done.last_seq)],
                files=done.files,
                summaries=done.summaries,
            )

        with noted:
            return restore.restore(
                self._places.log(namespace, continuation_id),
                files,
                wants=wants,
                timeout_seconds=self._lock_timeout_seconds,
                healed=lambda kept: self._observer.healed(continuation_id, kept),
                going=going,
                went=noted.went,
                advanced=advanced,
            )

    def purge(
        self, namespace: str, files: Iterable[TrashFile], *, now: datetime, dry_run: bool
    ) -> list[TrashFile]:
        """Remove *files* of the trash for good, and return those that went."""
        try:
            folder = self._places.folder(namespace, create=False)
        except FileNotFoundError:
            return []
        noted = _Noted(folder, now, namespace)
        gone = []
        for each in files:
            if not dry_run:
                with noted:
                    noted.note(
                        "purge",
                        each.continuation_id or each.name,
                        bytes=each.bytes,
                        trash=each.file_name,
                    )
                    trash.remove(folder, each.file_name)
            gone.append(each)
        if gone and not dry_run:
            self._forget_what_cannot_come_back(folder)
        return gone

    def compress(
        self,
        namespace: str,
        continuation_id: str,
        *,
        now: datetime,
        idle_seconds: float | None = None,
        dry_run: bool,
        advanced: Callable[[int], None],
    ) -> CompressionReport:
        """Compress the whole conversation; see ``log.cold_compress``.

        With *idle_seconds* only if its last turn was longer ago than that at *now*.
        """
        from convmem.log import cold_compress

        leftovers = self._leftovers.get(namespace)
        name = ids.encode_name(continuation_id)
        try:
            return cold_compress.compress(
                self._log_of(namespace, continuation_id),
                now=now,
                idle_seconds=idle_seconds,
                dry_run=dry_run,
                timeout_seconds=self._lock_timeout_seconds,
                leftovers=None if leftovers is None else leftovers.get(name, ()),
                healed=lambda kept: self._observer.healed(continuation_id, kept),
                advanced=advanced,
            )
        except FileNotFoundError:
            raise self._places.not_found(namespace, continuation_id) from None

    def uncompress(
        self, namespace: str, continuation_id: str, *, dry_run: bool
    ) -> CompressionReport:
        """Make the conversation's log plain again, as an append would."""
        from convmem.log import cold_compress

        try:
            return cold_compress.uncompress(
                self._log_of(namespace, continuation_id),
                dry_run=dry_run,
                timeout_seconds=self._lock_timeout_seconds,
                healed=lambda kept: self._observer.healed(continuation_id, kept),
            )
        except FileNotFoundError:
            raise self._places.not_found(namespace, continuation_id) from None

    # --- checking and repairing ----------------------------------------------------------------

    def verify(
        self,
        namespace: str,
        continuation_id: str,
        *,
        found: Callable[[Finding], None],
        advanced: Callable[[int], None],
    ) -> VerifyReport:
        """Say of each byte of the log what it is; see ``log.verify``. Reads only."""
        from convmem.log import verify

        with self._places.reader(namespace, continuation_id) as reader:
            return verify.verify(reader.fd, reader.size, found, advanced)

    def repair(
        self,
        namespace: str,
        continuation_id: str,
        *,
        now: datetime,
        dry_run: bool,
        advanced: Callable[[int], None],
    ) -> RepairReport:
        """Split what is fused, set damage aside, put turns in order; see ``log.repair``."""
        from convmem.log import repair

        with self._places.reader(namespace, continuation_id) as reader:
            if dry_run:
                return repair.preview(reader.fd, reader.size, advanced)
            looked = repair.look(reader.fd, reader.size, advanced)
            if not looked.changes:
                return looked.report
        noted = _Noted(self._places.folder(namespace, create=False), now, namespace)

        def going(report: RepairReport) -> None:
            noted.note(
                "repair",
                continuation_id,
                bytes=report.set_aside_bytes,
                reasons=report.set_aside,
                copies=report.copies,
                rescued=report.rescued,
                quarantine=report.quarantine,
            )

        leftovers = self._leftovers.get(namespace)
        name = ids.encode_name(continuation_id)
        try:
            with noted:
                return repair.repair(
                    self._log_of(namespace, continuation_id),
                    timeout_seconds=self._lock_timeout_seconds,
                    healed=lambda kept: self._observer.healed(continuation_id, kept),
                    advanced=_told_already,
                    looked=looked,
                    leftovers=None if leftovers is None else leftovers.get(name, ()),
                    going=going,
                )
        except FileNotFoundError:
            raise self._places.not_found(namespace, continuation_id) from None

    def _log_of(self, namespace: str, continuation_id: str) -> Log:
        """Return the writing side of a log that is there, plain or compressed."""
        self._places.folder(namespace, create=False).stat(
            os.path.basename(self._places.path(namespace, continuation_id))
        )
        return self._places.log(namespace, continuation_id)

    def _forget_what_cannot_come_back(self, folder: Folder) -> None:
        left = {each.name for each in trash.files(folder)}
        for name in deleted.names(folder):
            if name not in left:
                deleted.forget(folder, name)


_MOST_RANGES = 20


class _Noted:
    """Notes in the audit log what is about to happen, and if it then does not, that too."""

    def __init__(self, folder: Folder, now: datetime, namespace: str) -> None:
        self._folder = folder
        self._now = now
        self._namespace = namespace
        self._entry: dict[str, Any] | None = None

    def __enter__(self) -> None:
        self._entry = None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or self._entry is None:
            return
        undone = {**self._entry, "undone": str(error)}
        try:
            audit.note(self._folder, self._now, undone, is_lasting=False)
        except OSError:
            return  # the error itself is raised, and says more

    def went(self) -> None:
        """It did happen, whatever fails from now on."""
        self._entry = None

    def note(self, event: str, continuation_id: str, **more: Any) -> None:
        """Write the line, durably but for a power cut that also takes what it speaks of."""
        self._entry = {
            "event": event,
            "namespace": self._namespace,
            "continuation_id": continuation_id,
            **{key: value for key, value in more.items() if value is not None},
        }
        try:
            audit.note(self._folder, self._now, self._entry, is_lasting=False)
        except OSError as error:
            self._entry = None
            raise storage_error(error, "cannot write the audit log") from error


def _told_already(amount: int) -> None:
    """The first look went through the log, and told of its progress."""


class _Since:
    """Wants turns from a time on; what has no time is outside."""

    def __init__(self, since: datetime) -> None:
        self._since = since

    def __call__(self, line: bytes) -> bool:
        turn = codec.parse(line)
        return turn is not None and turn.ts is not None and turn.ts >= self._since
