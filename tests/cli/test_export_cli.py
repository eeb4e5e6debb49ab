"""convmem export: what goes where, what is said, and what a script sees of it."""

from __future__ import annotations

import json
import os
import stat
import string
import subprocess
import sys
import threading
from random import Random

import pytest
from inside import Inside
from transcripts_made import MADE, SAMPLES, SESSION, claude_file, claude_records, lines

from convmem import Archive

NAME = SESSION.format(1)


@pytest.fixture
def cli(root):
    """Most of these need no process of their own."""
    return Inside(root)


@pytest.fixture
def talks(cli, sources):
    """Three talks of three formats."""
    for name in ("claude-code", "codex", "claude-ai"):
        MADE[name](sources, 6)
    cli("import", str(sources))
    return sources


def own(cli):
    with Archive.open(cli.root) as archive:
        archive.conversation("own").record("user", "hello")


def added(cli, *paths):
    return cli("import", "--json", *map(str, paths)).objects[-1]["added"]


# --- comes in again without a trace ---------------------------------------------------------------


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("format", ["openai", "sharegpt"])
def test_an_export_without_ids_imported_again_adds_nothing(
    cli, desk, sources, tmp_path, name, format
):
    """Neither format has ids: what went out is known by what it says."""
    MADE[name](sources, 7)
    cli("import", str(sources))
    before = desk.all_turns()
    out = tmp_path / "out.json"
    cli("export", "--all", "--to", format, "-o", str(out))
    assert added(cli, out) == 0
    assert added(cli, out) == 0
    assert desk.all_turns() == before


