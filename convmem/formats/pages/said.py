"""What a turn says, part by part and whole: text, thoughts, calls, results, pictures, other JSON.

Content has the shape of Anthropic's Messages API or of OpenAI's; what is in neither shape stays
JSON, so that nothing is left out.
"""

from __future__ import annotations

from convmem import jsontext
from convmem.formats.pages.visible import visible_line
from convmem.quantities import format_count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TypeAlias

    from convmem.turns import Turn

_TEXT_KINDS = frozenset(("text", "input_text", "output_text", "summary_text", "refusal"))
_THOUGHT_KINDS = frozenset(("thinking", "reasoning"))
_CALL_KINDS = frozenset(
    "tool_use server_tool_use mcp_tool_use tool_call "
    "function function_call custom_tool_call".split()
)
_RESULT_KINDS = frozenset(
    "tool_result mcp_tool_result function_call_output custom_tool_call_output".split()
)
_MEDIA = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "image_file": "image",
    "document": "document",
    "file": "file",
    "input_file": "file",
    "audio": "audio",
    "input_audio": "audio",
    "video": "video",
}
_PROGRAMS = frozenset(("tool", "function", "tool_result"))
# Results in results are unpacked so far; what lies deeper is shown as JSON.
_DEPTH = 3


class Text:
    """Something said; Markdown, unless a program said it."""

    __slots__ = ("is_output", "text")

    def __init__(self, text: str, *, is_output: bool = False) -> None:
        self.text = text
        self.is_output = is_output


class Thought:
    """What a model thought; empty where its maker keeps that secret."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Call:
    """A tool that was called, with its arguments."""

    __slots__ = ("given", "id", "name")

    def __init__(self, name: str, given: Any, id: str) -> None:
        self.name = name
        self.given = given
        self.id = id


class Result:
    """What a tool answered."""

    __slots__ = ("call_id", "has_failed", "name", "parts")

    def __init__(self, name: str, call_id: str, has_failed: bool, parts: list[Part]) -> None:
        self.name = name
        self.call_id = call_id
        self.has_failed = has_failed
        self.parts = parts


class Medium:
    """A picture or a file: its bytes in base64 or as text, or the place where it lies."""

    __slots__ = ("base64", "kind", "media_type", "place", "text", "title")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.media_type = ""
        self.base64 = ""
        self.text = ""
        self.place = ""
        self.title = ""


class Other:
    """Any other JSON."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


Part: TypeAlias = "Text | Thought | Call | Result | Medium | Other"


def parts_of(turn: Turn) -> Iterator[Part]:
    """Yield what *turn* says, in its order."""
    calls = _listed_calls(turn)
    if turn.content is not None or not calls:
        if turn.role in _PROGRAMS:
            yield from _answered(turn)
        else:
            yield from _parts(turn.content, _DEPTH, is_output=False)
    for call in calls:
        yield _call(call) if isinstance(call, dict) else Other(call)


def is_secret(parts: list[Part]) -> bool:
    """Whether a turn is thinking alone, of which its maker lets nobody keep the text."""
    return bool(parts) and all(
        isinstance(each, Thought) and not each.text.strip() for each in parts
    )


def _answered(turn: Turn) -> Iterator[Part]:
    """Yield a tool's turn as results, whether it says that they are some or not."""
    loose: list[Part] = []
    for part in _parts(turn.content, _DEPTH, is_output=True):
        if isinstance(part, Result):
            yield part
        else:
            loose.append(part)
    if loose:
        name, call_id = turn.extra.get("name"), turn.extra.get("tool_call_id")
        yield Result(_text(name), _text(call_id), False, loose)


def _listed_calls(turn: Turn) -> list[Any]:
    """Return the calls that stand beside the content, as in OpenAI's messages."""
    for place in (turn.extra, turn.meta or {}):
        calls, call = place.get("tool_calls"), place.get("function_call")
        if isinstance(calls, list) and calls:
            return calls
        if isinstance(call, dict) and call:
            return [call]
    return []


def _parts(value: Any, depth: int, *, is_output: bool) -> Iterator[Part]:
    if isinstance(value, str):
        if value:
            yield Text(value, is_output=is_output)
    elif isinstance(value, list) and depth > 0:
        for each in value:
            yield from _parts(each, depth - 1, is_output=is_output)
    elif isinstance(value, dict):
        yield from _parts_of_object(value, depth, is_output=is_output)
    else:
        yield Other(value)


