"""Scrubbing one turn: what it said is nowhere any more, and nothing else has changed.

The files are read without convmem where it matters: they must not hold the secret, whatever its own
readers say.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
import zlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convmem import Archive, ConversationNotFound, LockTimeout, RetentionPolicy, UsageError
from convmem.errors import ConvmemError
from convmem.log import codec, heal
from convmem.log.compressed import cold_file, cold_pack
from convmem.log.files import Folder
from convmem.log.removing import restore, scrub_marker
from convmem.log.removing.rewrite import exclusive
from convmem.stores.facts_index import Facts, Index
from convmem.turns import draft

EXAMPLES = int(os.environ.get("CONVMEM_EXAMPLES", "60"))
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = datetime(2027, 1, 1, tzinfo=UTC)
WHEN = "2026-11-21T12:00:00.000000Z"
SECRET = "my password is correct-horse-battery-staple-4711"
STAMP = "2026-11-21T09:00:00.123456Z"


@pytest.fixture
def chat(tmp_path):
    with Archive.open(tmp_path / "archive") as archive:
        yield archive.conversation("trip")


def folder_of(chat):
    return Path(chat.path).parent


def holders(chat, *secrets):
    """Return the files below the namespace that hold any of *secrets*."""
    return [
        str(path.relative_to(folder_of(chat)))
        for path in sorted(folder_of(chat).rglob("*"))
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in secrets)
    ]


def talk(chat, count=5, at=2):
    """Record turns t0, t1, … of which one says the secret."""
    for number in range(count):
        chat.record("user", SECRET if number == at else f"word {number}", id=f"t{number}")


def said(chat):
    return [(turn.id, turn.seq, turn.content) for turn in chat.turns()]


def line(seq, content, turn_id=None, batch=None):
    return codec.turn_line(draft("user", content, id=turn_id or f"t{seq}"), seq, STAMP, batch)


def lay(chat, data):
    """Make the log these bytes."""
    folder_of(chat).mkdir(parents=True, mode=0o700, exist_ok=True)
    path = folder_of(chat) / "trip.jsonl"
    path.write_bytes(data)
    path.chmod(0o600)


def quarantined(chat, data, offset=7):
    """Set bytes aside, as a healing would have done."""
    folder = Folder.open(str(folder_of(chat)))
    path = folder_of(chat) / "piece"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    name = heal.set_aside(folder, "trip", fd, [(0, len(data))])
    os.close(fd)
    path.unlink()
    return folder_of(chat) / ".quarantine" / name


def kinds(done):
    return [place.kind for place in done.places]


# --- the log -----------------------------------------------------------------------------------


def test_a_marker_stays_and_all_other_lines_are_the_same_bytes(chat):
    """One thing is asked for: anything else that changed would be a loss."""
    talk(chat)
    before = Path(chat.path).read_bytes().split(b"\n")
    done = chat.scrub("t2", now=NOW)
    assert (done.turn_id, done.seq, done.role, done.scrubbed) == ("t2", 3, "user", WHEN)
    assert kinds(done) == ["log"]
    after = Path(chat.path).read_bytes().split(b"\n")
    assert [one == other for one, other in zip(before, after, strict=True)] == [
        *(True, True, False),
        *(True, True, True),
    ]
    was, now = json.loads(before[2]), json.loads(after[2])
    assert now.pop("_c") == f"{zlib.crc32(after[2][:-17] + b'}'):08x}"
    assert now == {
        **{key: was[key] for key in ("id", "seq", "ts", "role")},
        **{"content": "", "meta": {"scrubbed": WHEN}},
    }
    assert holders(chat, SECRET) == []
    assert not chat.verify().findings


def test_raw_meta_and_every_other_key_go(chat):
    """What was imported has its source's whole record beside the content."""
    chat.record("user", [{"type": "text", "text": SECRET}], id="a", meta={"m": SECRET}, raw=SECRET)
    chat.record("user", "next", id="b")
    chat.scrub("a", now=NOW)
    turn = next(iter(chat.turns()))
    assert (turn.content, turn.meta, turn.extra) == ("", {"scrubbed": WHEN}, {})
    assert holders(chat, SECRET) == []


def test_a_batch_stays_whole(chat):
    """A turn less in a batch would read as one that was torn, and hide the others."""
    chat.record_many(
        [{"role": "user", "content": f"{SECRET} {at}", "id": f"b{at}"} for at in range(3)]
    )
    chat.record("user", "next", id="n")
    for at, turn_id in enumerate(("b1", "b0", "b2")):
        chat.scrub(turn_id, now=NOW)
        assert len(said(chat)) == 4
        assert len(chat.tail(3)) == 3
        assert not chat.verify().findings
        marked = Path(chat.path).read_bytes().count(b'"_b":[')
        assert marked == 3, at
    assert holders(chat, SECRET) == []


