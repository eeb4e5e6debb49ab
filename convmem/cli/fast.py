"""The short way in: reads plain command lines without Typer, and leaves all else to it.

Loading Typer costs more than recording a turn. So exact shapes are read here, and `None` means
"not mine": a wrong flag, a missing word, ``--help``, bundled flags (``-fq``), attached values
(``-n5``), completion. Whatever is read here, Typer would read the same way; a test holds that.
"""

from __future__ import annotations

from convmem.cli.spec import COMMON, request
from convmem.cli.verbs import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convmem.cli.spec import Option, Request, Values, Verb
    from convmem.cli.verbs import Verbs

COMPLETE = "_CONVMEM_COMPLETE"
"""Set by the shell's completion script: the words are then not a command to run."""


def parse(words: Sequence[str], env: Mapping[str, str], table: Verbs = TABLE) -> Request | None:
    """Return the verb, its context and its values, or ``None`` where only Typer can tell."""
    if COMPLETE in env:
        return None
    outer: Values = {}
    at = _read(words, 0, _by_flag(COMMON), outer, None)
    if at is None or at == len(words):
        return None
    verb = table.get(words[at])
    if verb is None:
        return None
    words = with_loose_words_behind(verb, words, at + 1)
    given: Values = {}
    loose: list[str] = []
    if _read(words, at + 1, _by_flag(COMMON + verb.options), given, loose) is None:
        return None
    if not _place(verb, loose, given):
        return None
    return request(verb, given, outer, env)


def verb_in(words: Sequence[str], table: Verbs) -> tuple[int, Verb] | None:
    """Return where the verb stands among *words*, and which; ``None`` where only Typer can tell."""
    at = _read(words, 0, _by_flag(COMMON), {}, None)
    verb = None if at is None or at == len(words) else table.get(words[at])
    return None if at is None or verb is None else (at, verb)


def with_loose_words_behind(verb: Verb, words: Sequence[str], start: int) -> Sequence[str]:
    """Return *words* with ``--`` before those that only look like flags of *verb*.

    Both readers call this first, so that they agree on what is a flag.
    """
    if verb.has_minus_words:
        return with_minus_words_behind(verb, words, start)
    if verb.ends_with_command:
        return with_command_behind(verb, words, start)
    return words


def with_minus_words_behind(verb: Verb, words: Sequence[str], start: int) -> Sequence[str]:
    """Return *words* with those such as ``-train`` moved to the end, behind ``--``.

    Both readers call this first, so that neither takes ``-rain`` for ``-r ain``. A number may
    still stand right behind its flag, as in ``-n5``.
    """
    flags = _by_flag(COMMON + verb.options)
    kept = list(words[:start])
    minus: list[str] = []
    at = start
    while at < len(words) and words[at] != "--":
        word = words[at]
        option = flags.get(word)
        if option is not None and option.takes != "flag":
            kept += words[at : at + 2]
            at += 2
            continue
        at += 1
        is_flag = word in flags or word[:2] == "--" or len(word) < 3 or word[0] != "-"
        if is_flag or (word[:2] in flags and word[2:].isdecimal()):
            kept.append(word)
        else:
            minus.append(word)
    if not minus:
        return words
    return [*kept, "--", *minus, *words[at + 1 :]]


def with_command_behind(verb: Verb, words: Sequence[str], start: int) -> Sequence[str]:
    """Return *words* with ``--`` before the first word of the command, as ``env`` and others do.

    So a flag of the command is never taken for one of ours.
    """
    flags = _by_flag(COMMON + verb.options)
    loose = 0
    at = start
    while at < len(words) and words[at] != "--":
        word = words[at]
        option = flags.get(word)
        if option is not None and option.takes != "flag":
            at += 2
            continue
        if word[:1] != "-" or word == "-":
            if loose == len(verb.arguments) - 1:
                return [*words[:at], "--", *words[at:]]
            loose += 1
        at += 1
    return words


def _by_flag(options: Sequence[Option]) -> dict[str, Option]:
    return {flag: option for option in options for flag in option.flags}


def _read(
    words: Sequence[str],
    at: int,
    flags: Mapping[str, Option],
    values: Values,
    loose: list[str] | None,
) -> int | None:
    """Read flags into *values* from place *at* on, and return the place after the last one.

    Words that are no flags go to *loose*; where that is ``None``, the first of them ends the
    reading. ``None`` means that something unusual was met.
    """
    end = len(words)
    while at < end:
        word = words[at]
        if word[:1] != "-" or word == "-":
            if loose is None:
                return at
            loose.append(word)
            at += 1
            continue
        if word == "--":
            if loose is None:
                return None
            loose.extend(words[at + 1 :])
            return end
        at += 1
        option = flags.get(word)
        if option is not None and option.takes == "flag":
            values[option.name] = True
            continue
        if option is not None:
            if at == end:
                return None
            value = words[at]  # whatever it looks like, even "-3" or "--json"
            at += 1
        else:
            name, equals, value = word.partition("=")
            option = flags.get(name)
            if not equals or option is None or option.takes == "flag" or word[:2] != "--":
                return None
        if option.choices is not None and value not in option.choices:
            return None
        if option.takes == "many":
            many = values.setdefault(option.name, [])
            assert isinstance(many, list)
            many.append(value)
        else:
            values[option.name] = value
    return at


def _place(verb: Verb, loose: list[str], values: Values) -> bool:
    """Give the words their names. False when there are too few or too many."""
    at = 0
    for argument in verb.arguments:
        if argument.required and at >= len(loose):
            return False
        if argument.many:
            values[argument.name] = loose[at:]
            at = len(loose)
        elif at < len(loose):
            values[argument.name] = loose[at]
            at += 1
    return at >= len(loose)
