"""A fault at every call that changes the disk: nothing that was answered is lost, nothing doubled.

The controls at the end take one safeguard out of convmem each. They fail if the harness does not
notice: what cannot fail proves nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import faults
import mutants
import pytest
from faults import COMPANY, FAULTS, SCENARIOS, Bench
from ledger import DOUBLED, HALF_BATCH, LOST, Findings

from convmem import Archive, DurabilityUnknown
from convmem.log import durability, records

_BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
_names = pytest.mark.parametrize("name", list(_BY_NAME))


def _try_all(bench: Bench, kinds: tuple[str, ...]) -> None:
    wrong = []
    cases = 0
    for at, kind in bench.cases(kinds):
        cases += 1
        findings, _ = bench.run(at, kind)
        if findings:
            wrong.append(f"{kind}, call {at} ({bench.calls[at - 1]}):\n{findings}")
    print(f"{bench.scenario.name}: {cases} cases at {len(bench.calls)} calls")
    assert not wrong, f"{len(wrong)} of {cases} cases:\n" + "\n".join(wrong[:8])


@_names
def test_no_single_fault_loses_doubles_or_halves_what_was_answered(name, tmp_path):
    """Whichever call the crash or the full disk hits, the client who retries is made whole."""
    _try_all(Bench(str(tmp_path), _BY_NAME[name]), FAULTS)


@_names
def test_whoever_comes_between_two_calls_changes_nothing(name, tmp_path):
    """Another writer, compaction or reader may run at any moment, also in mid-write."""
    _try_all(Bench(str(tmp_path), _BY_NAME[name]), COMPANY)


@pytest.mark.parametrize(
    ("name", "one_in"),
    [("append after a torn line", 3), ("batch", 2), ("compaction to the trash", 8)],
)
def test_a_fault_while_recovering_from_a_crash_is_recovered_from(name, one_in, tmp_path):
    """Machines that crash tend to crash again, and on the same full disk."""
    bench = Bench(str(tmp_path), _BY_NAME[name])
    kinds = (faults.KILLED_BEFORE, faults.KILLED_WITHIN, faults.EIO_ONCE, faults.FULL_FOR_EVER)
    cases = list(bench.run_twice(kinds, one_in=one_in))
    wrong = [f"{what}:\n{findings}" for what, findings, _ in cases if findings]
    print(f"{name}: {len(cases)} cases")
    assert not wrong, f"{len(wrong)} of {len(cases)} cases:\n" + "\n".join(wrong[:8])


def test_after_a_failed_sync_nothing_is_answered_until_the_archive_is_opened_again(
    tmp_path, monkeypatch
):
    """The kernel forgets the pages that it could not write, and then reports success."""

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Archive.open(tmp_path / "archive") as archive:
        chat = archive.conversation("trip")
        chat.record("user", "kept", id="a")
        with monkeypatch.context() as patch:
            patch.setattr(durability, "sync_data", fail)
            with pytest.raises(DurabilityUnknown):
                chat.record("user", "unknown", id="b")
        for _ in range(2):
            with pytest.raises(DurabilityUnknown):
                chat.record("user", "refused", id="c")
    with Archive.open(tmp_path / "archive") as archive:
        chat = archive.conversation("trip")
        assert chat.record("user", "unknown", id="b").seq == 2
        assert [turn.id for turn in chat.turns()] == ["a", "b"]


# --- controls: each takes a safeguard out, and must be caught --------------------------------


def _caught(
    tmp_path, name: str, kinds: tuple[str, ...], mutant: Callable[[], None] | None
) -> Findings:
    """Return all that the harness finds with *mutant*, with these faults or without any."""
    bench = Bench(str(tmp_path), _BY_NAME[name])
    found = Findings()
    for at, kind in [(0, ""), *bench.cases(kinds)]:
        found.extend(bench.run(at, kind, mutant)[0])
    return found


@pytest.mark.parametrize(
    ("mutant", "name", "kinds", "expected"),
    [
        (mutants.without_healing, "append after a torn line", (), LOST),
        (mutants.without_taking_back, "batch", (faults.SHORT_THEN_FULL,), LOST),
        (mutants.without_lock, "record", (faults.WRITER,), DOUBLED),
        (mutants.without_looking_at_the_name, "record", (faults.COMPACTOR,), LOST),
        (mutants.without_looking_for_the_id, "retry", (), DOUBLED),
        (mutants.without_the_delta, "compaction to the trash", (faults.WRITER,), LOST),
        (mutants.without_trash, "compaction to the trash", (), LOST),
        (mutants.without_memory_of_the_dropped, "compaction to the trash", (), DOUBLED),
        (
            mutants.without_memory_of_the_last_seq,
            "compaction that drops everything",
            (faults.KILLED_BEFORE,),  # the process that lives on knows it
            DOUBLED,
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_safeguard_taken_out_is_noticed(mutant, name, kinds, expected, tmp_path):
    """What cannot fail proves nothing: each of these is a bug that convmem could have had."""
    found = _caught(tmp_path, name, kinds, mutant)
    assert found.count(expected), str(found)


def test_a_reader_that_takes_half_a_batch_is_noticed(tmp_path, monkeypatch):
    """As above, for the rule that is the readers' to keep."""

    def all_good_lines(found, damaged, *, backwards):
        for offset, end, data in found:
            if data is not None and records.codec.fault_of(data) is None:
                yield records.Record(offset, end, data)

    monkeypatch.setattr(records, "_committed", all_good_lines)
    assert _caught(tmp_path, "batch", (faults.KILLED_WITHIN,), None).count(HALF_BATCH)