def test_text_of_digits_is_a_number_unless_a_turn_has_that_id(chat):
    """People count turns; programs give ids, and some of these are numbers."""
    chat.record("user", "first", id="2")
    chat.record("user", "second", id="x")
    chat.record("user", "third", id="y")
    assert chat.scrub("2", now=NOW).seq == 1
    assert chat.scrub(2, now=NOW).turn_id == "x"
    assert chat.scrub("3", now=NOW).turn_id == "y"
    for nothing in ("4", 4, "z", "0"):
        with pytest.raises(ConvmemError) as told:
            chat.scrub(nothing)
        assert told.value.kind == "not_found"
    for wrong in ("", 0, -1, True, None):
        with pytest.raises(UsageError):
            chat.scrub(wrong)


def test_there_must_be_a_conversation(chat):
    """A slip in the name must not look like a success."""
    with pytest.raises(ConversationNotFound):
        chat.scrub("t1")
    assert not folder_of(chat).exists()


def test_a_second_time_nothing_is_left_and_the_time_stays(chat):
    """Who is not sure whether it was done does it again."""
    talk(chat)
    chat.scrub("t2", now=NOW)
    before = Path(chat.path).read_bytes()
    done = chat.scrub("t2", now=LATER)
    assert not done.is_changed
    assert done.scrubbed == WHEN
    assert Path(chat.path).read_bytes() == before


def test_a_dry_run_says_the_same_and_changes_nothing(chat):
    """One look before what cannot be taken back."""
    talk(chat)
    chat.compact(RetentionPolicy(keep_last=2), now=NOW)
    quarantined(chat, line(3, SECRET, "t2")[:-9])

    def disk():
        return {
            path: (path.read_bytes(), path.stat().st_mtime_ns)
            for path in folder_of(chat).rglob("*")
            if path.is_file()
        }

    before = disk()
    tried = chat.scrub("t2", dry_run=True, now=NOW)
    assert disk() == before
    done = chat.scrub("t2", now=NOW)
    assert [(each.kind, each.file, each.turns, each.pieces) for each in tried.places] == [
        (each.kind, each.file, each.turns, each.pieces) for each in done.places
    ]
    assert kinds(done) == ["quarantine", "trash"]


def test_a_line_by_hand_is_scrubbed_and_stays_one(chat):
    """People write logs with editors, and paste what they should not."""
    hand = b'{ "role": "user", "id": "h", "seq": 2, "content": {"deep": ["%b"]}, "x": 1 }\n'
    lay(chat, line(1, "one") + hand % SECRET.encode() + line(3, "three"))
    before = [finding.kind for finding in chat.verify().findings]
    chat.scrub("h", now=NOW)
    assert [turn[0] for turn in said(chat)] == ["t1", "h", "t3"]
    assert [finding.kind for finding in chat.verify().findings] == before
    now = Path(chat.path).read_bytes().split(b"\n")[1]
    assert json.loads(now) == {
        **{"id": "h", "seq": 2, "role": "user"},
        **{"content": "", "meta": {"scrubbed": WHEN}},
    }
    assert not chat.scrub("h", now=NOW).is_changed


def test_a_last_line_by_hand_without_its_newline_is_scrubbed(chat):
    """It is a turn for every reader."""
    lay(chat, line(1, "one") + b'{"role":"user","id":"h","content":"%b"}' % SECRET.encode())
    assert kinds(chat.scrub("h", dry_run=True)) == ["log"]
    chat.scrub("h", now=NOW)
    assert holders(chat, SECRET) == []
    assert [turn[0] for turn in said(chat)] == ["t1", "h"]


def test_every_turn_with_the_id_goes(chat):
    """Logs that were put together by hand hold one twice: one that stays would tell all."""
    lay(chat, line(1, "one") + line(2, SECRET, "d") + line(3, SECRET + "!", "d") + line(4, "four"))
    assert chat.scrub(2, now=NOW).places[0].turns == 2
    assert holders(chat, SECRET) == []


def test_a_number_of_several_turns_is_refused(chat):
    """Nobody can say which one is meant."""
    lay(chat, line(1, "one") + line(2, SECRET, "a") + line(2, "other", "b"))
    with pytest.raises(UsageError):
        chat.scrub(2)
    assert holders(chat, SECRET) == ["trip.jsonl"]
    chat.scrub("a", now=NOW)
    assert holders(chat, SECRET) == []


def test_the_keep_list_does_not_protect_a_secret(tmp_path):
    """It keeps conversations from rules and from slips; this is an order for one turn."""
    root = tmp_path / "archive"
    with Archive.open(root) as archive:
        archive.conversation("trip").record("user", SECRET, id="a")
    (root / "convmem.toml").write_text('[[keep]]\nid = ["trip"]\n')
    with Archive.open(root) as archive:
        chat = archive.conversation("trip")
        with pytest.raises(UsageError):
            chat.delete()
        chat.scrub("a", now=NOW)
        assert holders(chat, SECRET) == []


# --- compressed, trash, leftovers --------------------------------------------------------------


