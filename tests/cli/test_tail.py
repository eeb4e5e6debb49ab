"""``convmem tail`` and ``convmem show``: what is printed, in which shape, and through what."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time

import pytest

from convmem import Archive, RetentionPolicy

BY_HAND = b'{"role":"user","content":"by hand"}\n'


@pytest.fixture
def twelve(archive):
    """A conversation of twelve turns, a day apart, of three roles in turn."""
    chat = archive.conversation("trip")
    roles = ("user", "assistant", "tool")
    for at in range(12):
        chat.record(roles[at % 3], at + 1, id=f"t{at + 1}", ts=f"2026-11-{at + 1:02}T12:00:00Z")
    return chat


@pytest.fixture
def chat(archive):
    """The conversation that these tests talk to, not there yet."""
    return archive.conversation("trip")


# --- which turns ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], range(3, 13)),
        (["-n", "2"], [11, 12]),
        (["-n2"], [11, 12]),
        (["-n", "0"], []),
        (["-n", "500"], range(1, 13)),
        (["--lines", "all"], range(1, 13)),
        (["-n", "+11"], [11, 12]),
        (["-n", "+0"], range(1, 13)),
        (["-n", "+13"], []),
        (["-r", "tool"], [3, 6, 9, 12]),
        (["-r", "tool", "--role", "user", "-n", "3"], [9, 10, 12]),
        (["-r", "nobody"], []),
        (["-n", "+5", "-r", "assistant"], [5, 8, 11]),
        (["-n", "all", "--since", "2026-11-10T12:00:00Z"], [10, 11, 12]),
        (["-n", "all", "--until", "2026-11-03T12:00:00Z"], [1, 2]),
        (["-n", "2", "--since", "2026-11-02T00:00Z", "--until", "2026-11-09T00:00Z"], [7, 8]),
        (["--since", "2026-12-01T00:00Z"], []),
    ],
)
def test_the_last_turns_that_are_asked_for_oldest_first(cli, twelve, words, found):
    """A10, K22: the numbers mean what tail(1) means by them; 0 is none, not all."""
    answer = cli("tail", "trip", *words)
    assert answer.contents == list(found)
    assert answer.err == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-n", "-3"], "'-3' is not a whole number, 0 or more"),
        (["-n", "+-3"], "'-3' is not a whole number"),
        (["-n", "many"], "'many' is not a whole number"),
        (["-n", ""], "'' is not a whole number"),
        (["--since", "soonish"], "--since"),
        (["--until", "11/12/2026"], "--until"),
    ],
)
def test_wrong_numbers_and_times_are_wrong_usage(cli, twelve, words, said):
    """A10: -3 once meant seven of ten turns; here it means nothing, and says so."""
    answer = cli("tail", "trip", *words, code=2)
    assert said in answer.err
    assert answer.out == b""


def test_ages_are_measured_from_now(cli):
    """`--since 2h` is what people type."""
    cli("record", "trip", "old", "--ts", "3h ago")
    cli("record", "trip", "new")
    assert cli("tail", "trip", "--since", "2h").contents == ["new"]
    assert cli("show", "trip", "--until", "2h ago").contents == ["old"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], range(1, 13)),
        (["-r", "tool", "-r", "user"], [1, 3, 4, 6, 7, 9, 10, 12]),
        (["--since", "2026-11-11T12:00:00Z"], [11, 12]),
        (["--until", "2026-11-02T12:00:00Z", "--json"], [1]),
    ],
)
def test_show_prints_the_whole_conversation(cli, twelve, words, found):
    """It is `tail -n all` under the name that people look for."""
    assert cli("show", "trip", *words).contents == list(found)


@pytest.mark.parametrize("words", [["tail", "-n", "0"], ["tail"], ["tail", "-f"], ["show"]])
def test_a_conversation_that_is_not_there_is_3(cli, words):
    """Not the same as an empty one: a mistyped id must not look like silence."""
    verb, *flags = words
    answer = cli(verb, "nothing", *flags, "--json", code=3)
    assert [each["kind"] for each in answer.told] == ["not_found"]
    cli("tail", "nothing", "--cursor-file", os.path.join(cli.root, "seen"), code=3)
    assert not os.path.exists(cli.root)


def test_a_conversation_whose_turns_were_all_dropped_is_there_and_empty(cli, twelve, tmp_path):
    """Nothing is printed and nothing is wrong: exit 0."""
    twelve.compact(RetentionPolicy(keep_last=0))
    for words in (["tail"], ["show"], ["tail", "-n", "+1"], ["tail", "-n", "all"]):
        answer = cli(words[0], "trip", *words[1:])
        assert (answer.out, answer.err) == (b"", "")
    assert cli("tail", "trip", "--cursor-file", str(tmp_path / "seen")).out == b""


# --- in which shape ---------------------------------------------------------------------------


def test_a_pipe_gets_one_json_object_a_turn_with_and_without_json(cli, archive, chat):
    """Programs read pipes: the shape must not depend on a flag that somebody forgot."""
    chat.record("user", "a", id="t1", meta={"k": [1]}, ts="2026-11-21T09:00:00Z", zeta=1, alpha=2)
    chat.record_many([("assistant", {"parts": ["b"]}), ("tool", None)])
    answer = cli("tail", "trip")
    assert answer.out == cli("tail", "trip", "--json").out == cli("show", "trip").out
    assert answer.out.splitlines()[0].decode() == (
        '{"continuation_id":"trip","id":"t1","seq":1,"ts":"2026-11-21T09:00:00.000000Z",'
        '"role":"user","content":"a","meta":{"k":[1]},"zeta":1,"alpha":2}'
    )
    for each in answer.objects[1:]:
        assert list(each) == ["continuation_id", "id", "seq", "ts", "role", "content"]
    assert answer.contents == ["a", {"parts": ["b"]}, None]


def test_keys_of_convmems_own_stay_inside(cli, chat, log):
    """Seals and batch marks are of no use outside, and would not be true of a copy."""
    chat.record_many([("user", "a"), ("user", "b")])
    with log().open("ab") as file:
        file.write(b'{"_c":"zzzzzzzz","_own":1,"role":"user","content":{"_kept":1}}\n')
    found = cli("show", "trip").objects
    assert not [key for each in found for key in each if key.startswith("_")]
    assert found[-1]["content"] == {"_kept": 1}


def test_a_line_by_hand_has_null_where_it_says_nothing(cli, chat, log):
    """`echo … >>` is allowed; programs find every key where they expect it."""
    chat.record("user", "a")
    with log().open("ab") as file:
        file.write(BY_HAND)
        file.write(b'{"zeta":1,"content":"b","ts":"tuesday","role":"user","id":7,"meta":"m"}\n')
        file.write(b'{"continuation_id":"other","role":"user","content":"c","id":"mine"}')
    _, first, second, third = cli("tail", "trip").objects
    order = ["continuation_id", "id", "seq", "ts", "role", "content"]
    assert list(first) == order
    assert first == dict(zip(order, ["trip", None, None, None, "user", "by hand"], strict=True))
    assert list(second)[:6] == order
    assert (second["id"], second["seq"], second["zeta"], second["meta"]) == (None, None, 1, "m")
    assert (third["continuation_id"], third["id"], third["seq"]) == ("trip", "mine", None)


def test_damage_is_said_on_standard_error_and_is_no_failure(cli, twelve, log):
    """A5, O23: what could be read is read; `verify` is the one that answers 5."""
    lines = log().read_bytes().splitlines(keepends=True)
    lines[4:6] = [b"\xff\xfenonsense\n", b'{"torn\n']
    log().write_bytes(b"".join(lines))
    for verb, flags, most in (("tail", ["-n", "all"], 12), ("tail", [], 10), ("show", [], 12)):
        answer = cli(verb, "trip", *flags)
        assert answer.contents == [1, 2, 3, 4, 7, 8, 9, 10, 11, 12][-most:]
        offset = len(b"".join(lines[:4]))
        said = f"trip: 2 damaged lines skipped (byte {offset}: not JSON)"
        assert answer.err == f"convmem: warning: {said}\n"
        (told,) = cli(verb, "trip", *flags, "--json").told
        assert (told["level"], told["kind"], told["count"]) == ("warning", "damaged", 2)
        assert told["offset"] == offset
        assert cli(verb, "trip", *flags, "--quiet").err == ""
    # What was not read is not judged.
    assert cli("tail", "trip", "-n", "2").err == ""


def test_people_see_who_when_and_what(cli, chat):
    """On a terminal nobody wants to read JSON."""
    chat.record("assistant", "About seven\nhours.", ts="2026-11-21T09:00:00Z")
    chat.record("user", [{"type": "text", "text": "part one"}, {"type": "text", "text": "two"}])
    for verb in ("tail", "show"):
        answer = cli.on_terminal(verb, "trip", on="1", TZ="UTC")
        plain = re.sub(r"\x1b\[[0-9;]*m", "", answer.shown)
        lines = [line.rstrip() for line in plain.splitlines()]
        assert lines[0].startswith("── Sat 2026-11-21 ──")
        assert lines[1:4] == ["assistant  09:00:00  #1", "  About seven", "  hours."]
        assert re.fullmatch(r"user  \d\d:\d\d:\d\d  #2", lines[-3])
        assert lines[-2:] == ["  part one", "  two"]
        assert "\x1b[" in answer.shown  # the role has a colour


def test_json_on_a_terminal_is_json(cli, chat):
    """Whoever types --json wants to see what a program would get."""
    chat.record("user", "hello")
    assert (
        cli.on_terminal("tail", "trip", "--json", on="1").shown.encode() == cli("tail", "trip").out
    )


@pytest.mark.parametrize("no_colour", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_colour_can_be_switched_off(cli, chat, no_colour):
    """As everywhere."""
    chat.record("user", "hello")
    shown = cli.on_terminal("tail", "trip", on="1", **no_colour).shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown)


CONTROLS = "\x00\x07\x08\x0b\x0c\r\x1b]0;owned\x07\x1b[2J\x7f\x9b31m\u202e\u2066\x85"


def test_content_cannot_drive_the_terminal(cli, chat, log, archive):
    """A stored turn is a stranger's text: it must not clear the screen, or pose as the prompt."""
    chat.record("user", f"before{CONTROLS}after\ttab", ts="2026-11-21T09:00:00Z")
    with log().open("ab") as file:
        role = json.dumps(f"ro{CONTROLS}le").encode()
        file.write(b'{"role":%b,"content":"x"}\n' % role)
        file.write(b"\x1b[2Jdamage\n")
    odd = archive.conversation(f"id\n{CONTROLS[1:]}")
    odd.record("user", "hello")
    shown = ""
    for words in (["show", "trip"], ["tail", "trip"], ["list"], ["list", "-l"]):
        shown += cli.on_terminal(*words, on="12").shown
    shown += cli.on_terminal("show", f"x{CONTROLS[1:]}", on="12", code=3).shown
    shown += cli.on_terminal("compact", "--all", "--keep-last", "0", on="12").shown
    without_colours = re.sub(r"\x1b\[[0-9;?]*[mlhKA]|\r", "", shown)
    assert "owned" in without_colours
    found = {letter for letter in without_colours if not letter.isprintable()}
    assert found <= {"\n"}, found


