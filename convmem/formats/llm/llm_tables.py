"""The tables of llm's database: what belongs to a row, as JSON.

Rows are kept as ``{table: [row, …]}``, each with its columns by name. Columns without a value are
left out, so that a column that a later version of llm adds changes no row that is kept already;
bytes are ``{"base64": …}``.
"""

from __future__ import annotations

import sqlite3
from base64 import b64encode
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Row = dict[str, Any]
    Rows = dict[str, list[Row]]

# Which table a column leads to, by that table's ``id``.
_LEADS = {
    "attachment_id": "attachments",
    "fragment_id": "fragments",
    "tool_id": "tools",
    "instance_id": "tool_instances",
    "schema_id": "schemas",
}


def as_key(value: Any) -> str | int | float | None:
    """Return *value* if rows can be told by it; ``None`` for null, bytes, and what is no cell."""
    return value if isinstance(value, str | int | float) else None


class Tables:
    """A database of llm's, of any version: what it lacks is empty.

    Costs one pass over the table for the first look by a column without an index, and a number
    for each of its rows.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.row_factory = sqlite3.Row
        database.text_factory = _text
        found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        self.names = {name for (name,) in found if name.isidentifier()}
        self._columns = {
            table: {row["name"] for row in database.execute(f"PRAGMA table_info({table})")}
            for table in self.names
        }
        self._indexed: dict[str, set[str]] = {}
        self._places: dict[tuple[str, str], dict[Any, list[int]]] = {}

    def has(self, table: str, column: str) -> bool:
        """Whether there is such a column."""
        return column in self._columns.get(table, ())

    def values(self, table: str, column: str) -> Iterator[Any]:
        """Yield a column's values, of which there may be many."""
        if self.has(table, column):
            for (value,) in self._database.execute(f'SELECT "{column}" FROM {table}'):
                yield value

    def rows(self, table: str, column: str, value: Any) -> list[Row]:
        """Return the rows with that value, in the order in which they were added."""
        if as_key(value) is None or not self.has(table, column):
            return []
        if column in self._leading(table):
            sql = f'SELECT * FROM {table} WHERE "{column}" = ? ORDER BY rowid'
            return [_as_row(row) for row in self._database.execute(sql, (value,))]
        key = (table, column)
        if key not in self._places:
            self._places[key] = self._found(table, column)
        sql = f"SELECT * FROM {table} WHERE rowid = ?"
        return [
            _as_row(row)
            for place in self._places[key].get(value, ())
            for row in self._database.execute(sql, (place,))
        ]

    def owners(self, table: str, column: str) -> Iterator[Any]:
        """Yield whose the rows of *table* are, one by one: their own where nobody is named."""
        sql = f'SELECT coalesce("{column}", id) FROM {table}'
        for (value,) in self._database.execute(sql):
            yield value

    def owned(self, table: str, column: str, owner: str) -> list[Row]:
        """Return the rows that are *owner*'s (see ``owners``), in their order."""
        found = self.rows(table, column, owner)
        alone = [row for row in self.rows(table, "id", owner) if column not in row]
        return alone + found

    def with_linked(self, rows: Rows, key: str, links: Iterable[str], value: Any) -> Rows:
        """Add to *rows* those of the tables *links* with *value*, and all that they lead to."""
        for link in links:
            found = self.rows(link, key, value)
            if found:
                rows.setdefault(link, []).extend(found)
        for column, table in _LEADS.items():
            ids = dict.fromkeys(
                as_key(row.get(column)) for found in list(rows.values()) for row in found
            )
            known = {as_key(row.get("id")) for row in rows.get(table, ())}
            for id in ids:
                if id not in known and (found := self.rows(table, "id", id)):
                    rows.setdefault(table, []).extend(found)
        return rows

    def _leading(self, table: str) -> set[str]:
        if table not in self._indexed:
            names = {row["name"] for row in self._database.execute(f"PRAGMA index_list({table})")}
            self._indexed[table] = {
                row["name"]
                for name in names
                for row in self._database.execute(f'PRAGMA index_info("{name}")')
                if row["seqno"] == 0
            }
        return self._indexed[table]

    def _found(self, table: str, column: str) -> dict[Any, list[int]]:
        places: dict[Any, list[int]] = {}
        sql = f'SELECT rowid, "{column}" FROM {table} ORDER BY rowid'
        for place, value in self._database.execute(sql):
            places.setdefault(value, []).append(place)
        return places


def _as_row(row: sqlite3.Row) -> Row:
    return {
        name: _kept(value) for name, value in zip(row.keys(), row, strict=True) if value is not None
    }


def _kept(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": str(b64encode(value), "ascii")}
    if isinstance(value, float) and value - value != 0.0:
        return str(value)  # an infinity, which JSON does not have
    return value


def _text(value: bytes) -> Any:
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        return value
