"""Durations, sizes and points in time, as people type them.

What people type is refused rather than guessed at where it has two readings (``30m``,
``11/12/2026``, ``90``), and the refusal carries the spelling that has one. What programs stored
is read leniently instead, and never raises. Nothing here reads the clock.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

MAX_DURATION_SECONDS = 10_000 * 365.25 * 86_400
MAX_SIZE_BYTES = 2**63 - 1
# 10^11 seconds is the year 5138: a larger number counts milliseconds.
MAX_EPOCH_SECONDS = 1e11

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_OF = {
    name: seconds
    for seconds, names in (
        (0.001, "ms msec msecs millisecond milliseconds"),
        (1.0, "s sec secs second seconds"),
        (60.0, "min mins minute minutes"),
        (3_600.0, "h hr hrs hour hours"),
        (86_400.0, "d day days"),
        (7 * 86_400.0, "w wk wks week weeks"),
        (30.44 * 86_400, "mo month months"),
        (365.25 * 86_400, "y yr yrs year years"),
    )
    for name in names.split()
}
_BYTES_OF: dict[str, int] = {"": 1, "b": 1, "byte": 1, "bytes": 1} | {
    letter + ending: base**power
    for power, letter in enumerate("kmgtpe", start=1)
    for ending, base in (("", 1024), ("i", 1024), ("ib", 1024), ("b", 1000))
}

# Left as text: ``re`` compiles them when somebody types a quantity, not whenever we start.
_NUMBER = r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_SPAN = rf"\s*{_NUMBER}\s*([A-Za-z]+)\s*"
_AMOUNT = r"([0-9]+(?:[.,][0-9]+)?)"
_ISO_SPAN = (
    rf"[Pp](?=[0-9Tt])(?:{_AMOUNT}[Yy])?(?:{_AMOUNT}[Mm])?(?:{_AMOUNT}[Ww])?(?:{_AMOUNT}[Dd])?"
    rf"(?:[Tt](?=[0-9])(?:{_AMOUNT}[Hh])?(?:{_AMOUNT}[Mm])?(?:{_AMOUNT}[Ss])?)?"
)
_ISO_UNITS = ("y", "mo", "w", "d", "h", "min", "s")
_DAY = (
    r"(today|yesterday|tomorrow|[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8})"
    r"(?:(?: at |[ t])(.+?)(?: ?(z|utc|[+-][0-9]{2}(?::?[0-9]{2})?))?)?"
)
_CLOCK = r"([0-9]{1,2})(?::([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?)?(?: ?([ap])m)?"
_BASIC_CLOCK = r"([0-9]{2})([0-9]{2})(?:([0-9]{2})(?:[.,]([0-9]+))?)?()"
_OTHER_DATE = r"([0-9]{1,4})([-/.])([0-9]{1,2})\2([0-9]{1,4})\b.*"

_DURATION_HINT = "units are ms, s, min, h, d, w, mo and y, as in 90d, 12h or 1h30min"
_SIZE_HINT = "write bytes as 4096, 1024s as 64K, 500M or 1.5GiB, 1000s as 500MB"
_TIME_HINT = (
    "write 2026-11-21, '2026-11-21 09:00', 'yesterday 15:00', 2h for two hours ago,"
    " or @1790000000 for epoch seconds"
)


class QuantityError(ValueError):
    """What was typed has no reading, or more than one.

    ``str(error)`` says what was typed and what is wrong with it; ``hint`` how to spell it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def parse_duration(text: str) -> float:
    """Return the seconds that *text* stands for.

    Spans are added up (``90d``, ``1h30m``, ``2 days 4 hours``, ``1.5h``); ISO 8601 durations work
    too (``P30D``, ``PT1H30M``). A month is 30.44 days and a year 365.25. ``m`` is minutes only
    next to hours or seconds: alone it could be months, some 44,000 times as long.

    Raises:
        QuantityError: No unit, an unknown one, a lone ``m``, negative, or beyond 10,000 years.

    >>> parse_duration("1h30m")
    5400.0
    """
    typed = text.strip()
    seconds = _iso_seconds(typed)
    if seconds is None:
        seconds = _added_seconds(typed)
    if seconds > MAX_DURATION_SECONDS:
        raise QuantityError(f"{_shown(typed)} is too long", "10000y is the longest duration")
    return seconds


