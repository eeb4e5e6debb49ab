"""Taking named turns out of a conversation, and putting others in the place of some or all.

What frameworks call pop, clear, rewind and replace: it has to be one step for everybody else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

import convmem
from convmem import (
    Archive,
    ConversationNotFound,
    InvalidTurn,
    Observer,
    RetentionPolicy,
    StorageFull,
    UsageError,
)
from convmem.log import codec
from convmem.log.removing import named

EXAMPLES = int(os.environ.get("CONVMEM_EXAMPLES", "50"))
_HOUSE = Path(convmem.__file__).parents[1]
_IMPORTED = {"meta": {"source": "claude-code"}, "raw": {"said": "verbatim"}}


def seqs(turns):
    return [turn.seq for turn in turns]


def texts(turns):
    return [turn.content for turn in turns]


@pytest.fixture
def chat(archive):
    """A conversation of six turns, ``t0`` to ``t5``; the last three are a batch."""
    chat = archive.conversation("trip")
    for at in range(3):
        chat.record("user", f"word {at}", id=f"t{at}")
    chat.record_many(
        [{"role": "user", "content": f"word {at}", "id": f"t{at}"} for at in (3, 4, 5)]
    )
    return chat


def notes(root):
    """Return the lines of the audit log."""
    found = []
    for path in sorted(Path(root, "default", ".audit").iterdir()):
        found += [json.loads(line) for line in path.read_text().splitlines()]
    return found


# --- removing --------------------------------------------------------------------------------


def test_what_is_removed_is_returned_in_order_and_no_longer_there(chat):
    """Rewinding names the turns in any order, some of them perhaps twice."""
    gone = chat.remove(["t4", "t1", "t4", "never there"])
    assert [(turn.id, turn.seq, turn.content) for turn in gone] == [
        ("t1", 2, "word 1"),
        ("t4", 5, "word 4"),
    ]
    assert seqs(chat.turns()) == [1, 3, 4, 6]
    assert chat.verify().findings == []


@pytest.mark.parametrize("turn_id", ["t0", "t2", "t3", "t4", "t5"])
def test_the_rest_of_a_batch_stays_whatever_turn_of_it_goes(chat, turn_id):
    """A batch whose closing line went would look torn, and be set aside by the next writer."""
    chat.remove([turn_id])
    chat.record("user", "and then")
    left = [f"t{at}" for at in range(6) if f"t{at}" != turn_id]
    assert [turn.id for turn in chat.turns()][:-1] == left
    assert [turn.id for turn in chat.tail(6)][:-1] == left
    assert chat.verify().findings == []


def test_the_number_of_a_removed_turn_is_not_given_out_again(root, chat):
    """A cursor or a citation must never come to mean another turn."""
    assert chat.remove(["t5"])[0].seq == 6
    with Archive.open(root) as another:
        assert another.conversation("trip").record("user", "next").seq == 7


def test_where_nothing_of_that_name_is_left_nothing_is_written(root, chat):
    """Of two that pop the same turn the second must not even touch the log."""
    chat.remove(["t5"])
    before = {path: path.stat().st_mtime_ns for path in Path(root).rglob("*")}
    assert chat.remove(["t5"]) == []
    assert chat.remove([]) == []
    assert {path: path.stat().st_mtime_ns for path in Path(root).rglob("*")} == before


def test_a_late_retry_of_a_removed_turn_is_answered_and_not_stored_again(chat):
    """Its first answer may have been lost on the way; it was said, and taken back since."""
    chat.remove(["t2", "t5"])
    assert chat.record("user", "word 5", id="t5").seq == 6
    assert chat.record("user", "word 2", id="t2").seq == 3
    assert seqs(chat.turns()) == [1, 2, 4, 5]


def test_a_tool_result_stays_where_only_its_call_is_named(archive):
    """What was asked for is done, no more: it is the caller who knows what belongs together."""
    chat = archive.conversation("tools")
    call = {"type": "tool_use", "id": "c1", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "c1", "content": "seen"}
    chat.record("assistant", [call], id="call")
    chat.record("tool", [result], id="result")
    chat.remove(["call"])
    assert [turn.id for turn in chat.turns()] == ["result"]


def test_ids_that_must_be_escaped_are_found(archive):
    """An id is any text: also such as JSON writes in several ways, or part of another's content."""
    chat = archive.conversation("odd")
    odd = ['a"b', "a\\b", "a/b", "é\u2028", "{", "a", '","seq":1']
    for each in odd:
        chat.record("user", f"of {each}", id=each)
    chat.record("user", '{"id":"a"}', id="z")
    for at, each in enumerate(odd):
        assert [turn.id for turn in chat.remove([each])] == [each]
        assert seqs(chat.turns()) == list(range(at + 2, len(odd) + 2))


