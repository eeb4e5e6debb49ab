"""``convmem grep`` as people and scripts use it."""

from __future__ import annotations

import pytest

TURNS = (
    ("user", "And by train?"),
    ("assistant", "About seven hours.\nThe Train leaves at nine."),
    ("user", "No more."),
    ("user", "filler"),
    ("tool", "last but one\nof two lines"),
    ("user", "the train again"),
)


@pytest.fixture
def chats(archive):
    """Two conversations, and one in another namespace."""
    trip = archive.conversation("trip")
    for nth, (role, text) in enumerate(TURNS):
        trip.record(role, text, id=f"t{nth + 1}", ts=f"2026-01-0{nth + 1}T09:00:00Z")
    archive.conversation("other").record("user", "a train of thought")
    archive.conversation("away", namespace="work").record("user", "no train there")
    return archive


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (
            ["train"],
            [
                "other:1:user:a train of thought",
                "trip:1:user:And by train?",
                "trip:2:assistant:The Train leaves at nine.",
                "trip:6:user:the train again",
            ],
        ),
        (["Train"], ["trip:2:assistant:The Train leaves at nine."]),
        (["-s", "train", "trip", "-m", "1"], ["trip:1:user:And by train?"]),
        (["-i", "ABOUT|MORE"], ["trip:2:assistant:About seven hours.", "trip:3:user:No more."]),
        (["-F", "train?"], ["trip:1:user:And by train?"]),
        (["-r", "tool", "-r", "assistant", "-c", "l"], ["trip:2"]),
        (["-v", "train", "-r", "tool"], ["trip:5:tool:last but one", "trip:5:tool:of two lines"]),
        (["-c", "train"], ["other:1", "trip:3"]),
        (["-c", "again"], ["trip:1"]),
        (["-c", "again", "other", "trip", "other"], ["other:0", "trip:1"]),
        (["-l", "train"], ["other", "trip"]),
        (["-l", "again", "--all-namespaces"], ["default/trip"]),
        (["-c", "train", "--all-namespaces"], ["default/other:1", "default/trip:3", "work/away:1"]),
        (["-N", "work", "train"], ["away:1:user:no train there"]),
        (["--since", "2026-01-06", "train", "trip"], ["trip:6:user:the train again"]),
        (["--until", "2026-01-02", "train", "trip"], ["trip:1:user:And by train?"]),
        (
            ["hours[.]\nThe"],
            ["trip:2:assistant:About seven hours.", "trip:2:assistant:The Train leaves at nine."],
        ),
        (["--", "-", "trip"], None),
    ],
)
def test_what_is_found_is_printed_line_by_line(cli, chats, words, lines):
    """As grep(1) has it, so that what is known of grep holds."""
    answer = cli("grep", *words, code=0 if lines else 1)
    assert answer.text.splitlines() == (lines or [])
    assert answer.err == ""


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["-A", "1"], ["trip:1:", "trip:2:", "trip-3-", "--", "trip:6:"]),
        (["-A1"], ["trip:1:", "trip:2:", "trip-3-", "--", "trip:6:"]),
        (["-B", "1"], ["trip:1:", "trip:2:", "--", "trip-5-", "trip-5-", "trip:6:"]),
        (["-C", "1", "-B", "0"], ["trip:1:", "trip:2:", "trip-3-", "--", "trip:6:"]),
        (
            ["-C", "2"],
            ["trip:1:", "trip:2:", "trip-3-", "trip-4-", "trip-5-", "trip-5-", "trip:6:"],
        ),
        (["-A", "2", "-m", "1"], ["trip:1:", "trip-2-", "trip-2-", "trip-3-"]),
    ],
)
@pytest.mark.parametrize("pattern", ["train", "[t]rain"])
def test_neighbours_stand_around_and_none_is_printed_twice(cli, chats, words, lines, pattern):
    """The letters are those that everybody knows, also where -A is another verb's archive."""
    answer = cli("grep", pattern, "trip", *words)
    assert [
        line[: len(start)] for line, start in zip(answer.text.splitlines(), lines, strict=True)
    ] == lines


