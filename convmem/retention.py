"""Retention: a policy as a value, and the pure decision which turns it lets go, and why.

Nothing here reads a file or a clock.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from convmem.errors import UsageError

KEPT = 0
_KEPT_RUN = re.compile(rb"\0+")
_DROPPED_RUN = re.compile(rb"[^\0]+")
BEYOND_KEEP_LAST = 1
OLDER_THAN_MAX_AGE = 2
OVER_MAX_BYTES = 3
TOOL_PAIR = 4
SUMMARIZED = 5
NAMED = 6  # somebody asked for just these; why is theirs to say

REASONS = {
    BEYOND_KEEP_LAST: "keep_last",
    OLDER_THAN_MAX_AGE: "max_age",
    OVER_MAX_BYTES: "max_bytes",
    TOOL_PAIR: "tool_pair",
    SUMMARIZED: "summary",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """How much of a conversation to keep.

    Attributes:
        keep_last: The newest so many turns never go because of their age. Alone, all older ones
            go.
        max_age: Turns older than this go, by their own time; one without a time is never too
            old. With *keep_last*: those that are older and beyond the newest so many. A
            ``timedelta``, or seconds.
        max_bytes: Then the oldest go until the log takes no more than this; never the newest.
    """

    keep_last: int | None = None
    max_age: timedelta | float | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("keep_last", "max_bytes"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 0):
                raise UsageError(f"{name} must be a whole number, 0 or more, not {value!r}")
        age = self.max_age
        if isinstance(age, int | float) and not isinstance(age, bool):
            try:
                object.__setattr__(self, "max_age", timedelta(seconds=age))
            except (OverflowError, ValueError):
                raise UsageError(f"max_age is out of range: {age!r} seconds") from None
        elif age is not None and not isinstance(age, timedelta):
            raise UsageError(f"max_age must be a timedelta or seconds, not {age!r}")
        if isinstance(self.max_age, timedelta) and self.max_age < timedelta(0):
            raise UsageError(f"max_age must be 0 or more, not {self.max_age}")

    @property
    def is_empty(self) -> bool:
        """Whether the policy lets nothing go."""
        return self.keep_last is None and self.max_age is None and self.max_bytes is None

    def cutoff(self, now: datetime) -> datetime | None:
        """Return the moment before which a turn is too old at *now*, or ``None``."""
        if not isinstance(self.max_age, timedelta):
            return None
        try:
            return now - self.max_age
        except OverflowError:
            return datetime.min.replace(tzinfo=now.tzinfo)

    def surely_leaves_alone(
        self, *, turns: int, oldest: datetime | None, size: int, now: datetime
    ) -> bool:
        """Whether nothing goes of a log of so many *turns* and *size* bytes, without reading it.

        Args:
            turns: Exactly how many it has.
            oldest: The earliest time of a turn, ``None`` where none has a time.
            size: The bytes of the log.
            now: What age is measured from.
        """
        if self.max_bytes is not None and size > self.max_bytes:
            return False
        if self.keep_last is not None and turns <= self.keep_last:
            return True
        cutoff = self.cutoff(now)
        if cutoff is None:
            return self.keep_last is None
        return oldest is None or oldest >= cutoff


@dataclass(frozen=True, slots=True)
class TurnFacts:
    """What the decision needs to know of one turn.

    Attributes:
        size: Bytes of its line, newline included.
        is_old: It is older than the policy's cut-off.
        calls: Ids of the tool calls that it makes.
        results: Ids of the tool calls that it answers.
    """

    size: int
    is_old: bool = False
    calls: tuple[str, ...] = ()
    results: tuple[str, ...] = ()


class RetentionPlan:
    """Which turns stay: ``plan[i]`` is ``KEPT`` or the reason why turn *i* goes.

    One byte for each turn.
    """

    __slots__ = ("_verdicts",)

    def __init__(self, verdicts: bytearray) -> None:
        self._verdicts = verdicts

    def __len__(self) -> int:
        return len(self._verdicts)

    def __getitem__(self, at: int) -> int:
        return self._verdicts[at]

    def __iter__(self) -> Iterator[int]:
        return iter(self._verdicts)

    @property
    def dropped(self) -> int:
        """How many turns go."""
        return len(self._verdicts) - self._verdicts.count(KEPT)

    @property
    def last_dropped(self) -> int:
        """The newest turn that goes, -1 if none does."""
        return len(self._verdicts.rstrip(b"\0")) - 1

    def runs(self, *, kept: bool) -> Iterator[tuple[int, int]]:
        """Yield (first, behind the last) of each run of turns that stay, or of those that go."""
        for run in (_KEPT_RUN if kept else _DROPPED_RUN).finditer(self._verdicts):
            yield run.span()

    @property
    def reasons(self) -> dict[str, int]:
        """How many turns go for which reason."""
        counts = ((name, self._verdicts.count(code)) for code, name in REASONS.items())
        return {name: count for name, count in counts if count}


def plan_for(places: Iterable[int], count: int) -> RetentionPlan:
    """Let just the turns at *places* of *count* go, with no regard to what belongs together."""
    verdicts = bytearray(count)
    for at in places:
        verdicts[at] = NAMED
    return RetentionPlan(verdicts)


class Facts:
    """The facts of all turns of a log, oldest first, in 9 bytes a turn and a few for tool calls."""

    def __init__(self, turns: Iterable[TurnFacts] = ()) -> None:
        self.sizes = array("Q")
        self.old = bytearray()
        # Turns that stand for others, which are gone.
        self.summaries: list[int] = []
        # Turn -> the first turn of its exchange of tool calls and results.
        self.exchange: dict[int, int] = {}
        self._open_calls: dict[str, int] = {}
        for turn in turns:
            self.add(turn)

    def add(self, turn: TurnFacts) -> None:
        """Add the next turn."""
        self.add_plain(turn.size, turn.is_old)
        self.add_tools(len(self.old) - 1, turn.calls, turn.results)

    def add_plain(self, size: int, is_old: bool) -> None:
        """Add the next turn, one without tool calls and results."""
        self.sizes.append(size)
        self.old.append(is_old)

    def add_many(self, sizes: list[int], old: bytes) -> None:
        """Add the next turns, as ``add_plain`` does one."""
        self.sizes.extend(sizes)
        self.old += old

    def add_summary(self, size: int) -> None:
        """Add the next turn, one that stands for turns which are gone."""
        self.summaries.append(len(self.old))
        self.add_plain(size, False)

    def add_tools(self, at: int, calls: tuple[str, ...], results: tuple[str, ...]) -> None:
        """Say which tool calls turn *at* makes, and which it answers; turns in their order."""
        root = at
        for call in results:
            caller = self._open_calls.get(call)
            if caller is not None:
                first = self._root(caller)
                self.exchange[max(first, root)] = min(first, root)
                root = min(first, root)
        if root != at:
            self.exchange[at] = root
        for call in calls:
            self._open_calls[call] = at

    def _root(self, at: int) -> int:
        while (up := self.exchange.get(at, at)) != at:
            at = up
        return at

    def exchanges(self) -> dict[int, list[int]]:
        """Return the turns of each exchange that has more than one, in order."""
        found: dict[int, list[int]] = {}
        for at in sorted(self.exchange):
            root = self._root(at)
            if root != at:
                found.setdefault(root, [root]).append(at)
        return found


def plan(
    policy: RetentionPolicy, facts: Facts, *, take_in_summaries: bool = False
) -> RetentionPlan:
    """Decide which turns *policy* lets go.

    ``keep_last`` and ``max_age`` first, then ``max_bytes`` from the oldest on. A tool call and
    its result stay together if either is to stay; where room decides, they go together. A summary
    stays, since nothing else says what it says; only a new one, made of it and of turns behind it,
    takes its place (*take_in_summaries*).
    """
    count = len(facts.old)
    verdicts = bytearray(count)
    protected = count if policy.keep_last is None else min(policy.keep_last, count)
    if policy.max_age is not None:
        reach = count if policy.keep_last is None else count - protected
        for at in range(reach):
            if facts.old[at]:
                verdicts[at] = OLDER_THAN_MAX_AGE
    elif policy.keep_last is not None:
        verdicts[: count - protected] = bytes([BEYOND_KEEP_LAST]) * (count - protected)

    for at in facts.summaries:
        verdicts[at] = KEPT
    exchanges = facts.exchanges()
    for members in exchanges.values():
        if any(verdicts[at] == KEPT for at in members):
            for at in members:
                verdicts[at] = KEPT

    if policy.max_bytes is not None:
        _fit(policy.max_bytes, facts, verdicts, exchanges)
    decided = RetentionPlan(verdicts)
    if take_in_summaries:
        behind = decided.last_dropped
        for at in facts.summaries:
            if at < behind:
                verdicts[at] = SUMMARIZED
    return decided


def _fit(
    max_bytes: int, facts: Facts, verdicts: bytearray, exchanges: dict[int, list[int]]
) -> None:
    """Let the oldest of the kept turns go until the rest fits, never the newest."""
    total = sum(size for size, verdict in zip(facts.sizes, verdicts, strict=True) if not verdict)
    with_partners = {at: members for members in exchanges.values() for at in members}
    newest = len(verdicts) - 1
    summaries = set(facts.summaries)
    for at in range(newest):
        if total <= max_bytes:
            return
        if verdicts[at] or at in summaries:
            continue
        members = with_partners.get(at, [at])
        if newest in members:
            continue  # its call must stay as long as the newest turn does
        for member in members:
            if not verdicts[member]:
                verdicts[member] = OVER_MAX_BYTES if member == at else TOOL_PAIR
                total -= facts.sizes[member]
