"""A summary made by a command of the user's: turns go in as JSON lines, text comes out."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import IO

from convmem.cli.boundary import one_line
from convmem.cli.interrupts import ctrl_c_waits, let_ctrl_c_through
from convmem.conversation import Conversation
from convmem.errors import ConvmemError
from convmem.quantities import format_duration
from convmem.turns import MAX_TURN_BYTES, Turn

_NOTHING_CHANGED = "nothing was changed"
_MOST_WORDS = 300


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
    """One run of the command: fed from here, read by threads, ended by a clock."""

    def __init__(self, process: subprocess.Popen[bytes], timeout_seconds: float) -> None:
        self.is_late = False
        self._process = process
        self._out: list[bytes] = []
        self._said: list[bytes] = []
        assert process.stdout is not None and process.stderr is not None
        self._readers = [
            threading.Thread(target=_drain, args=(stream, into, most), daemon=True)
            for stream, into, most in (
                (process.stdout, self._out, MAX_TURN_BYTES + 1),
                (process.stderr, self._said, 1 << 16),
            )
        ]
        for reader in self._readers:
            reader.start()
        self._clock = threading.Timer(timeout_seconds, self._give_up)
        self._clock.daemon = True
        self._clock.start()

    def feed(self, name: str, turns: Iterator[Turn]) -> None:
        """Write the turns; a command that does not want them all is free not to read them."""
        from convmem import jsontext

        stream = self._process.stdin
        assert stream is not None
        try:
            for turn in turns:
                shown = {"continuation_id": name, **turn.as_dict()}
                stream.write(jsontext.dumps(shown) + b"\n")
        except BrokenPipeError:
            pass  # it has read enough; whether it failed, its exit code tells
        finally:
            try:
                stream.close()
            except BrokenPipeError:
                pass  # the same, for what was still in the buffer

    def wait(self) -> tuple[bytes, bytes]:
        """Return what it printed, and what it said on standard error, once it has ended."""
        self._process.wait()
        # What it left running in the background may hold its output open: that is not waited for.
        for reader in self._readers:
            reader.join(1.0)
        return b"".join(self._out), b"".join(self._said)

    def end(self) -> None:
        """See that nothing of it is left."""
        self._clock.cancel()
        self._kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(0.2)
        for reader, stream in zip(
            self._readers, (self._process.stdout, self._process.stderr), strict=True
        ):
            if stream is not None and not reader.is_alive():
                stream.close()

    def _give_up(self) -> None:
        self.is_late = True
        self._kill()

    def _kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # all of it has ended


def _drain(stream: IO[bytes], into: list[bytes], most: int) -> None:
    """Read all, and keep so much of it."""
    kept = 0
    while data := stream.read1(1 << 16):  # type: ignore[attr-defined]
        if kept < most:
            into.append(data)
            kept += len(data)
