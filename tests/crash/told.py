"""Everything that the clients of one archive were told: turns, states, and of other conversations.

A report is a tuple that JSON can carry, so that who is about to die can send it through a pipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ledger import Findings, Ledger

DAMAGED = "damaged"
Document = dict[str, Any] | str  # a state, or DAMAGED


class Told:
    """What is known of the archive from its answers alone.

    Attributes:
        ledger: The answers of the conversation.
        states: What its state may be: one, or two while nobody knows whether a change was made.
        elsewhere: ``seq`` and content that turns of other conversations were answered with, by
            (conversation, id).
        has_other_key: Whether somebody else's key of the state was answered.
        findings: What was seen on the way that cannot be.
        calls, opens: What the shim counted.
    """

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.states: list[Document] = [{}]
        self.elsewhere: dict[tuple[str, str], tuple[int, object]] = {}
        self.has_other_key = False
        self.findings = Findings()
        self.calls: list[str] = []
        self.opens = 0
        self.forward: Callable[..., object] | None = None

    def copy(self) -> Told:
        """Return a copy, without findings and counts."""
        other = Told()
        other.ledger = self.ledger.copy()
        other.states = list(self.states)
        other.elsewhere = dict(self.elsewhere)
        other.has_other_key = self.has_other_key
        return other

    def take(self, what: str, *rest: Any) -> None:
        """Take one report, and pass it on."""
        if what == "answer":
            self.ledger.answer(*rest)
        elif what == "scrubbed":
            self.ledger.scrubbed.add(*rest)
        elif what == "gone":
            self.ledger.gone.add(*rest)
        elif what == "states":
            self.states = list(rest[0])
        elif what == "elsewhere":
            name, turn_id, seq, content = rest
            self.elsewhere.setdefault((name, turn_id), (seq, content))
        elif what == "other key":
            self.has_other_key = True
        elif what == "calls":
            self.calls, self.opens = rest
        else:
            self.findings.add(what, rest[0])
        if self.forward is not None:
            self.forward(what, *rest)

    def as_text(self) -> str:
        """Return what is the same where the same was told."""
        answers = sorted(self.ledger.answers.items())
        scrubbed = sorted(self.ledger.scrubbed), sorted(self.ledger.gone)
        return repr((answers, scrubbed, self.states, sorted(self.elsewhere), self.has_other_key))


def merged(states: list[Document], changes: Mapping[str, Any]) -> list[Document]:
    """Return what the states become by an update with *changes*; a damaged one takes none."""
    return [
        state
        if isinstance(state, str)
        else {key: value for key, value in {**state, **changes}.items() if value is not None}
        for state in states
    ]


def one_of(*lists: list[Document]) -> list[Document]:
    """Return the states of all *lists*, each once."""
    found: list[Document] = []
    for states in lists:
        found += [state for state in states if state not in found]
    return found
