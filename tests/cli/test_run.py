"""``convmem run`` between pipes, its exit codes, and what becomes of what cannot be recorded."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convmem import Archive
from convmem.cli import fast, typed
from convmem.cli.running.exchange import Exchange
from convmem.log.files import Folder
from convmem.log.locks import SidecarLock

# Answers each line as it comes.
REPL = """\
import sys
for line in sys.stdin:
    print("heard", line.strip(), flush=True)
"""


def said(root, name="trip"):
    """Return who said what; events are left out."""
    with Archive.open(root) as archive:
        turns = list(archive.conversation(name).turns())
    return [(turn.role, turn.content) for turn in turns if turn.role != "event"]


def events(root, name="trip"):
    """Return what the events tell."""
    with Archive.open(root) as archive:
        return [turn.content for turn in archive.conversation(name).turns(roles=["event"])]


def test_what_goes_in_and_what_comes_out_is_an_exchange(cli, root):
    """The commonest use of all: a question in a pipe, the answer to a file or a pipe."""
    done = cli("run", "trip", "--", "tr", "a-z", "A-Z", stdin=b"And by train?\n")
    assert (done.out, done.err) == (b"AND BY TRAIN?\n", "")
    assert said(root) == [("user", "And by train?"), ("assistant", "AND BY TRAIN?")]
    assert events(root) == [{"command": "tr", "terminal": False}]


@pytest.mark.parametrize("is_file", [True, False], ids=["file", "pipe"])
def test_every_byte_passes_through(cli, root, tmp_path, is_file):
    """A recorder that edits what it records breaks whatever stands behind it."""
    data = random.Random(7).randbytes(3_000_000)
    if is_file:
        (tmp_path / "in").write_bytes(data)
        with open(tmp_path / "in", "rb") as file, open(tmp_path / "out", "wb") as out:
            cli("run", "trip", "--", "cat", stdin=file.fileno(), stdout=out.fileno())
        assert (tmp_path / "out").read_bytes() == data
        assert [role for role, _ in said(root)] == ["user", "assistant"]
    else:
        assert cli("run", "trip", "--", "cat", stdin=data).out == data


def test_text_of_a_file_is_one_turn_exactly(cli, root, tmp_path):
    """However many reads it takes, and wherever these cut a letter in two."""
    text = "".join(f"{n} Zug nach Köln 日本 😀\n" for n in range(20_000))
    (tmp_path / "in").write_text(text, encoding="utf-8")
    with open(tmp_path / "in", "rb") as file:
        cli("run", "trip", "--", "cat", stdin=file.fileno())
    assert said(root) == [("user", text[:-1]), ("assistant", text[:-1])]


def test_a_program_that_answers_each_line_takes_turns(cli, root):
    """Another program talks to it through pipes, and waits for each answer."""
    command = ["run", "trip", "--", sys.executable, "-c", REPL]
    with cli.running(*command, stdin=subprocess.PIPE) as running:
        for word in (b"one", b"two", b"three"):
            running.process.stdin.write(word + b"\n")
            running.process.stdin.flush()
            assert running.lines(1) == [b"heard " + word]
        assert running.end().code == 0
    words = ("one", "two", "three")
    assert said(root) == [
        each for word in words for each in (("user", word), ("assistant", f"heard {word}"))
    ]


def test_a_long_answer_is_cut_in_its_middle_and_says_so(cli, root):
    """Memory is bounded, and a gap that nobody sees would be a lie."""
    program = "import sys; sys.stdout.write('a' * 18_000_000 + 'b' * 1_000_000)"
    assert len(cli("run", "trip", "--", sys.executable, "-c", program).out) == 19_000_000
    ((role, text),) = said(root)
    beginning, mark, end = text.split("\n")
    assert role == "assistant"
    assert set(beginning) == {"a"} and end.endswith("b" * 1_000_000)
    left_out = int(re.search(r"\[… ([\d,]+) bytes left out …\]", mark)[1].replace(",", ""))
    assert left_out + len(beginning) + len(end) == 19_000_000


@pytest.mark.parametrize("size", [4096, 65536])
def test_what_only_streams_through_is_one_turn(cli, root, size):
    """However often the one who writes is slower than the program: `seq | cat` is no talk."""
    text = "".join(f"{n:07}\n" for n in range(20_000))
    with cli.running("run", "trip", "--", "cat", stdin=subprocess.PIPE) as running:
        data = text.encode()
        for at in range(0, len(data), size):
            running.process.stdin.write(data[at : at + size])
            running.process.stdin.flush()
            running.lines(len(data[at : at + size]) // 8)
        assert running.end().code == 0
    assert said(root) == [("user", text[:-1]), ("assistant", text[:-1])]


def _talk(steps):
    """Return the turns of what goes in (<), what comes out (>), and pauses."""
    turns = []
    exchange = Exchange(turns.extend)
    for step in steps:
        if step == "...":
            exchange.quiet()
        elif step[0] == "<":
            exchange.sent(step[1:].encode())
        else:
            exchange.waits()
            exchange.printed(step[1:].encode())
    exchange.finish()
    return turns


@pytest.mark.parametrize(
    ("steps", "turns"),
    [
        (["<one\n", ">1\n", "<two\n", ">2\n"], ["one", "1", "two", "2"]),
        (["<a\nb\n", ">1\n", "<two\n", ">2\n"], ["a\nb", "1", "two", "2"]),
        (["<" + "x" * 9999 + "\n", ">1\n", "<two\n"], ["x" * 9999, "1", "two"]),
        (["<" + "x\n" * 9999, ">1\n", "<two\n", ">2\n"], ["x\n" * 9999 + "two", "1\n2"]),
        (["<on", ">o", "<e\n", ">ne\n", "<two\n", ">2\n"], ["one\ntwo", "one\n2"]),
        (["<one\n", ">1", "<two\n", "> and\n", ">2\n"], ["one", "two", "1 and\n2"]),
        (["<one\n", ">1\nan", "<two\n", ">d\n2\n"], ["one", "1", "two", "and\n2"]),
        (["<one\n", ">1", "...", "<two\n", ">2\n"], ["one", "1", "two", "2"]),
        ([">Name? ", "<Ann\n", ">Hi\n> ", "<x\n", ">y\n"], ["Name? ", "Ann", "Hi\n> ", "x", "y"]),
    ],
)
def test_who_said_what_in_pipes(steps, turns):
    """Questions of a line or a few alternate with answers; no turn ends within a line."""
    assert [text for _, text in _talk(steps)] == turns


@pytest.mark.parametrize("letter", ["\0", "\\", "ж", "x"])
def test_however_long_a_text_is_in_json_it_can_be_recorded(letter):
    """A control character takes six bytes there, and a turn has at most 64 MiB."""
    exchange = Exchange(lambda turns: told.extend(turns))
    told = []
    data = letter.encode()
    for _ in range(40):
        exchange.printed(data * ((1 << 20) // len(data)))
    exchange.finish()
    ((_, text),) = told
    beginning, mark, end = text.split("\n")
    assert len(json.dumps(text, ensure_ascii=False).encode()) < 60 << 20
    assert len(beginning.encode()) >= (8 if letter == "\0" else 16) * (1 << 20) - 1
    assert len(end.encode()) == 1 << 20
    left_out = int(re.search(r"[\d,]+", mark)[0].replace(",", ""))
    assert left_out + len((beginning + end).encode()) == 40 << 20


def test_one_turn_that_cannot_be_stored_keeps_no_other_from_it(cli, root, scratch):
    """And what is put aside can be recorded some day."""
    program = "import sys; sys.stdout.buffer.write(bytes(20_000_000))"
    cli("run", "trip", "--", sys.executable, "-c", program, TMPDIR=str(scratch))
    assert events(root) == [{"command": os.path.basename(sys.executable), "terminal": False}]
    assert [role for role, _ in said(root)] == ["assistant"]
    assert list(scratch.iterdir()) == []


def test_a_flood_is_two_turns_with_their_beginnings_and_ends(cli, root):
    """Also where the recorder cannot keep up, or has not even begun."""
    command = "seq -w 1 5000000 | '{0}' -m convmem run trip -- cat | tail -n 1"
    done = subprocess.run(
        ["bash", "-c", command.format(sys.executable)],
        env=cli.environment,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == b"5000000\n"
    turns = said(root)
    assert [role for role, _ in turns] == ["user", "assistant"]
    for _, text in turns:
        beginning, _, end = re.split(r"\n(\[… [\d,]+ bytes left out …\])\n", text)
        assert beginning.startswith("0000001\n") and len(beginning) == 16 << 20
        assert end.endswith("\n5000000") and len(end) >= (1 << 20) - 8


@pytest.mark.parametrize("code", [0, 1, 5, 42])
def test_the_exit_code_is_the_commands(cli, root, code):
    """Scripts branch on it."""
    cli("run", "trip", "--", "sh", "-c", f"echo x; exit {code}", code=code)
    assert said(root) == [("assistant", "x")]
    ended = [each for each in events(root) if "exit_code" in each]
    assert [each["exit_code"] for each in ended] == ([code] if code else [])


def test_a_signal_that_ends_the_command_is_told_as_shells_do(cli):
    """128 and its number; kill -9 is 137."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        cli("run", "trip", "--", "sh", "-c", f"kill -{int(number)} $$", code=128 + number)


