"""How large what a model sends and gets may be: small by default, since every byte is paid for."""

from __future__ import annotations

from dataclasses import dataclass

from convmem import UsageError

# Below these no answer could say anything.
_LEAST_ANSWER_BYTES = 1024
_LEAST_TURN_BYTES = 256
_BYTES_IN_A_TOKEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one server.

    Attributes:
        turn_bytes: The largest turn that may be recorded, as JSON.
        answer_bytes: How much of turns one answer holds, as JSON. Some 4 bytes are a token.
        turns: The most turns, hits or conversations of one answer.
    """

    turn_bytes: int = 1 << 20
    answer_bytes: int = 32 << 10
    turns: int = 50

    def __post_init__(self) -> None:
        for name, least in (
            ("turn_bytes", _LEAST_TURN_BYTES),
            ("answer_bytes", _LEAST_ANSWER_BYTES),
            ("turns", 1),
        ):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise UsageError(f"{name} must be a whole number, {least:,} or more, not {value!r}")

    @property
    def share_bytes(self) -> int:
        """How much of one turn is shown among others."""
        return self.answer_bytes // 4

    @property
    def tokens(self) -> int:
        """The largest budget of a context."""
        return self.answer_bytes // _BYTES_IN_A_TOKEN

    @property
    def message_bytes(self) -> int:
        """The longest line that a client may send: a batch of turns, with room for escapes."""
        return 16 * self.turn_bytes + (1 << 20)
