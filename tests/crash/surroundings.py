"""What may be wrong around a command: a full disk, limits, no permission, nobody who listens.

Nothing here is simulated: disks are full, limits are the kernel's, and descriptors are closed.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from before_and_after import Archives
from commands import Command, run
from lab import may_not_mount
from ledger import OTHER
from verdict import Judgement, judge

_PAGE = 4096
_NO_ROOM = ("no space left", " free", "needs")
_DENIED = ("permission denied", "cannot write", "belongs to another", "not permitted")
# Root may do everything; without these two it may do what anybody may with his own files.
_LIKE_ANYBODY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


@dataclass(slots=True)
class Circumstances:
    """How a command is run in a trouble, and what ends the trouble."""

    relieve: Callable[[], None]
    before: Sequence[str] = ()
    ready: Callable[[], None] | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    stdout: int | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is wrong around a command.

    Attributes:
        name: In labels.
        enter: Makes it, for an archive at this root.
        words: One of them must be in the message.
        disk: Makes the file system on which the archive is to stand; called with its folder.
        concerns: Which commands may feel it.
        statuses: Further exit codes with which it may end.
        does_its_work: Whether the command does all that it should, whatever it can say of it.
        deaf: Whether nobody gets its messages.
        harmless: Whether the command must not fail.
    """

    name: str
    enter: Callable[[str], AbstractContextManager[Circumstances]]
    words: tuple[str, ...] = ()
    disk: Callable[[str, str], AbstractContextManager[None]] | None = None
    concerns: Callable[[Command], bool] = lambda command: True
    statuses: tuple[int, ...] = ()
    does_its_work: bool = False
    deaf: bool = False
    harmless: bool = False


def suffer(
    trouble: Trouble,
    command: Command,
    archives: Archives,
    place: str,
    mutant: str | None = None,
) -> Judgement:
    """Run *command* in *trouble*, then without, and judge both."""
    if trouble.disk is None:
        return _suffer(trouble, command, archives, place, mutant)
    inner = os.path.join(place, "disk")
    os.makedirs(inner, exist_ok=True)
    with trouble.disk(inner, place):
        return _suffer(trouble, command, archives, inner, mutant)


def _suffer(
    trouble: Trouble, command: Command, archives: Archives, place: str, mutant: str | None
) -> Judgement:
    root = archives.copy(place, command)
    with trouble.enter(root) as given:
        ended = run(
            command,
            root,
            before=given.before,
            mutant=mutant,
            variables=given.variables,
            ready=given.ready,
            stdout=given.stdout,
        )
        done = archives.read(root).same_as(archives.after(command))
        judgement = judge(
            command,
            archives,
            root,
            ended,
            words=trouble.words,
            deaf=trouble.deaf,
            relieve=given.relieve,
            statuses=trouble.statuses,
            mutant=mutant,
        )
    if trouble.does_its_work and not done:
        judgement.findings.add(OTHER, f"it did not do its work: {ended.status}, {ended.err}")
    if trouble.harmless and ended.status != command.status:
        judgement.findings.add(OTHER, f"it failed, with {ended.status}: {ended.err}")
    return judgement


# --- full disks --------------------------------------------------------------------------------


def full_disks() -> Iterator[Trouble]:
    """Yield disks that are full but for some pages, or have no file to give, and size limits."""
    for kind, disk in (("tmpfs", _tmpfs), ("ext4", _ext4)):
        for pages in (0, 1, 2, 3, 4, 6, 9):
            yield Trouble(
                f"{kind} with {pages} pages free",
                lambda root, pages=pages: _filled(root, pages),
                _NO_ROOM,
                disk=disk,
                concerns=_writes if pages else _not_health,
            )
    for files in (0, 1, 2, 4):
        yield Trouble(
            f"tmpfs with {files} files free",
            lambda root, files=files: _without_files(root, files),
            _NO_ROOM,
            disk=_tmpfs,
            concerns=_writes if files else _not_health,
        )
    for size in (0, 100, 700, 1500, 4096, 8192):
        yield Trouble(
            f"no file over {size} bytes",
            lambda root, size=size: _limited(resource.RLIMIT_FSIZE, size),
            ("file too large", *_NO_ROOM),
            concerns=_writes if size else _not_health,
        )
    yield Trouble(
        "a full folder for temporary files",
        _temporary_files_full,
        _NO_ROOM,
        concerns=lambda command: not command.name.startswith("repair, comp"),
    )


def _writes(command: Command) -> bool:
    return command.writes


def _not_health(command: Command) -> bool:
    return command.verb != "health"  # to it any small disk is as bad as a full one


@contextmanager
def _filled(root: str, pages: int) -> Iterator[Circumstances]:
    filler = os.path.join(os.path.dirname(root), "filler")
    os.sync()
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * _PAGE)
        except OSError:
            pass  # it is full: that is what we want
        try:
            os.fsync(file.fileno())
        except OSError:
            pass
        size = file.seek(0, os.SEEK_END) // _PAGE * _PAGE
        os.ftruncate(file.fileno(), max(0, size - pages * _PAGE))
        os.fsync(file.fileno())
    yield Circumstances(lambda: os.unlink(filler))


@contextmanager
def _without_files(root: str, files: int) -> Iterator[Circumstances]:
    disk = os.path.dirname(root)
    found = os.statvfs(disk)
    most = found.f_files - found.f_ffree + files
    _mount("-o", f"remount,nr_inodes={most}", disk)
    yield Circumstances(lambda: _mount("-o", f"remount,nr_inodes={most + 1000}", disk))