def test_what_cannot_be_run_has_the_codes_of_a_shell_and_leaves_nothing(cli, root, tmp_path):
    """Nothing was said, so there is no conversation."""
    (tmp_path / "no-program").write_text("echo")
    assert "command not found" in cli("run", "trip", "--", "no-such-program", code=127).err
    assert "permission denied" in cli("run", "trip", "--", tmp_path / "no-program", code=126).err
    assert "is a directory" in cli("run", "trip", "--", tmp_path, code=126).err
    (tmp_path / "bad").write_text("#!/no/such/interpreter\n")
    (tmp_path / "bad").chmod(0o755)
    cli("run", "trip", "--", tmp_path / "bad", code=127)
    assert not os.path.exists(root)


def test_a_script_without_a_first_line_is_the_shells(cli, root, tmp_path):
    """As it is for every shell, and for execvp."""
    (tmp_path / "script").write_text('echo "$1"\n')
    (tmp_path / "script").chmod(0o755)
    assert cli("run", "trip", "--", tmp_path / "script", "hello").out == b"hello\n"


def test_wrong_usage_starts_nothing(cli, root, tmp_path):
    """A command is not run by way of a slip."""
    touch = ["touch", str(tmp_path / "touched")]
    for words in (["run"], ["run", "trip"], ["run", "trip", "--"], ["run", "", "--", *touch]):
        cli(*words, code=2)
    cli("run", "trip", "--sync", "sometimes", "--", *touch, code=2)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("words", "command", "quiet"),
    [
        (["trip", "--", "cat", "-q"], ["cat", "-q"], False),
        (["trip", "cat", "-q", "--sync"], ["cat", "-q", "--sync"], False),
        (["-q", "trip", "cat", "--", "-q"], ["cat", "--", "-q"], True),
        (["trip", "-q", "--", "cat", "--", "x"], ["cat", "--", "x"], True),
        (["--", "-trip", "--", "cat"], ["--", "cat"], False),
        (["-A", "/a", "trip", "--sync=none", "cat", "-A", "b"], ["cat", "-A", "b"], False),
    ],
)
def test_the_command_begins_with_its_first_word(words, command, quiet):
    """As with env, nice and strace: no flag of the command is taken for one of ours."""
    _, _, values = fast.parse(["run", *words], {})
    assert (values["command"], values["quiet"]) == (command, quiet)
    assert typed.parse(["run", *words], {}) == fast.parse(["run", *words], {})


