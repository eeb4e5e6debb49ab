"""What searches answer with: hits, and pages of them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from convmem.turns import Turn


class Value:
    """Equality and a readable form, from the slots: importing dataclasses takes half a search."""

    __slots__: tuple[str, ...] = ()

    def _values(self) -> list[Any]:
        return [getattr(self, slot) for slot in self.__slots__]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        assert isinstance(other, Value)
        return self._values() == other._values()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        pairs = zip(self.__slots__, self._values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in pairs)})"


class Snippet(Value):
    """A piece of a turn's text around what was found.

    Attributes:
        text: The piece, on one line; ``…`` stands where text is left out.
        marks: Where in it the hits are: pairs of start and end, in characters, in order.
    """

    __slots__ = ("marks", "text")

    def __init__(self, text: str, marks: list[tuple[int, int]] | None = None) -> None:
        self.text = text
        self.marks: list[tuple[int, int]] = marks or []


class Hit(Value):
    """A turn that was found.

    Attributes:
        namespace, continuation_id: Where it stands.
        turn: The turn, whole.
        score: How well it fits; higher is better, and only comparable within one search.
        snippet: The piece of it around what was found.
        is_match: Whether it holds something of what was searched, or only stands beside such.
        before, after: Its neighbours, oldest first, where they were asked for.
    """

    __slots__ = (
        "after",
        "before",
        "continuation_id",
        "is_match",
        "namespace",
        "score",
        "snippet",
        "turn",
    )

    def __init__(
        self,
        *,
        namespace: str,
        continuation_id: str,
        turn: Turn,
        snippet: Snippet,
        score: float | None = None,
        is_match: bool = True,
        before: list[Turn] | None = None,
        after: list[Turn] | None = None,
    ) -> None:
        self.namespace = namespace
        self.continuation_id = continuation_id
        self.turn = turn
        self.snippet = snippet
        self.score = score
        self.is_match = is_match
        self.before: list[Turn] = before or []
        self.after: list[Turn] = after or []

    def as_dict(self) -> dict[str, Any]:
        """Return the hit as the JSON object that ``--json`` prints."""
        turn = self.turn.as_dict()
        found: dict[str, Any] = {
            "continuation_id": self.continuation_id,
            "namespace": self.namespace,
            "id": turn.get("id"),
            "seq": turn.get("seq"),
            "ts": turn.get("ts"),
            "role": turn["role"],
        }
        if self.score is not None:
            found["score"] = round(self.score, 6)
        found["snippet"] = self.snippet.text
        found["marks"] = [list(mark) for mark in self.snippet.marks]
        if not self.is_match:
            found["beside"] = True
        if self.before:
            found["before"] = [each.as_dict() for each in self.before]
        if self.after:
            found["after"] = [each.as_dict() for each in self.after]
        return found
