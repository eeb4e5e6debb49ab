"""``compact --summarize-with``: whatever the command does, the turns are there or summed up."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path

import pytest
from inside import Inside

from convmem import Archive

PYTHON = shlex.quote(sys.executable)


@pytest.fixture
def cli(root):
    """In this process: what is tested here is the command that it starts."""
    return Inside(root)


@pytest.fixture
def fill(root):
    """Make conversations of so many turns."""

    def make(*names, turns=10, size=1, namespace="default"):
        with Archive.open(root, durability="none", namespace=namespace) as archive:
            for name in names:
                chat = archive.conversation(name)
                for at in range(turns):
                    chat.record("user", f"{at} " * size, id=f"t{at}")

    return make


def snapshot(root):
    """Everything that is in the archive, but for the locks, which are only ever taken."""
    return {
        str(path): path.read_bytes()
        for path in Path(root).rglob("*")
        if path.is_file() and path.parent.name != ".locks"
    }


def compact(cli, keep, command, *words, name="trip", **options):
    return cli(
        *("compact", name, "--keep-last", str(keep), "--summarize-with", command, *words, "--json"),
        **options,
    )


def summary_in(cli, name="trip"):
    """Return the one summary of a conversation, as ``show`` has it."""
    (found,) = [each for each in cli("show", name, "--json").objects if "summary" in each]
    return found


def python(code):
    return f"{PYTHON} -c {shlex.quote(code)}"


# --- what comes of it ---------------------------------------------------------------------------


def test_one_turn_takes_the_place_of_those_that_went_and_names_them(cli, fill, log):
    """The originals are in the trash, and the summary says which and where."""
    fill("trip")
    lines = log().read_bytes().splitlines(keepends=True)
    (told,) = compact(cli, 3, "wc -l").objects
    summed, *kept = cli("show", "trip", "--json").objects
    assert [each["seq"] for each in kept] == [8, 9, 10]
    assert (summed["seq"], summed["role"], summed["content"]) == (None, "system", "7")
    assert summed["id"] == told["summary"]
    said = summed["summary"]
    assert (said["turns"], said["first_seq"], said["last_seq"]) == (7, 1, 7)
    assert said["trash"] == told["trash"]
    assert (log().parent / ".trash" / told["trash"]).read_bytes() == b"".join(lines[:7])
    assert log().read_bytes().splitlines(keepends=True)[1:] == lines[7:]
    first, last = json.loads(lines[0]), json.loads(lines[6])
    assert (said["first_ts"], said["last_ts"]) == (first["ts"], last["ts"])
    (told,) = cli("trash", "restore", "trip", "--json").objects
    assert (told["restored"], told["summaries"]) == (7, 1)
    assert log().read_bytes() == b"".join(lines)


def test_the_command_gets_what_tail_prints_and_whose_it_is(cli, fill, tmp_path):
    """So that what works in a pipe works here."""
    fill("trip")
    before = cli("tail", "trip", "-n", "all", "--json").out
    seen = tmp_path / "seen"
    compact(cli, 4, f"cat > {seen}; echo sum; echo $CONVMEM_CONTINUATION_ID > {seen}.id")
    assert seen.read_bytes() == b"".join(before.splitlines(keepends=True)[:6])
    assert Path(f"{seen}.id").read_text() == "trip\n"


@pytest.mark.parametrize(
    ("command", "content"),
    [
        ("printf 'a\\n\\nb\\n'", "a\n\nb"),
        ("printf 'a\\n\\n'", "a\n"),
        ("printf '  a'", "  a"),
        ("printf 'a\\000b'", "a\0b"),
        ('printf \'\\342\\202\\254 {"_c":"0"}\'', '€ {"_c":"0"}'),
        ("printf 'a\\rb\\033[2J'", "a\rb\x1b[2J"),
        ("echo a; echo to nobody >&2", "a"),
        ("echo $((1+1)) `echo b` $(echo c) 'd;e' | tr a-z A-Z", "2 B C D;E"),
        ("exec echo replaced", "replaced"),
        ("true | echo first; false || echo second", "first\nsecond"),
    ],
)
def test_what_it_prints_is_the_summary_but_for_the_last_newline(cli, fill, command, content):
    """Shell in, text out: as `$(…)` does it, cut once."""
    fill("trip")
    compact(cli, 3, command)
    assert summary_in(cli)["content"] == content


def test_a_command_that_reads_nothing_or_slowly_or_little_is_fine(cli, fill):
    """`head -1` is a summary too; a closed pipe is no failure."""
    fill("trip", turns=40, size=20_000)
    compact(cli, 30, "echo not read")
    assert summary_in(cli)["content"] == "not read"
    compact(cli, 20, "head -c 10 | wc -c")
    assert summary_in(cli)["content"].strip() == "10"
    compact(cli, 10, "exec <&-; echo closed")
    assert summary_in(cli)["content"] == "closed"
    slow = "import sys,time\nn=0\nfor line in sys.stdin:\n n+=1; time.sleep(.02)\nprint(n)"
    compact(cli, 5, python(slow))
    said = summary_in(cli)
    assert said["content"] == "6"  # five turns and the summary before
    assert said["summary"]["turns"] == 35


def test_what_it_leaves_in_the_background_is_not_waited_for_and_does_not_stay(cli, fill, tmp_path):
    """A child that holds standard output open must not hold the night's run."""
    fill("trip")
    began = time.monotonic()
    compact(cli, 3, f"(sleep 60; echo late) & echo $! > {tmp_path}/pid; echo now")
    assert time.monotonic() - began < 30
    assert summary_in(cli)["content"] == "now"
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while _lives(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- what fails -------------------------------------------------------------------------------

FAILURES = {
    "exit code": ("echo half; echo why not >&2; exit 3", "exit code 3: why not"),
    "not found": ("no-such-command-anywhere", "exit code 127"),
    "not executable": ("/", "exit code 126"),
    "syntax": ("echo 'open", "exit code 2"),
    "killed": ("echo half; kill -9 $$", "signal 9"),
    "terminated": ("kill $$", "signal 15"),
    "nothing": ("true", "printed nothing"),
    "a newline": ("echo", "printed nothing"),
    "spaces": ("printf ' \\t\\n  \\n'", "printed nothing"),
    "no UTF-8": ("printf 'abc\\377'", "no UTF-8 (byte 3)"),
    "half a character": ("printf 'abc\\342\\202'", "no UTF-8"),
    "empty command": ("", "printed nothing"),
    "only to stderr": ("echo words >&2", "printed nothing"),
    "reads and fails": ("cat > /dev/null; exit 1", "exit code 1"),
    "fails at once": ("exit 1", "exit code 1"),
    "hostile words": ("printf 'a\\033[2Jb\\nc' >&2; exit 1", "a\\x1b[2Jb\\nc"),
}


@pytest.mark.parametrize(("command", "said"), FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("size", [1, 20_000], ids=["few", "many"])
def test_whatever_fails_nothing_is_changed_and_it_is_said_why(cli, fill, command, said, size):
    """Fails, hangs or answers nothing: not one byte, and exit 1."""
    fill("trip", size=size)
    before = snapshot(cli.root)
    answer = compact(cli, 3, command, code=1)
    assert said in answer.told[0]["message"]
    assert "nothing was changed" in answer.told[0]["hint"]
    assert (answer.out, snapshot(cli.root)) == (b"", before)
    answer = cli("compact", "trip", "--keep-last", "3", "--summarize-with", command, code=1)
    assert "\x1b" not in answer.err
    assert snapshot(cli.root) == before
    # And the next that works, works.
    compact(cli, 3, "echo sum")
    assert summary_in(cli)["summary"]["turns"] == 7


@pytest.mark.parametrize(
    "command",
    [
        "sleep 60",
        "cat > /dev/null; sleep 60",
        "echo said already; sleep 60",
        "exec >&- 2>&- <&-; sleep 60",
        "trap '' TERM HUP INT; while :; do sleep 1; done",
        "yes",
        "(sleep 60) & wait",
    ],
)
@pytest.mark.parametrize("size", [1, 20_000], ids=["few", "many"])
def test_a_command_that_hangs_is_ended_with_all_that_it_started(cli, fill, command, size):
    """The nightly run must come to its end, and leave no processes behind."""
    fill("trip", size=size)
    before = snapshot(cli.root)
    began = time.monotonic()
    answer = compact(cli, 3, command, code=1, CONVMEM_SUMMARIZE_TIMEOUT="300ms")
    assert time.monotonic() - began < 30
    assert (
        "took longer than 0.3s" in answer.told[0]["message"] or "300" in (answer.told[0]["message"])
    )
    assert "summarize_timeout" in answer.told[0]["hint"]
    assert snapshot(cli.root) == before


def test_more_than_a_turn_may_hold_is_refused_in_bounded_memory(cli, fill):
    """100 MB of words is no summary."""
    fill("trip")
    before = snapshot(cli.root)
    answer = compact(cli, 3, "head -c 100000000 /dev/zero | tr '\\0' x", code=1)
    assert "printed more than" in answer.told[0]["message"]
    assert snapshot(cli.root) == before


def test_a_timeout_that_cannot_be_meant_is_2(cli, fill):
    """Half a setting is no setting where something goes."""
    fill("trip")
    before = snapshot(cli.root)
    compact(cli, 3, "echo sum", code=2, CONVMEM_SUMMARIZE_TIMEOUT="soon")
    assert snapshot(cli.root) == before


@pytest.mark.parametrize(
    "words",
    [
        ["trip", "--keep-last", "3", "--discard"],
        ["--all", "--keep-last", "3", "--discard"],
        ["trip"],
        ["--keep-last", "3"],
    ],
    ids=" ".join,
)
def test_without_a_policy_or_with_discard_it_is_wrong_usage_and_runs_nothing(
    cli, fill, words, tmp_path
):
    """A summary stands for turns that are in the trash."""
    fill("trip")
    before = snapshot(cli.root)
    cli("compact", *words, "--summarize-with", f"touch {tmp_path}/ran; echo sum", code=2)
    assert snapshot(cli.root) == before
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("words", [["trip"], ["--all"]])
def test_a_dry_run_or_nothing_to_drop_does_not_run_it(cli, fill, words, tmp_path):
    """It may cost money."""
    fill("trip")
    before = snapshot(cli.root)
    command = f"touch {tmp_path}/ran; echo sum"
    for more in (["--keep-last", "3", "--dry-run"], ["--keep-last", "10"], ["--keep-last", "99"]):
        (told,) = cli("compact", *words, *more, "--summarize-with", command, "--json").objects
        assert told["summary"] is None
    assert not (tmp_path / "ran").exists()
    assert snapshot(cli.root) == before


def test_a_dry_run_foretells_what_goes_with_a_summary(cli, fill):
    """Earlier summaries that would be taken in are counted before as after."""
    fill("trip")
    compact(cli, 6, "echo first")
    (tried,) = compact(cli, 2, "echo second", "--dry-run").objects
    (done,) = compact(cli, 2, "echo second").objects
    for key in ("kept", "dropped", "reasons", "dropped_bytes", "ranges", "bytes_before"):
        assert tried[key] == done[key], key
    assert done["reasons"] == {"keep_last": 4, "summary": 1}


# --- after several rounds -----------------------------------------------------------------------


def test_earlier_summaries_are_input_to_later_ones_and_the_account_adds_up(cli, fill, tmp_path):
    """Never lost: what stood for turns goes into what stands for more."""
    fill("trip", turns=5)
    told = []
    for nth in range(1, 5):
        fill_more(cli, 5 * nth, 5 * nth + 5)
        seen = tmp_path / f"seen{nth}"
        (done,) = compact(cli, 5, f"cat > {seen}; echo sum {nth}").objects
        told.append(done)
        given = [json.loads(line) for line in seen.read_text().splitlines()]
        assert len(given) == done["dropped"] == (5 if nth == 1 else 6)
        if nth > 1:
            assert given[0]["content"] == f"sum {nth - 1}"
            assert given[0]["summary"]["trash"] == told[-2]["trash"]
        said = summary_in(cli)
        assert said["content"] == f"sum {nth}"
        assert (said["summary"]["turns"], said["summary"]["first_seq"]) == (5 * nth, 1)
        assert said["summary"]["last_seq"] == 5 * nth
        assert said["summary"]["trash"] == done["trash"]
    shown = cli("show", "trip", "--json").objects
    assert [each["seq"] for each in shown] == [None, 21, 22, 23, 24, 25]
    (back,) = cli("trash", "restore", "trip", "--json").objects
    assert (back["restored"], back["summaries"]) == (20, 4)
    assert [each["seq"] for each in cli("show", "trip", "--json").objects] == list(range(1, 26))
    # The audit log keeps what the summaries said.
    noted = audit(cli.root)
    assert noted[-1]["event"] == "restore"
    assert {each["content"] for each in noted[-1]["summaries"]} == {
        f"sum {nth}" for nth in range(1, 5)
    }


def audit(root):
    return [
        json.loads(line)
        for path in sorted(Path(root, "default", ".audit").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def fill_more(cli, start, stop):
    with Archive.open(cli.root, durability="none") as archive:
        for at in range(start, stop):
            archive.conversation("trip").record("user", f"{at}", id=f"t{at}")


def test_a_plain_compaction_never_drops_a_summary(cli, fill):
    """Nothing else says what it says."""
    fill("trip")
    compact(cli, 5, "echo sum")
    for words in (
        ["--keep-last", "3"],
        ["--max-age", "0s"],
        ["--max-bytes", "1"],
        ["--keep-last", "0"],
        ["--keep-last", "0", "--max-age", "0s", "--max-bytes", "0"],
        ["--keep-last", "0", "--discard"],
    ):
        cli("compact", "trip", *words)
        assert summary_in(cli)["content"] == "sum"
    cli("record", "trip", "more")
    (told,) = compact(cli, 0, "echo new").objects
    assert (told["dropped"], told["kept"]) == (2, 0)
    said = summary_in(cli)
    # The five that plain compactions took are not what a summary speaks of.
    assert (said["summary"]["turns"], said["summary"]["first_seq"]) == (6, 1)
    assert said["summary"]["last_seq"] == 11
    assert cli("record", "trip", "and on", "--json").objects[0]["seq"] == 12


def test_part_of_what_it_stands_for_leaves_the_summary_in_its_place(cli, archive):
    """It goes when all comes back: else nothing would say what is still away."""
    chat = archive.conversation("trip")
    for day in range(1, 9):
        chat.record("user", day, ts=f"2026-01-0{day}T00:00:00Z")
    compact(cli, 2, "echo sum")
    for since, shown in (
        ("2099-01-01", ["sum", 7, 8]),
        ("2026-01-05", ["sum", 5, 6, 7, 8]),
    ):
        cli("trash", "restore", "trip", "--since", since)
        found = cli("show", "trip", "--json").contents
        assert "sum" in found
        assert [each for each in found if each != "sum"] == shown[1:]
    cli("trash", "restore", "trip")
    assert cli("show", "trip", "--json").contents == list(range(1, 9))


def test_deleted_and_restored_with_its_summary_it_is_as_it_was(cli, fill, log):
    """A deletion takes a log as it is, and so it comes back."""
    fill("trip")
    compact(cli, 4, "echo sum", CONVMEM_NOW="2026-01-01")
    before = log().read_bytes()
    cli("delete", "trip", CONVMEM_NOW="2026-01-02")
    cli("trash", "restore", "trip", "--removed-since", "2026-01-02")
    assert log().read_bytes() == before
    cli("delete", "trip", CONVMEM_NOW="2026-01-03")
    cli("trash", "restore", "trip")
    assert [each["seq"] for each in cli("show", "trip", "--json").objects] == list(range(1, 11))


# --- how others see it --------------------------------------------------------------------------


def test_tail_show_context_follow_and_verify_take_it_for_a_turn(cli, fill, archive):
    """A reader need not know what a summary is."""
    fill("trip", turns=6)
    chat = archive.conversation("trip")
    cursor = str(chat.cursor())
    following = chat.follow(idle_timeout=0.05)
    first = [turn.seq for turn in following]
    compact(cli, 2, "echo 'they talked'")
    chat.record("user", "afterwards")
    assert cli("tail", "trip", "-n", "all", "--json").contents[0] == "they talked"
    assert [each["seq"] for each in cli("tail", "trip", "-n", "2", "--json").objects] == [6, 7]
    shown = cli("show", "trip", "--json").objects
    assert [each["seq"] for each in shown] == [None, 5, 6, 7]
    messages = cli("context", "trip", "--max-tokens", "4000", "--format", "messages").objects[0]
    assert messages[0] == {"role": "system", "content": "they talked"}
    assert len(messages) == 4
    again = chat.follow(after=str(following.cursor), idle_timeout=0.05)
    assert (first, [turn.seq for turn in again]) == ([1, 2, 3, 4, 5, 6], [7])
    assert [turn.seq for turn in chat.follow(after=cursor, idle_timeout=0.05)] == [7]
    assert [turn.seq for turn in chat.turns(after=4)][-3:] == [5, 6, 7]
    assert cli("verify", "trip").err == ""
    assert cli.on_terminal("show", "trip").shown.count("they talked") == 1


def test_a_retry_of_a_turn_that_was_summed_up_is_known(cli, fill):
    """P6: a summary is no reason to store a late retry again."""
    fill("trip")
    compact(cli, 3, "echo sum")
    line = b'{"role":"user","content":"2 ","id":"t2"}'
    (told,) = cli("record", "trip", "--jsonl", "--json", stdin=line).objects
    assert told["seq"] == 3
    assert len(cli("show", "trip", "--json").objects) == 4


# --- many ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_one_that_fails_does_not_stop_the_others_7(cli, fill, jobs):
    """A model that refuses one conversation sums the others up."""
    names = [f"trip-{at:02}" for at in range(40 if jobs == "2" else 4)]
    fill(*names)
    bad = names[2]
    command = f'test "$CONVMEM_CONTINUATION_ID" != {bad} && echo "sum of $CONVMEM_CONTINUATION_ID"'
    before = Path(cli.root, "default", f"{bad}.jsonl").read_bytes()
    answer = cli(
        *("compact", "--all", "--keep-last", "2", "--jobs", jobs, "--json"),
        *("--summarize-with", command),
        code=7,
    )
    assert [each["continuation_id"] for each in answer.objects] == names[:2] + names[3:]
    assert [each["continuation_id"] for each in answer.told] == [bad]
    assert Path(cli.root, "default", f"{bad}.jsonl").read_bytes() == before
    for name in names[:2] + names[3:]:
        assert summary_in(cli, name)["content"] == f"sum of {name}"


def test_it_goes_with_the_rules_of_the_archive_too(cli, fill):
    """`compact --all --summarize-with` from cron: the policy is the rule's, kept ones are left."""
    fill("a", "b", "legal-1")
    Path(cli.root, "convmem.toml").write_text(
        '[[keep]]\nid = "legal-*"\n[[retention]]\nid = "a"\nkeep_last = 2\n'
    )
    cli("compact", "--all", "--summarize-with", "echo sum")
    assert summary_in(cli, "a")["summary"]["turns"] == 8
    for name in ("b", "legal-1"):
        assert len(cli("show", name, "--json").objects) == 10


def test_hostile_ids_reach_the_command_only_by_its_environment(cli, fill, tmp_path):
    """An id is a stranger's text: no shell may read it."""
    name = f"$(touch {tmp_path}/owned); `touch {tmp_path}/owned` '\"\n-rf"
    fill(name)
    compact(cli, 2, 'printf %s "$CONVMEM_CONTINUATION_ID"', name=name)
    assert summary_in(cli, name)["content"] == name
    assert os.listdir(tmp_path) == ["archive"]


def test_ctrl_c_while_it_works_changes_nothing_and_ends_it(cli, fill, tmp_path):
    """Whoever loses patience loses nothing else."""
    fill("trip")
    before = snapshot(cli.root)
    command = f"echo $$ > {tmp_path}/pid; sleep 60; echo sum"
    words = ["compact", "trip", "--keep-last", "3", "--summarize-with", command]
    with cli.running(*words) as running:
        deadline = time.monotonic() + 20
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        answer = running.interrupt()
    assert (answer.code, answer.err) == (130, "")
    assert snapshot(cli.root) == before
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while _lives(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)
