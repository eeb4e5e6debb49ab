"""Programs that keep every JSON line of standard input, for the table of bulk records.

python bulk_programs.py (loop | record_many | sqlite) FOLDER SYNC [CHAT]
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

_CHUNK = 1000
_ID = "01998a5c-7c1e-7d55-8a30-0d4b7c2e9f11"
_TS = "2026-11-21T09:00:00.000000Z"


def loop(folder: Path, sync: str) -> None:
    """Parse each line, and write as many bytes as convmem does; sync once, at the end."""
    with (folder / "loop.jsonl").open("wb") as out:
        for seq, line in enumerate(sys.stdin.buffer, 1):
            turn = {"id": _ID, "seq": seq, "ts": _TS, **orjson.loads(line), "_c": "00000000"}
            out.write(orjson.dumps(turn) + b"\n")
        out.flush()
        if sync == "always":
            os.fdatasync(out.fileno())


def record_many(folder: Path, sync: str, chat: str) -> None:
    """Record through convmem's API, each chunk a batch that is there whole or not at all."""
    from convmem import Archive

    with Archive.open(folder / "archive", durability=sync) as archive:
        for chunk in _chunks():
            archive.conversation(chat).record_many(chunk)


def sqlite(folder: Path, sync: str, chat: str) -> None:
    """Insert with executemany, each chunk a transaction."""
    connection = sqlite3.connect(folder / "turns.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={sync}")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS turns (seq INTEGER PRIMARY KEY, chat TEXT, id TEXT, ts TEXT,"
        " role TEXT, content TEXT, meta TEXT)"
    )
    for chunk in _chunks():
        rows = [
            (chat, _ID, _TS, turn["role"], turn["content"], orjson.dumps(turn["meta"]))
            for turn in chunk
        ]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO turns (chat, id, ts, role, content, meta) VALUES (?, ?, ?, ?, ?, ?)", rows
        )
        connection.execute("COMMIT")
    connection.close()


def _chunks() -> Iterator[list[dict[str, Any]]]:
    turns = map(orjson.loads, sys.stdin.buffer)
    while chunk := list(itertools.islice(turns, _CHUNK)):
        yield chunk


if __name__ == "__main__":
    program = {"loop": loop, "record_many": record_many, "sqlite": sqlite}[sys.argv[1]]
    program(Path(sys.argv[2]), *sys.argv[3:])
