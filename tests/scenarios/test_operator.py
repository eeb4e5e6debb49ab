"""An operator for years: whatever meets whatever, nothing is lost, and the answers are true."""

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
    pytest.importorskip("convmem.log.compressed.cold_file").zstd_library()


def snapshot(root, but=""):
    """Return all that is in the archive, but for the locks, which are only ever taken."""
    return {
        str(path): path.read_bytes()
        for path in Path(root).rglob("*")
        if path.is_file() and path.parent.name not in (".locks", but)
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
    was there is set aside, whole, when the next turn comes.

    Of turns by themselves: of a batch that lost its end readers show nothing, healing shows what
    is left.
    """
    fill("other", turns=400)
    with Archive.open(cli.root, durability="none") as archive:
        for at in range(400):
            archive.conversation("trip").record("user", f"turn {at} of trip, some words")
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
        ("repair", "trip", "--dry-run"),
        ("compact", "--all", "--keep-last", "999", "--dry-run"),
        ("compress", "--undo", "trip", "--dry-run"),
    ):
        assert cli(*words, code=None, **ROOMY).code in (0, 1, 4, 5, 7), words
    assert "trip" in listed(cli)
    shown = cli("show", "trip", "--json", code=None)
    assert shown.err, "what is missing is said"
    assert all(each in before for each in shown.objects), "and what is given is true"
    assert len(cli("show", "other", "--json").objects) == 400
    now = snapshot(cli.root)
    assert {name: now[name] for name in held} == held
    told = cli("record", "trip", "on we go", "--json")
    assert told.objects and ".quarantine" in told.err
    *rest, newest = cli("show", "trip", "--json").objects
    assert rest == shown.objects and newest["content"] == "on we go"
    assert newest["seq"] > max((each["seq"] for each in rest), default=0)
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
        '[archive]\nmax_age = "1s"\nmax_bytes = "1"\nmin_idle = "1s"\nallow_empty = true\n'
        '[trash]\nmax_age = "1s"\n'
    )

    def of_kept():
        return {
            name: data
            for name, data in snapshot(root).items()
            if "kept" in Path(name).name and ".locks" not in name
        }

    held = of_kept()
    assert len(held) >= 2, "its log and what it has in the trash"
    answer = cli(*words.split(), code=code, CONVMEM_NOW="tomorrow")
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

NAMESPACES = ["..", "../x", ".trash", "--all", "a\nb\x1b[2J", "A", "a", "*", "%2e旅"]


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
        assert cli(space, "stats", "--json").objects[0]["turns"] == 2
        cli(space, "verify", "--all")
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


@pytest.mark.parametrize("name", ["-x", "--help", "--", "-"])
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
        ("verify", "trip"),
        ("trash", "list"),
    ):
        answer = cli(*words, **anybody)
        assert answer.out and "convmem.toml" in answer.err, words
    answer = cli("health", "--json", code=1, **anybody, **ROOMY)
    checks = {each["check"]: each for each in answer.objects[0]["checks"]}
    assert checks["settings"]["status"] == "degraded"
    before = snapshot(Path(cli.root, "default"), but=".index")
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
    assert snapshot(Path(cli.root, "default"), but=".index") == before


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_settings_from_any_editor_mean_the_same(cli, fill, bom, newline):
    """Wish 10: a file that a colleague saved on Windows is not half a policy."""
    fill("trip", "kept", turns=10)
    lines = [b'lock_timeout = "3s"', b"[[keep]]", b'id = "kept"', b"[[retention]]", b"keep_last=4"]
    Path(cli.root, "convmem.toml").write_bytes(bom + newline.join(lines) + newline)
    cli("config", "check")
    assert "lock_timeout\t3s\t/" in cli("config", "show").text
    cli("compact", "--all")
    assert len(cli("show", "trip", "--json").objects) == 4
    assert len(cli("show", "kept", "--json").objects) == 10


# --- an archive that nobody may write to --------------------------------------------------------

# What only reads, and what a trial run says, works wherever one may read.
READING = [
    *("tail trip -n 1", "show trip", "show cold", "list", "list -l", "path trip", "state trip get"),
    *("context trip --max-turns 1", "context cold", "verify cold", "stats", "stats trip --json"),
    *("stats --all-namespaces --prometheus -", "config show", "config check", "trash list"),
    *("trash restore gone --dry-run", "trash purge --older-than 0s --dry-run"),
    *("delete trip --dry-run", "compact --all --keep-last 2 --dry-run", "repair --all --dry-run"),
    *("compress trip --dry-run", "compress --undo cold --dry-run"),
]
WRITING = [
    *("record trip x", "record new x", "state trip set a=c", "compact trip --keep-last 3"),
    *("compress trip", "compress --undo cold", "repair trip", "delete trip", "trash restore gone"),
    "trash purge --older-than 0s",
]


@pytest.fixture
def varied(cli, fill, log, compressing):
    """An archive with a bit of everything: a log with damage, one compressed, one deleted."""
    fill("trip", "cold", "gone", turns=400)
    cli("compress", "cold")
    cli("state", "trip", "set", "a=b")
    cli("delete", "gone")
    with log().open("ab") as file:
        file.write(b"nonsense\n")
    return cli.root


def _reads_and_refuses(cli, **options):
    # The audit log may say what was tried: its file can be written where its folder cannot.
    before = snapshot(cli.root, but=".audit")
    for words in READING:
        assert cli(*words.split(), **options).out, words
    assert "trip: line 401" in cli("verify", "--all", code=5, **options).text
    found = {
        each["check"]: each["status"]
        for each in cli("health", "--json", code=4, **options, **ROOMY).objects[0]["checks"]
    }
    assert found["writable"] == "unhealthy"
    assert found["damage"] == "degraded", "what can be examined is examined"
    for words in WRITING:
        answer = cli(*words.split(), code=4, **options)
        assert not answer.out and "convmem: error: " in answer.err, words
    assert snapshot(cli.root, but=".audit") == before


def test_an_archive_without_write_permission_is_read_checked_and_left_alone(cli, varied):
    """A27: "cannot write" is not "nothing there": a backup is examined where it lies."""
    folders = [varied, *(path for path in Path(varied).rglob("*") if path.is_dir())]
    for folder in folders:
        os.chmod(folder, 0o500)
    try:
        _reads_and_refuses(cli, prepare=cli.AS_ANYBODY)
    finally:
        for folder in folders:
            os.chmod(folder, 0o700)


@contextlib.contextmanager
def mounted(folder, *words):
    """Mount something at *folder* for a while, or skip the test."""
    done = subprocess.run(["mount", *words, str(folder)], capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


needs_root = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0, reason="mounting needs root"
)


@needs_root
def test_an_archive_on_a_read_only_file_system_is_read_checked_and_left_alone(
    cli, varied, tmp_path
):
    """A27: the same where not even root may write, as after a disk's first error."""
    place = tmp_path / "read-only"
    place.mkdir()
    with mounted(place, "--bind", varied):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        there = type(cli)(str(place))
        _reads_and_refuses(there)


# --- a full disk --------------------------------------------------------------------------------


@needs_root
def test_a_full_disk_stops_what_needs_room_and_changes_nothing(tmp_path, cli, compressing):
    """A15, O26: every verb says "full", none leaves half of anything, and reading goes on."""
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    with mounted(disk, "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs"):
        full = type(cli)(str(disk / "archive"))
        with Archive.open(full.root, durability="none") as archive:
            for name in ("trip", "cold", "gone", "cut", "hurt"):
                archive.conversation(name).record_many(
                    [("user", f"turn {at} of {name}, " + "some words " * 4) for at in range(400)]
                )
        full("compress", "cold")
        full("compact", "cut", "--keep-last", "10")
        full("state", "trip", "set", "a=b")
        full("delete", "gone")
        hurt = Path(full.root, "default", "hurt.jsonl")
        hurt.write_bytes(hurt.read_bytes().replace(b"turn 7 of", b"turn 8 of"))
        metrics = disk / "convmem.prom"
        metrics.write_text("old")
        shown = {name: full("show", name, "--json").out for name in ("trip", "cold", "cut")}
        with contextlib.suppress(OSError), open(disk / "everything else", "wb", 0) as file:
            while True:
                file.write(b"x" * 4096)
        before = snapshot(full.root)
        for words in (
            "record new hello",
            "record cold hello",
            "state trip set a=c",
            "state cold set a=c",
            "compact trip --keep-last 300",
            "compact cold --keep-last 300",
            "compress trip",
            "compress --undo cold",
            "repair hurt",
            "trash restore cut",
            f"stats --prometheus {metrics}",
        ):
            (told,) = full(*words.split(), code=4).err.splitlines()[:1]
            assert "no space left" in told or "bytes and 0 are free" in told, words
            assert snapshot(full.root) == before, words
        both = full("compact", "cold", "trip", "--keep-last", "300", code=7).err
        assert both.count("convmem: error: ") == 2
        assert snapshot(full.root) == before
        assert metrics.read_text() == "old"
        assert "writable" in full("health", code=4, **ROOMY).text
        assert {name: full("show", name, "--json").out for name in shown} == shown
        assert full("state", "trip", "get", "a").text == "b\n"
        assert not list(disk.rglob("*.tmp"))
        # What makes room is possible, and then all else is.
        full("trash", "purge", "cut", "--older-than", "0s")
        full("compact", "trip", "--keep-last", "5", "--discard")
        (disk / "everything else").unlink()
        full("trash", "restore", "gone")
        full("repair", "hurt")
        full("compact", "cold", "--keep-last", "300")
        full("verify", "--all")


def test_where_no_file_may_grow_no_verb_leaves_half_a_file(cli, fill, compressing):
    """A15: the same by a limit on the size of files, which needs no root."""
    fill("trip", "cold", "gone", "cut", turns=400)
    cli("compress", "cold")
    cli("compact", "cut", "--keep-last", "10")
    cli("delete", "gone")
    before = snapshot(cli.root, but=".audit")
    for words in (
        "record trip hello",
        "record cold hello",
        "compact trip --keep-last 300",
        "compact trip --keep-last 300 --discard",
        "compact cold --keep-last 300",
        "compress trip",
        "compress --undo cold",
        "trash restore cut",
        f"stats --prometheus {cli.root}/../convmem.prom",
    ):
        told = cli(*words.split(), code=4, prepare=cli.WITH_FULL_DISK).err
        assert "convmem: error: " in told, words
        assert snapshot(cli.root, but=".audit") == before, words
    cli("state", "trip", "set", "a=" + "x" * 900, code=4, prepare=cli.WITH_FULL_DISK)
    assert cli("state", "trip", "get", "--json").objects == [{}]
    assert not list(Path(cli.root).parent.rglob("*.prom*"))


# --- what others do meanwhile -------------------------------------------------------------------


def test_conversations_that_vanish_and_come_back_hide_no_others(cli, fill, log, tmp_path):
    """O23, A20: a backup tool, a colleague and rsync are at work while figures are taken."""
    fill("steady", "firm", turns=50)
    shy = [f"shy-{at}" for at in range(6)]
    fill(*shy, turns=50)
    stop = threading.Event()

    def churn():
        draw = random.Random(7)
        aside = tmp_path / "aside"
        while not stop.is_set():
            path = log(draw.choice(shy))
            if draw.random() < 0.5:
                os.rename(path, aside)
                time.sleep(0.0005)
            else:
                shutil.copy(path, aside)
            os.rename(aside, path)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for words in ("list", "list -l", "stats", "verify --all", "stats", "list", "verify --all"):
            answer = cli(*words.split(), "--json", code=None)
            if words.startswith("list"):
                assert answer.code == 0
                rows = {each["continuation_id"]: each for each in answer.objects}
                assert rows.keys() >= {"steady", "firm"}
                assert all(row["bytes"] > 2000 for row in rows.values())
            elif words == "stats":
                assert answer.code == 0
                (found,) = answer.objects
                assert found["turns"] == 50 * found["conversations"] >= 100
            else:
                assert answer.code in (0, 7), "and never damage, where there is none"
                seen = {each["continuation_id"]: each for each in answer.objects}
                assert seen["steady"]["turns"] == seen["firm"]["turns"] == 50
                assert not any(each["damaged"] for each in seen.values())
                assert answer.code == 0 or all(e["kind"] == "not_found" for e in answer.told)
    finally:
        stop.set()
        thread.join()


_RECORDER = """
import os, sys
from convmem import Archive
name, stop = sys.argv[2:]
with Archive.open(sys.argv[1], durability="none", lock_timeout_seconds=60) as archive:
    at = 0
    while not os.path.exists(stop):
        chat = archive.conversation("abc"[at % 3])
        turn = chat.record("user", f"{name} {at} " + "x" * 200, id=f"{name}-{at}")
        print(chat.continuation_id, turn.id, turn.seq, flush=True)
        at += 1
"""
SECONDS = float(os.environ.get("OPERATORS_SECONDS", "4"))


def test_two_operators_at_once_lose_nothing_of_what_others_record(cli, root, tmp_path, compressing):
    """O26, K26: compact, restore, delete, compress, repair and verify, all while turns come in."""
    stop = tmp_path / "stop"
    outs = [tmp_path / f"recorder-{at}" for at in range(2)]
    recorders = []
    for out in outs:
        with out.open("wb") as file:
            recorders.append(
                subprocess.Popen(
                    [sys.executable, "-c", _RECORDER, root, out.name, str(stop)],
                    stdout=file,
                    env=cli.environment,
                )
            )
    wrong = []

    def operate(*rounds):
        deadline = time.monotonic() + SECONDS
        done = 0
        while time.monotonic() < deadline or done < len(rounds):
            words, codes = rounds[done % len(rounds)]
            answer = cli(*words.split(), code=None, CONVMEM_LOCK_TIMEOUT="60s")
            if answer.code not in codes:
                wrong.append((words, answer))
            done += 1

    try:
        while any(out.read_bytes().count(b"\n") < 10 for out in outs):
            time.sleep(0.01)
            assert all(each.poll() is None for each in recorders)
        threads = [
            threading.Thread(target=operate, args=rounds)
            for rounds in (
                [("compact --all --keep-last 5 --json", (0, 6, 7)), ("verify --all", (0, 7))],
                [
                    ("trash restore a b c", (0, 3, 6, 7)),
                    ("repair --all", (0, 7)),
                    ("compress b c", (0, 6, 7)),
                ],
                [("delete b", (0, 3)), ("trash restore b", (0, 3, 6)), ("verify --all", (0, 7))],
            )
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        stop.touch()
        for each in recorders:
            each.wait(60)
    assert not wrong
    assert [each.returncode for each in recorders] == [0, 0]
    answered = {name: {} for name in "abc"}
    for out in outs:
        for line in out.read_text().splitlines():
            name, turn_id, seq = line.split()
            answered[name][turn_id] = int(seq)
    told = cli("trash", "restore", "a", "b", "c", "--json", code=None)
    assert told.code in (0, 3, 7)
    for name, turns in answered.items():
        shown = cli("show", name, "--json").objects
        assert {each["id"]: each["seq"] for each in shown} == turns
        seqs = [each["seq"] for each in shown]
        assert seqs == sorted(set(seqs)), "each once, and in the one order"
    cli("verify", "--all")
    assert not [each for each in cli("trash", "list", "--json").objects if each["kind"] != "state"]


# --- large --------------------------------------------------------------------------------------

_MEASURED = """
import sys
from convmem.cli import main
try:
    main()
finally:
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    with open({out!r}, "w") as file:
        file.write(fields["VmHWM"].split()[0])
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc/self/status here")
def test_two_hundred_thousand_turns_are_looked_after_in_little_memory(root, cli, tmp_path):
    """A17, §3.7, rule 5: the conversation that needs looking after most is the largest one."""
    with Archive.open(root, durability="none") as archive:
        for _ in range(200):
            archive.conversation("big").record_many([("user", "x" * 100)] * 1000)
        archive.conversation("small").record_many([("user", "x" * 100)] * 1000)
    out = str(tmp_path / "peak")

    def peak(*words):
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED.format(out=out), *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=cli.environment,
        )
        assert done.returncode == 0, done.stderr
        return int(Path(out).read_text())

    for words, most in (
        (("context", "--max-tokens", "4000"), 3_000),
        (("stats", "--json"), 12_000),
        (("verify",), 14_000),
        (("repair",), 14_000),
        (("show", "--json"), 8_000),
        (("compact", "--keep-last", "900"), 30_000),
    ):
        small = peak(words[0], "small", *words[1:])
        large = peak(words[0], "big", *words[1:])
        assert large - small < most, (words, small, large)  # KiB, of 52,000 that the file has
