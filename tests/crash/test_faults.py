"""A fault at every call that changes a disk: nothing that was answered is lost, nothing doubled.

A short form: every death, and of the other faults one in so many. The campaign tries them all.
The controls at the end take one safeguard out of convmem each. They fail if the harness does not
notice: what cannot fail proves nothing.
"""

from __future__ import annotations

import errno
import os

import call_sites
import faults
import pytest
from bench import Bench
from faults import COMPANY, DEADLY, FAULTS
from lab import Setup
from ledger import HALF_BATCH, Findings
from scenarios import BY_NAME
from trial_faults import SAFEGUARDS, TWICE, double_faults, single_faults

from convmem import Archive, DurabilityUnknown
from convmem.log import durability, records

# Each scenario takes others, so that all kinds of faults meet all kinds of calls.
ONE_IN = int(os.environ.get("CONVMEM_FAULTS_ONE_IN", "10"))
_names = pytest.mark.parametrize("name", list(BY_NAME))


def _nth(name: str) -> int:
    return list(BY_NAME).index(name)


@_names
def test_after_every_death_who_retries_is_made_whole(name, tmp_path):
    """Whichever call is the last one, what was answered is there, once and in order."""
    bench = Bench(str(tmp_path), BY_NAME[name])
    deaths = list(bench.deaths())
    assert len(deaths) > len(bench.calls)
    for death in deaths:
        findings = bench.judge_death(death)
        assert not findings, f"{death[0]}:\n{findings}"


@_names
def test_no_single_fault_loses_doubles_or_halves_what_was_answered(name, tmp_path):
    """Whichever call fails, or whoever comes in between: the client who retries is made whole."""
    bench = Bench(str(tmp_path), BY_NAME[name])
    kinds = tuple(kind for kind in (*FAULTS, *COMPANY) if kind not in DEADLY)
    wrong = []
    cases = list(bench.cases(kinds))[_nth(name) % ONE_IN :: ONE_IN]
    for at, kind in cases:
        findings, _ = bench.run(at, kind)
        if findings:
            wrong.append(f"{kind} {at}:\n{findings}")
    assert not wrong, f"{len(wrong)} of {len(cases)} cases:\n" + "\n".join(wrong[:8])


@_names
def test_a_fault_while_recovering_from_a_crash_is_recovered_from(name, tmp_path):
    """Machines that crash tend to crash again, and on the same full disk."""
    bench = Bench(str(tmp_path), BY_NAME[name])
    cases = list(bench.run_twice(TWICE, one_in=(ONE_IN, 5 * ONE_IN)))
    wrong = [f"{what}:\n{findings}" for what, findings, _ in cases if findings]
    assert not wrong, f"{len(wrong)} of {len(cases)} cases:\n" + "\n".join(wrong[:8])


@pytest.mark.parametrize("name", ["batch", "compaction to the trash", "thaw by a record"])
def test_what_is_shown_of_a_moment_is_what_a_process_leaves_that_dies_then(name, tmp_path):
    """Most deaths above are only looked at: they must be the ones that are died in the campaign."""
    bench = Bench(str(tmp_path), BY_NAME[name])
    shown = {
        what: (tree.digest(exactly=True), told.as_text()) for what, tree, told in bench.deaths()
    }
    died = 0
    for at, kind in bench.cases((faults.KILLED_BEFORE, faults.KILLED_WITHIN)):
        if at % 5 == 1 or kind == faults.KILLED_WITHIN:
            what, tree, told = bench.left_by(kind, at)
            assert (tree.digest(exactly=True), told.as_text()) == shown[what], what
            died += 1
    assert died > 2


def test_every_call_that_changes_a_disk_is_struck_in_some_scenario(tmp_path):
    """Who adds a call adds a scenario: else nobody knows what a crash there would do."""
    made = set()
    for name, scenario in BY_NAME.items():
        (tmp_path / name).mkdir()
        bench = Bench(str(tmp_path / name), scenario)
        for at, kind in [(0, ""), *bench.cases((faults.EIO_ONCE, faults.SHORT_THEN_FULL))]:
            made |= bench.sites(at, kind)
    sites = call_sites.all_sites()
    assert len(sites) > 120
    missed = [
        site
        for site in sites
        if not any((site.path, line) in made for line in range(site.first, site.last + 1))
    ]
    assert [str(site) for site in missed] == []


