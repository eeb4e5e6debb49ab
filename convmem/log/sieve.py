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


# A set of so many hashes takes less than the table, and a fifth of the time.
_MOST_IN_SET = 150_000


class Sieve:
    """Many hashes in 16 MiB, however many they are: a set of them at first, then a table."""

    __slots__ = ("_bytes", "_set")

    def __init__(self) -> None:
        self._set: set[int] | None = set()
        self._bytes = bytearray()

    def add(self, hashes: Iterable[int]) -> None:
        """Put *hashes* in."""
        if self._set is not None:
            self._set.update(hashes)
            if len(self._set) <= _MOST_IN_SET:
                return
            hashes, self._set = self._set, None
            self._bytes = bytearray(_BYTES)
        table = self._bytes
        for each in hashes:
            step = each >> 32 | 1
            for _ in range(_BITS):
                table[(each & _PLACES) >> 3] |= 1 << (each & 7)
                each += step

    def perhaps(self, turn_ids: Collection[str]) -> list[str]:
        """Return those of *turn_ids* whose hashes may have been put in."""
        known = self._set
        if known is not None:
            return [turn_id for turn_id in turn_ids if hash(turn_id) in known]
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
