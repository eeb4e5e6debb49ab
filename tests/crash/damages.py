"""What crashes, disks and hands do to the files of a conversation."""

from __future__ import annotations

import os
from pathlib import Path

from ledger import NAME

from convmem.log.compressed import cold_file
from convmem.log.files import Folder


def torn(path: str) -> None:
    with open(path, "ab") as log:
        log.write(b'{"id":"torn","seq":7,"ts":"2026-05-04T03:02:01Z","role":"us')


def half_batch(path: str) -> None:
    """Take the batch's last line off, as if its write had been torn there."""
    with open(path, "r+b") as log:
        data = log.read()
        log.truncate(data.rindex(b"\n", 0, -1) + 1)


def torn_batch(path: str) -> None:
    """Take half of the batch's second line off."""
    with open(path, "r+b") as log:
        ends = [at for at, byte in enumerate(log.read()) if byte == 10]
        log.truncate(ends[-2] - 20)


def nul_tail(path: str) -> None:
    """As ext4 leaves a file whose size reached the disk before its content."""
    with open(path, "ab") as log:
        log.write(bytes(300))


def no_newline(path: str) -> None:
    """Add a turn by hand, as some editors do: without a newline."""
    with open(path, "ab") as log:
        log.write(b'{"role":"user","content":"by hand"}')


def flipped(path: str) -> None:
    """Damage the second turn."""
    data = bytearray(Path(path).read_bytes())
    at = data.index(b"word 1")
    data[at : at + 4] = b"w0rd"
    Path(path).write_bytes(data)


def fused(path: str) -> None:
    """Put the second and the third turn on one line, behind half of a record."""
    lines = Path(path).read_bytes().splitlines(keepends=True)
    lines[1] = lines[0][:30] + lines[1].rstrip(b"\n")
    Path(path).write_bytes(b"".join(lines))


def fused_end(path: str) -> None:
    """Put the last two lines of the batch on one, and cut the newline off."""
    lines = Path(path).read_bytes().splitlines(keepends=True)
    Path(path).write_bytes(b"".join([*lines[:-2], lines[-2].rstrip(b"\n"), lines[-1][:-1]]))


def bad_part(path: str) -> None:
    """Damage the third part of a compressed log."""
    data = bytearray(Path(path).read_bytes())
    part = _parts(path)[2]
    data[part.at + part.size // 2] ^= 1
    Path(path).write_bytes(data)


def bad_batch_part(path: str) -> None:
    """Damage the last part, which holds the end of the batch."""
    data = bytearray(Path(path).read_bytes())
    part = _parts(path)[-1]
    data[part.at + part.size // 2] ^= 1
    Path(path).write_bytes(data)


def cut_packed(path: str) -> None:
    """Cut a compressed log off in its last part, with all that convmem noted behind."""
    part = _parts(path)[-1]
    os.truncate(path, part.at + part.size // 2)


def _parts(path: str) -> list[cold_file.Part]:
    folder = Folder.open(os.path.dirname(path))
    with cold_file.ColdFile(folder, os.path.basename(path)) as file:
        return list(file.parts)


def bad_checksum(path: str) -> None:
    """Damage the checksum of the only part: all that it holds proves to be sound."""
    data = bytearray(Path(path).read_bytes())
    part = _parts(path)[0]
    data[part.at + part.size - 1] ^= 1
    Path(path).write_bytes(data)


def flipped_in_trash(path: str) -> None:
    """Damage a turn that a compaction took."""
    (taken,) = Path(path).parent.glob(".trash/*.jsonl")
    flipped(str(taken))


def brought_back(path: str) -> None:
    """Put the second turn back from the trash, by hand and first, and a torn copy of it behind."""
    for taken in sorted(Path(path).parent.glob(".trash/*.jsonl")):
        for line in taken.read_bytes().splitlines(keepends=True):
            if line.startswith(b'{"id":"t1"'):
                Path(path).write_bytes(line + Path(path).read_bytes() + line[:-18])
                return


def state_left(path: str) -> None:
    """Put the state back that a deletion took, as if that had died before it."""
    folder = Path(path).parent
    (taken,) = folder.glob(".trash/*.state")
    taken.rename(folder / ".state" / f"{NAME}.json")


def litter(path: str) -> None:
    """Leave files in the making, as somebody who died would."""
    folder = Path(path).parent
    for place in (".", ".trash", ".index"):
        (folder / place).mkdir(exist_ok=True, mode=0o700)
        name = "facts.jsonl" if place == ".index" else NAME
        (folder / place / f".{name}.1.00000000.tmp").write_bytes(b"half a")


def bad_state(path: str) -> None:
    Path(path).write_bytes(b'{"session":"o\0ld"}\n')
