"""The facts index: what a list shows is read once, and never believed a moment too long.

Every answer is compared with one that knows nothing of an index.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from convmem import Archive, ConvmemError, Observer, RetentionPolicy
from convmem.log import count as count_module
from convmem.log.count import Counts, Tally, count
from convmem.log.files import Folder
from convmem.log.look import look
from convmem.log.read import Reader
from convmem.quantities import format_time
from convmem.stores import facts as facts_module
from convmem.stores.facts import facts_of, remember
from convmem.stores.facts_index import FILE, FOLDER, Facts
from convmem.stores.log_files import stamp_of

AGES_AGO_NS = 10**18
BY_HAND = b'{"role":"user","content":"by hand","ts":"2026-01-02T03:04:05+02:00"}\n'


@pytest.fixture(autouse=True)
def _anything_is_worth_keeping(monkeypatch):
    """Small archives get an index too, and files may have been written just now."""
    monkeypatch.setattr(facts_module, "_WORTH_BYTES", 0)
    monkeypatch.setattr(facts_module, "_TICK_NS", -AGES_AGO_NS)


@pytest.fixture
def folder(archive, root):
    """A namespace's folder with three conversations."""
    for name, turns in (("a", 3), ("b", 1), ("c", 5)):
        chat = archive.conversation(name)
        for at in range(turns):
            chat.record(("user", "assistant")[at % 2], f"{name} says {at}", ts=1.7e9 + at)
    opened = Folder.open(os.path.join(root, "default"))
    yield opened
    opened.close()


def known(folder, **options):
    """Return the facts, as values that can be compared."""
    options.setdefault("observer", Observer())
    options.setdefault("failed", _fail)
    return {name: values_of(each) for name, each in facts_of(folder, **options).items()}


def values_of(facts):
    return [
        facts.bytes,
        facts.first_ts,
        facts.last_ts,
        facts.last_seq,
        facts.title,
        facts.is_torn,
        None if facts.counts is None else facts.counts.as_list(),
    ]


def _fail(name, error):
    raise AssertionError(f"{name}: {error}")


def index_of(folder):
    return Path(folder.path, FOLDER, FILE)


class Opened:
    """Counts the logs that are opened while it watches."""

    def __init__(self, monkeypatch):
        self.names = []
        really = os.open

        def opening(path, *rest, **more):
            if str(path).endswith((".jsonl", ".jsonl.zst")) and str(path) != FILE:
                self.names.append(str(path))
            return really(path, *rest, **more)

        monkeypatch.setattr(os, "open", opening)


# --- what the index is worth --------------------------------------------------------------------


def test_what_did_not_change_is_not_opened_again(folder, archive, log, monkeypatch):
    """Work follows what changed, not what exists: a list of ten thousand reads none of them."""
    first = known(folder, count=True)
    opened = Opened(monkeypatch)
    assert known(folder, count=True) == first
    assert known(folder) == first
    assert opened.names == []
    archive.conversation("b").record("user", "more")
    opened.names.clear()
    again = known(folder, count=True)
    assert opened.names == ["b.jsonl"]
    assert again["b"][-1][0] == 2
    assert [again[name] for name in "ac"] == [first[name] for name in "ac"]


def test_the_index_may_be_deleted_at_any_time_and_no_answer_changes(folder, archive, log):
    """The file is the only truth: rule 1. Also where the whole folder goes."""

    def answers():
        found = [row.as_dict() for count in (False, True) for row in archive.overview(count=count)]
        stats = archive.stats().as_dict()
        assert stats["files"].pop("index")["files"] <= 1
        del stats["free_bytes"]
        return found, stats

    log("no-time").write_bytes(b'{"role":"user","content":"by hand"}\n')
    without = answers()
    assert index_of(folder).exists()
    assert answers() == without
    shutil.rmtree(index_of(folder).parent)
    assert answers() == without


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: b"",
        lambda data: data[:-7],
        lambda data: data.replace(b"says", b"said", 1),
        lambda data: data + data.splitlines()[-1] + b"\n",
        lambda data: data.replace(b'"convmem_facts":1', b'"convmem_facts":2'),
        lambda data: bytes(len(data)),
        lambda data: b'{"convmem_facts":1,"crc":"%08x"}\nnot JSON\n' % zlib.crc32(b"\nnot JSON\n"),
    ],
    ids=["empty", "torn", "edited", "doubled", "of another version", "zeros", "not JSON"],
)
def test_a_damaged_index_is_none(folder, harm):
    """A power cut may leave any of it: it is not synced, and need not be."""
    expected = known(folder, count=True)
    file = index_of(folder)
    file.write_bytes(harm(file.read_bytes()))
    assert known(folder, count=True) == expected
    assert known(folder, count=True) == expected  # from the one that was written then


