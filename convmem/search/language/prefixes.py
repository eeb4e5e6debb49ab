"""Prefixes: how to ask an index of stems for words that begin in some way."""

from __future__ import annotations

from convmem.search.language.stem import LONGEST, stem

_ENDINGS = (
    "abilities ability able ably al alism ality ance ancy ant ate ation ative ator e ed ement "
    "ence ency ent er es ful fulness ibility ible ic ical icate iciti icity ied ies ilities "
    "ility ing ion ional ism iti ity ive iveness ivity ization ize izer ly ment ness or ou "
    "ous ously ousness s tional y"
).split()
# No more letters than this are stemmed away: "ousnesses" and a few behind it.
_MOST_CUT_OFF = 16
# What stemming puts in the place of an ending; "ing" and "s" for what it does to the letter before.
_REPLACED_BY = ("", "e", "le", "ing", "s")


def prefix_expression(prefix: str) -> str:
    """Return what to ask FTS5 for words that begin with *prefix*: it finds them all, and others.

    FTS5 stems what it is asked, the beginning of a word too: ``key*`` would look for ``kei``. So
    the longest beginning is asked for that is its own stem; and what longer words can be stemmed
    to, as ``painting`` is ``paint`` in the index, which ``painti*`` would not find.
    """
    if len(prefix.encode()) > LONGEST:
        return f'"{prefix}"*'  # words so long are not stemmed
    whole = range(len(prefix), 0, -1)
    beginning = next((prefix[:n] for n in whole if stem(prefix[:n]) == prefix[:n]), prefix[:1])
    asks: dict[str, str] = {}
    for length in range(max(1, len(prefix) - _MOST_CUT_OFF), len(prefix) + 1):
        if _can_end(prefix[length:]):
            for ending in _REPLACED_BY:
                ask = prefix[:length] + ending
                asks.setdefault(stem(ask), ask)
    # What the beginning finds by itself need not be asked for.
    others = [ask for stemmed, ask in asks.items() if not stemmed.startswith(beginning)]
    return " OR ".join([f'"{beginning}"*', *(f'"{ask}"' for ask in others)])


def _can_end(rest: str) -> bool:
    """Whether *rest* is endings one behind the other, the last perhaps not whole."""
    if not rest:
        return True
    return any(
        ending.startswith(rest) or (rest.startswith(ending) and _can_end(rest[len(ending) :]))
        for ending in _ENDINGS
    )
