"""What people see at a terminal: Markdown, the pager, narrow windows, hostile text, plain text."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from convmem.cli.output import human, markdown, pager, parts, turns
from convmem.cli.output.layout import chop, cut, fold, width_of
from convmem.cli.output.markdown import MarkdownRenderer
from convmem.cli.output.messages import Messages
from convmem.cli.output.safe import encoded, safe, safe_line, safe_name
from convmem.cli.output.terminal import StandardOutput, Terminal
from convmem.log.read import StoredTurn
from convmem.turns import Turn

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
IN_COLOUR = {"TERM": "xterm"}


def bare(text):
    """Return *text* without colours."""
    return COLOUR.sub("", text)


class Paper(io.StringIO):
    """A sink that keeps what was written."""

    def lines(self):
        """Return what was written, line by line, without colours."""
        return bare(self.getvalue()).splitlines()


def shown(*made, columns=80, env=None, render=True):
    """Return the lines that people see of turns."""
    paper = Paper()
    terminal = Terminal({**IN_COLOUR, "COLUMNS": str(columns), **(env or {})})
    writer = turns.TurnWriter(paper, terminal, MarkdownRenderer(terminal) if render else None)
    for each in made:
        line = json.dumps({"role": each.role, "content": each.content}).encode()
        writer.write(StoredTurn(line, 0, each))
    return paper


def laid_out(text, width=80, env=IN_COLOUR):
    """Return the lines of Markdown, without colours."""
    lines = MarkdownRenderer(Terminal(env))(text, width)
    return None if lines is None else [bare(line) for line in lines]


# --- Markdown ---------------------------------------------------------------------------------


def test_markdown_is_laid_out_and_nothing_of_it_is_lost():
    """Models answer in Markdown; at a terminal its marks are noise."""
    text = """\
# A title

