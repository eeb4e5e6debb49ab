"""An operator for years: whatever meets whatever, nothing is lost, and the answer says what is so."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from convmem import Archive, RetentionPolicy, UsageError

ROOMY = {"CONVMEM_HEALTH_MIN_FREE": "0", "CONVMEM_HEALTH_MIN_FREE_FATAL": "0"}


@pytest.fixture
def fill(root):
    """Make conversations of so many turns."""

    def make(*names, turns=3, namespace="default"):
        with Archive.open(root, durability="none", namespace=namespace) as archive:
            for name in names:
                archive.conversation(name).record_many(
                    [("user", f"turn {at} of {name}, some words") for at in range(turns)]
                )

    return make


@pytest.fixture
def compressing():
    """Skip where zstd is not installed."""
    pytest.importorskip("convmem.log.cold_file").zstd_library()


def snapshot(root):
    """Return all that is in the archive, but for the locks, which are only ever taken."""
    return {
        str(path): path.read_bytes()
        for path in Path(root).rglob("*")
        if path.is_file() and path.parent.name != ".locks"
    }


def listed(cli):
    return {each["continuation_id"] for each in cli("list", "--json", code=None).objects}


def audit(root, namespace="default"):
    return [
        json.loads(line)
        for path in sorted(Path(root, namespace, ".audit").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


# --- compressed and damaged ---------------------------------------------------------------------


def test_damage_that_was_compressed_is_found_and_repaired_as_in_a_plain_log(
    cli, fill, log, compressing
):
    """Wishes 4, 11: what is put away for years must not hide that it was hurt before."""
    fill("trip", "other", turns=400)
    lines = log().read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"words", b"wordz")
    lines[8] = b"nonsense\n"
    log().write_bytes(b"".join(lines))
    plain = cli("verify", "trip", "--json", code=5).objects
    assert [each["line"] for each in plain[:-1]] == [5, 9]
    good = cli("show", "trip", "--json").out
    cli("compress", "trip")
    assert not log().exists()
    cold = cli("verify", "trip", "--json", code=5).objects
    assert cold == plain
    assert cli("show", "trip", "--json").out == good
    cli("repair", "trip")
    cli("verify", "trip")
    assert cli("show", "trip", "--json").out == good
    kept = b"".join(path.read_bytes() for path in log().parent.joinpath(".quarantine").iterdir())
    assert kept == lines[4] + lines[8]


@pytest.mark.parametrize("seed", range(6))
def test_a_compressed_file_that_is_damaged_never_passes_for_a_whole_one(
    cli, fill, log, compressing, seed
):
    """Rule 3: the damage is told by every verb that meets it, its neighbours are read, and what
    was there stays there until somebody says that what is left is to be saved.
    """
    fill("trip", "other", turns=400)
    before = cli("show", "trip", "--json").objects
    cli("compress", "trip")
    cold = log().with_name("trip.jsonl.zst")
    data = bytearray(cold.read_bytes())
    draw = random.Random(seed)
    if seed % 3 == 2:
        del data[draw.randrange(len(data)) :]
    else:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    cold.write_bytes(data)
    held = snapshot(cli.root)
    assert cli("verify", "trip", code=None).code == 5
    assert cli("verify", "--all", code=None).code in (5, 7)
    for words in (
        ("list",),
        ("stats",),
        ("health",),
        ("tail", "trip"),
        ("context", "trip"),
        ("repair", "trip"),
        ("repair", "--all", "--dry-run"),
        ("compact", "--all", "--keep-last", "999"),
        ("compress", "--undo", "trip"),
    ):
        assert cli(*words, code=None, **ROOMY).code in (0, 1, 4, 5, 7), words
    shown = cli("show", "trip", "--json", code=None)
    assert shown.err, "what is missing is said"
    assert all(each in before for each in shown.objects), "and what is given is true"
    assert len(cli("show", "other", "--json").objects) == 400
    now = snapshot(cli.root)
    assert {name: now[name] for name in held} == held
    cli("compress", "--undo", "--damaged", "trip", code=None)
    assert cli("record", "trip", "on we go", "--json").objects
    assert all(each in before for each in cli("show", "trip", "--json").objects[:-1])
    quarantine = log().parent / ".quarantine"
    assert bytes(data) in [path.read_bytes() for path in quarantine.iterdir()]


# --- state, deleted and come back ---------------------------------------------------------------


def test_the_state_of_a_conversation_goes_and_comes_with_it(cli):
    """K20: what was known is loaded again, and never what belonged to an earlier life."""
    cli("record", "trip", "one")
    cli("state", "trip", "set", "session=A")
    cli("delete", "trip")
    cli("state", "trip", "get", code=3)
    cli("record", "trip", "two")
    assert cli("state", "trip", "get", "--json").objects == [{}]
    cli("state", "trip", "set", "session=B")
    cli("trash", "restore", "trip")
    assert cli("state", "trip", "get", "session").text == "B\n", "the one in use stays"
    assert cli("show", "trip", "--json").contents == ["one", "two"]
    cli("delete", "trip")
    cli("trash", "restore", "trip")
    assert cli("state", "trip", "get", "session").text == "B\n", "the newest comes back"
    cli("state", "trip", "set", "token=sesame", "--ttl", "1s")
    cli("delete", "trip")
    time.sleep(1.1)
    cli("trash", "restore", "trip")
    assert cli("state", "trip", "get", "--json").objects == [{"session": "B"}]
    cli("state", "trip", "get", "token", code=1)


# --- the keep-list ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("compact kept --keep-last 1", 2),
        ("compact kept --max-age 1s --discard", 2),
        ("compact kept --max-bytes 1", 2),
        ("compact kept loose --keep-last 1", 7),
        ("compact --all --keep-last 1", 0),
        ("compact --all --keep-last 0 --discard", 0),
        ("compact --all --max-bytes 1 --summarize-with cat", 0),
        ("compact --all", 0),
        ("compact kept", 2),
        ("delete kept", 2),
        ("delete kept loose more --everything", 7),
        ("trash purge --older-than 0s", 0),
        ("trash purge kept --older-than 0s", 0),
        ("repair kept", 0),
        ("repair --all", 0),
    ],
)
def test_nothing_removes_from_what_the_keep_list_names(cli, fill, root, words, code):
    """Wish 10: a keep-list that one verb does not know is no keep-list."""
    fill("kept", "loose", "more", turns=30)
    cli("compact", "kept", "--keep-last", "20")  # before it was put on the list
    Path(root, "convmem.toml").write_text(
        '[[keep]]\nid = "kept"\n[[retention]]\nkeep_last = 5\ndelete_idle = "1s"\n'
        '[archive]\nmax_age = "1s"\nmax_bytes = "1"\nmin_idle = "1s"\n[trash]\nmax_age = "1s"\n'
        "allow_empty = true\n".replace("[trash]", "allow_empty = true\n[trash]", 1).rsplit(
            "allow_empty", 1
        )[0]
    )

    def of_kept():
        return {
            name: data
            for name, data in snapshot(root).items()
            if "kept" in Path(name).name and ".locks" not in name
        }

    held = of_kept()
    assert len(held) >= 2, "its log and what it has in the trash"
    answer = cli(*words.split(), code=code, CONVMEM_NOW="2031-01-01")
    assert of_kept() == held
    if code in (2, 7):
        assert "kept" in answer.err
    if code == 7:
        assert cli("show", "loose", "--json", code=None).text.count("\n") < 30


def test_the_keep_list_holds_for_programs_too(root, fill):
    """Wish 10: the library removes what the command line would refuse to, else."""
    fill("kept", "loose", turns=10)
    Path(root, "convmem.toml").write_text('[[keep]]\nid = "kept"\n')
    with Archive.open(root) as archive:
        kept = archive.conversation("kept")
        with pytest.raises(UsageError, match="keep-list"):
            kept.compact(RetentionPolicy(keep_last=1))
        with pytest.raises(UsageError, match="keep-list"):
            kept.delete()
        archive.conversation("loose").delete()
        assert [each.continuation_id for each in archive.purge_trash(timedelta(0))] == ["loose"]
        assert len(kept.tail(99)) == 10


def test_a_kept_conversation_may_be_compressed_for_that_removes_nothing(
    cli, fill, log, root, compressing
):
    """Wish 11: cold storage gives back each byte."""
    fill("trip", turns=300)
    Path(root, "convmem.toml").write_text('[[keep]]\nid = "trip"\n')
    before = log().read_bytes()
    cli("compress", "trip")
    cli("delete", "trip", code=2)
    cli("compact", "trip", "--keep-last", "1", code=2)
    cli("compress", "--undo", "trip")
    assert log().read_bytes() == before


# --- names --------------------------------------------------------------------------------------

NAMESPACES = [
    *("..", "../x", "a/b", ".locks", ".trash", ".index", "-N", "--all", "a\nb", "旅行", "A", "a"),
    *("con", "\x1b[2J", " ", "*", "[keep]", "'", '"', "%2e", "~", "$(touch pwned)", "\u202e"),
]


def test_a_namespace_of_any_name_is_a_tenant_like_any(cli, tmp_path):
    """O5: and no verb leaves its folder, or meets another's turns."""
    for name in NAMESPACES:
        space = f"--namespace={name}"
        cli(space, "record", "trip", f"in {name}")
        cli(space, "record", "trip", "second")
        cli(space, "state", "trip", "set", f"name={name}")
    for name in NAMESPACES:
        space = f"--namespace={name}"
        assert cli(space, "tail", "trip", "--json").contents == [f"in {name}", "second"]
        assert cli(space, "state", "trip", "get", "name").text == f"{name}\n"
        assert f"  in {name}"[:6] in cli(space, "context", "trip").text
        assert cli(space, "stats", "--json").objects[0]["turns"] == 2
        cli(space, "verify", "--all")
        cli(space, "repair", "--all")
        cli(space, "compact", "--all", "--keep-last", "1")
        cli(space, "delete", "trip")
        assert len(cli(space, "trash", "list", "--json").objects) == 3
        cli(space, "trash", "restore", "trip")
        assert cli(space, "show", "trip", "--json").contents == [f"in {name}", "second"]
    rows = cli("list", "--all-namespaces", "--json").objects
    assert {row["namespace"] for row in rows} == set(NAMESPACES)
    assert len(rows) == len(NAMESPACES)
    assert {
        each["namespace"] for each in cli("stats", "--all-namespaces", "--json").objects
    } == set(NAMESPACES)
    assert os.listdir(tmp_path) == ["archive"], "and nothing was made beside the archive"
    assert len(os.listdir(cli.root)) == len(NAMESPACES)


