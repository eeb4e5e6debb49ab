"""The clients of an archive: one who carries on after each error, and others who come in."""

from __future__ import annotations

import fcntl
from contextlib import suppress

from ledger import NAME, OTHER, Findings
from steps import Step, instead
from told import DAMAGED, Document, Told

from convmem import Archive, Observer
from convmem.errors import (
    ConversationNotFound,
    ConvmemError,
    CorruptLog,
    DurabilityUnknown,
    LockTimeout,
)
from convmem.log.removing import audit


def open_archive(root: str, *, durability: str = "none") -> Archive:
    """Open the archive as all do here: nobody waits for a lock, nobody is told of damage."""
    return Archive.open(root, durability=durability, lock_timeout_seconds=0.0, observer=Observer())


def client(root: str, steps: tuple[Step, ...], told: Told) -> None:
    """Do the steps; then those that failed once more, with all that is believed of the file."""
    archive = open_archive(root, durability="always")
    failed: list[Step] = []
    for step in steps:
        try:
            step.do(archive, told)
        except (ConvmemError, KeyboardInterrupt) as error:
            failed.append(step)
            if isinstance(error, DurabilityUnknown):
                archive.close()
                archive = open_archive(root, durability="always")
    for step in failed:
        try:
            step.do(archive, told)
        except (ConvmemError, KeyboardInterrupt):
            continue
    with suppress(ConvmemError, KeyboardInterrupt):
        archive.close()


def somebody_else(root: str, steps: tuple[Step, ...], told: Told) -> Findings:
    """Let somebody else in, who does *steps*; return what cannot be."""
    findings = Findings()
    with open_archive(root) as other, instead(audit, "fcntl", _Impatient):
        for step in steps:
            try:
                step.do(other, told)
            except (LockTimeout, ConversationNotFound):
                continue  # kept waiting, as it should be
            except CorruptLog:
                if told.states != [DAMAGED]:
                    raise
            except ConvmemError as error:
                findings.add(OTHER, f"somebody else was refused: {error!r}")
    return findings


def state_of(archive: Archive) -> Document:
    """Return the conversation's state."""
    try:
        return archive.conversation(NAME).state()
    except CorruptLog:
        return DAMAGED


class _Impatient:
    """Waits for no lock: in one process, who holds it would never go on."""

    LOCK_EX = fcntl.LOCK_EX

    @staticmethod
    def flock(fd: int, how: int) -> None:
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockTimeout("kept waiting") from None