Some **bold**, *leaning*, ~~gone~~ and `code`, [a link](https://x.example/é "its title").
The next line
    keeps its indent.

3. three
7. seven
   ```python title="x.py"
   def f(x):
   \treturn x
   ```

- one
  - two

> said
> twice

| name | count |
|------|------:|
| oslo |    12 |

---
![a picture](pic.png) <https://auto.example>
"""
    assert laid_out(text) == [
        "A title",
        "",
        'Some bold, leaning, gone and code, a link (https://x.example/é "its title").',
        "The next line",
        "    keeps its indent.",
        "",
        "3. three",
        "7. seven",
        '   python title="x.py"',
        "     def f(x):",
        "         return x",
        "",
        "• one",
        "  • two",
        "",
        "▌ said",
        "▌ twice",
        "",
        "name   count",
        "────────────",
        "oslo      12",
        "",
        "─" * 80,
        "",
        "![a picture](pic.png) https://auto.example",
    ]


def test_what_markdown_would_hide_is_shown():
    """Raw HTML, comments and link definitions are content; a reader must not be kept from it."""
    for text in (
        "<div>inside</div> and <b>bold</b>",
        "<!-- a comment -->",
        '[ref]: https://hidden.example "and a title"',
        "[x]: y (also)\n\n[a][x]",
        "```sh and words behind it\nls\n```",
        "[red]x[/red] [/] [/nothing] [link=http://x]y[/link] **b**",
        "[x](javascript:alert(1)) **b**",
        "&amp; &#x41; **b**",
        "```python\nnever closed",
    ):
        assert laid_out(text) is not None
        told = "".join(laid_out(text)).replace(" ", "")
        assert told == re.sub(r"[*\s]|```", "", text), text


@pytest.mark.parametrize("width", [80, 20, 8, 1])
@pytest.mark.parametrize(
    "text",
    [
        "\x1b[2J **b** \x1b]0;owned\x07 \x1b]52;c;aGk=\x07 \x1b]8;;http://x\x1b\\l \x9b31m \x00",
        "# \u202eover\u2066 `\u2028` \u2029 \U000e0041",
        "- a\rb\b\b\b\n- \x0b\x0c\x85",
        "[a](http://x/&#x202e;&#13;y) **b** &#27; &#x1b;[31m",
        "```&#x202e;&#13; x\ncode\n```",
        "![\x1b[31m](\x1b[2J) [\x07](\x07 '\x07')",
        "| \x1b[2J | b |\n|--|--|\n| \u202e | \x9b |",
    ],
)
def test_no_markdown_can_drive_the_terminal(text, width):
    """A stored turn is a stranger's: only letters and colours may reach the screen."""
    for line in [*(MarkdownRenderer(Terminal(IN_COLOUR))(text, width) or []), *fold(safe(text), 8)]:
        assert bare(line).isprintable(), line


HOSTILE = {
    "one long line": "*" + "x" * 60_000,
    "a megabyte in one line": "x" * 1_000_000 + "*",
    "stars": "*a " * 8_000,
    "brackets": "[" * 20_000,
    "quotes in quotes": ">" * 500 + " deep",
    "lists in lists": "\n".join(f"{'  ' * at}- level{at}" for at in range(100)),
    "a table of many columns": "|a" * 200 + "|\n" + "|-" * 200 + "|\n" + "|x" * 200 + "|",
    "fences": "```" * 3_000,
    "half a character": "**\ud800** \udc80",
    "wide": "# 日本語\n\n" + "日本語" * 100 + " **太字** 👨‍👩‍👧 ❤️",
    "right to left": "**שלום** عولם *مرحبا*",
    "no width": "a\u200bb\u0301\u0301\u0301 **c**" + "\u0301" * 5_000,
    "empty lines": "\n" * 5_000 + "# end",
    "tabs": "- a\tb\n\tcode\tx",
}


@pytest.mark.parametrize("columns", [80, 40, 20, 8])
@pytest.mark.parametrize("name", HOSTILE)
def test_every_letter_is_shown_however_odd_the_text(name, columns):
    """A text that cannot be laid out is shown as it is: a turn must never vanish."""
    text = HOSTILE[name]
    told = "".join(shown(Turn("user", text), columns=columns).lines()[1:])
    for letter in {each for each in text if each.isalnum()}:
        assert told.count(letter) >= text.count(letter), letter


def test_a_mistake_in_the_lay_out_hides_no_turn(monkeypatch):
    """Libraries have bugs; what was said is shown all the same."""

    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(markdown._Chat, "__rich_console__", fail)
    assert shown(Turn("user", "**hello**")).lines() == ["user", "  **hello**"]
    monkeypatch.setattr(parts, "_parts", fail)
    assert "**hello**" in shown(Turn("user", "**hello**")).lines()[1]


def test_markdown_that_takes_too_long_is_shown_as_it_is(monkeypatch):
    """There is always one more input that a parser is slow on."""
    monkeypatch.setattr(markdown, "_PATIENCE_SECONDS", 0.05)

    def spin():
        while True:
            pass

    monkeypatch.setattr(markdown, "_readable", lambda tokens: spin())
    assert shown(Turn("user", "**hello**")).lines() == ["user", "  **hello**"]


def test_what_programs_said_is_no_markdown():
    """The output of a tool is full of stars and bars that mean something."""
    said = "# not a title\n* not *a* list"
    for turn in (
        Turn("tool", said),
        Turn("user", [{"type": "tool_result", "tool_use_id": "t", "content": said}]),
    ):
        assert shown(turn).lines()[-2:] == ["  # not a title", "  * not *a* list"]


# --- turns --------------------------------------------------------------------------------------


def test_the_day_is_said_when_it_changes():
    """Turns of one day need their time only; and a turn without a time belongs to any day."""
    made = [
        Turn("user", "a", seq=1, ts=datetime(2026, 11, 20, 12, tzinfo=UTC)),
        Turn("assistant", "b"),
        Turn("user", "c", seq=3, ts=datetime(2026, 11, 20, 12, 0, 5, tzinfo=UTC)),
        Turn("user", "d", seq=4, ts=datetime(2026, 11, 23, 12, tzinfo=UTC)),
    ]
    lines = shown(*made).lines()
    days = [line for line in lines if line.startswith("──")]
    assert [day[:17] for day in days] == ["── Fri 2026-11-20", "── Mon 2026-11-23"]
    assert len([line for line in lines if re.match(r"user  \d\d:00:0[05]  #\d$", line)]) == 3
    assert "assistant" in lines


@pytest.mark.parametrize("columns", [200, 80, 40, 20, 8])
def test_no_line_is_wider_than_the_window(columns):
    """A line that the terminal has to break looks broken."""
    made = [
        Turn("assistant", "words and words " * 9, seq=123_456, ts=datetime(2026, 1, 1, tzinfo=UTC)),
        Turn("a-role-of-twenty-cells-and-more", "日本語のテキスト" * 9),
        Turn("user", [{"type": "tool_use", "name": "run", "input": {"cmd": "x" * 99, "b": [1]}}]),
        Turn("user", "# title\n\n- " + "item " * 20 + "\n\n```py\n" + "code " * 20 + "\n```"),
    ]
    assert max(map(width_of, shown(*made, columns=columns).lines())) <= columns


def test_tool_calls_are_read_at_a_glance_and_what_is_cut_is_said():
    """A call in JSON is for programs; of a long argument the start is enough, if that is said."""
    call = {"name": "write", "input": {"path": "a.py", "text": "line\n" * 100, "n": [1, 2]}}
    lines = shown(Turn("assistant", [{"type": "tool_use", "id": "t", **call}])).lines()
    assert lines[1:4] == ["  → write", "    path: a.py", "    text: line"]
    assert lines[-2].endswith("line … 461 more characters")
    assert lines[-1] == "    n: [1,2]"
    openai = [{"id": "c", "function": {"name": "look", "arguments": '{"city":"Oslo"}'}}]
    turn = Turn("assistant", None, extra={"tool_calls": openai})
    assert shown(turn).lines() == ["assistant", "  → look  city: Oslo"]
    broken = [{"function": {"name": "look", "arguments": '{"city":'}}]
    turn = Turn("assistant", "First.", extra={"tool_calls": broken})
    assert shown(turn).lines()[1:] == ["  First.", "", "  → look", '    {"city":']
    result = {"type": "tool_result", "content": [{"type": "text", "text": "no"}], "is_error": True}
    assert shown(Turn("user", [result])).lines()[1:] == ["  ← failed", "  no"]


def test_pictures_are_named_not_dumped():
    """A picture in base64 is a screen full of nothing; its kind and size say more."""
    data = "A" * 4096
    for part, told in (
        (
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": data},
            },
            "[image: image/png, 3.0 KiB]",
        ),
        (
            {"type": "image_url", "image_url": {"url": f"data:image/gif;base64,{data}"}},
            "[image: image/gif, 3.0 KiB]",
        ),
        (
            {"type": "input_image", "image_url": "https://x.example/p.png"},
            "[image: https://x.example/p.png]",
        ),
        ({"image": {"format": "png", "source": {"bytes": data}}}, "[image: png, 3.0 KiB]"),
        ({"type": "file", "file": {"filename": "a.pdf"}}, "[file: a.pdf]"),
    ):
        assert shown(Turn("user", [part])).lines()[1:] == [f"  {told}"]


