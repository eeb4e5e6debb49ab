"""Rules: what may go and what must stay, read so that nobody is surprised by what they meant."""

from __future__ import annotations

import itertools
from datetime import timedelta
from fnmatch import fnmatchcase

import pytest

from convmem import RetentionPolicy, UsageError
from convmem.rules import KeepRule, RetentionRule, Rules, Who
from convmem.settings import FILE_NAME, Settings

DAY = 86_400.0


@pytest.fixture
def read(tmp_path):
    """Return the rules in a text."""

    def rules(text, on_problem=None):
        (tmp_path / FILE_NAME).write_text(text)
        return Rules.of(Settings.load(str(tmp_path), {}), on_problem=on_problem)

    return rules


# --- what they say -----------------------------------------------------------------------------


def test_rules_are_read_as_values_with_their_lines(read):
    """What the file says in people's units, the plan gets in seconds and bytes."""
    rules = read("""
[[keep]]
id = "legal-*"

[[retention]]
namespace = "team-*"
id = ["ci-*", "test-*"]
keep_last = 200
max_age = "90d"
max_bytes = "20M"
delete_idle = "1y"
compress_idle = "60d"

[archive]
max_age = "2y"
max_bytes = 1000
min_idle = "30d"
allow_empty = true

[trash]
max_age = "30d"
""")
    assert rules.keep == (KeepRule(1, Who(id=("legal-*",)), 2),)
    assert rules.retention == (
        RetentionRule(
            1,
            Who(("team-*",), ("ci-*", "test-*")),
            5,
            RetentionPolicy(keep_last=200, max_age=timedelta(days=90), max_bytes=20 << 20),
            365.25 * DAY,
            60 * DAY,
        ),
    )
    assert (rules.archive.max_age_seconds, rules.archive.max_bytes) == (2 * 365.25 * DAY, 1000)
    assert (rules.archive.min_idle_seconds, rules.archive.allow_empty) == (30 * DAY, True)
    assert rules.trash_max_age_seconds == 30 * DAY
    assert not rules.is_empty


def test_without_rules_nothing_goes(read):
    """Off by default, all of it; keeping is no removal."""
    for text in ("", 'lock_timeout = "1s"', '[[keep]]\nid = "x"', "[archive]\nallow_empty = true"):
        assert read(text).is_empty
    assert Rules().is_empty
    for text in ('[trash]\nmax_age = "1d"', "[[retention]]\nkeep_last = 0"):
        assert not read(text).is_empty


def test_the_first_rule_that_matches_counts_and_a_kept_conversation_has_none(read):
    """One conversation, one rule: people read from the top."""
    rules = read("""
[[keep]]
namespace = "law"
[[retention]]
id = "ci-keep-*"
keep_last = 9
[[retention]]
id = "ci-*"
keep_last = 1
[[retention]]
namespace = "b"
max_age = "1d"
""")

    def number(namespace, continuation_id):
        found = rules.rule_for(namespace, continuation_id)
        return None if found is None else found.number

    assert number("a", "ci-keep-1") == 1
    assert number("b", "ci-2") == 2
    assert number("b", "other") == 3
    assert number("a", "other") is None
    assert number("law", "ci-2") is None
    assert rules.is_kept("law", "ci-2") and not rules.is_kept("a", "ci-2")
    assert isinstance(rules.deciding("law", "ci-2"), KeepRule)


def test_a_slash_in_an_id_is_not_taken_for_a_namespace(read):
    """An id may hold any text: "team-a/x" in one namespace is not "x" in the other."""
    rules = read('[[keep]]\nid = "team-a/*"\n[[keep]]\nnamespace = "team-b"\nid = "x"\n')
    assert rules.is_kept("default", "team-a/x")
    assert not rules.is_kept("team-a", "x")
    assert rules.is_kept("team-b", "x")
    assert not rules.is_kept("default", "team-b/x")


@pytest.mark.parametrize(
    ("pattern", "text", "is_matching"),
    [
        ("*", "", True),
        ("*", "a/b\nc", True),
        ("ci-*", "ci-", True),
        ("ci-*", "xci-1", False),
        ("ci-*", "CI-1", False),
        ("*-ci", "a\n-ci", True),
        ("a?c", "a/c", True),
        ("a?c", "ac", False),
        ("a[bc]", "ab", True),
        ("a[!bc]", "ab", False),
        ("a[*]", "a*", True),
        ("a[*]", "ab", False),
        ("a*", "a" * 1000 + "\n", True),
        ("exact", "exact", True),
        ("exact", "exact\n", False),
        ("(a|b)+.", "(a|b)+.", True),
        ("(a|b)+.", "aab", False),
        ("[", "[", True),
        ("æ*", "æøå", True),
    ],
)
def test_patterns_are_those_of_the_shell_but_see_the_whole_text(pattern, text, is_matching):
    """A star matches slashes and newlines too, since ids hold both; case counts."""
    assert Who(id=(pattern,)).matches("any", text) is is_matching
    assert Who(namespace=(pattern,)).matches(text, "any") is is_matching


