"""The leader of a session of its own, in front of whose terminal the command runs.

It is the command's parent, in another group: so the command can be stopped with Ctrl-Z, which the
system forbids where nobody in the session could let it go on. It says what becomes of the command,
and hangs up on it when the one who relays is gone.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import termios

from convmem.cli.running.command import CannotRun, start, status_of
from convmem.cli.running.signals import Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

STARTED, REFUSED, STOPPED, ENDED = b"s", b"r", b"t", b"e"
"""What it says: a letter and a number of three digits."""
GO_ON, HANG_UP = b"g", b"h"
"""What it is told."""


class Session:
    """A command in front of the terminal *slave*, whose other end the caller has.

    Raises:
        CannotRun: It could not be started.
    """

    def __init__(
        self,
        path: str,
        words: list[bytes],
        env: Mapping[str, str],
        slave: int,
        streams: Sequence[int],
        others: Sequence[int],
    ) -> None:
        self._socket, theirs = socket.socketpair()
        self._has_ended = False
        self._process = os.fork()
        if self._process == 0:
            try:
                self._socket.close()
                for descriptor in others:
                    os.close(descriptor)
                _lead(path, words, env, slave, streams, theirs)
            finally:
                os._exit(0)
        theirs.close()
        os.close(slave)
        kind, number = self.news() or (REFUSED, 0)
        if kind == REFUSED:
            self.close()
            raise CannotRun(number)

    def fileno(self) -> int:
        """Where there is something to read when there are news."""
        return self._socket.fileno()

    def news(self) -> tuple[bytes, int] | None:
        """Wait for what becomes of the command: ``STOPPED``, or ``ENDED`` and its exit code.

        ``None``: the leader was killed.
        """
        told = self._socket.recv(4, socket.MSG_WAITALL)
        self._has_ended = told[:1] not in (STARTED, STOPPED)
        return (told[:1], int(told[1:])) if len(told) == 4 else None

    def tell(self, word: bytes) -> None:
        """Say ``GO_ON`` or ``HANG_UP``."""
        try:
            self._socket.send(word)
        except OSError:
            return  # it is no more

    def close(self) -> None:
        """Let it end; the terminal must have been read to its end.

        If the command has not ended, it is hung up on, and nobody waits for what it makes of that.
        """
        self._socket.close()
        if self._has_ended:
            os.waitpid(self._process, 0)


def _lead(
    path: str,
    words: list[bytes],
    env: Mapping[str, str],
    slave: int,
    streams: Sequence[int],
    relay: socket.socket,
) -> None:
    with Signals([signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD]) as signals:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        try:
            command = start(path, words, env, dict.fromkeys(streams, slave), in_front=slave)
        except CannotRun as error:
            _say(relay, REFUSED, error.number)
            return
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
        _say(relay, STARTED, 0)
        is_heard = True
        while True:
            heard: list[Any] = [signals.descriptor, relay] if is_heard else [signals.descriptor]
            ready = select.select(heard, [], [])[0]
            came = signals.came()
            word = relay.recv(1) if relay in ready else b""
            if relay in ready and not word:
                is_heard = False  # it was killed
            if word == GO_ON:
                _in_front(slave, command)
                _send(command, signal.SIGCONT)
            if word == HANG_UP or (relay in ready and not word) or signal.SIGHUP in came:
                _send(command, signal.SIGHUP)
                _send(command, signal.SIGCONT)
            if signal.SIGCHLD in came and _has_ended(command, relay):
                break
        os.close(slave)
        # To end is to hang up, which would take what is not read yet.
        while is_heard and relay.recv(1):
            pass


def _has_ended(command: int, relay: socket.socket) -> bool:
    process, waited = os.waitpid(command, os.WNOHANG | os.WUNTRACED)
    if process == 0:
        return False
    if os.WIFSTOPPED(waited):
        _say(relay, STOPPED, 0)
        return False
    _say(relay, ENDED, status_of(waited))
    return True


def _say(relay: socket.socket, kind: bytes, number: int) -> None:
    try:
        relay.send(b"%b%03d" % (kind, number))
    except OSError:
        return  # nobody is there


def _in_front(terminal: int, group: int) -> None:
    try:
        os.tcsetpgrp(terminal, group)
    except OSError:
        return


def _send(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except OSError:
        return  # it has ended