def test_a_compressed_log_is_unpacked_and_scrubbed(chat):
    """What lies packed is as readable as the rest."""
    pytest.importorskip("backports.zstd")
    for at in range(200):
        chat.record("user", f"{SECRET} {at} {'word ' * 20}", id=f"t{at}")
    chat.compress()
    assert not os.path.exists(folder_of(chat) / "trip.jsonl")
    assert kinds(chat.scrub("t7", dry_run=True)) == ["log"]
    with pytest.raises(ConvmemError):
        chat.scrub("nobody")
    assert not os.path.exists(folder_of(chat) / "trip.jsonl")
    chat.scrub("t7", now=NOW)
    assert said(chat)[7] == ("t7", 8, "")
    assert holders(chat, SECRET + " 7 ") == []
    assert not os.path.exists(folder_of(chat) / "trip.jsonl.zst")


def test_a_turn_in_the_trash_is_scrubbed_there_and_comes_back_as_the_marker(chat):
    """A policy that took it a month ago has not removed it."""
    talk(chat)
    chat.compact(RetentionPolicy(keep_last=1), now=NOW)
    assert kinds(chat.scrub("t2", now=NOW)) == ["trash"]
    assert holders(chat, SECRET) == []
    done = chat.restore()
    assert (done.restored, done.conflicts, done.damaged) == (4, 0, 0)
    assert [(turn[0], turn[2]) for turn in said(chat)] == [
        *(("t0", "word 0"), ("t1", "word 1"), ("t2", "")),
        *(("t3", "word 3"), ("t4", "word 4")),
    ]
    assert not chat.verify().findings


def test_a_turn_of_a_deleted_conversation_is_scrubbed_in_the_trash(chat):
    """Nobody must restore it to be rid of what it says, nor does scrubbing restore it."""
    talk(chat)
    chat.delete(now=NOW)
    assert kinds(chat.scrub("t2", now=NOW)) == ["trash"]
    assert holders(chat, SECRET) == []
    assert not chat.exists()
    chat.restore()
    assert said(chat)[2] == ("t2", 3, "")
    assert len(said(chat)) == 5


def test_in_the_log_and_in_the_trash_it_is_one_and_the_same_marker(chat):
    """As a compaction leaves it that was killed: restoring must find one turn, not two."""
    talk(chat)
    copy = Path(chat.path).read_bytes()
    chat.compact(RetentionPolicy(keep_last=2), now=NOW)
    lay(chat, copy)
    assert kinds(chat.scrub("t2", now=NOW)) == ["trash", "log"]
    done = chat.restore()
    assert (done.restored, done.already_there, done.conflicts) == (0, 3, 0)
    assert len(said(chat)) == 5


def test_who_finishes_what_another_began_takes_over_its_time(chat):
    """The trash was done when it died, the log was not: both must say the same."""
    talk(chat)
    copy = Path(chat.path).read_bytes()
    chat.compact(RetentionPolicy(keep_last=2), now=NOW)
    chat.scrub("t2", now=NOW)
    lay(chat, copy)
    done = chat.scrub("t2", now=LATER)
    assert (kinds(done), done.scrubbed) == (["log"], WHEN)
    assert chat.restore().conflicts == 0


def test_what_killed_processes_left_goes(chat):
    """A compaction that died has half of the log in a file that nobody looks into."""
    talk(chat)
    chat.compact(RetentionPolicy(keep_last=4), now=NOW)
    dead = [".trip.99999.0a1b2c3d.tmp", ".trash/.trip.99999.0a1b2c3d.tmp"]
    for name in dead:
        (folder_of(chat) / name).write_bytes(line(3, SECRET, "t2"))
    done = chat.scrub("t2", now=NOW)
    assert kinds(done) == ["log", "temporary", "temporary"]
    assert holders(chat, SECRET) == []
    chat.delete()
    for name in dead:
        (folder_of(chat) / name).write_bytes(line(3, SECRET, "t2"))
    assert kinds(chat.scrub("t2", now=NOW)) == ["temporary", "temporary"]
    assert holders(chat, SECRET) == []


def test_the_index_forgets_how_the_conversation_began(chat):
    """A list keeps the beginning of the first turn, so as not to read the log again."""
    talk(chat, at=0)
    folder = Folder.open(str(folder_of(chat)))
    known = {}
    for name in ("trip", "other"):
        known[name] = Facts(f"1.2.3.4.{name}", 9)
        known[name].title, known[name].last_seq = f"{name}: {SECRET}", 7
    Index.load(folder).save(folder, known, keep_others=True)
    litter = folder_of(chat) / ".index" / ".facts.jsonl.99999.0a1b2c3d.tmp"
    litter.write_text(f"trip: {SECRET}")
    assert len(holders(chat, f"trip: {SECRET}")) == 2
    chat.scrub("t0", now=NOW)
    assert holders(chat, f"trip: {SECRET}") == []
    index = Index.load(folder)
    assert index.last_seq("trip") == 7
    assert index.get("trip", "1.2.3.4.trip", is_compressed=False) is None
    other = index.get("other", "1.2.3.4.other", is_compressed=False)
    assert (other.title, other.last_seq) == (f"other: {SECRET}", 7)


