"""``convmem record``: one turn from the command line or standard input, or a stream of them."""

from __future__ import annotations

import os
import stat
import sys

from convmem import jsontext
from convmem.cli import values
from convmem.cli.output.messages import Healing, Messages, is_terminal, write_bytes
from convmem.cli.places import open_archive
from convmem.cli.standard_input import read_some
from convmem.errors import ConvmemError, InvalidTurn, StorageError, UsageError
from convmem.quantities import format_time
from convmem.turns import MAX_TURN_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem.archive import Archive
    from convmem.cli.redacting import Redaction
    from convmem.cli.spec import Context

_STREAM = "-"
_READ_BYTES = 1 << 20
# Lines that are there at once are recorded in one go: one write and one sync for all of them.
_GATHER_BYTES = 1 << 20
_LONGEST_LINE_BYTES = MAX_TURN_BYTES + (1 << 20)


def run(
    context: Context,
    *,
    continuation_id: str,
    text: str | None,
    role: str,
    turn_id: str | None,
    meta: list[str],
    ts: str | None,
    sync: str | None,
    jsonl: bool,
    tee: bool,
    exact: bool,
    redact: bool,
    quiet: bool,
    json: bool,
) -> int:
    """Record, and return the exit status."""
    if tee and json:
        raise UsageError("--tee and --json both want standard output", hint="choose one of them")
    if jsonl:
        for flag, value in (("TEXT", text), ("--id", turn_id), ("--meta", meta), ("--ts", ts)):
            if value:
                raise UsageError(f"{flag} does not go with --jsonl: each line says it for itself")
    if text is None and is_terminal(sys.stdin):
        return _print_help()
    messages = Messages(as_json=json, quiet=quiet)
    passing = _Tee(tee)
    redaction = _redaction() if redact else None
    if not jsonl:
        jsontext.expect_few_calls()
    watch = Healing(messages)
    with open_archive(context, durability=sync, observer=watch, messages=messages) as archive:
        if jsonl:
            stream = _Stream(archive, continuation_id, messages, passing, json, redaction)
            return stream.record(show_progress=not quiet)
        noted = _meta(meta)
        moment = values.moment("--ts", ts)
        chat = archive.conversation(continuation_id)
        if text is None:
            content = _text_of(_read_all(passing), exact)
        else:
            content = text
            passing.write(text.encode("utf-8", "surrogateescape"))
        if redaction is not None:
            content, noted = redaction.said(content, noted)
        turn = chat.record(role, content, id=turn_id, meta=noted, ts=moment)
    if redaction is not None:
        redaction.tell(messages)
    if json:
        ts = None if turn.ts is None else format_time(turn.ts)
        _answer(continuation_id, turn.id, turn.seq, ts)
    return 0


def _redaction() -> Redaction:
    from convmem.cli.redacting import Redaction

    return Redaction()


def _print_help() -> int:
    from convmem.cli.typed import help_of
    from convmem.cli.verbs import TABLE

    print(help_of(TABLE["record"]), file=sys.stderr)
    return 2


def _meta(pairs: list[str]) -> dict[str, str] | None:
    noted = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--meta: {pair!r} is not KEY=VALUE")
        noted[key] = value
    return noted or None


def _read_all(passing: _Tee) -> bytes:
    parts: list[bytes] = []
    size = 0
    while data := read_some(_READ_BYTES):
        passing.write(data)
        size += len(data)
        if size > _LONGEST_LINE_BYTES:
            parts.clear()  # too long to be a turn; what is passed through goes on all the same
            if not passing.is_on:
                break
        parts.append(data)
    if size > _LONGEST_LINE_BYTES:
        raise InvalidTurn(
            f"standard input is too long for one turn: at most {MAX_TURN_BYTES:,} bytes",
            hint="nothing was recorded; for many turns use --jsonl",
        )
    return b"".join(parts)


def _text_of(data: bytes, exact: bool) -> str:
    if not exact and data.endswith(b"\n"):
        data = data[:-1]
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidTurn(
            f"standard input is not UTF-8 at byte {error.start}",
            hint="nothing was recorded; convert it first, for example with iconv",
        ) from None


