"""The serializer that a saver has by default: it makes data, and calls nothing else.

LangGraph's own calls whatever the bytes name, which is right where only a saver can write them. In
a conversation anybody may record, and lines come from elsewhere. So only what holds data is made:
dataclasses, pydantic's models, enumerations and named tuples that the program has imported, and
what LangGraph itself calls safe. Of anything else the arguments are given, as in its strict mode.
"""

from __future__ import annotations

import sys
from dataclasses import is_dataclass
from enum import Enum
from typing import Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer


class DataSerializer(JsonPlusSerializer):
    """LangGraph's serializer, but for what it makes of bytes that name a function or any class."""

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Return the value that ``dumps_typed`` was given, where it is made of data."""
        if data[0] != "msgpack" or self._allowed_msgpack_modules is not True:
            return super().loads_typed(data)
        allowed = [name for name in _named_in(data) if _holds_data(*name)]
        strict = JsonPlusSerializer(allowed_msgpack_modules=allowed)
        return strict.loads_typed(data)


def _named_in(data: tuple[str, bytes]) -> set[tuple[str, str]]:
    """Return the modules and names of all that the bytes ask for. Calls none of it."""
    named: set[tuple[str, str]] = set()

    def note(code: int, inner: bytes) -> None:
        told = looker.loads_typed(("msgpack", inner))
        if type(told) in (list, tuple) and len(told) > 1 and type(told[0]) is type(told[1]) is str:
            named.add((told[0], told[1]))

    looker = JsonPlusSerializer(__unpack_ext_hook__=note)
    looker.loads_typed(data)
    return named


def _holds_data(module: str, name: str) -> bool:
    # Not imported for this: to import what somebody names is to run it.
    found = getattr(sys.modules.get(module), name, None)
    if not isinstance(found, type):
        return False
    is_model = any(each.__module__.partition(".")[0] == "pydantic" for each in found.__mro__)
    is_named_tuple = issubclass(found, tuple) and hasattr(found, "_fields")
    return is_dataclass(found) or is_model or issubclass(found, Enum) or is_named_tuple
