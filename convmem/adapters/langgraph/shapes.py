"""Shapes: whether what an event tells is what a saver told, and nobody else.

Anybody may record a turn that looks like a saver's. What does not have its shape to the last value
is not one, so that it stops nobody from going on with the thread.
"""

from __future__ import annotations

from typing import Any


def is_checkpoint(body: Any) -> bool:
    """Whether *body* tells a checkpoint."""
    return (
        type(body) is dict
        and type(body.get("ns")) is str
        and type(body.get("id")) is str
        and (body.get("parent", "") is None or type(body.get("parent")) is str)
        and _is_object(body.get("data"), "channel_versions")
        and _is_object(body.get("metadata"))
        and _are_packed(body.get("values"))
        and type(body.get("place", 0)) is int
        and _is_ref(body.get("since", 0))
    )


def are_writes(body: Any) -> bool:
    """Whether *body* tells what a task wrote."""
    return (
        type(body) is dict
        and all(type(body.get(key)) is str for key in ("ns", "checkpoint", "task", "path"))
        and type(body.get("values")) is list
        and all(map(_is_write, body["values"]))
    )


def is_typed(value: Any) -> bool:
    """Whether *value* is what a serializer made, and what it calls that."""
    return type(value) is list and len(value) == 2 and type(value[0]) is type(value[1]) is str


def _is_write(value: Any) -> bool:
    return (
        type(value) is list
        and len(value) == 3
        and type(value[0]) is int
        and type(value[1]) is str
        and _is_packed(value[2])
    )


def _are_packed(values: Any) -> bool:
    return type(values) is dict and all(map(_is_packed, values.values()))


def _is_packed(value: Any) -> bool:
    if type(value) is not dict:
        return False
    if "json" in value:
        return True
    if "serde" in value:
        return is_typed(value["serde"])
    if "dict" in value:
        return _are_packed(value["dict"])
    if "message" in value:
        return _is_ref(value["message"]) and type(value.get("tag")) is str
    return _is_list(value["list"]) if "list" in value else _is_ref(value.get("at"))


def _is_object(value: Any, *within: str) -> bool:
    if type(value) is not dict:
        return False
    if "json" not in value:
        return is_typed(value.get("serde"))
    told = value["json"]
    return type(told) is dict and all(type(told.get(key)) is dict for key in within)


def _is_list(spec: Any) -> bool:
    if type(spec) is not dict or type(spec.get("refs")) is not list:
        return False
    tags, take = spec.get("tags"), spec.get("take", 0)
    return (
        all(map(_is_ref, spec["refs"]))
        and type(tags) is list
        and list(map(type, tags)) == [str, str]
        and ("base" not in spec or _is_ref(spec["base"]))
        and ("base" in spec) == ("take" in spec)
        and type(take) is int
        and take >= 0
        and take + len(spec["refs"]) > 0
    )


def _is_ref(ref: Any) -> bool:
    return type(ref) is int or (type(ref) is list and len(ref) == 1 and type(ref[0]) is int)
