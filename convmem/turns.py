"""A turn: who said what, and when. What may be one, and what two of them have in common.

``Turn`` is what readers get; ``Draft`` is a turn on its way into a log: checked, and encoded as
far as it can be before the log has given it a ``seq``.
"""

from __future__ import annotations

from datetime import datetime

from convmem import jsontext
from convmem.errors import InvalidTurn
from convmem.ids import new_turn_id
from convmem.quantities import format_time, parse_stored_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

# One line is read whole by every reader, so its length bounds their memory.
MAX_TURN_BYTES = 64 * 1024 * 1024
MAX_TURN_ID_BYTES = 1024
MAX_ROLE_CHARACTERS = 64

# Keys that a turn's own fields, or convmem's output, stand under.
FIELDS = ("id", "seq", "ts", "role", "content", "meta")
_OUTPUT_FIELDS = ("continuation_id",)
# What a log or convmem's output adds to a turn: no part of it when it is recorded again.
NOT_TAKEN = ("seq", *_OUTPUT_FIELDS, "_b", "_c")
# The role of what nobody said: settings, progress, snapshots, titles. Kept, and seldom shown.
EVENT = "event"
# Nearly every turn is spoken by one of these: checked and encoded once.
_ROLES = {role: b'"%b"' % role.encode() for role in ("user", "assistant", "system", "tool")}


class Turn:
    """One turn, as read from a log. A copy: changing it changes nothing stored.

    Attributes:
        role: Who spoke: ``user``, ``assistant``, ``system``, ``tool``, or any short word.
        content: A string, or any JSON value.
        id: The turn's id; ``None`` for a line written by hand without one.
        seq: Its place in the one order of the conversation; ``None`` for a line written by hand.
        ts: When, as an aware UTC ``datetime``; ``None`` where the line says nothing readable.
        meta: The caller's own JSON object, or ``None``.
        extra: Every other key of the line, in its order (``raw`` among them).
    """

    # Not a dataclass: importing dataclasses takes as long as recording a turn from the shell.
    __slots__ = ("_stored_ts", "_ts", "content", "extra", "id", "meta", "role", "seq")

    role: str
    content: Any
    id: str | None
    seq: int | None
    meta: dict[str, Any] | None
    extra: dict[str, Any]
    _ts: datetime | None
    _stored_ts: Any  # what ``_ts`` is parsed from when somebody asks

    def __init__(
        self,
        role: str,
        content: Any,
        *,
        id: str | None = None,
        seq: int | None = None,
        ts: datetime | None = None,
        meta: dict[str, Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self.role = role
        self.content = content
        self.id = id
        self.seq = seq
        self._ts = ts
        self._stored_ts = None
        self.meta = meta
        self.extra = {} if extra is None else extra

    @property
    def ts(self) -> datetime | None:
        """When it was said. Parsed when asked for: it takes as long as all the rest of a turn."""
        stored = self._stored_ts
        if stored is not None:
            self._ts = parse_stored_time(stored)
            self._stored_ts = None
        return self._ts

    @ts.setter
    def ts(self, moment: datetime | None) -> None:
        self._stored_ts = None
        self._ts = moment

    @property
    def text(self) -> str:
        """The content as text: a string as it is, the text of content parts joined by newlines."""
        if isinstance(self.content, str):
            return self.content
        if isinstance(self.content, list):
            parts = (_part_text(part) for part in self.content)
            return "\n".join(part for part in parts if part)
        return _part_text(self.content)

    def as_dict(self) -> dict[str, Any]:
        """Return the turn as the JSON object that ``--json`` prints, without convmem's own keys."""
        shown: dict[str, Any] = {
            "id": self.id,
            "seq": self.seq,
            "ts": None if self.ts is None else format_time(self.ts),
            "role": self.role,
            "content": self.content,
        }
        if self.meta is not None:
            shown["meta"] = self.meta
        shown.update(self.extra)
        return shown

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Turn):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _ATTRIBUTES)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        text = repr(self.content)
        shown = text if len(text) <= 60 else text[:57] + "..."
        return f"Turn(seq={self.seq}, role={self.role!r}, content={shown}, id={self.id!r})"


_ATTRIBUTES = ("role", "content", "id", "seq", "ts", "meta", "extra")


def is_said(turn: Turn) -> bool:
    """Whether *turn* is for a model or a reader: no event of an import, and not scrubbed."""
    meta = turn.meta
    return meta is None or not (
        (turn.role == EVENT and "source" in meta) or (turn.content == "" and "scrubbed" in meta)
    )