def test_what_stands_in_the_place_of_the_index_hides_nothing(folder):
    """A folder, a link or a pipe there: the list is as long as ever, only slower."""
    expected = known(folder)
    file = index_of(folder)
    file.unlink()
    file.mkdir()
    assert known(folder) == expected
    file.rmdir()
    os.mkfifo(file)
    assert known(folder) == expected
    shutil.rmtree(file.parent)
    file.parent.symlink_to(folder.path)
    assert known(folder) == expected


@pytest.mark.parametrize("back", [0, 3600])
def test_a_change_of_the_same_length_is_seen_whatever_the_times_say(folder, log, back):
    """`rsync --times` and `touch` set a file's time back; the inode's own time tells."""
    before = known(folder, count=True)
    state = log("a").stat()
    data = log("a").read_bytes()
    log("a").write_bytes(data.replace(b"says", b"yelp", 1))
    os.utime(log("a"), ns=(state.st_atime_ns, state.st_mtime_ns - back * 10**9))
    after = known(folder, count=True)
    assert after["a"][-1][6] == 1  # a damaged line
    assert after["b"] == before["b"]


def test_what_changed_a_moment_ago_is_looked_at_again(folder, log, monkeypatch):
    """Two changes within one tick of the clock look like one: what is so fresh is not kept."""
    monkeypatch.setattr(facts_module, "_TICK_NS", 3600 * 10**9)
    known(folder, count=True)
    assert b"[" not in index_of(folder).read_bytes()
    opened = Opened(monkeypatch)
    known(folder)
    assert sorted(opened.names) == ["a.jsonl", "b.jsonl", "c.jsonl"]


def test_a_read_only_archive_is_listed_all_the_same(folder, cli):
    """An index that cannot be written costs time, and nothing else."""
    os.chmod(folder.path, 0o500)
    try:
        answer = cli("list", "-l", "--json", prepare=cli.AS_ANYBODY)
    finally:
        os.chmod(folder.path, 0o700)
    assert [each["turns"] for each in answer.objects] == [5, 3, 1]
    assert answer.err == ""


def test_a_small_archive_gets_no_index(folder, monkeypatch):
    """To write a file and read it again would cost more than it saves."""
    monkeypatch.undo()
    known(folder, count=True)
    assert not index_of(folder).parent.exists()


def test_the_index_is_written_only_where_much_was_read_anew(folder, archive, monkeypatch):
    """A list that runs every minute must not write a megabyte for one turn that came."""
    known(folder, count=True)
    before = index_of(folder).stat().st_mtime_ns, index_of(folder).stat().st_ino
    known(folder, count=True)
    monkeypatch.setattr(facts_module, "_WORTH_BYTES", 1 << 20)
    archive.conversation("b").record("user", "more")
    known(folder, count=True)
    assert before == (index_of(folder).stat().st_mtime_ns, index_of(folder).stat().st_ino)


def test_what_is_gone_leaves_the_index(folder, log):
    """It may not grow for ever."""
    known(folder)
    log("a").unlink()
    log("b").write_bytes(log("c").read_bytes())
    assert set(known(folder)) == {"b", "c"}
    assert b'"a"' not in index_of(folder).read_bytes()


