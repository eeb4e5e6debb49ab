"""A page of search results, and the cursor that leads to the next one."""

from __future__ import annotations

import struct

from convmem.errors import UsageError
from convmem.search.hits import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem.search.hits import Hit

ALL = "all"
SOME = "some"
MEANING = "meaning"
INDEX = "index"
SCAN = "scan"


class SearchPage(Value):
    """The best hits for a query, best first.

    Attributes:
        hits: The turns that were found.
        matched: ``all``: every hit holds all that was asked for. ``some``: too few do, and the
            page has turns that hold some of it, or stand beside one that does. ``meaning``: turns
            that hold some of it or mean something like it, ranked by both.
        cursor: Leads to the next page; ``None`` where there is none.
        how: ``index``, or ``scan`` where no index was to be had.
        notes: What one should know of the answer, in words: a fallback, a log that was not read.
    """

    __slots__ = ("cursor", "hits", "how", "matched", "notes")

    def __init__(
        self,
        *,
        hits: list[Hit],
        matched: str = ALL,
        cursor: str | None = None,
        how: str = INDEX,
        notes: list[str] | None = None,
    ) -> None:
        self.hits = hits
        self.matched = matched
        self.cursor = cursor
        self.how = how
        self.notes: list[str] = notes or []

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)


class Cursor:
    """Behind which hit a page begins, and of which kind the pages are.

    Attributes:
        mode: As ``SearchPage.matched`` has it.
        score: Of the last hit.
        age: What stood last among hits of that score; see ``Fit.age``.
        shown: How many hits of that score and age the pages had so far: turns that were written
            by hand may be the same to the letter.
    """

    __slots__ = ("age", "mode", "score", "shown")

    def __init__(self, mode: str, score: float, age: int, shown: int) -> None:
        self.mode = mode
        self.score = score
        self.age = age
        self.shown = shown

    def __str__(self) -> str:
        score = struct.pack(">d", self.score).hex()
        return f"{self.mode}.{score}.{self.age:x}.{self.shown:x}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read what ``str`` made.

        Raises:
            UsageError: It is no such cursor.
        """
        if not isinstance(text, str):
            raise UsageError(f"a search cursor is text, not {type(text).__name__}")
        try:
            mode, score, age, shown = text.split(".")
            number = struct.unpack(">d", bytes.fromhex(score))[0]
            return cls(mode, number, int(age, 16), int(shown, 16))
        except (ValueError, struct.error):
            raise UsageError(
                f"{text[:60]!r} is no search cursor",
                hint="take the one that the page before this one gave, for the same query",
            ) from None

    def is_at_or_behind(self, score: float, age: int) -> bool:
        """Whether a hit comes with the last one shown, or behind it."""
        return (-score, -age) >= (-self.score, -self.age)

    def is_at(self, score: float, age: int) -> bool:
        """Whether a hit is the same as the last one shown, as far as order goes."""
        return (score, age) == (self.score, self.age)
