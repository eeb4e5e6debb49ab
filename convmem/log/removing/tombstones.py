"""The ids of imported turns that were removed: importing them again does not bring them back.

An import repeats all that its source holds, perhaps for years. So these are kept for good, in one
file for each log, ``.tombstones/<name>``: of each id its hash, 16 bytes, sorted, and nothing else.

Only an import asks, and before it looks into the log: a tombstone of a turn that was restored is
harmless, and so is one of a turn that only looks as if it had been imported. What rots in such a
file is forgotten, and nothing beside it.
"""

from __future__ import annotations

import os
import re

from convmem import copied
from convmem.errors import ConvmemError
from convmem.formats.known import MODULES
from convmem.log import codec
from convmem.log.files import read_exactly, temporary_name, write_aside
from convmem.log.locks import held
from convmem.log.removing.dropped_lines import whole_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from convmem.log.files import Folder

FOLDER = ".tombstones"
_BYTES = 16
_BLOCK = 256  # hashes that a look-up reads at a time
_CHUNK = 4096  # and a burial
# Who buries more ids does it in several rounds: a round takes twice their hashes' memory.
_MOST_IN_A_ROUND = 1 << 20
# In the line of each turn that was imported; a text that has them has them escaped.
_SOURCE = b'"source":"'
_META = b',"meta":{'
_COPIED = b'"copied":{'
_IMPORTED = re.compile(b'"source":"(?:%b)"' % "|".join(MODULES).encode())


class BuriedMeanwhile(ConvmemError):
    """Turns of the conversation were removed since it was asked which ones had been."""

    kind = "busy"


class Buried(set[str]):
    """Ids that were buried.

    Attributes:
        asked: What the answer was found in: changes as soon as more is buried.
    """

    asked: tuple[int, int, int, int] | None = None

    def check(self, folder: Folder, name: str) -> None:
        """Look, without reading, whether the answer holds still.

        Raises:
            BuriedMeanwhile: It may not.
        """
        try:
            found = _identity(folder.stat(f"{FOLDER}/{name}"))
        except (FileNotFoundError, NotADirectoryError):
            return  # no more, at least
        if found != self.asked:
            raise BuriedMeanwhile(
                f"turns of {name}.jsonl were removed meanwhile",
                hint="nothing was written; ask again which ones, and leave them out",
            )


def imported(fd: int, spans: Iterable[tuple[int, int]]) -> Iterator[str]:
    """Yield the ids of the imported turns in byte *spans* of the log *fd*, damaged ones too.

    Of others only if they look the same: their ``source`` is the name of a format.
    """
    for start, end in spans:
        for block in whole_lines(fd, start, end):
            if _SOURCE not in block:
                continue
            for line in block.split(b"\n"):
                if _SOURCE in line and _META in line and _IMPORTED.search(line):
                    turn_id = _id_of(line)
                    if turn_id is not None:
                        yield turn_id
                    if _COPIED in line:
                        turn = codec.parse(line)
                        yield from () if turn is None else copied.ids_in(turn)


def bury(folder: Folder, name: str, turn_ids: Iterable[str], *, timeout_seconds: float) -> None:
    """Remember *turn_ids* of the log *name* for good, durably. Costs nothing if there are none.

    The file is written anew with them; at most some 50 MB of memory, however many they are.

    Raises:
        LockTimeout: Somebody else did so for *timeout_seconds*.
    """
    for heaps in _rounds(turn_ids):
        inner = folder.subfolder(FOLDER)
        try:
            with _locked(folder, name, timeout_seconds):
                _add(inner, name, heaps)
        finally:
            inner.close()


def buried(folder: Folder, name: str, turn_ids: Iterable[str]) -> Buried:
    """Return those of *turn_ids* that were buried and not cleared since.

    Reads some 4 KB for each id, less for many, and holds only what it was given. Where nothing of
    the log was buried it only looks for the file.
    """
    answer = Buried()
    fd = _open(folder, name) if folder.has(f"{FOLDER}/{name}") else None
    if fd is None:
        return answer
    try:
        answer.asked = _identity(os.fstat(fd))
        hash_of = _hash()
        wanted = {hash_of(turn_id): turn_id for turn_id in turn_ids}
        answer.update(wanted[found] for found in _search(fd, sorted(wanted)))
        return answer
    finally:
        os.close(fd)


def clear(folder: Folder, name: str, *, timeout_seconds: float) -> int:
    """Forget all tombstones of the log *name*, durably; return how many there were.

    Raises:
        LockTimeout: Somebody else added to them for *timeout_seconds*.
    """
    if not folder.has(f"{FOLDER}/{name}"):
        return 0
    inner = folder.existing_subfolder(FOLDER)
    try:
        with _locked(folder, name, timeout_seconds):
            size = inner.stat(name).st_size
            inner.remove(name)
            inner.sync()
            return size // _BYTES
    except FileNotFoundError:
        return 0  # cleared by somebody else
    finally:
        inner.close()


# --- adding ------------------------------------------------------------------------------------


