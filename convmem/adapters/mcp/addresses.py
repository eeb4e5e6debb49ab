"""Addresses of conversations: any id, in any script, as one URI and back, within one namespace."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, unquote

from convmem import UsageError

_URI = re.compile(r"convmem://([^/?#]*)/([^/?#]*)(?:\?([^#]*))?", re.ASCII)
_NUMBERS = ("count", "before", "after", "skip", "turn", "offset")


def uri_of(namespace: str, continuation_id: str) -> str:
    """Return the URI of a conversation.

    An id of dots only would be a step up for whoever tidies URIs: it stands in the query.
    """
    place = f"convmem://{quote(namespace, safe='')}/"
    name = quote(continuation_id, safe="")
    return f"{place}?id={name}" if not name.strip(".") else place + name


def template_of(namespace: str) -> str:
    """Return the URI template (RFC 6570) of the conversations of a namespace."""
    return f"convmem://{quote(namespace, safe='')}/{{id}}{{?count,before,after,skip}}"


def parsed(uri: str, namespace: str) -> tuple[str, dict[str, int]]:
    """Return the id that *uri* names, and the numbers in its query.

    Raises:
        UsageError: It is no such URI, or names another namespace.
    """
    found = _URI.fullmatch(uri)
    if found is None:
        raise _wrong(uri, "is no URI of a conversation", namespace)
    place, name, query = found.groups()
    try:
        theirs = unquote(place, errors="strict")
        continuation_id = unquote(name, errors="strict")
        values = dict(parse_qsl(query or "", keep_blank_values=True, errors="strict"))
    except ValueError:
        raise _wrong(uri, "is not UTF-8", namespace) from None
    if theirs != namespace:
        # Said of every other namespace, there or not.
        raise _wrong(uri, "is in a namespace that this server does not serve", namespace)
    if not continuation_id:
        continuation_id = values.pop("id", "")
    numbers: dict[str, int] = {}
    for key, value in values.items():
        if key not in _NUMBERS or not (value.isascii() and value.isdecimal() and len(value) < 16):
            raise _wrong(uri, f"has a query that means nothing: {key}", namespace)
        numbers[key] = int(value)
    return continuation_id, numbers


def _wrong(uri: str, what: str, namespace: str) -> UsageError:
    shown = uri if len(uri) <= 200 else f"{uri[:200]}…"
    return UsageError(f"{shown!r} {what}", hint=f"it is like {template_of(namespace)}")
