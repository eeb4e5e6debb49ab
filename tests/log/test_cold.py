"""Compressed conversations: they read as before, thaw when somebody appends, and lose nothing."""

from __future__ import annotations

import dataclasses
import importlib
import os
import random
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from convmem import (
    Archive,
    ConversationNotFound,
    CorruptLog,
    Observer,
    RetentionPolicy,
    StorageFull,
    TurnConflict,
)
from convmem.errors import StorageDenied, UsageError
from convmem.log.compressed import cold, cold_compress, cold_file, cold_pack, cold_read
from convmem.log.files import Folder
from convmem.stores import facts

LONG = "an id that is too long for a file name, " * 8


@pytest.fixture
def small_parts(monkeypatch):
    """Many parts without much to read."""
    monkeypatch.setattr(cold_pack, "PART_BYTES", 16 << 10)


@pytest.fixture
def packed(archive, log, small_parts):
    """A compressed conversation of 18 parts, as (conversation, its plain bytes)."""
    chat = archive.conversation("trip")
    fill(chat)
    plain = log().read_bytes()
    assert chat.compress().is_done
    return chat, plain


def fill(chat, turns=300):
    chance = random.Random(7)
    for nth in range(turns):
        words = " ".join(str(chance.randrange(10**6)) for _ in range(chance.randrange(250)))
        chat.record("assistant" if nth % 2 else "user", f"{nth}: {words}", id=f"t{nth}")


def zst(log, name="trip"):
    return Path(f"{log(name)}.zst")


def told(chat):
    return [(turn.id, turn.seq, turn.ts, turn.role, turn.content) for turn in chat.turns()]


def library():
    return cold_file.zstd_library()


# --- what it is on disk ----------------------------------------------------------------------


def test_the_compressed_file_is_ordinary_zstd_of_the_plain_one(packed, log):
    """Without convmem, `zstd -dc` and any library get the conversation back."""
    _, plain = packed
    assert library().decompress(zst(log).read_bytes()) == plain
    assert not log().exists()


def test_it_keeps_its_mode_and_the_time_of_its_last_use(archive, log):
    """People and backups sort by it; nobody else may read it."""
    chat = archive.conversation("trip")
    fill(chat)
    os.utime(log(), ns=(10**18, 10**18 + 7))
    chat.compress()
    assert zst(log).stat().st_mtime_ns == 10**18 + 7
    assert zst(log).stat().st_mode & 0o777 == 0o600
    chat.uncompress()
    assert log().stat().st_mtime_ns == 10**18 + 7
    assert log().stat().st_mode & 0o777 == 0o600


def test_its_facts_are_had_without_unpacking_and_without_zstd(packed, root, monkeypatch):
    """A list of ten thousand conversations unpacks none."""
    chat, plain = packed
    turns = list(chat.turns())
    monkeypatch.setattr(cold_file, "zstd_library", None)
    folder = Folder.open(os.path.join(root, "default"))
    found = cold.facts(folder, "trip")
    assert found.plain_bytes == len(plain)
    assert found.compressed_bytes == folder.stat("trip.jsonl.zst").st_size
    assert (found.turns, found.last_seq) == (300, 300)
    assert datetime.fromisoformat(found.first_ts) == turns[0].ts
    assert datetime.fromisoformat(found.last_ts) == turns[-1].ts
    assert found.title.startswith("0: ")
    assert cold.file_of(folder, "trip") == "trip.jsonl.zst"
    assert cold.facts(folder, "other") is None and cold.file_of(folder, "other") is None


# --- every reader ------------------------------------------------------------------------------


def test_every_way_to_read_gives_the_same_plain_or_compressed(archive, log, small_parts):
    """Nobody who reads has to know."""
    chat = archive.conversation("trip")
    fill(chat)
    with log().open("ab") as file:
        file.write(b'not a turn\n{"role":"user","content":"by hand"}\n')
    half = chat.turns(after=150)
    cursor = chat.end_cursor() if hasattr(chat, "end_cursor") else None

    def looks():
        return (
            told(chat),
            [turn.seq for turn in chat.tail(5)],
            [turn.seq for turn in chat.turns(after=290)],
            [turn.seq for turn in chat.tail(3, roles=["user"])],
            chat.tail(1000).damaged,
            chat.describe(count=True).as_dict(),
            chat.exists(),
            [each.continuation_id for each in archive.conversations()],
        )

    before = looks()
    assert before[0][-1][-1] == "by hand" and before[4] == 1
    assert chat.compress().is_done
    assert looks() == before
    assert chat.path == str(zst(log))
    assert [turn.seq for turn in half][:1] == [151], "a reading that goes on while it is compressed"
    assert cursor is None or chat.end_cursor() == cursor


def test_the_end_of_a_compressed_conversation_is_read_without_its_beginning(packed, monkeypatch):
    """The last turns of a gigabyte are a matter of milliseconds."""
    chat, _ = packed
    unpacked = []
    unpack = cold_file.ColdFile.unpack

    def noting(self, part):
        unpacked.append(part.start)
        return unpack(self, part)

    monkeypatch.setattr(cold_file.ColdFile, "unpack", noting)
    assert [turn.seq for turn in chat.tail(3)] == [298, 299, 300]
    assert len(unpacked) == 1
    list(chat.turns())
    assert len(unpacked) > 10 and unpacked[1:] == sorted(unpacked[1:], reverse=True)


