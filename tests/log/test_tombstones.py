"""What was imported and then removed stays away: importing repeats itself, perhaps for years."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import tracemalloc
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convmem import Archive, Durability, RetentionPolicy, StorageFull
from convmem.log import files, heal
from convmem.log.files import Folder
from convmem.log.removing import removal, tombstones
from convmem.stores.health import HEALTHY
from convmem.stores.values import Group
from convmem.turns import draft_of

LAST = RetentionPolicy(keep_last=1)
ALL = tuple(f"u{at}" for at in range(6))


def imported(turn_id: str, **more: object) -> dict[str, object]:
    return {
        "role": "user",
        "content": f"said in {turn_id}",
        "id": turn_id,
        "meta": {"source": "claude-code", **more},
        "raw": {"uuid": turn_id},
    }


@pytest.fixture
def trip(archive):
    """A conversation of six imported turns."""
    chat = archive.conversation("trip")
    for turn_id in ALL:
        chat.record_many([imported(turn_id)])
    return chat


@pytest.fixture
def folder(tmp_path):
    opened = Folder.open(str(tmp_path / "namespace"), create=True)
    yield opened
    opened.close()


def bury(folder, *ids, name="trip"):
    tombstones.bury(folder, name, ids, timeout_seconds=5)


def kept(folder, name="trip"):
    return Path(folder.path, tombstones.FOLDER, name)


# --- what is buried ----------------------------------------------------------------------------


@pytest.mark.parametrize("discard", [False, True])
def test_what_a_policy_drops_of_an_import_stays_away(trip, discard):
    """Else the next import, a quarter of an hour later, undoes what the policy did."""
    assert trip.buried(ALL) == set()
    trip.compact(LAST, discard=discard)
    assert trip.buried(ALL) == set(ALL[:5])


def test_what_goes_by_several_compactions_and_a_deletion_all_stays_away(trip):
    """Each adds to what the others have buried."""
    trip.compact(RetentionPolicy(keep_last=4))
    trip.compact(RetentionPolicy(keep_last=2))
    assert trip.buried(ALL) == set(ALL[:4])
    trip.delete()
    assert trip.buried(ALL) == set(ALL)


def test_a_deleted_import_stays_away_when_the_trash_is_purged(archive, trip):
    """It was deleted so that it is gone; purging makes it no less so."""
    trip.delete()
    archive.purge_trash(timedelta(0))
    assert list(archive.trash()) == []
    assert trip.buried(ALL) == set(ALL)


def test_a_compressed_import_that_is_deleted_stays_away(archive):
    """Old conversations lie compressed, and it is the old ones that people delete."""
    chat = archive.conversation("trip")
    ids = [f"u{at}" for at in range(400)]
    chat.record_many([imported(turn_id) for turn_id in ids])
    chat.compress()
    assert chat.path.endswith(".zst")
    chat.delete()
    assert chat.buried(ids) == set(ids)


def test_of_what_was_not_imported_nothing_is_kept(root, archive):
    """Who deletes a conversation and records it anew means it; today's behaviour stays."""
    chat = archive.conversation("trip")
    text = 'they said: ,"raw":1, "meta":{"source":"x"}'
    for at in range(4):
        chat.record("user", text, id=f"n{at}", meta={"source": "web"})
    chat.record("user", "parts", id="n4", raw="without a source")
    chat.compact(LAST)
    chat.delete()
    assert not Path(root, "default", tombstones.FOLDER).exists()
    assert chat.record("user", text, id="n4").seq == 6


