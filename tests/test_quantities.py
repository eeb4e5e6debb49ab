"""What people type about durations, sizes and times: read alike every time, or refused with help.

A wrong reading here deletes the wrong turns: ``compact --max-age 30m`` must never be a guess.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from convmem.quantities import (
    MAX_DURATION_SECONDS,
    MAX_SIZE_BYTES,
    QuantityError,
    format_duration,
    format_size,
    format_time,
    parse_duration,
    parse_size,
    parse_stored_time,
    parse_time,
)

# A Saturday, 13:30 in Oslo.
NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
DAY = 86_400

# POSIX spellings: these tests need no time zone database on the machine.
OSLO = "CET-1CEST,M3.5.0,M10.5.0/3"
NEW_YORK = "EST5EDT,M3.2.0,M11.1.0"
KOLKATA = "IST-5:30"
# Clocks jump from 00:00 to 01:00, as they did in Brazil: the day has no midnight.
NO_MIDNIGHT = "BRT3BRST,M10.3.0/0,M2.3.0/0"

# Text made of the pieces of quantities finds more than text made of anything.
PIECES = """
0 1 30 90 2026 20261121 1790000000 99999999999999999999 . , : - + @ / 2026-11-21 15:00 3pm +01:00
T Z P PT d D m M h s ms min mo y w K MiB gb b today yesterday now last week ago at ٣ é
"""
FRAGMENTS = st.lists(
    st.sampled_from([*PIECES.split(), " ", "\n", "\0", "\N{NO-BREAK SPACE}", "\ud800"]), max_size=8
).map("".join)
TYPED = st.text() | FRAGMENTS
AWARE_TIMES = st.datetimes(
    min_value=datetime(1, 1, 2),
    max_value=datetime(9999, 12, 30),
    timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


@pytest.fixture
def local_zone(monkeypatch):
    """Call it to move this process to another time zone; the old one is back afterwards."""

    def move_to(zone):
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield move_to
    monkeypatch.undo()
    time.tzset()


def refusal(parse, text):
    """Return how *parse* refuses *text*, having checked what every refusal owes its reader."""
    with pytest.raises(QuantityError) as caught:
        parse(text)
    error = caught.value
    for sentence in (str(error), error.hint):
        assert sentence
        assert not sentence.endswith(".")
        assert sentence[0] == sentence[0].lower() or sentence[0] in "'\""
        assert sentence.isprintable()
        assert len(sentence) < 240
    return error


def parse_now(text):
    return parse_time(text, now=NOW)


# Durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90d", 90 * DAY),
        ("12h", 43_200),
        ("2w", 14 * DAY),
        ("1h30m", 5_400),
        ("2d 4h", 2 * DAY + 14_400),
        ("45s", 45),
        ("500ms", 0.5),
        ("15min", 900),
        ("3mo", 3 * 30.44 * DAY),
        ("1y", 365.25 * DAY),
        ("90 days", 90 * DAY),
        ("2 weeks", 14 * DAY),
        ("1 hour", 3_600),
        ("3 months", 3 * 30.44 * DAY),
        ("1 year 2 days", 367.25 * DAY),
        ("1 h 30 m", 5_400),
        ("1.5h", 5_400),
        (".5h", 1_800),
        (" 90d\n", 90 * DAY),
        ("90\N{NO-BREAK SPACE}days", 90 * DAY),
        ("5m30s", 330),
        ("5m 30sec", 330),
        ("1 hour 30m", 5_400),
        ("90D", 90 * DAY),
        ("12H", 43_200),
        ("15MIN", 900),
        ("1H30M", 5_400),
        ("P30D", 30 * DAY),
        ("PT1H30M", 5_400),
        ("P1DT12H", 1.5 * DAY),
        ("P2W", 14 * DAY),
        ("P1Y", 365.25 * DAY),
        ("P1M", 30.44 * DAY),
        ("PT1M", 60),
        ("P1M1DT1M1.5S", 31.44 * DAY + 61.5),
        ("P0,5D", DAY / 2),
        ("p2w", 14 * DAY),
        ("0d", 0),
        ("0s", 0),
        ("10000y", MAX_DURATION_SECONDS),
    ],
)
def test_a_duration_is_read_as_people_mean_it(text, seconds):
    """The spellings of journalctl, of ISO 8601 and of plain English all work."""
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)
    assert type(parse_duration(text)) is float


@pytest.mark.parametrize("text", ["30m", "30M", "30 m", "2d 30m"])
def test_minutes_are_never_taken_for_months(text):
    """``m`` is minutes to some tools and months to others: a guess would delete the wrong turns."""
    hint = "write 30min for minutes or 30mo for months"
    assert refusal(parse_duration, text).hint == hint
    # ``--since`` and ``--until`` come here, where the same two readings exist.
    for spelling in (text, f"-{text}", f"+{text}", f"{text} ago"):
        assert refusal(parse_now, spelling).hint == hint


@pytest.mark.parametrize("text", ["1h30M", "1y6m", "6m 2d", "30m 500ms", "1.5m"])
def test_m_counts_as_minutes_only_next_to_hours_or_seconds(text):
    """After years it is surely months, and systemd's capital is months everywhere."""
    assert "minutes or months" in str(refusal(parse_duration, text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "d",
        "m",
        "-2h",
        "+2h",
        "nan",
        "inf",
        "infd",
        "1e3s",
        "1,5h",
        "1_000s",
        "1..5h",
        "1.h",
        "٣d",
        "1 fortnight",
        "2 days ago",
        "10001y",
        "9" * 5000 + "d",
        "9" * 5000 + "m",
        "x" * 5000,
        "\x1b[31m",
        "\ud800",
        "P",
        "PT",
        "P1",
        "P1DT",
        "P-1D",
        "P1H",
        "PT1D",
        "P" + "9" * 400 + "D",
    ],
)
def test_what_is_not_a_duration_is_refused_with_a_spelling(text):
    """Wrong usage must stop before anything is removed, and say how to go on."""
    refusal(parse_duration, text)


