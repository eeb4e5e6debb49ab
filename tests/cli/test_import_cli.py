"""convmem import: what it says, how it ends, and what it does while others are at work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import zipfile

import pytest
from conftest import PATIENCE_SECONDS
from inside import Inside
from transcripts_made import (
    MADE,
    SESSION,
    chatgpt_conversation,
    claude_file,
    claude_records,
    lines,
    uuid,
)

from convmem import Archive
from convmem.cli.verbs.exchange import FORMATS
from convmem.formats import known
from convmem.transfer.catalogue import Catalogue

NAME = SESSION.format(1)
SUMMED_UP = ("files", "conversations", "records", "added", "skipped", "damaged", "unknown")


@pytest.fixture
def cli(root):
    """Most of these need no process of their own."""
    return Inside(root)


@pytest.fixture
def talk(sources):
    """Six turns of Claude Code, in a file."""
    path = claude_file(sources)
    path.write_bytes(lines(claude_records(0, 6)))
    return path


def test_the_command_line_offers_the_formats_that_there_are():
    """--help must not promise more, or less."""
    assert set(FORMATS) == set(known.MODULES)


# --- what it says --------------------------------------------------------------------------------


def test_json_ends_with_one_object_that_sums_up(cli, sources, talk):
    """For scripts: seven figures that stay."""
    talk.write_bytes(
        talk.read_bytes()[:-1]
        + lines([{"type": "hologram", "uuid": "h"}])
        + b'{"type":"user","uui\n'
        + lines(claude_records(6, 7))
    )
    (told,) = cli("import", "--json", str(sources)).objects
    assert tuple(told[name] for name in SUMMED_UP) == (1, 1, 8, 8, 0, 2, 1)
    (again,) = cli("import", "--json", str(sources)).objects
    assert (again["files"], again["added"], again["unchanged"]) == (1, 0, 1)


def test_people_are_told_what_was_done_in_a_line(cli, sources, talk):
    """And what was odd, each in one of its own, on standard error."""
    (sources / "notes.jsonl").write_text('{"a": 1}')
    told = cli("import", str(sources))
    assert told.text.startswith("2 files, 1 conversation: added 6 turns")
    assert "notes.jsonl" in told.err
    assert cli("import", "--quiet", str(sources)).text == ""


@pytest.mark.parametrize("name", MADE)
def test_every_format_is_recognised_by_what_is_in_it(cli, sources, name):
    """Not by its name: people rename files."""
    path = MADE[name](sources, 6)
    renamed = path.rename(sources / "renamed.data")
    (told,) = cli("import", "--json", str(renamed)).objects
    assert list(told["formats"]) == [name.partition(",")[0]]
    assert told["added"] > 5


@pytest.mark.parametrize("name", [name for name in MADE if name != "chatgpt"])
def test_standard_input_is_a_source(cli, desk, sources, name):
    """``zcat old.jsonl.gz | convmem import -``"""
    path = MADE[name](sources, 6)
    (told,) = cli("import", "--json", "-", stdin=path.read_bytes()).objects
    assert told["added"] > 5
    before = desk.all_turns()
    assert cli("import", "--json", "-", stdin=path.read_bytes()).objects[-1]["added"] == 0
    assert desk.all_turns() == before


def test_the_usual_places_are_looked_for(cli, tmp_path, talk):
    """``convmem import auto`` as a new user types it."""
    home = tmp_path / "home"
    project = home / ".claude" / "projects" / "-home-ada"
    project.mkdir(parents=True)
    cli("import", "auto", code=2, HOME=str(home / "nobody"), CODEX_HOME="", CLAUDE_CONFIG_DIR="")
    talk.rename(project / talk.name)
    (told,) = cli(
        "import", "auto", "--json", HOME=str(home), CODEX_HOME="", CLAUDE_CONFIG_DIR=""
    ).objects
    assert told["added"] == 6


# --- how it ends ---------------------------------------------------------------------------------


def test_nothing_recognised_is_exit_1_and_stores_nothing(cli, sources):
    """Not a success with nothing in it."""
    (sources / "a.json").write_text('{"a": 1}')
    (sources / "b.txt").write_text("hello")
    told = cli("import", str(sources), code=1)
    assert "no" in told.err.lower()
    cli("import", str(sources / "a.json"), code=1)
    cli("import", str(sources), code=1)


def test_a_source_of_which_nothing_is_understood_is_exit_1(cli, desk, sources):
    """The vendor changed the format: cron's mail says so, each time."""
    path = claude_file(sources)
    path.write_bytes(lines([{"type": "hologram", "uuid": f"h{nth}"} for nth in range(3)]))
    for _ in range(2):
        told = cli("import", "--from", "claude-code", str(path), code=1)
        assert "0 of 3 records" in told.err
    assert desk.all_turns() == {}


