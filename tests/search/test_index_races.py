"""Processes that index at once, that are killed, and whose index goes: no answer is wrong."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from index_asked import asked, fresh_index

from convmem import Archive, RetentionPolicy
from convmem.errors import ConversationNotFound
from convmem.progress import Observer
from convmem.search.index import catching_up, writer
from convmem.search.index.catching_up import CatchingUp
from convmem.search.index.database import Database
from convmem.search.index.writer import Writer

EXAMPLES = int(os.environ.get("CONVMEM_EXAMPLES", "10"))
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
QUERIES = ("common", "word7 word8", '"word11 common"', "nowhere")


def _opened(root: Path) -> Archive:
    return Archive.open(root, durability="none", observer=Observer())


def _in_a_process(work: Callable[[], None], complaints: Path) -> int:
    """Begin *work* in a process of its own; what goes wrong there is added to *complaints*."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        with complaints.open("a") as file:
            file.write(traceback.format_exc())
    finally:
        sys.stdout.flush()
        os._exit(0)


def _search_all(root: Path) -> None:
    with _opened(root) as archive:
        archive.search("common")


def _same_as_fresh(root: Path) -> None:
    with _opened(root) as archive:
        kept = [asked(archive, query, limit=50) for query in QUERIES]
        with fresh_index():
            assert kept == [asked(archive, query, limit=50) for query in QUERIES]


@pytest.fixture
def small_steps(monkeypatch):
    """Let a step be a few dozen turns, so that deaths and others come in between."""
    monkeypatch.setattr(writer, "_STEP_BYTES", 4000)
    monkeypatch.setattr(catching_up, "_ROWS_AT_ONCE", 20)


@pytest.fixture
def root(tmp_path):
    with _opened(tmp_path / "archive") as archive:
        for name in ("one", "two"):
            for start in range(0, 1200, 100):
                archive.conversation(name).record_many(
                    [("user", f"word{at} common said") for at in range(start, start + 100)]
                )
    return tmp_path / "archive"


