"""What is known of each conversation of a namespace, at the cost of what changed since last time.

What a look at a log's ends told, and a whole reading where there was one, is kept in an index (see
``facts_index``) that may be deleted at any time: no answer changes.
"""

from __future__ import annotations

import os
import stat
import time

from convmem.errors import ConvmemError, CorruptLog, storage_error
from convmem.log.count import Counts
from convmem.log.count import count as count_log
from convmem.log.look import look
from convmem.stores.facts_index import Facts, Index
from convmem.stores.log_files import COMPRESSED, PLAIN, stamp_of, states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeAlias

    from convmem.log.files import Folder
    from convmem.progress import Observer

    # Is told which file (its name without ending) could not be read, and why.
    Failed: TypeAlias = Callable[[str, ConvmemError], None]

TASK = "reading"

# A change within one tick of the file system's clock may leave no trace in the file's times. What
# is looked at so soon after its last change is not kept.
_TICK_NS = 50_000_000
# Writing the index should cost less than it saves: so much must have been read anew, and at
# least a quarter of the index.
_WORTH_BYTES = 512 << 10
# What one look costs, as bytes of reading that take as long.
_LOOK_BYTES = 8 << 10
# A log may thaw between two looks, and be compressed again.
_MOST_LOOKS = 3

_OPEN = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
)