def _answer(continuation_id: str, turn_id: str | None, seq: int | None, ts: str | None) -> None:
    from convmem.cli.output.machine import write_object

    write_object({"continuation_id": continuation_id, "id": turn_id, "seq": seq, "ts": ts})


class _Tee:
    """Passes input through. A reader that went away does not stop the recording."""

    def __init__(self, is_on: bool) -> None:
        self.is_on = is_on

    def write(self, data: bytes) -> None:
        """Pass *data* on, at once."""
        if not self.is_on:
            return
        try:
            write_bytes(data)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            self.is_on = False
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


class _Stream:
    """Turns as JSON lines on standard input, into one conversation or many."""

    def __init__(
        self,
        archive: Archive,
        continuation_id: str,
        messages: Messages,
        passing: _Tee,
        as_json: bool,
        redaction: Redaction | None,
    ) -> None:
        self._archive = archive
        self._only_id = None if continuation_id == _STREAM else continuation_id
        if self._only_id is not None:
            archive.conversation(self._only_id)  # wrong usage is said before anything is read
        self._messages = messages
        self._passing = passing
        self._as_json = as_json
        self._redaction = redaction
        self._recorded = 0
        self._failed = 0
        self._first_failure: ConvmemError | None = None

    def record(self, *, show_progress: bool) -> int:
        """Record the whole stream and return the exit status."""
        from convmem.cli.boundary import EXIT_CODES
        from convmem.cli.output.bar import Bar

        with Bar("recording", _input_size(), quiet=not show_progress) as bar:
            number = 0
            for lines, size in self._chunks():
                self._record_lines(lines, number)
                number += len(lines)
                bar.advance(size)
                if isinstance(self._first_failure, StorageError):
                    break
        if self._redaction is not None:
            self._redaction.tell(self._messages)
        if self._first_failure is None:
            return 0
        total = self._recorded + self._failed
        self._messages.warn(
            "partial", f"{self._failed} of {total} turns were not recorded", recorded=self._recorded
        )
        code = EXIT_CODES.get(self._first_failure.kind, 1)
        if isinstance(self._first_failure, StorageError):
            return code
        return 7 if self._recorded else (1 if self._first_failure.kind.startswith("inv") else code)

    def _record_lines(self, lines: list[bytes | None], before: int) -> None:
        if self._redaction is not None:
            lines = self._redaction.lines(lines)
        recorded = self._archive.record_lines(lines, self._only_id)
        self._recorded += recorded.count
        for number, error in recorded.failures:
            if not isinstance(error, ConvmemError):
                raise error
            self._note(before + number + 1, error)
        if self._as_json:
            for line in recorded.answers():
                _answer(line.continuation_id, line.id, line.seq, line.ts)
            sys.stdout.buffer.flush()

    def _note(self, number: int, error: ConvmemError) -> None:
        self._failed += 1
        # An error of the disk tells more of what to do next than a line that is bad.
        if self._first_failure is None or isinstance(error, StorageError):
            self._first_failure = error
        self._messages.error(error, where=f"line {number}: ", line=number)

    def _chunks(self) -> Iterator[tuple[list[bytes | None], int]]:
        """Yield whole lines as they come, with the bytes read for them. ``None``: one too long."""
        rest: list[bytes] = []
        size = 0
        is_too_long = False
        while data := self._gather():
            lines: list[bytes | None] = list(data.split(b"\n"))
            tail = lines.pop() or b""
            if lines:
                rest.append(lines[0] or b"")
                lines[0] = None if is_too_long else b"".join(rest)
                rest, size, is_too_long = [], 0, False
                yield lines, len(data)
            rest.append(tail)
            size += len(tail)
            if size > _LONGEST_LINE_BYTES:
                rest, is_too_long = [], True
        if rest and (is_too_long or size):
            yield [None if is_too_long else b"".join(rest)], 0

    def _gather(self) -> bytes:
        """Return what is there to read, waiting for the first of it only."""
        import select

        parts = []
        size = 0
        while data := read_some(_READ_BYTES):
            self._passing.write(data)
            parts.append(data)
            size += len(data)
            if size >= _GATHER_BYTES or not select.select([0], [], [], 0)[0]:
                break
        return b"".join(parts)


def _input_size() -> int | None:
    found = os.fstat(0)
    return found.st_size if stat.S_ISREG(found.st_mode) else None
