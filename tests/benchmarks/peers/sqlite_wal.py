"""sqlite3 with a write-ahead log: a table of turns, a transaction for each call."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

from protocol import TEXT

_INSERT = "INSERT INTO turns (chat, id, ts, role, content) VALUES (?, ?, ?, ?, ?)"
_TURN = ("01998a5c-7c1e-7d55-8a30-0d4b7c2e9f11", "2026-11-21T09:00:00.000000Z", "user", TEXT)


class History:
    """One database; a connection for each thread. FULL syncs every commit, NORMAL none."""

    def __init__(self, place: Path, chats: Sequence[str], *, durable: bool) -> None:
        self._path = place / "turns.db"
        self._chats = chats
        self._synchronous = "FULL" if durable else "NORMAL"
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._connection().executescript(
            "CREATE TABLE IF NOT EXISTS turns"
            " (seq INTEGER PRIMARY KEY, chat TEXT, id TEXT, ts TEXT, role TEXT, content TEXT);"
            "CREATE INDEX IF NOT EXISTS by_chat ON turns (chat, seq);"
        )

    def append(self, chat: int) -> None:
        self._connection().execute(_INSERT, (self._chats[chat], *_TURN))

    def append_many(self, chat: int, count: int) -> None:
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_INSERT, [(self._chats[chat], *_TURN)] * count)
        connection.execute("COMMIT")

    def last(self, chat: int, count: int) -> int:
        found = self._connection().execute(
            "SELECT seq, id, ts, role, content FROM turns WHERE chat = ? ORDER BY seq DESC LIMIT ?",
            (self._chats[chat], count),
        )
        return len(found.fetchall()[::-1])

    def kept(self) -> list[int]:
        count = "SELECT count(*) FROM turns WHERE chat = ?"
        return [self._connection().execute(count, (chat,)).fetchone()[0] for chat in self._chats]

    def close(self) -> None:
        for connection in self._opened:
            connection.close()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self._path, timeout=30, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            self._local.connection = connection
            self._opened.append(connection)
        return connection
