"""``convmem record``: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from convmem import Archive

# --- one turn ---------------------------------------------------------------------------------


def test_text_on_the_command_line_is_recorded_as_the_users_and_nothing_is_printed(cli):
    """A hook runs it hundreds of times a day: no news is good news."""
    answer = cli("record", "trip", "And by train?")
    assert (answer.out, answer.err) == (b"", "")
    (turn,) = cli("tail", "trip").objects
    assert (turn["role"], turn["content"], turn["seq"]) == ("user", "And by train?", 1)


@pytest.mark.parametrize(
    ("given", "flags", "content"),
    [
        (b"hello\n", [], "hello"),
        (b"hello\n\n", [], "hello\n"),
        (b"hello\r\n", [], "hello\r"),
        (b"hello", [], "hello"),
        (b"\n", [], ""),
        (b"", [], ""),
        (b"hello\n", ["--exact"], "hello\n"),
        (b"hello", ["--exact"], "hello"),
        (b" \x00\xe2\x80\xa8 two\nlines ", [], " \0\u2028 two\nlines "),
    ],
)
def test_standard_input_is_one_turn_without_its_last_newline(cli, given, flags, content):
    """`echo` ends its text with a newline that nobody said; `--exact` keeps it all the same."""
    cli("record", "trip", *flags, stdin=given)
    assert cli("tail", "trip").contents == [content]


@pytest.mark.parametrize("text", ["", "-n", "hello\n", "  x  ", "æ\u2028\U0001f600", "--json"])
def test_text_is_kept_as_it_is(cli, text):
    """What stands on the command line was meant so, to the last space."""
    cli("record", "trip", "--", text)
    assert cli("tail", "trip").contents == [text]


def test_role_id_time_and_notes_are_recorded(cli):
    """All that a turn may carry can be said from a shell."""
    words = "-r assistant --id t-1 --ts 2026-11-21T10:00:00+01:00 --meta model=small --meta k=a=b"
    cli("record", "trip", "hello", *words.split(), "--meta", "empty=")
    (turn,) = cli("tail", "trip").objects
    assert turn == {
        "continuation_id": "trip",
        "id": "t-1",
        "seq": 1,
        "ts": "2026-11-21T09:00:00.000000Z",
        "role": "assistant",
        "content": "hello",
        "meta": {"model": "small", "k": "a=b", "empty": ""},
    }


def test_with_json_one_object_answers_each_turn(cli):
    """A caller that must remember the id or the place of its turn gets both, in a fixed order."""
    answer = cli("record", "trip", "hello", "--json")
    (told,) = answer.objects
    assert list(told) == ["continuation_id", "id", "seq", "ts"]
    (turn,) = cli("tail", "trip").objects
    assert told == {key: turn[key] for key in told}
    assert answer.err == ""


def test_a_retried_id_is_stored_once_and_answered_the_same(cli):
    """A25: a script that does not know whether its last call went through just calls again."""
    first = cli("record", "trip", "hello", "--id", "t-1", "--json")
    cli("record", "trip", "between")
    again = cli("record", "trip", "hello", "--id", "t-1", "--json", "--ts", "2001-01-01T00:00:00Z")
    assert again.out == first.out
    assert cli("tail", "trip").contents == ["hello", "between"]


@pytest.mark.parametrize(
    "other",
    [["other"], ["hello", "-r", "tool"], ["hello", "--meta", "a=2"], ["hello"]],
    ids=["content", "role", "meta", "no meta"],
)
def test_the_same_id_with_other_content_is_a_conflict_and_the_first_stays(cli, other):
    """O25: whoever reuses an id by mistake must hear of it; exit 1, kind `conflict`."""
    cli("record", "trip", "hello", "--id", "t-1", "--meta", "a=1")
    answer = cli("record", "trip", *other, "--id", "t-1", "--json", code=1)
    assert [each["kind"] for each in answer.told] == ["conflict"]
    assert answer.out == b""
    (turn,) = cli("tail", "trip").objects
    assert (turn["content"], turn["role"], turn["meta"]) == ("hello", "user", {"a": "1"})


@pytest.mark.parametrize("sync", ["always", "interval", "none"])
def test_each_way_to_sync_records_before_it_returns(cli, sync):
    """However it is synced, the next process sees it."""
    cli("record", "trip", "hello", "--sync", sync)
    assert cli("tail", "trip").contents == ["hello"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["record", "trip", "x", "--meta", "nonsense"], "'nonsense' is not KEY=VALUE"),
        (["record", "trip", "x", "--meta", "=v"], "'=v' is not KEY=VALUE"),
        (["record", "trip", "x", "--ts", "soonish"], "--ts"),
        (["record", "trip", "x", "--sync", "later"], "--sync"),
        (["record", "trip", "--tee", "--json"], "--tee"),
        (["record", "trip", "text", "--jsonl"], "TEXT"),
        (["record", "trip", "--jsonl", "--id", "t"], "--id"),
        (["record", "trip", "--jsonl", "--meta", "a=b"], "--meta"),
        (["record", "trip", "--jsonl", "--ts", "2026-11-21"], "--ts"),
        (["record", "", "x"], "empty"),
        (["record", "é" * 513, "x"], "1,026 bytes"),
        (["record"], "'ID'"),
        (["record", "trip", "x", "y"], "y"),
    ],
)
def test_wrong_usage_is_2_and_makes_nothing(cli, words, said):
    """A typing mistake must not leave an empty conversation behind."""
    answer = cli(*words, code=2, stdin=b'{"role":"user","content":"x"}\n')
    assert said in answer.err
    assert answer.out == b""
    assert not os.path.exists(cli.root)


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["record", "trip"], b"caf\xe9\n"),
        (["record", "trip", b"caf\xe9"], b""),
        (["record", "trip", "x", "-r", "two\nlines"], b""),
        (["record", "trip", "x", "-r", ""], b""),
        (["record", "trip", "x", "--id", ""], b""),
    ],
    ids=["input not UTF-8", "text not UTF-8", "role of two lines", "no role", "empty id"],
)
def test_what_cannot_be_a_turn_is_refused_whole(cli, words, given):
    """A8: bytes that are no text become an error that says so, not a turn with holes in it."""
    answer = cli(*words, "--json", code=1, stdin=given)
    assert [each["kind"] for each in answer.told] == ["invalid_turn"]
    assert not os.path.exists(cli.root)


def test_an_id_that_is_no_utf8_is_wrong_usage(cli):
    """Two such ids would look alike on every screen; better none."""
    answer = cli("record", b"caf\xe9", "x", "--json", code=2)
    assert [each["kind"] for each in answer.told] == ["invalid_id"]
    assert not os.path.exists(cli.root)


def test_at_a_terminal_record_prints_its_help_and_records_nothing(cli):
    """Whoever types `convmem record trip` and presses Enter is not meant to face a blank wait."""
    answer = cli.on_terminal("record", "trip", code=2)
    assert "Usage: convmem record" in answer.shown
    assert "--jsonl" in answer.shown
    assert not os.path.exists(cli.root)
    assert "Usage: convmem record" in cli.on_terminal("record", "-", "--jsonl", code=2).shown


def test_at_a_terminal_text_is_recorded_without_a_word(cli):
    """The usual way for people; standard input is theirs and is not read."""
    assert cli.on_terminal("record", "trip", "hello").shown == ""
    assert cli("tail", "trip").contents == ["hello"]


def test_ctrl_c_while_it_waits_for_input_records_nothing(cli):
    """A sentence that was broken off was not said."""
    with cli.running("record", "trip", stdin=subprocess.PIPE) as running:
        running.process.stdin.write(b"half a sen")
        running.process.stdin.flush()
        time.sleep(0.15)
        answer = running.interrupt()
    assert (answer.code, answer.out, answer.err) == (130, b"", "")
    assert not os.path.exists(cli.root)


# --- tee --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "given", "code"),
    [
        (["--tee"], b"About seven\nhours.\n", 0),
        (["--tee"], b"", 0),
        (["--tee"], b"caf\xe9\n", 1),
        (["--tee", "--jsonl"], b'{"role":"user","content":"a"}\n\nnonsense\n', 7),
    ],
)
def test_tee_passes_the_input_through_byte_for_byte(cli, words, given, code):
    """`llm … | convmem record trip --tee | less` must look as if convmem were not there."""
    assert cli("record", "trip", *words, stdin=given, code=code).out == given


@pytest.mark.parametrize("flags", [[], ["--jsonl"]], ids=["text", "jsonl"])
def test_a_tees_reader_that_went_away_does_not_cost_the_turn(cli, flags):
    """`… --tee | head -1`: people stop looking, but what was said was said."""
    line = b'{"role":"user","content":"%b"}\n' if flags else b"%b\n"
    given = line % (b"x" * 200_000)
    reading, writing = os.pipe()
    os.close(reading)
    answer = cli("record", "trip", "--tee", *flags, stdin=given, stdout=writing)
    os.close(writing)
    assert answer.err == ""
    assert cli("tail", "trip").contents == ["x" * 200_000]


def test_tee_passes_on_what_came_before_more_comes(cli):
    """People watch a model's answer as it is made; it must not be held back to its end."""
    with cli.running("record", "trip", "--tee", stdin=subprocess.PIPE) as running:
        for word in (b"About\n", b"seven\n"):
            running.process.stdin.write(word)
            running.process.stdin.flush()
            assert running.lines(1) == [word.strip()]
        assert running.end().code == 0
    assert cli("tail", "trip").contents == ["About\nseven"]


