"""The process that records beside the session, so that no slow disk or lock holds that up.

It is told of what passes by through a pipe, and makes turns of it. It outlives the process that
relays: what was being said when that was killed is recorded, too.
"""

from __future__ import annotations

import math
import os
import select
import struct
import time
from datetime import UTC, datetime
from typing import NamedTuple

from convmem.cli.output.messages import Healing, Messages
from convmem.cli.places import open_archive
from convmem.cli.running.keys import Mode
from convmem.errors import ConvmemError, DurabilityUnknown, InvalidTurn, storage_error
from convmem.ids import new_turn_id
from convmem.quantities import format_time
from convmem.turns import EVENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from convmem.archive import Archive
    from convmem.cli.redacting import Redaction
    from convmem.cli.spec import Context
    from convmem.settings import Settings

HEAD = struct.Struct(">cI")
PRINTED, TYPED, SENT, ASKED, RESIZED, ENDED = b"p", b"t", b"s", b"a", b"r", b"e"
LEFT_OUT, UNSENT = b"l", b"u"  # how many bytes that were printed, or sent, are not told
"""What is told: each is one letter, how long what follows is, and that."""
MODE = struct.Struct("9B")
NUMBER = struct.Struct(">q")
SIZE = struct.Struct(">HH")

_READ_BYTES = 1 << 16
_QUIET_SECONDS = 0.25
# What could not be recorded waits in memory for the archive to be well again, up to this.
_MOST_WAITING = 32 << 20
# While the session lasts nothing hangs on it whether a lock can be had at once.
_PATIENCE_SECONDS = 1.0


class Job(NamedTuple):
    """What to record, and where.

    Attributes:
        is_dialogue: A person is at a terminal; else there are pipes.
        columns: How wide the terminal is that it prints to; 0 where there is none.
        aside: What the file is called that takes what cannot be recorded.
    """

    context: Context
    settings: Settings
    continuation_id: str
    sync: str | None
    redaction: Redaction | None
    program: str
    is_dialogue: bool
    columns: int
    height: int
    aside: str


def record(job: Job, told: int) -> dict[str, Any]:
    """Record what is told on the descriptor *told* until it ends; return what came of it.

    That is ``recorded``, ``failed`` and ``lost`` (turns), ``error``, ``hint`` and ``kind`` of the
    last failure, ``file`` with what could not be recorded, and ``said``: warnings and hints.
    """
    warnings = _Warnings()
    with _opened(job, warnings, _PATIENCE_SECONDS) as archive:
        keeper = _Keeper(job, archive)
        listener: Any
        if job.is_dialogue:
            from convmem.cli.running.dialogue import Dialogue

            listener = Dialogue(keeper.say, job.columns, job.height)
        else:
            from convmem.cli.running.exchange import Exchange

            listener = Exchange(keeper.say, job.columns)
        _listen(listener, keeper, told)
    if keeper.has_waiting:
        try:
            with _opened(job, warnings, math.inf) as archive:
                keeper.try_again(archive)
        except ConvmemError as error:
            keeper.note(error)
    result = keeper.close()
    if job.redaction is not None:
        job.redaction.tell(warnings)
    return {**result, "said": warnings.said}


def _opened(job: Job, warnings: _Warnings, patience: float) -> Archive:
    return open_archive(
        job.context,
        durability=job.sync,
        observer=Healing(warnings),
        settings=job.settings,
        most_patience_seconds=patience,
    )


def aside_path(name: str) -> str:
    """Return where the file of that name is, or would be."""
    import tempfile

    return os.path.join(tempfile.gettempdir(), name)


def _listen(listener: Any, keeper: _Keeper, told: int) -> None:
    exit_code = None
    for kind, data in _told(told):
        if kind == PRINTED:
            listener.printed(data)
        elif kind == TYPED:
            listener.typed(data[MODE.size :], Mode(*MODE.unpack(data[: MODE.size])))
        elif kind == SENT:
            listener.sent(data)
        elif kind == ASKED:
            listener.waits()
        elif kind == RESIZED:
            listener.resized(*SIZE.unpack(data))
        elif kind == LEFT_OUT:
            listener.left_out(*NUMBER.unpack(data))
        elif kind == UNSENT:
            listener.unsent(*NUMBER.unpack(data))
        elif kind == ENDED:
            (exit_code,) = NUMBER.unpack(data)
        else:
            listener.quiet()
    listener.finish()
    keeper.end(exit_code)