def test_one_text_is_not_taken_for_many_ids(chat):
    """``remove("t1")`` would look for the turns "t" and "1", and quietly find none."""
    with pytest.raises(UsageError, match="ids must be"):
        chat.remove("t1")
    with pytest.raises(UsageError, match="ids must be"):
        chat.remove([1])
    assert chat.remove(["\ud800"]) == []  # no turn can have it


def test_the_last_turn_of_a_long_conversation_goes_without_a_look_at_every_line(
    archive, monkeypatch
):
    """Popping costs a copy of what stays; parsing it would cost ten times as much."""
    chat = archive.conversation("long")
    list(archive.record_to_many(("long", ("user", f"word {at} " * 20)) for at in range(3000)))
    parsed = []
    real = codec.fault_of
    monkeypatch.setattr(codec, "fault_of", lambda line: parsed.append(line) or real(line))
    surveyed = []
    survey = named.survey_from
    monkeypatch.setattr(
        named, "survey_from", lambda fd, *span: surveyed.append(span) or survey(fd, *span)
    )
    last = chat.tail(1)[0]
    assert [turn.seq for turn in chat.remove([last.id])] == [3000]
    assert len(parsed) < 20
    (start, end) = surveyed[0]
    assert end - start < 400
    assert chat.verify().turns == 2999


def test_damage_before_the_turn_that_goes_stays_and_behind_it_is_set_aside(root, chat, log):
    """No byte is lost, and none is read without need."""
    chat.record("user", "last", id="last")
    path = log("trip")
    path.write_bytes(path.read_bytes().replace(b"word 2", b"w0rd 2"))
    chat.remove(["last"])
    assert b"w0rd 2" in path.read_bytes()
    assert [turn.id for turn in chat.turns()] == ["t0", "t1", "t3", "t4", "t5"]
    chat.remove(["t1"])
    assert b"w0rd 2" not in path.read_bytes()
    (kept,) = Path(root, "default", ".quarantine").iterdir()
    assert b"w0rd 2" in kept.read_bytes()
    assert chat.verify().findings == []


# --- replacing -------------------------------------------------------------------------------


def test_turns_come_in_the_place_of_all_and_go_on_from_the_last_number(chat):
    """The compaction of a framework: a summary and the last few in the place of everything."""
    came = chat.replace([("system", "they talked"), {"role": "user", "content": "go on", "n": 1}])
    assert [(turn.seq, turn.content) for turn in came] == [(7, "they talked"), (8, "go on")]
    assert came == list(chat.turns()) == chat.tail(5)
    assert chat.record("user", "next").seq == 9


def test_turns_come_in_the_place_of_some_behind_the_rest(chat):
    """Those that stay keep their numbers, and so their places."""
    chat.replace([("user", "new")], ids=["t5", "t0", "gone long ago"])
    assert [(turn.seq, turn.content) for turn in chat.turns()] == [
        (2, "word 1"),
        (3, "word 2"),
        (4, "word 3"),
        (5, "word 4"),
        (7, "new"),
    ]
    assert chat.verify().findings == []


def test_replacing_all_with_nothing_leaves_an_empty_conversation(root, chat):
    """Cleared is not deleted: it is there, its numbers go on, and its state stays."""
    chat.update_state({"token": "x"})
    assert chat.replace([]) == []
    assert list(chat.turns()) == []
    assert chat.exists()
    with Archive.open(root) as another:
        again = another.conversation("trip")
        assert again.state() == {"token": "x"}
        assert again.record("user", "anew").seq == 7


