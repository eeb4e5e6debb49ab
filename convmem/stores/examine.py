"""The examination of an archive: can it be read and written, is there room, is it whole.

Judged by what is so now. Nothing is remembered from one examination to the next: trouble that is
over leaves no trace. Each check says in words what it found and, where that is trouble, what to do.
"""

from __future__ import annotations

import os
import time

from convmem.errors import ConvmemError, StorageDenied, StorageFull, storage_error
from convmem.log import heal, locks, state
from convmem.log.files import Folder, temporary_name, write_all
from convmem.log.removing import audit, deleted, dropped, tombstones, trash
from convmem.quantities import format_count, format_duration, format_size
from convmem.stores import long_ids, stats
from convmem.stores.health import DEGRADED, HEALTHY, UNHEALTHY, Check, Health

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem.stores.health import Limits
    from convmem.stores.overview import Overview
    from convmem.stores.places import Places

# No id's name holds a "+", so this is never taken for some log's.
_PROBE = "+health"
_PROBE_BYTES = 4096
# Folders of a namespace without which something cannot be done.
_OURS = (
    locks.FOLDER,
    trash.FOLDER,
    deleted.FOLDER,
    dropped.FOLDER,
    tombstones.FOLDER,
    heal.QUARANTINE,
    audit.FOLDER,
    state.FOLDER,
    long_ids.FOLDER,
)
# Each is one sync; what is so of these is so of the others, but for their permissions.
_MOST_PROBES = 16
# An examination is no audit: what it may read to count, in each namespace, takes part of a second.
_MOST_COUNTED_BYTES = 32 << 20
_LEAST_FREE_FILES = 1000
_MOST_NAMED = 3
_RETRY_SECONDS = 0.05


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
        found = f"{places.root}, {format_count(len(names), 'namespace')}"
        health.checks.append(Check("archive", HEALTHY, found))
        health.checks.append(_settings(places.root))
        health.checks.append(_space(root, limits))
        health.checks.append(_writable(places, root, names))
        try:
            health.checks += _conversations(places, overview, names)
        except (ConvmemError, OSError) as error:
            health.checks.append(_failed("readable", error, places.root))
        try:
            health.checks.append(_locks(places, names, limits.lock_held_seconds))
        except (ConvmemError, OSError) as error:
            health.checks.append(_failed("locks", error, places.root))
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
    try:
        room = os.fstatvfs(root.fd)
    except (OSError, AttributeError):
        return Check("space", HEALTHY, "the file system does not say how much is free")
    free = room.f_bavail * room.f_frsize
    said = f"{format_size(free)} free"
    hint = "make room: empty the trash with convmem trash purge, compact, or take a larger disk"
    for status, limit in (
        (UNHEALTHY, limits.min_free_fatal_bytes),
        (DEGRADED, limits.min_free_bytes),
    ):
        if free < limit:
            return Check("space", status, f"{said}, less than {format_size(limit)}", hint)
    if room.f_files and room.f_favail < _LEAST_FREE_FILES:
        status = DEGRADED if room.f_favail else UNHEALTHY
        return Check("space", status, f"room for {room.f_favail:,} more files only", hint)
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
            _check_folders(folder)
            if at < _MOST_PROBES:
                _probe(folder)
            elif not os.access(path, os.W_OK | os.X_OK):
                raise StorageDenied(f"cannot write in {path}")
    except FileNotFoundError:
        return Check("writable", HEALTHY, f"{path} was removed meanwhile")
    except (ConvmemError, OSError) as error:
        return _failed("writable", error, path)
    return Check("writable", HEALTHY, "a file could be made, synced and removed")


def _check_folders(folder: Folder) -> None:
    """Raise if something else stands in the place of a folder of ours: all that needs it stops."""
    for name in _OURS:
        try:
            inner = folder.existing_subfolder(name)
        except FileNotFoundError:
            continue  # made when it is needed
        except OSError as error:
            raise storage_error(error, f"cannot open {os.path.join(folder.path, name)}") from error
        inner.close()
        if not os.access(name, os.W_OK | os.X_OK, dir_fd=folder.fd):
            raise StorageDenied(f"cannot write in {os.path.join(folder.path, name)}")


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
    broken_packs: list[str] = []
    packed = 0
    total = uncounted = lines = 0
    kept = stats.Size()
    broken: Check | None = None
    for namespace in names:
        try:
            folder = places.folder(namespace, create=False)
            found = overview.facts_of(
                namespace,
                count=True,
                most_bytes=_MOST_COUNTED_BYTES,
                failed=lambda *told: failed.append(told),
            )
            quarantine = stats.side_size(folder, "quarantine")
        except FileNotFoundError:
            continue
        except (ConvmemError, OSError) as error:
            broken = broken or _failed("readable", error, places.namespace_path(namespace))
            continue
        kept.files += quarantine.files
        kept.bytes += quarantine.bytes
        total += len(found)
        for name, each in found.items():
            packed += each.is_compressed
            if each.is_compressed and each.is_torn:
                broken_packs.append(places.id_of(folder, name) or name)
                continue
            if each.counts is None:
                uncounted += 1
            elif each.counts.damaged:
                lines += each.counts.damaged
                damaged.append(places.id_of(folder, name) or name)
                continue
            if each.is_torn:
                torn.append(places.id_of(folder, name) or name)
    if broken is not None:
        yield broken
    elif failed:
        first, why = failed[0]
        of_all = format_count(total + len(failed), "conversation")
        yield Check(
            "readable",
            DEGRADED,
            f"{len(failed):,} of {of_all} cannot be read ({first}: {why})",
            why.hint or "see whose they are; convmem list names them all",
        )
    else:
        yield Check("readable", HEALTHY, format_count(total, "conversation"))
    yield _damage(damaged, torn, broken_packs, lines, uncounted, packed, kept)


def _damage(
    damaged: list[str],
    torn: list[str],
    broken_packs: list[str],
    lines: int,
    uncounted: int,
    packed: int,
    kept: stats.Size,
) -> Check:
    notes = ""
    if packed:
        notes += f"; of {packed:,} compressed only the ends were read (convmem verify reads all)"
    if uncounted:
        notes += f"; {uncounted:,} not read whole since they changed (convmem stats does that)"
    if kept.files:
        files = format_count(kept.files, "file")
        notes += f"; in quarantine: {files}, {format_size(kept.bytes)}"
    if not damaged and not torn and not broken_packs:
        return Check("damage", HEALTHY, f"none known{notes}")
    said = []
    if damaged:
        said.append(f"{format_count(lines, 'damaged line')} in {_named(damaged)}")
    if torn:
        said.append(f"a torn end in {_named(torn)}")
    if broken_packs:
        said.append(f"a compressed file without its end in {_named(broken_packs)}")
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
    if isinstance(error, StorageFull):
        hint = "make room: nothing can be recorded"
    elif isinstance(error, StorageDenied):
        hint = error.hint or "see whose it is, and whether its disk was mounted read-only"
    else:
        hint = error.hint or "see to the disk; the system's own log says more"
    return Check(check, UNHEALTHY, str(error), hint)


class _closing:  # noqa: N801 - read as a verb: with _closing(folder)
    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def __enter__(self) -> None: ...

    def __exit__(self, *exception: object) -> None:
        self._folder.close()
