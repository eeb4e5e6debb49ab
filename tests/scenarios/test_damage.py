"""Damage: contained, counted, told, and never a reason to lose its neighbours."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from convmem import Archive, Observer, RetentionPolicy

BAD_LINES = {
    "a number": b"42",
    "a text": b'"str"',
    "null": b"null",
    "a list": b"[]",
    "true": b"true",
    "an empty object": b"{}",
    "no content": b'{"role":"user"}',
    "no role": b'{"content":"x"}',
    "a role that is none": b'{"role":7,"content":"x"}',
    "not JSON": b"nonsense",
    "cut short": b'{"role":"user","conte',
    "an empty line": b"",
    "not UTF-8": b'{"role":"user","content":"\xff\xfe"}',
    "half a surrogate": b'{"role":"user","content":"\\ud800"}',
    "NUL": b"\0" * 300,
    "a broken seal": b'{"id":"x","seq":3,"ts":"2026-11-21T09:00:00.000000Z","role":"user",'
    b'"content":"x","_c":"00000000"}',
    "a number out of range": b'{"role":"user","content":1e999}',
    "deeply nested": b'{"role":"user","content":' + b"[" * 100_000,
    "a saved session": b'{"messages":[]}',
}


class Watch(Observer):
    """Keeps what it is told."""

    def __init__(self):
        self.damage = []
        self.quarantined = []

    def damaged(self, continuation_id, damage):
        self.damage.append((continuation_id, damage.offset, damage.length))

    def healed(self, continuation_id, quarantined):
        self.quarantined.append(quarantined)


@pytest.fixture
def watch():
    """An observer."""
    return Watch()


@pytest.fixture
def chat(root, watch):
    """The conversation that these tests damage."""
    with Archive.open(root, durability="none", observer=watch) as archive:
        yield archive.conversation("trip")


def contents(turns):
    """Return what the turns say."""
    return [turn.content for turn in turns]


def append(path, data):
    """Do what a crash, or a program that knows no better, does."""
    with open(path, "ab") as file:
        file.write(data)


def test_damaged_lines_do_not_use_up_the_count(chat, log, watch):
    """A5: six bad lines at the end made six good turns disappear."""
    for at in range(6):
        chat.record("user", at)
    append(log(), b"nonsense\n" * 6)
    found = chat.tail(6)
    assert contents(found) == list(range(6))
    assert found.damaged == 6
    assert len(watch.damage) == 6
    assert contents(chat.tail(2)) == [4, 5]


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_line_that_is_no_turn_is_skipped_and_counted_wherever_it_stands(
    root, chat, log, watch, bad
):
    """A11, K8: `42` came back as a turn and broke the context; `"x"` took the session away."""
    for at in range(3):
        chat.record("user", at)
    lines = log().read_bytes().splitlines(keepends=True)
    log().write_bytes(bad + b"\n" + lines[0] + bad + b"\n" + b"".join(lines[1:]) + bad + b"\n")
    offsets = [0, len(bad) + 1 + len(lines[0]), log().stat().st_size - len(bad) - 1]
    found = chat.tail(100)
    assert contents(found) == [0, 1, 2]
    assert found.damaged == 3
    assert sorted(watch.damage) == [("trip", offset, len(bad)) for offset in offsets]
    watch.damage.clear()
    told = []
    assert contents(chat.turns(on_damage=told.append)) == [0, 1, 2]
    assert [damage.offset for damage in told] == offsets
    assert watch.damage == []
    assert contents(chat.follow(idle_timeout=0)) == [0, 1, 2]
    assert contents(chat.turns(after=1)) == [1, 2]
    assert chat.record("user", 3).seq == 4
    assert chat.describe(count=True).turns == 4
    with Archive.open(root) as archive:
        assert [each.continuation_id for each in archive.conversations()] == ["trip"]


def test_one_bad_line_in_twenty_is_told_on_the_command_line(chat, log, cli):
    """O23: a history of 20 came back as 19, and nobody was told why."""
    for at in range(21):
        chat.record("user", at)
    lines = log().read_bytes().splitlines(keepends=True)
    lines[10] = lines[10].replace(b'"user"', b'"loser"', 1)
    log().write_bytes(b"".join(lines))
    answer = cli("tail", "trip", "-n", "20", "--json")
    assert answer.contents == [at for at in range(21) if at != 10]
    assert [(each["kind"], each["count"]) for each in answer.told] == [("damaged", 1)]
    found = chat.tail(20)
    assert (len(found), found.damaged) == (20, 1)


def test_by_default_damage_is_logged(root, chat, log, caplog):
    """Rule 4: a server that watches nothing else still finds it in its log."""
    chat.record("user", "a")
    append(log(), b"nonsense\n")
    with Archive.open(root) as archive, caplog.at_level(logging.WARNING, "convmem"):
        archive.conversation("trip").tail()
    (record,) = caplog.records
    assert "trip" in record.getMessage() and "not JSON" in record.getMessage()


TORN = {
    "half a line": b'{"id":"01","seq":3,"ts":"2026-11-21T09:00:00.000000Z","role":"us',
    "one byte": b"{",
    "half a letter": b'{"role":"user","content":"caf\xc3',
    "bytes never written": b"\0" * 5000,
    "half a line, then nothing": b'{"id":"01","seq":3' + b"\0" * 4000,
}


@pytest.mark.parametrize("torn", TORN.values(), ids=TORN.keys())
def test_a_torn_end_is_set_aside_and_the_next_turn_is_whole(chat, log, watch, root, torn):
    """A6, K9: the new turn was glued to the torn one and both were lost; or none could be read."""
    chat.record("user", "a")
    chat.record("user", "b")
    before = log().read_bytes()
    append(log(), torn)
    found = chat.tail()
    assert contents(found) == ["a", "b"]  # readers change nothing
    assert (found.damaged, len(watch.damage)) == (1, 1)
    assert log().read_bytes() == before + torn
    assert chat.record("user", "c").seq == 3
    assert contents(chat.tail()) == ["a", "b", "c"]
    assert chat.tail().damaged == 0
    (kept,) = Path(root, "default", ".quarantine").iterdir()
    assert kept.read_bytes() == torn
    assert watch.quarantined == [kept.name]
    assert log().read_bytes().startswith(before)


def test_a_torn_end_is_healed_by_whoever_comes_next(chat, log, root, cli):
    """A6: the process that finds it is never the one that made it."""
    chat.record("user", "a")
    for at, body in enumerate(TORN.values()):
        append(log(), body)
        cli("record", "trip", str(at))
    assert cli("tail", "trip").contents == ["a", "0", "1", "2", "3", "4"]
    assert cli("tail", "trip").err == ""
    assert len(list(Path(root, "default", ".quarantine").iterdir())) == 5


def test_half_a_batch_never_counts(chat, log, root):
    """P1: the turns of a batch belong together; a crash in the middle leaves none of them."""
    chat.record("user", "a")
    chat.record_many([("user", 1), ("assistant", 2), ("tool", 3)])
    whole = log().read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in (len(lines[0]) + len(lines[1]), len(whole) - 1, len(whole) - len(lines[3])):
        log().write_bytes(whole[:cut])
        assert contents(chat.tail()) == ["a"]
        assert contents(chat.turns()) == ["a"]
    retried = chat.record_many([("user", 1), ("assistant", 2), ("tool", 3)])
    assert contents(chat.tail()) == ["a", 1, 2, 3]
    assert [turn.seq for turn in chat.tail()] == [1, *(turn.seq for turn in retried)]
    kept = b"".join(path.read_bytes() for path in Path(root, "default", ".quarantine").iterdir())
    assert kept == b"".join(lines[1:3])


def test_a_line_by_hand_without_its_newline_is_finished_not_thrown_away(chat, log, root):
    """`printf … >>` is a line by hand too; it lacks nothing but its end."""
    chat.record("user", "a")
    append(log(), b'{"role":"user","content":"by hand"}')
    assert contents(chat.tail()) == ["a", "by hand"]
    chat.record("user", "b")
    assert contents(chat.tail()) == ["a", "by hand", "b"]
    assert not Path(root, "default", ".quarantine").exists()


@pytest.mark.parametrize("at", [0, 20, 45, 70, 90])
def test_a_changed_byte_is_noticed_and_costs_one_turn(chat, log, at):
    """P10: a disk that forgets a bit must not put words into anybody's mouth."""
    for text in ("a", "b" * 60, "c"):
        chat.record("user", text)
    data = bytearray(log().read_bytes())
    data[data.index(b"\n") + 1 + at] ^= 1
    log().write_bytes(data)
    found = chat.tail()
    assert [text[0] for text in contents(found)] == ["a", "c"]
    assert found.damaged >= 1
    assert chat.record("user", "d").seq == 4


