"""Thresholds: every setting with its kind, its bounds and its default, and how values are read."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_DAY = 86_400.0


class Setting:
    """One setting: its name with its table, what it may be, and what it is if nobody says.

    ``kind`` is ``"duration"`` (seconds), ``"size"`` (bytes), ``"count"``, ``"word"`` (one of
    *choices*), ``"text"`` or ``"switch"``.
    """

    __slots__ = ("choices", "default", "doc", "kind", "least", "most", "name", "variable")

    def __init__(
        self,
        name: str,
        kind: str,
        default: float | int | str,
        variable: str,
        doc: str,
        *,
        least: float = 0,
        most: float = float("inf"),
        choices: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.variable = variable
        self.doc = doc
        self.least = least
        self.most = most
        self.choices = choices


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting(
            "sync",
            "word",
            "always",
            "CONVMEM_SYNC",
            "when recorded turns are forced to the disk: before each answer, now and then, never",
            choices=("always", "interval", "none"),
        ),
        Setting(
            "interval_turns",
            "count",
            100,
            "CONVMEM_INTERVAL_TURNS",
            "with sync interval: after so many turns at the latest",
            least=1,
            most=1_000_000,
        ),
        Setting(
            "interval_time",
            "duration",
            1.0,
            "CONVMEM_INTERVAL_TIME",
            "with sync interval: after this time at the latest",
            least=0.001,
            most=3600,
        ),
        Setting(
            "lock_timeout",
            "duration",
            10.0,
            "CONVMEM_LOCK_TIMEOUT",
            "how long to wait for other writers of a conversation",
            most=_DAY,
        ),
        Setting(
            "remember",
            "duration",
            _DAY,
            "CONVMEM_REMEMBER",
            "how long the ids of dropped turns are remembered, so that a late retry is not stored",
            most=3660 * _DAY,
        ),
        Setting(
            "jobs",
            "count",
            0,
            "CONVMEM_JOBS",
            "how many conversations compact --all works on at a time; 0: one for each core",
            most=1024,
        ),
        Setting(
            "summarize_timeout",
            "duration",
            600.0,
            "CONVMEM_SUMMARIZE_TIMEOUT",
            "how long the command of compact --summarize-with may take",
            least=0.001,
            most=_DAY,
        ),
        Setting(
            "context.max_tokens",
            "count",
            8000,
            "CONVMEM_CONTEXT_MAX_TOKENS",
            "how many tokens context gives at most",
            least=1,
        ),
        Setting(
            "health.min_free",
            "size",
            1 << 30,
            "CONVMEM_HEALTH_MIN_FREE",
            "health is degraded with less free space than this",
        ),
        Setting(
            "health.min_free_fatal",
            "size",
            100 << 20,
            "CONVMEM_HEALTH_MIN_FREE_FATAL",
            "health is unhealthy with less free space than this",
        ),
        Setting(
            "health.lock_held",
            "duration",
            2.0,
            "CONVMEM_HEALTH_LOCK_HELD",
            "health names a lock that is held for longer than this without a pause",
            most=3600,
        ),
        Setting(
            "search.semantic",
            "switch",
            False,
            "CONVMEM_SEMANTIC",
            "whether search finds turns of like meaning, too, as with --semantic",
        ),
        Setting(
            "search.embedder",
            "text",
            "minilm",
            "CONVMEM_EMBEDDER",
            "what makes vectors: minilm, the address of an endpoint, or a plug's name",
        ),
        Setting(
            "output.pager",
            "word",
            "auto",
            "CONVMEM_PAGER",
            "whether show goes through a pager on a terminal",
            choices=("auto", "never"),
        ),
        Setting(
            "output.log",
            "word",
            "off",
            "CONVMEM_LOG",
            "structured log lines on standard error",
            choices=("off", "json"),
        ),
    )
}


class Wrong(ValueError):
    """A value is not what it must be. ``str`` goes on after its name: ``must be …``."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def checked(setting: Setting, value: Any, *, is_typed: bool = False) -> float | int | str:
    """Return the value of *setting* that *value* stands for; *is_typed* is text that somebody
    typed, where TOML has numbers.

    Raises:
        Wrong: It stands for none.
    """
    if setting.kind == "word":
        if value not in setting.choices:
            near = nearest(value, setting.choices) if isinstance(value, str) else None
            raise Wrong(
                f"must be {' or '.join(setting.choices)}, not {_typed(value)}",
                f"did you mean {near}?" if near else None,
            )
        return str(value)
    if setting.kind == "switch":
        return _switch(value, is_typed=is_typed)
    if setting.kind == "text":
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise Wrong(f"must be some text on one line, not {_typed(value)}")
        return value.strip()
    if setting.kind == "count" and is_typed and value.isascii() and value.isdecimal():
        value = int(value[:20])
    read = quantity(setting.kind, value)
    if not setting.least <= read <= setting.most:
        bound, limit = ("least", setting.least) if read < setting.least else ("most", setting.most)
        raise Wrong(f"must be at {bound} {shown(setting.kind, limit)}, not {_typed(value)}")
    return read


def _switch(value: Any, *, is_typed: bool) -> bool:
    if is_typed:
        value = {"true": True, "1": True, "false": False, "0": False}.get(value.lower(), value)
    if not isinstance(value, bool):
        raise Wrong(f"must be true or false, not {_typed(value)}")
    return value


def quantity(kind: str, value: Any) -> float | int:
    """Return the seconds, bytes or number that *value* stands for in a TOML file.

    Raises:
        Wrong: It is no such thing, or negative.
    """
    if kind == "count" or (kind == "size" and type(value) is int):
        if type(value) is not int or not 0 <= value < 2**63:
            raise Wrong(f"must be a whole number, 0 or more, not {_typed(value)}")
        return value
    example = "10s" if kind == "duration" else "50M"
    if not isinstance(value, str):
        raise Wrong(
            f"must be a {kind} in quotes, not {_typed(value)}", f'write it as in "{example}"'
        )
    from convmem.quantities import QuantityError, parse_duration, parse_size

    try:
        return parse_duration(value) if kind == "duration" else parse_size(value)
    except QuantityError as error:
        raise Wrong(f"must be a {kind}: {error}", error.hint or None) from None


def shown(kind: str, value: float | int | str) -> str:
    """Return a value as people read it, and as they would type it."""
    from convmem.quantities import format_duration, format_size

    if kind == "duration":
        assert not isinstance(value, str)
        # A year is 365.25 days; nobody who wrote 2y recognises 730d 12h.
        for name, size in (("y", 365.25 * _DAY), ("mo", 30.44 * _DAY)):
            if value and value % size == 0:
                return f"{int(value / size)}{name}"
        return format_duration(value)
    if kind == "size":
        assert not isinstance(value, str)
        return format_size(int(value))
    if kind == "switch":
        return str(bool(value)).lower()
    return str(int(value)) if isinstance(value, float) else str(value)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of *known* that *word* was most likely meant to be, or ``None``."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, list(known), n=1)), None)


def _typed(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, int | float | str):
        return {"dict": "a table", "list": "an array"}.get(type(value).__name__, "a time")
    word = repr(value)
    return word if len(word) <= 60 else f"{word[:60]}…"
