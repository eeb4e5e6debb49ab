"""What is not read again, and what happens to an import whose notes are lost, broken or in use."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

import pytest
from transcripts_made import MADE, SESSION, claude_code, claude_file, claude_records, lines

from convmem import LockTimeout
from convmem.transfer import catalogue as module
from convmem.transfer.catalogue import Catalogue, Entry
from convmem.transfer.importing import Importer

_watched = []


def _watch(event, arguments):
    if _watched and event in ("open", "os.open", "sqlite3.connect"):
        _watched[-1].append(str(arguments[0]))


# A hook stays for the life of the process; it looks at nothing while nobody watches.
sys.addaudithook(_watch)


@pytest.fixture
def opened():
    """Call something, and return the names of all files that it opened."""

    def watched(call):
        names = []
        _watched.append(names)
        try:
            call()
        finally:
            _watched.pop()
        return names

    return watched


def many(sources, count):
    for nth in range(count):
        path = claude_file(sources, nth)
        path.write_bytes(lines(claude_records(0, 2, session=nth, of=nth)))


def test_files_that_did_not_change_are_not_opened(desk, sources, opened):
    """Every quarter of an hour over 5 GB: a stat for each file, and no more."""
    many(sources, 200)
    (sources / "notes.json").write_text('{"a": 1}')
    first = opened(lambda: desk.take(sources))
    assert sum(str(sources) in name for name in first) >= 200, "the hook sees what is opened"
    again = opened(lambda: desk.take(sources))
    assert not [name for name in again if str(sources) in name]
    logs = [name for name in again if name.endswith(".jsonl")]
    assert not logs, "nor are the conversations that they went to"


def test_a_zip_that_did_not_change_is_not_opened(desk, sources, opened):
    """Nor what is in it unpacked: an export of years lies in Downloads for good."""
    path = MADE["chatgpt"](sources, 6)
    assert str(path) in opened(lambda: desk.take(sources))
    assert str(path) not in opened(lambda: desk.take(sources))
    assert desk.take(sources).added == 0


def test_of_a_file_that_grew_only_what_is_new_is_read(desk, sources, monkeypatch):
    """One line more in a file of gigabytes is one line to read."""
    path = claude_file(sources)
    path.write_bytes(lines(claude_records(0, 3000)))
    desk.take(sources)
    path.write_bytes(lines(claude_records(0, 3001)))
    summary = desk.take(sources)
    assert (summary.records, summary.added, summary.skipped) == (1, 1, 0)


def test_one_file_of_many_that_changed_is_the_one_that_is_read(desk, sources, opened):
    """What changed costs; what did not change does not."""
    many(sources, 30)
    desk.take(sources)
    path = claude_file(sources, 7)
    path.write_bytes(lines(claude_records(0, 3, session=7, of=7)))
    names = opened(lambda: desk.take(sources))
    assert {name for name in names if str(sources) in name} == {str(path)}


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda path: path.write_bytes(b"no database, nor ever was"), id="garbage"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:5000]), id="cut"),
        pytest.param(
            lambda path: path.write_bytes(path.read_bytes()[:4096] + b"\xa5" * 9000),
            id="overwritten",
        ),
        pytest.param(lambda path: _run(path, "drop table samples"), id="a table is missing"),
        pytest.param(lambda path: _run(path, "pragma user_version = 99"), id="of another version"),
    ],
)
def test_a_catalogue_that_was_harmed_is_made_anew_and_nothing_is_doubled(
    desk, sources, tmp_path, harm
):
    """It is derived: losing it costs time, and nothing else."""
    many(sources, 5)
    desk.take(sources)
    before = desk.all_turns()
    harm(tmp_path / "archive" / "default" / ".import" / "catalogue.sqlite")
    assert desk.take(sources).added == 0
    assert desk.all_turns() == before
    assert desk.take(sources).unchanged == 5


def _run(path, sql):
    with sqlite3.connect(path) as opened:
        opened.execute(sql)
    opened.close()


def test_two_imports_at_once_wait_for_each_other(desk, tmp_path, monkeypatch):
    """Cron starts one too many: the second waits a while, then says that it is busy."""
    folder = tmp_path / "archive" / "default"
    with Catalogue.open(str(folder), timeout_seconds=0), pytest.raises(LockTimeout):
        Catalogue.open(str(folder), timeout_seconds=0.05)
    with Catalogue.open(str(folder), timeout_seconds=0) as again:
        assert again.entry("nowhere") is None


def test_what_is_noted_is_found_and_all_of_it_or_nothing_is_noted(tmp_path):
    """A crash between two notes leaves the one, or both."""
    with Catalogue.open(str(tmp_path), timeout_seconds=0) as made:
        assert made.is_new
        entry = Entry("1:2:3", "codex", 77, "ab", {"namer": {"anchor": "x"}}, "talk")
        made.note([("/a", entry)], [("c-1", "talk")])
        with pytest.raises(sqlite3.Error):
            made.note([("/b", entry), (None, entry)], [("c-2", "talk")])
    with Catalogue.open(str(tmp_path), timeout_seconds=0) as again:
        assert not again.is_new
        found = again.entry("/a")
        assert (found.stamp, found.format, found.offset, found.tail) == ("1:2:3", "codex", 77, "ab")
        assert found.memory == entry.memory
        assert found.conversation == "talk"
        assert again.entry("/b") is None
        assert (again.chained("c-1"), again.chained("c-2")) == ("talk", None)


def test_nobody_else_may_read_the_catalogue(desk, sources, tmp_path):
    """It says which talks there are: 0600 in 0700, whatever the umask."""
    before = os.umask(0)
    try:
        claude_code(sources, 3)
        desk.take(sources)
    finally:
        os.umask(before)
    folder = tmp_path / "archive" / "default" / module.FOLDER
    assert folder.stat().st_mode & 0o777 == 0o700
    for each in filter(Path.is_file, folder.iterdir()):
        assert each.stat().st_mode & 0o777 == 0o600, each


def test_the_catalogue_is_no_conversation(desk, sources, cli):
    """Whoever lists the archive sees talks."""
    claude_code(sources, 3)
    desk.take(sources)
    assert cli("list", "--json").text.count(SESSION.format(1)) >= 1
    assert len(cli("list", "--json").objects) == 1
    cli("verify", "--all")


def test_what_another_import_stored_and_did_not_note_is_found_to_be_there(
    desk, sources, monkeypatch
):
    """Killed after it had stored, before it had noted: nothing is stored a second time."""
    many(sources, 3)

    def killed(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Importer, "_note", killed)
        with pytest.raises(KeyboardInterrupt):
            desk.take(sources)
    before = desk.all_turns()
    assert sum(map(len, before.values())) == 6
    assert desk.take(sources).added == 0
    assert desk.all_turns() == before