def test_no_cut_and_no_change_makes_a_reader_raise(chat, log):
    """P10, K9: whatever a file holds, what can be read is read, and the rest is counted."""
    for at in range(6):
        chat.record("user", {"n": at, "text": "é\u2028" * at}, id=f"t{at}")
    chat.record_many([("user", 6), ("user", 7)])
    whole = log().read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in range(0, len(whole), 7):
        log().write_bytes(whole[:cut])
        count = whole[:cut].count(b"\n")
        count -= count == 7  # half a batch
        assert len(chat.tail(20)) == len(list(chat.turns())) == count
    for at in range(0, len(whole), 11):
        log().write_bytes(whole[:at] + b"\xff\n" + whole[at + 1 :])
        hit = whole[:at].count(b"\n")
        seqs = [turn.seq for turn in chat.tail(20)]
        assert seqs == [turn.seq for turn in chat.turns()]
        alone = {seq for seq in range(1, 7) if seq not in (hit + 1, hit + 2)}
        assert alone <= set(seqs)
    log().write_bytes(b"".join(lines[:3]) + lines[0] + b"".join(lines[3:]))
    assert len(chat.tail(20)) == 9


def test_damage_is_carried_out_of_the_log_by_compaction_and_kept(chat, log, root):
    """P7: nothing is ever deleted by repair."""
    for at in range(4):
        chat.record("user", at)
    lines = log().read_bytes().splitlines(keepends=True)
    log().write_bytes(b"".join(b"bad %d\n%b" % (at, line) for at, line in enumerate(lines)))
    report = chat.compact(RetentionPolicy(keep_last=2))
    assert (report.kept, report.dropped, report.damaged) == (2, 2, 4)
    assert contents(chat.tail()) == [2, 3]
    assert chat.tail().damaged == 0
    kept = Path(root, "default", ".quarantine", report.quarantine).read_bytes()
    assert kept == b"bad 0\nbad 1\nbad 2\nbad 3\n"


