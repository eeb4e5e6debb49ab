"""Tool calls and their results in a turn, whichever vendor's shape they come in. Pure.

Known shapes: OpenAI chat (``tool_calls``, ``tool_call_id``) and Responses items
(``function_call``, ``function_call_output`` and kin by ``call_id``), Anthropic blocks
(``tool_use``, ``tool_result``), Strands (``toolUse``, ``toolResult``), pydantic-ai parts.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from convmem.turns import Turn

# What the bytes of every turn with tools hold somewhere, the latter with "call" in it; nearly all
# other turns hold none.
_TOOL = b"tool"
_CALL = b"call"
HINTS = (_TOOL, _CALL)
_CALL_HINTS = (b'_call"', b"call_id", b"_call_")

_CALL_KINDS = frozenset(
    "tool_use server_tool_use mcp_tool_use tool_call tool-call function_call custom_tool_call "
    "local_shell_call shell_call apply_patch_call computer_call mcp_call web_search_call "
    "file_search_call code_interpreter_call".split()
)
_RESULT_KINDS = frozenset(
    "tool_result web_search_tool_result mcp_tool_result tool-return tool-result "
    "function_result retry-prompt".split()
)
_CALL_IDS = ("call_id", "tool_call_id", "toolCallId", "toolUseId", "id")
_RESULT_IDS = ("tool_use_id", "tool_call_id", "call_id", "toolCallId", "toolUseId", "id")


def may_have_tools(line: bytes) -> bool:
    """Whether a line is worth parsing for tool calls."""
    # Each search goes through the whole line: two for nearly all of them, not four.
    return _TOOL in line or (_CALL in line and any(hint in line for hint in _CALL_HINTS))


def tool_ids(turn: Turn) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ids of the calls that *turn* makes, and of those that it answers."""
    calls: list[str] = []
    results: list[str] = []
    for part in _parts(turn):
        kind = part.get("type") or part.get("part_kind") or part.get("kind")
        listed = part.get("tool_calls")
        if isinstance(listed, list):
            calls += (_id_in(call, _CALL_IDS) for call in listed if isinstance(call, dict))
        for name, ids, found in (
            ("toolUse", _CALL_IDS, calls),
            ("toolResult", _RESULT_IDS, results),
        ):
            inner = part.get(name)
            if isinstance(inner, dict):
                found.append(_id_in(inner, ids))
        if isinstance(kind, str) and kind in _CALL_KINDS:
            calls.append(_id_in(part, _CALL_IDS))
        elif isinstance(kind, str) and (kind in _RESULT_KINDS or kind.endswith("_call_output")):
            results.append(_id_in(part, _RESULT_IDS))
        elif "tool_call_id" in part or "tool_use_id" in part:
            results.append(_id_in(part, _RESULT_IDS[:2]))
    return tuple(filter(None, calls)), tuple(filter(None, results))


def _parts(turn: Turn) -> Iterator[dict[str, Any]]:
    if turn.extra:
        yield turn.extra
    if turn.meta:
        yield turn.meta
    content = turn.content if isinstance(turn.content, list) else [turn.content]
    for part in content:
        if isinstance(part, dict):
            yield part


def _id_in(part: dict[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        value = part.get(name)
        if isinstance(value, str) and value:
            return value
    return ""
