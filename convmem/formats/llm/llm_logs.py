"""llm (simonw/llm) ``logs.db``: an SQLite database with conversations of two generations.

Until 0.31: a ``conversations`` row, and ``responses`` rows that are a question and its answer.
They become ``<id>.system`` (where it changed), ``<id>.tools`` (results that were sent),
``<id>.prompt`` and ``<id>``, the answer, which keeps the rows; a response without a conversation
is one of its own. Since 0.32: ``threads`` that point into a tree of ``messages``, and a ``turns``
row for each call of a model, kept as an event behind what it said. A message's id is the thread's
(of a fork: that of the thread which it was forked from) and the message's hash, so that a fork has
the messages that it shares, and two threads that begin with the same words have their own.
A conversation that went on across the upgrade is both; what its thread repeats is an event.

Text, reasoning, calls and results become blocks; fragments stand before the prompt;
attachments are images and documents with their bytes, address or path. Messages that the thread's
tip does not lead back to have ``meta.active`` false. ``raw`` is ``{table: [row, …]}``.
From llm's documentation ("Logging to SQLite") and the databases that llm 0.31.1 and 0.36 write.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from convmem import jsontext
from convmem.errors import LockTimeout
from convmem.formats.llm.llm_conversations import Conversation
from convmem.formats.llm.llm_database import database_of
from convmem.formats.llm.llm_tables import Tables
from convmem.formats.raws import as_bytes
from convmem.formats.reading.containers import SourceUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convmem.formats.llm.llm_tables import Row, Rows
    from convmem.formats.protocol import Begin, Kept, Record
    from convmem.formats.reading.samples import Sample
    from convmem.formats.reading.sources import Source

NAME = "llm"
TITLE = "llm"
SUFFIX = ".db"
HAS_IDS = True
GROWS = False
SHARES = True

_BUSY_MILLISECONDS = 10_000


def recognises(sample: Sample) -> bool:
    """Whether *sample* is the beginning of a database whose tables are llm's."""
    return sample.is_database and (
        b"_llm_migrations" in sample.head or b"prompt_json" in sample.head
    )


def read(source: Source, memory: dict[str, Any]) -> Iterator[Begin | Record]:
    """Yield the conversations of *source*, oldest first, each as it was at one moment.

    Nothing is locked between two of them, so llm can write meanwhile. Holds one conversation.

    Raises:
        SourceUnreadable: Something could not be read; all that could be was yielded before.
        LockTimeout: Somebody held the database for ten seconds.
    """
    database = source.database()
    try:
        database.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
        tables = Tables(database)
        ids = _conversation_ids(tables)
    except sqlite3.Error as error:
        database.close()
        raise _fault(source, error) from error
    failed: sqlite3.Error | None = None
    try:
        for id in ids:
            try:
                if not database.in_transaction:
                    database.execute("BEGIN")
                found = list(Conversation(tables, id).records())
            except sqlite3.Error as error:
                if "locked" in str(error):
                    raise _fault(source, error) from error
                failed = error
                continue
            finally:
                database.rollback()
            yield from found
    finally:
        database.close()
    if failed is not None:
        raise _fault(source, failed) from failed


def native(kept: Iterable[Kept]) -> Iterator[bytes]:
    """Yield an SQLite file with the rows of one conversation, for llm 0.36."""
    return database_of(_bundles(kept))


def _bundles(kept: Iterable[Kept]) -> Iterator[Rows]:
    threads: list[Row] = []
    tip: Any = None
    for each in kept:
        if each.raw is None:
            continue
        try:
            value = jsontext.loads(as_bytes(each.raw))
        except jsontext.NotJson:
            continue
        if not isinstance(value, dict):
            continue
        rows = {
            table: [row for row in found if isinstance(row, dict)]
            for table, found in value.items()
            if isinstance(found, list)
        }
        for turn in rows.get("turns", ()):
            tip = turn.get("tip_message_hash", tip)
        threads += rows.pop("threads", [])
        yield rows
    # A thread points at its last turn's last message, unless it says otherwise.
    yield {"threads": [{"tip_message_hash": tip, **thread} for thread in threads]}


def _fault(source: Source, error: sqlite3.Error) -> SourceUnreadable | LockTimeout:
    where = source.name or "standard input"
    if "locked" in str(error):
        return LockTimeout(f"{where}: {error}", hint="somebody writes to it; try again later")
    return SourceUnreadable(
        f"{where} cannot be read whole: {error}",
        hint="what could be read was taken; sqlite3 FILE .recover may find more",
    )


def _conversation_ids(tables: Tables) -> list[str]:
    """Return the ids of all conversations, in their order in time, which ids of llm's follow."""
    ids = {id for id in tables.values("conversations", "id") if isinstance(id, str)}
    ids.update(id for id in tables.values("threads", "id") if isinstance(id, str))
    for table, column in (("responses", "conversation_id"), ("turns", "thread_id")):
        if not tables.has(table, "id"):
            continue
        if not tables.has(table, column):
            ids.update(id for id in tables.values(table, "id") if isinstance(id, str))
            continue
        ids.update(id for id in tables.owners(table, column) if isinstance(id, str))
    return sorted(id for id in ids if id)