def test_groups_of_two_conversations_are_apart(cli, chats):
    """Else the last of one would pass for the neighbour of the next."""
    lines = cli("grep", "thought|again", "-B", "1").text.splitlines()
    assert [line.partition(":")[0] for line in lines][:2] == ["other", "--"]


def test_the_archive_is_named_before_the_verb_or_in_full(cli, chats, root):
    """-A is the archive everywhere else; behind this verb it is grep's."""
    for words in (["-A", root, "grep", "again"], ["grep", "again", "--archive", root]):
        assert cli(*words, CONVMEM_ARCHIVE="/nowhere").text == "trip:6:user:the train again\n"
    answer = cli("grep", "again", "-A", root, code=2)
    assert "-A" in answer.err
    assert "--archive" in answer.err
    assert "--archive" in cli("grep", "--help").text


def test_json_has_a_hit_a_line_and_neighbours_as_tail_has_them(cli, chats):
    """Programs take hits, and what stands around them, from one stream."""
    first, second, third = cli("grep", "no more", "-C1", "--json").objects
    assert second == {
        "continuation_id": "trip",
        "namespace": "default",
        "id": "t3",
        "seq": 3,
        "ts": "2026-01-03T09:00:00.000000Z",
        "role": "user",
        "snippet": "No more.",
        "marks": [[0, 7]],
    }
    tail = {each["seq"]: each for each in cli("tail", "trip", "--json").objects}
    assert first == {**tail[2], "context": True}
    assert third == {**tail[4], "context": True}


def test_counts_and_ids_are_objects_too(cli, chats):
    """--json is JSON whatever is asked."""
    assert cli("grep", "-c", "again", "other", "trip", "--json").objects == [
        {"continuation_id": "other", "namespace": "default", "count": 0},
        {"continuation_id": "trip", "namespace": "default", "count": 1},
    ]
    assert cli("grep", "-l", "again", "--json").objects == [
        {"continuation_id": "trip", "namespace": "default"}
    ]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nothing of the kind"], 1, ""),
        (["-c", "nothing of the kind"], 1, ""),
        (["train", "-m", "0"], 1, ""),
        (["("], 2, "unterminated subpattern at character 1"),
        (["x", "-C", "many"], 2, "-C"),
        (["x", "-m", "-1"], 2, "-m"),
        (["x", "--since", "soonish"], 2, "--since"),
        (["-i", "-s", "x"], 2, "exclude"),
        (["-c", "-l", "x"], 2, "exclude"),
        (["x", "trip", "--all-namespaces"], 2, "exclude"),
        ([], 2, "PATTERN"),
        (["train", "nobody"], 3, "no conversation 'nobody'"),
    ],
)
def test_the_exit_codes_are_those_of_grep_and_of_convmem(cli, chats, words, code, said):
    """Scripts branch on them."""
    answer = cli("grep", *words, code=code)
    assert said in answer.err
    assert answer.out == b""


def test_one_that_is_not_there_does_not_hide_the_others(cli, chats):
    """What was found is found."""
    answer = cli("grep", "train", "nobody", "other", code=3)
    assert answer.text == "other:1:user:a train of thought\n"
    assert "nobody" in answer.err


def test_an_archive_that_is_not_there_is_four(cli):
    """The disk that was not mounted must not look like an archive without a match."""
    assert "no archive" in cli("grep", "x", code=4).err


def test_what_cannot_be_read_is_told_and_the_others_are_searched(cli, chats, log):
    """One file with wrong permissions must not end a search of thousands."""
    log("other").unlink()
    log("other").mkdir()
    log("trip").chmod(0)
    answer = cli("grep", "train", "--all-namespaces", code=4, prepare=cli.AS_ANYBODY)
    assert answer.text == "work/away:1:user:no train there\n"
    assert "trip" in answer.err


