"""Replacing a file of the user's in one step: whoever reads it sees the old one or the new one."""

from __future__ import annotations

import os
import stat

from convmem.errors import UsageError, storage_error


def replace_file(path: str, data: bytes, *, flag: str, mode: int = 0o600) -> None:
    """Make the file at *path* hold *data*. What is no regular file (``/dev/null``) is written to.

    Args:
        path: A link stays one.
        data: All of it.
        flag: The option that named the file, for messages.
        mode: Of the file, whatever the umask.

    Raises:
        UsageError: It is a folder.
        StorageError: It cannot be written; the old file is as it was.
    """
    target = os.path.realpath(path)
    try:
        found = _kind_of(target)
        if found is not None and stat.S_ISDIR(found):
            raise UsageError(f"{flag}: {path} is a folder", hint="name a file in it")
        if found is not None and not stat.S_ISREG(found):
            # A device or a pipe: putting a file in its place would take it from everybody.
            _write(os.open(target, os.O_WRONLY), data)
            return
        folder, name = os.path.split(target)
        # Without the ending that whoever reads the folder may look for.
        aside = os.path.join(folder, f".{name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
        # Made anew and never followed: somebody else may write to the folder too.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        fd = os.open(aside, flags, mode)
        try:
            os.fchmod(fd, mode)
            _write(fd, data)
            os.replace(aside, target)
        except BaseException:
            try:
                os.unlink(aside)
            except FileNotFoundError:
                pass  # an interrupt that came when it was in place already
            raise
    except OSError as error:
        raise storage_error(error, f"cannot write {path}") from error


def _kind_of(path: str) -> int | None:
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None


def _write(fd: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
