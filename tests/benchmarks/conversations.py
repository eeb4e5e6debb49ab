"""Large conversations, made in seconds: their lines are what recording one by one would write."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from convmem import Archive
from convmem.log import codec
from convmem.quantities import format_time
from convmem.turns import draft

STEP = timedelta(seconds=1)  # between two turns
_SENTENCES = (
    "The early train leaves at ten past six and takes the coast line.",
    "About seven hours, with one change; the way along the lake is the slower one.",
    "Die Fähre fährt nur im Sommer, und man muß eine Stunde vorher da sein.",
    "A ticket for the whole day costs less than two single ones.",
    "夜行列車なら朝の八時に着きます。",
    "Then I would rather stay a night on the way, somewhere with a view.",
)


def make_conversation(archive: Path, name: str, turns: int) -> Path:
    """Make a conversation of so many turns; return its file.

    Every 50th turn is a tool call and the next its result, and its times end now.
    """
    with Archive.open(archive, durability="none") as opened:
        chat = opened.conversation(name)
        chat.record("system", "You plan journeys.")
        path = chat.path
    with open(path, "wb", buffering=1 << 20) as file:
        file.writelines(lines(turns, datetime.now(UTC) - turns * STEP))
    return Path(path)


def turns_in(size: int) -> int:
    """Return how many turns of such a conversation take *size* bytes, at least 20."""
    average = sum(len(line) for line in lines(1000, datetime.now(UTC))) / 1000
    return max(20, int(size / average))


def lines(turns: int, start: datetime) -> Iterator[bytes]:
    """Yield the lines of such a conversation."""
    drafts = []
    for at in range(50):
        text = " ".join(_SENTENCES[(at + nth) % len(_SENTENCES)] for nth in range(6))
        extra: dict[str, Any] = {}
        role = "assistant" if at % 2 else "user"
        if at == 47:
            call = {"id": "call-1", "type": "function", "function": {"name": "timetable"}}
            extra = {"tool_calls": [call]}
        elif at == 48:
            role, extra = "tool", {"tool_call_id": "call-1"}
        drafts.append(draft(role, text, id="turn-0", meta={"model": "small"}, extra=extra))
    # What differs from turn to turn is put in by hand: a draft for each would take a minute.
    ts_text = ""
    for seq in range(1, turns + 1):
        if seq % 1000 == 1:
            ts_text = format_time(start + seq * STEP)
        made = drafts[seq % len(drafts)]
        made.head = b'{"id":"turn-%d"' % seq
        yield codec.turn_line(made, seq, ts_text, None)
