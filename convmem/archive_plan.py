"""The plan for a whole archive: what the rules do to each conversation, and why. Pure.

It is made in two steps. ``plan_archive`` says what happens to each conversation by its own rule
and by its age. ``plan_room``, asked when that is done (or, in a trial, with the sizes that it would
leave), says which more have to go so that the rest fits: a conversation that a policy is about to
shrink must not push another one out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from convmem.errors import UsageError
from convmem.quantities import format_duration, format_size
from convmem.retention import RetentionPolicy
from convmem.rules import KeepRule, Rules
from convmem.thresholds import shown

# Why a whole conversation goes; stable, for JSON and the audit log.
DELETE_IDLE = "delete_idle"
ARCHIVE_MAX_AGE = "archive.max_age"
ARCHIVE_MAX_BYTES = "archive.max_bytes"


@dataclass(frozen=True, slots=True)
class ConversationFacts:
    """What the decision needs to know of one conversation.

    Attributes:
        bytes: What its log takes on disk, compressed or not.
        last_activity: The time of its newest turn, aware; ``None`` if no turn has one. Such a
            conversation is never too old.
        turns: How many there are, where that is known already; then *oldest* is the earliest
            time of one.
    """

    namespace: str
    continuation_id: str
    bytes: int
    last_activity: datetime | None
    is_compressed: bool = False
    turns: int | None = None
    oldest: datetime | None = None

    def idle_seconds(self, now: datetime) -> float | None:
        """Return for how long nothing was said: 0 if that was in the future, or ``None``."""
        if self.last_activity is None:
            return None
        return max(0.0, (now - self.last_activity).total_seconds())


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one conversation.

    Attributes:
        delete: Why the whole conversation goes to the trash, or ``None``. Then nothing else
            happens to it.
        policy: The policy to compact it under, or ``None``.
        compress: Whether it is compressed then.
        because: The same in words, for people and the audit log: which rule, and why.
        rule: The number of the retention rule that speaks of it, from 1, or ``None``.
        is_kept: The keep-list holds it: nothing happens to it, whatever other rules say.
    """

    facts: ConversationFacts
    because: str
    delete: str | None = None
    policy: RetentionPolicy | None = None
    compress: bool = False
    rule: int | None = None
    is_kept: bool = False

    @property
    def is_nothing(self) -> bool:
        """Whether the conversation is left alone."""
        return self.delete is None and self.policy is None and not self.compress


@dataclass(frozen=True, slots=True)
class RoomPlan:
    """Which conversations go so that the rest fits.

    Attributes:
        steps: The conversations that go, those idle longest first.
        bytes_before: What all logs take, kept conversations included.
        bytes_after: What they take then.
        excess_bytes: By how much they are still too large, since the rest is kept, was active
            lately or has no time; 0 if they fit.
    """

    steps: tuple[Step, ...] = ()
    bytes_before: int = 0
    bytes_after: int = 0
    excess_bytes: int = 0


def plan_archive(
    rules: Rules, facts: Iterable[ConversationFacts], now: datetime
) -> tuple[Step, ...]:
    """Return what *rules* do at *now* to each conversation, in order of namespace and id.

    Raises:
        UsageError: They would delete every conversation that is not kept, and do not say that
            they may. Nothing of the plan is to be carried out then.
    """
    steps = tuple(_step(rules, each, now) for each in sorted(facts, key=_name))
    _refuse_to_empty(rules, [each for each in steps if not each.is_kept], steps, now)
    return steps


