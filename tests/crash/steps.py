"""What clients do to an archive while a fault strikes, and what they are told.

A step has ``do``; with ``is_retried`` it may be done again, as often as one likes, by a client that
got no answer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from chance import now
from ledger import NAME
from told import Document, Told, merged, one_of

from convmem import Archive, Durability, RetentionPolicy
from convmem.errors import CorruptLog, DurabilityUnknown, LockTimeout, StorageError
from convmem.log import files, flusher
from convmem.log.compressed import cold_compress, cold_pack
from convmem.log.removing import trash
from convmem.stores import facts, facts_index

OTHER_KEY = "other"
IMPORTED = "import"  # ids of imported turns begin so
_OF_AN_IMPORT: dict[str, Any] = {"meta": {"source": "claude-code"}, "raw": {"said": "verbatim"}}
LONG_ID = "a very long name, such as some systems give: " + "é" * 200


@dataclass(frozen=True)
class Record:
    """One turn; without an id it cannot be retried. With one that begins so, it is imported."""

    content: str
    id: str | None = None

    @property
    def is_retried(self) -> bool:
        return self.id is not None

    def do(self, archive: Archive, told: Told) -> None:
        more = _OF_AN_IMPORT if self.id is not None and self.id.startswith(IMPORTED) else {}
        chat = archive.conversation(NAME)
        turn = chat.record("user", self.content, id=self.id, ts=now(), **more)
        told.take("answer", turn.id, turn.seq, turn.content)


@dataclass(frozen=True)
class Batch:
    """Turns that belong together."""

    ids: tuple[str, ...]
    content: str
    is_retried: ClassVar[bool] = True

    def do(self, archive: Archive, told: Told) -> None:
        drafts = [
            {"role": "user", "content": self.content, "id": each, "ts": now()} for each in self.ids
        ]
        for turn in archive.conversation(NAME).record_many(drafts):
            told.take("answer", turn.id, turn.seq, turn.content)


@dataclass(frozen=True)
class Each:
    """Turns in one call that do not belong together: each is stored or not for itself."""

    ids: tuple[str, ...]
    content: str
    is_retried: ClassVar[bool] = True

    def do(self, archive: Archive, told: Told) -> None:
        drafts = [
            {"role": "user", "content": self.content, "id": each, "ts": now()} for each in self.ids
        ]
        failed = None
        for answer in archive.record_to_many((NAME, draft) for draft in drafts):
            if isinstance(answer, Exception):
                failed = answer
            else:
                told.take("answer", answer.id, answer.seq, answer.content)
        if failed is not None:
            raise failed


@dataclass(frozen=True)
class Elsewhere:
    """A turn of a conversation whose name is too long for a file."""

    content: str
    id: str
    is_retried: ClassVar[bool] = True

    def do(self, archive: Archive, told: Told) -> None:
        turn = archive.conversation(LONG_ID).record("user", self.content, id=self.id, ts=now())
        told.take("elsewhere", LONG_ID, turn.id, turn.seq, turn.content)


@dataclass(frozen=True)
class Compact:
    """A compaction."""

    keep_last: int
    discard: bool = False
    summary: str | None = None
    sync_bytes: int = files.SYNC_EVERY_BYTES
    is_retried: ClassVar[bool] = False

    def do(self, archive: Archive, told: Told) -> None:
        words = self.summary
        with instead(files, "SYNC_EVERY_BYTES", self.sync_bytes):
            archive.conversation(NAME).compact(
                RetentionPolicy(keep_last=self.keep_last),
                discard=self.discard,
                summarize=None if words is None else lambda turns: words,
                now=now(),
            )


@dataclass(frozen=True)
class Remove:
    """Just these turns go to the trash."""

    ids: tuple[str, ...]
    is_retried: ClassVar[bool] = True

    def do(self, archive: Archive, told: Told) -> None:
        archive.conversation(NAME).remove(self.ids, now=now())


@dataclass(frozen=True)
class Replace:
    """These turns go to the trash, or all, and others come, in one step."""

    contents: tuple[str, ...]
    ids: tuple[str, ...] | None = None
    is_retried: ClassVar[bool] = False

    def do(self, archive: Archive, told: Told) -> None:
        turns = [{"role": "user", "content": each, "ts": now()} for each in self.contents]
        for turn in archive.conversation(NAME).replace(turns, ids=self.ids, now=now()):
            told.take("answer", turn.id, turn.seq, turn.content)


@dataclass(frozen=True)
class Delete:
    """The whole conversation goes to the trash, once.

    Who carries on after a crash does not mean what was recorded since: a turn that went with a
    deletion, and is retried then, is a new one.
    """

    is_retried: ClassVar[bool] = False

    def do(self, archive: Archive, told: Told) -> None:
        chat = archive.conversation(NAME)
        has_gone = any(
            each.kind == trash.LOG and each.continuation_id == NAME for each in archive.trash()
        )
        if not (has_gone and chat.exists()):
            chat.delete(now=now())


@dataclass(frozen=True)
class Restore:
    """All that is in the trash comes back."""

    is_retried: ClassVar[bool] = False

    def do(self, archive: Archive, told: Told) -> None:
        archive.conversation(NAME).restore(now=now())


@dataclass(frozen=True)
class Untold:
    """A turn whose answer nobody has kept, so that it is never retried."""

    turn: Record
    is_retried: ClassVar[bool] = False

    def do(self, archive: Archive, told: Told) -> None:
        self.turn.do(archive, Told())


@dataclass(frozen=True)
class Unbury:
    """What was removed may be imported again."""

    is_retried: ClassVar[bool] = True

    def do(self, archive: Archive, told: Told) -> None:
        archive.conversation(NAME).unbury()


@dataclass(frozen=True)
class Scrub:
    """What one turn said goes for good."""

    turn_id: str
    is_retried: ClassVar[bool] = True

    def do(self, archive: Archive, told: Told) -> None:
        told.take("scrubbed", self.turn_id)  # from now on nobody knows
        archive.conversation(NAME).scrub(self.turn_id, now=now())
        told.take("gone", self.turn_id)


@dataclass(frozen=True)
class ScrubSummary:
    """What a summary said goes, when only the audit log knows of it."""

    is_retried: ClassVar[bool] = True

    def do(self, archive: Archive, told: Told) -> None:
        chat = archive.conversation(NAME)
        for path in (Path(chat.path).parent / ".audit").iterdir():
            for line in path.read_bytes().splitlines():
                try:
                    note = json.loads(line)
                except ValueError:
                    continue  # torn by the fault
                for said in note.get("summaries", ()):
                    if said["content"].strip():
                        chat.scrub(said["id"], now=now())


@dataclass(frozen=True)
class FillTrash:
    """Another conversation is compacted, and goes to the trash."""

    is_retried: ClassVar[bool] = False

    def do(self, archive: Archive, told: Told) -> None:
        other = archive.conversation("other")
        other.record_many([{"role": "user", "content": "old", "ts": now()} for _ in range(2)])
        other.compact(RetentionPolicy(keep_last=1), now=now())
        other.delete(now=now())


@dataclass(frozen=True)
class Purge:
    """What that one left in the trash goes for good, so late that nothing need be known of it."""

    is_retried: ClassVar[bool] = True

    def do(self, archive: Archive, told: Told) -> None:
        archive.purge_trash(timedelta(0), only={"other"}, now=now() + timedelta(days=36_500))


@dataclass(frozen=True)
class Repair:
    """Damage is set aside, and what shares a line is split."""

    is_retried: ClassVar[bool] = True

    def do(self, archive: Archive, told: Told) -> None:
        archive.conversation(NAME).repair(now=now())


@dataclass(frozen=True)
class Compress:
    """The conversation is packed."""

    part_bytes: int = 1_500
    is_retried: ClassVar[bool] = True

    def do(self, archive: Archive, told: Told) -> None:
        # Parts of two turns or so: one can be damaged and another not. And little data, synced as
        # much would be.
        with (
            instead(cold_pack, "PART_BYTES", self.part_bytes),
            instead(cold_compress, "SYNC_EVERY_BYTES", 1_000),
        ):
            archive.conversation(NAME).compress(now=now())


@dataclass(frozen=True)
class Uncompress:
    """And unpacked."""

    even_damaged: bool = False
    is_retried: ClassVar[bool] = True

    def do(self, archive: Archive, told: Told) -> None:
        archive.conversation(NAME).uncompress(even_damaged=self.even_damaged)


@dataclass(frozen=True)
class List:
    """Somebody lists the archive, which notes down what it learns, and asks how it is."""

    is_retried: ClassVar[bool] = True

    def do(self, archive: Archive, told: Told) -> None:
        with instead(facts, "_WORTH_BYTES", 0), instead(facts_index, "_LITTER_SECONDS", -1e9):
            archive.overview(count=True, failed=lambda name, error: None)
            archive.health()


@dataclass(frozen=True)
class Index:
    """A place is made for an index of words, and perhaps the file that SQLite fills."""

    is_made: bool = False
    is_retried: ClassVar[bool] = True

    def do(self, archive: Archive, told: Told) -> None:
        place = archive._store.logs.index_folder("default", create=True)
        assert place is not None
        if self.is_made:
            os.close(place.open_file("search-0.sqlite", os.O_WRONLY | os.O_CREAT))
        place.close()


@dataclass(frozen=True)
class Read:
    """Somebody reads all there is; what lies compressed is unpacked for that, where no name is."""

    is_retried: ClassVar[bool] = True

    def do(self, archive: Archive, told: Told) -> None:
        for _ in archive.conversation(NAME).turns():
            pass


@dataclass(frozen=True)
class Terminated:
    """A turn that waits for its sync when SIGTERM comes."""

    content: str
    id: str
    is_retried: ClassVar[bool] = True

    def do(self, archive: Archive, told: Told) -> None:
        policy = Durability.interval(seconds=3600)
        chat = archive.conversation(NAME, durability=policy)
        turn = chat.record("user", self.content, id=self.id, ts=now())
        told.take("answer", turn.id, turn.seq, turn.content)
        flusher.flusher().flush_from_signal()
        archive.flush()


@dataclass(frozen=True)
class Flushed:
    """Turns of two conversations that wait for their sync, and a flush that syncs both."""

    content: str
    id: str
    is_retried: ClassVar[bool] = True

    def do(self, archive: Archive, told: Told) -> None:
        policy = Durability.interval(seconds=3600)
        turn = archive.conversation(NAME, durability=policy).record(
            "user", self.content, id=self.id, ts=now()
        )
        other = archive.conversation(LONG_ID, durability=policy).record(
            "user", self.content, id=self.id, ts=now()
        )
        archive.flush()
        told.take("answer", turn.id, turn.seq, turn.content)
        told.take("elsewhere", LONG_ID, other.id, other.seq, other.content)


@dataclass(frozen=True)
class Update:
    """A change of the state."""

    changes: tuple[tuple[str, Any], ...]
    ttl: float | None = None
    is_retried: ClassVar[bool] = True

    def do(self, archive: Archive, told: Told) -> None:
        changes = dict(self.changes)
        with _changing(told, merged(told.states, changes)):
            archive.conversation(NAME).update_state(changes, ttl=self.ttl)


@dataclass(frozen=True)
class Clear:
    """The state goes."""

    is_retried: ClassVar[bool] = True

    def do(self, archive: Archive, told: Told) -> None:
        with _changing(told, [{}]):
            archive.conversation(NAME).clear_state()


@dataclass(frozen=True)
class UpdateOfAnother:
    """A change of another key of the state, by somebody else."""

    is_retried: ClassVar[bool] = False

    def do(self, archive: Archive, told: Told) -> None:
        archive.conversation(NAME).update_state({OTHER_KEY: 1})
        told.take("other key")


Step = (
    Record
    | Batch
    | Each
    | Elsewhere
    | Compact
    | Remove
    | Replace
    | Delete
    | Restore
    | Untold
    | Unbury
    | Scrub
    | ScrubSummary
    | FillTrash
    | Purge
    | Repair
    | Compress
    | Uncompress
    | List
    | Read
    | Terminated
    | Update
    | Clear
    | UpdateOfAnother
)
OF_STATES = (Update, Clear)


@contextmanager
def _changing(told: Told, after: list[Document]) -> Iterator[None]:
    """Tell what the state may be: either before the answer, and by the answer one of them."""
    before = told.states
    told.take("states", one_of(before, after))
    try:
        yield
    except DurabilityUnknown:
        raise  # nobody knows
    except (StorageError, LockTimeout, CorruptLog):
        told.take("states", before)
        raise
    told.take("states", after)


@contextmanager
def instead(module: ModuleType, name: str, value: object) -> Iterator[None]:
    """Let a name of convmem's mean something else meanwhile."""
    usual = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, usual)