def test_turns_of_both_kinds_are_told_apart(archive):
    """One conversation may be imported once, and carried on in convmem."""
    chat = archive.conversation("trip")
    chat.record_many([imported("i0", model="m"), {"role": "user", "content": "x", "id": "n0"}])
    late = {**imported("i1"), "meta": {"kind": "summary", "source": "codex"}, "raw": "text"}
    copied = {"source": "claude-code", "copied": {"from": "rome", "ids": ["a", "b"]}}
    reference = {"role": "event", "content": "", "id": "c0", "meta": copied}
    chat.record_many([late, reference, imported('odd "id" é\n')])
    chat.delete()
    ids = ("i0", "n0", "i1", "c0", 'odd "id" é\n')
    assert chat.buried(ids) == {"i0", "i1", "c0", 'odd "id" é\n'}


def test_a_damaged_line_of_a_deleted_import_stays_away_too(root, trip):
    """It was deleted as much as the others; that its line rotted is no wish to have it back."""
    path = Path(root, "default", "trip.jsonl")
    path.write_bytes(path.read_bytes().replace(b"said in u2", b"said in uX"))
    trip.delete()
    assert trip.buried(ALL) == set(ALL)


def test_a_damaged_line_that_a_compaction_sets_aside_can_be_imported_again(root, trip):
    """That is how the archive gets it back: nobody has removed it."""
    path = Path(root, "default", "trip.jsonl")
    path.write_bytes(path.read_bytes().replace(b"said in u2", b"said in uX"))
    trip.compact(LAST)
    assert trip.buried(ALL) == {"u0", "u1", "u3", "u4"}


def test_imported_turns_written_by_hand_are_buried(root, archive):
    """A log may be put together with a text editor, from lines of another."""
    Path(root, "default").mkdir(mode=0o700, parents=True)
    turn = {"content": "x", "role": "user", "id": "h0", "meta": {"source": "llm"}, "raw": "x"}
    line = json.dumps(turn, separators=(",", ":"))
    Path(root, "default", "trip.jsonl").write_text(f"{line}\n", encoding="utf-8")
    archive.conversation("trip").delete()
    assert archive.conversation("trip").buried(["h0"]) == {"h0"}


# --- coming back -------------------------------------------------------------------------------


def test_what_is_restored_is_there_whatever_is_buried(trip):
    """A tombstone keeps nothing out of the trash's way back, nor does it hide a turn."""
    trip.compact(RetentionPolicy(keep_last=3))
    trip.delete()
    trip.restore()
    assert [turn.id for turn in trip.turns()] == list(ALL)
    assert trip.record_many([imported("u3")])[0].seq == 4


def test_on_demand_it_can_be_imported_again(archive, trip):
    """People change their minds, also about what went a minute ago and is remembered for a day."""
    trip.record("user", "native", id="n0")
    trip.record("user", "the last")
    trip.compact(LAST)
    assert trip.record_many([imported("u1")])[0].seq == 2  # answered, and not stored
    assert trip.unbury() == 6
    assert trip.buried(ALL) == set()
    assert trip.record_many([imported("u1")])[0].seq == 9
    assert trip.record("user", "native", id="n0").seq == 7  # a retry is still one
    assert [turn.text for turn in trip.turns()] == ["the last", "said in u1"]
    assert trip.unbury() == 0


def test_nothing_is_known_of_a_conversation_that_never_was(archive):
    """An import asks before it begins one."""
    for name in ("never", "a long name " * 30):
        chat = archive.conversation(name)
        assert (chat.buried(["x"]), chat.unbury()) == (set(), 0)
    archive.conversation("other").record("user", "x")
    assert archive.conversation("never").buried(["x"]) == set()


def test_a_conversation_with_a_long_name_has_its_own(archive):
    """Its file is called by a hash, as its log is."""
    chat = archive.conversation("a long name " * 30)
    chat.record_many([imported("u0")])
    chat.delete()
    assert chat.buried(["u0", "u1"]) == {"u0"}


