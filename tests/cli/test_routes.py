"""Two readers of one table: the fast one may refuse, but must never read otherwise than Typer."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convmem.cli import fast, typed
from convmem.cli.spec import COMMON, Argument, Option, Verb
from convmem.cli.verbs import TABLE
from convmem.errors import UsageError

ROOT = Path(fast.__file__).parents[2]

PLAIN = [
    ["record", "trip", "And by train?"],
    ["record", "trip"],
    ["record", "-", "--jsonl"],
    ["record", "trip", ""],
    ["record", "", "text"],
    ["record", "trip", "-r", "assistant", "text"],
    ["record", "-r", "assistant", "trip", "text"],
    ["record", "trip", "text", "--role=tool", "--id", "t1", "--ts=2026-11-21T09:00:00Z"],
    ["record", "trip", "--meta", "a=1", "--meta=b=2", "text", "--json", "--quiet"],
    ["record", "trip", "--", "-r"],
    ["record", "--", "trip", "--json"],
    ["record", "trip", "--sync", "none", "x"],
    ["record", "trip", "--role", "a", "--role", "b", "x"],
    ["record", "trip", "æ \N{GRINNING FACE} \udcff"],
    ["tail", "trip"],
    ["tail", "trip", "-n", "-3"],
    ["tail", "trip", "-n", "--json"],
    ["tail", "trip", "-n", "--"],
    ["tail", "trip", "--lines=-3", "-f", "-q"],
    ["tail", "trip", "--since="],
    ["tail", "trip", "-r", "user", "-r", "tool"],
    ["-A", "/a", "tail", "trip"],
    ["--archive=/a", "-N", "n", "tail", "trip", "-A", "/b"],
    ["-A", "-x", "tail", "trip"],
    ["-N", "", "tail", "trip", "--namespace", "m"],
    ["-N", "m", "tail", "trip", "--namespace", ""],
    ["show", "trip", "--json"],
    ["compact"],
    ["compact", "a", "b", "c", "--keep-last", "5"],
    ["compact", "--all", "--max-age", "90d", "--max-bytes=50M", "--jobs", "4", "--dry-run"],
    ["compact", "a", "--", "--all"],
    ["list"],
    ["list", "-0", "--all-namespaces"],
    ["list", "-l", "--json"],
    ["path"],
    ["path", "trip"],
]

UNUSUAL = [
    [],
    ["--help"],
    ["-h"],
    ["--version"],
    ["tail", "--help"],
    ["tail", "trip", "-fq"],
    ["tail", "trip", "-n5"],
    ["tail", "trip", "-n=5"],
    ["tail", "trip", "--follow=1"],
    ["tail", "trip", "--lin", "5"],
    ["tail", "trip", "--bogus"],
    ["tail", "trip", "-n"],
    ["tail"],
    ["tail", "a", "b"],
    ["--", "tail", "trip"],
    ["--json", "tail", "trip"],
    ["recrod", "trip"],
    ["record", "trip", "--sync", "sometimes"],
    ["-A"],
    ["-A", "/a"],
    ["--install-completion"],
]


@pytest.mark.parametrize("words", PLAIN, ids=shlex.join)
def test_plain_shapes_need_no_typer_and_mean_what_typer_says(words):
    """A command in a hot loop must be quick, and must not change meaning by being quick."""
    quick = fast.parse(words, {})
    assert quick is not None
    assert quick == typed.parse(words, {})


@pytest.mark.parametrize("words", UNUSUAL, ids=shlex.join)
def test_the_fast_reader_leaves_unusual_words_to_typer(words):
    """A guess of ours about odd words would be a second, undocumented grammar."""
    assert fast.parse(words, {}) is None


@pytest.mark.parametrize(
    ("words", "lines", "follow", "quiet"),
    [
        (["tail", "trip", "-fq"], None, True, True),
        (["tail", "trip", "-n5"], "5", False, False),
        (["tail", "trip", "-fqn", "5"], "5", True, True),
    ],
    ids=lambda value: shlex.join(value) if isinstance(value, list) else str(value),
)
def test_what_the_fast_reader_leaves_typer_reads(words, lines, follow, quiet):
    """People bundle flags as with tail(1)."""
    _, _, values = typed.parse(words, {})
    assert (values["lines"], values["follow"], values["quiet"]) == (lines, follow, quiet)


def test_completion_never_runs_the_command_it_completes():
    """The shell sets a variable; pressing TAB must not record anything."""
    assert fast.parse(["tail", "trip"], {"_CONVMEM_COMPLETE": "complete_bash"}) is None


VALUES = st.one_of(
    st.sampled_from(
        ["x", "trip", "-", "--", "-3", "+7", "--json", "-q", "-A", "", "a=b", "=", "\udcff", "é\n"]
    ),
    st.text(max_size=4),
)


def _option_words(option: Option) -> st.SearchStrategy[list[str]]:
    flags = st.sampled_from(option.flags)
    if option.takes == "flag":
        return flags.map(lambda flag: [flag])
    values = st.one_of(st.sampled_from(option.choices), VALUES) if option.choices else VALUES
    return st.one_of(
        st.tuples(flags, values).map(list),
        st.tuples(flags, values).map(lambda pair: ["=".join(pair)]),
        st.tuples(flags, values).map(lambda pair: ["".join(pair)]),
        flags.map(lambda flag: [flag]),
    )


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    verb = draw(st.sampled_from(list(TABLE.values())))
    before = st.one_of([_option_words(option) for option in COMMON])
    after = st.one_of(
        [_option_words(option) for option in (*COMMON, *verb.options)] + [VALUES.map(lambda v: [v])]
    )
    words = [word for part in draw(st.lists(before, max_size=2)) for word in part]
    words.append(verb.name)
    words += ["trip"] * draw(st.integers(0, 1))
    words += [word for part in draw(st.lists(after, max_size=5)) for word in part]
    return words


@settings(max_examples=300, deadline=None)
@given(command_lines())
def test_any_command_line_that_the_fast_reader_takes_means_the_same_to_typer(words):
    """The two readers share a table but not a parser; only comparing them keeps them equal."""
    quick = fast.parse(words, {})
    if quick is not None:
        assert typed.parse(words, {}) == quick


@settings(max_examples=100, deadline=None)
@given(command_lines())
def test_typer_either_reads_a_command_line_or_says_what_is_wrong_with_it(words):
    """No words of a user may end in a traceback."""
    try:
        answer = typed.parse(words, {})
    except UsageError as error:
        assert str(error)
        assert error.hint
    else:
        assert isinstance(answer, tuple) or answer == 0


@pytest.mark.parametrize("verb", TABLE.values(), ids=list(TABLE))
def test_help_names_every_option_argument_and_exit_status(verb):
    """An option that help does not show does not exist for most people."""
    text = typed.help_of(verb)
    for option in (*verb.options, *COMMON):
        for flag in option.flags:
            assert flag in text
        if option.takes != "flag":
            assert f"{option.flags[-1]} {option.metavar}" in text
    for argument in verb.arguments:
        assert argument.metavar in text
    assert "Examples:" in text
    assert "EXIT STATUS:" in text
    assert "\n    0  " in text


@pytest.mark.parametrize("verb", TABLE.values(), ids=list(TABLE))
def test_every_example_in_the_help_is_a_command_line_that_works(verb):
    """People copy examples; one with a flag of last month is worse than none."""
    seen = 0
    for line in verb.description.splitlines():
        if not line.startswith("  ") or "$(" in line:
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|<>")
        lexer.whitespace_split = True
        words = list(lexer)
        if "convmem" not in words[:1] and "|" not in words:
            continue
        start = words.index("convmem") + 1
        ends = [at for at, word in enumerate(words) if word in "|<>" and at > start]
        assert not isinstance(typed.parse(words[start : ends[0] if ends else None], {}), int)
        seen += 1
    assert seen or verb.name == "path"


def test_the_table_is_well_formed():
    """A slip in a definition shows here, not when a user first types it."""
    for name, verb in TABLE.items():
        assert verb.name == name
        module, colon, function = verb.target.partition(":")
        assert colon
        assert all(part.isidentifier() for part in (*module.split("."), function))
        assert verb.short.endswith(".")
        assert len(verb.short) <= 60
        names = [each.name for each in (*verb.arguments, *verb.options, *COMMON)]
        flags = [flag for option in verb.options for flag in option.flags]
        common = [flag for option in COMMON for flag in option.flags]
        assert len(set(names)) == len(names)
        assert len(set(flags)) == len(flags)
        # Everybody knows what -A is to grep; the archive then has its long name only.
        assert set(flags) & set(common) == ({"-A"} if verb.name == "grep" else set())
        assert all(name.isidentifier() and name != "context" for name in names)
        assert not any(argument.many for argument in verb.arguments[:-1])
        optional = [not argument.required for argument in verb.arguments]
        assert optional == sorted(optional)
        for option in verb.options:
            assert option.help.endswith(".")
            assert all(flag[:1] == "-" and "=" not in flag for flag in option.flags)


def test_a_verb_gets_every_value_by_name_even_those_not_given():
    """Functions need no defaults of their own, so they cannot drift from what help says."""
    verb, context, values = fast.parse(["tail", "trip"], {"HOME": "/h"})
    assert verb.target == "convmem.cli.tail:run"
    assert values == {
        "continuation_id": "trip",
        "lines": None,
        "follow": False,
        "role": [],
        "since": None,
        "until": None,
        "cursor_file": None,
        "plain": False,
        "quiet": False,
        "json": False,
    }
    assert (context.archive, context.namespace, context.json) == (None, None, False)
    assert context.env == {"HOME": "/h"}


def test_archive_and_namespace_after_the_verb_win_over_those_before():
    """An alias sets the usual place; what is typed at the end corrects it."""
    _, context, _ = fast.parse(["-A", "/a", "-N", "n", "tail", "trip", "-A", "/b"], {})
    assert (context.archive, context.namespace) == ("/b", "n")


def test_lists_belong_to_the_caller():
    """A verb that edits its list must not change the next run in the same process."""
    first = fast.parse(["tail", "trip"], {})[2]
    first["role"].append("user")
    assert fast.parse(["tail", "trip"], {})[2]["role"] == []


def test_choices_of_a_repeatable_option_are_checked_one_by_one():
    """Each value counts, so each may be wrong."""
    table = {
        "pick": Verb(
            "pick",
            "Pick.",
            "Pick.",
            target="nowhere:run",
            options=(Option("of", ("--of",), "Of.", takes="many", choices=("a", "b", "c")),),
        )
    }
    good = ["pick", "--of", "a", "--of=b"]
    assert fast.parse(good, {}, table) == typed.parse(good, {}, table)
    bad = ["pick", "--of", "a", "--of=z"]
    assert fast.parse(bad, {}, table) is None
    with pytest.raises(UsageError, match="'z' is no choice for --of: take a, b or c"):
        typed.parse(bad, {}, table)


def test_required_words_may_be_many():
    """`delete ID...` needs one at least."""
    table = {
        "drop": Verb(
            "drop",
            "Drop.",
            "Drop.",
            target="nowhere:run",
            arguments=(Argument("ids", "I", many=True),),
        )
    }
    assert fast.parse(["drop"], {}, table) is None
    with pytest.raises(UsageError, match="missing argument"):
        typed.parse(["drop"], {}, table)
    words = ["drop", "a", "--", "-b"]
    assert fast.parse(words, {}, table) == typed.parse(words, {}, table)


def test_the_fast_route_loads_nothing_it_does_not_need(tmp_path):
    """Loading Typer takes longer than recording a turn; each of these would show in every call."""
    (tmp_path / "dummy.py").write_text("def run(context, **values):\n    return 0\n")
    code = f"""
import os, sys
sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]
before = set(sys.modules)
from convmem.cli.verbs import TABLE
TABLE["record"].target = "dummy:run"
from convmem.cli.boundary import run
assert run(["record", "trip", "text", "--role=user"]) == 0
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    ours = {name for name in done.stdout.split() if not name.startswith("convmem")}
    assert ours == {"__future__", "dummy"}
