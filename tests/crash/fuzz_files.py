"""Fuzzing the other files: compressed logs, states, dropped ids, convmem.toml, and what comes in.

Of a damaged file either what was written is read, or it is told; nothing else is made of it.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from random import Random

from distort import Distorter, read_corpus
from fuzz_judge import batch_of, seal_holds
from fuzz_logs import Logs
from fuzz_repair import Changes

from convmem import jsontext
from convmem.errors import ConvmemError, CorruptLog, InvalidTurn, UsageError
from convmem.log import codec, read
from convmem.log.compressed import cold_compress, cold_pack
from convmem.log.files import Folder
from convmem.log.removing import dropped
from convmem.log.state import FOLDER, State, file_name
from convmem.rules import Rules
from convmem.settings import SETTINGS, Settings
from convmem.turns import draft, draft_from_object, turn_from_object

_NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class _Files:
    """A folder of its own for one kind of file."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, type(self).__name__.lower())
        os.makedirs(self.path, mode=0o700)
        self.folder = Folder.open(self.path)
        self.distorter = Distorter(tuple(read_corpus("").values()))

    def close(self) -> None:
        self.folder.close()

    def put(self, name: str, data: bytes) -> None:
        with open(os.path.join(self.path, name), "wb") as file:
            file.write(data)


class Cold(Changes):
    """A damaged compressed log: parts that are whole are read whole, and nothing is made up."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        # Many parts of what is never worth it.
        cold_compress._BLOCK_BYTES = 1
        cold_compress._blocks = lambda size: size if size < 1 << 40 else 0
        cold_pack.PART_BYTES = 500
        # Turns that have left their batch, too.
        self._crcs = {codec.line_crc(line) for line in self.logs.written.lines}
        self._packed: list[tuple[bytes, list[bytes], list[tuple[int, int, int, int]]]] = []
        for log in (*self.logs.logs, self.logs.long[:20_000].rpartition(b"\n")[0] + b"\n"):
            self.begin(log)
            given = [line for _, line in self.read()]
            if self.chat.compress().outcome != "compressed":
                continue
            with open(f"{self.log}.zst", "rb") as file:
                packed = file.read()
            cold = read._open_cold(Folder.open(self.folder), "trip")[1]
            parts = [(each.at, each.size, each.start, each.end) for each in cold._cold.parts]
            self._packed.append((packed, given, parts))
            os.unlink(f"{self.log}.zst")

    def case(self, chance: Random) -> tuple[int, str | None]:
        packed, given, parts = self._packed[int(chance.random() * len(self._packed))]
        due: list[bytes] = []
        if chance.random() < 0.5:
            # Damage within the parts: the others are read as if nothing had been.
            last = parts[-1][0] + parts[-1][1]
            inside, at, end = self.logs.distorter.in_place(chance, packed[:last])
            data = inside + packed[last:]
            hit = [
                (start, stop)
                for begun, size, start, stop in parts
                if begun < end and at < begun + size
            ]
            place = 0
            for line in given:
                behind = place + len(line) + 1
                is_hit = any(start < behind and place < stop for start, stop in hit)
                if not is_hit and batch_of(line) is None:  # of a batch others may be hit
                    due.append(line)
                place = behind
            if place != parts[-1][3]:
                due = []  # marks and damage among them: places are not known
        else:
            data = self.logs.distorter.distort(chance, packed)
        if os.path.exists(self.log):
            os.unlink(self.log)
        with open(f"{self.log}.zst", "wb") as file:
            file.write(data)
        os.chmod(f"{self.log}.zst", 0o600)
        folder = Folder.open(self.folder)
        try:
            with read.Reader(folder, "trip") as reader:
                forward = [each.line for each in reader.in_order(_unnoticed)]
            with read.Reader(folder, "trip") as reader:
                backward = [each.line for each in reader.newest_first(_unnoticed)]
        finally:
            folder.close()
        made_up = [
            line
            for line in (*forward, *backward)
            if line not in self.logs.written.lines and codec.line_crc(line) not in self._crcs
        ]
        if made_up:
            return len(due), f"{made_up[0][:200]!r} was never written"
        missing = [line for line in due if line not in set(forward)]
        if missing:
            return len(due), f"{missing[0][:200]!r}, of a part that is whole, was not read"
        return len(due), None


class States(_Files):
    """A damaged state is told, or is read as it was written; clearing keeps its bytes."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.inner = os.path.join(self.path, FOLDER)
        os.mkdir(self.inner, 0o700)
        self.name = os.path.join(FOLDER, file_name("trip"))
        self.values = {"session": "a1", "n": 2**70, "list": [1, {"x": None}], "text": "é\u2028"}
        state = State(self.folder, "trip")
        state.update(self.values, until=None, now=_NOW, timeout_seconds=1)
        until = datetime(2027, 1, 1, tzinfo=UTC)
        self.values |= state.update({"token": "t"}, until=until, now=_NOW, timeout_seconds=1)
        with open(os.path.join(self.path, self.name), "rb") as file:
            self.written = file.read()

    def case(self, chance: Random) -> tuple[int, str | None]:
        data = self.distorter.distort(chance, self.written)
        self.put(self.name, data)
        try:
            found = State(self.folder, "trip").read(now=_NOW)
        except CorruptLog:
            return 0, None
        if found == self.values:
            return 1, None
        # Without a seal it may be one by hand: then it says what its text says.
        try:
            text = json.loads(data)
        except ValueError:
            return 0, f"{data[:200]!r} was read as {found!r}"
        if seal_holds(data.removesuffix(b"\n")):
            return 0, None  # it is another file's, and whole
        if b'"_c":"' in data[-20:]:
            return 0, f"a sealed state was read as {found!r}"
        by_hand = {key: item for key, item in text.items() if key[:1] != "_" and item is not None}
        if not found.items() <= by_hand.items():
            return 0, f"{data[:200]!r} was read as {found!r}"
        return 0, None


