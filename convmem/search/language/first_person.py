"""A query as its answer would be said, for an embedder: who speaks of herself says "I"."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_OWNER = "(?P<owner>['\u2019]s)?"


def said(query: str, speakers: Iterable[str]) -> str:
    """Return *query* with "I" and "my" in the place of the names of *speakers*.

    What somebody said seldom has her own name in it, but often the other's: a name leads an
    embedder astray, and ranking knows who spoke. See ``ranking.ALIKE`` for what this brings.

    >>> said("What did Anna plant in Anna's garden?", ["Anna"])
    'What did I plant in my garden?'
    """
    # Longer names first, so that "Anna Lena" is not left as "I Lena".
    names = "|".join(re.escape(name) for name in sorted(set(speakers), key=len, reverse=True))
    if not names:
        return query
    return re.sub(
        rf"(?<!\w)(?:{names}){_OWNER}(?!\w)",
        lambda found: "my" if found["owner"] else "I",
        query,
        flags=re.IGNORECASE,
    )