def test_wide_and_long_text_is_folded_not_cut(cli, chat):
    """What was said must be there to the last word, whatever the window's width."""
    words = [f"word{at}" for at in range(60)] + ["[bold]not markup[/bold]", "😀" * 40, "x" * 200]
    chat.record("user", " ".join(words))
    shown = cli.on_terminal("tail", "trip", on="1", columns=50).shown
    squeezed = re.sub(r"\x1b\[[0-9;]*m|\s", "", shown)
    assert "".join(words).replace(" ", "") in squeezed


# --- cursor files -----------------------------------------------------------------------------


@pytest.fixture
def seen(cli, tmp_path):
    """Call it: what `tail --cursor-file` prints now."""

    def look(*words, **options):
        return cli("tail", "trip", "--cursor-file", str(tmp_path / "seen"), *words, **options)

    return look


def test_a_cursor_file_prints_only_what_is_new_since_the_last_run(seen, chat):
    """A cron job that mails new turns must not mail any of them twice, nor miss one."""
    chat.record_many([("user", 1), ("user", 2)])
    assert seen().contents == [1, 2]
    assert seen().out == b""
    chat.record("user", 3)
    assert seen().contents == [3]
    answer = seen()
    assert (answer.out, answer.err) == (b"", "")


def test_the_first_run_with_a_cursor_file_may_begin_near_the_end(seen, chat):
    """Whoever begins to watch a long conversation need not be sent all of it."""
    chat.record_many(("user", at) for at in range(30))
    assert seen("-n", "2").contents == [28, 29]
    chat.record_many(("user", at) for at in range(30, 35))
    assert seen("-n", "2").contents == [33, 34]
    assert seen().out == b""