def _parts_of_object(part: dict[str, Any], depth: int, *, is_output: bool) -> Iterator[Part]:
    kind = part.get("type")
    if not isinstance(kind, str):
        kind = ""
    written = part.get("refusal") if kind == "refusal" else part.get("text")
    if kind in _TEXT_KINDS and isinstance(written, str):
        yield from _parts(written, depth, is_output=is_output)
    elif kind in _THOUGHT_KINDS and (thought := _thought(part)) is not None:
        yield thought
    elif kind in _CALL_KINDS:
        yield _call(part)
    elif kind in _RESULT_KINDS and depth > 0:
        yield _result(part, depth)
    elif kind == "message" and isinstance(part.get("content"), list) and depth > 0:
        yield from _parts(part["content"], depth - 1, is_output=is_output)
    elif kind in _MEDIA and (medium := _medium(kind, part)) is not None:
        yield medium
    else:
        yield Other(part)


def _thought(part: dict[str, Any]) -> Thought | None:
    for key in ("thinking", "text", "content"):
        if isinstance(part.get(key), str):
            return Thought(part[key])
    summary = part.get("summary")
    if isinstance(summary, list) and all(
        isinstance(each, dict) and isinstance(each.get("text"), str) for each in summary
    ):
        return Thought("\n\n".join(each["text"] for each in summary))
    return None


def _call(part: dict[str, Any]) -> Part:
    inner = part.get("function")
    source = inner if isinstance(inner, dict) else part
    given: Any = None
    for key in ("input", "arguments", "args", "parameters"):
        if source.get(key) is not None:
            given = source[key]
            break
    else:
        if not isinstance(source.get("name"), str):
            return Other(part)
    if isinstance(given, str) and given.lstrip()[:1] == "{":
        try:
            given = jsontext.loads(given.encode())
        except (ValueError, RecursionError):
            pass  # cut short, or no JSON at all: shown as the text that it is
    called = part.get("call_id") or part.get("id")
    return Call(_text(source.get("name")) or "tool", given, _text(called))


def _result(part: dict[str, Any], depth: int) -> Part:
    for key in ("content", "output", "result"):
        if part.get(key) is not None:
            return Result(
                _text(part.get("name")),
                _text(part.get("tool_use_id") or part.get("call_id")),
                part.get("is_error") is True,
                list(_parts(part[key], depth - 1, is_output=True)),
            )
    known = {"type", "tool_use_id", "call_id", "is_error", "content", "output", "result"}
    if part.keys() <= known:
        call_id = _text(part.get("tool_use_id") or part.get("call_id"))
        return Result("", call_id, part.get("is_error") is True, [])
    return Other(part)


def _medium(kind: str, part: dict[str, Any]) -> Medium | None:
    """Return the picture or the file, or ``None`` where nothing says what or where it is."""
    made = Medium(_MEDIA[kind])
    made.title = _text(part.get("title") or part.get("filename") or part.get("name"))
    places = [part] + [
        part[key]
        for key in ("source", "image_url", "file", "input_audio", "image_file")
        if isinstance(part.get(key), dict)
    ]
    for place in places:
        made.title = made.title or _text(place.get("filename"))
        made.media_type = made.media_type or _text(place.get("media_type"))
        if place.get("type") == "text" and isinstance(place.get("data"), str):
            made.text = place["data"]
            return made
        for key in ("data", "file_data", "url", "image_url", "file_url", "file_id"):
            found = place.get(key)
            if not isinstance(found, str) or not found:
                continue
            head, comma, rest = found.partition(",")
            if found[:5].lower() == "data:" and comma and head[-7:].lower() == ";base64":
                made.media_type = head[5:].partition(";")[0]
                made.base64 = rest
            elif key in ("data", "file_data"):
                made.base64 = found
                if not made.media_type and isinstance(place.get("format"), str):
                    made.media_type = f"{made.kind}/{place['format']}"
            else:
                made.place = found
            return made
    return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def summed_up(turn: Turn) -> str:
    """Return of which turns *turn* is a compaction's summary; nothing where it is none."""
    stands_for = turn.extra.get("summary")
    if turn.role != "system" or turn.seq is not None or not isinstance(stands_for, dict):
        return ""
    first, last = stands_for.get("first_seq"), stands_for.get("last_seq")
    if type(first) is not int or type(last) is not int:
        return ""
    return f"of turns {first:,} to {last:,}"


def copied(meta: dict[str, Any]) -> tuple[str, str] | None:
    """Return how many turns of another conversation a turn stands for, and of which; or ``None``.

    The name is shortened, and fit to be shown.
    """
    told = meta.get("copied")
    if not isinstance(told, dict):
        return None
    ids, source = told.get("ids"), told.get("from")
    count = format_count(len(ids), "turn") if isinstance(ids, list) else "turns"
    return count, visible_line(source)[:200] if isinstance(source, str) else "?"
