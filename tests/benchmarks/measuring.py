"""What the benchmarks share: where they work, how they time, and the tables they print.

A figure alone says little on a machine that does other work meanwhile. So each thing is measured
in rounds beside its floor or its peers, turn by turn, and shown as the median of the rounds and
as a ratio to the floor of the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

# Where a sync costs nothing, a durable append says nothing.
_IN_MEMORY = ("tmpfs", "ramfs")


@dataclass(frozen=True, slots=True)
class Scale:
    """How much work a run does: ``full``, ``quick`` (a look), ``tiny`` (does it run at all)."""

    name: str

    def pick(self, full: Any, quick: Any, tiny: Any) -> Any:
        """Return the one of the three that belongs to this scale."""
        return {"full": full, "quick": quick, "tiny": tiny}[self.name]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table. The figures' names end in their unit."""

    what: str
    figures: dict[str, float | int | str | None]
    goal: str = ""
    is_met: bool | None = None


@dataclass(slots=True)
class Table:
    """Rows that belong together, and what has to be known to read them."""

    title: str
    note: str = ""
    rows: list[Row] = field(default_factory=list)

    def add(self, what: str, *, goal: str = "", is_met: bool | None = None, **figures: Any) -> None:
        """Add a row."""
        self.rows.append(Row(what, figures, goal, is_met))


@dataclass(frozen=True, slots=True)
class Run:
    """What a benchmark is given: how much to do, a folder of its own, its other options."""

    scale: Scale
    folder: Path
    options: argparse.Namespace


@dataclass(frozen=True, slots=True)
class Child:
    """How a process did.

    Attributes:
        seconds: By the clock on the wall.
        cpu_seconds: Of processor, in the program and in the kernel for it.
        peak_mb: The most memory that was resident. Never less than our own was at its start.
        read_kb: What it read by read calls, also from the page cache; ``None`` where unknown.
        status: Its exit status.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    read_kb: float | None
    status: int


def run_child(
    words: Sequence[str | Path],
    *,
    stdin: bytes | Path | None = None,
    env: dict[str, str] | None = None,
) -> Child:
    """Run a program to its end, its output thrown away, and say how it did."""
    source: Any = subprocess.DEVNULL
    with contextlib.ExitStack() as opened:
        if isinstance(stdin, Path):
            source = opened.enter_context(stdin.open("rb"))
        elif stdin is not None:
            # Small enough for the pipe: nobody has to stand by and feed it.
            reading, writing = os.pipe()
            os.write(writing, stdin)
            os.close(writing)
            source = opened.enter_context(os.fdopen(reading, "rb"))
        began = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in words], stdin=source, stdout=subprocess.DEVNULL, env=env
        )
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    seconds = time.perf_counter() - began
    read_kb = _read_kb(process.pid)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Child(
        seconds,
        used.ru_utime + used.ru_stime,
        used.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10),
        read_kb,
        process.returncode,
    )


def check(child: Child, what: str) -> Child:
    """Return *child*, which must have succeeded: the time of a failure measures nothing."""
    if child.status != 0:
        raise SystemExit(f"{what} ended with exit status {child.status}")
    return child


def environment(archive: Path) -> dict[str, str]:
    """Return the environment of a ``convmem`` process that works in *archive*."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("CONVMEM_")}
    # With it set, every start compiles the program anew: that would measure the compiler.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env["CONVMEM_ARCHIVE"] = str(archive)
    return env


def console_script() -> Path:
    """Return the ``convmem`` program of this interpreter's environment."""
    path = Path(sysconfig.get_path("scripts")) / "convmem"
    if not path.exists():
        raise SystemExit("no convmem beside this python; install it first: pip install -e .")
    return path


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that *share* of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Return median, 99th percentile and worst of single calls, in microseconds."""
    return {
        "p50_us": median(seconds) * 1e6,
        "p99_us": percentile(seconds, 0.99) * 1e6,
        "worst_us": max(seconds) * 1e6,
    }


def ratio(values: Sequence[float], floor: Sequence[float]) -> float:
    """Return how many times its floor something took: the median of the rounds' own ratios."""
    return median(value / beside for value, beside in zip(values, floor, strict=True))


def at_most(figure: float, goal: float) -> dict[str, Any]:
    """Return the goal columns of a row whose *figure* should not exceed *goal*."""
    return {"goal": f"≤ {goal:g}", "is_met": figure <= goal}


def at_least(figure: float, goal: float) -> dict[str, Any]:
    """Return the goal columns of a row whose *figure* should reach *goal*."""
    return {"goal": f"≥ {goal:g}", "is_met": figure >= goal}