def _rounds(turn_ids: Iterable[str]) -> Iterator[list[bytearray]]:
    """Yield the hashes of *turn_ids*, so many at a time, in heaps by their first byte."""
    heaps: list[bytearray] = []
    count = 0
    hash_of = _hash()
    for turn_id in turn_ids:
        if not heaps:
            heaps = [bytearray() for _ in range(256)]
        hashed = hash_of(turn_id)
        heaps[hashed[0]] += hashed
        count += 1
        if count == _MOST_IN_A_ROUND:
            yield heaps
            heaps, count = [], 0
    if heaps:
        yield heaps


def _add(inner: Folder, name: str, heaps: list[bytearray]) -> None:
    from heapq import merge

    try:
        fd = inner.open_file(name, os.O_RDONLY)
    except FileNotFoundError:
        write_aside(inner, name, temporary_name(name), _chunks(_sorted(heaps)))
        return
    try:
        both = merge(_still_known(fd), _sorted(heaps))
        write_aside(inner, name, temporary_name(name), _chunks(both))
    finally:
        os.close(fd)


def _sorted(heaps: list[bytearray]) -> Iterator[bytes]:
    for heap in heaps:
        yield from sorted(_split(bytes(heap)))


def _still_known(fd: int) -> Iterator[bytes]:
    """Yield the hashes of a file in order; what damage has put out of order is left out."""
    at = 0
    last = held = b""  # what was yielded, and what is next unless it is too high for its place
    while block := read_exactly(fd, _CHUNK * _BYTES, at):
        at += len(block)
        for hashed in _split(block):
            if hashed >= held:
                hashed, held = held, hashed
            if hashed > last:
                yield hashed
                last = hashed
    if held > last:
        yield held


def _chunks(hashes: Iterator[bytes]) -> Iterator[bytes]:
    """Yield *hashes* in bytes, each once. They are in order."""
    chunk: list[bytes] = []
    last = b""
    for hashed in hashes:
        if hashed == last:
            continue
        chunk.append(hashed)
        last = hashed
        if len(chunk) == _CHUNK:
            yield b"".join(chunk)
            chunk.clear()
    if chunk:
        yield b"".join(chunk)


# --- looking up --------------------------------------------------------------------------------


def _search(fd: int, wanted: list[bytes]) -> Iterator[bytes]:
    """Yield those of *wanted*, which are in order, that the file has."""
    count = os.fstat(fd).st_size // _BYTES
    first, block = 0, b""
    for hashed in wanted:
        low, high = 0, count
        # Hashes are spread evenly, so that their place can be guessed: nearly always at the
        # first or the second try.
        low_value, high_value = 0, 1 << 64
        value = int.from_bytes(hashed[:8])
        while low < high:
            is_here = first >= low and first + len(block) // _BYTES <= high
            if not (block and is_here and block[:_BYTES] <= hashed <= block[-_BYTES:]):
                spread = max(1, high_value - low_value)
                guess = low + (high - low) * (value - low_value) // spread - _BLOCK // 2
                first = max(low, min(guess, high - _BLOCK))
                most = min(_BLOCK, high - first)
                block = read_exactly(fd, most * _BYTES, first * _BYTES)
                if len(block) < most * _BYTES:
                    return  # cut short by hand
            if hashed < block[:_BYTES]:
                high = first
                high_value = int.from_bytes(block[:8])
            elif hashed > block[-_BYTES:]:
                low = first + len(block) // _BYTES
                low_value = int.from_bytes(block[-_BYTES : 8 - _BYTES])
            else:
                if _holds(block, hashed):
                    yield hashed
                break


def _holds(block: bytes, hashed: bytes) -> bool:
    at = block.find(hashed)
    while at >= 0 and at % _BYTES:
        at = block.find(hashed, at + 1)
    return at >= 0


# --- hashes, files -----------------------------------------------------------------------------


def _hash() -> Callable[[str], bytes]:
    """Return what gives the hash of an id: of nothing else, so that a log can be renamed."""
    from hashlib import blake2b

    return lambda turn_id: blake2b(
        turn_id.encode("utf-8", "surrogatepass"), digest_size=_BYTES
    ).digest()


def _split(data: bytes) -> list[bytes]:
    return [data[at : at + _BYTES] for at in range(0, len(data) - _BYTES + 1, _BYTES)]


def _id_of(line: bytes) -> str | None:
    encoded = codec.id_of(line)
    if encoded is None:
        turn = codec.parse(line)  # written by hand
        return None if turn is None else turn.id
    try:
        return codec.text_of(encoded)
    except ValueError:
        return None  # damaged just there


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _open(folder: Folder, name: str) -> int | None:
    try:
        inner = folder.existing_subfolder(FOLDER)
    except FileNotFoundError:
        return None
    try:
        return inner.open_file(name, os.O_RDONLY)
    except FileNotFoundError:
        return None
    finally:
        inner.close()


def _locked(folder: Folder, name: str, timeout_seconds: float) -> held:
    """Keep others from writing the file anew meanwhile: they would undo each other's."""
    # No id's name holds a "+".
    return held(folder, f"{name}+tombstones", timeout_seconds)
