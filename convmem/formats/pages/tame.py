"""Markdown from strangers that stays in its section: no heading of ours, no HTML, no open fence.

What is said stays Markdown and reads as before. Headings go two levels down, so that what begins
with one or two ``#`` is the export's own; HTML, pictures and definitions of links get a backslash,
since a comment or a definition would reach into the turns around it.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.rules_block import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from markdown_it.token import Token

MAX_LETTERS = 64 * 1024
"""Longer text is not parsed: it is given in a fence."""

_RUN = re.compile(r"`+")
_HEADING = re.compile(r"^([ \t>*+\-0-9.)]*?)(#{1,6})(?=[ \t]|$)")
_UNDERLINE = re.compile(r"^([ \t>]*)(=+[ \t]*|-+[ \t]*)$")
_DASHES = re.compile(r"[ \t>]*-+[ \t]*")
# A tag, a comment, a picture, and the colon of a definition or a footnote.
_REACHES = re.compile(r"(\\*)(<(?=[A-Za-z/!?])|!(?=\[)|(?<=\]):)")
_WORD = re.compile(r"\S+")
_IN_BRACKETS = re.compile(r"<https?://[^\s<>`|]*>[.,;:)]*", re.I)
# What GitHub makes a link of without any brackets, up to a space or a bracket.
_ADDRESS = re.compile(r"(?:://|www\.|mailto:|xmpp:)\S*$", re.I)
# The line below a table's head is one of these; so are others, since viewers differ.
_WORDLESS = re.compile(r"^[^\w\n`<]*+$", re.M)


def tame(text: str) -> str:
    """Return *text*, visible already, as Markdown that ends where it ends, without a newline."""
    text = text.strip("\n")
    if len(text) > MAX_LETTERS:
        return fenced(text)
    lines = text.split("\n")
    tokens = _parsed(lines, _WITHOUT_TABLES)
    verbatim = _verbatim(tokens)
    has_tables = "|" in text and any("-" in found[0] for found in _WORDLESS.finditer(text))
    if has_tables:
        # Some viewers know no tables, others look for them before or after all else. Where that
        # makes a difference to what is code, the text cannot be made safe for all.
        if _verbatim(_parsed(lines, _TABLES_FIRST)) != verbatim:
            return fenced(text)
        tokens = _parsed(lines, _TABLES_LAST)
        if _verbatim(tokens) != verbatim:
            return fenced(text)
    # What the parser took for a paragraph stays one, so nothing after it changes its meaning.
    loose = [number for number in range(len(lines)) if number not in verbatim]
    for number in loose:
        lines[number] = _HEADING.sub(_lowered, lines[number])
        if has_tables and number and _DASHES.fullmatch(lines[number]):
            # A list below a table for some, a heading for those who see no table.
            lines[number] = lines[number].replace("-", "*")
    left = set(loose)
    for token in tokens:
        if token.map is None or token.map[0] not in left:
            continue
        start, end = token.map[0], min(token.map[1], len(lines))
        if token.type == "hr" and _DASHES.fullmatch(lines[start]):
            # Below a sentence dashes would make it a heading.
            lines[start] = lines[start].replace("-", "*")
        elif token.type in ("inline", "table_open"):
            for number in range(start + 1, end):
                lines[number] = _UNDERLINE.sub(r"\1\\\2", lines[number])
            lines[start:end] = _without_reach(lines[start:end], has_tables=has_tables)
            left.difference_update(range(start, end))
    for number in left:
        lines[number : number + 1] = _without_reach([lines[number]], has_tables=has_tables)
    last = tokens[-1]
    if last.type == "fence":  # it was never closed, and has taken the end
        lines.append(last.markup)
    return "\n".join(lines)


def fenced(text: str, language: str = "") -> str:
    """Return *text* in a fence that nothing in it can close."""
    longest = max(map(len, _RUN.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def inline(text: str) -> str:
    """Return one line of *text* for a heading or a sentence of ours: it reads as it is written."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!&$])", r"\\\1", text)


