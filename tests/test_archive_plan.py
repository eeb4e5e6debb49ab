"""The plan for a whole archive: what goes, in which order, why, and what can never go."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from convmem import RetentionPolicy, UsageError
from convmem.archive_plan import ConversationFacts, plan_archive, plan_room
from convmem.rules import ArchiveRule, KeepRule, RetentionRule, Rules, Who

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = 86_400.0
POLICY = RetentionPolicy(keep_last=3)


def _facts(name, idle_days, *, bytes=100, namespace="default", **more):
    last = None if idle_days is None else NOW - timedelta(days=idle_days)
    return ConversationFacts(namespace, name, bytes, last, **more)


def _rule(number, *ids, **what):
    return RetentionRule(number, Who(id=ids or ("*",)), number, **what)


def _gone(steps):
    return [step.facts.continuation_id for step in steps if step.delete]


# --- each conversation by its own rule ---------------------------------------------------------


def test_each_conversation_gets_what_its_rule_says_and_the_reason_in_words():
    """What `--dry-run` prints and the audit log keeps: which rule, and why."""
    rules = Rules(
        keep=(KeepRule(1, Who(id=("legal",)), 1),),
        retention=(
            _rule(1, "ci-*", policy=POLICY, delete_idle_seconds=30 * DAY),
            _rule(2, "d*", policy=POLICY, compress_idle_seconds=60 * DAY),
        ),
        archive=ArchiveRule(max_age_seconds=365.25 * DAY),
    )
    facts = [
        _facts("d1", 61),
        _facts("ci-old", 31),
        _facts("ci-new", 29),
        _facts("legal", 4000),
        _facts("ancient", 400),
        _facts("other", 300),
        _facts("d2", 61, is_compressed=True),
        _facts("d0", 59, namespace="a"),
    ]
    steps = plan_archive(rules, facts, NOW)
    assert [(s.facts.namespace, s.facts.continuation_id) for s in steps] == sorted(
        (f.namespace, f.continuation_id) for f in facts
    )
    told = {s.facts.continuation_id: s for s in steps}
    assert {name: (s.delete, s.policy, s.compress, s.rule) for name, s in told.items()} == {
        "d1": (None, POLICY, True, 2),
        "ci-old": ("delete_idle", None, False, 1),
        "ci-new": (None, POLICY, False, 1),
        "legal": (None, None, False, None),
        "ancient": ("archive.max_age", None, False, None),
        "other": (None, None, False, None),
        "d2": (None, POLICY, False, 2),
        "d0": (None, POLICY, False, 2),
    }
    assert told["ci-old"].because == "idle for 31d; retention rule 1: delete_idle is 30d"
    assert told["ancient"].because == "idle for 400d; [archive] max_age is 1y"
    assert told["legal"].is_kept and told["legal"].because == "keep rule 1: nothing touches it"
    assert told["legal"].is_nothing and told["other"].is_nothing and not told["d1"].is_nothing


def test_a_conversation_idle_for_exactly_the_limit_stays():
    """As with turns: older than the age goes, not as old."""
    rules = Rules(retention=(_rule(1, delete_idle_seconds=30 * DAY),))
    last = NOW - timedelta(days=30)
    just = ConversationFacts("default", "b", 1, last - timedelta(microseconds=1))
    steps = plan_archive(rules, [ConversationFacts("default", "a", 1, last), just], NOW)
    assert _gone(steps) == ["b"]


def test_a_conversation_without_a_time_is_never_too_old():
    """A line by hand has none; its age is not known, so it cannot be a reason."""
    rules = Rules(
        retention=(_rule(1, policy=POLICY, delete_idle_seconds=1, compress_idle_seconds=1),),
        archive=ArchiveRule(max_age_seconds=1, max_bytes=0, min_idle_seconds=0, allow_empty=True),
    )
    (step,) = plan_archive(rules, [_facts("a", None)], NOW)
    assert (step.delete, step.compress, step.policy) == (None, False, POLICY)
    room = plan_room(rules, [_facts("a", None)], NOW)
    assert (room.steps, room.excess_bytes) == ((), 100)


def test_activity_in_the_future_counts_as_now():
    """A clock that was wrong once must not make a conversation look old, or break the run."""
    rules = Rules(archive=ArchiveRule(max_age_seconds=1, max_bytes=0, min_idle_seconds=1))
    facts = [_facts("a", -4000), _facts("b", 2)]
    assert facts[0].idle_seconds(NOW) == 0
    assert _gone(plan_archive(rules, facts, NOW)) == ["b"]
    assert _gone(plan_room(rules, facts, NOW).steps) == ["b"]


def test_times_of_any_zone_are_compared_as_moments():
    """Stored times are UTC, but a caller's need not be."""
    zone = datetime.fromisoformat("2026-11-20T14:00:00+03:00")  # 25 hours before
    rules = Rules(archive=ArchiveRule(max_age_seconds=DAY))
    facts = [ConversationFacts("default", "a", 1, zone), _facts("b", 0)]
    assert _gone(plan_archive(rules, facts, NOW)) == ["a"]


