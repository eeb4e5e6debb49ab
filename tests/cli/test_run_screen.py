"""What ``convmem run`` makes of a terminal's bytes: the screen, the typed line, and the turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convmem.cli.running.dialogue import MOST_BEGINNING, Dialogue
from convmem.cli.running.keys import Entered, Mode, Typed
from convmem.cli.running.screen import Screen

# Flags; then the codes of erase, kill, word erase, literal, end, interrupt, quit, suspend.
KEYS = (127, 21, 23, 22, 4, 3, 28, 26)
DRIVER = Mode(1 | 2 | 4 | 8 | 16, *KEYS)
NO_ECHO = Mode(1 | 4 | 8 | 16, *KEYS)
PROGRAM = Mode(4 | 8 | 16, *KEYS)

SHOWN = [
    ("10 %\r50 %\r100 %\r\n", "100 %"),
    ("wait |\b/\b-\b\b\b\b\b\bdone  \r\n", "done"),
    ("\x1b[1;31mred\x1b[0m and \x1b]8;;https://a.b\x1b\\a link\x1b]8;;\x07", "red and a link"),
    ("\x1b]0;a title\x07text\x1bP1$r0m\x1b\\ more\x1b(B", "text more"),
    ("one\r\ntwo\x1b[A\rONE\x1b[B\x1b[1GTWO", "ONE\nTWO"),
    ("a line to be erased\r\x1b[Kanother", "another"),
    ("abcdef\x1b[3D\x1b[Pxy\b\x1b[@", "abcx y"),
    ("x" * 45 + "\r\ny", "x" * 45 + "\ny"),
    ("日本語\b\b本\r\n", "日本本"),
    ("日本\rx", "x 本"),
    ("e\u0301a \N{FAMILY}\u200d!\r\n", "e\u0301a \N{FAMILY}\u200d!"),
    ("a\tb\tc\r\n", "a\tb\tc"),
    ("before\x1b[?1049h\x1b[2Jall over\r\n\x1b[?1049l after", "before after"),
    ("trailing   \r\n  \r\n leading", "trailing\n\n leading"),
    ("".join(f"{n}\r\n" for n in range(50)), "\n".join(map(str, range(50)))),
    ("old\r\n\x1b[H\x1b[2Jnew", "new"),
    ("\x1b[999999999;1Hlow\x1b[0;0f", "\n" * 4 + "low"),
    ("\x1bP" + "picture " * 2000 + "\x1b\\seen", "seen"),
]


@pytest.mark.parametrize("size", [1, 3, 1000], ids=["by letters", "by threes", "at once"])
@pytest.mark.parametrize(("written", "text"), SHOWN)
def test_what_is_left_on_the_screen_is_the_text(written, text, size):
    """Wherever reads cut it."""
    screen = Screen(20, 5)
    for at in range(0, len(written), size):
        screen.feed(written[at : at + size])
    assert screen.said() == text


PIECES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["\r", "\n", "\b", "\t", "\x1b", "\x1b[", "日本", "x" * 30, "\x1b]0;", "\x07"]),
    st.builds(
        "\x1b[{}{}".format,
        st.sampled_from(
            ["", "0", "1", "2", "3", "7", "99999", "2;3", "?1049", "?47", ";", "?", "4"]
        ),
        st.sampled_from("ABCDEFGHJKLMPSXTdefhlmsu@`"),
    ),
    st.sampled_from(["\x1b7", "\x1b8", "\x1bM", "\x1bD", "\x1bE", "\x1bc"]),
)


@given(st.lists(PIECES, max_size=40), st.integers(1, 12), st.integers(1, 6))
def test_nothing_that_a_program_writes_confuses_the_screen(pieces, columns, height):
    """A recorder that stumbles loses the rest of the session."""
    screen = Screen(columns, height)
    for piece in pieces:
        screen.feed(piece)
    row, column = screen.place
    first, last, _ = screen.line()
    assert first <= row <= last
    assert 0 <= column <= max(columns, 2)
    screen.between((0, 0))
    screen.said()
    screen.resize(3, 2)
    assert "\x1b" not in screen.said()


LINES = [
    ("hello\r", "hello"),
    ("helo\x7flo\r", "hello"),
    ("gone\x15here\r", "here"),
    ("two words\x17\x17one\r", "one"),
    ("über-groß \x17klein\r", "über-klein"),
    ("\x16\x03literal\n", "\x03literal"),
    ("日本語\x7f\r", "日本"),
    ("sent off\x04 \x15more\r", "sent offmore"),
    ("\x1b[A\r", "\x1b[A"),
]


@pytest.mark.parametrize(("typed", "text"), LINES)
def test_the_drivers_editing_is_carried_out(typed, text):
    """What the program is given, not what was pressed."""
    told = [each for each in Typed().keys(typed.encode(), DRIVER) if each != "key"]
    assert told == [Entered(text, True, False)]


def test_without_utf_8_a_byte_is_rubbed_out():
    """As the driver does then, whatever that leaves of a letter."""
    mode = Mode(1 | 2 | 4 | 8, *KEYS)
    told = list(Typed().keys("日\x7f\r".encode(), mode))
    assert told[-1] == Entered("�", True, False)


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("hello\r", "hello"),
        ("helo\x7flo\n", "hello"),
        ("gone\x15here\r", "here"),
        ("\x1b[200~one\rtwo\x1b[201~ three\r", "one\ntwo three"),
        ("\x1b[3;4Rhi\x1b[I\x1b[<0;1;2M\x1b]11;rgb:0/0/0\x07\r", "hi"),
        ("\x1b[A\r", None),
        ("ec\t\r", None),
        ("abc\x01\r", None),
    ],
)
def test_of_a_programs_own_editing_only_plain_keys_are_understood(typed, text):
    """A guess at what a Tab made of it would be recorded as said."""
    told = [each for each in Typed().keys(typed.encode(), PROGRAM) if each != "key"]
    assert told == [Entered(text, False, False)]


def test_ctrl_c_gives_the_line_up():
    """What was typed before it was never sent."""
    told = list(Typed().keys(b"abc\x03de\r", DRIVER))
    assert [each for each in told if each != "key"] == ["given up", Entered("de", True, False)]


def test_a_line_of_which_any_key_was_hidden_is_hidden():
    """A program may turn the echo off while somebody types."""
    typed = Typed()
    list(typed.keys(b"sesa", DRIVER))
    assert list(typed.keys(b"me\r", NO_ECHO))[-1] == Entered("sesame", False, True)


def talk(*steps, columns=40):
    """Return the turns of a dialogue: text is printed, (text, mode) typed, None is a pause."""
    turns = []
    dialogue = Dialogue(turns.extend, columns, 10)
    for step in steps:
        if step is None:
            dialogue.quiet()
        elif isinstance(step, tuple):
            dialogue.typed(step[0].encode(), step[1])
        else:
            dialogue.printed(step.encode())
    dialogue.finish()
    return turns


def test_a_prompt_is_kept_once_where_it_may_be_a_question():
    """`> ` says nothing; `Which city?` is what the answer is an answer to."""
    for prompt, kept in (("> ", []), ("Which city? ", [("assistant", "Which city?")])):
        turns = talk(
            *(prompt, ("Oslo\r", DRIVER), "Oslo\r\n"),
            *("Fine.\r\n", prompt, ("Rome\r", DRIVER), "Rome\r\n", "Good.\r\n"),
        )
        assert turns == [
            *kept,
            ("user", "Oslo"),
            ("assistant", "Fine."),
            ("user", "Rome"),
            ("assistant", "Good."),
        ]


@pytest.mark.parametrize("pause", [(), (None,)], ids=["at once", "after a while"])
@pytest.mark.parametrize("prompt", ["$ ", "you> ", "me@host:~$ "])
def test_an_answer_without_a_line_feed_stands_left_of_the_prompt(prompt, pause):
    """`curl` of an API leaves it so: the whole answer, on the line of the next prompt."""
    turns = talk(
        *(prompt, ("ask\r", PROGRAM), "ask\r\n", f"line 1\r\nthe answer is 42{prompt}", *pause),
        *(("\r", PROGRAM), f"\r\n{prompt}", *pause),
        *(("more\r", PROGRAM), f'more\r\n{{"json": 1}}{prompt}', *pause),
        *(("exit\r", PROGRAM), "exit\r\n"),
    )
    assert turns == [
        ("user", "ask"),
        ("assistant", "line 1\nthe answer is 42"),
        ("user", "more"),
        ("assistant", '{"json": 1}'),
        ("user", "exit"),
    ]


def test_a_prompt_that_counts_has_an_answer_left_of_it_too():
    """IPython's."""
    turns = talk(
        *("In [9]: ", ("1\r", PROGRAM), "1\r\nanswer In [10]: ", ("2\r", PROGRAM), "2\r\n"),
    )
    assert turns[1:] == [("user", "1"), ("assistant", "answer"), ("user", "2")]


