"""convmem's own JSON lines: what ``--json`` and ``export`` print, and the logs themselves.

Nothing is mapped: turns come back with the id, time, role, content, ``meta`` and extra keys that
they had. Lines that are printed name their conversation (``continuation_id``); those of a log do
not, and belong to the one that the file is named after. ``seq`` is given anew.
"""

from __future__ import annotations

from convmem import jsontext
from convmem.formats.protocol import EVENT, Begin, Record
from convmem.formats.raws import raw_of
from convmem.ids import decode_name
from convmem.turns import turn_from_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from convmem.formats.protocol import Kept
    from convmem.formats.reading.samples import Sample
    from convmem.formats.reading.sources import Source
    from convmem.turns import Turn

NAME = "convmem"
TITLE = "convmem"
SUFFIX = ".jsonl"
HAS_IDS = True
GROWS = True
SHARES = False

# What a log remembers of turns that it no longer holds: no turn, and nothing to bring back.
_FLOOR = "_last_seq"


class OwnRecord(Record):
    """A turn that is to be stored as it was, not as a record of something else.

    Attributes:
        turn: The turn: its ``meta`` may be ``None``, its ``extra`` lacks ``raw``, its ``seq`` was
            that of the log it was in.
        raw: What stood under the turn's own ``raw``, byte for byte; ``None`` where it had none.
        meta: The turn's own; empty where it has none.
    """

    __slots__ = ("turn",)

    def __init__(self, turn: Turn, raw: bytes | str | None, ts: str | float | None) -> None:
        super().__init__(turn.role, turn.content, raw, turn.id, ts, turn.meta or {})
        self.turn = turn


def recognises(sample: Sample) -> bool:
    """Whether some line is a turn with what only convmem adds to one."""
    return any(map(_is_ours, sample.objects))


def _is_ours(value: dict[str, Any]) -> bool:
    if type(value.get("_c")) is str and _FLOOR in value:
        return True
    if type(value.get("role")) is not str or "content" not in value:
        return False
    return type(value.get("continuation_id")) is str or (
        type(value.get("seq")) is int and "id" in value and "ts" in value
    )


def read(source: Source, memory: dict[str, Any]) -> Iterator[Begin | Record]:
    """Yield each turn of *source*. A line that is none is kept as an event that nobody knows."""
    named = decode_name(source.stem) or source.stem or None
    current: str | None = memory.get("conversation")
    is_begun = current is not None
    if is_begun:
        yield Begin(current)
    for line, value in source.records():
        if type(value) is dict and _FLOOR in value:
            continue
        told = value.pop("continuation_id", None) if type(value) is dict else None
        name = told if type(told) is str and told else current if is_begun else named
        if name != current or not is_begun:
            current, is_begun = name, True
            memory["conversation"] = name
            yield Begin(name)
        ts = value.get("ts") if type(value) is dict else None
        turn = turn_from_object(value)
        if turn is None:
            yield Record(EVENT, "", line, None, None, {}, False)
            continue
        raw = None
        if "raw" in turn.extra:
            del turn.extra["raw"]
            raw = raw_of(line)
        yield OwnRecord(turn, raw, None if turn.ts is None else ts)


def native(kept: Iterable[Kept]) -> Iterator[bytes]:
    """Yield a line for each turn, with everything but the conversation's name."""
    for each in kept:
        shown = each.turn.as_dict()
        raw = each.raw
        if raw is None:
            yield jsontext.dumps(shown) + b"\n"
            continue
        shown.pop("raw", None)
        encoded = raw if isinstance(raw, bytes) else jsontext.dumps(raw)
        yield b'%b,"raw":%b}\n' % (jsontext.dumps(shown)[:-1], encoded)