def test_json_that_nobody_knows_is_shown_as_json():
    """Nothing is invented and nothing left out silently; and any JSON value is legal content."""
    for content in (3, True, None, {"a": 1}, [1, {"b": []}], [[["x", [["y"]]]]]):
        told = "".join(line.strip() for line in shown(Turn("user", content)).lines()[1:])
        for letter in filter(str.isalnum, json.dumps(content)):
            assert letter in told
    (line,) = shown(Turn("user", {"a": "x" * 5_000}), columns=9_000).lines()[1:]
    assert line.endswith(" more characters") and len(line) < 700
    assert shown(Turn("user", "")).lines() == ["user"]


# --- colours ------------------------------------------------------------------------------------

EVERYTHING = "# t\n\n**b** `c`\n\n```python\ndef f(): pass\n```\n\n| a |\n|---|\n| b |\n"


def test_without_colours_it_is_still_laid_out():
    """NO_COLOR asks for no colour, TERM=dumb has no escapes at all."""
    turn = Turn("assistant", EVERYTHING, seq=1, ts=datetime(2026, 1, 1, tzinfo=UTC))
    coloured = shown(turn)
    without = shown(turn, env={"NO_COLOR": "1"})
    dumb = shown(turn, env={"TERM": "dumb"})
    assert coloured.lines() == without.lines() == dumb.lines()
    codes = {
        code
        for found in re.findall(r"\x1b\[([0-9;]*)m", without.getvalue())
        for code in found.split(";")
    }
    assert codes and codes <= {"0", "1", "2", "3", "4", "9", "49"}, codes
    assert "\x1b" not in dumb.getvalue()
    assert shown(turn, env={"NO_COLOR": ""}).getvalue() == coloured.getvalue()


