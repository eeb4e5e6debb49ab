"""A progress bar on standard error, for what takes longer than a moment, on a terminal only."""

from __future__ import annotations

import sys
import time

from convmem.cli.output.messages import is_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

# What is over sooner needs no bar, and no import of one.
_PATIENCE_SECONDS = 0.7


class Bar:
    """Counts bytes towards a total. Draws nothing off a terminal, and nothing at first."""

    def __init__(self, title: str, total: int | None, *, quiet: bool = False) -> None:
        self._title = title
        self._total = total
        self._done = 0
        self._since = time.monotonic()
        self._is_shown = not quiet and is_terminal(sys.stderr)
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def expect(self, total: int) -> None:
        """Say what it counts towards, where that becomes known later."""
        self._total = total
        if self._progress is not None:
            self._progress.update(self._task, total=total)

    def advance(self, amount: int) -> None:
        """Count *amount* bytes more."""
        self._done += amount
        if not self._is_shown or time.monotonic() - self._since < _PATIENCE_SECONDS:
            return
        if self._progress is None:
            self._start()
        self._progress.update(self._task, completed=self._done)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            transient=True,
        )
        self._task = self._progress.add_task(self._title, total=self._total)
        self._progress.start()
