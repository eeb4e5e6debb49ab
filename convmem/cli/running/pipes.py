"""A command between pipes: what goes in and what comes out passes through, byte for byte.

What is not a pipe or a file is left to the command: a terminal that it reads stays its standard
input, and where its output goes to a terminal it gets one, too. Standard error is never touched.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import termios

from convmem.cli.running.command import start, status_of
from convmem.cli.running.recorder import ASKED, PRINTED, SENT
from convmem.cli.running.signals import Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from convmem.cli.running.beside import Beside

_READ_BYTES = 1 << 16
# A pipe that can be written to takes so much without waiting.
_SURE_BYTES = 4096
# As for a session at a terminal: what the command has left behind may hold this one open.
_LAST_WORDS_SECONDS = 0.05
_MOST_LAST_WORDS = 1 << 18


_ENDING = {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP}


def relay(path: str, words: list[bytes], env: Mapping[str, str], beside: Beside) -> int:
    """Run the command to its end and return its exit code.

    Raises:
        CannotRun: It could not be started.
    """
    caught = [signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD]
    caught.append(signal.SIGWINCH)
    with Signals(caught) as signals:
        streams: dict[int, int] = {}
        to_command = None
        if _is_relayed(0):
            streams[0], to_command = os.pipe()
        is_terminal = os.isatty(1)
        from_command, streams[1] = _terminal() if is_terminal else os.pipe()
        try:
            process = start(path, words, env, streams)
        finally:
            for descriptor in streams.values():
                os.close(descriptor)
        return _Relay(process, to_command, from_command, is_terminal, signals, beside).run()


class _Relay:
    def __init__(
        self,
        process: int,
        to_command: int | None,
        from_command: int,
        is_terminal: bool,
        signals: Signals,
        beside: Beside,
    ) -> None:
        self._process = process
        self._to_command = to_command
        self._from_command: int | None = from_command
        self._is_terminal = is_terminal
        self._signals = signals
        self._beside = beside
        self._reads = to_command is not None
        self._may_be_asked = to_command is not None and not _is_file(0)
        self._sent = b""
        self._printed = b""
        self._last_words = 0
        self._ended: int | None = None
        self._most = _READ_BYTES if _is_file(1) else _SURE_BYTES
        for descriptor in (to_command, from_command):
            if descriptor is not None:
                os.set_blocking(descriptor, False)

    def run(self) -> int:
        """Relay until the command has ended, and all that it printed is out."""
        while self._ended is None or self._from_command is not None or self._printed:
            self._step()
        if self._to_command is not None:
            os.close(self._to_command)
        return self._ended

    def _step(self) -> None:
        readable = [self._signals.descriptor]
        writable = []
        if self._reads and not self._sent:
            readable.append(0)
        if self._sent and self._to_command is not None:
            writable.append(self._to_command)
        if self._printed:
            writable.append(1)
        elif self._from_command is not None:
            readable.append(self._from_command)
        if self._beside.is_behind:
            writable.append(self._beside.descriptors[0])
        # A terminal may be held open by what the command has left behind.
        is_over = self._is_terminal and self._ended is not None and not self._printed
        wait = _LAST_WORDS_SECONDS if is_over else None
        ready, free, _ = select.select(readable, writable, [], wait)
        if is_over and not ready and not free:
            self._close_output()
            return
        if self._beside.is_behind:
            self._beside.go_on()
        if self._signals.descriptor in ready:
            self._heed(self._signals.came())
        if 0 in ready and self._reads:
            self._take_input()
        if self._to_command in free:
            self._send()
        if self._from_command in ready:
            self._take_output()
        if 1 in free:
            self._show()

    def _take_input(self) -> None:
        try:
            data = os.read(0, _READ_BYTES)
        except OSError:
            data = b""
        if data:
            self._sent = data
            self._send()
        else:
            self._reads = False
            self._close_input()

    def _send(self) -> None:
        if self._to_command is None:
            return
        try:
            written = os.write(self._to_command, self._sent)
        except BlockingIOError:
            return
        except OSError:  # it has closed its end; what it did not take was not said to it
            self._sent = b""
            self._reads = False
            self._close_input()
            return
        self._beside.tell(SENT, self._sent[:written])
        self._sent = self._sent[written:]

    def _close_input(self) -> None:
        if self._to_command is not None and not self._sent:
            os.close(self._to_command)
            self._to_command = None

    def _take_output(self) -> None:
        assert self._from_command is not None
        try:
            data = os.read(self._from_command, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # of a terminal: nobody has it any more
            data = b""
        if not data:
            self._close_output()
            return
        if self._may_be_asked and self._reads and not self._sent and not _is_ready(0):
            # Nothing more to read: whoever writes there waits for this.
            self._beside.tell(ASKED, b"")
        self._beside.tell(PRINTED, data)
        self._printed = data
        if self._is_terminal and self._ended is not None:
            self._last_words += len(data)
            if self._last_words > _MOST_LAST_WORDS:
                self._close_output()
        self._show()

    def _show(self) -> None:
        while self._printed:
            try:
                written = os.write(1, self._printed[: self._most])
            except BlockingIOError:
                return
            except OSError:
                # The reader went away: the command learns of it as it would have.
                self._printed = b""
                self._close_output()
                return
            self._printed = self._printed[written:]
            if self._most < _READ_BYTES and self._printed and not _is_free(1):
                return

    def _close_output(self) -> None:
        if self._from_command is not None:
            os.close(self._from_command)
            self._from_command = None

    def _heed(self, came: set[int]) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if number in came and self._ended is None:
                os.kill(self._process, number)
        if self._ended is not None and came & _ENDING:
            # What it has left behind still holds its output open; nobody wants that any more.
            self._printed = b""
            self._close_output()
        if signal.SIGWINCH in came and self._is_terminal and self._from_command is not None:
            _copy_window(self._from_command)
        # Ctrl-C reaches the command by itself: it is in the same group.
        if signal.SIGCHLD in came and self._ended is None:
            process, waited = os.waitpid(self._process, os.WNOHANG)
            if process:
                self._ended = status_of(waited)
                self._reads = False


def _is_relayed(descriptor: int) -> bool:
    """Whether what comes in there is passed on by us: a pipe, a socket or a file is."""
    try:
        mode = os.fstat(descriptor).st_mode
        os.read(descriptor, 0)
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISREG(mode)


def _is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _is_ready(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def _is_free(descriptor: int) -> bool:
    return bool(select.select([], [descriptor], [], 0)[1])


def _terminal() -> tuple[int, int]:
    """Return both ends of a terminal that changes nothing of what is printed."""
    master, slave = os.openpty()
    modes = termios.tcgetattr(slave)
    modes[1] &= ~termios.OPOST  # the real one does that
    termios.tcsetattr(slave, termios.TCSANOW, modes)
    _copy_window(slave)
    return master, slave


def _copy_window(terminal: int) -> None:
    import fcntl

    size = fcntl.ioctl(1, termios.TIOCGWINSZ, bytes(8))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
