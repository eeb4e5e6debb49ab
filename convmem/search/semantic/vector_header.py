"""The header of a vector file: what it holds, whose, in which state, and how many records count.

magic, version, dimensions, hash of the embedder's name, generation, CRC-32 · at 64: count,
CRC-32 of the generation and the count · 128 bytes in all
"""

from __future__ import annotations

import struct
import zlib

BYTES = 128
COUNT_AT = 64

MAGIC = b"convmemv"
VERSION = 1
# Behind it its CRC-32.
ABOUT = struct.Struct("<8sII16s16s")
# How many records count, and the CRC-32 of that and the generation. Within one sector of a disk.
COUNT = struct.Struct("<QI")

_MAX_DIMENSIONS = 1 << 16


def packed(dimensions: int, embedder: bytes, generation: bytes, count: int) -> bytes:
    """Return a header. *embedder* is the hash of its name."""
    about = ABOUT.pack(MAGIC, VERSION, dimensions, embedder, generation)
    about += zlib.crc32(about).to_bytes(4, "little")
    return (about.ljust(COUNT_AT, b"\0") + counted(generation, count)).ljust(BYTES, b"\0")


def counted(generation: bytes, count: int) -> bytes:
    """Return the part of a header that tells how many records count."""
    number = count.to_bytes(8, "little")
    return number + zlib.crc32(number, zlib.crc32(generation)).to_bytes(4, "little")


def count_in(data: bytes, generation: bytes) -> int | None:
    """Return what ``counted`` was told; ``None`` if that is of another generation, or damaged."""
    if len(data) != COUNT.size:
        return None
    count = int.from_bytes(data[:8], "little")
    return count if data == counted(generation, count) else None


def record_bytes(header: bytes) -> int | None:
    """Return how long the records behind *header* are; ``None`` if no reader could use them."""
    about = header[: ABOUT.size]
    if header[ABOUT.size : ABOUT.size + 4] != zlib.crc32(about).to_bytes(4, "little"):
        return None
    magic, version, dimensions, _, _ = ABOUT.unpack(about)
    if magic != MAGIC or version != VERSION or not 0 < dimensions <= _MAX_DIMENSIONS:
        return None
    return record_size(dimensions)


def record_size(dimensions: int) -> int:
    """Return how long the record of a vector is: key, scale, numbers, CRC-32."""
    return 24 + dimensions + -dimensions % 4


def renewed(header: bytes, generation: bytes) -> bytes:
    """Return *header* as of another generation. One that told no count tells none."""
    _, _, dimensions, embedder, before = ABOUT.unpack(header[: ABOUT.size])
    count = count_in(header[COUNT_AT : COUNT_AT + COUNT.size], before)
    return packed(dimensions, embedder, generation, count or 0)
