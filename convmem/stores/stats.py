"""Figures of a namespace: how much there is, whose, from when, and what it takes. All measured."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from heapq import nlargest

from convmem.errors import StorageError
from convmem.log.files import Folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from convmem.stores.facts_index import Facts

MOST_LARGEST = 10

# Side folders that are always named, also where they are not there.
_SIDES = ("trash", "quarantine", "state", "audit", "index", "dropped", "ids", "locks")
_OTHER = "other"
_DEPTH = 4


@dataclass(slots=True)
class Size:
    """Files, and the bytes in them."""

    files: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Count one file."""
        self.files += 1
        self.bytes += size


@dataclass(slots=True)
class Stats:
    """Figures of one namespace, or of some of its conversations.

    Attributes:
        namespace: Whose they are.
        conversations: How many, the compressed ones among them.
        compressed: How many of these are compressed.
        turns: All of them; ``roles`` has how many of each role.
        days: For each day (UTC, ``2026-11-21``) the turns of it and their bytes. Under ``""``
            what is earlier than the 400 newest days of its conversation, under ``"-"`` turns
            without a time.
        oldest, newest: The earliest and the latest time of a turn, as text.
        unsealed: Turns that were written by hand.
        damaged, damaged_bytes: Lines that are no turn, and their bytes.
        damaged_ids: Conversations that have such lines; the first few, by name.
        largest: The conversations with the ten largest files, as (id, bytes, turns, is compressed).
        plain, packed: The logs, and the compressed ones.
        sides: What stands beside them, by folder; with ``other`` for what has no name of its own.
        free_bytes, disk_bytes: Of the disk that the archive is on; ``None`` where it does not say.
    """

    namespace: str
    conversations: int = 0
    compressed: int = 0
    turns: int = 0
    roles: dict[str, int] = field(default_factory=dict)
    days: dict[str, list[int]] = field(default_factory=dict)
    oldest: str | None = None
    newest: str | None = None
    unsealed: int = 0
    damaged: int = 0
    damaged_bytes: int = 0
    damaged_ids: list[str] = field(default_factory=list)
    largest: list[tuple[str, int, int, bool]] = field(default_factory=list)
    plain: Size = field(default_factory=Size)
    packed: Size = field(default_factory=Size)
    sides: dict[str, Size] = field(default_factory=dict)
    free_bytes: int | None = None
    disk_bytes: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as the JSON object that ``stats --json`` prints."""
        return {
            "namespace": self.namespace,
            "conversations": self.conversations,
            "compressed": self.compressed,
            "turns": self.turns,
            "roles": dict(sorted(self.roles.items(), key=lambda item: (-item[1], item[0]))),
            "oldest": self.oldest,
            "newest": self.newest,
            "unsealed": self.unsealed,
            "damaged": self.damaged,
            "damaged_bytes": self.damaged_bytes,
            "days": {
                day: {"turns": turns, "bytes": size}
                for day, (turns, size) in sorted(self.days.items())
            },
            "largest": [
                {"continuation_id": name, "bytes": size, "turns": turns, "compressed": packed}
                for name, size, turns, packed in self.largest
            ],
            "files": {
                "plain": {"files": self.plain.files, "bytes": self.plain.bytes},
                "compressed": {"files": self.packed.files, "bytes": self.packed.bytes},
                **{
                    name: {"files": size.files, "bytes": size.bytes}
                    for name, size in self.sides.items()
                },
            },
            "free_bytes": self.free_bytes,
            "disk_bytes": self.disk_bytes,
        }


def measure(folder: Folder, namespace: str, facts: Mapping[str, Facts], *, is_whole: bool) -> Stats:
    """Add the *facts* of conversations up, by their ids; measure what stands beside them.

    With *is_whole* they are all of the namespace; else only some were asked for, and the side
    folders and the disk are left out.
    """
    found = Stats(namespace)
    for continuation_id, each in facts.items():
        _add(found, continuation_id, each)
    largest = nlargest(MOST_LARGEST, facts.items(), key=lambda item: (item[1].bytes, item[0]))
    found.largest = [
        (name, each.bytes, each.counts.turns if each.counts else 0, each.is_compressed)
        for name, each in largest
    ]
    found.damaged_ids.sort()
    if is_whole:
        found.sides = side_sizes(folder)
        found.free_bytes, found.disk_bytes = room_of(folder)
    return found


def total(found: Sequence[Stats]) -> Stats:
    """Return the figures of several namespaces as one; ids are told with their namespace."""
    whole = Stats("", sides={name: Size() for name in (*_SIDES, _OTHER)})
    for each in found:
        whole.conversations += each.conversations
        whole.compressed += each.compressed
        whole.turns += each.turns
        whole.unsealed += each.unsealed
        whole.damaged += each.damaged
        whole.damaged_bytes += each.damaged_bytes
        whole.damaged_ids += [f"{each.namespace}: {name}" for name in each.damaged_ids]
        whole.largest += [(f"{each.namespace}: {row[0]}", *row[1:]) for row in each.largest]
        _merge(whole, each.roles, each.days, each.oldest, each.newest)
        for name, size in (*each.sides.items(), ("plain", each.plain), ("packed", each.packed)):
            into = whole.sides[name] if name in whole.sides else getattr(whole, name)
            into.files += size.files
            into.bytes += size.bytes
        whole.free_bytes, whole.disk_bytes = each.free_bytes, each.disk_bytes
    whole.largest = nlargest(MOST_LARGEST, whole.largest, key=lambda row: (row[1], row[0]))
    return whole


def side_sizes(folder: Folder) -> dict[str, Size]:
    """Return what is in the dot-folders of *folder*, by their names without the dot."""
    sizes = {name: Size() for name in (*_SIDES, _OTHER)}
    for entry in folder.entries():
        if entry.is_dir(follow_symlinks=False):
            name = entry.name[1:] if entry.name[:1] == "." else ""
            size = sizes[name if name in _SIDES else _OTHER]
            try:
                _add_files(folder.existing_subfolder(entry.name), size, _DEPTH)
            except (FileNotFoundError, StorageError):
                continue
        elif entry.name[:1] == "." and entry.is_file(follow_symlinks=False):
            try:
                sizes[_OTHER].add(entry.stat(follow_symlinks=False).st_size)
            except FileNotFoundError:
                continue
    return sizes


def side_size(folder: Folder, name: str) -> Size:
    """Return what is in one dot-folder, named without the dot."""
    size = Size()
    try:
        _add_files(folder.existing_subfolder(f".{name}"), size, _DEPTH)
    except (FileNotFoundError, StorageError):
        pass  # nothing was ever put there, or no folder of ours stands there
    return size


def room_of(folder: Folder) -> tuple[int | None, int | None]:
    """Return how many bytes of the disk are free for us, and how many it has."""
    try:
        room = os.fstatvfs(folder.fd)
    except (OSError, AttributeError):
        return None, None
    return room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize


def _add(found: Stats, continuation_id: str, facts: Facts) -> None:
    found.conversations += 1
    (found.packed if facts.is_compressed else found.plain).add(facts.bytes)
    found.compressed += facts.is_compressed
    counts = facts.counts
    if counts is None:  # a compressed one whose end, with the counts in it, is damaged
        found.damaged += 1
        found.damaged_bytes += facts.bytes
        found.damaged_ids.append(continuation_id)
        return
    found.turns += counts.turns
    found.unsealed += counts.unsealed
    found.damaged += counts.damaged
    found.damaged_bytes += counts.damaged_bytes
    if counts.damaged:
        found.damaged_ids.append(continuation_id)
    _merge(found, counts.roles, counts.days, counts.oldest, counts.newest)


def _merge(
    found: Stats,
    roles: Mapping[str, int],
    days: Mapping[str, list[int]],
    oldest: str | None,
    newest: str | None,
) -> None:
    for role, many in roles.items():
        found.roles[role] = found.roles.get(role, 0) + many
    for day, (turns, size) in days.items():
        held = found.days.setdefault(day, [0, 0])
        held[0] += turns
        held[1] += size
    if oldest is not None and (found.oldest is None or oldest < found.oldest):
        found.oldest = oldest
    if newest is not None and (found.newest is None or newest > found.newest):
        found.newest = newest


def _add_files(folder: Folder, size: Size, depth: int) -> None:
    try:
        for entry in folder.entries():
            try:
                if entry.is_dir(follow_symlinks=False):
                    if depth:
                        _add_files(folder.existing_subfolder(entry.name), size, depth - 1)
                else:
                    size.add(entry.stat(follow_symlinks=False).st_size)
            except (FileNotFoundError, StorageError):
                continue  # removed while we looked, or no folder of ours
    finally:
        folder.close()