# --- damaged bytes -----------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [40, 110, -30, -18, -5, -1])
def test_a_torn_line_of_the_turn_is_found_in_the_quarantine(chat, cut):
    """It was torn by a crash, and stored by the retry."""
    talk(chat)
    torn = line(3, SECRET, "t2")[:cut]
    before = line(2, "another torn line of somebody else", "other")[:-4]
    behind = b"\n" + line(9, "of a third", "third")
    path = quarantined(chat, before + torn + behind)
    done = chat.scrub("t2", now=NOW)
    assert kinds(done)[0] == "quarantine"
    left = path.read_bytes()
    assert left.startswith(before)
    assert left.endswith(behind)
    assert holders(chat, SECRET, SECRET[12:30]) == []
    assert not chat.scrub("t2", now=NOW).is_changed


def test_what_a_client_said_again_under_another_id_is_found_by_its_text(chat):
    """Without an id of its own a retry is another turn; the torn one is in the quarantine."""
    talk(chat)
    first = line(3, f"{SECRET}, which I never told anybody", "never-answered")
    for at, torn in enumerate((first[:-9], first[:135], first[60:-20], first[90:-20])):
        path = quarantined(chat, b"\xff" * at + torn)
        before = path.read_bytes()
        chat.record("user", f"{SECRET}, which I never told anybody", id=f"again{at}")
        done = chat.scrub(f"again{at}", now=NOW)
        assert kinds(done) == ["quarantine", "log"], at
        left = path.read_bytes()
        assert b"battery" not in left
        assert left[:4] == before[:4]


def test_others_damaged_bytes_stay_as_they_are(chat):
    """Words that everybody uses must not cost another turn its last bytes."""
    talk(chat)
    chat.record("user", "yes", id="short")
    other = line(2, "yes, and the words: my password is", "other")[:-4]
    holes = bytes(5000) + b"\n" + os.urandom(3000) + b"\n"
    path = quarantined(chat, other + b"\n" + holes + line(3, "yes", "x")[:-1])
    before = path.read_bytes()
    for turn_id in ("t2", "short", "t0"):
        chat.scrub(turn_id, now=NOW)
    assert path.read_bytes() == before


def test_a_whole_line_in_the_quarantine_becomes_a_marker(chat):
    """Half a batch is set aside line by line, as good as they were."""
    talk(chat)
    mine, theirs = (
        line(3, SECRET, "t2", ("0badcafe", 0, 3)),
        line(4, "kept", "u", ("0badcafe", 1, 3)),
    )
    path = quarantined(chat, mine + theirs)
    chat.scrub("t2", now=NOW)
    left = path.read_bytes().split(b"\n")
    assert left[1] + b"\n" == theirs
    assert scrub_marker.is_marker(left[0])
    assert codec.batch_mark(left[0]) == (b"0badcafe", 0, 3)


def test_a_batch_that_was_torn_and_said_again_is_found_by_what_it_says(chat):
    """Its lines are as good as they were, under ids that nobody was ever told."""
    talk(chat)
    lines = [line(9, SECRET, "lost-1"), line(10, SECRET + "?", "lost-2"), line(11, "yes", "lost-3")]
    path = quarantined(chat, b"".join(lines))
    chat.record("user", "yes", id="short")
    chat.scrub("short", now=NOW)
    assert path.read_bytes() == b"".join(lines)
    for number in range(6, 11):
        chat.record("user", f"later {number}", id=f"t{number}")
    # The numbers of a torn batch were given out again.
    assert [chat.scrub(number, now=NOW).turn_id for number in (9, 10)] == ["t8", "t9"]
    assert path.read_bytes() == b"".join(lines)
    chat.scrub("t2", now=NOW)
    left = path.read_bytes().split(b"\n")
    assert [scrub_marker.is_marker(each) for each in left] == [True, False, False, False]
    assert left[1] + b"\n" == lines[1]


@pytest.mark.parametrize("place", [60, 100, 120])
def test_a_damaged_line_of_the_turn_in_the_log_stays_damage_without_what_it_said(chat, place):
    """It is no turn for readers, but there for whoever opens the file."""
    mine = bytearray(line(2, SECRET))
    mine[place] ^= 1
    lay(chat, line(1, "one") + bytes(mine) + line(3, "three"))
    before = [(finding.kind, finding.line) for finding in chat.verify().findings]
    assert before
    done = chat.scrub("t2", now=NOW)
    assert [(each.turns, each.pieces) for each in done.places] == [(0, 1)]
    assert [(finding.kind, finding.line) for finding in chat.verify().findings] == before
    assert [turn[0] for turn in said(chat)] == ["t1", "t3"]
    assert holders(chat, "correct", "battery", "staple", "4711") == []


