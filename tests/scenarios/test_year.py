"""A year of nights: the crontab of the examples, with the clock given and not waited for.

People talk by day, cron works by night. What is on the disk stays within what the rules say, the
audit log adds up to the byte, nothing kept is touched, and nobody gets a mail they did not expect.
"""

from __future__ import annotations

import json
import os
import random
import re
import shlex
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from inside import Inside

import convmem
from convmem import Archive, Observer
from convmem.log import append, durability, files, heal, state
from convmem.log.removing import rewrite

CRONTAB = Path(convmem.__file__).parents[1] / "examples" / "crontab"
DAYS = int(os.environ.get("CONVMEM_YEAR_DAYS", "365"))
# Ahead of us: what is remembered for a day goes by the later of the two clocks.
FIRST = datetime(2100, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)

RULES = """\
[[keep]]
id = "legal-*"

[[retention]]
id = "ci-*"
keep_last = 6
delete_idle = "14d"

[[retention]]
keep_last = 20
max_age = "30d"
max_bytes = "9k"
delete_idle = "45d"

[archive]
max_bytes = "120k"
min_idle = "5d"

[trash]
max_age = "10d"
"""
MOST_LOG_BYTES = 120_000
_BYTES = {"compact": "dropped_bytes", "delete": "bytes_before", "purge": "bytes"}
MOST_TRASH_DAYS = 10


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch):
    """A year of syncs is a year of waiting; nobody cuts the power here."""

    def pass_by(fd):
        """Done."""

    monkeypatch.setattr(os, "fsync", pass_by)
    for module in (append, durability, files, heal, rewrite, state):
        if hasattr(module, "sync_data"):
            monkeypatch.setattr(module, "sync_data", pass_by)


def jobs_of(crontab):
    """Return (name, days of the week, words) of each line that runs convmem; each once a day."""
    found = []
    for line in crontab.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"(?:\S+\s+){4}(\S+)\s+(\S*convmem\"?\s.*)", line)
        if match is None or line.startswith("#"):
            continue
        days = set()
        for part in match[1].replace("*", "0-6").split(","):
            first, _, last = part.partition("-")
            days.update(range(int(first), int(last or first) + 1))
        program, *words = shlex.split(match[2])
        assert program.endswith("/convmem")
        found.append((words[0], days, words))
    return found