def _told(descriptor: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield what is told until the other end is closed; an empty kind where there is a pause."""
    data = bytearray()
    is_quiet = True
    while True:
        if not select.select([descriptor], [], [], None if is_quiet else _QUIET_SECONDS)[0]:
            is_quiet = True
            yield b"", b""
            continue
        read = os.read(descriptor, _READ_BYTES)
        if not read:
            return
        is_quiet = False
        data += read
        at = 0
        while len(data) - at >= HEAD.size:
            kind, length = HEAD.unpack_from(data, at)
            if len(data) - at < HEAD.size + length:
                break
            at += HEAD.size
            yield kind, bytes(data[at : at + length])
            at += length
        del data[:at]


class _Keeper:
    """Records turns; what cannot be recorded waits for the next try, and is kept in a file."""

    def __init__(self, job: Job, archive: Archive) -> None:
        self._chat = archive.conversation(job.continuation_id)
        self._redaction = job.redaction
        self._name = job.continuation_id
        self._began = datetime.now(UTC)
        self._has_begun = False
        self._event = {"command": job.program, "terminal": job.is_dialogue}
        self._waiting: list[dict[str, Any]] = []
        self._waiting_size = 0
        self._recorded = 0
        self._error: ConvmemError | None = None
        self._aside = job.aside
        self._file: str | None = None
        self._not_before = -math.inf  # by the monotonic clock: the next try
        self._failed = 0
        self._lost = 0  # of these: what is in no file either

    def say(self, turns: list[tuple[str, str]]) -> None:
        """Record turns: all or none, in order."""
        if not self._has_begun:
            self._has_begun = True
            self._add(EVENT, self._event, self._began, "start")
        now = datetime.now(UTC)
        for role, text in turns:
            self._add(role, text, now)
        self._try()
        if self._waiting_size > _MOST_WAITING:
            self._put_aside()

    def end(self, exit_code: int | None) -> None:
        """Note how it ended, where that was not well. ``None``: nobody can say."""
        if self._has_begun and exit_code != 0:
            now = datetime.now(UTC)
            seconds = round((now - self._began).total_seconds(), 3)
            self._add(EVENT, {"exit_code": exit_code, "seconds": seconds}, now, "end")
            self._try()

    @property
    def has_waiting(self) -> bool:
        """Whether something is neither recorded nor put aside."""
        return bool(self._waiting)

    def try_again(self, archive: Archive) -> None:
        """Try once more, with the patience that *archive* has."""
        self._chat = archive.conversation(self._name)
        self._not_before = -math.inf
        self._try()

    def note(self, error: ConvmemError) -> None:
        """Take note of why there is no other try."""
        self._error = error

    def close(self) -> dict[str, Any]:
        """Put aside what is left, and return what came of it all."""
        self._put_aside()
        error = self._error if self._failed else None
        return {
            "recorded": self._recorded,
            "failed": self._failed,
            "lost": self._lost,
            "kind": None if error is None else error.kind,
            "error": None if error is None else str(error),
            "hint": None if error is None else error.hint,
            "file": self._file,
        }

    def _add(self, role: str, content: Any, when: datetime, kind: str | None = None) -> None:
        meta = None if kind is None else {"source": "run", "kind": kind}
        if self._redaction is not None and isinstance(content, str):
            content, _ = self._redaction.said(content, None)
        turn = {"role": role, "content": content, "ts": format_time(when)}
        self._waiting.append(turn if meta is None else {**turn, "meta": meta})
        if isinstance(content, str):
            self._waiting_size += len(content)

    def _try(self) -> None:
        began = time.monotonic()
        if not self._waiting or self._file is not None or began < self._not_before:
            return
        waiting, self._waiting = self._waiting, []
        if not self._is_recorded(waiting):
            # One that can never be stored keeps no other from it.
            is_one_wrong = isinstance(self._error, InvalidTurn) and len(waiting) > 1
            self._waiting = [
                turn for turn in waiting if not (is_one_wrong and self._is_recorded([turn]))
            ]
            # Who waits for a lock again and again hears of nothing else.
            self._not_before = 2 * time.monotonic() - began
        self._waiting_size = sum(
            len(turn["content"]) for turn in self._waiting if isinstance(turn["content"], str)
        )

    def _is_recorded(self, turns: list[dict[str, Any]]) -> bool:
        try:
            self._chat.record_many(turns)
        except ConvmemError as error:
            self._error = error
            if isinstance(error, DurabilityUnknown):
                # They may be there: with their ids they are not stored twice.
                for turn, turn_id in zip(turns, error.ids, strict=False):
                    turn["id"] = turn_id
        except OSError as error:
            self._error = storage_error(error, f"cannot record to {self._name}")
        else:
            self._recorded += len(turns)
            return True
        return False

    def _put_aside(self) -> None:
        """Write what waits to a file of its own, outside of the archive, which is not well."""
        if not self._waiting:
            return
        import json

        lines = [
            json.dumps({"id": new_turn_id(), **turn}, ensure_ascii=False) for turn in self._waiting
        ]
        try:
            self._write_aside("".join(f"{line}\n" for line in lines).encode())
        except OSError:
            self._lost += len(lines)
        self._failed += len(lines)
        self._waiting = []
        self._waiting_size = 0

    def _write_aside(self, data: bytes) -> None:
        if self._file is None:
            path = aside_path(self._aside)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._file = path
        else:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND)
        size = os.fstat(descriptor).st_size
        try:
            while data:
                data = data[os.write(descriptor, data) :]
        except OSError:
            os.ftruncate(descriptor, size)
            if not size:
                os.unlink(self._file)
            raise
        finally:
            os.close(descriptor)


class _Warnings(Messages):
    """Keeps warnings until the session is over."""

    def __init__(self) -> None:
        super().__init__(as_json=False)
        self.said: list[tuple[str, str | None]] = []

    def _say(
        self, level: str, kind: str, message: str, hint: str | None, more: dict[str, Any]
    ) -> None:
        self.said.append((message, hint))