def facts_of(
    folder: Folder,
    *,
    count: bool = False,
    most_bytes: int | None = None,
    names: Iterable[str] | None = None,
    failed: Failed,
    observer: Observer,
) -> dict[str, Facts]:
    """Return the facts of every conversation in *folder*, by its file's name without ending.

    Looks at those that are new or were changed since the index was written, with *count* reads
    them whole, and writes the index anew if that was much. Where nothing changed no log is opened.

    Args:
        folder: The namespace's folder.
        count: Whether the ``counts`` of all are wanted.
        most_bytes: Count only what can be counted by reading so much in all, the cheapest first.
        names: Only these; what is not there is left out.
        failed: Is told of each log that cannot be read; it is left out.
        observer: Is told of the bytes that have to be read, as the task ``TASK``.
    """
    index = Index.load(folder)
    found: dict[str, Facts] = {}
    unread: list[_Unread] = []
    for name, is_compressed, state in states(folder, names):
        stamp = stamp_of(state)
        facts = index.get(name, stamp, is_compressed=is_compressed)
        if facts is not None:
            found[name] = facts
        if facts is None or (count and facts.counts is None):
            size = 0
            if count and not is_compressed:
                size = state.st_size - index.counted_bytes(name, stamp)
            unread.append(_Unread(name, is_compressed, count, size))
    if most_bytes is not None:
        unread = _affordable(unread, most_bytes, found)
    if not unread:
        return found
    observer.started(TASK, sum(each.bytes + _LOOK_BYTES for each in unread))
    passing = set()  # what changed too lately to be kept
    cost = 0
    for each in unread:
        name = each.name
        try:
            found[name], read, is_lasting = _look_at(folder, each, index, observer)
            cost += read
            if not is_lasting:
                passing.add(name)
        except FileNotFoundError:
            found.pop(name, None)  # removed since
        except ConvmemError as error:
            found.pop(name, None)
            failed(name, error)
        except OSError as error:
            found.pop(name, None)
            path = os.path.join(folder.path, name + (COMPRESSED if each.is_compressed else PLAIN))
            failed(name, storage_error(error, f"cannot read {path}"))
    observer.finished(TASK)
    if cost >= max(_WORTH_BYTES, index.bytes // 4):
        kept = {name: facts for name, facts in found.items() if name not in passing}
        index.save(folder, kept, keep_others=names is not None)
    return found


def remember(folder: Folder, learnt: Mapping[str, Facts]) -> None:
    """Keep what was *learnt* elsewhere, such as by a compaction that read a log whole.

    Costs a rewrite of the index: call it once for many.
    """
    if learnt:
        Index.load(folder).save(folder, learnt, keep_others=True)


class _Unread:
    """A conversation that has to be looked at, and perhaps counted, and what counting it reads."""

    __slots__ = ("bytes", "count", "is_compressed", "name")

    def __init__(self, name: str, is_compressed: bool, count: bool, size: int) -> None:
        self.name = name
        self.is_compressed = is_compressed
        self.count = count
        self.bytes = size


def _affordable(
    unread: list[_Unread], most_bytes: int, found: Mapping[str, Facts]
) -> list[_Unread]:
    """Return what is to be read if counting may read *most_bytes*; the rest is only looked at."""
    chosen = []
    for each in sorted(unread, key=lambda each: each.bytes):
        most_bytes -= each.bytes
        each.count = each.count and most_bytes >= 0
        if each.count or each.name not in found:
            each.bytes = each.bytes if each.count else 0
            chosen.append(each)
    return chosen


def _look_at(
    folder: Folder, each: _Unread, index: Index, observer: Observer
) -> tuple[Facts, int, bool]:
    """Return the facts of a log, plain or compressed, what that cost, and whether they last.

    Raises:
        FileNotFoundError: It was removed since.
    """
    for _ in range(_MOST_LOOKS):
        try:
            if not each.is_compressed:
                return _read(folder, each.name, index, each.count, observer)
            facts = _of_compressed(folder, each.name, index)
        except FileNotFoundError:
            each.is_compressed = not each.is_compressed  # thawed since, or compressed
        else:
            observer.advanced(TASK, _LOOK_BYTES)
            return facts, _LOOK_BYTES, True
    raise FileNotFoundError(each.name)


def _read(
    folder: Folder, name: str, index: Index, count: bool, observer: Observer
) -> tuple[Facts, int, bool]:
    """Return the facts as the log says them now, what that cost, and whether they may be kept."""
    # Not by ``open_file``: ten thousand of these are one list.
    fd = os.open(name + PLAIN, _OPEN, dir_fd=folder.fd)
    try:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode):
            raise FileNotFoundError(name)  # a link or a pipe took its place meanwhile
        is_lasting = time.time_ns() - state.st_ctime_ns > _TICK_NS
        size = state.st_size
        facts = Facts(stamp_of(state), size)
        ends = look(fd, size)
        cost = _LOOK_BYTES
        observer.advanced(TASK, cost)
        if count:
            known = index.counts_before(name, facts.stamp)
            facts.counts, read = count_log(
                fd,
                size,
                known=known,
                may_be_torn=is_lasting,
                advanced=lambda amount: observer.advanced(TASK, amount),
            )
            cost += read
    finally:
        os.close(fd)
    facts.first_ts, facts.last_ts = ends.first_ts, ends.last_ts
    facts.last_seq, facts.title = ends.last_seq, ends.title
    # What looks torn may be a turn that is just being written.
    facts.is_torn = ends.is_torn and is_lasting
    return facts, cost, is_lasting


def _of_compressed(folder: Folder, name: str, index: Index) -> Facts:
    """Return the facts that were written into the compressed file; nothing is unpacked.

    Where they are damaged, what else is known of it.
    """
    from convmem.log.compressed.cold_file import ColdFile

    try:
        with ColdFile(folder, name + COMPRESSED) as cold:
            state = os.fstat(cold.fd)
            known = cold.facts
    except CorruptLog:
        state = folder.stat(name + COMPRESSED)
        facts = Facts(stamp_of(state), state.st_size, is_compressed=True)
        facts.is_torn = True
        facts.last_seq = index.last_seq(name)
        return facts
    facts = Facts(stamp_of(state), state.st_size, is_compressed=True)
    facts.first_ts, facts.last_ts = known.first_ts, known.last_ts
    facts.last_seq, facts.title = known.last_seq, known.title
    facts.counts = Counts.from_list(known.counts)
    return facts