def test_the_number_of_a_damaged_last_turn_is_not_given_out_again(chat):
    """It was answered: another turn with its number would be taken for it."""
    mine = bytearray(line(2, SECRET))
    mine[-30] ^= 1
    lay(chat, line(1, "one") + bytes(mine))
    chat.scrub("t2", now=NOW)
    assert chat.record("user", "new").seq == 3
    with Archive.open(folder_of(chat).parent) as another:
        assert another.conversation("trip").record("user", "newer").seq == 4


def test_turns_that_share_a_damaged_line_keep_what_is_theirs(chat):
    """A lost newline joins two of them; repair makes turns of the rest."""
    fused = line(2, "before", "b")[:-1] + line(3, SECRET, "s")[:-1] + line(4, "behind", "c")
    lay(chat, line(1, "one") + fused + line(5, "five"))
    chat.scrub("s", now=NOW)
    assert holders(chat, SECRET) == []
    chat.repair(now=NOW)
    assert [turn[0] for turn in said(chat)] == ["t1", "b", "c", "t5"]


def test_a_batch_with_a_hole_stays_hidden_and_one_with_damage_stays_shown(chat):
    """Readers conclude from damage whether the other turns of a batch were ever answered."""
    for hole in (False, True):
        lines = [line(at + 2, f"batch {at}", f"b{at}", ("0badcafe", at, 4)) for at in range(4)]
        secret = bytearray(line(4, f"{SECRET} {'x' * 60}", "b2", ("0badcafe", 2, 4)))
        if hole:
            secret[-80:-50] = bytes(30)
        else:
            secret[-50] ^= 1
        lines[2] = bytes(secret)
        lay(chat, line(1, "one") + b"".join(lines) + line(6, "six"))
        before = said(chat)
        assert [turn[0] for turn in before] == (
            ["t1", "t6"] if hole else ["t1", "b0", "b1", "b3", "t6"]
        )
        chat.scrub("b2", now=NOW)
        assert said(chat) == before
        assert holders(chat, SECRET) == []


def test_a_line_that_damage_has_cut_in_two_goes_as_a_whole(chat):
    """A byte that became a newline leaves the end of what was said in a line of its own."""
    mine = line(2, f"{SECRET} and then the rest of it, tail-4712").replace(
        b" and then", b"\nand then"
    )
    lay(chat, line(1, "one") + mine + line(3, "three"))
    chat.scrub("t2", now=NOW)
    assert holders(chat, SECRET, "tail-4712") == []
    assert [turn[0] for turn in said(chat)] == ["t1", "t3"]


