"""What keeps an archive of JSONL files in order over the years, beside turns coming and going."""

from __future__ import annotations

import os

from convmem import ids
from convmem.errors import storage_error
from convmem.log.removing import compact, named, rewrite, survey
from convmem.stores.noted import Noted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime
    from typing import Any

    from convmem.log.append import Log
    from convmem.log.checks.repair_plan import RepairReport
    from convmem.log.checks.verify_report import Finding, VerifyReport
    from convmem.log.compressed.cold_report import CompressionReport
    from convmem.log.files import Folder
    from convmem.log.removing.named import Taken
    from convmem.log.removing.summary import Summarizer
    from convmem.log.removing.survey import CompactionReport
    from convmem.retention import RetentionPolicy
    from convmem.stores.places import Places
    from convmem.turns import Draft


class DirectoryUpkeep:
    """Compacts, deletes, restores, checks and repairs the logs of a directory store.

    Methods that name a conversation raise ``ConversationNotFound`` where there is none.
    """

    def __init__(
        self,
        places: Places,
        *,
        lock_timeout_seconds: float,
        remember_seconds: float,
    ) -> None:
        self._places = places
        self._lock_timeout_seconds = lock_timeout_seconds
        self._remember_seconds = remember_seconds
        self._leftovers: dict[str, dict[str, list[tuple[str, str]]]] = {}
        self._left_by_the_dead: dict[str, dict[str, list[tuple[str, str]]]] = {}

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
        its_leftovers = self._leftovers_of(namespace, continuation_id)
        if its_leftovers is None:
            name = ids.encode_name(continuation_id)
            its_leftovers = _find_leftovers(folder).get(name, [])
        if not looked.report.dropped and not its_leftovers:
            return looked.report
        noted = Noted(folder, now, namespace)

        def going(report: CompactionReport) -> None:
            noted.note("compact", continuation_id, **_told_of(report), summary=report.summary)

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
                    healed=self._places.healed_in(continuation_id),
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
            folder = self._places.folder(namespace, create=False)
        except FileNotFoundError:
            return
        self._leftovers[namespace] = _find_leftovers(folder)

    def take_out(
        self,
        namespace: str,
        continuation_id: str,
        turn_ids: Collection[str] | None,
        drafts: list[Draft],
        *,
        event: str,
        reason: str,
        now: datetime,
    ) -> Taken | None:
        """Move the turns with *turn_ids*, or all, to the trash; append *drafts* in the same step.

        See ``log.named``. Looks first, without a lock: where none of them is there, nothing is
        changed, and ``None`` returned.
        """
        with self._places.reader(namespace, continuation_id) as reader:
            if turn_ids is not None and not named.find(reader.fd, reader.end, turn_ids):
                return None
        folder = self._places.folder(namespace, create=False)
        noted = Noted(folder, now, namespace)

        def going(taken: Taken) -> None:
            came = len(drafts) or None
            noted.note(event, continuation_id, **_told_of(taken.report), came=came)

        try:
            with noted:
                return named.take_out(
                    self._places.log(namespace, continuation_id),
                    turn_ids,
                    drafts,
                    reason=reason,
                    now=now,
                    remember_seconds=self._remember_seconds,
                    timeout_seconds=self._lock_timeout_seconds,
                    leftovers=self._left_by_the_dead_of(folder, namespace, continuation_id),
                    healed=self._places.healed_in(continuation_id),
                    going=going,
                    went=noted.went,
                )
        except FileNotFoundError:
            raise self._places.not_found(namespace, continuation_id) from None

    def _left_by_the_dead_of(
        self, folder: Folder, namespace: str, continuation_id: str
    ) -> list[tuple[str, str]]:
        """Return what dead processes left of a log, as of the first time that this was asked.

        Listing a large folder takes longer than taking a turn out of a log, and is not done anew
        for each: what others leave later is there for a compaction, or the next program.
        """
        found = self._left_by_the_dead.get(namespace)
        if found is None:
            found = self._left_by_the_dead[namespace] = _find_leftovers(folder)
        return found.pop(ids.encode_name(continuation_id), [])

    # --- compressing ----------------------------------------------------------------------------

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
        from convmem.log.compressed import cold_compress

        try:
            return cold_compress.compress(
                self._log_of(namespace, continuation_id),
                now=now,
                idle_seconds=idle_seconds,
                dry_run=dry_run,
                timeout_seconds=self._lock_timeout_seconds,
                leftovers=self._leftovers_of(namespace, continuation_id),
                healed=self._places.healed_in(continuation_id),
                advanced=advanced,
            )
        except FileNotFoundError:
            raise self._places.not_found(namespace, continuation_id) from None

    def uncompress(
        self, namespace: str, continuation_id: str, *, even_damaged: bool = False, dry_run: bool
    ) -> CompressionReport:
        """Make the conversation's log plain again; see ``log.cold_compress``."""
        from convmem.log.compressed import cold_compress

        try:
            return cold_compress.uncompress(
                self._log_of(namespace, continuation_id),
                even_damaged=even_damaged,
                dry_run=dry_run,
                timeout_seconds=self._lock_timeout_seconds,
                healed=self._places.healed_in(continuation_id),
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
        from convmem.log.checks import verify

        with self._places.reader(namespace, continuation_id) as reader:
            holes = reader.holes
            return verify.verify(
                reader.fd, reader.size, found, advanced, is_still=holes is not None, holes=holes
            )

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
        from convmem.log.checks import repair

        with self._places.reader(namespace, continuation_id) as reader:
            is_salvaged = bool(reader.holes)
            if not is_salvaged:
                if dry_run:
                    return repair.preview(reader.fd, reader.size, advanced)
                looked = repair.look(reader.fd, reader.size, advanced)
                if not looked.changes:
                    return looked.report
        if is_salvaged:
            return self._salvage_and_repair(
                namespace, continuation_id, now=now, dry_run=dry_run, advanced=advanced
            )
        noted = Noted(self._places.folder(namespace, create=False), now, namespace)

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

        try:
            with noted:
                return repair.repair(
                    self._log_of(namespace, continuation_id),
                    timeout_seconds=self._lock_timeout_seconds,
                    healed=self._places.healed_in(continuation_id),
                    advanced=_told_already,
                    looked=looked,
                    leftovers=self._leftovers_of(namespace, continuation_id),
                    going=going,
                )
        except FileNotFoundError:
            raise self._places.not_found(namespace, continuation_id) from None

    def _salvage_and_repair(
        self,
        namespace: str,
        continuation_id: str,
        *,
        now: datetime,
        dry_run: bool,
        advanced: Callable[[int], None],
    ) -> RepairReport:
        """Make a damaged compressed log plain, as the next append would, and then repair it."""
        from convmem.log.checks import repair
        from convmem.log.compressed import cold_compress
        from convmem.log.compressed.cold_read import Remnant

        log = self._log_of(namespace, continuation_id)
        if dry_run:
            left = Remnant(log.folder, log.name, known_last_seq=log.known_last_seq())
            try:
                report = repair.preview(left.fd, os.fstat(left.fd).st_size, advanced)
            finally:
                os.close(left.fd)
            report.is_changed = report.is_salvaged = True
            return report
        made = cold_compress.uncompress(
            log,
            even_damaged=True,
            dry_run=False,
            timeout_seconds=self._lock_timeout_seconds,
            healed=self._places.healed_in(continuation_id),
        )
        report = self.repair(namespace, continuation_id, now=now, dry_run=False, advanced=advanced)
        report.is_changed = report.is_salvaged = True
        report.compressed = made.quarantine
        return report

    def _leftovers_of(self, namespace: str, continuation_id: str) -> list[tuple[str, str]] | None:
        """Return a log's part of what ``expect_many`` found, ``None`` where it was not asked."""
        leftovers = self._leftovers.get(namespace)
        return None if leftovers is None else leftovers.get(ids.encode_name(continuation_id), [])

    def _log_of(self, namespace: str, continuation_id: str) -> Log:
        """Return the writing side of a log that is there, plain or compressed."""
        from convmem.log.compressed import cold

        folder = self._places.folder(namespace, create=False)
        cold.find(folder, ids.encode_name(continuation_id))
        return self._places.log(namespace, continuation_id)


_MOST_RANGES = 20


def _told_of(report: CompactionReport) -> dict[str, Any]:
    """Return what the audit log says of turns that went."""
    return {
        "turns": report.dropped,
        "bytes": report.dropped_bytes,
        "reasons": report.reasons,
        "ranges": report.ranges[:_MOST_RANGES],
        "kept": report.kept,
        "trash": report.trash,
        "quarantine": report.quarantine,
    }


def _find_leftovers(folder: Folder) -> dict[str, list[tuple[str, str]]]:
    try:
        return rewrite.find_leftovers(folder)
    except OSError as error:
        raise storage_error(error, f"cannot read {folder.path}") from error


def _told_already(amount: int) -> None:
    """The first look went through the log, and told of its progress."""
