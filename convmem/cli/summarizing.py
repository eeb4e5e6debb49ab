"""A summary made by a command of the user's: turns go in as JSON lines, text comes out."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator

from convmem.cli.boundary import one_line
from convmem.cli.interrupts import ctrl_c_waits, let_ctrl_c_through
from convmem.conversation import Conversation
from convmem.errors import ConvmemError
from convmem.quantities import format_duration
from convmem.turns import MAX_TURN_BYTES, Turn

_NOTHING_CHANGED = "nothing was changed"
_MOST_WORDS = 300
_LOOK_SECONDS = 0.05
_READ_BYTES = 1 << 16
# What is kept of what it prints, and of what it says on standard error.
_MOST_BYTES = {"out": MAX_TURN_BYTES, "said": 1 << 16}


class Summarizer:
    """Runs *command* by the shell for each conversation that turns go from.

    It gets the turns on standard input, as ``tail --json`` prints them, and their conversation in
    ``CONVMEM_CONTINUATION_ID``. What it prints is the summary, its last newline cut.
    """

    def __init__(self, command: str, timeout_seconds: float) -> None:
        self._command = command
        self._timeout_seconds = timeout_seconds

    def __call__(self, chat: Conversation, turns: Iterator[Turn]) -> str:
        """Return the summary.

        Raises:
            ConvmemError: The command failed, took too long, or printed nothing that is a turn.
        """
        name = chat.continuation_id
        run = None
        try:
            with ctrl_c_waits():  # until there is somebody to end it
                process = self._started(name)
                run = _Run(process, self._timeout_seconds)
            run.feed(name, turns)
            out, said = run.wait()
        finally:
            if run is not None:
                run.end()
        if run.is_late:
            longest = format_duration(self._timeout_seconds)
            raise ConvmemError(
                f"the summarizing command took longer than {longest}",
                hint=f"{_NOTHING_CHANGED}; the setting summarize_timeout gives it more time",
            )
        if process.returncode != 0:
            code = process.returncode
            how = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
            words = one_line(said.decode("utf-8", "replace").strip()[-_MOST_WORDS:])
            raise ConvmemError(
                f"the summarizing command {how}" + (f": {words}" if words else ""),
                hint=_NOTHING_CHANGED,
            )
        return _text_of(out)

    def _started(self, name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            shell=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "CONVMEM_CONTINUATION_ID": name},
            # A group of its own: what the shell has started ends with it.
            start_new_session=True,
            preexec_fn=let_ctrl_c_through,
        )


def _text_of(out: bytes) -> str:
    if len(out) > MAX_TURN_BYTES:
        raise ConvmemError(
            f"the summarizing command printed more than {MAX_TURN_BYTES:,} bytes",
            hint=_NOTHING_CHANGED,
        )
    try:
        text = out.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise ConvmemError(
            f"the summarizing command printed no UTF-8 (byte {error.start})", hint=_NOTHING_CHANGED
        ) from None
    if not text.strip():
        raise ConvmemError("the summarizing command printed nothing", hint=_NOTHING_CHANGED)
    return text


class _Run:
    """One run of the command: fed, listened to and ended from here, without a thread."""

    def __init__(self, process: subprocess.Popen[bytes], timeout_seconds: float) -> None:
        self.is_late = False
        self._process = process
        self._deadline = time.monotonic() + timeout_seconds
        self._heard = {"out": bytearray(), "said": bytearray()}
        self._selector = selectors.DefaultSelector()
        assert process.stdin and process.stdout and process.stderr
        for stream in (process.stdin, process.stdout, process.stderr):
            os.set_blocking(stream.fileno(), False)
        self._selector.register(process.stdout, selectors.EVENT_READ, "out")
        self._selector.register(process.stderr, selectors.EVENT_READ, "said")

    def feed(self, name: str, turns: Iterator[Turn]) -> None:
        """Write the turns; a command that does not want them all is free not to read them."""
        from convmem import jsontext

        stream = self._process.stdin
        assert stream is not None
        self._selector.register(stream, selectors.EVENT_WRITE, "in")
        try:
            for turn in turns:
                line = jsontext.dumps({"continuation_id": name, **turn.as_dict()}) + b"\n"
                if not self._write(stream.fileno(), line):
                    break
        finally:
            self._selector.unregister(stream)
            stream.close()

    def wait(self) -> tuple[bytes, bytes]:
        """Return what it printed, and what it said on standard error, once it has ended.

        What it left running in the background may hold its output open: that is not waited for.
        """
        while self._selector.get_map() and not self.is_late:
            if self._process.poll() is not None:
                self._listen(0)
                break
            self._listen(_LOOK_SECONDS)
        while not self.is_late and self._process.poll() is None:
            # It has closed its output, and goes on.
            self._check_time()
            time.sleep(_LOOK_SECONDS)
        return bytes(self._heard["out"]), bytes(self._heard["said"])

    def end(self) -> None:
        """See that nothing of it is left."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # all of it has ended
        self._process.wait()
        self._selector.close()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _write(self, fd: int, data: bytes) -> bool:
        """Write all of *data*, listening meanwhile; say whether somebody still reads."""
        while data:
            self._listen(_LOOK_SECONDS)
            if self.is_late:
                return False
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return False  # it has read enough; whether it failed, its exit code tells
        return True

    def _listen(self, seconds: float) -> None:
        """Take what it has printed; wait at most so long for something to do."""
        for key, _ in self._selector.select(seconds):
            if key.data == "in":
                continue
            heard = self._heard[key.data]
            try:
                while data := os.read(key.fd, _READ_BYTES):
                    if len(heard) <= _MOST_BYTES[key.data]:
                        heard += data
            except BlockingIOError:
                continue
            self._selector.unregister(key.fileobj)
        self._check_time()

    def _check_time(self) -> None:
        self.is_late = self.is_late or time.monotonic() >= self._deadline
