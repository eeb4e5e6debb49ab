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
from convmem.search.index.lookup import Lookup
from convmem.search.index.rows import micros_of
from convmem.search.index.sync import bring_in_step
from convmem.search.index.wanted import Passes
from convmem.search.reading import TurnReader
from convmem.search.said import text_of
from convmem.search.semantic import embedding, vector_making
from convmem.search.semantic.embedder import EmbedderError, opened
from convmem.search.semantic.nearest import Asked, Nearest
from convmem.search.semantic.texts import key_of, said_for_meaning
from convmem.search.semantic.vectors import VectorFile

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
            text = said_for_meaning(text_of(turn))
            if text and is_said(turn) and wanted(turn):
                place = conversation.continuation_id, turn.seq
                found[place] = float(opened(toy).embed([text])[0] @ query)
    return found


def agree(one, other):
    assert one.keys() == other.keys()
    for place, score in one.items():
        assert score == pytest.approx(other[place], abs=0.02), place


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
                said_for_meaning(text_of(turn))
                for chat in archive.conversations()
                for turn in chat.turns()
            }
            assert file.count <= len(texts) * 5 / 4 + vector_making.FEW
    finally:
        shutil.rmtree(root, ignore_errors=True)


def shown(archive):
    page = archive.search(ASKED, semantic=True, limit=1000)
    return [page.matched, page.notes, {(hit.continuation_id, hit.turn.seq) for hit in page}]


# --- what is found -------------------------------------------------------------------------------

CHAT = [
    ("user", "the night train to Oslo leaves at ten"),
    ("Anna", "a train at night , in words of her own"),
    ("user", "nothing of the kind"),
    ("assistant", "the train at night again"),
    ("event", "a train at night that nobody speaks of"),
    ("user", "dogs bark"),
]


@pytest.fixture
def talk(archive):
    archive.conversation("talk").record_many(
        {
            "role": role,
            "content": text,
            "ts": (START + timedelta(days=day)).isoformat(),
            "meta": {"day": str(day), **({"source": "import"} if role == "event" else {})},
        }
        for day, (role, text) in enumerate(CHAT)
    )
    return archive


@pytest.mark.parametrize(
    ("roles", "since", "until"),
    [
        (None, None, None),
        ({"user"}, None, None),
        ({"Anna", "assistant"}, 1, None),
        (None, 1, 3),
        ({"event"}, None, None),
        ({"nobody"}, None, None),
        (None, 40, None),
    ],
)
def test_filters_come_before_likeness(talk, toy, roles, since, until):
    """O28: the best of those that pass, not those that pass of the best."""
    start, end = (None if day is None else START + timedelta(days=day) for day in (since, until))
    record(talk, "other", ["a train at night"], ts=START.isoformat())

    def wanted(turn):
        return (
            (roles is None or turn.role in roles)
            and (start is None or turn.ts >= start)
            and (end is None or turn.ts < end)
        )

    with nearest_of(talk, toy) as (nearest, turn_of):
        names = nearest._words.roles()
        numbers = None if roles is None else {n for n, name in names.items() if name in roles}
        passes = Passes(numbers, micros_of(start), micros_of(end))
        found = {turn_of(turn): score for turn, score in nearest(passes, 100).items()}
        best = [turn_of(turn) for turn in nearest(passes, 1)]
    everything = computed(talk, toy, wanted=wanted)
    agree(found, everything)
    assert best == sorted(everything, key=everything.get)[-1:]


def texts(page):
    return [hit.turn.content for hit in page]


def test_what_is_quoted_or_excluded_holds_for_what_is_alike_too(talk):
    """Who quotes all means these words; who writes -word does not want it, however alike."""
    found = talk.search('"at night"', semantic=True)
    assert found.matched == "meaning"
    assert sorted(texts(found)) == sorted(
        text for role, text in CHAT if "at night" in text and role != "event"
    )
    found = talk.search("train at night -oslo -words", semantic=True)
    assert "the train at night again" in texts(found)
    assert not any("Oslo" in text or "words" in text for text in texts(found))
    found = talk.search("train meta.day:3", semantic=True)
    assert texts(found) == ["the train at night again"]
    found = talk.search("train role:Anna", semantic=True)
    assert texts(found) == [CHAT[1][1]]


