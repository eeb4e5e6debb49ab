"""The formats that convmem reads, in the order in which a source is held against them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from convmem.formats.protocol import Format

# Name and module: loaded when a source is looked at.
MODULES = {
    "convmem": "own",
    "claude-code": "claude_code",
    "codex": "codex",
    "gemini": "gemini",
    "chatgpt": "chatgpt",
    "claude-ai": "claude_ai",
    "llm": "llm.llm_logs",
    "openai-responses": "openai.openai_responses",
    "openai-messages": "openai.openai_messages",
    "sharegpt": "openai.sharegpt",
    "aider": "aider",
}


def format_named(name: str) -> Format:
    """Return the format of that name; ``KeyError`` if there is none."""
    return cast("Format", import_module(f"convmem.formats.{MODULES[name]}"))