def test_another_prompt_that_ends_as_the_one_before_is_one_soon():
    """After `ssh`, or `bash`: it is text once at most, and not before every line."""
    turns = talk(
        *("$ ", ("ssh host\r", PROGRAM), "ssh host\r\nme@host$ ", ("one\r", PROGRAM), "one\r\n"),
        *("me@host$ ", ("two\r", PROGRAM), "two\r\nme@host$ ", ("three\r", PROGRAM), "three\r\n"),
    )
    assert [text for role, text in turns if role == "assistant"] == ["me@host"]


def test_a_prompt_that_is_left_by_ctrl_d_is_no_answer():
    """The program ends the line, and says nothing."""
    turns = talk(">>> ", ("1\r", PROGRAM), "1\r\n1\r\n>>> ", ("\x04", PROGRAM), "\r\n")
    assert turns == [("user", "1"), ("assistant", "1")]


@pytest.mark.parametrize("pause", [(), (None,)], ids=["at once", "after a while"])
@pytest.mark.parametrize("question", ["Pass: ", ""])
def test_the_answer_behind_a_silent_question_is_recorded(pause, question):
    """`read -s` ends no line: the next prompt, and what is typed there, stand behind it."""
    turns = talk(
        *("$ ", ("read -s x\r", PROGRAM), f"read -s x\r\n{question}", *pause),
        *(("sesame\r", NO_ECHO), "$ ", *pause, ("echo af", PROGRAM), "echo af"),
        *(("ter\r", PROGRAM), "ter\r\nafter\r\n$ ", *pause, ("echo again\r", PROGRAM)),
        "echo again\r\nagain\r\n",
    )
    assert turns == [
        ("user", "read -s x"),
        *([("assistant", "Pass:")] if question else []),
        ("user", "echo after"),
        ("assistant", "after"),
        ("user", "echo again"),
        ("assistant", "again"),
    ]