# --- many turns -------------------------------------------------------------------------------


def test_each_line_of_a_stream_is_a_turn_with_all_that_it_says(cli):
    """What other programs keep beside the text must survive the way in and out."""
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [{"type": "text", "text": "b"}], "id": "t-2"},
        {"role": "tool", "content": None, "ts": "2026-11-21T09:00:00Z", "meta": {"k": [1.5, None]}},
        {"role": "user", "content": {"x": 1}, "tool_call_id": "c", "raw": {"any": ["thing"]}},
    ]
    given = b"\n".join(json.dumps(turn).encode() for turn in turns)  # no newline at the end
    answer = cli("record", "trip", "--jsonl", stdin=given)
    assert (answer.out, answer.err) == (b"", "")
    found = cli("tail", "trip").objects
    assert [each["seq"] for each in found] == [1, 2, 3, 4]
    for turn, each in zip(turns, found, strict=True):
        wanted = {**turn, "ts": each["ts"]}
        assert {key: each[key] for key in wanted} == wanted
    assert found[1]["id"] == "t-2"
    assert found[2]["ts"] == "2026-11-21T09:00:00.000000Z"


def test_a_stream_is_answered_one_object_for_each_turn_in_order(cli):
    """Whoever feeds a stream can tell which line became which turn."""
    given = b"".join(b'{"role":"user","content":"%d"}\n' % at for at in range(50))
    answer = cli("record", "trip", "--jsonl", "--json", stdin=given)
    assert [list(each) for each in answer.objects] == [["continuation_id", "id", "seq", "ts"]] * 50
    assert [each["seq"] for each in answer.objects] == list(range(1, 51))


