"""JSON for programs: one object a line, the same today and in ten years."""

from __future__ import annotations

import sys

from convmem import jsontext
from convmem.cli.output.messages import write_bytes
from convmem.log import codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from convmem.log.read import StoredTurn

_FIRST = ("id", "seq", "ts", "role", "content")


class TurnWriter:
    """Writes the turns of one conversation as JSON lines.

    A line that convmem wrote is passed on as it is, less its seal: nothing is parsed, so nothing
    can be changed, and a gigabyte goes through in seconds.
    """

    def __init__(self, continuation_id: str) -> None:
        self._start = b'{"continuation_id":' + jsontext.dumps(continuation_id) + b","

    def write(self, stored: StoredTurn) -> None:
        """Write one turn."""
        write_bytes(self.line(stored))

    def flush(self) -> None:
        """Hand what was written to whoever reads."""
        sys.stdout.buffer.flush()

    def line(self, stored: StoredTurn) -> bytes:
        """Return the line that stands for *stored*."""
        line = stored.line
        if stored.is_sealed and line.startswith(b'{"id":'):
            if codec.ends_like_a_batch(line):
                return self._start + codec.body_of(line)[1:] + b"}\n"
            return self._start + line[1 : -codec.SEAL_BYTES] + b"}\n"
        return self._start + _by_hand(stored)[1:] + b"\n"


def _by_hand(stored: StoredTurn) -> bytes:
    """Return the JSON of a line that somebody wrote: known keys first, ``null`` if not there."""
    value = codec.parse_object(stored.line)
    turn = stored.turn
    shown: dict[str, Any] = {
        "id": turn.id,
        "seq": turn.seq,
        "ts": value.get("ts"),
        "role": turn.role,
        "content": turn.content,
    }
    shown.update(
        (key, item)
        for key, item in value.items()
        if key not in _FIRST and key != "continuation_id" and not key.startswith("_")
    )
    return jsontext.dumps(shown)


def write_object(value: dict[str, Any]) -> None:
    """Write one object to standard output, on a line of its own."""
    write_bytes(jsontext.dumps(value) + b"\n")
