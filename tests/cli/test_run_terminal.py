"""``convmem run`` at a terminal: nothing is different for the person, and each line is a turn."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from seat import PATIENCE_SECONDS, Seat

from convmem import Archive

PYTHON = sys.executable

# A chat program: colours, a spinner that is overwritten, a progress bar, a prompt.
CHAT = """\
import sys, time
def put(text):
    sys.stdout.write(text); sys.stdout.flush()
put("\\x1b]0;chat\\x07\\x1b[1;32mHello.\\x1b[0m\\n")
while True:
    put("\\x1b[1myou:\\x1b[0m ")
    asked = sys.stdin.readline()
    if not asked.strip():
        break
    for sign in "|/-":
        put(f"\\r\\x1b[2mthinking {sign}\\x1b[0m"); time.sleep(0.01)
    put("\\r\\x1b[K\\x1b[36mYou said \\x1b[1m" + asked.strip() + "\\x1b[0m\\x1b[36m.\\x1b[0m\\n")
"""


@pytest.fixture
def seat(cli):
    """Return what seats somebody in front of ``convmem run trip`` with a command."""

    def take(*command, **window):
        words = [PYTHON, "-m", "convmem", "run", "trip", "--", *command]
        return Seat(*words, env=cli.environment, **window)

    cli.environment |= {"PS1": "$ ", "INPUTRC": "/dev/null", "HISTFILE": "", "PROMPT_COMMAND": ""}
    return take


@pytest.fixture
def said(root):
    """Return what tells who said what, without events."""

    def tell(name="trip"):
        with Archive.open(root) as archive:
            if not any(each.continuation_id == name for each in archive.conversations()):
                return []
            turns = list(archive.conversation(name).turns())
        return [(turn.role, turn.content) for turn in turns if turn.role != "event"]

    return tell


BASH = ("bash", "--norc", "--noprofile", "-i")


def test_a_line_is_recorded_as_it_was_after_editing(seat, said):
    """The driver of the terminal edits for programs that do not: rubbed out is not said."""
    with seat("sh", "-c", "echo ready; cat") as person:
        person.say("ready", "hello wrld\x7f\x7f\x7forld\r")
        person.say("\nhello world", "one two\x17three\r")
        person.say("\none three", "nothing\x15all \x16\x17\r")
        person.say("\nall ", "日本語\x7f\r")
        person.say("\n日本", "\x04")
        assert person.end() == 0
    assert said() == [
        ("assistant", "ready"),
        ("user", "hello world"),
        ("assistant", "hello world"),
        ("user", "one three"),
        ("assistant", "one three"),
        ("user", "all \x17"),
        ("assistant", "all"),
        ("user", "日本"),
        ("assistant", "日本"),
    ]


def test_a_shell_with_its_own_editing_is_read_from_the_screen(seat, said):
    """History, arrows and Tab: the keys do not tell what came of them, the screen does."""
    with seat(*BASH) as person:
        person.say("$ ", "echo one\r")
        person.say("$ ", "\x1b[A\r")
        person.say("$ ", "echo tree\x1b[D\x1b[D\x1b[Dh\r")
        person.say("$ ", "ech\t four\r")
        person.say("$ ", "\r")
        person.say("$ ", "exit 5\r")
        assert person.end() == 5
    assert said() == [
        ("user", "echo one"),
        ("assistant", "one"),
        ("user", "echo one"),
        ("assistant", "one"),
        ("user", "echo three"),
        ("assistant", "three"),
        ("user", "echo  four"),
        ("assistant", "four"),
        ("user", "exit 5"),
        ("assistant", "exit"),
    ]


def test_a_line_longer_than_the_window_is_one_line(seat, said):
    """What is typed is folded by the window, what is recorded is not."""
    words = " ".join(f"word{n}" for n in range(30))
    with seat(*BASH, columns=40) as person:
        person.say("$ ", f"echo {words}\x1b[D\x1b[D!\x7f\r")
        person.say("word29", "")
        person.say("$ ", "exit\r")
        assert person.end() == 0
    assert said()[:2] == [("user", f"echo {words}"), ("assistant", words)]


def test_a_python_prompt_is_a_talk(seat, said):
    """Its prompts are in no turn; a question of its own is."""
    with seat(PYTHON, "-q") as person:
        person.say(">>> ", "1+1\r")
        person.say(">>> ", "for n in range(2):\r")
        person.say("... ", "  print(n)\r")
        person.say("... ", "\r")
        person.say(">>> ", "input('Your ' 'name? ')\r")
        person.say("Your name? ", "Ann\r")
        person.say(">>> ", "exit(7)\r")
        assert person.end() == 7
    assert said() == [
        ("user", "1+1"),
        ("assistant", "2"),
        ("user", "for n in range(2):"),
        ("user", "  print(n)"),
        ("assistant", "0\n1"),
        ("user", "input('Your ' 'name? ')"),
        ("assistant", "Your name?"),
        ("user", "Ann"),
        ("assistant", "'Ann'"),
        ("user", "exit(7)"),
    ]


def test_what_was_overwritten_and_how_it_looked_is_not_recorded(seat, said):
    """A spinner would be most of the turn; the person sees it all."""
    with seat(PYTHON, "-c", CHAT) as person:
        person.say("you:\x1b[0m ", "And by train?\r")
        person.say("you:\x1b[0m ", "And by bus?\r")
        person.say("you:\x1b[0m ", "\r")
        assert person.end() == 0
    assert b"thinking |" in person.shown and b"\x1b[36mYou said" in person.shown
    assert said() == [
        ("assistant", "Hello.\nyou:"),
        ("user", "And by train?"),
        ("assistant", "You said And by train?."),
        ("user", "And by bus?"),
        ("assistant", "You said And by bus?."),
    ]


def test_a_password_is_in_no_file(seat, said, root):
    """It was not shown, so it was not said."""
    program = "import getpass; getpass.getpass(); input('Name: '); print('thanks')"
    with seat("sh", "-c", f"{PYTHON} -c {shlex.quote(program)}; exec {shlex.join(BASH)}") as person:
        person.say("Password:", "sesame-1\r")
        person.say("Name: ", "Ann\r")
        person.say("$ ", "read -s -p 'Ag'ain:\\  x\r")  # typed, it does not look like the prompt
        person.say("Again: ", "sesame-2\r")
        person.say("$ ", "stty -echo; echo go on; cat\r")
        person.until("cat\r\n")
        person.say("go on", "sesame-3\r")
        person.say("sesame-3", "\x04")
        person.say("$ ", "exit\r")
        assert person.end() == 0
    assert ("user", "Ann") in said()
    assert not [content for role, content in said() if role == "user" and "sesame" in content]
    everything = b"".join(each.read_bytes() for each in Path(root).rglob("*") if each.is_file())
    assert b"sesame-1" not in everything and b"sesame-2" not in everything


def test_what_was_typed_ahead_is_recorded_once_and_in_order(seat, said):
    """People do not wait for slow programs."""
    program = "echo ready; sleep 0.5; read x; echo got $x; sleep 0.2; read y; echo got $y"
    with seat("sh", "-c", program) as person:
        person.say("ready", "first\rsecond\r")
        person.until("got second")
        assert person.end() == 0
    assert [content for role, content in said() if role == "user"] == ["first", "second"]
    assert "\n".join(content for role, content in said() if role == "assistant") == (
        "ready\ngot first\ngot second"
    )


def test_several_lines_that_were_pasted_are_one_turn(seat, said):
    """The program took them as one, and so did the person mean them."""
    with seat(*BASH) as person:
        person.say("$ ", "\x1b[200~echo one\necho two\x1b[201~")
        person.until("echo two")
        person.type("\r")
        person.until("one\r\ntwo\r\n")
        person.say("$ ", "exit\r")
        assert person.end() == 0
    assert said()[:2] == [("user", "echo one\necho two"), ("assistant", "one\ntwo")]


def test_full_screen_programs_work_and_are_left_out(seat, said):
    """What an editor draws is no text that anybody said."""
    program = "\x1b[?1049h\x1b[2J\x1b[H drawn all over \x1b[?25l"
    show = f"printf '{program}'; read x; printf '\x1b[?1049l'; echo back"
    with seat("sh", "-c", show) as person:
        person.say("drawn all over", "typed there\r")
        person.until("back")
        assert person.end() == 0
    assert said() == [("assistant", "back")]


def test_letters_that_come_in_pieces_are_whole(seat, said):
    """A read ends anywhere."""
    program = (
        "import os, time\nfor byte in 'Zug nach Köln 😀 日本'.encode():\n"
        "    os.write(1, bytes([byte])); time.sleep(0.002)\nprint()"
    )
    with seat(PYTHON, "-c", program) as person:
        assert person.end() == 0
    assert said() == [("assistant", "Zug nach Köln 😀 日本")]


def test_the_answer_is_recorded_once_the_prompt_is_there_again(seat, said, root):
    """Not only when the next question comes: that may be tomorrow."""
    with seat(PYTHON, "-c", CHAT) as person:
        person.say("you:\x1b[0m ", "And by train?\r")
        person.until("you:\x1b[0m ")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while said()[-1:] != [("assistant", "You said And by train?.")]:
            assert time.monotonic() < deadline, said()
            time.sleep(0.05)
        person.type("\r")
        assert person.end() == 0


# --- a terminal stays a terminal ---------------------------------------------------------------


def test_the_command_has_a_terminal_of_the_same_size_and_settings(seat):
    """Also after the window was made larger."""
    with seat(*BASH, columns=91, rows=33) as person:
        person.say("$ ", "stty size; test -t 0 -a -t 1 -a -t 2 && echo all three; tty\r")
        person.until("33 91\r\nall three\r\n/dev/")
        # All of it built in: who is in front of the terminal is told, which a `sleep` would be.
        wait = 'until [ "$told" ]; do read -t 0.05 _; done'
        person.say("$ ", f"trap told=1 WINCH; echo wait''ing; {wait}; stty size\r")
        person.until("waiting")
        person.resize(120, 40)
        person.until("40 120")
        person.say("$ ", "exit\r")
        assert person.end() == 0


def test_ctrl_c_ends_what_runs_and_not_the_session(seat):
    """The key is the program's, as at any terminal."""
    with seat(*BASH) as person:
        person.say("$ ", "sh -c 'echo run\"\"ning; exec sleep 100'\r")
        person.say("running", "\x03")
        person.say("$ ", "echo $?\r")
        person.until("130")
        person.say("$ ", "exit\r")
        person.end()


