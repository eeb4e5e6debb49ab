"""``convmem mcp`` as a command: the extra, wrong flags, its streams, its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


def needs_mcp():
    """Skip the rest of a test where the extra is not installed."""
    pytest.importorskip("mcp")


def without_mcp(folder):
    """Return an environment in which the SDK cannot be imported."""
    (folder / "mcp.py").write_text("raise ModuleNotFoundError('No module named mcp', name='mcp')\n")
    return f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"


def test_the_missing_extra_is_named(cli, tmp_path):
    """Exit code 2 and the one command that mends it; no traceback."""
    path = f"{without_mcp(tmp_path)}{os.pathsep}{cli.environment['PYTHONPATH']}"
    answer = cli("mcp", code=2, PYTHONPATH=path)
    assert answer.out == b""
    assert answer.err == (
        "convmem: error: convmem mcp needs the Model Context Protocol's SDK\n"
        "convmem: hint: pip install 'convmem[mcp]'\n"
    )


def test_programs_are_told_of_the_missing_extra_too(tmp_path):
    """Who imports the adapter gets an ImportError that names it."""
    done = subprocess.run(
        [sys.executable, "-c", "import convmem.adapters.mcp"],
        env={**os.environ, "PYTHONPATH": f"{without_mcp(tmp_path)}{os.pathsep}{os.getcwd()}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install 'convmem[mcp]'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--max-turn", "lots"], "--max-turn: "),
        (["--max-turn", "10"], "--max-turn must be a whole number, 256 or more, not 10"),
        (["--max-answer", "1"], "--max-answer must be a whole number, 1,024 or more, not 1"),
        (["--max-turns", "0"], "--max-turns: '0' is not a whole number, 1 or more"),
        (["-N", "x" * 2000], "too long"),
        (["extra"], "extra"),
    ],
)
def test_what_cannot_be_served_is_said_at_once(cli, words, told):
    """A client shows standard error to whoever set it up, if it shows anything."""
    needs_mcp()
    answer = cli("mcp", *words, code=2)
    assert told in answer.err
    assert answer.out == b""


def test_a_client_that_never_speaks_is_no_failure(cli):
    """Clients start servers on trial; and nothing is made for them on disk."""
    needs_mcp()
    answer = cli("mcp", stdin=b"")
    assert (answer.out, answer.err) == (b"", "")
    assert not os.path.exists(cli.root)


def test_standard_input_that_cannot_be_read_is_an_error(cli, tmp_path):
    """Else a broken set-up would look like a client that has left."""
    needs_mcp()
    with open(tmp_path / "out", "wb") as written_only:
        answer = cli("mcp", stdin=written_only.fileno(), code=4)
    assert "cannot read standard input" in answer.err


def test_a_wrong_setting_is_warned_of_and_ends_nothing(cli):
    """A slip in convmem.toml must not leave the model without its memory."""
    needs_mcp()
    os.makedirs(cli.root)
    with open(os.path.join(cli.root, "convmem.toml"), "w") as file:
        file.write("lock_timeout = 5\n")
    answer = cli("mcp", stdin=json.dumps(PING).encode() + b"\n")
    assert "lock_timeout" in answer.err
    assert [each["id"] for each in answer.objects] == [1]


def test_a_person_at_a_terminal_is_told_what_it_waits_for(cli):
    """It would look as if it hung."""
    needs_mcp()
    answer = cli.on_terminal("mcp", on="0", typed=b"\x04")
    assert answer.err.splitlines() == [
        "convmem: note: waiting for a client on standard input",
        "convmem: hint: Ctrl-C ends it",
    ]
    assert answer.out == b""


def test_whoever_prints_meanwhile_does_not_reach_the_client(cli):
    """One stray line on standard output, and the client gives the server up."""
    needs_mcp()
    patch = (
        "import convmem.adapters.mcp.server as server\n"
        "before = server.tools.tools\n"
        "server.tools.tools = lambda limits: print('stray') or before(limits)"
    )
    with cli.running("mcp", patch=patch, stdin=subprocess.PIPE) as running:
        out, err = running.process.communicate(json.dumps(PING).encode() + b"\n", timeout=60)
    assert [json.loads(each)["id"] for each in out.splitlines()] == [1]
    assert err == b"stray\n"
