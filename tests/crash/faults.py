"""Faults, and the shim that lets one strike at one call by which convmem changes a disk.

The shim stands between convmem and ``os``. It counts the calls that change something, and the
opens; at the one that it was told it dies, fails, writes a part, or lets somebody else in. It can
also watch: show what is on the disk at each call, which is what a death there would leave.
"""

from __future__ import annotations

import errno
import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import convmem

KILLED = 77

# Every function of ``os`` that changes a disk and that convmem calls; ``open`` where it makes a
# file. A test sees to it that there are no others.
CALLS = (
    *("write", "pwrite", "ftruncate", "rename", "unlink", "mkdir", "fsync", "fchmod", "chmod"),
    *("open", "utime"),
)
_WRITES = ("write", "pwrite")
_NEEDS_ROOM = ("write", "pwrite", "open", "mkdir", "rename", "fsync", "fdatasync")

KILLED_BEFORE = "killed before"
KILLED_AFTER = "killed after"
KILLED_WITHIN = "killed within"
SHORT = "short write"
SHORT_THEN_FULL = "short write, then full"
FULL_ONCE = "full once"
FULL_FOR_EVER = "full for ever"
QUOTA_ONCE = "quota once"
EIO_ONCE = "EIO once"
EIO_FOR_EVER = "EIO for ever"
EINTR_ONCE = "EINTR once"
# Python tries again after EINTR: what a signal does to a program is what its handler raises.
INTERRUPTED = "interrupted before"
INTERRUPTED_AFTER = "interrupted after"
# These count the opens, also those for reading.
NO_DESCRIPTOR_ONCE = "EMFILE once"
NO_DESCRIPTOR_FOR_EVER = "EMFILE for ever"
# Not faults but company: everything that others may do, at every point where they may do it.
WRITER = "another writer"
WRITER_WITHIN = "another writer within"
COMPACTOR = "another compaction"
READER = "a reader"
READER_WITHIN = "a reader within"

DEADLY = (KILLED_BEFORE, KILLED_AFTER, KILLED_WITHIN)
FAULTS = (
    *DEADLY,
    SHORT,
    SHORT_THEN_FULL,
    FULL_ONCE,
    FULL_FOR_EVER,
    QUOTA_ONCE,
    EIO_ONCE,
    EIO_FOR_EVER,
    EINTR_ONCE,
    INTERRUPTED,
    INTERRUPTED_AFTER,
    NO_DESCRIPTOR_ONCE,
    NO_DESCRIPTOR_FOR_EVER,
)
COMPANY = (WRITER, WRITER_WITHIN, COMPACTOR, READER, READER_WITHIN)
_AT_OPENS = (NO_DESCRIPTOR_ONCE, NO_DESCRIPTOR_FOR_EVER)
_AT_WRITES = (QUOTA_ONCE, KILLED_WITHIN, SHORT, SHORT_THEN_FULL, WRITER_WITHIN, READER_WITHIN)
_ONCE = {
    FULL_ONCE: errno.ENOSPC,
    QUOTA_ONCE: errno.EDQUOT,
    EIO_ONCE: errno.EIO,
    EINTR_ONCE: errno.EINTR,
}

Call = tuple[str, int]
Witness = Callable[[int, str], None]


