"""``convmem mcp``: the process around the MCP server; standard streams, signals, the end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any

from convmem.cli import values
from convmem.cli.output.messages import Messages, is_terminal
from convmem.cli.places import open_archive
from convmem.errors import StorageError, UsageError, storage_error
from convmem.progress import Observer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.cli.spec import Context
    from convmem.log.records import Damage

_FLAGS = {"turn_bytes": "--max-turn", "answer_bytes": "--max-answer", "turns": "--max-turns"}
_CHUNK_BYTES = 64 << 10
# Of a line that is too long: enough to find in it whose request it was.
_END_BYTES = 400
# What was read ahead and is not worked on yet.
_LINES_AHEAD = 16


def run(
    context: Context,
    *,
    read_only: bool,
    redact: bool,
    max_turn: str | None,
    max_answer: str | None,
    max_turns: str | None,
) -> int:
    """Serve the client at standard input and output until it has left, or a signal comes."""
    bounds = {
        "turn_bytes": values.size(_FLAGS["turn_bytes"], max_turn),
        "answer_bytes": values.size(_FLAGS["answer_bytes"], max_answer),
        "turns": values.count(_FLAGS["turns"], max_turns, least=1),
    }
    try:
        from convmem.adapters.mcp import ConvmemServer, Limits
    except ImportError as error:
        raise UsageError(
            "convmem mcp needs the Model Context Protocol's SDK",
            hint="pip install 'convmem[mcp]'",
        ) from error
    masked = _masking() if redact else None
    try:
        limits = Limits(**{name: each for name, each in bounds.items() if each is not None})
    except UsageError as error:
        name, _, what = str(error).partition(" ")
        raise UsageError(f"{_FLAGS[name]} {what}") from None
    messages = Messages(as_json=False)
    if is_terminal(sys.stdin):
        messages.note("terminal", "waiting for a client on standard input", "Ctrl-C ends it")
    with (
        open_archive(context, observer=_Damage(messages), messages=messages) as archive,
        _own_streams() as (source, sink),
    ):
        server = ConvmemServer(archive, limits=limits, read_only=read_only, redact=masked)
        streams = _Streams(source, sink, limits.message_bytes)
        ended_by = asyncio.run(_until_signal(streams, server.serve(streams.receive, streams.send)))
    if streams.failure is not None:
        raise streams.failure
    if ended_by == signal.SIGINT:
        raise KeyboardInterrupt
    if ended_by is not None:
        # As if it had never been caught: the parent sees a process that the signal ended.
        signal.signal(ended_by, signal.SIG_DFL)
        os.kill(os.getpid(), ended_by)
    return 0


def _masking() -> Callable[[dict[str, Any]], dict[str, Any]]:
    from convmem.secrets.detector import get_ready
    from convmem.secrets.masking import redacted

    get_ready()
    return lambda said: redacted(said)[0]


async def _until_signal(streams: _Streams, serving: Coroutine[Any, Any, None]) -> int | None:
    """Serve, and let SIGTERM and Ctrl-C be the end of the input; return which came, if any did.

    What was begun is finished and answered first. A second signal ends the process as it is.
    """
    loop = asyncio.get_running_loop()
    came: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop(number: int) -> None:
        came.append(number)
        for each in signals:
            loop.remove_signal_handler(each)
        streams.end()

    try:
        for each in signals:
            loop.add_signal_handler(each, stop, each)
    except NotImplementedError:
        pass  # Windows: Ctrl-C cancels, and nobody sends SIGTERM there
    await serving
    return came[0] if came else None


@contextmanager
def _own_streams() -> Iterator[tuple[int, int]]:
    """Take standard input and output for the protocol alone; return their descriptors.

    Meanwhile whoever else prints, prints to standard error, and whoever reads meets the end.
    """
    sys.stdout.flush()
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    try:
        yield source, sink
    finally:
        sys.stdout.flush()
        # They stay open: a thread may still wait in one of them.
        os.dup2(source, 0)
        os.dup2(sink, 1)


class _Streams:
    """Lines in and out, each in a thread: a pipe, a file and a terminal can all be waited for so.

    The threads never keep the process alive, whatever they wait for.
    """

    def __init__(self, source: int, sink: int, most_bytes: int) -> None:
        self.failure: StorageError | None = None
        self._source = source
        self._sink = sink
        self._most_bytes = most_bytes
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = threading.Semaphore(_LINES_AHEAD)
        self._is_ended = False
        self._out: SimpleQueue[tuple[bytes, asyncio.Future[None]]] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None

    def end(self) -> None:
        """Let the input be at its end. To be called in the loop."""
        self._is_ended = True
        self._lines.put_nowait(None)

    async def receive(self) -> bytes | None:
        """Return the next line, ``None`` at the end."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            for work in (self._read, self._write):
                threading.Thread(target=work, name="convmem-mcp", daemon=True).start()
        if not self._is_ended:
            line = await self._lines.get()
            self._room.release()
            if line is not None and not self._is_ended:
                return line
            self._is_ended = True  # it may be asked for again
        return None

    async def send(self, line: bytes) -> None:
        """Write one line; return once it is written, or nobody is there to read it."""
        assert self._loop is not None, "what is sent answers what was received"
        written: asyncio.Future[None] = self._loop.create_future()
        self._out.put((line, written))
        await written

    # --- in threads ----------------------------------------------------------------------------

    def _read(self) -> None:
        failure = None
        try:
            for line in self._lines_of_source():
                self._room.acquire()
                self._in_loop(self._lines.put_nowait, line)
        except OSError as error:
            failure = storage_error(error, "cannot read standard input")
        self._end_from_thread(failure)

    def _lines_of_source(self) -> Iterator[bytes]:
        parts: list[bytes] = []
        length = 0
        while chunk := os.read(self._source, _CHUNK_BYTES):
            for at, piece in enumerate(chunk.split(b"\n")):
                if at:
                    yield b"".join(parts)
                    parts, length = [], 0
                parts.append(piece)
                length += len(piece)
                if length > self._most_bytes:
                    parts = _without_middle(parts, self._most_bytes + 1)
        if length:
            yield b"".join(parts)

    def _write(self) -> None:
        is_open = True
        while True:
            line, written = self._out.get()
            try:
                while is_open and line:
                    line = line[os.write(self._sink, line) :]
            except OSError as error:
                is_open = False
                has_left = isinstance(error, BrokenPipeError)
                self._end_from_thread(
                    None if has_left else storage_error(error, "cannot write to standard output")
                )
            self._in_loop(_settle, written)

    def _end_from_thread(self, failure: StorageError | None) -> None:
        self.failure = self.failure or failure
        self._in_loop(self._lines.put_nowait, None)  # behind the lines that were read before

    def _in_loop(self, function: Callable[..., object], *values: object) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed: nobody wants to know more
            self._loop.call_soon_threadsafe(function, *values)


def _without_middle(parts: list[bytes], length: int) -> list[bytes]:
    """Keep the first *length* bytes of a line and its end: it stays known as too long."""
    if len(parts[0]) == length:
        return [parts[0], b"".join(parts[1:])[-_END_BYTES:]]
    whole = b"".join(parts)
    return [whole[:length], whole[length:][-_END_BYTES:]]


def _settle(written: asyncio.Future[None]) -> None:
    if not written.done():
        written.set_result(None)


class _Damage(Observer):
    """Tells once of each conversation in which damaged lines were passed over."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._told: set[str] = set()

    def damaged(self, continuation_id: str, damage: Damage) -> None:
        """Tell of the first."""
        if continuation_id not in self._told and len(self._told) < 1000:
            self._told.add(continuation_id)
            self._messages.warn(
                "damaged",
                f"{continuation_id}: damaged lines are passed over"
                f" (byte {damage.offset}: {damage.reason})",
                f"see: convmem verify {continuation_id}",
            )