def test_a_number_without_a_unit_is_refused():
    """``--max-age 90`` is days to one person and seconds to the next."""
    assert refusal(parse_duration, "90").hint == "write a unit, such as 90s or 90d"
    assert "unit" in refusal(parse_duration, "1h30").hint
    refusal(parse_duration, "0")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "0s"),
        (0.25, "250ms"),
        (0.9996, "1s"),
        (45, "45s"),
        (1.5, "1s 500ms"),
        (90, "1min 30s"),
        (3_600, "1h"),
        (5_400, "1h 30min"),
        (5_399.9, "1h 29min"),
        (2 * DAY + 14_400, "2d 4h"),
        (90 * DAY, "90d"),
        (DAY + 5, "1d"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units(seconds, text):
    """Every policy prints what it understood; nobody should need a calculator to check it."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize("seconds", [-1, -0.001, float("nan"), float("inf"), 4e11, 10**400])
def test_a_duration_that_could_not_be_read_back_is_not_shown(seconds):
    """Nonsense is a fault of the caller; printing it would hide the fault."""
    with pytest.raises(ValueError, match="duration"):
        format_duration(seconds)


@given(st.floats(0, MAX_DURATION_SECONDS))
@example(MAX_DURATION_SECONDS)
@example(59.9999)
def test_a_duration_shown_can_be_typed(seconds):
    """What a command printed can be pasted into the next command."""
    shown = format_duration(seconds)
    read = parse_duration(shown)
    assert read <= seconds + 0.001
    assert read >= seconds * 0.95 - 0.001
    assert format_duration(read) == shown


@given(st.integers(0, 9_999), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_spans_add_up(days, hours, minutes, seconds):
    """The sum is the same with and without spaces, and as ISO 8601."""
    expected = days * DAY + hours * 3_600 + minutes * 60 + seconds
    assert parse_duration(f"{days}d{hours}h{minutes}m{seconds}s") == expected
    assert parse_duration(f"{days} days {hours} hours {minutes} min {seconds} sec") == expected
    assert parse_duration(f"P{days}DT{hours}H{minutes}M{seconds}S") == expected


@given(TYPED)
def test_any_text_is_a_duration_or_refused(text):
    """A traceback is no answer to a slip of the finger."""
    try:
        seconds = parse_duration(text)
    except QuantityError as error:
        assert error.hint
    else:
        assert 0 <= seconds <= MAX_DURATION_SECONDS


# Sizes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("4096", 4_096),
        ("1b", 1),
        ("512 B", 512),
        ("512 bytes", 512),
        ("64K", 65_536),
        ("500M", 500 * 1024**2),
        ("500m", 500 * 1024**2),
        ("1G", 1024**3),
        ("2T", 2 * 1024**4),
        ("1KiB", 1_024),
        ("1gib", 1024**3),
        ("1.5GiB", 1_610_612_736),
        ("1.5 GiB", 1_610_612_736),
        ("3TiB", 3 * 1024**4),
        ("1kB", 1_000),
        ("1KB", 1_000),
        ("10mb", 10_000_000),
        ("10Mb", 10_000_000),
        ("1GB", 10**9),
        ("1TB", 10**12),
        ("0.1K", 102),
        (".5K", 512),
        (" 64K\n", 65_536),
        ("0" * 5000 + "1", 1),
        ("1." + "0" * 5000 + "K", 1_024),
        (str(MAX_SIZE_BYTES), MAX_SIZE_BYTES),
    ],
)
def test_a_size_is_read_as_tail_and_journalctl_read_it(text, count):
    """``K`` is 1024 and ``kB`` 1000, as everywhere else on the same command line."""
    assert parse_size(text) == count
    assert type(parse_size(text)) is int


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "K",
        "-5M",
        "- 5",
        "+5",
        "1.5",
        "0.5B",
        "1,5M",
        "1_000",
        "1e6",
        "nan",
        "inf",
        "1Mbit",
        "10 mbps",
        "5 elephants",
        "1K 2K",
        "٣K",
        "8E",
        str(2**63),
        "9" * 5000,
        "9" * 5000 + "T",
        "\ud800",
    ],
)
def test_what_is_not_a_size_is_refused_with_a_spelling(text):
    """A limit that was misread drops turns; bits, signs and halves of bytes are misreadings."""
    refusal(parse_size, text)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1_023, "1023 B"),
        (1_024, "1.0 KiB"),
        (1_536, "1.5 KiB"),
        (1024**2 - 1, "1023.9 KiB"),
        (50 * 1024**2, "50.0 MiB"),
        (MAX_SIZE_BYTES, "7.9 EiB"),
        (2**80, "1048576.0 EiB"),
    ],
)
def test_a_size_is_shown_in_the_largest_unit_it_fills(count, text):
    """The unit says 1024 outright, so that nobody compares MB with MiB."""
    assert format_size(count) == text


def test_a_negative_size_is_not_shown():
    """Bytes freed cannot be fewer than none: the caller counted wrongly."""
    with pytest.raises(ValueError, match="negative"):
        format_size(-1)


@given(st.integers(0, MAX_SIZE_BYTES))
@example(MAX_SIZE_BYTES)
def test_a_size_shown_can_be_typed(count):
    """And as a limit it never allows more than the size that was shown."""
    read = parse_size(format_size(count))
    assert count * 0.9 <= read <= count


@given(st.integers(0, MAX_SIZE_BYTES))
def test_a_bare_number_is_exactly_so_many_bytes(count):
    """Also beyond 2**53, where a float would round."""
    assert parse_size(str(count)) == parse_size(f"{count}B") == count


@given(TYPED)
def test_any_text_is_a_size_or_refused(text):
    """A traceback is no answer to a slip of the finger."""
    try:
        count = parse_size(text)
    except QuantityError as error:
        assert error.hint
    else:
        assert 0 <= count <= MAX_SIZE_BYTES


# Times that people type


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("2026-11-21T09:00:00Z", "2026-11-21T09:00:00.000000Z"),
        ("2026-11-21t09:00:00z", "2026-11-21T09:00:00.000000Z"),
        ("2026-11-21T09:00:00.123456Z", "2026-11-21T09:00:00.123456Z"),
        ("2026-11-21T09:00:00.123456789Z", "2026-11-21T09:00:00.123456Z"),
        ("2026-11-21T09:00:00+01:00", "2026-11-21T08:00:00.000000Z"),
        ("2026-11-21T09:00-0530", "2026-11-21T14:30:00.000000Z"),
        ("2026-11-21 09:00:00 +0100", "2026-11-21T08:00:00.000000Z"),
        ("2026-11-21 09:00 UTC", "2026-11-21T09:00:00.000000Z"),
        ("20261121T090000Z", "2026-11-21T09:00:00.000000Z"),
        ("@1790000000", "2026-09-21T14:13:20.000000Z"),
        ("@1790000000.5", "2026-09-21T14:13:20.500000Z"),
        ("@0", "1970-01-01T00:00:00.000000Z"),
        ("today 00:00 UTC", "2026-11-21T00:00:00.000000Z"),
    ],
)
@pytest.mark.parametrize("zone", [OSLO, NEW_YORK])
def test_a_time_with_an_offset_is_the_same_everywhere(local_zone, zone, text, stored):
    """A pasted timestamp names one moment, whatever machine it is pasted on."""
    local_zone(zone)
    moment = parse_now(text)
    assert moment.tzinfo is UTC
    assert format_time(moment) == stored


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("2026-11-21", (2026, 11, 21)),
        ("20261121", (2026, 11, 21)),
        ("2026-11-21 09:00", (2026, 11, 21, 9)),
        ("2026-11-21T09:00", (2026, 11, 21, 9)),
        ("2026-11-21 9:00", (2026, 11, 21, 9)),
        ("2026-11-21 09:00:30", (2026, 11, 21, 9, 0, 30)),
        ("2026-11-21 09:00:30.25", (2026, 11, 21, 9, 0, 30, 250_000)),
        ("2026-11-21 3pm", (2026, 11, 21, 15)),
        ("20261121T0930", (2026, 11, 21, 9, 30)),
        ("today", (2026, 11, 21)),
        ("  Yesterday ", (2026, 11, 20)),
        ("TOMORROW", (2026, 11, 22)),
        ("yesterday 15:00", (2026, 11, 20, 15)),
        ("today 09:30", (2026, 11, 21, 9, 30)),
        ("today 9:30", (2026, 11, 21, 9, 30)),
        ("yesterday 3pm", (2026, 11, 20, 15)),
        ("yesterday at 3:30 PM", (2026, 11, 20, 15, 30)),
        ("yesterday 12am", (2026, 11, 20, 0)),
        ("yesterday 12pm", (2026, 11, 20, 12)),
        ("tomorrow 0815", (2026, 11, 22, 8, 15)),
    ],
)
@pytest.mark.parametrize(("zone", "offset_minutes"), [(OSLO, 60), (NEW_YORK, -300), (KOLKATA, 330)])
def test_a_time_without_an_offset_is_local(local_zone, zone, offset_minutes, text, local):
    """``yesterday 15:00`` is by the clock on the wall, not by the one in Greenwich."""
    local_zone(zone)
    here = timezone(timedelta(minutes=offset_minutes))
    assert parse_now(text) == datetime(*local, tzinfo=here)


def test_today_is_the_day_of_the_local_calendar(local_zone):
    """At 23:30 in New York it is tomorrow in UTC; ``today`` must still begin this morning."""
    local_zone(NEW_YORK)
    late = datetime(2026, 11, 22, 4, 30, tzinfo=UTC)
    assert parse_time("today", now=late) == datetime(2026, 11, 21, 5, tzinfo=UTC)
    # Where an offset is named, its calendar decides, not that of this machine.
    assert parse_time("today 00:00 UTC", now=late) == datetime(2026, 11, 22, tzinfo=UTC)
    # Nor does it matter in which zone the caller holds the present.
    elsewhere = late.astimezone(timezone(timedelta(hours=9)))
    assert parse_time("today", now=elsewhere) == datetime(2026, 11, 21, 5, tzinfo=UTC)


def test_yesterday_is_a_calendar_day_even_when_it_has_23_hours(local_zone):
    """On the morning after the change, midnight yesterday is not 24 hours before midnight."""
    local_zone(OSLO)
    monday = datetime(2026, 3, 30, 10, tzinfo=UTC)
    assert parse_time("today", now=monday) == datetime(2026, 3, 29, 22, tzinfo=UTC)
    assert parse_time("yesterday", now=monday) == datetime(2026, 3, 28, 23, tzinfo=UTC)
    assert parse_time("yesterday 15:00", now=monday) == datetime(2026, 3, 29, 13, tzinfo=UTC)
    # A span counts hours and not calendar days.
    assert parse_time("1d", now=monday) == monday - timedelta(hours=24)


def test_a_local_time_that_occurs_twice_is_the_first(local_zone):
    """``--since`` then shows an hour too much, never an hour too little."""
    local_zone(OSLO)
    assert parse_now("2026-10-25 02:30") == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    second = datetime(2026, 10, 25, 1, 45, tzinfo=UTC)
    assert parse_time("today 02:30", now=second) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_a_local_time_that_the_clock_skips_still_has_a_reading(local_zone):
    """A cron job that asks for 02:30 must not fail on one night of the year."""
    local_zone(OSLO)
    assert parse_now("2026-03-29 02:30") == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    local_zone(NO_MIDNIGHT)
    assert parse_now("2026-10-18") == datetime(2026, 10, 18, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "shift"),
    [
        ("now", timedelta(0)),
        ("2h", -timedelta(hours=2)),
        ("-2h", -timedelta(hours=2)),
        ("- 2h", -timedelta(hours=2)),
        ("+1d", timedelta(days=1)),
        ("7d", -timedelta(days=7)),
        ("2 days ago", -timedelta(days=2)),
        ("2 Days Ago", -timedelta(days=2)),
        ("1h30m ago", -timedelta(minutes=90)),
        ("1h30m", -timedelta(minutes=90)),
        ("3mo", -timedelta(days=3 * 30.44)),
        ("P7D", -timedelta(days=7)),
        ("last week", -timedelta(days=7)),
        ("Last Month", -timedelta(days=30.44)),
        ("0s", timedelta(0)),
    ],
)
def test_a_span_is_so_long_before_now(local_zone, text, shift):
    """``--since 2h`` means the last two hours, also across a clock change."""
    for now in (NOW, datetime(2026, 3, 29, 1, 30, tzinfo=UTC)):
        for zone in (OSLO, NEW_YORK):
            local_zone(zone)
            moment = parse_time(text, now=now.astimezone())
            assert moment == now + shift
            assert moment.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("11/12/2026", "write 2026-11-12 or 2026-12-11"),
        ("11/12/2026 15:00", "write 2026-11-12 or 2026-12-11"),
        ("11/11/2026", "write 2026-11-11"),
        ("21.11.2026", "write 2026-11-21"),
        ("11-21-2026", "write 2026-11-21"),
        ("2026/11/21", "write 2026-11-21"),
        ("2026-1-5", "write 2026-01-05"),
        ("1790000000", "write @1790000000 for epoch seconds"),
        ("1790000000.5", "write @1790000000 for epoch seconds"),
        ("1790000000123", "write @1790000000 for epoch seconds"),
        ("@1790000000123", "write @1790000000: seconds, not milliseconds"),
        ("15:00", "write 'today 15:00' or 'yesterday 15:00'"),
        ("3pm", "write 'today 3pm' or 'yesterday 3pm'"),
    ],
)
def test_a_refused_time_comes_with_the_spelling_that_works(text, hint):
    """American and European dates look the same; the hint is there to be copied."""
    assert refusal(parse_now, text).hint == hint


@pytest.mark.parametrize("text", ["11/12/26", "99/99/2026", "90", "0", "2026", "20261399"])
def test_a_time_beyond_help_is_refused_with_examples(text):
    """Where no reading can be offered, the hint names the forms that exist."""
    hint = refusal(parse_now, text).hint
    assert "2026-11-21" in hint
    assert "@1790000000" in hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "soon",
        "ago",
        "last",
        "last supper",
        "yesterday ago",
        "yesterday -2h",
        "yesterday 13pm",
        "yesterday 0am",
        "yesterday 25:00",
        "yesterday 20",
        "now 15:00",
        "-2h ago",
        "+-2h",
        "--2h",
        "2 dayz ago",
        "21 Nov 2026",
        "2026-02-30",
        "2026-11-21 24:00",
        "2026-11-21 09:60",
        "2026-11-21Z",
        "2026-11-21x09:00",
        "2026-11-21 09:00+25:00",
        "2026-11-21 09:00+01:75",
        "2026-W47-6",
        "0000-01-01",
        "0001-01-01T00:00+14:00",
        "9999-12-31T23:59-14:00",
        "9999y",
        "+9999y",
        "@",
        "@-5",
        "@1e9",
        "@nan",
        "@" + "9" * 5000,
        "9" * 5000,
        "٢٠٢٦-١١-٢١",
        "\ud800",
        "x" * 5000,
    ],
)
def test_what_is_not_a_time_is_refused_with_a_spelling(text):
    """``--since`` that is silently wrong shows, or removes, the wrong turns."""
    refusal(parse_now, text)


def test_relative_times_outside_the_calendar_are_refused():
    """Even at the ends of the calendar a slip is an error with a hint, not a traceback."""
    first = datetime(1, 1, 1, tzinfo=UTC)
    last = datetime(9999, 12, 31, 23, tzinfo=UTC)
    for text, now in (("yesterday", first), ("2h", first), ("tomorrow", last), ("+2h", last)):
        with pytest.raises(QuantityError):
            parse_time(text, now=now)


def test_a_naive_now_is_a_fault_of_the_caller():
    """It would shift every relative time by the machine's offset without anybody noticing."""
    with pytest.raises(ValueError, match="time zone") as caught:
        parse_time("2h", now=datetime(2026, 11, 21))
    assert not isinstance(caught.value, QuantityError)


@given(TYPED, AWARE_TIMES)
def test_any_text_is_a_time_or_refused(text, now):
    """A traceback is no answer to a slip of the finger."""
    try:
        moment = parse_time(text, now=now)
    except QuantityError as error:
        assert error.hint
    else:
        assert moment.tzinfo is UTC


@given(AWARE_TIMES)
def test_a_time_shown_can_be_typed(moment):
    """The ``ts`` of any printed turn works as ``--since``."""
    assert parse_now(format_time(moment)) == moment
    assert parse_now(moment.isoformat(" ")) == moment


@given(st.integers(0, 10**11 - 1), st.integers(0, 999_999))
def test_epoch_seconds_are_exact(seconds, microseconds):
    """A float would lose the last digits, and with them the first turn asked for."""
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
        seconds=seconds, microseconds=microseconds
    )
    assert parse_now(f"@{seconds}.{microseconds:06}") == expected


