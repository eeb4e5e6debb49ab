"""Rules: what ``convmem.toml`` says may go, and what must stay, as values. Pure.

Which conversations a rule speaks of is told by patterns for the namespace and for the id, never by
one text for both: an id may hold any character, the slash included.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING

from convmem.errors import ConvmemError, UsageError
from convmem.retention import RetentionPolicy
from convmem.settings import Settings, raise_first
from convmem.table_reader import TableReader

if TYPE_CHECKING:
    from convmem.settings import OnProblem

_SPECIAL = frozenset("*?[")
DEFAULT_MIN_IDLE_SECONDS = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class Who:
    """The conversations that a rule speaks of: any namespace pattern, and any id pattern.

    ``*`` stands for any text, slashes included, ``?`` for one character, ``[abc]`` for one of
    those; ``[*]`` for a real star. Upper and lower case differ.
    """

    namespace: tuple[str, ...] = ("*",)
    id: tuple[str, ...] = ("*",)

    def matches(self, namespace: str, continuation_id: str) -> bool:
        """Whether the rule speaks of that conversation."""
        # Asked of each conversation for each rule: a loop, since a generator takes thrice the time.
        for pattern in self.id:
            if _test(pattern)(continuation_id):
                break
        else:
            return False
        return any(_test(pattern)(namespace) for pattern in self.namespace)

    def covers(self, other: Who) -> bool:
        """Whether all that *other* matches is surely matched here too; ``False`` if unsure."""
        return all(
            any(_covers(mine, theirs) for mine in ours)
            for ours, their in ((self.namespace, other.namespace), (self.id, other.id))
            for theirs in their
        )

    def __str__(self) -> str:
        ids = "any id" if "*" in self.id else f"id {' or '.join(self.id)}"
        if "*" in self.namespace:
            return f"{ids} in any namespace"
        return f"{ids} in namespace {' or '.join(self.namespace)}"


@dataclass(frozen=True, slots=True)
class KeepRule:
    """Nothing touches these conversations. ``number`` counts from 1."""

    number: int
    who: Who
    line: int | None


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """What happens to the conversations that meet this rule first. ``number`` counts from 1.

    Attributes:
        policy: Which turns go; ``None`` for none.
        delete_idle_seconds: A whole conversation that is idle for longer goes to the trash.
        compress_idle_seconds: One that is idle for longer is compressed.
    """

    number: int
    who: Who
    line: int | None
    policy: RetentionPolicy | None = None
    delete_idle_seconds: float | None = None
    compress_idle_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ArchiveRule:
    """Which whole conversations go so that the archive stays within bounds.

    Attributes:
        max_age_seconds: Those that are idle for longer.
        max_bytes: Then those idle longest, until all logs fit.
        min_idle_seconds: Never one that was active within this time.
        allow_empty: Rules may delete every conversation that is not kept.
    """

    max_age_seconds: float | None = None
    max_bytes: int | None = None
    min_idle_seconds: float = DEFAULT_MIN_IDLE_SECONDS
    allow_empty: bool = False
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of an archive. Without any, nothing happens.

    Attributes:
        trash_max_age_seconds: What is in the trash for longer is purged; ``None``: nothing is.
    """

    keep: tuple[KeepRule, ...] = ()
    retention: tuple[RetentionRule, ...] = ()
    archive: ArchiveRule = ArchiveRule()
    trash_max_age_seconds: float | None = None

    @classmethod
    def of(cls, settings: Settings, *, on_problem: OnProblem | None = None) -> Rules:
        """Return the rules in the file of *settings*.

        With *on_problem* every problem is told and the rest is returned, for who explains them.

        Raises:
            UsageError: Something in them is wrong. There is no carrying on with half of them.
        """
        problems: list[ConvmemError] = []
        rules = _Reading(settings, problems.append if on_problem is None else on_problem).rules()
        raise_first(problems)
        return rules

    @property
    def is_empty(self) -> bool:
        """Whether they let nothing go and compress nothing."""
        return (
            not self.retention
            and self.archive.max_age_seconds is None
            and self.archive.max_bytes is None
            and self.trash_max_age_seconds is None
        )

    def deciding(self, namespace: str, continuation_id: str) -> KeepRule | RetentionRule | None:
        """Return the rule that decides of the conversation: one that keeps it, else the first
        retention rule that speaks of it, else ``None``."""
        for rules in (self.keep, self.retention):
            for rule in rules:
                if rule.who.matches(namespace, continuation_id):
                    return rule
        return None

    def is_kept(self, namespace: str, continuation_id: str) -> bool:
        """Whether nothing may touch the conversation."""
        return isinstance(self.deciding(namespace, continuation_id), KeepRule)

    def rule_for(self, namespace: str, continuation_id: str) -> RetentionRule | None:
        """Return the retention rule that counts for the conversation; ``None`` too if kept."""
        found = self.deciding(namespace, continuation_id)
        return found if isinstance(found, RetentionRule) else None

    def doubts(self) -> list[tuple[int | None, str]]:
        """Return (line, what is odd) of rules that are right but do not do what they seem to."""
        found = []
        for at, rule in enumerate(self.retention):
            first = [
                *(f"keep rule {each.number}" for each in self.keep if each.who.covers(rule.who)),
                *(
                    f"retention rule {each.number}"
                    for each in self.retention[:at]
                    if each.who.covers(rule.who)
                ),
            ]
            if first:
                what = f"never counts: {first[0]} matches all of its conversations first"
                found.append((rule.line, f"retention rule {rule.number} {what}"))
            delete, compress = rule.delete_idle_seconds, rule.compress_idle_seconds
            if delete is not None and compress is not None and compress >= delete:
                what = "never compresses: the conversation is deleted before"
                found.append((rule.line, f"retention rule {rule.number} {what}"))
        return found


