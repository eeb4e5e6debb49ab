"""Files and folders that cannot be led astray: every name is taken relative to an open folder.

A name here is one path component. Links are not followed, pipes and devices are not opened,
folders are made 0700 and files 0600 whatever the umask.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from _thread import RLock, start_new_thread

from convmem.errors import ConvmemError, StorageDenied, StorageFull, storage_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    # Bytes of a file from one place to another, or bytes as given.
    Piece: TypeAlias = tuple[int, int] | bytes

FILE_MODE = 0o600
FOLDER_MODE = 0o700

# One large sync makes every other writer of the disk wait for it: 51 ms for 100 MiB on ext4.
SYNC_EVERY_BYTES = 1 << 20
# What is copied at a time: see ``blocks.BLOCK_BYTES``.
_COPY_BYTES = 120 << 10

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
# A planted pipe would otherwise hold an open() until somebody writes to it.
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_COMMON = _NOFOLLOW | _NONBLOCK | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

if sys.platform == "darwin":
    import fcntl

    def sync_data(fd: int) -> None:
        """Ask the drive itself to write: fsync alone leaves the bytes in its cache on macOS."""
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)

else:
    sync_data = getattr(os, "fdatasync", os.fsync)


class Folder:
    """An open folder. Close it, or let it go: it closes itself.

    Attributes:
        path: Where it was when it was opened, for messages.
        fd: Its descriptor.
    """

    __slots__ = ("_identity", "_lasting", "fd", "path")

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        found = os.fstat(fd)
        self._identity = (found.st_dev, found.st_ino)
        self._lasting: set[tuple[int, int]] = set()

    @classmethod
    def open(cls, path: str, *, create: bool = False) -> Folder:
        """Open the folder at *path*; with *create*, make it and what leads to it first.

        Raises:
            FileNotFoundError: It is not there and *create* is false.
            StorageError: It is not a folder, belongs to somebody else, or is open to others.
        """
        if create:
            _make_folders(path)
        try:
            fd = os.open(path, os.O_RDONLY | _DIRECTORY | _COMMON)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno == errno.ENOTDIR:
                raise StorageDenied(f"{path} is not a folder", errno=error.errno) from error
            raise storage_error(error, f"cannot open {path}") from error
        opened = cls(path, fd)
        _check_owner(path, os.fstat(fd))
        return opened

    def is_current(self) -> bool:
        """Whether *path* still leads here: not after it was removed, moved or replaced."""
        try:
            found = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def close(self) -> None:
        """Close the descriptor. Closing twice is harmless."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    def stat(self, name: str) -> os.stat_result:
        """Return what *name* is, without following it."""
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """Whether something is called *name*, also in a subfolder."""
        try:
            self.stat(name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def names_in(self, subfolder: str) -> list[str]:
        """Return what stands in a subfolder, but for files in the making; nothing if it is none."""
        try:
            inner = self.existing_subfolder(subfolder)
        except FileNotFoundError:
            return []
        try:
            return [entry.name for entry in inner.entries() if not entry.name.startswith(".")]
        finally:
            inner.close()

    def open_file(self, name: str, flags: int) -> int:
        """Open the regular file *name*. With ``O_CREAT`` it must not have been there before.

        Raises:
            FileNotFoundError, FileExistsError: As they say.
            StorageDenied: It is a link, a pipe, a device or a folder.
        """
        if flags & os.O_CREAT:
            try:
                fd = os.open(name, flags | os.O_EXCL | _COMMON, FILE_MODE, dir_fd=self.fd)
            except OSError as error:
                self._place(error, name)
                raise
            try:
                # The umask may have taken bits that the owner needs.
                if stat.S_IMODE(os.fstat(fd).st_mode) != FILE_MODE:
                    os.fchmod(fd, FILE_MODE)
            except BaseException:
                os.close(fd)
                self.remove(name)
                raise
            return fd
        try:
            fd = os.open(name, flags | _COMMON, dir_fd=self.fd)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                raise self._not_a_file(name, error.errno) from error
            self._place(error, name)
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise self._not_a_file(name, None)
        return fd

    def subfolder(self, name: str, *, is_lasting: bool = True) -> Folder:
        """Open the folder *name* inside, making it if it is not there.

        Synced, once, also where it was there: who made it may have died before it did that. What
        can be made anew at any time need not be *lasting*.
        """
        try:
            os.mkdir(name, FOLDER_MODE, dir_fd=self.fd)
            # The umask may have taken bits that we need to go in.
            os.chmod(name, FOLDER_MODE, dir_fd=self.fd)
        except FileExistsError:
            pass
        except OSError as error:
            self._place(error, name)
            raise
        opened = self.existing_subfolder(name)
        if is_lasting and opened._identity not in self._lasting:
            self.sync()
            self._lasting.add(opened._identity)
        return opened

    def existing_subfolder(self, name: str) -> Folder:
        """Open the folder *name* inside.

        Raises:
            FileNotFoundError: It is not there.
            StorageDenied: It is a link or not a folder.
        """
        path = os.path.join(self.path, name)
        try:
            fd = os.open(name, os.O_RDONLY | _DIRECTORY | _COMMON, dir_fd=self.fd)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise StorageDenied(
                    f"{path} is not a folder",
                    hint="a link or a file stands where a folder of convmem's own should be",
                    errno=error.errno,
                ) from error
            self._place(error, name)
            raise
        return Folder(path, fd)

    def rename(self, source: str, target: str) -> None:
        """Put the file *source* in the place of *target*, in one step for every observer."""
        os.rename(source, target, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def take(self, other: Folder, source: str, target: str) -> None:
        """Move the file *source* of another folder here, as *target*, in one step."""
        os.rename(source, target, src_dir_fd=other.fd, dst_dir_fd=self.fd)

    def remove(self, name: str) -> bool:
        """Remove the file *name*; say whether it was there."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        return True

    def sync(self) -> None:
        """Make the names in this folder survive a power cut. Threads that wait share one sync."""
        try:
            _sync_shared(self._identity, self.fd)
        except OSError as error:
            # Some file systems have no notion of syncing a folder; they then order it themselves.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise

    def entries(self) -> Iterator[os.DirEntry[str]]:
        """Yield what stands in this folder, in no order. Use each before asking for the next."""
        fd = self._opened_again()
        try:
            with os.scandir(fd) as found:
                yield from found
        finally:
            os.close(fd)

    def names(self) -> list[str]:
        """Return the names of all that stands in this folder, in no order."""
        fd = self._opened_again()
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def _opened_again(self) -> int:
        """Return another descriptor of the folder, to list it.

        A copy of our own would share its place in the list with every other walk: two at a time
        would each see a part, or never come to an end.
        """
        try:
            return os.open(".", os.O_RDONLY | _DIRECTORY | _COMMON, dir_fd=self.fd)
        except OSError as error:
            self._place(error, "")
            raise

    def _place(self, error: OSError, name: str) -> None:
        """Give *error* the whole path: the name alone tells nobody where to look."""
        error.filename = os.path.join(self.path, name) if name else self.path

    def _not_a_file(self, name: str, number: int | None) -> StorageDenied:
        return StorageDenied(
            f"{os.path.join(self.path, name)} is not a regular file",
            hint="a link, pipe or device stands where a log should be; nothing was followed",
            errno=number,
        )


class _Syncs:
    """The syncs of one folder, one after the other: each is for all who asked before it began."""

    __slots__ = ("begun", "done", "turn", "users")

    def __init__(self) -> None:
        self.begun = 0
        self.done = 0
        self.users = 0
        # The same thread may come again: a signal's handler flushes what waits.
        self.turn = RLock()


_syncs: dict[tuple[int, int], _Syncs] = {}
_syncs_guard = RLock()


def _sync_shared(identity: tuple[int, int], fd: int) -> None:
    with _syncs_guard:
        syncs = _syncs.setdefault(identity, _Syncs())
        syncs.users += 1
        ticket = syncs.begun + 1  # one that runs already may have passed our names by
    try:
        with syncs.turn:
            if syncs.done >= ticket:
                return
            with _syncs_guard:
                syncs.begun += 1
                mine = syncs.begun
            os.fsync(fd)
            syncs.done = max(syncs.done, mine)
    finally:
        with _syncs_guard:
            syncs.users -= 1
            if not syncs.users:
                _syncs.pop(identity, None)


def _forget_syncs() -> None:
    """In a forked child: the threads that held these locks are not here."""
    global _syncs_guard
    _syncs_guard = RLock()
    _syncs.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_syncs)


def write_all(fd: int, data: bytes) -> None:
    """Write all of *data*. A disk that fills up in the middle raises and leaves a part written."""
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def write_all_at(fd: int, data: bytes, offset: int) -> int:
    """Write all of *data* at *offset*; return how much that is. As ``write_all`` else."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
    return len(data)


def forget_cached(fd: int) -> None:
    """Have the file read from the disk from now on, not from the system's memory.

    To be called when a sync has failed. The system then takes the bytes that it could not write
    for written: everybody reads them, the next sync succeeds, and a restart shows that they were
    never there. A retry would find its id among them.
    """
    if hasattr(os, "posix_fadvise"):
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            return  # nothing more can be done here, and the failed sync is told anyway


def read_exactly(fd: int, count: int, offset: int) -> bytes:
    """Read up to *count* bytes at *offset*, less only where the file ends."""
    data = os.pread(fd, count, offset)
    if len(data) == count or not data:
        return data
    parts = [data]
    missing = count - len(data)
    while missing:
        data = os.pread(fd, missing, offset + count - missing)
        if not data:
            break
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def temporary_name(name: str) -> str:
    """Return a new name for a file in the making that belongs to the log *name*.

    It begins with a dot, so that it is never taken for a conversation.
    """
    return f".{name}.{os.getpid()}.{os.urandom(4).hex()}.tmp"


def owner_of_temporary(file_name: str) -> str | None:
    """Return the log that a file in the making belongs to, or ``None`` if it is no such file."""
    parts = file_name.rsplit(".", 3)
    if len(parts) != 4 or parts[3] != "tmp" or not parts[0].startswith("."):
        return None
    return parts[0][1:] if parts[1].isdigit() and len(parts[2]) == 8 else None


def write_aside(folder: Folder, name: str, temporary: str, chunks: Iterable[bytes]) -> None:
    """Make the file *name* hold *chunks*, durably and in one step: whole or not at all."""
    fd = folder.open_file(temporary, os.O_WRONLY | os.O_CREAT)
    try:
        try:
            write_chunks(fd, chunks)
            # Before the rename: a power cut may otherwise leave the name on an empty file.
            sync_data(fd)
        finally:
            os.close(fd)
        folder.rename(temporary, name)
    except BaseException:
        folder.remove(temporary)
        raise
    folder.sync()


def write_chunks(fd: int, chunks: Iterable[bytes]) -> None:
    """Write *chunks*, synced by the megabyte."""
    waiting = 0
    for chunk in chunks:
        write_all(fd, chunk)
        waiting += len(chunk)
        if waiting >= SYNC_EVERY_BYTES:
            sync_data(fd)
            waiting = 0


def copy_pieces(source: int, target: int, pieces: Iterable[Piece]) -> None:
    """Append byte spans of *source*, and lines as given, to *target*, synced by the megabyte."""
    write_chunks(target, chunks_of(source, pieces))


def chunks_of(source: int, pieces: Iterable[Piece]) -> Iterator[bytes]:
    """Yield byte spans of *source*, some hundred kilobytes at a time, and bytes as given.

    Raises:
        ConvmemError: The file is shorter than that by now.
    """
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        at, end = piece
        while at < end:
            data = os.pread(source, min(_COPY_BYTES, end - at), at)
            if not data:
                raise ConvmemError("the log was cut short while it was being rewritten")
            yield data
            at += len(data)


def check_room(folder: Folder, needed: int, doing: str, hint: str) -> None:
    """Raise ``StorageFull`` if *doing* something needs more bytes than are free."""
    try:
        room = os.fstatvfs(folder.fd)
    except (OSError, AttributeError):
        return  # not every file system tells; a full disk is met when it is met
    free = room.f_bavail * room.f_frsize
    if free < needed:
        raise StorageFull(f"{doing} needs {needed:,} bytes and {free:,} are free", hint=hint)


# A thread costs as much as freeing some megabytes.
_LONG_TO_FREE_BYTES = 4 << 20


def close_aside(fd: int) -> None:
    """Close a descriptor without waiting for what the system does then.

    Who is the last to close a file that a compaction has replaced waits while its blocks are
    freed, 170 ms for a gigabyte, and with it whoever waits for the lock that it may hold.
    """
    try:
        found = os.fstat(fd)
        takes_long = found.st_nlink == 0 and found.st_size >= _LONG_TO_FREE_BYTES
    except OSError:
        takes_long = False  # of a file system that has given up not even this is to be had
    if takes_long:
        try:
            start_new_thread(os.close, (fd,))
            return
        except RuntimeError:
            pass  # the interpreter is ending, and starts no more threads
    os.close(fd)


def _make_folders(path: str) -> None:
    missing = []
    at = path
    while not os.path.isdir(at):
        missing.append(at)
        parent = os.path.dirname(at)
        if parent == at:
            break
        at = parent
    for folder in reversed(missing):
        try:
            os.mkdir(folder, FOLDER_MODE)
        except FileExistsError:
            continue  # another process was quicker
        except OSError as error:
            raise storage_error(error, f"cannot make the folder {folder}") from error
        os.chmod(folder, FOLDER_MODE)
        above = os.open(os.path.dirname(folder) or ".", os.O_RDONLY | _DIRECTORY)
        try:
            os.fsync(above)
        finally:
            os.close(above)


def _check_owner(path: str, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise StorageDenied(
            f"{path} belongs to another user (uid {found.st_uid})",
            hint="an archive is private to one user; run as its owner, or name another folder",
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StorageDenied(
            f"{path} can be written by other users",
            hint=f"an archive is private to one user; try: chmod go-w {path}",
        )
