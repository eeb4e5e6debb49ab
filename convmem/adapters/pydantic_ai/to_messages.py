"""What a turn is as a message, whoever recorded it."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    DocumentUrl,
    ImageUrl,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
    VideoUrl,
)

from convmem.adapters.exact import unspelled
from convmem.adapters.pydantic_ai.entries import SOURCE
from convmem.adapters.pydantic_ai.to_turns import text_of

if TYPE_CHECKING:
    from pydantic_ai.messages import (
        ModelMessage,
        ModelRequestPart,
        ModelResponsePart,
        UserContent,
    )

    from convmem import Turn


def message_of(turn: Turn, names: dict[str, str]) -> ModelMessage:
    """Return the message that was stored, or else what role and content say.

    *names* are those of the tools by their calls, as far as they were met; it grows.
    """
    message, raw = None, turn.extra.get("raw")
    if (turn.meta or {}).get("source") == SOURCE:
        try:
            if isinstance(raw, dict):
                [message] = ModelMessagesTypeAdapter.validate_json(json.dumps([raw]))
            elif isinstance(raw, str):  # which holds what JSON as UTF-8 cannot say
                [message] = ModelMessagesTypeAdapter.validate_python([unspelled(raw)])
        except ValueError:
            pass  # of another version of pydantic-ai: what was said can still be read
    if message is None:
        message = as_message(turn, names)
    if isinstance(message, ModelResponse):
        names.update((call.tool_call_id, call.tool_name) for call in message.tool_calls)
    return message


def as_message(turn: Turn, names: dict[str, str]) -> ModelMessage:
    """Return *turn*, whoever recorded it, as a message. Never raises for what it holds."""
    content = turn.content
    blocks = content if isinstance(content, list) else [{"type": "text", "text": turn.text}]
    when = turn.ts or datetime.fromtimestamp(0, UTC)
    if turn.role == "assistant":
        said = [part for block in blocks for part in _response_parts(block)]
        return ModelResponse(parts=said, timestamp=when)
    parts: list[ModelRequestPart] = []
    prompt: list[UserContent] = []
    for block in blocks:
        if isinstance(block, dict) and block.get("type") == "tool_result":
            parts.append(_tool_return(block, names, when))
        elif turn.role == "system":
            parts.append(SystemPromptPart(content=_text_in(block), timestamp=when))
        else:
            prompt.append(_prompt_item(block))
    if prompt:
        alone = prompt[0] if len(prompt) == 1 and isinstance(prompt[0], str) else prompt
        parts.append(UserPromptPart(content=alone, timestamp=when))
    return ModelRequest(parts=parts, timestamp=when)


def _response_parts(block: Any) -> list[ModelResponsePart]:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "tool_use" and isinstance(block.get("name"), str):
        args = block.get("input")
        return [
            ToolCallPart(
                tool_name=block["name"],
                args=args if isinstance(args, dict) else text_of(args),
                tool_call_id=text_of(block.get("id") or ""),
            )
        ]
    if kind == "thinking":
        return [ThinkingPart(content=text_of(block.get("thinking") or ""))]
    text = _text_in(block)
    return [TextPart(content=text)] if text else []


def _tool_return(block: dict[str, Any], names: dict[str, str], when: datetime) -> ToolReturnPart:
    called = text_of(block.get("tool_use_id") or "")
    said = block.get("content")
    if isinstance(said, list):
        items = [_prompt_item(each) for each in said]
        texts = [each for each in items if isinstance(each, str)]
        said = "\n".join(texts) if len(texts) == len(items) else items
    return ToolReturnPart(
        tool_name=names.get(called, "tool"),
        content="" if said is None else said,
        tool_call_id=called,
        timestamp=when,
        outcome="failed" if block.get("is_error") is True else "success",
    )


def _prompt_item(block: Any) -> UserContent:
    """Return one block of what a person said; what has no counterpart is text."""
    source = block.get("source") if isinstance(block, dict) else None
    if isinstance(source, dict) and block.get("type") in ("image", "document"):
        data, media_type, url = source.get("data"), source.get("media_type"), source.get("url")
        if isinstance(data, str) and isinstance(media_type, str):
            try:
                return BinaryContent(base64.b64decode(data, validate=True), media_type=media_type)
            except ValueError:
                pass  # no Base64
        if isinstance(url, str):
            return ImageUrl(url) if block["type"] == "image" else _document(url)
    return _text_in(block)


def _document(url: str) -> AudioUrl | VideoUrl | DocumentUrl:
    end = url.rpartition(".")[2].lower()
    if end in ("mp3", "wav", "flac", "oga", "ogg", "aac", "aiff"):
        return AudioUrl(url)
    return VideoUrl(url) if end in ("mp4", "mkv", "mov", "webm", "mpeg") else DocumentUrl(url)


def _text_in(block: Any) -> str:
    if isinstance(block, dict) and isinstance(block.get("text"), str):
        return str(block["text"])
    return text_of(block)
