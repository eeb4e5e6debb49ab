"""The command line under the conditions that once broke others: cron, pipes, crowds, kills."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess

import pytest

from convmem import Archive


def test_counts_mean_the_same_by_every_way_in(cli, archive):
    """A10, K22: 0 is none and a negative number is a mistake, in the library and in the shell."""
    chat = archive.conversation("trip")
    for at in range(10):
        chat.record("user", at)
    assert cli("tail", "trip", "-n", "0").out == b""
    assert cli("tail", "trip", "-n", "-3", code=2).out == b""
    assert len(cli("tail", "trip", "-n", "99").objects) == 10


def test_text_is_utf8_without_any_locale(cli, log):
    """K24: `open()` without an encoding wrote what the next machine could not read."""
    said = "blåbær \u2028 \U0001f600"
    bare = {"LC_ALL": "C", "LANG": "", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}
    cli("record", "trip", stdin=said.encode(), **bare)
    assert said.encode() in log().read_bytes()
    assert cli("tail", "trip", **bare).contents == [said]
    assert said.encode() in cli("tail", "trip", **bare).out


def test_a_session_that_two_resume_keeps_what_both_say(cli):
    """K26: two terminals on one session wrote into each other's lines."""
    given = [
        b"".join(b'{"role":"user","content":["%s",%d]}\n' % (who, at) for at in range(300))
        for who in (b"a", b"b")
    ]
    words = ("record", "trip", "--jsonl", "--sync", "none")
    with (
        cli.running(*words, stdin=subprocess.PIPE) as one,
        cli.running(*words, stdin=subprocess.PIPE) as other,
    ):
        for start in range(0, len(given[0]), 1000):
            for running, text in zip((one, other), given, strict=True):
                running.process.stdin.write(text[start : start + 1000])
                running.process.stdin.flush()
        assert [running.end().code for running in (one, other)] == [0, 0]
    found = cli("show", "trip").objects
    assert [each["seq"] for each in found] == list(range(1, 601))
    for who in ("a", "b"):
        mine = [each["content"][1] for each in found if each["content"][0] == who]
        assert mine == list(range(300))


def test_what_was_answered_is_there_after_a_kill(cli):
    """K1: nine messages, a kill, nothing on disk."""
    with cli.running("record", "trip", "--jsonl", "--json", stdin=subprocess.PIPE) as running:
        for at in range(9):
            running.process.stdin.write(b'{"role":"user","content":%d}\n' % at)
            running.process.stdin.flush()
            running.lines(1)
        running.process.kill()
    assert cli("show", "trip").contents == list(range(9))


def test_a_lock_that_is_never_let_go_ends_with_6(cli, root, log):
    """K26: busy is a state of its own, to be tried again; nothing was written."""
    cli("record", "trip", "a")
    impatient = (
        "from convmem import Archive\n"
        "Archive.open.__func__.__kwdefaults__['lock_timeout_seconds'] = 0.1"
    )
    with open(log().parent / ".locks" / "trip.lock", "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with cli.running("record", "trip", "b", "--json", patch=impatient) as running:
            answer = running.end()
        assert cli("tail", "trip").contents == ["a"]
    assert answer.code == 6
    assert [each["kind"] for each in answer.told] == ["busy"]
    assert cli("tail", "trip").contents == ["a"]


def test_a_bad_line_hides_neither_the_conversation_nor_its_turns(cli, log):
    """K8, K9: one odd line, or a torn letter at the end, took the session out of every list."""
    cli("record", "trip", "a")
    with open(log(), "ab") as file:
        file.write(b'"x"\n{"role":"user","content":"caf\xc3')
    assert cli("list").text == "trip\n"
    answer = cli("tail", "trip")
    assert answer.contents == ["a"]
    assert "2 damaged lines skipped" in answer.err
    cli("record", "trip", "b")
    assert cli("tail", "trip").contents == ["a", "b"]


def test_a_full_disk_is_heard_of(cli, log):
    """A15, K4: a warning in some log, and the caller was told that all went well."""
    cli("record", "trip", "a", prepare=cli.WITH_FULL_DISK)
    before = log().read_bytes()
    answer = cli("record", "trip", "b" * 600, code=4, prepare=cli.WITH_FULL_DISK)
    assert answer.err.startswith("convmem: error: ")
    assert "convmem: hint: what was stored is as it was" in answer.err
    assert log().read_bytes() == before


@pytest.mark.skipif(not os.path.exists("/proc"), reason="no /proc here")
def test_the_command_line_starts_no_program_of_its_own(cli, tmp_path):
    """K25: each append ran `git`, for up to two seconds."""
    marker = tmp_path / "ran"
    for name in ("git", "sh", "tty", "stty"):
        tool = tmp_path / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f"#!/bin/sh\necho {name} >> {marker}\n")
        tool.chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    for words in ("record trip a", "tail trip", "compact trip --keep-last 1", "list -l"):
        cli(*words.split(), PATH=path)
    assert not marker.exists()


def test_a_crowd_writes_reads_and_compacts_and_nothing_is_lost(cli):
    """A3, A24, A28, P8, P9: four processes record, one compacts in a loop, one follows."""
    cli("record", "trip", "--jsonl", stdin=b'{"role":"user","content":["first",0]}\n')
    words = ("record", "trip", "--jsonl", "--json", "--sync", "none")
    answered = {who: [] for who in "abcd"}
    with contextlib.ExitStack() as stack:
        follower = stack.enter_context(cli.running("tail", "trip", "-f", "-n", "all"))
        follower.lines(1)
        feeds = {
            who: stack.enter_context(cli.running(*words, stdin=subprocess.PIPE)) for who in answered
        }
        for at in range(60):
            for who, running in feeds.items():
                line = json.dumps({"role": "user", "content": [who, at], "id": f"{who}{at}"})
                running.process.stdin.write(line.encode() + b"\n")
                running.process.stdin.flush()
            if at % 20 == 10:
                cli("compact", "trip", "--keep-last", "5")
            for who, running in feeds.items():
                answered[who].append(json.loads(running.lines(1)[0])["seq"])
        assert [running.end().code for running in feeds.values()] == [0] * 4
        followed = [json.loads(line) for line in follower.lines(240)]
    assert sorted(seq for given in answered.values() for seq in given) == list(range(2, 242))
    # A turn may be dropped before the follower came to it, but none is doubled or out of place.
    seqs = [each["seq"] for each in followed]
    assert seqs == list(range(2, 242))
    for who, given in answered.items():
        mine = [(each["seq"], each["content"][1]) for each in followed if each["content"][0] == who]
        assert mine == list(zip(given, range(60), strict=True))
    with Archive.open(cli.root) as archive:
        kept = archive.conversation("trip").tail(1000)
        assert [turn.seq for turn in kept] == list(range(kept[0].seq, 242))
        assert kept.damaged == 0
