"""What people type, as values: the same words mean the same in every verb."""

from __future__ import annotations

from datetime import UTC, datetime

from convmem import quantities
from convmem.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from convmem.cli.spec import Context

    T = TypeVar("T")


def now(context: Context) -> datetime:
    """Return the present: by the clock, or as CONVMEM_NOW says, for trying what time will do."""
    present = datetime.now(UTC)
    given = context.env.get("CONVMEM_NOW")
    if not given:
        return present
    found = _read("CONVMEM_NOW", given, lambda typed: quantities.parse_time(typed, now=present))
    return present if found is None else found


def moment(flag: str, text: str | None) -> datetime | None:
    """Return the point in time that *text* names."""
    now = datetime.now(UTC)
    return _read(flag, text, lambda typed: quantities.parse_time(typed, now=now))


def duration(flag: str, text: str | None) -> float | None:
    """Return seconds."""
    return _read(flag, text, quantities.parse_duration)


def size(flag: str, text: str | None) -> int | None:
    """Return bytes."""
    return _read(flag, text, quantities.parse_size)


def count(flag: str, text: str | None, *, least: int = 0) -> int | None:
    """Return a whole number, *least* or more."""
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 15 or int(text) < least:
        raise UsageError(f"{flag}: {text!r} is not a whole number, {least} or more")
    return int(text)


def _read(flag: str, text: str | None, parse: Callable[[str], T]) -> T | None:
    if text is None:
        return None
    try:
        return parse(text)
    except quantities.QuantityError as error:
        raise UsageError(f"{flag}: {error}", hint=error.hint or None) from None