class _Reading:
    """Reads the tables of rules, telling each problem where it stands."""

    def __init__(self, settings: Settings, on_problem: OnProblem) -> None:
        self._settings = settings
        self._on_problem = on_problem

    def rules(self) -> Rules:
        archive = self._one("archive")
        trash = self._one("trash")
        return Rules(
            keep=tuple(_keep(at + 1, table) for at, table in enumerate(self._many("keep"))),
            retention=tuple(
                _retention(at + 1, table) for at, table in enumerate(self._many("retention"))
            ),
            archive=ArchiveRule() if archive is None else _archive(archive),
            trash_max_age_seconds=None if trash is None else _trash(trash),
        )

    def _one(self, name: str) -> TableReader | None:
        value = self._settings.tables.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self._wrong(f"{name} must be one table", f"write [{name}]", name)
            return None
        return TableReader(self._settings, self._on_problem, value, (name,))

    def _many(self, name: str) -> Iterable[TableReader]:
        value = self._settings.tables.get(name, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            self._wrong(f"{name} must be tables", f'write [[{name}]] and then id = "…"', name)
            return
        for at, each in enumerate(value):
            yield TableReader(self._settings, self._on_problem, each, (name, at))

    def _wrong(self, message: str, hint: str, *path: str | int) -> None:
        self._on_problem(self._settings.problem(message, *path, hint=hint))


def _keep(number: int, table: TableReader) -> KeepRule:
    who = _who(table)
    table.end()
    table.needs_one_of("id", "namespace")
    return KeepRule(number, who, table.line)


def _who(table: TableReader) -> Who:
    return Who(table.patterns("namespace") or ("*",), table.patterns("id") or ("*",))


def _retention(number: int, table: TableReader) -> RetentionRule:
    who = _who(table)
    keep_last = table.count("keep_last")
    max_age = table.duration("max_age", may_be_zero=True)
    max_bytes = table.size("max_bytes")
    delete_idle = table.duration("delete_idle")
    compress_idle = table.duration("compress_idle")
    try:
        policy = RetentionPolicy(keep_last=keep_last, max_age=max_age, max_bytes=max_bytes)
    except UsageError as error:
        table.wrong(str(error), hint=error.hint)
        policy = RetentionPolicy()
    table.end()
    table.needs_one_of("keep_last", "max_age", "max_bytes", "delete_idle", "compress_idle")
    return RetentionRule(
        number,
        who,
        table.line,
        None if policy.is_empty else policy,
        delete_idle,
        compress_idle,
    )


def _archive(table: TableReader) -> ArchiveRule:
    max_age = table.duration("max_age")
    max_bytes = table.size("max_bytes")
    min_idle = table.duration("min_idle", may_be_zero=True)
    allow_empty = table.flag("allow_empty")
    table.end()
    table.needs_one_of("max_age", "max_bytes", "allow_empty")
    if max_age is not None and min_idle is not None and min_idle > max_age:
        table.wrong("min_idle is more than max_age, which could then never count", "min_idle")
    if min_idle is None:
        min_idle = DEFAULT_MIN_IDLE_SECONDS
        if max_age is not None:
            min_idle = min(min_idle, max_age)
    return ArchiveRule(max_age, max_bytes, min_idle, allow_empty, table.line)


def _trash(table: TableReader) -> float | None:
    max_age = table.duration("max_age")
    table.end()
    table.needs_one_of("max_age")
    return max_age


@lru_cache(maxsize=1024)
def _test(pattern: str) -> Callable[[str], object]:
    """Return what says whether a text matches; most patterns need no regular expression."""
    start = pattern[:-1]
    if not set(pattern) & _SPECIAL:
        return pattern.__eq__
    if pattern.endswith("*") and not set(start) & _SPECIAL:
        return lambda text: text.startswith(start)
    return re.compile(translate(pattern)).match


def _covers(mine: str, theirs: str) -> bool:
    if mine == theirs:
        return True
    start = mine[:-1]
    if mine.endswith("*") and not set(start) & _SPECIAL:
        return theirs.startswith(start)  # both begin with the same plain characters
    return not set(theirs) & _SPECIAL and bool(_test(mine)(theirs))
