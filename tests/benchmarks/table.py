"""The speed table, with one command: python tests/benchmarks/table.py

Runs convmem beside a floor and its peers on the same work, in turn, and prints each group of
rows as a table with bars. The first run installs the peers into an environment of their own,
outside the tree; one that cannot be installed is named, with why.

A goal that is missed is only shown. The exit status is 1 if a promise was broken: a turn lost,
doubled or out of order.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

from drawing import draw
from figures import Run, Table
from place import machine, machine_line, workspace
from showing import console, show
from workers import Workers

# Each a file beside this one with ``measure(run)``.
GROUPS = (
    "appends",
    "bulk",
    "last_turns",
    "following",
    "lists",
    "gigabyte",
    "many_logs",
    "starts",
)


def main() -> int:
    """Run what was asked for; return the exit status."""
    options = _options()
    # This process and all it starts: with it set, every start compiles the program anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.perf_counter()
    found: dict[str, list[Table]] = {}
    out = console()
    workers = Workers(with_peers=not options.no_peers, say=out.print)
    with workspace(options.dir, may_be_in_memory=options.scale == "tiny") as folder:
        about = machine(folder)
        out.print(machine_line(about))
        for group in options.only or GROUPS:
            place = folder / group
            place.mkdir()
            run = Run(options.scale, place, workers, options)
            try:
                with out.status(f"{group}: {len(found) + 1} of {len(options.only or GROUPS)}"):
                    found[group] = importlib.import_module(group).measure(run)
            finally:
                workers.close()
            shutil.rmtree(place)
            for table in found[group]:
                show(table, out)
    seconds = time.perf_counter() - began
    report = {
        "scale": options.scale,
        "machine": about,
        "seconds": round(seconds, 1),
        "groups": {group: [asdict(table) for table in its] for group, its in found.items()},
    }
    tables = [table for its in found.values() for table in its]
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    if options.svg:
        Path(options.svg).write_text(draw(tables, machine_line(about)))
    rows = [row for table in tables for row in table.rows]
    met, missed = (sum(row.is_met is answer for row in rows) for answer in (True, False))
    broken = [
        f"{row.what} ({table.title})" for table in tables for row in table.rows if row.is_broken
    ]
    out.print(f"{seconds:.0f} s; goals: {met} met, {missed} missed")
    if broken:
        print(f"promises broken: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="convmem beside its peers")
    parser.set_defaults(scale="full")
    for scale, what in (
        ("quick", "less work: a look, not a finding"),
        ("tiny", "least work: only shows that it runs"),
    ):
        parser.add_argument(
            f"--{scale}", dest="scale", action="store_const", const=scale, help=what
        )
    parser.add_argument("--only", nargs="+", choices=GROUPS, metavar="GROUP", help=" ".join(GROUPS))
    parser.add_argument("--no-peers", action="store_true", help="install and run no peers")
    parser.add_argument("--json", metavar="FILE", help="also write the tables to FILE as JSON")
    parser.add_argument("--svg", metavar="FILE", help="also draw the bars to FILE")
    parser.add_argument("--dir", metavar="DIR", help="work below DIR, on a real disk")
    parser.add_argument("--size-mb", type=int, metavar="N", help="how large the gigabyte is")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