class Dropped(_Files):
    """Damage among the remembered ids forgets them at worst, and hides no others."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        turns = [
            codec.turn_line(draft("user", "x", id=f"id {at}"), at, "2026-11-21T09:00:00Z", None)
            for at in range(1, 9)
        ]
        self._remember(b"".join(turns), now=0.0)
        self.name = os.path.join(dropped.FOLDER, "trip.jsonl")
        with open(os.path.join(self.path, self.name), "rb") as file:
            self.written = file.read()
        self.lines = self.written.splitlines()

    def case(self, chance: Random) -> tuple[int, str | None]:
        data = self.distorter.distort(chance, self.written)
        self.put(self.name, data)
        finished = data.split(b"\n")[:-1]
        ids = {f"id {at}" for at in range(1, 9)}
        many = dropped.find_all(self.folder, "trip", ids, 1.0).turns
        due = 0
        for at, line in enumerate(self.lines, start=1):
            turn_id = f"id {at}"
            one = dropped.find(self.folder, "trip", turn_id, 1.0)
            seqs = (one and one.seq), (many[turn_id].seq if turn_id in many else None)
            if seqs[0] != seqs[1]:
                return due, f"{turn_id} is {seqs[0]} alone and {seqs[1]} among others"
            if line in finished:
                due += 1
                others = [each for each in finished if each.startswith(line[:13]) and each != line]
                if one is None or (one.seq != at and not others):
                    return due, f"{turn_id} is remembered as {one and one.seq}"
        self._remember(b"", now=1.0)
        after = {turn_id: each.seq for turn_id, each in many.items()}
        again = dropped.find_all(self.folder, "trip", ids, 1.0).turns
        if after != {turn_id: each.seq for turn_id, each in again.items()}:
            return due, "a compaction changes what is remembered"
        return due, None

    def _remember(self, lines: bytes, *, now: float) -> None:
        """Remember the turns in *lines*, as a compaction does that takes them out of a log."""
        self.put("gone", lines)
        fd = self.folder.open_file("gone", os.O_RDONLY)
        try:
            spans = [(0, len(lines))]
            dropped.remember(
                self.folder, "trip", fd, spans, is_discarded=False, now=now, until=1e10
            )
        finally:
            os.close(fd)


class Toml(_Files):
    """Any convmem.toml is read, or it is said in words on which line it is wrong."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.written = read_corpus(".toml")["convmem.toml"]

    def case(self, chance: Random) -> tuple[int, str | None]:
        self.put("convmem.toml", self.distorter.distort(chance, self.written))
        problems: list[ConvmemError] = []
        settings = Settings.load(self.path, {}, on_problem=problems.append)
        for name in SETTINGS:
            settings.value(name)
        Rules.of(settings, on_problem=problems.append).doubts()
        try:
            Rules.of(Settings.load(self.path, {}))
        except UsageError as error:
            if not problems or not str(error):
                return 0, f"told only where it is raised: {error}"
        else:
            if problems:
                return 0, f"told, and not raised: {problems[0]}"
        return 0, None


class Text(_Files):
    """Any line for ``record --jsonl`` is stored so that it is read as it was given, or refused."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.lines = read_corpus(".ndjson")["turns.ndjson"].splitlines()

    def case(self, chance: Random) -> tuple[int, str | None]:
        line = self.lines[int(chance.random() * len(self.lines))]
        data = self.distorter.distort(chance, line).replace(b"\n", b" ")
        try:
            value = jsontext.loads(data)
        except jsontext.NotJson:
            return 0, None
        if value != _parsed(data):
            return 0, f"{data[:200]!r} was read as {value!r}"
        try:
            given = draft_from_object(value)
        except InvalidTurn:
            return 0, None
        stored = codec.turn_line(given, 1, "2026-11-21T09:00:00.123456Z", None)
        turn = None if b"\n" in stored[:-1] else codec.parse(stored[:-1])
        if turn is None or codec.fault_of(stored[:-1]) is not None or not codec.has_head(stored):
            return 0, f"{data[:200]!r} was stored as a line that is no turn"
        same = turn_from_object(dict(value))
        if same is None or (turn.role, turn.content) != (same.role, same.content):
            return 0, f"{data[:200]!r} was stored as {turn!r}"
        return 1, None


def _parsed(data: bytes) -> object:
    """Read JSON with another parser."""
    try:
        return json.loads(data.decode())
    except ValueError as error:
        return error


def _unnoticed(damage: object) -> None:
    """It is expected."""


def missing_for_cold() -> str | None:
    """Say whether logs can be compressed here."""
    try:
        Logs()
        from convmem.log.compressed.cold_file import zstd_library

        zstd_library()
    except UsageError as error:
        return str(error)
    return None
