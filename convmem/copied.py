"""Turns that came into a conversation as copies from another: packed into one turn.

A fork, or a session that was resumed, begins with what was said before. That is kept whole, and
told once: ``meta.copied`` of one event says from which conversation (``from``), which turns
(``ids``), and holds them as zlib-compressed lines in Base64 (``turns``). So each conversation
stands for itself, whatever becomes of the other one.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from convmem.turns import Turn

KEY = "copied"
# More is not unpacked: it was not packed by convmem.
_MOST_BYTES = 256 << 20
_AT_ONCE_BYTES = 64 << 10


def packed(conversation: str, ids: list[str], lines: Iterable[bytes]) -> dict[str, Any]:
    """Return what ``meta.copied`` says of turns that are given as *lines*, without newlines."""
    import base64
    import zlib

    squeezed = zlib.compress(b"\n".join(lines), 6)
    return {"from": conversation, "ids": ids, "turns": str(base64.b64encode(squeezed), "ascii")}


def is_copy(turn: Turn) -> bool:
    """Whether *turn* stands for others."""
    return _told(turn) is not None


def is_repeat(turn: Turn, continuation_id: str) -> bool:
    """Whether *turn* stands for what its own conversation, *continuation_id*, has already."""
    return (_told(turn) or {}).get("from") == continuation_id


def ids_in(turn: Turn) -> list[str]:
    """Return the ids of the turns that *turn* stands for."""
    ids = (_told(turn) or {}).get("ids")
    return [each for each in ids if isinstance(each, str)] if isinstance(ids, list) else []


def lines_in(turn: Turn) -> Iterator[bytes]:
    """Yield the lines of the turns that *turn* stands for; those that can be read.

    A little is unpacked at a time, and no more lines than there are ids: a few bytes that anybody
    recorded can be made to pack a gigabyte.
    """
    import base64
    import binascii
    import zlib

    text = (_told(turn) or {}).get("turns")
    if not isinstance(text, str):
        return
    unpacker = zlib.decompressobj()
    begun = bytearray()
    most, left = len(ids_in(turn)), _MOST_BYTES
    try:
        squeezed = base64.b64decode(text, validate=True)
        while most > 0 and left > 0 and not unpacker.eof:
            data = unpacker.decompress(squeezed, min(_AT_ONCE_BYTES, left))
            squeezed = unpacker.unconsumed_tail
            if not data:
                break
            left -= len(data)
            *ended, rest = data.split(b"\n")
            for each in ended[:most]:
                yield bytes(begun) + each
                begun.clear()
            most -= len(ended)
            begun += rest
    except (binascii.Error, ValueError, zlib.error):
        return  # somebody wrote it by hand
    if most > 0 and unpacker.eof:
        yield bytes(begun)


def unpacked(turn: Turn) -> Iterator[tuple[bytes, Turn]]:
    """Yield the turns that *turn* stands for, each with its line, oldest first.

    They have no ``seq`` of their own.
    """
    from convmem import jsontext
    from convmem.turns import turn_from_object

    for line in lines_in(turn):
        try:
            made = turn_from_object(jsontext.loads(line))
        except jsontext.NotJson:
            continue
        if made is not None and not is_copy(made):
            yield line, made


def turns_in(turn: Turn) -> list[Turn]:
    """Return the turns that *turn* stands for, oldest first."""
    return [made for _, made in unpacked(turn)]


def _told(turn: Turn) -> dict[str, Any] | None:
    told = (turn.meta or {}).get(KEY)
    return told if isinstance(told, dict) else None
