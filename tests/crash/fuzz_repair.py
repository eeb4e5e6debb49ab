"""Fuzzing what changes a damaged log: repair, the append that heals, compaction, restore.

Nothing that was whole may go, no byte may be lost, nothing may be made up.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from datetime import UTC, datetime
from random import Random

from fuzz_judge import Judged, is_mark, is_turn, seal_holds, seq_of
from fuzz_logs import LogBench

from convmem import Archive, Observer, RetentionPolicy
from convmem.log import codec, durability, files, heal
from convmem.log.removing import rewrite

_NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
_MOST_CASES_PER_ARCHIVE = 500
_SHORT_BYTES = 4 << 10


class Changes(LogBench):
    """One archive with a conversation whose log is distorted before each case."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        # Here nothing crashes: syncs change no answer.
        os.fsync = os.fdatasync = _pass
        for module in (durability, files, heal, rewrite):
            module.sync_data = _pass
        self.root = os.path.join(folder, "archive")
        self.folder = os.path.join(self.root, "default")
        self.log = os.path.join(self.folder, "trip.jsonl")
        self.archive: Archive | None = None
        self._cases = 0

    def close(self) -> None:
        super().close()
        if self.archive is not None:
            self.archive.close()

    def begin(self, data: bytes) -> None:
        """Have the conversation's log be *data*, in an archive that knows nothing of it."""
        if self._cases % _MOST_CASES_PER_ARCHIVE == 0:
            if self.archive is not None:
                self.archive.close()
            shutil.rmtree(self.root, ignore_errors=True)
            self.archive = Archive.open(self.root, durability="none", observer=Observer())
            self.archive.conversation("other").record("user", "makes the folders")
        self._cases += 1
        for inner in (".quarantine", ".trash", ".dropped"):
            path = os.path.join(self.folder, inner)
            for name in os.listdir(path) if os.path.isdir(path) else ():
                os.unlink(os.path.join(path, name))
        # Another file, as for a process that has not met it before.
        with open(f"{self.log}.new", "wb") as file:
            file.write(data)
        os.chmod(f"{self.log}.new", 0o600)
        os.rename(f"{self.log}.new", self.log)
        self.chat = Archive.conversation(self._fresh(), "trip")

    def _fresh(self) -> Archive:
        assert self.archive is not None
        self.archive.close()
        self.archive = Archive.open(self.root, durability="none", observer=Observer())
        return self.archive

    def read(self) -> list[tuple[int, bytes]]:
        return [(each.offset, each.line) for each in self.chat.stored_turns()]

    def now(self) -> bytes:
        with open(self.log, "rb") as file:
            return file.read()

    def inside(self, inner: str) -> list[bytes]:
        """Return the files of a folder inside."""
        path = os.path.join(self.folder, inner)
        found = []
        for name in sorted(os.listdir(path)) if os.path.isdir(path) else ():
            with open(os.path.join(path, name), "rb") as file:
                found.append(file.read())
        return found


class Repairs(Changes):
    """Repair: sound afterwards, no byte lost, nothing made up, and a second one changes nothing."""

    def case(self, chance: Random) -> tuple[int, str | None]:
        data, judged = self.logs.distorted(chance)
        self.begin(data)
        before = [line for _, line in self.read()]
        report = self.chat.repair(now=_NOW)
        after = self.now()
        aside = b"".join(self.inside(".quarantine"))
        wrong = (
            _lost_bytes(data, after + aside)
            or self._lost_turns(judged, before, after)
            or self._made_up(judged, after)
        )
        if wrong is not None:
            return len(judged.due), wrong
        if report.set_aside_bytes != len(aside) or report.bytes_after != len(after):
            return len(judged.due), "the report miscounts"
        checked = self.chat.verify()
        if checked.found != report.left or (report.is_changed and checked.lines["blank"]):
            return len(judged.due), f"not sound after it: {checked.found}, told {report.left}"
        again = self.chat.repair(now=_NOW)
        if again.is_changed or self.now() != after:
            return len(judged.due), "a second repair changes something"
        return len(judged.due), None

    def _lost_turns(self, judged: Judged, before: list[bytes], after: bytes) -> str | None:
        """Whoever was seen is seen still, and what was whole is whole."""
        now = [line for _, line in self.read()]
        there = {codec.line_crc(line) for line in now}
        for line in (*before, *(line for _, line in judged.due)):
            if codec.line_crc(line) not in there:
                return f"{line[:200]!r} is gone"
        del after
        return None

    def _made_up(self, judged: Judged, after: bytes) -> str | None:
        """Each line of the repaired log was written by somebody, as far as anyone can tell."""
        written = self.logs.written
        whole = {line for line, state in zip(judged.lines, judged.states, strict=True) if state}
        whole.add(judged.tail)
        crcs = {codec.line_crc(line) for line in written.lines}
        for line in after.split(b"\n")[:-1]:
            if line in whole or is_mark(line):
                continue
            if seal_holds(line):
                if codec.line_crc(line) not in crcs:
                    return f"{line[:200]!r} was never sealed"
            elif line not in written.by_hand and not _is_by_hand(line):
                return f"{line[:200]!r} was made up"
        return None