# --- room --------------------------------------------------------------------------------------


def test_those_idle_longest_go_until_the_rest_fits():
    """No more than is needed, and those that nobody will miss soonest."""
    rules = Rules(archive=ArchiveRule(max_bytes=250, min_idle_seconds=10 * DAY))
    facts = [_facts("a", 20), _facts("b", 40), _facts("c", 30), _facts("d", 5), _facts("e", 11)]
    room = plan_room(rules, facts, NOW)
    assert _gone(room.steps) == ["b", "c", "a"]
    assert (room.bytes_before, room.bytes_after, room.excess_bytes) == (500, 200, 0)
    assert room.steps[0].delete == "archive.max_bytes"
    assert room.steps[0].because == (
        "idle for 40d; all logs take 500 B, [archive] max_bytes is 250 B"
    )
    for limit, gone in ((200, "bca"), (199, "bcae"), (500, ""), (499, "b")):
        exact = replace(rules, archive=replace(rules.archive, max_bytes=limit))
        assert _gone(plan_room(exact, facts, NOW).steps) == list(gone)


def test_what_is_kept_or_was_active_lately_stays_though_the_rest_does_not_fit():
    """The limit gives way, never the promise; and the excess is said."""
    rules = Rules(
        keep=(KeepRule(1, Who(id=("legal",)), 1),),
        archive=ArchiveRule(max_bytes=50, min_idle_seconds=10 * DAY),
    )
    facts = [_facts("legal", 4000), _facts("b", 40), _facts("new", 9)]
    room = plan_room(rules, facts, NOW)
    assert _gone(room.steps) == ["b"]
    assert (room.bytes_after, room.excess_bytes) == (200, 150)


def test_what_a_policy_is_about_to_free_pushes_nothing_out():
    """Room is asked for with the sizes after compaction: 900 bytes shrink to 90, and all fit."""
    rules = Rules(
        retention=(_rule(1, "big", policy=POLICY),),
        archive=ArchiveRule(max_bytes=200, min_idle_seconds=DAY),
    )
    big, old = _facts("big", 0, bytes=900), _facts("old", 300)
    assert _gone(plan_archive(rules, [big, old], NOW)) == []
    assert plan_room(rules, [replace(big, bytes=90), old], NOW).steps == ()
    assert _gone(plan_room(rules, [big, old], NOW).steps) == ["old"]


def test_without_a_limit_room_is_only_measured():
    """Off by default."""
    room = plan_room(Rules(), [_facts("a", 4000)], NOW)
    assert (room.steps, room.bytes_before, room.excess_bytes) == ((), 100, 0)


# --- not by accident ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rules",
    [
        Rules(retention=(_rule(1, delete_idle_seconds=DAY),)),
        Rules(archive=ArchiveRule(max_age_seconds=DAY)),
        Rules(archive=ArchiveRule(max_bytes=0, min_idle_seconds=0)),
    ],
)
def test_rules_that_would_delete_everything_are_refused(rules):
    """§4 item 25: a slip, or a clock that jumped, took 403,437 entries and left 22."""

    def whole(rules, facts):
        return [*_gone(plan_archive(rules, facts, NOW)), *_gone(plan_room(rules, facts, NOW).steps)]

    facts = [_facts(name, 400) for name in "abc"]
    with pytest.raises(UsageError, match=r"every conversation \(3\).*2025-10-17.*2026-11-21") as no:
        whole(rules, facts)
    assert "allow_empty" in no.value.hint
    # What is kept would be there whatever the slip: it is no sign that all is well.
    kept = replace(rules, keep=(KeepRule(1, Who(id=("a",)), 1),))
    with pytest.raises(UsageError, match=r"every conversation \(2\)"):
        whole(kept, facts)
    meant = replace(rules, archive=replace(rules.archive, allow_empty=True))
    assert set(whole(meant, facts)) == set("abc")
    if rules.archive.max_bytes is None:
        assert whole(rules, [*facts, _facts("new", 0)]) == ["a", "b", "c"]


