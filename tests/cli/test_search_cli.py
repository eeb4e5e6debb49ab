"""``convmem search``: what it finds, in which shape it says so, and how it ends."""

from __future__ import annotations

import glob
import os
import re
import shlex
import subprocess
import sys

import pytest

from convmem import Archive
from convmem.cli import fast, typed
from convmem.errors import UsageError

RED = "\x1b[1;31m"


@pytest.fixture
def talks(archive):
    """Three conversations: two about a journey, one about paint."""
    for name, said in {
        "oslo": ("shall we go by night train", "the night train is full", "then by ferry"),
        "bergen": ("a train by day, please", "it leaves at nine"),
        "paint": ("which colour for the kitchen", "blue, says everybody"),
    }.items():
        for at, text in enumerate(said):
            archive.conversation(name).record(
                ("user", "assistant")[at % 2],
                text,
                ts=f"2026-11-{at + 1:02}T12:00:00Z",
                meta={"talk": name},
            )
    return archive


def places(answer):
    """Where the hits of ``--json`` are."""
    return [(each["continuation_id"], each["seq"]) for each in answer.objects]


# --- what is found ------------------------------------------------------------------------------


def test_words_need_no_quotes_and_the_turns_that_hold_all_are_found(cli, talks):
    """The everyday use: type what one remembers."""
    answer = cli("search", "night", "trains", "--json")
    assert {("oslo", 1), ("oslo", 2)} <= set(places(answer))
    assert places(answer)[0][0] == "oslo"


def test_a_turn_is_found_by_the_next_process_after_it_was_recorded(cli, talks):
    """Search is never stale."""
    assert cli("search", "zeppelin", code=1).out == b""
    cli("record", "oslo", "what about a zeppelin?")
    assert cli("search", "zeppelin").text == "oslo:4:user:what about a zeppelin?\n"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["train", "-r", "assistant"], {("oslo", 2)}),
        (["train", "--id", "bergen"], {("bergen", 1)}),
        (["train", "--id", "bergen", "--id", "paint"], {("bergen", 1)}),
        (["train", "--until", "2026-11-02T00:00Z"], {("oslo", 1), ("bergen", 1)}),
        (["train", "--since", "2026-11-02T00:00Z"], {("oslo", 2)}),
        (["train", "--meta", "talk=bergen"], {("bergen", 1)}),
        (["train", "-night"], {("bergen", 1)}),
        (["train role:assistant"], {("oslo", 2)}),
        (["tra*", "-night"], {("bergen", 1)}),
        (['"the night train"'], {("oslo", 2)}),
    ],
)
def test_flags_and_the_query_narrow_what_is_found(cli, talks, words, found):
    """Each of them is a promise of the help."""
    assert set(places(cli("search", *words, "--json"))) == found


def test_other_namespaces_are_searched_when_they_are_asked_for(cli, talks):
    """A tenant's talk shows up for nobody else, but the owner of all can look into all."""
    cli("-N", "work", "record", "oslo", "a train to the office")
    assert b"office" not in cli("search", "train").out
    assert cli("-N", "work", "search", "train").text == "oslo:1:user:a train to the office\n"
    assert "work/oslo:1:user:" in cli("search", "train", "--all-namespaces").text
    assert cli("search", "train", "ns:work").text.startswith("work/oslo:1:user:")


# --- words with a minus -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["search", "oslo", "-rain"],
        ["search", "-rain", "oslo"],
        ["search", "oslo", "-North", "-n", "5"],
        ["search", "-n", "-rain", "oslo", "-Cable"],
        ["search", "oslo", "-hotel", "--json"],
        ["search", "oslo", "-quiet", "--", "-n", "--json"],
        ["-N", "-x", "search", "oslo", "-Amsterdam"],
    ],
    ids=shlex.join,
)
def test_no_word_with_a_minus_is_taken_for_flags_by_either_reader(words):
    """-rain once meant the role "ain": nothing was found, and nobody was told why."""
    quick = fast.parse(words, {})
    assert quick is not None
    assert quick == typed.parse(words, {})
    _, context, values = quick
    assert context.archive is None
    assert values["role"] == []
    minus = [word for word in words if re.fullmatch("-[A-Za-z]{3,}", word)]
    left = [word for word in minus if word in values["query"]]
    assert left == minus if "-n" not in words[:2] else minus[1:]


def test_a_number_may_stand_right_behind_its_flag(cli, talks):
    """People type -n1."""
    assert len(cli("search", "train", "-n1").out.splitlines()) == 1


@pytest.mark.parametrize("word", ["-x", "-5", "--train"])
def test_what_could_be_a_slip_is_wrong_usage_and_the_way_out_is_named(cli, talks, word):
    """A flag that does not exist must not be searched for in silence."""
    answer = cli("search", "oslo", word, code=2)
    assert f"no such option: {word}" in answer.err
    assert "behind --" in answer.err
    cli("search", "--", "oslo", word, code=None)
    with pytest.raises(UsageError):
        typed.parse(["search", "oslo", word], {})


