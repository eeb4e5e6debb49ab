"""The error boundary: one place where failures become words, JSON and exit codes."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

import convmem
from convmem import errors
from convmem.cli import boundary
from convmem.cli.verbs import TABLE

ROOT = Path(boundary.__file__).parents[2]


@pytest.fixture
def tail(monkeypatch):
    """Put a function in the place of `convmem tail`'s own."""

    def put(function):
        module = types.ModuleType("verb_under_test")
        module.run = function
        monkeypatch.setitem(sys.modules, "verb_under_test", module)
        monkeypatch.setattr(TABLE["tail"], "target", "verb_under_test:run")

    return put


@pytest.fixture
def failing(tail):
    """Make `convmem tail` raise."""

    def put(error):
        def run(context, **values):
            raise error

        tail(run)

    return put


KINDS = [
    (errors.UsageError("m"), "usage", 2),
    (errors.InvalidContinuationId("m"), "invalid_id", 2),
    (errors.InvalidTurn("m"), "invalid_turn", 1),
    (errors.TurnConflict("m", turn_id="t"), "conflict", 1),
    (errors.ConversationNotFound("m"), "not_found", 3),
    (errors.StorageError("m"), "io", 4),
    (errors.StorageDenied("m"), "permission", 4),
    (errors.StorageFull("m"), "full", 4),
    (errors.DurabilityUnknown("m"), "unknown_durability", 4),
    (errors.CorruptLog("m"), "damaged", 5),
    (errors.LockTimeout("m"), "busy", 6),
    (errors.ConvmemError("m"), "error", 1),
]


@pytest.mark.parametrize(("error", "kind", "code"), KINDS, ids=[kind for _, kind, _ in KINDS])
def test_each_kind_of_error_has_its_exit_code_on_both_routes(failing, capsys, error, kind, code):
    """Scripts branch on the code: busy is tried again, damaged is not."""
    failing(error)
    assert boundary.run(["tail", "trip", "-f", "-q"]) == code  # the fast route
    assert boundary.run(["tail", "trip", "-fq"]) == code  # through Typer
    fast, typed, *_ = capsys.readouterr().err.split("convmem: error: ")[1:]
    assert fast == typed
    assert boundary.run(["tail", "trip", "--json"]) == code
    told = json.loads(capsys.readouterr().err)
    assert told["kind"] == kind


def test_every_error_class_has_been_given_an_exit_code():
    """A new error that falls through to 1 should do so on purpose."""
    on_purpose = {"error"}
    found, rest = set(), [errors.ConvmemError]
    while rest:
        cls = rest.pop()
        found.add(cls.kind)
        rest += cls.__subclasses__()
    assert found - on_purpose <= set(boundary.EXIT_CODES)


def test_an_error_is_one_line_and_a_hint_another(failing, capsys):
    """What failed, then what to do: the house form for people."""
    failing(errors.ConversationNotFound("oslo: no such conversation", hint="see: convmem list"))
    assert boundary.run(["tail", "oslo"]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == (
        "convmem: error: oslo: no such conversation\nconvmem: hint: see: convmem list\n"
    )


def test_with_json_an_error_is_one_json_object_on_standard_error(failing, capsys):
    """A program that asked for JSON should not have to parse prose when it fails."""
    failing(errors.LockTimeout("åpen: busy"))
    assert boundary.run(["tail", "oslo", "--json"]) == 6
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == '{"kind": "busy", "message": "åpen: busy", "hint": null}\n'


def test_an_id_cannot_write_to_the_terminal_through_an_error(failing, capsys):
    """Ids come from strangers; an escape sequence in one must stay visible text."""
    failing(errors.ConversationNotFound("\x1b]0;owned\x07\nconvmem: done: no such conversation"))
    boundary.run(["tail", "x"])
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "\x1b" not in told
    assert "\\x1b]0;owned\\x07\\n" in told


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EIO, "io"),
        (errno.EACCES, "permission"),
        (errno.EROFS, "permission"),
        (errno.ENOSPC, "full"),
        (errno.EDQUOT, "full"),
        (errno.EFBIG, "full"),
    ],
)
def test_what_the_system_refused_is_told_with_the_file_and_exit_code_4(
    failing, capsys, number, kind
):
    """No path may be missing from "permission denied", nor what to do; and nothing is promised."""
    failing(OSError(number, os.strerror(number), "/some/where"))
    assert boundary.run(["tail", "x", "--json"]) == 4
    told = json.loads(capsys.readouterr().err)
    assert told["kind"] == kind
    assert told["message"].startswith("/some/where: ")
    assert told["hint"]
    assert "as it was" not in told["hint"]