# --- folding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 3, 7, 20])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "   ",
        "word " * 9,
        "  indented words here",
        "x" * 50,
        "日本語 テキスト" * 5,
        "mixed 日本語and 👩‍👩‍👧 more",
        "a\u0301" * 30,
        "\u0301" * 500,
        "\tb\n\n c ",
        "é" * 7 + " " + "é" * 8,
    ],
)
def test_folding_loses_only_spaces_and_never_the_order(text, width):
    """What was said must be there to the last letter, whatever the window."""
    lines = list(fold(text, width))
    assert max(map(width_of, lines)) <= max(width, 2)
    assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", text)
    one_line = text.replace("\n", "").replace("\t", "")
    assert "".join(chop(one_line, width)) == one_line


def test_words_are_kept_whole_where_they_fit():
    """Text broken within words is hard to read; wide letters have no words to break between."""
    assert list(fold("aaa bbb ccc", 7)) == ["aaa bbb", "ccc"]
    assert list(fold("ééé bbb ccc", 7)) == ["ééé bbb", "ccc"]
    assert list(fold("日本語日本語", 7)) == ["日本語", "日本語"]
    assert list(fold("to 日本語", 5)) == ["to 日", "本語"]
    assert cut("日本語", 5) == "日本…" and cut("abc", 3) == "abc" and cut("abcd", 3) == "ab…"


def test_safe_text_can_be_printed():
    """The last wall before the terminal."""
    every = "".join(map(chr, range(0x3000))) + "\ufeff\U000e0041\ud800"
    assert not set(safe(every)) & set("\x00\x07\x1b\x7f\x9b\u2028\u202e\u2066\U000e0041\r")
    assert safe("a\r\nb\rc") == "a\nb\\x0dc"
    assert safe_name("a\nb\r\n\t") == "a\\x0ab\\x0d\\x0a\\x09"
    assert safe_line(" a\n\tb \x1b ") == "a b \\x1b"
    assert encoded("é\ud800\udc80") == "é".encode() + rb"\ud800\udc80"


def test_the_size_of_the_window_is_asked_for_and_nonsense_is_not_obeyed():
    """COLUMNS is honoured where it is a width."""
    assert Terminal({"COLUMNS": "50", "LINES": "9"}).columns == 50
    assert Terminal({"COLUMNS": "50", "LINES": "9"}).rows == 9
    measured = Terminal({}).columns
    for odd in ("", "0", "-1", "x", "²", "9" * 30, "1e3"):
        assert Terminal({"COLUMNS": odd}).columns == measured


