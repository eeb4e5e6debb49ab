"""What happens to sources and archive in any order: nothing is lost, doubled or changed by it.

Each history is made by chance: talks go on, are forked, copied, renamed, cut short and repaired;
imports run, the catalogue is lost. Behind each import the archive is held against the sources.
"""

from __future__ import annotations

import json
import os
import random

import pytest
from desk import Desk
from transcripts_made import SESSION, claude_record, lines

STEPS = 14
HISTORIES = int(os.environ.get("CONVMEM_HISTORIES", "24"))


class History:
    """Sources as their tools write them, and what an archive of them must hold."""

    def __init__(self, folder, seed):
        self.chance = random.Random(seed)
        self.folder = folder / "sources"
        self.folder.mkdir(parents=True)
        self.desk = Desk(folder / "archive")
        self.out = folder / "out"
        self.files = {}  # by session: the records' lines
        self.places = {}
        self.made = 0

    def act(self):
        """Do something that tools, people or accidents do."""
        actions = [self.begin, self.go_on, self.go_on, self.fork, self.rename, self.touch]
        if not self.files:
            actions = [self.begin]
        self.chance.choice(actions)()

    def begin(self):
        session = len(self.files) + 1
        self.files[session] = []
        self.places[session] = self.folder / f"{SESSION.format(session)}.jsonl"
        self.go_on(session)

    def go_on(self, session=None):
        session = session or self.chance.choice(list(self.files))
        for _ in range(self.chance.randrange(1, 8)):
            self.made += 1
            if self.chance.random() < 0.15:
                record = {"type": "file-history-snapshot", "messageId": "m", "snapshot": {}}
            else:
                record = claude_record(self.made, session=session, of=7)
            self.files[session].append(lines([record]))
        self.write(session)

    def fork(self):
        """Begin a talk as another one did: with its rows as they were, or in one of two guises."""
        origin = self.chance.choice(list(self.files))
        session = len(self.files) + 1
        copied = self.files[origin][: self.chance.randrange(1 + len(self.files[origin]))]
        guise = self.chance.randrange(3)
        copied = [self.copied(line, session, guise) for line in copied]
        self.files[session] = list(copied)
        self.places[session] = self.folder / f"{SESSION.format(session)}.jsonl"
        self.go_on(session)

    def copied(self, line, session, guise):
        record = json.loads(line)
        if guise == 0 or "uuid" not in record:
            return line
        record["sessionId"] = SESSION.format(session)
        if guise == 2 and "forkedFrom" not in record:
            record["forkedFrom"] = {"sessionId": "x", "messageUuid": record["uuid"]}
            record["uuid"] = f"{session:04x}{record['uuid'][4:]}"
        return lines([record])

    def rename(self):
        session = self.chance.choice(list(self.files))
        place = self.folder / f"sub{self.chance.randrange(3)}" / self.places[session].name
        place.parent.mkdir(exist_ok=True)
        self.places[session].rename(place)
        self.places[session] = place

    def touch(self):
        os.utime(self.places[self.chance.choice(list(self.files))])

    def write(self, session):
        data = b"".join(self.files[session])
        if self.chance.random() < 0.3:
            # It is being written. Not the newline alone: of one that comes by itself, later, with
            # nothing behind it, an archive learns nothing.
            data = data[: -self.chance.randrange(2, 30)]
        self.places[session].write_bytes(data)

    def forget(self):
        if os.path.exists(self.desk.root):
            self.desk.forget()

    def hold(self):
        """Import, and hold the archive against what the sources hold."""
        for session, place in self.places.items():
            place.write_bytes(b"".join(self.files[session]))
        if self.chance.random() < 0.3:
            self.forget()
        order = sorted(self.places.values())
        self.chance.shuffle(order)
        for path in order[: self.chance.randrange(len(order) + 1)]:
            self.desk.take(path)
        self.desk.take(self.folder)
        before = self.desk.all_turns()
        if self.chance.random() < 0.5:
            self.forget()
        assert self.desk.take(self.folder).added == 0
        assert self.desk.all_turns() == before
        texts = [
            json.dumps(turn["content"])
            for turns in before.values()
            for turn in turns
            if turn["role"] != "event"
        ]
        assert len(texts) == len(set(texts)), "something is there twice"
        written = b"".join(b"".join(each) for each in self.files.values())
        said = {
            json.dumps(record["message"]["content"])
            for record in map(json.loads, written.splitlines())
            if "message" in record
        }
        assert set(texts) == said, "something is missing"
        found = self.desk.give(self.out)
        for session, rows in self.files.items():
            with open(found[SESSION.format(session)], "rb") as file:
                assert file.read() == b"".join(rows), SESSION.format(session)


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_whatever_happens_the_archive_holds_each_record_once(tmp_path, seed):
    """Years of imports of sources that live on: no order of events may harm what was said."""
    history = History(tmp_path, seed)
    for _ in range(STEPS):
        history.act()
        if history.chance.random() < 0.35:
            history.desk.take(history.folder)
        if history.chance.random() < 0.25:
            history.hold()
    history.hold()
