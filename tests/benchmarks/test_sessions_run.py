"""The table of adapters can be made: in its smallest form, with what is installed here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SESSIONS = Path(__file__).parent / "sessions.py"


def test_the_table_of_adapters_runs_and_cleans_up(tmp_path):
    """A benchmark that no longer runs would be noticed only when its figures are needed."""
    pytest.importorskip("agents")
    place, report = tmp_path / "place", tmp_path / "report.json"
    place.mkdir()
    words = ["--tiny", "--dir", str(place), "--json", str(report)]
    ended = subprocess.run(
        [sys.executable, str(SESSIONS), *words], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    tables = {table["title"]: table for table in json.loads(report.read_text())["tables"]}
    rows = {row["what"]: row for row in tables["OpenAI Agents"]["rows"]}
    for name in ("ConvmemSession", "SQLiteSession"):
        assert rows[name]["figures"]["append_100"] > 0
        assert rows[name]["figures"]["last_100"] > 0
    # Whoever is not installed is named with why, and nobody has lost anything.
    every = [row for table in tables.values() for row in table["rows"]]
    assert all(row["figures"] or row["missing"] for row in every)
    assert list(place.iterdir()) == []
