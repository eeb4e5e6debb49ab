"""The source records that turns keep: found in a turn's line as they were, and joined to a file.

``raw`` is the last key of an imported turn. What a parser would make of it is not what it was:
numbers lose digits, and keys that come twice are lost.
"""

from __future__ import annotations

import re

from convmem import jsontext
from convmem.log import codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convmem.formats.protocol import Kept

# No text within JSON reads so: its quotes would be escaped. But it may be the key of an object
# within the turn, with anything behind it.
_KEY = b',"raw":'
_TRIES = 4
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],]', re.DOTALL)
_WHITE = b" \t\r\n"


def raw_of(line: bytes) -> bytes | str | None:
    """Return what stands under the key ``raw`` of a turn's line, byte for byte.

    *line* is a whole JSON object: of a log, sealed or not, or as ``--json`` and ``export`` print
    it. Text is returned as text; ``None`` stands for no such key. Costs what parsing the source
    record costs, and some ten times that where ``raw`` is not the last key.
    """
    at = line.find(_KEY)
    if at < 0 and b"raw" not in line and b"\\u" not in line:
        return None
    body = codec.body_of(line) if codec.is_sealed(line) else line.rstrip()[:-1]
    loads = jsontext.fast()[0]
    for _ in range(_TRIES):
        if at < 0:
            break
        found = body[at + len(_KEY) :]
        try:
            value = loads(found)
        except ValueError:
            # A key of some object within: that object's end, at least, stands behind its value.
            at = body.find(_KEY, at + 1)
            continue
        return value if type(value) is str else found
    return _searched(body)


def _searched(body: bytes) -> bytes | str | None:
    """Return the value of the key at any place, of *body*: an object without its closing brace."""
    depth = 0
    start = -1  # of the value that the key stands before
    found: bytes | None = None
    expects_key = False
    for token in _TOKEN.finditer(body):
        first = body[token.start()]
        if first == 0x22:
            if depth == 1 and expects_key:
                expects_key = False
                if _is_raw(token[0]):
                    start = body.index(b":", token.end()) + 1
        elif first in b"{[":
            depth += 1
            expects_key = expects_key or depth == 1
        elif first in b"}]":
            depth -= 1
        elif depth == 1:
            if start >= 0:
                found, start = body[start : token.start()], -1
            expects_key = True
    if start >= 0:
        found = body[start:]
    if found is None:
        return None
    found = found.strip(_WHITE)
    if found[:1] != b'"':
        return found
    try:
        return codec.text_of(found)
    except ValueError:
        return found  # half of a surrogate pair: text that cannot be


def _is_raw(key: bytes) -> bool:
    return key == b'"raw"' or (b"\\" in key and jsontext.loads(key) == "raw")


def as_bytes(raw: bytes | str) -> bytes:
    """Return a source record as it stood in its file."""
    return raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogateescape")


def as_lines(kept: Iterable[Kept]) -> Iterator[bytes]:
    """Yield the file whose lines the turns of one conversation were."""
    end = b""
    is_open = True
    for each in kept:
        if each.raw is None:
            continue
        yield end + as_bytes(each.raw)
        meta = each.turn.meta
        # Of the last line only: a file that went on behind it has ended it since.
        is_open = meta is not None and meta.get("unterminated") is True
        end = b"\n"
    if not is_open:
        yield end
