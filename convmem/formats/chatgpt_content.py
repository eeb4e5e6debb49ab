"""What a message of ChatGPT says, as blocks: one way for each of its kinds of content."""

from __future__ import annotations

import json

from convmem.formats.documents import is_deep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# Where the text stands in the kinds of content that are text alone, beside ``parts``.
_TEXTS = {
    "text": ("text",),
    "multimodal_text": ("text",),
    "code": ("text",),
    "execution_output": ("text",),
    "reasoning_recap": ("content",),
    "tether_quote": ("title", "url", "text"),
    "tether_browsing_code": ("text",),
    "tether_browsing_display": ("summary", "result"),
    "sonic_webpage": ("title", "url", "text"),
    "system_error": ("name", "text"),
    "user_editable_context": ("user_profile", "user_instructions"),
    "model_editable_context": ("model_set_context", "repository", "repo_summary"),
    "computer_output": ("title", "url", "text"),
    "computer_initialize_state": ("text",),
}
_ANY_TEXTS = ("title", "name", "url", "text", "content", "summary", "result")
_THOUGHTS = "thoughts"
KINDS = frozenset((*_TEXTS, _THOUGHTS))
# What is said in the ordinary way: nothing of it is told in ``meta.kind``.
PLAIN = frozenset(("text", "multimodal_text", "code", "execution_output", _THOUGHTS))
_CALLED_WITH = ("text", "code", "multimodal_text")


def blocks_of(content: Any) -> list[dict[str, Any]]:
    """Return what *content* says as blocks of text, thoughts, pictures and files."""
    if isinstance(content, str):
        return [_text(content)] if content else []
    if not isinstance(content, dict):
        return []
    kind = content.get("content_type")
    if kind == _THOUGHTS:
        return list(_thoughts(content))
    blocks = []
    texts = list(_fields(content, _names(kind)))
    if kind == "sonic_webpage" and not content.get("text"):
        texts += _fields(content, ("snippet",))
    if isinstance(content.get("state"), dict):
        texts += _fields(content["state"], ("title", "url"))
    if texts:
        text = "\n".join(texts)
        blocks.append(_text(fenced(text, content.get("language")) if kind == "code" else text))
    parts = content.get("parts")
    for part in parts if isinstance(parts, list) else ():
        blocks += _part(part)
    blocks += _part(content.get("screenshot"))
    return blocks


def call(message_id: str, recipient: str, content: Any) -> dict[str, Any] | None:
    """Return what was said to the tool *recipient* as the call that it is, if it is one."""
    if not isinstance(content, dict) or content.get("content_type") not in _CALLED_WITH:
        return None
    texts = list(_fields(content, ("text",)))
    parts = content.get("parts")
    texts += [part for part in parts if isinstance(part, str)] if isinstance(parts, list) else []
    text = "\n".join(texts)
    given: Any = {}
    if text:
        given = _arguments(text)
        if given is None:
            is_code = content["content_type"] == "code"
            given = {"code" if is_code else "text": text}
            if is_code and _language(content.get("language")):
                given = {"language": content["language"], **given}
    return {"type": "tool_use", "id": message_id, "name": recipient, "input": given}


def attachments(metadata: dict[str, Any], blocks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a block for each file that goes with a message and is not among its *blocks*."""
    there = [block["source"]["file_id"] for block in blocks if "source" in block]
    files = metadata.get("attachments")
    for file in files if isinstance(files, list) else ():
        if not isinstance(file, dict):
            continue
        file_id = next(
            (file[key] for key in ("id", "file_id") if isinstance(file.get(key), str)), ""
        )
        name = file.get("name")
        if any(file_id and each.endswith(file_id) for each in there):
            continue
        if file_id or (isinstance(name, str) and name):
            yield _file("document", file_id or str(name), name)


def outputs(metadata: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a block for each picture that running code has drawn."""
    result = metadata.get("aggregate_result")
    messages = result.get("messages") if isinstance(result, dict) else None
    for each in messages if isinstance(messages, list) else ():
        place = each.get("image_url") if isinstance(each, dict) else None
        if isinstance(place, str) and place:
            yield _file("image", place)


def fenced(text: str, language: object) -> str:
    """Return code as Markdown, within a fence that it does not hold."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{_language(language)}\n{text}\n{fence}"


def _language(value: object) -> str:
    if not isinstance(value, str) or value == "unknown" or set(value) & set(" `"):
        return ""
    return value if value.isprintable() else ""


def _arguments(text: str) -> dict[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text, object_pairs_hook=_once_each, parse_constant=_once_each)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and not is_deep(value) else None


def _once_each(pairs: Any) -> dict[str, Any]:
    """Return the object; one in which a name comes twice would lose what stands under it."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _thoughts(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    thoughts, parts = content.get("thoughts"), content.get("parts")
    for part in [
        *(thoughts if isinstance(thoughts, list) else ()),
        *(parts if isinstance(parts, list) else ()),
        *_fields(content, ("text", "content")),
    ]:
        if isinstance(part, dict):
            texts = list(_fields(part, ("summary", "content")))
            chunks = part.get("chunks")
            if not part.get("content") and isinstance(chunks, list):
                texts += [chunk for chunk in chunks if isinstance(chunk, str) and chunk]
            part = "\n".join(texts)
        if isinstance(part, str) and part:
            yield {"type": "thinking", "thinking": part}


def _part(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, str):
        if part:
            yield _text(part)
        return
    if not isinstance(part, dict):
        return
    kind = part.get("content_type")
    place = part.get("asset_pointer")
    if isinstance(place, str) and place:
        is_picture = isinstance(kind, str) and kind.startswith("image")
        yield _file("image" if is_picture else "document", place, None if is_picture else kind)
    # A conversation by voice, with pictures: its sound, its film and its frames.
    for name in ("audio_asset_pointer", "video_container_asset_pointer"):
        if isinstance(part.get(name), dict):
            yield from _part(part[name])
    frames = part.get("frames_asset_pointers")
    for frame in frames if isinstance(frames, list) else ():
        if isinstance(frame, dict):
            yield from _part(frame)
    texts = list(_fields(part, _names(kind)))
    if texts:
        yield _text("\n".join(texts))


def _names(kind: object) -> tuple[str, ...]:
    return _TEXTS.get(kind, _ANY_TEXTS) if isinstance(kind, str) else _ANY_TEXTS


def _fields(value: dict[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        field = value.get(name)
        if isinstance(field, str) and field:
            yield field


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _file(kind: str, place: str, title: object = None) -> dict[str, Any]:
    block: dict[str, Any] = {"type": kind, "source": {"type": "file", "file_id": place}}
    if isinstance(title, str) and title:
        block["title"] = title
    return block
