"""A database of llm's, made of the rows that ``llm_tables`` has kept of one.

Its schema is that of llm 0.36, which opens it and writes to it: tables and columns that the
source's own lacked are there, and empty.
"""

from __future__ import annotations

import sqlite3
from base64 import b64decode
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from convmem import jsontext

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convmem.formats.llm.llm_tables import Row, Rows

# Columns by table, with their types where they are not TEXT; the key's columns stand after ``/``.
_COLUMNS = {
    "_llm_migrations": "name applied_at / name",
    "conversations": "id name model / id",
    "attachments": "id type path url content:BLOB / id",
    "prompt_attachments": "response_id attachment_id order:INTEGER / response_id attachment_id",
    "schemas": "id content / id",
    "responses": "id model prompt system prompt_json options_json response response_json"
    " conversation_id duration_ms:INTEGER datetime_utc input_tokens:INTEGER output_tokens:INTEGER"
    " token_details schema_id resolved_model reasoning / id",
    "fragments": "id:INTEGER hash content datetime_utc source / id",
    "fragment_aliases": "alias fragment_id:INTEGER / alias",
    "prompt_fragments": "response_id fragment_id:INTEGER order:INTEGER"
    " / response_id fragment_id order",
    "system_fragments": "response_id fragment_id:INTEGER order:INTEGER"
    " / response_id fragment_id order",
    "tools": "id:INTEGER hash name description input_schema plugin / id",
    "tool_responses": "tool_id:INTEGER response_id / tool_id response_id",
    "tool_calls": "id:INTEGER response_id tool_id:INTEGER name arguments tool_call_id / id",
    "tool_instances": "id:INTEGER plugin name arguments / id",
    "tool_results": "id:INTEGER response_id tool_id:INTEGER name output tool_call_id"
    " instance_id:INTEGER exception / id",
    "tool_results_attachments": "tool_result_id:INTEGER attachment_id order:INTEGER"
    " / tool_result_id attachment_id",
    "messages": "hash parent_hash role provider_metadata / hash",
    "parts": "id:INTEGER message_hash position:INTEGER type tool_name text payload / id",
    "part_attachments": "part_id:INTEGER attachment_id order:INTEGER / part_id attachment_id order",
    "part_fragments": "part_id:INTEGER fragment_id:INTEGER order:INTEGER"
    " / part_id fragment_id order",
    "threads": "id name tip_message_hash forked_from datetime_utc / id",
    "turns": "id thread_id parent_message_hash tip_message_hash model resolved_model options_json"
    " schema_id input_tokens:INTEGER output_tokens:INTEGER token_details duration_ms:INTEGER"
    " datetime_utc response_json / id",
    "turn_fragments": "turn_id fragment_id:INTEGER order:INTEGER kind"
    " / turn_id fragment_id kind order",
    "turn_search": "id:INTEGER turn_id prompt response / id",
    "turn_tools": "turn_id tool_id:INTEGER instance_id:INTEGER / turn_id tool_id",
    "tool_instantiations": "turn_id tool_call_id instance_id:INTEGER / turn_id tool_call_id",
}
_UNIQUE = (
    ("fragments", "hash"),
    ("tools", "hash"),
    ("parts", "message_hash", "position"),
    ("turn_search", "turn_id"),
)
_INDEXED = (
    ("messages", "parent_hash"),
    ("part_fragments", "fragment_id"),
    ("turns", "thread_id"),
    ("turn_fragments", "fragment_id"),
)
_SEARCHED = ("responses", "turn_search")
# What llm need not do again. It makes the view of m026 itself.
_MIGRATIONS = (
    "m001_initial m002_id_primary_key m003_chat_id_foreign_key m004_column_order"
    " m004_drop_provider m005_debug m006_new_logs_table m007_finish_logs_table"
    " m008_reply_to_id_foreign_key m008_fix_column_order_in_logs m009_delete_logs_table_if_empty"
    " m010_create_new_log_tables m011_fts_for_responses m012_attachments_tables m013_usage"
    " m014_schemas m015_fragments_tables m016_fragments_table_pks m017_tools_tables"
    " m017_tools_plugin m018_tool_instances m019_resolved_model m020_tool_results_attachments"
    " m021_tool_results_exception m022_response_reasoning m023_message_store"
    " m024_tool_instance_references m025_turn_tools_instance_backfill m027_turns_response_json"
).split()
_CHUNK = 1 << 20


def database_of(bundles: Iterable[Rows]) -> Iterator[bytes]:
    """Yield an SQLite file that holds the rows of *bundles*; of two with one key, the later."""
    database = sqlite3.connect(":memory:")
    try:
        keys = _create(database)
        for bundle in bundles:
            for table, rows in bundle.items():
                for row in rows:
                    _insert(database, keys, table, row)
        _make_searchable(database)
        database.commit()
        made = database.serialize()
    finally:
        database.close()
    for at in range(0, len(made), _CHUNK):
        yield made[at : at + _CHUNK]