def packed_and_damaged(chat, monkeypatch, part, count=40, much=1):
    """Compress turns that each say a secret of their own; damage one part in its middle."""
    monkeypatch.setattr(cold_pack, "PART_BYTES", 3_000)
    for at in range(count):
        chat.record("user", f"number {at}: {os.urandom(300).hex()}", id=f"t{at}")
    chat.compress()
    path = folder_of(chat) / "trip.jsonl.zst"
    with cold_file.ColdFile(Folder.open(str(folder_of(chat))), path.name) as cold:
        damaged = cold.parts[part]
    data = bytearray(path.read_bytes())
    for at in range(much):
        data[damaged.at + damaged.size // 2 - at] ^= 1 + at % 255
    path.write_bytes(data)


def unpacked(path):
    """Return whatever the frames of a file still give, by the library alone."""
    zstd = pytest.importorskip("backports.zstd")
    data = path.read_bytes()
    found = []
    at = data.find(b"\x28\xb5\x2f\xfd")
    while at >= 0:
        unpacker = zstd.ZstdDecompressor()
        try:
            for start in range(at, len(data), 64):
                found.append(unpacker.decompress(data[start : start + 64]))
                if unpacker.eof:
                    break
        except zstd.ZstdError:
            pass
        at = data.find(b"\x28\xb5\x2f\xfd", at + 1)
    return b"".join(found)


def test_a_damaged_compressed_log_in_the_quarantine_is_scrubbed_too(chat, monkeypatch):
    """It was set aside as it was: all turns are in it, packed."""
    pytest.importorskip("backports.zstd")
    packed_and_damaged(chat, monkeypatch, part=3)
    chat.record("user", "goes on", id="new")
    (path,) = (folder_of(chat) / ".quarantine").glob("*.zst")
    before = unpacked(path)
    secret = b"number 2:"
    assert secret in before
    done = chat.scrub("t2", now=NOW)
    assert (kinds(done), done.left) == (["quarantine", "log"], [])
    after = unpacked(path)
    assert secret not in after
    assert after.count(b"number ") == before.count(b"number ") - 1
    assert not chat.scrub("t2", now=NOW).is_changed


def test_a_part_that_cannot_be_read_is_told_of_only_where_it_may_hold_the_turn(chat, monkeypatch):
    """Nobody can remove what nobody can find; but who asked must not believe that it is gone."""
    pytest.importorskip("backports.zstd")
    packed_and_damaged(chat, monkeypatch, part=3, much=700)
    whole = {turn.id for turn in chat.turns()}
    chat.record("user", "goes on", id="new")
    hidden = [at for at in range(40) if f"t{at}" not in whole]
    assert len(hidden) > 2
    (path,) = (folder_of(chat) / ".quarantine").glob("*.zst")
    for at in (0, hidden[0] - 3, hidden[-1] + 1, 39):
        assert chat.scrub(f"t{at}", now=NOW).left == []
    # What was lost is imported again, as it was said then, or said again by now.
    lost = f"t{hidden[-1]}"
    chat.record("user", "said long ago", id=lost, ts=STAMP)
    assert chat.scrub(lost, now=NOW).left == [path.name]
    assert chat.scrub("new", now=NOW).left == []


# --- retries, imports, relatives ---------------------------------------------------------------


def test_a_retry_is_answered_with_the_marker_whatever_it_says(chat):
    """The client may have it in its queue still; nobody can tell by now whether it is the same."""
    talk(chat)
    chat.scrub("t2", now=NOW)
    for content in (SECRET, "something else"):
        turn = chat.record("user", content, id="t2")
        assert (turn.seq, turn.content, turn.meta) == (3, "", {"scrubbed": WHEN})
        batch = chat.record_many([{"role": "user", "content": content, "id": "t2"}])
        assert [each.seq for each in batch] == [3]
    with Archive.open(folder_of(chat).parent) as another:
        assert another.conversation("trip").record("user", SECRET, id="t2").seq == 3
    assert len(said(chat)) == 5
    assert holders(chat, SECRET) == []


def test_a_retry_of_a_scrubbed_turn_that_a_policy_took_stays_out_too(chat):
    """It is remembered by its id, and its checksum is that of the marker or of what it said."""
    for order in ("compact", "scrub"):
        name = f"{order} first"
        other = chat._archive.conversation(name)
        talk(other)
        steps = [lambda c=other: c.compact(RetentionPolicy(keep_last=1), now=NOW)]
        steps.insert(order == "compact", lambda c=other: c.scrub("t2", now=NOW))
        for step in steps:
            step()
        for content in (SECRET, "something else"):
            assert other.record("user", content, id="t2").seq == 3
        assert len(said(other)) == 1
        assert holders(other, SECRET) == []


def test_an_import_does_not_bring_it_back_when_the_marker_is_gone(chat):
    """Sources repeat all they hold for years; a policy may drop the marker meanwhile."""
    talk(chat)
    assert chat.buried(["t2"]) == set()
    chat.scrub("t2", now=NOW)
    chat.compact(RetentionPolicy(keep_last=1), discard=True, now=NOW)
    assert chat.buried(["t1", "t2"]) == {"t2"}


def test_later_versions_and_summaries_are_named_and_stay(chat):
    """They are turns of their own; but who scrubs one wants to know of them."""
    talk(chat)
    chat.record("user", "a better word", id="v2", meta={"replaces": "t2"})
    chat.compact(RetentionPolicy(keep_last=2), summarize=lambda turns: "they talked", now=NOW)
    summary = next(turn for turn in chat.turns() if turn.seq is None)
    done = chat.scrub("t2", now=NOW)
    assert (done.replaced_by, done.summaries) == (["v2"], [summary.id])
    assert [turn.content for turn in chat.turns()] == ["they talked", "word 4", "a better word"]


def test_a_summary_can_be_scrubbed_and_still_goes_when_its_turns_come_back(chat):
    """It may have been told the secret; what it stands for is no secret."""
    talk(chat)
    chat.compact(RetentionPolicy(keep_last=2), summarize=lambda turns: SECRET + "!", now=NOW)
    summary = next(turn for turn in chat.turns() if turn.seq is None)
    chat.scrub(summary.id, now=NOW)
    assert holders(chat, SECRET + "!") == []
    assert [turn.content for turn in chat.turns()] == ["", "word 3", "word 4"]
    chat.restore()
    assert [turn[0] for turn in said(chat)] == [f"t{at}" for at in range(5)]


def test_a_summary_that_was_taken_back_is_scrubbed_in_the_audit_log(chat):
    """Restoring notes down what it said, since it is nowhere else by then."""
    talk(chat)
    text = f'{SECRET}, and "more" \\ of it é'
    chat.compact(RetentionPolicy(keep_last=2), summarize=lambda turns: text, now=NOW)
    summary = next(turn for turn in chat.turns() if turn.seq is None)
    chat.restore(now=NOW)
    assert holders(chat, SECRET + ", and") == [".audit/2026-11.jsonl"]
    (path,) = (folder_of(chat) / ".audit").iterdir()
    before = [json.loads(each) for each in path.read_text().splitlines()]
    assert kinds(chat.scrub(summary.id, dry_run=True)) == ["audit"]
    assert kinds(chat.scrub(summary.id, now=NOW)) == ["audit"]
    assert holders(chat, SECRET + ", and") == []
    after = [json.loads(each) for each in path.read_text().splitlines()]
    assert after[-1]["event"] == "scrub"
    assert before[1]["summaries"][0].pop("content") == text
    assert after[1]["summaries"][0].pop("content").strip() == ""
    assert after[:-1] == before
    with pytest.raises(ConvmemError):
        chat.scrub(summary.id)


def test_the_audit_log_says_what_was_scrubbed_and_not_what_it_said(chat):
    """Who asks later where a turn went must find an answer, and no secret."""
    talk(chat)
    chat.scrub("t2", now=NOW)
    notes = [
        json.loads(each)
        for path in (folder_of(chat) / ".audit").iterdir()
        for each in path.read_text().splitlines()
    ]
    assert [(note["event"], note["id"], note["seq"], note["places"]) for note in notes] == [
        ("scrub", "t2", 3, ["log trip.jsonl"])
    ]


# --- others at the same time -------------------------------------------------------------------


class Followed:
    """A follower in a thread, and what it has got."""

    def __init__(self, chat, **options):
        self.following = chat.follow(**options)
        self.got = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        for turn in self.following:
            self.got.append((turn.seq, turn.content))

    def expect(self, count):
        deadline = time.monotonic() + 10
        while len(self.got) < count and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(0.3)  # its longest wait between two looks: what should not come would come
        assert [seq for seq, _ in self.got] == list(range(1, count + 1))
        assert self.following.diverged == 0
        assert self.following.missed == 0


@pytest.mark.parametrize("which", ["t0", "t2", "t4"])
def test_a_follower_goes_on_whichever_turn_is_scrubbed(chat, which):
    """The first, the last, and the one that it has read last: it knows them by what they said."""
    talk(chat)
    followed = Followed(chat)
    followed.expect(5)
    chat.scrub(which, now=NOW)
    chat.record("user", "new", id="n5")
    followed.expect(6)
    chat.scrub("n5", now=NOW)
    chat.compact(RetentionPolicy(keep_last=2), now=NOW)
    chat.record("user", "newer", id="n6")
    followed.expect(7)
    followed.following.close()


@pytest.mark.parametrize("which", ["t0", "t2", "t4"])
def test_a_cursor_saved_before_a_scrub_is_good_after_it(chat, which):
    """A program that was not running meanwhile must not begin all over."""
    talk(chat)
    following = chat.follow(idle_timeout=0)
    cursors = [following.cursor for _ in following]
    chat.scrub(which, now=NOW)
    chat.record("user", "new", id="n5")
    for at, cursor in enumerate(cursors, 1):
        assert [turn.seq for turn in chat.turns(after=cursor)] == list(range(at + 1, 7))
        again = chat.follow(after=cursor, idle_timeout=0)
        assert [turn.seq for turn in again] == list(range(at + 1, 7))
        assert again.diverged == 0


def _record_many(root, name, count):
    with Archive.open(root) as archive:
        for at in range(count):
            archive.conversation("trip").record("user", f"{name} {at}", id=f"{name}-{at}")


def test_others_record_while_turns_are_scrubbed_and_nothing_of_theirs_is_lost(chat):
    """The log is replaced under them, again and again."""
    talk(chat, count=20, at=-1)
    followed = Followed(chat)
    context = multiprocessing.get_context("spawn")
    root = str(folder_of(chat).parent)
    writers = [
        context.Process(target=_record_many, args=(root, name, 60)) for name in ("one", "two")
    ]
    for writer in writers:
        writer.start()
    scrubbed = [f"t{at}" for at in range(20)]
    for turn_id in scrubbed:
        chat.scrub(turn_id, now=NOW)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    turns = {turn.id: turn for turn in chat.turns()}
    assert len(turns) == 140
    assert all(turns[turn_id].content == "" for turn_id in scrubbed)
    assert all(
        turns[f"{name}-{at}"].content == f"{name} {at}"
        for name in ("one", "two")
        for at in range(60)
    )
    followed.expect(140)
    followed.following.close()
    assert not chat.verify().findings


def test_two_at_once_do_not_meet(chat):
    """A compaction that copies the old line while it is scrubbed would bring it back."""
    talk(chat)
    folder = Folder.open(str(folder_of(chat)))
    with exclusive(folder, "trip"), pytest.raises(LockTimeout):
        chat.scrub("t2")
    assert holders(chat, SECRET) == ["trip.jsonl"]
    chat.delete()
    with exclusive(folder, "trip"), pytest.raises(LockTimeout):
        chat.scrub("t2")
    folder.close()
    assert len(holders(chat, SECRET)) == 1


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_restoration_that_began_before_does_not_bring_it_back(chat, monkeypatch, is_deleted):
    """It opens the trash before it has the lock; the secret is in what it has opened."""
    talk(chat)
    chat.compact(RetentionPolicy(keep_last=2), now=NOW)
    if is_deleted:
        chat.delete(now=NOW)

    class Slow(restore.Rewrite):
        def __enter__(self):
            monkeypatch.undo()
            with Archive.open(folder_of(chat).parent) as another:
                another.conversation("trip").scrub("t2", now=NOW)
            return super().__enter__()

    monkeypatch.setattr(restore, "Rewrite", Slow)
    with pytest.raises(LockTimeout):
        chat.restore()
    assert holders(chat, SECRET) == []
    chat.restore()
    assert holders(chat, SECRET) == []
    assert [turn[2] for turn in said(chat)] == ["word 0", "word 1", "", "word 3", "word 4"]


# --- whatever it says --------------------------------------------------------------------------

CONTENTS = st.one_of(
    st.text(min_size=1, max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=40),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=8,
    ),
)


