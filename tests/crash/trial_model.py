"""Trial: one conversation against a list, through all that may be done to it, in any order.

``tests/log/test_model.py`` has Hypothesis draw shorter programs for recording and following, and
shrinks what fails. Here walks go on through damage, repair, deletion, restore, purge, compression,
state and forks as well; each follows from the seed and its number.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from unittest import mock

import reader_mutants
from lab import Case, Control, Setup, Trial
from ledger import NAME, NAMESPACE, OTHER, Findings

from convmem import Archive, ConversationNotFound, ConvmemError, Observer, RetentionPolicy
from convmem.log import durability, files, heal, read
from convmem.log.checks import repair, verify
from convmem.log.removing import rewrite

_STEPS = 60
_LATER = timedelta(days=400)


class Walk:
    """A conversation and the model of it."""

    def __init__(self, root: str, chance: Random) -> None:
        self.root = root
        self.log = os.path.join(root, NAMESPACE, f"{NAME}.jsonl")
        self.chance = chance
        self.turns: dict[int, tuple[str, str]] = {}  # seq: id and content
        self.trash: dict[int, tuple[str, str]] = {}
        self.state: dict[str, int] = {}
        self.last_seq = self.answered = self.made = 0
        self.exists = False
        self.cursor: str | None = None
        self.followed = 0
        self.archive = self._opened()
        self.record()

    def close(self) -> None:
        self.archive.close()

    def _opened(self) -> Archive:
        return Archive.open(self.root, durability="none", observer=Observer())

    @property
    def chat(self):
        return self.archive.conversation(NAME)

    # --- what is done ------------------------------------------------------------------------

    def record(self) -> None:
        self.made += 1
        self._take([self.chat.record("user", f"says {self.made}", id=f"id {self.made}")])

    def record_batch(self) -> None:
        items = []
        for _ in range(self.chance.randrange(2, 5)):
            self.made += 1
            items.append({"role": "user", "content": f"says {self.made}", "id": f"id {self.made}"})
        self._take(self.chat.record_many(items))

    def _take(self, turns) -> None:
        self.exists = True
        for turn in turns:
            self.answered += 1
            assert turn.seq > self.last_seq, f"seq {turn.seq} after {self.last_seq}"
            self.last_seq = turn.seq
            self.turns[turn.seq] = (turn.id, turn.content)

    def retry(self) -> None:
        known = [(seq, each) for seq, each in self.turns.items()]
        if known:
            seq, (turn_id, content) = self.chance.choice(known)
            found = self.chat.record("user", content, id=turn_id).seq
            assert found == seq, f"{turn_id} was {seq}, its retry is {found}"

    def tear(self) -> None:
        """A writer dies in the middle."""
        if self._make_plain():
            with open(self.log, "ab") as log:
                log.write(b'{"id":"torn","seq":'[: self.chance.randrange(1, 19)])

    def write_nul(self) -> None:
        if self._make_plain():
            with open(self.log, "ab") as log:
                log.write(bytes(self.chance.randrange(1, 100)))

    def rot(self) -> None:
        """A byte of what a turn says changes."""
        if not self._make_plain():
            return
        with open(self.log, "rb") as log:
            data = log.read()
        lines = [line for line in data.split(b"\n") if b'"says ' in line and b'"_b"' not in line]
        if not lines:
            return
        line = self.chance.choice(lines)
        at = data.index(line) + line.index(b'"says ') + 2
        with open(self.log, "r+b") as log:
            log.seek(at)
            log.write(b"#")
        self.turns = {
            seq: each
            for seq, each in self.turns.items()
            if f'"id":"{each[0]}",'.encode() not in line
        }
        self._begin_following_anew()

    def repair(self) -> None:
        if self.exists:
            self.chat.repair()
            found = self.chat.verify().found
            assert not found, f"after a repair: {found}"

    def compact(self) -> None:
        if self.exists:
            keep = self.chance.randrange(0, 8)
            self.chat.compact(RetentionPolicy(keep_last=keep))
            for seq in sorted(self.turns)[: max(0, len(self.turns) - keep)]:
                self.trash[seq] = self.turns.pop(seq)

    def delete(self) -> None:
        if self.exists:
            self.chat.delete()
            self.trash.update(self.turns)
            self.turns, self.state = {}, {}
            self.exists = False
            self._begin_following_anew()

    def restore(self) -> None:
        had = dict(self.state)
        try:
            self.chat.restore()
        except ConversationNotFound:
            assert not self.trash, f"{len(self.trash)} turns of the trash are not found"
            return
        self.turns.update(self.trash)
        self.trash = {}
        self.exists = os.path.exists(self.log) or os.path.exists(f"{self.log}.zst")
        # A state comes back where there is none.
        self.state = self.chat.state()
        assert not had or self.state == had, "a state was changed"
        self._begin_following_anew()

    def purge(self) -> None:
        self.archive.purge_trash(timedelta(0), now=datetime.now(UTC) + _LATER)
        self.trash = {}
        if not self.exists:
            self.last_seq = 0  # nothing of it can come back: the numbers begin anew

    def compress(self) -> None:
        if self.exists:
            self.chat.compress()

    def set_state(self) -> None:
        key = self.chance.choice("abc")
        self.state[key] = self.chance.randrange(100)
        self.chat.update_state({key: self.state[key]})

    def clear_state(self) -> None:
        self.chat.clear_state()
        self.state = {}

    def reopen(self) -> None:
        self.archive.close()
        self.archive = self._opened()

    def fork(self) -> None:
        """A child records, and goes; the parent goes on."""
        self.made += 1
        turn_id, content = f"id {self.made}", f"says {self.made}"
        child = os.fork()
        if child == 0:
            status = 1
            try:
                self.chat.record("user", content, id=turn_id)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0, "the child failed"
        seq = self.last_seq + 1
        again = self.chat.record("user", content, id=turn_id)
        assert again.seq >= seq
        self._take([again])

    def _make_plain(self) -> bool:
        if self.exists and os.path.exists(f"{self.log}.zst"):
            self.chat.uncompress()
        return self.exists

    def _begin_following_anew(self) -> None:
        self.cursor, self.followed = None, 0

    # --- what must hold ----------------------------------------------------------------------

    def check(self) -> str | None:
        """Say what readers and followers see that the model does not."""
        due = [(seq, *each) for seq, each in sorted(self.turns.items())]
        try:
            found = [(turn.seq, turn.id, turn.content) for turn in self.chat.turns()]
            back = [(turn.seq, turn.id, turn.content) for turn in self.chat.tail(10_000)]
        except ConversationNotFound:
            return "it is gone" if self.exists else None
        if found != due or back != due:
            return f"read {[each[0] for each in found]}, due {[each[0] for each in due]}"
        if self.chat.state() != self.state:
            return f"the state is {self.chat.state()}, due {self.state}"
        following = self.chat.follow(after=self.cursor, idle_timeout=0)
        seqs = [turn.seq for turn in following]
        self.cursor = str(following.cursor)
        wanted = [seq for seq, *_ in due if seq > self.followed]
        if seqs != wanted:
            return f"followed {seqs}, due {wanted}"
        self.followed = max([self.followed, *wanted])
        return None


_STEPS_OF_A_WALK = (
    *("record",) * 6,
    *("record_batch",) * 3,
    *("retry",) * 3,
    *("tear", "write_nul", "rot", "repair", "compact", "compact", "delete", "restore", "restore"),
    *("purge", "compress", "set_state", "clear_state", "reopen", "fork"),
)


def _walks(mutant: str = "") -> Callable[[Setup], Iterator[Case]]:
    def cases(setup: Setup) -> Iterator[Case]:
        for number in range(setup.cases or 1):
            if setup.wants(f"walk {number}"):
                yield _walked(setup, number)

    def without(setup: Setup) -> Iterator[Case]:
        # The safeguard is taken out in a process that then ends.
        for number in range(setup.cases or 1):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    getattr(reader_mutants, mutant)()
                    status = 2 if _walked(setup, number).findings else 0
                finally:
                    os._exit(status)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            findings = Findings()
            if code:
                findings.add(OTHER, "it was noticed" if code == 2 else f"it ended with {code}")
            yield Case(f"walk {number}", 0, findings)

    return without if mutant else cases


def _walked(setup: Setup, number: int) -> Case:
    with contextlib.ExitStack() as held:
        # No power is cut here, and nobody is writing what stands unfinished.
        for module in (durability, files, heal, repair, rewrite):
            held.enter_context(mock.patch.object(module, "sync_data", _pass))
        for module in (read, verify):
            held.enter_context(mock.patch.object(module, "_WRITING_SECONDS", 0))
        held.enter_context(mock.patch.object(os, "fsync", _pass))
        return _walk(setup, number)


def _pass(fd: int) -> None:
    """Done."""


def _walk(setup: Setup, number: int) -> Case:
    findings = Findings()
    chance = Random(f"{setup.seed} {number}")
    root = os.path.join(setup.folder, f"walk-{number}")
    walk = Walk(root, chance)
    done = []
    try:
        for _ in range(_STEPS):
            done.append(chance.choice(_STEPS_OF_A_WALK))
            getattr(walk, done[-1])()
            wrong = walk.check()
            if wrong is not None:
                findings.add(OTHER, f"{wrong} after {' '.join(done[-12:])}")
                break
    except (AssertionError, ConvmemError) as error:
        findings.add(OTHER, f"{error!r} after {' '.join(done[-12:])}")
    walk.close()
    shutil.rmtree(root)
    return Case(f"walk {number}", walk.answered, findings)


TRIALS = (
    Trial(
        "model",
        "whatever is done to a conversation, in whatever order, a list says the same",
        "walks",
        _walks(),
        goal=3000,
        short=8,
        controls=(
            Control("dropped turns are not kept", _walks("without_trash"), limit=20),
            Control("seals are not looked at", _walks("without_looking_at_seals"), limit=20),
        ),
    ),
)
