"""JSON for people to read: indented where that helps, never much longer than the value is.

Deep nesting is written on one line: indenting it would make a gigabyte of a hostile megabyte.
"""

from __future__ import annotations

import json

from convmem import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DEPTH = 8
_WIDTH = 88


def pretty(value: Any) -> str:
    """Return *value* as JSON over as many lines as it takes."""
    made: list[str] = []
    _write(value, 0, "", made)
    return "".join(made)


def one_line(value: Any) -> str:
    """Return *value* as compact JSON, however deep it is nested."""
    try:
        return str(jsontext.dumps(value), "utf-8")
    except jsontext.NotJson:
        return "".join(_flat(value))


def _write(value: Any, depth: int, space: str, made: list[str]) -> None:
    if not isinstance(value, dict | list) or not value or depth == _DEPTH:
        made.append(one_line(value))
        return
    inner = space + "  "
    items = list(value.values()) if isinstance(value, dict) else value
    if len(items) <= _WIDTH // 3 and not any(isinstance(each, dict | list) for each in items):
        text = json.dumps(value, ensure_ascii=False)
        if len(text) + len(space) <= _WIDTH:
            made.append(text)
            return
    if isinstance(value, dict):
        before = "{\n"
        for key, item in value.items():
            made.append(f"{before}{inner}{json.dumps(key, ensure_ascii=False)}: ")
            _write(item, depth + 1, inner, made)
            before = ",\n"
        made.append(f"\n{space}}}")
        return
    before = "[\n"
    for item in value:
        made.append(f"{before}{inner}")
        _write(item, depth + 1, inner, made)
        before = ",\n"
    made.append(f"\n{space}]")


class _Done(str):
    """A piece of JSON, not a value."""

    __slots__ = ()


def _flat(value: Any) -> list[str]:
    """Return the pieces of *value* as JSON. Without recursion: some values are deeper than it."""
    made: list[str] = []
    waiting: list[Any] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, _Done):
            made.append(item)
        elif isinstance(item, dict):
            pieces: list[Any] = [_Done("{")]
            for key, inner in item.items():
                comma = "," if len(pieces) > 1 else ""
                pieces += [_Done(f"{comma}{json.dumps(key, ensure_ascii=False)}:"), inner]
            waiting += reversed([*pieces, _Done("}")])
        elif isinstance(item, list):
            pieces = [_Done("[")]
            for inner in item:
                pieces += [_Done(","), inner] if len(pieces) > 1 else [inner]
            waiting += reversed([*pieces, _Done("]")])
        else:
            made.append(json.dumps(item, ensure_ascii=False))
    return made