def test_a_batch_that_lies_in_two_parts_is_one(archive, monkeypatch):
    """Parts end where lines end, not where batches do."""
    monkeypatch.setattr(cold_pack, "PART_BYTES", 1000)
    chat = archive.conversation("trip")
    for at in range(10):
        chat.record_many(
            [{"role": "user", "content": "x" * 300, "id": f"{at}.{nth}"} for nth in range(7)]
        )
    before = told(chat)
    chat.compress()
    found = chat.tail(100)
    assert [turn.id for turn in found] == [each[0] for each in before]
    assert found.damaged == 0
    assert told(chat) == before


def test_it_reads_where_nothing_can_be_written(packed, monkeypatch):
    """An archive on a read-only disk, or a full one, is still an archive."""
    chat, plain = packed
    assert len(plain) > 100_000
    monkeypatch.setattr(cold_read, "_IN_MEMORY_BYTES", 0)
    before = told(chat)
    real = os.open

    def read_only(path, flags, *rest, **more):
        if flags & os.O_TMPFILE == os.O_TMPFILE and path == ".":
            raise OSError(30, "Read-only file system")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", read_only)
    assert told(chat) == before


def test_readers_leave_nothing_behind_and_change_nothing(packed, root, monkeypatch):
    """Who reads does not write."""
    chat, _ = packed
    monkeypatch.setattr(cold_read, "_IN_MEMORY_BYTES", 0)

    def state():
        folder = Path(root, "default")
        return {each.name: each.stat().st_mtime_ns for each in (folder, *folder.iterdir())}

    before, open_before = state(), len(os.listdir("/proc/self/fd"))
    list(chat.turns())
    chat.tail(3)
    for _ in chat.turns():
        break
    assert state() == before
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_a_conversation_with_a_long_id_is_compressed_like_any_other(archive, root):
    """Its file's name is a hash."""
    chat = archive.conversation(LONG)
    fill(chat)
    before = told(chat)
    assert chat.compress().is_done and chat.path.endswith(".jsonl.zst")
    assert [each.continuation_id for each in archive.conversations()] == [LONG]
    assert told(chat) == before
    chat.record("user", "on")
    assert len(told(chat)) == 301


# --- thawing -----------------------------------------------------------------------------------


def test_an_append_thaws_and_what_was_there_is_there_byte_for_byte(packed, log):
    """The next turn comes when nobody expects it any more."""
    chat, plain = packed
    assert chat.record("user", "are you still there?").seq == 301
    data = log().read_bytes()
    assert data[: len(plain)] == plain and data.count(b"\n") == 301
    assert not zst(log).exists()


def test_a_retry_of_a_turn_that_lies_compressed_is_stored_once(packed, root):
    """A client that was offline for months retries its last turn."""
    chat, _ = packed
    content = list(chat.turns())[-1].content
    with Archive.open(root, durability="none") as other:  # which has not seen any of it
        assert other.conversation("trip").record("assistant", content, id="t299").seq == 300
    chat.compress()
    with pytest.raises(TurnConflict):
        chat.record("assistant", "something else", id="t299")
    assert len(told(chat)) == 300


def test_a_writer_that_had_the_plain_log_open_appends_to_the_thawed_one(archive, log):
    """Servers keep logs open for days; what they have open is no file any more."""
    chat = archive.conversation("trip")
    fill(chat)
    chat.record("user", "open")
    for nth in range(3):
        assert chat.compress().is_done
        assert chat.record("user", f"again {nth}", id=f"again{nth}").seq == 302 + nth
        assert chat.record("user", f"again {nth}", id=f"again{nth}").seq == 302 + nth
    assert len(log().read_bytes().splitlines()) == 304


def test_a_compaction_thaws_only_what_it_shortens(packed, log):
    """A policy that runs every night must not unpack the whole archive every night."""
    chat, plain = packed
    packed_bytes = zst(log).read_bytes()
    assert chat.compact(RetentionPolicy(keep_last=300)).dropped == 0
    assert zst(log).read_bytes() == packed_bytes and not log().exists()
    report = chat.compact(RetentionPolicy(keep_last=10))
    assert report.dropped == 290
    assert log().read_bytes() == b"".join(plain.splitlines(keepends=True)[-10:])
    assert not zst(log).exists()


def test_uncompress_gives_the_plain_log_back_and_can_be_tried_first(packed, log):
    """Whoever wants to use grep again."""
    chat, plain = packed
    size = zst(log).stat().st_size
    report = chat.uncompress(dry_run=True)
    assert (report.outcome, report.bytes_before, report.bytes_after) == (
        "uncompressed",
        size,
        len(plain),
    )
    assert not log().exists()
    assert chat.uncompress().is_done
    assert log().read_bytes() == plain
    assert chat.uncompress().outcome == "not_compressed"


# --- followers ---------------------------------------------------------------------------------


