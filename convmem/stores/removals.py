"""Whole conversations going to the trash, what is there, and the ways back and out for good."""

from __future__ import annotations

import time

from convmem import ids
from convmem.errors import ConversationNotFound, StorageFull, storage_error
from convmem.log import codec, locks, state
from convmem.log.removing import (
    deleted,
    dropped,
    removal,
    restore,
    rewrite,
    tombstones,
    trash,
    trash_turns,
)
from convmem.stores.noted import Noted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from datetime import datetime

    from convmem.log.files import Folder
    from convmem.log.records import OnDamage
    from convmem.log.removing.removal import Removal
    from convmem.log.removing.restore import Restoration
    from convmem.log.removing.scrub_plan import Scrubbed
    from convmem.log.removing.trash import TrashFile
    from convmem.stores.places import Places
    from convmem.turns import Turn


class DirectoryTrash:
    """The trash of each namespace of a directory store.

    Methods that name a conversation raise ``ConversationNotFound`` where there is none.
    """

    def __init__(self, places: Places, *, lock_timeout_seconds: float) -> None:
        self._places = places
        self._lock_timeout_seconds = lock_timeout_seconds

    def delete(
        self,
        namespace: str,
        continuation_id: str,
        *,
        now: datetime,
        reason: str,
        quiet_since: datetime | None,
        dry_run: bool,
    ) -> Removal:
        """Move a whole conversation, and its state, to the trash. Reads it once.

        With *quiet_since*: only if no turn is from after that, else ``StillInUse`` is raised.
        Where an earlier deletion was killed in the middle, this one does what is left of it.
        """
        try:
            with self._places.reader(namespace, continuation_id) as reader:
                if dry_run:
                    return removal.Removal(reader.size, reader.last_seq(), "")
        except ConversationNotFound:
            finished = self._finish(namespace, continuation_id, dry_run)
            if finished is None:
                raise
            return finished
        noted = Noted(self._places.folder(namespace, create=False), now, namespace)

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
                    quiet_since=quiet_since,
                    timeout_seconds=self._lock_timeout_seconds,
                    healed=self._places.healed_in(continuation_id),
                    going=going,
                    went=noted.went,
                )
        except FileNotFoundError:
            raise self._places.not_found(namespace, continuation_id) from None

    def _finish(self, namespace: str, continuation_id: str, dry_run: bool) -> Removal | None:
        try:
            folder = self._places.folder(namespace, create=False)
        except FileNotFoundError:
            return None
        name = ids.encode_name(continuation_id)
        if dry_run:
            left = removal.left_behind(folder, name)
            return None if left is None else removal.Removal(0, 0, "")
        return removal.finish(folder, name, timeout_seconds=self._lock_timeout_seconds)

    def files(self, namespace: str, continuation_id: str | None = None) -> list[TrashFile]:
        """Return what is in the trash, of one conversation or of all, oldest first."""
        name = None if continuation_id is None else ids.encode_name(continuation_id)
        try:
            folder = self._places.folder(namespace, create=False)
        except FileNotFoundError:
            return []
        try:
            found = trash.files(folder, name)
        except OSError as error:
            where = f"{folder.path}/{trash.FOLDER}"
            raise storage_error(error, f"cannot read {where}") from error
        for each in found:
            each.continuation_id = self._places.id_of(folder, each.name)
        return found

    def turns(self, namespace: str, file: TrashFile, *, damaged: OnDamage) -> Iterator[Turn]:
        """Yield the turns in one of the files of turns that are there, in its order.

        Raises:
            StorageError: It cannot be read.
        """
        try:
            folder = self._places.folder(namespace, create=False)
            yield from trash_turns.turns_in(folder, file.file_name, damaged)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error, f"cannot read {trash.FOLDER}/{file.file_name}") from error

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
            for each in self.files(namespace, continuation_id)
            if removed_since is None or each.removed >= removed_since
        ]
        if not files:
            raise self._places.not_in_trash(namespace, continuation_id)
        wants = None if since is None else _Since(since)
        folder = self._places.folder(namespace, create=False)
        name = ids.encode_name(continuation_id)
        if dry_run:
            return restore.preview(folder, name, files, wants)
        noted = Noted(folder, now, namespace)

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
                healed=self._places.healed_in(continuation_id),
                going=going,
                went=noted.went,
                advanced=advanced,
            )

    def buried(
        self, namespace: str, continuation_id: str, turn_ids: Collection[str]
    ) -> tombstones.Buried:
        """Return those of *turn_ids* that were imported, removed, and are not to be again.

        Where nothing of the conversation was, as nearly always, that costs a look at a name.
        """
        name = ids.encode_name(continuation_id)
        try:
            folder = self._places.folder(namespace, create=False)
            return tombstones.buried(folder, name, turn_ids)
        except FileNotFoundError:
            return tombstones.Buried()
        except OSError as error:
            where = self._places.path(namespace, continuation_id)
            raise storage_error(error, f"cannot read what was removed of {where}") from error

    def unbury(self, namespace: str, continuation_id: str) -> int:
        """Let what was removed of a conversation be imported again; return how many turns that is.

        Turns that are back already count too. They stay known until all is forgotten: who is
        interrupted does it again.

        Raises:
            LockTimeout: A compaction or restoration is at work on the conversation.
        """
        name = ids.encode_name(continuation_id)
        try:
            folder = self._places.folder(namespace, create=False)
            if not folder.has(f"{tombstones.FOLDER}/{name}"):
                return 0
            with rewrite.exclusive(folder, name):
                # Else what a compaction took a short while ago would be answered as stored still.
                dropped.forget(
                    folder, name, time.time(), lambda some: tombstones.buried(folder, name, some)
                )
                return tombstones.clear(folder, name, timeout_seconds=self._lock_timeout_seconds)
        except FileNotFoundError:
            return 0
        except OSError as error:
            where = self._places.path(namespace, continuation_id)
            raise storage_error(error, f"cannot forget what was removed of {where}") from error

    def scrub(
        self,
        namespace: str,
        continuation_id: str,
        turn: str | int,
        *,
        now: datetime,
        dry_run: bool,
        going: Callable[[list[bytes]], None],
        advanced: Callable[[int], None],
    ) -> Scrubbed:
        """Remove what one turn said, everywhere and for good; see ``log.scrub``.

        *turn* is an id, or a ``seq``; text of digits is a ``seq`` unless a turn has that id.
        *going* gets its lines just before the first of them goes.

        Raises:
            ConversationNotFound: There is nothing of it, neither a log nor in the trash.
            TurnNotFound: It has no such turn.
        """
        from convmem.log.removing import scrub
        from convmem.stores import facts_index, logs

        name = ids.encode_name(continuation_id)
        wanted = scrub.wanted(turn)
        try:
            folder = self._places.folder(namespace, create=False)
            is_there = folder.has(f"{name}.jsonl") or folder.has(f"{name}.jsonl.zst")
            if not is_there and not trash.files(folder, name):
                raise FileNotFoundError(name)
            if dry_run:
                return scrub.preview(folder, name, wanted, now=now, advanced=advanced)
            if not folder.has(f"{name}.jsonl"):
                # A compressed log is not to be made plain for a turn that is not there.
                scrub.preview(folder, name, wanted, now=now, advanced=advanced)
        except FileNotFoundError:
            raise self._places.not_found(namespace, continuation_id) from None
        except OSError as error:
            where = self._places.path(namespace, continuation_id)
            raise storage_error(error, f"cannot read {where}") from error
        noted = Noted(folder, now, namespace)

        def tell(done: Scrubbed, lines: list[bytes]) -> None:
            noted.note(
                "scrub",
                continuation_id,
                id=done.turn_id,
                seq=done.seq,
                places=[f"{place.kind} {place.file}" for place in done.places],
            )
            going(lines)

        with noted:
            done = scrub.scrub(
                self._places.log(namespace, continuation_id),
                wanted,
                now=now,
                timeout_seconds=self._lock_timeout_seconds,
                healed=self._places.healed_in(continuation_id),
                going=tell,
                went=noted.went,
                advanced=advanced,
            )
        # How the first turn begins stands there, too.
        facts_index.forget(folder, name)
        logs.forget_words(folder)
        return done

    def purge(
        self, namespace: str, files: Iterable[TrashFile], *, now: datetime, dry_run: bool
    ) -> list[TrashFile]:
        """Remove *files* of the trash for good, and return those that went."""
        try:
            folder = self._places.folder(namespace, create=False)
        except FileNotFoundError:
            return []
        noted = Noted(folder, now, namespace)
        gone = [each for each in files if dry_run or self._purge_one(folder, each, noted)]
        if gone and not dry_run:
            try:
                self._forget_what_cannot_come_back(folder, namespace, now)
            except OSError as error:
                raise storage_error(error, "purged, but cannot tidy up behind it") from error
        return gone

    def _purge_one(self, folder: Folder, file: TrashFile, noted: Noted) -> bool:
        """Remove one file; say whether it was there still: somebody else may purge, too."""
        name = file.continuation_id or file.name
        try:
            with noted:
                return self._purge_noted(folder, file, name, noted)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise storage_error(error, f"cannot purge {file.file_name}") from error

    def _purge_noted(self, folder: Folder, file: TrashFile, name: str, noted: Noted) -> bool:
        try:
            noted.note("purge", name, bytes=file.bytes, trash=file.file_name)
        except StorageFull:
            # This is what makes room: there is some for the note once it is done.
            if trash.remove(folder, file.file_name):
                noted.note("purge", name, bytes=file.bytes, trash=file.file_name)
                return True
            return False
        if not trash.remove(folder, file.file_name):
            raise FileNotFoundError("purged by somebody else meanwhile")
        return True

    def _forget_what_cannot_come_back(self, folder: Folder, namespace: str, now: datetime) -> None:
        """Of a conversation that is gone from the log and the trash, nothing has to be known."""
        left = {each.name for each in trash.files(folder)}
        for name in deleted.names(folder):
            if name not in left:
                deleted.forget(folder, name)
        left.update(name for name, _ in self._places.names(namespace))
        # As what is remembered was: by the clock on the wall, also where age is measured otherwise.
        clock = max(now.timestamp(), time.time())
        for name in dropped.names(folder):
            if name not in left:
                dropped.forget_if_past(folder, name, clock)

        def is_needed(name: str) -> bool:
            return name in left or any(
                folder.has(file)
                for file in (
                    f"{name}.jsonl",
                    f"{name}.jsonl.zst",
                    f"{state.FOLDER}/{state.file_name(name)}",
                )
            )

        locks.remove_unneeded(folder, is_needed)


class _Since:
    """Wants turns from a time on; what has no time is outside."""

    def __init__(self, since: datetime) -> None:
        self._since = since

    def __call__(self, line: bytes) -> bool:
        turn = codec.parse(line)
        return turn is not None and turn.ts is not None and turn.ts >= self._since
