"""Many processes on one conversation at once: one order that all agree on, and nobody starves."""

from __future__ import annotations

import pytest
from load import race, round_of_load


@pytest.mark.parametrize(
    ("processes", "threads", "turns", "durability"),
    [(4, 2, 150, "always"), (6, 2, 400, "none")],
    ids=["always", "none"],
)
def test_all_agree_on_one_order_while_others_compact_follow_and_read(
    processes, threads, turns, durability, tmp_path
):
    """Agents, web workers and a cron job share a conversation without knowing of each other."""
    result = round_of_load(
        str(tmp_path), processes=processes, threads=threads, turns=turns, durability=durability
    )
    print(result)
    assert not result.findings, str(result.findings)
    assert result.answered == processes * threads * (turns + 2 * (turns // 8))
    assert result.compactions > 1 and result.dropped > 0


def test_four_processes_record_while_one_compacts_in_a_loop_and_one_follows(tmp_path):
    """Nothing is lost, doubled or out of order, and nobody waits for the whole compaction."""
    result = round_of_load(
        str(tmp_path),
        processes=4,
        threads=1,
        turns=500,
        durability="always",
        keep_last=100,
        followers=1,
        readers=0,
    )
    print(result)
    assert not result.findings, str(result.findings)
    assert result.compactions > 1 and result.dropped > 0


def test_no_writer_starves_when_eight_record_as_fast_as_they_can(tmp_path):
    """A lock that favours who had it last would keep the others out for as long as it is busy."""
    counts, worst_seconds = race(str(tmp_path), processes=8, seconds=1.5)
    print(f"turns of each process: {counts}; worst single append {worst_seconds * 1000:.1f} ms")
    assert counts[0] * 8 >= counts[-1], counts