def parse_size(text: str) -> int:
    """Return the bytes that *text* stands for, rounded down to whole ones.

    ``K M G T P E`` alone or with ``i`` or ``iB`` count in 1024s, with ``B`` in 1000s; upper and
    lower case mean the same, and bits are never meant. A bare whole number is bytes.

    Raises:
        QuantityError: Not a size, negative, part of a byte, or beyond 2**63 - 1.

    >>> parse_size("1.5 GiB")
    1610612736
    """
    typed = text.strip()
    found = re.fullmatch(rf"{_NUMBER}\s*([A-Za-z]*)", typed)
    unit = _BYTES_OF.get(found[2].lower()) if found else None
    if found is None or unit is None:
        if re.match(r"-\s*[0-9.]", typed):
            raise QuantityError(f"{_shown(typed)} is a negative size", _SIZE_HINT)
        raise QuantityError(f"{_shown(typed)} is not a size", _SIZE_HINT)
    if unit == 1 and "." in found[1]:
        raise QuantityError(f"{_shown(typed)} is not a whole number of bytes", _SIZE_HINT)
    whole, _, fraction = found[1].partition(".")
    # Whole numbers, since floats are exact to 2**53 only. No unit needs more than 60 decimals.
    whole, fraction = whole.lstrip("0")[:20], fraction[:60]
    size: int = int(f"0{whole}{fraction}") * unit // 10 ** len(fraction)
    if size > MAX_SIZE_BYTES:
        raise QuantityError(
            f"{_shown(typed)} is too large", f"the largest size is {MAX_SIZE_BYTES} bytes, 7.9EiB"
        )
    return size


def parse_time(text: str, *, now: datetime) -> datetime:
    """Return the moment that *text* names, in UTC.

    ======================================================  =====================================
    ``2026-11-21T09:00:00Z``, ``2026-11-21 09:00 +01:00``   that moment
    ``2026-11-21 09:00``, ``2026-11-21``, ``20261121``      in the local time zone; else at 00:00
    ``now``, ``today``, ``yesterday 15:00``, ``today 3pm``  days of the local calendar
    ``2h``, ``-2h``, ``2 days ago``, ``last week``          so long before *now*; a day is 24 h
    ``+1d``                                                 so long after *now*
    ``@1790000000``, ``@1790000000.5``                      seconds since 1970
    ======================================================  =====================================

    A local time that a clock change repeats is the first of the two; one that it skips is read
    with the offset before the change.

    Args:
        text: Upper or lower case, except that a lone ``m`` or ``M`` is refused as a span.
        now: Aware; the moment that relative forms count from.

    Raises:
        QuantityError: Not a time, ambiguous, or outside the years 1 to 9999.
        ValueError: *now* is naive.
    """
    if now.utcoffset() is None:
        raise ValueError("now has no time zone")
    typed = " ".join(text.split())
    try:
        moment = _read_moment(typed, now)
        if moment is not None:
            return _in_utc(moment)
    except QuantityError:
        raise
    except (ValueError, OverflowError, OSError):
        raise QuantityError(
            f"{_shown(typed)} is not on the calendar or the clock", _TIME_HINT
        ) from None
    raise _not_a_time(typed)


