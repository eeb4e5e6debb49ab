"""Search by meaning: whatever happens to an archive, each turn counts by its own vector."""

from __future__ import annotations

import os
import shutil
import zlib
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from convmem import Archive, RetentionPolicy
from convmem.errors import ConvmemError, UsageError
from convmem.ids import decode_name
from convmem.turns import is_said

pytest.importorskip("numpy", reason="needs the extra semantic: numpy")

import numpy as np

from convmem.search.index.database import Database
from convmem.search.index.lookup import Lookup, Passes
from convmem.search.index.rows import micros_of
from convmem.search.index.sync import bring_in_step
from convmem.search.reading import TurnReader
from convmem.search.said import text_of
from convmem.search.semantic import embedding
from convmem.search.semantic.embedder import EmbedderError, opened
from convmem.search.semantic.nearest import Asked, Nearest
from convmem.search.semantic.vectors import VectorFile, key_of

EXAMPLES = int(os.environ.get("CONVMEM_EXAMPLES", "25"))
WIDTH = 16
START = datetime(2024, 4, 20, tzinfo=UTC)
ALL = Passes(None, None, None)
ASKED = "a train at night"


class Toy:
    """An embedder that sums a made vector for each word: what shares words is alike."""

    def __init__(self, width=WIDTH, name="toy"):
        self.name = name
        self.dimensions = width
        self.texts = []

    def embed(self, texts):
        self.texts += texts
        found = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in zip(found, texts, strict=True):
            for word in text.lower().split():
                made = np.random.default_rng(zlib.crc32(word.encode()))
                row += made.standard_normal(self.dimensions, np.float32)
        return found


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def archive(tmp_path, toy):
    with Archive.open(tmp_path / "archive", embedder=toy, durability="none") as opened_one:
        yield opened_one


def record(archive, name, texts, **more):
    archive.conversation(name).record_many(
        {"role": "user", "content": text, **more} for text in texts
    )


def numbered(count, what="thing"):
    return [f"{what} number {at}" for at in range(count)]


@contextmanager
def nearest_of(archive, toy, asked=ASKED, namespace="default"):
    """Yield what tells how alike turns are, and what tells which turn a number is."""
    logs, watched = archive._store.logs, opened(toy)
    with Database.open(logs.index_folder(namespace, create=True)) as database:
        bring_in_step(database, logs, namespace, archive._observer)
        embedding.keep_up(database, logs, namespace, watched, archive._observer)
        database.connection.execute("begin")
        words = Lookup(database, None)
        names = words.log_names()
        with (
            closing(logs.index_folder(namespace, create=False)) as folder,
            TurnReader(logs, namespace, names) as reader,
        ):
            found = Nearest.open(database, folder, words, Asked(watched, asked))

            def turn_of(number):
                place = words.place(number)
                return decode_name(names[place.log]), reader.read(place).turn.seq

            yield found, turn_of


def alike(archive, toy, asked=ASKED, passes=ALL, most=1 << 40):
    """Return how alike each turn is, as the vectors tell it."""
    with nearest_of(archive, toy, asked) as (nearest, turn_of):
        if nearest is None:
            return {}
        return {turn_of(turn): score for turn, score in nearest(passes, most).items()}


def computed(archive, toy, asked=ASKED, wanted=lambda turn: True):
    """Return the same, computed from the turns themselves."""
    query = opened(toy).embed([asked])[0]
    found = {}
    for conversation in archive.conversations():
        for turn in conversation.turns():
            text = embedding.said_for_meaning(text_of(turn))
            if text and is_said(turn) and wanted(turn):
                place = conversation.continuation_id, turn.seq
                found[place] = float(opened(toy).embed([text])[0] @ query)
    return found


def agree(one, other):
    assert one.keys() == other.keys()
    wrong = {place: (one[place], other[place]) for place in one if abs(one[place] - other[place]) > 0.02}
    assert not wrong


# --- whatever happens ----------------------------------------------------------------------------