def test_a_bug_shows_its_traceback_and_says_that_it_is_one(failing, capsys):
    """A user must see at once whether it was them or us, and what to send us."""
    failing(ZeroDivisionError("oops"))
    assert boundary.run(["tail", "x"]) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "this is a bug in convmem: ZeroDivisionError: oops" in told
    assert boundary.run(["tail", "x", "--json"]) == 1
    told = json.loads(capsys.readouterr().err)
    assert told["kind"] == "bug"
    assert "Traceback" in told["traceback"]


def test_an_interrupt_ends_quietly_with_130(failing, capsys):
    """Ctrl-C is how `tail -f` ends every day."""
    failing(KeyboardInterrupt())
    assert boundary.run(["tail", "x"]) == 130
    assert boundary.run(["tail", "x", "-fq"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (7, 7)])
def test_what_a_verb_returns_is_the_exit_code(tail, returned, code):
    """ "Done in part" is no exception; the verb says so itself."""
    tail(lambda context, **values: returned)
    assert boundary.run(["tail", "x"]) == code
    assert boundary.run(["tail", "x", "-fq"]) == code


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["tail", "x", "--bogus"], "no such option: --bogus", "see convmem tail --help"),
        (["tail"], "missing argument 'ID'", "see convmem tail --help"),
        (["tail", "x", "-n"], "option '-n' requires an argument", "see convmem tail --help"),
        (["-A", "/a"], "missing command", "see convmem --help"),
        (
            ["record", "x", "--sync", "maybe"],
            "'maybe' is no choice for --sync: take always, interval or none",
            "see convmem record --help",
        ),
    ],
)
def test_wrong_usage_is_exit_code_2_and_points_to_the_help(capsys, words, message, hint):
    """The next step stands there, so nobody has to guess it."""
    assert boundary.run(words) == 2
    assert capsys.readouterr().err == f"convmem: error: {message}\nconvmem: hint: {hint}\n"


def test_wrong_usage_is_json_too_where_json_was_asked_for(capsys):
    """Also when the very flags were wrong and nothing could be parsed."""
    assert boundary.run(["tail", "x", "--bogus", "--json"]) == 2
    assert json.loads(capsys.readouterr().err) == {
        "kind": "usage",
        "message": "no such option: --bogus",
        "hint": "see convmem tail --help",
    }


def test_a_mistyped_verb_is_answered_with_the_right_one(capsys):
    """Fingers slip."""
    assert boundary.run(["recrod", "x", "y"]) == 2
    assert "'recrod'. Did you mean 'record'?" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["tail", "--help"], ["tail", "x", "-h"]])
def test_help_is_data_and_exits_0(capsys, words):
    """`convmem --help | less` must show something."""
    assert boundary.run(words) == 0
    told = capsys.readouterr()
    assert told.out.startswith("Usage: convmem ")
    assert "Examples:" in told.out
    assert told.err == ""


def test_help_of_a_verb_is_the_same_by_whatever_way_it_is_asked_for(capsys):
    """There is a short cut for the usual way."""
    boundary.run(["tail", "--help"])
    boundary.run(["-A", "x", "tail", "--help"])
    short, long = capsys.readouterr().out.split("Usage: ")[1:]
    assert short == long


