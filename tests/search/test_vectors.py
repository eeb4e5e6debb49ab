"""The vector file: nothing that counts is torn, exact search, and bounded memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convmem.errors import StorageError, UsageError
from convmem.log.files import Folder

pytest.importorskip("numpy", reason="needs the extra semantic: numpy")

import numpy as np

from convmem.search.semantic import vector_header, vectors
from convmem.search.semantic.texts import key_of
from convmem.search.semantic.vectors import VectorFile

WIDTH = 24


def made(count, width=WIDTH, seed=0):
    """Return vectors of length 1 in all directions."""
    found = np.random.default_rng(seed).standard_normal((count, width), np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def keys(first, end):
    return [key_of(f"text {at}") for at in range(first, end)]


@pytest.fixture
def folder(tmp_path):
    return Folder.open(str(tmp_path / "index"), create=True)


def writer(folder, width=WIDTH, embedder="made"):
    return VectorFile.open(folder, embedder, width, is_writer=True)


def path_of(file):
    return os.path.join(file._folder.path, file.name)


@pytest.mark.parametrize("width", [1, 3, 24, 384, 1537, 30_000])
def test_every_vector_is_found_by_its_text_and_scored_by_its_direction(folder, width):
    """What a search by meaning is made of. Rounding moves a cosine by less than a hundredth."""
    file = writer(folder, width)
    table = made(1200 if width < 1000 else 40, width)
    half = len(table) // 2
    assert file.append(keys(0, half), table[:half]) == 0
    assert file.append(keys(half, len(table)), table[half:]) == half
    for opened in (file, VectorFile.open(folder, "made", width)):
        places = opened.positions_of([*keys(0, len(table)), key_of("never said")])
        assert places.tolist() == [*range(len(table)), -1]
        np.testing.assert_allclose(opened.scores(table[7]), table @ table[7], atol=0.01)
        assert opened.damaged().size == 0
        assert opened.begun_anew is None


@given(wanted=st.sets(st.integers(0, 4999), max_size=60), runs=st.sets(st.integers(0, 49)))
def test_some_positions_score_as_all_do(tmp_path_factory, wanted, runs):
    """A filter by role or time goes before the scoring, and must not change it."""
    file = _large(tmp_path_factory)
    for run in runs:
        wanted |= set(range(run * 100, run * 100 + 100))
    chosen = np.array(sorted(wanted), np.int64)
    query = made(1, seed=5)[0]
    np.testing.assert_allclose(file.scores(query, chosen), file.scores(query)[chosen], atol=1e-6)


_kept = []


def _large(tmp_path_factory):
    """5,000 vectors, looked through a few at a time."""
    if not _kept:
        place = Folder.open(str(tmp_path_factory.mktemp("large") / "index"), create=True)
        file = writer(place)
        file.append(keys(0, 5000), made(5000))
        file._rows = 128
        _kept.append(file)
    return _kept[0]


def test_zeros_are_like_nothing(folder):
    """An embedder without words for a text gives zeros."""
    file = writer(folder)
    file.append(keys(0, 2), np.stack([np.zeros(WIDTH, np.float32), made(1)[0]]))
    assert file.scores(made(1)[0])[0] == 0
    assert file.damaged().size == 0


def test_vectors_of_two_embedders_never_meet(folder):
    """Their numbers have nothing to do with each other."""
    one, other = writer(folder), writer(folder, 7, embedder="other")
    one.append(keys(0, 3), made(3))
    other.append(keys(0, 2), made(2, 7))
    assert one.name != other.name
    assert (writer(folder).count, writer(folder, 7, embedder="other").count) == (3, 2)
    assert vectors.remove_others(folder, "made") == [other.name]
    assert vectors.remove_others(folder, "made") == []
    assert writer(folder).count == 3


def test_the_wrong_number_of_dimensions_is_an_error_everywhere(folder):
    """O22: not an empty answer, and not a warning."""
    file = writer(folder)
    file.append(keys(0, 3), made(3))
    for is_writer in (False, True):
        with pytest.raises(UsageError, match=r"gives vectors of 7 numbers, .* have 24") as told:
            VectorFile.open(folder, "made", 7, is_writer=is_writer)
        assert "needs a new name" in told.value.hint
    with pytest.raises(UsageError, match=r"query's vector has 7 numbers, .* have 24"):
        file.scores(made(1, 7)[0])
    for wrong in (made(2, 7), made(3), made(2)[0]):
        with pytest.raises(UsageError, match="2 vectors of 24 numbers were due"):
            file.append(keys(0, 2), wrong)
    with pytest.raises(UsageError, match="cannot be kept"):
        writer(folder, 0)
    for positions in ([3], [-1], [1, 1], [1, 0]):
        with pytest.raises(UsageError, match="ascend from 0 to 2"):
            file.scores(made(1)[0], np.array(positions))
    assert writer(folder).count == 3


@pytest.mark.parametrize("tail", [b"\0" * 500, b"\xff" * 37, b"x"], ids=["zeros", "torn", "byte"])
def test_what_a_death_left_behind_the_end_is_nobody_s(folder, tail):
    """kill -9 in the middle of an append, or a power cut before its sync."""
    file = writer(folder)
    file.append(keys(0, 3), made(3))
    with open(path_of(file), "ab") as raw:
        raw.write(tail)
    again = writer(folder)
    assert again.count == VectorFile.open(folder, "made", WIDTH).count == 3
    assert again.append(keys(3, 5), made(2, seed=1)) == 3
    assert again.damaged().size == 0
    assert again.positions_of(keys(0, 6)).tolist() == [0, 1, 2, 3, 4, -1]


def test_a_count_is_believed_only_of_records_that_are_there(folder):
    """A copy that was taken while the file grew."""
    file = writer(folder)
    file.append(keys(0, 9), made(9))
    size = os.stat(path_of(file)).st_size
    os.truncate(path_of(file), size - 60)
    again = writer(folder)
    assert again.count == 7
    assert again.append(keys(7, 9), made(2)) == 7
    assert again.damaged().size == 0


def test_every_damaged_record_is_named_and_none_wins(folder):
    """A worn-out disk: the vector is made again, and meanwhile is not the best answer to all."""
    file = writer(folder)
    file.append(keys(0, 60), made(60))
    size = file._size
    for position in range(0, 60, 2):
        with open(path_of(file), "r+b") as raw:
            at = vector_header.BYTES + position * size + position * 7 % size
            raw.seek(at)
            old = raw.read(1)
            raw.seek(at)
            raw.write(bytes([old[0] ^ 0x55]))
    assert file.damaged().tolist() == list(range(0, 60, 2))
    assert (np.abs(file.scores(made(1, seed=3)[0])) <= 1.05).all()
    with open(path_of(file), "r+b") as raw:
        raw.seek(vector_header.BYTES + size)
        raw.write(b"\0" * size)
    assert 1 in file.damaged()


@pytest.mark.parametrize("at", [0, 9, 12, 20, 40, 50, 64, 70, 73])
def test_a_damaged_header_begins_the_file_anew_and_says_so(folder, at):
    """It is derived: what is lost is time. But nobody should wonder where it went."""
    file = writer(folder)
    file.append(keys(0, 3), made(3))
    with open(path_of(file), "r+b") as raw:
        raw.seek(at)
        old = raw.read(1)
        raw.seek(at)
        raw.write(bytes([old[0] ^ 1]))
    reader = VectorFile.open(folder, "made", WIDTH)
    assert reader.count == 0
    assert reader.scores(made(1)[0]).size == 0
    assert "was damaged" in reader.begun_anew
    again = writer(folder)
    assert again.count == 0
    assert "was damaged" in again.begun_anew
    assert again.append(keys(0, 1), made(1)) == 0
    assert writer(folder).begun_anew is None


def test_a_reader_without_a_file_finds_nothing_and_makes_none(folder):
    """A search must not write where it only reads."""
    reader = VectorFile.open(folder, "made", WIDTH)
    assert reader.count == 0
    assert reader.positions_of(keys(0, 2)).tolist() == [-1, -1]
    assert list(folder.entries()) == []
    writer(folder).append(keys(0, 2), made(2))
    assert reader.refresh()
    assert reader.positions_of(keys(0, 2)).tolist() == [0, 1]


def test_a_rewritten_file_holds_what_was_kept_and_tells_where(folder):
    """What is deleted must not live on in its vector; positions elsewhere have to follow."""
    file = writer(folder)
    table = made(3000)
    file.append(keys(0, 3000), table)
    reader = VectorFile.open(folder, "made", WIDTH)
    keep = np.flatnonzero(np.arange(3000) % 7 > 2)
    moved = file.rewrite(keep)
    assert (moved[keep] == np.arange(len(keep))).all()
    assert (moved >= 0).sum() == len(keep) == file.count
    assert file.damaged().size == 0
    np.testing.assert_allclose(file.scores(table[5]), (table @ table[5])[keep], atol=0.01)
    places = file.positions_of(keys(0, 3000))
    assert (places == moved).all()
    assert reader.count == 3000
    assert reader.scores(table[5]).size == 3000, "who reads meanwhile reads the old one"
    assert reader.refresh()
    assert (reader.generation, reader.count) == (file.generation, file.count)
    assert file.append(keys(9000, 9001), made(1)) == len(keep)
    assert not reader.refresh(), "an append moves nothing"
    with open(path_of(file), "rb") as raw:
        assert key_of("text 0") not in raw.read()
    assert file.rewrite(np.empty(0, np.int64)).max() == -1
    assert file.count == 0


def test_a_rewrite_that_fails_leaves_the_old_file(folder, monkeypatch):
    """And what it had made so far is cleared away, by itself or by the next."""
    file = writer(folder)
    file.append(keys(0, 50), made(50))

    def fails(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(vectors, "write_aside", fails)
        with pytest.raises(StorageError, match="no space"):
            file.rewrite(np.arange(5))
    assert (file.count, writer(folder).count) == (50, 50)
    left = f".{file.name}.1.00000000.tmp"
    with open(os.path.join(folder.path, left), "wb"):
        pass
    file.rewrite(np.arange(5))
    assert [entry.name for entry in folder.entries()] == [file.name]


@pytest.mark.parametrize("step", ["write_all_at", "sync_data"])
def test_an_append_that_fails_leaves_nothing_that_counts(folder, monkeypatch, step):
    """Power cut before the sync: records may be zeros, so they must not count before it."""
    file = writer(folder)
    file.append(keys(0, 5), made(5))

    def fails(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(vectors, step, fails)
        with pytest.raises(StorageError):
            file.append(keys(5, 9), made(4))
    assert (file.count, VectorFile.open(folder, "made", WIDTH).count) == (5, 5)
    assert file.append(keys(5, 9), made(4, seed=2)) == 5
    assert file.damaged().size == 0


def test_what_another_process_appended_is_seen(folder):
    """Two take turns under one lock; neither writes over the other's."""
    one, other = writer(folder), writer(folder)
    assert one.append(keys(0, 2), made(2)) == 0
    assert other.append(keys(2, 5), made(3)) == 2
    assert one.append(keys(5, 6), made(1)) == 5
    other.rewrite(np.arange(1, 6))
    assert one.append(keys(6, 7), made(1)) == 5
    os.unlink(path_of(one))
    assert other.append(keys(0, 1), made(1)) == 0
    assert one.positions_of(keys(0, 7)).tolist() != [0, -1, -1, -1, -1, -1, -1]
    assert one.refresh()
    assert one.positions_of(keys(0, 7)).tolist() == [0, -1, -1, -1, -1, -1, -1]


