"""``convmem compact``: let old turns go under a policy, or under the rules of the archive."""

from __future__ import annotations

from datetime import datetime, timedelta

from convmem import maintenance
from convmem.archive import Archive
from convmem.archive_plan import ConversationFacts
from convmem.cli import values
from convmem.cli.boundary import status_of
from convmem.cli.compact_jobs import Job, carry_out, helpers_for
from convmem.cli.compact_talk import Talk
from convmem.cli.output.bar import Bar
from convmem.cli.output.messages import Messages
from convmem.cli.places import (
    namespace_of,
    open_archive,
    require_archive,
    root_of,
    settings_of,
)
from convmem.cli.several import total_bytes
from convmem.cli.spec import Context
from convmem.cli.summarizing import Summarizer
from convmem.errors import ConvmemError, UsageError
from convmem.maintenance import Done, Work
from convmem.progress import Observer
from convmem.quantities import format_size
from convmem.retention import RetentionPolicy
from convmem.rules import Rules

# After so long without a turn or a removal the clock is doubted before anything is purged.
_LONGEST_SILENCE = timedelta(days=366)

_NO_POLICY = (
    "give --keep-last N, --max-age 90d or --max-bytes 50M, or write rules into convmem.toml"
)


def run(
    context: Context,
    *,
    continuation_ids: list[str],
    all_conversations: bool,
    keep_last: str | None,
    max_age: str | None,
    max_bytes: str | None,
    summarize_with: str | None,
    discard: bool,
    dry_run: bool,
    jobs: str | None,
    quiet: bool,
    json: bool,
) -> int:
    """Compact, and return the exit status."""
    if not continuation_ids and not all_conversations:
        raise UsageError(
            "name the conversations to compact, or say --all",
            hint="nothing is compacted by default",
        )
    if continuation_ids and all_conversations:
        raise UsageError("--all and ids do not go together", hint="choose one of them")
    if summarize_with is not None and discard:
        raise UsageError(
            "--summarize-with and --discard do not go together",
            hint="a summary stands for turns that are in the trash",
        )
    if all_conversations:
        require_archive(context)
    policy = RetentionPolicy(
        keep_last=values.count("--keep-last", keep_last),
        max_age=values.duration("--max-age", max_age),
        max_bytes=values.size("--max-bytes", max_bytes),
    )
    settings = settings_of(context)
    asked = values.count("--jobs", jobs, least=1)
    now = values.now(context)
    job = Job(
        root_of(context),
        now,
        dry_run,
        discard,
        settings.seconds("lock_timeout"),
        settings.seconds("remember"),
        settings.word("output.log"),
        json,
        quiet,
        None
        if summarize_with is None
        else Summarizer(summarize_with, settings.seconds("summarize_timeout")),
    )
    talk = Talk(
        Messages(as_json=json, quiet=quiet),
        as_json=json,
        quiet=quiet,
        dry_run=dry_run,
        discard=discard,
        are_named=not all_conversations,
    )
    with open_archive(context, observer=Observer(), settings=settings) as archive:
        rules = archive.rules()
        if policy.is_empty and rules.is_empty:
            raise UsageError("there is no policy, so nothing would go", hint=_NO_POLICY)
        if policy.is_empty and discard:
            raise UsageError(
                "--discard goes with a policy on the command line",
                hint="what goes by the rules of convmem.toml always goes to the trash",
            )
        by_rules = _ByRules(archive, rules, context, talk) if policy.is_empty else None
        if by_rules is not None:
            works = by_rules.works(job, continuation_ids)
        else:
            works = _under_policy(archive, rules, context, policy, continuation_ids)
        total = total_bytes(
            archive.conversation(work.continuation_id, namespace=work.namespace) for work in works
        )
        helpers = helpers_for(asked, settings.number("jobs"), works, total)
        done = _carry_out(job, works, helpers, total, talk, quiet=quiet)
        if by_rules is not None and all_conversations:
            by_rules.make_room(job, done, quiet=quiet)
            by_rules.purge(job)
    talk.sum_up(len(works))
    return status_of(talk.failures, only_one=len(works) == 1 and not all_conversations)


def _under_policy(
    archive: Archive,
    rules: Rules,
    context: Context,
    policy: RetentionPolicy,
    continuation_ids: list[str],
) -> list[Work]:
    """Return the work on the conversations that were named, or on all but the kept ones."""
    namespace = namespace_of(context)
    names = list(dict.fromkeys(continuation_ids))
    for name in names:
        archive.conversation(name)  # wrong usage is said before anything is changed
    if not names:
        names = sorted(
            chat.continuation_id
            for chat in archive.conversations()
            if not rules.is_kept(namespace, chat.continuation_id)
        )
    return [Work(namespace, name, policy) for name in names]


