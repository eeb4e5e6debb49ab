"""Scrubbing and vectors: a vector tells much of its text, and goes at the moment the text goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from convmem import Archive, RetentionPolicy
from convmem.errors import StorageError

pytest.importorskip("numpy", reason="needs the extra semantic: numpy")

import numpy as np

from convmem.search.semantic import blanking
from convmem.search.semantic.embedder import opened
from convmem.search.semantic.texts import key_of, said_for_meaning
from convmem.search.semantic.vector_header import BYTES, record_size
from convmem.search.semantic.vectors import VectorFile

WIDTH = 16
SECRET = "my password is fish"
OTHERS = [f"thing number {at}" for at in range(70)]


class Toy:
    """An embedder that makes a vector up for each text; *meanwhile* is called while it does."""

    dimensions = WIDTH

    def __init__(self, name="toy"):
        self.name = name
        self.texts = []
        self.meanwhile = list

    def embed(self, texts):
        self.texts += texts
        self.meanwhile()
        found = [np.random.default_rng(zlib.crc32(text.encode())) for text in texts]
        return np.array([made.standard_normal(WIDTH, np.float32) for made in found])


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def archive(tmp_path, toy):
    with Archive.open(tmp_path / "archive", embedder=toy, durability="none") as opened_one:
        yield opened_one


def record(archive, texts, name="talk"):
    archive.conversation(name).record_many({"role": "user", "content": each} for each in texts)


def index_folder(archive):
    return archive._store.logs.index_folder("default", create=False)


def files(archive):
    with closing(index_folder(archive)) as folder:
        return sorted(Path(folder.path).glob("vectors-*.bin"))


def written(text):
    """Return the numbers of the vector of *text* as they stand in a file."""
    vector = opened(Toy()).embed([text])[0]
    return np.rint(vector / (np.abs(vector).max() / np.float32(127))).astype(np.int8).tobytes()


def tell_of(archive, text):
    """Return the names of all files of the index that hold the vector of *text*, or its key."""
    with closing(index_folder(archive)) as folder:
        there = [path for path in Path(folder.path).iterdir() if path.is_file()]
    told = {path.name: path.read_bytes() for path in there}
    return [
        name
        for name, data in told.items()
        if key_of(said_for_meaning(text)) in data or written(said_for_meaning(text)) in data
    ]


def vectors_there(archive, texts, name="toy"):
    """Return which of *texts* have their own vector in the file of an embedder."""
    with closing(index_folder(archive)) as folder:
        file = VectorFile.open(folder, name, WIDTH)
        assert file.begun_anew is None
        assert not file.damaged().size
        found = []
        for text in texts:
            (at,) = file.positions_of([key_of(text)])
            if at >= 0:
                assert file.scores(opened(Toy()).embed([text])[0])[at] > 0.99
                found.append(text)
        return found


def finds(archive, text, name="talk"):
    """Whether a search by meaning, for words that stand nowhere, has the turn at its head."""
    page = archive.search(text, semantic=True)
    (first, *_) = page.hits
    return (first.continuation_id, first.turn.content, page.notes) == (name, text, [])


def scrub_elsewhere(archive, turn, patch, check=True):
    """Scrub in a process of its own, changed by the statements in *patch* before it begins."""
    code = (
        f"import os, signal, sys\n{patch}\nfrom convmem import Archive\n"
        "with Archive.open(sys.argv[1]) as archive:\n"
        f"    archive.conversation('talk').scrub({turn!r})\n"
    )
    root = Path(archive.conversation("talk").path).parents[1]
    return subprocess.run(
        [sys.executable, "-c", code, root],
        env={**os.environ, "PYTHONPATH": str(Path(blanking.__file__).parents[3])},
        check=check,
        capture_output=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "said", [SECRET, "  " + SECRET + " and chips" * 2000], ids=["short", "long"]
)
def test_no_file_has_the_vector_once_the_turn_is_scrubbed(archive, said):
    """Everywhere and for good: also in the file of another embedder, and all others stay."""
    record(archive, [*OTHERS, said])
    archive.index(semantic=True)
    text = said_for_meaning(said)
    with closing(index_folder(archive)) as folder:
        file = VectorFile.open(folder, "other", WIDTH, is_writer=True)
        file.append([key_of(text)] * 2, opened(Toy()).embed([text] * 2))
    assert len(tell_of(archive, said)) == len(files(archive)) == 2
    archive.conversation("talk").scrub(71)
    assert tell_of(archive, said) == []
    assert vectors_there(archive, OTHERS) == OTHERS


def test_the_others_are_found_without_being_embedded_again(archive, toy):
    """An hour's work is not to go with one turn."""
    record(archive, [*OTHERS, SECRET])
    archive.index(semantic=True)
    archive.conversation("talk").scrub(71)
    toy.texts.clear()
    archive.index(semantic=True)
    assert toy.texts == []
    assert finds(archive, OTHERS[3])
    assert vectors_there(archive, [*OTHERS, SECRET]) == OTHERS