@given(
    contents=st.lists(CONTENTS, min_size=1, max_size=6),
    which=st.integers(0, 5),
    role=st.sampled_from(["user", "tool", 'a "b" \\ é']),
    meta=st.none() | st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=2),
    is_batch=st.booleans(),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_whatever_it_said_the_marker_is_a_turn_and_the_others_are_untouched(
    tmp_path_factory, contents, which, role, meta, is_batch
):
    """Quotes, backslashes, separators of lines, and values that look like a marker."""
    which %= len(contents)
    root = tmp_path_factory.mktemp("any")
    with Archive.open(root / "archive") as archive:
        chat = archive.conversation("trip")
        turns = [
            {"role": role, "content": content, "meta": meta, "id": f"i{at}"}
            for at, content in enumerate(contents)
        ]
        if is_batch:
            chat.record_many(turns)
        else:
            for turn in turns:
                chat.record(**turn)
        before = Path(chat.path).read_bytes().split(b"\n")
        done = chat.scrub(f"i{which}", now=NOW)
        assert done.role == role
        after = Path(chat.path).read_bytes().split(b"\n")
        assert after[:which] + after[which + 1 :] == before[:which] + before[which + 1 :]
        assert scrub_marker.is_marker(after[which])
        assert not any(
            scrub_marker.is_marker(each) != scrub_marker.is_scrubbed(codec.parse(each))
            for each in after[:-1]
        )
        found = list(chat.turns())
        assert (found[which].content, found[which].role) == ("", role)
        assert not chat.verify().findings
        assert not chat.scrub(which + 1).is_changed


