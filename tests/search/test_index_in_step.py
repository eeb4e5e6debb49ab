"""Whatever happens to an archive: its index answers as a fresh one does, and as a scan does."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from index_asked import compare, small

from convmem import Archive, RetentionPolicy
from convmem.errors import ConvmemError
from convmem.log.compressed import cold_compress
from convmem.progress import Observer
from convmem.search import finding
from convmem.search.index import catching_up, sync, writer
from convmem.search.index.catching_up import CatchingUp
from convmem.search.index.writer import Writer

EXAMPLES = int(os.environ.get("CONVMEM_EXAMPLES", "6"))
NAMES = ("trip", 'we"ird\n%s*', "x" * 300, "用户")
SAID = (
    "the night train to Oslo",
    "night trains are painted, paintings",
    "getUserName in foo_bar/baz.py",
    "用户名 and 用户",
    "where is the train?",
    "oslo",
    "",
    "a very long talk " * 30 + "night",
    [{"type": "text", "text": "a train in parts"}, {"type": "text", "text": "oslo again"}],
    {"deep": ["night", {"x": "train"}], "n": 7},
    "Café crème \ud83d\ude42 ½ \u0130".encode("utf-16", "surrogatepass").decode("utf-16"),
)
QUERIES: list[tuple[str, dict[str, Any]]] = [
    ("night train", {}),
    ('"night train"', {"neighbours": 1}),
    ("oslo painting user", {"neighbours": 3}),
    ("paint* -oslo", {}),
    ("用", {}),
    ("foo_bar 用户", {"all_namespaces": True}),
    ("train role:user", {}),
    ("train role:event,tool", {}),
    ("id:trip train night", {"all_namespaces": True}),
    ("anna oslo", {}),
    ("since:2024-05-01 train until:2024-06-01", {}),
    ('-"night train" role:user', {}),
    ("the", {}),
    ("meta.k:v night", {}),
    ("oslo train", {"grouped": True}),
]
START = datetime(2024, 4, 20, tzinfo=UTC)

chats = st.integers(0, len(NAMES) - 1)
says = st.integers(0, len(SAID) - 1)
numbers = st.integers(0, 40)
STEPS = st.one_of(
    st.tuples(st.just("record"), chats, says, numbers),
    st.tuples(st.just("record"), chats, says, numbers),
    st.tuples(st.just("many"), chats, says, numbers),
    st.tuples(st.just("event"), chats, says, numbers),
    st.tuples(st.just("by_hand"), chats, says, numbers),
    st.tuples(st.just("compact"), chats, says, numbers),
    st.tuples(st.just("compact_old"), chats, says, numbers),
    st.tuples(st.just("sum_up"), chats, says, numbers),
    st.tuples(st.just("delete"), chats, says, numbers),
    st.tuples(st.just("restore"), chats, says, numbers),
    st.tuples(st.just("compress"), chats, says, numbers),
    st.tuples(st.just("uncompress"), chats, says, numbers),
    st.tuples(st.just("repair"), chats, says, numbers),
    st.tuples(st.just("scrub"), chats, says, numbers),
    st.tuples(st.just("flip"), chats, says, numbers),
    st.tuples(st.just("cut"), chats, says, numbers),
    st.tuples(st.just("replace"), chats, says, numbers),
    st.tuples(st.just("lose_index"), chats, says, numbers),
)


class Walk:
    """An archive to which things happen."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.archive = Archive.open(root, durability="none", observer=Observer())
        self.clock = START

    def chat(self, which: int) -> Any:
        # The last one lives in another namespace.
        last = which == len(NAMES) - 1
        return self.archive.conversation(NAMES[which], namespace="other" if last else None)

    def now(self, step: int) -> datetime:
        self.clock += timedelta(hours=step)
        return self.clock

    def role(self, number: int) -> str:
        return ("user", "assistant", "tool", "Anna")[number % 4]

    def record(self, which: int, said: int, number: int) -> None:
        meta = {"k": "v"} if number % 3 == 0 else None
        ts = self.now(number)
        self.chat(which).record(self.role(number), SAID[said], ts=ts, meta=meta)

    def many(self, which: int, said: int, number: int) -> None:
        self.chat(which).record_many(
            {
                "role": self.role(at),
                "content": SAID[(said + at) % len(SAID)],
                "ts": self.now(1).isoformat(),
            }
            for at in range(number)
        )

    def event(self, which: int, said: int, number: int) -> None:
        self.chat(which).record("event", SAID[said], meta={"source": "x"}, ts=self.now(number))

    def by_hand(self, which: int, said: int, number: int) -> None:
        log = self.log(which)
        if log is not None:
            when = b',"ts":"2024-05-07T00:00:00Z"' if number % 2 else b""
            end = b"\n" if number % 3 else b""
            line = b'{"role":"user","content":"by hand, a night train %d"%s}' % (said, when)
            with log.open("ab") as file:
                file.write(line + end)

    def compact(self, which: int, said: int, number: int) -> None:
        self.chat(which).compact(RetentionPolicy(keep_last=number // 3), discard=said % 2 == 0)

    def compact_old(self, which: int, said: int, number: int) -> None:
        policy = RetentionPolicy(max_age=timedelta(days=number / 4))
        self.chat(which).compact(policy, now=self.clock, discard=False)

    def sum_up(self, which: int, said: int, number: int) -> None:
        policy = RetentionPolicy(keep_last=number // 4)
        self.chat(which).compact(policy, summarize=lambda lines: "a night train, in short")

    def delete(self, which: int, said: int, number: int) -> None:
        self.chat(which).delete()

    def restore(self, which: int, said: int, number: int) -> None:
        self.chat(which).restore()

    def compress(self, which: int, said: int, number: int) -> None:
        self.chat(which).compress()

    def uncompress(self, which: int, said: int, number: int) -> None:
        self.chat(which).uncompress()

    def repair(self, which: int, said: int, number: int) -> None:
        self.chat(which).repair()

    def scrub(self, which: int, said: int, number: int) -> None:
        turns = list(self.chat(which).turns())
        if turns:
            seq = turns[number % len(turns)].seq
            if seq is not None:
                self.chat(which).scrub(seq)

    def flip(self, which: int, said: int, number: int) -> None:
        log = self.log(which)
        if log is not None:
            data = bytearray(log.read_bytes())
            if data:
                data[(number * 37) % len(data)] ^= 1 << said % 8
                with log.open("r+b") as file:
                    file.write(data)

    def cut(self, which: int, said: int, number: int) -> None:
        log = self.log(which)
        if log is not None:
            os.truncate(log, max(0, log.stat().st_size - number * 20))

    def replace(self, which: int, said: int, number: int) -> None:
        """Let other turns stand under the same numbers, as after a power cut."""
        if self.chat(which).exists():
            self.chat(which).delete()
        log = Path(self.chat(which).path)
        aside = tempfile.mkdtemp()
        with Archive.open(aside, durability="none") as other:
            chat = other.conversation(NAMES[which])
            chat.record_many(
                {
                    "role": "user",
                    "content": f"instead {at} {SAID[(said + at) % 6]}",
                    "ts": self.now(1).isoformat(),
                }
                for at in range(number)
            )
            if number:
                log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                shutil.copy(chat.path, log)
        shutil.rmtree(aside)

    def lose_index(self, which: int, said: int, number: int) -> None:
        place = Path(self.root, "other" if which == len(NAMES) - 1 else "default", ".index")
        if number % 5 == 0:
            shutil.rmtree(place, ignore_errors=True)
        else:
            ending = ("", "-wal", "-shm", "")[number % 4]
            names = [path.name for path in place.glob("search-*.sqlite")] or ["none"]
            file = place / f"{min(names)}{ending}"
            if number % 5 == 1 and file.exists():
                file.write_bytes(b"damaged" * number)
            elif number % 5 == 2 and file.exists():
                os.truncate(file, file.stat().st_size // 2)
            else:
                file.unlink(missing_ok=True)

    def log(self, which: int) -> Path | None:
        path = Path(self.chat(which).path)
        return path if path.exists() else None

    def go(self, step: tuple[str, int, int, int]) -> None:
        what, which, said, number = step
        # What cannot be done just now (no such conversation, nothing in the trash) is not done.
        with contextlib.suppress(ConvmemError):
            getattr(self, what)(which, said, number)


def walk(steps: list[tuple[str, int, int, int]]) -> None:
    root = tempfile.mkdtemp()
    try:
        walking = Walk(root)
        with walking.archive:
            for step in steps:
                walking.go(step)
                compare(walking.archive, QUERIES)
    finally:
        shutil.rmtree(root)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small(monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(cold_compress, "_BLOCK_BYTES", 1)


FEW = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@FEW
@given(st.lists(STEPS, min_size=1, max_size=12))
def test_an_index_in_step_answers_as_a_fresh_one_and_as_a_scan(steps):
    """A search that misses a turn, or finds one that is gone, is worse than none."""
    walk(steps)


@FEW
@given(st.lists(STEPS, min_size=1, max_size=12))
def test_so_it_does_where_words_stand_in_more_turns_than_are_looked_at(steps):
    """The newest are chosen then, and a frequent word is looked for among others only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finding, "MOST", 6)
        patch.setattr(finding, "_NEWEST", 4)
        walk(steps)


# --- walks that found something, and what takes a piece out -------------------------------------

FOUND = {
    "cut and gone on with": [
        ("record", 0, 2, 37),
        ("record", 0, 0, 17),
        ("cut", 0, 6, 25),
        ("record", 0, 7, 13),
    ],
    "a speaker who is gone": [("many", 0, 0, 25), ("replace", 0, 4, 11)],
    "other turns under the same numbers": [("many", 0, 0, 40), ("replace", 0, 3, 39)],
    "some gone, some new": [("many", 0, 0, 30), ("compact", 0, 0, 12), ("many", 0, 3, 9)],
    "brought back": [("many", 0, 0, 20), ("compact", 0, 1, 9), ("restore", 0, 0, 0)],
    "one conversation among others": [("many", 0, 0, 9), ("many", 1, 0, 9), ("delete", 0, 0, 0)],
    "a line without its newline": [
        ("record", 0, 0, 1),
        ("by_hand", 0, 1, 3),
        ("record", 0, 0, 1),
    ],
    "by hand, with no time": [("by_hand", 0, 1, 2), ("record", 0, 0, 1), ("by_hand", 0, 1, 2)] * 3,
}


@pytest.mark.parametrize("steps", FOUND.values(), ids=FOUND)
def test_what_was_found_once_stays_found(steps):
    """Each of these made an index answer otherwise than a fresh one."""
    walk([("record", 0, 0, 1), *steps])


def _any_fails() -> bool:
    for steps in FOUND.values():
        try:
            walk([("record", 0, 0, 1), *steps])
        except (AssertionError, ConvmemError):
            return True
    return False


def _all_of_a_block(self, log):
    blocks = self._sql.execute(
        "select block from block where log = ? order by block", (log,)
    ).fetchall()
    for (block,) in blocks:
        yield self._sql.execute(
            "select turn, seq, mark, place, size from turn where turn between ? and ?"
            " order by turn",
            (block * writer.BLOCK, block * writer.BLOCK + writer.BLOCK - 1),
        ).fetchall()


MUTANTS = {
    "growth is taken on trust": (
        catching_up,
        "_only_grew",
        lambda log, reader: log.last is not None,
    ),
    "nothing is compared": (CatchingUp, "_compare", lambda self: self._note(self._log.stamp)),
    "what is gone stays": (Writer, "forget", lambda self, name: None),
    "no row is dropped": (Writer, "drop", lambda self, rows: None),
    "an unfinished line is kept": (Writer, "rows_from", lambda self, log, place: []),
    "new rows are taken for known ones": (Writer, "blocks_of", _all_of_a_block),
    "turns that moved are not": (Writer, "move", lambda self, moved: moved.clear()),
    "no log has changed": (sync, "_changed", lambda *given: None),
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_the_walks_notice_what_is_missing(mutant, monkeypatch):
    """The negative control: with a piece of the work taken out some walk fails."""
    monkeypatch.setattr(*mutant)
    assert _any_fails()