def test_another_turn_that_says_the_same_gets_its_vector_back(archive, toy):
    """A vector goes by its text: who shares it is not to be left with zeros."""
    record(archive, [*OTHERS, SECRET])
    record(archive, [SECRET], "other")
    archive.index(semantic=True)
    archive.conversation("talk").scrub(71)
    assert tell_of(archive, SECRET) == []
    toy.texts.clear()
    archive.index(semantic=True)
    assert toy.texts == [SECRET]
    assert finds(archive, SECRET, "other")


def test_versions_in_the_trash_have_no_vector_either(archive):
    """What was compacted away has its vector still, until so many have gone that it pays."""
    record(archive, [SECRET, *OTHERS])
    archive.index(semantic=True)
    archive.conversation("talk").compact(RetentionPolicy(keep_last=70))
    assert tell_of(archive, SECRET)
    archive.conversation("talk").scrub(1)
    assert tell_of(archive, SECRET) == []
    assert vectors_there(archive, OTHERS) == OTHERS


def test_what_a_dead_writer_left_behind_the_last_record_goes_too(archive):
    """It counts for nobody, and lies there for everybody."""
    record(archive, [*OTHERS, SECRET])
    archive.index(semantic=True)
    (path,) = files(archive)
    data = path.read_bytes()
    at = data.index(key_of(SECRET))
    path.write_bytes(data + data[at : at + record_size(WIDTH)])
    archive.conversation("talk").scrub(71)
    assert tell_of(archive, SECRET) == []
    assert len(path.read_bytes()) == len(data) + record_size(WIDTH)


def test_a_key_that_stands_elsewhere_by_chance_is_left_alone(archive):
    """Only where a record begins is it one."""
    record(archive, [*OTHERS, SECRET])
    archive.index(semantic=True)
    (path,) = files(archive)
    tail = b"\1" * 5 + key_of(SECRET) + b"\1" * 40
    with path.open("ab") as file:
        file.write(tail)
    archive.conversation("talk").scrub(71)
    assert path.read_bytes().endswith(tail)


def test_a_dry_run_touches_no_vector(archive):
    """It says what would be, and that is all."""
    record(archive, [*OTHERS, SECRET])
    archive.index(semantic=True)
    before = [path.read_bytes() for path in files(archive)]
    archive.conversation("talk").scrub(71, dry_run=True)
    assert [path.read_bytes() for path in files(archive)] == before


def test_no_numpy_is_needed(archive):
    """Who once made vectors, and went without the extra since, is promised the same."""
    record(archive, [*OTHERS, SECRET])
    archive.index(semantic=True)
    scrub_elsewhere(archive, 71, "sys.modules['numpy'] = None")
    assert tell_of(archive, SECRET) == []
    assert vectors_there(archive, OTHERS) == OTHERS


KILL = "os.kill(os.getpid(), signal.SIGKILL)"
AT_WRITE = """
from convmem.search.semantic import blanking
real, calls = blanking.write_all_at, []
def counting(fd, data, place):
    calls.append(place)
    if len(calls) == {nth}:
        real(fd, data[:{part}], place)
        os.kill(os.getpid(), signal.SIGKILL)
    return real(fd, data, place)
blanking.write_all_at = counting
"""


