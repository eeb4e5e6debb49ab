"""A disk in memory that writes down all that is written to it, and can be as it was at any moment.

The disk is one file, served through FUSE by a process of its own, for a loop device to stand on.
It speaks the kernel's protocol itself, since one file needs little of it. What is written goes to
a *layer* over the disk; while recording, also to the log. ``rewind`` and ``advance`` choose how
much of the log the disk has, ``drop_layer`` forgets what a mounted file system wrote since.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import pickle
import select
import signal
import struct
import traceback
from dataclasses import dataclass

from blocks_mount import SECTOR, kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

BLOCK = 4096
FLUSH = -1  # stands in the log where a write has its offset
_MOST_WRITTEN = 1 << 20

# The kernel's numbers, of linux/fuse.h.
_FORGET, _GETATTR, _SETATTR, _OPEN, _READ, _WRITE = 2, 3, 4, 14, 15, 16
_STATFS, _RELEASE, _FSYNC, _FLUSH, _INIT, _INTERRUPT, _DESTROY = 17, 18, 20, 25, 26, 36, 38
_BATCH_FORGET = 42
_DIRECT_IO = 1
_ASYNC_READ, _BIG_WRITES, _MAX_PAGES = 1 << 0, 1 << 5, 1 << 22
_HEADER = struct.Struct("<IIQQIIIHH")
_ANSWER = struct.Struct("<IiQ")
_PLACE = struct.Struct("<QQI")  # file handle, offset, size
_ATTRIBUTES = struct.Struct("<QII6Q10I")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that the disk was told: a write of so many bytes there, or a flush."""

    offset: int
    length: int

    @property
    def is_flush(self) -> bool:
        return self.offset == FLUSH


class BlockDevice:
    """The recording disk, as the one who uses it sees it. Close it, or be killed: it goes.

    Attributes:
        path: The file to put a loop device on, once it is mounted.
    """

    def __init__(self, image: str) -> None:
        """Start the process that will serve a copy of the file *image*.

        Call this before ``alone``: whoever ends last takes the mounts down that it shares with
        nobody else, and would wait for itself if it were the one who serves them.
        """
        self.path = ""
        self._count = mmap.mmap(-1, mmap.PAGESIZE)
        self._fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        theirs, self._orders = os.pipe()
        self._replies, answers = os.pipe()
        self._server = os.fork()
        if self._server == 0:
            try:
                kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                os.close(self._orders)
                os.close(self._replies)
                _Server(_Disk(image), self._count, self._fuse, theirs, answers).serve()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(theirs)
        os.close(answers)

    def mount(self, path: str) -> None:
        """Let the disk appear as the file *path*, in the place of the one that is there."""
        data = f"fd={self._fuse},rootmode=100000,user_id=0,group_id=0"
        kernel.mount("convmem-lab", path, "fuse", 0, data)
        os.close(self._fuse)
        self.path = path
        self._ask("is_there")

    @property
    def count(self) -> int:
        """How many entries the log has now. Any process that was forked from here may ask."""
        return int.from_bytes(self._count[:8], "little")

    def record(self) -> None:
        """Write down from now on all that comes; the layer becomes part of the disk."""
        self._ask("record")

    def stop(self) -> list[Entry]:
        """Write nothing down any more; return what was, and put the disk back to its beginning."""
        return [Entry(*each) for each in self._ask("stop")]

    def advance(self, to: int) -> None:
        """Give the disk what the log has up to its entry *to*, and drop the layer."""
        self._ask("advance", to)

    def add(self, pieces: list[tuple[int, int, int]]) -> None:
        """Put pieces of the log's entries into the layer: (entry, from byte, to byte)."""
        self._ask("add", pieces)

    def drop_layer(self) -> None:
        """Forget what was written since the last ``advance``."""
        self._ask("drop_layer")

    def save(self, path: str) -> None:
        """Write the disk as it began, and the log, into the file *path*."""
        self._ask("save", path)

    def load(self, path: str) -> list[Entry]:
        """Take both from there again; return the log."""
        return [Entry(*each) for each in self._ask("load", path)]

    def close(self) -> None:
        """End it. Nothing may be mounted on it any more."""
        if self.path:
            kernel.unmount(self.path)
        os.close(self._orders)
        os.close(self._replies)
        os.waitpid(self._server, 0)

    def _ask(self, what: str, *given: Any) -> Any:
        order = pickle.dumps((what, given))
        os.write(self._orders, struct.pack("<I", len(order)))
        at = 0
        while at < len(order):
            at += os.write(self._orders, order[at:])
        size = _read_all(self._replies, 4)
        return pickle.loads(_read_all(self._replies, struct.unpack("<I", size)[0]))


