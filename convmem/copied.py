"""Turns that came into a conversation as copies from another: packed into one turn.

A fork, or a session that was resumed, begins with what was said before. That is kept whole, and
told once: ``meta.copied`` of one event says from which conversation (``from``), which turns
(``ids``), and holds them as zlib-compressed lines in Base64 (``turns``). So each conversation
stands for itself, whatever becomes of the other one.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from convmem.turns import Turn

KEY = "copied"
# More is not unpacked: it was not packed by convmem.
_MOST_BYTES = 256 << 20


def packed(conversation: str, ids: list[str], lines: Iterable[bytes]) -> dict[str, Any]:
    """Return what ``meta.copied`` says of turns that are given as *lines*, without newlines."""
    import base64
    import zlib

    squeezed = zlib.compress(b"\n".join(lines), 6)
    return {"from": conversation, "ids": ids, "turns": str(base64.b64encode(squeezed), "ascii")}


def is_copy(turn: Turn) -> bool:
    """Whether *turn* stands for others."""
    return turn.meta is not None and isinstance(turn.meta.get(KEY), dict)


def ids_in(turn: Turn) -> list[str]:
    """Return the ids of the turns that *turn* stands for."""
    told = (turn.meta or {}).get(KEY)
    ids = told.get("ids") if isinstance(told, dict) else None
    return [each for each in ids if isinstance(each, str)] if isinstance(ids, list) else []


def is_repeat(turn: Turn, continuation_id: str) -> bool:
    """Whether *turn* stands for what its own conversation, *continuation_id*, has already."""
    told = (turn.meta or {}).get(KEY)
    return isinstance(told, dict) and told.get("from") == continuation_id


def lines_in(turn: Turn) -> list[bytes]:
    """Return the lines of the turns that *turn* stands for; none where they cannot be read."""
    import base64
    import binascii
    import zlib

    told = (turn.meta or {}).get(KEY)
    text = told.get("turns") if isinstance(told, dict) else None
    if not isinstance(text, str):
        return []
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(base64.b64decode(text, validate=True), _MOST_BYTES)
    except (binascii.Error, ValueError, zlib.error):
        return []  # somebody wrote it by hand
    return data.split(b"\n") if unpacker.eof else []


def turns_in(turn: Turn) -> list[Turn]:
    """Return the turns that *turn* stands for, oldest first; without a ``seq`` of their own."""
    from convmem import jsontext
    from convmem.turns import turn_from_object

    found = []
    for line in lines_in(turn):
        try:
            made = turn_from_object(jsontext.loads(line))
        except jsontext.NotJson:
            continue
        if made is not None and not is_copy(made):
            found.append(made)
    return found


def spread(turn: Turn, continuation_id: str) -> list[Turn]:
    """Return what *turn* of that conversation says: itself, or those that it stands for."""
    if not is_copy(turn):
        return [turn]
    return [] if is_repeat(turn, continuation_id) else turns_in(turn)
