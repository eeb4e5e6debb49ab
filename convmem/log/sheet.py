"""Many turns at once: JSON lines, checked and encoded by the column on their way into a log.

An object for each turn, and the way from one function to the next, take three times as long as
parsing a turn and encoding it does. So one loop looks at all the lines here, and what they say goes
into columns; most turns are nothing but their bytes. A line that is unusual in any way takes the
road of single turns, ``turns.draft_from_object``, to the same answer.
"""

from __future__ import annotations

import re
from datetime import datetime

from convmem import jsontext
from convmem.errors import ConvmemError, InvalidTurn
from convmem.ids import encode_name, new_turn_ids
from convmem.log import codec
from convmem.quantities import parse_stored_time
from convmem.turns import FIELDS, MAX_TURN_BYTES, NOT_TAKEN, draft_from_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from convmem.turns import Draft, Turn

    # Number of the line, and why it is no turn.
    Fault = tuple[int, ConvmemError]

_PLAIN_ROLES = ("user", "assistant", "system", "tool")
# Whatever stands in a text of so many characters, as JSON it is within the bytes of an id.
_PLAIN_ID_CHARACTERS = 170
_STORED_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"
)


class Sheet:
    """Checked turns on their way into one log, in their order: many of what ``Draft`` is one.

    Attributes:
        numbers: The line that each was, counted from 0 among the lines that were read.
        tails: What each line will hold from the role on, closing brace included.
        given: The ids that turns came with, by their row here.
        times: The times that turns came with, as they are stored, by their row here.
    """

    __slots__ = ("_made", "given", "numbers", "tails", "times")

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.tails: list[bytes] = []
        self.given: dict[int, str] = {}
        self.times: dict[int, str] = {}
        self._made = new_turn_ids()

    def __len__(self) -> int:
        return len(self.tails)

    def __iter__(self) -> Iterator[Draft]:
        return map(self.draft, range(len(self)))

    def id_of(self, row: int) -> str:
        """Return the id of a turn, given or made."""
        prefix, first = self._made
        return self.given.get(row) or f"{prefix}{first + row:012x}"

    def draft(self, row: int) -> Draft:
        """Return one of the turns as it would have been for itself. Parses it anew."""
        said = codec.parse_object(b"{" + self.tails[row])
        made = draft_from_object({**said, "id": self.id_of(row), "ts": self.times.get(row)})
        made.is_given = row in self.given
        return made

    def lines(self, first_seq: int, now_text: str) -> list[bytes]:
        """Return the lines that store the turns at the time *now_text*, from *first_seq* on."""
        prefix, first = self._made
        if not self.given and not self.times:
            head = b'{"id":"%b%%012x","seq":%%d,"ts":"%b",' % (prefix.encode(), now_text.encode())
            heads = [head % (first + row, first_seq + row) for row in range(len(self))]
            return codec.turn_lines(heads, self.tails)
        # As they stand between their quotes; within them these three bytes cannot be.
        spelled = jsontext.dumps(list(self.given.values()))[2:-2].split(b'","')
        ids = dict(zip(self.given, spelled, strict=False))
        times = {row: text.encode() for row, text in self.times.items()}
        start, now = prefix.encode(), now_text.encode()
        heads = [
            b'{"id":"%b","seq":%d,"ts":"%b",'
            % (ids.get(row) or b"%b%012x" % (start, first + row), seq, times.get(row, now))
            for row, seq in enumerate(range(first_seq, first_seq + len(self)))
        ]
        return codec.turn_lines(heads, self.tails)


class SheetAnswers:
    """The answers to a sheet of which all was new: each turn is made when it is asked for.

    Attributes:
        sheet: What was stored.
        first_seq: The ``seq`` of its first row; the others follow.
    """

    __slots__ = ("_now_text", "first_seq", "sheet")

    def __init__(self, sheet: Sheet, first_seq: int, now_text: str) -> None:
        self.sheet = sheet
        self.first_seq = first_seq
        self._now_text = now_text

    def __len__(self) -> int:
        return len(self.sheet)

    def ts_of(self, row: int) -> str:
        """Return the time that a row was stored with."""
        return self.sheet.times.get(row, self._now_text)

    def __getitem__(self, row: int) -> Turn:
        stored = parse_stored_time(self.ts_of(row))
        return self.sheet.draft(row).stored_as(self.first_seq + row, stored)

    def __iter__(self) -> Iterator[Turn]:
        return map(self.__getitem__, range(len(self)))


class Reading:
    """What a stretch of lines holds.

    Attributes:
        sheets: The turns, by the conversation that they are for.
        broken: Lines that are no turn objects at all.
        refused: Turns that cannot be stored.
    """

    __slots__ = ("broken", "refused", "sheets")

    def __init__(self) -> None:
        self.sheets: dict[str, Sheet] = {}
        self.broken: list[Fault] = []
        self.refused: list[Fault] = []


