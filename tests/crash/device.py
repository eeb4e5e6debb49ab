"""A disk that fails when it is told to: nbdkit's error filter below a real file system.

nbdkit keeps the disk in memory and makes writes fail as long as a file is there; nbdfuse shows it
as a file, the kernel makes a loop device of that, and ext4 or XFS stands on it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from types import TracebackType

from lab import may_not_mount

_SIZES = {"ext4": "64M", "xfs": "400M"}
_PATIENCE_SECONDS = 20.0


class Device:
    """A file system on a disk that can fail. A context manager; ``mounted`` is where it stands."""

    def __init__(self, folder: str, kind: str, rate: str = "100%") -> None:
        self.mounted = os.path.join(folder, "mounted")
        self._kind = kind
        self._rate = rate
        self._trigger = os.path.join(folder, "fails")
        self._socket = os.path.join(folder, "socket")
        self._shown = os.path.join(folder, "shown")
        self._disk = os.path.join(self._shown, "disk")
        self._loop = ""
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Device:
        os.mkdir(self.mounted)
        os.mkdir(self._shown)
        try:
            self._start(
                *("nbdkit", "-f", "-U", self._socket, "--filter=error", "memory"),
                *(_SIZES[self._kind], "error=EIO", f"error-pwrite-rate={self._rate}"),
                f"error-file={self._trigger}",
            )
            _wait(lambda: os.path.exists(self._socket), "nbdkit did not start")
            self._start("nbdfuse", self._disk, "--unix", self._socket)
            _wait(lambda: os.path.exists(self._disk), "nbdfuse did not start")
            self._loop = _call("losetup", "--find", "--show", self._disk).strip()
            _call(f"mkfs.{self._kind}", "-q", self._loop)
            self.mount()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.works_again()
        if os.path.ismount(self.mounted):
            self.unmount()
        if self._loop:
            _call("losetup", "-d", self._loop)
        if os.path.ismount(self._shown):
            # The loop device lets go of it a moment after it was asked to: lazily, then.
            subprocess.run(["fusermount3", "-uz", self._shown], check=False)
        for process in reversed(self._processes):
            process.terminate()
            process.wait()

    def fails(self) -> None:
        """From now on writes fail, some or all of them."""
        with open(self._trigger, "wb"):
            pass

    def works_again(self) -> None:
        """From now on they do not."""
        if os.path.exists(self._trigger):
            os.unlink(self._trigger)

    def mount(self) -> None:
        """Mount it; what the kernel remembered of it is forgotten."""
        _call("mount", self._loop, self.mounted)

    def mend(self) -> None:
        """Check the unmounted file system, as a system does that starts after an error."""
        if self._kind == "ext4":  # XFS does so when it is mounted
            subprocess.run(["e2fsck", "-fy", self._loop], capture_output=True, check=False)

    def unmount(self) -> None:
        """Unmount it, once nobody uses it."""
        _wait(
            lambda: not subprocess.run(["umount", self.mounted], capture_output=True).returncode,
            f"{self.mounted} is in use",
        )

    def takes_writes(self) -> bool:
        """Whether the file system still does, or has given up after an error."""
        path = os.path.join(self.mounted, "probe")
        try:
            fd = os.open(path, os.O_CREAT | os.O_WRONLY)
            try:
                os.write(fd, b"x")
                os.fsync(fd)
            finally:
                os.close(fd)
                os.unlink(path)
        except OSError:
            return False
        return True

    def _start(self, *words: str) -> None:
        self._processes.append(
            subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )


def missing() -> str | None:
    """Say what this machine lacks to have disks that fail."""
    if reason := may_not_mount():
        return reason
    needed = ("nbdkit", "nbdfuse", "losetup", "fusermount3", "mkfs.ext4", "mkfs.xfs")
    lacking = [name for name in needed if shutil.which(name) is None]
    if lacking:
        return f"{', '.join(lacking)} not installed"
    return None if os.path.exists("/dev/fuse") else "no /dev/fuse"


def _call(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def _wait(is_so: Callable[[], bool], otherwise: str) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > until:
            raise OSError(otherwise)
        time.sleep(0.02)
