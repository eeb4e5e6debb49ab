"""Turns of one id: found by 8 bytes a turn, and told apart by what they say.

Hashes lie in many small arrays by their last bits, so that only one of them at a time is looked
through for hashes that came twice.
"""

from __future__ import annotations

from array import array

from convmem import jsontext
from convmem.log import codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_BUCKETS = 256

COPY = "copy"
SAME = "same"
OTHER = "other"


class IdHashes:
    """The hashes of ids."""

    __slots__ = ("_buckets",)

    def __init__(self, hashes: Iterable[int] = ()) -> None:
        self._buckets = [array("q") for _ in range(_BUCKETS)]
        for each in hashes:
            self._buckets[each % _BUCKETS].append(each)

    def add(self, encoded: bytes) -> None:
        """Note an id, as ``plain_id`` gives it."""
        found = hash(encoded)
        self._buckets[found % _BUCKETS].append(found)

    def repeated(self) -> set[int]:
        """Return the hashes that came more than once."""
        twice: set[int] = set()
        for bucket in self._buckets:
            once: set[int] = set()
            if len(set(bucket)) != len(bucket):
                for each in bucket:
                    (twice if each in once else once).add(each)
        return twice


def plain_id(encoded: bytes) -> bytes:
    """Return an id as JSON in the one spelling that equal ids share."""
    return jsontext.dumps(codec.text_of(encoded)) if b"\\" in encoded else encoded


def id_of(line: bytes) -> bytes | None:
    """Return the id of a good line as JSON, in one spelling; ``None`` if it has none."""
    if codec.is_sealed(line):
        encoded = codec.id_of(line)
        if encoded is not None:
            return plain_id(encoded)
    turn = codec.parse(line)
    return None if turn is None or turn.id is None else jsontext.dumps(turn.id)


def compare(first: bytes, second: bytes) -> str:
    """Tell how two good lines of one id stand to each other.

    ``COPY``: the same turn with the same ``seq``. ``SAME``: another turn that says the same.
    ``OTHER``: it says something else.
    """
    if first == second:
        return COPY
    if codec.is_sealed(first) and codec.is_sealed(second):
        if codec.line_crc(first) == codec.line_crc(second) and (
            codec.body_of(first) == codec.body_of(second)
        ):
            return COPY
        says = codec.substance_crc(first)
        if says is not None and says == codec.substance_crc(second):
            return SAME
    one, two = codec.parse(first), codec.parse(second)
    if one is None or two is None:
        return OTHER
    says_the_same = (one.role, one.content, one.meta, one.extra) == (
        two.role,
        two.content,
        two.meta,
        two.extra,
    )
    return SAME if says_the_same else OTHER
