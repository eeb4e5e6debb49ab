"""What a model sent, held against a tool's schema: the first thing that is wrong, in words.

Only the words of JSON Schema that ``tools`` uses. Its message is all that a model has to mend its
call by, so it names the place and what would be right.
"""

from __future__ import annotations

from typing import Any

from convmem import UsageError

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
_WORDS = {
    "object": "a JSON object",
    "array": "a list",
    "string": "text",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
}
_MOST_SHOWN = 60


def checked(schema: dict[str, Any], arguments: Any) -> dict[str, Any]:
    """Return *arguments* with the defaults of *schema*, where nothing is wrong with them.

    A number such as 5.0 counts as a whole one, as JSON Schema has it; a null counts as not given,
    since some clients send one for each argument that was left out.

    Raises:
        UsageError: The first thing that is wrong.
    """
    given = {} if arguments is None else arguments
    if isinstance(given, dict):
        required = schema.get("required", ())
        given = {
            name: value
            for name, value in given.items()
            if value is not None or name in required or name not in schema["properties"]
        }
    found: dict[str, Any] = _checked(schema, given, "")
    for name, each in schema["properties"].items():
        if "default" in each:
            found.setdefault(name, each["default"])
    return found


def _checked(schema: dict[str, Any], value: Any, where: str) -> Any:
    if "anyOf" in schema:
        return _any_of(schema["anyOf"], value, where)
    kind = schema["type"]
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        value = int(value)
    is_bool = isinstance(value, bool)
    if not isinstance(value, _TYPES[kind]) or (is_bool and kind != "boolean"):
        raise _wrong(where, f"must be {_WORDS[kind]}, not {_shown(value)}")
    found: Any = value  # of that type
    if kind in ("integer", "number"):
        _check_range(schema, found, where)
    elif kind == "string":
        _check_length(schema, len(found), where, "character")
    elif kind == "array":
        _check_length(schema, len(found), where, "item", ends=("minItems", "maxItems"))
        inner = schema["items"]
        return [_checked(inner, each, f"{where}[{at}]") for at, each in enumerate(found)]
    elif kind == "object" and "properties" in schema:
        return _checked_object(schema, found, where)
    return found


def _checked_object(schema: dict[str, Any], value: dict[str, Any], where: str) -> dict[str, Any]:
    known = schema["properties"]
    for name in schema.get("required", ()):
        if name not in value:
            raise _wrong(_inside(where, name), "is missing")
    for name in value:
        if name not in known:
            raise UsageError(
                f"there is no argument {_shown(_inside(where, name))}",
                hint=f"there are: {', '.join(known)}",
            )
    return {name: _checked(known[name], each, _inside(where, name)) for name, each in value.items()}


def _any_of(schemas: list[dict[str, Any]], value: Any, where: str) -> Any:
    for schema in schemas:
        if isinstance(value, _TYPES[schema["type"]]):
            return _checked(schema, value, where)
    words = " or ".join(_WORDS[schema["type"]] for schema in schemas)
    raise _wrong(where, f"must be {words}, not {_shown(value)}")


def _check_range(schema: dict[str, Any], value: float, where: str) -> None:
    least, most = schema["minimum"], schema["maximum"]
    if not least <= value <= most:
        raise _wrong(where, f"must be from {least:,} to {most:,}, not {_shown(value)}")


def _check_length(
    schema: dict[str, Any],
    length: int,
    where: str,
    unit: str,
    ends: tuple[str, str] = ("minLength", "maxLength"),
) -> None:
    least, most = schema.get(ends[0], 0), schema.get(ends[1])
    if length < least:
        raise _wrong(where, "must not be empty")
    if most is not None and length > most:
        raise _wrong(where, f"must be at most {most:,} {unit}s long, not {length:,}")


def _inside(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a JSON object" if isinstance(value, dict) else "a list"
    text = "null" if value is None else repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _wrong(where: str, what: str) -> UsageError:
    return UsageError(f"{where or 'the arguments'} {what}")