def test_damage_is_told_on_standard_error(cli, chats, log):
    """Not found because it could not be read is not the same as not there."""
    log().write_bytes(log().read_bytes().replace(b"by train", b"by Train"))
    answer = cli("grep", "train", "trip")
    assert [line.split(":")[1] for line in answer.text.splitlines()] == ["2", "6"]
    assert "1 damaged line skipped" in answer.err
    assert cli("grep", "train", "trip", "--quiet").err == ""
    (told,) = cli("grep", "train", "trip", "--json").told
    assert (told["kind"], told["count"]) == ("damaged", 1)


def test_a_terminal_shows_whose_and_when_and_the_match_in_its_line(cli, chats):
    """People look for the match, not for the megabyte around it."""
    chats.conversation("long").record("user", f"{'x' * 500} needle {'y' * 500}\nother line")
    shown = cli.on_terminal("grep", "needle", on="1", columns=60, TZ="UTC").shown
    head, line = shown.splitlines()
    assert head.startswith("\x1b[36mlong:1\x1b[0m\x1b[2m  user  ")
    assert "\x1b[1;31mneedle\x1b[0m" in line
    assert line.startswith("  …x")
    assert line.endswith("y…")
    plain = cli.on_terminal("grep", "needle", on="1", columns=60, TERM="dumb").shown
    assert max(map(len, plain.splitlines())) <= 60
    shown = cli.on_terminal("grep", "more", "-C", "1", on="1", TZ="UTC").shown
    assert "\x1b[2mtrip:2\x1b[0m\x1b[2m  assistant  2026-01-02 09:00\x1b[0m" in shown
    shown = cli.on_terminal("grep", "-c", "train", on="1", NO_COLOR="1").shown
    assert shown.splitlines() == ["other:1", "trip:3"]
    assert cli.on_terminal("grep", "-l", "train", on="1").shown.splitlines() == ["other", "trip"]


def test_what_could_drive_a_terminal_is_shown_and_not_sent(cli, archive):
    """Content is a stranger's; so are roles and ids."""
    archive.conversation("c\x1b[2J").record("user", "a needle\x1b]0;title\x07 \u202e東京\tend")
    shown = cli.on_terminal("grep", "needle.*京", on="1", TERM="dumb").shown
    assert "\x1b" not in shown
    assert "\\x1b]0;title\\x07 \\u202e東京    end" in shown
    assert "\x1b" not in cli("grep", "needle").text.partition(":")[0]


@pytest.mark.parametrize("width", [8, 20, 40, 100])
def test_nothing_is_wider_than_the_window(cli, archive, width):
    """Rows that fold by themselves cannot be read."""
    archive.conversation("c").record("user", "東" * 300 + "needle" * 40 + "\x1b" * 300)
    for pattern in ("needle", "東", "\x1b", "(needle)+"):
        shown = cli.on_terminal("grep", pattern, on="1", columns=width, TERM="dumb").shown
        row = shown.splitlines()[1]
        assert sum(2 if letter == "東" else 1 for letter in row) <= max(width, 8), row


def test_ctrl_c_ends_an_expression_that_takes_for_ever(cli, archive):
    """Python's expressions can; whoever typed one wants the prompt back."""
    archive.conversation("c").record("user", "first")
    archive.conversation("d").record("user", "a" * 60)
    with cli.running("grep", "first|(a+)+$b", "--json") as run:
        run.lines(1)
        assert run.interrupt().code == 130


def test_a_reader_that_has_seen_enough_ends_it(cli, archive):
    """`convmem grep … | head -1` is no failure."""
    for name in "abc":
        archive.conversation(name).record("user", "needle" + "x" * 200_000)
    with cli.running("grep", "needle") as run:
        run.lines(1)
        run.process.stdout.close()
        assert run.process.wait(30) == 0
