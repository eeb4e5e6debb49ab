"""``convmem run``: a command as it always runs, and what was said to and by it recorded."""

from __future__ import annotations

import os
import shlex

from convmem.cli.boundary import EXIT_CODES
from convmem.cli.output.messages import Messages
from convmem.cli.places import namespace_of, root_of, settings_of
from convmem.cli.running.beside import Beside
from convmem.cli.running.command import CannotRun, environment, find
from convmem.cli.running.recorder import Job, aside_path
from convmem.errors import ConvmemError, UsageError
from convmem.ids import encode_name
from convmem.quantities import format_count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from convmem.cli.spec import Context


def run(
    context: Context,
    *,
    continuation_id: str,
    command: list[str],
    sync: str | None,
    redact: bool,
    quiet: bool,
) -> int:
    """Run the command, and return its exit status; another one only where it succeeded."""
    encode_name(continuation_id)
    encode_name(namespace_of(context))
    if command[:1] == ["--"]:  # the first one was for an id that begins with a dash
        command = command[1:]
    if not command:
        raise UsageError("there is no command to run", hint="see convmem run --help")
    redaction = None
    if redact:
        from convmem.cli.redacting import Redaction

        redaction = Redaction()
    messages = Messages(as_json=False, quiet=quiet)
    words = [word.encode("utf-8", "surrogateescape") for word in command]
    env = environment(
        context.env,
        CONVMEM_CONTINUATION_ID=continuation_id,
        CONVMEM_ARCHIVE=os.path.realpath(os.path.expanduser(root_of(context))),
        CONVMEM_NAMESPACE=namespace_of(context),
    )
    try:
        path = find(os.fsdecode(words[0]), context.env)
    except CannotRun as error:
        return _refused(command[0], error)
    is_at_terminal = os.isatty(0) and os.isatty(1)
    columns, height = _window() if os.isatty(1) else (0, 0)
    job = Job(
        context,
        settings_of(context, messages),
        continuation_id,
        sync,
        redaction,
        os.path.basename(command[0]),
        is_at_terminal,
        columns,
        height,
        f"convmem-run-{os.urandom(6).hex()}.jsonl",
    )
    beside = Beside(job)
    try:
        if is_at_terminal:
            from convmem.cli.running.terminal import relay
        else:
            from convmem.cli.running.pipes import relay
        status = relay(path, words, env, beside)
    except CannotRun as error:
        beside.forget()
        return _refused(command[0], error)
    try:
        result = beside.end(status, lambda: _waits(messages, continuation_id))
    except KeyboardInterrupt:
        messages.warn(
            "run",
            f"{continuation_id}: still being recorded, by another process",
            f"what it cannot record will be in {aside_path(job.aside)}",
        )
        raise
    recorded = _told(result, messages, continuation_id)
    return status or recorded


def _waits(messages: Messages, continuation_id: str) -> None:
    messages.note(
        "run", f"{continuation_id}: waiting until all is recorded", "Ctrl-C leaves that alone"
    )


def _window() -> tuple[int, int]:
    from convmem.cli.running.terminal import window_size

    return window_size(1)


def _refused(name: str, error: CannotRun) -> int:
    from convmem.cli.boundary import one_line, print_error

    print_error(f"convmem: error: cannot run {one_line(name)}: {error}")
    return error.status


def _told(result: dict[str, Any] | None, messages: Messages, continuation_id: str) -> int:
    """Say what could not be recorded, and return the exit status of the recording alone."""
    if result is None:
        messages.error(ConvmemError(f"{continuation_id}: the process that records was killed"))
        return 1
    for message, hint in result["said"]:
        messages.warn("run", message, hint)
    if not result["failed"]:
        return 0
    lost = format_count(result["failed"], "turn")
    why = ConvmemError(f"{continuation_id}: {lost} not recorded: {result['error']}")
    kept = result["failed"] - result["lost"]
    if kept:
        which = "they are" if not result["lost"] else f"{kept} of them are"
        why.hint = (
            f"{which} in {result['file']}; once the archive is well again:"
            f" convmem record {shlex.quote(continuation_id)} --jsonl < {result['file']}"
        )
    else:
        why.hint = result["hint"]
    messages.error(why)
    return 7 if result["recorded"] else EXIT_CODES.get(result["kind"], 1)