class Year:
    """The archive, the people who talk in it, and what has to be true each morning."""

    def __init__(self, root, folder):
        self.root = root
        self.folder = folder
        self.cli = Inside(root)
        self.chance = random.Random(29)
        self.archive = Archive.open(root, durability="none", observer=Observer())
        self.recorded = 0  # bytes
        self.junk = []
        self.kept = {}  # what the keep-list holds, as it must stay
        self.mailed = []
        self.asked = []  # what "inbox" was told
        self.told = Counter()  # sums of what --json reported
        self.sizes = []

    def at(self, day, hour):
        return FIRST + day * DAY + timedelta(hours=hour)

    # --- the day

    def say(self, day, name, count, namespace="default"):
        chat = self.archive.conversation(name, namespace=namespace)
        path = Path(chat.path)
        for nth in range(count):
            before = path.stat().st_size if path.exists() and path.suffix == ".jsonl" else 0
            words = f"{name} on day {day}, {nth} " * self.chance.randrange(1, 6)
            ts = self.at(day, 9) + timedelta(minutes=nth)
            turn = chat.record("user", words, ts=ts)
            path = Path(chat.path)
            self.recorded += path.stat().st_size - before
            if name == "inbox":
                self.asked.append(turn.content)

    def talk(self, day):
        """Some go on for months, some for days; a build talks once; a contract grows slowly."""
        self.say(day, "long", 3)
        self.say(day, "inbox", 1)
        for nth in range(max(0, day // 3 - 8), day // 3 + 1):
            if self.chance.random() < 0.25:
                self.say(day, f"talk-{nth}", self.chance.randrange(1, 5))
        self.say(day, f"ci-{day}", 8, namespace="ci")
        if day % 20 == 0:
            self.say(day, f"legal-{day // 60}", 2)
            path = Path(self.archive.conversation(f"legal-{day // 60}").path)
            self.kept[path] = path.read_bytes()
        if day % 10 == 0:
            self.archive.conversation(f"talk-{day // 3}").update_state({"session": f"s{day}"})

    def damage(self, day):
        """Once a week somebody edits a log, badly, and goes on talking."""
        path = Path(self.archive.conversation("long").path)
        line = f"<<<<<<< day {day}\n".encode()
        by_hand = b'{"role":"user","content":"by hand"}\n'
        with open(path, "ab") as log:
            log.write(line + by_hand)
        self.recorded += len(line + by_hand)
        self.junk.append(line)

    def regret(self, day):
        """Every now and then somebody wants the last thing back that went."""
        for namespace in ("default", "ci"):
            found = self.archive.trash(namespace=namespace)
            names = {each.continuation_id for each in found if each.kind != "state"}
            if names:
                name = sorted(names)[day % len(names)]
                (back,) = self.run(day, 12, "trash", "restore", name, "-N", namespace, "--json")
                assert back["conflicts"] == 0, back
                self.told["restored bytes"] += back["bytes"]

    def run(self, day, hour, *words, code=0):
        now = self.at(day, hour).isoformat()
        answer = self.cli(*words, code=code, CONVMEM_NOW=now, **self.settings)
        assert answer.err == "", (day, words, answer)
        return answer.objects if "--json" in words else answer.text

    @property
    def settings(self):
        return {"HOME": str(self.folder), "TEXTFILES": str(self.folder)}

    # --- the night

    def night(self, day, jobs):
        date = self.at(day + 1, 3)
        is_told = day % 5 == 0
        before = self.audit_files() if is_told else {}
        for verb, days, words in jobs:
            if (date.weekday() + 1) % 7 not in days:
                continue
            words = [re.sub(r"\$(\w+)", lambda each: self.settings[each[1]], w) for w in words]
            if verb == "compact":
                self.compact(day, words, before, is_told=is_told)
            elif verb == "tail":
                self.mailed += [each["content"] for each in self.run(day + 1, 8, *words)]
            elif verb == "verify":
                self.run(day + 1, 4, *words, code=5 if self.is_damaged() else 0)
            else:
                assert verb in ("health", "stats"), "a job that this test does not know"
                if day % 7 == 0:
                    self.run(day + 1, 4, *words, code=None)

    def compact(self, day, words, before, *, is_told):
        if not is_told:
            said = self.run(day + 1, 3, *words)
            assert len(said.splitlines()) <= 4
        else:
            said = self.run(day + 1, 3, *words, "--json")
            new = [
                json.loads(line)
                for path, lines in self.audit_files().items()
                for line in lines[len(before.get(path, ())) :]
            ]
            noted = Counter((each["event"], each["bytes"], each["trash"]) for each in new)
            assert not [each for each in new if "undone" in each]
            reported = Counter(
                (each["action"], each[_BYTES[each["action"]]], each["trash"])
                for each in said
                if each.get("dropped") != 0
            )
            assert reported == noted
        if day % 10 == 0:
            again = self.run(day + 1, 3.5, *words)
            assert again == "", "the second run of a night finds nothing to do"

    def is_damaged(self):
        path = Path(self.archive.conversation("long").path)
        return any(line in path.read_bytes() for line in self.junk)

    # --- the morning

    def audit_files(self):
        found = sorted(Path(self.root).glob("*/.audit/*.jsonl"))
        return {path: path.read_text(encoding="utf-8").splitlines() for path in found}

    def audit(self):
        return [json.loads(line) for lines in self.audit_files().values() for line in lines]

    def bytes_in(self, pattern):
        return sum(path.stat().st_size for path in Path(self.root).glob(pattern))

    def check(self, day):
        logs = self.bytes_in("*/*.jsonl")
        trash = self.bytes_in("*/.trash/*")
        assert logs <= MOST_LOG_BYTES
        oldest = self.at(day + 1, 3) - timedelta(days=MOST_TRASH_DAYS)
        for namespace in ("default", "ci"):
            for each in self.archive.trash(namespace=namespace):
                assert each.removed > oldest
        if day % 5 == 0:
            total = sum(p.stat().st_size for p in Path(self.root).rglob("*") if p.is_file())
            audit = self.bytes_in("*/.audit/*")
            self.sizes.append((logs, trash, total - logs - trash - audit, audit))
            for path, content in self.kept.items():
                assert path.read_bytes() == content

    def add_up(self):
        """All bytes that were ever recorded are somewhere, or went on the day that is noted."""
        sums = Counter()
        for each in self.audit():
            sums[each["event"]] += each["bytes"]
            assert "undone" not in each
        assert set(sums) == {"compact", "delete", "restore", "purge"}
        logs = 0
        for path in Path(self.root).glob("*/*.jsonl"):
            for line in path.read_bytes().splitlines(keepends=True):
                logs += 0 if line.startswith(b'{"_last_seq"') else len(line)
        quarantine = self.bytes_in("*/.quarantine/*")
        assert self.recorded == (
            logs + sums["compact"] + sums["delete"] - sums["restore"] + quarantine
        )
        states = sum(
            each["bytes"]
            for each in self.audit()
            if each["event"] == "purge" and each["trash"].endswith(".state")
        )
        files_left = self.bytes_in("*/.trash/*.jsonl") + self.bytes_in("*/.trash/*.log")
        assert files_left == (
            sums["compact"] + sums["delete"] - sums["restore"] - (sums["purge"] - states)
        )
        assert sums["restore"] == self.told["restored bytes"]


def test_a_year_of_nights_keeps_the_disk_bounded_and_the_books_straight(root, tmp_path):
    """What runs unattended for years must neither fill the disk nor take what it should not."""
    jobs = jobs_of(CRONTAB)
    assert {"compact", "verify", "health", "stats", "tail"} >= {verb for verb, _, _ in jobs}
    assert "compact" in {verb for verb, _, _ in jobs}
    year = Year(root, tmp_path)
    try:
        for day in range(DAYS):
            year.talk(day)
            if day == 0:
                Path(root, "convmem.toml").write_text(RULES)
            if day % 7 == 3:
                year.damage(day)
            if day % 11 == 10:
                year.regret(day)
            year.night(day, jobs)
            year.check(day)
        year.add_up()
    finally:
        year.archive.close()
    assert list(tmp_path.glob("*.prom"))
    talked = [words for _, days, words in jobs if words[0] == "tail"]
    if talked:
        unread = len(year.asked) - len(year.mailed)
        assert year.mailed == year.asked[: len(year.mailed)]
        assert unread <= 3, "a weekend at most"
    # Bounded: the second half of the year needs no more room than the first.
    half = len(year.sizes) // 2
    for at, what in enumerate(("logs", "trash", "beside them")):
        first = max(each[at] for each in year.sizes[:half])
        second = max(each[at] for each in year.sizes[half:])
        print(f"{what}: {first:,} bytes at most in the first half, {second:,} in the second")
        assert second <= first * 1.5, what
    print(f"audit log: {year.sizes[-1][3]:,} bytes for {len(year.audit()):,} events")
