"""Long output through a pager: started when more comes than one screen holds, then fed as it reads.

What is shown goes straight into the pager's pipe, which holds us back while nobody scrolls: a
conversation of any length is there at once, and takes no memory here.
"""

from __future__ import annotations

import contextlib
import signal
import time

from convmem.cli.output.safe import encoded
from convmem.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping
    from types import FrameType, TracebackType

    from convmem.cli.output.messages import Messages
    from convmem.cli.output.terminal import StandardOutput, Terminal

_NONE = frozenset(("", "cat"))
_SHELL_MARKS = frozenset("|&;<>()$`\\*?[#~=%!")

# A pager that failed before it took more than this may have shown nothing: it is all said again.
_KEPT_BYTES = 256 * 1024
# What a slow search has found is shown before the screen is full.
_PATIENCE_SECONDS = 0.4


class PagerClosed(BrokenPipeError):
    """Whoever reads has seen enough: no failure."""


def command_in(env: Mapping[str, str]) -> str | None:
    """Return what to show long output with: ``PAGER``, else less; or nothing."""
    if env.get("TERM", "") in ("", "dumb", "unknown"):
        return None
    command = env.get("PAGER", "less")
    return None if command.strip() in _NONE else command


class Pager:
    """Takes text for people: one screen goes to standard output, more than that to *command*.

    As a context manager it returns when the pager has ended. When people leave the pager early,
    writing raises `PagerClosed`, which ends the block without an error. A pager that cannot be
    run, or fails, is said on standard error, and the text goes to standard output instead.
    """

    def __init__(
        self,
        command: str | None,
        out: StandardOutput,
        terminal: Terminal,
        messages: Messages,
        env: Mapping[str, str],
    ) -> None:
        self._command = command
        self._out = out
        self._terminal = terminal
        self._messages = messages
        self._env = env
        self._held: list[str] | None = None if command is None else []
        self._lines = 0
        self._since = 0.0
        self._kept: list[bytes] | None = None
        self._kept_bytes = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._was_interrupted = False

    def __enter__(self) -> Pager:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if self._process is not None:
            self._close()
        elif not isinstance(error, KeyboardInterrupt):
            self._release()
        return isinstance(error, PagerClosed)

    def write(self, text: str) -> None:
        """Show *text*, whole lines of it, now or when more has come."""
        if self._process is not None:
            self._feed(encoded(text))
        elif self._held is None:
            self._out.write(text)
        else:
            self._held.append(text)
            self._lines += text.count("\n")
            self._since = self._since or time.monotonic()
            is_late = time.monotonic() - self._since > _PATIENCE_SECONDS
            if self._lines >= self._terminal.rows or is_late:
                self._start()

    def flush(self) -> None:
        """Nothing waits here for longer than a moment but what fits one screen."""
        if self._held is None and self._process is None:
            self._out.flush()

    def _start(self) -> None:
        import subprocess

        assert self._command is not None
        try:
            self._process = subprocess.Popen(
                _words(self._command), stdin=subprocess.PIPE, bufsize=0, env=_settings(self._env)
            )
        except (OSError, UsageError) as error:
            self._warn(f"cannot run the pager: {getattr(error, 'strerror', None) or error}")
            self._release()
            return
        # After the pager has started, so that it does not inherit it: Ctrl-C is for the pager,
        # and only where that has ended for us.
        self._before = signal.signal(signal.SIGINT, self._interrupted)
        self._kept = []
        held, self._held = self._held or [], None
        self._feed(encoded("".join(held)))

    def _feed(self, data: bytes) -> None:
        assert self._process is not None and self._process.stdin is not None
        if self._kept is not None:
            self._kept.append(data)
            self._kept_bytes += len(data)
            if self._kept_bytes > _KEPT_BYTES:
                self._kept = None
        left = memoryview(data)
        try:
            while left:
                left = left[self._process.stdin.write(left) :]
        except BrokenPipeError:
            if self._close():
                return
            raise PagerClosed from None

    def _close(self) -> bool:
        """Wait for the pager to end. True where it failed, and all it was given was said again."""
        process = self._process
        assert process is not None and process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        status = process.wait()
        self._process = None
        signal.signal(signal.SIGINT, self._before)
        if status == 0:
            return False
        if self._was_interrupted:
            raise KeyboardInterrupt
        ended = f"status {status}" if status > 0 else f"signal {-status}"
        self._warn(f"the pager ended with {ended}")
        if self._kept is None:
            return False
        for data in self._kept:
            self._out.write_bytes(data)
        return True

    def _release(self) -> None:
        """Give what was held back to standard output, and all that follows."""
        held, self._held = self._held or [], None
        for text in held:
            self._out.write(text)
        self._out.flush()

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        self._was_interrupted = True
        if self._process is None or self._process.poll() is not None:
            raise KeyboardInterrupt

    def _warn(self, message: str) -> None:
        self._messages.warn(
            "pager",
            f"{message} ({self._command})",
            "use --no-pager or CONVMEM_PAGER=never, or name another one in PAGER",
        )


def _words(command: str) -> list[str]:
    if _SHELL_MARKS & set(command):
        return ["/bin/sh", "-c", command]
    import shlex

    try:
        return shlex.split(command)
    except ValueError as error:
        raise UsageError(str(error).lower()) from None


def _settings(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the pager, with options for less where nobody has set any.

    F ends it where one screen is enough, R lets colours through (and nothing else), X leaves the
    text on the screen.
    """
    found = dict(env)
    found["LESS"] = f"-R {env['LESS']}" if env.get("LESS") else "FRX"
    found.setdefault("LESSCHARSET", "utf-8")
    found.setdefault("LV", "-c")
    return found
