"""How a JSON document opens: the names in its first object, also where its end is not there yet."""

from __future__ import annotations

import re

# A string, and whether it is a name; an opening; an end; a string that is cut short.
_TOKEN = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"(\s*:)?|([{\[])|([}\]])|(")', re.DOTALL)


class Opening:
    """What is known of a document by its first bytes.

    Attributes:
        is_list: Whether it is an array.
        names: The names in it, where it is an object: those that were reached.
        first: The names in the first object of the array: itself, or the one that it wraps.
    """

    __slots__ = ("first", "is_list", "names")

    def __init__(self) -> None:
        self.is_list = False
        self.names: set[str] = set()
        self.first: set[str] = set()


def opening_of(head: bytes, *wrappers: str) -> Opening:
    """Read how *head*, the beginning of a document, opens.

    Of an object that holds an array under one of the names *wrappers*, that array's first object is
    looked at too. Costs one pass over *head*.
    """
    found = Opening()
    depth = 0
    wanted = 0  # the depth of the array whose first object is looked for
    inside = 0  # the depth of that object, once it has begun
    last = ""
    for token in _TOKEN.finditer(head):
        text, name, opens, closes, cut = token.groups()
        if opens:
            depth += 1
            if depth == 1:
                found.is_list = opens == b"["
                wanted = 1 if found.is_list else 0
            elif opens == b"[" and depth == 2 and last in wrappers and not wanted:
                wanted = 2
            elif opens == b"{" and wanted and depth == wanted + 1 and not inside:
                inside = depth
        elif closes:
            if depth == inside:
                inside = -1
            depth -= 1
            if depth <= 0:
                break
        elif cut:
            break
        elif name:
            last = str(text, "utf-8", "replace")
            if depth == 1 and not found.is_list:
                found.names.add(last)
            elif depth == inside:
                found.first.add(last)
    return found
