"""``convmem verify`` and ``convmem repair`` as people and cron run them."""

from __future__ import annotations

import json
import os

import pytest

from convmem import Archive
from convmem.log.files import Folder
from convmem.log.removing import rewrite

JUNK = b"nonsense\n"


@pytest.fixture
def trip(archive, log):
    """Return the log of a conversation of three turns."""
    for word in ("a", "b", "c"):
        archive.conversation("trip").record("user", word)
    return log()


def harm(path):
    """Fuse two of the turns, and add what is none; return the lines as they were."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0][:-1] + lines[1] + JUNK + lines[2])
    return lines


def test_a_sound_conversation_is_one_line_and_no_failure(cli, trip):
    """From cron a check that found nothing should be short, or silent."""
    answer = cli("verify", "trip")
    assert answer.text.startswith("trip: 3 turns, ") and answer.text.endswith(": no damage\n")
    assert answer.err == ""
    assert cli("verify", "--all", "--quiet").out == b""


def test_damage_is_told_with_line_and_byte_and_exit_code_5(cli, trip):
    """The line number is what people type into their editor, the byte what they give to dd."""
    lines = harm(trip)
    answer = cli("verify", "trip", code=5)
    at = len(lines[0]) + len(lines[1]) - 1
    assert answer.text.splitlines()[:2] == [
        f"trip: line 1, byte 0: 2 records on one line ({at - 1} bytes)",
        f"trip: line 2, byte {at}: not JSON (8 bytes)",
    ]
    assert "convmem repair trip --dry-run" in answer.err
    quiet = cli("verify", "--all", "-q", code=5)
    assert quiet.text.splitlines() == answer.text.splitlines()[:2] and quiet.err == ""


def test_json_has_an_object_for_each_finding_and_each_conversation(cli, archive, trip):
    """Stable keys are what monitoring is built on."""
    archive.conversation("sound").record("user", "x")
    harm(trip)
    found = cli("verify", "--all", "--json", code=5).objects
    assert [(each["type"], each["continuation_id"]) for each in found] == [
        ("summary", "sound"),
        ("finding", "trip"),
        ("finding", "trip"),
        ("summary", "trip"),
    ]
    assert list(found[1]) == [
        *("type", "continuation_id", "namespace", "line", "offset", "length", "kind", "message"),
        *("id", "seq"),
    ]
    assert (found[1]["kind"], found[2]["kind"]) == ("fused", "not_json")
    summary = found[3]
    assert sum(summary["bytes"].values()) == summary["size"] == trip.stat().st_size
    assert summary["damaged"] is True and summary["found"] == {"fused": 1, "not_json": 1}
    assert (summary["turns"], summary["first_seq"], summary["last_seq"]) == (1, 3, 3)
    assert found[0]["damaged"] is False


def test_lines_by_hand_and_numbers_that_compaction_took_are_no_damage(cli, trip):
    """`echo >>` is an interface of this program."""
    lines = trip.read_bytes().splitlines(keepends=True)
    trip.write_bytes(lines[0] + b'{"role":"user","content":"by hand"}\n' + lines[2])
    assert "3 turns, 1 of them by hand" in cli("verify", "trip").text


def test_a_repair_says_what_it_did_and_a_second_one_has_nothing_to_do(cli, trip):
    """K9: two turns that no reader saw are back, and the junk can be looked at."""
    lines = harm(trip)
    before = trip.read_bytes()
    dry = cli("repair", "trip", "--dry-run")
    assert trip.read_bytes() == before and not (trip.parent / ".quarantine").exists()
    assert dry.text == (
        "trip: would be repaired: 1 line split, 2 turns saved; set aside not_json 1;"
        " 9 bytes to the quarantine\n"
    )
    done = cli("repair", "trip")
    (kept,) = (trip.parent / ".quarantine").iterdir()
    assert done.text == (
        "trip: repaired: 1 line split, 2 turns saved; set aside not_json 1;"
        f" 9 bytes to .quarantine/{kept.name}\n"
    )
    assert kept.read_bytes() == JUNK
    assert trip.read_bytes() == b"".join(lines)
    assert cli("repair", "trip").text == "nothing to repair\n"
    assert cli("verify", "trip").err == ""
    assert cli("tail", "trip").contents == ["a", "b", "c"]
    (noted,) = (trip.parent / ".audit").iterdir()
    (entry,) = map(json.loads, noted.read_bytes().splitlines())
    assert (entry["event"], entry["quarantine"]) == ("repair", kept.name)


def test_all_are_repaired_and_json_says_what_became_of_each(cli, archive, trip):
    """After a power cut there is more than one file to look at."""
    archive.conversation("sound").record("user", "x")
    harm(trip)
    dry = cli("repair", "--all", "--dry-run", "--json").objects
    found = cli("repair", "--all", "--json").objects
    assert [(each["continuation_id"], each["changed"]) for each in found] == [
        ("sound", False),
        ("trip", True),
    ]
    for each, tried in zip(found, dry, strict=True):
        assert {**each, "dry_run": True, "quarantine": None} == tried
    assert found[1]["rescued"] == 2 and found[1]["set_aside"] == {"not_json": 1}
    cli("verify", "--all")


def test_what_cannot_be_repaired_is_said_and_left(cli, trip):
    """Two different turns under one id: only people can tell which is right."""
    with trip.open("ab") as file:
        first = json.loads(trip.read_bytes().splitlines()[0])
        del first["_c"]
        file.write(json.dumps({**first, "seq": 4, "content": "other"}).encode() + b"\n")
    before = trip.read_bytes()
    answer = cli("repair", "trip")
    assert "left as it is: 1 turn with the id of an earlier one that differs" in answer.err
    assert answer.text == "nothing to repair\n" and trip.read_bytes() == before
    answer = cli("verify", "trip", code=5)
    assert "line 1 has the same id and says something else" in answer.text


def test_wrong_usage_unknown_ids_and_busy_conversations_have_their_codes(cli, root, trip):
    """Scripts branch on them."""
    for verb in ("verify", "repair"):
        assert "say --all" in cli(verb, code=2).err
        cli(verb, "trip", "--all", code=2)
        cli(verb, "nowhere", code=3)
        assert "nowhere" in cli(verb, "trip", "nowhere", code=7).err
    harm(trip)
    assert "nowhere" in cli("verify", "nowhere", "trip", code=5).err
    folder = Folder.open(os.path.join(root, "default"))
    with rewrite.exclusive(folder, "trip"):
        cli("repair", "trip", code=6)
        cli("repair", "--all", code=7)
    folder.close()


def test_an_id_cannot_drive_a_terminal_through_a_finding(cli, archive, log):
    """Content and ids are a stranger's."""
    archive.conversation("e\x1b[2J").record("user", "x", id="a\x1b[31m")
    path = log("e%1b%5b2%4a") if log("e%1b%5b2%4a").exists() else next(log().parent.glob("e*"))
    path.write_bytes(path.read_bytes() * 2)
    assert b"\x1b" not in cli("verify", "--all", code=5).out
    assert b"\x1b" not in cli("repair", "--all").out


def test_the_library_checks_and_repairs(root, trip):
    """An agent server looks after its files itself."""
    harm(trip)
    with Archive.open(root) as archive:
        chat = archive.conversation("trip")
        told = []
        assert chat.verify(on_finding=told.append).is_damaged and len(told) == 2
        assert chat.repair(dry_run=True).rescued == 2
        assert chat.repair().quarantine is not None
        assert not chat.verify().is_damaged
        assert [turn.content for turn in chat.turns()] == ["a", "b", "c"]
        assert chat.record("user", "d").seq == 4
