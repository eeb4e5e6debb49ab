"""``--redact``: likely credentials are masked before anything is recorded, or given out."""

from __future__ import annotations

from convmem import jsontext
from convmem.cli.output.messages import Messages
from convmem.quantities import format_count
from convmem.secrets.detector import get_ready
from convmem.secrets.masking import redacted
from convmem.turns import FIELDS, NOT_TAKEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from convmem.turns import Turn

    T = TypeVar("T")

# Who, when and where stays as it is: by these a turn is known.
_KEPT = {*FIELDS, *NOT_TAKEN} - {"content", "meta"}


class Redaction:
    """Masks what goes in or out, and counts.

    Raises:
        UsageError: The extra is not installed; nothing was done.
    """

    def __init__(self) -> None:
        get_ready()
        self._count = 0

    def said(self, content: str, meta: dict[str, str] | None) -> tuple[str, dict[str, str] | None]:
        """Return the content and meta of one turn, masked."""
        said: dict[str, Any] = {"content": content, "meta": meta}
        masked = self._masked(said)
        return masked["content"], masked["meta"]

    def turn(self, turn: Turn) -> Turn:
        """Return a turn, masked."""
        return self._masked(turn)

    def lines(self, lines: list[bytes | None]) -> list[bytes | None]:
        """Return JSON lines with what their turns say masked; what is no turn is left as it is."""
        return [line if line is None else self._line(line) for line in lines]

    def tell(self, messages: Messages) -> None:
        """Say how many were masked, if any were."""
        if self._count:
            verb = "was" if self._count == 1 else "were"
            messages.warn(
                "redacted",
                f"{format_count(self._count, 'likely credential')} {verb} masked",
                count=self._count,
            )

    def _line(self, line: bytes) -> bytes:
        try:
            value = jsontext.loads(line)
        except jsontext.NotJson:
            return line  # it is refused
        if not isinstance(value, dict):
            return line
        kept = {key: item for key, item in value.items() if key in _KEPT}
        said = {key: item for key, item in value.items() if key not in _KEPT}
        # Written anew in any case: of a key that stands there twice the first is not parsed.
        return jsontext.dumps({**kept, **self._masked(said)})

    def _masked(self, value: T) -> T:
        masked, count = redacted(value)
        self._count += count
        return masked
