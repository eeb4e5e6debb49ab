"""The one error boundary: runs a verb, and turns whatever it raised into words and an exit code.

Nothing else in convmem decides an exit code for a failure or prints an error.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from convmem.cli.spec import Request
    from convmem.errors import ConvmemError

EXIT_CODES = {
    "usage": 2,
    "invalid_id": 2,
    "invalid_turn": 1,
    "conflict": 1,
    "unrecognised": 1,
    "not_imported": 1,
    "not_found": 3,
    "io": 4,
    "permission": 4,
    "full": 4,
    "embedder": 4,
    "unknown_durability": 4,
    "damaged": 5,
    "busy": 6,
    "partial": 7,
}
"""The exit code of each kind of error; any other kind is 1."""

INTERRUPTED = 130


def status_of(failures: Sequence[ConvmemError], *, only_one: bool) -> int:
    """Return the exit code of work on several things of which some failed.

    The failure's own where *only one* thing was asked for, else that of what is done in part.
    """
    if not failures:
        return 0
    return EXIT_CODES.get(failures[0].kind, 1) if only_one else EXIT_CODES["partial"]


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. Never raises but for a bug in itself.

    Args:
        argv: The words after the program's name; ``None`` takes them from the process.
    """
    words = _given_words() if argv is None else list(argv)
    _ready_streams()
    try:
        status = _answer(words)
        _flush_output()
        return status
    except KeyboardInterrupt:
        _flush_quietly()
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough (`| head`): no failure of ours, and nobody to tell.
        _drop_output()
        return 0
    except Exception as error:  # noqa: BLE001 - this is the place where all of them end
        status = _report(error, words)
        _flush_quietly()
        return status


def _given_words() -> list[str]:
    words = sys.argv[1:]
    if sys.getfilesystemencoding() == "utf-8":
        return words
    # What was typed is UTF-8, whatever a locale that cron or a container forgot to set says.
    return [os.fsencode(word).decode("utf-8", "surrogateescape") for word in words]


def _answer(words: list[str]) -> int:
    if words == ["--version"]:
        from convmem import __version__

        print(f"convmem {__version__}")
        return 0
    from convmem.cli.fast import parse

    request = parse(words, os.environ)
    if request is not None:
        return _perform(request)
    from convmem.cli.typed import parse as parse_all

    answer = parse_all(words, os.environ)
    return answer if isinstance(answer, int) else _perform(answer)


def _perform(request: Request) -> int:
    verb, context, values = request
    module, _, name = verb.target.partition(":")
    __import__(module)
    status = getattr(sys.modules[module], name)(context, **values)
    return 0 if status is None else int(status)


# --- errors ------------------------------------------------------------------------------------


def _report(error: Exception, words: list[str]) -> int:
    """Say on stderr what went wrong and return the exit code for it."""
    from convmem.errors import ConvmemError

    as_json = "--json" in _own_words(words)
    if isinstance(error, OSError):
        error = _from_system(error, words)
    if isinstance(error, ConvmemError):
        _say(error.kind, str(error), error.hint, as_json)
        return EXIT_CODES.get(error.kind, 1)
    return _report_bug(error, as_json)


def _own_words(words: list[str]) -> list[str]:
    """Return *words* without the command that some verbs end with: its flags are not ours."""
    from convmem.cli.fast import verb_in, with_command_behind
    from convmem.cli.verbs import TABLE

    found = verb_in(words, TABLE)
    if found is None or not found[1].ends_with_command:
        return words
    marked = list(with_command_behind(found[1], words, found[0] + 1))
    return marked[: marked.index("--")] if "--" in marked else marked


def _from_system(error: OSError, words: list[str]) -> Exception:
    """An error that no floor below has put into its own words."""
    from convmem.errors import StorageError, StorageFull, storage_error

    if error.filename == "standard output" or (error.filename is None and _output_fails()):
        # Not the archive's trouble: a kind of its own file would tell the caller to retry.
        return StorageError(
            f"cannot write to standard output: {(error.strerror or str(error)).lower()}",
            hint="what was recorded is recorded; only the answer was lost",
            errno=error.errno,
        )
    where = "convmem " + " ".join(words[:2]) if error.filename is None else _name(error.filename)
    found = storage_error(error, where)
    if isinstance(found, StorageFull):
        # That all is as it was is the engine's to promise, not ours.
        found.hint = "make room and try again"
    return found


def _name(filename: object) -> str:
    return os.fsdecode(filename) if isinstance(filename, (str, bytes)) else f"descriptor {filename}"


def _report_bug(error: Exception, as_json: bool) -> int:
    import traceback

    trace = "".join(traceback.format_exception(error))
    message = f"this is a bug in convmem: {type(error).__name__}: {error}"
    hint = "please report it, with the traceback"
    if as_json:
        _say("bug", message, hint, as_json, trace)
    else:
        print_error(trace.rstrip("\n"))
        _say("bug", message, hint, as_json)
    return 1


def _say(
    kind: str, message: str, hint: str | None, as_json: bool, trace: str | None = None
) -> None:
    if as_json:
        import json

        told = {"kind": kind, "message": message, "hint": hint}
        if trace is not None:
            told["traceback"] = trace
        print_error(json.dumps(told, ensure_ascii=False))
        return
    print_error(f"convmem: error: {one_line(message)}")
    if hint:
        print_error(f"convmem: hint: {one_line(hint)}")


def one_line(text: str) -> str:
    """Keep what a stranger's id or file name could do to a terminal out of it."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def print_error(line: str) -> None:
    try:
        # In one go: another thread may have something to say, too.
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        # Nobody listens on stderr; the exit code still tells, and must not become the one with
        # which the interpreter ends where its own flush fails.
        _drop(sys.stderr)


# --- streams -----------------------------------------------------------------------------------


def _ready_streams() -> None:
    """UTF-8 whatever the locale, and something on each of the three standard descriptors."""
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        _fill_closed_streams()
    _as_utf8(sys.stdout, "surrogateescape")
    _as_utf8(sys.stderr, "backslashreplace")


def _as_utf8(stream: TextIO, errors: str) -> None:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(encoding="utf-8", errors=errors)


def _fill_closed_streams() -> None:
    # Without this the next file opened, perhaps a conversation, would get descriptor 1 or 2,
    # and a message meant for the terminal would be written into it.
    # Standard input for writing only: nobody said that nothing was said, so reading it fails.
    while (descriptor := os.open(os.devnull, os.O_WRONLY)) <= 2:
        pass
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _flush_output() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        error.filename = "standard output"
        raise


def _output_fails() -> bool:
    """Tell whether what was printed cannot be written, as on a full disk."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        return True
    return False


def _flush_quietly() -> None:
    """What was printed before a failure is still data; but the failure has been told already."""
    if _output_fails():
        _drop_output()


def _drop_output() -> None:
    _drop(sys.stdout)


def _drop(stream: TextIO) -> None:
    """Let the interpreter's own flush at exit go nowhere, instead of failing once more."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):
        pass  # not a real file, as under a test
