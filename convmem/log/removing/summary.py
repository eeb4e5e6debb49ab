"""The turn that stands for turns which a compaction took: it says what, and where they are.

    {"id":"…","seq":null,"ts":"…","role":"system","content":"…","summary":{"turns":40,…},"_c":"…"}

It has no ``seq``: a new one would break the order where it stands, and an old one was somebody
else's. Its ``summary`` names the first and the last ``seq`` that it stands for, how many turns
these were, counting those that earlier summaries stood for, and the file in the trash that has
them.
"""

from __future__ import annotations

from convmem import jsontext
from convmem.errors import ConvmemError
from convmem.ids import new_turn_id
from convmem.log import codec
from convmem.quantities import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from typing import Any, TypeAlias

    from convmem.turns import Turn

    # Gets the lines of the turns that go, without newlines; returns the summary, or raises.
    Summarizer: TypeAlias = Callable[[Iterator[bytes]], str]

ROLE = "system"


class Marker:
    """A summary's line, newline included, and the id of its turn."""

    __slots__ = ("line", "turn_id")

    def __init__(self, line: bytes, turn_id: str) -> None:
        self.line = line
        self.turn_id = turn_id


def make(summarize: Summarizer, going: Iterable[bytes], *, trash: str, now: datetime) -> Marker:
    """Return the turn that stands for the turns in the lines *going*, as *summarize* puts it.

    Raises:
        ConvmemError: There is nothing in what *summarize* returned.
    """
    account = _Account()

    def counted() -> Iterator[bytes]:
        for line in going:
            account.add(line)
            yield line

    lines = counted()
    text = summarize(lines)
    for _ in lines:
        pass  # what the summarizer did not care to read is counted all the same
    if not text.strip():
        raise ConvmemError(
            "the summary is empty", hint="nothing was changed; see that the command prints one"
        )
    turn_id = new_turn_id()
    stands_for = {
        "turns": account.turns,
        "first_seq": account.first_seq,
        "last_seq": account.last_seq,
        "first_ts": account.first_ts,
        "last_ts": account.last_ts,
        "trash": trash,
        "made": format_time(now),
    }
    body = b'{"id":%b,"seq":null,"ts":%b,"role":%b,"content":%b,"summary":%b' % (
        jsontext.dumps(turn_id),
        jsontext.dumps(account.last_ts or format_time(now)),
        jsontext.dumps(ROLE),
        jsontext.dumps(text),
        jsontext.dumps(stands_for),
    )
    return Marker(codec.sealed(body), turn_id)


def stands_for(line: bytes) -> dict[str, Any] | None:
    """Return what a summary says that it stands for, or ``None`` if *line* is no summary."""
    if b'"seq":null' not in line or not codec.is_sealed(line):
        return None
    turn = codec.parse(line)
    return None if turn is None else _stands_for(turn)


def is_summary(turn: Turn, *, is_sealed: bool) -> bool:
    """Whether the turn stands for others."""
    return is_sealed and turn.seq is None and _stands_for(turn) is not None


def _stands_for(turn: Turn) -> dict[str, Any] | None:
    said = turn.extra.get("summary")
    return said if turn.seq is None and isinstance(said, dict) and "turns" in said else None


class _Account:
    """Counts what a summary stands for."""

    def __init__(self) -> None:
        self.turns = 0
        self.first_seq: int | None = None
        self.last_seq: int | None = None
        self.first_ts: str | None = None
        self.last_ts: str | None = None

    def add(self, line: bytes) -> None:
        earlier = stands_for(line)
        if earlier is not None:
            self.turns += _number(earlier.get("turns")) or 0
            self._seqs(_number(earlier.get("first_seq")), _number(earlier.get("last_seq")))
            for name in ("first_ts", "last_ts"):
                if isinstance(earlier.get(name), str):
                    self._time(earlier[name])
            return
        self.turns += 1
        head = codec.head_of(line) if codec.is_sealed(line) else None
        if head is not None:
            self._seqs(head[1], head[1])
            self._time(head[2])
            return
        turn = codec.parse(line)
        if turn is not None:
            self._seqs(turn.seq, turn.seq)
            if turn.ts is not None:
                self._time(format_time(turn.ts))

    def _seqs(self, first: int | None, last: int | None) -> None:
        if first is not None:
            self.first_seq = first if self.first_seq is None else min(self.first_seq, first)
        if last is not None:
            self.last_seq = last if self.last_seq is None else max(self.last_seq, last)

    def _time(self, text: str) -> None:
        self.first_ts = text if self.first_ts is None else min(self.first_ts, text)
        self.last_ts = text if self.last_ts is None else max(self.last_ts, text)


def _number(value: object) -> int | None:
    return value if type(value) is int else None
