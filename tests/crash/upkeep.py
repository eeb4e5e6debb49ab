"""Killing those who tidy up, replace, delete, restore and repair, while others write: nothing goes.

As ``killing``, with these differences: ids are not retried, since what was deleted is begun anew by
a retry; and after every few cycles all that is in the trash is brought back and looked at.
"""

from __future__ import annotations

import os

from killing import Killing
from ledger import LOST, NAME, NAMESPACE, OTHER, REORDERED, Findings, leftovers, look

from convmem import Archive, ConversationNotFound, ConvmemError, Observer
from convmem.log.removing import trash

UPKEEP = (
    "tidier",
    "summer",
    "remover",
    "replacer",
    "deleter",
    "restorer",
    "purger",
    "packer",
    "repairer",
    "stater",
)
EVERYBODY = ("single", "batch", "follower", *UPKEEP)
# All of the trash comes back after so many cycles.
_CYCLES_PER_RESTORE = 4


class UpkeepKilling(Killing):
    """Cycles of upkeep and SIGKILL on a conversation; ``roles`` says who takes part."""

    def __init__(
        self,
        folder: str,
        seed: int,
        *,
        roles: tuple[str, ...] = EVERYBODY,
        mutant: str | None = None,
        lives_seconds: tuple[float, float] = (0.01, 0.12),
    ) -> None:
        super().__init__(folder, seed, roles=roles, mutant=mutant, lives_seconds=lives_seconds)
        self.done: dict[str, int] = dict.fromkeys(roles, 0)
        self.restored = 0

    def _take(self, cycle: int, reports: list[list[object]], findings: Findings) -> dict[str, int]:
        for what, *rest in reports:
            if what == "did":
                self.done[str(rest[0])] += 1
        return super()._take(cycle, reports, findings)

    def _look(self, when: str) -> Findings:
        self._trash_read = {}  # files of the trash change here, and their names come again
        return super()._look(when)

    def _recover(self, cycle: int, unanswered: dict[str, int], before: int) -> Findings:
        """Use the conversation as if nothing had been, and now and then bring all back."""
        findings = Findings()
        try:
            with Archive.open(self._root, durability="none", observer=Observer()) as archive:
                chat = archive.conversation(NAME)
                turn = chat.record("user", f"after cycle {cycle}")
                if (turn.seq or 0) <= self._ledger.highest_seq:
                    findings.add(REORDERED, f"{turn.seq} was given out again")
                self._ledger.answer(turn.id or "", turn.seq or 0, turn.content)
                chat.state()
                if cycle % _CYCLES_PER_RESTORE == _CYCLES_PER_RESTORE - 1:
                    self._bring_back(archive, findings)
        except ConvmemError as error:
            findings.add(OTHER, f"cannot be used afterwards: {error!r}")
            return findings
        findings.extend(look(self._root, self._ledger), "after the restore: ")
        return findings

    def _bring_back(self, archive: Archive, findings: Findings) -> None:
        chat = archive.conversation(NAME)
        try:
            done = chat.restore()
        except ConversationNotFound:
            pass  # whoever was killed had brought all back
        else:
            self.restored += done.restored
            if done.conflicts:
                findings.add(LOST, f"{done.conflicts} turns cannot come back: {done.files}")
        there = {turn.id: turn.seq for turn in chat.turns()}
        for turn_id, (seq, _) in self._ledger.answers.items():
            if there.get(turn_id) != seq:
                findings.add(LOST, f"{turn_id}, answered as {seq}, did not come back")
        chat.repair()
        for finding in chat.verify().findings:
            findings.add(OTHER, f"verify finds {finding}")
        chat.update_state({"seen": self.cycles})
        for path in leftovers(self._root):
            if os.path.basename(path).startswith(f".{NAME}."):
                findings.add(OTHER, f"never cleared away: {os.path.relpath(path, self._root)}")
        kept = os.path.join(self._root, NAMESPACE, trash.FOLDER)
        for name in os.listdir(kept) if os.path.isdir(kept) else ():
            if name.startswith(f"{NAME}.") and not name.endswith(trash.STATE):
                findings.add(OTHER, f"{name} stays in the trash")