def test_the_shim_stands_before_all_that_changes_a_disk():
    """A call that it does not know would never fail here."""
    assert [
        found.rpartition(":")[0] + found.rpartition(" ")[2] for found in call_sites.unseen()
    ] == [
        "log/compressed/cold_read.pytempfile"  # for reading, where nothing else has room
    ]


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


def test_a_case_is_carried_out_again_by_its_label(tmp_path):
    """Who is told of a failure wants to see it again, and it alone."""
    (bench_folder := tmp_path / "bench").mkdir()
    bench = Bench(str(bench_folder), BY_NAME["record"])
    pair = [what for what, _, _ in bench.run_twice((faults.EIO_ONCE,), one_in=(1, 5))][-1]
    assert ", then " in pair
    for cases, label in (
        (single_faults, "record, EIO once 3"),
        (double_faults, f"record, {pair}"),
    ):
        setup = Setup(str(tmp_path), seed=0, only=label)
        assert [case.label for case in cases(setup)] == [label]


# --- what was found here once ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "call", "kind"),
    [
        # A part of a turn was written, and taken for the whole: the turn was lost.
        ("record behind half a compressed batch", "pwrite", faults.SHORT),
        ("record behind a cut compressed log", "pwrite", faults.SHORT),
        # Ctrl-C right behind the rename: what had gone to the trash was removed from there.
        ("compaction to the trash", "rename", faults.INTERRUPTED_AFTER),
        ("compaction that sums up", "rename", faults.INTERRUPTED_AFTER),
        # The system's own error came out, in the place of one that says what convmem was doing.
        ("restore a log and what a compaction took", "mkdir", faults.EIO_FOR_EVER),
        ("finish a deletion", "", faults.EIO_ONCE),
        ("compaction to the trash", "", faults.NO_DESCRIPTOR_ONCE),
        ("restore a deleted log", "", faults.NO_DESCRIPTOR_ONCE),
        ("list", "", faults.NO_DESCRIPTOR_ONCE),
        ("purge", "", faults.NO_DESCRIPTOR_ONCE),
        ("compress", "", faults.NO_DESCRIPTOR_ONCE),
    ],
)
def test_what_a_fault_once_broke_stays_mended(name, call, kind, tmp_path):
    """Each of these was a bug."""
    bench = Bench(str(tmp_path), BY_NAME[name])
    places = [at for at, each in bench.cases((kind,)) if not call or bench.calls[at - 1] == call]
    assert places
    for at in places:
        findings, _ = bench.run(at, kind)
        assert not findings, f"{kind} {at}:\n{findings}"


# --- controls: each takes a safeguard out, and must be caught --------------------------------


@pytest.mark.parametrize(
    ("mutant", "name", "kinds", "expected"),
    SAFEGUARDS,
    ids=[f"{mutant.__name__}-{name}" for mutant, name, _, _ in SAFEGUARDS],
)
def test_a_safeguard_taken_out_is_noticed(mutant, name, kinds, expected, tmp_path):
    """What cannot fail proves nothing: each of these is a bug that convmem could have had."""
    bench = Bench(str(tmp_path), BY_NAME[name])
    found = Findings()
    for at, kind in [(0, ""), *bench.cases(kinds)]:
        found.extend(bench.run(at, kind, mutant)[0])
        if found.count(expected):
            return
    pytest.fail(f"not noticed; found: {found}")


def test_a_reader_that_takes_half_a_batch_is_noticed(tmp_path, monkeypatch):
    """As above, for the rule that is the readers' to keep."""

    def all_good_lines(found, damaged, *, backwards):
        for offset, end, data in found:
            if data is not None and records.codec.fault_of(data) is None:
                yield records.Record(offset, end, data)

    bench = Bench(str(tmp_path), BY_NAME["batch"])
    monkeypatch.setattr(records, "_committed", all_good_lines)
    found = Findings()
    for death in bench.deaths():
        found.extend(bench.judge_death(death))
    assert found.count(HALF_BATCH)