@given(
    data=st.binary(max_size=120),
    cut=st.integers(0, 200),
    flip=st.integers(0, 199),
    batch=st.booleans(),
)
@settings(max_examples=2 * EXAMPLES, deadline=None)
def test_scrubbing_damage_twice_is_scrubbing_it_once(tmp_path_factory, data, cut, flip, batch):
    """Whatever stands in a damaged file: the second time finds nothing, readers see the same."""
    root = tmp_path_factory.mktemp("damage")
    mine = bytearray(line(2, SECRET, None, ("0badcafe", 0, 1) if batch else None))
    mine[flip % len(mine)] ^= 4
    with Archive.open(root / "archive") as archive:
        chat = archive.conversation("trip")
        lay(
            chat,
            line(1, "one")
            + data
            + bytes(mine[:cut] if cut < 150 else mine)
            + b"\n"
            + line(3, SECRET, "s"),
        )
        chat.tail(1)
        before = [turn for turn in said(chat) if turn[0] != "s"]
        chat.scrub("s", now=NOW)
        assert [turn for turn in said(chat) if turn[0] != "s"] == before
        assert not chat.scrub("s", now=LATER).is_changed
        assert ("s", 3, "") in said(chat)


EDITS = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 60), st.binary(max_size=8)), max_size=5
)


@given(edits=EDITS, more=st.binary(max_size=60), seq=st.sampled_from([2, 3]))
@settings(max_examples=2 * EXAMPLES, deadline=None)
def test_no_run_of_what_it_said_is_left_in_damaged_bytes(tmp_path_factory, edits, more, seq):
    """Whatever became of a torn line: where 48 bytes in a row are legible still, they go."""
    root = tmp_path_factory.mktemp("runs")
    text = "".join(f"{at:x}-{at * at:x}." for at in range(60))
    lost = bytearray(line(seq, text, "t3" if seq == 3 else "never answered"))
    for start, length, data in edits:
        lost[start : start + length] = data
    with Archive.open(root / "archive") as archive:
        chat = archive.conversation("trip")
        lay(chat, line(1, "one") + line(2, "two") + line(3, text))
        quarantined(chat, more + bytes(lost) + b"\n" + line(4, "kept")[:-3])
        chat.scrub("t3", now=NOW)
        runs = [text[at : at + 48] for at in range(len(text) - 47)]
        assert holders(chat, *runs) == []
        assert not chat.scrub("t3", now=LATER).is_changed