def test_ctrl_z_and_fg_within_the_session(seat):
    """A shell in it has job control of its own."""
    with seat(*BASH) as person:
        person.say("$ ", "sh -c 'echo run\"\"ning; exec cat'\r")
        person.say("running", "\x1a")
        person.until("Stopped")
        person.say("$ ", "fg\r")
        person.until("cat'\r\n")
        person.type("on we go\r")
        person.until("on we go\r\non we go")
        person.type("\x04")
        person.say("$ ", "exit\r")
        person.end()


def test_ctrl_z_and_fg_of_the_session(cli, seat, said):
    """Who ran it from a shell is back there; and on fg all is as it was."""
    with Seat(*BASH, env=cli.environment) as person:
        person.until("$ ")
        person.type(f"{PYTHON} -m convmem run trip -- sh -c 'echo rea\"\"dy; cat'\r")
        person.say("ready", "one\r")
        person.say("one\r\none\r\n", "\x1a")
        person.until("Stopped")
        person.say("$ ", "echo betw''een\r")
        person.until("between")
        person.say("$ ", "fg\r")
        person.until("\n")
        person.until_raw()
        person.type("two\r")
        person.say("\ntwo", "\x04")
        person.say("$ ", "exit\r")
        person.end()
    assert [content for role, content in said() if role == "user"] == ["one", "two"]


