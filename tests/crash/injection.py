"""Faults at the system calls of a real process, by strace: which calls there are, and one failing.

``calls`` runs a command under strace and lists those of its calls that meet the archive or the
standard streams. ``Fault`` names one of them and what becomes of it: an error, or death.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from before_and_after import Archives
from commands import Command, run
from ledger import LOST
from verdict import Judgement, judge

KILL = "KILL"

_WRITE = ("ENOSPC", "EDQUOT", "EIO", "EINTR")
_SYNC = ("EIO", "ENOSPC", "EDQUOT", "EINTR")
_MAKE = ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EACCES")
_RENAME = ("ENOSPC", "EROFS", "EIO")
_MODE = ("EIO", "EROFS", "EPERM")

ERRORS: dict[str, tuple[str, ...]] = {
    "write": _WRITE,
    "pwrite64": _WRITE,
    "fdatasync": _SYNC,
    "fsync": _SYNC,
    "ftruncate": ("EIO", "EINTR", "EROFS"),
    "rename": _RENAME,
    "renameat": _RENAME,
    "renameat2": _RENAME,
    "link": _RENAME,
    "linkat": _RENAME,
    "unlink": ("EIO", "EROFS", "EACCES"),
    "unlinkat": ("EIO", "EROFS", "EACCES"),
    "openat": ("EMFILE", "ENOMEM", "EIO", "EACCES", "EINTR"),
    "mkdir": _MAKE,
    "mkdirat": _MAKE,
    "flock": ("ENOLCK", "EINTR", "EIO"),
    "copy_file_range": _WRITE,
    "sendfile": _WRITE,
    "fchmod": _MODE,
    "fchmodat": _MODE,
    "statfs": ("EIO", "ENOMEM"),
    "fstatfs": ("EIO", "ENOMEM"),
    "pread64": ("EIO", "EINTR"),
    "getdents64": ("EIO", "ENOMEM"),
}
"""The system calls that are made to fail, and how each of them can in earnest."""

_CREATING = ("ENOSPC", "EDQUOT", "EROFS", "EMFILE")
_READING = ("pread64", "getdents64", "openat")
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)")


@dataclass(frozen=True, slots=True)
class Call:
    """One system call of a command: the *number*-th of its name, and the *own*-th that matters."""

    name: str
    number: int
    own: int
    text: str

    @property
    def creates(self) -> bool:
        return "O_CREAT" in self.text

    @property
    def stream(self) -> int | None:
        """Return which standard stream it writes to, if any."""
        found = re.match(r"([12])<", self.text)
        return int(found[1]) if found and self.name == "write" else None


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of one call of one command."""

    command: Command
    call: Call
    error: str  # or KILL

    @property
    def is_failed_sync(self) -> bool:
        """Whether it is a sync of something that must last, and fails."""
        return (
            self.call.name in ("fsync", "fdatasync")
            and self.error not in ("EINTR", KILL)
            and self.command.writes
            and ".index" not in self.call.text
        )

    @property
    def label(self) -> str:
        return f"{self.command.name}, {self.error} at {self.call.name} {self.call.own}"


def missing() -> str | None:
    """Say what this machine lacks to inject faults."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-f", "--seccomp-bpf", "true"], capture_output=True)
    return None if tried.returncode == 0 else "strace may not trace here"


def calls(
    command: Command, archives: Archives, place: str, mutant: str | None = None
) -> list[Call]:
    """Run *command* without a fault and return its calls, those that fail already left out."""
    root = archives.copy(place, command)
    path = os.path.join(place, "calls")
    run(command, root, before=_strace(path, []), mutant=mutant)
    return [
        call
        for call in _ours(path, place)
        if " = -1 " not in call.text or "EEXIST" in call.text or "ENOENT" in call.text
    ]


def faults(command: Command, found: list[Call]) -> Iterator[Fault]:
    """Yield every fault at every call of *command*."""
    for call in found:
        # No system fails to give a lock back.
        errors = () if "LOCK_UN" in call.text else ERRORS[call.name]
        for error in _CREATING if call.creates else errors:
            yield Fault(command, call, error)
        if command.writes and call.name not in ("pread64", "getdents64"):
            yield Fault(command, call, KILL)


def strike(
    fault: Fault, archives: Archives, place: str, mutant: str | None = None
) -> Judgement | None:
    """Run the command with its fault and judge it; ``None`` where the fault met nothing."""
    root = archives.copy(place, fault.command)
    path = os.path.join(place, "calls")
    how = f"error={fault.error}" if fault.error != KILL else "signal=KILL"
    inject = ["-e", f"inject={fault.call.name}:{how}:when={fault.call.number}"]
    ended = run(fault.command, root, before=_strace(path, inject), mutant=mutant)
    met = list(_ours(path, place))
    if not any(_is_hit(call, fault) for call in met):
        return None
    words = () if fault.error == KILL else (os.strerror(getattr(errno, fault.error)),)
    judgement = judge(
        fault.command,
        archives,
        root,
        ended,
        words=words,
        # Numbers count by thread: the message of another one may have been met as well.
        deaf=any(call.stream == 2 and _is_hit(call, fault) for call in met),
        mutant=mutant,
    )
    if fault.is_failed_sync and ended.status == fault.command.status:
        judgement.findings.add(LOST, "a sync failed, and it said that it was done")
    return judgement


def _is_hit(call: Call, fault: Fault) -> bool:
    if fault.error == KILL:
        return (call.name, call.own) == (fault.call.name, fault.call.own)
    # Where threads go on meanwhile, the outcome of a call stands on another line.
    return (call.name, call.number) == (fault.call.name, fault.call.number)


def _strace(path: str, inject: list[str]) -> list[str]:
    traced = ",".join(f"?{name}" for name in ERRORS)
    return ["strace", "-f", "--seccomp-bpf", "-y", "-o", path, "-e", f"trace={traced}", *inject]


def _ours(path: str, place: str) -> Iterator[Call]:
    numbers: Counter[tuple[str, str]] = Counter()
    own: Counter[str] = Counter()
    main = ""
    with open(path, encoding="utf-8", errors="replace") as log:
        for line in log:
            process, _, rest = line.partition(" ")
            found = _CALL.match(rest.strip())
            if found is None or found[1] not in ERRORS:
                continue
            name, text = found[1], found[2]
            numbers[process, name] += 1
            is_stream = name == "write" and text[:2] in ("1<", "2<") and process == main
            if f"{place}/" not in text and not is_stream:
                continue
            main = main or process
            if process != main and name in _READING:
                continue  # numbers count by thread: the fault would meet the main one's start
            own[name] += 1
            yield Call(name, numbers[process, name], own[name], text)
