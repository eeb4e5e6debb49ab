"""What compressing a conversation did, or why it did nothing."""

from __future__ import annotations

from dataclasses import dataclass

# What became of a conversation. Stable words: programs compare them.
COMPRESSED = "compressed"
UNCOMPRESSED = "uncompressed"
SALVAGED = "salvaged"  # uncompressed, as far as it was whole
# Or why nothing did.
ALREADY = "already_compressed"
NOT_COMPRESSED = "not_compressed"
RECENT = "recent"  # its last turn is too young
SMALL = "small"  # it would take as much room
CHANGED = "changed"  # somebody wrote to it meanwhile


@dataclass(slots=True)
class CompressionReport:
    """What a compression did, or with ``dry_run`` would do. Bytes are measured.

    Attributes:
        outcome: ``compressed``, ``uncompressed``, ``salvaged`` (uncompressed as far as it was
            whole), or the reason why nothing was done:
            ``already_compressed``, ``not_compressed``, ``recent``, ``small``, ``changed``
            (somebody wrote to it meanwhile).
        bytes_before, bytes_after: The size of the conversation's file.
        quarantine: Where a damaged file went, inside ``.quarantine``.
    """

    outcome: str
    bytes_before: int
    bytes_after: int
    dry_run: bool = False
    quarantine: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether the file was, or would be, another one."""
        return self.outcome in (COMPRESSED, UNCOMPRESSED, SALVAGED)
