"""How an archive is, from what is so now: can it be read and written, is there room, is it whole.

Nothing is remembered from one examination to the next: trouble that is over leaves no trace. Each
check says in words what it found and, where that is trouble, what to do.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from convmem.errors import ConvmemError, StorageDenied, StorageFull, storage_error
from convmem.log import locks
from convmem.log.files import Folder, temporary_name, write_all
from convmem.quantities import format_duration, format_size
from convmem.stores import facts_index, stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from convmem.stores.overview import Overview
    from convmem.stores.places import Places

HEALTHY = "healthy"
DEGRADED = "degraded"
UNHEALTHY = "unhealthy"
STATUSES = (HEALTHY, DEGRADED, UNHEALTHY)
"""All that a status can be, the best first."""

_PROBE = "health"
_PROBE_BYTES = 4096
# Each is one sync; what is so of these is so of the others, but for their permissions.
_MOST_PROBES = 16
_LEAST_FREE_FILES = 1000
_MOST_NAMED = 3
_RETRY_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What counts as trouble.

    Attributes:
        min_free_bytes: Less free space than this is ``degraded``.
        min_free_fatal_bytes: Less than this is ``unhealthy``.
        lock_held_seconds: A lock that is never free for so long is ``degraded``.
    """

    min_free_bytes: int = 1 << 30
    min_free_fatal_bytes: int = 100 << 20
    lock_held_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found: its status, in words why, and what to do about it."""

    name: str
    status: str
    message: str
    hint: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "check": self.name,
            "status": self.status,
            "message": self.message,
            "hint": self.hint,
        }


@dataclass(slots=True)
class Health:
    """The state of an archive: ``healthy``, ``degraded`` or ``unhealthy``, and why."""

    checks: list[Check] = field(default_factory=list)

    @property
    def status(self) -> str:
        """The worst of the checks."""
        return max((each.status for each in self.checks), key=STATUSES.index, default=HEALTHY)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that ``health --json`` prints."""
        return {"status": self.status, "checks": [each.as_dict() for each in self.checks]}


def examine(places: Places, overview: Overview, limits: Limits) -> Health:
    """Examine the archive. Raises nothing: what fails is what was found."""
    health = Health()
    try:
        root = Folder.open(places.root)
        names = places.namespaces()
    except FileNotFoundError:
        health.checks.append(
            Check(
                "archive",
                UNHEALTHY,
                f"there is no archive at {places.root}",
                "name it with --archive, mount its disk, or begin it with: convmem record",
            )
        )
        return health
    except (ConvmemError, OSError) as error:
        health.checks.append(_failed("archive", error, places.root))
        return health
    with _closing(root):
        count = "1 namespace" if len(names) == 1 else f"{len(names):,} namespaces"
        health.checks.append(Check("archive", HEALTHY, f"{places.root}, {count}"))
        health.checks.append(_settings(places.root))
        health.checks.append(_space(root, limits))
        health.checks.append(_writable(places, root, names))
        health.checks += _conversations(places, overview, names)
        health.checks.append(_locks(places, names, limits.lock_held_seconds))
    return health


def _settings(root: str) -> Check:
    from convmem.rules import Rules
    from convmem.settings import Settings

    try:
        settings = Settings.load(root, {})
        Rules.of(settings)
    except ConvmemError as error:
        return Check("settings", DEGRADED, str(error), "see all of it with: convmem config check")
    return Check(
        "settings",
        HEALTHY,
        f"{settings.path} can be used" if settings.has_file else "none are set: the defaults hold",
    )


def _space(root: Folder, limits: Limits) -> Check:
    free, _ = stats.room_of(root)
    if free is None:
        return Check("space", HEALTHY, "the file system does not say how much is free")
    files = os.fstatvfs(root.fd)
    said = f"{format_size(free)} free"
    hint = "make room: empty the trash with convmem trash purge, compact, or take a larger disk"
    for status, limit in (
        (UNHEALTHY, limits.min_free_fatal_bytes),
        (DEGRADED, limits.min_free_bytes),
    ):
        if free < limit:
            return Check("space", status, f"{said}, less than {format_size(limit)}", hint)
    if files.f_files and files.f_favail < _LEAST_FREE_FILES:
        status = DEGRADED if files.f_favail else UNHEALTHY
        return Check("space", status, f"room for {files.f_favail:,} more files only", hint)
    return Check("space", HEALTHY, said)


def _writable(places: Places, root: Folder, names: list[str]) -> Check:
    """Make, sync and remove a file: permissions alone do not tell of a disk gone read-only."""
    path = places.root
    try:
        if not names:
            _probe(root)
        for at, name in enumerate(names):
            path = places.namespace_path(name)
            folder = places.folder(name, create=False)
            if at < _MOST_PROBES:
                inner = folder.subfolder(facts_index.FOLDER, is_lasting=False)
                with _closing(inner):
                    _probe(inner)
            elif not os.access(path, os.W_OK | os.X_OK):
                raise StorageDenied(f"cannot write in {path}")
    except FileNotFoundError:
        return Check("writable", HEALTHY, f"{path} was removed meanwhile")
    except (ConvmemError, OSError) as error:
        return _failed("writable", error, path)
    return Check("writable", HEALTHY, "a file could be made, synced and removed")