def test_an_id_that_begins_with_a_dash_comes_behind_dashes(cli, root):
    """As everywhere else in convmem."""
    cli("run", "--", "-trip", "--", "echo", "x")
    assert said(root, "-trip") == [("assistant", "x")]


def test_a_convmem_within_works_on_the_same_conversation(cli, root):
    """A program may look up what was said before."""
    cli("record", "trip", "And by train?", "-N", "work")
    inner = f'"{sys.executable}" -m convmem tail "$CONVMEM_CONTINUATION_ID" --json'
    done = cli("run", "-N", "work", "trip", "--", "sh", "-c", inner, CONVMEM_ARCHIVE=root)
    assert done.contents == ["And by train?"]


def test_errors_pass_by_and_are_not_recorded(cli, root):
    """Standard error is for the person, and belongs to no turn."""
    done = cli("run", "trip", "--", "sh", "-c", "echo out; echo oops >&2")
    assert (done.out, done.err) == (b"out\n", "oops\n")
    assert said(root) == [("assistant", "out")]


def test_arguments_are_not_recorded(cli, root):
    """They may hold keys; the name of the program is enough to know what it was."""
    cli("run", "trip", "--", "sh", "-c", "echo hi", "--api-key=sesame")
    files = [path for path in Path(root).rglob("*") if path.is_file()]
    assert files
    assert not any(b"sesame" in path.read_bytes() for path in files)


