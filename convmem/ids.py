"""Names: a continuation id as a file name, one for one, and new ids for turns.

Every id has exactly one file name and every file name of ours exactly one id. The names hold
lower-case letters only, so that ``A`` and ``a`` stay two conversations on a file system that
folds case, and never a separator, a leading dot or dash, or a device name of Windows.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache

from convmem.errors import InvalidContinuationId

MAX_ID_BYTES = 1024
# A name and what sidecars put round it must stay within NAME_MAX (255 bytes everywhere).
MAX_NAME_BYTES = 180
_PREFIX_BYTES = 40
_HASH_MARK = "="

_PLAIN_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789_-."
_PLAIN = frozenset(_PLAIN_LETTERS.encode())
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in range(10)]
)


def encode_name(continuation_id: str) -> str:
    """Return the file name, without ending, that stands for *continuation_id*.

    Letters ``a-z``, digits, ``_``, ``-`` and inner dots stand for themselves; every other UTF-8
    byte becomes ``%xx``. An id whose name would exceed 180 bytes gets its first 40 and a SHA-256
    (see ``is_hashed``); the whole id is then kept in a sidecar.

    Raises:
        InvalidContinuationId: Not text, empty, over 1,024 bytes, with NUL or a lone surrogate.
    """
    if not isinstance(continuation_id, str):
        raise InvalidContinuationId(
            f"a continuation id is text, not {type(continuation_id).__name__}"
        )
    return _encoded_name(continuation_id)


# Every append asks for the name of its conversation.
@lru_cache(maxsize=512)
def _encoded_name(continuation_id: str) -> str:
    raw = _checked(continuation_id)
    last = len(raw) - 1
    parts = [
        chr(byte) if byte in _PLAIN and not (byte == 0x2E and at in (0, last)) else f"%{byte:02x}"
        for at, byte in enumerate(raw)
    ]
    # A leading dash would read as an option in every shell line that names the file.
    if parts[0] == "-" or "".join(parts).partition(".")[0] in _DEVICES:
        parts[0] = f"%{raw[0]:02x}"
    name = "".join(parts)
    if len(name) <= MAX_NAME_BYTES:
        return name
    import hashlib

    return f"{name[:_PREFIX_BYTES]}{_HASH_MARK}{hashlib.sha256(raw).hexdigest()}"


def is_hashed(name: str) -> bool:
    """Say whether *name* stands for an id too long to be spelled out."""
    return _HASH_MARK in name


def stands_for(name: str, continuation_id: str) -> bool:
    """Whether *name* is the name of that id, which may be none at all."""
    if name == continuation_id and _stands_for_itself(name):
        return True
    try:
        return encode_name(continuation_id) == name
    except InvalidContinuationId:
        return False


def decode_name(name: str) -> str | None:
    """Return the id that *name* stands for, or ``None`` if no id has that name.

    ``None`` for a hashed name too: its id stands in the sidecar.
    """
    if _stands_for_itself(name):
        return name  # nearly every name, and a list decodes ten thousand of them
    raw = bytearray()
    at = 0
    while at < len(name):
        if name[at] == "%":
            try:
                raw.append(int(name[at + 1 : at + 3], 16))
            except ValueError:
                return None
            at += 3
        else:
            raw += name[at].encode("utf-8", "surrogateescape")  # any bytes may be a file's name
            at += 1
    try:
        continuation_id = raw.decode()
    except UnicodeDecodeError:
        return None
    # Only the one spelling that we would write ourselves counts: ``%61`` is not ``a``.
    return continuation_id if stands_for(name, continuation_id) else None


def _stands_for_itself(name: str) -> bool:
    """Whether *name* is certainly the name of the id that is spelled the same. Costs no loop."""
    return (
        0 < len(name) <= MAX_NAME_BYTES
        and not name.strip(_PLAIN_LETTERS)
        and name[0] not in "-."
        and name[-1] != "."
        and name.partition(".")[0] not in _DEVICES
    )


def _checked(continuation_id: str) -> bytes:
    if not continuation_id:
        raise InvalidContinuationId("a continuation id cannot be empty")
    try:
        raw = continuation_id.encode()
    except UnicodeEncodeError:
        raise InvalidContinuationId(
            f"continuation id {continuation_id!a} is not valid Unicode text",
            hint="it holds half of a surrogate pair, or bytes that are not UTF-8",
        ) from None
    if b"\0" in raw:
        raise InvalidContinuationId(f"continuation id {continuation_id!r} holds a NUL")
    if len(raw) > MAX_ID_BYTES:
        raise InvalidContinuationId(
            f"a continuation id of {len(raw):,} bytes is too long",
            hint=f"at most {MAX_ID_BYTES:,} bytes of UTF-8",
        )
    return raw


def new_turn_id() -> str:
    """Return a new UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, 74 random bits.

    Order among turns is ``seq``'s affair; the id only has to be new.
    """
    when = f"{time.time_ns() // 1_000_000:012x}"
    drawn = os.urandom(10)
    rest = drawn.hex()
    # The variant stands in the upper half of a digit, what is drawn in the lower.
    variant = "89ab"[drawn[1] & 3]
    return f"{when[:8]}-{when[8:]}-7{rest[:3]}-{variant}{rest[4:7]}-{rest[7:19]}"


def new_turn_ids() -> tuple[str, int]:
    """Return what many new ids begin with, and their first number: ``f"{prefix}{number:012x}"``.

    UUIDv7 too, of one moment and counted on from a random number (RFC 9562, section 6.2, method
    2), so that they sort in the order they are made in. Good for 2**47 ids: two such calls in the
    same millisecond would have to agree in 26 random bits, and be near each other in 47 more.
    """
    made = new_turn_id()
    return made[:24], int(made[24:], 16) >> 1
