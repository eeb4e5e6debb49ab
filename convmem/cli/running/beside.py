"""The session's end of the pipe to the process that records: what passes by is told, at once.

Telling never waits. What the recorder has not taken yet is held, up to a bound; of what passes by
beyond that, only how much it was is told, and how the end of what was printed reads.
"""

from __future__ import annotations

import os
import select
import signal
from collections import deque

from convmem.cli.running.recorder import (
    ASKED,
    ENDED,
    HEAD,
    LEFT_OUT,
    NUMBER,
    PRINTED,
    SENT,
    UNSENT,
    Job,
    record,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Of pipes, all that is kept of the beginnings of two turns, which may take 16 MiB each.
_MOST_HELD = 34 << 20
_MOST_HELD_OF_TERMINALS = 8 << 20
_MOST_LATE = 1 << 20
_MOST_MORE = 24 << 20
_PIPE_BYTES = 1 << 20
# Nobody likes a window that stands still after the command has ended.
_LONG_SECONDS = 3.0
# What may be left out, and how that is told.
_MARKS = {SENT: UNSENT, PRINTED: LEFT_OUT}


class Beside:
    """A recorder that was started, and what there is to tell it."""

    def __init__(self, job: Job) -> None:
        told, self._tell = os.pipe()
        self._answer, answer = os.pipe()
        self._held: deque[bytes] = deque()
        self._size = 0
        self._most = _MOST_HELD_OF_TERMINALS if job.is_dialogue else _MOST_HELD
        self._late = {kind: bytearray() for kind in _MARKS}  # since too much is held: the end
        self._left_out = dict.fromkeys(_MARKS, 0)
        self.is_gone = False
        self._process = os.fork()
        if self._process == 0:
            os.close(self._tell)
            os.close(self._answer)
            _be_the_recorder(job, told, answer)
        os.close(told)
        os.close(answer)
        os.set_blocking(self._tell, False)
        _widen(self._tell)

    @property
    def descriptors(self) -> tuple[int, int]:
        """Both of this end: no other process may keep them, or their end would not be seen."""
        return self._tell, self._answer

    @property
    def is_behind(self) -> bool:
        """Whether something is held back, and ``descriptors[0]`` worth waiting for."""
        return bool(self._held) and not self.is_gone

    def tell(self, kind: bytes, data: bytes) -> None:
        """Tell something, or hold it."""
        if self.is_gone:
            return
        is_too_much = self._size > (self._most // 2 if any(self._late.values()) else self._most)
        if is_too_much and kind in _MARKS:
            late = self._late[kind]
            late += data
            if len(late) > 2 * _MOST_LATE:
                self._leave_out(kind, len(late) - _MOST_LATE)
        elif not is_too_much or kind != ASKED:  # who is that far ahead does not wait for answers
            self._hold_what_is_late(kind == ENDED)
            self._hold(kind, data)
        self.go_on()

    def _leave_out(self, kind: bytes, count: int) -> None:
        self._left_out[kind] += count
        del self._late[kind][:count]

    def _hold_what_is_late(self, is_the_end: bool) -> None:
        for kind, mark in _MARKS.items():
            late = self._late[kind]
            if self._size > self._most + _MOST_MORE and not is_the_end:
                self._leave_out(kind, len(late))
            if self._left_out[kind]:
                self._hold(mark, NUMBER.pack(self._left_out[kind]))
                self._left_out[kind] = 0
            if late:
                self._hold(kind, bytes(late))
                late.clear()

    def _hold(self, kind: bytes, data: bytes) -> None:
        whole = HEAD.pack(kind, len(data)) + data
        self._held.append(whole)
        self._size += len(whole)

    def go_on(self) -> None:
        """Hand over what is held, as far as it is taken now."""
        try:
            while self._held:
                part = self._held[0]
                written = os.write(self._tell, part)
                self._size -= written
                if written < len(part):
                    self._held[0] = part[written:]
                else:
                    self._held.popleft()
        except BlockingIOError:
            return
        except OSError:  # it was killed, which the end of the session tells
            self.is_gone = True
            self._held.clear()

    def end(self, exit_code: int, on_wait: Callable[[], None]) -> dict[str, Any] | None:
        """Wait until all is recorded, and return what came of it; ``None``: the recorder died.

        *on_wait* is called where that takes long.
        """
        self.tell(ENDED, NUMBER.pack(exit_code))
        os.set_blocking(self._tell, True)
        self.go_on()
        os.close(self._tell)
        if not select.select([self._answer], [], [], _LONG_SECONDS)[0]:
            on_wait()
        parts = []
        while part := os.read(self._answer, 1 << 16):
            parts.append(part)
        os.close(self._answer)
        os.waitpid(self._process, 0)
        if not parts:
            return None
        import json

        answer: dict[str, Any] = json.loads(b"".join(parts))
        return answer

    def forget(self) -> None:
        """End it with nothing recorded."""
        os.close(self._tell)
        os.close(self._answer)
        os.waitpid(self._process, 0)


def _be_the_recorder(job: Job, told: int, answer: int) -> None:
    """Be another process, which no key at the terminal reaches. Does not return."""
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
        try:
            result = record(job, told)
        except Exception as error:  # noqa: BLE001 - the session tells of it
            from convmem.errors import ConvmemError

            name = "" if isinstance(error, ConvmemError) else f"{type(error).__name__}: "
            result = {
                "recorded": 0,
                "failed": 1,
                "kind": getattr(error, "kind", "error"),
                "error": f"{name}{error}",
                "hint": getattr(error, "hint", None),
                "lost": 1,
                "file": None,
                "said": [],
            }
        import json

        text = json.dumps(result).encode()
        while text:
            text = text[os.write(answer, text) :]
    finally:
        os._exit(0)


def _widen(pipe: int) -> None:
    """Let the pipe hold more, where that can be: so the session is woken less often."""
    import fcntl

    setting = getattr(fcntl, "F_SETPIPE_SZ", None)
    if setting is not None:
        try:
            fcntl.fcntl(pipe, setting, _PIPE_BYTES)
        except OSError:
            return