class _Disk:
    """What the disk holds: the recorded part, and a layer of blocks over it."""

    def __init__(self, image: str) -> None:
        self.size = os.path.getsize(image)
        # Memory that nobody has written to costs nothing, so a large empty disk is a small one.
        self.base = mmap.mmap(-1, self.size)
        with open(image, "rb") as file:
            self._fill(file)
        self.layer: dict[int, bytearray] = {}
        self.log: list[tuple[int, bytes]] = []
        self.first: dict[int, bytes] = {}  # blocks as they were before the log
        self.applied = 0
        self.is_recording = False

    def _fill(self, file: Any) -> None:
        at = 0
        while at < self.size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # the rest is a hole
                break
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            while at < end:
                data = os.pread(file.fileno(), min(1 << 20, end - at), at)
                if data.count(0) != len(data):
                    self.base[at : at + len(data)] = data
                at += len(data)

    def read(self, offset: int, size: int) -> bytes:
        layer = self.layer
        if not layer:
            return self.base[offset : offset + size]
        first, last = offset // BLOCK, (offset + size - 1) // BLOCK
        if first == last:
            block = layer.get(first)
            if block is None:
                return self.base[offset : offset + size]
            inside = offset - first * BLOCK
            return bytes(block[inside : inside + size])
        parts = [
            layer.get(at) or self.base[at * BLOCK : (at + 1) * BLOCK]
            for at in range(first, last + 1)
        ]
        inside = offset - first * BLOCK
        return b"".join(parts)[inside : inside + size]

    def write(self, offset: int, data: memoryview) -> None:
        if self.is_recording:
            kept = bytes(data)
            self.log.append((offset, kept))
            self._apply(offset, kept)
            self.applied = len(self.log)
        else:
            self._cover(offset, data)

    def flush(self) -> None:
        if self.is_recording:
            self.log.append((FLUSH, b""))
            self.applied = len(self.log)

    def _cover(self, offset: int, data: bytes | memoryview) -> None:
        done = 0
        while done < len(data):
            at, inside = divmod(offset + done, BLOCK)
            length = min(BLOCK - inside, len(data) - done)
            block = self.layer.get(at)
            if block is None:
                block = bytearray(self.base[at * BLOCK : (at + 1) * BLOCK])
                self.layer[at] = block
            block[inside : inside + length] = data[done : done + length]
            done += length

    def _apply(self, offset: int, data: bytes) -> None:
        for at in range(offset // BLOCK, (offset + len(data) - 1) // BLOCK + 1):
            if at not in self.first:
                self.first[at] = self.base[at * BLOCK : (at + 1) * BLOCK]
        self.base[offset : offset + len(data)] = data

    # --- orders ------------------------------------------------------------------------------

    def is_there(self) -> bool:
        return True

    def record(self) -> None:
        for at, block in self.layer.items():
            self.base[at * BLOCK : at * BLOCK + len(block)] = bytes(block)
        self.layer.clear()
        self.log.clear()
        self.first.clear()
        self.applied = 0
        self.is_recording = True

    def stop(self) -> list[tuple[int, int]]:
        self.is_recording = False
        self._rewind()
        return [(offset, len(data)) for offset, data in self.log]

    def _rewind(self) -> None:
        self.layer.clear()
        for at, block in self.first.items():
            self.base[at * BLOCK : at * BLOCK + len(block)] = block
        self.applied = 0

    def advance(self, to: int) -> None:
        if to < self.applied:
            self._rewind()
        self.layer.clear()
        for offset, data in self.log[self.applied : to]:
            if offset != FLUSH:
                self._apply(offset, data)
        self.applied = to

    def add(self, pieces: list[tuple[int, int, int]]) -> None:
        for entry, start, end in pieces:
            offset, data = self.log[entry]
            self._cover(offset + start, data[start:end])

    def drop_layer(self) -> None:
        self.layer.clear()

    def save(self, path: str) -> None:
        self._rewind()
        blocks = {}
        for at in range(0, self.size, BLOCK):
            block = self.base[at : at + BLOCK]
            if block.count(0) != len(block):
                blocks[at] = block
        with open(path, "wb") as file:
            pickle.dump((blocks, self.log), file)

    def load(self, path: str) -> list[tuple[int, int]]:
        with open(path, "rb") as file:
            blocks, self.log = pickle.load(file)
        self.base = mmap.mmap(-1, self.size)
        for at, block in blocks.items():
            self.base[at : at + len(block)] = block
        self.first.clear()
        self.layer.clear()
        self.applied = 0
        return [(offset, len(data)) for offset, data in self.log]


class _Server:
    """The process that the kernel asks."""

    def __init__(self, disk: _Disk, count: mmap.mmap, fuse: int, orders: int, replies: int) -> None:
        self._disk = disk
        self._count = count
        self._fuse = fuse
        self._orders = orders
        self._replies = replies
        self._answers: dict[int, Callable[[memoryview], bytes]] = {
            _INIT: self._init,
            _GETATTR: self._attributes,
            _SETATTR: self._attributes,
            _OPEN: lambda _: struct.pack("<QII", 0, _DIRECT_IO, 0),
            _READ: self._read,
            _WRITE: self._write,
            _STATFS: lambda _: bytes(80),
            _RELEASE: lambda _: b"",
            _FLUSH: lambda _: b"",
            _FSYNC: self._sync,
            _DESTROY: lambda _: b"",
        }

    def serve(self) -> None:
        """Answer until whoever gives the orders is gone."""
        poll = select.poll()
        poll.register(self._orders, select.POLLIN)
        buffer = bytearray(_MOST_WRITTEN + BLOCK)
        view = memoryview(buffer)
        while True:
            for fd, _ in poll.poll():
                if fd == self._orders:
                    head = _read_all(fd, 4)
                    size = struct.unpack("<I", head)[0] if len(head) == 4 else 0
                    order = _read_all(fd, size)
                    if not order or len(order) < size:
                        return  # killed in the middle of a word, perhaps
                    what, given = pickle.loads(order)
                    if what == "is_there":
                        poll.register(self._fuse, select.POLLIN)
                    reply = pickle.dumps(getattr(self._disk, what)(*given))
                    self._tell_count()
                    reply = struct.pack("<I", len(reply)) + reply
                    at = 0
                    while at < len(reply):
                        at += os.write(self._replies, reply[at:])
                    continue
                try:
                    size = os.readv(fd, [buffer])
                except OSError as error:
                    if error.errno == errno.ENODEV:  # unmounted
                        poll.unregister(fd)
                        continue
                    if error.errno in (errno.ENOENT, errno.EINTR):  # the asker was interrupted
                        continue
                    raise
                self._answer(view[:size])

    def _answer(self, request: memoryview) -> None:
        _, what, unique, *_ = _HEADER.unpack_from(request)
        if what in (_FORGET, _INTERRUPT, _BATCH_FORGET):
            return
        answer = self._answers.get(what)
        data, error = b"", -errno.ENOSYS
        if answer is not None:
            data, error = answer(request[_HEADER.size :]), 0
        try:
            os.writev(self._fuse, [_ANSWER.pack(_ANSWER.size + len(data), error, unique), data])
        except OSError as failure:
            if failure.errno != errno.ENOENT:  # nobody waits for it any more
                raise

    def _init(self, request: memoryview) -> bytes:
        major, minor, ahead, _ = struct.unpack_from("<4I", request)
        flags = _ASYNC_READ | _BIG_WRITES | _MAX_PAGES
        pages = _MOST_WRITTEN // BLOCK
        return struct.pack(
            "<4IHHIIHHII24x", major, min(minor, 36), ahead, flags, 64, 48, _MOST_WRITTEN, 1, pages,
            0, 0, 0,
        )  # fmt: skip

    def _attributes(self, request: memoryview) -> bytes:
        size = self._disk.size
        return _ATTRIBUTES.pack(
            3600, 0, 0, 1, size, size // SECTOR, 0, 0, 0, 0, 0, 0, 0o100600, 1, 0, 0, 0, BLOCK, 0
        )

    def _read(self, request: memoryview) -> bytes:
        _, offset, size = _PLACE.unpack_from(request)
        return self._disk.read(offset, size)

    def _write(self, request: memoryview) -> bytes:
        _, offset, size = _PLACE.unpack_from(request)
        self._disk.write(offset, request[40 : 40 + size])
        self._tell_count()
        return struct.pack("<II", size, 0)

    def _sync(self, request: memoryview) -> bytes:
        self._disk.flush()
        self._tell_count()
        return b""

    def _tell_count(self) -> None:
        """Before the answer: whoever has heard of an entry finds it counted."""
        ctypes.c_uint64.from_buffer(self._count).value = len(self._disk.log)


def _read_all(fd: int, size: int) -> bytes:
    parts = []
    while size and (data := os.read(fd, size)):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)