@contextmanager
def _temporary_files_full(root: str) -> Iterator[Circumstances]:
    folder = os.path.join(os.path.dirname(root), "temporary")
    os.makedirs(folder, exist_ok=True)
    with _tmpfs(folder, folder), _filled(os.path.join(folder, "any"), 0):
        yield Circumstances(lambda: None, variables={"TMPDIR": folder})


@contextmanager
def _limited(which: int, most: int) -> Iterator[Circumstances]:
    yield Circumstances(
        lambda: None, ready=lambda: resource.setrlimit(which, (most, resource.getrlimit(which)[1]))
    )


@contextmanager
def _tmpfs(folder: str, place: str) -> Iterator[None]:
    with _mounted(folder, "-t", "tmpfs", "-o", "size=2M,mode=0700", "tmpfs"):
        yield


@contextmanager
def _ext4(folder: str, place: str) -> Iterator[None]:
    with tempfile.NamedTemporaryFile(dir=place) as image:
        image.truncate(8 << 20)
        subprocess.run(["mkfs.ext4", "-qF", "-m", "0", "-b", "4096", image.name], check=True)
        with _mounted(folder, "-o", "loop", image.name):
            yield


@contextmanager
def _mounted(folder: str, *words: str) -> Iterator[None]:
    _mount(*words, folder)
    try:
        yield
    finally:
        for _ in range(50):
            if not subprocess.run(["umount", folder], capture_output=True).returncode:
                break
            time.sleep(0.1)
        else:
            subprocess.run(["umount", "-l", folder], check=True)
            raise OSError(f"{folder} is still in use")


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


# --- permissions -------------------------------------------------------------------------------


def denials() -> Iterator[Trouble]:
    """Yield what may not be written or read: by mode, and by how the disk is mounted."""
    for name, mode in (
        ("", 0o500),
        ("", 0o000),
        ("default", 0o500),
        ("default", 0o000),
        ("default/trip.jsonl", 0o400),
        ("default/trip.jsonl", 0o000),
        ("default/cold.jsonl.zst", 0o000),
        ("default/.locks", 0o500),
        ("default/.locks", 0o000),
        ("default/.locks/trip.lock", 0o000),
        ("default/.trash", 0o500),
        ("default/.trash", 0o000),
        ("default/.state", 0o500),
        ("default/.state/trip.json", 0o000),
        ("default/.audit", 0o500),
        ("default/.index", 0o000),
        ("default/.dropped", 0o000),
        ("default/.deleted", 0o000),
    ):
        yield Trouble(
            f"{name or 'archive'} is {mode:04o}",
            lambda root, name=name, mode=mode: _closed(os.path.join(root, name), mode),
            _DENIED,
        )
    yield Trouble("mounted read-only", _read_only, ("read-only", "read only"))


@contextmanager
def _closed(path: str, mode: int) -> Iterator[Circumstances]:
    if not os.path.exists(path):
        os.makedirs(path, mode=0o700)
    before = os.stat(path).st_mode & 0o777
    os.chmod(path, mode)

    def open_again() -> None:
        if os.path.exists(path):  # it may have gone to the trash
            os.chmod(path, before)

    yield Circumstances(open_again, before=_LIKE_ANYBODY if os.geteuid() == 0 else ())


@contextmanager
def _read_only(root: str) -> Iterator[Circumstances]:
    with _mounted(root, "--bind", root):
        _mount("-o", "remount,bind,ro", root)
        yield Circumstances(lambda: _mount("-o", "remount,bind,rw", root))


# --- streams and descriptors -------------------------------------------------------------------


def streams() -> Iterator[Trouble]:
    """Yield outputs that are full, closed or read by nobody, and too few descriptors."""
    full = ("standard output",)
    yield Trouble("standard output is full", _full_output, full, does_its_work=True)
    yield Trouble("standard output is closed", _closing(">&-"), does_its_work=True)
    yield Trouble(
        "standard error is closed", _closing("2>&-"), does_its_work=True, deaf=True, harmless=True
    )
    yield Trouble(
        "standard error is full",
        _closing("2>/dev/full"),
        does_its_work=True,
        deaf=True,
        harmless=True,
    )
    yield Trouble(
        "both outputs are closed",
        _closing(">&- 2>&-"),
        does_its_work=True,
        deaf=True,
    )
    yield Trouble(
        "nobody reads standard output",
        _unread_output,
        statuses=(0,),
        does_its_work=True,
    )


def few_descriptors() -> Iterator[Trouble]:
    """Yield limits on open files, from where Python itself can just start."""
    for most in range(6, 17):
        yield Trouble(
            f"{most} descriptors",
            lambda root, most=most: _limited(resource.RLIMIT_NOFILE, most),
            ("too many open files",),
        )


@contextmanager
def _full_output(root: str) -> Iterator[Circumstances]:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        yield Circumstances(lambda: None, stdout=full)
    finally:
        os.close(full)


def _closing(how: str) -> Callable[[str], AbstractContextManager[Circumstances]]:
    @contextmanager
    def closed(root: str) -> Iterator[Circumstances]:
        yield Circumstances(lambda: None, before=("sh", "-c", f'exec "$@" {how}', "sh"))

    return closed


@contextmanager
def _unread_output(root: str) -> Iterator[Circumstances]:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield Circumstances(lambda: None, stdout=writing)
    finally:
        os.close(writing)


def missing_disks() -> str | None:
    """Say what this machine lacks to make small disks."""
    if reason := may_not_mount():
        return reason
    lacking = [name for name in ("mount", "mkfs.ext4") if shutil.which(name) is None]
    return f"{', '.join(lacking)} not installed" if lacking else None


def missing_denials() -> str | None:
    """Say what this machine lacks to be denied something."""
    if reason := may_not_mount():
        return reason
    return None if shutil.which("setpriv") else "setpriv is not installed"