# --- plain --------------------------------------------------------------------------------------


def test_plain_is_text_as_it_stands_in_pipes_too(cli, archive):
    """To be read, grepped and pasted: no marks of ours within what was said."""
    chat = archive.conversation("trip")
    said = "# Title\n\n  *text* \x1b[31m\t" + "long " * 99
    chat.record("user", said, ts="2026-11-21T09:00:00Z")
    chat.record("assistant", [{"type": "tool_use", "name": "f", "input": {"a": "x" * 2_000}}])
    for verb in ("show", "tail"):
        first, second = cli(verb, "trip", "--plain", TZ="UTC").text.split("\n\nassistant  ")
        assert first == f"user  2026-11-21 09:00:00  #1\n{said}"
        assert second.splitlines()[1:] == ['→ f {"a":"' + "x" * 2_000 + '"}']
        at_terminal = cli.on_terminal(verb, "trip", "--plain", on="1", TZ="UTC").shown
        assert said.replace("\x1b", "\\x1b") in at_terminal
        assert "\x1b" not in at_terminal
        cli(verb, "trip", "--plain", "--json", code=2)


def test_plain_follows_at_once(cli, archive):
    """`tail -f --plain | grep` shows each turn as it comes."""
    chat = archive.conversation("trip")
    chat.record("user", "one")
    with cli.running("tail", "trip", "-f", "--plain") as running:
        assert running.lines(2)[1] == b"one"
        chat.record("user", "two")
        assert running.lines(3)[2] == b"two"
        running.interrupt()


# --- the pager ----------------------------------------------------------------------------------


@pytest.fixture
def long_talk(archive):
    """A conversation that no window holds."""
    archive.conversation("trip").record_many([("user", f"said **{at}**") for at in range(300)])
    archive.conversation("short").record("user", "hello")


def script(tmp_path, code):
    """Return the command of a pager made of Python."""
    path = tmp_path / "a pager.py"
    path.write_text(f"import os, sys\n{code}\n")
    return f"'{sys.executable}' '{path}'"


def test_what_is_longer_than_the_window_goes_through_the_pager(cli, long_talk, tmp_path):
    """As with git and man: and what fits is simply printed."""
    seen = tmp_path / "seen"
    taker = script(
        tmp_path,
        f"open({str(seen)!r}, 'wb').write(sys.stdin.buffer.read() + os.environ['LESS'].encode())",
    )
    answer = cli.on_terminal("show", "trip", PAGER=taker, LESS="")
    assert answer.shown == ""
    text = bare(seen.read_text())
    assert [f"said {at}\n" in text for at in range(300)] == [True] * 300
    assert text.endswith("FRX")
    seen.unlink()
    for words in (["show", "short"], ["show", "trip", "--no-pager"], ["show", "trip", "--plain"]):
        assert cli.on_terminal(*words, PAGER=taker).shown
    assert cli.on_terminal("tail", "trip", "-n", "all", PAGER=taker).shown
    assert "said" in cli("show", "trip", PAGER=taker).text
    assert not seen.exists()
    cli.on_terminal("show", "trip", PAGER=taker, LESS="-iM")
    assert seen.read_text().endswith("-R -iM")


@pytest.mark.parametrize(
    "none", [{"PAGER": ""}, {"PAGER": "cat"}, {"CONVMEM_PAGER": "never"}, {"TERM": "dumb"}], ids=str
)
def test_no_pager_can_be_asked_for(cli, long_talk, none):
    """For those who scroll in their terminal."""
    answer = cli.on_terminal("show", "trip", **{"PAGER": "false", **none})
    assert answer.shown.count("said") == 300
    assert "pager" not in answer.shown


def test_no_pager_can_be_set_for_the_archive(cli, long_talk):
    """Like every setting, in convmem.toml too."""
    with open(os.path.join(cli.root, "convmem.toml"), "w") as file:
        file.write('[output]\npager = "never"\n')
    assert cli.on_terminal("show", "trip", PAGER="false").shown.count("said") == 300


