"""File systems on loop devices, for trials that take the disk away from under them.

``alone`` gives the process mounts of its own, and loop devices here go with their last user: of a
trial that ends in any way, kill -9 included, nothing is left.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import struct
import subprocess
import time

from lab import may_not_mount

SECTOR = 512
MEBIBYTE = 1 << 20

# Of linux/sched.h, linux/mount.h, linux/loop.h and linux/fs.h.
_CLONE_NEWNS = 0x00020000
_MS_PRIVATE, _MS_REC = 1 << 18, 1 << 14
_MNT_DETACH = 2
_LOOP_SET_FD, _LOOP_SET_STATUS64, _LOOP_CTL_GET_FREE = 0x4C00, 0x4C04, 0x4C82
_LOOP_CLR_FD = 0x4C01
_LO_FLAGS_AUTOCLEAR = 4
_BLKFLSBUF = 0x1261
_SHUTDOWN = 0x8004587D

# Flags of a shutdown, as ext4 and XFS have them.
FLUSH_ALL, FLUSH_JOURNAL, FLUSH_NOTHING = 0, 1, 2

CAN_SHUT_DOWN = ("ext4", "xfs")

# How large, and how made: as small as their makers allow, so that an image is quickly mounted.
_KINDS: dict[str, tuple[int, tuple[str, ...], str]] = {
    "ext4": (48 * MEBIBYTE, ("mkfs.ext4", "-q", "-F", "-J", "size=4", "-I", "256"), ""),
    "xfs": (304 * MEBIBYTE, ("mkfs.xfs", "-q", "-f", "-K"), "nouuid"),
    "btrfs": (128 * MEBIBYTE, ("mkfs.btrfs", "-q", "-f", "-K", "--mixed"), "nodiscard"),
}


class _Kernel:
    """The calls that Python 3.11 has no function for."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)

    def prctl(self, *given: int) -> None:
        self._checked(self._library.prctl(*map(ctypes.c_ulong, given)), "prctl")

    def unshare(self, flags: int) -> None:
        self._checked(self._library.unshare(flags), "unshare")

    def mount(self, source: str, target: str, kind: str, flags: int, data: str = "") -> None:
        result = self._library.mount(
            source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()
        )
        self._checked(result, target)

    def unmount(self, target: str, flags: int = 0) -> None:
        self._checked(self._library.umount2(target.encode(), flags), target)

    @staticmethod
    def _checked(result: int, what: str) -> None:
        if result:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), what)


kernel = _Kernel()


def missing(kind: str) -> str | None:
    """Say what this machine lacks for trials with file systems of that kind, or ``None``."""
    if reason := may_not_mount():
        return reason
    maker = _KINDS[kind][1][0]
    if shutil.which(maker) is None:
        return f"needs {maker}"
    for path in ("/dev/loop-control", "/dev/fuse"):
        if not os.path.exists(path):
            return f"needs {path}"
    return None


def alone() -> None:
    """Give this process mounts of its own, that nobody else sees and that end with it."""
    kernel.unshare(_CLONE_NEWNS)
    kernel.mount("none", "/", "none", _MS_REC | _MS_PRIVATE)
    # Others' disks that come and go as ours do: a copy of their mounts would keep them from going.
    with open("/proc/self/mounts", encoding="utf-8") as file:
        mounts = [line.split(" ")[:3] for line in file]
    for source, target, kind in reversed(mounts):
        if source.startswith("/dev/loop") or kind.startswith("fuse"):
            kernel.unmount(target.encode().decode("unicode_escape"), _MNT_DETACH)


def make_image(kind: str, path: str) -> None:
    """Make the sparse file *path* with an empty file system of that kind in it."""
    size, maker, _ = _KINDS[kind]
    with open(path, "wb") as file:
        file.truncate(size)
    subprocess.run([*maker, path], check=True, stdin=subprocess.DEVNULL, capture_output=True)


class Loop:
    """A loop device on the file *path*, with a place where its file system is mounted."""

    def __init__(self, kind: str, path: str, target: str) -> None:
        self.kind = kind
        self.target = target
        self._is_mounted = False
        backing = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.fd = self._attach(backing)
        finally:
            os.close(backing)

    def mount(self) -> None:
        """Mount it, with all that the file system does to recover.

        Raises:
            OSError: It cannot.
        """
        # What the kernel remembers of the blocks is not so any more.
        fcntl.ioctl(self.fd, _BLKFLSBUF)
        kernel.mount(self.device, self.target, self.kind, 0, _KINDS[self.kind][2])
        self._is_mounted = True

    def unmount(self) -> None:
        """Unmount it. Waits for processes that were killed to let go."""
        if not self._is_mounted:
            return
        for _ in range(500):
            try:
                kernel.unmount(self.target)
                break
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                time.sleep(0.01)
        else:
            kernel.unmount(self.target)
        self._is_mounted = False

    def abandon(self) -> None:
        """Unmount it; what is on it then is nobody's concern."""
        if self.kind in CAN_SHUT_DOWN:
            self.shut_down(FLUSH_NOTHING)  # then there is nothing to write
        self.unmount()

    def shut_down(self, flag: int) -> None:
        """Let the mounted file system lose all that is not on the disk, as a crash would."""
        fd = os.open(self.target, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("<I", flag))
        finally:
            os.close(fd)

    def close(self) -> None:
        """Unmount, and let the device go."""
        try:
            self.unmount()
        finally:
            os.close(self.fd)

    def _attach(self, backing: int) -> int:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        try:
            while True:
                self.device = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
                device = os.open(self.device, os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.ioctl(device, _LOOP_SET_FD, backing)
                except OSError as error:
                    os.close(device)
                    if error.errno == errno.EBUSY:  # somebody was quicker
                        continue
                    raise
                break
        finally:
            os.close(control)
        # struct loop_info64: its flags are the fourth word after six of eight bytes.
        info = bytearray(232)
        struct.pack_into("<I", info, 52, _LO_FLAGS_AUTOCLEAR)
        fcntl.ioctl(device, _LOOP_SET_STATUS64, bytes(info))
        return device
