"""Asks an archive the same of its index, of a fresh index and of a scan; what tests compare."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from convmem import Archive
from convmem.errors import ConversationNotFound
from convmem.log.files import Folder
from convmem.search.index import catching_up, database, lookup, writer
from convmem.search.index.database import NoIndex
from convmem.search.page import INDEX, SCAN
from convmem.stores.logs import DirectoryLogs

WITHOUT = "searched without an index"
PAGE = 3
MOST_PAGES = 200


def small(monkeypatch: Any) -> None:
    """Let a dozen turns do what else takes many thousands: full blocks, pieces, steps."""
    monkeypatch.setattr(database, "BLOCK", 4)
    monkeypatch.setattr(lookup, "BLOCK", 4)
    monkeypatch.setattr(writer, "BLOCK", 4)
    monkeypatch.setattr(catching_up, "_ROWS_AT_ONCE", 3)
    monkeypatch.setattr(writer, "_STEP_BYTES", 700)
    monkeypatch.setattr(catching_up, "_BLOCKWISE_BYTES", 400)
    monkeypatch.setattr(writer, "_GONE_AT_LEAST", 30)


def asked(
    archive: Archive, query: str, how: str = INDEX, limit: int = PAGE, **given: Any
) -> dict[str, Any]:
    """Return all that a search answers, page by page, in a form that can be compared."""
    try:
        page = archive.search(query, limit=limit, **given)
    except ConversationNotFound as error:
        return {"error": str(error)}
    assert page.how == how or not page.hits, page.notes
    pages = [page]
    while pages[-1].cursor is not None:
        pages.append(archive.search(query, limit=limit, cursor=pages[-1].cursor, **given))
        assert len(pages) < MOST_PAGES, "the pages do not come to an end"
    hits = [hit for page in pages for hit in page.hits]
    found = [
        (
            (hit.score, hit.turn.as_dict().get("ts")),
            hit.namespace,
            hit.continuation_id,
            repr(hit.turn.as_dict()),
            hit.is_match,
            hit.snippet,
            [repr(turn.as_dict()) for turn in hit.before],
            [repr(turn.as_dict()) for turn in hit.after],
        )
        for hit in hits
    ]
    # What is the same in all respects comes in any order.
    in_order = [sorted(some, key=repr) for _, some in groupby(found, key=lambda each: each[0])]
    return {
        "matched": page.matched,
        "notes": [note for note in page.notes if not note.startswith(WITHOUT)],
        "hits": in_order,
    }


@contextlib.contextmanager
def without_index() -> Iterator[None]:
    """Let no index be opened."""

    def refuse(cls: type, folder: Folder) -> None:
        folder.close()
        raise NoIndex("none is wanted here")

    def have_none(cls: type, folder: Folder) -> None:
        folder.close()

    with (
        _in_place_of(database.Database, "open", classmethod(refuse)),
        _in_place_of(database.Database, "as_it_is", classmethod(have_none)),
    ):
        yield


@contextlib.contextmanager
def fresh_index() -> Iterator[None]:
    """Let every index lie in a folder where there was none."""
    place = tempfile.mkdtemp()

    def elsewhere(self: DirectoryLogs, namespace: str, *, create: bool) -> Folder | None:
        if self._folder(namespace) is None:
            return None
        inner = Path(place, namespace)
        inner.mkdir(exist_ok=True, mode=0o700)
        return Folder.open(str(inner))

    try:
        with _in_place_of(DirectoryLogs, "index_folder", elsewhere):
            yield
    finally:
        shutil.rmtree(place)


@contextlib.contextmanager
def _in_place_of(owner: Any, name: str, other: Any) -> Iterator[None]:
    before = owner.__dict__[name]
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, before)


def compare(archive: Archive, queries: list[tuple[str, dict[str, Any]]]) -> None:
    """Fail where the index, a fresh one and a scan do not answer the same."""
    kept = [asked(archive, query, **given) for query, given in queries]
    with fresh_index():
        fresh = [asked(archive, query, **given) for query, given in queries]
    with without_index():
        scanned = [asked(archive, query, SCAN, **given) for query, given in queries]
    for (query, given), one, other, third in zip(queries, kept, fresh, scanned, strict=True):
        assert one == other, ("the index and a fresh one", query, given)
        assert other == third, ("a fresh index and a scan", query, given)
