"""Credentials in turns and in any JSON value: where they stand, and the value without them. Pure.

Looks at parsed values, so what JSON escapes is seen as it is. A text is judged by itself and, in
an object, beside its key and its neighbours: ``{"password": "…"}`` gives itself away by its key,
and the two halves of a pair of keys each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convmem.secrets.detector import Finding, apart, find, mask_of
from convmem.turns import Turn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeVar

    T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a turn a likely credential stands, and what it is.

    Attributes:
        where: The way to its text, such as ``content[1].input.env.KEY`` or ``meta.note``; to its
            object where it stands in a key.
        rule: The name of the rule that knows it.
        start: Where in its text it begins, in characters.
        length: How many characters it has.
        excerpt: How it begins: a quarter of it, and four characters at most.
    """

    where: str
    rule: str
    start: int
    length: int
    excerpt: str


def findings_in(turn: Turn) -> list[Place]:
    """Return where likely credentials stand in *turn*: content, meta, and its other keys."""
    return places_in(_parts(turn))


def places_in(value: Any) -> list[Place]:
    """Return where likely credentials stand in the JSON *value*.

    Costs one look at all of its text together, and one at each text where that finds anything.
    """
    if not _may_hold(value):
        return []
    return [
        Place(
            where=way if key is None else _way_to(way, key),
            rule=each.rule,
            start=each.start,
            length=each.end - each.start,
            excerpt=text[each.start : each.start + min(4, (each.end - each.start) // 4)],
        )
        for way, box in _boxes([value])
        for key, text, found in _found_in(box)
        for each in found
    ]


def redacted(value: T) -> tuple[T, int]:
    """Return *value* with a mask for each likely credential, and how many there were.

    *value* is a ``Turn`` (its id, role and times stay) or any JSON value; keys are masked too.
    It is not changed: what comes back is a copy, or itself where nothing was found. A credential
    always gets the same mask, ``[redacted: RULE]``, and nothing else changes; doing it twice
    changes nothing more.
    """
    if isinstance(value, Turn):
        return _redacted_turn(value)  # type: ignore[return-value]
    holder: list[Any] = [value]
    count = 0
    # Once more, since what a mask leaves beside it may be seen only then. Each round shortens
    # what can be masked, so the bound is for texts made to reach it.
    for _ in range(_MOST_ROUNDS):
        if not _may_hold(holder):
            break
        holder = _copy(holder)
        masked = sum(_mask(box) for _, box in _boxes(holder))
        if not masked:
            break
        count += masked
    return holder[0], count


_MOST_ROUNDS = 16
# In a shorter text alone nothing is found, and a longer one needs no key to give it away.
_LEAST = 8
_SHORT = 4096


def _parts(turn: Turn) -> dict[str, Any]:
    meta = {} if turn.meta is None else {"meta": turn.meta}
    return {"content": turn.content, **meta, **turn.extra}


def _redacted_turn(turn: Turn) -> tuple[Turn, int]:
    parts, count = redacted(_parts(turn))
    if not count:
        return turn, 0
    content = parts.pop("content")
    meta = None if turn.meta is None else parts.pop("meta")
    made = Turn(turn.role, content, id=turn.id, seq=turn.seq, ts=turn.ts, meta=meta, extra=parts)
    return made, count


def _may_hold(value: Any) -> bool:
    """Whether *value* is worth a close look: all of its texts at once, which is much faster."""
    lines: list[str] = []
    stack = [value]
    while stack:
        box = stack.pop()
        if isinstance(box, str):
            lines.append(box)
        elif isinstance(box, dict):
            for key, item in box.items():
                if not isinstance(item, str):
                    lines.append(key)
                    if isinstance(item, _BOXES):
                        stack.append(item)
                    continue
                lines.append(f'{key} = "{item}"' if len(item) < _SHORT else key)
                if len(item) >= _LEAST:
                    lines.append(item)
        elif isinstance(box, list | tuple):
            stack += [item for item in box if isinstance(item, _HOLDERS)]
    return bool(find("\n".join(lines)))


_BOXES = (dict, list, tuple)
_HOLDERS = (str, *_BOXES)


def _boxes(top: list[Any]) -> Iterator[tuple[str, Any]]:
    """Yield every list and object in *top*, and the way to it: outer ones first, in order."""
    stack: list[tuple[str, Any]] = [("", top)]
    while stack:
        way, box = stack.pop()
        inner = [
            ("" if box is top else _way_to(way, key), item)
            for key, item in _items(box)
            if isinstance(item, _BOXES)
        ]
        stack += reversed(inner)
        yield way, box


def _items(box: Any) -> Iterable[tuple[Any, Any]]:
    return box.items() if isinstance(box, dict) else enumerate(box)


def _way_to(way: str, key: Any) -> str:
    if not isinstance(key, str):
        return f"{way}[{key}]"
    # A key may be anything, a credential too.
    shown = redacted(key)[0] if len(key) >= _LEAST else key
    shown = shown if len(shown) <= 80 else f"{shown[:79]}…"
    return f"{way}.{shown}" if way else shown


def _found_in(box: Any) -> Iterator[tuple[Any, str, list[Finding]]]:
    """Yield (key, text, what is found in it) of the texts right in *box*; key ``None``: a key."""
    if isinstance(box, dict):
        beside = _found_beside(box)
        for at, (key, item) in enumerate(box.items()):
            if found := _together(_found_alone(key), beside.get((at, True), [])):
                yield None, key, found
            if isinstance(item, str) and (
                found := _together(_found_alone(item), beside.get((at, False), []))
            ):
                yield key, item, found
    else:
        for at, item in enumerate(box):
            if isinstance(item, str) and (found := _found_alone(item)):
                yield at, item, found


def _found_alone(text: str) -> list[Finding]:
    return find(text) if len(text) >= _LEAST else []


def _found_beside(box: dict[str, Any]) -> dict[tuple[int, bool], list[Finding]]:
    """Return what is found in the short texts of an object beside their keys and neighbours.

    By the place of the pair, and whether it is its key.
    """
    pieces: list[str] = []
    spans: list[tuple[int, int, tuple[int, bool]]] = []
    size = 0
    for at, (key, item) in enumerate(box.items()):
        if not isinstance(item, str) or max(len(item), len(key)) >= _SHORT:
            continue
        spans.append((size, size + len(key), (at, True)))
        begin = size + len(key) + 4
        spans.append((begin, begin + len(item), (at, False)))
        pieces.append(f'{key} = "{item}"\n')
        size += len(pieces[-1])
    found: dict[tuple[int, bool], list[Finding]] = {}
    number = 0
    for each in find("".join(pieces)) if pieces else ():
        while spans[number][1] <= each.start:
            number += 1
        begin, end, which = spans[number]
        # What goes over the edge of a text is nothing that somebody wrote.
        if begin <= each.start and each.end <= end:
            inside = Finding(each.start - begin, each.end - begin, each.rule)
            found.setdefault(which, []).append(inside)
    return found


def _together(first: list[Finding], second: list[Finding]) -> list[Finding]:
    if not second:
        return first
    return apart((each.start, each.end, each.rule, False) for each in (*first, *second))


def _copy(top: list[Any]) -> list[Any]:
    """Copy all lists and objects; without recursion, for they may be deep."""
    top = list(top)
    stack: list[Any] = [top]
    while stack:
        box = stack.pop()
        for key, item in _items(box):
            if isinstance(item, _BOXES):
                box[key] = dict(item) if isinstance(item, dict) else list(item)
                stack.append(box[key])
    return top


def _mask(box: Any) -> int:
    """Mask what is found right in *box*, in place, and return how many that are."""
    renamed: dict[str, str] = {}
    count = 0
    for key, text, found in list(_found_in(box)):
        count += len(found)
        if key is None:
            renamed[text] = _masked(text, found)
        else:
            box[key] = _masked(text, found)
    if renamed:
        items = list(box.items())
        box.clear()
        for key, item in items:
            name = given = renamed.get(key, key)
            number = 1
            while name in box:
                number += 1
                name = f"{given} {number}"  # no value is lost to two keys that became one
            box[name] = item
    return count


def _masked(text: str, found: list[Finding]) -> str:
    parts = []
    at = 0
    for each in found:
        parts += [text[at : each.start], mask_of(each.rule)]
        at = each.end
    return "".join([*parts, text[at:]])