def test_no_words_at_all_is_wrong_usage_answered_with_help(capsys):
    """A script whose variable was empty must not look successful, nor feed help to a pipe."""
    assert boundary.run([]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("Usage: convmem ")
    assert "compact" in told.err


@pytest.mark.parametrize("words", [["--version"], ["-A", "x", "--version"]])
def test_version(monkeypatch, capsys, words):
    """The first thing a bug report asks for."""
    monkeypatch.setattr(convmem, "__version__", "1.2.3", raising=False)
    assert boundary.run(words) == 0
    assert capsys.readouterr().out == "convmem 1.2.3\n"


# --- completion ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("convmem re", ["record", "repair"]),
        ("convmem tail --cur", ["--cursor-file"]),
        ("convmem record x --sync n", ["none"]),
        ("convmem -A /a tail tr", ["trip-1", "trip-2"]),
        ("convmem compact trip-1 tr", ["trip-1", "trip-2"]),
    ],
)
def test_the_shell_completes_verbs_options_choices_and_ids(monkeypatch, capsys, line, found):
    """TAB is how people find what there is."""
    listing = types.ModuleType("convmem.cli.listing")
    listing.complete_ids = lambda incomplete: ["other", "trip-1", "trip-2"]
    monkeypatch.setitem(sys.modules, "convmem.cli.listing", listing)
    monkeypatch.setenv("_CONVMEM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    assert boundary.run([]) == 0
    assert capsys.readouterr().out.split() == found


@pytest.mark.parametrize(
    ("line", "archive"),
    [
        ("convmem tail tr", "/env"),
        ("convmem -A /before tail tr", "/before"),
        ("convmem -A /before tail -A /after tr", "/after"),
    ],
)
def test_ids_are_completed_from_the_archive_on_the_line(monkeypatch, capsys, line, archive):
    """Offering the conversations of another archive is worse than offering none."""
    listing = types.ModuleType("convmem.cli.listing")
    listing.complete_ids = lambda incomplete: ["tr:" + os.environ["CONVMEM_ARCHIVE"]]
    monkeypatch.setitem(sys.modules, "convmem.cli.listing", listing)
    monkeypatch.setenv("CONVMEM_ARCHIVE", "/env")
    monkeypatch.setenv("_CONVMEM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    assert boundary.run([]) == 0
    assert capsys.readouterr().out.split() == [f"tr:{archive}"]


def test_a_completer_that_fails_offers_nothing_and_stays_silent(monkeypatch, capsys):
    """A traceback in the middle of a line being typed helps nobody."""
    listing = types.ModuleType("convmem.cli.listing")
    monkeypatch.setitem(sys.modules, "convmem.cli.listing", listing)
    monkeypatch.setenv("_CONVMEM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "convmem tail tr")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert boundary.run([]) == 0
    assert capsys.readouterr().out.split() == []


# --- real processes: streams --------------------------------------------------------------------


@pytest.fixture
def program(tmp_path):
    """A `convmem` of which `tail` does what the test says; returns its command and environment."""

    def make(body):
        (tmp_path / "verb_under_test.py").write_text(
            f"import os, sys\ndef run(context, **v):\n{body}\n"
        )
        (tmp_path / "program.py").write_text(
            "from convmem.cli.verbs import TABLE\n"
            "TABLE['tail'].target = 'verb_under_test:run'\n"
            "from convmem.cli import main\n"
            "main()\n"
        )
        paths = os.pathsep.join([str(ROOT), str(tmp_path)])
        environment = {**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": ""}
        return [sys.executable, str(tmp_path / "program.py")], environment

    return make


ROUTES = [["tail", "x"], ["tail", "x", "-fq"]]
MUCH = "    for number in range(200_000):\n        print('turn', number)"
LITTLE = "    print('turn')"


@pytest.mark.parametrize("words", ROUTES, ids=["fast", "typer"])
@pytest.mark.parametrize("body", [MUCH, LITTLE], ids=["while printing", "at the last flush"])
def test_a_reader_that_went_away_is_no_failure(program, words, body):
    """`convmem show x | head` is how people look; it must end without noise, and without fail."""
    command, environment = program(body)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*command, *words], env=environment, stdout=writing, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("words", [*ROUTES, ["--help"]], ids=["fast", "typer", "help"])
def test_output_that_does_not_fit_is_a_failure_told_once(program, words):
    """`convmem show x > file` on a full disk must not look like a whole copy."""
    command, environment = program(LITTLE)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*command, *words], env=environment, stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 4
    assert done.stderr.startswith(b"convmem: error: cannot write to standard output: no space left")
    assert done.stderr.count(b"convmem: error") == 1


@pytest.mark.parametrize("words", ROUTES, ids=["fast", "typer"])
def test_ctrl_c_in_a_real_process_is_130_and_silent_and_keeps_what_was_printed(program, words):
    """`tail -f` is ended so every day; a traceback there looks like damage."""
    command, environment = program(
        "    import time\n"
        "    print('turn')\n"
        "    print('ready', file=sys.stderr, flush=True)\n"
        "    time.sleep(60)"
    )
    process = subprocess.Popen(
        [*command, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"turn\n", b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ROUTES, ids=["fast", "typer"])
def test_closed_streams_are_no_crash_and_no_way_into_a_file(program, tmp_path, words, closed):
    """Daemons start programs so; a message on descriptor 2 must not land in a conversation."""
    command, environment = program(
        f"    fd = os.open({str(tmp_path / 'log')!r}, os.O_CREAT | os.O_WRONLY)\n"
        "    print('data')\n"
        "    print('message', file=sys.stderr)\n"
        "    try:\n"
        "        sys.stdin.read()\n"
        "    except OSError as error:\n"  # closed: that is no empty text
        "        assert error.errno == 9\n"
        "    return 0 if fd > 2 else 99"
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command, *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log").read_bytes() == b""


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}]
)
def test_text_is_utf_8_whatever_the_locale(program, locale):
    """cron has no locale; what people said must come out all the same."""
    command, environment = program(
        "    print('blåbær \\U0001f600 \\udcff')\n"
        "    from convmem.errors import ConvmemError\n"
        "    raise ConvmemError('blåbær')"
    )
    environment.pop("LC_ALL", None)
    done = subprocess.run(
        [*command, "tail", "x"],
        env={**environment, "PYTHONUTF8": "0", **locale},
        capture_output=True,
        timeout=60,
    )
    assert done.stdout == "blåbær \U0001f600 ".encode() + b"\xff\n"
    assert done.stderr == "convmem: error: blåbær\n".encode()
