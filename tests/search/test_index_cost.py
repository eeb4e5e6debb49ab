"""What a search costs follows what changed, not how much there is. Counted, not timed."""

from __future__ import annotations

import os
import sqlite3

import pytest

from convmem import Archive, RetentionPolicy
from convmem.progress import Observer
from convmem.search.index import database, writer
from convmem.stores.logs import DirectoryLogs


class Costs:
    """Counts what reaches SQLite, the logs and the disk."""

    def __init__(self) -> None:
        self.statements = self.opened = self.bytes = 0

    def reset(self) -> None:
        self.__init__()


@pytest.fixture
def costs(monkeypatch):
    """Count, from now on."""
    counted = Costs()
    connect, pread, opened = sqlite3.connect, os.pread, DirectoryLogs.open

    def connected(*given, **named):
        connection = connect(*given, **named)

        def told(statement):
            counted.statements += 1

        connection.set_trace_callback(told)
        return connection

    def read(fd, count, offset):
        data = pread(fd, count, offset)
        counted.bytes += len(data)
        return data

    def open_log(self, namespace, name):
        counted.opened += 1
        return opened(self, namespace, name)

    monkeypatch.setattr(database.sqlite3, "connect", connected)
    monkeypatch.setattr(os, "pread", read)
    monkeypatch.setattr(DirectoryLogs, "open", open_log)
    return counted


def _made(root, conversations: int, turns: int) -> Archive:
    archive = Archive.open(root, durability="none", observer=Observer())
    for number in range(conversations):
        archive.conversation(f"c{number}").record_many(
            [("user", f"word{at} is common here") for at in range(turns)]
        )
    archive.search("nowhere")
    return archive


def test_where_nothing_changed_no_log_is_opened_and_nothing_written(tmp_path, costs):
    """A prompt that searches at each keystroke must not wear the disk."""
    with _made(tmp_path / "archive", 5, 300) as archive:
        place = tmp_path / "archive" / "default" / ".index"

        def look():
            return {
                str(each): (each.stat().st_size, each.stat().st_mtime_ns, each.stat().st_ino)
                for each in place.rglob("*")
            }

        before = look()
        costs.reset()
        for query in ("nowhere", "-common role:nobody", "nowhere*"):
            assert not archive.search(query).hits
        assert (costs.opened, costs.bytes) == (0, 0)
        assert look() == before


def test_hits_are_read_and_nothing_else(tmp_path, costs):
    """A few hits cost a few reads, in whatever logs."""
    with _made(tmp_path / "archive", 5, 3000) as archive:
        costs.reset()
        assert len(archive.search("word7", limit=10)) == 5
        assert costs.opened <= 5
        assert costs.bytes <= 5 * ((8 << 10) + (4 << 10))


@pytest.mark.parametrize("turns", [1, 20])
def test_a_new_turn_costs_the_same_in_a_long_archive_as_in_a_short_one(tmp_path, costs, turns):
    """A year of talk must not make the next turn dearer to find."""
    spent = []
    for conversations, length in ((2, 30), (40, 30), (2, 6000)):
        with _made(tmp_path / f"{conversations} {length}", conversations, length) as archive:
            chat = archive.conversation("c1")
            chat.record("user", "a turn before")
            archive.search("nowhere")
            chat.record_many([("user", "a platypus came by")] * turns)
            costs.reset()
            assert len(archive.search("platypus", limit=50)) == turns
            spent.append((costs.statements, costs.opened, costs.bytes))
    statements, opened, read = zip(*spent, strict=True)
    assert max(statements) <= min(statements) + 12, spent
    assert max(opened) <= 2, spent
    assert max(read) <= min(read) + (8 << 10) * 2, spent


def test_what_a_compaction_kept_is_not_indexed_again(tmp_path, costs, monkeypatch):
    """It is compared, which is a tenth of the work: no text is taken apart."""
    taken = []
    index_text = writer.index_text
    monkeypatch.setattr(writer, "index_text", lambda text: taken.append(text) or index_text(text))
    with _made(tmp_path / "archive", 2, 1000) as archive:
        assert len(taken) == 2000
        taken.clear()
        archive.conversation("c1").compact(RetentionPolicy(keep_last=700))
        archive.conversation("c1").record("user", "one more word7")
        archive.conversation("c0").compress()
        assert archive.search("word7", limit=10).hits[0].turn.content
        assert taken == ["one more word7"]