SAID = (
    "the night train to Oslo",
    "a train",
    "where is the train at night ?",
    "night night",
    "nothing of the kind",
    "",
    "   ",
    "a very long talk " * 700,
    [{"type": "text", "text": "a train in parts"}, {"type": "text", "text": "at night"}],
    "half a character: \ud83d at night",
)
chats = st.integers(0, 2)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("record"), chats, st.lists(st.integers(0, len(SAID) - 1), max_size=5)),
        st.tuples(st.just("record"), chats, st.lists(st.integers(0, len(SAID) - 1), max_size=5)),
        st.tuples(st.just("many"), chats, st.integers(60, 300)),
        st.tuples(st.just("compact"), chats, st.integers(0, 5)),
        st.tuples(st.just("delete"), chats, st.none()),
        st.tuples(st.just("restore"), chats, st.none()),
        st.tuples(st.just("scrub"), chats, st.integers(1, 5)),
        st.tuples(st.just("compress"), chats, st.none()),
        st.tuples(st.just("drop words"), st.none(), st.none()),
        st.tuples(st.just("drop vectors"), st.none(), st.none()),
        st.tuples(st.just("search"), st.none(), st.none()),
        st.tuples(st.just("search"), st.none(), st.none()),
        st.tuples(st.just("embed"), st.none(), st.none()),
    ),
    min_size=3,
    max_size=14,
)


def do(archive, what, chat, how, at):
    """Let something happen, or be refused; what is derived refuses nothing."""
    if what in ("search", "embed", "drop words", "drop vectors"):
        _do(archive, what, chat, how, at)
        return
    with suppress(ConvmemError):
        _do(archive, what, chat, how, at)


def _do(archive, what, chat, how, at):
    name = f"chat-{chat}"
    conversation = archive.conversation(name)
    if what == "record":
        archive.conversation(name).record_many(
            {
                "role": ("user", "assistant", "event")[(at + said) % 3],
                "content": SAID[said],
                "ts": (START + timedelta(hours=at)).isoformat(),
            }
            for said in how
        )
    elif what == "many":
        record(archive, name, numbered(how), ts=(START + timedelta(hours=at)).isoformat())
    elif what == "drop words":
        archive.drop_index()
    elif what == "drop vectors":
        archive.drop_index(semantic=True)
    elif what == "search":
        archive.search(ASKED, semantic=True)
    elif what == "embed":
        archive.index(semantic=True)
    elif what == "restore":
        conversation.restore()
    elif conversation.exists():
        if what == "delete":
            conversation.delete()
        elif what == "compact":
            conversation.compact(RetentionPolicy(keep_last=how), discard=how % 2 == 0)
        elif what == "compress":
            conversation.compress()
        elif what == "scrub":
            turns = list(conversation.turns())
            if turns:
                conversation.scrub(turns[how % len(turns)].seq)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(steps)
def test_after_whatever_happens_the_nearest_are_those_of_a_fresh_everything(tmp_path_factory, todo):
    """A vector that is of another turn by now is an answer that nobody can explain."""
    root = tmp_path_factory.mktemp("whatever")
    toy = Toy()
    try:
        with Archive.open(root / "old", embedder=toy, durability="none") as archive:
            record(archive, "chat-0", ["it begins"])
            for at, (what, chat, how) in enumerate(todo):
                do(archive, what, chat, how, at)
            archive.index(semantic=True)
            agree(alike(archive, toy), computed(archive, toy))
            shutil.copytree(root / "old", root / "new", ignore=shutil.ignore_patterns(".index"))
            with Archive.open(root / "new", embedder=toy, durability="none") as fresh:
                fresh.index(semantic=True)
                assert shown(archive) == shown(fresh)
            # Nothing is left of what is nobody's, or no more than a fifth.
            with closing(archive._store.logs.index_folder("default", create=False)) as folder:
                file = VectorFile.open(folder, "toy", WIDTH)
            texts = {
                embedding.said_for_meaning(text_of(turn))
                for chat in archive.conversations()
                for turn in chat.turns()
            }
            assert file.count <= len(texts) * 5 / 4 + embedding.FEW
    finally:
        shutil.rmtree(root, ignore_errors=True)


def shown(archive):
    page = archive.search(ASKED, semantic=True, limit=1000)
    return [page.matched, page.notes, {(hit.continuation_id, hit.turn.seq) for hit in page}]
