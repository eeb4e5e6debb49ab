"""convmem with a safeguard against damage taken out: the fuzzing of readers and repair must notice.

As in ``mutants``: they change the process that calls them for good.
"""

from __future__ import annotations

from mutants import without_trash

from convmem.log import codec, follow, heal
from convmem.log.checks import verify_split

__all__ = [
    "with_any_json_believed",
    "with_half_batches",
    "without_checking_the_place",
    "without_looking_at_seals",
    "without_looking_where_the_name_leads",
    "without_quarantine",
    "without_trash",
]


def without_looking_at_seals() -> None:
    """Believe each line that carries a seal, right or wrong."""
    codec.is_intact = codec.is_sealed


def with_half_batches() -> None:
    """Take each line of a batch for a turn of its own."""
    codec.batch_mark = lambda line: None


def without_checking_the_place() -> None:
    """Go on at the byte behind the last turn, whatever stands before it by now."""
    follow.Follower._last_is_there = lambda self, size: True


def with_any_json_believed() -> None:
    """Take each part of a damaged line for a record if it reads as a turn."""
    verify_split._is_by_hand = lambda part: codec.parse(part) is not None


def without_quarantine() -> None:
    """Let go what is no turn."""
    heal.set_aside = lambda folder, name, fd, spans: "nowhere.bin"


def without_looking_where_the_name_leads() -> None:
    """Follow the file that was there first, for ever."""

    def look(self):
        if self._fd < 0 and self._stat() is not None:
            self._change_over()
        if self._fd >= 0:
            yield from self._drain()

    follow.Follower.look = look
