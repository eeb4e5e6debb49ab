"""What an import did, in figures."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class ImportSummary:
    """What one import met and did.

    Attributes:
        files: Sources that were looked at: files, and members of zips.
        unchanged: Those of them that are as they were the last time, and were not read.
        conversations: Conversations that had records in what was read.
        records: Records in what was read.
        added: Turns that are new in the archive.
        skipped: Records that it had already, or that were deleted from it before.
        buried: Those of the skipped that were deleted before.
        copied: Those of the skipped that lie in another conversation, which is referred to.
        differing: Turns of convmem's own under whose ids others lie that say something else.
            Both are kept.
        damaged: Records that were split from each other, cut short, or freed of NULs.
        unknown: Records of a kind that their format does not know; they are kept.
        unrecognised: Files with something in them that no format recognises.
        passed_over: Files that no format recognised the last time, and that are as they were.
        failures: Source and what was wrong with it, for those that could not be read.
        formats: How many sources were of which format.
    """

    def __init__(self) -> None:
        self.files = 0
        self.unchanged = 0
        self.conversations = 0
        self.records = 0
        self.added = 0
        self.skipped = 0
        self.buried = 0
        self.copied = 0
        self.differing = 0
        self.damaged = 0
        self.unknown = 0
        self.unrecognised: list[str] = []
        self.passed_over = 0
        self.failures: list[tuple[str, Exception]] = []
        self.formats: dict[str, int] = {}
        self._met: set[str] = set()

    def note_conversation(self, continuation_id: str) -> None:
        """Count a conversation, once."""
        self._met.add(continuation_id)
        self.conversations = len(self._met)

    def as_dict(self) -> dict[str, Any]:
        """Return the object that ``import --json`` ends with."""
        return {
            "files": self.files,
            "conversations": self.conversations,
            "records": self.records,
            "added": self.added,
            "skipped": self.skipped,
            "damaged": self.damaged,
            "unknown": self.unknown,
            "unchanged": self.unchanged,
            "buried": self.buried,
            "copied": self.copied,
            "differing": self.differing,
            "unrecognised": len(self.unrecognised),
            "failed": len(self.failures),
            "formats": self.formats,
        }