def test_a_follower_reads_a_compressed_log_and_goes_on_when_it_thaws(packed):
    """`tail -f` on a conversation of last year."""
    chat, _ = packed
    following = chat.follow()
    seen = [next(following).seq for _ in range(300)]
    threading.Timer(0.05, chat.record, ("user", "on")).start()
    seen.append(next(following).seq)
    assert seen == list(range(1, 302))
    assert following.diverged == 0
    following.close()


def test_a_follower_does_not_notice_that_the_log_is_compressed_and_thaws(archive, monkeypatch):
    """It was at the end, and there it stays; nothing is unpacked for it."""
    chat = archive.conversation("trip")
    fill(chat, 60)
    following = chat.follow(idle_timeout=0.3)
    assert [turn.seq for turn in following] == list(range(1, 61))
    cursor = str(following.cursor)
    following = chat.follow(after=cursor, idle_timeout=0.6)
    following.attach()
    with monkeypatch.context() as patch:
        patch.setattr(cold_read.Unpacked, "fill", None)
        chat.compress()
        assert list(following) == []
    chat.record("user", "on")
    chat.compress()
    chat.record("user", "and on")
    following = chat.follow(after=cursor, idle_timeout=0.3)
    assert [turn.seq for turn in following] == [61, 62]
    assert following.diverged == 0


def test_a_follower_misses_nothing_that_was_thawed_appended_and_compressed_between_two_looks(
    archive,
):
    """A follower looks four times a second; much can happen in between."""
    chat = archive.conversation("trip")
    fill(chat, 60)
    following = chat.follow(idle_timeout=0.5)
    seen = [next(following).seq for _ in range(60)]
    for nth in range(3):
        chat.record("user", f"on {nth}")
        assert chat.compress().is_done
    seen += [turn.seq for turn in following]
    assert seen == list(range(1, 64))
    assert following.diverged == 0


def test_a_follower_takes_no_new_file_for_the_compressed_one_that_is_gone(archive, log):
    """File systems give the number of a file that was removed to the next one that is made."""
    chat = archive.conversation("trip")
    fill(chat, 60)
    following = chat.follow()
    seen = [next(following).seq for _ in range(60)]
    chat.compress()
    next(following._follower.look(), None)
    number = zst(log).stat().st_ino
    chat.compact(RetentionPolicy(keep_last=10))
    for nth in range(50):  # until some file would get it
        (log().parent / f"made-{nth}.txt").touch()
    chat.record("user", "on")
    made = [each.stat().st_ino for each in log().parent.iterdir()]
    assert number not in made, "while somebody follows it, its number is taken"
    seen.append(next(following).seq)
    assert seen == list(range(1, 62))
    following.close()


# --- when nothing is done ----------------------------------------------------------------------


def test_only_what_is_idle_is_compressed(archive, log):
    """What was used yesterday will be used tomorrow."""
    chat = archive.conversation("trip")
    fill(chat)
    now = datetime.now(UTC)
    assert chat.compress(idle=timedelta(days=90), now=now).outcome == "recent"
    assert chat.compress(idle=90 * 86400, now=now + timedelta(days=89)).outcome == "recent"
    assert log().exists()
    assert chat.compress(idle=timedelta(days=90), now=now + timedelta(days=91)).is_done
    assert chat.compress(now=now).outcome == "already_compressed"


def test_what_would_take_as_much_room_stays_plain(archive, root):
    """Disks give room by the block: most conversations are short."""
    chat = archive.conversation("trip")
    chat.record("user", "hello")
    assert chat.compress().outcome == "small"
    chance = random.Random(3)
    chat.record("user", "".join(chr(chance.randrange(0x30, 0x5B)) for _ in range(7500)))
    assert chat.compress().outcome == "small"
    assert os.listdir(Path(root, "default")) in (
        ["trip.jsonl", ".locks"],
        [".locks", "trip.jsonl"],
    )


def test_a_trial_run_says_exactly_what_the_run_then_does(archive, root, log):
    """Measured, not estimated; and nothing is touched."""
    chat = archive.conversation("trip")
    fill(chat)
    before = sorted(os.listdir(Path(root, "default"))), log().stat()
    tried = chat.compress(dry_run=True)
    assert (sorted(os.listdir(Path(root, "default"))), log().stat()) == before
    done = chat.compress()
    assert (tried.outcome, tried.bytes_before, tried.bytes_after) == (
        done.outcome,
        done.bytes_before,
        done.bytes_after,
    )
    assert zst(log).stat().st_size == done.bytes_after


def test_what_is_not_there_is_not_made(archive, root):
    """A slip of the pen makes no conversation."""
    archive.conversation("trip").record("user", "hello")
    for act in ("compress", "uncompress"):
        for name in ("tirp", LONG):
            with pytest.raises(ConversationNotFound):
                getattr(archive.conversation(name), act)()
    assert not Path(root, "default", ".ids").exists()
    assert [each.continuation_id for each in archive.conversations()] == ["trip"]


def test_a_log_that_somebody_writes_to_meanwhile_stays_plain(root, log):
    """The turn was answered: it must be where the next reader looks."""

    class Writing(Observer):
        def advanced(self, task, amount):
            with Archive.open(root, durability="none") as other:
                other.conversation("trip").record("user", "meanwhile")

    with Archive.open(root, durability="none", observer=Writing()) as archive:
        chat = archive.conversation("trip")
        fill(chat)
        assert chat.compress().outcome == "changed"
        assert list(chat.turns())[-1].content == "meanwhile"
        assert [each for each in os.listdir(log().parent) if "tmp" in each or "zst" in each] == []


