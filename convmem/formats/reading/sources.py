"""Sources: everything between a path and whole records.

A source is a file, a member of a zip, or standard input; packed or not, damaged or not. What it
gives are whole records; what was read around is counted in its ``tally``.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from convmem import jsontext
from convmem.errors import ConvmemError, storage_error
from convmem.formats.reading import containers
from convmem.formats.reading.containers import FileOrigin, InputOrigin, SourceUnreadable, Unpacked
from convmem.formats.reading.elements import elements_of
from convmem.formats.reading.mining import Miner, Tally, as_told, read_leniently
from convmem.formats.reading.sources_lines import blocks_of_lines
from convmem.formats.reading.sources_walk import files_below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from convmem.formats.reading.containers import Origin

__all__ = ["Source", "SourceUnreadable", "Tally", "sources_in"]

_STEP = 1 << 20
_CHECKED_BYTES = 4 << 10
# A document is held in memory whole, some ten times over once it is parsed.
_MOST_DOCUMENT_BYTES = 1 << 30
# These say how a file is packed or laid out, and are no part of what it is called.
_SUFFIXES = ("jsonl", "ndjson", "json", "zst", "gz", "db", "sqlite", "md", "txt")
_DATABASE_MAGIC = b"SQLite format 3\x00"


class Source:
    """One source. Nothing is opened before something of it is asked for.

    Attributes:
        name: What it is called, without folders; empty for standard input.
        stem: ``name`` without suffixes such as ``.jsonl`` and ``.zst``.
        folder: What the folder that it lies in is called; empty if unknown.
        relative: Its name below the folder, or in the zip, that was asked for: never leads out.
        path: The file's absolute path, the zip's for a member; ``None`` for standard input.
        key: What tells it from all others, and what to call it in messages.
        size: How many bytes it has: a member unpacked, all others packed; ``None`` if unknown.
        modified: When the file was changed last, in seconds since 1970; ``None`` if unknown.
        offset: Behind the last record that ``records`` gave (or the last of ``text_lines``), in
            unpacked bytes. All before it has been dealt with.
        unterminated: Whether no newline stands behind the last record that ``records`` gave.
        tally: What was met since ``start_at``.
        fault: What kept the rest of it from being read, in words, once that has happened.
    """

    def __init__(
        self,
        origin: Origin,
        relative: str,
        *,
        size: int | None = None,
        modified: float | None = None,
    ) -> None:
        self.relative = _harmless(relative)
        self.name = self.relative.rpartition("/")[2]
        self.stem = _stem_of(self.name)
        place = self.relative if origin.is_member else _clean(origin.path or "")
        self.folder = os.path.basename(os.path.dirname(place))
        self.path = origin.path
        self.key = origin.place
        self.size = size
        self.modified = modified
        self.offset = 0
        self.unterminated = False
        self.tally = Tally()
        self.fault: str | None = None
        self._origin = origin
        self._stream: Unpacked | None = None
        self._spooled: IO[bytes] | None = None

    # --- what is in it -----------------------------------------------------------------------

    def head(self, most: int) -> bytes:
        """Return the first *most* bytes, fewer if it has no more. Passes nothing.

        Raises:
            ConvmemError: It cannot be opened.
        """
        return self._opened_at(0).peek(most)

    def records(self) -> Iterator[tuple[bytes, Any]]:
        """Yield each record behind ``offset``: its bytes without the newline, and its value.

        A value that is no strict JSON (NaN, lone surrogates) comes as near as can be, one nested
        too deeply as ``mining.TooDeep``, a text. Reads in blocks of 1 MiB; memory follows the
        longest line, and a line that no turn could hold is skipped. What stands at the end
        without a newline and is no whole record is perhaps still being written: ``offset`` stays
        in front of it.

        Raises:
            ConvmemError: It cannot be opened. What cannot be read later is in ``fault``.
        """
        stream = self._opened_at(self.offset)
        tally = self.tally
        tally.unfinished = 0
        loads = jsontext.fast()[0]
        miner = Miner(tally)
        is_holding = False
        count = 0
        at = stream.at  # where the next line begins
        try:
            for left_out, lines, is_exact, is_last in blocks_of_lines(self._read, tally):
                at += left_out
                newline = 0 if is_last else 1
                parse = loads if is_exact else jsontext.loads
                self.unterminated = is_last
                for line in lines:
                    end = at + len(line) + newline
                    try:
                        value = parse(line)
                    except ValueError:
                        self.unterminated = False
                        if line and (is_holding or not line.isspace()):
                            mined = miner.take(at, end, line, is_last=is_last)
                            for self.offset, raw, value in mined:
                                self.unterminated = is_last
                                yield as_told(raw), value
                            is_holding = miner.is_holding
                        at = end
                        if not is_holding and not tally.unfinished:
                            self.offset = end
                        continue
                    if is_holding:
                        for self.offset, raw, earlier in miner.finish():
                            yield as_told(raw), earlier
                        is_holding = False
                    count += 1
                    self.offset = at = end
                    yield line, value
            if is_holding:
                for self.offset, raw, value in miner.finish():
                    yield as_told(raw), value
        finally:
            tally.records += count
        if not tally.unfinished:
            self.offset = at

    def elements(self, *keys: str) -> Iterator[tuple[bytes, Any]]:
        """Yield each element of a JSON array: its bytes, on one line, and its value.

        The array is the source itself, or stands in the object that is the source, under that of
        *keys* which comes first in it. Memory follows the longest element.

        Raises:
            ConvmemError: It cannot be opened. What cannot be read later is in ``fault``.
        """
        stream = self._opened_at(0)
        yield from elements_of(self._read, keys, self.tally)
        self.offset = stream.at

    def document(self) -> tuple[bytes, Any]:
        """Return the whole source, one JSON value: its bytes, and the value.

        Raises:
            SourceUnreadable: It is no JSON value, or one of more than 1 GiB.
            ConvmemError: It cannot be opened.
        """
        stream = self._opened_at(0)
        parts = []
        while data := self._read(_STEP):
            parts.append(data)
            if stream.at > _MOST_DOCUMENT_BYTES:
                raise SourceUnreadable(
                    f"{self.key}: a single document of more than {_MOST_DOCUMENT_BYTES:,} bytes"
                )
        text = b"".join(parts)
        try:
            value = read_leniently(text)
        except ValueError as error:
            raise SourceUnreadable(f"{self.key}: {self.fault or error}") from error
        self.offset = stream.at
        self.tally.records += 1
        return text, value

    def text_lines(self) -> Iterator[bytes]:
        """Yield each line behind ``offset`` with its end; one too long for a turn in pieces.

        Raises:
            ConvmemError: It cannot be opened. What cannot be read later is in ``fault``.
        """
        self.offset = self._opened_at(self.offset).at
        pending = b""
        while data := self._read(_STEP):
            lines = (pending + data).split(b"\n")
            pending = lines.pop()
            for line in lines:
                self.offset += len(line) + 1
                yield line + b"\n"
            if len(pending) > containers.MOST_TEXT_BYTES:
                self.offset += len(pending)
                yield pending
                pending = b""
        self.unterminated = bool(pending)
        if pending:
            self.offset += len(pending)
            yield pending

    def database(self) -> sqlite3.Connection:
        """Open it as an SQLite database, for reading only: safe while its owner writes.

        What is packed, or comes from standard input, is unpacked to a temporary file. The caller
        closes the connection before ``close``. Text that is no UTF-8 comes with U+FFFD in it.

        Raises:
            SourceUnreadable: It is no database, or cannot be opened as one.
            ConvmemError: It cannot be opened.
        """
        stream = self._opened_at(0)
        if stream.peek(len(_DATABASE_MAGIC)) != _DATABASE_MAGIC:
            raise SourceUnreadable(f"{self.key} is no SQLite database")
        path = self.path
        if not stream.is_plain or path is None:
            self._spooled = self._spooled or containers.spool(self._read)
            path = self._spooled.name
        try:
            return _connected(path)
        except sqlite3.Error as error:
            raise SourceUnreadable(f"cannot read {self.key}: {error}") from error

    # --- where it went on --------------------------------------------------------------------

    def start_at(self, offset: int) -> None:
        """Let ``records`` and ``text_lines`` begin at *offset*, and the tally anew."""
        self.offset = offset
        self.tally = Tally()
        self.unterminated = False

    def check(self) -> str:
        """Return a checksum of the 4 KiB before ``offset``; empty where it cannot be had cheaply.

        Only of files that are not packed: others do not grow at their end.
        """
        stream = self._opened()
        return _check(stream, self.offset) if stream.is_plain else ""

    def matches(self, offset: int, check: str) -> bool:
        """Whether it is still what it was when *check* was made at *offset*, and perhaps more."""
        if offset == 0:
            return True
        stream = self._opened()
        return stream.is_plain and check != "" and _check(stream, offset) == check

    def last_bytes(self, most: int) -> bytes | None:
        """Return its last *most* bytes; ``None`` where only reading it all would tell them."""
        stream = self._opened()
        if not stream.is_plain:
            return None
        return stream.bytes_before(stream.plain_size(), most)

    def close(self) -> None:
        """Close what was opened. It may be asked again, unless it was standard input."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._spooled is not None:
            self._spooled.close()
            self._spooled = None

    def _opened(self) -> Unpacked:
        if self._stream is None:
            self._stream = Unpacked(self._origin)
        return self._stream

    def _opened_at(self, offset: int) -> Unpacked:
        stream = self._opened()
        offset = max(offset, stream.first)
        if offset < stream.at and not stream.is_plain and self._origin.can_reopen:
            stream.close()
            self._stream = None
            stream = self._opened()
        if stream.at != offset:
            stream.seek(offset)
        return stream

    def _read(self, size: int) -> bytes:
        stream = self._opened()
        data = stream.read(size)
        if stream.fault is not None and self.fault is None:
            self.fault = stream.fault
            self.tally.unreadable += 1
        return data

    def _members(self) -> Iterator[Source]:
        """Yield the sources in a zip. Each is to be read before the next one is asked for."""
        self._opened_at(0)
        plain = self._stream is not None and self._stream.is_plain and self.path
        file = None if plain else containers.spool(self._read)
        try:
            for origin in containers.members_of(self._origin, file):
                yield Source(origin, origin.name, size=origin.size, modified=self.modified)
        finally:
            if file is not None:
                file.close()


