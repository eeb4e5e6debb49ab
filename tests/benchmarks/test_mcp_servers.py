"""The comparison of MCP servers can be made: in its smallest form, without the other one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mcp")

HERE = Path(__file__).parent


def test_the_comparison_of_mcp_servers_runs(tmp_path):
    """A benchmark that no longer runs would be noticed only when its figures are needed."""
    words = ["--tiny", "--no-peer", "--dir", tmp_path]
    ended = subprocess.run(
        [sys.executable, HERE / "mcp_servers.py", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = {line[:36].strip(): line[36:].strip() for line in ended.stdout.splitlines()}
    assert told["kept of 50 parallel writes"] == told["… by two servers on one file"] == "50"
    assert told["one bad line: finds"] == told["one bad line: writes"] == "yes"
    assert list(tmp_path.iterdir()) == []
