"""What a turn's content is made of: text, pictures, tool calls; and how much a model sees of it."""

from __future__ import annotations

from convmem import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from convmem.context.tokens import TokenCounter
    from convmem.turns import Turn

TOOL_FIELDS = ("tool_calls", "tool_call_id", "name")
"""Other keys of a turn that chat APIs need beside role and content."""

MESSAGE_TOKENS = 4
"""What chat APIs add to each message for its role and its ends."""

IMAGE_TOKENS = 1600
"""What a picture is counted as: what common APIs make of a large one. Its bytes do not count."""

_IMAGES = frozenset("image image_url input_image image_file".split())


def tool_fields(turn: Turn) -> dict[str, Any]:
    """Return those of the turn's other keys that chat APIs need."""
    return {name: turn.extra[name] for name in TOOL_FIELDS if name in turn.extra}


def message_tokens(turn: Turn, counter: TokenCounter) -> int:
    """Return what *turn* takes as a message: its text, or the JSON of whatever else it holds."""
    tokens = MESSAGE_TOKENS
    fields = tool_fields(turn)
    if fields:
        tokens += counter.count(json_text(fields))
    if isinstance(turn.content, str):
        return tokens + counter.count(turn.content)
    content, images = without_images(turn.content)
    return tokens + images * IMAGE_TOKENS + counter.count(json_text(content))


def without_images(value: Any) -> tuple[Any, int]:
    """Return *value* with each picture's bytes left out, and how many pictures there were."""
    if is_image(value):
        return {"type": "image"}, 1
    if isinstance(value, list):
        found = [without_images(item) for item in value]
        return [item for item, _ in found], sum(count for _, count in found)
    if isinstance(value, dict):
        pairs = {key: without_images(item) for key, item in value.items()}
        return {key: item for key, (item, _) in pairs.items()}, sum(n for _, n in pairs.values())
    return value, 0


def text_length(value: Any) -> int:
    """Return how many characters the texts in *value* have, those of pictures left out."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(map(text_length, value))
    if isinstance(value, dict) and not is_image(value):
        return sum(map(text_length, value.values()))
    return 0


def is_image(part: Any) -> bool:
    """Whether a content part is a picture, in the shape of any vendor."""
    if not isinstance(part, dict):
        return False
    kind = part.get("type")
    if isinstance(kind, str):
        return kind in _IMAGES
    inline = part.get("inlineData") or part.get("inline_data") or part.get("image")
    return isinstance(inline, dict) and ("data" in inline or "source" in inline)


def plain_text(turn: Turn) -> str:
    """Return the content as one text, with a word in the place of each picture."""
    if isinstance(turn.content, str):
        return turn.content
    parts = turn.content if isinstance(turn.content, list) else [turn.content]
    return "\n".join(_part_text(part) for part in parts)


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    if is_image(part):
        return "[image]"
    if isinstance(part, dict):
        for key in ("text", "content", "output"):
            if isinstance(part.get(key), str):
                return str(part[key])
    return json_text(without_images(part)[0])


def json_text(value: Any) -> str:
    """Return *value* as compact JSON."""
    return str(jsontext.dumps(value), "utf-8")