# --- in time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["delete", "compact"])
def test_what_cannot_be_buried_stays(root, trip, monkeypatch, kind):
    """A full disk must not make a removal that the next import undoes."""

    def full(inner, *rest):
        if inner.path.endswith(tombstones.FOLDER):
            raise OSError(28, "No space left on device")
        files.write_aside(inner, *rest)

    monkeypatch.setattr(tombstones, "write_aside", full)
    before = Path(root, "default", "trip.jsonl").read_bytes()
    with pytest.raises(StorageFull):
        trip.delete() if kind == "delete" else trip.compact(LAST)
    assert Path(root, "default", "trip.jsonl").read_bytes() == before


def test_what_comes_while_a_deletion_reads_goes_and_stays_away(trip, monkeypatch):
    """It is read without the lock: others may append until the last moment."""
    bury, came = tombstones.bury, []

    def late(*given, **options):
        bury(*given, **options)
        if not came:
            came.append(trip.record_many([imported("late0"), imported("late1")]))

    monkeypatch.setattr(removal.tombstones, "bury", late)
    trip.delete()
    assert came and not trip.exists()
    assert trip.buried([*ALL, "late0", "late1"]) == {*ALL, "late0", "late1"}


def test_a_log_that_is_rewritten_while_a_deletion_reads_is_read_again(root, trip, monkeypatch):
    """What comes back from the trash meanwhile stands before what was read."""
    trip.compact(LAST)
    trip.unbury()
    bury, seen = tombstones.bury, []

    def late(folder, name, ids, **options):
        seen.append(list(ids))
        bury(folder, name, seen[-1], **options)
        if len(seen) == 1:
            trip.restore()

    monkeypatch.setattr(removal.tombstones, "bury", late)
    trip.delete()
    assert seen == [["u5"], list(ALL)]
    assert trip.buried(ALL) == set(ALL)


def test_a_conversation_that_came_to_life_is_not_buried(archive, trip):
    """Who deletes only what is quiet leaves the others to the import as they are."""
    with pytest.raises(removal.StillInUse):
        trip.delete(quiet_since=next(iter(trip.turns())).ts)
    assert trip.buried(ALL) == set()


def put(archive, rows, buried):
    """Append as an import does; raise what went wrong."""
    drafts = [draft_of(row) for row in rows]
    group = Group("default", "trip", drafts, buried)
    (outcome,) = archive._open_store().append_to_many([group], durability=Durability.NONE)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def test_an_import_that_asked_before_a_deletion_writes_nothing_after_it(archive, trip):
    """Else it begins the conversation anew with the very turns that were deleted."""
    asked = trip.buried(ALL)
    trip.delete()
    with pytest.raises(tombstones.BuriedMeanwhile):
        put(archive, map(imported, ALL), asked)
    assert not trip.exists()
    assert trip.buried(ALL) == set(ALL)
    put(archive, [imported("u6")], trip.buried([*ALL, "u6"]))
    assert [turn.id for turn in trip.turns()] == ["u6"]


def test_an_import_that_asked_before_a_compaction_writes_nothing_after_it(root, trip):
    """Also where nothing of what is dropped is remembered for a while."""
    with Archive.open(root, remember_seconds=0) as archive:
        other = archive.conversation("trip")
        other.compact(RetentionPolicy(keep_last=4))
        asked = trip.buried(ALL)
        other.compact(LAST)
        with pytest.raises(tombstones.BuriedMeanwhile):
            put(archive, map(imported, ALL), asked)
        assert [turn.id for turn in trip.turns()] == ["u5"]


_IMPORTER = """
import sys
from convmem import Archive
from test_tombstones import imported, put, tombstones
with Archive.open(sys.argv[1], durability="none") as archive:
    chat = archive.conversation("trip")
    print("begun", flush=True)
    for at in range(0, 3000, 3):
        ids = [f"u{each}" for each in range(max(0, at - 30), at + 3)]
        while True:
            asked = chat.buried(ids)
            try:
                fresh = [imported(each) for each in ids if each not in asked]
                put(archive, fresh, asked if sys.argv[2] == "checked" else None)
                break
            except tombstones.BuriedMeanwhile:
                continue
"""


