"""The pieces that OpenAI's formats share: pictures, files and arguments, there and back."""

from __future__ import annotations

from convmem import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BASE64 = ";base64"


def input_of(arguments: Any) -> dict[str, Any]:
    """Return what a tool was called with as the members of a ``tool_use`` block.

    ``input`` is the object that *arguments* spell. Where that would not be spelled so again (by
    ``arguments_of``), or is no object, *arguments* stand beside it as they were.
    """
    if isinstance(arguments, dict):
        return {"input": arguments}
    text = arguments if isinstance(arguments, str) else _json(arguments)
    try:
        value = jsontext.loads(text.encode())
        if isinstance(value, dict):
            again = str(jsontext.dumps(value), "utf-8")
            return {"input": value} if again == text else {"input": value, "arguments": text}
    except ValueError:
        pass
    return {"input": {"arguments": arguments}, "arguments": text}


def arguments_of(block: dict[str, Any]) -> str:
    """Return the arguments of a ``tool_use`` block as text."""
    text = block.get("arguments")
    return text if isinstance(text, str) else _json(block.get("input", {}))


def source_of(url: str) -> dict[str, Any]:
    """Return what a block's ``source`` says of *url*: the bytes of a data URL, or the place."""
    head, comma, data = url.partition(",")
    if comma and head.startswith("data:") and head.endswith(_BASE64):
        return {"type": "base64", "media_type": head[5 : -len(_BASE64)], "data": data}
    return {"type": "url", "url": url}


def url_of(source: Any) -> str | None:
    """Return *source* as a URL; ``None`` where only its owner could look it up."""
    if not isinstance(source, dict):
        return None
    if isinstance(source.get("data"), str):
        return f"data:{source.get('media_type', '')}{_BASE64},{source['data']}"
    url = source.get("url")
    return url if isinstance(url, str) else None


def text_in(value: Any) -> str:
    """Return *value* as text: JSON where it is none yet, nothing where it is null."""
    if value is None:
        return ""
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    try:
        return str(jsontext.dumps(value), "utf-8")
    except jsontext.NotJson:
        return repr(value)
