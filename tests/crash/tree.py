"""All that is below a folder, kept in memory: taken in one go, laid out as often as wanted."""

from __future__ import annotations

import hashlib
import os
import re
import shutil

# What still comes from the clock on the wall, and from inodes.
_FROM_THE_CLOCK = re.compile(rb'"until":\d+|"_until":\{[^}]*\}')


class Tree:
    """Folders and files below one folder, with their modes, without times."""

    def __init__(self, folders: dict[str, int], files: dict[str, tuple[int, bytes]]) -> None:
        self._folders = folders
        self._files = files

    @classmethod
    def of(cls, root: str) -> Tree:
        """Read what is below *root*, which need not be there."""
        tree = cls({}, {})
        if os.path.isdir(root):
            tree._take(root, "")
        return tree

    def _take(self, path: str, name: str) -> None:
        with os.scandir(path) as found:
            entries = list(found)
        self._folders[name] = os.stat(path).st_mode & 0o7777
        for entry in entries:
            inner = os.path.join(name, entry.name)
            if entry.is_dir(follow_symlinks=False):
                self._take(entry.path, inner)
                continue
            with open(entry.path, "rb") as file:
                self._files[inner] = (os.fstat(file.fileno()).st_mode & 0o7777, file.read())

    def lay(self, root: str) -> None:
        """Make *root* hold exactly this."""
        there = Tree({}, {})
        if os.path.isdir(root):
            there._list(root, "")
        for name in there._files:
            os.unlink(os.path.join(root, name))
        for name in sorted(there._folders, reverse=True):
            if name not in self._folders:
                os.rmdir(os.path.join(root, name) if name else root)
        for name in sorted(self._folders):
            path = os.path.join(root, name) if name else root
            if name not in there._folders:
                os.mkdir(path, self._folders[name])
        for name, (mode, data) in self._files.items():
            fd = os.open(os.path.join(root, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(fd, rest) :]
            finally:
                os.close(fd)

    def _list(self, path: str, name: str) -> None:
        self._folders[name] = 0
        with os.scandir(path) as found:
            for entry in found:
                inner = os.path.join(name, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    self._list(entry.path, inner)
                else:
                    self._files[inner] = (0, b"")

    def digest(self, *, exactly: bool = False) -> str:
        """Return what is the same for the same names and bytes, whenever they were made.

        Unless asked for *exactly*, all files in the making are alike: whoever finds one that
        somebody else has left removes it, and never looks what is in it.
        """
        digest = hashlib.sha256()
        for name, (_, data) in sorted(self._files.items()):
            if name.endswith(".tmp") and not exactly:
                data = b""
            digest.update(repr((name, len(data))).encode())
            digest.update(_FROM_THE_CLOCK.sub(b"", data))
        digest.update(repr(sorted(self._folders)).encode())
        return digest.hexdigest()


def remove(root: str) -> None:
    """Remove all of it, if it is there."""
    shutil.rmtree(root, ignore_errors=True)
