"""What many tests share: an archive in a folder of the test's own, and the real program."""

from __future__ import annotations

import compileall
import contextlib
import errno
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from desk import Desk
from hypothesis import settings

import convmem
from convmem import Archive

# The same examples in each run, so that who changes something else is not stopped by a find. Who
# looks for finds gives a number of examples: then they are new each time.
# No example is late: the machine may be busy.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("new", deadline=None)
settings.load_profile("new" if "CONVMEM_EXAMPLES" in os.environ else "same")

PATIENCE_SECONDS = 30.0
HOUSE = Path(convmem.__file__).parents[1]

_SIZE = ("COLUMNS", "LINES")

# Runs the program after the statements in the first argument, as a shell's ulimit would.
_PREPARED = (
    "import os, sys; exec(sys.argv[1]);"
    "os.execv(sys.executable, [sys.executable, '-m', 'convmem', *sys.argv[2:]])"
)


@dataclass
class Answer:
    """What one run of the program left: its exit code and its two streams."""

    code: int
    out: bytes
    err: str
    shown: str = ""  # what a terminal got

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.out.decode()

    @property
    def objects(self) -> list[Any]:
        """Standard output, one JSON value a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def contents(self) -> list[Any]:
        """What the turns on standard output say."""
        return [each["content"] for each in self.objects]

    @property
    def told(self) -> list[Any]:
        """Standard error, one JSON value a line."""
        return [json.loads(line) for line in self.err.splitlines()]


class CommandLine:
    """The program as people and scripts run it: a process of its own for every call."""

    # What *prepare* may be. Root may write everywhere; without two of its powers it may not.
    AS_ANYBODY = (
        "import ctypes; drop = getattr(ctypes.CDLL(None), 'prctl', print);"
        "os.geteuid() or [drop(24, power, 0, 0, 0) for power in (1, 2)]"
    )
    WITH_FULL_DISK = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))"

    def __init__(self, root: str) -> None:
        self.root = root
        # A terminal says itself how wide it is; the tests' own says something else.
        inherited = {name: each for name, each in os.environ.items() if name not in _SIZE}
        self.environment = {
            **inherited,
            "CONVMEM_ARCHIVE": root,
            "PYTHONPATH": str(HOUSE),
            "TERM": "xterm-256color",
        }

    def __call__(
        self,
        *words: str | bytes,
        stdin: bytes | int = b"",
        code: int | None = 0,
        prepare: str | None = None,
        stdout: int = subprocess.PIPE,
        **environment: str,
    ) -> Answer:
        """Run it to its end; fail unless it ends with *code* (any with ``None``), and in words."""
        given: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
        done = subprocess.run(
            [*self._command(prepare), *words],
            **given,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env={**self.environment, **environment},
            timeout=PATIENCE_SECONDS,
        )
        answer = Answer(done.returncode, done.stdout or b"", done.stderr.decode())
        assert code is None or answer.code == code, (words, answer)
        assert "Traceback" not in answer.err, (words, answer)
        return answer

    @contextlib.contextmanager
    def running(self, *words: str, patch: str | None = None, **options: Any) -> Iterator[Running]:
        """Start it, and end it with the block if it has not ended by itself.

        The statements in *patch* change the program before it starts.
        """
        options.setdefault("stdin", subprocess.DEVNULL)
        command = self._command(None)
        if patch is not None:
            command = [sys.executable, "-c", f"{patch}\nfrom convmem.cli import main; main()"]
        with subprocess.Popen(
            [*command, *words],
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=subprocess.PIPE,
            env=self.environment,
            **options,
        ) as process:
            try:
                yield Running(process)
            finally:
                process.kill()

    def on_terminal(
        self,
        *words: str,
        on: str = "012",
        stdin: int | None = None,
        code: int = 0,
        prepare: str | None = None,
        columns: int = 100,
        interrupt_at: bytes | None = None,
        typed: bytes = b"",
        **environment: str,
    ) -> Answer:
        """Run it with the streams named in *on* at a terminal, and return what that showed.

        It gets its Ctrl-C once the terminal shows *interrupt_at*; *typed* waits at the keyboard.
        """
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, columns))
        if typed:
            os.write(master, typed)
        with (
            open(os.devnull, "rb") as nothing,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            other_stdin = nothing if stdin is None else stdin
            try:
                with subprocess.Popen(
                    [*self._command(prepare), *words],
                    stdin=slave if "0" in on else other_stdin,
                    stdout=slave if "1" in on else out,
                    stderr=slave if "2" in on else err,
                    env={**self.environment, **environment},
                ) as process:
                    os.close(slave)
                    slave = -1
                    shown = _read_terminal(master, process, interrupt_at)
                    process.wait(PATIENCE_SECONDS)
            finally:
                os.close(master)
                if slave >= 0:
                    os.close(slave)
            out.seek(0)
            err.seek(0)
            answer = Answer(
                process.returncode,
                out.read(),
                err.read().decode(),
                shown.replace(b"\r\n", b"\n").decode(),
            )
        assert answer.code == code, (words, answer)
        return answer

    @staticmethod
    def _command(prepare: str | None) -> list[str]:
        if prepare is None:
            return [sys.executable, "-m", "convmem"]
        return [sys.executable, "-c", _PREPARED, prepare]


class Running:
    """The program while it runs, such as ``tail -f``."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._read = b""

    def lines(self, count: int) -> list[bytes]:
        """Return the next *count* lines of its standard output; fail if they do not come."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._read.count(b"\n") < count:
            left = deadline - time.monotonic()
            assert left > 0, f"only {self._read!r} came"
            if select.select([self.process.stdout], [], [], left)[0]:
                data = os.read(self.process.stdout.fileno(), 1 << 16)
                assert data, f"it ended after {self._read!r}"
                self._read += data
        *found, self._read = self._read.split(b"\n", count)
        return found

    def has_come(self, *, within_seconds: float) -> bool:
        """Whether there is something to read, now or shortly."""
        return bool(select.select([self.process.stdout], [], [], within_seconds)[0])

    def contents(self, count: int) -> list[Any]:
        """Return what the next *count* turns say."""
        return [json.loads(line)["content"] for line in self.lines(count)]

    def interrupt(self) -> Answer:
        """Press Ctrl-C, and return what is left to see."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> Answer:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=PATIENCE_SECONDS)
        return Answer(self.process.returncode, self._read + (out or b""), err.decode())