@pytest.mark.parametrize("part", [0, 7, 128])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_a_kill_at_any_write_costs_no_other_its_vector(archive, toy, nth, part):
    """The same command, or the next making of vectors, does the rest."""
    record(archive, [*OTHERS, SECRET])
    record(archive, [SECRET], "other")
    archive.index(semantic=True)
    done = scrub_elsewhere(archive, 71, AT_WRITE.format(nth=nth, part=part), check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with closing(index_folder(archive)) as folder:
        file = VectorFile.open(folder, "toy", WIDTH)
        assert file.begun_anew is None
        assert (file.positions_of([key_of(text) for text in OTHERS]) >= 0).all()
    assert finds(archive, OTHERS[3])
    assert finds(archive, SECRET, "talk" if nth < 4 else "other")
    archive.conversation("talk").scrub(71)
    if nth < 4:
        assert tell_of(archive, SECRET) == []
    archive.index(semantic=True)
    assert vectors_there(archive, [*OTHERS, SECRET]) == [*OTHERS, SECRET]
    assert finds(archive, SECRET, "other")


def test_a_kill_once_the_log_is_scrubbed_finds_the_vector_gone_already(archive):
    """Nobody knows by then what the turn said, so no second try could look for it."""
    record(archive, [*OTHERS, SECRET])
    archive.index(semantic=True)
    patch = (
        "from convmem.search.semantic.blanking import Blanking\n"
        f"Blanking.behind = lambda self: {KILL}"
    )
    assert scrub_elsewhere(archive, 71, patch, check=False).returncode == -signal.SIGKILL
    assert archive.conversation("talk").tail(1)[0].content == ""
    assert tell_of(archive, SECRET) == []


def test_who_embeds_the_text_just_then_drops_it(archive, toy):
    """Else a run of an hour brings back what was read before the turn was scrubbed."""
    # By length, so the batch with it is not the last one.
    record(archive, [*OTHERS, SECRET, *("a longer one: " + text for text in OTHERS)])
    scrub = threading.Thread(target=archive.conversation("talk").scrub, args=(71,))
    looks = []

    def meanwhile():
        if SECRET not in toy.texts:
            return
        if scrub.ident is None:
            scrub.start()
            scrub.join()
        else:
            looks.append(tell_of(archive, SECRET))

    toy.meanwhile = meanwhile
    archive.index(semantic=True)
    assert toy.texts.count(SECRET) == 1
    assert looks
    assert not any(looks)
    assert tell_of(archive, SECRET) == []
    assert vectors_there(archive, OTHERS) == OTHERS


def test_an_index_that_goes_at_the_last_moment_takes_no_vector_along(archive, toy):
    """Scrubbing removes it; nobody then may think that no turn has any of the vectors."""
    record(archive, OTHERS)

    def meanwhile():
        if len(toy.texts) == len(OTHERS):
            archive.drop_index()

    toy.meanwhile = meanwhile
    assert archive.index(semantic=True).missing == 0
    assert vectors_there(archive, OTHERS) == OTHERS
    assert sorted(toy.texts) == sorted(OTHERS)


def test_who_has_the_file_open_sees_it_change(archive):
    """A reader keeps no position of a vector that is none now; a writer does not begin anew."""
    record(archive, [*OTHERS, SECRET])
    archive.index(semantic=True)
    with closing(index_folder(archive)) as folder:
        for is_writer in (False, True):
            file = VectorFile.open(folder, "toy", WIDTH, is_writer=is_writer)
            (at,) = file.positions_of([key_of(OTHERS[5])])
            name = files(archive)[0].name
            blanking.blank(folder, name, [key_of(OTHERS[6 + is_writer])])
            assert file.refresh()
            assert file.begun_anew is None
            assert file.count == 71
            gone, kept = file.positions_of([key_of(OTHERS[6 + is_writer]), key_of(OTHERS[5])])
            assert (gone, kept) == (-1, at)
            assert not file.refresh()


def test_where_vectors_cannot_be_blanked_it_says_so_and_the_turn_is_scrubbed(archive, tmp_path):
    """What is derived does not keep the turn; and nobody is told that all of it is gone."""
    record(archive, [*OTHERS, SECRET])
    archive.index(semantic=True)
    (path,) = files(archive)
    elsewhere = path.rename(tmp_path / "elsewhere")
    path.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    with pytest.raises(StorageError, match="the turn was scrubbed, but the vector") as raised:
        archive.conversation("talk").scrub(71)
    assert path.name in str(raised.value)
    assert archive.conversation("talk").tail(1)[0].content == ""
    assert elsewhere.read_bytes() == before  # nothing was followed


@pytest.mark.parametrize("at", [0, 20, BYTES])
def test_a_file_that_no_reader_could_use_goes(archive, at):
    """Where its records begin nobody can tell, and it is derived."""
    record(archive, [*OTHERS, SECRET])
    archive.index(semantic=True)
    (path,) = files(archive)
    if at == BYTES:
        os.truncate(path, 30)
    else:
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"\xff" * 4)
    archive.conversation("talk").scrub(71)
    assert tell_of(archive, SECRET) == []
    archive.index(semantic=True)
    assert vectors_there(archive, OTHERS) == OTHERS
