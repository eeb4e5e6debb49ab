"""``convmem index``: the index of words brought in step, made anew and removed by hand."""

from __future__ import annotations

import glob
import os
import re

import pytest


@pytest.fixture
def some(archive):
    """A few turns in two namespaces."""
    for at in range(5):
        archive.conversation("oslo").record("user", f"train number {at}")
    archive.conversation("desk", namespace="work").record("user", "a memo")


def index_of(root, namespace="default"):
    """Return where the index lies, or would."""
    place = os.path.join(root, namespace, ".index")
    found = glob.glob(os.path.join(place, "search-*.sqlite"))
    return found[0] if found else os.path.join(place, "search-none.sqlite")


def test_it_says_what_there_is_and_what_it_takes(cli, some, root):
    """One sees at once whether the index is worth its room."""
    answer = cli("index")
    assert re.fullmatch(
        r"default: 5 turns, [\d.]+ KiB, in \d+\.\d s\n",
        answer.text,
    )
    (told,) = cli("index", "--json").objects
    assert told["namespace"] == "default"
    assert told["turns"] == 5
    assert told["index_bytes"] == os.path.getsize(index_of(root))
    assert told["log_bytes"] == os.path.getsize(os.path.join(root, "default", "oslo.jsonl"))
    assert told["failed"] == []
    assert cli("index", "-q").out == b""


def test_a_search_after_it_has_nothing_left_to_do(cli, some, root):
    """That is what cron runs it for."""
    cli("index")
    before = os.stat(index_of(root)).st_mtime_ns
    cli("search", "train")
    assert os.stat(index_of(root)).st_mtime_ns == before


def test_each_namespace_has_its_own(cli, some, root):
    """Tenants are removed one by one."""
    assert cli("index", "--all-namespaces").text.count(" turn") == 2
    assert os.path.exists(index_of(root, "work"))
    assert [each["namespace"] for each in cli("index", "--all-namespaces", "--json").objects] == [
        "default",
        "work",
    ]


def test_it_can_be_removed_and_comes_back_by_itself(cli, some, root):
    """It is derived: nothing is lost with it."""
    cli("index")
    assert re.fullmatch(r"default: removed the index, [\d.]+ KiB\n", cli("index", "--drop").text)
    assert not os.path.exists(index_of(root))
    assert cli("index", "--drop").text == "default: there is no index\n"
    assert cli("index", "--drop", "--json").objects == [
        {"namespace": "default", "dropped_bytes": 0}
    ]
    assert cli("search", "number", "-n", "9").out.count(b"\n") == 5


def test_a_rebuilt_one_answers_as_the_one_before(cli, some, root):
    """For who does not believe it; and where it is damaged beyond what is noticed."""
    cli("index")
    before = cli("search", "train").out
    with open(index_of(root), "r+b") as file:
        file.write(b"no database at all")
    assert cli("index", "--rebuild").text.startswith("default: 5 turns, ")
    assert cli("search", "train").out == before


def test_a_rebuild_is_a_file_of_its_own(cli, some, root):
    """Made anew means from the logs, not from what may be wrong."""
    cli("index")
    before = os.stat(index_of(root)).st_ino
    descriptor = os.open(index_of(root), os.O_RDONLY)  # or the number could be given again
    try:
        cli("index", "--rebuild")
        assert os.stat(index_of(root)).st_ino != before
    finally:
        os.close(descriptor)


def test_wrong_usage_and_a_missing_archive(cli, some):
    """As every verb has it."""
    assert "exclude each other" in cli("index", "--rebuild", "--drop", code=2).err
    assert "there is no archive" in cli("index", "-A", "/nowhere/at/all", code=4).err
    assert cli("-N", "nobody", "index").text.startswith("nobody: 0 turns")


def test_where_no_index_can_be_it_says_so_and_search_still_answers(cli, some, root):
    """A disk that cannot be written to is no reason to find nothing."""
    folder = os.path.join(root, "default", ".index")
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, 0o500)
    try:
        answer = cli("index", code=4, prepare=cli.AS_ANYBODY)
        assert "there can be no index" in answer.err
    finally:
        os.chmod(folder, 0o700)


def test_a_log_that_cannot_be_read_is_named_and_the_others_are_done(cli, some, archive, root):
    """Exit 7: done in part, and which part is told."""
    archive.conversation("closed").record("user", "nobody may read this")
    path = os.path.join(root, "default", "closed.jsonl")
    os.chmod(path, 0)
    try:
        answer = cli("index", code=7, prepare=cli.AS_ANYBODY)
        assert "closed: " in answer.err
        assert answer.text.startswith("default: 5 turns")
        searched = cli("search", "train", prepare=cli.AS_ANYBODY)
        assert "closed was not searched (whole)" in searched.err
    finally:
        os.chmod(path, 0o600)


def test_damage_is_passed_over_and_told_of(cli, some, log):
    """What a reader skips, it says."""
    with open(log("oslo"), "ab") as file:
        file.write(b'{"broken\n{"role":"user","content":"by hand"}\n')
    answer = cli("index")
    assert "oslo: 1 damaged line skipped" in answer.err
    assert answer.text.startswith("default: 6 turns")


@pytest.mark.parametrize("name", [b"100% #1? a%20b", b"caf\xe9", "ｘ ü".encode()])
def test_an_archive_may_lie_in_a_folder_of_any_name(cli, tmp_path, name):
    """The index is named to SQLite in a URI, where some characters mean something else."""
    place = os.path.join(os.fsencode(tmp_path), name)
    cli("-A", place, "record", "oslo", "a night train")
    assert cli("-A", place, "search", "train").text == "oslo:1:user:a night train\n"
    (index,) = glob.glob(
        os.path.join(glob.escape(place), b"default", b".index", b"search-*.sqlite")
    )
    assert os.path.getsize(index) > 0
    assert cli("-A", place, "index").text.startswith("default: 1 turn, ")
