"""Cutting what is too long: the middle of its texts goes, and a mark says how much.

The beginning and the end stay, half and half, since what is asked stands in one of the two.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from convmem.context.parts import is_image, plain_text
from convmem.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Below this a cut saves nothing, since its mark takes as much.
_WORTH_CUTTING = 48
# Characters that one token may stand for; a longer keep is not worth trying.
_MOST_IN_A_TOKEN = 16
_TEXT_KEYS = ("text", "content", "output", "toolResult")
_JOINERS = "\u200d\ufe0e\ufe0f\u20e3"
_MOST_STEPS = 32


class Cut:
    """A turn, and how many characters were cut out of it."""

    __slots__ = ("characters", "turn")

    def __init__(self, turn: Turn, characters: int = 0) -> None:
        self.turn = turn
        self.characters = characters


def cut_to_fit(
    turns: Sequence[Turn], room: int, cost: Callable[[Cut], int], *, may_flatten: bool
) -> tuple[list[Cut], bool]:
    """Return *turns* with their texts cut so that they take *room*, and whether they do.

    All texts are cut to one length, the greatest that fits; shorter ones stay whole. Tool calls,
    pictures and the shape of the content stay. With *may_flatten*, what does not fit that way
    becomes plain text first. What fits in no way is as short as can be.
    """

    def tried(most: int) -> list[Cut] | None:
        cuts = [_cut_turn(turn, most) for turn in turns]
        return cuts if sum(map(cost, cuts)) <= room else None

    best = tried(0)
    if best is None:
        shortest = [_cut_turn(turn, 0) for turn in turns]
        if not may_flatten or all(isinstance(turn.content, str) for turn in turns):
            return shortest, False
        flat = [_like(turn, plain_text(turn)) for turn in turns]
        return cut_to_fit(flat, room, cost, may_flatten=False)
    low, high = 0, max(1, room) * _MOST_IN_A_TOKEN
    while high - low > 1 + low // 64:
        middle = (low + high) // 2
        cuts = tried(middle)
        if cuts is None:
            high = middle
        else:
            low, best = middle, cuts
    return best, True


def cut_text(text: str, most: int) -> tuple[str, int]:
    """Return *text* with about *most* characters left, and how many were cut out of it.

    No character is parted from the marks, joiners and modifiers that belong to it.
    """
    if len(text) <= most + _WORTH_CUTTING:
        return text, 0
    first = _edge(text, most // 2, -1)
    last = _edge(text, len(text) - (most - most // 2), 1)
    gone = last - first
    mark = f"[… {gone:,} characters left out …]"
    before = f"{text[:first]}\n" if first else ""
    after = f"\n{text[last:]}" if last < len(text) else ""
    return f"{before}{mark}{after}", gone


def _cut_turn(turn: Turn, most: int) -> Cut:
    content, gone = _cut_value(turn.content, most)
    return Cut(_like(turn, content) if gone else turn, gone)


def _cut_value(value: Any, most: int) -> tuple[Any, int]:
    """Cut the texts that people and tools wrote, wherever content parts hold them."""
    if isinstance(value, str):
        return cut_text(value, most)
    if isinstance(value, list):
        found = [_cut_value(item, most) for item in value]
        return [item for item, _ in found], sum(gone for _, gone in found)
    if isinstance(value, dict) and not is_image(value):
        total = 0
        copied = dict(value)
        for key in _TEXT_KEYS:
            if isinstance(value.get(key), str | list | dict):
                copied[key], gone = _cut_value(value[key], most)
                total += gone
        return copied, total
    return value, 0


def _like(turn: Turn, content: Any) -> Turn:
    return Turn(
        turn.role,
        content,
        id=turn.id,
        seq=turn.seq,
        ts=turn.ts,
        meta=turn.meta,
        extra=dict(turn.extra),
    )


def _edge(text: str, at: int, step: int) -> int:
    """Return the nearest place from *at* on, in the direction of *step*, that parts no character.

    Outwards, so that what is kept never grows. After some steps any place will do.
    """
    tried = at
    for _ in range(_MOST_STEPS):
        if tried <= 0 or tried >= len(text) or not _belongs(text[tried - 1], text[tried]):
            return max(0, min(len(text), tried))
        tried += step
    return at


def _belongs(before: str, after: str) -> bool:
    """Whether *after* is a part of what people see as one character with *before*."""
    if after < "\u0300":
        return before == "\r" and after == "\n"
    return (
        before == "\u200d"
        or after in _JOINERS
        or unicodedata.category(after)[0] == "M"
        or "\U0001f3fb" <= after <= "\U0001f3ff"
        or ("\U0001f1e6" <= after <= "\U0001f1ff" and "\U0001f1e6" <= before <= "\U0001f1ff")
        or "\u1160" <= after <= "\u11ff"
    )