def parse_stored_time(value: object) -> datetime | None:
    """Return the moment that a stored *value* stands for, in UTC, or ``None``. Never raises.

    For data, not for people: ISO 8601 text, in UTC where it names no offset, or seconds since
    1970. Numbers from 10^11 on are ``None``: they are milliseconds, and guessing is not for us.
    """
    try:
        if isinstance(value, str):
            # Digits alone are some counter: 1712010101234 would be read as 12:34 in 1712.
            if value[4:5] != "-" and not re.match("[0-9]{8}(?:[T ]|$)|[0-9]{4}W", value):
                return None
            moment = datetime.fromisoformat(value.upper() if value[-1:] == "z" else value)
            if moment.tzinfo is UTC:
                return moment
            if moment.tzinfo is None:
                return moment.replace(tzinfo=UTC)
            return moment.astimezone(UTC)
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and 0 <= value < MAX_EPOCH_SECONDS
        ):
            return _EPOCH + timedelta(seconds=value)
    except (ValueError, OverflowError):
        pass  # not a time, or one that UTC moves out of the years 1 to 9999
    return None


def format_time(moment: datetime) -> str:
    """Return *moment* as it is stored: 27 characters, so that text sorts as time does.

    Raises:
        ValueError: *moment* is naive, or in UTC not within the years 1 to 9999.

    >>> format_time(datetime(2026, 11, 21, 10, tzinfo=timezone(timedelta(hours=1))))
    '2026-11-21T09:00:00.000000Z'
    """
    if moment.tzinfo is not UTC:
        if moment.utcoffset() is None:
            raise ValueError("a time without a time zone cannot be stored")
        try:
            moment = moment.astimezone(UTC)
        except OverflowError:
            raise ValueError("in UTC this time is outside the years 1 to 9999") from None
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


def moment_and_text(microseconds: int) -> tuple[datetime, str]:
    """Return the moment so long after 1970, and ``format_time`` of it: for turns of just now.

    A second is written out once: doing that for each turn would take a sixth of an append.
    """
    global _written_out
    second, rest = divmod(microseconds, 1_000_000)
    written_out = _written_out  # looked at once: another thread may put its own there
    if written_out[0] != second:
        text = format_time(datetime.fromtimestamp(second, UTC))
        _written_out = written_out = second, text[:20]
    # Exact until the year 2255: a float has room for the microseconds.
    moment = datetime.fromtimestamp(microseconds / 1_000_000, UTC)
    return moment, f"{written_out[1]}{rest:06d}Z"


_written_out = (0, "1970-01-01T00:00:00.")


def format_duration(seconds: float) -> str:
    """Return *seconds* for people: the largest unit and the next, the rest cut off.

    ``parse_duration`` reads it back.

    Raises:
        ValueError: Negative, not a number, or beyond 10,000 years.

    >>> format_duration(5400), format_duration(90 * 86400), format_duration(0.25)
    ('1h 30min', '90d', '250ms')
    """
    if not 0 <= seconds <= MAX_DURATION_SECONDS:
        raise ValueError("a duration is from 0 seconds to 10,000 years")
    rest = round(seconds * 1000)
    units = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1))
    for at, (_, size) in enumerate(units):
        if rest >= size:
            parts = []
            for name, part_size in units[at : at + 2]:
                count, rest = divmod(rest, part_size)
                if count:
                    parts.append(f"{count}{name}")
            return " ".join(parts)
    return "0s"


