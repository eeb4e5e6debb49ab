"""Files that are whole or not there, under names that stay where they are put."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading

import pytest
from transcripts_made import MADE, SESSION, claude_file, claude_records, lines

from convmem import Archive
from convmem.errors import ConvmemError, StorageError, UsageError
from convmem.transfer.exporting import FORMATS, Exporter, NothingImported, write_file

WITH_FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from convmem.transfer.exporting import write_file
from convmem.errors import ConvmemError
try:
    write_file(sys.argv[2], [b"x" * 1000] * 100)
except ConvmemError as error:
    print(error.kind)
"""


# --- one file ------------------------------------------------------------------------------------


def test_what_stood_there_stays_until_the_new_one_is_whole(tmp_path):
    """Something goes wrong in the middle: the file of yesterday is still there, and alone."""
    path = tmp_path / "talks.jsonl"
    path.write_bytes(b"yesterday")

    def chunks():
        yield b"half"
        assert path.read_bytes() == b"yesterday"
        raise ConvmemError("gone wrong")

    with pytest.raises(ConvmemError):
        write_file(str(path), chunks())
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [
        ("talks.jsonl", b"yesterday")
    ]
    assert write_file(str(path), [b"to", b"day"]) == 5
    assert path.read_bytes() == b"today"
    assert len(list(tmp_path.iterdir())) == 1