def stored_while_deleted(root, archive, how):
    """Import 3,000 turns in small steps and delete again and again; return all that was stored."""
    chat = archive.conversation("trip")
    command = [sys.executable, "-c", _IMPORTER, root, how]
    folder = Path(__file__).parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder) as importer:
        assert importer.stdout is not None
        assert importer.stdout.readline() == b"begun\n"
        while importer.poll() is None:
            if chat.exists():
                chat.delete()
    assert importer.returncode == 0
    if chat.exists():
        chat.delete()
    logs = list(Path(root, "default", ".trash").glob("trip.*.log"))
    assert len(logs) > 3
    return [json.loads(line)["id"] for log in logs for line in log.read_bytes().splitlines()]


def test_whatever_is_deleted_while_an_import_goes_on_stays_away(root, archive):
    """A cron job imports whenever it likes, and people delete whenever they like."""
    stored = stored_while_deleted(root, archive, "checked")
    assert len(stored) == len(set(stored)) == 3000


def test_an_import_that_does_not_look_again_is_noticed(root, archive):
    """What cannot fail proves nothing: the control of the test above."""
    stored = stored_while_deleted(root, archive, "not checked")
    assert len(stored) > len(set(stored)) == 3000


_BURIER = """
import sys
from convmem.log.files import Folder
from convmem.log.removing import tombstones
folder = Folder.open(sys.argv[1])
for at in range(40):
    ids = [f"{sys.argv[2]}-{at}-{each}" for each in range(25)]
    tombstones.bury(folder, "trip", ids, timeout_seconds=60)
"""


def test_processes_that_bury_at_the_same_time_undo_nothing_of_each_other(folder):
    """A compaction and a deletion may be at work at once, each with a file of its own to write."""
    buriers = [
        subprocess.Popen([sys.executable, "-c", _BURIER, folder.path, str(nth)]) for nth in range(3)
    ]
    assert [burier.wait() for burier in buriers] == [0, 0, 0]
    ids = {f"{nth}-{at}-{each}" for nth in range(3) for at in range(40) for each in range(25)}
    assert tombstones.buried(folder, "trip", ids) == ids
    assert kept(folder).stat().st_size == 16 * len(ids)


# --- the file ----------------------------------------------------------------------------------


def test_the_file_holds_hashes_and_nothing_else(folder):
    """Whoever finds it learns nothing of what was said, not even an id."""
    bury(folder, "b", "a", "b")
    bury(folder, "c")
    hashes = [hashlib.blake2b(each, digest_size=16).digest() for each in (b"a", b"b", b"c")]
    assert kept(folder).read_bytes() == b"".join(sorted(hashes))
    assert kept(folder).stat().st_mode & 0o777 == 0o600
    assert kept(folder).parent.stat().st_mode & 0o777 == 0o700


def test_nothing_is_written_where_nothing_is_to_be_buried(folder):
    """Nearly every removal is of turns that nobody imported."""
    bury(folder)
    assert os.listdir(folder.path) == []


def test_a_hundred_thousand_take_sixteen_bytes_each_and_little_memory(folder):
    """Some conversations are long, and all that was ever removed of them is kept."""
    count = 100_000
    bury(folder, "first")  # what is loaded once is loaded now
    tombstones.buried(folder, "trip", ["first"])
    tracemalloc.start()
    try:
        tombstones.bury(folder, "trip", (f"{at:032x}" for at in range(count)), timeout_seconds=5)
        took = tracemalloc.get_traced_memory()[1]
        assert took < 6 << 20
        tracemalloc.reset_peak()
        asked = [f"{at:032x}" for at in range(0, 2 * count, 200)]
        found = tombstones.buried(folder, "trip", asked)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert found == set(asked[:500])
    assert kept(folder).stat().st_size == 16 * (count + 1)


