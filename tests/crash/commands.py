"""The real command line, as a user calls it: every verb, and how one is run as a process."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

KILLED = -9
_CRASH_FOLDER = os.path.dirname(os.path.abspath(__file__))
_SUMMARIZE = "cat > /dev/null; echo they spoke"


@dataclass(frozen=True, slots=True)
class Command:
    """One call of convmem.

    Attributes:
        name: In labels.
        words: What is typed behind ``convmem``.
        stdin: What it reads.
        writes: Whether it changes anything.
        status: The exit code if all goes well.
        again: The codes with which it may end when it is called once more and is done already.
        has_threads: Whether threads do it, so that no two runs make the very same calls.
        seconds: If given, it is interrupted (SIGINT) after so long: it never ends by itself.
    """

    name: str
    words: tuple[str, ...]
    stdin: bytes = b""
    writes: bool = True
    status: int = 0
    again: tuple[int, ...] = (0,)
    seconds: float | None = None
    has_threads: bool = False

    @property
    def verb(self) -> str:
        return self.words[0]


def _jsonl(*turns: dict[str, object]) -> bytes:
    return b"".join(json.dumps(turn).encode() + b"\n" for turn in turns)


def _said(turn_id: str, text: str, **more: object) -> dict[str, object]:
    return {"id": turn_id, "role": "user", "content": text, **more}


WRITING = (
    Command("record", ("record", "trip", "And by train?", "--id", "n1", "--json")),
    Command("record a known id", ("record", "trip", "turn 3", "--id", "trip3", "--json")),
    Command("record the first turn", ("record", "Neu/an", "Hello", "--id", "n1", "--json")),
    Command("record after a torn line", ("record", "torn", "On", "--id", "n1", "--json")),
    Command("record what is compressed", ("record", "cold", "Up", "--id", "n1", "--json")),
    Command(
        "record --jsonl",
        ("record", "trip", "--jsonl", "--json"),
        _jsonl(*(_said(f"n{at}", "line " * 9) for at in range(4))),
    ),
    Command(
        "record - --jsonl",
        ("record", "-", "--jsonl", "--json"),
        _jsonl(
            _said("n1", "one", continuation_id="trip"),
            _said("n2", "two", continuation_id="dinner"),
            _said("n3", "three", continuation_id="trip"),
        ),
    ),
    Command("state set", ("state", "trip", "set", "session=new", "retries:=3")),
    Command("state set, the first", ("state", "torn", "set"), b'{"token": "sesame"}'),
    Command("state unset", ("state", "trip", "unset", "session")),
    Command("state clear", ("state", "trip", "clear")),
    Command("compact", ("compact", "trip", "--keep-last", "2")),
    Command("compact all", ("compact", "trip", "--keep-last", "0")),
    Command("compact --discard", ("compact", "trip", "--keep-last", "2", "--discard")),
    Command(
        "compact, summed up",
        ("compact", "trip", "--keep-last", "2", "--summarize-with", _SUMMARIZE),
    ),
    Command("compact --all", ("compact", "--all", "--keep-last", "4"), has_threads=True),
    Command("compact by rules", ("compact", "--all"), has_threads=True),
    Command("delete", ("delete", "trip", "cold", "--yes"), again=(0, 3, 7)),
    Command("trash restore", ("trash", "restore", "gone", "half"), again=(0, 3, 7)),
    Command("trash purge", ("trash", "purge", "--older-than", "0s", "--yes")),
    Command("compress", ("compress", "long")),
    Command("compress --undo", ("compress", "--undo", "cold")),
    Command("repair", ("repair", "sick", "torn")),
    Command("repair, compressed", ("repair", "cracked")),
)
"""Every verb that changes anything, each in the forms that take another way."""

READING = (
    Command("tail", ("tail", "trip", "-n", "2"), writes=False),
    Command("tail, compressed", ("tail", "cold", "-n", "2"), writes=False),
    Command("tail --cursor-file", ("tail", "trip", "--cursor-file", "CURSOR"), writes=False),
    Command("tail -f", ("tail", "trip", "-f"), writes=False, status=130, seconds=0.6),
    Command("show", ("show", "trip"), writes=False),
    Command("list", ("list",), writes=False),
    Command("list -l", ("list", "-l"), writes=False),
    Command("stats", ("stats",), writes=False),
    Command("stats --prometheus", ("stats", "--prometheus", "PROM"), writes=False),
    Command("context", ("context", "trip", "--max-turns", "2"), writes=False),
    Command("state get", ("state", "trip", "get"), writes=False),
    Command("path", ("path", "trip"), writes=False),
    Command("trash list", ("trash", "list"), writes=False),
    Command("verify", ("verify", "--all"), writes=False, status=5),
    Command("health", ("health",), writes=False, status=1),
    Command("config", ("config",), writes=False),
)
"""Every verb that only reads."""

UPKEEP = Command("upkeep", ("compact", "--all", "--keep-last", "9999"))

COMMANDS = {command.name: command for command in (*WRITING, *READING)}


@functools.cache
def exit_codes_of(verb: str) -> frozenset[int]:
    """Return the exit codes that ``convmem VERB --help`` documents."""
    told = subprocess.run(
        [sys.executable, "-m", "convmem", verb, "--help"], capture_output=True, text=True
    ).stdout
    _, _, after = told.partition("EXIT STATUS:")
    found = re.findall(r"^    (\d+)  ", after, re.MULTILINE)
    assert found, f"convmem {verb} --help documents no exit code"
    return frozenset(map(int, found))


# --- running -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Ended:
    """How a command ended, and what it said."""

    status: int
    out: bytes
    err: str


def environment(root: str, **more: str) -> dict[str, str]:
    """Return the variables that a command is run with: nothing of ours gets in."""
    kept = ("PATH", "HOME", "LANG")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "CONVMEM_ARCHIVE": root,
        "CONVMEM_JOBS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": _CRASH_FOLDER,
        **more,
    }


def program(mutant: str | None = None) -> list[str]:
    """Return the words that start convmem, with a safeguard taken out where a *mutant* is named."""
    if mutant is None:
        return [sys.executable, "-m", "convmem"]
    code = f"import mutants; mutants.{mutant}(); from convmem.cli import main; main()"
    return [sys.executable, "-c", code]


def run(
    command: Command,
    root: str,
    *,
    before: Sequence[str] = (),
    mutant: str | None = None,
    variables: Mapping[str, str] | None = None,
    ready: Callable[[], None] | None = None,
    stdout: int | None = None,
) -> Ended:
    """Run *command* on the archive at *root*, with the words *before* in front of it.

    *ready* is called in the child before it becomes convmem, as ``subprocess`` does.
    """
    ended = _run_once(command, root, before, mutant, variables, ready, stdout)
    while "KeyboardInterrupt" in ended.err and command.seconds is not None:
        # A busy machine: it was interrupted before Python itself had started.
        command = replace(command, seconds=4 * command.seconds)
        ended = _run_once(command, root, before, mutant, variables, ready, stdout)
    return ended


def _run_once(
    command: Command,
    root: str,
    before: Sequence[str],
    mutant: str | None,
    variables: Mapping[str, str] | None,
    ready: Callable[[], None] | None,
    stdout: int | None,
) -> Ended:
    place = os.path.dirname(root)
    words = [os.path.join(place, word) if word.isupper() else word for word in command.words]
    process = subprocess.Popen(
        [*before, *_limited(command), *program(mutant), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.PIPE,
        env=environment(root, **(variables or {})),
        cwd=place,
        preexec_fn=ready,
    )
    out, err = process.communicate(command.stdin, timeout=120)
    status = process.returncode
    return Ended(KILLED if status == 137 else status, out or b"", err.decode(errors="replace"))


def _limited(command: Command) -> list[str]:
    if command.seconds is None:
        return []
    return ["timeout", "--preserve-status", "-s", "INT", str(command.seconds)]
