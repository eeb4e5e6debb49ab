"""Where an image or document is: ``data:`` addresses and sources of blocks, one for the other."""

from __future__ import annotations

from typing import Any


def source_of(address: str) -> dict[str, Any]:
    """Return the source of a block for an address: the data of a Base64 one, else the address.

    >>> source_of("data:image/png;base64,iVBO")
    {'type': 'base64', 'media_type': 'image/png', 'data': 'iVBO'}
    """
    head, comma, data = address.partition(",")
    if comma and head.startswith("data:") and head.endswith(";base64"):
        return {"type": "base64", "media_type": head[5:-7], "data": data}
    return {"type": "url", "url": address}


def address_of(media_type: str, data: str) -> str:
    """Return the address that holds *data*, which is Base64."""
    return f"data:{media_type};base64,{data}"
