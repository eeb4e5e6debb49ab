"""What a fork shares with the conversation that it came from: its turns, packed into events."""

from __future__ import annotations

import base64
import json
import zlib
from datetime import datetime
from typing import TYPE_CHECKING, Any

from convmem import Turn
from convmem.adapters.pydantic_ai.entries import EVENT, SOURCE, is_ours

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem.adapters.pydantic_ai.entries import Link

_FORK = "fork"
_PACK_BYTES = 16 << 20  # of lines in one event: what it packs to surely fits into a turn
_MOST_BYTES = 256 << 20
_AT_ONCE_BYTES = 64 << 10


def packed(home: str, links: list[Link]) -> Iterator[dict[str, Any]]:
    """Yield events that hold the turns of *links*, in the form of ``convmem.copied``."""
    parent, ids, lines, size = None, list[str](), list[bytes](), 0
    for link in links:
        told = link.turn.as_dict()
        del told["seq"]
        if not is_ours(link.turn):
            told.pop("raw", None)
        meta = {**(link.turn.meta or {}), "source": SOURCE, "parent": parent}
        line = json.dumps({**told, "id": link.entry_id, "meta": meta}, ensure_ascii=False).encode()
        parent = link.entry_id
        if size + len(line) > _PACK_BYTES and lines:
            yield _pack(home, ids, lines)
            ids, lines, size = [], [], 0
        ids.append(link.entry_id)
        lines.append(line)
        size += len(line)
    yield _pack(home, ids, lines)


def unpacked(turn: Turn) -> Iterator[Turn]:
    """Yield the turns that *turn* stands for, or itself."""
    meta = turn.meta or {}
    if turn.role != EVENT or meta.get("kind") != _FORK or meta.get("source") != SOURCE:
        yield turn
        return
    try:
        copied = meta["copied"]
        for line in _lines(base64.b64decode(copied["turns"]), len(copied["ids"])):
            told = json.loads(line)
            raw = {"raw": told["raw"]} if "raw" in told else {}
            made = Turn(told["role"], told["content"], id=told["id"], meta=told["meta"], extra=raw)
            if isinstance(told.get("ts"), str):
                made.ts = datetime.fromisoformat(told["ts"])
            if _is_turn(made):
                yield made
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, zlib.error):
        return  # written by hand: what can be read of it is read


def _lines(squeezed: bytes, most: int) -> Iterator[bytes]:
    """Yield the lines that *squeezed* packs, *most* at most, and no more bytes than one may have.

    A little at a time: a few bytes of anybody's can be made to pack a gigabyte.
    """
    unpacker, begun, left = zlib.decompressobj(), bytearray(), _MOST_BYTES
    while left > 0 and most > 0 and not unpacker.eof:
        data = unpacker.decompress(squeezed, min(_AT_ONCE_BYTES, left))
        squeezed = unpacker.unconsumed_tail
        if not data:
            break
        left -= len(data)
        *whole, rest = data.split(b"\n")
        for each in whole[:most]:
            yield bytes(begun) + each
            begun.clear()
            most -= 1
        begun += rest
    if most > 0 and begun:
        yield bytes(begun)


def _is_turn(made: Turn) -> bool:
    texts = isinstance(made.role, str) and isinstance(made.id, str)
    return texts and isinstance(made.meta, dict | None)


def _pack(home: str, ids: list[str], lines: list[bytes]) -> dict[str, Any]:
    squeezed = base64.b64encode(zlib.compress(b"\n".join(lines), 6)).decode()
    copied = {"from": home, "ids": ids, "turns": squeezed}
    meta = {"source": SOURCE, "kind": _FORK, "copied": copied}
    return {"role": EVENT, "content": "", "meta": meta}
