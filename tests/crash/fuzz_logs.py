"""Fuzzing what reads a log: readers, bisection, search, looks, counts, verify; and the follower.

Each target distorts a log of the corpus and compares what convmem reads of it with what must be.
"""

from __future__ import annotations

import os
from random import Random

from distort import Distorter, read_corpus
from fuzz_judge import Judged, Written, is_mark, seal_holds, seq_of

from convmem.log import codec, count, follow, known_ids, look, read, records
from convmem.log.checks import verify
from convmem.log.files import Folder
from convmem.log.read import StoredTurn


class Logs:
    """The corpus of logs and what is known of it."""

    def __init__(self) -> None:
        found = read_corpus(".jsonl")
        self.logs = tuple(found.values())
        self.long = _long(found["long.jsonl"])
        self.written = Written((*self.logs, self.long))
        self.distorter = Distorter(self.logs)

    def distorted(self, chance: Random) -> tuple[bytes, Judged]:
        """Return a distorted log, and what must be read of it."""
        log = self.logs[int(chance.random() * len(self.logs))]
        data = self.distorter.distort(chance, log)
        return data, Judged(data, self.written)


def _long(log: bytes) -> bytes:
    """Return a log that is long enough to be bisected, of lines as in *log*."""
    from convmem.turns import draft

    lines = log.splitlines()
    made = []
    for at in range(160):
        text = "far on " * (len(lines[at % len(lines)]) // 5 + at % 7)
        turn = draft("user", text, id=f"far {at}")
        made.append(codec.turn_line(turn, 3 * at + 1, "2026-11-21T09:00:00.123456Z", None))
    return b"".join(made)


class LogBench:
    """A file without a name, and what reads it. Waits for no writer: there is none."""

    def __init__(self) -> None:
        self.logs = Logs()
        self.fd = os.memfd_create("log")
        read._WRITING_SECONDS = 0
        verify._WRITING_SECONDS = 0

    def put(self, data: bytes) -> None:
        """Have the file hold *data*."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, data, 0)

    def close(self) -> None:
        os.close(self.fd)


class Readers(LogBench):
    """Forwards, backwards and from any end: all undamaged turns, once, in order, no others."""

    def case(self, chance: Random) -> tuple[int, str | None]:
        """Return how many turns were due, and what was wrong."""
        data, judged = self.logs.distorted(chance)
        self.put(data)
        told: dict[int, int] = {}

        def note(damage: records.Damage) -> None:
            told[damage.offset] = damage.length

        with _reader(self.fd) as reader:
            forward = [(each.offset, each.line) for each in reader.in_order(note)]
            backward = [(each.offset, each.line) for each in reader.newest_first(_unnoticed)]
        backward.reverse()
        wrong = judged.wrong_with(forward)
        if wrong is None and forward != backward and not judged.is_scrambled:
            odd = set(forward) ^ set(backward)
            wrong = f"forwards and backwards differ in {min(odd)!r}"
        if wrong is None:
            wrong = _untold(judged, dict(forward), told)
        return len(judged.due), wrong


def _untold(judged: Judged, given: dict[int, bytes], told: dict[int, int]) -> str | None:
    """Say which damage was not told of."""
    last = max((offset for offset in given if offset < judged.end), default=-1)
    for offset, line in zip(judged.offsets, judged.lines, strict=True):
        # Behind the last turn: half a batch, perhaps in the making.
        if offset in given or offset in told or is_mark(line) or offset > last:
            continue
        return f"nobody was told that {line[:200]!r} is damaged"
    return None


class Bisection(LogBench):
    """Turns after a number, from the middle of a log that is bisected."""

    def case(self, chance: Random) -> tuple[int, str | None]:
        data = self.logs.distorter.distort(chance, self.logs.long)
        judged = Judged(data, self.logs.written)
        if not judged.is_in_order:
            return 0, None
        self.put(data)
        after = int(chance.random() * 490)
        with _reader(self.fd) as reader:
            found = [each.line for each in reader.in_order(_unnoticed, after_seq=after)]
        due = [line for _, line in judged.due if (seq_of(line) or 0) > after]
        missing = [line for line in due if line not in set(found)]
        if missing:
            return len(due), f"after {after} {missing[0][:100]!r} was not read"
        early = [line for line in found if 0 < (seq_of(line) or 0) <= after and seal_holds(line)]
        if early:
            return len(due), f"after {after} {early[0][:100]!r} was read"
        return len(due), None


class Searches(LogBench):
    """The search by id: the first turn with that id, if readers see one."""

    def case(self, chance: Random) -> tuple[int, str | None]:
        data, judged = self.logs.distorted(chance)
        self.put(data)
        with _reader(self.fd) as reader:
            end = reader.end
            turns = [each.turn for each in reader.in_order(_unnoticed) if each.offset < end]
        if judged.is_scrambled:
            return 0, None
        ids = [turn.id for turn in turns if turn.id is not None]
        wanted = [*chance.sample(ids, min(3, len(ids))), "never said"]
        many = known_ids.search_all(self.fd, {*wanted, "a", "b", "c", "d", "e"}, 0, end)
        for turn_id in wanted:
            first = next((turn for turn in turns if turn.id == turn_id), None)
            one = known_ids.search(self.fd, turn_id, 0, end)
            other = many.get(turn_id)
            if (one and one.turn) != first:
                return len(judged.due), f"searching {turn_id!r} found {one and one.turn!r}"
            if (other and other.turn) != first:
                return len(judged.due), f"searching {turn_id!r} among many differs"
        return len(judged.due), None


class Looks(LogBench):
    """Lists, counts and checks agree with what readers see."""

    def case(self, chance: Random) -> tuple[int, str | None]:
        data, judged = self.logs.distorted(chance)
        self.put(data)
        size = len(data)
        with _reader(self.fd) as reader:
            given = list(reader.in_order(_unnoticed))
            last_seq = reader.last_seq()
        ends, closely = look.look(self.fd, size), look._look_closely(self.fd, size)
        # A quick look believes the lines of a batch without having seen all of it.
        if judged.has_whole_batches_only:
            for name in look.Ends.__slots__:
                if getattr(ends, name) != getattr(closely, name):
                    return 0, f"a quick look and a close one differ in {name}"
            if ends.last_seq != last_seq:
                return 0, f"a look says seq {ends.last_seq}, readers {last_seq}"
        counted, _ = count.count(self.fd, size, known=None, advanced=_ignore)
        if counted.turns != len(given):
            return 0, f"{counted.turns} turns were counted, {len(given)} read"
        findings: list[verify.Finding] = []
        report = verify.verify(self.fd, size, findings.append, _ignore, is_still=True)
        if sum(report.bytes.values()) != size or report.size != size:
            return 0, f"verify accounts for {sum(report.bytes.values())} of {size} bytes"
        if report.turns != len(given):
            return 0, f"verify counts {report.turns} turns, readers see {len(given)}"
        undamaged = {
            each.offset for each in findings if each.kind not in ("duplicate_id", "seq_disorder")
        }
        hidden = undamaged & {offset for offset, _ in judged.due}
        if hidden:
            return 0, f"verify takes the whole line at byte {min(hidden)} for damage"
        return len(judged.due), None


class Follows:
    """A follower, while the file is damaged, cut, grows, and is replaced between two looks.

    Whatever happened before: what is whole, numbered higher than all that was seen, and not
    behind half a batch at the end, has been given after the next look.
    """

    def __init__(self, folder: str) -> None:
        self.logs = Logs()
        self.path = os.path.join(folder, "followed.jsonl")
        self.folder = folder

    def close(self) -> None:
        """Nothing is held open."""

    def case(self, chance: Random) -> tuple[int, str | None]:
        log = self.logs.logs[int(chance.random() * len(self.logs.logs))]
        lines = log.splitlines(keepends=True)
        at = int(chance.random() * (len(lines) + 1))
        data = b"".join(lines[:at])
        self._replace(data)
        follower = follow.Follower(
            lambda: Folder.open(self.folder), "followed", after=None, damaged=_unnoticed
        )
        highest = due = 0
        seen: set[tuple[int, bytes]] = set()
        try:
            for _ in range(2 + int(chance.random() * 4)):
                diverged = follower.diverged
                given = [(each.offset, each.line) for each in follower.look()]
                judged = Judged(data, self.logs.written)
                wrong = judged.wrong_with(given, all_due=False)
                if wrong is None:
                    wrong = self._missed(judged, given, highest)
                if wrong is not None:
                    return due, wrong
                due += len(given)
                if follower.diverged != diverged:
                    seen.clear()
                for offset, line in given:
                    highest = max(highest, StoredTurn(line, offset).seq or 0)
                data, at = self._change(chance, data, lines, at)
        finally:
            follower.release()
        return due, None

    def _missed(self, judged: Judged, given: list[tuple[int, bytes]], highest: int) -> str | None:
        if not judged.is_in_order:
            return None
        lines = {line for _, line in given}
        for _, line in judged.due:
            if (seq_of(line) or 0) > highest and line not in lines:
                return f"{line[:200]!r} was not followed"
        return None

    def _change(
        self, chance: Random, data: bytes, lines: list[bytes], at: int
    ) -> tuple[bytes, int]:
        kind = int(chance.random() * 8)
        if kind <= 2:  # it grows, at times by half a line
            more = lines[at : at + 1 + int(chance.random() * 3)]
            cut = b"".join(more)
            if chance.random() < 0.2:
                cut = cut[: int(chance.random() * (len(cut) + 1))]
            self._append(cut)
            return data + cut, at + len(more)
        if kind == 3:  # damage, in place
            data, _, _ = self.logs.distorter.in_place(chance, data)
            self._write(data)
        elif kind == 4:  # cut short
            data = data[: int(chance.random() * (len(data) + 1))]
            self._write(data)
        elif kind == 5:  # compacted
            left = data.splitlines(keepends=True)
            data = b"".join(left[int(chance.random() * (len(left) + 1)) :])
            self._replace(data)
        elif kind == 6:  # replaced by something else
            data = self.logs.distorter.distort(chance, data)
            self._replace(data)
        else:
            os.unlink(self.path)
            if chance.random() < 0.5:
                data = b""
                self._replace(data)
            else:
                self._replace(data)
        return data, at

    def _replace(self, data: bytes) -> None:
        with open(f"{self.path}.new", "wb") as file:
            file.write(data)
        os.rename(f"{self.path}.new", self.path)

    def _append(self, data: bytes) -> None:
        with open(self.path, "ab") as file:
            file.write(data)

    def _write(self, data: bytes) -> None:
        with open(self.path, "r+b") as file:
            file.write(data)
            file.truncate()


class _Open(read.Reader):
    """A reader of a descriptor that is somebody else's."""

    __slots__ = ()

    def __init__(self, fd: int) -> None:
        self._cold = None
        self._fd = os.dup(fd)
        self.size = os.fstat(fd).st_size
        self.end = read.lines.finished_end(self._fd, self.size)


def _reader(fd: int) -> read.Reader:
    return _Open(fd)


def _unnoticed(damage: records.Damage) -> None:
    """It is expected."""


def _ignore(amount: int) -> None:
    """Nobody watches."""