# Times that programs stored


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("2026-11-21T09:00:00.123456Z", "2026-11-21T09:00:00.123456Z"),
        ("2026-11-21T09:00:00Z", "2026-11-21T09:00:00.000000Z"),
        ("2026-11-21t09:00:00z", "2026-11-21T09:00:00.000000Z"),
        ("2026-11-21T09:00:00.123456789Z", "2026-11-21T09:00:00.123456Z"),
        ("2026-11-21T10:00:00+01:00", "2026-11-21T09:00:00.000000Z"),
        ("2026-11-21 09:00:00", "2026-11-21T09:00:00.000000Z"),
        ("2026-11-21", "2026-11-21T00:00:00.000000Z"),
        ("20261121T090000Z", "2026-11-21T09:00:00.000000Z"),
        (1_790_000_000, "2026-09-21T14:13:20.000000Z"),
        (1_790_000_000.5, "2026-09-21T14:13:20.500000Z"),
        (0, "1970-01-01T00:00:00.000000Z"),
        (99_999_999_999, "5138-11-16T09:46:39.000000Z"),
    ],
)
def test_a_stored_time_is_read_as_utc(local_zone, value, stored):
    """A file copied to another continent keeps its times, also those without an offset."""
    for zone in (OSLO, NEW_YORK):
        local_zone(zone)
        moment = parse_stored_time(value)
        assert moment is not None
        assert moment.tzinfo is UTC
        assert format_time(moment) == stored


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        "",
        "yesterday",
        "30m",
        "1790000000",
        "1712010101234",
        "2026-13-01",
        "2026-11-21T25:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "\ud800",
        "z",
        -1,
        -0.5,
        10**11,
        1_790_000_000_000,
        10**400,
        float("nan"),
        float("inf"),
        b"2026-11-21",
        NOW,
        ["2026-11-21"],
        {},
    ],
)
def test_a_stored_value_that_is_no_time_is_none(value):
    """A turn without a usable time is never too old: misreading one would delete it."""
    assert parse_stored_time(value) is None


