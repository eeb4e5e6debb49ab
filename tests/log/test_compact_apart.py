"""Large logs: what other processes and threads do meanwhile leaves the same bytes behind."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from convmem import Archive, RetentionPolicy
from convmem.errors import StorageFull
from convmem.log import codec
from convmem.log.removing import apart, at_once, compact, survey_apart, trash
from convmem.turns import draft

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
POLICIES = {
    "keep_last": RetentionPolicy(keep_last=301),
    "max_age": RetentionPolicy(max_age=timedelta(days=1)),
    "max_bytes": RetentionPolicy(max_bytes=40_000),
}
TURNS = 600


def _line(seq, batch=None, **says):
    moment = NOW - timedelta(days=1) + timedelta(seconds=seq - TURNS // 2)
    given = {"content": f"turn {seq}", **says}
    made = draft("user", id=f"turn-{seq}", **given)
    return codec.turn_line(made, seq, moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), batch)


def _lines():
    return [_line(seq) for seq in range(1, TURNS + 1)]


def _plain(lines):
    return lines


def _tools(lines):
    """A call far before its result, each in another half."""
    lines[99] = _line(100, extra={"tool_calls": [{"id": "far"}]})
    lines[499] = _line(500, extra={"tool_call_id": "far"})
    return lines


def _batch(lines):
    """One that stands where the halves meet."""
    for at in range(280, 320):
        lines[at] = _line(at + 1, ("0badcafe", at - 280, 40))
    return lines


def _damage(at):
    def harmed(lines):
        lines[at] = lines[at].replace(b"turn", b"tern", 1)
        return lines

    return harmed


def _by_hand(lines):
    for at in (50, 550):
        lines[at] = b'{"role":"user","content":"by hand"}\n'
    return lines


def _summary(lines):
    body = b'{"id":"s","seq":null,"ts":"2026-11-01T09:00:00.000000Z","role":"system"'
    lines[10] = lines[510] = codec.sealed(body + b',"content":"s","summary":{"turns":3}')
    return lines


LOGS = [_plain, _tools, _batch, _damage(20), _damage(310), _damage(590), _by_hand, _summary]


def _compacted(root, data, policy, discard):
    """Compact a log that holds *data*; return the report and all that stands on disk then."""
    with Archive.open(root, durability="none") as archive:
        chat = archive.conversation("trip")
        chat.record("user", "x")
        Path(chat.path).write_bytes(data)
        report = chat.compact(policy, now=NOW, discard=discard)
        found = {
            str(path.parent.name): path.read_bytes()
            for folder in (".trash", ".dropped", ".quarantine", ".")
            for path in Path(chat.path).parent.joinpath(folder).glob("*")
            if path.is_file() and path.suffix != ".lock"
        }
    for name in ("trash", "quarantine"):
        assert (getattr(report, name) is not None) == (f".{name}" in found)
        setattr(report, name, None)
    return report, found


@pytest.fixture
def is_large(monkeypatch):
    """Take every log for a large one; return whether the second half was taken as it was said."""
    taken = []
    real = survey_apart.SecondHalf.add_to

    def noted(self, survey):
        taken.append(real(self, survey))
        return taken[-1]

    monkeypatch.setattr(survey_apart.SecondHalf, "add_to", noted)
    monkeypatch.setattr(apart, "WORTH_BYTES", 1)
    monkeypatch.setattr(apart, "_has_cores", lambda: True)
    monkeypatch.setattr(compact, "_LARGE_BYTES", 1)
    return taken


@pytest.mark.parametrize(
    "policy, discard", [("keep_last", False), ("max_age", True), ("max_bytes", False)]
)
@pytest.mark.parametrize("log", LOGS, ids=lambda made: made.__qualname__.split(".")[0])
def test_a_large_log_is_compacted_to_the_same_bytes_as_a_small_one(
    tmp_path, monkeypatch, log, policy, discard, is_large
):
    """Helpers save time and nothing else, also where what they find is of no use."""
    monkeypatch.setattr("time.time", NOW.timestamp)
    data = b"".join(log(_lines()))
    with_helpers = _compacted(tmp_path / "large", data, POLICIES[policy], discard)
    helped = list(is_large)
    monkeypatch.setattr(apart, "WORTH_BYTES", 1 << 60)
    monkeypatch.setattr(compact, "_LARGE_BYTES", 1 << 60)
    assert with_helpers == _compacted(tmp_path / "small", data, POLICIES[policy], discard)
    if log in (_plain, _tools):
        assert helped == [True]


@pytest.mark.parametrize(
    "prints",
    ["", '{"id":"tu', "x", "hello from sitecustomize\n", "convmem.apart\n[3,0,[],[]]\nabcde"],
)
def test_a_helper_that_fails_leaves_the_work_to_who_asked(tmp_path, monkeypatch, is_large, prints):
    """Killed for want of memory, say, or in mid-number, or it greets: then it takes longer."""

    def failing(*given):
        from subprocess import DEVNULL, PIPE, Popen

        # And with SIGCHLD ignored, it would seem to have ended well.
        program = f"print({prints!r}, end='', flush=True)"
        return Popen([sys.executable, "-c", program], stdin=PIPE, stdout=PIPE, stderr=DEVNULL)

    monkeypatch.setattr(apart, "started", failing if prints != "x" else lambda *given: None)
    data = b"".join(_lines())
    report, found = _compacted(tmp_path / "a", data, POLICIES["keep_last"], False)
    assert report.dropped == 299
    remembered = [line for line in found[".dropped"].splitlines() if b'"line"' in line]
    assert len(set(remembered)) == 299
    assert is_large == ([] if prints == "x" else [False])


def test_a_trash_that_cannot_be_filled_leaves_the_log_as_it_was(tmp_path, monkeypatch, is_large):
    """P11: also where the new file is filled at the same time."""

    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trash, "write", full)
    with Archive.open(tmp_path / "a", durability="none") as archive:
        chat = archive.conversation("trip")
        chat.record("user", "x")
        Path(chat.path).write_bytes(b"".join(_lines()))
        with pytest.raises(StorageFull):
            chat.compact(POLICIES["keep_last"], now=NOW)
        assert Path(chat.path).read_bytes() == b"".join(_lines())
        assert not list(Path(chat.path).parent.rglob("*.tmp"))
        assert not list(Path(chat.path).parent.glob(".trash/*"))


def test_jobs_at_once_have_all_ended_when_one_of_them_fails():
    """What they work with is closed and taken back right after."""
    may_end, ended = threading.Event(), []

    def slow():
        may_end.wait(10)
        ended.append("slow")

    def first():
        may_end.set()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        at_once.all_at_once([first, slow])
    assert ended == ["slow"]
