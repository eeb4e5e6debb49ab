"""``convmem compress`` as people and cron use it."""

from __future__ import annotations

import os
import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from convmem import Archive


@pytest.fixture
def chats(archive):
    """Two conversations that nobody has used for months, one in use, and one that is short."""
    chance = random.Random(5)
    now = datetime.now(UTC)
    for name, age, turns in (("oslo", 200, 60), ("rome", 100, 60), ("now", 1, 60), ("hi", 300, 1)):
        for nth in range(turns):
            words = " ".join(str(chance.randrange(10**5)) for _ in range(40))
            archive.conversation(name).record(
                "user", f"{nth} {words}", ts=now - timedelta(days=age, seconds=-nth), id=f"t{nth}"
            )
    archive.close()
    return now


def files(root):
    return sorted(name for name in os.listdir(Path(root, "default")) if name[0] != ".")


def test_a_conversation_is_compressed_reads_as_before_and_thaws(chats, cli, root):
    """The whole way that a conversation goes, with every verb that reads."""
    words = (
        ("tail", "oslo", "--json"),
        ("show", "oslo", "--json"),
        ("list", "--json"),
        ("tail", "oslo", "-n", "2"),
    )
    before = [cli(*each).out for each in words]
    assert cli("compress", "oslo").text.startswith("oslo: compressed, ")
    assert files(root) == ["hi.jsonl", "now.jsonl", "oslo.jsonl.zst", "rome.jsonl"]
    assert [cli(*each).out for each in words[:2]] == before[:2]
    assert cli(*words[3]).out == before[3]
    assert cli("path", "oslo").text == f"{os.path.realpath(root)}/default/oslo.jsonl.zst\n"
    assert {each["continuation_id"] for each in cli("list", "--json").objects} == {
        "oslo",
        "rome",
        "now",
        "hi",
    }
    assert "is compressed already" in cli("compress", "oslo").text
    cli("record", "oslo", "still there?")
    assert files(root) == ["hi.jsonl", "now.jsonl", "oslo.jsonl", "rome.jsonl"]
    assert cli("tail", "oslo", "-n", "1", "--json").contents == ["still there?"]


def test_all_that_is_idle_is_compressed_and_the_rest_is_not(chats, cli, root):
    """From cron: one line."""
    tried = cli("compress", "--all", "--idle", "90d", "--dry-run")
    assert files(root) == ["hi.jsonl", "now.jsonl", "oslo.jsonl", "rome.jsonl"]
    lines = tried.text.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["oslo", "rome"]
    assert all("would be compressed" in line for line in lines[:2])
    assert lines[2].startswith("would compress 2 of 4 conversations, ")
    done = cli("compress", "--all", "--idle", "90d").text.splitlines()
    assert done == [lines[2].replace("would compress", "compressed")]
    assert files(root) == ["hi.jsonl", "now.jsonl", "oslo.jsonl.zst", "rome.jsonl.zst"]
    assert cli("compress", "--all", "--idle", "90d").out == b""
    assert cli("compress", "--all", "--idle", "90d", "--quiet").out == b""
    undone = cli("compress", "--undo", "oslo", "rome").text.splitlines()
    assert undone[0].startswith("oslo: uncompressed, ") and len(undone) == 3
    assert files(root) == ["hi.jsonl", "now.jsonl", "oslo.jsonl", "rome.jsonl"]
    assert cli("compress", "--undo", "oslo").text == "oslo is not compressed\n"


def test_why_nothing_was_done_is_said_where_a_conversation_was_named(chats, cli):
    """Who asks for it wants an answer."""
    assert cli("compress", "hi").text == "hi is too small to gain by it\n"
    assert cli("compress", "now", "--idle", "7d").text == "now was used too lately\n"


