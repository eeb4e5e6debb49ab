"""Memory: it follows the longest line, not the file, and not the number of conversations."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from convmem import Archive

pytestmark = pytest.mark.skipif(
    not os.path.exists("/proc/self/status"), reason="no /proc/self/status here"
)

PREFACE = """
import gc, json, os, sys
from convmem import *
def resident():
    gc.collect()
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["VmRSS"].split()[0])
def peak():
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["VmHWM"].split()[0])
def descriptors():
    return len(os.listdir("/proc/self/fd"))
archive = Archive.open(sys.argv[1], durability="none")
"""


@pytest.fixture
def measured(cli):
    """Run a program that measures itself, and return what it prints, as JSON."""

    def run(body):
        done = subprocess.run(
            [sys.executable, "-c", PREFACE + body, cli.root],
            stdout=subprocess.PIPE,
            env=cli.environment,
            timeout=120,
            check=True,
        )
        return json.loads(done.stdout)

    return run


def test_ten_thousand_conversations_take_no_more_memory_than_a_few(measured, root):
    """A16, K5: a list for each id that was ever read grew for as long as the server lived."""
    os.makedirs(os.path.join(root, "default"), mode=0o700)
    os.chmod(root, 0o700)
    line = b'{"role":"user","content":"' + b"x" * 500 + b'"}\n'
    for at in range(10_000):
        with open(os.path.join(root, "default", f"c{at}.jsonl"), "wb") as file:
            file.write(line)
    few, many, most_descriptors, recorded = measured(
        """
def use(numbers):
    for at in numbers:
        chat = archive.conversation(f"c{at}")
        assert len(chat.tail(6)[-1].content) == 500
        if at % 20 == 0:
            chat.record("user", "y", id=f"t{at}")
    return resident()
few = use(range(1000))
most = descriptors()
many = use(range(1000, 10_000))
recorded = sum(len(archive.conversation(f"c{at}").tail(6)) == 2 for at in range(0, 10_000, 10))
print(json.dumps([few, many, max(most, descriptors()), recorded]))
"""
    )
    assert many - few < 3_000  # KiB
    assert most_descriptors < 200
    assert recorded == 500  # and nothing that was let go was lost


def test_a_long_conversation_takes_no_more_memory_than_a_short_one(measured):
    """K5: the window was bounded, the list behind it not; here every turn has passed through."""
    short, long, top = measured(
        """
chat = archive.conversation("trip")
def use(count):
    for at in range(count):
        chat.record("user", "x" * 2000)
    chat.record("user", "x", id=f"t{count}")
    chat.record("user", "x", id=f"t{count}")
    assert len(chat.tail(20)) == 20
    for turn in chat.turns():
        pass
    for turn in chat.follow(idle_timeout=0):
        pass
    return resident()
short = use(300)
for _ in range(30):
    chat.record_many([("user", "x" * 2000)] * 1000)
long = use(301)
print(json.dumps([short, long, peak()]))
"""
    )
    assert long - short < 12_000  # KiB, of 62,000 that the file has
    assert top < 60_000


def test_reading_compacting_and_recording_a_large_conversation_stay_small(cli, measured):
    """A17, rule 5: nobody can say beforehand which conversation will have 60 MB."""
    with Archive.open(cli.root, durability="none") as archive:
        chat = archive.conversation("trip")
        for _ in range(30):
            chat.record_many([("user", "x" * 2000)] * 1000)
    top, kept = measured(
        """
chat = archive.conversation("trip")
chat.tail(20)
sum(1 for turn in chat.turns())
chat.record("user", "y", id="searched for in all of it")
chat.record("user", "y", id="searched for in all of it")
report = chat.compact(RetentionPolicy(keep_last=15_000))
print(json.dumps([peak(), report.kept]))
"""
    )
    assert kept == 15_000
    assert top < 50_000  # KiB


def test_a_stream_of_any_length_is_recorded_in_flat_memory(cli):
    """Rule 5: whoever imports a year of turns through a pipe has the memory of any day."""
    look = (
        "import atexit, sys, convmem.cli\n"
        "def told():\n"
        "    fields = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "    print(fields['VmHWM'].split()[0], file=sys.stderr)\n"
        "atexit.register(told)\n"
        "sys.argv[0] = 'convmem'\n"
        "convmem.cli.main()\n"
    )
    feed = 'for _ in range(40_000): print(\'{"role":"user","content":"\' + \'x\' * 1000 + \'"}\')'
    words = ["record", "trip", "--jsonl", "--sync", "none"]
    with subprocess.Popen([sys.executable, "-c", feed], stdout=subprocess.PIPE) as source:
        done = subprocess.run(
            [sys.executable, "-c", look, *words],
            stdin=source.stdout,
            stderr=subprocess.PIPE,
            env=cli.environment,
            timeout=120,
        )
    assert done.returncode == 0
    assert int(done.stderr) < 80_000  # KiB, of the 40,000 that went through and more in between
    assert cli("list", "--json").objects[0]["last_seq"] == 40_000