def turn_from_object(value: Any) -> Turn | None:
    """Return the turn that a parsed line holds, or ``None`` if it is not one.

    A turn is an object with a text ``role`` and a ``content``; whatever else is odd about a line
    written by hand (no id, a time that nobody can read) leaves that field ``None``.
    """
    if type(value) is not dict:
        return None
    take = value.pop
    role = take("role", None)
    if type(role) is not str or not role or "content" not in value:
        return None
    turn_id, seq, meta = take("id", None), take("seq", None), take("meta", None)
    # Not by a call with names, which takes as long as all of this.
    turn = _new(Turn)
    turn.role = role
    turn.content = take("content")
    turn.id = turn_id if type(turn_id) is str and turn_id else None
    turn.seq = seq if type(seq) is int and 0 < seq < 1 << 53 else None
    turn._ts = None
    turn._stored_ts = take("ts", None)
    turn.meta = meta if type(meta) is dict else None
    take("_c", None)
    take("_b", None)
    if value:
        value = {key: item for key, item in value.items() if not key.startswith("_")}
    turn.extra = value
    # What does not fit its field is still the writer's: it must come out as it went in.
    if meta is not None and turn.meta is None:
        turn.extra["meta"] = meta
    return turn


_new = Turn.__new__


class Draft:
    """A checked turn that waits for its ``seq``.

    ``head`` and ``tail`` are its encoded line before and after ``"seq":…,"ts":"…",``.
    """

    __slots__ = (
        "content",
        "extra",
        "head",
        "id",
        "is_given",
        "meta",
        "role",
        "tail",
        "ts",
        "ts_text",
    )

    role: str
    content: Any
    id: str
    is_given: bool
    meta: dict[str, Any] | None
    extra: dict[str, Any]
    ts: datetime | None
    ts_text: str | None
    head: bytes
    tail: bytes

    def stored_as(self, seq: int, ts: datetime | None) -> Turn:
        """Return the turn that this draft became, stored at *ts* unless it had a time already."""
        turn = Turn(self.role, self.content, id=self.id, seq=seq, ts=self.ts or ts, meta=self.meta)
        if self.extra:
            turn.extra = dict(self.extra)
        return turn

    def says_the_same_as(self, turn: Turn) -> bool:
        """Whether a retry carries what was stored: role, content, meta and extra keys; not time."""
        return _substance(self.role, self.content, self.meta, self.extra) == _substance(
            turn.role, turn.content, turn.meta, turn.extra
        )


