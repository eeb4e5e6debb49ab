"""Words: what the index is given, and what a query must find there.

One definition for all ways of searching. Text is folded first; a word is a run of letters and
digits. Scripts without spaces between words give a word for each character, and in the index pairs
of neighbours too; parts of camelCase stand in the index beside the whole.
"""

from __future__ import annotations

import re
from array import array

from convmem.search.language.folding import FOLDED, UNSPACED, fold
from convmem.search.language.stem import stem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CAMEL_PART", "STOP_WORDS", "asked_for", "index_terms", "index_text", "index_tokens"]
__all__ += ["placed", "stem", "terms", "tokens"]

STOP_WORDS = frozenset(
    "a about after again all also am an and any are aren as at be because been before being but "
    "by can could couldn d did didn do does doesn doing don down during each few for from had "
    "hadn has hasn have haven having he her here hers him his how i if in into is isn it its "
    "itself just ll m me more most my no nor not of off on once only or other our ours out over "
    "own re s same she should shouldn so some such t than that the their theirs them then there "
    "these they this those through to too under until up us ve very was wasn we were weren what "
    "when where which while who whom why will with won would wouldn you your yours".split()
)

# Compiled where they are met: the ranges take some milliseconds, and most text is ASCII.
_UNSPACED = "".join(f"{ends[0]}-{ends[1]}" for ends in UNSPACED)
_SIGNS = "\x00-/:-@\\[-`{-\x7f"
_RUN = f"([{_UNSPACED}]+)"
_TOKEN = f"[{_UNSPACED}]|[^{_SIGNS}{_UNSPACED}]+"
_INDEX_TOKEN = re.compile(f"[^{_SIGNS}]+")
_CAMEL_HUMP = re.compile("[A-Z](?<=[a-z][A-Z])")
CAMEL_PART = re.compile("[A-Z]+(?![a-z])[0-9]*|[A-Z]?[a-z]+[0-9]*|[0-9]+")
# Lower case, upper case, digits, anything else: as one letter each, to look for camelCase.
_KINDS = (
    bytes(
        ord("a" if kind.islower() else "A" if kind.isupper() else "0" if kind.isdigit() else " ")
        for kind in map(chr, range(128))
    )
    + b" " * 128
)
_LONGEST_CAMEL = 64


def index_text(text: str) -> str:
    """Return what FTS5 is to be given for *text*, with ``tokenize='porter ascii'``.

    ASCII text without camelCase is returned as it is. What stands apart in *text* need not do so
    in the answer: it is made for an index that keeps no places.
    """
    bare = fold(text)
    pieces = [bare]
    if not bare.isascii():
        pieces = re.split(_RUN, bare)
        if len(pieces) > 1:
            runs = " ".join(pieces[1::2])
            pieces[1::2] = ["\n"] * (len(pieces) // 2)
            pieces += ["\n", _spread(runs)]
    parts = _camel_parts(bare)
    if parts:
        pieces += ["\n", *parts]
    return "".join(pieces)


def index_tokens(text: str) -> list[str]:
    """Return the tokens that the index finds in *text*, before they are stemmed.

    Characters of scripts without spaces are among them, though most are found as the beginnings
    of pairs: with tokens of their own, such text would take twice the room.
    """
    found = _INDEX_TOKEN.findall(index_text(text).lower())
    return found if text.isascii() else found + tokens(text)


def index_terms(text: str) -> set[str]:
    """Return the terms that the index finds in *text*: the stems of its tokens and extras."""
    return set(map(stem, set(index_tokens(text))))


def tokens(text: str) -> list[str]:
    """Return the tokens of *text* in order: folded, in lower case, not stemmed.

    >>> tokens("Das Café, getUserName 用户")
    ['das', 'cafe', 'getusername', '用', '户']
    """
    return _tokens(fold(text).lower())


def terms(text: str) -> list[str]:
    """Return the stems of the tokens of *text*, in order."""
    return list(map(stem, tokens(text)))


def asked_for(text: str) -> list[str]:
    """Return the tokens that the index must hold where *text* stands: of a query, not stemmed.

    Single characters of scripts without spaces, but pairs where several stand together.
    """
    asked: list[str] = []
    bare = fold(text).lower()
    if bare.isascii():
        return _tokens(bare)
    for number, piece in enumerate(re.split(_RUN, bare)):
        if number % 2 and len(piece) > 1:
            asked += map(str.__add__, piece, piece[1:])
        else:
            asked += _tokens(piece)
    return asked


def placed(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield the tokens of *text* with where they start and end in it, in characters.

    *text* is ``composed``; the tokens are then those of ``tokens``.
    """
    for chunk in _INDEX_TOKEN.finditer(text):
        start, piece = chunk.start(), chunk[0]
        if piece.isascii():
            yield piece.lower(), start, chunk.end()
            continue
        letters: list[str] = []
        origins: list[int] = []
        for at, letter in enumerate(piece, start):
            other = FOLDED[ord(letter)]
            letters.append(other)
            origins += [at] * len(other)
        for token in re.finditer(_TOKEN, "".join(letters)):
            yield token[0].lower(), origins[token.start()], origins[token.end() - 1] + 1


def _tokens(bare: str) -> list[str]:
    if bare.isascii():
        return _INDEX_TOKEN.findall(bare)
    return re.findall(_TOKEN, bare)


def _camel_parts(text: str) -> list[str]:
    """Return the parts of the camelCase words of folded *text*, each once and behind a space."""
    if text.isascii():
        # By kinds, as bytes: four times as fast as a pattern.
        kinds = text.encode().translate(_KINDS)
    elif _CAMEL_HUMP.search(text):
        kinds = text.encode("ascii", "replace").translate(_KINDS)
    else:
        return []
    found: dict[str, None] = {}
    at = kinds.find(b"aA")
    while at >= 0:
        start, end = kinds.rfind(b" ", 0, at) + 1, kinds.find(b" ", at)
        if end < 0:
            end = len(kinds)
        if end - start <= _LONGEST_CAMEL:
            parts = CAMEL_PART.findall(text, start, end)
            # Base64 and the like fall into pieces of a letter or two: nobody asks for those.
            if len(parts) <= 4 or end - start >= 3 * len(parts):
                found.update(dict.fromkeys(parts))
        at = kinds.find(b"aA", end)
    return [f" {part}" for part in found]


def _spread(runs: str) -> str:
    """Return each character of *runs* with the next one, and with a space behind both.

    Across a space in *runs* a pair is one character: so the last of each run stands alone.
    """
    # By columns: ten times as fast as one by one.
    letters = array("I", runs.encode("utf-32-le"))
    spread = array("I", " ".encode("utf-32-le")) * (3 * len(letters))
    spread[0::3] = letters
    spread[1:-3:3] = letters[1:]
    return spread.tobytes().decode("utf-32-le")