def _probe(folder: Folder) -> None:
    name = temporary_name(_PROBE)
    fd = folder.open_file(name, os.O_WRONLY | os.O_CREAT)
    try:
        write_all(fd, b"\0" * _PROBE_BYTES)
        os.fsync(fd)
    finally:
        os.close(fd)
        folder.remove(name)


def _conversations(places: Places, overview: Overview, names: list[str]) -> Iterator[Check]:
    """Check that all can be read, and that none is damaged as far as is known now."""
    failed: list[tuple[str, ConvmemError]] = []
    damaged: list[str] = []
    torn: list[str] = []
    total = uncounted = lines = 0
    kept = stats.Size()
    for namespace in names:
        try:
            folder = places.folder(namespace, create=False)
            found = overview.facts_of(namespace, failed=lambda *told: failed.append(told))
            quarantine = stats.side_sizes(folder)["quarantine"]
        except FileNotFoundError:
            continue
        except (ConvmemError, OSError) as error:
            yield _failed("readable", error, places.namespace_path(namespace))
            continue
        kept.files += quarantine.files
        kept.bytes += quarantine.bytes
        total += len(found)
        for name, each in found.items():
            if each.counts is None:
                uncounted += 1
            elif each.counts.damaged:
                lines += each.counts.damaged
                damaged.append(places.id_of(folder, name) or name)
                continue
            if each.is_torn:
                torn.append(places.id_of(folder, name) or name)
    if failed:
        first, why = failed[0]
        yield Check(
            "readable",
            DEGRADED,
            f"{len(failed):,} of {total + len(failed):,} conversations cannot be read"
            f" ({first}: {why})",
            why.hint,
        )
    else:
        yield Check("readable", HEALTHY, f"{total:,} conversations")
    yield _damage(damaged, torn, lines, uncounted, kept)


def _damage(
    damaged: list[str], torn: list[str], lines: int, uncounted: int, kept: stats.Size
) -> Check:
    notes = ""
    if uncounted:
        notes += f"; {uncounted:,} not read whole since they changed (convmem stats reads them)"
    if kept.files:
        notes += f"; in quarantine: {kept.files:,} files, {format_size(kept.bytes)}"
    if not damaged and not torn:
        return Check("damage", HEALTHY, f"none known{notes}")
    said = []
    if damaged:
        said.append(f"{lines:,} damaged lines in {_named(damaged)}")
    if torn:
        said.append(f"a torn end in {_named(torn)}")
    return Check(
        "damage",
        DEGRADED,
        f"{' and '.join(said)}{notes}",
        "look with: convmem verify --all; mend with: convmem repair ID",
    )


def _named(ids: list[str]) -> str:
    shown = ", ".join(sorted(ids)[:_MOST_NAMED])
    more = len(ids) - _MOST_NAMED
    return shown if more <= 0 else f"{shown} and {more:,} more"


def _locks(places: Places, names: list[str], patience: float) -> Check:
    """Look for locks that are never free. A writer needs its own for microseconds only."""
    deadline = time.monotonic() + max(0.0, patience)
    held: list[tuple[Folder, str]] = []
    total = 0
    folders = []
    try:
        for namespace in names:
            try:
                inner = places.folder(namespace, create=False).existing_subfolder(locks.FOLDER)
            except (OSError, ConvmemError):
                continue  # nobody has written there yet; or told of by another check
            folders.append(inner)
            for entry in inner.entries():
                # Not that of a compaction (.lock.c): it is held as long as one takes.
                if entry.name.endswith(".lock") and entry.is_file(follow_symlinks=False):
                    total += 1
                    if locks.is_held(inner, entry.name):
                        held.append((inner, entry.name))
        while held and time.monotonic() < deadline:
            time.sleep(min(_RETRY_SECONDS, max(0.0, deadline - time.monotonic())))
            held = [(folder, name) for folder, name in held if locks.is_held(folder, name)]
        if not held:
            return Check("locks", HEALTHY, f"{total:,}, none held for long")
        first = os.path.join(held[0][0].path, held[0][1])
        many = "1 lock was" if len(held) == 1 else f"{len(held):,} locks were"
        return Check(
            "locks",
            DEGRADED,
            f"{many} never free for {format_duration(patience)}: {first}",
            f"writers there wait in vain; see who holds it with: fuser -v {first}",
        )
    finally:
        for inner in folders:
            inner.close()


def _failed(check: str, error: ConvmemError | OSError, path: str) -> Check:
    if isinstance(error, OSError):
        error = storage_error(error, f"cannot use {path}")
    hint = error.hint
    if isinstance(error, StorageFull):
        hint = "make room: nothing can be recorded"
    return Check(check, UNHEALTHY, str(error), hint)


class _closing:  # noqa: N801 - read as a verb: with _closing(folder)
    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def __enter__(self) -> None: ...

    def __exit__(self, *exception: object) -> None:
        self._folder.close()
