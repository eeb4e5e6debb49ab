"""The state of a conversation: a small JSON document beside its log, merged key by key.

    {"_v":1,"_until":{"token":"2026-11-21T10:00:00.000000Z"},"session":"abc","token":"…","_c":"…"}

One file, ``.state/<name>.json``, put in place as a whole under a lock of its own, so appends never
wait for it. ``_until`` says when keys expire and ``_c`` is the seal, as of a turn. A document
without a seal was written by hand: it is read.
"""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from datetime import timedelta

from convmem import jsontext
from convmem.errors import CorruptLog, DurabilityUnknown, InvalidTurn, UsageError, storage_error
from convmem.log import codec, heal
from convmem.log.files import read_exactly, write_aside
from convmem.log.locks import SidecarLock
from convmem.quantities import format_time, parse_stored_time
from convmem.turns import json_copy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime
    from typing import Any

    from convmem.log.files import Folder

FOLDER = ".state"
MAX_BYTES = 1 << 20

_VERSION = 1
# No id's name holds a "+", so these are never another conversation's lock or quarantine.
_MARK = "+state"


def file_name(name: str) -> str:
    """Return what the state of the log *name* is called inside ``.state``."""
    return f"{name}.json"


def lock_of(folder: Folder, name: str) -> SidecarLock:
    """Return the lock that whoever changes, moves or removes the state of *name* holds."""
    return SidecarLock(folder, name + _MARK)