def test_a_path_that_is_not_there_is_exit_2(cli, talk):
    """Before anything is done."""
    cli("import", str(talk), "/nowhere/at/all", code=2)
    assert not os.path.exists(cli.root)
    cli("import", code=2)
    cli("import", "-", "-", code=2)
    cli("import", "--from", "word", str(talk), code=2)
    cli("import", "--since", "soon", str(talk), code=2)


def test_an_archive_that_cannot_be_written_is_exit_4(cli, talk):
    """Said in words, and nothing is half there."""
    os.mkdir(cli.root, 0o500)
    told = cli("import", str(talk), prepare=cli.AS_ANYBODY, code=4)
    assert cli.root in told.err


def test_a_full_disk_is_exit_4_and_the_rest_comes_with_the_next_import(cli, desk, sources, talk):
    """What was stored is whole; what was not is stored once there is room."""
    talk.write_bytes(lines(claude_records(0, 2_000)))
    limited = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))"
    )
    told = cli("import", str(sources), prepare=limited, code=4)
    assert "full" in told.err
    cli("verify", "--all", code=None)
    assert cli("import", "--json", str(sources)).objects[-1]["added"] > 0
    assert [turn.id for turn in desk.turns(NAME)] == [uuid(0, nth) for nth in range(2_000)]
    cli("verify", "--all")


def test_another_import_at_work_is_exit_6(cli, talk):
    """Cron started one too many; the first is still at it."""
    folder = os.path.join(cli.root, "default")
    with Catalogue.open(folder, timeout_seconds=0):
        patch = "from convmem.transfer import importing; importing._PATIENCE_SECONDS = 0.05"
        with cli.running("import", str(talk), patch=patch) as other:
            answer = other.end()
    assert answer.code == 6, answer
    cli("import", str(talk))


def test_the_second_of_two_imports_waits_for_the_first(cli, desk, talk):
    """Both come to a good end, and nothing is stored twice."""
    folder = os.path.join(cli.root, "default")
    with cli.running("import", "--json", str(talk), patch="") as second:
        with Catalogue.open(folder, timeout_seconds=PATIENCE_SECONDS):
            time.sleep(0.3)
        answer = second.end()
    assert answer.code == 0, answer
    assert cli("import", "--json", str(talk)).objects[-1]["added"] == 0
    assert len(desk.turns(NAME)) == 6


def test_one_bad_file_among_good_ones_is_exit_7(cli, sources, talk):
    """Named; the good ones are there."""
    (sources / "broken.zip").write_bytes(b"PK\x03\x04 and no more than that")
    told = cli("import", "--json", str(sources), code=7)
    assert told.objects[-1]["added"] == 6
    assert told.objects[-1]["failed"] == 1
    assert "broken.zip" in told.err


def test_the_only_file_that_is_damaged_all_over_is_exit_5(cli, sources):
    """There is no part that was done."""
    (sources / "broken.jsonl.gz").write_bytes(b"\x1f\x8b\x08\0 no gzip")
    told = cli("import", str(sources / "broken.jsonl.gz"), code=5)
    assert "broken.jsonl.gz" in told.err


def test_a_zip_of_an_export_is_imported_with_what_else_is_in_it(cli, sources):
    """Settings and pictures lie beside the talks: no failure, and in several files since 2026."""
    path = sources / "chatgpt.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for nth in range(3):
            talk = chatgpt_conversation(uuid(0xABC, nth), 4)
            for node in list(talk["mapping"]):
                talk["mapping"][node]["id"] = node
            packed.writestr(f"export/conversations-{nth:03}.json", json.dumps([talk]))
        packed.writestr("export/user.json", "{}")
        packed.writestr("export/chat.html", "<html></html>")
        packed.writestr("export/picture.png", b"\x89PNG")
    (told,) = cli("import", "--json", str(path)).objects
    assert (told["conversations"], told["failed"]) == (3, 0)
    assert told["added"] + told["skipped"] == 3 * 6


# --- while others are at work --------------------------------------------------------------------