def test_turns_that_a_filter_leaves_out_are_seen_all_the_same(seen, chat):
    """Otherwise a file for one role would be read from the same place for ever."""
    chat.record_many([("user", 1), ("tool", 2), ("tool", 3)])
    assert seen("-r", "user").contents == [1]
    assert seen().out == b""


def test_a_cursor_file_lives_through_compaction(seen, chat):
    """Also when the very turn that it points at was dropped."""
    chat.record_many(("user", at) for at in range(5))
    assert len(seen().objects) == 5
    chat.compact(RetentionPolicy(keep_last=0))
    assert seen().out == b""
    chat.record_many([("user", 5), ("user", 6)])
    chat.compact(RetentionPolicy(keep_last=1))
    assert seen().contents == [6]
    assert seen().err == ""


def test_a_cursor_file_notices_a_conversation_that_was_made_anew(seen, chat, log):
    """Its numbers begin again at 1; they must not be taken for turns that were seen."""
    chat.record_many(("user", at) for at in range(5))
    seen()
    log().unlink()
    with Archive.open(log().parents[1]) as another:
        another.conversation("trip").record_many(("user", f"new {at}") for at in range(7))
    answer = seen("--json")
    assert answer.contents == [f"new {at}" for at in range(7)]
    assert [each["kind"] for each in answer.told] == ["diverged"]
    assert seen().out == b""