def test_a_turn_is_found_that_holds_no_word_of_the_query(archive):
    """The point of it all."""

    def by_subject(some):
        return [
            [1.0, 0.0] if {"cat", "kitten"} & set(text.split()) else [0.1, 1.0] for text in some
        ]

    archive._embedder = by_subject
    record(archive, "talk", ["we bought a kitten", "dogs bark", "a day of rain"])
    assert not archive.search("cat").hits
    found = archive.search("cat", semantic=True)
    assert texts(found)[0] == "we bought a kitten"
    assert found.hits[0].is_match


def test_pages_follow_each_other(archive):
    """A cursor of a search by meaning leads on in it, and nowhere else."""
    record(archive, "talk", numbered(60))
    whole = texts(archive.search("thing 7", semantic=True, limit=60))
    assert len(whole) == 60
    pages, cursor = [], None
    while True:
        page = archive.search("thing 7", semantic=True, limit=7, cursor=cursor)
        pages += texts(page)
        cursor = page.cursor
        if cursor is None:
            break
    assert pages == whole
    cursor = archive.search("thing 7", semantic=True, limit=7).cursor
    with pytest.raises(UsageError, match="by meaning"):
        archive.search("thing 7", cursor=cursor)


def test_filters_alone_need_no_meaning(talk, toy):
    """There is nothing to embed in a role."""
    assert talk.search("role:Anna", semantic=True).matched == "all"
    assert not any("role" in text for text in toy.texts)


def test_the_query_is_embedded_once_for_all_namespaces(archive, toy):
    """An endpoint is paid by the word."""
    for namespace in ("a", "b", "c"):
        archive.conversation("talk", namespace=namespace).record("user", f"a train of {namespace}")
    found = archive.search("trains", semantic=True, all_namespaces=True)
    assert {hit.namespace for hit in found} == {"a", "b", "c"}
    assert toy.texts.count("trains") == 1


# --- how vectors come to be -----------------------------------------------------------------------


def test_a_few_new_turns_are_embedded_by_the_search_that_meets_them(archive, toy):
    """Nobody wants to start a job to find what was said a moment ago."""
    record(archive, "talk", numbered(vector_making.FEW))
    assert archive.search("thing", semantic=True).notes == []
    assert len(alike(archive, toy)) == vector_making.FEW
    archive.conversation("talk").record("user", "one more")
    page = archive.search("one", semantic=True)
    assert page.notes == []
    assert page.hits[0].turn.content == "one more"


def test_many_new_turns_wait_for_index_and_a_note_says_so(archive, toy):
    """A search that takes an hour is none; one that silently leaves turns out is worse."""
    record(archive, "talk", numbered(vector_making.FEW + 1))
    page = archive.search("thing", semantic=True)
    assert (page.matched, len(page)) == ("all", 10)
    assert "65 turns without a vector" in page.notes[0]
    assert "convmem index --semantic" in page.notes[0]
    assert toy.texts == []
    report = archive.index(semantic=True)
    assert report.missing == 0
    assert report.vector_bytes > 65 * WIDTH
    assert archive.search("thing", semantic=True).notes == []


def test_like_texts_are_embedded_once_and_none_twice(archive, toy):
    """Embedding is what costs; everything else about it is cheap."""
    record(archive, "talk", [*numbered(100), *["the same"] * 300])
    record(archive, "other", numbered(100))
    archive.index(semantic=True)
    assert sorted(toy.texts) == sorted([*numbered(100), "the same"])
    toy.texts.clear()
    archive.index(semantic=True, rebuild=True)
    archive.drop_index()
    archive.search("thing", semantic=True)
    archive.conversation("other").delete()
    archive.index(semantic=True)
    archive.conversation("other").restore()
    archive.index(semantic=True)
    assert toy.texts == ["thing"]
    agree(alike(archive, toy), computed(archive, toy))


def vectors_of(archive, name="toy", width=WIDTH):
    with closing(archive._store.logs.index_folder("default", create=False)) as folder:
        file = VectorFile.open(folder, name, width)
        return file.count, sorted(
            entry.name for entry in folder.entries() if "vectors-" in entry.name
        )


def test_vectors_of_turns_that_are_gone_go(archive, toy):
    """A file that only grows is full of what was deleted, and tells of it."""
    record(archive, "talk", numbered(100))
    record(archive, "other", numbered(40, "else"))
    archive.index(semantic=True)
    assert vectors_of(archive)[0] == 140
    archive.conversation("other").delete()
    archive.index(semantic=True)
    assert vectors_of(archive)[0] == 100
    agree(alike(archive, toy), computed(archive, toy))


