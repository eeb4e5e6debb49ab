"""The session's end of the pipe to the process that records: what passes by is told, at once.

Telling never waits. What the recorder has not taken yet is held, up to a bound; of what passes by
beyond that, only how much it was is told, and how the end of what was printed reads.
"""

from __future__ import annotations

import os
import signal
from collections import deque

from convmem.cli.running.recorder import (
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
    from typing import Any

_MOST_HELD = 8 << 20
_MOST_LATE = 1 << 20
_MOST_OF_ALL = 32 << 20
_PIPE_BYTES = 1 << 20


class Beside:
    """A recorder that was started, and what there is to tell it."""

    def __init__(self, job: Job) -> None:
        told, self._tell = os.pipe()
        self._answer, answer = os.pipe()
        self._held: deque[bytes] = deque()
        self._size = 0
        self._late = bytearray()  # of what was printed since too much is held: the end
        self._left_out = 0
        self._unsent = 0
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
        is_too_much = self._size > (_MOST_HELD // 2 if self._late or self._unsent else _MOST_HELD)
        if is_too_much and kind == PRINTED:
            self._late += data
            if len(self._late) > 2 * _MOST_LATE:
                self._left_out += len(self._late) - _MOST_LATE
                del self._late[:-_MOST_LATE]
        elif is_too_much and kind == SENT:
            self._unsent += len(data)
        else:
            self._hold_what_is_late()
            self._hold(kind, data)
        self.go_on()

    def _hold_what_is_late(self) -> None:
        if self._unsent:
            self._hold(UNSENT, NUMBER.pack(self._unsent))
            self._unsent = 0
        if self._size > _MOST_OF_ALL:
            self._left_out += len(self._late)
            self._late.clear()
        if self._left_out:
            self._hold(LEFT_OUT, NUMBER.pack(self._left_out))
            self._left_out = 0
        if self._late:
            self._hold(PRINTED, bytes(self._late))
            self._late.clear()

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

    def end(self, exit_code: int) -> dict[str, Any] | None:
        """Wait until all is recorded, and return what came of it; ``None``: the recorder died."""
        self.tell(ENDED, NUMBER.pack(exit_code))
        os.set_blocking(self._tell, True)
        self.go_on()
        os.close(self._tell)
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
