"""The benchmark of many tasks can be run, and catches an archive that loses turns."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
_WAYS = ("--tiny", "--only", "alone", "aio", "to-thread")


def test_it_runs_cleans_up_and_finds_every_turn(tmp_path):
    """A benchmark that no longer runs would be noticed only when its figures are needed."""
    place, report = tmp_path / "place", tmp_path / "report.json"
    place.mkdir()
    words = [sys.executable, HERE / "tasks.py", *_WAYS, "--dir", place, "--json", report]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (table,) = json.loads(report.read_text())["tables"]
    rows = {row["what"]: row["figures"] for row in table["rows"]}
    assert rows["convmem.aio"]["lost"] == rows["convmem.aio"]["refused"] == 0
    assert rows["convmem.aio"]["turns_s"] > 0
    assert list(place.iterdir()) == []


def test_a_lost_turn_fails_the_run(tmp_path):
    """The control: with a face that answers and stores nothing, it must not end well."""
    source = (HERE / "tasks.py").read_text()
    records = 'lambda at: all_chats[at].record("user", TEXT), kept'
    assert source.count(records) == 1
    broken = tmp_path / "tasks.py"
    only_some = records.replace("TEXT", 'TEXT, id=f"{at % 2}"')  # every other is a retry
    broken.write_text(source.replace(records, only_some))
    words = [sys.executable, broken, *_WAYS, "--dir", tmp_path]
    ended = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{HERE}:{HERE.parents[1]}", "PATH": ""},
    )
    assert ended.returncode == 1
    assert "promises broken: convmem.aio" in ended.stderr