def test_a_rule_that_is_said_to_cover_another_matches_all_that_it_matches():
    """`config check` must not call a rule dead that is alive."""
    patterns = ["*", "a*", "ab*", "*b", "ab", "a?", "a[b]", "[*]", "a*b", "", "b"]
    texts = ["".join(t) for n in range(4) for t in itertools.product("ab*[", repeat=n)]
    covering = 0
    for mine, theirs in itertools.product(patterns, repeat=2):
        if Who(id=(mine,)).covers(Who(id=(theirs,))):
            covering += 1
            assert all(fnmatchcase(t, mine) for t in texts if fnmatchcase(t, theirs)), (
                mine,
                theirs,
            )
    assert covering > 25
    assert Who().covers(Who(("a",), ("b", "c*")))
    assert not Who(("a",)).covers(Who())
    assert not Who(("a",), ("b",)).covers(Who(("a",), ("b", "c")))


# --- what is wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[[retention]]\nid = 'a'\nkeep_lst = 3", 3, "unknown key 'keep_lst'"),
        ("[[retention]]\nkeep_last = true", 2, "keep_last must be a whole number, 0 or more"),
        ("[[retention]]\nkeep_last = -1", 2, "not -1"),
        ("[[retention]]\nkeep_last = '200'", 2, "not '200'"),
        ("[[retention]]\nmax_age = 90", 2, "must be a duration in quotes, not 90"),
        ("[[retention]]\nmax_age = '90'", 2, "has no unit"),
        ("[[retention]]\nmax_age = '-1d'", 2, "negative"),
        ("[[retention]]\nmax_age = '3m'", 2, "minutes or months"),
        ("[[retention]]\nmax_age = 2026-01-01", 2, "not a time"),
        ("[[retention]]\nmax_bytes = -5", 2, "not -5"),
        ("[[retention]]\nmax_bytes = 1e3", 2, "in quotes"),
        ("[[retention]]\nmax_age = '10001y'", 2, "too long"),
        ("[[retention]]\ndelete_idle = '0s'", 2, "delete_idle must be more than 0"),
        ("[[retention]]", 1, "says nothing to do"),
        ("[[retention]]\nid = 'x'", 1, "says nothing to do"),
        ("[[retention]]\nid = ''\nkeep_last = 1", 2, "id must be a pattern"),
        ("[[retention]]\nid = []\nkeep_last = 1", 2, "id must be a pattern"),
        ("[[retention]]\nid = ['a', 3]\nkeep_last = 1", 2, "id must be a pattern"),
        ("[[retention]]\nnamespace = 7\nkeep_last = 1", 2, "namespace must be a pattern"),
        ("[retention]\nkeep_last = 1", 1, "retention must be tables"),
        ("keep = ['legal-*']", 1, "keep must be tables"),
        ("[[keep]]", 1, "says nothing to do"),
        ("[[keep]]\nids = 'x'", 2, "unknown key 'ids'"),
        ("[[keep]]\nid = 'x'\nkeep_last = 1", 3, "unknown key 'keep_last'"),
        ("[archive]", 1, "says nothing to do"),
        ("[archive]\nmin_idle = '1d'", 1, "says nothing to do"),
        ("[[archive]]\nmax_age = '1d'", 1, "archive must be one table"),
        ("[archive]\nmax_age = '0s'", 2, "more than 0"),
        ("[archive]\nallow_empty = 'yes'", 2, "must be true or false"),
        ("[archive]\nmax_age = '1d'\nmin_idle = '2d'", 3, "min_idle is more than max_age"),
        ("[archive]\nmax_age = '1d'\nkeep_last = 5", 3, "unknown key 'keep_last'"),
        ("[trash]", 1, "says nothing to do"),
        ("[trash]\nmax_agee = '1d'", 2, "unknown key 'max_agee'"),
    ],
)
def test_what_is_wrong_in_a_rule_is_named_with_its_line_and_no_rule_counts(
    read, tmp_path, text, line, message
):
    """§4 item 25: half a policy may remove what the other half protects."""
    with pytest.raises(UsageError) as caught:
        read("\n\n" + text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/{FILE_NAME}:{line + 2}: ")


def test_a_rule_that_is_wrong_matches_nothing_while_it_is_explained(read):
    """Who carries on for a look must not be shown a rule that speaks of everything."""
    problems = []
    rules = read("[[retention]]\nid = 3\nkeep_last = 1", problems.append)
    assert len(problems) == 1
    assert rules.rule_for("default", "x") is None


def test_rules_that_do_not_do_what_they_seem_to_are_doubted(read):
    """A rule below one that matches everything is the commonest slip of all."""
    rules = read("""
[[keep]]
id = "legal-*"
[[retention]]
id = ["ci-*", "x"]
keep_last = 1
[[retention]]
id = "ci-web-*"
keep_last = 2
[[retention]]
id = "legal-old-*"
keep_last = 2
[[retention]]
compress_idle = "2d"
delete_idle = "2d"
[[retention]]
namespace = "a"
keep_last = 2
""")
    assert [(line, text[: text.index(":")]) for line, text in rules.doubts()] == [
        (7, "retention rule 2 never counts"),
        (10, "retention rule 3 never counts"),
        (13, "retention rule 4 never compresses"),
        (16, "retention rule 5 never counts"),
    ]
    assert read("[[retention]]\nid='a'\nkeep_last=1\n[[retention]]\nkeep_last=2").doubts() == []


def test_the_time_of_grace_is_never_longer_than_the_age_that_goes(read):
    """Unsaid it is a week, but `max_age = "1d"` must mean what it says."""
    assert read("[archive]\nmax_bytes = '1G'").archive.min_idle_seconds == 7 * DAY
    assert read("[archive]\nmax_age = '1d'").archive.min_idle_seconds == DAY