class _ByRules:
    """A run under the rules of ``convmem.toml``: in every namespace, unless one is named."""

    def __init__(self, archive: Archive, rules: Rules, context: Context, talk: Talk) -> None:
        self._archive = archive
        self._rules = rules
        self._talk = talk
        self._namespace = namespace_of(context)
        self._is_whole = not (context.namespace or context.env.get("CONVMEM_NAMESPACE"))
        self._places = archive.namespaces() if self._is_whole else [self._namespace]
        self._facts: list[ConversationFacts] = []
        self._newest: datetime | None = None  # before anything was done

    def works(self, job: Job, continuation_ids: list[str]) -> list[Work]:
        """Return what the rules ask for; of named conversations only their compaction."""
        if continuation_ids:
            return [self._work_on(name) for name in dict.fromkeys(continuation_ids)]
        self._facts = maintenance.facts_of(self._archive, self._places, self._fail)
        self._newest = self._newest_sign_of_life()
        steps = maintenance.plan(self._rules, self._facts, job.now)
        return [Work.of(step) for step in steps if not step.is_nothing]

    def make_room(self, job: Job, done: list[Done], *, quiet: bool) -> None:
        """Delete the conversations idle longest until the rest fits, where a rule says so."""
        if not self._is_whole or self._rules.archive.max_bytes is None:
            return
        facts = self._facts
        if not job.dry_run:
            facts, done = maintenance.facts_of(self._archive, self._places, _told_before), []
        try:
            room = maintenance.room_after(self._rules, facts, done, job.now)
        except UsageError as error:
            self._talk.fail(error, "to make room")
            return
        _carry_out(job, [Work.of(step) for step in room.steps], 1, 0, self._talk, quiet=quiet)
        if room.excess_bytes:
            self._talk.warn(
                "archive_max_bytes",
                f"the archive is still {format_size(room.excess_bytes)} larger than its rule"
                " allows",
                "the rest is kept, was active lately or has no time; see [archive] min_idle",
            )

    def purge(self, job: Job) -> None:
        """Empty the trash of what is too old, where a rule says so."""
        seconds = self._rules.trash_max_age_seconds
        if seconds is None:
            return
        if self._newest is not None and job.now - self._newest > _LONGEST_SILENCE:
            # What is purged is gone for good: a clock that jumped must not be the reason.
            self._talk.fail(
                UsageError(
                    f"nothing was purged: the newest there is of {self._newest:%Y-%m-%d},"
                    f" and the clock says {job.now:%Y-%m-%d}",
                    hint="if the clock is right: convmem trash purge --older-than AGE",
                ),
                "the trash",
            )
            return
        for namespace in self._places:
            gone = self._archive.purge_trash(
                timedelta(seconds=seconds),
                namespace=namespace,
                dry_run=job.dry_run,
                now=job.now,
            )
            self._talk.tell_purged(namespace, gone)

    def _newest_sign_of_life(self) -> datetime | None:
        removed = (
            each.removed
            for namespace in self._places
            for each in self._archive.trash(namespace=namespace)
        )
        spoken = (each.last_activity for each in self._facts if each.last_activity is not None)
        return max([*removed, *spoken], default=None)

    def _work_on(self, name: str) -> Work:
        self._archive.conversation(name)
        rule = self._rules.rule_for(self._namespace, name)
        if rule is None or rule.policy is None:
            raise UsageError(
                f"no rule of convmem.toml says how to compact {name!r}", hint=_NO_POLICY
            )
        return Work(self._namespace, name, rule.policy, because=f"retention rule {rule.number}")

    def _fail(self, continuation_id: str, error: ConvmemError) -> None:
        self._talk.fail(error, continuation_id)


def _carry_out(
    job: Job, works: list[Work], helpers: int, total: int, talk: Talk, *, quiet: bool
) -> list[Done]:
    done = []
    with Bar("compacting", total, quiet=quiet) as bar:
        for each in carry_out(job, works, helpers, bar.advance):
            talk.tell(each)
            done.append(each)
    return done


def _told_before(continuation_id: str, error: ConvmemError) -> None:
    """What cannot be read was told when the run began."""