def test_turns_of_a_compressed_conversation_go_and_come(archive):
    """Yesterday's session is opened again, and its last answer taken back."""
    pytest.importorskip("backports.zstd" if sys.version_info < (3, 14) else "compression.zstd")
    chat = archive.conversation("cold")
    chat.record_many([("user", f"word {at} " * 200) for at in range(20)])
    chat.compress()
    last = chat.tail(1)[0]
    assert chat.remove(["never there"]) == []
    assert chat.path.endswith(".jsonl.zst")  # as it lay
    assert chat.remove([last.id]) == [last]
    chat.compress()
    chat.replace([("user", "new")], ids=[turn.id for turn in chat.tail(5)])
    assert seqs(chat.turns()) == [*range(1, 15), 21]
    assert chat.verify().findings == []


def test_where_nothing_is_to_go_it_only_records(archive):
    """A session's first save is a replacement of nothing."""
    chat = archive.conversation("new")
    with pytest.raises(ConversationNotFound):
        chat.replace([])
    with pytest.raises(ConversationNotFound):
        chat.replace([], ids=["x"])
    assert not chat.exists()
    assert seqs(chat.replace([("user", "one"), ("user", "two")])) == [1, 2]
    assert seqs(chat.replace([("user", "three")], ids=["not there"])) == [3]
    assert chat.replace([], ids=["not there"]) == []
    assert texts(chat.turns()) == ["one", "two", "three"]


def test_what_replaces_others_has_no_id_of_its_own(chat):
    """An id that was there before would be answered with the old turn, and not be stored."""
    before = list(chat.turns())
    with pytest.raises(InvalidTurn, match="turn 1: it has an id of its own, 't5'"):
        chat.replace([("user", "x"), {"role": "user", "content": "y", "id": "t5"}])
    with pytest.raises(InvalidTurn):
        chat.replace(before)
    with pytest.raises(InvalidTurn):
        chat.replace([("user", float("nan"))])
    assert list(chat.turns()) == before


def test_readers_see_the_old_or_the_new_and_nothing_between(root, archive):
    """A model that is shown half of each would be told nonsense."""
    chat = archive.conversation("trip", durability="none")
    chat.record_many([("user", "0")] * 3)
    wrong = []
    done = threading.Event()

    def read():
        with Archive.open(root) as another:
            reader = another.conversation("trip")
            while not done.is_set():
                both = texts(reader.turns()), texts(reader.tail(10))
                wrong.extend(found for found in both if len(found) != 3 or len(set(found)) != 1)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for at in range(1, 60):
        chat.replace([("user", str(at))] * 3)
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert texts(chat.turns()) == ["59"] * 3


def test_a_follower_gets_what_came_once_and_nothing_again(chat):
    """It may have shown what was taken back since; it must not show the rest once more."""
    following = chat.follow(idle_timeout=0)
    assert seqs(following) == [1, 2, 3, 4, 5, 6]
    behind = chat.follow(after=2, idle_timeout=0)
    cursor = following.cursor
    chat.remove(["t3"])
    came = chat.replace([("user", "new"), ("user", "newer")], ids=["t5", "t0"])
    assert list(chat.follow(after=cursor, idle_timeout=0)) == came
    assert seqs(behind) == [3, 5, 7, 8]


def test_what_others_record_meanwhile_stays_before_what_comes(root, chat, monkeypatch):
    """All are those that were seen: nobody meant to throw away what he did not know of."""
    real = named.survey_from

    def survey(*given):
        found = real(*given)
        with Archive.open(root) as another:
            another.conversation("trip").record_many([("user", "meanwhile"), ("user", "too")])
        return found

    monkeypatch.setattr(named, "survey_from", survey)
    chat.replace([("user", "new")])
    assert [(turn.seq, turn.content) for turn in chat.turns()] == [
        (7, "meanwhile"),
        (8, "too"),
        (9, "new"),
    ]
    assert chat.verify().findings == []


# --- the way back, and what is known of it -----------------------------------------------------


def test_what_went_comes_back_to_its_place_before_what_came(chat):
    """Taken back by mistake: nothing is gone for good, and what was said since stays."""
    chat.remove(["t4"])
    chat.replace([("user", "new")], ids=["t0", "t5"])
    chat.replace([("user", "newer")])
    assert chat.restore().restored == 7
    assert [(turn.seq, turn.content) for turn in chat.turns()] == [
        *((at + 1, f"word {at}") for at in range(6)),
        (7, "new"),
        (8, "newer"),
    ]
    with pytest.raises(ConversationNotFound):
        chat.restore()  # nothing is left in the trash