def test_the_pager_that_is_named_first_counts():
    """PAGER, else less; none on a terminal that cannot show one."""
    assert pager.command_in({"TERM": "xterm", "PAGER": "c"}) == "c"
    assert pager.command_in({"TERM": "xterm"}) == "less"
    assert pager.command_in({"TERM": "dumb", "PAGER": "c"}) is None
    assert pager.command_in({"PAGER": "c"}) is None


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("/no/such/pager -x", "cannot run the pager: No such file"),
        ("/no/such/pager -x | true; exit 127", "the pager ended with status 127"),
        ("false", "the pager ended with status 1"),
        ("kill -9 $$", "the pager ended with signal 9"),
        ("'unclosed", "cannot run the pager: no closing quotation"),
        (" ' '", "cannot run the pager"),
    ],
)
def test_a_pager_that_fails_loses_nothing(cli, long_talk, command, told):
    """A wrong PAGER in a profile must not make conversations unreadable."""
    answer = cli.on_terminal("show", "trip", on="1", PAGER=command)
    found = [int(each) for each in re.findall(r"said (\d+)", bare(answer.shown))]
    assert found == list(range(300))
    assert f"convmem: warning: {told}" in answer.err
    assert "convmem: hint: use --no-pager" in answer.err


def test_leaving_the_pager_early_is_no_failure(cli, long_talk, tmp_path):
    """q is how people leave: exit 0, and not a word."""
    leaver = script(tmp_path, "os.read(0, 10)")
    answer = cli.on_terminal("show", "trip", on="1", PAGER=leaver)
    assert (answer.shown, answer.err) == ("", "")


@pytest.fixture
def paging(capfd):
    """Call it with a pager's command: a Pager on a window of ten lines."""

    def open_pager(command):
        env = {**os.environ, "TERM": "xterm", "LINES": "10", "COLUMNS": "80"}
        messages = Messages(as_json=False)
        return pager.Pager(command, StandardOutput(), Terminal(env), messages, env)

    return open_pager


def test_reading_stops_when_the_reader_leaves(paging):
    """A conversation of any length is left at once; this one has no end."""
    with paging("head -c 100000 > /dev/null") as sink:
        for at in itertools.count():
            sink.write(f"{at}\n")
    with paging("head -c 1 > /dev/null") as sink:
        sink.write("x\n" * 5_000_000)
        sink.write("x\n")


def test_a_pager_that_dies_late_is_told_of_and_the_rest_is_not_poured_out(paging, capfd):
    """Who has read for an hour does not want it all again."""
    with paging("head -c 400000 > /dev/null; exit 3") as sink:
        for at in itertools.count():
            sink.write(f"{at}\n" * 100)
    found = capfd.readouterr()
    assert found.out == ""
    assert "the pager ended with status 3" in found.err


def test_an_error_on_the_way_is_told_after_what_was_read(paging, capfd):
    """What could be read is read; the error comes behind it."""
    with pytest.raises(LookupError), paging("cat -") as sink:
        sink.write("one screen\n")
        raise LookupError
    assert capfd.readouterr().out == "one screen\n"
    with pytest.raises(LookupError), paging("cat -") as sink:
        sink.write("more\n" * 99)
        raise LookupError
    assert capfd.readouterr().out == "more\n" * 99


def test_ctrl_c_is_for_the_pager(cli, long_talk, tmp_path):
    """In less it stops a search; it must not take the text away below it."""
    stayer = script(
        tmp_path,
        "import signal\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        "print('ready', flush=True)\n"
        "text = b''\n"
        "while not text.endswith(b'299\\x1b[0m\\n'): text += os.read(0, 100)\n"
        "print('all', text.count(b'said'))",
    )
    answer = cli.on_terminal("show", "trip", PAGER=stayer, interrupt_at=b"ready")
    assert answer.shown == "ready\nall 300\n"