def test_a_session_in_the_background_runs_on_and_comes_to_the_front(cli, seat, said):
    """`&` and `bg` stop nothing, and `fg` brings it to the keys."""
    with Seat(*BASH, env=cli.environment) as person:
        run = f"{PYTHON} -m convmem run trip -- sh -c"
        person.say("$ ", f"{run} 'echo rea''dy; cat; echo ov''er' &\r")
        person.say("ready", "fg\r")
        person.until("cat; echo")
        person.until_raw()
        person.type("one\r")
        person.until("one\r\none\r\n")
        person.type("\x1a")
        person.until("Stopped")
        person.say("$ ", "bg; echo betw''een\r")
        person.until("between")
        person.say("$ ", "fg\r")
        person.until("cat; echo")
        person.until_raw()
        person.type("two\r")
        person.say("\ntwo", "\x04")
        person.until("over")
        person.say("$ ", "stty -a | grep -c ' icanon.* echo '; exit\r")
        person.end()
    assert ("user", "one") in said() and said()[-1] == ("assistant", "two\nover")


def test_a_session_that_ends_in_the_background_ends(cli, seat, said):
    """Nobody looks; and the shell's terminal is left alone."""
    with Seat(*BASH, env=cli.environment) as person:
        person.say(
            "$ ", f"{PYTHON} -m convmem run trip -- sh -c 'echo re''ady' & wait; echo a''ll\r"
        )
        person.until("all")
        person.say("$ ", "exit\r")
        assert person.end() == 0
    assert said() == [("assistant", "ready")]


