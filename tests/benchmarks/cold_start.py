"""How long a command takes from the shell, beside bare Python and beside a small Typer program.

Each is a whole process, started through the console script of this interpreter's environment,
one after the other in every round. Everything is compiled beforehand, as an installation does.
"""

from __future__ import annotations

import compileall
import sys
from pathlib import Path
from statistics import median

from measuring import (
    Child,
    Run,
    Table,
    at_most,
    check,
    console_script,
    environment,
    main,
    ratio,
    run_child,
)

import convmem

_TYPER_PROGRAM = '''\
import typer


def greet(name: str, shout: bool = typer.Option(False, help="Louder.")) -> None:
    """Say hello to somebody."""
    print(f"Hello {name}".upper() if shout else f"Hello {name}")


def main() -> None:
    typer.run(greet)
'''
_SCRIPT = (
    "import sys\nfrom greeting import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
)

_BARE = "python -c pass"
_TYPER_RUN = "Typer program"
_TYPER_HELP = "Typer program --help"
_FRESH = "record ID TEXT, new conversation"
_TURNS = 200
_CONVERSATIONS = 20


def measure(run: Run) -> list[Table]:
    """Time every shape in rounds, and compare each round with its own floor."""
    archive = run.folder / "archive"
    _prepare(archive)
    script = _typer_program(run.folder)
    env = environment(archive)
    here = [console_script()]
    chat = "trip-1"
    shapes: dict[str, tuple[list[str | Path], bytes | None]] = {
        _BARE: ([sys.executable, "-c", "pass"], None),
        _TYPER_RUN: ([sys.executable, script, "Ada"], None),
        _TYPER_HELP: ([sys.executable, script, "--help"], None),
        _FRESH: ([*here, "record", "", "And by train?"], None),
        "record ID TEXT": ([*here, "record", chat, "And by train?"], None),
        "echo TEXT | record ID": ([*here, "record", chat], b"And by train?\n"),
        "record ID TEXT --sync none": (
            [*here, "record", chat, "And by train?", "--sync", "none"],
            None,
        ),
        "tail ID": ([*here, "tail", chat], None),
        "tail ID -n 20 --json": ([*here, "tail", chat, "-n", "20", "--json"], None),
        f"list, {_CONVERSATIONS} conversations": ([*here, "list"], None),
        "--version": ([*here, "--version"], None),
        "--help": ([*here, "--help"], None),
    }
    rounds = run.scale.pick(31, 9, 1)
    found: dict[str, list[Child]] = {name: [] for name in shapes}
    for number in range(-1, rounds):
        for name, (words, stdin) in shapes.items():
            if name == _FRESH:
                words = [*words[:2], f"new-{number}", *words[3:]]
            child = check(run_child(words, stdin=stdin, env=env), name)
            if number >= 0:  # the first round warms the caches
                found[name].append(child)
    table = Table(
        "whole processes",
        "Everything was compiled beforehand. Times are medians of the rounds, ratios are to the "
        "floor of the same round; cpu = processor time, the steadier one on a busy machine.",
    )
    for name, children in found.items():
        table.add(name, **_figures(children, found), **_goal(name, children, found))
    return [table]


def _figures(children: list[Child], found: dict[str, list[Child]]) -> dict[str, float]:
    return {
        "ms": median(child.seconds for child in children) * 1e3,
        "over_bare": _over(children, found[_BARE]),
        "over_bare_cpu": ratio(
            [child.cpu_seconds for child in children],
            [child.cpu_seconds for child in found[_BARE]],
        ),
        "over_typer_run": _over(children, found[_TYPER_RUN]),
        "over_typer_help": _over(children, found[_TYPER_HELP]),
        "resident_mb": median(child.peak_mb for child in children),
    }


def _goal(name: str, children: list[Child], found: dict[str, list[Child]]) -> dict[str, object]:
    if name == "--help":
        return at_most(_over(children, found[_TYPER_HELP]), 1.2)
    if "record" in name or "tail" in name:
        return at_most(_over(children, found[_BARE]), 4.0)
    return {}


def _over(children: list[Child], floor: list[Child]) -> float:
    return ratio([child.seconds for child in children], [child.seconds for child in floor])


def _prepare(archive: Path) -> None:
    compileall.compile_dir(Path(convmem.__file__).parent, quiet=2)
    with convmem.Archive.open(archive, durability="none") as opened:
        for number in range(_CONVERSATIONS):
            turns = [("user", f"And by train, the {at} o'clock?") for at in range(_TURNS)]
            opened.conversation(f"trip-{number}").record_many(turns)


def _typer_program(folder: Path) -> Path:
    """Make a one-command Typer program as an installed one is: a script, a compiled module."""
    module = folder / "greeting.py"
    module.write_text(_TYPER_PROGRAM)
    compileall.compile_file(module, quiet=2)
    script = folder / "greet"
    script.write_text(_SCRIPT)
    return script


if __name__ == "__main__":
    raise SystemExit(main("cold start", measure))