def test_a_reader_that_leaves_ends_the_command_as_it_would_have(cli, root):
    """`| head -1` of an endless program must come to an end."""
    line = f"'{sys.executable}' -m convmem run trip -- yes | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"{line}; echo ${{PIPESTATUS[0]}}"],
        env=cli.environment,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == b"y\n%d\n" % (128 + signal.SIGPIPE)
    assert said(root)[0][1].startswith("y\ny\n")


def test_a_command_that_reads_no_more_gets_no_more(cli, root):
    """The rest of the input is not what was said to it; and nobody waits for it to be read."""
    done = cli("run", "trip", "--", "head", "-n", "1", stdin=b"one\n" + b"more\n" * 1_000_000)
    assert done.out == b"one\n"
    assert said(root)[-1] == ("assistant", "one")


def test_a_terminal_stays_one_where_the_question_comes_from_a_pipe(cli, root):
    """`echo … | convmem run trip -- llm` has its colours, and no turn has them."""
    program = (
        "import sys; sys.stdin.read(); print('\\x1b[1m' + str(sys.stdout.isatty()) + '\\x1b[m')"
    )
    read, write = os.pipe()
    os.write(write, b"tty?\n")
    os.close(write)
    done = cli.on_terminal("run", "trip", "--", sys.executable, "-c", program, on="12", stdin=read)
    os.close(read)
    assert done.shown == "\x1b[1mTrue\x1b[m\n"
    assert said(root) == [("user", "tty?"), ("assistant", "True")]


def test_a_terminal_stays_one_where_the_answer_goes_to_a_pipe(cli, root):
    """A program that sees a pipe there would wait for its end, for ever."""
    program = "import sys; print(sys.stdin.isatty())"
    done = cli.on_terminal("run", "trip", "--", sys.executable, "-c", program, on="02")
    assert done.out == b"True\n"
    assert said(root) == [("assistant", "True")]


def test_closed_streams_are_left_to_the_command(cli, root):
    """Cron and service managers start programs so."""
    line = f"'{sys.executable}' -m convmem run trip -- echo x"
    for closed in ("<&-", "2>&-", "<&- 2>&-"):
        done = subprocess.run(
            ["sh", "-c", f"{line} {closed}"],
            env=cli.environment,
            capture_output=True,
            timeout=60,
            check=True,
        )
        assert done.stdout == b"x\n"
    assert said(root) == [("assistant", "x")] * 3


def test_nothing_that_was_said_makes_no_conversation(cli, root):
    """A command that only does something leaves no empty conversations behind."""
    cli("run", "trip", "--", "true")
    assert not os.path.exists(root)


def test_termination_is_handed_on(cli, root):
    """Who ends convmem means the command."""
    command = "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.01; done"
    with cli.running("run", "trip", "--", "sh", "-c", command) as running:
        assert running.lines(1) == [b"ready"]
        running.process.send_signal(signal.SIGTERM)
        answer = running.end()
    assert (answer.code, answer.out) == (9, b"bye\n")
    assert said(root) == [("assistant", "ready\nbye")]


def test_what_is_left_behind_in_a_pipe_is_waited_for_and_can_be_given_up(cli, root):
    """Without convmem the next program in the pipe would wait for it, too."""
    assert cli("run", "trip", "--", "sh", "-c", "(sleep 0.3; echo late) & echo now").out == (
        b"now\nlate\n"
    )
    with cli.running("run", "trip", "--", "sh", "-c", "sleep 300 & echo $!; echo $$") as running:
        left, shell = running.lines(2)
        deadline = time.monotonic() + 30
        while _is_there(int(shell)):  # until convmem has seen its end
            assert time.monotonic() < deadline
            time.sleep(0.02)
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(60)
        os.kill(int(left), signal.SIGKILL)
        assert running.end().code == 0