def _read_terminal(
    master: int, process: subprocess.Popen[bytes], interrupt_at: bytes | None
) -> bytes:
    shown = b""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([master], [], [], left)[0]:
            break
        try:
            data = os.read(master, 1 << 16)
        except OSError as error:
            if error.errno == errno.EIO:  # the last process has closed its end
                break
            raise
        if not data:
            break
        shown += data
        if interrupt_at is not None and interrupt_at in shown:
            process.send_signal(signal.SIGINT)
            interrupt_at = None
    return shown


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the frameworks of the adapters warn of what they deprecate; all else stays an error."""
    for item in items:
        if "adapters" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"))


def pytest_configure(config: pytest.Config) -> None:
    """Compile the program once: it starts a thousand times here, and half of each start is that.

    A fresh clone has nothing compiled, and where PYTHONDONTWRITEBYTECODE is set it would stay so.
    """
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(HOUSE / "convmem", quiet=2)


@pytest.fixture(autouse=True, scope="session")
def _nobodys_archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test may meet the archive of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CONVMEM_ARCHIVE", raising=False)
        patch.delenv("CONVMEM_NAMESPACE", raising=False)
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
def root(tmp_path: Path) -> str:
    """Where the test's archive is, or will be."""
    return str(tmp_path / "archive")


@pytest.fixture
def archive(root: str) -> Iterator[Archive]:
    """An archive for this test alone."""
    with Archive.open(root, durability="none") as opened:
        yield opened


@pytest.fixture
def cli(root: str) -> CommandLine:
    """The program, working on the same archive."""
    return CommandLine(root)


@pytest.fixture
def log(root: str) -> Any:
    """Return the path of a conversation's log, for tests that look at the bytes or harm them."""

    def path(name: str = "trip", namespace: str = "default") -> Path:
        return Path(root, namespace, f"{name}.jsonl")

    return path


@pytest.fixture
def desk(root: str) -> Desk:
    """Imports and exports in the test's own process, of the same archive."""
    return Desk(root)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Return an empty folder for transcripts."""
    made = tmp_path / "sources"
    made.mkdir()
    return made