def test_the_audit_log_says_what_went_and_why(root, chat):
    """Somebody will ask where the turn went."""
    now = datetime(2026, 5, 1, tzinfo=UTC)
    chat.remove(["t0"], reason="pop", now=now)
    chat.replace([("user", "new")], ids=["t2"], reason="rewound", now=now)
    removed, replaced = notes(root)
    assert (removed["event"], removed["reasons"], removed["ranges"]) == (
        "remove",
        {"pop": 1},
        [[1, 1]],
    )
    assert (replaced["event"], replaced["reasons"], replaced["came"]) == (
        "replace",
        {"rewound": 1},
        1,
    )
    files = [file.file_name for file in chat._archive.trash()]
    assert sorted(files) == sorted([removed["trash"], replaced["trash"]])


def test_what_was_imported_and_removed_is_not_imported_again(archive):
    """Tonight's import would bring back what somebody took out today."""
    chat = archive.conversation("old")
    for at in range(3):
        chat.record("user", f"said {at}", id=f"i{at}", **_IMPORTED)
    chat.remove(["i1"])
    chat.replace([], ids=["i2"])
    assert chat.buried(["i0", "i1", "i2"]) == {"i1", "i2"}


def test_what_the_keep_list_holds_is_neither_removed_nor_replaced(root, chat):
    """The list is there so that no program throws it away."""
    Path(root, "convmem.toml").write_text('[[keep]]\nid = ["trip"]\n')
    for action in (lambda: chat.remove(["t0"]), lambda: chat.replace([])):
        with pytest.raises(UsageError, match="keep-list"):
            action()
    assert len(list(chat.turns())) == 6


def test_on_a_full_disk_nothing_changes(chat, monkeypatch):
    """Whoever pops when there is no room must find the turn again later."""

    def full(folder, needed, doing, hint):
        raise StorageFull(f"{doing} needs {needed:,} bytes and 0 are free", hint=hint)

    before = list(chat.turns())
    with monkeypatch.context() as patched:
        patched.setattr(named, "check_room", full)
        for action in (lambda: chat.remove(["t0"]), lambda: chat.replace([("user", "x")])):
            with pytest.raises(StorageFull, match=r"rewriting trip\.jsonl needs"):
                action()
    assert list(chat.turns()) == before
    assert chat._archive.trash() == []
    assert [turn.id for turn in chat.remove(["t0"])] == ["t0"]


def test_search_and_the_overview_go_with_it(archive):
    """What was taken back is not found any more, and what came is."""
    chat = archive.conversation("trip")
    chat.record_many([("user", "leeks"), ("user", "trains")])
    assert len(list(archive.search("leeks"))) == 1
    first = next(chat.turns())
    chat.remove([first.id])
    assert list(archive.search("leeks")) == []
    chat.replace([("user", "harbours"), ("user", "boats"), ("user", "masts")])
    assert list(archive.search("trains")) == []
    assert len(list(archive.search("harbours"))) == 1
    (row,) = archive.overview(count=True)
    assert (row.turns, row.last_seq) == (3, 5)


def test_observers_are_told_as_of_a_compaction_and_a_record(root):
    """Metrics count turns that go and turns that come, whatever took them."""
    told = []

    class Watching(Observer):
        def recorded(self, continuation_id, turns, bytes, seconds, waited_seconds):
            told.append(("recorded", turns))

        def compacted(self, continuation_id, report, seconds):
            told.append(("compacted", report.dropped, report.kept, report.reasons))

        def failed(self, continuation_id, doing, error):
            told.append(("failed", doing, error.kind))

    with Archive.open(root, observer=Watching()) as archive:
        chat = archive.conversation("trip")
        chat.record_many([("user", str(at)) for at in range(5)])
        ids = [turn.id for turn in chat.turns()]
        chat.remove(ids[3:4], reason="pop")
        chat.replace([("user", "new")] * 2)
        chat.remove(ids)
    assert told == [
        ("recorded", 5),
        ("compacted", 1, 4, {"pop": 1}),
        ("compacted", 4, 0, {"asked": 4}),
        ("recorded", 2),
    ]


# --- several at once ---------------------------------------------------------------------------