def checked(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of *changes* that can be stored exactly.

    Raises:
        UsageError: Not an object, a key that cannot be one, or a value that is not JSON.
    """
    if not hasattr(changes, "items"):
        raise UsageError(f"a state is a JSON object, not {type(changes).__name__}")
    copied = {}
    for key, value in changes.items():
        if not isinstance(key, str) or not key:
            raise UsageError(f"a key of a state is text that is not empty, not {key!r}")
        if key.startswith("_"):
            raise UsageError(
                f"key {key!r} is reserved", hint="keys that begin with _ belong to convmem"
            )
        try:
            copied[key] = json_copy(value, key)
            jsontext.dumps([key, copied[key]])
        except InvalidTurn as error:
            raise UsageError(str(error), hint=error.hint) from None
        except jsontext.NotJson as error:
            raise UsageError(f"{key}: {error}") from None
    return copied


def expiry(ttl: timedelta | float | None, now: datetime) -> datetime | None:
    """Return when what is set at *now* with *ttl* expires; ``None`` is never.

    Raises:
        UsageError: It is neither a duration nor a number of seconds, or too long.
    """
    if ttl is None:
        return None
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if isinstance(ttl, bool) or not isinstance(seconds, int | float) or math.isnan(seconds):
        raise UsageError(f"ttl must be a timedelta or seconds, not {ttl!r}")
    if seconds <= 0:
        return now
    try:
        moment = now + timedelta(seconds=seconds)
        format_time(moment)
    except (OverflowError, ValueError):
        raise UsageError(
            f"a ttl of {ttl!r} is too long", hint="without one a key never expires"
        ) from None
    return moment


class State:
    """The state of one conversation. Safe for any number of threads and processes.

    Every call looks at the disk, at files of this conversation only.
    """

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder = folder
        self._name = name
        self._file = file_name(name)
        # One name for all: who holds the lock is alone, and what a dead one left is in the way
        # of the next one instead of piling up.
        self._temporary = f".{name}.0.00000000.tmp"

    def read(self, *, now: datetime) -> dict[str, Any]:
        """Return what is stored and has not expired at *now*; empty where there is nothing.

        Takes no lock: it sees the document before an update or after it, never between.

        Raises:
            CorruptLog: The file is damaged.
            StorageError: It cannot be read.
        """
        try:
            document = self._load() or _Document()
        except OSError as error:
            raise storage_error(error, f"cannot read {self._where()}") from error
        document.expire(now)
        return document.values

    def update(
        self,
        changes: Mapping[str, Any],
        *,
        until: datetime | None,
        now: datetime,
        timeout_seconds: float,
    ) -> dict[str, Any]:
        """Merge *changes* (see ``checked``) into what is stored, durably; return the result.

        ``None`` removes a key. The others expire at *until*, or never with ``None``. What has
        expired at *now* leaves the file.

        Raises:
            UsageError: The document would be too long.
            CorruptLog: The file is damaged; it stays as it is.
            LockTimeout, StorageFull, StorageError: It stays as it is.
            DurabilityUnknown: It is as asked for, but a power cut may bring the old one back.
        """
        try:
            with self._locked(timeout_seconds):
                loaded = self._load()
                document = loaded or _Document()
                for key, value in changes.items():
                    document.put(key, value, until)
                document.expire(now)
                if document.values:
                    self._replace(document.encoded())
                elif loaded is not None:
                    self._remove()
                return document.values
        except OSError as error:
            raise storage_error(error, f"cannot write {self._where()}") from error

    def clear(self, *, timeout_seconds: float, set_aside: Callable[[str], None]) -> bool:
        """Remove the state, durably; say whether there was one.

        Where it is damaged its bytes go to the quarantine first; *set_aside* is told the file.

        Raises:
            LockTimeout, StorageError: It stays as it is.
            DurabilityUnknown: It is gone, but a power cut may bring it back.
        """
        kept = None
        try:
            with self._locked(timeout_seconds):
                try:
                    if self._load() is None:
                        return False
                except CorruptLog:
                    kept = self._quarantine()
                self._remove()
        except OSError as error:
            raise storage_error(error, f"cannot remove {self._where()}") from error
        if kept is not None:
            set_aside(kept)
        return True

    @contextmanager
    def _locked(self, timeout_seconds: float) -> Iterator[None]:
        lock = lock_of(self._folder, self._name)
        lock.acquire(timeout_seconds)
        try:
            yield
        finally:
            lock.release()
            lock.close()

    def _load(self) -> _Document | None:
        try:
            fd = self._open()
        except FileNotFoundError:
            return None
        try:
            size = os.fstat(fd).st_size
            data = read_exactly(fd, min(size, MAX_BYTES), 0)
        finally:
            os.close(fd)
        try:
            if size > MAX_BYTES:
                raise ValueError(f"longer than {MAX_BYTES:,} bytes")
            return _parsed(data)
        except ValueError as error:
            raise CorruptLog(
                f"{self._where()} is no state that can be read: {error}",
                hint="nothing was changed; to set it aside and begin anew: convmem state ID clear",
            ) from None

    def _open(self) -> int:
        inner = self._folder.existing_subfolder(FOLDER)
        try:
            return inner.open_file(self._file, os.O_RDONLY)
        finally:
            inner.close()

    def _replace(self, data: bytes) -> None:
        if len(data) > MAX_BYTES:
            raise UsageError(
                f"the state would take {len(data):,} bytes, and at most {MAX_BYTES:,} are allowed",
                hint="nothing was changed; it is meant for session ids and tokens, not for turns",
            )
        inner = self._folder.subfolder(FOLDER)
        try:
            was = self._inode(inner)
            inner.remove(self._temporary)
            try:
                write_aside(inner, self._file, self._temporary, [data])
            except OSError as error:
                if self._inode(inner) != was:  # in place: all that failed is the folder's sync
                    raise self._unsynced(error) from error
                raise
        finally:
            inner.close()

    def _remove(self) -> None:
        inner = self._folder.existing_subfolder(FOLDER)
        try:
            inner.remove(self._temporary)
            inner.remove(self._file)
            try:
                inner.sync()
            except OSError as error:
                raise self._unsynced(error) from error
        finally:
            inner.close()

    def _quarantine(self) -> str:
        fd = self._open()
        try:
            spans = [(0, os.fstat(fd).st_size)]
            return heal.set_aside(self._folder, self._name + _MARK, fd, spans)
        finally:
            os.close(fd)

    def _inode(self, inner: Folder) -> int | None:
        try:
            return inner.stat(self._file).st_ino
        except FileNotFoundError:
            return None

    def _unsynced(self, error: OSError) -> DurabilityUnknown:
        return DurabilityUnknown(
            f"{self._where()}: sync failed: {error.strerror or error}",
            hint="it is as was asked for, but a power cut may bring the old one back; try again",
            errno=error.errno,
        )

    def _where(self) -> str:
        return os.path.join(self._folder.path, FOLDER, self._file)


class _Document:
    """What a file holds: the caller's values, when they expire, and keys of convmem's own."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.until: dict[str, datetime] = {}
        self.own: dict[str, Any] = {}  # of versions to come

    def put(self, key: str, value: Any, until: datetime | None) -> None:
        """Set *key* to *value*; with ``None`` remove it."""
        self.values.pop(key, None)
        self.until.pop(key, None)
        if value is not None:
            self.values[key] = value
            if until is not None:
                self.until[key] = until

    def expire(self, now: datetime) -> None:
        """Remove what has expired at *now*."""
        for key in [key for key, moment in self.until.items() if moment <= now]:
            self.put(key, None, None)

    def encoded(self) -> bytes:
        """Return the file's content."""
        stored: dict[str, Any] = {"_v": _VERSION, **self.own}
        if self.until:
            stored["_until"] = {key: format_time(moment) for key, moment in self.until.items()}
        return codec.sealed(jsontext.dumps(stored | self.values)[:-1])


def _parsed(data: bytes) -> _Document:
    """Return the document in *data*. Raises ``ValueError`` that says what is wrong with it."""
    line = data.removesuffix(b"\n")
    # Also where the seal's own key was damaged: it would pass for a document by hand.
    if codec.fault_of(line) in (codec.CHECKSUM, codec.NUL):
        raise ValueError(codec.fault_of(line))
    value = jsontext.loads(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if value.pop("_v", _VERSION) != _VERSION:
        raise ValueError("written by a convmem that is newer than this one")
    document = _Document()
    until = value.pop("_until", {})
    if value.pop("_c", None) is not None and not codec.is_sealed(line):
        raise ValueError(codec.CHECKSUM)  # bytes came behind the seal
    for key, item in value.items():
        if key.startswith("_"):
            document.own[key] = item
        elif item is not None:
            document.put(key, item, None)
    if not isinstance(until, dict):
        raise ValueError("_until is not a JSON object")
    for key, text in until.items():
        moment = parse_stored_time(text)
        if moment is None:
            raise ValueError(f"the time when {key!r} expires cannot be read")
        if key in document.values:
            document.until[key] = moment
    return document
