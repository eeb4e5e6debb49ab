"""Turns as a Parquet table, a row each: for DuckDB, pandas, polars and their like.

Columns: ``continuation_id``, ``namespace``, ``title``, ``id``, ``seq``, ``ts`` (UTC, microseconds),
``role``, ``text`` (what is said, as plain text), and ``content``, ``meta`` and ``extra`` as JSON.
Needs DuckDB: ``pip install 'convmem[parquet]'``.
"""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime, timedelta

from convmem import jsontext
from convmem.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from convmem.formats.heads import Head
    from convmem.turns import Turn

_BLOCK = 1 << 20
_COLUMNS = {
    **dict.fromkeys(("continuation_id", "namespace", "title", "id"), "VARCHAR"),
    **{"seq": "BIGINT", "ts": "BIGINT"},
    **dict.fromkeys(("role", "text", "content", "meta", "extra"), "VARCHAR"),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def write(conversations: Iterable[tuple[Head, Iterator[Turn]]]) -> Iterator[bytes]:
    """Yield the bytes of a Parquet file with all turns. Memory follows the longest turn.

    The rows go to a temporary file first. The same turns give the same bytes with the same DuckDB.

    Raises:
        UsageError: DuckDB is not installed.
    """
    try:
        import duckdb  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise UsageError(
            "parquet needs DuckDB", hint="install it with: pip install 'convmem[parquet]'"
        ) from error
    with tempfile.TemporaryDirectory(prefix="convmem-") as folder:
        rows, table = os.path.join(folder, "rows.jsonl"), os.path.join(folder, "table.parquet")
        longest = 0
        with open(rows, "wb") as file:
            for head, turns in conversations:
                for turn in turns:
                    longest = max(longest, file.write(jsontext.dumps(_row(head, turn)) + b"\n"))
        # One thread, so that the groups of rows are always the same ones.
        with duckdb.connect(config={"threads": 1}) as connection:
            columns = ", ".join(f"{name}: '{kind}'" for name, kind in _COLUMNS.items())
            connection.execute(
                "copy (select * replace (make_timestamptz(ts) as ts)"
                f" from read_json({_quoted(rows)},"
                f" format = 'newline_delimited', columns = {{{columns}}},"
                f" maximum_object_size = {longest + 1024})) to {_quoted(table)}"
                " (format parquet, compression zstd)"
            )
        with open(table, "rb") as file:
            while block := file.read(_BLOCK):
                yield block


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "''") + "'"


def _row(head: Head, turn: Turn) -> dict[str, Any]:
    return {
        "continuation_id": head.continuation_id,
        "namespace": head.namespace,
        "title": head.title,
        "id": turn.id,
        "seq": turn.seq,
        "ts": None if turn.ts is None else (turn.ts - _EPOCH) // timedelta(microseconds=1),
        "role": turn.role,
        "text": turn.text,
        "content": str(jsontext.dumps(turn.content), "utf-8"),
        "meta": None if turn.meta is None else str(jsontext.dumps(turn.meta), "utf-8"),
        "extra": str(jsontext.dumps(turn.extra), "utf-8") if turn.extra else None,
    }
