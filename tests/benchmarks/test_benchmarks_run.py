"""The benchmarks can be run: each in its smallest form. Nothing here looks at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NAMES = ("cold_start", "append", "contention", "big_conversation", "listing", "compact_all")


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs_and_cleans_up(name, tmp_path):
    """A benchmark that no longer runs would be noticed only when its figures are needed."""
    place = tmp_path / "place"
    place.mkdir()
    report = tmp_path / "report.json"
    words = [HERE / f"{name}.py", "--tiny", "--dir", place, "--json", report]
    ended = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(report.read_text())
    assert found["machine"]["cores"]
    rows = [row for table in found["tables"] for row in table["rows"]]
    assert rows
    assert all(row["what"] and row["figures"] for row in rows)
    assert list(place.iterdir()) == []


def test_one_command_runs_them_all():
    """What the README names is this list, and a benchmark that is left out is soon forgotten."""
    listed = {path.stem for path in HERE.glob("*.py")} - {"run", "measuring", Path(__file__).stem}
    assert listed == set(NAMES)
    assert f"BENCHMARKS = {NAMES!r}".replace("'", '"') in (HERE / "run.py").read_text()
