"""Archives as they stand before a command and after it, read without convmem."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from commands import Command, run
from ledger import _line

from convmem import Archive, Conversation, Observer, RetentionPolicy
from convmem.log.compressed.cold_file import zstd_library

_RULES = """\
[[keep]]
id = ["cold", "gone", "cracked", "half"]

[[retention]]
keep_last = 4
"""
_TORN = b'{"id":"torn9","seq":9,"ts":"2026-11-21T09:00:00.0'
_ROTTEN = b'{"id":"sick2","seq":2,"role":"user","content":"rotten","_c":"00000000"}\n'


@dataclass(slots=True)
class Disk:
    """What an archive holds, read without convmem.

    Attributes:
        logs: By file name without its ending, the turns in their order: (id, seq, content).
        trash: The turns in the trash, and the states there.
        states: By name, what is in them.
        pieces: Which of the damaged bytes that there were are there, in a file or quarantine.
        forms: Of each log, how it is stored, and how many of its lines are damaged.
        leftovers: Files in the making.
    """

    logs: dict[str, list[tuple[str, object, str]]] = field(default_factory=dict)
    trash: set[tuple[str, ...]] = field(default_factory=set)
    states: dict[str, str] = field(default_factory=dict)
    pieces: set[bytes] = field(default_factory=set)
    forms: dict[str, tuple[str, int]] = field(default_factory=dict)
    leftovers: list[str] = field(default_factory=list)

    def same_as(self, other: Disk) -> bool:
        """Whether both hold the same, however it is stored."""
        return self._all() == other._all()

    def _all(self) -> tuple[object, ...]:
        return self.logs, self.trash, self.states, self.pieces, self.forms

    def same_turns_as(self, other: Disk) -> bool:
        """Whether both hold the same for whoever reads it."""
        mine = (self.logs, self.states)
        return mine == (other.logs, other.states)

    def turns(self) -> set[tuple[str, ...]]:
        """Return all turns that are there, in a log or in the trash."""
        in_logs = {
            (name, turn_id, str(seq), content)
            for name, turns in self.logs.items()
            for turn_id, seq, content in turns
        }
        return in_logs | {turn for turn in self.trash if len(turn) == 4}


def read_disk(root: str, pieces: Iterable[bytes] = ()) -> Disk:
    """Read what stands in the archive at *root*, and look for *pieces* in it."""
    disk = Disk()
    wanted = set(pieces)
    for folder, _, names in os.walk(root):
        inner = os.path.basename(folder)
        for name in sorted(names):
            path = os.path.join(folder, name)
            if name.endswith(".tmp"):
                disk.leftovers.append(path)
            elif inner == ".trash":
                _read_trash(disk, path, name)
            elif inner == ".quarantine":
                disk.pieces |= {piece for piece in wanted if piece in Path(path).read_bytes()}
            elif inner == ".state":
                disk.states[name] = _state(Path(path).read_bytes())
            elif not inner.startswith(".") and ".jsonl" in name:
                _read_log(disk, path, name, wanted)
    return disk


def _read_log(disk: Disk, path: str, name: str, wanted: set[bytes]) -> None:
    data = Path(path).read_bytes()
    disk.pieces |= {piece for piece in wanted if piece in data}
    log = name.removesuffix(".zst").removesuffix(".jsonl")
    if name.endswith(".zst"):
        if os.path.exists(path.removesuffix(".zst")):
            return  # the plain one is the truth
        data = _unpacked(data)
    found = [_line(line) for line in data.split(b"\n")]
    disk.logs[log] = [
        # A summary has no seq, and a new id each time.
        (line.id if line.seq is not None else "", line.seq, json.dumps(line.content))
        for line in found
        if line.is_turn
    ]
    damaged = sum(bool(line.data) and not line.is_good for line in found)
    disk.forms[log] = ("compressed" if name.endswith(".zst") else "plain", damaged)


def _read_trash(disk: Disk, path: str, name: str) -> None:
    data = Path(path).read_bytes()
    log = name.partition(".")[0]
    if name.endswith(".state"):
        disk.trash.add((log, _state(data)))
        return
    for line in map(_line, data.split(b"\n")):
        if line.is_turn:
            disk.trash.add((log, line.id, str(line.seq), json.dumps(line.content)))


def _state(data: bytes) -> str:
    value = json.loads(data)
    return json.dumps({key: value[key] for key in sorted(value) if key not in ("_c", "_expires")})


def _unpacked(data: bytes) -> bytes:
    """Unpack what still unpacks of a compressed log."""
    zstd = zstd_library()
    parts = []
    while data:
        unpacker = zstd.ZstdDecompressor()
        try:
            parts.append(unpacker.decompress(data))
        except zstd.ZstdError:
            break
        data = unpacker.unused_data
    return b"".join(parts)


class Archives:
    """Archives as they stand before a command: made once, copied for each case."""

    def __init__(self, folder: str, mutant: str | None = None) -> None:
        self.folder = folder
        self.mutant = mutant
        self._template = os.path.join(folder, "template")
        self._pieces = {_TORN, _ROTTEN.strip()}
        self._fill()
        self.before = self.read(self._template)
        self._after: dict[str, Disk] = {}

    def copy(self, place: str, command: Command) -> str:
        """Put a fresh archive into the folder *place* and return its root."""
        root = os.path.join(place, "archive")
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self._template, root)
        if command.name == "compact by rules":
            Path(root, "convmem.toml").write_text(_RULES)
        return root

    def after(self, command: Command) -> Disk:
        """Return what is there when *command* is done without a fault."""
        if command.name not in self._after:
            place = os.path.join(self.folder, f"sound {command.name.replace('/', '-')}")
            os.mkdir(place)
            root = self.copy(place, command)
            ended = run(command, root)
            assert ended.status == command.status, (command.name, ended)
            self._after[command.name] = self.read(root)
            shutil.rmtree(place)
        return self._after[command.name]

    def read(self, root: str) -> Disk:
        """Read what stands in an archive that was copied."""
        return read_disk(root, self._pieces)

    def _fill(self) -> None:
        root = self._template
        with Archive.open(root, observer=Observer()) as archive:

            def talk(name: str, count: int, text: str = "turn") -> Conversation:
                chat = archive.conversation(name)
                for at in range(1, count + 1):
                    chat.record("user", f"{text} {at}", id=f"{name}{at}")
                return chat

            talk("trip", 6).update_state({"session": "old", "count": 1})
            for name in ("long", "cold", "cracked"):
                chat = talk(name, 60, "a long story about trains, leeks and the sea " * 8)
                if name != "long":
                    chat.compress()
            gone = talk("gone", 3)
            gone.update_state({"session": "gone"})
            gone.delete()
            talk("half", 5).compact(RetentionPolicy(keep_last=2))
            for name, damage in (("torn", _TORN), ("sick", _ROTTEN)):
                talk(name, 3)
                with open(os.path.join(root, "default", f"{name}.jsonl"), "ab") as log:
                    log.write(damage)
            archive.conversation("sick").record("user", "after it", id="sick4")
        packed = Path(root, "default", "cracked.jsonl.zst")
        data = bytearray(packed.read_bytes())
        data[len(data) // 2] ^= 0xFF
        packed.write_bytes(bytes(data))
        self._pieces.add(bytes(data))