def test_an_empty_archive_is_nothing_to_refuse():
    """The first run of cron comes before the first turn."""
    rules = Rules(archive=ArchiveRule(max_age_seconds=DAY, max_bytes=0))
    assert plan_archive(rules, [], NOW) == ()
    assert plan_room(rules, [], NOW).steps == ()
    kept = replace(rules, keep=(KeepRule(1, Who(), 1),))
    assert _gone(plan_archive(kept, [_facts("a", 400)], NOW)) == []


def test_a_clock_that_jumped_ahead_deletes_nothing():
    """Everything is old then, so everything would go: that is what the refusal is for."""
    rules = Rules(retention=(_rule(1, delete_idle_seconds=365 * DAY),))
    facts = [_facts(name, idle) for name, idle in (("a", 0), ("b", 1), ("c", 100))]
    assert _gone(plan_archive(rules, facts, NOW)) == []
    with pytest.raises(UsageError, match="the clock says 2038"):
        plan_archive(rules, facts, NOW.replace(year=2038))


def test_the_plan_does_not_depend_on_the_order_of_a_directory():
    """The same archive on two machines has the same plan; equal idle times go by name."""
    rules = Rules(archive=ArchiveRule(max_bytes=450, min_idle_seconds=0))
    facts = [_facts(name, 30, namespace=place) for place in "ab" for name in "zyxw"]
    expected = plan_room(rules, facts, NOW)
    assert [(s.facts.namespace, s.facts.continuation_id) for s in expected.steps] == [
        *(("a", name) for name in "wxyz")
    ]
    for seed in range(5):
        random.Random(seed).shuffle(facts)
        assert plan_room(rules, iter(facts), NOW) == expected
        assert plan_archive(rules, iter(facts), NOW) == plan_archive(
            rules, sorted(facts, key=lambda each: (each.namespace, each.continuation_id)), NOW
        )


@pytest.mark.parametrize("seed", range(200))
def test_whatever_the_rules_and_the_archive_what_must_stay_stays(seed):
    """The promises, held against rules that nobody thought of."""
    chance = random.Random(seed)
    names = [f"{chance.choice('abk')}{at}" for at in range(chance.randrange(12))]
    facts = [
        _facts(
            name,
            chance.choice([None, -5, 0, 1, 10, 100, 1000]),
            bytes=chance.randrange(500),
            namespace=chance.choice(["default", "k"]),
            is_compressed=chance.random() < 0.3,
        )
        for name in names
    ]

    def span(low):
        return chance.choice([None, low, 20 * DAY, 500 * DAY])

    rules = Rules(
        keep=(KeepRule(1, Who(("k",), ("k*",)), 1),),
        retention=(
            _rule(1, "a*", delete_idle_seconds=span(DAY)),
            _rule(2, compress_idle_seconds=span(DAY), delete_idle_seconds=span(5 * DAY)),
        ),
        archive=ArchiveRule(
            span(DAY), chance.choice([None, 0, 300, 900]), span(0) or 0.0, chance.random() < 0.5
        ),
    )
    loose = [each for each in facts if not rules.is_kept(each.namespace, each.continuation_id)]
    try:
        steps = plan_archive(rules, facts, NOW)
        rest = [step.facts for step in steps if not step.delete]
        room = plan_room(rules, rest, NOW)
    except UsageError:
        assert not rules.archive.allow_empty
        return
    gone = [step.facts for step in (*steps, *room.steps) if step.delete]
    assert len(gone) == len({id(each) for each in gone})
    for each in gone:
        assert each in loose and each.last_activity is not None
    for step in room.steps:
        assert step.facts.idle_seconds(NOW) >= rules.archive.min_idle_seconds
    if loose and not rules.archive.allow_empty:
        assert len(gone) < len(loose)
    assert room.bytes_after == sum(f.bytes for f in facts) - sum(f.bytes for f in gone)
    if rules.archive.max_bytes is not None and room.excess_bytes:
        assert all(
            rules.is_kept(each.namespace, each.continuation_id)
            or each.last_activity is None
            or each.idle_seconds(NOW) < rules.archive.min_idle_seconds
            for each in rest
            if each not in gone
        )