@pytest.mark.parametrize("by", ["index", "search"])
def test_what_was_scrubbed_has_no_vector_after_the_next_use_of_vectors(archive, by):
    """A vector tells much of its text."""
    record(archive, "talk", [*numbered(100), "my password is fish"])
    archive.index(semantic=True)
    secret = key_of("my password is fish")
    with closing(archive._store.logs.index_folder("default", create=False)) as folder:
        assert VectorFile.open(folder, "toy", WIDTH).positions_of([secret])[0] >= 0
        archive.conversation("talk").scrub(101)
        if by == "index":
            archive.index(semantic=True)
        else:
            archive.search("thing", semantic=True)
        assert VectorFile.open(folder, "toy", WIDTH).positions_of([secret])[0] == -1
    assert vectors_of(archive)[0] == 100


def test_another_embedder_begins_anew_and_the_old_one_goes_in_the_end(tmp_path, archive, toy):
    """Vectors of two models have nothing to do with each other."""
    record(archive, "talk", numbered(70))
    archive.index(semantic=True)
    other = Toy(8, "other")
    with Archive.open(tmp_path / "archive", embedder=other) as second:
        assert "70 turns" in second.search("thing", semantic=True).notes[0]
        assert alike(archive, toy)  # found again, nothing was lost by having looked
        second.index(semantic=True)
        agree(alike(second, other), computed(second, other))
        assert len(vectors_of(second, "other", 8)[1]) == 1


def test_vectors_of_other_dimensions_are_an_error_everywhere(tmp_path, archive):
    """O22: a vector that is passed over in silence is a turn that cannot be found."""
    record(archive, "talk", numbered(5))
    archive.index(semantic=True)
    with Archive.open(tmp_path / "archive", embedder=Toy(WIDTH + 1)) as other:
        for do_it in (
            lambda: other.search("thing", semantic=True),
            lambda: other.index(semantic=True),
        ):
            with pytest.raises(UsageError, match=f"{WIDTH}"):
                do_it()
    archive._embedder = archive._opened_embedder = None
    archive.conversation("talk").record("user", "one more")
    for bad in (lambda some: [[1.0]] * (len(some) + 1), lambda some: [["x"]] * len(some)):
        with Archive.open(tmp_path / "archive", embedder=bad) as other:
            with pytest.raises(EmbedderError):
                other.search("thing", semantic=True)
            with pytest.raises(EmbedderError):
                other.index(semantic=True)


@pytest.mark.parametrize("place", [0, 70, 400])
def test_a_damaged_file_of_vectors_costs_vectors_and_no_answer(archive, toy, place):
    """Derived things may be lost; they may not lie."""
    record(archive, "talk", numbered(100))
    archive.index(semantic=True)
    with closing(archive._store.logs.index_folder("default", create=False)) as folder:
        path = os.path.join(folder.path, vectors_of(archive)[1][0])
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 4)
    assert archive.search("thing number 7", semantic=True).hits
    os.truncate(path, os.path.getsize(path) // 2)
    assert archive.search("thing number 7", semantic=True).hits
    os.remove(path)
    assert archive.search("thing number 7", semantic=True).hits
    archive.index(semantic=True)
    agree(alike(archive, toy), computed(archive, toy))


def test_without_an_index_words_answer_and_a_note_says_so(archive, monkeypatch):
    """No FTS5, no table that says which vector is whose."""
    from convmem.search import space
    from convmem.search.index.database import NoIndex

    record(archive, "talk", numbered(5))

    def refuse(folder):
        raise NoIndex("there is none here")

    monkeypatch.setattr(space.Database, "open", refuse)
    page = archive.search("thing", semantic=True)
    assert page.how == "scan"
    assert "by words only" in page.notes[0]
    assert len(page) == 5


@pytest.mark.parametrize("how", ["gone", "empty", "noise", "short", "shorter"])
def test_vectors_that_were_removed_or_cut_are_made_again(talk, tmp_path, how):
    """They are derived: nobody should find nothing for want of a file that may be deleted."""
    before = texts(talk.search("train at night", semantic=True))
    (file,) = tmp_path.rglob("vectors-*.bin")
    if how == "gone":
        file.unlink()
    else:
        data = file.read_bytes()
        cuts = {"empty": b"", "noise": bytes(range(256)) * 9, "short": data[:-20]}
        file.write_bytes(cuts.get(how, data[:129]))
    assert texts(talk.search("train at night", semantic=True)) == before
