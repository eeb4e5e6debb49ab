"""What must be true of an archive after the power was cut at a certain moment of its story."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from itertools import pairwise

from kill_worker import content_of
from ledger import (
    DOUBLED,
    LOST,
    NAME,
    OTHER,
    REORDERED,
    Files,
    Findings,
    Ledger,
    leftovers,
    look,
    read_files,
)
from power_work import Story, Told

from convmem import Archive, ConversationNotFound, ConvmemError, Observer, RetentionPolicy


@contextlib.contextmanager
def without_syncs() -> Iterator[None]:
    """Let convmem sync nothing, on a disk that is thrown away when it was looked at."""

    def no_sync(fd: int) -> None:
        """Take a sync's place."""

    modules = [
        module
        for name, module in sys.modules.items()
        if name.startswith("convmem.") and hasattr(module, "sync_data")
    ]
    real = [(module, module.sync_data) for module in modules]
    sync_file = os.fsync
    try:
        os.fsync = no_sync
        for module in modules:
            module.sync_data = no_sync
        yield
    finally:
        os.fsync = sync_file
        for module, sync in real:
            module.sync_data = sync


class Judge:
    """Judges the images of one story.

    Attributes:
        looked_for: How many answered turns were looked for, in all images together.
        torn_tails, nul_tails: How many images had such an end.
    """

    def __init__(self, story: Story) -> None:
        self._story = story
        self.looked_for = self.torn_tails = self.nul_tails = 0

    def judge(self, root: str, cut_at: int) -> Findings:
        """Judge the archive in *root* once *cut_at* entries of the log had come, and use it."""
        findings = Findings()
        ledger = self._ledger(cut_at)
        self.looked_for += len(ledger.answers)
        keeps = self._story.plan.keeps
        try:
            findings.extend(look(root, ledger, keeps=keeps), "after the cut: ")
            left = read_files(root)
            self.torn_tails += bool(left.tail)
            self.nul_tails += left.tail.endswith(b"\0")
            self._check_prefix(left, findings)
            self._check_done(root, left, cut_at, findings)
            self._go_on(root, ledger, cut_at, findings)
            findings.extend(ledger.findings)
            findings.extend(look(root, ledger, keeps=keeps), "after the retries: ")
            self._check_healed(root, left, cut_at, findings)
        except ConvmemError as error:
            findings.add(OTHER, f"cannot be used afterwards: {error!r}")
        return findings

    def _asked(self, cut_at: int) -> Iterator[Told]:
        return (each for each in self._story.told if each.asked[0] <= cut_at)

    def _answered(self, cut_at: int, what: str = "") -> list[Told]:
        """Return what was promised by then."""
        return [
            each
            for each in self._story.told
            if each.told is not None
            and each.told[0] <= cut_at
            and each.is_lasting
            and (not what or each.what == what)
        ]

    def _ledger(self, cut_at: int) -> Ledger:
        ledger = Ledger()
        for each in self._answered(cut_at):
            for turn_id, seq in zip(each.ids, each.seqs, strict=True):
                ledger.answer(turn_id, seq, content_of(turn_id))
        for each in self._answered(cut_at, "swap"):
            for turn_id, seq, content in each.detail["came"]:
                ledger.answer(turn_id, seq, content)
            ledger.batches.append([turn_id for turn_id, _, _ in each.detail["came"]])
        flushed = {turn for each in self._answered(cut_at, "flush") for turn in each.detail}
        for each in self._story.told:
            for turn_id, seq in zip(each.ids, each.seqs, strict=False):
                if turn_id in flushed:
                    ledger.answer(turn_id, seq, content_of(turn_id))
            if each.what == "turns" and len(each.ids) > 1:
                ledger.batches.append(each.ids)
        return ledger

    def _check_prefix(self, left: Files, findings: Findings) -> None:
        """Whatever is lost is lost from the end, whatever was promised of it."""
        seqs = [line.seq for line in left.log if line.is_turn and line.seq]
        for earlier, later in pairwise(seqs):
            if later != earlier + 1 and not self._story.plan.moves_all:
                findings.add(LOST, f"a gap: {later} comes after {earlier}")

    def _check_kept(self, healed: Files, cut_at: int, findings: Findings) -> None:
        """Who appended behind a torn line had brought that to safety first."""
        answers = [each for each in self._answered(cut_at) if each.ids]
        for torn in (*self._answered(cut_at, "tear"), *self._answered(cut_at, "junk")):
            assert torn.told is not None
            was_behind = any(each.asked[1] > torn.told[1] for each in answers)
            if was_behind and not healed.holds(torn.detail.encode()):
                findings.add(LOST, f"a torn line is nowhere: {torn.detail!r}")

    def _check_done(self, root: str, left: Files, cut_at: int, findings: Findings) -> None:
        """What was done when the power was cut stays done."""
        seqs = [line.seq for line in left.log if line.is_turn and line.seq]
        restores = [each for each in self._asked(cut_at) if each.what == "restore"]
        for each in (*self._answered(cut_at, "compact"), *self._answered(cut_at, "delete")):
            assert each.told is not None
            if any(restore.asked[1] > each.told[1] for restore in restores):
                continue
            # One that is under way may have begun while this one was.
            if any(restore.told is None or restore.told[1] > each.asked[1] for restore in restores):
                continue
            if any(seq <= each.detail for seq in seqs):
                findings.add(
                    OTHER, f"{min(seqs)} is back, though {each.what} took all up to {each.detail}"
                )
        there = {line.id for line in left.log if line.is_turn}
        for each in self._answered(cut_at, "swap"):
            back = there.intersection(each.detail["gone"])
            if back:
                findings.add(OTHER, f"{back} are back, though others came in their place")
        states = self._answered(cut_at, "state")
        if states:
            asked = max(each.detail for each in self._asked(cut_at) if each.what == "state")
            answered = max(each.detail for each in states)
            with Archive.open(root, observer=Observer()) as archive:
                found = archive.conversation(NAME).state().get("n")
            if found is None or not answered <= found <= asked:
                findings.add(LOST, f"the state is {found}; {answered} was answered, {asked} asked")

    def _go_on(self, root: str, ledger: Ledger, cut_at: int, findings: Findings) -> None:
        """Retry all that was asked for, and record one turn more."""
        with Archive.open(root, durability="none", observer=Observer()) as archive:
            chat = archive.conversation(NAME)
            if self._story.plan.moves_all:
                self._restore(archive, ledger, findings)
            highest = ledger.highest_seq
            for each in list(self._asked(cut_at)):
                if not each.ids:
                    continue
                drafts = [("user", content_of(turn_id), turn_id) for turn_id in each.ids]
                given = [dict(zip(("role", "content", "id"), d, strict=True)) for d in drafts]
                if each.what == "turns":
                    turns = chat.record_many(given)
                else:
                    turns = [chat.record_many([draft])[0] for draft in given]
                for turn_id, turn in zip(each.ids, turns, strict=True):
                    ledger.answer(turn_id, turn.seq or 0, content_of(turn_id))
            last = chat.record("user", content_of("last"), id="last", critical=True)
            if (last.seq or 0) <= highest:
                findings.add(DOUBLED, f"seq {last.seq} was given out before, up to {highest}")
            ledger.answer("last", last.seq or 0, content_of("last"))

    def _restore(self, archive: Archive, ledger: Ledger, findings: Findings) -> None:
        chat = archive.conversation(NAME)
        try:
            done = chat.restore()
            if done.conflicts:
                findings.add(LOST, f"{done.conflicts} turns do not come back: {done.files}")
        except ConversationNotFound:
            pass  # nothing is in the trash
        there = {turn.id: turn.seq for turn in chat.turns()} if chat.exists() else {}
        for turn_id, (seq, _) in ledger.answers.items():
            if turn_id not in there:
                findings.add(LOST, f"{turn_id}, answered as {seq}, did not come back")
            elif there[turn_id] != seq:
                findings.add(REORDERED, f"{turn_id}, answered as {seq}, came as {there[turn_id]}")

    def _check_healed(self, root: str, left: Files, cut_at: int, findings: Findings) -> None:
        healed = read_files(root)  # also what lay compressed before is plain by now
        self._check_kept(healed, cut_at, findings)
        junk = {each.detail.encode() for each in self._story.told if each.what == "junk"}
        for line in healed.log:
            if not line.is_good and line.data + b"\n" not in junk:
                findings.add(OTHER, f"a line that is none: {line.data[:60]!r}")
        if healed.tail:
            findings.add(OTHER, f"the log does not end with a line: {healed.tail[:60]!r}")
        for piece in (*(line.data for line in left.log if not line.is_good), left.tail):
            if piece and not healed.holds(piece):
                findings.add(LOST, f"bytes that are nowhere: {piece[:60]!r}")
        with Archive.open(root, durability="none", observer=Observer()) as archive:
            archive.conversation(NAME).compact(RetentionPolicy(keep_last=1_000_000))
            archive.conversation(NAME).update_state({"seen": True})  # it has a name of its own
        for path in leftovers(root):
            if os.path.basename(path).startswith(f".{NAME}."):
                findings.add(OTHER, f"never cleared away: {os.path.basename(path)}")