def _is_by_hand(line: bytes) -> bool:
    """Whether a part of a line may be one by hand: nothing in it looks as if we had written it."""
    return is_turn(line) and seq_of(line) is None and b"inner" not in line and b"_c" not in line


def _lost_bytes(before: bytes, after: bytes) -> str | None:
    """Say what is there less often; what is added is newlines and marks."""
    lost = Counter(before) - Counter(after)
    return f"bytes are lost: {dict(lost)}" if lost else None


class Appends(Changes):
    """A turn recorded behind damage: it has the next number, and all that was whole is there."""

    def case(self, chance: Random) -> tuple[int, str | None]:
        data, judged = self.logs.distorted(chance)
        self.begin(data)
        before = [line for _, line in self.read()]
        if chance.random() < 0.5:
            turns = [self.chat.record("user", "new")]
        else:
            turns = self.chat.record_many(
                [{"role": "user", "content": f"new {at}", "id": f"new {at}"} for at in range(7)]
            )
        after, aside = self.now(), b"".join(self.inside(".quarantine"))
        before += judged.unended
        wrong = _lost_bytes(data, after + aside)
        now = [line for _, line in self.read()]
        if wrong is None and now[: len(before)] != before:
            odd = next((one for one, two in zip(before, now, strict=False) if one != two), None)
            wrong = f"{odd!r} is not read any more"
        if wrong is None and len(now) != len(before) + len(turns):
            wrong = f"{len(before)} turns and {len(turns)} more are {len(now)}"
        seqs = [seq for line in before if seal_holds(line) and (seq := seq_of(line)) is not None]
        # Of a longer log it is found at a score of places whether the last number is the highest.
        is_short = len(data) < _SHORT_BYTES
        if (
            wrong is None
            and (is_short or judged.is_in_order)
            and turns[0].seq <= max(seqs, default=0)
        ):
            wrong = f"the new turn got seq {turns[0].seq}, which is spent"
        return len(judged.due), wrong


class Compactions(Changes):
    """Compaction of a damaged log: what it keeps, it keeps; what it drops is in the trash; and
    back again, whatever happened to the trash meanwhile."""

    def case(self, chance: Random) -> tuple[int, str | None]:
        data, judged = self.logs.distorted(chance)
        self.begin(data)
        before = [line for _, line in self.read()]
        keep = int(chance.random() * 6)
        if self.chat.compact(RetentionPolicy(keep_last=keep), now=_NOW).dropped:
            before += judged.unended  # else it has only looked
        kept = [line for _, line in self.read()]
        due = before[max(0, len(before) - keep) :]
        if [*map(codec.line_crc, kept)] != [*map(codec.line_crc, due)]:
            return len(judged.due), f"of {len(before)} turns {len(kept)} others were kept"
        trash = b"".join(self.inside(".trash"))
        in_trash = {codec.line_crc(line) for line in trash.split(b"\n")}
        for line in before[: len(before) - len(kept)]:
            if codec.line_crc(line) not in in_trash:
                return len(judged.due), f"{line[:200]!r} was dropped for good"
        wrong = self._nowhere(judged)
        return len(judged.due), wrong or self._restore(chance, kept)

    def _nowhere(self, judged: Judged) -> str | None:
        """Say which line is not in the log, nor in the trash, nor in the quarantine."""
        everywhere = b"".join([self.now(), *self.inside(".trash"), *self.inside(".quarantine")])
        # A turn that has left its batch says the same.
        crcs = {codec.line_crc(line) for line in everywhere.split(b"\n")}
        for line in (*judged.lines, judged.tail):
            is_there = line in everywhere or not line.strip() or is_mark(line)
            if not is_there and not (seal_holds(line) and codec.line_crc(line) in crcs):
                return f"{line[:200]!r} is nowhere any more"
        return None

    def _restore(self, chance: Random, kept: list[bytes]) -> str | None:
        """Distort the trash, and bring back what is left of it."""
        path = os.path.join(self.folder, ".trash")
        names = os.listdir(path) if os.path.isdir(path) else []
        if len(names) != 1:
            return None if not names else f"{len(names)} files in the trash"
        with open(os.path.join(path, names[0]), "rb") as file:
            data = file.read()
        if chance.random() < 0.8:
            data = self.logs.distorter.distort(chance, data)
            with open(os.path.join(path, names[0]), "wb") as file:
                file.write(data)
        judged = Judged(data, self.logs.written)
        self.chat.restore(now=_NOW)
        now = [codec.line_crc(line) for _, line in self.read()]
        left = {
            codec.line_crc(line) for each in self.inside(".trash") for line in each.split(b"\n")
        }
        for line in kept:
            if codec.line_crc(line) not in now:
                return f"restore took {line[:200]!r}"
        for _, line in judged.due:
            if codec.line_crc(line) not in now and codec.line_crc(line) not in left:
                return f"{line[:200]!r} is neither in the log nor in the trash"
        return self._nowhere(judged)


def _pass(fd: int) -> None:
    """Done."""