def test_on_a_full_disk_the_old_file_stays(cli, tmp_path):
    """And nothing is left beside it."""
    path = tmp_path / "out" / "talks.jsonl"
    path.parent.mkdir()
    path.write_bytes(b"yesterday")
    done = subprocess.run(
        [sys.executable, "-c", WITH_FULL_DISK, "50000", str(path)],
        env=cli.environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout.split() in ([b"full"], [b"storage_full"], [b"storage"])
    assert [each.name for each in path.parent.iterdir()] == ["talks.jsonl"]
    assert path.read_bytes() == b"yesterday"


def test_a_link_at_the_target_is_replaced_and_never_followed(tmp_path):
    """A link planted in a shared folder must not choose which file is overwritten."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    link = tmp_path / "talks.jsonl"
    link.symlink_to(victim)
    write_file(str(link), [b"talk"])
    assert victim.read_bytes() == b"precious"
    assert not link.is_symlink()
    assert link.read_bytes() == b"talk"


def test_a_folder_in_the_place_of_the_file_is_told(tmp_path):
    """And it stays."""
    (tmp_path / "talks.jsonl").mkdir()
    with pytest.raises(StorageError):
        write_file(str(tmp_path / "talks.jsonl"), [b"x"])
    assert [each.name for each in tmp_path.iterdir()] == ["talks.jsonl"]


def test_nobody_else_may_read_an_export(tmp_path):
    """What was private in the archive is private outside, whatever the umask."""
    before = os.umask(0)
    try:
        write_file(str(tmp_path / "a"), [b"x"])
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file",
    [
        "/etc/passwd",
        "../../outside.jsonl",
        "a/../../outside.jsonl",
        "a//b.jsonl",
        "..",
        ".",
        "",
        "nul\0.jsonl",
        "a\\..\\..\\outside.jsonl",
        "x" * 300,
        "ø" * 200,
        "half \ud83d",
        17,
        {"a": 1},
    ],
)
def test_no_name_that_a_turn_tells_leads_out_of_the_folder(desk, sources, tmp_path, file):
    """meta.file comes from a file that anybody may have made; an export of it is a write."""
    turn = {
        "continuation_id": "talk",
        "id": "t1",
        "role": "user",
        "content": "hello",
        "meta": {"source": "claude-code", "file": file},
        "raw": {"type": "user"},
    }
    crafted = sources / "crafted.jsonl"
    crafted.write_text(json.dumps(turn) + "\n")
    desk.take(crafted, forced="convmem")
    out = tmp_path / "deep" / "down" / "out"
    (back,) = desk.give(out).values()
    assert os.path.realpath(back).startswith(os.path.realpath(out) + os.sep)
    found = [each for each in tmp_path.rglob("*") if each.is_file()]
    inside = [each for each in found if not each.is_relative_to(desk.root)]
    assert sorted(inside) == sorted([crafted, out / os.path.relpath(back, out)])


def test_two_talks_of_one_name_do_not_overwrite_each_other(desk, sources, tmp_path):
    """Files of one name from two folders; several talks of one file."""
    for nth, folder in enumerate(("here", "there")):
        (sources / folder).mkdir()
        path = sources / folder / "same.jsonl"
        path.write_bytes(lines(claude_records(0, 3, session=nth, of=nth)))
        desk.take(path)
    found = desk.give(tmp_path / "out")
    assert len(set(found.values())) == 2
    for nth, folder in enumerate(("here", "there")):
        with open(found[SESSION.format(nth)], "rb") as file:
            assert file.read() == (sources / folder / "same.jsonl").read_bytes()


def test_a_name_that_is_a_folder_of_another_is_no_obstacle(desk, sources, tmp_path):
    """The file ``a`` of one talk, and ``a/b`` of another."""
    turns = [
        {
            "continuation_id": name,
            "id": f"t-{name}",
            "role": "user",
            "content": "hello",
            "meta": {"source": "claude-code", "file": file},
            "raw": {"type": "user"},
        }
        for name, file in (("one", "a"), ("two", "a/b"), ("three", "A"))
    ]
    (sources / "crafted.jsonl").write_bytes(lines(turns))
    desk.take(sources)
    found = desk.give(tmp_path / "out")
    assert len(set(found.values())) == 3
    assert all(os.path.isfile(each) for each in found.values())


def test_a_talk_that_is_named_as_anothers_file_does_not_overwrite_it(desk, sources, tmp_path):
    """One without a file of its own is named by its id, which may be the name of another's file."""
    turns = [
        {
            "continuation_id": name,
            "id": f"t-{name}",
            "role": "user",
            "content": name,
            "meta": {"source": "claude-code", **more},
            "raw": {"type": "user", "of": name},
        }
        for name, more in (("x", {}), ("y", {"file": "x.jsonl"}))
    ]
    (sources / "crafted.jsonl").write_bytes(lines(turns))
    desk.take(sources)
    found = desk.give(tmp_path / "out")
    for name in "xy":
        with open(found[name], "rb") as file:
            assert json.load(file)["of"] == name


def test_the_name_of_a_native_file_is_the_same_whichever_talks_go_with_it(desk, sources, tmp_path):
    """Exported alone or with all: named as its source was."""
    path = claude_file(sources)
    path.write_bytes(lines(claude_records(0, 3)))
    MADE["codex"](sources, 4)
    desk.take(sources)
    found = desk.give(tmp_path / "out")
    assert {os.path.basename(each) for each in found.values()} == {
        each.name for each in sources.iterdir()
    }


# --- formats -------------------------------------------------------------------------------------


def test_a_talk_that_was_never_imported_has_no_native_form(archive):
    """It is said, with what to do instead."""
    archive.conversation("own").record("user", "hello")
    with pytest.raises(NothingImported) as told:
        list(Exporter("default", "native").alone(archive.conversation("own")))
    assert "--to convmem" in told.value.hint


def test_there_is_no_other_format(archive):
    """A typo is told with the names that there are."""
    with pytest.raises(UsageError) as told:
        Exporter("default", "word")
    assert all(name in told.value.hint for name in FORMATS)


def test_native_and_redaction_exclude_each_other(archive):
    """The very bytes of a source, masked, would be neither."""
    with pytest.raises(UsageError):
        Exporter("default", "native", redact=lambda turn: turn)


def test_an_export_does_not_wait_for_who_records_and_stops_nobody(desk, sources):
    """It gives out what was there when it came by: whole turns, in order, nothing twice."""
    claude_file(sources).write_bytes(lines(claude_records(0, 300)))
    desk.take(sources)
    stop = threading.Event()

    def write():
        with Archive.open(desk.root, durability="none") as archive:
            nth = 0
            while not stop.is_set():
                archive.conversation(SESSION.format(1)).record("user", "more", id=f"more-{nth}")
                nth += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = []
        for _ in range(10):
            turns = [json.loads(line) for line in desk.said(format="convmem").splitlines()]
            assert [turn["seq"] for turn in turns] == list(range(1, len(turns) + 1))
            seen.append(len(turns))
    finally:
        stop.set()
        writer.join()
    assert seen == sorted(seen)
    assert seen[-1] > 300


@pytest.mark.skipif(importlib.util.find_spec("duckdb") is None, reason="DuckDB is not installed")
def test_a_parquet_file_holds_all_turns_and_is_the_same_twice(desk, sources, tmp_path):
    """For whoever asks questions of a thousand talks at once."""
    import duckdb

    for name in ("claude-code", "chatgpt"):
        MADE[name](sources, 6)
    desk.take(sources)
    path = tmp_path / "talks.parquet"
    path.write_bytes(desk.said(format="parquet"))
    assert path.read_bytes() == desk.said(format="parquet")
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"select role, count(*), min(epoch_us(ts)) from '{path}' group by role order by role"
        ).fetchall()
    counted = {role: (count, first) for role, count, first in rows}
    assert counted["user"] == (6, 1770000000_500000)
    assert counted["assistant"][0] == 6
