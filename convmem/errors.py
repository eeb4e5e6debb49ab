"""Every error that convmem raises, and the word by which programs tell them apart.

``kind`` is stable: it is what ``--json`` prints and what the exit code follows. "Not there", "not
allowed", "busy", "damaged", "full" and "wrong usage" are different errors, because what a caller
should do next is different for each.
"""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from convmem.turns import Turn


class ConvmemError(Exception):
    """The root of all errors that convmem raises on purpose.

    ``str(error)`` says what failed and where; ``hint`` says what to do next, or is ``None``.
    """

    kind = "error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(ConvmemError):
    """The request itself cannot be right: nothing was read or written."""

    kind = "usage"


class InvalidContinuationId(ConvmemError):
    """This text cannot name a conversation (empty, NUL, a lone surrogate, over 1,024 bytes)."""

    kind = "invalid_id"


class InvalidTurn(ConvmemError):
    """The turn cannot be stored as it is, so nothing of it was."""

    kind = "invalid_turn"


class TurnConflict(ConvmemError):
    """The id is taken by a turn that says something else. The first one was kept."""

    kind = "conflict"

    def __init__(self, message: str, *, turn_id: str, seq: int | None = None) -> None:
        super().__init__(
            message, hint="a retry must carry the same role, content, meta and extra keys"
        )
        self.turn_id = turn_id
        self.seq = seq


class ConversationNotFound(ConvmemError):
    """There is no such conversation. It is not an empty one: that one exists."""

    kind = "not_found"


class CorruptLog(ConvmemError):
    """The files contradict themselves in a way that reading around does not cure."""

    kind = "damaged"


class LockTimeout(ConvmemError):
    """Somebody else held the lock for as long as we were told to wait. Nothing was written."""

    kind = "busy"


class StorageError(ConvmemError):
    """The operating system refused. ``errno`` has its number; the file is as it was before."""

    kind = "io"

    def __init__(self, message: str, *, hint: str | None = None, errno: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.errno = errno


class StorageDenied(StorageError):
    """Not allowed: permissions, ownership, a read-only file system, or a planted link."""

    kind = "permission"


class StorageFull(StorageError):
    """No room (disk, quota or size limit). The file is as it was; it works again with room.

    ``stored`` holds the turns of the same call that were kept: always none for a single turn or
    an atomic batch. ``answers`` says of each turn of the call, in order, what became of it: the
    turn as stored, the conflict that kept it out, or ``None`` where there was no room.
    """

    kind = "full"
    stored: Sequence[Turn] = ()
    answers: Sequence[Turn | TurnConflict | None] = ()


class DurabilityUnknown(StorageError):
    """A sync failed: nobody can say whether the turns would survive a power cut.

    They are not acknowledged. The log refuses appends until the archive is opened again, since
    a second sync may claim success for bytes that the kernel has dropped. Retry the same ids
    then: what did survive is not stored twice.
    """

    kind = "unknown_durability"
    ids: Sequence[str] = ()


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP)


def storage_error(error: OSError, doing: str) -> StorageError:
    """Translate what the operating system said, keeping its words and its number.

    ``doing`` names the action and its place, such as ``"cannot append to trip.jsonl"``.
    """
    words = error.strerror or str(error)
    message = f"{doing}: {words[:1].lower()}{words[1:]}"
    if error.errno in _FULL:
        hint = "what was stored is as it was; make room and try again"
        return StorageFull(message, hint=hint, errno=error.errno)
    hint = _WHAT_NEXT.get(error.errno or 0, "see what the system has logged (dmesg); try again")
    if error.errno in _DENIED:
        return StorageDenied(message, hint=hint, errno=error.errno)
    return StorageError(message, hint=hint, errno=error.errno)


_NOT_OURS = "an archive is private to one user: see whose it is, and who may what, with: ls -la"
_TOO_MANY = "close what is not needed, or allow more (ulimit -n), and try again"
_WHAT_NEXT = {
    errno.EACCES: _NOT_OURS,
    errno.EPERM: _NOT_OURS,
    errno.EROFS: "see how it is mounted, and whether its device has failed: findmnt, dmesg",
    errno.ELOOP: "a link stands where a file of convmem's own should be; nothing was followed",
    errno.EIO: "the device may be failing: see dmesg; once it is well again: convmem verify --all",
    errno.EMFILE: _TOO_MANY,
    errno.ENFILE: _TOO_MANY,
    errno.ENOMEM: "memory is short; try again when there is more",
    errno.ENOLCK: "the system has no lock to give; try again, and see whether the disk is local",
}
