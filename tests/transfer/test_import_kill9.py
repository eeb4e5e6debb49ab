"""An import that is killed in the middle is run again: each record once, in its order, all of them.

Real processes, killed with SIGKILL once the archive has grown to a size that chance chooses.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from conftest import PATIENCE_SECONDS
from transcripts_made import SESSION, claude_file, claude_record, claude_records, lines

# What an import cannot do without: knowing what is there. For the negative control.
WITHOUT_LOOKING = """
from convmem.log.known_ids import KnownIds
from convmem.transfer.there import There
There.has_id = There.has = lambda self, *record: False
KnownIds.may_hold = lambda self, turn_id: False
KnownIds.perhaps = lambda self, turn_ids: []
"""
FILES = 5
SAYS = "x" * 1_600


@pytest.fixture
def big(sources):
    """Some 20 MB: four talks and a fork of one of them, with records that have no id."""
    snapshot = {"type": "file-history-snapshot", "messageId": "m", "snapshot": {}}
    for nth in range(FILES):
        of = min(nth, FILES - 2)  # the last one begins as the one before it
        records = [
            claude_record(at, session=of, of=of, says=f"{at} of {of} {SAYS}") for at in range(1_900)
        ]
        for at in range(0, len(records), 100):
            records.insert(at, snapshot)
        records += claude_records(1_900, 2_000, session=nth, of=nth + 50)
        claude_file(sources, nth).write_bytes(lines(records))
    return sources


def grown(root):
    """Return how many bytes the logs of an archive have."""
    folder = os.path.join(root, "default")
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".jsonl")]
    except FileNotFoundError:
        return 0
    return sum(os.stat(os.path.join(folder, name)).st_size for name in names)


def partial(folder):
    """Return how many bytes of an export are there; none if it has been renamed by now."""
    for path in folder.glob(".*.partial"):
        with contextlib.suppress(FileNotFoundError):
            return path.stat().st_size
    return 0


def killed_at(cli, size, *words, patch=""):
    """Run the program until the archive has *size* bytes; return whether it was killed by then."""
    command = [sys.executable, "-c", f"{patch}\nfrom convmem.cli import main; main()", *words]
    with subprocess.Popen(
        command, env=cli.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if grown(cli.root) >= size:
                process.send_signal(signal.SIGKILL)
                process.wait()
                break
            time.sleep(0.002)
        process.kill()
        process.wait()
    return process.returncode == -signal.SIGKILL


def doubled(desk):
    """Return how many turns there are too many, by what they say."""
    found = [
        turn["content"] if isinstance(turn["content"], str) else turn["content"][0]["text"]
        for turns in desk.all_turns().values()
        for turn in turns
        if turn["role"] != "event"
    ]
    return len(found) - len(set(found))


def test_killed_again_and_again_it_stores_everything_once(desk, cli, big, tmp_path):
    """Power cuts, the out-of-memory killer, impatience: run it again, and all is well."""
    total = sum(path.stat().st_size for path in big.iterdir())
    assert total > 18 << 20
    chance = random.Random(5)
    kills = 0
    for part in sorted(chance.uniform(0.02, 0.8) for _ in range(5)):
        kills += killed_at(cli, total * part, "import", str(big))
    assert kills >= 3, "it was killed in the middle"
    summary = cli("import", "--json", str(big)).objects[-1]
    assert summary["added"] > 0
    assert doubled(desk) == 0
    before = desk.all_turns()
    for nth in range(FILES):
        texts = [
            turn["raw"]["uuid"]
            for turn in before[SESSION.format(nth)]
            if "uuid" in turn.get("raw", {})
        ]
        with open(claude_file(big, nth), "rb") as file:
            ids = [json.loads(line).get("uuid") for line in file]
        stored = set(texts)
        assert texts == [each for each in ids if each in stored], "in the order of the source"
    back = desk.give(tmp_path / "out")
    for nth in range(FILES):
        with open(back[SESSION.format(nth)], "rb") as file:
            assert file.read() == claude_file(big, nth).read_bytes()
    assert cli("import", "--json", str(big)).objects[-1]["added"] == 0
    desk.forget()
    assert cli("import", "--json", str(big)).objects[-1]["added"] == 0
    assert desk.all_turns() == before
    cli("verify", "--all")


def test_without_looking_at_what_is_there_it_doubles(desk, cli, big):
    """The test above would notice: an import that does not look stores things twice."""
    total = sum(path.stat().st_size for path in big.iterdir())
    assert killed_at(cli, total * 0.5, "import", str(big), patch=WITHOUT_LOOKING)
    with cli.running("import", str(big), patch=WITHOUT_LOOKING) as again:
        again.end()
    assert doubled(desk) > 100


def test_killed_while_it_exports_it_leaves_the_old_file_or_the_new_one(desk, cli, big, tmp_path):
    """Half an export looks whole to whoever reads it next."""
    out = tmp_path / "out"
    out.mkdir()
    target = out / "all.jsonl"
    target.write_bytes(b"as it was\n")
    cli("import", str(big))
    cli("export", "--all", "--to", "convmem", "-o", str(tmp_path / "whole.jsonl"))
    whole = (tmp_path / "whole.jsonl").read_bytes()
    chance = random.Random(7)
    killed = 0
    for _ in range(4):
        size = chance.randrange(len(whole))
        command = [sys.executable, "-m", "convmem", "export", "--all", "--to", "convmem"]
        with subprocess.Popen(
            [*command, "-o", str(target)], env=cli.environment, stdout=subprocess.DEVNULL
        ) as process:
            while process.poll() is None:
                if partial(out) >= size:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                time.sleep(0.002)
        killed += process.returncode == -signal.SIGKILL
        assert target.read_bytes() in (b"as it was\n", whole)
        for each in out.glob(".*.partial"):
            each.unlink()
    assert killed >= 2
    cli("export", "--all", "--to", "convmem", "-o", str(target))
    assert target.read_bytes() == whole
    assert [each.name for each in out.iterdir()] == ["all.jsonl"]
