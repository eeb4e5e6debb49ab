"""Questions that ask when, and turns that tell it."""

from __future__ import annotations

import re

from convmem.search.words import tokens

_ASKS = re.compile(
    r"\b(?:when|how long|(?:what|which) (?:time|date|day|week|weekday|month|season|year))\b"
)
# Most tell it by how long ago it was; the turn's own time does the rest.
_TELLING = re.compile(
    r"\b(?:yesterday|today|tonight|tomorrow|last|next|ago|recently|soon|since|until"
    r"|(?:week|weekend|month|year|day|hour|minute|morning|evening|afternoon|night)s?"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)days?"
    r"|january|february|march|april|may|june|july|august|september|october|november|december"
    r"|spring|summer|autumn|fall|winter|christmas|easter|birthday"
    r"|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|twentieth|thirtieth"
    r"|\d{1,2}(?:st|nd|rd|th)|\d{1,2}:\d\d|(?:19|20)\d\d)\b",
    re.IGNORECASE,
)


def asks_when(query: str) -> bool:
    """Whether *query*, as it was typed, asks for a time; English only."""
    return _ASKS.search(" ".join(tokens(query))) is not None


def tells_when(text: str) -> bool:
    """Whether *text* tells a time: a day, a month, or how long ago; English only."""
    return _TELLING.search(text) is not None
