"""Trial: the device fails under a real file system, and works again.

Once a sync has failed, the system shows bytes that are on no disk, calls them clean, and says yes
to the next sync. No turn may be answered on that ground: neither by the process that was told, nor
by the next one, to which the same turn is sent again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import device
from before_and_after import read_disk
from commands import Command, run
from device import Device
from lab import Case, Control, Setup, Trial
from ledger import OTHER, Findings, Ledger

from convmem import Archive, Observer
from convmem.errors import DurabilityUnknown, StorageError

_KINDS = ("ext4", "xfs")
_NOTES: dict[str, float] = {}


def failures(setup: Setup, mutant: str | None = None) -> Iterator[Case]:
    """Yield a case for each time that the device failed: on ext4 and on XFS in turn."""
    for number in range(setup.cases or 1):
        label = f"{_KINDS[number % 2]} {number}"
        if not setup.wants(label):
            continue
        folder = os.path.join(setup.folder, f"device{number}")
        os.mkdir(folder)
        chance = random.Random(f"{setup.seed} {label}")
        rate = chance.choice(("100%", "100%", "60%"))
        with Device(folder, _KINDS[number % 2], rate) as disk:
            failure = _Failure(disk, chance, mutant)
            failure.carry_out()
        yield Case(label, len(failure.ledger.answers), failure.findings)


class _Failure:
    """One device that fails, and what becomes of the turns that are recorded meanwhile."""

    def __init__(self, disk: Device, chance: random.Random, mutant: str | None) -> None:
        self.ledger = Ledger()
        self.findings = Findings()
        self._disk = disk
        self._chance = chance
        self._mutant = mutant
        self._root = os.path.join(disk.mounted, "archive")
        self._count = 0
        self._told = ""  # by the last command
        self._asked: list[tuple[str, str]] = []  # and not answered

    def carry_out(self) -> None:
        """Record; fail; record; work again; record the same and more; look at the disk."""
        for _ in range(self._chance.randrange(1, 4)):
            self._must_record(*self._turn())
        # Else the journal itself would be what fails, and no write would follow at all.
        os.sync()
        with Archive.open(self._root, observer=Observer()) as archive:
            if self._mutant is None:
                chat = archive.conversation("trip")
                turn = chat.record("user", "before", id="before")
                self.ledger.answer("before", turn.seq or 0, "before")
                os.sync()
            is_brief = self._chance.random() < 0.6  # so that the file system's journal is spared
            self._disk.fails()
            was_told = self._mutant is None and self._is_refused(archive)
            if not is_brief or self._mutant is not None:
                self._try(*self._turn())
            if not is_brief:
                self._try(*self._turn())
                if self._chance.random() < 0.5:
                    self._upkeep()
            self._disk.works_again()
            if was_told:
                self._stays_refused(archive)
        self._try_all_again()
        self._try(*self._turn())
        if self._asked or not self._disk.takes_writes():
            _NOTES["file systems that gave up"] = _NOTES.get("file systems that gave up", 0) + 1
            self._remount()
            self._try_all_again()
        for turn_id, _ in self._asked:
            text = f"{turn_id} cannot be recorded, though the device works: {self._told}"
            self.findings.add(OTHER, text)
        self._remount()
        self._check("after it was mounted again")
        self._must_record(*self._turn())
        self._call("repair", "trip", statuses=(0,))
        self._call("verify", "trip", statuses=(0,))
        self._call("compact", "trip", "--keep-last", "9999", statuses=(0,))  # sweeps
        self._check("after a repair")

    def _turn(self) -> tuple[str, str]:
        self._count += 1
        size = self._chance.choice((10, 300, 5000, 9000, 40_000))
        return f"t{self._count}", "x" * size

    def _is_refused(self, archive: Archive) -> bool:
        """Record until a sync fails; that must not be answered. Say whether one did."""
        chat = archive.conversation("trip")
        for _ in range(20):  # not every write fails
            turn_id, text = self._turn()
            try:
                turn = chat.record("user", text, id=turn_id)
            except DurabilityUnknown:
                self._asked.append((turn_id, text))
                return True
            except StorageError:
                self._asked.append((turn_id, text))
                return False  # it could not even be written
            self.ledger.answer(turn_id, turn.seq or 0, text)
        return False

    def _stays_refused(self, archive: Archive) -> None:
        try:
            archive.conversation("trip").record("user", "more", id="more")
        except DurabilityUnknown:
            return
        except StorageError:
            return
        self.findings.add(OTHER, "a log whose sync has failed answered again")

    def _upkeep(self) -> None:
        words = self._chance.choice(
            (
                ("compact", "trip", "--keep-last", "2"),
                ("state", "trip", "set", "session=new"),
                ("repair", "trip"),
                ("verify", "trip"),
            )
        )
        self._call(*words, statuses=(0, 4, 5))

    def _try_all_again(self) -> None:
        asked, self._asked = self._asked, []
        for turn_id, text in asked:
            self._try(turn_id, text)

    def _try(self, turn_id: str, text: str) -> None:
        """Record in a process of its own; note whether it was answered."""
        ended = self._call("record", "trip", text, "--id", turn_id, "--json", statuses=(0, 4))
        if ended != 0:
            self._asked.append((turn_id, text))

    def _must_record(self, turn_id: str, text: str) -> None:
        self._try(turn_id, text)
        if self._asked:
            self.findings.add(OTHER, f"{turn_id} was not recorded, with a sound device")
            self._asked.clear()

    def _call(self, *words: str, statuses: tuple[int, ...]) -> int:
        ended = run(Command("", words), self._root, mutant=self._mutant)
        self._told = ended.err
        if ended.status not in statuses:
            self.findings.add(OTHER, f"{words[0]} ends with {ended.status}: {ended.err[-400:]}")
        if "Traceback" in ended.err:
            self.findings.add(OTHER, f"{words[0]}: {ended.err[-400:]}")
        if words[0] == "record" and ended.status == 0:
            from json import loads

            told = loads(ended.out)
            self.ledger.answer(told["id"], told["seq"], words[2])
        return ended.status

    def _remount(self) -> None:
        self._disk.unmount()
        self._disk.mend()
        self._disk.mount()

    def _check(self, when: str) -> None:
        disk = read_disk(self._root)
        log = [_triple(turn) for turn in disk.logs.get("trip", [])]
        trash = [_triple((turn[1], int(turn[2]), turn[3])) for turn in disk.trash]
        self.findings.extend(self.ledger.check(log, trash), f"{when}: ")
        if disk.leftovers and when == "after a repair":
            self.findings.add(OTHER, f"{when}: left behind: {disk.leftovers}")


def _triple(turn: tuple[str, object, str]) -> tuple[str, int, object]:
    from json import loads

    turn_id, seq, content = turn
    assert isinstance(seq, int)
    return turn_id, seq, loads(content)


def _control(mutant: str) -> Control:
    def cases(setup: Setup) -> Iterator[Case]:
        return failures(setup, mutant)

    return Control(mutant.replace("_", " "), cases, limit=12)


TRIALS = (
    Trial(
        "a device that fails",
        "no turn is answered on the word of a sync that follows one that failed",
        "failures",
        failures,
        goal=60,
        short=2,
        controls=(
            _control("with_syncs_tried_again"),
            _control("with_unwritten_pages_believed"),
        ),
        missing=device.missing,
        notes=_NOTES,
    ),
)
