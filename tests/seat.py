"""A person at a terminal: the real program on a pseudo terminal, typed at and looked at."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import struct
import termios
import time

PATIENCE_SECONDS = 30.0


class Seat:
    """A program that leads a session in front of a terminal, as where a window was opened."""

    def __init__(self, *command, env, columns=80, rows=24):
        self.master, slave = os.openpty()
        modes = termios.tcgetattr(slave)
        modes[0] |= 0x4000  # IUTF8, as every window has it
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        self.modes_before = termios.tcgetattr(slave)
        self.resize(columns, rows)
        self.shown = b""
        self._seen = 0
        self._code = None
        self.process = os.fork()
        if self.process == 0:
            try:
                os.setsid()
                fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
                for number in range(3):
                    os.dup2(slave, number)
                os.execvpe(command[0], command, env)
            finally:
                os._exit(99)
        self.slave = slave  # held open, so that its modes can be looked at

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._code is None:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        for descriptor in (self.master, self.slave):
            if descriptor >= 0:
                os.close(descriptor)
        self.master = self.slave = -1

    def resize(self, columns, rows):
        """Give the window another size."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def modes(self):
        """Return what the terminal is set to."""
        return termios.tcgetattr(self.slave)

    def until_raw(self):
        """Wait until every key goes to ``convmem run``, Ctrl-C, too; no shell has it so."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.modes()[3] & termios.ISIG:
            assert time.monotonic() < deadline, f"no keys taken after {self.shown[self._seen :]!r}"
            if select.select([self.master], [], [], 0.02)[0]:
                self._read()

    def type(self, keys):
        """Press keys; what is shown meanwhile is read, as a window does."""
        keys = keys.encode() if isinstance(keys, str) else keys
        while keys:
            ready, free, _ = select.select([self.master], [self.master], [], PATIENCE_SECONDS)
            assert ready or free, "nobody reads the keys"
            if ready:
                self._read()
            if free:
                keys = keys[os.write(self.master, keys[:512]) :]

    def until(self, text):
        """Wait until *text* is shown, behind what was waited for before; return what came by."""
        text = text.encode() if isinstance(text, str) else text
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (at := self.shown.find(text, self._seen)) < 0:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} was not shown after {self.shown[self._seen :]!r}"
            if select.select([self.master], [], [], min(left, 0.1))[0]:
                assert self._read(), f"it ended after {self.shown[self._seen :]!r}"
            elif self._has_ended():
                raise AssertionError(f"it ended after {self.shown[self._seen :]!r}")
        came = self.shown[self._seen : at]
        self._seen = at + len(text)
        return came.decode(errors="replace")

    def say(self, prompt, keys):
        """Wait for *prompt*, then type *keys*."""
        self.until(prompt)
        self.type(keys)

    def end(self):
        """Wait until it has ended, and return its exit code."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._has_ended():
            assert time.monotonic() < deadline, f"it goes on after {self.shown[self._seen :]!r}"
            if select.select([self.master], [], [], 0.02)[0]:
                self._read()
        while select.select([self.master], [], [], 0)[0] and self._read():
            pass
        return self._code

    def _has_ended(self):
        if self._code is None:
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code is not None

    def _read(self):
        try:
            data = os.read(self.master, 1 << 16)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return False
        self.shown += data
        return bool(data)
