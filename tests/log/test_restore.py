"""What left a log comes back: each turn once, to its place, byte for byte, whatever was done.

Hypothesis draws what is done; the files are read without convmem, which must not be its own judge.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zlib
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from convmem import Archive, ConversationNotFound, Observer, RetentionPolicy
from convmem.log import append, durability, files, heal, state
from convmem.log.removing import compact

EXAMPLES = int(os.environ.get("CONVMEM_EXAMPLES", "60"))

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FUTURE = NOW + 400 * DAY
AGES = st.sampled_from([timedelta(0), 2 * DAY, 5 * DAY])
IDS = st.sampled_from([f"id {at}" for at in range(6)])
HAND = '{"role":"user","content":"by hand"}'


def keep(count):
    return RetentionPolicy(keep_last=count)


# --- reading the files without convmem ---------------------------------------------------------


def is_sealed(line):
    return line[-17:-10] == b',"_c":"' and b"%08x" % zlib.crc32(line[:-17] + b"}") == line[-10:-2]


def plain(line):
    """Return a sealed line as it would be outside a batch."""
    if not is_sealed(line) or b',"_b":["' not in line[-70:]:
        return line
    body = line[: line.rindex(b',"_b":["')]
    return body + b',"_c":"%08x"}' % zlib.crc32(body + b"}")


def key_of(line):
    """Return the (id, seq) of a numbered line that convmem wrote, else ``None``."""
    if not is_sealed(line):
        return None
    value = json.loads(line)
    return None if value.get("seq") is None else (value["id"], value["seq"])


def is_ours(line):
    """Whether convmem wrote the line for itself: how far the counting was, or a summary."""
    return is_sealed(line) and (line.startswith(b'{"_last_seq"') or "summary" in json.loads(line))


class Files:
    """The lines of the log, of the trash and of the quarantine."""

    def __init__(self, root):
        folder = Path(root, "default")
        path = folder / "trip.jsonl"
        self.is_there = path.exists()
        self.raw = path.read_bytes() if self.is_there else b""
        self.log = self.raw.split(b"\n")[:-1]
        self.trash_files = {
            each.name: each.read_bytes()
            for each in sorted((folder / ".trash").glob("trip.*"))
            if each.suffix != ".state"
        }
        self.trash = [line for data in self.trash_files.values() for line in data.split(b"\n")[:-1]]
        self.quarantine = b"".join(
            each.read_bytes() for each in (folder / ".quarantine").glob("trip.*")
        )

    def keys(self, lines):
        return [key for key in map(key_of, lines) if key is not None]


def snapshot(root):
    """All that is on disk, but for the locks, which are only ever taken."""
    return {
        str(path): path.read_bytes()
        for path in Path(root).rglob("*")
        if path.is_file() and path.parent.name != ".locks"
    }


def told(done):
    """What a restoration says."""
    names = "restored bytes already_there conflicts unwanted first_seq last_seq files has_state"
    return {name: getattr(done, name) for name in names.split()} | {
        "summaries": [each["id"] for each in done.summaries]
    }


# --- the machine -------------------------------------------------------------------------------


class Restoring(RuleBasedStateMachine):
    """The model: every line that was ever answered or written by hand, and where it may be."""

    IS_EXACT = False  # only what leaves enough behind to put the file together byte for byte

    @initialize()
    def begin(self):
        self.root = tempfile.mkdtemp()
        self.path = Path(self.root, "default", "trip.jsonl")
        self.answered = {}  # (id, seq): its line, out of any batch
        self.by_hand = []
        self.junk = []
        self.remembered = set()  # ids that a compaction dropped: late retries are known
        self.clock = NOW
        self.removals = []
        self.states = []  # (when, what) of states in the trash
        self.state = {}
        self.count = self.last_seq = 0
        self.crashed = False  # then some lines may be in two places
        self.original = b""  # what the log would be had nothing ever left it
        self.has_lost_marks = False
        self.archive = None
        self.reopen()
        self.live = self.chat.follow()._follower
        self.followed = []
        self.cursor = None
        self.resumed = []

    def teardown(self):
        if getattr(self, "archive", None) is None:
            return
        try:
            self.everything_comes_back()
        finally:
            self.live.close()
            self.archive.close()
            shutil.rmtree(self.root)

    def files(self):
        return Files(self.root)

    @rule()
    def reopen(self):
        if self.archive is not None:
            self.archive.close()
        self.archive = Archive.open(self.root, durability="none", observer=Observer())
        self.chat = self.archive.conversation("trip")

    def tick(self):
        self.clock += timedelta(minutes=1)
        return self.clock

    # --- recording

    def keep_answers(self, turns, before):
        """Note answers to turns; each is a new one, or one that was answered before."""
        after = self.files()
        lines = {key_of(line): line for line in after.log}
        self.original += after.raw[len(before.raw) :]
        in_log = {turn_id for turn_id, _ in before.keys(before.log)}
        for turn in turns:
            key = (turn.id, turn.seq)
            if turn.id in in_log or turn.id in self.remembered:
                assert key in self.answered, "a retry was stored again"
            elif key not in self.answered:
                assert turn.seq > self.last_seq, "a seq was given out twice"
                self.last_seq = turn.seq
                self.answered[key] = plain(lines[key])

    @rule(age=AGES, turn_id=st.none() | IDS)
    def record(self, age, turn_id):
        before = self.files()
        turn = self.chat.record("user", f"says {turn_id}", id=turn_id, ts=NOW - age)
        self.keep_answers([turn], before)

    @rule(turns=st.lists(st.tuples(AGES, st.none() | IDS), min_size=2, max_size=4))
    def record_a_batch(self, turns):
        before = self.files()
        made = [
            {"role": "user", "content": f"says {turn_id}", "ts": NOW - age}
            | ({} if turn_id is None else {"id": turn_id})
            for age, turn_id in turns
        ]
        self.keep_answers(self.chat.record_many(made), before)

    def append(self, line):
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.path, "ab") as log:
            log.write(line + b"\n")
        self.original += line + b"\n"

    @precondition(lambda self: self.path.exists())
    @rule(is_alike=st.booleans(), has_id=st.booleans())
    def write_by_hand(self, is_alike, has_id):
        self.count += 1
        value = {"role": "user", "content": "by hand" if is_alike else f"by hand {self.count}"}
        if has_id:
            value["id"] = f"by hand {self.count}"
        line = json.dumps(value).encode()
        self.append(line)
        self.by_hand.append(line)

    @precondition(lambda self: not self.IS_EXACT and self.path.exists())
    @rule()
    def damage(self):
        self.count += 1
        line = f"junk {self.count}".encode()
        self.append(line)
        self.junk.append(line)

    @rule(value=st.integers(0, 3))
    def set_state(self, value):
        self.state = self.chat.update_state({"session": value})

    # --- taking away

    @precondition(lambda self: self.path.exists())
    @rule(
        keep_last=st.none() | st.integers(0, 6),
        is_by_age=st.booleans(),
        max_bytes=st.none() | st.integers(0, 1500),
        summarizes=st.booleans(),
        is_killed=st.booleans(),
    )
    def compact(self, keep_last, is_by_age, max_bytes, summarizes, is_killed):
        if self.IS_EXACT:
            is_by_age = is_killed = False
        max_age = DAY if is_by_age else None
        policy = RetentionPolicy(keep_last=keep_last, max_age=max_age, max_bytes=max_bytes)
        if policy.is_empty:
            return
        before = self.files()
        given = []

        def summarize(turns):
            given.extend(turns)
            return f"sums {len(given)} turns up"

        report = self.chat.compact(
            policy, now=self.tick(), summarize=summarize if summarizes else None
        )
        self.removals.append(self.clock)
        after = self.files()
        gone = set(before.keys(before.log)) - set(after.keys(after.log))
        self.remembered.update(turn_id for turn_id, _ in gone)
        if report.dropped:
            assert len(gone) <= report.dropped
            if summarizes:
                assert len(given) == report.dropped
        else:
            assert after.raw == before.raw and after.trash_files == before.trash_files
        if is_killed and report.dropped:
            self.crashed = True
            self.put_back({"trip.jsonl": before.raw})

    @precondition(lambda self: self.path.exists())
    @rule()
    def delete(self):
        before = self.files()
        gone = self.chat.delete(now=self.tick())
        self.removals.append(self.clock)
        assert gone.last_seq == self.last_seq
        after = self.files()
        assert not after.is_there
        kept = after.trash_files[gone.trash]
        # Damage at the end goes to the quarantine, as it does before an append.
        assert before.raw == kept or before.raw[len(kept) :] in after.quarantine
        assert before.raw.startswith(kept)
        if self.state:
            self.states.append((self.clock, self.state))
            self.state = {}
        with pytest.raises(ConversationNotFound):
            self.chat.tail()

    def put_back(self, found):
        """Be the disk of somebody who was killed before this was changed."""
        self.archive.close()
        folder = self.path.parent
        for name, data in found.items():
            (folder / f"{name}.back").write_bytes(data)
            os.replace(folder / f"{name}.back", folder / name)
        self.archive = None
        self.reopen()

    # --- bringing back

    def restore(self, **options):
        """Restore, having asked what that would do; return what was said."""
        before = snapshot(self.root)
        try:
            planned = self.chat.restore(dry_run=True, **options)
        except ConversationNotFound:
            assert snapshot(self.root) == before
            with pytest.raises(ConversationNotFound):
                self.chat.restore(**options)
            assert snapshot(self.root) == before
            return None
        assert snapshot(self.root) == before
        was = self.files()
        done = self.chat.restore(**options)
        assert told(planned) == told(done)
        now = self.files()
        if not done.restored and not done.summaries:
            # A torn end is healed on the way, as by an append.
            assert now.is_there == was.is_there and was.raw.startswith(now.raw)
            assert was.raw[len(now.raw) :] in now.quarantine
        self.keep_state(done, options.get("removed_since"))
        return done

    def keep_state(self, done, removed_since):
        chosen = [each for each in self.states if removed_since is None or each[0] >= removed_since]
        # A state alone does not begin a conversation.
        assert done.has_state == bool(chosen and not self.state and self.chat.exists())
        if done.has_state:
            self.state = chosen[-1][1]
            self.states.remove(chosen[-1])

    @rule(
        since=st.sampled_from([None, None, NOW - DAY, NOW - 3 * DAY, FUTURE]),
        nth=st.none() | st.integers(0, 5),
        is_killed=st.booleans(),
    )
    def restore_some(self, since, nth, is_killed):
        if self.IS_EXACT:
            since, nth, is_killed = None, None, False
        removed_since = None
        if nth is not None and self.removals:
            removed_since = self.removals[nth % len(self.removals)]
        before = self.files()
        done = self.restore(since=since, removed_since=removed_since)
        if done is not None and is_killed and done.restored:
            self.crashed = True
            self.put_back({f".trash/{name}": data for name, data in before.trash_files.items()})

    # --- what must hold

    @invariant()
    def all_that_was_answered_is_there_once(self):
        found = self.files()
        in_log = Counter(found.keys(found.log))
        in_trash = Counter(found.keys(found.trash))
        for key, line in self.answered.items():
            assert in_log[key] <= 1, f"{key} is doubled in the log"
            assert in_log[key] + in_trash[key] >= 1, f"{key} is lost"
            if not self.crashed:
                assert in_log[key] + in_trash[key] == 1, f"{key} is in two places"
            for each in found.log + found.trash:
                if key_of(each) == key:
                    assert plain(each) == line
        assert set(in_log) | set(in_trash) <= set(self.answered)
        ids = Counter(turn_id for turn_id, _ in in_log)
        assert not [each for each, count in ids.items() if count > 1], "one id, two turns"

    @invariant()
    def what_was_written_by_hand_is_there(self):
        found = self.files()
        everywhere = Counter(found.log) + Counter(found.trash)
        for line, count in Counter(self.by_hand).items():
            assert everywhere[line] >= count, f"{line!r} is lost"
            if not self.crashed:
                assert everywhere[line] == count
        for line in self.junk:
            assert everywhere[line] or line + b"\n" in found.quarantine, f"{line!r} is lost"

    @invariant()
    def the_log_is_in_order(self):
        seqs = [seq for _, seq in self.files().keys(self.files().log)]
        assert seqs == sorted(seqs)
        try:
            read = [turn.seq for turn in self.chat.turns() if turn.seq is not None]
        except ConversationNotFound:
            read = []
        assert read == seqs
        if self.path.exists():
            assert self.chat.describe().last_seq == self.last_seq

    @invariant()
    def the_state_is_the_one_that_was_set_or_came_back(self):
        assert self.chat.state() == self.state

    @invariant()
    def a_follower_tells_each_numbered_turn_once(self):
        self.followed += [
            (stored.turn.id, stored.seq) for stored in self.live.look() if stored.seq is not None
        ]
        assert self.followed == list(self.answered)
        assert self.live.diverged == 0

    @invariant()
    def a_cursor_goes_on_where_it_was(self):
        following = self.chat.follow(after=self.cursor, idle_timeout=0)
        self.resumed += [(turn.id, turn.seq) for turn in following if turn.seq is not None]
        self.cursor = str(following.cursor)
        assert self.resumed == list(self.answered)

    # --- the end

    def everything_comes_back(self):
        done = self.restore()
        again = self.restore()
        if again is not None:
            assert (again.restored, again.summaries) == (0, [])
        found = self.files()
        in_log = found.keys(found.log)
        stays = set(found.keys(found.trash))
        assert stays.isdisjoint(in_log)
        for turn_id, seq in stays:  # only where the same id was recorded anew after a deletion
            assert any(other == turn_id and newer > seq for other, newer in in_log)
        assert [key for key in self.answered if key not in stays] == in_log
        hands = Counter(line for line in found.log if line in self.by_hand)
        for line, count in Counter(self.by_hand).items():
            assert hands[line] >= count
            if not self.crashed or b'"id"' in line:
                assert hands[line] == count
        if done is not None and not stays:
            assert not found.trash_files
        if self.IS_EXACT and not stays:
            expected = [plain(line) for line in self.original.split(b"\n")[:-1]]
            assert [plain(line) for line in found.log if not is_ours(line)] == expected


class RestoringExactly(Restoring):
    """As above, without what leaves no trace of where a line by hand stood."""

    IS_EXACT = True


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch):
    """Syncs change no answer here: what they are for is shown where disks fail."""
    monkeypatch.setattr(os, "fsync", _pass)
    for module in (compact, durability, files, heal, state, append):
        if hasattr(module, "sync_data"):
            monkeypatch.setattr(module, "sync_data", _pass)


def _pass(fd):
    """Done."""


_SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=20,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
Restoring.TestCase.settings = _SETTINGS
RestoringExactly.TestCase.settings = _SETTINGS
TestRestoring = Restoring.TestCase
TestRestoringExactly = RestoringExactly.TestCase