BAD = {
    "not JSON": b"nonsense",
    "cut short": b'{"role":"user","content":"x',
    "not an object": b'["role","content"]',
    "a number": b"42",
    "no role": b'{"content":"x"}',
    "no content": b'{"role":"user"}',
    "role not text": b'{"role":7,"content":"x"}',
    "empty role": b'{"role":"","content":"x"}',
    "not UTF-8": b'{"role":"user","content":"caf\xe9"}',
    "half a surrogate": b'{"role":"user","content":"\\ud800"}',
    "NaN": b'{"role":"user","content":NaN}',
    "a reserved key": b'{"role":"user","content":"x","_mine":1}',
    "no time": b'{"role":"user","content":"x","ts":"soonish"}',
    "meta not an object": b'{"role":"user","content":"x","meta":[1]}',
    "id not text": b'{"role":"user","content":"x","id":7}',
}


def test_good_lines_round_bad_ones_are_recorded_and_the_bad_are_named_by_number(cli):
    """One broken line in ten thousand must cost that line only, and be easy to find; exit 7."""
    lines = [b'{"role":"user","content":"first"}', b""]
    for bad in BAD.values():
        lines += [bad, b'{"role":"user","content":"good"}']
    answer = cli("record", "trip", "--jsonl", "--json", stdin=b"\n".join(lines) + b"\n", code=7)
    assert cli("tail", "trip", "-n", "all").contents == ["first"] + ["good"] * len(BAD)
    bad = [each for each in answer.told if each["level"] == "error"]
    assert sorted(each["line"] for each in bad) == [3 + 2 * at for at in range(len(BAD))]
    assert {each["kind"] for each in bad} == {"invalid_turn"}
    assert all(each["message"].startswith(f"line {each['line']}: ") for each in bad)
    assert len(answer.objects) == 1 + len(BAD)


