"""Claude Code transcripts to turns, for machines without jq: the twin of claude_code_to_turns.jq.

    python3 claude_code_to_turns.py SESSION.jsonl... | convmem record - --jsonl

Needs Python only. Records that are no messages (summaries, snapshots, progress) are left out; a
line that is not JSON is named on standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO


def turns_in(lines: Iterable[bytes], name: str) -> Iterator[dict[str, Any]]:
    """Yield the turn objects of one transcript."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8", "replace"))
        except ValueError:
            print(f"{name}:{number}: not JSON, left out", file=sys.stderr)
            continue
        turn = turn_of(record)
        if turn is not None:
            yield turn


def turn_of(record: Any) -> dict[str, Any] | None:
    """Return the turn that *record* stands for, or ``None`` if it is no message."""
    if not isinstance(record, dict) or record.get("type") not in ("user", "assistant"):
        return None
    message = record.get("message")
    if not isinstance(message, dict) or message.get("content") is None:
        return None
    if not isinstance(record.get("sessionId"), str) or not isinstance(record.get("uuid"), str):
        return None
    turn = {
        "continuation_id": record["sessionId"],
        "id": record["uuid"],
        "ts": record.get("timestamp"),
        "role": message.get("role"),
        "content": message["content"],
        "model": message.get("model"),
        "parent": record.get("parentUuid"),
        "agent": record.get("agentId"),
    }
    return {key: value for key, value in turn.items() if value is not None}


def main() -> None:
    """Turn the files that are named, else standard input."""
    for name in sys.argv[1:] or ["-"]:
        if name == "-":
            print_turns(sys.stdin.buffer, name)
        else:
            with open(name, "rb") as file:
                print_turns(file, name)


def print_turns(file: BinaryIO, name: str) -> None:
    """Print the turns of one transcript, one a line."""
    for turn in turns_in(file, name):
        print(json.dumps(turn, separators=(",", ":")))


if __name__ == "__main__":
    main()