def _create(database: sqlite3.Connection) -> dict[str, set[str]]:
    """Create the tables; return their columns."""
    columns: dict[str, set[str]] = {}
    for table, described in _COLUMNS.items():
        listed, _, keys = described.partition(" / ")
        pairs = [each.partition(":") for each in listed.split()]
        columns[table] = {name for name, _, _ in pairs}
        key = ", ".join(f'"{name}"' for name in keys.split())
        typed = ", ".join(f'"{name}" {kind or "TEXT"}' for name, _, kind in pairs)
        database.execute(f"CREATE TABLE {table} ({typed}, PRIMARY KEY ({key}))")
    for table, *names in _UNIQUE:
        _index(database, "UNIQUE INDEX", table, names)
    for table, name in _INDEXED:
        _index(database, "INDEX", table, [name])
    moment = "1970-01-01 00:00:00+00:00"  # the same archive gives the same bytes
    database.executemany(
        "INSERT INTO _llm_migrations VALUES (?, ?)", [(name, moment) for name in _MIGRATIONS]
    )
    return columns


def _index(database: sqlite3.Connection, kind: str, table: str, names: list[str]) -> None:
    listed = ", ".join(f'"{name}"' for name in names)
    database.execute(f"CREATE {kind} idx_{table}_{'_'.join(names)} ON {table} ({listed})")


def _insert(
    database: sqlite3.Connection, columns: dict[str, set[str]], table: str, row: Row
) -> None:
    if table not in columns:
        return
    for name in row.keys() - columns[table]:
        database.execute(f"ALTER TABLE {table} ADD COLUMN {_quoted(name)}")
        columns[table].add(name)
    names = ", ".join(map(_quoted, row))
    marks = ", ".join("?" * len(row))
    # Raw may have been written by hand: a row that does not fit is no reason to give nothing.
    with suppress(sqlite3.IntegrityError):
        database.execute(
            f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})"
            if row
            else f"INSERT OR IGNORE INTO {table} DEFAULT VALUES",
            [_cell(value) for value in row.values()],
        )


def _cell(value: Any) -> Any:
    """Return what a column held of what is kept of it."""
    if isinstance(value, dict) and isinstance(value.get("base64"), str):
        try:
            return b64decode(value["base64"])
        except ValueError:
            pass
    if isinstance(value, dict | list):
        return str(jsontext.dumps(value), "utf-8")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return str(value)
    return value


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _make_searchable(database: sqlite3.Connection) -> None:
    """Fill llm's index of what was asked and answered, as its own does for the rows it writes."""
    # Of a text that stands as pieces, what is a fragment's is not searched.
    own = (
        "SELECT group_concat(json_extract(value, '$.literal'), '')"
        " FROM json_each(payload, '$.text_ref')"
    )
    said = (
        f"SELECT group_concat(coalesce(text, ({own})), '') FROM parts"
        " WHERE type = 'text' AND message_hash ="
    )
    database.execute(
        f"""
        WITH RECURSIVE answers (turn, hash, stop) AS (
            SELECT id, tip_message_hash, parent_message_hash FROM turns
            UNION
            SELECT turn, parent_hash, stop FROM answers JOIN messages USING (hash)
            WHERE parent_hash IS NOT stop
        ), found (turn, prompt, response) AS (
            SELECT id,
                coalesce((SELECT ({said} hash) FROM messages
                    WHERE hash = parent_message_hash AND role = 'user'), ''),
                coalesce((SELECT group_concat(({said} answers.hash), '')
                    FROM answers JOIN messages USING (hash)
                    WHERE turn = turns.id AND role = 'assistant'
                    AND answers.hash IS NOT turns.parent_message_hash), '')
            FROM turns ORDER BY rowid
        )
        INSERT INTO turn_search (turn_id, prompt, response)
        SELECT turn, prompt, response FROM found WHERE prompt != '' OR response != ''
        """
    )
    for table in _SEARCHED:
        index = f"{table}_fts"
        try:
            database.execute(
                f"CREATE VIRTUAL TABLE {index} USING FTS5 (prompt, response, content={table})"
            )
        except sqlite3.OperationalError:
            return  # a library without full text: llm makes do without it as well
        new = "VALUES (new.rowid, new.prompt, new.response)"
        added = f"INSERT INTO {index} (rowid, prompt, response) {new};"
        gone = (
            f"INSERT INTO {index} ({index}, rowid, prompt, response)"
            " VALUES ('delete', old.rowid, old.prompt, old.response);"
        )
        for suffix, event, steps in (
            ("ai", "INSERT", added),
            ("ad", "DELETE", gone),
            ("au", "UPDATE", gone + added),
        ):
            database.execute(
                f"CREATE TRIGGER {table}_{suffix} AFTER {event} ON {table} BEGIN {steps} END"
            )
        database.execute(f"INSERT INTO {index} ({index}) VALUES ('rebuild')")