def _is_there(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_is_for_the_command(cli, root):
    """It reaches all processes of the job; convmem waits for what the command makes of it."""
    command = "trap 'echo stopped; exit 3' INT; echo ready; while :; do sleep 0.01; done"
    with cli.running("run", "trip", "--", "sh", "-c", command, start_new_session=True) as running:
        assert running.lines(1) == [b"ready"]
        os.killpg(running.process.pid, signal.SIGINT)
        answer = running.end()
    assert (answer.code, answer.out) == (3, b"stopped\n")
    assert said(root) == [("assistant", "ready\nstopped")]


# --- what cannot be recorded -------------------------------------------------------------------


def _aside(told):
    """Return the file that the hint names."""
    return re.search(r" in (\S+);", told)[1]


@pytest.fixture
def scratch(tmp_path):
    """Where temporary files go."""
    made = tmp_path / "scratch"
    made.mkdir()
    return made


def test_a_forbidden_archive_stops_nothing_and_loses_nothing(cli, root, scratch):
    """The answer was paid for. It is in a file, and can be recorded from there."""
    cli("record", "trip", "before")
    os.chmod(os.path.join(root, "default", "trip.jsonl"), 0o400)
    words = ["run", "trip", "--", "tr", "a-z", "A-Z"]
    done = cli(*words, stdin=b"x\n", code=4, prepare=cli.AS_ANYBODY, TMPDIR=str(scratch))
    assert done.out == b"X\n"
    assert "trip: 3 turns not recorded: cannot" in done.err
    os.chmod(os.path.join(root, "default", "trip.jsonl"), 0o600)
    aside = _aside(done.err)
    assert os.stat(aside).st_mode & 0o777 == 0o600
    for _ in range(2):  # once more changes nothing
        with open(aside, "rb") as file:
            cli("record", "trip", "--jsonl", stdin=file.fileno())
    assert said(root) == [("user", "before"), ("user", "x"), ("assistant", "X")]


def test_a_commands_failure_comes_before_that_of_the_recording(cli, root, scratch):
    """Its exit code is what a script asks for; the rest is told."""
    cli("record", "trip", "before")
    os.chmod(os.path.join(root, "default", "trip.jsonl"), 0o400)
    words = ["run", "trip", "--", "sh", "-c", "echo x; exit 5"]
    assert "not recorded" in cli(*words, code=5, prepare=cli.AS_ANYBODY, TMPDIR=str(scratch)).err


def test_a_full_disk_is_told_also_where_there_is_no_room_for_a_file(cli, root, scratch):
    """Nothing can be done then, and nothing is said to have been."""
    words = ["run", "trip", "--", "sh", "-c", "printf %2000s x"]
    done = cli(*words, code=4, prepare=cli.WITH_FULL_DISK, TMPDIR=str(scratch))
    assert len(done.out) == 2000
    assert "2 turns not recorded" in done.err
    assert " in /" not in done.err.partition("hint")[2]
    assert list(scratch.iterdir()) == []


def test_a_lock_that_others_hold_does_not_hold_the_session_up(cli, root, scratch):
    """Whoever holds it may do so for minutes; the person types on."""
    cli("record", "trip", "before")
    folder = Folder.open(os.path.join(root, "default"))
    held = SidecarLock(folder, "trip")
    held.acquire(0)
    cli.environment |= {"CONVMEM_LOCK_TIMEOUT": "0.5s", "TMPDIR": str(scratch)}
    try:
        with cli.running(
            "run", "trip", "--", sys.executable, "-c", REPL, stdin=subprocess.PIPE
        ) as running:
            for word in (b"one", b"two", b"three"):
                running.process.stdin.write(word + b"\n")
                running.process.stdin.flush()
                assert running.lines(1) == [b"heard " + word]
            answer = running.end()
    finally:
        held.release()
        folder.close()
    assert answer.code == 6
    with open(_aside(answer.err), encoding="utf-8") as file:
        kept = [json.loads(line) for line in file]
    assert [turn["role"] for turn in kept] == ["event"] + ["user", "assistant"] * 3


def test_what_waited_for_the_lock_is_recorded_when_it_is_free(cli, root):
    """In order, and with the times at which it was said."""
    cli("record", "trip", "before")
    folder = Folder.open(os.path.join(root, "default"))
    held = SidecarLock(folder, "trip")
    held.acquire(0)
    cli.environment["CONVMEM_LOCK_TIMEOUT"] = "0.2s"
    with cli.running(
        "run", "trip", "--", sys.executable, "-c", REPL, stdin=subprocess.PIPE
    ) as running:
        for word in (b"one", b"two"):
            running.process.stdin.write(word + b"\n")
            running.process.stdin.flush()
            assert running.lines(1) == [b"heard " + word]
        held.release()
        folder.close()
        assert running.end().code == 0
    words = [content for _, content in said(root)]
    assert words == ["before", "one", "heard one", "two", "heard two"]


def test_whoever_does_not_wait_for_the_recording_leaves_it_to_itself(cli, root, scratch):
    """A lock is held for minutes, and each answer in turn would wait for it."""
    cli("record", "trip", "before")
    folder = Folder.open(os.path.join(root, "default"))
    held = SidecarLock(folder, "trip")
    held.acquire(0)
    cli.environment |= {"CONVMEM_LOCK_TIMEOUT": "60s", "TMPDIR": str(scratch)}
    with cli.running(
        "run", "trip", "--", sys.executable, "-c", REPL, stdin=subprocess.PIPE
    ) as running:
        for word in (b"one", b"two", b"three"):
            running.process.stdin.write(word + b"\n")
            running.process.stdin.flush()
            assert running.lines(1) == [b"heard " + word]
        running.process.stdin.close()
        told = b""
        while b"waiting until all is recorded" not in told:
            told += os.read(running.process.stderr.fileno(), 1 << 16)
        running.process.send_signal(signal.SIGINT)
        told += running.process.stderr.read()
        assert running.process.wait(30) == 130
    assert f"what it cannot record will be in {scratch}/convmem-run-".encode() in told
    held.release()
    folder.close()
    with Archive.open(root) as archive:
        followed = archive.conversation("trip").follow(idle_timeout=30)
        turns = [next(followed).content for _ in range(8)]
    assert turns[2:] == ["one", "heard one", "two", "heard two", "three", "heard three"]
    assert list(scratch.iterdir()) == []


def test_a_kill_loses_nothing_that_was_said(cli, root):
    """The process that records outlives the one that was killed."""
    command = "echo half an answer; sleep 60"
    with cli.running("run", "trip", "--", "sh", "-c", command) as running:
        assert running.lines(1) == [b"half an answer"]
        running.process.kill()
        running.process.wait()
    with Archive.open(root) as archive:
        followed = archive.conversation("trip").follow(idle_timeout=20)
        turns = [next(followed) for _ in range(3)]
    assert [turn.content for turn in turns[:2]] == [
        {"command": "sh", "terminal": False},
        "half an answer",
    ]
    assert turns[2].content["exit_code"] is None


@pytest.mark.skipif(shutil.which("pgrep") is None, reason="pgrep is not on this machine")
def test_a_recorder_that_is_killed_is_told_of(cli, root):
    """Silence would be taken for success."""
    command = "echo one; kill -9 $(pgrep -P $PPID | grep -vx $$); echo two"
    done = cli("run", "trip", "--", "sh", "-c", command, code=1)
    assert done.out == b"one\ntwo\n"
    assert "the process that records was killed" in done.err


def test_credentials_are_masked_where_that_is_asked_for(cli, root):
    """And pass through unmasked: the command needs them."""
    pytest.importorskip("kingfisher_sdk", reason="needs kingfisher-secret-scanner")
    token = "ghp_" + "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"
    done = cli("run", "trip", "--redact", "--", "cat", stdin=token.encode())
    assert done.out == token.encode()
    assert all(token not in content for _, content in said(root))
    assert "masked" in done.err


@pytest.mark.skipif(shutil.which("pgrep") is None, reason="pgrep is not on this machine")
def test_a_recorder_that_stands_still_holds_nothing_up_and_the_gap_is_marked(cli, root):
    """The disk may hang for a minute. The session goes on, and memory is bounded."""
    command = (
        "R=$(pgrep -P $PPID | grep -vx $$); kill -STOP $R; echo begin;"
        " yes word | head -c 40000000; echo end; kill -CONT $R"
    )
    assert len(cli("run", "trip", "--", "sh", "-c", command).out) == 40_000_010
    ((_, text),) = said(root)
    beginning, mark, end = re.split(r"\n(\[… [\d,]+ bytes left out …\])\n", text)
    assert beginning.startswith("begin\nword\n") and end.endswith("word\nend")
    left_out = int(re.search(r"[\d,]+", mark)[0].replace(",", ""))
    assert left_out + len(beginning.encode()) + len(end.encode()) + 1 == 40_000_010