@pytest.mark.parametrize(
    "wanted",
    [
        ["--roles", "user,assistant"],
        ["--roles", "user"],
        ["--active-branch"],
        ["--since", "2026-03-01T00:00:03Z"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("format", ["openai", "sharegpt"])
def test_a_part_that_went_out_adds_nothing_either(cli, talks, desk, tmp_path, wanted, format):
    """A selection is another text, and still no new talk."""
    before = desk.all_turns()
    out = tmp_path / "out.json"
    cli("export", "--all", "--to", format, *wanted, "-o", str(out))
    assert added(cli, out) == 0
    assert desk.all_turns() == before


@pytest.mark.parametrize("format", ["openai", "sharegpt"])
@pytest.mark.parametrize("kind", ["claude_code", "codex", "gemini", "chatgpt", "claude_ai"])
def test_real_talks_that_went_out_add_nothing(cli, desk, tmp_path, kind, format):
    """With tools, pictures, branches and rewinds in them."""
    cli("import", "--include-agents", str(SAMPLES / kind))
    before = desk.all_turns()
    for wanted in ([], ["--active-branch"]):
        out = tmp_path / "out.json"
        cli("export", "--all", "--to", format, *wanted, "-o", str(out))
        assert added(cli, out) == 0
    assert desk.all_turns() == before


# --- where it goes -------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["convmem", "openai", "sharegpt"])
def test_what_is_one_stream_goes_to_standard_output_or_one_file(cli, talks, tmp_path, format):
    """The same bytes either way."""
    out = tmp_path / "new" / "folder" / "all.out"
    printed = cli("export", "--all", "--to", format)
    told = cli("export", "--all", "--to", format, "-o", str(out))
    assert out.read_bytes() == printed.out
    assert str(out) in told.text
    assert cli("export", "--all", "--to", format, "-o", str(tmp_path), code=2).out == b""


@pytest.mark.parametrize("format, suffix", [("markdown", ".md"), ("html", ".html")])
def test_what_is_a_file_for_each_talk_goes_to_a_folder(cli, talks, tmp_path, format, suffix):
    """One talk may go to standard output or to a file that is named; several need a folder."""
    cli("export", "--all", "--to", format, code=2)
    cli("export", "--all", "--to", format, "-o", str(tmp_path / "all"))
    found = sorted((tmp_path / "all").iterdir())
    assert len(found) == 3
    assert all(each.suffix == suffix for each in found)

    printed = cli("export", NAME, "--to", format).out
    assert printed == (tmp_path / "all" / f"{NAME}{suffix}").read_bytes()
    cli("export", NAME, "--to", format, "-o", str(tmp_path / "one.x"))
    assert (tmp_path / "one.x").read_bytes() == printed
    cli("export", NAME, "--to", format, "-o", f"{tmp_path / 'made'}/")
    assert (tmp_path / "made" / f"{NAME}{suffix}").read_bytes() == printed
    (tmp_path / "file").write_bytes(b"")
    cli("export", "--all", "--to", format, "-o", str(tmp_path / "file"), code=2)


def test_native_files_lie_as_their_sources_lay(cli, talks, tmp_path):
    """To be copied back to where the tool looks for them."""
    out = tmp_path / "out"
    cli("export", "--all", "--to", "native", "-o", str(out))
    assert sorted(each.name for each in out.iterdir()) == sorted(
        each.name for each in talks.iterdir()
    )
    one = cli("export", NAME, "--to", "native").out
    assert one == claude_file(talks).read_bytes()


@pytest.mark.parametrize("wanted", [["--roles", "user"], ["--since", "1d"], ["--active-branch"]])
def test_native_is_whole_or_not_at_all(cli, talks, tmp_path, wanted):
    """Part of a source is in no format of its own."""
    cli("export", "--all", "--to", "native", "-o", str(tmp_path / "o"), *wanted, code=2)


def test_where_nothing_was_imported_native_says_so_and_gives_out_the_others(cli, talks, tmp_path):
    """Of all, what was recorded is only counted; who asks for it by name is told."""
    own(cli)
    told = cli("export", "--all", "--to", "native", "-o", str(tmp_path / "out"))
    assert "1 conversation left out" in told.err
    cli("export", "own", "--to", "native", "-o", str(tmp_path / "own"), code=1)
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_an_unknown_talk_is_exit_3(cli, talks, tmp_path):
    """And where others are known, they are given out: exit 7."""
    cli("export", "nobody", "--to", "markdown", code=3)
    cli("export", "nobody", "--to", "convmem", code=3)
    told = cli("export", "nobody", NAME, "--to", "convmem", code=7)
    assert "nobody" in told.err
    assert len(told.objects) == 7


def test_neither_format_nor_talk_is_a_mistake(cli, talks):
    """Exit 2, with what to say instead."""
    assert "--to" in cli("export", NAME, code=2).err
    cli("export", "--to", "markdown", code=2)
    cli("export", NAME, "--to", "word", code=2)
    cli("export", NAME, "--to", "openai", "--roles", ",", code=2)


def test_json_tells_of_each_file(cli, talks, tmp_path):
    """For scripts: a path and its size, a line each."""
    found = cli("export", "--all", "--to", "html", "-o", str(tmp_path / "o"), "--json").objects
    assert len(found) == 3
    for each in found:
        assert os.stat(each["path"]).st_size == each["bytes"]


def test_an_empty_archive_gives_out_nothing_well(cli, tmp_path):
    """No talk is no mistake; no archive is told."""
    own(cli)
    cli("delete", "own", "--everything")
    assert cli("export", "--all", "--to", "convmem").out == b""
    assert json.loads(cli("export", "--all", "--to", "sharegpt").out) == []


# --- the outside world ---------------------------------------------------------------------------


def test_a_closed_pipe_is_no_failure(cli, sources):
    """``convmem export … | head -1`` ends quietly."""
    claude_file(sources).write_bytes(lines(claude_records(0, 3_000)))
    cli("import", str(sources))
    command = [sys.executable, "-m", "convmem", "export", "--all", "--to", "convmem"]
    with subprocess.Popen(
        command, env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline().startswith(b"{")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_an_archive_that_may_only_be_read_is_given_out(cli, talks, tmp_path):
    """From a backup, a snapshot, somebody else's home directory."""
    whole = cli("export", "--all", "--to", "openai").out
    for folder, _, names in os.walk(cli.root):
        os.chmod(folder, 0o500)
        for name in names:
            os.chmod(os.path.join(folder, name), 0o400)
    try:
        answer = cli("export", "--all", "--to", "openai", prepare=cli.AS_ANYBODY)
        assert answer.out == whole
        assert answer.err == ""
    finally:
        for folder, _, _ in os.walk(cli.root):
            os.chmod(folder, 0o700)


def test_a_full_disk_is_exit_4_and_leaves_nothing(cli, talks, tmp_path):
    """Neither half a file nor what it was written aside as."""
    out = tmp_path / "out"
    out.mkdir()
    cli(
        *("export", "--all", "--to", "convmem", "-o", str(out / "all.jsonl")),
        prepare=cli.WITH_FULL_DISK
        + ";import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)",
        code=4,
    )
    assert list(out.iterdir()) == []


def test_redaction_masks_what_goes_out_and_changes_nothing(cli, desk, sources, tmp_path):
    """What was pasted into a talk must not go to whoever gets the page."""
    pytest.importorskip("kingfisher_sdk", reason="the secrets extra is not installed")
    chance = Random(3)
    token = "ghp_" + "".join(chance.choices(string.ascii_letters + string.digits, k=36))
    claude_file(sources).write_bytes(lines(claude_records(0, 2, says=f"use {token} then")))
    cli("import", str(sources))
    before = desk.all_turns()
    for format in ("convmem", "openai", "sharegpt", "markdown", "html"):
        plain = cli("export", NAME, "--to", format)
        masked = cli("export", NAME, "--to", format, "--redact")
        assert token in plain.text, format
        assert token not in masked.text, format
        assert "masked" in masked.err
        assert "use " in masked.text
    cli("export", NAME, "--to", "native", "--redact", "-o", str(tmp_path / "o"), code=2)
    assert desk.all_turns() == before


def test_a_talk_in_which_nobody_said_anything_is_left_out(cli, desk, sources):
    """No training data, and no talk for whoever imports it again."""
    claude_file(sources).write_bytes(lines([{"type": "summary", "summary": "x", "leafUuid": "l"}]))
    claude_file(sources, 2).write_bytes(lines(claude_records(0, 2, session=2)))
    cli("import", str(sources))
    assert len(desk.all_turns()) == 2
    assert len(cli("export", "--all", "--to", "openai").objects) == 1
    assert len(json.loads(cli("export", "--all", "--to", "sharegpt").out)) == 1
    assert cli("export", NAME, "--to", "openai").out == b""
    assert json.loads(cli("export", NAME, "--to", "sharegpt").out) == []


def test_nothing_is_given_out_into_the_archive(cli, talks, tmp_path):
    """A log is no place for an export: it would take the place of what was said."""
    path = cli("path", NAME).text.strip()
    with open(path, "rb") as file:
        before = file.read()
    cli("export", "--all", "--to", "openai", "-o", path, code=2)
    cli("export", "--all", "--to", "html", "-o", os.path.dirname(path), code=2)
    with open(path, "rb") as file:
        assert file.read() == before


def test_a_pipe_is_written_to_and_a_dash_is_standard_output(cli, talks, tmp_path):
    """What is no file is not replaced by one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    cli("export", "--all", "--to", "openai", "-o", str(pipe))
    reader.join(20)
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)
    assert read == [cli("export", "--all", "--to", "openai", "-o", "-").out]
