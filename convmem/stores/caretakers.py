"""What an archive asks beyond turns: keeping conversations in order, the trash, and the overview.

Each is a part of a ``Store`` by itself, so that an engine is written, and read, in pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from convmem.errors import ConvmemError
    from convmem.log.checks.repair_plan import RepairReport
    from convmem.log.checks.verify_report import Finding, VerifyReport
    from convmem.log.compressed.cold_report import CompressionReport
    from convmem.log.files import Folder
    from convmem.log.read import Reader
    from convmem.log.records import OnDamage
    from convmem.log.removing.named import Taken
    from convmem.log.removing.removal import Removal
    from convmem.log.removing.restore import Restoration
    from convmem.log.removing.scrub_plan import Scrubbed
    from convmem.log.removing.summary import Summarizer
    from convmem.log.removing.survey import CompactionReport
    from convmem.log.removing.tombstones import Buried
    from convmem.log.removing.trash import TrashFile
    from convmem.retention import RetentionPolicy
    from convmem.stores.health import Health, Limits
    from convmem.stores.stats import Stats
    from convmem.stores.values import ListRow
    from convmem.turns import Draft, Turn


class Upkeep(Protocol):
    """Keeps single conversations in order. All raise ``ConversationNotFound`` where there is none.

    *advanced* is told of the bytes that were gone through.
    """

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
        """Let the turns go that *policy* lets go at *now*."""

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
        """Move the turns with *turn_ids*, or all, to the trash, and append *drafts* in the same
        step; ``None``, with nothing changed, where none of them is there.

        *event* and *reason* are words for the audit log.
        """

    def expect_many(self, namespace: str) -> None:
        """Prepare for working on many conversations of *namespace*."""

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
        """Compress the whole conversation, if its last turn is that long ago."""

    def uncompress(
        self, namespace: str, continuation_id: str, *, even_damaged: bool = False, dry_run: bool
    ) -> CompressionReport:
        """Make the conversation plain again."""

    def verify(
        self,
        namespace: str,
        continuation_id: str,
        *,
        found: Callable[[Finding], None],
        advanced: Callable[[int], None],
    ) -> VerifyReport:
        """Say of each byte what it is. Reads only."""

    def repair(
        self,
        namespace: str,
        continuation_id: str,
        *,
        now: datetime,
        dry_run: bool,
        advanced: Callable[[int], None],
    ) -> RepairReport:
        """Split what is fused, set damage aside, put turns in order."""


class Trash(Protocol):
    """Where what was removed stays until it is purged, namespace by namespace."""

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
        """Move a whole conversation there, if it has no turn from after *quiet_since*."""

    def files(self, namespace: str, continuation_id: str | None = None) -> list[TrashFile]:
        """Return what is there, of one conversation or of all, oldest first."""

    def turns(self, namespace: str, file: TrashFile, *, damaged: OnDamage) -> Iterator[Turn]:
        """Yield the turns in one of the files of turns that are there."""

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
        """Bring back what is there of one conversation."""

    def buried(self, namespace: str, continuation_id: str, turn_ids: Collection[str]) -> Buried:
        """Return those of *turn_ids* that were imported, removed, and are not to be again."""

    def unbury(self, namespace: str, continuation_id: str) -> int:
        """Let what was removed of one conversation be imported again; return how many turns."""

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
        """Remove what one turn said, everywhere and for good; a marker stays in its place.

        *going* gets its lines just before the first of them goes, where there are any.
        """

    def purge(
        self, namespace: str, files: Iterable[TrashFile], *, now: datetime, dry_run: bool
    ) -> list[TrashFile]:
        """Remove *files* for good, and return those that went."""


class Overview(Protocol):
    """Looks at all conversations of a namespace at once. *failed* is told of those it cannot read;
    without it the first such error is raised."""

    def rows(
        self,
        namespace: str,
        *,
        count: bool,
        failed: Callable[[str, ConvmemError], None] | None,
    ) -> list[ListRow]:
        """Return what a list shows: the latest activity first."""

    def stats(
        self,
        namespace: str,
        *,
        continuation_ids: Iterable[str] | None,
        failed: Callable[[str, ConvmemError], None] | None,
    ) -> Stats:
        """Return measured figures."""

    def health(self, limits: Limits) -> Health:
        """Return how the whole archive is, from what is so now."""


class Logs(Protocol):
    """The logs as they lie there, by file name: for what is derived from all of them."""

    def stamps(self, namespace: str, *, known: Container[str] = ()) -> dict[str, str]:
        """Return, for the name of each log, text that changes whenever the log does.

        Costs one look at each, less where the name is among *known* ones; none is opened.
        """

    def stamp(self, namespace: str, name: str) -> str | None:
        """Return the stamp of one log as of now; ``None`` where it is gone."""

    def continuation_id(self, namespace: str, name: str) -> str | None:
        """Return whose log that is; ``None`` where it cannot be told."""

    def open(self, namespace: str, name: str) -> Reader:
        """Open a log for reading, plain or compressed.

        Raises:
            FileNotFoundError: It is gone.
        """

    def forget_words(self, namespace: str) -> None:
        """Remove the index of words: it may hold some of what is gone.

        Raises:
            StorageError: They are there still.
        """

    def index_folder(self, namespace: str, *, create: bool) -> Folder | None:
        """Return the open folder for what is derived; ``None`` without one. The caller closes it.

        With *create* it is made, where the namespace is there.
        """