@pytest.mark.parametrize("act", ["compress", "uncompress"])
def test_a_log_that_thaws_between_two_looks_is_not_taken_for_gone(act, packed, monkeypatch, root):
    """At no moment neither file is there; but no look sees both names at once."""
    chat, _ = packed
    real = cold.size_of
    looks = []

    def looking(folder, name):
        found = real(folder, name)
        looks.append(name)
        if len(looks) == 1:
            with Archive.open(root, durability="none") as other:
                other.conversation("trip").record("user", "on")
        return found

    monkeypatch.setattr(cold, "size_of", looking)
    assert getattr(chat, act)().outcome in ("compressed", "not_compressed")
    assert looks[:2] == ["trip.jsonl", "trip.jsonl.zst"]
    assert len(told(chat)) == 301


# --- what was written is not what was read -----------------------------------------------------


@pytest.mark.parametrize("harm", ["flip", "cut", "nothing written"])
def test_the_plain_log_stays_if_the_compressed_one_does_not_read_back(
    harm, archive, log, monkeypatch
):
    """Disks lie, and memory flips; a compressor may have a fault of its own."""
    chat = archive.conversation("trip")
    fill(chat)
    plain = log().read_bytes()
    real = cold_compress.write_all

    def harmed(fd, data):
        if len(data) > 1000:
            middle = len(data) // 2
            flipped = data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]
            data = {"flip": flipped, "cut": data[:-1], "nothing written": b""}[harm]
        real(fd, data)

    monkeypatch.setattr(cold_compress, "write_all", harmed)
    with pytest.raises(CorruptLog):
        chat.compress()
    assert log().read_bytes() == plain
    assert sorted(os.listdir(log().parent)) == [".locks", "trip.jsonl"]


def test_without_reading_back_the_same_harm_would_lose_turns(archive, log, monkeypatch):
    """The control of the test before: it is the reading back that saves them."""
    chat = archive.conversation("trip")
    fill(chat)
    real = cold_compress.write_all
    monkeypatch.setattr(
        cold_compress, "write_all", lambda fd, data: real(fd, data if len(data) < 999 else b"")
    )
    monkeypatch.setattr(cold_compress._Compression, "_read_back", lambda self, fd: None)
    assert chat.compress().is_done
    assert len(told(chat)) < 300


# --- both are there ----------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["compact", "compress", "uncompress", "record"])
def test_where_both_are_there_the_plain_log_is_the_truth(act, packed, log):
    """A crash came between the two steps, and turns were recorded since."""
    chat, _ = packed
    stale = zst(log).read_bytes()
    chat.record("user", "newer")
    zst(log).write_bytes(stale)
    before = told(chat)
    assert before[-1][-1] == "newer"
    assert chat.path == str(log())
    if act == "compact":
        chat.compact(RetentionPolicy(keep_last=5))
        before = before[-5:]
    elif act == "record":
        chat.record("user", "newest")
        before = told(chat)
        assert len(before) == 302
    else:
        getattr(chat, act)()
    assert told(chat) == before
    if act != "record":
        assert log().exists() != zst(log).exists()


def test_a_conversation_is_listed_once_where_both_are_there(packed, archive, log):
    """It is one."""
    chat, _ = packed
    data = zst(log).read_bytes()
    chat.record("user", "newer")
    zst(log).write_bytes(data)
    assert [each.continuation_id for each in archive.conversations()] == ["trip"]


# --- damage ------------------------------------------------------------------------------------


def test_a_flipped_bit_harms_one_part_and_is_never_taken_for_a_turn(packed, archive, root, log):
    """Cold files lie for years on disks that rot."""
    chat, plain = packed
    before = told(chat)
    good = zst(log).read_bytes()
    archive.conversation("other").record("user", "unharmed")
    chance = random.Random(1)
    places = [chance.randrange(len(good)) for _ in range(150)]
    places += range(len(good) - 400, len(good), 3)  # facts and table
    quarantine = log().parent / ".quarantine"
    outcomes = set()
    for place in places:
        bad = bytearray(good)
        bad[place] ^= 1 << chance.randrange(8)
        zst(log).write_bytes(bad)
        found = chat.tail(1000)
        there = [(turn.id, turn.seq, turn.ts, turn.role, turn.content) for turn in found]
        assert [each for each in before if each in there] == there
        assert len(there) > 250
        assert found.damaged == (len(there) < len(before)) or place > len(good) - 9000
        assert told(chat) == there
        # The next turn comes; a process that has not seen the log has only the file to go by.
        with Archive.open(root, durability="none", observer=Observer()) as other:
            assert other.conversation("trip").record("user", "on").seq == 301
        assert not zst(log).exists()
        kept = [each.read_bytes() for each in quarantine.iterdir()] if quarantine.exists() else []
        if kept:
            assert kept == [bytes(bad)]
            shutil.rmtree(quarantine)
            after = told(chat)[:-1]
            assert [each for each in before if each in after] == after
            assert [each for each in there if each not in after] == []
            # It may be told, too, of what seems to have been a part and was none.
            assert chat.tail(1000).damaged or len(after) == len(before)
            outcomes.add("a part is missing" if len(after) < len(before) else "only the end")
        else:
            assert log().read_bytes()[: len(plain)] == plain
            outcomes.add("whole")
        log().unlink()
    assert outcomes >= {"only the end", "a part is missing"}
    assert archive.conversation("other").tail(1)[0].content == "unharmed"


