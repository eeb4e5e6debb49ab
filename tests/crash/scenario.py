"""One scenario: an archive as it stands before, and what is then done to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from chance import same_chance
from clients import open_archive
from faults import without_syncs
from ledger import NAME, NAMESPACE
from steps import (
    OF_STATES,
    Batch,
    Compact,
    Compress,
    Delete,
    Record,
    Remove,
    Repair,
    Replace,
    Restore,
    Step,
)
from told import DAMAGED, Told

from convmem import Archive

LOG = f"{NAME}.jsonl"
PACKED = f"{NAME}.jsonl.zst"
STATE = f".state/{NAME}.json"


@dataclass
class Scenario:
    """A conversation as it stands before, and what is then done to it."""

    name: str
    steps: tuple[Step, ...]
    turns: int = 0  # how many turns are there before; the last three are a batch
    words: int = 5  # how long they are
    damage: Callable[[str], None] | None = None  # done to *file* then
    file: str = LOG
    gone: tuple[str, ...] = ()  # the turns that this damage hit
    hidden: tuple[str, ...] = ()  # the turns that nobody sees before it is repaired
    before: tuple[Step, ...] = ()  # what else was done before, without a fault
    umask: int = 0o022
    lines: list[bytes] = field(default_factory=list)  # of the file, before the damage

    @property
    def restores(self) -> bool:
        """Whether all that was answered has to be in the log again once somebody restores."""
        return any(isinstance(step, Delete | Restore) for step in self._all)

    @property
    def is_packed(self) -> bool:
        """Whether the conversation lies compressed at some time."""
        return any(isinstance(step, Compress) for step in self._all)

    @property
    def is_rotten(self) -> bool:
        """Whether a compressed log is damaged, so that readers may see less than can be saved."""
        return self.damage is not None and self.file == PACKED

    @property
    def repairs(self) -> bool:
        """Whether a plain log is repaired."""
        return not self.is_packed and any(isinstance(step, Repair) for step in self.steps)

    @property
    def keeps_all(self) -> bool:
        """Whether each byte of a damaged log stays, in it or in the quarantine."""
        goes = any(isinstance(step, Compact | Remove | Replace) for step in self.steps)
        return self.damage is not None and self.file == LOG and not goes and not self.restores

    @property
    def has_state(self) -> bool:
        """Whether the state is changed."""
        return any(isinstance(step, OF_STATES) for step in self.steps)

    @property
    def keeps(self) -> int | None:
        """How many turns its deleting compaction leaves, if it has one."""
        for step in self.steps:
            if isinstance(step, Compact) and step.discard:
                return step.keep_last
        return None

    @property
    def _all(self) -> tuple[Step, ...]:
        return (*self.before, *self.steps)

    def prepare(self, root: str) -> tuple[Told, bytes]:
        """Make the archive *root*; return what its clients were told, and the damaged file."""
        told = Told()
        with same_chance(0), without_syncs():
            if self.turns or self.before:
                with open_archive(root) as archive:
                    self._begin(archive, told)
                    for step in self.before:
                        step.do(archive, told)
        told.ledger.batches += [list(step.ids) for step in self.steps if isinstance(step, Batch)]
        if self.damage is None:
            return told, b""
        path = os.path.join(root, NAMESPACE, self.file)
        self.lines = _bytes_of(path).splitlines()
        self.damage(path)
        if self.file == STATE:
            told.states = [DAMAGED]
        gone = _lost_in(path, told) if self.is_rotten else self.gone
        for turn_id in gone:
            del told.ledger.answers[turn_id]
        if self.is_rotten or self.repairs:  # it was answered, and damage may halve it
            told.ledger.batches = [
                batch for batch in told.ledger.batches if not set(batch) & set(gone)
            ]
        return told, _bytes_of(path)

    def _begin(self, archive: Archive, told: Told) -> None:
        if not self.turns:
            return
        for at in range(self.turns - 3):
            Record(f"word {at} " * self.words, f"t{at}").do(archive, told)
        ids = tuple(f"t{at}" for at in range(self.turns - 3, self.turns))
        batch = Batch(ids, "together " * self.words)
        batch.do(archive, told)
        told.ledger.batches.append(list(batch.ids))


def _bytes_of(path: str) -> bytes:
    return Path(path).read_bytes() if os.path.exists(path) else b""


def _lost_in(path: str, told: Told) -> list[str]:
    """Return the turns that cannot be saved from a damaged compressed log: by saving a copy."""
    root = os.path.dirname(os.path.dirname(path))
    copy = f"{root}.copy"
    shutil.copytree(root, copy)
    try:
        with open_archive(copy) as archive:
            chat = archive.conversation(NAME)
            chat.uncompress(even_damaged=True)
            left = {turn.id for turn in chat.turns()}
    finally:
        shutil.rmtree(copy)
    gone = [turn_id for turn_id in told.ledger.answers if turn_id not in left]
    assert len(gone) < len(told.ledger.answers) - 1
    return gone