def test_bad_lines_are_told_in_words_too(cli):
    """People read standard error without jq."""
    answer = cli("record", "trip", "--jsonl", stdin=b'{"role":"user","content":"a"}\n42\n', code=7)
    assert "convmem: error: line 2: not a JSON object\n" in answer.err
    assert "1 of 2 turns were not recorded" in answer.err


@pytest.mark.parametrize("kind", BAD)
def test_where_all_lines_are_bad_nothing_is_made_and_the_exit_code_is_1(cli, kind):
    """ "Part of it was done" would be a lie here."""
    cli("record", "trip", "--jsonl", stdin=BAD[kind] + b"\n", code=1)
    assert not os.path.exists(cli.root)


@pytest.mark.parametrize("given", [b"", b"\n", b" \n\n\t\n"])
def test_a_stream_without_turns_is_done_at_once(cli, given):
    """An empty export is no failure."""
    answer = cli("record", "trip", "--jsonl", stdin=given)
    assert (answer.out, answer.err) == (b"", "")


def test_a_conflict_in_a_stream_is_1_alone_and_7_beside_others(cli):
    """O25: conflict is a kind of its own, so that a feeder can tell it from bad input."""
    cli("record", "trip", "hello", "--id", "t-1")
    conflict = b'{"role":"user","content":"other","id":"t-1"}\n'
    answer = cli("record", "trip", "--jsonl", "--json", stdin=conflict, code=1)
    assert answer.told[0]["kind"] == "conflict"
    given = b'{"role":"user","content":"a"}\n' + conflict + b'{"role":"user","content":"b"}\n'
    answer = cli("record", "trip", "--jsonl", "--json", stdin=given, code=7)
    assert [(each["kind"], each["line"]) for each in answer.told if "line" in each] == [
        ("conflict", 2)
    ]
    assert cli("tail", "trip").contents == ["hello", "a", "b"]