def test_lines_by_hand_are_new_once(seen, chat, log):
    """They have no number, but they have a place."""
    chat.record("user", 1)
    seen()
    for at in range(3):
        with log().open("ab") as file:
            file.write(BY_HAND)
        assert seen().contents == ["by hand"], at
    chat.record("user", 2)
    assert seen().contents == [2]
    assert seen().out == b""


def test_what_could_not_be_printed_is_printed_again(seen, chat, tmp_path):
    """A crash between printing and noting repeats turns; it never loses one."""
    chat.record_many(("user", "x" * 1000) for at in range(300))
    reading, writing = os.pipe()
    os.close(reading)
    seen(stdout=writing)
    os.close(writing)
    assert len(seen().objects) == 300
    if os.path.exists("/dev/full"):
        (tmp_path / "seen").unlink()
        with open("/dev/full", "wb") as full:
            seen(stdout=full.fileno(), code=4)
        assert len(seen().objects) == 300


def test_a_cursor_file_is_replaced_in_one_step_and_leaves_nothing_beside_it(seen, chat, tmp_path):
    """A half-written cursor would send everything again."""
    chat.record("user", 1)
    seen()
    kept = (tmp_path / "seen").read_text()
    assert re.fullmatch(r"1:[0-9a-f]{8}:0\n", kept)
    held = (tmp_path / "seen").open()
    chat.record("user", 2)
    seen()
    with held:
        assert held.read() == kept
    assert sorted(each.name for each in tmp_path.iterdir()) == ["archive", "seen"]


