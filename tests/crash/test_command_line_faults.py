"""The command line when system calls fail, disks are full or fail, nobody may, nobody listens.

A fixed choice of what the campaign tries in full; what a machine cannot do is skipped by name.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import device
import injection
import pytest
import surroundings
from commands import COMMANDS
from lab import Case, Setup
from trial_command_line import injected, troubled
from trial_device import failures

from convmem import Archive, DurabilityUnknown
from convmem.log import durability, files

needs_strace = pytest.mark.skipif(
    injection.missing() is not None, reason=injection.missing() or "it can"
)
needs_disks = pytest.mark.skipif(
    surroundings.missing_disks() is not None, reason=surroundings.missing_disks() or "it can"
)
needs_denials = pytest.mark.skipif(
    surroundings.missing_denials() is not None, reason=surroundings.missing_denials() or "it can"
)
needs_failing_disk = pytest.mark.skipif(
    device.missing() is not None, reason=device.missing() or "it can"
)

_FEW = tuple(
    COMMANDS[name]
    for name in ("record", "record after a torn line", "state set", "compact", "delete", "tail")
)


def _assert_nothing_found(cases: Iterator[Case], at_least: int) -> None:
    tried = list(cases)
    wrong = [f"{case.label}:\n{case.findings}" for case in tried if case.findings]
    assert not wrong, f"{len(wrong)} of {len(tried)} cases:\n" + "\n".join(wrong[:8])
    assert len(tried) >= at_least


def _assert_caught(cases: Iterator[Case]) -> None:
    for case in cases:
        if case.findings:
            return
    pytest.fail("not noticed")


@needs_strace
def test_whatever_call_fails_the_exit_code_and_the_message_tell_and_nothing_is_lost(tmp_path):
    """Scripts go by the exit code, people by the message; both must be right when it matters."""
    _assert_nothing_found(injected(Setup(str(tmp_path), 5, 24), _FEW), 24)


@needs_disks
def test_a_full_disk_changes_nothing_and_with_room_it_goes_on_by_itself(tmp_path):
    """Disks fill up at night; nobody should have to clean up by hand in the morning."""
    _assert_nothing_found(troubled(Setup(str(tmp_path), 5, 8), surroundings.full_disks, _FEW), 8)


@needs_denials
def test_what_may_not_be_read_or_written_is_named_and_left_alone(tmp_path):
    """A wrong chown is common; the message must lead to the file that it hit."""
    _assert_nothing_found(troubled(Setup(str(tmp_path), 5, 6), surroundings.denials, _FEW), 6)


def test_closed_and_full_outputs_cost_no_turn(tmp_path):
    """Cron closes what it likes; the work is done all the same."""
    _assert_nothing_found(troubled(Setup(str(tmp_path), 5, 6), surroundings.streams, _FEW), 6)


@needs_failing_disk
def test_after_a_failed_sync_no_retry_is_answered_for_bytes_that_are_on_no_disk(tmp_path):
    """The system shows them as written; the turn would be gone with the next restart."""
    _assert_nothing_found(failures(Setup(str(tmp_path), 5, 2)), 2)


# --- the smallest forms of what was found ----------------------------------------------------


def test_after_a_failed_sync_the_system_is_told_to_forget_what_it_shows(tmp_path, monkeypatch):
    """Else a retry finds its id in memory, the next sync succeeds, and the turn is on no disk."""

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    forgotten = []
    monkeypatch.setattr(
        os, "posix_fadvise", lambda fd, *how: forgotten.append((os.fstat(fd).st_ino, *how))
    )
    with Archive.open(tmp_path / "archive") as archive:
        chat = archive.conversation("trip")
        chat.record("user", "kept", id="a")
        inode = os.stat(chat.path).st_ino
        monkeypatch.setattr(durability, "sync_data", fail)
        with pytest.raises(DurabilityUnknown):
            chat.record("user", "unknown", id="b")
    assert (inode, 0, 0, os.POSIX_FADV_DONTNEED) in forgotten


def test_a_file_of_a_file_system_that_has_given_up_is_closed(tmp_path, monkeypatch):
    """XFS answers nothing any more, not even a stat; a descriptor that stays keeps it mounted."""

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    fd = os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fail)
        files.close_aside(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_full_standard_error_does_not_change_the_exit_code(tmp_path):
    """Python ends with 120 where its own flush fails; cron would report a failure."""
    setup = Setup(str(tmp_path), 5, None, "record after a torn line, standard error is full")
    _assert_nothing_found(troubled(setup, surroundings.streams, _FEW), 1)


# --- controls: each takes a safeguard out, and must be caught --------------------------------


@needs_strace
@pytest.mark.parametrize(
    ("mutant", "call"),
    [
        ("with_the_answer_before_the_write", "write"),
        ("with_the_answer_before_the_sync", "fdatasync"),
    ],
)
def test_an_answer_that_comes_too_early_is_noticed(mutant, call, tmp_path):
    """What cannot fail proves nothing."""
    setup = Setup(str(tmp_path), 5, None, f"record, EIO at {call} 1")
    _assert_caught(injected(setup, (COMMANDS["record"],), mutant, (call,)))


def test_a_part_of_a_line_that_is_left_is_noticed(tmp_path):
    """As above, for the size limit that cuts a write in two."""
    setup = Setup(str(tmp_path), 5, None, "record, no file over 700 bytes")
    _assert_caught(
        troubled(setup, surroundings.full_disks, (COMMANDS["record"],), "without_taking_back")
    )


@needs_failing_disk
def test_a_retry_that_believes_what_the_system_shows_is_noticed(tmp_path):
    """As above, for the file as the system shows it when its bytes could not be written."""
    _assert_caught(failures(Setup(str(tmp_path), 1, 8), "with_unwritten_pages_believed"))