def test_many_processes_may_list_and_record_at_once(root, archive):
    """Each list is whole and right as of its moment; the index is never half of two."""
    names = [f"trip-{at}" for at in range(20)]
    archive.record_to_many([(name, ("user", "x")) for name in names])
    program = f"""
import random, sys
from convmem import Archive
from convmem.stores import facts
facts._WORTH_BYTES = 0
seed = int(sys.argv[1])
random.seed(seed)
with Archive.open({root!r}, durability="none") as archive:
    for at in range(40):
        archive.conversation(f"trip-{{random.randrange(20)}}").record("user", f"{{seed}} {{at}}")
        rows = archive.overview(count=bool(at % 2))
        assert len(rows) == 20, rows
        if at % 2:
            assert sum(row.turns for row in rows) >= 21 + at
"""
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(seed)], stderr=subprocess.PIPE)
        for seed in range(4)
    ]
    for each in running:
        assert each.wait(60) == 0, each.stderr.read()
        each.stderr.close()
    rows = archive.overview(count=True)
    assert sum(row.turns for row in rows) == 20 + 4 * 40
    for row in rows:
        assert row.turns == len(archive.conversation(row.continuation_id).tail(1000))


def test_what_a_compaction_learnt_can_be_remembered(folder, archive, log, monkeypatch):
    """It has read the log anyway; the next run then knows which logs a policy leaves alone."""
    known(folder)
    archive.conversation("d").record("user", "new")
    with Reader(folder, "d") as reader:
        state = os.fstat(reader.fd)
        learnt = Facts(stamp_of(state), state.st_size)
        learnt.counts, _ = count(reader.fd, state.st_size, known=None, advanced=lambda n: None)
        ends = look(reader.fd, state.st_size)
        learnt.first_ts, learnt.last_ts = ends.first_ts, ends.last_ts
        learnt.last_seq, learnt.title = ends.last_seq, ends.title
    remember(folder, {"d": learnt})
    remember(folder, {})
    opened = Opened(monkeypatch)
    found = known(folder)
    assert opened.names == []
    assert found["d"] == values_of(learnt)
    assert set(found) == set("abcd")


def test_a_look_does_not_forget_what_was_counted_before(archive, folder, monkeypatch):
    """A list between two counts must not make the second one read a large log from its start."""
    monkeypatch.setattr(count_module, "CONTINUE_FROM_BYTES", 0)
    known(folder, count=True)
    archive.conversation("c").record("user", "more")
    known(folder)
    counted = []
    monkeypatch.setattr(
        facts_module,
        "count_log",
        lambda *given, **more: counted.append(more["known"]) or count(*given, **more),
    )
    assert known(folder, count=True)["c"][-1][0] == 6
    assert [each.turns for each in counted] == [5]


# --- going on with a count ----------------------------------------------------------------------


def test_a_log_that_only_grew_is_counted_from_where_the_last_count_ended(archive, folder, log):
    """A gigabyte that gained a turn costs the turn."""
    chat = archive.conversation("large")
    chat.record_many(
        [
            (
                "user",
                "x" * 1000,
            )
            for _ in range(300)
        ]
    )
    before = known(folder, count=True)["large"]
    place = before[-1][-1]
    assert place[1] == log("large").stat().st_size
    chat.record("assistant", "and one more")
    told = []

    class Watching(Observer):
        def advanced(self, task, amount):
            told.append(amount)

    after = known(folder, count=True, names=["large"], observer=Watching())["large"]
    assert after[-1][0] == 301
    assert sum(told) < 20_000
    shutil.rmtree(index_of(folder).parent)
    assert known(folder, count=True)["large"] == after


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[: len(data) // 2].rpartition(b"\n")[0] + b"\n" + data,
        lambda data: data.replace(b"7", b"8") + data,
        lambda data: data[data.index(b"\n") + 1 :] + data,
        lambda data: b'{"role":"user","content":"%b"}\n' % (b"y" * 2 * len(data)),
    ],
    ids=["more before it", "other bytes", "moved", "something else"],
)
def test_a_log_that_was_made_anew_in_place_is_counted_from_its_start(archive, folder, log, change):
    """The inode is the same and the file longer; what was counted is not there any more."""
    chat = archive.conversation("large")
    chat.record_many([("user", "7" * 1000) for _ in range(300)])
    known(folder, count=True)
    data = change(log("large").read_bytes())
    with log("large").open("r+b") as file:
        file.write(data)
    after = known(folder, count=True)["large"]
    shutil.rmtree(index_of(folder).parent)
    assert known(folder, count=True)["large"] == after