# --- forms --------------------------------------------------------------------------------------


def test_in_a_pipe_each_hit_is_one_line_as_grep_has_them(cli, talks):
    """cut, sort and awk are at hand there; and a turn of many lines must not look like many."""
    talks.conversation("notes").record("user", "one\ntwo submarine\x1b[31m\nthree")
    assert cli("search", "submarine").text == "notes:1:user:one two submarine three\n"
    around = cli("search", "colour", "-C", "1")
    assert around.text == (
        "paint:1:user:which colour for the kitchen\npaint-2-assistant-blue, says everybody\n"
    )


def test_json_has_the_marks_and_the_neighbours_of_each_hit(cli, talks):
    """A program shows the hit in its own way."""
    (hit,) = cli("search", "full", "-C", "1", "--json").objects
    assert (hit["continuation_id"], hit["seq"], hit["role"]) == ("oslo", 2, "assistant")
    assert [hit["snippet"][first:last] for first, last in hit["marks"]] == ["full"]
    assert [each["seq"] for each in hit["before"]] == [1]
    assert [each["seq"] for each in hit["after"]] == [3]
    assert hit["score"] > 0


def test_at_a_terminal_the_words_stand_out_and_nothing_can_drive_it(cli, archive):
    """A stranger's turn is shown, not obeyed."""
    chat = archive.conversation("a\x1b]0;b")
    chat.record("user", "before it")
    chat.record("user", "the \x1b[2Jsubmarine \x9b1m surfaced")
    shown = cli.on_terminal("search", "submarine", "-C", "1").shown
    assert f"{RED}submarine\x1b[0m" in shown
    codes = set(re.findall(r"\x1b\[[0-9;]*[a-zA-Z]|\x1b.", shown))
    assert codes <= {"\x1b[0m", "\x1b[2m", "\x1b[36m", RED}
    assert "\x9b" not in shown
    assert "\x1b[2mbefore it\x1b[0m" in shown


def test_a_snippet_is_folded_to_the_window_with_its_marks_where_they_belong(cli, archive):
    """In a narrow window a line that the terminal breaks hides where the next hit begins."""
    archive.conversation("c").record("user", "word " * 9 + "submarine yacht " + "word " * 9)
    shown = cli.on_terminal("search", "submarine", "yacht", columns=30).shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()[1:]
    assert len(plain) > 3
    assert all(len(line) <= 30 and line.startswith("  ") for line in plain)
    assert f"{RED}submarine" in shown
    assert "yacht\x1b[0m" in shown


def test_grouped_hits_stand_below_their_conversation(cli, talks):
    """Where a thing was spoken of often, one wants to see the conversations."""
    answer = cli("search", "train", "--group", "--json")
    names = [each["continuation_id"] for each in answer.objects]
    assert sorted(set(names)) == ["bergen", "oslo"]
    assert names == sorted(names, key=names.index)  # those of one conversation together
    shown = cli.on_terminal("search", "train", "--group", TERM="dumb").shown.splitlines()
    assert [line for line in shown if re.fullmatch("[a-z]+", line)] == list(dict.fromkeys(names))


# --- pages --------------------------------------------------------------------------------------


def test_cursors_lead_through_all_pages_and_no_hit_comes_twice(cli, archive):
    """A script reads on where the page before it ended."""
    for at in range(7):
        archive.conversation(f"c{at}").record("user", f"submarine {'deep ' * at}")
    seen, more = [], []
    for _ in range(10):
        answer = cli("search", "submarine", "-n", "3", *more, "--json")
        seen += places(answer)
        cursor = answer.objects[-1].get("cursor")
        assert all("cursor" not in each for each in answer.objects[:-1])
        if cursor is None:
            break
        more = ["--cursor", cursor]
    assert sorted(seen) == [(f"c{at}", 1) for at in range(7)]


def test_the_note_at_a_terminal_is_the_command_for_the_next_page(cli, archive):
    """It can be pasted as it is, with everything that was given."""
    for at in range(3):
        archive.conversation(f"c{at}").record("user", "it's a submarine")
    first = cli.on_terminal("search", "-n2", "it's submarine", "-yacht", "-r", "user", "-C", "1")
    (command,) = re.findall("there is more: (.*)", first.shown)
    words = shlex.split(command)
    assert words[:2] == ["convmem", "search"]
    second = cli("search", "--json", *words[2:])
    assert len(second.objects) == 1
    assert {f"{name}:{seq}" for name, seq in places(second)}.isdisjoint(
        re.findall(r"c\d:\d", re.sub(r"\x1b\[[0-9;]*m", "", first.shown))
    )


# --- what is said beside, and the exit status ---------------------------------------------------


