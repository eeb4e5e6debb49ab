"""The files below a folder that may hold transcripts, in one order and without opening any."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NOT_ENTERED = frozenset((".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv"))
# What is surely no transcript, nor a zip of them.
_MEDIA = frozenset(
    "png jpg jpeg gif webp bmp tif tiff ico heic svg mp3 mp4 m4a wav ogg opus flac aac mov avi mkv"
    " webm pdf doc docx xls xlsx ppt pptx odt ttf otf woff woff2 so dylib dll exe o a pyc class jar"
    " whl iso dmg img tar tgz xz bz2 7z rar wasm onnx safetensors gguf parquet npy npz".split()
)
# SQLite's own, beside the database that they belong to.
_BESIDE_DATABASES = ("-wal", "-shm", "-journal")


def files_below(
    folder: str, report: Callable[[str, Exception], None]
) -> Iterator[tuple[str, str, os.stat_result]]:
    """Yield path, name relative to *folder*, and status of each regular file below it, sorted.

    Costs a stat for each. A session's file comes before the folder of the same name. Links to
    files are followed, links to folders are not, and a file is yielded once, whatever links
    to it. Devices, pipes, media and ``.git`` are passed over; what is gone by now, too. A folder
    that cannot be read is told to *report*.
    """
    seen: set[tuple[int, int]] = set()
    waiting = _entries(folder, "", report)
    while waiting:
        entry, relative = waiting.pop()
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _NOT_ENTERED:
                waiting += _entries(entry.path, f"{relative}/", report)
            continue
        suffix = entry.name.rpartition(".")[2].lower()
        if suffix in _MEDIA or suffix.endswith(_BESIDE_DATABASES):
            continue
        try:
            found = entry.stat()
        except OSError:
            continue  # a link to nowhere, or it was removed meanwhile
        if stat.S_ISREG(found.st_mode) and (found.st_dev, found.st_ino) not in seen:
            seen.add((found.st_dev, found.st_ino))
            yield entry.path, relative, found


def _entries(
    folder: str, above: str, report: Callable[[str, Exception], None]
) -> list[tuple[os.DirEntry[str], str]]:
    """Return what stands in *folder*, the first one last."""
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except FileNotFoundError:
        return []
    except OSError as error:
        report(folder, error)
        return []
    entries.sort(key=_order, reverse=True)
    return [(entry, above + entry.name) for entry in entries]


def _order(entry: os.DirEntry[str]) -> str:
    return entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name
