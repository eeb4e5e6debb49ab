"""A run of the rules over an archive: what ``compact --all`` does to each conversation.

The rules say what should happen (``archive_plan``, pure); here it happens, and what happened is
said: conversation by conversation, so that a failure of one stops no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from convmem.archive_plan import ConversationFacts, RoomPlan, Step, plan_archive, plan_room
from convmem.errors import ConvmemError
from convmem.log.removing.removal import StillInUse
from convmem.quantities import parse_stored_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Literal

    from convmem.archive import Archive
    from convmem.conversation import Conversation
    from convmem.log.removing.survey import CompactionReport
    from convmem.retention import RetentionPolicy
    from convmem.rules import Rules
    from convmem.turns import Turn

    Summarize = Callable[[Conversation, Iterator[Turn]], str]


_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done to one conversation, and why; can be handed to another process."""

    namespace: str
    continuation_id: str
    policy: RetentionPolicy | None = None
    delete: str | None = None
    compress: bool = False
    because: str = ""
    # Of the last turn when the plan was made: what has come to life since stays.
    quiet_since: datetime | None = None

    @classmethod
    def of(cls, step: Step) -> Work:
        """Return the work that a step of a plan asks for."""
        return cls(
            step.facts.namespace,
            step.facts.continuation_id,
            step.policy,
            step.delete,
            step.compress,
            step.because,
            step.facts.last_activity,
        )


@dataclass(frozen=True, slots=True)
class Done:
    """What was done to one conversation, or with *dry_run* would be.

    Attributes:
        bytes_before, bytes_after: The size of its file.
        report: Of a compaction.
        trash: The file in the trash, of a deletion.
        error: Why it could not be done.
    """

    namespace: str
    continuation_id: str
    action: Literal["compact", "delete", "compress"]
    because: str = ""
    bytes_before: int = 0
    bytes_after: int = 0
    report: CompactionReport | None = None
    trash: str | None = None
    error: ConvmemError | None = None


def facts_of(
    archive: Archive,
    namespaces: Iterable[str],
    failed: Callable[[str, ConvmemError], None],
) -> list[ConversationFacts]:
    """Return what the rules need to know of each conversation; those that cannot be read are told.

    Costs what ``Archive.overview`` does.
    """
    return [
        ConversationFacts(
            row.namespace,
            row.continuation_id,
            row.bytes,
            row.last_ts,
            row.is_compressed,
            None if row.counts is None else row.counts.turns,
            parse_stored_time(None if row.counts is None else row.counts.oldest),
        )
        for namespace in namespaces
        for row in archive.overview(namespace=namespace, failed=failed)
    ]


def plan(rules: Rules, facts: Iterable[ConversationFacts], now: datetime) -> tuple[Step, ...]:
    """Return the steps of a run, in order of namespace and id; see ``plan_archive``."""
    return plan_archive(rules, facts, now)


def room_after(
    rules: Rules,
    facts: Iterable[ConversationFacts],
    done: Iterable[Done],
    now: datetime,
) -> RoomPlan:
    """Return which conversations must go so that the rest fits, once *done* is done.

    For a trial: *facts* are those of before, and the sizes are taken from *done*.
    """
    sizes: dict[tuple[str, str], int] = {}
    gone = set()
    for each in done:
        key = (each.namespace, each.continuation_id)
        if each.error is None:
            sizes[key] = each.bytes_after
            if each.action == "delete":
                gone.add(key)
    left = [
        ConversationFacts(
            each.namespace,
            each.continuation_id,
            sizes.get((each.namespace, each.continuation_id), each.bytes),
            each.last_activity,
            each.is_compressed,
        )
        for each in facts
        if (each.namespace, each.continuation_id) not in gone
    ]
    return plan_room(rules, left, now)


def carry_out(
    archive: Archive,
    work: Work,
    *,
    now: datetime,
    dry_run: bool,
    discard: bool = False,
    summarize: Summarize | None = None,
) -> Iterator[Done]:
    """Do what is to be done to one conversation. Yields each thing done; raises nothing for it."""
    where = (work.namespace, work.continuation_id)
    chat = archive.conversation(work.continuation_id, namespace=work.namespace)
    action: Literal["compact", "delete", "compress"] = "compact"
    try:
        if work.delete is not None:
            action = "delete"
            gone = chat.delete(
                reason=work.delete, quiet_since=work.quiet_since, dry_run=dry_run, now=now
            )
            yield Done(*where, action, work.because, gone.bytes, 0, trash=gone.trash or None)
            return
        if work.policy is not None:
            report = chat.compact(
                work.policy,
                discard=discard,
                dry_run=dry_run,
                now=now,
                summarize=None if summarize is None else _for(chat, summarize),
            )
            yield Done(
                *where, action, work.because, report.bytes_before, report.bytes_after, report
            )
        if work.compress:
            action = "compress"
            # A second less: a turn of the very time that was seen is no sign of life.
            idle = None if work.quiet_since is None else now - work.quiet_since - _SECOND
            made = chat.compress(idle=idle, dry_run=dry_run, now=now)
            if made.is_done:
                yield Done(*where, action, work.because, made.bytes_before, made.bytes_after)
    except StillInUse:
        return
    except ConvmemError as error:
        yield Done(*where, action, work.because, error=error)


def _for(chat: Conversation, summarize: Summarize) -> Callable[[Iterator[Turn]], str]:
    return lambda turns: summarize(chat, turns)
