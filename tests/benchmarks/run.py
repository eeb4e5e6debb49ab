"""All benchmarks with one command: ``python tests/benchmarks/run.py [--quick] [--json FILE]``.

Each runs in a process of its own, one after the other. The exit status is 1 if one of them found
a promise broken (a turn lost, doubled or out of order); a goal that is missed is only shown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import add_options, machine, machine_line, workspace

BENCHMARKS = ("cold_start", "append", "contention", "big_conversation", "listing", "compact_all")


def run(options: argparse.Namespace) -> int:
    """Run all of them; return the exit status."""
    here = Path(__file__).parent
    began = time.perf_counter()
    reports = []
    broken = []
    with workspace(options.dir) as folder, tempfile.TemporaryDirectory() as answers:
        about = machine(folder)
        print(machine_line(folder), flush=True)
        for name in BENCHMARKS:
            answer = Path(answers) / f"{name}.json"
            words = [sys.executable, here / f"{name}.py", "--no-machine", "--dir", folder]
            words += ["--json", answer]
            words += [f"--{scale}" for scale in ("quick", "tiny") if getattr(options, scale)]
            if subprocess.run([str(word) for word in words], check=False).returncode != 0:
                broken.append(name)
            if answer.exists():
                reports.append(json.loads(answer.read_text()))
    seconds = time.perf_counter() - began
    if options.json:
        whole = {"machine": about, "seconds": round(seconds, 1), "benchmarks": reports}
        Path(options.json).write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    missed = sum(
        row["is_met"] is False
        for each in reports
        for table in each["tables"]
        for row in table["rows"]
    )
    print(f"{seconds:.0f} s, {missed} goals missed" + (f", failed: {broken}" if broken else ""))
    return 1 if broken else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="all of convmem's benchmarks")
    add_options(parser)
    raise SystemExit(run(parser.parse_args()))
