"""A command at a terminal of its own, relayed to the person's: keys in, what it prints out.

The person's terminal is raw meanwhile, so that every key reaches the command's, which does what a
terminal does. One loop reads and writes both without ever waiting for one of them alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import struct
import termios
import time
import tty

from convmem.cli.running import keys
from convmem.cli.running.recorder import MODE, PRINTED, RESIZED, SIZE, TYPED
from convmem.cli.running.session import ENDED, GO_ON, HANG_UP, STOPPED, Session
from convmem.cli.running.signals import Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from convmem.cli.running.beside import Beside

_READ_BYTES = 1 << 16
# Of keys that the command does not take, and of output that the terminal does not.
_MOST_HELD = 1 << 16
# How long a command may take to end after its terminal was hung up.
_FAREWELL_SECONDS = 2.0
# What the command has left behind may hold its terminal open, and print on: when the command has
# ended, it is over with a pause, or with more than the system can have held of its own words.
_LAST_WORDS_SECONDS = 0.05
_MOST_LAST_WORDS = 1 << 18
# So often is looked whether what runs in the background is in front again: a shell may not say so.
_LOOK_SECONDS = 0.2
_IUTF8 = 0x4000  # on Linux and macOS; Python has no name for it
_WINDOW = struct.Struct("HHHH")


def window_size(terminal: int) -> tuple[int, int]:
    """Return how many columns and rows the window has."""
    size = fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(_WINDOW.size))
    rows, columns, _, _ = _WINDOW.unpack(size)
    return columns or 80, rows or 24


def relay(path: str, words: list[bytes], env: Mapping[str, str], beside: Beside) -> int:
    """Run the command to its end and return its exit code.

    Raises:
        CannotRun: It could not be started.
    """
    # In the background the modes are those that the shell's own editing needs.
    before = termios.tcgetattr(0) if _is_in_front() else None
    master, slave = os.openpty()
    try:
        if before is not None:
            termios.tcsetattr(slave, termios.TCSANOW, before)
        _copy_window(master)
        caught = [signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP, signal.SIGCONT]
        caught += [signal.SIGINT, signal.SIGQUIT]
        with Signals(caught) as signals:
            streams = [number for number in range(3) if number < 2 or os.isatty(2)]
            others = (master, *beside.descriptors)
            session = Session(path, words, env, slave, streams, others)
            relaying = _Relay(master, session, signals, beside, before)
            try:
                return relaying.run()
            finally:
                relaying.set_back()
                session.close()
    finally:
        os.close(master)


class _Relay:
    def __init__(
        self,
        master: int,
        session: Session,
        signals: Signals,
        beside: Beside,
        before: list[Any] | None,
    ) -> None:
        self._master = master
        self._session = session
        self._signals = signals
        self._beside = beside
        self._before = before
        self._typed = b""
        self._printed = b""
        self._screen, self._is_own = _opened_again(1)
        self._ended: int | None = None
        self._is_drained = False  # no more will be printed
        self._last_words = 0
        self._deadline: float | None = None
        self._is_hung_up = False
        self._is_in_front = False
        os.set_blocking(master, False)

    def run(self) -> int:
        """Relay until the command has ended, and all that it printed is out.

        However long the person's terminal takes for it; but not once that was hung up.
        """
        self._come_back()
        try:
            while self._ended is None or not self._is_drained or self._printed:
                if not self._step():
                    break
        finally:
            if self._is_own:
                os.close(self._screen)
        if self._is_hung_up:
            return 128 + self._by
        return 128 + signal.SIGKILL if self._ended is None else self._ended

    def _step(self) -> bool:
        readable: list[Any] = [self._signals.descriptor]
        if self._ended is None:
            readable.append(self._session)
        takes_keys = self._is_in_front and not self._is_hung_up
        if self._ended is None and takes_keys and len(self._typed) < _MOST_HELD:
            readable.append(0)  # later keys are for whoever comes next
        if not self._is_drained and len(self._printed) < _MOST_HELD:
            readable.append(self._master)
        writable = [self._master] if self._typed else []
        if self._printed:
            writable.append(self._screen)
        if self._beside.is_behind:
            writable.append(self._beside.descriptors[0])
        patience = wait = self._patience()
        if not self._is_in_front and not self._is_hung_up:
            wait = _LOOK_SECONDS if patience is None else min(patience, _LOOK_SECONDS)
        ready, free, _ = select.select(readable, writable, [], wait)
        if not self._is_in_front and not self._is_hung_up:
            self._come_back()
        if not ready and not free:
            return wait != patience  # or the time is over
        if self._signals.descriptor in ready:
            self._heed(self._signals.came())
        if 0 in ready and self._is_in_front:
            self._take_keys()
        if self._master in free:
            self._send_keys()
        if self._beside.is_behind:
            self._beside.go_on()
        if self._screen in free:
            self._show(b"")
        if self._session in ready:
            self._hear()
        if self._master in ready:
            self._take_printed()
        return True

    def _patience(self) -> float | None:
        """Return after how many seconds without anything it is over."""
        seconds = None
        if self._ended is not None and not self._printed:
            seconds = _LAST_WORDS_SECONDS
        if self._deadline is not None:
            left = max(0.0, self._deadline - time.monotonic())
            seconds = left if seconds is None else min(left, seconds)
        return seconds

    # --- keys -----------------------------------------------------------------------------------

    def _take_keys(self) -> None:
        try:
            typed = os.read(0, _READ_BYTES)
        except OSError:
            typed = b""
        if typed:
            self._typed += typed
            self._send_keys()
        else:
            self._hang_up(signal.SIGHUP)

    def _send_keys(self) -> None:
        while self._typed:
            before = self._mode()
            try:
                sent = os.write(self._master, self._typed)
            except BlockingIOError:
                return
            except OSError:
                sent = len(self._typed)  # nobody takes them any more
            after = self._mode()
            # A password is what came while the echo was off; so it must have been on all the time.
            flags = before[0] & after[0] if before[0] & keys.CANONICAL else before[0]
            self._beside.tell(TYPED, MODE.pack(flags, *before[1:]) + self._typed[:sent])
            self._typed = self._typed[sent:]

    def _mode(self) -> tuple[int, ...]:
        try:
            taken, _, _, local, _, _, codes = termios.tcgetattr(self._master)
        except termios.error:
            return (0,) * 9
        flags = 0
        if local & termios.ICANON:
            flags |= keys.CANONICAL
        if local & termios.ECHO:
            flags |= keys.ECHOED
        if local & termios.ISIG:
            flags |= keys.SIGNALS
        if taken & termios.ICRNL:
            flags |= keys.CR_IS_NEWLINE
        if taken & _IUTF8:
            flags |= keys.UTF_8
        return (flags, *(_code(codes[each]) for each in _KEYS))

    # --- what is printed ------------------------------------------------------------------------

    def _take_printed(self) -> None:
        try:
            printed = os.read(self._master, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            printed = b""
        if not printed:  # nobody has the other end any more
            self._is_drained = True
            return
        self._beside.tell(PRINTED, printed)  # first: a kill loses nothing that was shown
        self._show(printed)
        if self._ended is not None:
            self._last_words += len(printed)
            self._is_drained = self._last_words > _MOST_LAST_WORDS

    def _show(self, printed: bytes) -> None:
        self._printed += printed
        try:
            while self._printed:
                self._printed = self._printed[os.write(self._screen, self._printed) :]
        except BlockingIOError:
            return
        except OSError:
            self._printed = b""
            self._hang_up(signal.SIGHUP)

    # --- what else comes ------------------------------------------------------------------------

    def _hear(self) -> None:
        news = self._session.news()
        if news is not None and news[0] == STOPPED:
            self._suspend()
            return
        self._ended = news[1] if news is not None and news[0] == ENDED else 128 + signal.SIGKILL

    def _suspend(self) -> None:
        """Stop, as the command has; once somebody lets us go on, let it go on, too."""
        self.set_back()
        os.kill(os.getpid(), signal.SIGTSTP)
        self._come_back()
        self._session.tell(GO_ON)

    def set_back(self) -> None:
        """Give the terminal back as it was."""
        if self._before is not None and self._is_in_front and _is_in_front():
            _set_modes(self._before)

    def _come_back(self) -> None:
        """Take the terminal, if this is in front of it: else the system would stop us for that."""
        self._is_in_front = _is_in_front()
        if not self._is_in_front:
            return
        try:
            if self._before is None:
                self._before = termios.tcgetattr(0)
            _set_raw()
            self._resize()
        except (OSError, termios.error):
            self._hang_up(signal.SIGHUP)

    def _heed(self, came: set[int]) -> None:
        if signal.SIGCONT in came:
            self._come_back()
        if signal.SIGWINCH in came:
            self._resize()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            if number in came:
                self._hang_up(number)

    def _resize(self) -> None:
        columns, rows = _copy_window(self._master)
        self._beside.tell(RESIZED, SIZE.pack(columns, rows))

    def _hang_up(self, number: int) -> None:
        """Do to the command what closing its window would; it has a moment for its last words."""
        if not self._is_hung_up:
            self._is_hung_up = True
            self._by = number
            self._session.tell(HANG_UP)
            self._deadline = time.monotonic() + _FAREWELL_SECONDS


_KEYS = (
    termios.VERASE,
    termios.VKILL,
    getattr(termios, "VWERASE", termios.VERASE),
    getattr(termios, "VLNEXT", termios.VERASE),
    termios.VEOF,
    termios.VINTR,
    termios.VQUIT,
    termios.VSUSP,
)


def _code(key: bytes | int) -> int:
    return key if isinstance(key, int) else key[0]


def _copy_window(master: int) -> tuple[int, int]:
    size = fcntl.ioctl(1, termios.TIOCGWINSZ, bytes(_WINDOW.size))
    fcntl.ioctl(master, termios.TIOCSWINSZ, size)
    return window_size(1)


def _is_in_front() -> bool:
    """Whether the terminal is ours now. One that was closed is: who uses it learns of that."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return True


def _set_raw() -> None:
    while True:
        try:
            tty.setraw(0, termios.TCSANOW)
        except termios.error as error:
            if error.args[0] != errno.EINTR:
                raise
        else:
            return


def _set_modes(modes: list[Any]) -> None:
    while True:
        try:
            termios.tcsetattr(0, termios.TCSANOW, modes)
        except termios.error as error:
            if error.args[0] == errno.EINTR:
                continue
            # The window was closed.
        return


def _opened_again(terminal: int) -> tuple[int, bool]:
    """Return the terminal opened once more, and whether it could be.

    A write to it then never waits. That cannot be set for the descriptor that we were given: it
    would be so for whoever else has it, such as the shell.
    """
    try:
        return os.open(os.ttyname(terminal), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK), True
    except OSError:
        return terminal, False