def pieces(rng, number):
    """Return some lines such as logs may hold: good, damaged, by hand, batches whole and torn."""
    from convmem import turns
    from convmem.log import codec

    def line(at, batch=None):
        made = turns.draft(
            rng.choice(["user", "assistant", "tool", 'ré"\\']),
            rng.choice(
                ["hello", "\n  two\nlines", [{"type": "text", "text": "part"}], "", "x" * 5000]
            ),
            ts=rng.choice([1.7e9 + at, 1.6e9 - at * 86400]),
        )
        return codec.turn_line(made, number * 100 + at, made.ts_text, batch)

    kind = rng.randrange(10)
    if kind < 5:
        return b"".join(line(at) for at in range(rng.randrange(1, 4)))
    if kind == 5:
        return BY_HAND if rng.random() < 0.5 else b'{"role":"tool","content":1}\n'
    if kind == 6:
        good = line(0)
        at = rng.randrange(len(good) - 1)
        return good[:at] + b"#" + good[at + 1 :]
    if kind == 7:
        return rng.choice([b"nonsense\n", b"\n", b"[]\n", b"\0" * 40 + b"\n"])
    whole = [line(at, ("0123abcd", at, 3)) for at in range(3)]
    return b"".join(whole if kind == 8 else whole[: rng.randrange(1, 3)])


@pytest.mark.parametrize("seed", range(60))
def test_a_count_that_goes_on_finds_what_a_count_from_the_start_finds(tmp_path, monkeypatch, seed):
    """Whatever stands in the log, and wherever the count before it ended."""
    monkeypatch.setattr(count_module, "CONTINUE_FROM_BYTES", 0)
    monkeypatch.setattr(count_module, "MOST_DAYS", 3)
    rng = random.Random(seed)
    path = tmp_path / "log.jsonl"
    known_counts = None
    data = b""
    for number in range(1, 12):
        data += pieces(rng, number)
        path.write_bytes(data + (BY_HAND[:-1] if rng.random() < 0.2 else b""))
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            known_counts, _ = count(
                file.fileno(), size, known=known_counts, advanced=lambda n: None
            )
            afresh, _ = count(file.fileno(), size, known=None, advanced=lambda n: None)
        assert known_counts.as_list() == afresh.as_list()
        assert (
            Counts.from_list(json.loads(json.dumps(afresh.as_list()))).as_list() == afresh.as_list()
        )


@pytest.mark.parametrize("seed", range(60))
def test_facts_are_what_the_readers_say(root, archive, log, seed):
    """The quick look and the count have roads of their own; they must lead to the same place."""
    rng = random.Random(seed)
    chat = archive.conversation("trip")
    chat.record("user", "x")
    data = b"".join(pieces(rng, number) for number in range(rng.randrange(1, 7)))
    if rng.random() < 0.3:
        data += rng.choice([BY_HAND[:-1], b'{"id":"torn', b"\0\0\0"])
    log().write_bytes(data)
    (facts,) = facts_of(
        Folder.open(os.path.dirname(log())), count=True, failed=_fail, observer=Observer()
    ).values()
    described = chat.describe(count=True)
    turns = list(chat.turns(on_damage=lambda damage: None))
    assert facts.counts.turns == described.turns == len(turns)
    assert facts.last_seq == described.last_seq
    assert facts.last_ts == (described.last_ts and format_time(described.last_ts))
    if b"\0" not in data and not _has_torn_batch(data):
        assert facts.first_ts == (described.first_ts and format_time(described.first_ts))
    times = sorted(format_time(turn.ts) for turn in turns if turn.ts)
    assert (facts.counts.oldest, facts.counts.newest) == (
        (times[0], times[-1]) if times else (None, None)
    )
    roles = {role: sum(turn.role == role for turn in turns) for role in {t.role for t in turns}}
    assert facts.counts.roles == roles
    assert sum(turns for turns, _ in facts.counts.days.values()) == len(turns)
    damaged = []
    list(chat.turns(on_damage=damaged.append))
    assert facts.counts.damaged == len(damaged)
    assert facts.counts.damaged_bytes == sum(each.length for each in damaged)