def test_json_says_for_each_what_became_of_it(chats, cli):
    """Programs add up the bytes."""
    found = cli("compress", "--all", "--idle", "90d", "--json").objects
    assert [(each["continuation_id"], each["outcome"]) for each in found] == [
        ("hi", "small"),
        ("now", "recent"),
        ("oslo", "compressed"),
        ("rome", "compressed"),
    ]
    for each in found:
        assert each["namespace"] == "default" and each["dry_run"] is False
        assert (each["bytes_after"] < each["bytes_before"]) == (each["outcome"] == "compressed")
    (undone,) = cli("compress", "--undo", "oslo", "--json", "--dry-run").objects
    assert (undone["outcome"], undone["dry_run"]) == ("uncompressed", True)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ((), "nothing is done by default"),
        (("--all",), "--idle 90d"),
        (("--all", "oslo", "--idle", "1d"), "choose one"),
        (("oslo", "--undo", "--idle", "1d"), "leave out --idle"),
        (("oslo", "--idle", "soon"), ""),
        (("oslo", ""), ""),
    ],
)
def test_wrong_usage_changes_nothing(words, hint, chats, cli, root):
    """Above all `--all` alone does not put to sleep what is in use."""
    answer = cli("compress", *words, code=2)
    assert hint in answer.err
    assert files(root) == ["hi.jsonl", "now.jsonl", "oslo.jsonl", "rome.jsonl"]


def test_each_failure_is_named_and_the_others_are_done(chats, cli, root):
    """One that is not there, or damaged, is no reason to leave the others."""
    cli("compress", "nowhere", code=3)
    answer = cli("compress", "nowhere", "oslo", code=7)
    assert "nowhere: there is no conversation" in answer.err
    cold = Path(root, "default", "oslo.jsonl.zst")
    cold.write_bytes(cold.read_bytes()[:-5])
    answer = cli("compress", "--undo", "oslo", code=5)
    assert str(cold) in answer.err and "--undo --damaged" in answer.err
    assert cli("tail", "rome", "-n", "1").code == 0
    assert cold.exists()


def test_a_damaged_one_stops_no_verb_and_is_told_of_by_each(chats, cli, root):
    """What is left can be read, listed, recorded to; and what to do is said with the real id."""
    cli("compress", "oslo")
    cold = Path(root, "default", "oslo.jsonl.zst")
    bad = cold.read_bytes()[:-5]
    cold.write_bytes(bad)
    assert "1 damaged line skipped" in cli("tail", "oslo", "-n", "1").err
    assert "1 damaged line skipped" in cli("show", "oslo").err
    row = {each["continuation_id"]: each for each in cli("list", "--json").objects}["oslo"]
    assert (row["bytes"], row["compressed"]) == (len(bad), True)
    assert "oslo" in cli("list", "--long").text
    assert cli("stats").text.count("in oslo") == 1
    assert "without its end in oslo" in cli("health", code=1).text
    for words in (("oslo",), ("--all",)):
        answer = cli("verify", *words, code=5)
        assert "compressed file" in answer.text and "NUL" not in answer.text
        assert answer.err.endswith("with: convmem compress --undo --damaged oslo\n")
        assert "convmem repair" not in answer.err
    tried = cli("repair", "oslo", "--dry-run").text
    assert "would be repaired: made plain of what still unpacks" in tried
    assert cold.read_bytes() == bad
    answer = cli("record", "oslo", "still there?")
    (kept,) = Path(root, "default", ".quarantine").iterdir()
    assert kept.read_bytes() == bad
    assert "oslo: it did not unpack whole; what is left of it is plain again" in answer.err
    assert answer.err.endswith(f".quarantine/{kept.name}\n")
    assert cli("verify", "oslo").text.startswith("oslo: 61 turns")
    assert cli("tail", "oslo", "-n", "1", "--json").objects[0]["seq"] == 61


def test_repair_of_a_damaged_one_says_where_the_compressed_file_is(chats, cli, root):
    """It may be all that a specialist has to work with."""
    cli("compress", "oslo")
    cold = Path(root, "default", "oslo.jsonl.zst")
    bad = cold.read_bytes()[:2000]
    cold.write_bytes(bad)
    (tried,) = cli("repair", "oslo", "--dry-run", "--json").objects
    assert cold.read_bytes() == bad and files(root).count("oslo.jsonl.zst")
    (done,) = cli("repair", "oslo", "--json").objects
    assert Path(root, "default", ".quarantine", done["compressed"]).read_bytes() == bad
    for each in (tried, done):
        assert each["salvaged"] and each["changed"]
        del each["compressed"], each["quarantine"], each["dry_run"]
    assert tried == done
    cli("verify", "oslo")