def cases(calls: list[str], opens: int, kinds: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Yield every (place, fault) there is where these *calls* and so many *opens* are made.

    Leaves out what would be another one again: to be killed after a call is to be killed before
    the next, and a disk that is full shows it at the next call that needs room.
    """
    for at, name in enumerate(calls, 1):
        for kind in kinds:
            if (
                kind in _AT_OPENS
                or (kind in _AT_WRITES and name not in _WRITES)
                or (kind == KILLED_AFTER and at < len(calls))
                or (kind == FULL_FOR_EVER and name not in _NEEDS_ROOM)
            ):
                continue
            yield at, kind
    for kind in kinds:
        if kind in _AT_OPENS:
            yield from ((at, kind) for at in range(1, opens + 1))


class Shim:
    """Strikes once, with the fault *kind*, at call *at* (0: never).

    Attributes:
        calls: The calls so far, by name.
        opens: How many opens there were so far, also for reading.
        sites: If it is a set: the lines of convmem (path, number) that led to a call.
    """

    def __init__(
        self,
        at: int,
        kind: str,
        company: Callable[[], None],
        *,
        witness: Witness | None = None,
        sites: set[Call] | None = None,
    ) -> None:
        self.at = at
        self.kind = kind
        self.company = company
        self.calls: list[str] = []
        self.opens = 0
        self.sites = sites
        self._witness = witness
        self._is_off = False
        self._is_full_next = False
        self._displaced: list[tuple[object, str, Callable]] = []

    def install(self) -> None:
        """Take the place of the calls, also where they were bound by another name."""
        for name in CALLS:
            # Nothing that is looked at here depends on a sync that was really done, only on one
            # that failed; whoever cuts the power must look elsewhere.
            real = getattr(os, name) if name != "fsync" else no_sync
            self._put(os, name, self._standing_in(name, real))
        sync_data = self._standing_in("fdatasync", no_sync)
        for module in _with_sync_data():
            self._put(module, "sync_data", sync_data)

    def remove(self) -> None:
        """Give everything its place back."""
        for module, name, real in reversed(self._displaced):
            setattr(module, name, real)

    def _put(self, module: object, name: str, stand_in: Callable) -> None:
        self._displaced.append((module, name, getattr(module, name)))
        setattr(module, name, stand_in)

    def _standing_in(self, name: str, real: Callable) -> Callable:
        def call(*args, **kwargs):
            if self._is_off:
                return real(*args, **kwargs)
            if name == "open":
                self._open()
                if not args[1] & os.O_CREAT:
                    return real(*args, **kwargs)
            self.calls.append(name)
            if self.sites is not None:
                self.sites.update(_callers())
            return self._meet(name, real, args, kwargs)

        return call

    def _open(self) -> None:
        self.opens += 1
        if (self.kind == NO_DESCRIPTOR_ONCE and self.opens == self.at) or (
            self.kind == NO_DESCRIPTOR_FOR_EVER and self.opens >= self.at > 0
        ):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def _meet(self, name: str, real: Callable, args: tuple, kwargs: dict) -> object:
        if self._witness is not None:
            return self._show(name, real, args, kwargs)
        kind = self.kind
        if self._is_full_next and name in _WRITES:
            self._is_full_next = False
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if 0 < self.at <= len(self.calls) and (
            kind == EIO_FOR_EVER or (kind == FULL_FOR_EVER and name in _NEEDS_ROOM)
        ):
            number = errno.EIO if kind == EIO_FOR_EVER else errno.ENOSPC
            raise OSError(number, os.strerror(number))
        if len(self.calls) != self.at:
            return real(*args, **kwargs)
        if kind in _ONCE:
            raise OSError(_ONCE[kind], os.strerror(_ONCE[kind]))
        if kind == KILLED_BEFORE:
            os._exit(KILLED)
        if kind == INTERRUPTED:
            raise KeyboardInterrupt
        if kind in (KILLED_AFTER, INTERRUPTED_AFTER):
            done = real(*args, **kwargs)
            if kind == KILLED_AFTER:
                os._exit(KILLED)
            if name == "open":
                os.close(done)
            raise KeyboardInterrupt
        if kind in _AT_WRITES and name in _WRITES:  # in two parts, with something between
            part = _first_half(real, args)
            if kind == KILLED_WITHIN:
                os._exit(KILLED)
            if kind == SHORT_THEN_FULL:
                self._is_full_next = True
            elif kind != SHORT:
                self._let_in(self.company)
            return part
        if kind in (WRITER, COMPACTOR, READER):
            self._let_in(self.company)
        return real(*args, **kwargs)

    def _show(self, name: str, real: Callable, args: tuple, kwargs: dict) -> object:
        """Make the call, and let the witness see each moment of it."""
        at = len(self.calls)
        witness = self._witness
        assert witness is not None
        self._let_in(lambda: witness(at, KILLED_BEFORE))
        if name not in _WRITES:
            return real(*args, **kwargs)
        part = _first_half(real, args)
        self._let_in(lambda: witness(at, KILLED_WITHIN))
        fd, data, *place = args
        return part + real(fd, data[part:], *(offset + part for offset in place))

    def _let_in(self, somebody: Callable[[], None]) -> None:
        self._is_off = True
        try:
            somebody()
        finally:
            self._is_off = False


@contextmanager
def without_syncs() -> Iterator[None]:
    """Do no syncs meanwhile: only a power cut sees the difference."""
    displaced: list[tuple[object, str, Callable]] = [(os, "fsync", os.fsync)]
    displaced += [(module, "sync_data", module.sync_data) for module in _with_sync_data()]
    for module, name, _ in displaced:
        setattr(module, name, no_sync)
    try:
        yield
    finally:
        for module, name, real in displaced:
            setattr(module, name, real)


def no_sync(fd: int) -> None:
    """Take a sync's place."""


def _first_half(write: Callable, args: tuple) -> int:
    fd, data, *place = args
    half = len(data) // 2
    if half:
        write(fd, bytes(data[:half]), *place)
    return half


def _load_all() -> None:
    """Load every module that may bind a call by another name later on."""
    for part in ("log", "stores"):
        package = importlib.import_module(f"convmem.{part}")
        for found in pkgutil.iter_modules(package.__path__, f"convmem.{part}."):
            importlib.import_module(found.name)


_load_all()


def _with_sync_data() -> list:
    return [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("convmem.") and hasattr(module, "sync_data")
    ]


_HOME = os.path.dirname(convmem.__file__) + os.sep


def _callers() -> Iterator[Call]:
    frame = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(_HOME):
            yield path[len(_HOME) :], frame.f_lineno
        frame = frame.f_back