@given(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TYPED
    | st.binary()
    | st.lists(st.integers())
    | st.datetimes().map(str)
)
@example(99_999_999_999.99999)
@example("2026-11-21\ud80009:00")
def test_reading_a_stored_time_never_raises(value):
    """One odd line in a file must not stop the reading of its neighbours."""
    moment = parse_stored_time(value)
    assert moment is None or moment.tzinfo is UTC


@given(AWARE_TIMES)
def test_a_stored_time_comes_back_to_the_microsecond(moment):
    """Whatever zone the caller thinks in, the moment in the file is the moment given."""
    stored = format_time(moment)
    assert len(stored) == 27
    assert parse_stored_time(stored) == moment


@given(AWARE_TIMES, AWARE_TIMES)
def test_stored_times_sort_as_text(one, other):
    """``sort``, ``jq`` and ``grep`` order and compare the files without parsing them."""
    assert (format_time(one) < format_time(other)) == (one < other)


def test_a_stored_time_has_a_four_digit_year_and_six_decimals():
    """Fixed width is what makes text order time order."""
    assert format_time(datetime(7, 1, 2, tzinfo=UTC)) == "0007-01-02T00:00:00.000000Z"


def test_a_time_that_utc_cannot_hold_is_not_stored():
    """Naive times mean something else on each machine; years beyond 9999 do not sort."""
    west = timezone(timedelta(hours=-1))
    with pytest.raises(ValueError, match="time zone"):
        format_time(datetime(2026, 11, 21))
    with pytest.raises(ValueError, match="9999"):
        format_time(datetime(9999, 12, 31, 23, 30, tzinfo=west))


# The file itself


def test_a_refusal_survives_the_way_between_processes():
    """A pool that unpickles errors would otherwise lose the hint, or hang."""
    error = pickle.loads(pickle.dumps(QuantityError("'90' has no unit", "write 90d")))
    assert (str(error), error.hint) == ("'90' has no unit", "write 90d")
    assert isinstance(error, ValueError)


def test_importing_quantities_loads_nothing_heavy():
    """Every command pays for this import, also the one that appends a line from a shell loop."""
    program = (
        "import json, sys; before = set(sys.modules); import convmem.quantities;"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {name for name in done.stdout.split() if not name.startswith("convmem")}
    assert loaded <= {"__future__", "datetime", "_datetime", "math"}