_BEFORE = """
import os, sys
from convmem import Archive, Observer
root, role, number, mutant = sys.argv[1:]
if mutant:
    from convmem.log import locks
    locks.SidecarLock.acquire = lambda self, timeout_seconds: 0.0
    locks.SidecarLock.release = lambda self: None
archive = Archive.open(root, durability="none", lock_timeout_seconds=60, observer=Observer())
chat = archive.conversation("queue")
print("ready", flush=True)
sys.stdin.readline()
"""
_APPEND = """
for at in range(60):
    turn = chat.record("user", f"{role} {number} {at}", id=f"{number}.{at}")
    print(f"appended {turn.id} {turn.seq}", flush=True)
"""
_POP = """
for at in range(40):
    newest = chat.tail(1)
    for turn in chat.remove(turn.id for turn in newest):
        print(f"popped {turn.id} {turn.seq}", flush=True)
"""


def race(root, *, mutant=""):
    """Let 2 append and 4 pop; return what each kind said, and how many did not end well."""
    roles = ["append"] * 2 + ["pop"] * 4
    environment = {**os.environ, "PYTHONPATH": str(_HOUSE)}
    running = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", _BEFORE + (_APPEND if role == "append" else _POP)),
                *(root, role, str(number), mutant),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number, role in enumerate(roles)
    ]
    for each in running:
        assert each.stdout.readline() == "ready\n"
    for each in running:
        each.stdin.write("\n")
        each.stdin.flush()
    ends = [each.communicate(timeout=120) for each in running]
    said = [line.split() for out, _ in ends for line in out.splitlines()]
    failures = [errors for each, (_, errors) in zip(running, ends, strict=True) if each.returncode]
    appended = [(turn_id, int(seq)) for what, turn_id, seq in said if what == "appended"]
    popped = [(turn_id, int(seq)) for what, turn_id, seq in said if what == "popped"]
    return appended, popped, failures


def wrong_with(root, before, appended, popped):
    """Say what is not as it must be once all are done."""
    with Archive.open(root) as archive:
        left = [(turn.id, turn.seq) for turn in archive.conversation("queue").turns()]
    found = []
    if len(set(popped)) != len(popped):
        found.append("popped twice")
    if sorted(popped + left) != sorted(before + appended):
        found.append("neither popped nor there, or both")
    if seqs_of(left) != sorted(set(seqs_of(left))):
        found.append("out of order")
    return found


def seqs_of(pairs):
    return [seq for _, seq in pairs]


def test_every_turn_is_popped_by_one_of_many_or_still_there(root):
    """A queue that hands the same item to two workers, or to none, is none."""
    first = _start(root)
    appended, popped, failures = race(root)
    assert failures == []
    assert len(appended) == 120
    assert len(popped) > 40
    assert wrong_with(root, first, appended, popped) == []


def test_without_the_lock_the_race_is_lost(root):
    """What cannot fail proves nothing."""
    first = _start(root)
    appended, popped, failures = race(root, mutant="without the lock")
    assert failures or wrong_with(root, first, appended, popped)


def _start(root):
    with Archive.open(root) as archive:
        chat = archive.conversation("queue")
        turns = [{"role": "user", "content": "x", "id": f"first.{at}"} for at in range(30)]
        return [(turn.id, turn.seq) for turn in chat.record_many(turns)]


def test_who_removes_waits_for_another_rewrite_to_end(root, chat):
    """A compaction in the night must not make the agent's undo fail."""
    from convmem.log.files import Folder
    from convmem.log.removing.rewrite import exclusive

    folder = Folder.open(str(Path(root, "default")))
    held = exclusive(folder, "trip")
    held.__enter__()
    gone = []
    waiting = threading.Thread(target=lambda: gone.extend(chat.remove(["t5"])))
    waiting.start()
    time.sleep(0.05)
    assert gone == [] and len(list(chat.turns())) == 6
    held.__exit__()
    waiting.join()
    folder.close()
    assert [turn.id for turn in gone] == ["t5"]


def test_who_restores_waits_for_another_rewrite_to_end_too(root, chat):
    """It would else fail whenever somebody takes a turn back at the same moment."""
    from convmem.log.files import Folder
    from convmem.log.removing.rewrite import exclusive

    chat.remove(["t5"])
    folder = Folder.open(str(Path(root, "default")))
    held = exclusive(folder, "trip")
    held.__enter__()
    done = []
    waiting = threading.Thread(target=lambda: done.append(chat.restore()))
    waiting.start()
    time.sleep(0.05)
    held.__exit__()
    waiting.join()
    folder.close()
    assert [each.restored for each in done] == [1] and len(list(chat.turns())) == 6