def test_exit_codes_are_handed_on(seat):
    """Also those of signals."""
    with seat("sh", "-c", "exit 42") as person:
        assert person.end() == 42
    with seat("sh", "-c", "kill -9 $$") as person:
        assert person.end() == 137
    with seat("no-such-program") as person:
        assert person.end() == 127


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whatever_ends_it_the_terminal_is_as_it_was(seat, said, number):
    """And the command is hung up on, as when a window is closed."""
    command = "trap 'echo hung up; exit' HUP; echo ready; while :; do sleep 0.01; done"
    with seat("sh", "-c", command) as person:
        person.until("ready")
        assert person.modes() != person.modes_before
        os.kill(person.process, number)
        person.until("hung up")
        assert person.end() == 128 + number
        assert person.modes() == person.modes_before
    ((role, text),) = said()
    assert role == "assistant"
    assert text.startswith("ready\n") and text.endswith("\nhung up")


def test_a_command_that_does_not_care_for_hang_ups_is_left_behind(seat, said, tmp_path):
    """As nohup has it; who ends convmem does not wait for it."""
    stop = tmp_path / "stop"
    command = (
        f"trap '' HUP; echo ready; while [ ! -e {stop} ]; do sleep 0.02; done; echo x > {stop}"
    )
    with seat("sh", "-c", command) as person:
        person.until("ready")
        os.kill(person.process, signal.SIGTERM)
        assert person.end() == 128 + signal.SIGTERM
    stop.touch()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not stop.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert said() == [("assistant", "ready")]


def test_a_window_that_is_closed_keeps_what_was_said(seat, root):
    """The commonest way to end a session."""
    with seat("sh", "-c", "echo half; cat") as person:
        person.until("half\r\n")
        for descriptor in (person.slave, person.master):
            os.close(descriptor)
        person.slave = person.master = -1
        os.waitpid(person.process, 0)
        person._code = 0
    with Archive.open(root) as archive:
        followed = archive.conversation("trip").follow(idle_timeout=PATIENCE_SECONDS)
        assert [next(followed).content for _ in range(2)][1] == "half"