def read_lines(lines: Sequence[bytes | None], continuation_id: str | None) -> Reading:
    """Read turns, one JSON object a line, as ``turns.draft_from_object`` takes them.

    They go to *continuation_id*, or each where its own ``continuation_id`` says. Blank lines are
    passed over; ``None`` stands for one that was too long to be kept.
    """
    reading = Reading()
    sheets = reading.sheets
    sheet = Sheet()
    if continuation_id is not None:
        sheets[continuation_id] = sheet
    numbers, tails = sheet.numbers, sheet.tails
    forms, roles, is_exact = _forms, _PLAIN_ROLES, jsontext.is_exact
    loads, dumps = jsontext.fast()
    # There may be millions of lines: each step does without a call where it can.
    for number, line in enumerate(lines):
        try:
            value = loads(line)  # type: ignore[arg-type]
            form = forms[tuple(value)] if type(value) is dict else None
            if form is None or value["role"] not in roles:
                raise _Unusual
            turn_id = ts_text = None
            if form.kept is None:
                said = value
            else:
                turn_id, ts_text = value.get("id"), value.get("ts")
                if turn_id is not None and not _is_plain_id(turn_id):
                    raise _Unusual
                if ts_text is not None and not _is_stored_time(ts_text):
                    raise _Unusual
                said = {key: value[key] for key in form.kept}
            tail = dumps(said)[1:]
            if form.has_more or type(said["content"]) is not str:
                if form.has_meta and type(value["meta"]) is not dict:
                    raise _Unusual
                # There may be numbers, and they are kept to the digit.
                if not line.endswith(tail) and not is_exact(line):  # type: ignore[union-attr, arg-type]
                    raise _Unusual
            if len(tail) > MAX_TURN_BYTES:
                raise _Unusual
            if continuation_id is None:
                sheet = sheets[value["continuation_id"]]
                numbers, tails = sheet.numbers, sheet.tails
        except (ValueError, TypeError, KeyError):
            _read_alone(reading, number, line, continuation_id)
            continue
        if turn_id is not None:
            sheet.given[len(tails)] = turn_id
        if ts_text is not None:
            sheet.times[len(tails)] = ts_text
        numbers.append(number)
        tails.append(tail)
    return reading


class _Unusual(ValueError):
    """The line is for ``_read_alone``, as are those on which orjson gives up."""


def _is_plain_id(turn_id: Any) -> bool:
    return type(turn_id) is str and 0 < len(turn_id) <= _PLAIN_ID_CHARACTERS


def _is_stored_time(text: Any) -> bool:
    """Whether *text* is a time as ``format_time`` writes it."""
    if type(text) is not str or _STORED_TIME.fullmatch(text) is None:
        return False
    datetime.fromisoformat(text)  # raises where the calendar has no such day
    return True


def _read_alone(
    reading: Reading, number: int, line: bytes | None, continuation_id: str | None
) -> None:
    """Read one line that is unusual, or the first of its conversation, or wrong."""
    if line is not None and not line.strip():
        return
    try:
        value = _object_in(line)
        if continuation_id is None:
            continuation_id = value.get("continuation_id")
            if not isinstance(continuation_id, str):
                raise InvalidTurn('the turn needs "continuation_id", since ID is "-"')
    except InvalidTurn as error:
        reading.broken.append((number, error))
        return
    try:
        encode_name(continuation_id)
        made = draft_from_object(value)
    except ConvmemError as error:
        reading.refused.append((number, error))
        return
    sheet = reading.sheets.get(continuation_id)
    if sheet is None:
        sheet = reading.sheets[continuation_id] = Sheet()
    if made.is_given:
        sheet.given[len(sheet.tails)] = made.id
    if made.ts_text is not None:
        sheet.times[len(sheet.tails)] = made.ts_text
    sheet.numbers.append(number)
    sheet.tails.append(made.tail + b"}")


def _object_in(line: bytes | None) -> dict[str, Any]:
    if line is None:
        raise InvalidTurn(f"the line is too long: at most {MAX_TURN_BYTES:,} bytes")
    try:
        value = jsontext.loads(line)
    except jsontext.NotJson as error:
        raise InvalidTurn(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidTurn("not a JSON object")
    return value


class _Form:
    """What the keys of an object, in their order, say about the turn in it.

    Attributes:
        kept: The keys that are stored behind the turn's head, in the order in which they are
            stored; ``None`` where these are all there are, in that order.
        has_meta: Whether ``meta`` is among them.
        has_more: Whether any is but role and content.
    """

    __slots__ = ("has_meta", "has_more", "kept")

    def __init__(self, keys: tuple[str, ...]) -> None:
        kept: tuple[str, ...] = tuple(k for k in ("role", "content", "meta") if k in keys)
        kept += tuple(key for key in keys if key not in FIELDS and key not in NOT_TAKEN)
        self.kept = None if kept == keys else kept
        self.has_meta = "meta" in keys
        self.has_more = len(kept) > 2


class _Forms(dict[tuple[str, ...], "_Form | None"]):
    """The forms that were met; a stream has few. ``None`` where the keys are not as they may be."""

    def __missing__(self, keys: tuple[str, ...]) -> _Form | None:
        if len(self) >= 1000:
            self.clear()
        is_good = "role" in keys and "content" in keys
        is_good = is_good and not any(key.startswith("_") for key in keys if key not in NOT_TAKEN)
        form = self[keys] = _Form(keys) if is_good else None
        return form


_forms = _Forms()