def test_a_fallback_to_some_of_the_words_says_so(cli, talks):
    """Else one takes a turn about something else for the answer."""
    answer = cli("search", "ferry", "kitchen")
    assert "no turn holds all of ferry · kitchen" in answer.err
    assert {line.split(":")[0] for line in answer.text.splitlines() if ":" in line} == {
        "oslo",
        "paint",
    }
    (told,) = cli("search", "ferry", "kitchen", "--json").told
    assert (told["level"], told["kind"], told["matched"]) == ("note", "some", "some")
    assert cli("search", "ferry", "kitchen", "-q").err == ""
    assert cli("search", "ferry").err == ""
    # All that there is holds all that was asked for: no note, though more was looked for.
    assert cli("search", "ferry", "then").err == ""


def test_turns_that_only_stand_beside_a_hit_say_so(cli, talks):
    """They may be the answer to a question, but hold none of its words."""
    cli("record", "tiles", "which pattern for the bathroom")
    cli("record", "tiles", "checks, says everybody", "-r", "assistant")
    found = cli("search", "pattern", "zeppelin", "--json").objects
    beside = {(each["continuation_id"], each["seq"]) for each in found if each.get("beside")}
    assert beside == {("tiles", 2)}
    said = cli("search", "pattern", "zeppelin").text
    assert "tiles-2-assistant-checks, says everybody\n" in said


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["train"], 0, ""),
        (["zeppelin"], 1, ""),
        ([], 2, "missing argument"),
        (["train", "-n", "0"], 2, "-n: '0' is not a whole number, 1 or more"),
        (["train", "-C", "few"], 2, "-C: 'few' is not a whole number"),
        (["train", "--cursor", "x"], 2, "'x' is no search cursor"),
        (["train", "--meta", "x"], 2, "'x' is not KEY=VALUE"),
        (["train", "--group", "--cursor", "x"], 2, "exclude each other"),
        (["train", "--since", "soonish"], 2, "--since"),
        (["train", "--id", "nowhere"], 3, "no conversation 'nowhere'"),
        (["train", "-A", "/nowhere/at/all"], 4, "there is no archive"),
    ],
)
def test_the_exit_status_tells_how_it_went(cli, talks, words, code, said):
    """Scripts branch on it."""
    answer = cli("search", *words, code=code)
    assert said in answer.err
    assert bool(answer.out) == (code == 0)


def test_a_search_gives_up_on_one_who_indexes_without_end(cli, talks, root):
    """A hung process elsewhere must not hang every search."""
    cli("index")
    cli("record", "oslo", "something new")
    holder = (
        "import sqlite3, sys; held = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "held.execute('begin immediate'); print('held', flush=True); sys.stdin.read()"
    )
    where = glob.glob(os.path.join(root, "default", ".index", "search-*.sqlite"))[0]
    patch = "import convmem.search.index.database as d; d._PATIENCE_SECONDS = 0.3"
    with subprocess.Popen(
        [sys.executable, "-c", holder, where], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout.readline() == b"held\n"
            with cli.running("search", "new", patch=patch) as searching:
                answer = searching.end()
        finally:
            process.communicate()
    assert answer.code == 6
    assert "another process is indexing" in answer.err
    assert cli("search", "new").text == "oslo:4:user:something new\n"


def test_a_reader_that_has_seen_enough_is_no_failure(cli, archive):
    """convmem search ... | head -1."""
    for at in range(300):
        archive.conversation(f"c{at % 5}").record("user", f"submarine {at} {'deep ' * 40}")
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m convmem search submarine -n 300 --json | head -1",
        shell=True,
        env=cli.environment,
        capture_output=True,
        check=True,
    )
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""


def test_any_words_are_a_query(cli, talks):
    """What is pasted into a search holds anything: no syntax error, no traceback."""
    for text in ('"', "a AND (b", "train?", "foo_bar->baz()", "*", "'", "x:y", "NEAR(", "\\", ""):
        cli("search", "--", text, code=None)
    cli("search", b"\xff train", code=None)


def test_the_first_search_draws_its_bar_for_people_only(cli, talks, monkeypatch):
    """A log of cron's with a thousand bars in it helps nobody."""
    assert cli("search", "train").err == ""
    cli("index", "--drop")
    patch = "import convmem.cli.output.bar as b; b._PATIENCE_SECONDS = -1"
    with cli.running("search", "train", patch=patch) as searching:
        assert searching.end().err == ""


def test_completion_knows_roles_and_conversations(cli, talks):
    """As with every verb."""
    environment = {"COMP_CWORD": "3", "_CONVMEM_COMPLETE": "complete_bash"}
    done = cli(COMP_WORDS="convmem search --id os", **environment)
    assert done.text.split() == ["oslo"]
    done = cli(COMP_WORDS="convmem search -r us", **environment)
    assert done.text.split() == ["user"]


def test_the_archive_of_the_api_answers_the_same(cli, talks, root):
    """The command line is a thin skin."""
    with Archive.open(root) as archive:
        page = archive.search("night train")
    assert [(hit.continuation_id, hit.turn.seq) for hit in page] == places(
        cli("search", "night", "train", "--json")
    )
