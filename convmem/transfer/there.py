"""What of a source a conversation holds already: exactly which records, in 16 bytes each."""

from __future__ import annotations

from array import array
from bisect import bisect_left

from convmem import copied, jsontext
from convmem.formats.raws import raw_of
from convmem.log import codec
from convmem.transfer.identity import content_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem.conversation import Conversation
    from convmem.turns import Turn


class There:
    """The records that lie in one conversation, as they were when it was read.

    Of each a hash is kept: of 64 bits with a key of this process, so nobody can make two that are
    alike. One record in some 10**13 may be taken for another of a conversation of a million.
    """

    __slots__ = ("_ids", "_pairs", "_settled")

    def __init__(self) -> None:
        self._ids = array("q")
        self._pairs = array("q")
        self._settled: set[str] = set()

    @classmethod
    def of(cls, conversation: Conversation, *, by_words: bool = False) -> There:
        """Read all of *conversation*: some two seconds for a gigabyte.

        With *by_words*, what turns without a record say can be compared, too; that takes longer.
        """
        there = cls()
        ids, pairs = [], []
        for stored in conversation.stored_turns(damaged=_unnoticed):
            line = stored.line
            encoded = codec.id_of(line) if stored.is_sealed else None
            if encoded is None:
                turn_id = stored.turn.id
                if turn_id is None:
                    continue
                encoded = jsontext.dumps(turn_id)
            ids.append(hash(encoded))
            if b'"copied":' in line or b'"scrubbed":' in line:
                there._settle(stored.turn)
            raw = raw_of(line)
            if raw is not None:
                pairs.append(hash((encoded, _as_bytes(raw))))
            elif by_words:
                pairs.append(hash((encoded, words_of(stored.turn))))
        ids.sort()
        pairs.sort()
        there._ids, there._pairs = array("q", ids), array("q", pairs)
        return there

    def has_id(self, turn_id: str) -> bool:
        """Whether there is a turn of that id, or what stands for it."""
        return turn_id in self._settled or _is_in(self._ids, hash(jsontext.dumps(turn_id)))

    def has(self, turn_id: str, raw: bytes | None) -> bool:
        """Whether there is that very record; without *raw*, the id is all there is to compare."""
        if turn_id in self._settled:
            return True
        encoded = jsontext.dumps(turn_id)
        if raw is None:
            return _is_in(self._ids, hash(encoded))
        return _is_in(self._pairs, hash((encoded, raw)))

    def _settle(self, turn: Turn) -> None:
        """Take what stands for other records as those: references, marks of what was removed."""
        meta = turn.meta or {}
        self._settled.update(copied.ids_in(turn))
        if "scrubbed" in meta and turn.id is not None:
            self._settled.add(turn.id)


def words_of(turn: Turn) -> bytes:
    """Return what tells *turn* from one of the same id that says something else."""
    return b"said: " + jsontext.canonical([turn.role, turn.content])


class Original:
    """A record that lies in a conversation: which, and a hash of what it says.

    ``None`` stands for what was scrubbed: nobody knows any more, and it is not to come back.
    """

    __slots__ = ("content", "conversation")

    def __init__(self, conversation: str, content: int | None) -> None:
        self.conversation = conversation
        self.content = content


def originals(conversation: Conversation) -> Iterator[tuple[str, Original]]:
    """Yield each turn of *conversation* that has a source record, by the ids of its copies.

    That is its own id, and that of the record which it is a copy of itself, where that did not
    lie anywhere. Some 300 bytes for each turn, of a conversation of which another is a copy.
    """
    for stored in conversation.stored_turns(damaged=_unnoticed):
        turn = stored.turn
        meta = turn.meta or {}
        if turn.id is not None and "scrubbed" in meta:
            yield turn.id, Original(conversation.continuation_id, None)
            continue
        if turn.id is None or copied.is_copy(turn) or "raw" not in turn.extra:
            continue
        original = Original(conversation.continuation_id, hash(content_bytes(turn.content)))
        yield turn.id, original
        if isinstance(meta.get("copy_of"), str):
            yield meta["copy_of"], original


def _as_bytes(raw: bytes | str) -> bytes:
    return raw if isinstance(raw, bytes) else jsontext.dumps(raw)


def _is_in(hashes: array[int], wanted: int) -> bool:
    at = bisect_left(hashes, wanted)
    return at < len(hashes) and hashes[at] == wanted


def _unnoticed(damage: object) -> None:
    """Readers tell of it, an import is not the time."""
