"""Messages on standard error: warnings and errors that do not end the command."""

from __future__ import annotations

import sys

from convmem.progress import Observer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from convmem.errors import ConvmemError
    from convmem.log.records import Damage


class Messages:
    """Says things on standard error, as text or with ``--json`` as objects."""

    def __init__(self, *, as_json: bool, quiet: bool = False) -> None:
        self._as_json = as_json
        self._quiet = quiet

    def warn(self, kind: str, message: str, hint: str | None = None, **more: Any) -> None:
        """Say what people may want to know; ``--quiet`` leaves it out."""
        if not self._quiet:
            self._say("warning", kind, message, hint, more)

    def note(self, kind: str, message: str, hint: str | None = None, **more: Any) -> None:
        """Say how an answer came about that is as good as can be; ``--quiet`` leaves it out."""
        if not self._quiet:
            self._say("note", kind, message, hint, more)

    def error(self, error: ConvmemError, *, where: str = "", **more: Any) -> None:
        """Say that one of several things failed, while the others go on."""
        self._say("error", error.kind, f"{where}{error}", error.hint, more)

    def _say(
        self, level: str, kind: str, message: str, hint: str | None, more: dict[str, Any]
    ) -> None:
        from convmem.cli.boundary import one_line, print_error

        if self._as_json:
            import json

            told = {"level": level, "kind": kind, "message": message, "hint": hint, **more}
            print_error(json.dumps(told, ensure_ascii=False))
            return
        print_error(f"convmem: {level}: {one_line(message)}")
        if hint:
            print_error(f"convmem: hint: {one_line(hint)}")


class Healing(Observer):
    """Tells of tails that a crash had torn, and of nothing else."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages

    def healed(self, continuation_id: str, quarantined: str) -> None:
        """Say where the bytes went."""
        what = "a torn tail was set aside in"
        if quarantined.endswith(".zst"):
            what = (
                "it did not unpack whole; what is left of it is plain again, and the compressed"
                " file is in"
            )
        self._messages.warn(
            "healed",
            f"{continuation_id}: {what} .quarantine/{quarantined}",
            continuation_id=continuation_id,
            quarantine=quarantined,
        )


class SkippedDamage:
    """Counts the damage that a reader passed over, and tells of it once."""

    def __init__(self, messages: Messages, continuation_id: str) -> None:
        self._messages = messages
        self._continuation_id = continuation_id
        self._first: Damage | None = None
        self._count = 0

    def damaged(self, damage: Damage) -> None:
        """Note one place."""
        self._count += 1
        # Readers from the end meet the last damage first; people look for the first.
        if self._first is None or damage.offset < self._first.offset:
            self._first = damage

    def tell(self) -> None:
        """Say what was passed over since the last time."""
        if self._first is None:
            return
        lines = "line" if self._count == 1 else "lines"
        self._messages.warn(
            "damaged",
            f"{self._continuation_id}: {self._count} damaged {lines} skipped"
            f" (byte {self._first.offset}: {self._first.reason})",
            continuation_id=self._continuation_id,
            count=self._count,
            offset=self._first.offset,
        )
        self._first, self._count = None, 0


class Skipping(Observer):
    """Hears of the damage that readers pass over."""

    def __init__(self, skipped: SkippedDamage) -> None:
        self.skipped = skipped

    def damaged(self, continuation_id: str, damage: Damage) -> None:
        """Note one place."""
        self.skipped.damaged(damage)


STANDARD_OUTPUT = "standard output"


def write_bytes(data: bytes) -> None:
    """Write all of *data* to standard output; an error says that it was there."""
    out = sys.stdout.buffer
    try:
        written = out.write(data)
        while written < len(data):  # without a buffer (PYTHONUNBUFFERED) it may take a part
            data = data[written:]
            written = out.write(data)
    except BrokenPipeError:
        raise
    except OSError as error:
        error.filename = STANDARD_OUTPUT
        raise


def is_terminal(stream: Any) -> bool:
    """Whether people look at *stream*."""
    try:
        return bool(stream.isatty())
    except ValueError:  # closed
        return False


def stdout_is_terminal() -> bool:
    """Whether people look at standard output."""
    return is_terminal(sys.stdout)