@pytest.mark.parametrize("text", ["nonsense", "1:2:3:4", "-1:00000000:0", "\xff", "1:zzzzzzzz:0"])
def test_a_file_that_is_no_cursor_is_left_alone(seen, chat, tmp_path, text):
    """`--cursor-file notes.txt` by mistake must not cost the notes."""
    chat.record("user", 1)
    (tmp_path / "seen").write_text(text, encoding="latin-1")
    assert "not a cursor" in seen(code=2).err
    assert (tmp_path / "seen").read_text(encoding="latin-1") == text


def test_a_cursor_file_that_cannot_be_written_is_an_error(cli, chat, tmp_path):
    """Otherwise the same turns would be sent every minute, and nobody would know why."""
    chat.record("user", 1)
    cli("tail", "trip", "--cursor-file", str(tmp_path), code=4)
    cli("tail", "trip", "--cursor-file", str(tmp_path / "no" / "such"), code=4)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["archive"]


# --- following --------------------------------------------------------------------------------


def test_follow_prints_the_last_turns_and_then_each_one_as_it_comes(cli, twelve):
    """`tail -f` as everybody knows it; Ctrl-C is its usual end and leaves 130."""
    with cli.running("tail", "trip", "-f", "-n", "2") as running:
        assert running.contents(2) == [11, 12]
        for at in range(13, 16):
            twelve.record("user", at)
            assert running.contents(1) == [at]
        answer = running.interrupt()
    assert (answer.code, answer.out, answer.err) == (130, b"", "")


@pytest.mark.parametrize(
    ("words", "before", "after"),
    [
        (["-n", "+11"], [11, 12], ["new", "a tool's", "newer"]),
        (["-n", "+14"], [], ["a tool's", "newer"]),
        (["-n", "1", "-r", "user"], [10], ["new", "newer"]),
    ],
)
def test_follow_begins_where_it_is_told_to(cli, twelve, words, before, after):
    """The first lines are chosen as without `-f`, what comes passes the same filters."""
    with cli.running("tail", "trip", "-f", *words) as running:
        assert running.contents(len(before)) == before
        twelve.record("user", "new")
        twelve.record("tool", "a tool's")
        twelve.record("user", "newer")
        assert running.contents(len(after)) == after


def test_follow_from_a_number_misses_nothing_that_comes_while_it_starts(cli, twelve):
    """What is recorded between the look for that number and the first wait is what is asked for."""
    meanwhile = (
        "from convmem.conversation import Conversation\n"
        "def look(chat, *, count=False, real=Conversation.describe):\n"
        "    found = real(chat, count=count)\n"
        "    if found.last_seq < 14:\n"
        "        chat.record_many([('user', 'meanwhile')] * 2)\n"
        "    return found\n"
        "Conversation.describe = look"
    )
    with cli.running("tail", "trip", "-f", "-n", "+14", patch=meanwhile) as running:
        deadline = time.monotonic() + 20
        while twelve.describe().last_seq < 14 and time.monotonic() < deadline:
            time.sleep(0.01)
        last = twelve.record("user", "the end").seq
        found = [json.loads(running.lines(1)[0])]
        while found[-1]["content"] != "the end":
            found.append(json.loads(running.lines(1)[0]))
    assert [each["seq"] for each in found] == list(range(14, last + 1))


def test_follow_from_now_on_prints_nothing_old(cli, twelve):
    """`-n 0 -f` is for whoever has seen the rest."""
    with cli.running("tail", "trip", "-f", "-n", "0") as running:
        while not running.has_come(within_seconds=0.05):
            seq = twelve.record("user", "probe").seq
        twelve.record("user", "the end")
        found = [json.loads(running.lines(1)[0])]
        while found[-1]["content"] != "the end":
            found.append(json.loads(running.lines(1)[0]))
    seqs = [each["seq"] for each in found]
    assert 12 < seqs[0] <= seq
    assert seqs == list(range(seqs[0], seq + 2))


