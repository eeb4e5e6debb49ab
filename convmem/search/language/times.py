"""Questions that ask when, and turns that tell it."""

from __future__ import annotations

import re

from convmem.search.language.words import tokens

_TIMES = ("time", "date", "day", "week", "weekday", "month", "season", "year")
_ASKS = ("when", "how long", *(f"{each} {time}" for each in ("what", "which") for time in _TIMES))
# Most tell it by how long ago it was; the turn's own time does the rest.
_TELLING = (
    r"\b(?:yesterday|today|tonight|tomorrow|last|next|ago|recently|soon|since|until"
    r"|(?:week|weekend|month|year|day|hour|minute|morning|evening|afternoon|night)s?"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)days?"
    r"|january|february|march|april|may|june|july|august|september|october|november|december"
    r"|spring|summer|autumn|fall|winter|christmas|easter|birthday"
    r"|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|twentieth|thirtieth"
    r"|\d{1,2}(?:st|nd|rd|th)|\d{1,2}:\d\d|(?:19|20)\d\d)\b"
)


def asks_when(query: str) -> bool:
    """Whether *query*, as it was typed, asks for a time; English only."""
    said = f" {' '.join(tokens(query))} "
    return any(f" {each} " in said for each in _ASKS)


def tells_when(text: str) -> bool:
    """Whether *text* tells a time: a day, a month, or how long ago; English only."""
    # Compiled when it is needed first: it takes longer than reading the query.
    return re.search(_TELLING, text, re.IGNORECASE) is not None