def test_a_file_that_was_cut_short_is_read_as_far_as_it_goes(packed, archive, log):
    """A copy that was interrupted: `zstd -dc` gives its beginning, and so do we."""
    chat, _ = packed
    archive.conversation("other").record("user", "unharmed")
    before = told(chat)
    good = zst(log).read_bytes()
    for size in [0, 1, 8, 100, len(good) // 2, *range(len(good) - 300, len(good), 7)]:
        bad = good[:size]
        zst(log).write_bytes(bad)
        there = told(chat)
        assert there == before[: len(there)] and len(there) >= min(300, size * 280 // len(good))
        found = chat.tail(3)
        assert [turn.seq for turn in found] == [each[1] for each in there[-3:]]
        assert found.damaged == 1
        assert chat.describe().last_seq == (300 if size > len(good) - 300 else len(there))
        with pytest.raises(CorruptLog, match="its end is missing") as caught:
            chat.uncompress()
        assert caught.value.hint.endswith("convmem compress --undo --damaged trip")
        assert {each.continuation_id for each in archive.conversations()} == {"trip", "other"}
        assert zst(log).read_bytes() == bad and not log().exists()


@pytest.mark.parametrize("size", [0, 1, 100, 0.3, 0.9, -1])
def test_an_append_to_a_file_that_was_cut_short_goes_on_with_what_is_left(size, packed, root, log):
    """A damaged file stops nobody who has something to say, and stays for whoever can mend it."""
    chat, _ = packed
    before = told(chat)
    good = zst(log).read_bytes()
    bad = good[: int(size * len(good)) if isinstance(size, float) else size]
    zst(log).write_bytes(bad)
    healed = []

    class Watching(Observer):
        def healed(self, continuation_id, quarantined):
            healed.append((continuation_id, quarantined))

    with Archive.open(root, durability="none", observer=Watching()) as other:
        turn = other.conversation("trip").record("user", "are you still there?")
        again = other.conversation("trip").record("user", "again")
        assert again.seq == turn.seq + 1
    assert len(healed) == 1 and healed[0][0] == "trip", "and no torn end is left to heal"
    assert Path(root, "default", ".quarantine", healed[0][1]).read_bytes() == bad
    assert not zst(log).exists()
    found = chat.tail(1000)
    there = [(each.id, each.seq, each.ts, each.role, each.content) for each in found]
    assert [each[1] for each in there[-2:]] == [turn.seq, again.seq]
    assert there[:-2] == before[: len(there) - 2]
    assert found.damaged == (size != -1)  # there, only convmem's own notes were cut
    if size == -1:
        assert turn.seq == 301
    else:
        assert turn.seq >= len(there) - 1
    assert chat.record("user", "on").seq >= 301, "who knows better goes on behind what it knows"


@pytest.mark.parametrize("seen_by", ["list", "writer", "line"])
def test_no_seq_is_given_out_again_where_somebody_knows_the_last_one(
    seen_by, packed, archive, root, log
):
    """Whoever has turn 300 must not get another turn 300."""
    chat, plain = packed
    bad = zst(log).read_bytes()[:3000]
    if seen_by == "list":  # the one that was made when the log was whole
        folder = Folder.open(os.path.join(root, "default"))
        facts.remember(folder, facts.facts_of(folder, failed=None, observer=Observer()))
        zst(log).write_bytes(bad)
        # What a list looks at in between takes nothing away from what is known.
        assert [row.last_seq for row in archive.overview()] == [300]
        facts.remember(folder, facts.facts_of(folder, failed=None, observer=Observer()))
    elif seen_by == "line":  # the damaged one of the newest turn
        lines = plain.splitlines(keepends=True)
        harmed = lines[-1].replace(b"content", b"c0ntent")
        zst(log).write_bytes(library().compress(lines[0]) + library().compress(harmed))
    else:
        chat.uncompress()
        chat.record("user", "the last one")
        chat.compress()
        zst(log).write_bytes(bad)
        assert chat.record("user", "on").seq == 302
        return
    with Archive.open(root, durability="none", observer=Observer()) as other:
        assert other.conversation("trip").record("user", "on").seq == 301


def test_turns_of_a_batch_that_lost_its_end_are_still_there(archive, log, monkeypatch):
    """They were answered: what a crash tears in a plain log never was."""
    monkeypatch.setattr(cold_pack, "PART_BYTES", 2000)
    chat = archive.conversation("trip")
    for at in range(8):
        chat.record_many(
            [
                {"role": "user", "content": f"{os.urandom(150).hex()}", "id": f"{at}.{nth}"}
                for nth in range(25)
            ]
        )
    before = told(chat)
    good = log().read_bytes()
    chat.compress()
    packed = zst(log).read_bytes()
    for bad in (packed[: len(packed) // 2 + 700], packed[:9000] + packed[16000:]):
        zst(log).write_bytes(bad)
        there = told(chat)
        assert len(there) >= 100 and len(there) % 25
        assert [each for each in before if each in there] == there
        assert [turn.id for turn in chat.tail(1000)] == [each[0] for each in there]
        chat.record("user", "on")
        assert told(chat)[:-1] == there
        chat.repair()
        assert told(chat)[:-1] == there
        log().unlink()
    assert good


def test_a_follower_reads_what_is_left_and_goes_on_when_the_next_turn_comes(archive, root, log):
    """`tail -f` ends neither with the damage nor with what mends it."""
    chat = archive.conversation("trip")
    fill(chat)
    chat.compress()
    damage = []

    class Watching(Observer):
        def damaged(self, continuation_id, found):
            damage.append(found.reason)

    with Archive.open(root, durability="none", observer=Watching()) as other:
        zst(log).write_bytes(zst(log).read_bytes()[:-1])
        following = other.conversation("trip").follow(idle_timeout=2)
        assert [next(following).seq for _ in range(300)] == list(range(1, 301))
        threading.Timer(0.05, chat.record, ("user", "on")).start()
        assert next(following).seq == 301
        assert following.diverged == 0
        following.close()
    assert damage == ["the end of the compressed file, convmem's own notes, is damaged"]


def test_a_list_and_the_figures_show_a_damaged_one_with_what_is_known(packed, archive, log):
    """One bad file in ten thousand must not end the list in an error."""
    assert packed
    archive.conversation("other").record("user", "unharmed")
    zst(log).write_bytes(zst(log).read_bytes()[:5000])
    for count in (False, True):
        rows = {row.continuation_id: row for row in archive.overview(count=count)}
        assert set(rows) == {"trip", "other"}
        assert (rows["trip"].bytes, rows["trip"].is_compressed) == (5000, True)
        assert rows["trip"].turns is None
    stats = archive.stats()
    assert (stats.conversations, stats.damaged, stats.damaged_ids) == (2, 1, ["trip"])
    check = {each.name: each for each in archive.health().checks}["damage"]
    assert check.status == "degraded"
    assert "without its end in trip" in check.message
    assert "of 1 compressed only the ends were read" in check.message


def test_a_check_says_which_parts_do_not_unpack(packed, archive, log):
    """It is not the lines that are damaged, and it is not repair that would bring them back."""
    chat, _ = packed
    assert not chat.verify().found
    good = zst(log).read_bytes()
    middle = len(good) // 2
    with cold_file.ColdFile(Folder.open(str(log().parent)), zst(log).name) as file:
        part = file.parts[3]
    checksum = part.at + part.size - 1  # the last byte of it
    for bad in (
        good[:middle] + b"xxxx" + good[middle + 4 :],
        good[:middle],
        good[:-1],
        good[:checksum] + bytes([good[checksum] ^ 1]) + good[checksum + 1 :],
    ):
        zst(log).write_bytes(bad)
        report = chat.verify()
        assert report.found == {"not_unpacked": 1}
        assert "compressed file" in report.findings[0].words
        assert sum(report.bytes.values()) == report.size
        assert report.bytes["nul"] == 0
        assert (report.turns == 300) == (bad == good[:-1] or bad[checksum] != good[checksum])
        assert zst(log).read_bytes() == bad and not log().exists()


@pytest.mark.parametrize("harm", ["end", "part"])
def test_repair_of_a_damaged_one_does_what_its_trial_run_says(harm, packed, archive, root, log):
    """One word brings a conversation in order, however it lies on the disk."""
    chat, _ = packed
    before = told(chat)
    good = zst(log).read_bytes()
    middle = len(good) // 2
    bad = good[:-9] if harm == "end" else good[:middle] + b"xxxx" + good[middle + 4 :]
    zst(log).write_bytes(bad)
    tried = chat.repair(dry_run=True)
    assert zst(log).read_bytes() == bad and not log().exists()
    done = chat.repair()
    assert done.is_salvaged and done.is_changed
    assert Path(root, "default", ".quarantine", done.compressed).read_bytes() == bad
    told_tried, told_done = dataclasses.asdict(tried), dataclasses.asdict(done)
    assert told_tried.pop("dry_run") and not told_done.pop("dry_run")
    for name in ("quarantine", "compressed"):
        told_tried.pop(name), told_done.pop(name)
    assert told_tried == told_done
    assert log().stat().st_size == done.bytes_after
    assert not chat.verify().found
    after = told(chat)
    assert [each for each in before if each in after] == after
    assert (after == before) == (harm == "end")
    assert not chat.repair().is_changed
    assert chat.record("user", "on").seq == 301


@pytest.mark.parametrize("act", ["delete", "compact", "restore"])
def test_what_else_is_done_to_a_damaged_one_works_too(act, packed, archive, root, log):
    """Whoever wants to be rid of it must not have to repair it first."""
    chat, _ = packed
    if act == "restore":
        chat.compact(RetentionPolicy(keep_last=200))
        chat.compress()
    bad = zst(log).read_bytes()[:-5]
    zst(log).write_bytes(bad)
    if act == "delete":
        assert chat.delete().bytes
        assert not chat.exists()
        chat.restore()
    elif act == "compact":
        tried = chat.compact(RetentionPolicy(keep_last=10), dry_run=True)
        done = chat.compact(RetentionPolicy(keep_last=10))
        assert (tried.kept, tried.dropped) == (done.kept, done.dropped) == (10, 290)
    else:
        chat.restore()
    assert [turn.seq for turn in chat.turns()] == list(range(291 if act == "compact" else 1, 301))
    kept = [each.read_bytes() for each in Path(root, "default", ".quarantine").glob("*.zst")]
    assert kept == [bad]
    assert not zst(log).exists()


def test_what_is_thawed_between_two_looks_is_neither_missing_nor_an_error(
    packed, archive, log, monkeypatch
):
    """The list is made while others record."""
    chat, plain = packed
    archive.conversation("other").record("user", "hello")
    opening = cold_file.ColdFile.__init__
    thawing = []

    def late(self, folder, file_name):
        if not thawing:
            thawing.append(file_name)
            chat.record("user", "on")
        opening(self, folder, file_name)

    monkeypatch.setattr(cold_file.ColdFile, "__init__", late)
    rows = {row.continuation_id: row for row in archive.overview(count=True)}
    assert thawing and set(rows) == {"trip", "other"}
    assert (rows["trip"].turns, rows["trip"].is_compressed) == (301, False)
    chat.compress()
    thawing.clear()
    report = chat.uncompress(dry_run=True)
    assert thawing and report.outcome == "not_compressed" and report.bytes_before > len(plain)


def _with_parts(log, parts, *, plain_bytes=None, turns=1):
    """Write a compressed log of (bytes, what the table says they unpack to)."""
    out = bytearray()
    packer = cold_pack.Packer(out.extend)
    for data, stated in parts:
        packer._put(data)
        packer._table += cold_file.ENTRY.pack(len(data), stated)
    size = sum(stated for _, stated in parts) if plain_bytes is None else plain_bytes
    nothing = {"first_ts": None, "last_ts": None, "title": "", "counts": []}
    packer.finish({"bytes": size, "last_seq": 1, "turns": turns, **nothing})
    zst(log).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    zst(log).write_bytes(out)


def test_a_part_that_expands_without_end_is_stopped_where_it_should_have(archive, log):
    """A planted file of some kB must not fill the memory or the disk."""
    archive.conversation("other").record("user", "unharmed")
    bomb = library().compress(bytes(200 << 20))
    assert len(bomb) < 20_000
    _with_parts(log, [(bomb, 1000)])
    chat = archive.conversation("trip")
    with Path("/proc/self/statm").open() as statm:
        before = int(statm.read().split()[0])
    assert list(chat.turns()) == []
    found = chat.tail(5)
    assert found == [] and found.damaged == 1
    assert chat.record("user", "on").seq == 2
    assert log().stat().st_size < 1000
    with Path("/proc/self/statm").open() as statm:
        assert (int(statm.read().split()[0]) - before) * 4096 < 50 << 20


def test_a_log_that_has_no_room_when_unpacked_is_refused_before_it_is(archive, log):
    """The size is known before a byte is written."""
    archive.conversation("other").record("user", "unharmed")
    part = library().compress(bytes(1 << 20))
    _with_parts(log, [(part, 0xFFFFFFFF)] * 1000)
    chat = archive.conversation("trip")
    with pytest.raises(StorageFull, match="are free"):
        list(chat.turns())
    with pytest.raises(StorageFull, match="are free"):
        chat.record("user", "on")
    assert zst(log).exists() and not log().exists()


def test_a_table_that_does_not_add_up_is_refused(archive, log):
    """What it says of sizes is what memory and disk are given by."""
    archive.conversation("other").record("user", "unharmed")
    line = b'{"role":"user","content":"by hand"}\n'
    _with_parts(log, [(library().compress(line), len(line))])
    chat = archive.conversation("trip")
    assert [turn.content for turn in chat.turns()] == ["by hand"]
    _with_parts(log, [(library().compress(line), len(line))], plain_bytes=7)
    with pytest.raises(CorruptLog):
        chat.uncompress()
    found = chat.tail(10)
    assert [turn.content for turn in found] == ["by hand"] and found.damaged


def test_zstd_that_somebody_else_made_is_read_and_told_of(archive, log):
    """`zstd oslo-trip.jsonl` by hand: all of it is there, and it says how to take that back."""
    chat = archive.conversation("trip")
    fill(chat, 20)
    zst(log).write_bytes(library().compress(log().read_bytes()))
    log().unlink()
    found = chat.tail(100)
    assert len(found) == 20 and found.damaged == 1
    with pytest.raises(CorruptLog, match="or convmem did not write it") as caught:
        chat.uncompress()
    assert "--undo --damaged" in caught.value.hint
    assert chat.record("user", "on").seq == 21
    assert chat.tail(100).damaged == 0


def test_a_link_in_the_place_of_a_compressed_log_is_not_followed(archive, log, tmp_path):
    """Whoever can write there must not make us read elsewhere."""
    archive.conversation("other").record("user", "hello")
    (tmp_path / "elsewhere").write_bytes(b"x")
    zst(log).symlink_to(tmp_path / "elsewhere")
    chat = archive.conversation("trip")
    with pytest.raises(StorageDenied):
        chat.tail(1)
    with pytest.raises(StorageDenied):
        chat.record("user", "on")


# --- saving what is left -----------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["flips", "cut", "middle gone", "table gone", "start gone"])
def test_what_is_left_of_a_damaged_one_is_saved_and_the_file_kept(harm, packed, root, log):
    """Whoever has no backup wants every turn that can be had, and none that is not true."""
    chat, _ = packed
    before = told(chat)
    good = zst(log).read_bytes()
    middle = len(good) // 2
    bad = {
        "flips": bytes(byte ^ (at % 9001 == 9000) for at, byte in enumerate(good)),
        "cut": good[:middle],
        "middle gone": good[: middle - 2000] + good[middle + 2000 :],
        "table gone": good[:-20],
        "start gone": good[50:],
    }[harm]
    zst(log).write_bytes(bad)
    with pytest.raises(CorruptLog):
        chat.uncompress()
    tried = chat.uncompress(even_damaged=True, dry_run=True)
    assert zst(log).read_bytes() == bad and not log().exists()
    report = chat.uncompress(even_damaged=True)
    assert (tried.outcome, tried.bytes_after) == (report.outcome, report.bytes_after)
    assert report.outcome == "salvaged" and report.is_done
    assert Path(root, "default", ".quarantine", report.quarantine).read_bytes() == bad
    assert not zst(log).exists()
    found = chat.tail(1000)
    there = [(turn.id, turn.seq, turn.ts, turn.role, turn.content) for turn in found]
    assert [each for each in before if each in there] == there
    least = {"flips": 30, "cut": 140, "middle gone": 270, "table gone": 300, "start gone": 280}
    assert len(there) >= least[harm]
    assert (found.damaged > 0) == (harm != "table gone")
    seq = chat.record("user", "on").seq
    assert seq == 301 or (harm == "cut" and seq > 140)


def test_saving_writes_nothing_that_cannot_be_told_from_damage(archive, log, monkeypatch):
    """A line by hand has no seal: of a part that is damaged it may not be believed."""
    archive.conversation("other").record("user", "unharmed")
    lines = [b'{"role":"user","content":"by hand %d"}\n' % nth for nth in range(100)]
    setting = library().CompressionParameter
    part = library().compress(b"".join(lines), options={setting.checksum_flag: 1})
    bad = part[:-4] + bytes(4)  # another checksum
    size = len(b"".join(lines))
    _with_parts(log, [(part, size), (bad, size)])
    chat = archive.conversation("trip")
    assert chat.uncompress(even_damaged=True).outcome == "salvaged"
    found = chat.tail(1000)
    assert [turn.content for turn in found] == [f"by hand {nth}" for nth in range(100)]
    assert found.damaged == 1


def test_saving_one_that_is_whole_is_what_undoing_is(packed, log):
    """The flag alone harms nothing; and what somebody else has compressed comes back by it."""
    chat, plain = packed
    assert chat.uncompress(even_damaged=True).outcome == "uncompressed"
    assert log().read_bytes() == plain
    zst(log).write_bytes(library().compress(plain))
    log().unlink()
    assert chat.uncompress(even_damaged=True).outcome == "salvaged"
    assert log().read_bytes() == plain


# --- without zstd ------------------------------------------------------------------------------


@pytest.fixture
def without_zstd(monkeypatch):
    def missing(name):
        if name.endswith("zstd"):
            raise ImportError(name)
        return importlib.import_module(name)

    monkeypatch.setattr(cold_file, "_library", None)
    monkeypatch.setattr(cold_file, "import_module", missing)


def test_without_zstd_it_says_what_to_install_and_all_else_works(
    packed, archive, log, without_zstd
):
    """It is an extra: most archives need none."""
    chat, _ = packed
    other = archive.conversation("other")
    fill(other)
    for act in (
        lambda: chat.tail(1),
        lambda: list(chat.turns()),
        lambda: chat.record("user", "on"),
        lambda: next(chat.follow()),
        other.compress,
    ):
        with pytest.raises(UsageError, match="zstd") as caught:
            act()
        assert "pip install 'convmem[zstd]'" in caught.value.hint
    assert zst(log).exists() and not log().exists()
    assert chat.exists() and chat.describe(count=True).turns == 300
    assert len(told(other)) == 300
    assert {each.continuation_id for each in archive.conversations()} == {"trip", "other"}


def test_a_command_that_meets_no_compressed_log_loads_nothing_of_it(archive, root):
    """Recording is what happens a thousand times a day."""
    archive.conversation("trip").record("user", "hello")
    look = (
        "import sys; from convmem import Archive\n"
        f"archive = Archive.open({root!r})\n"
        "archive.conversation('new').record('user', 'first')\n"
        "archive.conversation('trip').tail(1)\n"
        "print([name for name in sys.modules if 'cold' in name or 'zstd' in name])"
    )
    done = subprocess.run([sys.executable, "-c", look], stdout=subprocess.PIPE, check=True)
    assert done.stdout.strip() == b"[]"
