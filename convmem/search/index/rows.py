"""What the index keeps of a turn, made of its line as fast as may be."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

from convmem import jsontext
from convmem.log import codec
from convmem.search.said import CALLS, text_in, text_of
from convmem.turns import EVENT, Turn, is_said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from convmem.log.blocks import Block
    from convmem.log.read import StoredTurn

    # seq; mark; microseconds since 1970; role, None where nobody spoke; text; where its line begins
    Row: TypeAlias = tuple[int | None, int, int | None, str | None, str, int]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TS_CHARACTERS = 27
ASKS = ("?", "？", "؟")
"""How a turn ends that asks something."""


def mark_of(line: bytes) -> int:
    """Return the number that stands for the turn in *line*, and for no other text of it."""
    return int(codec.line_crc(line), 16)


def micros_of(moment: datetime | None) -> int | None:
    """Return *moment* in microseconds since 1970."""
    if moment is None:
        return None
    past = moment - _EPOCH
    return (past.days * 86400 + past.seconds) * 1_000_000 + past.microseconds


def row_of(stored: StoredTurn, mark: int) -> Row:
    """Return what the index keeps of *stored*."""
    turn = stored.turn
    role = turn.role if is_said(turn) else None
    return turn.seq, mark, micros_of(turn.ts), role, text_of(turn), stored.offset


def rows_of(block: Block) -> list[Row] | None:
    """Return what ``row_of`` does for each turn of *block*, in a third of the time.

    ``None`` where each must be looked at by itself.
    """
    if not block.is_sealed:
        return None
    rows: list[Row] = []
    add = rows.append
    is_plain = True  # so far, every content was text
    minute, base = "", 0
    data = b"[%b]" % b",".join(block.lines)
    try:
        for value, mark, place in zip(
            jsontext.fast()[0](data), _marks_of(block), block.offsets, strict=False
        ):
            content, role, ts = value["content"], value["role"], value["ts"]
            if type(content) is not str or CALLS in value:
                is_plain = False
                content = text_in(content, value.get(CALLS))
            if (role == EVENT or not content) and _is_unsaid(value):
                role = None
            if ts[:16] != minute:  # most turns of a log were said within the minute of another
                minute = ts[:16]
                base = micros_of(datetime.fromisoformat(f"{minute}:00+00:00")) or 0
            if len(ts) != _TS_CHARACTERS:
                return None
            micros = base + int(ts[17:19]) * 1_000_000 + int(ts[20:26])
            add((value["seq"], mark, micros, role, content, place))
    except (ValueError, KeyError, TypeError):
        return None
    return rows if is_plain or jsontext.is_exact(data) else None


def _is_unsaid(value: dict[str, Any]) -> bool:
    turn = Turn(value["role"], value["content"], meta=value.get("meta"))
    return not is_said(turn)


def _marks_of(block: Block) -> list[int] | tuple[int, ...]:
    if block.batches:
        return list(map(mark_of, block.lines))
    digits = b"".join([line[-10:-2] for line in block.lines])
    return struct.unpack(f">{len(block.lines)}I", bytes.fromhex(str(digits, "ascii")))
