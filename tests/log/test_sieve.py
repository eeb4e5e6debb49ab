"""Ids recorded by the stream: a retry is found, however many went before, in fixed memory."""

from __future__ import annotations

import gc
import random

import orjson
import pytest

from convmem import Archive
from convmem.log import known_ids
from convmem.log.sieve import Sieve


def test_a_sieve_forgets_nothing_and_rarely_suspects_what_is_new():
    """A forgotten id would be stored twice; a suspected one costs a search."""
    made = random.Random(7)
    seen = [f"{made.getrandbits(64):x}" for _ in range(3000)]
    new = [f"new-{number}" for number in range(3000)]
    sieve = Sieve()
    assert sieve.perhaps(seen) == []
    sieve.add(map(hash, seen))
    assert sieve.perhaps(seen) == seen
    assert len(sieve.perhaps(new)) < 5


@pytest.fixture
def small(monkeypatch):
    """Bounds that a short stream exceeds."""
    monkeypatch.setattr(known_ids, "MOST_HASHES", 30)
    monkeypatch.setattr(known_ids, "LARGEST_LOG_BYTES", 2000)
    monkeypatch.setattr(known_ids, "MANY", 10)


def _lines(name, numbers):
    return [
        orjson.dumps({"role": "user", "content": f"{number}", "id": f"{name}-{number}"})
        for number in numbers
    ]


@pytest.mark.parametrize("is_opened_anew", [False, True], ids=["same process", "opened anew"])
def test_a_stream_that_is_retried_is_stored_once(small, tmp_path, is_opened_anew):
    """P6, for a stream that is longer than what is remembered id by id."""
    archives = [Archive.open(tmp_path, durability="none")]
    for start in range(0, 200, 20):
        if is_opened_anew:
            archives.append(Archive.open(tmp_path, durability="none"))
        other = Archive.open(tmp_path, durability="none")  # somebody else records there too
        other.conversation("a").record("user", "between", id=f"between-{start}")
        other.close()
        # Half of each call is what the one before had.
        recorded = archives[-1].record_lines(
            _lines("t", range(max(0, start - 20), start + 20)), "a"
        )
        assert recorded.failures == []
        assert len(recorded.answers()) == recorded.count == (40 if start else 20)
        again = archives[-1].record_lines(_lines("between", [start]), "a")
        assert [str(each)[:4] for _, each in again.failures] == ["turn"]  # other content
    ids = [turn.id for turn in archives[-1].conversation("a").turns()]
    assert sorted(ids) == sorted(
        [f"t-{number}" for number in range(200)]
        + [f"between-{number}" for number in range(0, 200, 20)]
    )
    for archive in archives:
        archive.close()


def test_a_few_logs_at_a_time_keep_a_sieve(small, tmp_path, monkeypatch):
    """Sixteen mebibytes for each of sixty-four open logs would be a gigabyte."""
    gc.collect()
    monkeypatch.setattr(known_ids, "_MOST_SIEVES", 2)
    names = ("a", "b", "c")
    with Archive.open(tmp_path, durability="none") as archive:
        for turn in range(0, 120, 20):
            for name in names:
                assert archive.record_lines(_lines(name, range(turn, turn + 20)), name).count == 20
        kept = [each for each in gc.get_objects() if isinstance(each, known_ids.KnownIds)]
        assert sum(each._sieve is not None for each in kept) == 2
        for name in names:
            assert archive.record_lines(_lines(name, range(120)), name).count == 120
            assert archive.conversation(name).describe(count=True).turns == 120


@pytest.mark.parametrize("turns_at_once", [1, 4])
def test_a_large_log_is_not_searched_for_each_id_that_comes(tmp_path, monkeypatch, turns_at_once):
    """Agent frameworks give every turn an id, one or a few at a time, for years."""
    monkeypatch.setattr(known_ids, "LARGEST_LOG_BYTES", 1000)
    searched = []
    search_all = known_ids.search_all
    with Archive.open(tmp_path, durability="none") as archive:
        chat = archive.conversation("a")
        chat.record_many([("user", "x" * 50)] * 100)

        def counted(fd, ids, start, end):
            searched.append(len(ids) and end - start)
            return search_all(fd, ids, start, end)

        monkeypatch.setattr(known_ids, "search_all", counted)
        for at in range(40):
            chat.record_many(
                {"role": "user", "content": "y", "id": f"{at}.{nth}"}
                for nth in range(turns_at_once)
            )
        again = chat.record("user", "y", id="3.0")
    assert again.seq == 100 + 3 * turns_at_once + 1
    assert sum(map(bool, searched)) <= known_ids._MANY_CALLS + 2
