"""What clients were told of one conversation, and what its files must therefore hold.

``read_files`` reads them without convmem, which must not be its own judge; ``look`` reads the log
as any reader does.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from convmem import Archive, ConversationNotFound, Observer

LOST = "lost"
DOUBLED = "doubled"
REORDERED = "reordered"
HALF_BATCH = "half batches"
OTHER = "other"
KINDS = (LOST, DOUBLED, REORDERED, HALF_BATCH, OTHER)

NAMESPACE = "default"
NAME = "trip"


class Findings:
    """Everything that was not as promised, by kind. True when there is any."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {kind: [] for kind in KINDS}

    def __bool__(self) -> bool:
        return any(self.found.values())

    def __str__(self) -> str:
        lines = [f"{kind}: {text}" for kind in KINDS for text in self.found[kind][:5]]
        return "\n".join(lines) or "nothing found"

    def add(self, kind: str, text: str) -> None:
        self.found[kind].append(text)

    def extend(self, others: Findings, where: str = "") -> None:
        for kind in KINDS:
            self.found[kind].extend(where + text for text in others.found[kind])

    def count(self, kind: str) -> int:
        return len(self.found[kind])


@dataclass(slots=True)
class Line:
    """One finished line of a log or of a trash file."""

    data: bytes
    id: str = ""
    seq: int = 0
    content: object = None
    is_turn: bool = False
    is_good: bool = True


@dataclass(slots=True)
class Files:
    """All that is on disk of one conversation."""

    log: list[Line] = field(default_factory=list)
    tail: bytes = b""  # what follows the log's last newline
    trash: list[Line] = field(default_factory=list)
    quarantine: list[bytes] = field(default_factory=list)
    raw: bytes = b""

    def holds(self, piece: bytes) -> bool:
        """Whether these bytes are kept anywhere."""
        return (
            piece in self.raw
            or any(piece in kept for kept in self.quarantine)
            or any(piece.rstrip(b"\n") == line.data for line in self.trash)
        )


TrashRead = dict[str, list[Line]]


def read_files(root: str, trash_read: TrashRead | None = None) -> Files:
    """Read all there is of the conversation; *trash_read* keeps what never changes once read."""
    folder = os.path.join(root, NAMESPACE)
    files = Files()
    try:
        with open(os.path.join(folder, f"{NAME}.jsonl"), "rb") as log:
            files.raw = log.read()
    except FileNotFoundError:
        pass
    finished, _, files.tail = files.raw.rpartition(b"\n")
    if finished or files.raw.startswith(b"\n"):
        files.log = [_line(data) for data in finished.split(b"\n")]
    for path in _inside(folder, ".trash"):
        if not os.path.basename(path).startswith(f"{NAME}.") or path.endswith(".state"):
            continue
        lines = None if trash_read is None else trash_read.get(path)
        if lines is None:
            with open(path, "rb") as trash:
                lines = [_line(data) for data in trash.read().split(b"\n")[:-1]]
            if trash_read is not None:
                trash_read[path] = lines
        files.trash.extend(lines)
    for path in _inside(folder, ".quarantine"):
        if os.path.basename(path).startswith(f"{NAME}."):
            with open(path, "rb") as kept:
                files.quarantine.append(kept.read())
    return files


def leftovers(root: str) -> list[str]:
    """Return the files in the making that somebody left behind."""
    return [
        os.path.join(folder, name)
        for folder, _, names in os.walk(root)
        for name in names
        if name.endswith(".tmp")
    ]


def _inside(folder: str, inner: str) -> list[str]:
    path = os.path.join(folder, inner)
    if not os.path.isdir(path):
        return []
    return sorted(os.path.join(path, name) for name in os.listdir(path) if name[:1] != ".")


def _line(data: bytes) -> Line:
    """Read a line by its checksum: CRC-32 of all but the seal, closing brace included."""
    line = Line(data, is_good=False)
    if data[-17:-10] != b',"_c":"' or b"%08x" % zlib.crc32(data[:-17] + b"}") != data[-10:-2]:
        return line
    try:
        value = json.loads(data)
    except ValueError:
        return line
    line.is_good = True
    if "_last_seq" not in value:
        line.is_turn = True
        line.id, line.seq, line.content = value["id"], value["seq"], value["content"]
    return line


