"""Signals as something to read: a loop that waits for descriptors learns of them there."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType
    from typing import Any


class Signals:
    """Catches signals for as long as a block lasts; what was ignored before stays ignored."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = list(numbers)
        self._before: dict[int, Any] = {}
        self.descriptor, self._wake = os.pipe()
        for each in (self.descriptor, self._wake):
            os.set_blocking(each, False)

    def __enter__(self) -> Signals:
        for number in self._numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, _nothing)
        self._woken = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._woken)
        for number, before in self._before.items():
            signal.signal(number, before)
        os.close(self.descriptor)
        os.close(self._wake)

    def came(self) -> set[int]:
        """Return those that came since the last time."""
        try:
            return set(os.read(self.descriptor, 512))
        except BlockingIOError:
            return set()


def _nothing(number: int, frame: FrameType | None) -> None:
    """The descriptor tells of it; a system call that it interrupts goes on by itself."""