def test_follow_goes_on_through_compaction(cli, twelve, archive):
    """P9: a cron job that compacts must not end, nor repeat, what somebody is watching."""
    with cli.running("tail", "trip", "-f", "-n", "1") as running:
        assert running.contents(1) == [12]
        for at in range(13, 23):
            twelve.record("user", at)
            if at % 3 == 0:
                twelve.compact(RetentionPolicy(keep_last=2))
            assert running.contents(1) == [at]
        answer = running.interrupt()
    assert (answer.code, answer.err) == (130, "")


def test_follow_goes_on_through_removal_and_re_creation(cli, twelve, log):
    """Somebody tidies up with rm; whoever watches sees the new conversation from its start."""
    with cli.running("tail", "trip", "-f", "-n", "1") as running:
        assert running.contents(1) == [12]
        log().unlink()
        cli("record", "trip", "anew")
        assert running.contents(1) == ["anew"]
        cli("record", "trip", "again")
        assert running.contents(1) == ["again"]
        assert running.interrupt().code == 130


def test_follow_goes_on_when_the_file_is_cut_short(cli, twelve, log):
    """P9: what is recorded after the cut is printed, what was printed is not printed again."""
    with cli.running("tail", "trip", "-f", "-n", "1") as running:
        assert running.contents(1) == [12]
        twelve.record("user", 13)
        assert running.contents(1) == [13]  # from here on it has the file open
        lines = log().read_bytes().splitlines(keepends=True)
        os.truncate(log(), len(b"".join(lines[:10])))
        cli("record", "trip", "after the cut")
        assert running.contents(1) == ["after the cut"]


def test_follow_with_a_cursor_file_goes_on_from_there(cli, chat, tmp_path):
    """A watcher that is restarted neither misses nor repeats."""
    words = ["tail", "trip", "-f", "--cursor-file", str(tmp_path / "seen")]
    for at in (1, 3, 5):
        chat.record("user", at)
        with cli.running(*words) as running:
            assert running.contents(1) == [at]
            chat.record("user", at + 1)
            assert running.contents(1) == [at + 1]
            deadline = time.monotonic() + 20
            while not (tmp_path / "seen").read_text().startswith(f"{at + 1}:"):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert running.interrupt().code == 130


def test_follow_ends_quietly_when_nobody_reads_any_more(cli, chat):
    """`tail -f … | head -3`: the next turn finds nobody, and that is no error."""
    chat.record("user", 1)
    reading, writing = os.pipe()
    with cli.running("tail", "trip", "-f", stdout=writing) as running:
        os.close(writing)
        assert b'"content":1' in os.read(reading, 1000)
        os.close(reading)
        chat.record("user", 2)
        answer = running.end()
    assert (answer.code, answer.err) == (0, "")


def test_follow_at_a_terminal_shows_turns_for_people(cli, chat):
    """The same as without `-f`, one by one."""
    chat.record("user", "hello")
    answer = cli.on_terminal("tail", "trip", "-f", on="12", code=130, interrupt_at=b"hello")
    assert "  hello" in answer.shown
    assert "Traceback" not in answer.shown


# --- pipes ------------------------------------------------------------------------------------


def test_a_reader_that_has_seen_enough_ends_a_long_conversation_quietly(root, cli):
    """`convmem show trip | head -1` is how people look into a conversation of 50,000 turns."""
    with Archive.open(root, durability="none") as archive:
        chat = archive.conversation("trip")
        for _ in range(5):
            chat.record_many([("user", "hello")] * 10_000)
    head = [sys.executable, "-c", "import os; os.read(0, 10)"]
    for words in (["show", "trip"], ["tail", "trip", "-n", "all"], ["tail", "trip", "-n", "40000"]):
        began = time.monotonic()
        with (
            cli.running(*words) as running,
            subprocess.Popen(head, stdin=running.process.stdout),
        ):
            running.process.stdout.close()
            running.process.stdout = None
            answer = running.end()
        assert (answer.code, answer.err) == (0, ""), words
        assert time.monotonic() - began < 10
    assert cli("tail", "trip", "-n", "1").objects[0]["seq"] == 50_000
