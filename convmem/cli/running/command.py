"""The command that is run: found as a shell would find it, and started with its own streams."""

from __future__ import annotations

import errno
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit codes, as shells have them."""


class CannotRun(Exception):
    """The command cannot be started; ``number`` is the system's reason.

    ``status`` is the exit code that shells have for that.
    """

    def __init__(self, number: int) -> None:
        is_missing = number in (errno.ENOENT, errno.ENOTDIR)
        super().__init__("command not found" if is_missing else os.strerror(number).lower())
        self.number = number
        self.status = NOT_FOUND if is_missing else NOT_EXECUTABLE


def find(name: str, env: Mapping[str, str]) -> str:
    """Return the file that *name* stands for.

    Raises:
        CannotRun: There is none, or it cannot be executed.
    """
    if "/" in name:
        found = [name]
    else:
        folders = env.get("PATH", os.defpath).split(os.pathsep) if name else []
        found = [os.path.join(folder or ".", name) for folder in folders]
    worst = errno.ENOENT
    for path in found:
        if os.path.isdir(path):
            worst = errno.EISDIR if "/" in name else worst
        elif os.path.exists(path):
            if os.access(path, os.X_OK):
                return path
            worst = errno.EACCES
    raise CannotRun(worst)


def start(
    path: str,
    words: list[bytes],
    env: Mapping[str, str],
    streams: Mapping[int, int],
    *,
    in_front: int | None = None,
) -> int:
    """Start the command and return its process.

    Args:
        path: Its file.
        words: Its name and arguments.
        env: Its environment.
        streams: What its standard streams are; others stay as they are.
        in_front: A terminal in front of which it gets a group of its own.

    Raises:
        CannotRun: The system refuses it.
    """
    reason, tell = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            if in_front is not None:
                # Nobody in the background may do that, unless this is ignored.
                signal.signal(signal.SIGTTOU, signal.SIG_IGN)
                os.setpgid(0, 0)
                os.tcsetpgrp(in_front, os.getpid())
                signal.signal(signal.SIGTTOU, signal.SIG_DFL)
            for number, descriptor in streams.items():
                if descriptor == number:
                    os.set_inheritable(number, True)
                else:
                    os.dup2(descriptor, number)
            # What Python ignores for itself.
            for name in ("SIGPIPE", "SIGXFSZ"):
                if hasattr(signal, name):
                    signal.signal(getattr(signal, name), signal.SIG_DFL)
            _execute(path, words, env)
        except OSError as error:
            os.write(tell, str(error.errno or 0).encode())
        finally:
            os._exit(NOT_EXECUTABLE)
    os.close(tell)
    told = b""
    while part := os.read(reason, 16):  # it ends where the command begins
        told += part
    os.close(reason)
    if told:
        os.waitpid(process, 0)
        raise CannotRun(int(told))
    return process


def status_of(waited: int) -> int:
    """Return the exit code that shells have for what ``waitpid`` told."""
    code = os.waitstatus_to_exitcode(waited)
    return 128 - code if code < 0 else code


def _execute(path: str, words: list[bytes], env: Mapping[str, str]) -> None:
    try:
        os.execve(path, words, env)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        # A script that does not say whose it is: the shell's, as everywhere.
        os.execve("/bin/sh", [b"sh", os.fsencode(path), *words[1:]], env)


def environment(env: Mapping[str, str], **more: str) -> dict[str, str]:
    """Return *env* with *more* in it, as their bytes are on this system."""
    if sys.getfilesystemencoding() != "utf-8":
        more = {
            name: os.fsdecode(value.encode("utf-8", "surrogateescape"))
            for name, value in more.items()
        }
    return {**env, **more}
