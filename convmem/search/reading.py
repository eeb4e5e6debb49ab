"""Reading the turns that an index speaks of from their logs, where they stand by now."""

from __future__ import annotations

import os

from convmem.log import codec
from convmem.log.lines import MAX_LINE_BYTES
from convmem.log.read import StoredTurn
from convmem.search.index.rows import mark_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from convmem.log.read import Reader
    from convmem.search.index.turn_facts import Place
    from convmem.stores.caretakers import Logs

_MOST_OPEN = 16
_TAKE = 4 << 10


class Changed(Exception):
    """A log is not what the index says: it was changed since, or damaged. Search again.

    Attributes:
        namespace, name: Which log.
    """

    def __init__(self, namespace: str, name: str) -> None:
        super().__init__(f"{namespace}: {name}")
        self.namespace = namespace
        self.name = name


class TurnReader:
    """Reads single turns of one namespace. Use it as a context manager."""

    def __init__(self, logs: Logs, namespace: str, names: dict[int, str]) -> None:
        self._logs = logs
        self._namespace = namespace
        self._names = names
        self._open: dict[int, Reader] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for reader in self._open.values():
            reader.close()
        self._open.clear()

    def read(self, place: Place) -> StoredTurn:
        """Return the turn at *place*.

        Raises:
            Changed: Another turn, or none, stands there now.
            StorageError: The log cannot be read.
        """
        reader = self._reader(place.log)
        line = _line_at(reader, place.offset)
        # A seal keeps its number when the line around it is damaged: that must not pass.
        if line is None or codec.fault_of(line) is not None or mark_of(line) != place.mark:
            raise Changed(self._namespace, self._names[place.log])
        return StoredTurn(line, place.offset)

    def name(self, log: int) -> str:
        """Return the file name of a log."""
        return self._names[log]

    def _reader(self, log: int) -> Reader:
        reader = self._open.pop(log, None)
        if reader is None:
            if len(self._open) >= _MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
            try:
                reader = self._logs.open(self._namespace, self._names[log])
            except FileNotFoundError:
                raise Changed(self._namespace, self._names[log]) from None
        self._open[log] = reader  # the last one used is the last one closed
        return reader


def _line_at(reader: Reader, offset: int) -> bytes | None:
    take = _TAKE
    while True:
        data = os.pread(reader.fd, take, offset)
        end = data.find(b"\n")
        if end >= 0:
            return data[:end]
        if len(data) < take:
            return data or None  # a last line without its newline
        if take > MAX_LINE_BYTES:
            return None
        take *= 4