def test_rules_mean_the_namespaces_they_name_whatever_those_are_called(cli, root):
    """O5: a name that is itself a pattern must not stand for other tenants."""
    for name in ("*", "[x]", "x", "a/b"):
        for at in range(4):
            cli("-N", name, "record", "trip", str(at))
    Path(root, "convmem.toml").write_text(
        '[[keep]]\nnamespace = "[*]"\n'
        '[[retention]]\nnamespace = "[[]x]"\nkeep_last = 3\n'
        '[[retention]]\nnamespace = "a/*"\nkeep_last = 2\n'
        "[[retention]]\nkeep_last = 1\n"
    )
    cli("compact", "--all")
    left = {name: cli("-N", name, "show", "trip", "--json").contents for name in ("*", "[x]")}
    assert left == {"*": ["0", "1", "2", "3"], "[x]": ["1", "2", "3"]}
    assert cli("-N", "a/b", "show", "trip", "--json").contents == ["2", "3"]
    assert cli("-N", "x", "show", "trip", "--json").contents == ["3"]


@pytest.mark.parametrize("name", ["-x", "--json", "--help", "--", "-", "-A", "--all"])
def test_an_id_that_looks_like_a_flag_stands_behind_two_dashes_for_every_verb(cli, name):
    """A9: it is a name like any, for the verbs that look after it too."""
    cli("record", "--", name, "first")
    cli("record", "--", name, "second")
    cli("record", "bystander", "x")
    cli("state", "--", name, "set", "a=b")
    assert cli("state", "--", name, "get", "a").text == "b\n"
    assert cli("tail", "--json", "--", name).contents == ["first", "second"]
    assert cli("show", "--json", "--", name).contents == ["first", "second"]
    assert "first" in cli("context", "--", name).text
    assert cli("verify", "--json", "--", name).objects[-1]["turns"] == 2
    assert cli("stats", "--json", "--", name).objects[0]["turns"] == 2
    cli("repair", "--", name)
    cli("compress", "--", name)
    assert cli("path", "--", name).text.endswith(".jsonl\n")
    cli("compact", "--keep-last", "1", "--", name)
    assert cli("show", "--json", "--", name).contents == ["second"]
    cli("trash", "restore", "--", name)
    cli("delete", "--", name)
    assert listed(cli) == {"bystander"}
    cli("trash", "--", "restore", name)
    assert cli("show", "--json", "--", name).contents == ["first", "second"]
    cli("delete", "--", name)
    cli("trash", "purge", "--older-than", "0s", "--", name)
    cli("trash", "restore", "--", name, code=3)


