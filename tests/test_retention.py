"""Which turns a policy lets go: the table of the design, and a slow model that says the same."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convmem import RetentionPolicy, Turn, UsageError
from convmem.retention import (
    BEYOND_KEEP_LAST,
    KEPT,
    OLDER_THAN_MAX_AGE,
    OVER_MAX_BYTES,
    REASONS,
    TOOL_PAIR,
    Facts,
    TurnFacts,
    plan,
)
from convmem.tools import may_have_tools, tool_ids
from convmem.turns import draft

many = settings(max_examples=5 * int(os.environ.get("CONVMEM_EXAMPLES", "100")), deadline=None)

HOUR = 3600.0


def facts(shape, *, size=10):
    """Return facts from a word: ``o`` is an old turn, ``n`` a new one (or one without a time)."""
    return Facts([TurnFacts(size, is_old=letter == "o") for letter in shape])


def kept(policy, found):
    """Return the word back with a dot for each turn that goes."""
    verdicts = list(plan(policy, found))
    return "".join(
        "." if verdict else "on"[not old] for verdict, old in zip(verdicts, found.old, strict=True)
    )


@pytest.mark.parametrize(
    ("policy", "turns", "left"),
    [
        # keep_last alone: all beyond it go, whatever their age.
        ({"keep_last": 2}, "ooonn", "...nn"),
        ({"keep_last": 2}, "nnnnn", "...nn"),
        ({"keep_last": 2}, "nnnoo", "...oo"),
        ({"keep_last": 5}, "ooonn", "ooonn"),
        ({"keep_last": 99}, "ooonn", "ooonn"),
        ({"keep_last": 0}, "ooonn", "....."),
        ({"keep_last": 0}, "", ""),
        # max_age alone: all that are older go, wherever they stand; the rest need be no suffix.
        ({"max_age": HOUR}, "ooonn", "...nn"),
        ({"max_age": HOUR}, "onono", ".n.n."),
        ({"max_age": HOUR}, "ooooo", "....."),
        ({"max_age": HOUR}, "nnnnn", "nnnnn"),
        # Both: those that are older and beyond the newest so many.
        ({"keep_last": 2, "max_age": HOUR}, "ooonn", "...nn"),
        ({"keep_last": 2, "max_age": HOUR}, "ooooo", "...oo"),
        ({"keep_last": 2, "max_age": HOUR}, "nonoo", "n.noo"),
        ({"keep_last": 0, "max_age": HOUR}, "onono", ".n.n."),
        ({"keep_last": 9, "max_age": HOUR}, "ooooo", "ooooo"),
        # max_bytes: then the oldest until it fits, never the newest.
        ({"max_bytes": 50}, "nnnnn", "nnnnn"),
        ({"max_bytes": 49}, "nnnnn", ".nnnn"),
        ({"max_bytes": 20}, "nnnnn", "...nn"),
        ({"max_bytes": 10}, "nnnnn", "....n"),
        ({"max_bytes": 9}, "nnnnn", "....n"),
        ({"max_bytes": 0}, "nnnnn", "....n"),
        ({"max_bytes": 0}, "n", "n"),
        ({"max_bytes": 0}, "", ""),
        # It comes last, and takes also what the others protect.
        ({"keep_last": 3, "max_bytes": 20}, "nnnnn", "...nn"),
        ({"keep_last": 2, "max_bytes": 30}, "nnnnn", "...nn"),
        ({"max_age": HOUR, "max_bytes": 20}, "onnon", "..n.n"),
        ({"max_age": HOUR, "max_bytes": 10}, "onnon", "....n"),
        ({"keep_last": 0, "max_bytes": 99}, "nnn", "..."),
        ({}, "ooonn", "ooonn"),
    ],
)
def test_a_policy_keeps_what_the_table_says(policy, turns, left):
    """Rule 4: what goes must be no guess; K22: keep_last=0 is legal and means none."""
    assert kept(RetentionPolicy(**policy), facts(turns)) == left


def test_the_reasons_are_told():
    """Rule 4: a policy says exactly what it did."""
    found = plan(RetentionPolicy(keep_last=4, max_age=HOUR, max_bytes=20), facts("oonnonn"))
    assert list(found) == [OLDER_THAN_MAX_AGE] * 2 + [OVER_MAX_BYTES] * 3 + [KEPT] * 2
    assert found.dropped == 5
    assert found.reasons == {"max_age": 2, "max_bytes": 3}
    assert list(plan(RetentionPolicy(keep_last=1), facts("nn"))) == [BEYOND_KEEP_LAST, KEPT]


@st.composite
def logs(draw):
    """Draw turns with sizes, ages, and calls that later turns answer (or nobody does)."""
    turns, calls = [], []
    for at in range(draw(st.integers(0, 12))):
        made, answered = (), ()
        kind = draw(st.sampled_from(["plain", "plain", "call", "answer", "both"]))
        if kind in ("answer", "both"):
            answered = tuple(draw(st.lists(st.sampled_from([*calls, "unknown"]), max_size=2)))
        if kind in ("call", "both"):
            made = tuple(f"{at}.{nth}" for nth in range(draw(st.integers(1, 2))))
            calls += made
        turns.append(TurnFacts(draw(st.integers(1, 30)), draw(st.booleans()), made, answered))
    return turns


def exchanges_of(turns):
    """Return for each turn the set of turns that it belongs together with, itself included."""
    groups = [{at} for at in range(len(turns))]
    for at, turn in enumerate(turns):
        for caller in range(at):
            if set(turns[caller].calls) & set(turn.results):
                groups[caller] |= groups[at]
                for member in groups[caller]:
                    groups[member] = groups[caller]
    return groups


def model(policy, turns):
    """Return which turns stay, in the words of the design."""
    count = len(turns)
    groups = exchanges_of(turns)
    stay = set(range(count))
    for at, turn in enumerate(turns):
        beyond = policy.keep_last is not None and at < count - policy.keep_last
        if policy.max_age is None:
            goes = beyond
        else:
            goes = turn.is_old and (policy.keep_last is None or beyond)
        if goes:
            stay.discard(at)
    stay = set().union(*(groups[at] for at in stay))
    if policy.max_bytes is not None:
        for at in range(count - 1):
            if sum(turns[each].size for each in stay) <= policy.max_bytes:
                break
            if count - 1 not in groups[at]:
                stay -= groups[at]
    return stay


@many
@given(
    logs(),
    st.none() | st.integers(0, 13),
    st.none() | st.just(HOUR),
    st.none() | st.integers(0, 250),
)
def test_the_plan_is_what_a_naive_reading_of_the_policy_gives(turns, keep_last, max_age, max_bytes):
    """K28: also with tool calls and their results, which go or stay together."""
    policy = RetentionPolicy(keep_last=keep_last, max_age=max_age, max_bytes=max_bytes)
    found = plan(policy, Facts(turns))
    assert {at for at, verdict in enumerate(found) if verdict == KEPT} == model(policy, turns)
    assert len(found) == len(turns)
    assert found.dropped == sum(verdict != KEPT for verdict in found) == sum(found.reasons.values())
    assert set(found.reasons) <= set(REASONS.values())
    if TOOL_PAIR in list(found):
        assert max_bytes is not None


CALLS_AND_RESULTS = {
    "openai chat": (
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function"}]},
        {"role": "tool", "content": "sunny", "tool_call_id": "c1"},
    ),
    "openai chat in the content": (
        {"role": "assistant", "content": {"tool_calls": [{"id": "c1"}]}},
        {"role": "tool", "content": {"tool_call_id": "c1", "content": "sunny"}},
    ),
    "openai chat in meta": (
        {"role": "assistant", "content": "", "meta": {"tool_calls": [{"id": "c1"}]}},
        {"role": "tool", "content": "sunny", "meta": {"tool_call_id": "c1"}},
    ),
    "openai responses": (
        {"role": "assistant", "content": [{"type": "function_call", "id": "fc", "call_id": "c1"}]},
        {"role": "tool", "content": [{"type": "function_call_output", "call_id": "c1"}]},
    ),
    "openai responses as keys": (
        {"role": "assistant", "content": "", "type": "function_call", "call_id": "c1"},
        {"role": "tool", "content": "", "type": "function_call_output", "call_id": "c1"},
    ),
    "openai shell": (
        {"role": "assistant", "content": [{"type": "local_shell_call", "call_id": "c1"}]},
        {"role": "tool", "content": [{"type": "local_shell_call_output", "call_id": "c1"}]},
    ),
    "anthropic": (
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "weather"}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1"}]},
    ),
    "strands": (
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "c1", "name": "weather"}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "c1", "status": "success"}}]},
    ),
    "pydantic-ai": (
        {"role": "assistant", "content": [{"part_kind": "tool-call", "tool_call_id": "c1"}]},
        {"role": "tool", "content": [{"part_kind": "tool-return", "tool_call_id": "c1"}]},
    ),
    "pydantic-ai retry": (
        {"role": "assistant", "content": [{"part_kind": "tool-call", "tool_call_id": "c1"}]},
        {"role": "user", "content": [{"part_kind": "retry-prompt", "tool_call_id": "c1"}]},
    ),
    "ai sdk": (
        {"role": "assistant", "content": [{"type": "tool-call", "toolCallId": "c1"}]},
        {"role": "tool", "content": [{"type": "tool-result", "toolCallId": "c1"}]},
    ),
}


def turn_of(value):
    more = {key: item for key, item in value.items() if key not in ("role", "content", "meta")}
    return Turn(value["role"], value["content"], meta=value.get("meta"), extra=more)


@pytest.mark.parametrize("shape", CALLS_AND_RESULTS)
def test_every_known_shape_of_tool_call_finds_its_result(shape):
    """K28: an API refuses a history in which one of the two is missing."""
    call, result = CALLS_AND_RESULTS[shape]
    assert tool_ids(turn_of(call)) == (("c1",), ())
    assert tool_ids(turn_of(result)) == ((), ("c1",))
    for value in (call, result):
        # Only lines with one of the hints are ever parsed for tools.
        more = {key: item for key, item in value.items() if key not in ("role", "content", "meta")}
        made = draft(value["role"], value["content"], meta=value.get("meta"), extra=more)
        assert may_have_tools(made.tail)


@pytest.mark.parametrize("shape", CALLS_AND_RESULTS)
@pytest.mark.parametrize(
    ("policy", "left"),
    [
        (RetentionPolicy(keep_last=2), ["call", "result", "last"]),
        (RetentionPolicy(keep_last=1), ["last"]),
        (RetentionPolicy(max_age=HOUR), ["call", "between", "result", "last"]),
        (RetentionPolicy(max_bytes=1), ["last"]),
    ],
    ids=repr,
)
def test_compaction_never_parts_a_call_from_its_result(archive, shape, policy, left):
    """K28, end to end: through the lines of a real log, in every shape."""
    call, result = CALLS_AND_RESULTS[shape]
    now = datetime.now(UTC)
    chat = archive.conversation("trip")
    chat.record("user", "first", ts=now - timedelta(hours=3), name="first")
    chat.record_many([{**call, "ts": now - timedelta(hours=2), "name": "call"}])
    chat.record("user", "meanwhile", ts=now, name="between")
    chat.record_many([{**result, "ts": now, "name": "result"}])
    chat.record("user", "last", name="last")
    chat.compact(policy)
    assert [turn.extra["name"] for turn in chat.turns()] == left


@pytest.mark.parametrize(
    "content", ["tool_use", [{"type": ["tool_use"]}], [{"tool_calls": 5}], [None, 1], {}]
)
def test_what_only_looks_like_a_tool_call_is_none(content):
    """Content is whatever people say, and must not raise."""
    assert tool_ids(Turn("user", content)) == ((), ())


@pytest.mark.parametrize(
    "bad",
    [
        {"keep_last": -1},
        {"keep_last": 1.0},
        {"keep_last": True},
        {"keep_last": "3"},
        {"max_bytes": -1},
        {"max_bytes": 1.5},
        {"max_bytes": False},
        {"max_age": -1},
        {"max_age": timedelta(seconds=-1)},
        {"max_age": "90d"},
        {"max_age": True},
        {"max_age": float("nan")},
        {"max_age": float("inf")},
        {"max_age": 1e300},
        {"max_age": datetime(2026, 1, 1)},
    ],
    ids=repr,
)
def test_a_policy_that_cannot_be_meant_is_refused(bad):
    """A wrong reading deletes the wrong turns, so there is none."""
    with pytest.raises(UsageError):
        RetentionPolicy(**bad)


def test_an_empty_policy_is_refused_where_it_would_do_nothing(archive):
    """Decided: compacting without a policy is wrong usage, not a rewrite."""
    chat = archive.conversation("trip")
    chat.record("user", "hello")
    assert RetentionPolicy().is_empty
    with pytest.raises(UsageError):
        chat.compact(RetentionPolicy())


def test_an_age_beyond_the_calendar_keeps_everything():
    """ "Keep a million years" must not fail, nor wrap around to a date in the future."""
    now = datetime(2026, 11, 21, tzinfo=UTC)
    assert RetentionPolicy(max_age=timedelta.max).cutoff(now) == datetime.min.replace(tzinfo=UTC)
    assert RetentionPolicy(max_age=HOUR).cutoff(now) == now - timedelta(hours=1)
    assert RetentionPolicy(keep_last=1).cutoff(now) is None


@given(
    turns=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 50)), max_size=8),
    keep_last=st.none() | st.integers(0, 9),
    max_age=st.none() | st.integers(0, 20),
    max_bytes=st.none() | st.integers(0, 200),
)
@many
def test_what_is_surely_left_alone_is_left_alone(turns, keep_last, max_age, max_bytes):
    """A nightly run does not read a log that it knows it would not touch: it must be right."""
    now = datetime(2026, 11, 21, tzinfo=UTC)
    policy = RetentionPolicy(
        keep_last=keep_last,
        max_age=None if max_age is None else timedelta(days=max_age),
        max_bytes=max_bytes,
    )
    times = [now - timedelta(days=age) for age, _ in turns]
    cutoff = policy.cutoff(now)
    found = Facts(
        TurnFacts(size, is_old=cutoff is not None and at < cutoff)
        for at, (_, size) in zip(times, turns, strict=True)
    )
    if policy.surely_leaves_alone(
        turns=len(turns),
        oldest=min(times, default=None),
        size=sum(size for _, size in turns),
        now=now,
    ):
        assert plan(policy, found).dropped == 0
