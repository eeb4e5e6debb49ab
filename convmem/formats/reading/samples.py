"""The beginning of a source, by which its format is recognised."""

from __future__ import annotations

import json

from convmem import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SAMPLE_BYTES = 256 << 10
_MOST_VALUES = 50
_DECODER = json.JSONDecoder()
_AROUND = b" \t\r\0"
_OPENINGS = (b"{", b"[")


class Sample:
    """What stands at the beginning of a source.

    Attributes:
        name: The source's name, without folders; empty for standard input.
        head: Its first bytes, at most ``SAMPLE_BYTES``, unpacked.
        values: The first JSON values that stand on lines of their own, at most 50.
        is_database: Whether it is an SQLite file.
    """

    __slots__ = ("head", "is_database", "name", "values")

    def __init__(self, name: str, head: bytes) -> None:
        self.name = name
        self.head = head.removeprefix(b"\xef\xbb\xbf")
        self.is_database = head.startswith(b"SQLite format 3\x00")
        self.values: list[Any] = [] if self.is_database else _values(self.head)

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Those of the values that are objects."""
        return [value for value in self.values if isinstance(value, dict)]

    @property
    def first_byte(self) -> bytes:
        """The first byte that is no white space: what kind of JSON begins here."""
        return self.head.lstrip()[:1]


def _values(head: bytes) -> list[Any]:
    if head[257:262] == b"ustar":
        return []  # a tar: what is in it would be glued together with what tells of it
    lines = [line.strip(_AROUND) for line in head.split(b"\n")]
    if len(head) >= SAMPLE_BYTES:
        lines.pop()  # it may go on
    lines = [line for line in lines if line]
    # A text that shows some records, as this project's own pages do, is no file of them.
    if 2 * sum(line[:1] in _OPENINGS for line in lines) < len(lines):
        return []
    found = []
    for line in lines:
        try:
            found.append(jsontext.loads(line))
        except jsontext.NotJson:
            try:
                # Half a surrogate pair, or a second record behind it: it tells all the same.
                found.append(_DECODER.raw_decode(str(line, "utf-8", "replace"))[0])
            except (ValueError, RecursionError):
                continue
        if len(found) == _MOST_VALUES:
            break
    return found