def code(text: str) -> str:
    """Return one line of *text* as code in a sentence."""
    longest = max(map(len, _RUN.findall(text)), default=0)
    ticks = "`" * (longest + 1)
    space = " " if text[:1] in ("`", " ", "") or text[-1:] in ("`", " ") else ""
    return f"{ticks}{space}{text}{space}{ticks}"


def _lowered(found: re.Match[str]) -> str:
    return f"{found[1]}{'#' * min(6, len(found[2]) + 2)}"


def _without_reach(lines: list[str], *, has_tables: bool) -> list[str]:
    """Return the lines of a paragraph or a table with nothing in them that reaches further.

    Code on one line stays as it is. A backtick that nothing on its line closes may open code that
    ends on a later one; from there on nothing counts as code. Nor does one in an address, which
    GitHub takes as a part of it, nor one with a bar where that may be the end of a table's cell.
    """
    made = []
    is_open = False
    for line in lines:
        pieces: list[str] = []
        at = 0
        while not is_open and (found := _RUN.search(line, at)):
            start = found.start()
            end = _closing(line, found)
            # Or not escaped after all: counting is not worth it.
            is_escaped = line[start - 1 : start] == "\\"
            is_in_address = _is_address(line, start)
            if end < 0 or is_escaped or is_in_address or (has_tables and "|" in line[start:end]):
                is_open = True
                break
            pieces += [_escaped(line[at:start]), line[start:end]]
            at = end
        made.append("".join([*pieces, _escaped(line[at:])]))
    return made


def _is_address(line: str, end: int) -> bool:
    """Whether what stands before *end*, up to a space, may be an address."""
    least = max(0, end - 4000)
    start = max(line.rfind(" ", least, end), line.rfind("\t", least, end)) + 1
    if start == 0 and least > 0:
        return True  # too long to tell
    return _ADDRESS.search(line[start:end]) is not None


def _closing(line: str, opening: re.Match[str]) -> int:
    for found in _RUN.finditer(line, opening.end()):
        if len(found[0]) == len(opening[0]):
            return found.end()
    return -1


def _escaped(text: str) -> str:
    return _WORD.sub(_escaped_word, text)


def _escaped_word(found: re.Match[str]) -> str:
    word = found[0]
    if _IN_BRACKETS.fullmatch(word):
        return word
    # In what GitHub makes a link of, a backslash is one more letter.
    return _REACHES.sub(_as_entity if _ADDRESS.search(word) else _kept, word)


def _as_entity(found: re.Match[str]) -> str:
    return f"{found[1]}&lt;" if found[2] == "<" else _kept(found)


def _kept(found: re.Match[str]) -> str:
    # A backslash more would take away the meaning of one that is there.
    return found[0] if len(found[1]) % 2 else f"{found[1]}\\{found[2]}"


_WITHOUT_TABLES, _TABLES_FIRST, _TABLES_LAST = range(3)
_made: list[MarkdownIt] = []


def _parsed(lines: list[str], kind: int) -> list[Token]:
    if not _made:
        for _ in range(3):
            parser = MarkdownIt("commonmark", {"html": False})
            parser.disable(["reference", "lheading", "inline", "text_join"], True)
            _made.append(parser)
        _made[_TABLES_FIRST].enable("table")
        # As GitHub has it: a heading or a fence is no head of a table.
        rules = _made[_TABLES_LAST].block.ruler
        rules.before("paragraph", "late_table", table, {"alt": ["paragraph", "reference"]})
    return _made[kind].parse("\n".join([*lines, "", "# end"]))


def _verbatim(tokens: list[Token]) -> set[int]:
    """Return the numbers of the lines that are code."""
    found: set[int] = set()
    for token in tokens:
        if token.type in ("fence", "code_block") and token.map is not None:
            found.update(range(*token.map))
    return found