@pytest.mark.parametrize("key", ["Z", "\\"])
def test_a_prompt_at_which_the_session_was_stopped_is_no_answer(key):
    """The driver shows ^Z behind it, and the program goes on there."""
    turns = talk(
        *("you> ", ("one\r", DRIVER), "one\r\n1\r\nyou> "),
        *((chr(ord(key) ^ 64), DRIVER), f"^{key}", ("two\r", DRIVER), "two\r\n2\r\n"),
    )
    assert turns == [("user", "one"), ("assistant", "1"), ("user", "two"), ("assistant", "2")]


def test_prompts_that_count_are_one_prompt():
    """IPython's are."""
    turns = talk("In [1]: ", ("1\r", PROGRAM), "1\r\nx\r\nIn [2]: ", ("2\r", PROGRAM), "2\r\n")
    assert turns == [("assistant", "In [1]:"), ("user", "1"), ("assistant", "x"), ("user", "2")]


@pytest.mark.parametrize("shown", ["", "*", "x", "•"])
@pytest.mark.parametrize("secret", ["hunter2", "Password", "42"])
def test_a_password_that_also_stands_elsewhere_was_not_shown(secret, shown):
    """The archive would say which of the words on the screen it is."""
    turns = talk(
        *("hunter2 is bad, so is 42.\r\nName: ", ("Bob\r", DRIVER), "Bob\r\nPassword: "),
        *((key, PROGRAM) if key else shown for letter in secret for key in (letter, "")),
        *(("\r", PROGRAM), "\r\nwelcome\r\n"),
    )
    assert turns == [
        ("assistant", "hunter2 is bad, so is 42.\nName:"),
        ("user", "Bob"),
        ("assistant", f"Password: {shown * len(secret)}".rstrip() + "\nwelcome"),
    ]


def test_what_a_program_hides_behind_stars_is_not_said():
    """Some show one for each key of a password."""
    turns = talk("Key: ", ("sesame\r", PROGRAM), "******\r\n", "thanks\r\n")
    assert turns == [("assistant", "Key: ******\nthanks")]


def test_what_a_program_does_not_show_is_not_said():
    """Whether or not the driver's echo was off: the program may read keys by itself."""
    turns = talk("Key: ", ("sesame\r", PROGRAM), "\r\n", "thanks\r\n")
    assert turns == [("assistant", "Key:\nthanks")]