@pytest.mark.parametrize(
    "damage", [b"", b"nonsense\n", b"\xff\0\n", b'{"id":"t0",', b"42\n"], ids=ascii
)
def test_sidecars_that_were_damaged_or_removed_stop_nothing(chat, root, damage):
    """Rule 3: damage beside a log must not stop what happens to the log."""
    for at in range(5):
        chat.record("user", at, id=f"t{at}")
    chat.compact(RetentionPolicy(keep_last=2))
    sidecars = [path for path in Path(root, "default").rglob(".dropped/*") if path.is_file()]
    assert sidecars
    for path in sidecars:
        path.write_bytes(damage)
    with Archive.open(root) as archive:
        fresh = archive.conversation("trip")
        fresh.record("user", "new", id="t-new")
        fresh.record("user", "new", id="t0")
        assert fresh.compact(RetentionPolicy(keep_last=1)).kept == 1
        assert contents(fresh.tail()) == ["new"]


def test_removing_every_sidecar_changes_no_answer(chat, root, cli):
    """Rule 1: locks and notes are made again where they are needed."""
    for at in range(5):
        chat.record("user", at)
    for path in Path(root, "default").iterdir():
        if path.name.startswith("."):
            for inner in path.iterdir():
                inner.unlink()
            path.rmdir()
    assert chat.record("user", 5).seq == 6
    cli("record", "trip", "6")
    assert contents(chat.tail()) == [0, 1, 2, 3, 4, 5, "6"]


def test_a_line_longer_than_any_turn_is_passed_over(chat, log):
    """Rule 5: a file that somebody filled with one endless line must not fill the memory."""
    chat.record("user", "a")
    with open(log(), "ab") as file:
        file.seek(0, os.SEEK_END)
        file.truncate(file.tell() + (80 << 20))
    append(log(), b'\n{"role":"user","content":"b"}\n')
    with Archive.open(log().parents[1]) as archive:
        fresh = archive.conversation("trip")
        fresh.record("user", "c")
        assert contents(fresh.tail()) == ["a", "b", "c"]
        assert contents(fresh.turns()) == ["a", "b", "c"]
        assert fresh.tail().damaged == 1


def test_the_damage_that_is_told_can_be_found_with_other_tools(chat, log, watch):
    """`dd` or an editor at that byte must show what was meant."""
    chat.record("user", "a")
    append(log(), b'{"role":"user"}\n')
    chat.tail()
    ((_, offset, length),) = watch.damage
    with open(log(), "rb") as file:
        file.seek(offset)
        assert json.loads(file.read(length)) == {"role": "user"}
