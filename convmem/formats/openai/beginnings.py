"""Of what shape a JSON source is, told from its beginning: lines, an array, or one object.

The end of a large document is not in sight. What is there of it is closed where it breaks off,
behind its last whole member, so that its first values can be looked at like any others.
"""

from __future__ import annotations

import re

from convmem import jsontext
from convmem.formats.reading.mining import on_one_line
from convmem.formats.reading.samples import SAMPLE_BYTES, Sample

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from convmem.formats.reading.sources import Source

LINES = "lines"
ARRAY = "array"
OBJECT = "object"

# A string, also one without its end; a bracket; a comma.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[{}\[\],]', re.DOTALL)
_MOST_DEPTH = 200


class Beginning:
    """What a source begins with.

    Attributes:
        shape: ``LINES`` of JSON values, an ``ARRAY`` or an ``OBJECT`` of which the file is one.
        values: The first lines' values, the first elements, or the one object; the last of
            them may lack its end.
    """

    __slots__ = ("shape", "values")

    def __init__(self, shape: str, values: list[Any]) -> None:
        self.shape = shape
        self.values = values

    @property
    def first(self) -> dict[str, Any]:
        """The first of the values that is an object; empty without one."""
        return next((value for value in self.values if isinstance(value, dict)), {})


def values_of(source: Source) -> tuple[str, Iterable[tuple[bytes, Any]]]:
    """Return the shape of *source*, and its lines, elements, or the one object that it is.

    Each comes with its bytes on one line. Memory follows the longest of them.
    """
    shape = beginning(Sample(source.name, source.head(SAMPLE_BYTES))).shape
    if shape == OBJECT:
        text, value = source.document()
        return shape, [(on_one_line(text).strip(), value)]
    return shape, source.elements() if shape == ARRAY else source.records()


def beginning(sample: Sample) -> Beginning:
    """Return what *sample* is the beginning of. Never raises."""
    if sample.is_database:
        return Beginning(LINES, [])
    text = sample.head.strip()
    if text[:1] not in (b"[", b"{"):
        return Beginning(LINES, sample.values)
    line, _, rest = text.partition(b"\n")
    whole = _parsed(line)
    if isinstance(whole, dict):
        return Beginning(LINES, sample.values)
    if isinstance(whole, list) and isinstance(_parsed(rest.lstrip().split(b"\n", 1)[0]), list):
        return Beginning(LINES, sample.values)
    document = whole if isinstance(whole, list) else _closed(text)
    if isinstance(document, list):
        return Beginning(ARRAY, document)
    if isinstance(document, dict):
        # One line without its end is a line all the same, and need not be held whole.
        return Beginning(OBJECT if rest else LINES, [document])
    return Beginning(LINES, sample.values)


def _parsed(text: bytes) -> Any:
    try:
        return jsontext.loads(text)
    except jsontext.NotJson:
        return None


def _closed(text: bytes) -> Any:
    """Return the value that *text* begins with, without what breaks off; ``None`` if it is none."""
    ends: list[bytes] = []
    cut, closing = 0, b""
    for token in _TOKEN.finditer(text):
        mark = token[0][:1]
        if mark in b"[{":
            ends.append(b"]" if mark == b"[" else b"}")
            if len(ends) > _MOST_DEPTH:
                return None
            cut, closing = token.end(), b"".join(reversed(ends))
        elif mark in b"]}":
            if not ends or ends.pop() != mark:
                return None
            cut, closing = token.end(), b"".join(reversed(ends))
            if not ends:
                break  # what follows is no part of it
        elif mark == b"," and ends:
            cut, closing = token.start(), b"".join(reversed(ends))
        elif mark == b'"' and token.end() >= len(text) and ends:
            # It breaks off within a text: an empty one, unless it is a name.
            found = _parsed(text[: token.start()] + b'""' + b"".join(reversed(ends)))
            if found is not None:
                return found
    return _parsed(text[:cut] + closing)
