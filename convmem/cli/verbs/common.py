"""What several verbs take: the conversation, filters, quiet, a trial run."""

from __future__ import annotations

from convmem.cli.spec import Argument, Option

IDS = "convmem.cli.listing:complete_ids"
ID = Argument("continuation_id", "The conversation.", metavar="ID", complete=IDS)
ROLES = Option(
    "role",
    ("-r", "--role"),
    "Only turns of this role; may be given more than once.",
    takes="many",
    metavar="ROLE",
    complete="convmem.cli.listing:complete_roles",
)
SINCE = Option(
    "since",
    ("--since",),
    "Only turns from this time on: 2026-11-21, 2026-11-21T09:00Z, or an age such as 2h or 3d.",
    takes="text",
    metavar="TIME",
)
UNTIL = Option(
    "until",
    ("--until",),
    "Only turns before this time, written like --since.",
    takes="text",
    metavar="TIME",
)
QUIET = Option("quiet", ("-q", "--quiet"), "No messages on standard error but errors.")
JSON_TURNS = Option("json", ("--json",), "One JSON object per turn and line; stable for programs.")
IDS_MANY = Argument(
    "continuation_ids", "The conversations.", metavar="ID", required=False, many=True, complete=IDS
)
DRY_RUN = Option("dry_run", ("--dry-run",), "Say what would be done; change nothing.")
ALL = Option("all_conversations", ("--all",), "All conversations of the namespace.")