def test_a_look_up_reads_a_few_blocks_for_each_id(folder, monkeypatch):
    """An import asks for some thousand at a time, of a file that may have millions."""
    tombstones.bury(folder, "trip", (f"{at:032x}" for at in range(200_000)), timeout_seconds=5)
    read, reads = tombstones.read_exactly, []

    def counted(*given):
        reads.append(given)
        return read(*given)

    monkeypatch.setattr(tombstones, "read_exactly", counted)
    chance = random.Random(1)
    asked = {f"{chance.randrange(400_000):032x}" for _ in range(500)}
    assert tombstones.buried(folder, "trip", asked) == {
        each for each in asked if int(each, 16) < 200_000
    }
    assert len(reads) < 2 * len(asked)


@given(
    buried=st.lists(st.lists(st.integers(0, 300), max_size=40), max_size=6),
    asked=st.lists(st.integers(0, 300), max_size=40),
    most=st.integers(1, 30),
    block=st.integers(1, 8),
)
def test_whatever_is_buried_is_found_and_nothing_else(tmp_path_factory, buried, asked, most, block):
    """Against a set, in rounds and blocks of every size."""
    folder = Folder.open(str(tmp_path_factory.mktemp("many")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tombstones, "_MOST_IN_A_ROUND", most)
        patch.setattr(tombstones, "_BLOCK", block)
        patch.setattr(tombstones, "_CHUNK", block)
        patch.setattr(files, "sync_data", lambda fd: None)
        for some in buried:
            bury(folder, *map(str, some))
        expected = {str(each) for some in buried for each in some}
        assert tombstones.buried(folder, "trip", map(str, asked)) == expected & set(map(str, asked))
        size = kept(folder).stat().st_size if expected else 0
        assert size == 16 * len(expected)
    folder.close()


def test_what_rots_in_the_file_is_forgotten_and_nothing_beside_it(folder):
    """The next burial writes all that is in order; and no look-up fails over it."""
    ids = [str(each) for each in range(40)]
    bury(folder, *ids)
    good = kept(folder).read_bytes()
    for place in range(0, len(good), 16):
        for flipped in (0x80, 0x01):
            bad = bytearray(good)
            bad[place] ^= flipped
            kept(folder).write_bytes(bytes(bad))
            tombstones.buried(folder, "trip", ids)
            bury(folder, "new")
            left = tombstones.buried(folder, "trip", [*ids, "new"])
            assert len(left) == 40 and "new" in left


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 650])
def test_a_file_cut_short_keeps_what_is_whole(folder, size):
    """Never by convmem, which renames whole files; but a copy may have been interrupted."""
    ids = [str(each) for each in range(50)]
    bury(folder, *ids)
    os.truncate(kept(folder), size)
    assert len(tombstones.buried(folder, "trip", ids)) == size // 16
    bury(folder, "new")
    assert len(tombstones.buried(folder, "trip", [*ids, "new"])) == size // 16 + 1


# --- and the rest of the archive ---------------------------------------------------------------


def test_an_archive_with_tombstones_is_healthy_and_whole(root, archive, trip):
    """They are convmem's own, and no file that nobody knows."""
    trip.compact(LAST)
    archive.conversation("gone").record_many([imported("u0")])
    archive.conversation("gone").delete()
    assert archive.health().status == HEALTHY
    assert not trip.verify().is_damaged
    assert [chat.continuation_id for chat in archive.conversations()] == ["trip"]
    assert archive.stats().turns == 1


def test_a_burial_that_was_killed_leaves_nothing_behind_for_long(root, trip):
    """As with every other file in the making: the next compaction clears it away."""
    trip.compact(RetentionPolicy(keep_last=5))
    left = Path(root, "default", tombstones.FOLDER, ".trip.1.0123abcd.tmp")
    left.write_bytes(b"half")
    trip.compact(LAST)
    assert [each.name for each in left.parent.iterdir()] == ["trip"]
    assert heal.QUARANTINE not in os.listdir(Path(root, "default"))
