"""Where the benchmarks work, and on what machine: a sync must cost there what a disk costs."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convmem import __version__

# Where a sync costs nothing, a durable append says nothing.
_IN_MEMORY = ("tmpfs", "ramfs")


@contextlib.contextmanager
def workspace(parent: str | None, *, may_be_in_memory: bool) -> Iterator[Path]:
    """Give a new folder below *parent*, or where temporary files go, and remove it at the end.

    Raises:
        SystemExit: The folder is in memory.
    """
    if parent is None:
        parent = tempfile.gettempdir()
        if file_system(Path(parent)) in _IN_MEMORY and os.path.isdir("/var/tmp"):
            parent = "/var/tmp"
    if file_system(Path(parent)) in _IN_MEMORY and not may_be_in_memory:
        raise SystemExit(f"{parent} is in memory: a sync costs nothing there; name a disk: --dir")
    folder = Path(tempfile.mkdtemp(prefix="convmem-benchmark-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def machine(folder: Path) -> dict[str, Any]:
    """Return what the figures depend on besides the program."""
    return {
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "file_system": file_system(folder),
        "convmem": __version__,
        "load": round(os.getloadavg()[0], 1),
    }


def machine_line(found: dict[str, Any]) -> str:
    """Return ``machine`` as one line for people."""
    return (
        f"{found['cores']} cores, {found['kernel']}, {found['python']}, "
        f"{found['file_system']}, convmem {found['convmem']}, load {found['load']}"
    )


def file_system(folder: Path) -> str:
    """Return the kind of file system that *folder* is on, or ``unknown``."""
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
    except OSError:
        return "unknown"
    place = os.path.realpath(folder)
    best, kind = "", "unknown"
    for line in mounts:
        point, its_kind = line.split()[1:3]
        inside = point == "/" or place == point or place.startswith(point + "/")
        if inside and len(point) >= len(best):
            best, kind = point, its_kind
    return kind