class Ledger:
    """The answers that clients got: id, ``seq`` and content; and which turns went as a batch.

    And the ids of turns that somebody scrubs, which may say nothing any more, and of those whose
    scrubbing was answered: these say nothing anywhere.
    """

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, object]] = {}
        self.batches: list[list[str]] = []
        self.scrubbed: set[str] = set()
        self.gone: set[str] = set()
        self.findings = Findings()

    def copy(self) -> Ledger:
        other = Ledger()
        other.answers = dict(self.answers)
        other.batches = list(self.batches)
        other.scrubbed = set(self.scrubbed)
        other.gone = set(self.gone)
        return other

    @property
    def highest_seq(self) -> int:
        return max((seq for seq, _ in self.answers.values()), default=0)

    def answer(self, turn_id: str, seq: int, content: object) -> None:
        """Write an answer down; a second one for the same id must say the same."""
        first = self.answers.setdefault(turn_id, (seq, content))
        if first[0] != seq:
            text = f"{turn_id} was answered as {first[0]} and again as {seq}"
            self.findings.add(DOUBLED, text)

    def check(
        self,
        log: Iterable[tuple[str, int, object]],
        trash: Iterable[tuple[str, int, object]] = (),
        *,
        may_lack: Callable[[str, int], bool] = lambda turn_id, seq: False,
    ) -> Findings:
        """Compare (id, seq, content) triples of a log and its trash with what was answered."""
        findings = Findings()
        places: dict[str, tuple[int, object]] = {}
        owners: dict[int, str] = {}
        last = 0
        for turn_id, seq, content in log:
            if turn_id in places:
                findings.add(DOUBLED, f"{turn_id} is there as {places[turn_id][0]} and as {seq}")
            if seq <= last:
                findings.add(REORDERED, f"{turn_id} has seq {seq} and stands after {last}")
            last = max(last, seq)
            places[turn_id] = (seq, content)
            _own(findings, owners, seq, turn_id)
        for turn_id, seq, content in trash:
            # In both: a compaction that did not come to its end.
            if places.setdefault(turn_id, (seq, content))[0] != seq:
                findings.add(DOUBLED, f"{turn_id} went as {seq}, is there as {places[turn_id][0]}")
            _own(findings, owners, seq, turn_id)
        for turn_id, (seq, content) in self.answers.items():
            place = places.get(turn_id)
            if place is None:
                if not may_lack(turn_id, seq):
                    findings.add(LOST, f"{turn_id}, answered as {seq}, is gone")
            elif place[0] != seq:
                findings.add(REORDERED, f"{turn_id}, answered as {seq}, is {place[0]}")
            elif place[1] != content and not (turn_id in self.scrubbed and place[1] == ""):
                findings.add(LOST, f"{turn_id} says something else")
        for batch in self.batches:
            there = sum(turn_id in places for turn_id in batch)
            if 0 < there < len(batch) and not any(
                turn_id not in places and may_lack(turn_id, self.answers.get(turn_id, (0, 0))[0])
                for turn_id in batch
            ):
                findings.add(HALF_BATCH, f"{there} of {len(batch)} turns from {batch[0]} on")
        return findings


def _own(findings: Findings, owners: dict[int, str], seq: int, turn_id: str) -> None:
    if owners.setdefault(seq, turn_id) != turn_id:
        findings.add(DOUBLED, f"seq {seq} belongs to {owners[seq]} and to {turn_id}")


def triples(lines: Iterable[Line]) -> list[tuple[str, int, object]]:
    """Return what ``Ledger.check`` takes, of the turns among *lines*."""
    return [
        (line.id, line.seq, line.content)
        for line in lines
        if line.is_turn and line.seq is not None  # a summary has none
    ]


def look(
    root: str, ledger: Ledger, *, keeps: int | None = None, trash_read: TrashRead | None = None
) -> Findings:
    """Read the log as any reader does, change nothing, and compare it with the answers.

    *keeps* is how many turns a deleting compaction leaves, if there is one: then the oldest may
    be gone for good.
    """
    with Archive.open(root, observer=Observer()) as archive:
        try:
            chat = archive.conversation(NAME)
            turns = list(chat.turns())
            # From the end they are read in another way, which must come to the same.
            newest = {count: list(chat.tail(count)) for count in (1, 2, 3, 5, 20)}
        except ConversationNotFound:
            turns, newest = [], {}
    log = [(turn.id or "", turn.seq, turn.content) for turn in turns if turn.seq is not None]
    # The trash second: what leaves the log in between is there by then.
    trash = read_files(root, trash_read).trash
    lowest = min((seq for _, seq, _ in log), default=0)

    def may_lack(turn_id: str, seq: int) -> bool:
        return keeps is not None and len(log) >= keeps and seq < lowest

    findings = ledger.check(log, triples(trash), may_lack=may_lack)
    for count, found in newest.items():
        if found != turns[-count:]:
            findings.add(HALF_BATCH, f"tail({count}) gives others than the last of all turns")
    return findings
