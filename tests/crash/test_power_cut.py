"""Power cuts and crashes of the system, in short: the campaign tries thousands of each.

A failure says its seed: run it again with CONVMEM_SEED. Needs root, loop devices and FUSE.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import trial_power
import trial_shutdown
from blocks_device import FLUSH, Entry
from lab import Control, Setup, Trial
from ledger import NAME, NAMESPACE, Findings
from power_bench import images

from convmem import Archive, RetentionPolicy
from convmem.log import durability
from convmem.log.removing import trash

SEED = int(os.environ.get("CONVMEM_SEED", str(random.SystemRandom().randrange(10**6))))
_ALL = (*trial_power.TRIALS, *trial_shutdown.TRIALS)


@pytest.mark.parametrize("trial", _ALL, ids=lambda trial: trial.name)
def test_what_was_answered_survives(trial: Trial, tmp_path):
    """Plugs are pulled and kernels panic; an answer that does not survive that was a lie."""
    _skip_where_missing(trial)
    findings = Findings()
    tried = answered = 0
    for case in trial.cases(_setup(tmp_path, trial.short)):
        findings.extend(case.findings, f"case {case.label!r}: ")
        tried += case.count
        answered += case.answered
    print(f"seed {SEED}: {tried} {trial.unit}, {answered} turns answered; {trial.notes}")
    assert not findings, f"seed {SEED}: {findings}"
    assert tried == trial.short
    assert answered > 0


@pytest.mark.parametrize(
    ("trial", "control"),
    [
        (trial, control)
        for trial, name in (
            (trial_power.TRIALS[0], "without syncing appends"),
            (trial_power.TRIALS[1], "without syncing folders"),
            (trial_power.TRIALS[2], "without syncing the new file"),
            (trial_shutdown.TRIALS[0], "without syncing appends"),
        )
        for control in trial.controls
        if control.name == name
    ],
    ids=lambda each: each.name,
)
def test_a_sync_taken_out_is_found(trial: Trial, control: Control, tmp_path):
    """What cannot fail proves nothing."""
    _skip_where_missing(trial)
    cases = control.cases(_setup(tmp_path, control.limit))
    assert any(case.findings for case in cases), f"not caught, seed {SEED}"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_of_a_trial_that_is_stopped_nothing_is_left(number, tmp_path):
    """A laboratory that leaves mounts behind is run once."""
    _skip_where_missing(trial_power.TRIALS[0])
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import trial_power; from lab import Setup\n"
        "for case in trial_power.TRIALS[0].cases(Setup(sys.argv[2], 1, 1000)):\n"
        "    print(case.label, flush=True)"
    )
    folder = os.path.dirname(__file__)
    with subprocess.Popen(
        [sys.executable, "-c", program, folder, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as campaign:
        assert campaign.stdout is not None
        campaign.stdout.readline()
        loops = _loops_on(tmp_path)
        assert loops
        if number == signal.SIGINT:
            os.killpg(campaign.pid, number)  # as a terminal does
        else:
            campaign.send_signal(number)
    deadline = time.monotonic() + 20
    while (left := _left_of(loops, tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left


def test_what_a_compaction_takes_is_on_the_disk_before_it_is_in_the_trash(root, monkeypatch):
    """Else a power cut takes it from the log alone, and its numbers are given out twice."""
    folder = os.path.join(root, NAMESPACE)
    before: list[int] = []

    def sync(fd: int) -> None:
        found = os.fstat(fd)
        log = os.stat(os.path.join(folder, f"{NAME}.jsonl"))
        if (found.st_ino, found.st_size) == (log.st_ino, log.st_size):
            before.append(len(os.listdir(os.path.join(folder, trash.FOLDER))))

    with Archive.open(root, durability="none") as archive:
        chat = archive.conversation(NAME)
        for nth in range(3):
            chat.record("user", f"turn {nth}")
        os.mkdir(os.path.join(folder, trash.FOLDER), 0o700)
        monkeypatch.setattr(durability, "sync_data", sync)
        chat.compact(RetentionPolicy(keep_last=1))
    assert before == [0]


def test_an_image_has_all_that_was_flushed_and_no_more_than_was_written():
    """A lab that breaks the rules of disks blames convmem for what no disk does."""
    chance = random.Random(SEED)
    log = [
        Entry(FLUSH, 0) if chance.random() < 0.3 else Entry(4096 * at, 512 * chance.randrange(1, 9))
        for at in range(60)
    ]
    cuts = set()
    for image in images(log, chance, "xfs"):
        assert 0 <= image.flushed <= image.cut_at <= len(log)
        for entry, start, end in image.pieces:
            assert image.flushed <= entry < image.cut_at
            assert 0 <= start < end <= log[entry].length
        whole = {at for at, start, end in image.pieces if end - start == log[at].length}
        flushes = [at for at in range(image.cut_at) if log[at].is_flush]
        for at in range(image.flushed, max(flushes, default=0)):
            assert log[at].is_flush or at in whole
        cuts.add(image.cut_at)
    writes = sum(not entry.is_flush for entry in log)
    assert len(cuts) >= writes


def _setup(tmp_path, cases: int | None) -> Setup:
    folder = tmp_path / "trial"
    folder.mkdir()
    return Setup(str(folder), SEED, cases)


def _skip_where_missing(trial: Trial) -> None:
    missing = trial.missing()
    if missing is not None:
        pytest.skip(missing)


def _backing(loop: str) -> str:
    """Return the file that the loop device is on, or nothing."""
    try:
        with open(f"/sys/block/{loop}/loop/backing_file", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def _loops_on(folder) -> list[str]:
    """Return the loop devices on files below *folder*."""
    return [name for name in os.listdir("/sys/block") if _backing(name).startswith(str(folder))]


def _left_of(loops: list[str], folder) -> list[str]:
    """Return what is left of a trial: loop devices, also on what is mounted no more; processes."""
    orphans = [loop for loop in loops if _backing(loop) == "/"]
    return _loops_on(folder) + orphans + _processes_on(folder)


def _processes_on(folder) -> list[str]:
    """Return the processes that were started for *folder*."""
    found = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/cmdline", encoding="utf-8") as file:
                if str(folder) in file.read():
                    found.append(name)
        except OSError:
            continue  # no process, or gone by now
    return found