def _has_torn_batch(data):
    return data.count(b'["0123abcd",0,3]') != data.count(b'["0123abcd",2,3]')


def test_the_days_of_a_log_are_bounded(tmp_path):
    """A log over ten years has not three thousand days in the index; and none is lost."""
    from convmem import turns
    from convmem.log import codec

    tally = Tally()
    for day in range(1000):
        made = turns.draft("user", "x", ts=1e9 + day * 86400)
        tally.add(codec.turn_line(made, day + 1, made.ts_text, None)[:-1])
    days = tally.counts().days
    assert len(days) == 401
    assert days[""][0] == 600
    assert sum(turns for turns, _ in days.values()) == 1000


# --- what a list shows --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ([("user", "How do I get to Oslo?")], "How do I get to Oslo?"),
        ([("system", "Be brief."), ("user", "And by train?")], "And by train?"),
        ([("system", "y" * 30_000), ("user", "far down")], "far down"),
        ([("system", "y" * 70_000), ("user", "too far")], "y" * 59 + "…"),
        ([("assistant", "Hello."), ("tool", "x")], "Hello."),
        ([("user", "\n\n  first  line \t of it \nsecond")], "first line of it"),
        ([("user", 'a "quote" and \\ more')], 'a "quote" and \\ more'),
        ([("user", "é" * 61)], "é" * 59 + "…"),
        ([("user", "z" * 10_000)], "z" * 59 + "…"),
        ([("user", [{"type": "text", "text": "in parts"}])], "in parts"),
        ([("user", {"a": 1})], '{"a":1}'),
        ([("user", "")], ""),
        ([("user", "\x1b[31mred\x85line")], "\x1b[31mred line"),
        ([], ""),
    ],
)
def test_the_title_is_how_the_first_user_turn_begins(archive, folder, said, title):
    """People know their conversations by what they asked, not by an id."""
    chat = archive.conversation("trip")
    chat.record("user", "dropped")
    chat.compact(RetentionPolicy(keep_last=0))
    for role, content in said:
        chat.record(role, content)
    row = next(row for row in archive.overview() if row.continuation_id == "trip")
    assert row.title == title
    assert len(row.title) <= 60


def test_a_look_at_a_large_log_reads_a_few_blocks(archive, folder, log, monkeypatch):
    """A list of a terabyte must not read it."""
    chat = archive.conversation("large")
    chat.record("user", "Where to?")
    chat.record_many([("assistant", "x" * 500) for _ in range(2000)])
    read = []
    really = os.pread
    monkeypatch.setattr(
        os, "pread", lambda fd, count, at: read.append(count) or really(fd, count, at)
    )
    row = archive.overview()[0]
    assert (row.title, row.last_seq) == ("Where to?", 2001)
    assert sum(read) <= 8 * 4096


def test_what_cannot_be_read_is_told_and_the_others_are_returned(archive, folder, monkeypatch):
    """A27, O7: an error is an error; it is neither an empty list nor the end of it."""
    real = facts_module._read

    def failing(folder, name, *rest):
        if name == "b":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(folder, name, *rest)

    monkeypatch.setattr(facts_module, "_read", failing)
    told = []
    rows = archive.overview(failed=lambda name, error: told.append((name, error.kind)))
    assert {row.continuation_id for row in rows} == {"a", "c"}
    assert told == [("b", "io")]
    with pytest.raises(ConvmemError):
        archive.overview()


def test_a_plain_log_comes_before_a_compressed_one_of_the_same_name(archive, folder, log):
    """A crash may leave both: the plain one is the truth."""
    expected = archive.overview(count=True)
    (log("a").parent / "a.jsonl.zst").write_bytes(b"left over")
    found = archive.overview(count=True)
    assert [row.as_dict() for row in found] == [row.as_dict() for row in expected]


def test_an_overview_of_nothing_is_empty(root):
    """And makes nothing."""
    with Archive.open(root) as archive:
        assert archive.overview() == []
        assert archive.overview(namespace="other", count=True) == []
    assert not os.path.exists(root)
