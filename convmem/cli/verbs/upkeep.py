"""The verbs that let things go and bring them back: compact."""

from __future__ import annotations

from convmem.cli.spec import Argument, Option, Verb
from convmem.cli.verbs.common import IDS, QUIET

_COMPACT = Verb(
    "compact",
    "Drop old turns under a policy.",
    """\
Drop the turns of conversations that a policy no longer keeps.

Examples:

  convmem compact oslo-trip --keep-last 500 --dry-run
  convmem compact oslo-trip --keep-last 500
  convmem compact --all --max-age 90d --keep-last 50
  convmem compact --all --max-bytes 50M --jobs 4 --quiet

--keep-last N alone keeps the newest N. --max-age AGE alone drops what is older. Together, a turn
goes only when it is older and not among the newest N. --max-bytes then drops the oldest until
the file fits, but never the newest turn. A tool's call and its result go or stay together.

Dropped turns move to the trash, unless --discard. Turns recorded meanwhile are kept; nobody has
to stop writing. Where nothing is to be dropped, nothing is rewritten. With no policy nothing is
done: that is wrong usage.

EXIT STATUS:

  0  done, also when there was nothing to drop
  2  wrong usage: neither an ID nor --all, or no policy
  3  there is no such conversation
  4  input/output or permission; disk full
  6  busy: another compaction holds the only conversation asked for
  7  done in part: some conversations were skipped or failed, each is named
""",
    target="convmem.cli.compact:run",
    arguments=(
        Argument(
            "continuation_ids",
            "The conversations.",
            metavar="ID",
            required=False,
            many=True,
            complete=IDS,
        ),
    ),
    options=(
        Option("all_conversations", ("--all",), "All conversations of the namespace."),
        Option(
            "keep_last", ("--keep-last",), "Keep the newest N turns.", takes="text", metavar="N"
        ),
        Option(
            "max_age",
            ("--max-age",),
            "Drop turns older than this: 90d, 12h, 2w.",
            takes="text",
            metavar="AGE",
        ),
        Option(
            "max_bytes",
            ("--max-bytes",),
            "Drop the oldest turns until the file fits: 50M, 200k.",
            takes="text",
            metavar="SIZE",
        ),
        Option("discard", ("--discard",), "Delete dropped turns, past the trash."),
        Option("dry_run", ("--dry-run",), "Say what would be dropped; change nothing."),
        Option("jobs", ("--jobs",), "How many conversations at a time.", takes="text", metavar="N"),
        QUIET,
        Option("json", ("--json",), "One JSON object per conversation and line."),
    ),
)

VERBS = (_COMPACT,)