def draft(
    role: str,
    content: Any,
    *,
    id: str | None = None,
    meta: Mapping[str, Any] | None = None,
    ts: datetime | str | float | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Draft:
    """Check a turn and encode it. Costs what encoding its content costs; touches no file.

    Raises:
        InvalidTurn: The message names the field and what is wrong with it.
    """
    made = Draft()
    made.role = role
    role_json = _ROLES.get(role) if type(role) is str else None
    if role_json is None:
        role_json = _encoded(_checked_role(role), "role")
    made.is_given = id is not None
    if id is None:
        made.id = new_turn_id()
        made.head = b'{"id":"%b"' % made.id.encode()
    else:
        made.id = _checked_id(id)
        made.head = b'{"id":' + _encoded(made.id, "id")
    made.ts = made.ts_text = None
    if ts is not None:
        made.ts = _checked_time(ts)
        made.ts_text = format_time(made.ts)
    made.content = content if isinstance(content, str) else json_copy(content, "content")
    tail = b'"role":%b,"content":%b' % (role_json, _encoded(made.content, "content"))
    made.meta = None
    if meta is not None:
        made.meta = _checked_meta(meta)
        tail += b',"meta":' + _encoded(made.meta, "meta")
    made.extra = {}
    if extra:
        made.extra = _checked_extra(extra)
        parts = [tail]
        for key, value in made.extra.items():
            parts += [b",", _encoded(key, "key"), b":", _encoded(value, key)]
        tail = b"".join(parts)
    made.tail = tail
    if len(tail) > MAX_TURN_BYTES:
        raise InvalidTurn(
            f"a turn of {len(made.tail):,} bytes is too long",
            hint=f"at most {MAX_TURN_BYTES:,} bytes; keep large attachments in files of their own",
        )
    return made


def draft_from_turn(turn: Turn) -> Draft:
    """Return *turn* on its way into a log: its ``seq`` is given anew, all else is kept."""
    return draft(turn.role, turn.content, id=turn.id, meta=turn.meta, ts=turn.ts, extra=turn.extra)


def draft_from_object(value: Any) -> Draft:
    """Return the draft of a turn object such as ``record --jsonl`` and ``record_many`` take.

    ``role`` and ``content`` are needed; ``id``, ``ts`` and ``meta`` are optional; any other key
    is kept. ``seq`` and ``continuation_id``, which ``tail --json`` prints, and the marks of a
    log's own line are dropped, so that what was read can be recorded again.

    Raises:
        InvalidTurn: It is not an object, lacks a field, or has a field that cannot be stored.
    """
    # By its methods, since importing the abstract class costs more than the check.
    if not hasattr(value, "items"):
        raise InvalidTurn(f"a turn is a JSON object, not {_kind(value)}")
    given = dict(value.items())
    for name in ("role", "content"):
        if name not in given:
            raise InvalidTurn(f'a turn needs "{name}"')
    for name in NOT_TAKEN:
        given.pop(name, None)
    return draft(
        given.pop("role"),
        given.pop("content"),
        id=given.pop("id", None),
        meta=given.pop("meta", None),
        ts=given.pop("ts", None),
        extra=given,
    )


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        for key in ("text", "content", "value"):
            if isinstance(part.get(key), str):
                return str(part[key])
    return "" if part is None else str(jsontext.dumps(part), "utf-8")


def _substance(role: str, content: Any, meta: Any, extra: Mapping[str, Any]) -> bytes:
    return jsontext.canonical([role, content, meta, dict(extra)])


def _checked_role(role: Any) -> str:
    if not isinstance(role, str) or not role:
        raise InvalidTurn(f"role must be a short word, not {_kind(role)}")
    if len(role) > MAX_ROLE_CHARACTERS or not role.isprintable() or role != role.strip():
        raise InvalidTurn(
            f"role {role[:MAX_ROLE_CHARACTERS]!r} is not a short word",
            hint=f"printable, at most {MAX_ROLE_CHARACTERS} characters, such as user or assistant",
        )
    return role


def _checked_id(turn_id: Any) -> str:
    if not isinstance(turn_id, str) or not turn_id:
        raise InvalidTurn(f"id must be text that is not empty, not {_kind(turn_id)}")
    if len(_encoded(turn_id, "id")) - 2 > MAX_TURN_ID_BYTES:
        raise InvalidTurn(f"id is too long: at most {MAX_TURN_ID_BYTES:,} bytes")
    return turn_id


def _checked_meta(meta: Any) -> dict[str, Any]:
    if not hasattr(meta, "items"):
        raise InvalidTurn(f"meta must be a JSON object, not {_kind(meta)}")
    copied: dict[str, Any] = json_copy(dict(meta.items()), "meta")
    return copied


def _checked_time(ts: Any) -> datetime:
    if isinstance(ts, datetime):
        if ts.tzinfo is None:
            raise InvalidTurn(
                "ts has no time zone", hint="give an aware datetime, such as datetime.now(UTC)"
            )
        moment = parse_stored_time(ts.isoformat())  # none where UTC leaves the years 1 to 9999
    else:
        moment = parse_stored_time(ts)
    if moment is None:
        raise InvalidTurn(
            f"ts {ts!r} is not a point in time",
            hint="ISO 8601 such as 2026-11-21T09:00:00Z, or seconds since 1970",
        )
    return moment


def _checked_extra(extra: Mapping[str, Any]) -> dict[str, Any]:
    for key in extra:
        if not isinstance(key, str):
            raise InvalidTurn(f"a key must be text, not {_kind(key)}")
        if key.startswith("_"):
            raise InvalidTurn(
                f"key {key!r} is reserved", hint="keys that begin with _ belong to convmem"
            )
        if key in FIELDS or key in _OUTPUT_FIELDS:
            raise InvalidTurn(f"key {key!r} is convmem's own and cannot be an extra key")
    copied: dict[str, Any] = json_copy(dict(extra), "turn")
    return copied


def json_copy(value: Any, where: str) -> Any:
    """Return a copy of *value* that holds JSON types only, so that nothing is turned silently.

    Encoders are lenient in ways that lose content: NaN becomes null, a number as a key becomes
    text, a datetime becomes a string. Here each is an error that names its place.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int) and not hasattr(value, "value"):
        return value
    if isinstance(value, float):
        if value - value != 0.0:
            raise InvalidTurn(f"{where}: {value} is not a JSON number")
        return value
    try:
        if isinstance(value, list | tuple):
            return [json_copy(item, f"{where}[{at}]") for at, item in enumerate(value)]
        if isinstance(value, dict):
            return {_text_key(key, where): json_copy(value[key], f"{where}.{key}") for key in value}
    except RecursionError:
        raise InvalidTurn(f"{where[:40]}…: nested too deeply") from None
    raise InvalidTurn(
        f"{where}: {_kind(value)} is not a JSON value",
        hint="use text, numbers, true, false, null, lists and objects with text keys",
    )


def _text_key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise InvalidTurn(f"{where}: a key must be text, not {_kind(key)}")
    return key


def _encoded(value: Any, where: str) -> bytes:
    try:
        return jsontext.dumps(value)
    except jsontext.NotJson as error:
        raise InvalidTurn(f"{where}: {error}") from None


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if value == "":
        return "empty text"
    return type(value).__name__


def draft_of(item: Any) -> Draft:
    """Return the draft of a ``Turn``, an object, or a ``(role, content)`` pair."""
    if isinstance(item, Turn):
        return draft_from_turn(item)
    if isinstance(item, tuple) and len(item) == 2:
        return draft(item[0], item[1])
    return draft_from_object(item)


def drafts_from(turns: Iterable[Any]) -> list[Draft]:
    """Return drafts of *turns*, each as ``draft_of`` takes it.

    Raises:
        InvalidTurn: Its message names the number of the turn at fault, from 0.
    """
    made = []
    for at, item in enumerate(turns):
        try:
            made.append(draft_of(item))
        except InvalidTurn as error:
            raise InvalidTurn(f"turn {at}: {error}", hint=error.hint) from None
    return made