def test_what_is_printed_while_somebody_types_loses_nothing():
    """A late message, or an answer that still comes."""
    turns = talk("one\r\ntw", ("y", DRIVER), "y", "o\r\n", ("es\r", DRIVER), "es\r\n", "end\r\n")
    assert ("user", "yes") in turns
    assert "".join(text for role, text in turns if role == "assistant").count("end") == 1
    assert "one" in turns[0][1]


def test_a_key_that_is_answered_at_once_is_no_line():
    """`Press y` without Enter: it stands where the program showed it."""
    turns = talk("Go on? ", ("y", PROGRAM), "y\r\n> ", ("text\r", PROGRAM), "text\r\nok\r\n")
    assert turns == [("assistant", "Go on? y"), ("user", "text"), ("assistant", "ok")]


def test_a_prompt_that_comes_after_the_keys_is_no_part_of_them():
    """The person knew what it would ask."""
    turns = talk(("Ann\r", PROGRAM), "Name? Ann\r\nhello\r\n")
    assert turns == [("assistant", "Name?"), ("user", "Ann"), ("assistant", "hello")]


def test_hints_beside_the_input_are_not_part_of_it():
    """Times at the right edge, suggestions of a shell."""
    turns = talk("> ", ("ls\r", PROGRAM), "ls      12:30\r\nfile\r\n")
    assert turns == [("user", "ls"), ("assistant", "file")]


def test_an_answer_is_complete_when_the_prompt_is_there_again():
    """A pause in the middle of it is not its end."""
    turns = []
    dialogue = Dialogue(turns.extend, 40, 10)
    dialogue.printed(b"you> ")
    dialogue.typed(b"hi\r", DRIVER)
    dialogue.printed(b"hi\r\nHel")
    dialogue.quiet()
    assert turns == [("user", "hi")]
    dialogue.printed(b"lo.\r\nyou> ")
    dialogue.quiet()
    assert turns == [("user", "hi"), ("assistant", "Hello.")]
    dialogue.finish()
    assert len(turns) == 2


def test_what_could_not_be_told_is_marked():
    """The session goes on while the recorder is held up; the gap is said."""
    turns = []
    dialogue = Dialogue(turns.extend, 40, 10)
    dialogue.printed(b"begin\r\n")
    dialogue.left_out(1000)
    dialogue.printed(b"rest of a line\r\nend\r\n")
    dialogue.finish()
    assert turns == [("assistant", "begin\n[… 1,016 bytes of output left out …]\nend")]


def test_memory_does_not_grow_with_what_is_printed():
    """And what is kept is the beginning and the end."""
    turns = []
    dialogue = Dialogue(turns.extend, 80, 24)
    line = b"x" * 62 + b"\r\n"
    for _ in range(20):
        dialogue.printed(line * (MOST_BEGINNING // 64))
        assert dialogue._end is None or len(dialogue._end) <= 3 * MOST_BEGINNING
    dialogue.printed(b"end")
    dialogue.finish()
    ((_, text),) = turns
    assert text.endswith("\nend")
    assert len(text) < 3 * MOST_BEGINNING


STEPS = st.one_of(
    PIECES,
    st.none(),
    st.tuples(
        st.one_of(
            st.text(max_size=6),
            st.sampled_from(
                ["\r", "a\r", "\x7f", "\x03", "\x1b[A", "\x1b[200~a\rb\x1b[201~", "\t"]
            ),
        ),
        st.sampled_from([DRIVER, NO_ECHO, PROGRAM]),
    ),
)


@given(st.lists(STEPS, max_size=30), st.integers(2, 20))
def test_nothing_that_happens_at_a_terminal_stops_the_recording(steps, columns):
    """And each turn says something."""
    for role, text in talk(*steps, columns=columns):
        assert role in ("user", "assistant")
        assert text.strip()


@given(st.lists(st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=30)))
def test_a_plain_talk_is_recorded_word_for_word(words):
    """Each line that is sent, and each that is answered."""
    lines = [f"{word}!" for word in words]
    steps = []
    expected = []
    for line in lines:
        steps += ["> ", (f"{line}\r", DRIVER), f"{line}\r\n", f"heard {line}\r\n"]
        expected += [("user", line), ("assistant", f"heard {line}")]
    assert talk(*steps, columns=12) == expected