def main(name: str, measure: Callable[[Run], list[Table]], more: Sequence[Any] = ()) -> int:
    """Run one benchmark from the command line; return its exit status.

    *more* are its own options, as (flag, keywords of ``add_argument``). The status is 1 if a
    table says that a promise was broken: a row with the figure ``broken`` above 0.
    """
    parser = argparse.ArgumentParser(description=f"convmem: {name}")
    add_options(parser)
    for flag, keywords in more:
        parser.add_argument(flag, **keywords)
    options = parser.parse_args()
    # This process and all it starts: see ``environment``.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with workspace(options.dir) as folder:
        if not options.no_machine:
            print(machine_line(folder), flush=True)
        began = time.perf_counter()
        tables = measure(Run(scale_of(options), folder, options))
        seconds = time.perf_counter() - began
        report = {
            "name": name,
            "scale": scale_of(options).name,
            "machine": machine(folder),
            "seconds": round(seconds, 1),
            "tables": [asdict(table) for table in tables],
        }
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print_tables(name, tables, seconds)
    return 1 if any(row.figures.get("broken") for table in tables for row in table.rows) else 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every benchmark takes."""
    parser.add_argument("--quick", action="store_true", help="less work: a look, not a finding")
    parser.add_argument("--tiny", action="store_true", help="least work: only shows that it runs")
    parser.add_argument("--json", metavar="FILE", help="also write the tables to FILE as JSON")
    parser.add_argument("--dir", metavar="DIR", help="work below DIR, on a real disk")
    parser.add_argument("--no-machine", action="store_true", help=argparse.SUPPRESS)


def scale_of(options: argparse.Namespace) -> Scale:
    """Return the scale that the options ask for."""
    return Scale("tiny" if options.tiny else "quick" if options.quick else "full")


@contextlib.contextmanager
def workspace(parent: str | None) -> Iterator[Path]:
    """Give a new folder below *parent*, or where temporary files go, and remove it at the end."""
    if parent is None:
        parent = tempfile.gettempdir()
        if file_system(Path(parent)) in _IN_MEMORY and os.path.isdir("/var/tmp"):
            parent = "/var/tmp"
    folder = Path(tempfile.mkdtemp(prefix="convmem-benchmark-", dir=parent))
    if file_system(folder) in _IN_MEMORY:
        print(
            f"{file_system(folder)}: a sync costs nothing here; name a disk with --dir",
            file=sys.stderr,
        )
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def machine(folder: Path) -> dict[str, Any]:
    """Return what the figures depend on besides the program."""
    from convmem import __version__

    return {
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "file_system": file_system(folder),
        "convmem": __version__,
        "load": round(os.getloadavg()[0], 1),
    }


def machine_line(folder: Path) -> str:
    """Return ``machine`` as one line for people."""
    found = machine(folder)
    return (
        f"{found['cores']} cores, {found['kernel']}, {found['python']}, "
        f"{found['file_system']}, convmem {found['convmem']}, load {found['load']}"
    )


def file_system(folder: Path) -> str:
    """Return the kind of file system that *folder* is on, or ``unknown``."""
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
    except OSError:
        return "unknown"
    place = os.path.realpath(folder)
    best, kind = "", "unknown"
    for line in mounts:
        point, its_kind = line.split()[1:3]
        inside = point == "/" or place == point or place.startswith(point + "/")
        if inside and len(point) >= len(best):
            best, kind = point, its_kind
    return kind


def print_tables(name: str, tables: Sequence[Table], seconds: float) -> None:
    """Print the tables for people."""
    # Only now: while children are started, this process is kept small (see ``Child.peak_mb``).
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=140)
    for table in tables:
        columns = list(dict.fromkeys(key for row in table.rows for key in row.figures))
        shown = RichTable(title=f"{name}: {table.title}", title_justify="left", caption=table.note)
        shown.caption_justify = "left"
        shown.add_column("")
        for column in columns:
            shown.add_column(column.replace("_", " "), justify="right")
        has_goals = any(row.goal for row in table.rows)
        if has_goals:
            shown.add_column("goal")
        for row in table.rows:
            cells = [_shown(row.figures.get(column)) for column in columns]
            if has_goals:
                mark = "" if row.is_met is None else (" met" if row.is_met else " [red]missed[/]")
                cells.append(row.goal + mark)
            shown.add_row(row.what, *cells)
        console.print(shown)
    console.print(f"{name}: {seconds:.0f} s\n")


def _shown(value: float | int | str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def _read_kb(process: int) -> float | None:
    """Return what a process that has ended, and was not waited for yet, had read."""
    try:
        text = Path(f"/proc/{process}/io").read_text()
    except OSError:
        return None
    return int(text.split()[1]) / 1024