@pytest.mark.usefixtures("small_steps")
def test_a_kill_at_any_moment_costs_one_step(root, tmp_path):
    """K15: a laptop's battery, the OOM killer, an impatient person."""
    complaints = tmp_path / "complaints"
    chance = random.Random(EXAMPLES)
    for cycle in range(EXAMPLES):
        child = _in_a_process(lambda: _search_all(root), complaints)
        time.sleep(chance.uniform(0.001, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if cycle % 4 == 3:
            with _opened(root) as archive:
                chat = archive.conversation(chance.choice(("one", "two")))
                chat.compact(RetentionPolicy(keep_last=chance.randrange(300, 1100)))
                chat.record_many([("user", f"word{at} common again") for at in range(300)])
        if cycle % 5 == 4:
            _same_as_fresh(root)
    assert not complaints.exists(), complaints.read_text()
    _same_as_fresh(root)


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("many", [2, 4])
def test_processes_that_index_at_once_share_the_work(root, tmp_path, many):
    """Each turn is in the index once, whoever was faster."""
    complaints = tmp_path / "complaints"
    for _ in range(3):
        shutil.rmtree(root / "default" / ".index", ignore_errors=True)
        children = [_in_a_process(lambda: _search_all(root), complaints) for _ in range(many)]
        for child in children:
            os.waitpid(child, 0)
        assert not complaints.exists(), complaints.read_text()
        _same_as_fresh(root)


def _overtaken_at_its_first_step(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Index; another process does all the rest when this one lets others write."""
    monkeypatch.setattr(writer, "_STEP_BYTES", 4000)
    step = Writer.step
    others: list[int] = []

    def let_in(self: Writer) -> None:
        step(self)
        if not others:
            others.append(1)
            self._database.commit()
            _search_all(root)
            self.begin()

    monkeypatch.setattr(Writer, "step", let_in)
    _search_all(root)
    assert others


def test_who_is_overtaken_goes_on_from_there(root, monkeypatch):
    """Two processes that begin the same log must not both take in its end."""
    _overtaken_at_its_first_step(root, monkeypatch)
    _same_as_fresh(root)


def test_that_control_notices_who_does_not_look_what_others_did(root, monkeypatch):
    """The negative control: without that look turns come to stand in the index twice."""

    def without_a_look(self: CatchingUp) -> None:
        if self._writer.is_due():
            self._writer.flush(self._log.log)
            self._note(self._log.stamp + catching_up._PARTIAL)
            self._writer.step()

    monkeypatch.setattr(CatchingUp, "_pause", without_a_look)
    _overtaken_at_its_first_step(root, monkeypatch)
    with pytest.raises(AssertionError):
        _same_as_fresh(root)


# --- while others write -------------------------------------------------------------------------


class _Ledger:
    """What is known of each turn, by its word: lines of JSON that one process adds to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def tell(self, words: list[int], state: str) -> None:
        with self.path.open("ab", 0) as file:
            file.write(json.dumps([words, state]).encode() + b"\n")

    def states(self) -> dict[int, tuple[str, int]]:
        """Return the state of each turn, and which line told it: a turn may go and come back."""
        known: dict[int, tuple[str, int]] = {}
        for number, line in enumerate(self.path.read_bytes().split(b"\n")[:-1]):
            words, state = json.loads(line)
            known.update(dict.fromkeys(words, (state, number)))
        return known


def _write(root: Path, ledger: _Ledger, steps: int, seed: int) -> None:
    """Record, compact, delete, restore, compress; say before what may go, and after what is so."""
    chance = random.Random(seed)
    words: dict[str, list[int]] = {name: [] for name in ("a", "b", "c")}
    newest = 1_000_000
    with _opened(root) as archive:
        for _ in range(steps):
            name = chance.choice(list(words))
            chat = archive.conversation(name)
            what = chance.choice(("record", "record", "compact", "delete", "restore", "compress"))
            if what == "record":
                new = list(range(newest, newest + chance.choice((1, 1, 30))))
                newest = new[-1] + 1
                ledger.tell(new, "moving")
                chat.record_many([("user", f"word{each} common") for each in new])
                words[name] += new
                ledger.tell(new, "here")
                continue
            ledger.tell(words[name], "moving")
            with contextlib.suppress(ConversationNotFound):
                if what == "compact":
                    chat.compact(RetentionPolicy(keep_last=chance.randrange(1, 60)))
                else:
                    getattr(chat, what)()
            here: set[int] = set()
            if chat.exists():
                here = {int(turn.content.split()[0][4:]) for turn in chat.turns()}
            ledger.tell([each for each in words[name] if each in here], "here")
            ledger.tell([each for each in words[name] if each not in here], "gone")
    ledger.tell([0], "over")


def _search_on(root: Path, ledger: _Ledger, seed: int, also: Callable[[], None]) -> None:
    """Search for turns of which it is known whether they are there, until all is over."""
    chance = random.Random(seed)
    with _opened(root) as archive:
        while True:
            before = ledger.states()
            if 0 in before:
                return
            known = [each for each, (state, _) in before.items() if state != "moving"]
            if not known:
                continue
            some = chance.sample(known[-200:], min(4, len(known[-200:])))
            page = archive.search(" ".join(f"word{each}" for each in some), limit=50)
            found = {int(hit.turn.content.split()[0][4:]) for hit in page if hit.is_match}
            after = ledger.states()
            for each in some:
                if after[each] == before[each]:
                    is_here = before[each][0] == "here"
                    assert (each in found) == is_here, (each, before[each], found)
            also()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("removes", [False, True], ids=["kept", "index removed"])
def test_searches_see_what_was_answered_before_they_began(tmp_path, seed, removes):
    """Never stale, whoever writes meanwhile: a turn that was answered is found at once."""
    root, complaints = tmp_path / "archive", tmp_path / "complaints"
    ledger = _Ledger(tmp_path / "ledger")
    ledger.tell([], "here")
    chance = random.Random(seed)

    def remove() -> None:
        if removes and chance.random() < 0.1:
            shutil.rmtree(root / "default" / ".index", ignore_errors=True)

    searching = [
        _in_a_process(
            lambda number=number: _search_on(root, ledger, number, remove if number == 0 else int),
            complaints,
        )
        for number in range(3)
    ]
    try:
        _write(root, ledger, 10 * EXAMPLES, seed)
    finally:
        ledger.tell([0], "over")
        for child in searching:
            os.waitpid(child, 0)
    assert not complaints.exists(), complaints.read_text()


def test_who_lost_a_file_of_the_index_believes_nothing_it_reads(root):
    """``.index`` was cleaned in the middle of an opening: two would write one file by two logs."""
    _search_all(root)
    with _opened(root) as archive:
        logs = archive._store.logs
        with Database.open(logs.index_folder("default", create=False)) as first:
            for left in (root / "default" / ".index").glob("*.sqlite-*"):
                left.unlink()
            with Database.open(logs.index_folder("default", create=False)) as second:
                first.look()
                second.look()
                assert second.is_current()
                assert not first.is_current()