def sources_in(
    path: str,
    report: Callable[[str, Exception], None],
    *,
    is_wanted: Callable[[Source], bool] | None = None,
) -> Iterator[Source]:
    """Yield the sources in *path*: a file, a zip, a folder with all below it, ``-``.

    A folder is walked in sorted order at the cost of a stat for each file; what is surely media is
    passed over. Nothing is opened but what may be a zip, and that only if *is_wanted* says so of
    it. What cannot be read is told to *report*, by its key; it never ends the walk. A member of a
    zip is to be read before the next source is asked for.
    """
    if path == "-":
        yield from _opened_up(Source(InputOrigin(0), ""), report)
        return
    path = os.path.abspath(path)
    try:
        found = os.stat(path)
    except OSError as error:
        report(_clean(path), storage_error(error, f"cannot read {_clean(path)}"))
        return
    if not os.path.isdir(path):
        files = iter([(path, os.path.basename(path), found)])
    else:
        files = files_below(path, report)
    for file, relative, status in files:
        source = Source(FileOrigin(file), relative, size=status.st_size, modified=status.st_mtime)
        if is_wanted is not None and not is_wanted(source):
            continue
        if file == path or relative.rpartition(".")[2].lower() not in _SUFFIXES:
            yield from _opened_up(source, report)
        else:
            yield source