def test_the_keep_list_is_not_compressed_by_rules_but_by_whoever_asks_for_it(chats, cli, root):
    """Nothing of it is removed by that; but what lies there for lawyers is left as it lies."""
    Path(root, "convmem.toml").write_text(
        '[[keep]]\nid = "oslo"\n[[retention]]\ncompress_idle = "30d"\n'
    )
    cli("compact", "--all")
    assert files(root) == ["hi.jsonl", "now.jsonl", "oslo.jsonl", "rome.jsonl.zst"]
    before = cli("show", "oslo", "--json").out
    assert cli("compress", "oslo").text.startswith("oslo: compressed, ")
    assert files(root) == ["hi.jsonl", "now.jsonl", "oslo.jsonl.zst", "rome.jsonl.zst"]
    cli("compact", "--all")
    assert cli("show", "oslo", "--json").out == before
    assert files(root) == ["hi.jsonl", "now.jsonl", "oslo.jsonl.zst", "rome.jsonl.zst"]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="zstd comes with Python")
def test_without_zstd_a_compressed_conversation_says_what_to_install(chats, cli, root, tmp_path):
    """The archive came to another machine."""
    cli("compress", "oslo")
    (tmp_path / "shadow" / "backports").mkdir(parents=True)
    (tmp_path / "shadow" / "backports" / "__init__.py").touch()  # without zstd in it
    path = os.pathsep.join((str(tmp_path / "shadow"), cli.environment["PYTHONPATH"]))
    cold = Path(root, "default", "oslo.jsonl.zst")
    whole = cold.read_bytes()
    for data in (whole, whole[: len(whole) // 2]):
        cold.write_bytes(data)
        for words in (
            *(("tail", "oslo"), ("show", "oslo"), ("context", "oslo"), ("record", "oslo", "x")),
            *(("compact", "oslo", "--keep-last", "3"), ("repair", "oslo"), ("verify", "oslo")),
            *(("repair", "oslo", "--dry-run"), ("delete", "oslo", "--yes"), ("compress", "rome")),
            *(("tail", "-f", "oslo"), ("compress", "--undo", "--damaged", "oslo")),
        ):
            answer = cli(*words, code=2, PYTHONPATH=path)
            assert "pip install 'convmem[zstd]'" in answer.err, words
        for words in (("verify", "--all"), ("repair", "--all")):
            assert "pip install" in cli(*words, code=7, PYTHONPATH=path).err
        for words in (("list",), ("list", "--long"), ("stats",), ("tail", "rome", "-n", "1")):
            assert cli(*words, PYTHONPATH=path).err == ""
        code = 0 if data == whole else 1
        assert cli("health", code=code, PYTHONPATH=path).err == ""
        assert cold.read_bytes() == data
        assert files(root) == ["hi.jsonl", "now.jsonl", "oslo.jsonl.zst", "rome.jsonl"]
    cold.write_bytes(whole)
    assert cli("path", "oslo", PYTHONPATH=path).text.endswith(".zst\n")


def test_an_archive_that_may_only_be_read_is_read_compressed_too(chats, cli, root):
    """A back-up that is mounted read-only."""
    cli("compress", "oslo")
    before = cli("show", "oslo", "--json").out
    folder = Path(root, "default")
    folder.chmod(0o500)
    try:
        assert cli("show", "oslo", "--json", prepare=cli.AS_ANYBODY).out == before
        assert cli("compress", "rome", code=4, prepare=cli.AS_ANYBODY).err
        assert cli("record", "oslo", "x", code=4, prepare=cli.AS_ANYBODY).err
    finally:
        folder.chmod(0o700)


def test_a_full_disk_leaves_everything_as_it_was(chats, cli, root):
    """A clean-up that fails half-way is run again when there is room."""
    before = {name: Path(root, "default", name).read_bytes() for name in files(root)}
    cli("compress", "oslo", code=4, prepare=cli.WITH_FULL_DISK)
    assert {name: Path(root, "default", name).read_bytes() for name in files(root)} == before
    cli("compress", "oslo")
    cold = Path(root, "default", "oslo.jsonl.zst").read_bytes()
    cli("record", "oslo", "x", code=4, prepare=cli.WITH_FULL_DISK)
    assert Path(root, "default", "oslo.jsonl.zst").read_bytes() == cold
    assert files(root) == ["hi.jsonl", "now.jsonl", "oslo.jsonl.zst", "rome.jsonl"]
    with Archive.open(root) as archive:
        assert len(list(archive.conversation("oslo").turns())) == 60