def format_size(count: int) -> str:
    """Return *count* bytes for people, in 1024s. Cut off, so it never says more than there is.

    ``parse_size`` reads it back.

    Raises:
        ValueError: *count* is negative.

    >>> format_size(512), format_size(1536), format_size(50 * 1024**2)
    ('512 B', '1.5 KiB', '50.0 MiB')
    """
    if count < 0:
        raise ValueError("a size cannot be negative")
    if count < 1024:
        return f"{count} B"
    power = min((count.bit_length() - 1) // 10, 6)
    tenths = count * 10 >> 10 * power
    return f"{tenths // 10}.{tenths % 10} {'KMGTPE'[power - 1]}iB"


def _iso_seconds(typed: str) -> float | None:
    found = re.fullmatch(_ISO_SPAN, typed)
    if found is None:
        return None
    return sum(
        float(amount.replace(",", ".")) * _SECONDS_OF[unit]
        for amount, unit in zip(found.groups(), _ISO_UNITS, strict=True)
        if amount
    )


def _added_seconds(typed: str) -> float:
    """Add up ``1h 30m`` and the like, or say what keeps *typed* from being a sum of spans."""
    spans: list[tuple[str, str]] = []
    at = 0
    while found := re.compile(_SPAN).match(typed, at):
        spans.append((found[1], found[2]))
        at = found.end()
    if at < len(typed) or not spans:
        raise _not_a_duration(typed, rest=typed[at:])
    units = [unit if unit == "M" else unit.lower() for _, unit in spans]
    sizes = [_SECONDS_OF.get(unit, 0.0) for unit in units]
    total = 0.0
    for index, (number, unit) in enumerate(spans):
        size = sizes[index]
        if units[index] in ("m", "M"):
            after_hours = index > 0 and sizes[index - 1] == 3_600
            before_seconds = index + 1 < len(spans) and sizes[index + 1] == 1
            # 1H30M is shouting; the capital of 1h30M is systemd's month.
            is_plain = units[index] == "m" or typed.isupper()
            if not (is_plain and (after_hours or before_seconds)):
                raise _minutes_or_months(typed, number)
            size = 60.0
        elif not size:
            raise QuantityError(
                f"{_shown(unit)} in {_shown(typed)} is not a unit of time", _DURATION_HINT
            )
        total += float(number) * size
    return total


def _minutes_or_months(typed: str, number: str) -> QuantityError:
    number = number if len(number) <= 12 else "30"
    return QuantityError(
        f"{_shown(typed)} could mean minutes or months",
        f"write {number}min for minutes or {number}mo for months",
    )


def _not_a_duration(typed: str, *, rest: str) -> QuantityError:
    if re.fullmatch(_NUMBER, typed):
        number = typed if len(typed) <= 12 else "90"
        return QuantityError(
            f"{_shown(typed)} has no unit", f"write a unit, such as {number}s or {number}d"
        )
    if re.fullmatch(_NUMBER, rest):
        return QuantityError(
            f"{_shown(typed)} ends in a number without a unit", "write a unit, as in 1h30min"
        )
    if re.match(r"-\s*[0-9.]", typed):
        return QuantityError(f"{_shown(typed)} is a negative duration", "leave out the minus")
    return QuantityError(f"{_shown(typed)} is not a duration", _DURATION_HINT)


def _read_moment(typed: str, now: datetime) -> datetime | None:
    """Return the moment, naive where it is local, or ``None`` if *typed* has no known form."""
    words = typed.lower()
    if words == "now":
        return now
    if words.startswith("last ") and words[5:] in ("hour", "day", "week", "month", "year"):
        return _shifted(now, -_SECONDS_OF[words[5:]])
    if found := re.fullmatch(_DAY, words):
        return _read_day(*found.groups(), now=now)
    if found := re.fullmatch(r"@([0-9]+)(?:\.([0-9]+))?", words):
        return _read_epoch(typed, found[1].lstrip("0") or "0", found[2] or "")
    if words.endswith(" ago"):
        return _shifted(now, -parse_duration(typed[:-4]))
    if re.match(r"[+-] ?[0-9.p]", words):
        sign = 1 if words[0] == "+" else -1
        return _shifted(now, sign * parse_duration(typed[1:]))
    unit = re.match(rf"{_NUMBER} ?([a-z]+)", words)
    if (unit and (unit[2] in _SECONDS_OF or unit[2] == "m")) or re.fullmatch(_ISO_SPAN, typed):
        return _shifted(now, -parse_duration(typed))
    return None


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is not None:
        return moment.astimezone(UTC)
    # Not astimezone(): of a time that the clock skips it makes an hour before the change.
    seconds = int(moment.replace(microsecond=0).timestamp())
    return _EPOCH + timedelta(seconds=seconds, microseconds=moment.microsecond)


def _shifted(now: datetime, seconds: float) -> datetime:
    # In UTC: adding to a local time would count an hour too many or too few across a change.
    return now.astimezone(UTC) + timedelta(seconds=seconds)


def _read_day(day: str, clock: str | None, offset: str | None, *, now: datetime) -> datetime | None:
    if clock is None:
        hour = minute = second = microsecond = 0
    else:
        read = _read_clock(clock)
        if read is None:
            return None
        hour, minute, second, microsecond = read
    zone = _read_offset(offset) if offset else None
    if day[0].isdigit():
        digits = day.replace("-", "")
        date = datetime(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    else:
        # astimezone(None) is the local zone: which day it is depends on where one stands.
        date = now.astimezone(zone).replace(tzinfo=None, fold=0)
        date += timedelta(days=("yesterday", "today", "tomorrow").index(day) - 1)
    return date.replace(
        hour=hour, minute=minute, second=second, microsecond=microsecond, tzinfo=zone
    )


def _read_clock(clock: str) -> tuple[int, int, int, int] | None:
    found = re.fullmatch(_CLOCK, clock) or re.fullmatch(_BASIC_CLOCK, clock)
    if found is None or not (found[2] or found[5]):
        return None
    hour = int(found[1])
    if found[5]:
        if not 1 <= hour <= 12:
            raise ValueError("not an hour of a twelve-hour clock")
        hour = hour % 12 + (12 if found[5] == "p" else 0)
    return hour, int(found[2] or 0), int(found[3] or 0), _microseconds(found[4] or "")


def _read_offset(offset: str) -> timezone:
    if offset in ("z", "utc"):
        return UTC
    minutes = int(offset[-2:]) if len(offset) > 3 else 0
    if minutes > 59:
        raise ValueError("not the minutes of an offset")
    shift = timedelta(hours=int(offset[1:3]), minutes=minutes)
    return timezone(-shift if offset[0] == "-" else shift)


def _read_epoch(typed: str, whole: str, fraction: str) -> datetime:
    if len(whole) > 11:
        raise QuantityError(
            f"{_shown(typed)} is not a number of seconds since 1970",
            f"write @{whole[:10]}: seconds, not milliseconds",
        )
    return _EPOCH + timedelta(seconds=int(whole), microseconds=_microseconds(fraction))


def _microseconds(fraction: str) -> int:
    return int(fraction[:6].ljust(6, "0"))


def _not_a_time(typed: str) -> QuantityError:
    """Say why *typed* was refused, with the nearest spelling that would not have been."""
    if re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", typed):
        is_epoch_like = len(typed) in (10, 13, 16, 19) or "." in typed[9:11]
        hint = f"write @{typed[:10]} for epoch seconds" if is_epoch_like else _TIME_HINT
        return QuantityError(f"{_shown(typed)} is a bare number", hint)
    if re.fullmatch(_CLOCK, typed.lower()):
        return QuantityError(
            f"{_shown(typed)} is a time of some day",
            f"write 'today {typed}' or 'yesterday {typed}'",
        )
    if found := re.fullmatch(_OTHER_DATE, typed):
        spellings = _iso_spellings(found[1], found[3], found[4])
        return QuantityError(
            f"{_shown(typed)} is a date that not everybody reads alike",
            f"write {' or '.join(spellings)}" if spellings else _TIME_HINT,
        )
    return QuantityError(f"{_shown(typed)} is not a time", _TIME_HINT)


def _iso_spellings(first: str, second: str, third: str) -> list[str]:
    """Return the days that such a date can mean, as ISO 8601 writes them."""
    if len(first) == 4:
        readings = [(first, second, third)]
    elif len(third) == 4:
        readings = [(third, first, second), (third, second, first)]
    else:
        return []
    spellings: list[str] = []
    for year, month, day in readings:
        try:
            spelling = f"{datetime(int(year), int(month), int(day)):%Y-%m-%d}"
        except ValueError:
            continue
        if spelling not in spellings:
            spellings.append(spelling)
    return spellings


def _shown(typed: str) -> str:
    """Quote what was typed, safe to print on a terminal and never longer than a line."""
    return repr(typed if len(typed) <= 60 else typed[:59] + "…")


def format_count(count: int, noun: str) -> str:
    """Return *count* with its *noun*, as people say it: ``1 turn``, ``2,000 turns``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
