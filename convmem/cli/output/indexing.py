"""What people see while the index of words is made: a bar, and the damage that was passed over."""

from __future__ import annotations

from convmem.cli.output.bar import Bar
from convmem.cli.output.messages import SkippedDamage
from convmem.progress import Observer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.cli.output.messages import Messages
    from convmem.log.records import Damage


class Indexing(Observer):
    """Draws a bar for each task, and counts the damage of each conversation."""

    def __init__(self, messages: Messages, *, quiet: bool) -> None:
        self._messages = messages
        self._quiet = quiet
        self._bar: Bar | None = None
        self._skipped: dict[str, SkippedDamage] = {}

    def started(self, task: str, total: int) -> None:
        """Begin a bar. What comes in steps is told of anew with each."""
        self.finished(task)
        self._bar = Bar(task, total, quiet=self._quiet)

    def advanced(self, task: str, amount: int) -> None:
        """Let it grow."""
        if self._bar is not None:
            self._bar.advance(amount)

    def finished(self, task: str) -> None:
        """Take it away."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None

    def damaged(self, continuation_id: str, damage: Damage) -> None:
        """Note one place."""
        if continuation_id not in self._skipped:
            self._skipped[continuation_id] = SkippedDamage(self._messages, continuation_id)
        self._skipped[continuation_id].damaged(damage)

    def tell(self) -> None:
        """Take the bar away, and say what was passed over since the last time."""
        self.finished("")
        for each in self._skipped.values():
            each.tell()
