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


def test_one_log_at_a_time_keeps_a_sieve(small, tmp_path):
    """Sixteen mebibytes for each of sixty-four open logs would be a gigabyte."""
    gc.collect()
    with Archive.open(tmp_path, durability="none") as archive:
        for turn in range(0, 120, 20):
            for name in ("a", "b"):
                assert archive.record_lines(_lines(name, range(turn, turn + 20)), name).count == 20
        kept = [each for each in gc.get_objects() if isinstance(each, known_ids.KnownIds)]
        assert sum(each._sieve is not None for each in kept) == 1
        for name in ("a", "b"):
            assert archive.record_lines(_lines(name, range(120)), name).count == 120
            assert archive.conversation(name).describe(count=True).turns == 120