def test_a_source_that_is_written_meanwhile_is_whole_in_the_end(cli, desk, sources):
    """The tool writes on while cron imports: each record once, none cut."""
    path = claude_file(sources)
    path.write_bytes(b"")
    written = lines(claude_records(0, 400))
    stop = threading.Event()

    def write():
        with open(path, "ab", buffering=0) as file:
            for at in range(0, len(written), 777):
                file.write(written[at : at + 777])
                time.sleep(0.001)
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    added = damaged = 0
    while not stop.is_set():
        told = cli("import", "--json", str(sources)).objects[-1]
        added += told["added"]
        damaged += told["damaged"]
    writer.join()
    added += cli("import", "--json", str(sources)).objects[-1]["added"]
    assert (added, damaged) == (400, 0)
    assert [turn.id for turn in desk.turns(NAME)] == [uuid(0, nth) for nth in range(400)]
    assert cli("export", NAME, "--to", "native").out == written


def test_others_record_compact_and_follow_the_same_talk_meanwhile(cli, desk, sources):
    """Nothing of theirs is lost, nothing of ours is stored twice."""
    path = claude_file(sources)
    path.write_bytes(lines(claude_records(0, 50)))
    cli("import", str(sources))
    stop = threading.Event()
    recorded = []

    def record():
        with Archive.open(cli.root, durability="none") as archive:
            chat = archive.conversation(NAME)
            while not stop.is_set():
                recorded.append(chat.record("user", "beside", id=f"own-{len(recorded)}").id)
                time.sleep(0.002)

    def compact():
        while not stop.is_set():
            subprocess.run(
                [sys.executable, "-m", "convmem", "compact", NAME, "--keep-last", "5000", "-q"],
                env=cli.environment,
                check=False,
            )

    workers = [threading.Thread(target=work) for work in (record, compact)]
    with cli.running("tail", "-f", "-n", "all", "--json", NAME) as following:
        for each in workers:
            each.start()
        try:
            for count in range(100, 700, 100):
                path.write_bytes(lines(claude_records(0, count)))
                subprocess.run(
                    [sys.executable, "-m", "convmem", "import", "-q", str(sources)],
                    env=cli.environment,
                    check=True,
                )
        finally:
            stop.set()
            for each in workers:
                each.join()
        ids = [turn.id for turn in desk.turns(NAME)]
        followed = [json.loads(line)["id"] for line in following.lines(len(ids))]
    assert len(ids) == len(set(ids))
    assert [each for each in ids if each.startswith("own-")] == recorded
    assert [each for each in ids if not each.startswith("own-")] == [
        uuid(0, nth) for nth in range(600)
    ]
    assert followed == ids


# --- memory --------------------------------------------------------------------------------------

MEASURED = """
import resource, sys
from convmem import Archive
from convmem.transfer.importing import Importer
with Archive.open(sys.argv[1], durability="none") as archive:
    Importer(archive, "default").run(sys.argv[2:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(root, path, environment):
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, root, str(path)],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    )
    return int(done.stdout) >> (20 if sys.platform == "darwin" else 10)


def long_lines(path, megabytes):
    with open(path, "wb") as file:
        for nth in range(megabytes * 16):
            file.write(lines(claude_records(nth, nth + 1, says=f"{nth}" + "x" * 65_000)))


def long_array(path, megabytes):
    with open(path, "wb") as file:
        file.write(b"[")
        for nth in range(megabytes):
            talk = chatgpt_conversation(uuid(0xABC, nth), 16)
            for node in talk["mapping"].values():
                if node["message"]:
                    node["message"]["content"]["parts"] = [f"{nth}" + "x" * 65_000]
            file.write((b",\n" if nth else b"\n") + json.dumps(talk).encode())
        file.write(b"]")


def long_zip(path, megabytes):
    inner = path.with_suffix(".inner")
    long_array(inner, megabytes)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        packed.write(inner, "conversations.json")
    inner.unlink()


@pytest.mark.parametrize("make", [long_lines, long_array, long_zip])
def test_memory_follows_the_longest_record_not_the_source(cli, tmp_path, sources, make):
    """A gigabyte of talk on a machine with half of one."""
    peaks = []
    for megabytes in (36, 72):
        path = sources / claude_file("").name.replace("1.", f"{megabytes % 10}.")
        make(path, megabytes)
        peaks.append(peak(str(tmp_path / f"a{megabytes}"), path, cli.environment))
        path.unlink()
    small, large = peaks
    # Once what is waiting to be stored fills up, there is no more of it, whatever comes.
    assert large - small < 30, peaks