def plan_room(rules: Rules, facts: Iterable[ConversationFacts], now: datetime) -> RoomPlan:
    """Return which conversations go so that all logs take no more than ``archive.max_bytes``.

    Args:
        rules: Kept conversations count, but never go.
        facts: All conversations that there are now, whatever their namespace.
        now: Those active within ``archive.min_idle`` of it, or later, never go.

    Raises:
        UsageError: As ``plan_archive``.
    """
    present = sorted(facts, key=_name)
    total = sum(each.bytes for each in present)
    limit = rules.archive.max_bytes
    if limit is None or total <= limit:
        return RoomPlan((), total, total, 0)
    loose = [each for each in present if not rules.is_kept(each.namespace, each.continuation_id)]
    may_go = [
        (idle, each)
        for each in loose
        if (idle := each.idle_seconds(now)) is not None and idle >= rules.archive.min_idle_seconds
    ]
    may_go.sort(key=lambda pair: -pair[0])  # stable: ties stay in order of namespace and id
    steps = []
    left = total
    for idle, each in may_go:
        if left <= limit:
            break
        left -= each.bytes
        because = (
            f"idle for {format_duration(idle)}; all logs take {format_size(total)},"
            f" [archive] max_bytes is {format_size(limit)}"
        )
        steps.append(Step(each, because, delete=ARCHIVE_MAX_BYTES))
    others = [Step(each, "") for each in loose[len(steps) :]]
    _refuse_to_empty(rules, [*steps, *others], steps, now)
    return RoomPlan(tuple(steps), total, left, max(0, left - limit))


def _step(rules: Rules, facts: ConversationFacts, now: datetime) -> Step:
    rule = rules.deciding(facts.namespace, facts.continuation_id)
    if isinstance(rule, KeepRule):
        return Step(facts, f"keep rule {rule.number}: nothing touches it", is_kept=True)
    number = None if rule is None else rule.number
    idle = facts.idle_seconds(now)
    delete_idle = None if rule is None else rule.delete_idle_seconds
    for reason, limit, name in (
        (DELETE_IDLE, delete_idle, f"retention rule {number}: delete_idle"),
        (ARCHIVE_MAX_AGE, rules.archive.max_age_seconds, "[archive] max_age"),
    ):
        if idle is not None and limit is not None and idle > limit:
            because = f"idle for {format_duration(idle)}; {name} is {shown('duration', limit)}"
            return Step(facts, because, delete=reason, rule=number)
    if rule is None:
        return Step(facts, "no rule speaks of it")
    compress = (
        idle is not None
        and rule.compress_idle_seconds is not None
        and idle > rule.compress_idle_seconds
        and not facts.is_compressed
    )
    policy = None if _is_surely_left_alone(facts, rule.policy, now) else rule.policy
    because = f"retention rule {number}"
    if compress and idle is not None:
        because += f": idle for {format_duration(idle)}"
    return Step(facts, because, policy=policy, compress=compress, rule=number)


def _is_surely_left_alone(
    facts: ConversationFacts, policy: RetentionPolicy | None, now: datetime
) -> bool:
    """Whether it is known without reading the log that a policy lets nothing of it go."""
    if policy is None or facts.turns is None:
        return policy is None
    if facts.is_compressed and policy.max_bytes is not None:
        return False  # how large the plain log would be is another figure
    return policy.surely_leaves_alone(
        turns=facts.turns, oldest=facts.oldest, size=facts.bytes, now=now
    )


def _refuse_to_empty(
    rules: Rules, loose: Sequence[Step], steps: Sequence[Step], now: datetime
) -> None:
    """A slip in a rule, or a clock that jumped, is likelier than somebody who wants nothing left.

    Kept conversations do not count as what is left: they would be there whatever the slip.
    """
    if rules.archive.allow_empty or not loose or any(each.delete is None for each in loose):
        return
    newest = max(each.facts.last_activity for each in steps if each.facts.last_activity is not None)
    raise UsageError(
        f"the rules would delete every conversation ({len(loose):,}), so none was deleted:"
        f" the last activity was on {newest:%Y-%m-%d}, and the clock says {now:%Y-%m-%d}",
        hint="look with --dry-run; if that is meant, write allow_empty = true under [archive]",
    )


def _name(facts: ConversationFacts) -> tuple[str, str]:
    return facts.namespace, facts.continuation_id
