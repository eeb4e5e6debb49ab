"""What people met who ran an archive for the first time from the README alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from convmem import Archive


def _rules(root, text):
    Path(root, "convmem.toml").write_text(text)


def test_a_clock_that_jumped_purges_nothing(cli, root):
    """A wrong date costs what is in the trash for good, and only that: turns go to the trash."""
    for number in range(8):
        cli("record", "trip", str(number))
    cli("compact", "trip", "--keep-last", "5")
    _rules(root, '[[retention]]\nmax_age = "90d"\n[trash]\nmax_age = "30d"\n')
    answer = cli("compact", "--all", code=7, CONVMEM_NOW="2040-01-01")
    assert "nothing was purged" in answer.err and "2040-01-01" in answer.err
    cli("trash", "restore", "trip")
    assert cli("show", "trip", "--json").contents == [str(number) for number in range(8)]


def test_the_purge_goes_on_once_the_clock_is_right(cli, root):
    """The doubt must not keep an archive from being purged in its ordinary life."""
    for number in range(8):
        cli("record", "trip", str(number))
    cli("compact", "trip", "--keep-last", "5")
    _rules(root, '[[retention]]\nkeep_last = 5\n[trash]\nmax_age = "1s"\n')
    assert "purged 1 file" in cli("compact", "--all", CONVMEM_NOW="tomorrow").text
    assert cli("trash", "list").text == ""


@pytest.mark.parametrize("name", [b"\xff.jsonl", b"a\xffb.jsonl.zst"])
def test_a_file_whose_name_is_no_utf_8_is_passed_over(cli, root, name):
    """One stray file must not stop the nightly run of a whole archive."""
    cli("record", "trip", "hello")
    with open(os.path.join(os.fsencode(root), b"default", name), "wb") as file:
        file.write(b"whatever\n")
    os.mkdir(os.path.join(os.fsencode(root), b"n\xffs"))
    assert cli("list").text == "trip\n"
    for words in (
        ("stats",),
        ("verify", "--all"),
        ("repair", "--all"),
        ("compact", "--all", "--keep-last", "5"),
        ("health",),
        ("trash", "list", "--all-namespaces"),
    ):
        cli(*words)


@pytest.mark.parametrize("words", ["verify --all", "repair --all", "compact --all --keep-last 5"])
def test_an_archive_that_is_not_mounted_is_no_success(cli, tmp_path, words):
    """A weekly check that looks at nothing must not be silent for years."""
    answer = cli("-A", str(tmp_path / "not-there"), *words.split(), code=4)
    assert "there is no archive" in answer.err


def test_a_line_that_was_damaged_in_the_trash_stays_there_and_is_told(cli, log):
    """A restoration gives turns back, not damage that the conversation did not have."""
    for number in range(5):
        cli("record", "trip", str(number))
    cli("compact", "trip", "--keep-last", "2")
    (trashed,) = (log().parent / ".trash").iterdir()
    data = bytearray(trashed.read_bytes())
    data[len(data) // 2] ^= 1
    trashed.write_bytes(data)
    answer = cli("trash", "restore", "trip", code=7)
    assert "1 line damaged in the trash" in answer.err
    assert cli("show", "trip", "--json").contents == ["0", "2", "3", "4"]
    cli("verify", "trip")
    assert trashed.exists()


def test_health_sees_that_a_folder_of_ours_is_none(cli, root, tmp_path):
    """An archive that takes no turn any more is not healthy."""
    cli("record", "trip", "hello")
    locks = Path(root, "default", ".locks")
    locks.rename(tmp_path / "elsewhere")
    locks.symlink_to(tmp_path / "elsewhere")
    cli("record", "trip", "again", code=4)
    answer = cli("health", code=4)
    assert ".locks" in answer.text


def test_a_device_is_written_to_and_not_replaced(cli, tmp_path):
    """Whoever runs `tail --cursor-file /dev/null` as root must not take it from everybody."""
    cli("record", "trip", "hello")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        cli("stats", "--prometheus", str(pipe))
        assert os.read(reader, 100_000).startswith(b"# HELP")
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_deleted_log_is_not_moved_back_past_its_own_numbers(archive, monkeypatch):
    """A conversation begun anew, and deleted, while another restores it: no seq is given twice."""
    from convmem.log import append

    chat = archive.conversation("trip")
    for number in range(3):
        chat.record("user", number)
    chat.delete()
    real = append.Log.adopt

    def adopt(self, *given):
        monkeypatch.undo()
        with Archive.open(archive._root) as other:
            again = other.conversation("trip")
            assert [again.record("user", text).seq for text in "xy"] == [4, 5]
            again.delete()
        return real(self, *given)

    monkeypatch.setattr(append.Log, "adopt", adopt)
    chat.restore()
    assert chat.record("user", "new").seq == 6
    chat.restore()
    assert [turn.seq for turn in chat.turns()] == [1, 2, 3, 4, 5, 6]
