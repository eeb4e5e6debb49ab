"""Values to the letter: which are the same JSON, and what stands for what JSON cannot say.

An item comes back from a turn as the very same JSON, the order of keys included; so whether role
and content say all of it is a question of letters, not of Python's ``==``. JSON as UTF-8 cannot say
half of a surrogate pair (as cut emoji leave it), ``NaN``, objects, or what is nested too deeply.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# Deeper than this, what is kept of a value is that it was there.
MAX_DEPTH = 200


def is_same(one: Any, other: Any) -> bool:
    """Whether both are the same JSON text: types and the order of keys count, too."""
    if type(one) is not type(other):
        return False
    if type(one) is dict:
        return list(one) == list(other) and all(is_same(one[key], other[key]) for key in one)
    if type(one) is list:
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other)


def compact(value: Any, *, allow_nan: bool = False) -> str:
    """Return *value* as JSON without blanks, its letters as they are.

    Raises:
        ValueError: It holds ``NaN`` or an infinity, which are not allowed.
        TypeError: It holds what is no JSON.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=allow_nan)


def text_of(value: Any) -> str:
    """Return a text as it is, nothing as no text, and all else as compact JSON, or nearly that.

    Raises:
        TypeError: As ``compact``.
    """
    if value is None:
        return ""
    return value if type(value) is str else compact(value, allow_nan=True)


def spelled_in_ascii(value: Any) -> str:
    """Return *value* as JSON in ASCII, which can say halves of surrogate pairs and ``NaN``, too.

    Raises:
        TypeError, ValueError, RecursionError: It holds what is no JSON, or is nested too deeply.
    """
    return json.dumps(value, separators=(",", ":"))


def unspelled(raw: Any) -> Any:
    """Return what *raw* spells, where it is text that spells anything; else itself."""
    if type(raw) is str:
        with suppress(ValueError, RecursionError):
            return json.loads(raw)
    return raw


def storable(
    turn: dict[str, Any],
    item: Any,
    source: str,
    *,
    spelled: Callable[[Any], str] = spelled_in_ascii,
) -> dict[str, Any]:
    """Return *turn*; where JSON cannot say it, what comes nearest, with *item* spelled as ``raw``.

    Where *item* is no JSON that *spelled* knows, *turn* as it is, which nobody will store.
    """
    if is_sayable(turn):
        return turn
    try:
        raw = spelled(item)
    except (TypeError, ValueError, RecursionError):
        return turn
    meta = sayable({"source": source, **(turn.get("meta") or {})})
    return {**turn, "content": sayable(turn["content"]), "meta": meta, "raw": raw}


def is_sayable(value: Any, *, max_characters: int | None = None) -> bool:
    """Whether JSON as UTF-8 can say *value*, in no more than so many characters."""
    if _is_deep(value):
        return False
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, TypeError):
        return False
    return max_characters is None or len(text) <= max_characters


def sayable(value: Any, _depth: int = 0) -> Any:
    """Return *value* with what cannot be said replaced by what comes nearest to it."""
    if _depth > MAX_DEPTH:
        return "(nested too deeply)"
    if type(value) is str:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if type(value) is float and value - value != 0.0:
        return str(value)
    if type(value) is list:
        return [sayable(each, _depth + 1) for each in value]
    if type(value) is dict:
        return {sayable(str(key)): sayable(value[key], _depth + 1) for key in value}
    if value is None or type(value) in (int, float, bool):
        return value
    return str(value)


def _is_deep(value: Any) -> bool:
    """Whether *value* is nested too deeply; level by level, as it may be too deep to recurse."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for each in level:
            if type(each) in (dict, list):
                inner.extend(each.values() if type(each) is dict else each)
        if not inner:
            return False
        level = inner
    return True
