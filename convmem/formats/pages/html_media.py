"""Pictures and files in a page: shown where a browser can only paint them, else to be saved."""

from __future__ import annotations

import re
from html import escape

from convmem.quantities import format_size

# What the files begin with, in base64. By this and not by what is claimed: an image in SVG is a
# document, whatever it is called.
_PICTURES = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
)
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


def picture(base64: str, name: str) -> str:
    """Return the picture as HTML, or nothing where *base64* is none that may be shown."""
    data = _clean(base64)
    kind = next((kind for start, kind in _PICTURES if data.startswith(start)), "")
    if not kind:
        return ""
    return (
        f'<img src="data:{kind};base64,{data}" alt="{escape(name or "image")}"'
        ' loading="lazy" decoding="async">'
    )


def saved(base64: str, kind: str, name: str) -> str:
    """Return a link that saves a file. As bytes without a type, so that no browser opens it."""
    data = _clean(base64)
    size = format_size(len(data) * 3 // 4)
    if not data:
        return f"<span>{escape(kind)}, not readable</span>"
    file = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:80] or kind.partition(",")[0]
    return (
        f'<a class="save" download="{escape(file)}"'
        f' href="data:application/octet-stream;base64,{data}">Save</a>'
        f" {escape(kind)}{escape(f', {name}' if name else '')}, {size}"
    )


def _clean(base64: str) -> str:
    data = "".join(base64.split()) if not base64.isalnum() else base64
    return data if _BASE64.fullmatch(data) else ""
