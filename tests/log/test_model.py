"""One conversation against a list: whatever is done in whatever order, both say the same (T8).

Hypothesis draws the order; a failure comes back as the shortest program that shows it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import UTC, datetime, timedelta

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

from convmem import Archive, Observer, RetentionPolicy, TurnConflict
from convmem.log import codec, durability, files, heal
from convmem.log.removing import rewrite
from convmem.turns import draft

EXAMPLES = int(os.environ.get("CONVMEM_EXAMPLES", "50"))

CONTENTS = st.sampled_from(
    ["a", "", "\u2028\n", {"_c": "0"}, ["x", None, 2**64], ',"_b":["9f3a01bc",0,2]', "long " * 60]
)
IDS = st.sampled_from([f"id {at}" for at in range(8)])
NOW = datetime.now(UTC)
AGES = st.sampled_from([timedelta(0), timedelta(hours=1), timedelta(days=2)])
DAY = timedelta(days=1)
STAMP = "2026-11-21T09:00:00.123456Z"


class Said:
    """What the model knows of one turn."""

    def __init__(self, turn_id, seq, content, is_old=False):
        self.id = turn_id
        self.seq = seq
        self.content = content
        self.is_old = is_old

    @property
    def seen(self):
        return (self.id, self.seq, self.content)


def seen(turn):
    return (turn.id, turn.seq, turn.content)


class Conversations(RuleBasedStateMachine):
    """The model: the turns of the log in order, what was dropped, and how far the counting is."""

    @initialize()
    def begin(self):
        self.root = tempfile.mkdtemp()
        self.log = os.path.join(self.root, "default", "trip.jsonl")
        self.turns = []
        self.by_id = {}  # also those that were dropped: their ids are remembered
        self.last_seq = 0
        self.torn = False
        self.unended = None  # a turn by hand that lacks its newline
        self.ever = []  # what a follower has to tell
        self.archive = None
        self.reopen()
        self.chat.record("user", "first", id="first")
        self.keep(Said("first", 1, "first"))
        self.live = self.chat.follow()._follower
        self.live_got = []
        self.resumed_got = []
        self.resumed_cursor = None

    def teardown(self):
        if getattr(self, "archive", None) is not None:
            self.live.close()
            self.archive.close()
            shutil.rmtree(self.root)

    def keep(self, said):
        self.turns.append(said)
        self.ever.append(said.seen)
        if said.id is not None:
            self.by_id[said.id] = said
        self.last_seq = max(self.last_seq, said.seq or 0)

    def healed(self):
        """Note that a writer came by."""
        self.torn = False
        if self.unended is not None:
            said, self.unended = self.unended, None
            self.ever.append(said.seen)

    def answered(self, turn, content, *, is_old=False, turn_id=None):
        """Check the answer to a new turn, and keep it."""
        self.healed()
        assert turn.seq == self.last_seq + 1
        assert turn.content == content
        assert turn_id is None or turn.id == turn_id
        assert turn.id not in self.by_id
        self.keep(Said(turn.id, turn.seq, content, is_old))

    # --- recording

    @rule(content=CONTENTS, age=AGES)
    def record(self, content, age):
        turn = self.chat.record("user", content, ts=NOW - age)
        self.answered(turn, content, is_old=age > DAY)

    @rule(content=CONTENTS, turn_id=IDS, age=AGES)
    def record_with_an_id(self, content, turn_id, age):
        known = self.by_id.get(turn_id)
        if known is None:
            turn = self.chat.record("user", content, id=turn_id, ts=NOW - age)
            self.answered(turn, content, is_old=age > DAY, turn_id=turn_id)
        elif known.content == content:
            assert seen(self.chat.record("user", content, id=turn_id)) == known.seen
            self.healed()
        else:
            with pytest.raises(TurnConflict) as caught:
                self.chat.record("user", content, id=turn_id)
            assert caught.value.seq == known.seq
            self.healed()

    @rule(contents=st.lists(st.tuples(CONTENTS, st.none() | IDS, AGES), min_size=2, max_size=4))
    def record_a_batch(self, contents):
        items, fresh, conflict = [], {}, False
        for content, turn_id, age in contents:
            item = {"role": "user", "content": content, "ts": NOW - age}
            if turn_id is not None:
                item["id"] = turn_id
                earlier = fresh.get(turn_id) or self.by_id.get(turn_id)
                conflict |= earlier is not None and earlier.content != content
                fresh.setdefault(turn_id, Said(turn_id, None, content))
            items.append(item)
        if conflict:
            with pytest.raises(TurnConflict):
                self.chat.record_many(items)
            self.healed()
            return
        answers = self.chat.record_many(items)
        self.healed()
        for turn, (content, turn_id, age) in zip(answers, contents, strict=True):
            if turn_id in self.by_id:
                assert seen(turn) == self.by_id[turn_id].seen
            else:
                self.answered(turn, content, is_old=age > DAY, turn_id=turn_id)

    # --- what others do to the file

    def append_by_hand(self, data):
        with open(self.log, "ab") as file:
            file.write(data)

    @precondition(lambda self: not self.torn and self.unended is None)
    @rule(
        cut=st.integers(1, 200), kind=st.sampled_from(["line", "nul", "nul line", "batch", "junk"])
    )
    def tear(self, cut, kind):
        """A writer dies in the middle."""
        made = draft("user", "torn " * 40, id="never answered")
        line = codec.turn_line(made, self.last_seq + 1, STAMP, None)
        half = codec.turn_line(made, self.last_seq + 1, STAMP, ("0badcafe", 0, 2))
        self.append_by_hand(
            {
                "line": line[:cut],
                "nul": bytes(cut),
                "nul line": bytes(cut) + line[cut:],
                "batch": half + half[: cut - 1],
                "junk": b"\xff" * cut,
            }[kind]
        )
        self.torn = True

    @precondition(lambda self: not self.torn and self.unended is None)
    @rule(text=st.sampled_from(["junk", "", "{}", "42", '{"role":"user"}']))
    def write_a_line_that_is_none(self, text):
        self.append_by_hand(text.encode() + b"\n")

    @precondition(lambda self: not self.torn and self.unended is None)
    @rule(content=st.sampled_from(["by hand", "by another hand"]), is_old=st.booleans())
    def write_by_hand(self, content, is_old):
        ts = '"ts":"2001-01-01",' if is_old else ""
        self.append_by_hand(f'{{{ts}"role":"user","content":"{content}"}}\n'.encode())
        self.keep(Said(None, None, content, is_old))

    @precondition(lambda self: not self.torn and self.unended is None)
    @rule()
    def write_by_hand_without_a_newline(self):
        self.append_by_hand(b'{"role":"user","content":"unended"}')
        self.unended = Said(None, None, "unended")
        self.turns.append(self.unended)

    # --- what we do to it

    @rule(
        keep_last=st.none() | st.integers(0, 6),
        max_age=st.none() | st.just(DAY),
        max_bytes=st.none() | st.integers(0, 2000),
        discard=st.booleans(),
    )
    def compact(self, keep_last, max_age, max_bytes, discard):
        policy = RetentionPolicy(keep_last=keep_last, max_age=max_age, max_bytes=max_bytes)
        if policy.is_empty:
            return
        sizes = [len(stored.line) + 1 for stored in self.chat.stored_turns()]
        count = len(self.turns)
        left = []
        for at, said in enumerate(self.turns):
            beyond = keep_last is not None and at < count - keep_last
            goes = beyond if max_age is None else said.is_old and (beyond or keep_last is None)
            if not goes:
                left.append(at)
        if max_bytes is not None:
            while left and left[0] != count - 1 and sum(sizes[at] for at in left) > max_bytes:
                left.pop(0)
        report = self.chat.compact(policy, now=NOW, discard=discard)
        if report.dropped:  # else it only looked
            self.healed()
        assert (report.kept, report.dropped) == (len(left), count - len(left))
        self.turns = [self.turns[at] for at in left]

    @rule(data=st.data())
    def remove(self, data):
        named = data.draw(st.sets(st.sampled_from(sorted(self.by_id)), max_size=3))
        goes = [said for said in self.turns if said.id in named]
        gone = self.chat.remove(named, now=NOW)
        if goes:  # else it only looked
            self.healed()
        assert [seen(turn) for turn in gone] == [said.seen for said in goes]
        self.turns = [said for said in self.turns if said not in goes]

    @rule(contents=st.lists(CONTENTS, max_size=3), is_all=st.booleans(), data=st.data())
    def replace(self, contents, is_all, data):
        named = data.draw(st.sets(st.sampled_from(sorted(self.by_id)), max_size=3))
        goes = [said for said in self.turns if is_all or said.id in named]
        came = self.chat.replace(
            [("user", content) for content in contents], ids=None if is_all else named, now=NOW
        )
        if goes:
            self.healed()
        assert len(came) == len(contents)
        self.turns = [said for said in self.turns if said not in goes]
        for turn, content in zip(came, contents, strict=True):
            self.answered(turn, content)

    @rule()
    def reopen(self):
        if self.archive is not None:
            self.archive.close()
        self.archive = Archive.open(self.root, durability="none", observer=Observer())
        self.chat = self.archive.conversation("trip")

    # --- what must hold

    @invariant()
    def readers_say_what_the_model_says(self):
        expected = [said.seen for said in self.turns]
        assert [seen(turn) for turn in self.chat.turns()] == expected
        for count in (0, 1, 3, 1000):
            assert [seen(turn) for turn in self.chat.tail(count)] == (
                expected[len(expected) - min(count, len(expected)) :]
            )
        assert self.chat.describe().last_seq == self.last_seq

    @invariant()
    def turns_after_a_seq_begin_there(self):
        everything = [said.seen for said in self.turns]
        for after in {1, self.last_seq // 2, self.last_seq - 1, self.last_seq} - {0}:
            found = [seen(turn) for turn in self.chat.turns(after=after)]
            # Lines without a seq count to the line before them, which may have been dropped.
            assert found == everything[len(everything) - len(found) :]
            assert [each[1] for each in found if each[1]] == [
                said.seq for said in self.turns if said.seq and said.seq > after
            ]

    @invariant()
    def a_follower_tells_each_turn_once(self):
        # One look at a time: the loop around it waits, and ends only when it is idle.
        self.live_got += [seen(stored.turn) for stored in self.live.look()]
        assert self.live_got == self.ever
        assert self.live.diverged == 0

    @invariant()
    def a_restarted_follower_goes_on_where_it_was(self):
        following = self.chat.follow(after=self.resumed_cursor, idle_timeout=0)
        self.resumed_got += [seen(turn) for turn in following]
        self.resumed_cursor = str(following.cursor)
        # Once its own turn was dropped, a cursor cannot tell which lines by hand it stood between.
        numbered = [each for each in self.ever if each[1]]
        assert [each for each in self.resumed_got if each[1]] == numbered
        assert len(self.resumed_got) <= len(self.ever)
        assert following.diverged == 0


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch):
    """Syncs change no answer here: what they are for is shown where disks fail."""
    monkeypatch.setattr(os, "fsync", _pass)
    for module in (durability, files, heal, rewrite):
        monkeypatch.setattr(module, "sync_data", _pass)


def _pass(fd):
    """Done."""


Conversations.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=20,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)
TestConversations = Conversations.TestCase