def test_a_kill_hangs_up_on_the_command_and_keeps_what_it_said(seat, tmp_path, root):
    """Nothing is left running that nobody sees."""
    command = (
        f"trap 'echo x > {tmp_path}/hung-up; exit' HUP; echo half; while :; do sleep 0.01; done"
    )
    with seat("sh", "-c", command) as person:
        person.until("half")
        os.kill(person.process, signal.SIGKILL)
        with Archive.open(root) as archive:
            followed = archive.conversation("trip").follow(idle_timeout=PATIENCE_SECONDS)
            turns = [next(followed) for _ in range(2)]
        assert turns[1].content == "half"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (tmp_path / "hung-up").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_what_was_left_in_the_background_does_not_hold_the_end_up(seat, said):
    """As a shell's window closes, whatever still runs."""
    with seat("sh", "-c", "sleep 300 & echo done") as person:
        person.until("done")
        assert person.end() == 0
    assert said() == [("assistant", "done")]


def test_what_prints_on_in_the_background_does_not_hold_the_end_up(seat):
    """Its terminal is gone with the command."""
    with seat("sh", "-c", "yes & echo done") as person:
        person.until("done")
        assert person.end() == 0


def test_a_window_that_is_slow_gets_everything(seat, said):
    """Somebody holds the window's bar with the mouse, and lets go later."""
    with seat("sh", "-c", "seq 1 30000; echo end") as person:
        person.until("1\r\n")
        time.sleep(3)
        person.until("30000\r\nend\r\n")
        assert person.end() == 0
    assert said()[0][1].endswith("30000\nend")


def test_a_flood_and_the_keys_do_not_block_each_other(seat, said):
    """The program prints without end, while the person types and does not look."""
    with seat("sh", "-c", "trap 'echo; echo over; exit' INT; yes no") as person:
        person.until("no\r\n")
        for _ in range(20):
            person.type("still typing, nobody reads it ")
        person.type("\x03")
        person.until("over")
        person.end()
    assert said()[-1][1].endswith("over")


def test_much_output_is_shown_whole_and_recorded_in_part(seat, said):
    """Nothing is cut for the person."""
    with seat("sh", "-c", "seq 1 400000; echo end") as person:
        assert person.end() == 0
    shown = person.shown.replace(b"\r\n", b"\n").decode()
    assert shown == "".join(f"{n}\n" for n in range(1, 400_001)) + "end\n"
    ((role, text),) = said()
    lines = text.split("\n")
    (at,) = [at for at, line in enumerate(lines) if "left out" in line]
    assert role == "assistant"
    assert lines[: at - 1] == [str(n) for n in range(1, at)]
    assert lines[-3:] == ["399999", "400000", "end"]
    rest = [int(line) for line in lines[at + 1 : -1]]
    assert len(rest) > 100_000
    assert rest == list(range(rest[0], 400_001))


def test_two_sessions_on_one_conversation_lose_nothing(cli, seat, said):
    """Two windows, one conversation."""
    with seat(PYTHON, "-c", CHAT) as one, seat(PYTHON, "-c", CHAT) as other:
        for n in range(5):
            one.say("you:\x1b[0m ", f"one {n}\r")
            other.say("you:\x1b[0m ", f"other {n}\r")
        for person in (one, other):
            person.say("you:\x1b[0m ", "\r")
            assert person.end() == 0
    for who in ("one", "other"):
        assert [text for role, text in said() if role == "user" and text.startswith(who)] == [
            f"{who} {n}" for n in range(5)
        ]
    assert len([text for role, text in said() if text.startswith("You said")]) == 10


def test_messages_come_when_the_terminal_is_as_it_was(cli, seat, root):
    """Lines that run down the window like stairs are read by nobody."""
    cli("record", "trip", "before")
    log = Path(root, "default", "trip.jsonl")
    log.chmod(0o400)
    words = [*cli._command(cli.AS_ANYBODY), "run", "trip", "--", "sh", "-c", "echo said"]
    with Seat(*words, env=cli.environment) as person:
        assert person.end() == 4
    assert person.shown.startswith(b"said\r\nconvmem: error: trip: 2 turns not recorded")
    aside = subprocess.run(
        ["sed", "-n", r"s/.* in \(\S*\); once.*/\1/p"],
        input=person.shown.replace(b"\r\n", b"\n"),
        capture_output=True,
        check=True,
    ).stdout.decode()
    os.unlink(aside.strip())
