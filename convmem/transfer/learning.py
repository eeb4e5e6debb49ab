"""What a lost catalogue knew of a conversation, told again by the conversation itself."""

from __future__ import annotations

from convmem.formats.protocol import EVENT
from convmem.log import codec
from convmem.transfer.identity import FIRST_SAMPLED, grown, place_of, sample_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.conversation import Conversation
    from convmem.turns import Turn

_RAW = b',"raw":'
_COPY = b'"cop'
_LINK = "c-"
_FILE = b'"file":"'


def learned(conversation: Conversation) -> tuple[list[int], list[str]]:
    """Return the sample keys of its imported turns, and where it is a chain, its end's names.

    Reads it all: some two seconds for a gigabyte.
    """
    samples: list[int] = []
    last = place = None
    count = 0
    for stored in conversation.stored_turns(damaged=_unnoticed):
        encoded = codec.id_of(stored.line) if stored.is_sealed else None
        if encoded is None:
            continue
        turn_id = codec.text_of(encoded)
        if place is None and _FILE in stored.line:
            meta = stored.turn.meta or {}
            place = place_of(str(meta.get("source")), str(meta.get("file")))
        if turn_id.startswith(_LINK) and stored.role != EVENT:
            last = turn_id
        elif _RAW in stored.line:
            name = _known_as(stored.turn, turn_id) if _COPY in stored.line else turn_id
            if name is not None and (count < FIRST_SAMPLED or name[-1:] == "0"):
                samples.append(sample_of(name))
            count += 1
    if last is None:
        return samples, []
    return samples, [last] if place is None else [last, grown(last, place)]


def _known_as(turn: Turn, turn_id: str) -> str | None:
    """Return by what id a copy of *turn* names it; ``None`` where it is itself a copy."""
    meta = turn.meta or {}
    if "copied" in meta:
        return None
    origin = meta.get("copy_of")
    return origin if isinstance(origin, str) else turn_id


def _unnoticed(damage: object) -> None:
    """An import is not the time to tell of it."""
