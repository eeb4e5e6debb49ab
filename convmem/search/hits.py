"""What searches answer with: hits, and pages of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convmem.turns import Turn


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of a turn's text around what was found.

    Attributes:
        text: The piece, on one line; ``…`` stands where text is left out.
        marks: Where in it the hits are: pairs of start and end, in characters, in order.
    """

    text: str
    marks: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A turn that was found.

    Attributes:
        namespace, continuation_id: Where it stands.
        turn: The turn, whole.
        score: How well it fits; higher is better, and only comparable within one search.
        snippet: The piece of it around what was found.
        is_match: Whether it holds something of what was searched, or only stands beside such.
        before, after: Its neighbours, oldest first, where they were asked for.
    """

    namespace: str
    continuation_id: str
    turn: Turn
    snippet: Snippet
    score: float | None = None
    is_match: bool = True
    before: list[Turn] = field(default_factory=list)
    after: list[Turn] = field(default_factory=list)

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
