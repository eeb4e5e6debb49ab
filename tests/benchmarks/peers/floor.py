"""The floor: a line that is ready, one write, and one fdatasync where the others sync."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import orjson
from protocol import TEXT

# The same bytes that convmem stores for this turn, down to their number.
_TURN = {
    "id": "01998a5c-7c1e-7d55-8a30-0d4b7c2e9f11",
    "seq": 1000,
    "ts": "2026-11-21T09:00:00.000000Z",
    "role": "user",
    "content": TEXT,
    "_c": "00000000",
}
_LINE = orjson.dumps(_TURN) + b"\n"


class History:
    """A file for each chat. A batch is made line by line with orjson, and written at once."""

    def __init__(self, place: Path, chats: Sequence[str], *, durable: bool) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._paths = [place / f"{chat}.jsonl" for chat in chats]
        self._fds = [os.open(path, flags, 0o600) for path in self._paths]
        self._is_durable = durable

    def append(self, chat: int) -> None:
        fd = self._fds[chat]
        os.write(fd, _LINE)
        if self._is_durable:
            os.fdatasync(fd)

    def append_many(self, chat: int, count: int) -> None:
        fd = self._fds[chat]
        os.write(fd, b"".join([orjson.dumps(_TURN) + b"\n" for _ in range(count)]))
        if self._is_durable:
            os.fdatasync(fd)

    def last(self, chat: int, count: int) -> int:
        return len(last_lines(self._paths[chat], count))

    def kept(self) -> list[int]:
        return [path.read_bytes().count(b"\n") for path in self._paths]

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)


def last_lines(path: Path, count: int) -> list[object]:
    """Read a file backwards until *count* lines are there, and parse these."""
    fd = os.open(path, os.O_RDONLY)
    try:
        at = os.fstat(fd).st_size
        block = 4096
        data = b""
        while at > 0 and data.count(b"\n") <= count:
            take = min(block, at)
            at -= take
            block *= 2
            data = os.pread(fd, take, at) + data
        return [orjson.loads(line) for line in data.split(b"\n")[-count - 1 : -1]]
    finally:
        os.close(fd)