WRITES = """
import sys, numpy as np
from convmem.log.files import Folder
from convmem.search.semantic.texts import key_of
from convmem.search.semantic.vectors import VectorFile
folder = Folder.open(sys.argv[1], create=True)
file = VectorFile.open(folder, "made", 24, is_writer=True)
assert file.begun_anew is None, file.begun_anew
at = file.count
while True:
    table = np.eye(24, dtype=np.float32)[np.arange(at, at + 40) % 24]
    assert file.append([key_of(f"text {i}") for i in range(at, at + 40)], table) == at
    at += 40
    print(at, flush=True)
    if at % 2000 == 0:
        file.rewrite(np.arange(at))
"""


def test_kill_9_at_any_moment_leaves_whole_records_and_all_that_were_answered(tmp_path):
    """Embedding runs for hours, and machines do not wait for it. A reader looks on meanwhile."""
    place = str(tmp_path / "index")
    answered = 0
    for cycle in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITES, place], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert child.stdout is not None
        first = int(child.stdout.readline() or 0)
        assert first > answered, child.stderr.read() if child.stderr else ""
        reader = VectorFile.open(Folder.open(place), "made", WIDTH)
        until = time.monotonic() + 0.05 * cycle
        while time.monotonic() < until:
            before = reader.count
            reader.refresh()
            assert reader.begun_anew is None
            assert reader.count >= before
        child.send_signal(signal.SIGKILL)
        told = [first, *map(int, child.stdout.read().split(b"\n")[:-1])]
        child.wait()
        child.stdout.close()
        child.stderr.close()
        reader.refresh()
        assert reader.count >= told[-1]
        assert reader.count % 40 == 0
        assert reader.damaged().size == 0
        chosen = reader.positions_of(keys(0, reader.count))
        assert (chosen == np.arange(reader.count)).all()
        scores = reader.scores(np.eye(WIDTH, dtype=np.float32)[3])
        assert np.flatnonzero(scores > 0.5).tolist() == list(range(3, reader.count, WIDTH))
        answered = reader.count


def test_scoring_and_rewriting_hold_little_in_memory(folder):
    """O21: a million vectors are 400 MB; never all of them at once, and never as objects."""
    file = writer(folder, 384)
    table = made(5000, 384)
    for first in range(0, 60_000, 5000):
        file.append(keys(first, first + 5000), table)
    assert os.stat(path_of(file)).st_size > 24_000_000
    query = table[0]
    tracemalloc.start()
    try:
        file.scores(query)
        file.positions_of(keys(0, 10))
        file.rewrite(np.arange(0, 60_000, 2))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 9_000_000, peak
