"""Turns as a model gets them: light JSON objects, with a word on whatever was left out.

Stored text is a stranger's. It goes out inside JSON and nowhere else, so that no turn can forge
another one, or a word of the server's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from convmem import Turn

# What could hide text from a reader, or turn its direction; JSON lets it stand as it is.
_HIDING = re.compile(
    "[\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
# No model reads base64; a picture is named instead. Only what can be nothing else: text that begins
# with "data:", or a tool's argument of that name, is what somebody said.
_MOST_DATA = 256
_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w.+-]+=[^;,]*)*;base64,[\w+/=%-]*", re.ASCII)
_BASE64 = re.compile(r"[\w+/=\r\n-]*", re.ASCII)
_MEDIA_TYPES = frozenset(("media_type", "mime_type", "mediaType", "mimeType"))
_DEEPEST = 40


def shown(turn: Turn, most_bytes: int, *, offset: int = 0, details: bool = False) -> dict[str, Any]:
    """Return *turn* as a JSON object of about *most_bytes*: ``seq``, ``ts``, ``role``, ``content``.

    Content that is too long is cut, as text, and ``cut`` says what is there and where to go on.
    With *details* its ``id``, ``meta`` and other keys come too, where they fit.

    Args:
        offset: Leave out so many characters of the content.
    """
    every = {name: value for name, value in turn.as_dict().items() if value is not None}
    content = light(every.pop("content", None))
    told: dict[str, Any] = {}
    told.update((name, every.pop(name)) for name in ("seq", "ts", "role") if name in every)
    told["content"] = content
    if offset or size(told) > most_bytes:
        told["content"], cut = piece_of(content, offset, most_bytes - size({**told, "content": ""}))
        if turn.seq is not None and "next_offset" in cut:
            cut["more"] = {"turn": turn.seq, "offset": cut.pop("next_offset")}
        told["cut"] = cut
    if details:
        left_out = []
        for name, value in every.items():
            value = light(value)
            if size({**told, name: value}) <= most_bytes or name == "id":
                told[name] = value
            else:
                left_out.append(name)
        if left_out:
            told["keys_left_out"] = left_out
    return told


def fitting(
    turns: Iterable[Turn], most_bytes: int, share_bytes: int, *, details: bool = False
) -> list[dict[str, Any]]:
    """Return as many of *turns*, from the first on, as take *most_bytes* together; at least one.

    Args:
        share_bytes: How much of each is shown.
    """
    found: list[dict[str, Any]] = []
    left = most_bytes
    for turn in turns:
        each = shown(turn, share_bytes, details=details)
        left -= size(each)
        if found and left < 0:
            break
        found.append(each)
    return found


def how_many_fit(things: list[dict[str, Any]], most_bytes: int) -> int:
    """Return how many of *things*, from the first on, take *most_bytes* together; at least one."""
    for at, each in enumerate(things):
        most_bytes -= size(each)
        if most_bytes < 0:
            return max(at, 1)
    return max(len(things), 1)


def line_of(value: Any) -> str:
    """Return *value* as JSON text on one line, in which nothing is hidden from a reader."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _HIDING.sub(lambda found: json.dumps(found[0])[1:-1], text)


def plain(text: str) -> str:
    """Return lines of text in which nothing is hidden from a reader, but for where they end."""
    return _HIDING.sub(lambda found: f"\\u{{{ord(found[0]):x}}}", text)


def size(value: Any) -> int:
    """Return how many bytes of JSON *value* is."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode("utf-8", "surrogatepass"))


def light(value: Any, *, names_pictures: bool = True, depth: int = 0) -> Any:
    """Return a copy of a JSON value, its pictures named, no deeper than clients can read."""
    if isinstance(value, str):
        if names_pictures and len(value) > _MOST_DATA and _DATA_URL.fullmatch(value):
            return f"[left out: a data URL of {len(value):,} characters]"
        return value
    if not isinstance(value, dict | list):
        return value
    if depth == _DEEPEST:
        return "[left out: nested too deeply]"
    if isinstance(value, list):
        return [light(each, names_pictures=names_pictures, depth=depth + 1) for each in value]
    return {
        name: (
            f"[left out: {len(each):,} characters of data]"
            if names_pictures and name == "data" and _is_picture(value)
            else light(each, names_pictures=names_pictures, depth=depth + 1)
        )
        for name, each in value.items()
    }


def _is_picture(source: dict[str, Any]) -> bool:
    """Whether the data of *source* is that of a picture, a sound or a document."""
    data = source["data"]
    return (
        isinstance(data, str)
        and len(data) > _MOST_DATA
        and (source.get("type") == "base64" or not _MEDIA_TYPES.isdisjoint(source))
        and _BASE64.fullmatch(data) is not None
    )


def piece_of(content: Any, offset: int, room: int) -> tuple[str, dict[str, Any]]:
    """Return what of *content* from *offset* on takes *room* bytes, and what was cut."""
    text = content if isinstance(content, str) else line_of(content)
    cut: dict[str, Any] = {"characters": len(text)}
    if not isinstance(content, str):
        cut["as"] = "json"
    if offset:
        cut["from"] = offset
    # Somewhat less than the room, for what is said of the cut itself.
    piece = text[offset : offset + max(room - 100, 32)]
    while len(piece) > 1 and (excess := size(piece) - max(room - 100, 32)) > 0:
        # A character is at most 6 bytes there, so this comes nearer in a few steps.
        piece = piece[: max(1, len(piece) - max(1, excess // 6))]
    end = offset + len(piece)
    if end < len(text):
        cut["next_offset"] = end
    return piece, cut