# --- beside a list -----------------------------------------------------------------------------


class Lists(RuleBasedStateMachine):
    """The model: the turns in the log, and those in the trash, as (seq, content) by id."""

    @initialize()
    def begin(self):
        self.root = tempfile.TemporaryDirectory()
        self.archives = [self.opened(), self.opened()]
        self.log = {}
        self.trash = {}
        self.last_seq = 0
        self.made = 0

    def teardown(self):
        for archive in getattr(self, "archives", ()):
            archive.close()
        if hasattr(self, "root"):
            self.root.cleanup()

    def opened(self):
        return Archive.open(self.root.name, durability="none", observer=Observer())

    def chat(self, who):
        return self.archives[who].conversation("trip")

    def took(self, turns, contents):
        assert texts(turns) == contents
        assert seqs(turns) == list(range(self.last_seq + 1, self.last_seq + 1 + len(contents)))
        self.last_seq += len(contents)
        self.log |= {turn.id: (turn.seq, turn.content) for turn in turns}

    def goes(self, turn_ids):
        for turn_id in turn_ids:
            self.trash[turn_id] = self.log.pop(turn_id)

    def contents(self, count):
        self.made += count
        return [f"said {self.made - count + at} " * 3 for at in range(count)]

    def some(self, data):
        known = [*self.log, *self.trash]
        return data.draw(st.sets(st.sampled_from(known), max_size=4)) if known else set()

    who = st.integers(0, 1)

    @rule(who=who, count=st.integers(1, 4), is_batch=st.booleans())
    def record(self, who, count, is_batch):
        contents = self.contents(count)
        if is_batch:
            self.took(self.chat(who).record_many([("user", each) for each in contents]), contents)
        else:
            self.took([self.chat(who).record("user", each) for each in contents], contents)

    @precondition(lambda self: self.log)
    @rule(who=who, data=st.data())
    def remove(self, who, data):
        named_ids = self.some(data)
        expected = [turn_id for turn_id in self.log if turn_id in named_ids]
        gone = self.chat(who).remove(named_ids)
        assert [turn.id for turn in gone] == expected
        self.goes(expected)

    @precondition(lambda self: self.log)
    @rule(who=who, data=st.data(), count=st.integers(0, 3), is_all=st.booleans())
    def replace(self, who, data, count, is_all):
        named_ids = None if is_all else self.some(data)
        contents = self.contents(count)
        came = self.chat(who).replace([("user", each) for each in contents], ids=named_ids)
        self.goes([each for each in self.log if is_all or each in named_ids])
        self.took(came, contents)

    @precondition(lambda self: self.log)
    @rule(who=who, keep_last=st.integers(0, 5))
    def compact(self, who, keep_last):
        self.chat(who).compact(RetentionPolicy(keep_last=keep_last))
        self.goes(list(self.log)[: max(0, len(self.log) - keep_last)])

    @precondition(lambda self: self.log)
    @rule(who=who)
    def delete(self, who):
        self.chat(who).delete()
        self.goes(list(self.log))

    @precondition(lambda self: self.trash)
    @rule(who=who)
    def restore(self, who):
        done = self.chat(who).restore()
        assert (done.restored, done.conflicts) == (len(self.trash), 0)
        both = self.log | self.trash
        self.log = dict(sorted(both.items(), key=lambda each: each[1][0]))
        self.trash = {}

    @rule(who=who)
    def reopen(self, who):
        self.archives[who].close()
        self.archives[who] = self.opened()

    @invariant()
    def both_read_what_the_model_says(self):
        expected = [(turn_id, *said) for turn_id, said in self.log.items()]
        for who in (0, 1):
            chat = self.chat(who)
            for found in [chat.turns(), chat.tail(100)] if chat.exists() else [[]]:
                assert [(turn.id, turn.seq, turn.content) for turn in found] == expected

    @invariant()
    def every_turn_is_in_the_log_or_in_the_trash_and_once(self):
        lines = [
            json.loads(line)
            for path in Path(self.root.name).glob("default/.trash/trip.*")
            for line in path.read_bytes().splitlines()
        ]
        found = [(line["id"], line["seq"], line["content"]) for line in lines if "id" in line]
        assert sorted(found) == sorted((turn_id, *said) for turn_id, said in self.trash.items())


Lists.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=25,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLists = Lists.TestCase
