"""TOML text as tables, and the lines on which its keys stand."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    # A key and what leads to it; the number of a [[table]] counts from 0.
    Path: TypeAlias = tuple[str | int, ...]


class NotToml(ValueError):
    """The text is not TOML. ``line`` is where the reader stumbled."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def loads(data: bytes) -> dict[str, Any]:
    """Return what *data* says.

    Raises:
        NotToml: It is not TOML, or not UTF-8.
    """
    # Loaded with the first file: most archives have none, and it costs as much as a record.
    import tomllib

    text = text_of(data)
    last_line = text.rstrip().count("\n") + 1
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, _, where = str(error).partition(" (at ")
        line = where.removeprefix("line ").partition(",")[0]
        if message == "Cannot overwrite a value":
            message = "The key is there twice"
        raise NotToml(
            f"{message[:1].lower()}{message[1:]}", int(line) if line.isdecimal() else last_line
        ) from None
    except RecursionError:
        raise NotToml("nested too deeply", last_line) from None
    except ValueError:
        raise NotToml("a number is out of range", last_line) from None


def text_of(data: bytes) -> str:
    """Return *data* as text; the mark that some editors put before it is left out."""
    try:
        return str(data, "utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotToml("not UTF-8", data.count(b"\n", 0, error.start) + 1) from None


def lines_of(text: str) -> dict[Path, int]:
    """Return the line, from 1, of every table and key of a *text* that is TOML.

    The reader itself keeps no lines. But each header and each ``key = value`` is TOML by itself,
    so statements are told apart by what can be read alone.
    """
    import tomllib

    found: dict[Path, int] = {}
    arrays: dict[Path, int] = {}
    table: Path = ()
    statement, first = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        if not statement:
            first = number
        statement += f"{line}\n"
        try:
            value = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue  # a string or an array goes on
        if value and statement.lstrip().startswith("["):
            table = _opened(value, arrays)
            for length in range(1, len(table) + 1):
                found.setdefault(table[:length], first)
        elif value:
            _note(found, table, value, first)
        statement = ""
    return found


def _opened(header: dict[str, Any], arrays: dict[Path, int]) -> Path:
    """Return the path of the table that *header* opens, counting those of its name."""
    path: Path = ()
    value: Any = header
    while value:
        if isinstance(value, list):
            arrays[path] = arrays.get(path, -1) + 1
            return (*path, arrays[path])
        if path in arrays:
            path = (*path, arrays[path])
        ((key, value),) = value.items()
        path = (*path, key)
    return path


def _note(found: dict[Path, int], path: Path, value: Any, line: int) -> None:
    if isinstance(value, dict):
        inner: Any = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    else:
        return
    for key, item in inner:
        found.setdefault((*path, key), line)
        _note(found, (*path, key), item, line)
