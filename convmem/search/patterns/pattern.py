"""Patterns: what is looked for, as a regular expression or letter by letter, and in which case.

All small letters find any case, a capital among them only itself, unless told otherwise. Case is
that of Unicode; accents count.
"""

from __future__ import annotations

import re
import warnings

from convmem.errors import UsageError

# Letters of a pattern that stand for no letter of a text: escapes, and the names of groups.
_NO_LETTERS = re.compile(
    r"\\(?:x..|u....|U........|N\{[^}]*\}|.)|\(\?P[<=>]\w*|\(\?[aiLmsux-]+", re.S
)
_META = frozenset(r".^$*+?{}[]\|()")
_REPEATED = re.compile(r"\{\d*(?:,\d*)?\}")
# Escapes that stand for no text of their own, or for one of many letters.
_CLASSES = frozenset("dDwWsSbBAZ")


class Pattern:
    """What to look for.

    Attributes:
        regex: The same as a regular expression; ``^`` and ``$`` stand for the ends of lines.
        literal: A piece of text within one line that every match holds, in some case where
            *ignores_case*; empty where none is known.
        ignores_case: Whether small letters and capitals are the same.
    """

    __slots__ = ("ignores_case", "literal", "regex")

    def __init__(self, regex: re.Pattern[str], literal: str, *, ignores_case: bool) -> None:
        self.regex = regex
        self.literal = literal
        self.ignores_case = ignores_case

    @classmethod
    def of(
        cls,
        given: str | re.Pattern[str],
        *,
        ignore_case: bool | None = None,
        fixed: bool = False,
    ) -> Pattern:
        """Return the pattern that *given* is.

        Args:
            given: A regular expression as Python has them, or a compiled one, which has its own
                flags.
            ignore_case: ``None``: where no letter of it is a capital.
            fixed: It is no regular expression but the text itself.

        Raises:
            UsageError: It is no regular expression; the message says where it goes wrong.
        """
        if isinstance(given, re.Pattern):
            if fixed or ignore_case is not None:
                raise UsageError("a compiled pattern has its own flags")
            if not isinstance(given.pattern, str):
                raise UsageError("a pattern is text, not bytes")
            is_verbose = bool(given.flags & re.VERBOSE)
            literal = "" if is_verbose else _longest_line(_required(given.pattern))
            return cls(given, literal, ignores_case=bool(given.flags & re.IGNORECASE))
        if not isinstance(given, str):
            raise UsageError(f"a pattern is text, not {type(given).__name__}")
        if ignore_case is None:
            ignore_case = not _has_capitals(given, fixed=fixed)
        source = re.escape(given) if fixed else given
        flags = re.MULTILINE | (re.IGNORECASE if ignore_case else 0)
        regex = _compiled(source, flags)
        pieces = [given] if fixed else _required(given)
        is_folded = bool(regex.flags & re.IGNORECASE)  # also by a flag within the pattern
        return cls(regex, _longest_line(pieces), ignores_case=is_folded)


def _has_capitals(given: str, *, fixed: bool) -> bool:
    letters = given if fixed else _NO_LETTERS.sub("", given)
    return any(map(str.isupper, letters))


def _compiled(source: str, flags: int) -> re.Pattern[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "possible nested set": it means today what it says
            return re.compile(source, flags)
    except re.error as error:
        where = "" if error.pos is None else f" at character {error.pos + 1}"
        raise UsageError(
            f"the pattern is no regular expression: {error.msg}{where}",
            hint="to look for these very letters: -F, fixed=True",
        ) from None
    except (OverflowError, RecursionError) as error:
        raise UsageError(f"the pattern cannot be used: {error}") from None


def _required(source: str) -> list[str]:
    """Return pieces of text that every match of a regular expression holds.

    Sees what stands outside groups, classes and repetitions; none where it is not certain.
    """
    pieces: list[str] = []
    piece: list[str] = []

    def ends() -> None:
        if piece:
            pieces.append("".join(piece))
            piece.clear()

    at = 0
    while at < len(source):
        letter = source[at]
        at += 1
        if letter not in _META:
            piece.append(letter)
        elif letter == "\\":
            escaped = source[at : at + 1]
            at += 1
            if escaped in _CLASSES:
                ends()
            elif escaped.isalnum():  # a reference, or a letter by its number
                return []
            else:
                piece.append(escaped)
        elif letter in "*?{":
            # What is repeated need not be there. A brace may also be one.
            if piece:
                piece.pop()
            ends()
            found = _REPEATED.match(source, at - 1) if letter == "{" else None
            if found is not None:
                at = found.end()
        elif letter == "|":
            return []
        elif letter == "[":
            ends()
            at = _behind_class(source, at)
        elif letter == "(":
            ends()
            behind = _behind_group(source, at)
            if behind is None:
                return []
            at = behind
        else:  # + . ^ $ ) ] }
            ends()
    ends()
    return pieces


def _behind_class(source: str, at: int) -> int:
    """Return where the class ends of which the bracket stands before *at*."""
    if source[at : at + 1] == "^":
        at += 1
    if source[at : at + 1] == "]":
        at += 1  # as the first letter it is one of the class
    while at < len(source) and source[at] != "]":
        at += 2 if source[at] == "\\" else 1
    return at + 1


def _behind_group(source: str, at: int) -> int | None:
    """Return where the group ends of which the parenthesis stands before *at*.

    ``None`` where it changes what stands behind it, or cannot be followed.
    """
    if source[at : at + 1] == "?" and source[at + 1 : at + 2] not in tuple(":P=!<>("):
        return None  # flags, or a comment
    depth = 1
    while at < len(source):
        letter = source[at]
        at += 1
        if letter == "\\":
            at += 1
        elif letter == "[":
            at = _behind_class(source, at)
        elif letter == "(":
            if source[at : at + 2] == "?#":
                return None
            depth += 1
        elif letter == ")":
            depth -= 1
            if not depth:
                return at
    return None


def _longest_line(pieces: list[str]) -> str:
    """Return the longest text in *pieces* without a newline: a turn's text is several, joined."""
    lines = [line for piece in pieces for line in piece.split("\n")]
    longest = max(lines, key=len, default="")
    try:
        longest.encode()
    except UnicodeEncodeError:
        return ""  # half a character: no text of a turn holds it
    return longest