def test_a_stream_can_be_fed_again_and_stores_each_turn_once(cli):
    """A25: after a crash nobody knows how far it came; feeding it again must be harmless."""
    given = b"".join(b'{"role":"user","content":"%d","id":"t%d"}\n' % (n, n) for n in range(20))
    cli("record", "trip", "--jsonl", stdin=given[: len(given) // 2] + b"\n", code=7)
    whole = cli("record", "trip", "--jsonl", "--json", stdin=given)
    again = cli("record", "trip", "--jsonl", "--json", stdin=given)
    assert whole.out == again.out
    assert cli("tail", "trip", "-n", "all").contents == [str(n) for n in range(20)]


def test_one_stream_feeds_many_conversations(cli):
    """An export of a whole account is one file; each line says where it belongs."""
    turns = [
        {"continuation_id": f"trip-{at % 3}", "role": "user", "content": at} for at in range(12)
    ]
    turns.insert(5, {"role": "user", "content": "of no conversation"})
    turns.insert(6, {"continuation_id": "", "role": "user", "content": "of the empty one"})
    given = b"".join(json.dumps(turn).encode() + b"\n" for turn in turns)
    answer = cli("record", "-", "--jsonl", "--json", stdin=given, code=7)
    assert [each["line"] for each in answer.told if "line" in each] == [6, 7]
    assert [each["continuation_id"] for each in answer.objects] == [
        f"trip-{at % 3}" for at in range(12)
    ]
    for at in range(3):
        assert cli("tail", f"trip-{at}").contents == [at, at + 3, at + 6, at + 9]


def test_a_dash_is_the_stream_only_together_with_jsonl(cli):
    """Without `--jsonl` no line could say where it belongs: `-` is then an id like any other."""
    cli("record", "-", "hello")
    cli("record", "-", stdin=b"again\n")
    assert cli("list").text == "-\n"
    assert cli("tail", "-").contents == ["hello", "again"]


def test_what_show_prints_record_takes(cli):
    """Copying a conversation is one pipe; only its place in the order is given anew."""
    cli("record", "a", "dropped", "--id", "t0")
    cli("record", "a", "hello", "--id", "t1", "--meta", "k=v", "--ts", "2026-11-21T09:00:00Z")
    cli("compact", "a", "--keep-last", "1", "--discard")
    cli("record", "b", "--jsonl", stdin=cli("show", "a", "--json").out)
    (a,), (b,) = cli("show", "a").objects, cli("show", "b").objects
    assert (a.pop("seq"), b.pop("seq")) == (2, 1)
    assert (a.pop("continuation_id"), b.pop("continuation_id")) == ("a", "b")
    assert a == b


def test_turns_of_a_slow_stream_are_recorded_as_they_come(cli):
    """An agent's log that is piped in all day must be readable all day."""
    with cli.running("record", "trip", "--jsonl", "--json", stdin=subprocess.PIPE) as running:
        for at in range(3):
            running.process.stdin.write(b'{"role":"user","content":%d}\n' % at)
            running.process.stdin.flush()
            assert json.loads(running.lines(1)[0])["seq"] == at + 1
            with Archive.open(cli.root) as archive:
                assert archive.conversation("trip").tail(1)[0].content == at
        assert running.end().code == 0


def test_a_stream_that_is_interrupted_keeps_what_was_answered(cli):
    """Ctrl-C in the middle of an import loses nothing that was said to be there."""
    with cli.running("record", "trip", "--jsonl", "--json", stdin=subprocess.PIPE) as running:
        running.process.stdin.write(b'{"role":"user","content":"a"}\n{"role":"us')
        running.process.stdin.flush()
        running.lines(1)
        answer = running.interrupt()
    assert (answer.code, answer.err) == (130, "")
    assert cli("tail", "trip").contents == ["a"]


@pytest.mark.parametrize(("quiet", "shown"), [([], True), (["--quiet"], False)])
def test_a_long_stream_shows_a_bar_on_a_terminal_only_there_and_takes_it_away(cli, quiet, shown):
    """O32: whoever feeds a gigabyte wants to see that it moves; a log file does not."""
    feeder = (
        "import sys, time\n"
        "for at in range(11):\n"
        '    print(\'{"role":"user","content":"%d"}\' % at, flush=True)\n'
        "    time.sleep(0.09)\n"
    )
    with subprocess.Popen([sys.executable, "-c", feeder], stdout=subprocess.PIPE) as source:
        words = ["record", "trip", "--jsonl", *quiet]
        answer = cli.on_terminal(*words, on="2", stdin=source.stdout.fileno())
    assert ("recording" in answer.shown) is shown
    assert answer.out == b""
    assert "\x1b[2K" in answer.shown or not shown


# --- refusals of the system -------------------------------------------------------------------


@pytest.mark.parametrize("umask", ["0", "0o077", "0o777"])
def test_folders_are_0700_and_files_0600_whatever_the_umask(cli, umask):
    """P13: private also under a careless umask, and of use to its owner under the strictest."""
    prepare = f"os.umask({umask})"
    cli("record", "trip", "hello", prepare=prepare)
    cli("record", "trip", "again", prepare=prepare)
    cli("record", "x" * 300, "long", prepare=prepare)
    cli("compact", "--all", "--keep-last", "1", prepare=prepare)
    with open(os.path.join(cli.root, "default", "trip.jsonl"), "ab") as file:
        file.write(b'{"torn')
    cli("record", "trip", "after a crash", prepare=prepare)
    folders = {path for path, _, _ in os.walk(cli.root)}
    files = {os.path.join(path, name) for path, _, names in os.walk(cli.root) for name in names}
    names = {os.path.relpath(folder, cli.root) for folder in folders}
    assert names == {
        ".",
        "default",
        "default/.audit",
        "default/.dropped",
        "default/.ids",
        "default/.locks",
        "default/.quarantine",
        "default/.trash",
    }
    assert {oct(os.stat(folder).st_mode & 0o7777) for folder in folders} == {"0o700"}
    assert {oct(os.stat(file).st_mode & 0o7777) for file in files} == {"0o600"}


def test_a_folder_that_may_not_be_written_is_exit_4_and_the_file_as_before(cli, log):
    """A15: an error of the system is an error of the command; nothing half-done stays."""
    cli("record", "trip", "hello")
    before = log().read_bytes()
    os.chmod(log(), 0o400)
    os.chmod(log().parent, 0o500)
    try:
        for words in (["trip"], ["other"]):
            answer = cli("record", *words, "x", "--json", code=4, prepare=cli.AS_ANYBODY)
            assert [each["kind"] for each in answer.told] == ["permission"]
        assert cli("tail", "trip", prepare=cli.AS_ANYBODY).contents == ["hello"]
    finally:
        os.chmod(log().parent, 0o700)
    assert log().read_bytes() == before
    assert cli("list").text == "trip\n"


def test_a_full_disk_is_exit_4_and_the_file_as_before(cli, log):
    """A15: half a turn must not stay behind; with room it works again without a repair."""
    for text in ("hello", "again"):
        cli("record", "trip", text, prepare=cli.WITH_FULL_DISK)
    before = log().read_bytes()
    answer = cli("record", "trip", "x" * 500, "--json", code=4, prepare=cli.WITH_FULL_DISK)
    assert [each["kind"] for each in answer.told] == ["full"]
    assert log().read_bytes() == before
    cli("record", "trip", "with room")
    assert cli("tail", "trip").contents == ["hello", "again", "with room"]


def test_a_stream_into_a_full_disk_says_what_was_kept(cli):
    """A15: the lines that were answered are there, the others are named, and the code is 4."""
    given = b"".join(b'{"role":"user","content":"%050d"}\n' % at for at in range(20))
    answer = cli(
        *("record", "trip", "--jsonl", "--json"), stdin=given, code=4, prepare=cli.WITH_FULL_DISK
    )
    kept = [each["seq"] for each in answer.objects]
    assert kept == list(range(1, len(kept) + 1))
    assert 0 < len(kept) < 20
    assert [each["seq"] for each in cli("tail", "trip").objects] == kept
    refused = [each["line"] for each in answer.told if each["level"] == "error"]
    assert refused == list(range(len(kept) + 1, 21))
    assert {each["kind"] for each in answer.told if each["level"] == "error"} == {"full"}


def test_a_file_in_the_place_of_the_archive_is_exit_4(cli):
    """It is somebody's file; it stays as it is."""
    with open(cli.root, "w", encoding="ascii") as file:
        file.write("precious")
    for words in (["record", "trip", "x"], ["tail", "trip"], ["list"]):
        cli(*words, code=4)
    with open(cli.root, encoding="ascii") as file:
        assert file.read() == "precious"


def test_an_archive_that_others_can_write_is_refused(cli):
    """P13: whoever can rename files there can swap one conversation for another."""
    cli("record", "trip", "hello")
    os.chmod(cli.root, 0o777)
    answer = cli("record", "trip", "x", "--json", code=4)
    assert [each["kind"] for each in answer.told] == ["permission"]
    assert "chmod go-w" in answer.told[0]["hint"]
    cli("tail", "trip", code=4)


def test_a_closed_standard_input_is_an_error_and_no_empty_turn(cli, log):
    """A job whose input was lost must not pass for one that said nothing."""
    for words in ("record trip", "record trip --jsonl", "state trip set t=-"):
        answer = cli(*words.split(), prepare="os.close(0)", code=4)
        assert "cannot read standard input" in answer.err
    assert not log().exists()