# --- convmem.toml, odd --------------------------------------------------------------------------


def _plant(kind, path, tmp_path):
    """Put something into the place of convmem.toml that cannot be used."""
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        elsewhere = tmp_path / "elsewhere.toml"
        elsewhere.write_text('lock_timeout = "3s"\n')
        path.symlink_to(elsewhere)
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "2 MB":
        path.write_text("# no end\n" * 222_223 + 'lock_timeout = "3s"\n')
    elif kind == "unreadable":
        path.write_text('lock_timeout = "3s"\n')
        path.chmod(0)
    elif kind == "not UTF-8":
        path.write_bytes(b"\xff\xfel\x00o\x00")
    else:
        path.write_text('lock_timeout = "3s"\nlock_timeuot = "3s"\n')


@pytest.mark.parametrize(
    "kind",
    [
        *("folder", "link", "dangling link", "link to itself", "pipe"),
        *("2 MB", "unreadable", "not UTF-8", "a slip"),
    ],
)
def test_settings_that_cannot_be_used_cost_no_turn_and_remove_none(cli, fill, tmp_path, kind):
    """Wish 10: half a policy may remove what the other half protects; a slip must hide nothing."""
    fill("trip", "other", turns=30)
    cli("compact", "other", "--keep-last", "10")
    _plant(kind, Path(cli.root, "convmem.toml"), tmp_path)
    anybody = {"prepare": cli.AS_ANYBODY}
    cli("record", "trip", "still", **anybody)
    cli("state", "trip", "set", "a=b", **anybody)
    for words in (
        ("tail", "trip", "-n", "1"),
        ("show", "trip"),
        ("context", "trip"),
        ("state", "trip", "get"),
        ("list",),
        ("path", "trip"),
        ("stats",),
    ):
        answer = cli(*words, **anybody)
        assert answer.out and "convmem.toml" in answer.err, words
    assert "settings" in cli("health", code=1, **anybody, **ROOMY).text
    before = snapshot_of_what_can_be_read(cli.root)
    for words in (
        ("compact", "trip", "--keep-last", "1"),
        ("compact", "--all", "--keep-last", "1"),
        ("compact", "--all"),
        ("delete", "trip"),
        ("trash", "purge", "--older-than", "0s"),
        ("config", "show"),
        ("config", "check"),
    ):
        answer = cli(*words, code=None, **anybody)
        assert answer.code in (2, 4) and "convmem.toml" in answer.err, words
    assert snapshot_of_what_can_be_read(cli.root) == before


def snapshot_of_what_can_be_read(root):
    return {
        name: data for name, data in snapshot(Path(root, "default")).items() if ".index" not in name
    }


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_settings_from_any_editor_mean_the_same(cli, fill, bom, newline):
    """Wish 10: a file that a colleague saved on Windows is not half a policy."""
    fill("trip", "kept", turns=10)
    lines = [b'lock_timeout = "3s"', b"[[keep]]", b'id = "kept"', b"[[retention]]", b"keep_last=4"]
    Path(cli.root, "convmem.toml").write_bytes(bom + newline.join(lines) + newline)
    cli("config", "check")
    assert "lock_timeout\t3s\tfile" in cli("config", "show").text
    cli("compact", "--all")
    assert len(cli("show", "trip", "--json").objects) == 4
    assert len(cli("show", "kept", "--json").objects) == 10
