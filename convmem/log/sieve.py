"""Which ids were perhaps seen before, in fixed memory: a Bloom filter.

It says "certainly not", or "perhaps". Of two million ids that are new, it says "perhaps" of one or
two; each of those costs a search.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_BYTES = 1 << 24
_PLACES = _BYTES * 8 - 1
# Bits for each id, all from the one hash of its text.
_BITS = 5


class Sieve:
    """A set of hashes in 16 MiB, however many they are."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes = bytearray(_BYTES)

    def add(self, hashes: Iterable[int]) -> None:
        """Put *hashes* in."""
        table = self._bytes
        for each in hashes:
            step = each >> 32 | 1
            for _ in range(_BITS):
                table[(each & _PLACES) >> 3] |= 1 << (each & 7)
                each += step

    def perhaps(self, turn_ids: Collection[str]) -> list[str]:
        """Return those of *turn_ids* whose hashes may have been put in."""
        table = self._bytes
        # The first bit alone rules out nearly all, in one go.
        left = [
            turn_id
            for turn_id, each in zip(turn_ids, map(hash, turn_ids), strict=True)
            if table[(each & _PLACES) >> 3] >> (each & 7) & 1
        ]
        return [turn_id for turn_id in left if self._holds(hash(turn_id))]

    def _holds(self, each: int) -> bool:
        step = each >> 32 | 1
        for _ in range(_BITS):
            if not self._bytes[(each & _PLACES) >> 3] >> (each & 7) & 1:
                return False
            each += step
        return True