# --- the list -----------------------------------------------------------------------------------

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "now"),
        (0.5, "now"),
        (59, "59 s"),
        (60, "1 min"),
        (3_599, "59 min"),
        (86_399, "23 h"),
        (86_400 * 29, "29 d"),
        (86_400 * 364, "11 mo"),
        (86_400 * 800, "2 y"),
        (-7_200, "in 2 h"),
    ],
)
def test_an_age_is_one_number_and_its_unit(seconds, told):
    """How long ago is what people ask of a list."""
    assert human.age(NOW - timedelta(seconds=seconds), NOW) == told


def row(name, **fields):
    """Return a row of the list."""
    made = {
        "namespace": "default",
        "continuation_id": name,
        "last_ts": datetime.now(UTC) - timedelta(hours=2, minutes=5),
        "title": "Where to go in June 日本 and how to get there by train",
        "turns": 1_234,
        "bytes": 2_048,
        "is_compressed": False,
    }
    return SimpleNamespace(**(made | fields))


def listed(capsys, monkeypatch, *rows, columns=100, long=False, spaces=False):
    """Return the lines of the list."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "dumb")
    human.print_list(rows, with_namespace=spaces, with_turns=long)
    return capsys.readouterr().out.splitlines()


UUID = "5ed31c36-bca8-40fd-8d24-f1a1f0af7901"


def test_the_list_shows_age_id_title_turns_and_size(capsys, monkeypatch):
    """One line for each conversation; its title as far as there is room."""
    rows = [row("oslo"), row(UUID, title="", turns=None, last_ts=None, is_compressed=True)]
    lines = listed(capsys, monkeypatch, *rows)
    assert re.split(r"\s{2,}", lines[0]) == ["age", "conversation", "title", "turns", "size"]
    assert re.match(r"2 h  oslo {34}Where to go .*…  1,234  2\.0 KiB$", lines[1])
    assert lines[2].split() == ["-", UUID, "-", "2.0", "KiB", "zst"]
    assert max(map(width_of, lines)) <= 100
    (_, line) = listed(capsys, monkeypatch, row("oslo"), long=True)
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  oslo ", line)
    assert listed(capsys, monkeypatch) == []


@pytest.mark.parametrize("columns", [100, 80, 60, 40, 30, 20])
@pytest.mark.parametrize("long", [False, True])
def test_a_narrow_list_drops_columns_but_never_a_letter_of_an_id(
    capsys, monkeypatch, columns, long
):
    """The size goes first, then the title; an id that was cut would name another conversation."""
    lines = listed(
        capsys, monkeypatch, row(UUID), row("日本" * 30), row("x"), columns=columns, long=long
    )
    assert max(map(width_of, lines)) <= columns
    squeezed = re.sub(r"\s", "", "".join(lines))
    for each in (*UUID, *"日本" * 30):
        assert each in squeezed
    if not long:
        assert "2 h" in lines[1]
    headings = re.split(r"\s{2,}", lines[0].strip())
    assert "size" not in headings or "title" in headings
    if columns <= 40:
        assert "size" not in headings and "title" not in headings
        _, *lines = listed(capsys, monkeypatch, row(UUID), columns=columns, long=long)
        assert "".join(re.sub(r"\s1,234$", "", line).split()[-1] for line in lines) == UUID


def test_odd_names_and_titles_stay_on_their_line(capsys, monkeypatch):
    """Ids and titles are strangers' text too; and spaces in an id are part of it."""
    rows = [row("a\nb\x1b[2J  c", title="t\n\x1b]0;x\x07 t", namespace="n\n")]
    lines = listed(capsys, monkeypatch, *rows, spaces=True)
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert "a\\x0ab\\x1b[2J  c" in lines[1] and "n\\x0a" in lines[1]