def _opened_up(source: Source, report: Callable[[str, Exception], None]) -> Iterator[Source]:
    """Yield *source*, or what is in it if it is a zip."""
    is_zip = False
    try:
        is_zip = source.head(4) in containers.ZIP_MAGICS
        if is_zip:
            yield from source._members()
    except ConvmemError as error:
        is_zip = True
        report(source.key, error)
    finally:
        if is_zip:
            source.close()
    if not is_zip:
        yield source


def _connected(path: str) -> sqlite3.Connection:
    where = f"file:{quote(path)}?mode=ro"
    try:
        return _tried(where)
    except sqlite3.OperationalError:
        # In a folder that nobody may write to, a database with a write-ahead log opens only so;
        # nobody writes to it, either, unless there is such a log.
        if os.path.exists(f"{path}-wal"):
            raise
        return _tried(f"{where}&immutable=1")


def _tried(where: str) -> sqlite3.Connection:
    connection = sqlite3.connect(where, uri=True)
    try:
        # What a hostile file declares is not run.
        connection.execute("pragma trusted_schema=off")
        connection.execute("select count(*) from sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    return connection


def _check(stream: Unpacked, offset: int) -> str:
    data = stream.bytes_before(offset, _CHECKED_BYTES)
    if len(data) < min(offset, _CHECKED_BYTES):
        return ""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _stem_of(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    while dot and stem and suffix.lower() in _SUFFIXES:
        name = stem
        stem, dot, suffix = name.rpartition(".")
    return name


def _harmless(relative: str) -> str:
    """Return a relative name that is text, and leads nowhere but down."""
    parts = _clean(relative).replace("\\", "/").split("/") if relative else []
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def _clean(name: str) -> str:
    return name.encode("utf-8", "replace").decode()
