"""How long a command takes from the shell, beside bare Python and other programs.

Each is a whole process, run one after the other in every round. Everything is compiled
beforehand, as an installation does.
"""

from __future__ import annotations

import compileall
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from statistics import median

from figures import Run, Table, at_most, ratio, turned
from peers import home
from peers.known import LLM, Kind
from peers.protocol import TEXT
from processes import Ended, convmem_environment, convmem_program, run_program
from workers import Refused

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
_TYPER_HELP = "Typer program --help"
_TIMES = 4.0
_HELP_TIMES = 1.2
_TURNS = 200
_CONVERSATIONS = 20


def measure(run: Run) -> list[Table]:
    """Time every program in rounds, and compare each round with its own floor."""
    archive = run.folder / "archive"
    _prepare(archive)
    greet = _typer_program(run.folder)
    env = convmem_environment(archive)
    program = convmem_program()
    text = run.folder / "text"
    text.write_text("And by train?\n")
    shapes: dict[str, tuple[Kind, list[str | Path]]] = {
        _BARE: (Kind.FLOOR, [sys.executable, "-c", "pass"]),
        "record ID TEXT": (Kind.OURS, [program, "record", "trip-1", "And by train?"]),
        "record NEW-ID TEXT": (Kind.OURS, [program, "record", "NEW", "By train?"]),
        "echo TEXT | record ID": (Kind.OURS, [program, "record", "trip-1"]),
        "tail ID": (Kind.OURS, [program, "tail", "trip-1"]),
        "tail ID -n 20 --json": (Kind.OURS, [program, "tail", "trip-1", "-n", "20", "--json"]),
        f"list, {_CONVERSATIONS} conversations": (Kind.OURS, [program, "list"]),
        "--version": (Kind.OURS, [program, "--version"]),
        "--help": (Kind.OURS, [program, "--help"]),
        "Typer program": (Kind.PEER, [greet, "Oslo"]),
        _TYPER_HELP: (Kind.PEER, [greet, "--help"]),
    }
    table = Table(
        "start of a process",
        "Medians; over_floor = over bare Python of the same round. over_floor_cpu is "
        "the steadier figure on a busy machine. The Typer program has one command; llm and sqlite3 "
        "look at 200 turns, as tail does.",
    )
    missing: dict[str, str] = {}
    try:
        env["LLM_USER_PATH"] = str(_llm_logs(run))
        logs: list[str | Path] = [home.program(LLM), "logs", "-n", "20", "--json"]
        shapes["llm logs -n 20 --json"] = (Kind.PEER, logs)
    except Refused as why_not:
        missing["llm logs -n 20 --json"] = str(why_not)
    sqlite = shutil.which("sqlite3")
    if sqlite is None:
        missing["sqlite3 FILE SELECT"] = "no sqlite3 program; on Debian: apt install sqlite3"
    else:
        select = "SELECT * FROM turns WHERE chat = 'trip-1' ORDER BY seq DESC LIMIT 20"
        shapes["sqlite3 FILE SELECT"] = (Kind.PEER, [sqlite, _database(run.folder), select])
    ended: dict[str, list[Ended]] = {name: [] for name in shapes}
    names = list(shapes)
    for number in range(-1, run.pick(31, 9, 1)):
        for at in turned(len(names), max(number, 0)):
            _, words = shapes[names[at]]
            words = [f"new-{number}" if word == "NEW" else word for word in words]
            stdin = text if names[at].startswith("echo") else None
            each = run_program(words, stdin=stdin, env=env)
            if number >= 0:  # the first round warms the caches
                ended[names[at]].append(each)
    for name, (kind, _) in shapes.items():
        over = _over(ended[name], ended[_BARE])
        goal: tuple[str, bool | None] = ("", None)
        if name == "--help":
            goal = at_most(_over(ended[name], ended[_TYPER_HELP]), _HELP_TIMES, " × Typer's help")
        elif "record" in name or "tail" in name:
            goal = at_most(over, _TIMES, " × bare Python")
        table.add(
            name,
            kind,
            ms=median(each.seconds for each in ended[name]) * 1e3,
            cpu_ms=median(each.cpu_seconds for each in ended[name]) * 1e3,
            over_floor=over,
            over_floor_cpu=ratio(
                [each.cpu_seconds for each in ended[name]],
                [each.cpu_seconds for each in ended[_BARE]],
            ),
            resident_mb=median(each.peak_mb for each in ended[name]),
            goal=goal if kind is Kind.OURS else ("", None),
        )
    for name, why in missing.items():
        table.add_missing(name, why)
    return [table]


def _over(its: list[Ended], floor: list[Ended]) -> float | None:
    return ratio([each.seconds for each in its], [each.seconds for each in floor])


def _prepare(archive: Path) -> None:
    compileall.compile_dir(Path(convmem.__file__).parent, quiet=2)
    with convmem.Archive.open(archive, durability="none") as opened:
        for number in range(_CONVERSATIONS):
            opened.conversation(f"trip-{number}").record_many([("user", TEXT)] * _TURNS)


def _typer_program(folder: Path) -> Path:
    """Make a one-command Typer program as an installed one is: a script, a compiled module."""
    module = folder / "greeting.py"
    module.write_text(_TYPER_PROGRAM)
    compileall.compile_file(module, quiet=2)
    script = folder / "greet"
    script.write_text(f"#!{sys.executable}\n{_SCRIPT}")
    script.chmod(0o755)
    return script


def _database(folder: Path) -> Path:
    path = folder / "turns.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE turns (seq INTEGER PRIMARY KEY, chat TEXT, content TEXT)")
    rows = [("trip-1", TEXT)] * _TURNS
    connection.executemany("INSERT INTO turns (chat, content) VALUES (?, ?)", rows)
    connection.commit()
    connection.close()
    return path


def _llm_logs(run: Run) -> Path:
    """Return the folder of a log that ``llm`` made and that has turns."""
    run.workers.need((LLM,))
    folder = run.new_folder("llm")
    filler = Path(__file__).parent / "peers" / "llm_logs.py"
    words: list[str | Path] = [home.python(), filler, folder / "logs.db", str(_TURNS)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise Refused((ended.stderr.splitlines() or ["it failed"])[-1])
    return folder
