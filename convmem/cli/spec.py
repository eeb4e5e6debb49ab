"""What a verb is: its words, its flags, its help, and where its function lives.

One definition serves two readers: `fast` (a small parser, no Typer) and `typed` (help, errors,
completion). Every value reaches the verb's function as ``str | None``, ``bool`` or ``list[str]``;
turning "90d" into a duration is the function's work, so that both readers behave alike.

This module is on the way of every cold start: it imports nothing, and its classes are written
out by hand because `dataclasses` alone would double the start-up time.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Literal

    Takes = Literal["flag", "text", "many"]
    Value = str | bool | list[str] | None
    Values = dict[str, Value]


class _Plain:
    """Equality and a readable form, from the slots."""

    __slots__: tuple[str, ...] = ()

    def _fields(self) -> Iterator[tuple[str, object]]:
        return ((slot, getattr(self, slot)) for slot in self.__slots__)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return dict(self._fields()) == dict(other._fields())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self._fields())
        return f"{type(self).__name__}({shown})"


class Argument(_Plain):
    """A word that stands by its place, such as ``ID``.

    ``name`` is the keyword the function gets it under. With ``many`` it takes all words that are
    left, so it must be the last one. ``complete`` names a function ``"module:function"`` that
    turns what was typed so far into a list of words; for it, the environment's CONVMEM_ARCHIVE
    and CONVMEM_NAMESPACE are those of the line being typed.
    """

    __slots__ = ("complete", "help", "many", "metavar", "name", "required")

    def __init__(
        self,
        name: str,
        help: str,
        *,
        metavar: str | None = None,
        required: bool = True,
        many: bool = False,
        complete: str | None = None,
    ) -> None:
        self.name = name
        self.help = help
        self.metavar = metavar or name.upper()
        self.required = required
        self.many = many
        self.complete = complete


class Option(_Plain):
    """A flag, with or without a value.

    ``takes`` is ``"flag"`` (on or off), ``"text"`` (one value, the last one wins) or ``"many"``
    (each one counts). A value outside ``choices`` is wrong usage.
    """

    __slots__ = ("choices", "complete", "default", "flags", "help", "metavar", "name", "takes")

    def __init__(
        self,
        name: str,
        flags: tuple[str, ...],
        help: str,
        *,
        takes: Takes = "flag",
        metavar: str | None = None,
        default: str | None = None,
        choices: tuple[str, ...] | None = None,
        complete: str | None = None,
    ) -> None:
        self.name = name
        self.flags = flags
        self.help = help
        self.takes = takes
        self.metavar = metavar or ("|".join(choices) if choices else name.upper())
        self.default = default
        self.choices = choices
        self.complete = complete


class Verb(_Plain):
    """One command: ``target`` is ``"module:function"``, imported only when the verb is used.

    ``description`` is the long help: paragraphs parted by an empty line; a paragraph whose lines
    begin with a space keeps its layout. With ``has_minus_words`` a word such as ``-train`` is one
    of the arguments, and short flags stand alone; see ``fast.with_minus_words_behind``. With
    ``ends_with_command`` its last argument is a command line with flags of its own; see
    ``fast.with_command_behind``.
    """

    __slots__ = (
        "arguments",
        "description",
        "ends_with_command",
        "has_minus_words",
        "hidden",
        "name",
        "options",
        "short",
        "target",
    )

    def __init__(
        self,
        name: str,
        short: str,
        description: str,
        *,
        target: str,
        arguments: tuple[Argument, ...] = (),
        options: tuple[Option, ...] = (),
        hidden: bool = False,
        has_minus_words: bool = False,
        ends_with_command: bool = False,
    ) -> None:
        self.name = name
        self.short = short
        self.description = description
        self.target = target
        self.arguments = arguments
        self.options = options
        self.hidden = hidden
        self.has_minus_words = has_minus_words
        self.ends_with_command = ends_with_command


class Context(_Plain):
    """What every verb gets as its first argument: where to work and how to answer.

    ``archive`` and ``namespace`` are what the flags said, ``None`` where they were not given; the
    environment's say is in ``env``, which is the only place a verb takes it from.
    """

    __slots__ = ("archive", "env", "json", "namespace")

    def __init__(
        self,
        *,
        archive: str | None = None,
        namespace: str | None = None,
        json: bool = False,
        env: Mapping[str, str],
    ) -> None:
        self.archive = archive
        self.namespace = namespace
        self.json = json
        self.env = env


COMMON = (
    Option(
        "archive",
        ("-A", "--archive"),
        "The archive to work in. Else CONVMEM_ARCHIVE, else the platform's data folder.",
        takes="text",
        metavar="DIR",
    ),
    Option(
        "namespace",
        ("-N", "--namespace"),
        'The tenant within the archive. Else CONVMEM_NAMESPACE, else "default".',
        takes="text",
        metavar="NAME",
    ),
)
"""Taken before the verb and after it; where both are given, the one after wins."""


def request(verb: Verb, given: Values, outer: Values, env: Mapping[str, str]) -> Request:
    """Make what the verb's function gets out of what was given, after and before the verb.

    Both readers end here, so defaults, lists and the common options cannot differ between them.
    """
    values: Values = {}
    for argument in verb.arguments:
        value = given.get(argument.name)
        values[argument.name] = (value or []) if argument.many else value
    for option in verb.options:
        value = given.get(option.name)
        if option.takes == "flag":
            value = bool(value)
        elif option.takes == "many":
            value = value or []
        elif value is None:
            value = option.default
        values[option.name] = value
    places = {}
    for option in COMMON:
        place = given.get(option.name)
        places[option.name] = outer.get(option.name) if place is None else place
    context = Context(**places, json=values.get("json") is True, env=env)  # type: ignore[arg-type]
    return verb, context, values


if TYPE_CHECKING:
    Request = tuple[Verb, Context, Values]
