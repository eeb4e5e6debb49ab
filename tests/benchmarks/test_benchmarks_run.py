"""The speed table can be made: each group in its smallest form. Nothing here looks at a time."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from figures import Kind, Row

HERE = Path(__file__).parent
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


def _run(*words):
    return subprocess.run(
        [sys.executable, HERE / "table.py", *words], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_of_the_speed_table_runs_and_cleans_up(group, tmp_path):
    """A benchmark that no longer runs would be noticed only when its figures are needed."""
    place = tmp_path / "place"
    place.mkdir()
    report, picture = tmp_path / "report.json", tmp_path / "picture.svg"
    words = ["--tiny", "--no-peers", "--only", group, "--dir", place]
    ended = _run(*words, "--json", report, "--svg", picture)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(report.read_text())
    assert found["machine"]["cores"]
    tables = found["groups"][group]
    assert tables
    for table in tables:
        kinds = {row["kind"] for row in table["rows"]}
        assert "convmem" in kinds
        assert all(row["what"] and (row["figures"] or row["missing"]) for row in table["rows"])
    assert any(row["figures"].get("over_floor") for row in tables[0]["rows"])
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")
    assert list(place.iterdir()) == []


def test_a_lost_turn_fails_the_run(tmp_path):
    """The control: with a convmem that answers and stores nothing, the table must not end well."""
    house = tmp_path / "benchmarks"
    shutil.copytree(HERE, house, ignore=shutil.ignore_patterns("__pycache__"))
    ours = house / "peers" / "ours.py"
    records = 'self._chats[chat].record("user", TEXT)'
    text = ours.read_text()
    assert text.count(records) == 1
    ours.write_text(text.replace(records, f"self._chats[chat].exists() or {records}"))
    words = ["--tiny", "--no-peers", "--only", "appends", "--dir", tmp_path]
    ended = subprocess.run(
        [sys.executable, house / "table.py", *words], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "promises broken: convmem" in ended.stderr


def test_one_command_runs_every_group():
    """A group that is left out is soon forgotten."""
    groups = {path.stem for path in HERE.glob("*.py") if "\ndef measure(" in path.read_text()}
    assert groups == set(GROUPS)
    assert set(GROUPS) <= set(_run("--help").stdout.split())


def test_durability_is_never_measured_in_memory():
    """A sync in memory costs nothing: the figure would say that durable appends are free."""
    if not Path("/dev/shm").is_dir():
        pytest.skip("needs /dev/shm")
    ended = _run("--quick", "--no-peers", "--only", "appends", "--dir", "/dev/shm")
    assert ended.returncode != 0
    assert "in memory" in ended.stderr


def test_every_peer_has_a_pinned_version():
    """A peer that moves by itself makes two tables that cannot be laid side by side."""
    lines = (HERE / "peers" / "requirements.txt").read_text().splitlines()
    pins = {line.split("==")[0] for line in lines if "==" in line}
    known = runpy.run_path(str(HERE / "peers" / "known.py"))
    peers = [who for who in known.values() if isinstance(who, known["Contestant"])]
    needs = {name for who in peers for name in who.needs}
    assert len(needs) > 3
    assert needs | {known["LLM"]} == pins


def test_a_turn_that_convmem_lost_is_no_matter_of_speed():
    """A table that says "lost: 3" and ends well would be read as a table of speeds."""
    for figure in ("lost", "broken"):
        assert Row("convmem", Kind.OURS, figures={figure: 1}).is_broken
        assert not Row("convmem", Kind.OURS, figures={figure: 0}).is_broken
        assert not Row("somebody", Kind.PEER, figures={figure: 1}).is_broken
