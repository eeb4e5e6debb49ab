"""The verbs that let things go and bring them back: compact, delete, trash, scrub, compress."""

from __future__ import annotations

from convmem.cli.spec import Argument, Option, Verb
from convmem.cli.verbs.common import ALL, DRY_RUN, ID, IDS, IDS_MANY, QUIET, SINCE

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
  convmem compact oslo-trip --keep-last 50 --summarize-with 'llm -s "Sum this up"'
  convmem compact --all
  CONVMEM_NOW=2028-01-01 convmem compact --all --dry-run

--keep-last N alone keeps the newest N. --max-age AGE alone drops what is older. Together, a turn
goes only when it is older and not among the newest N. --max-bytes then drops the oldest until
the file fits, but never the newest turn. A tool's call and its result go or stay together.

Dropped turns move to the trash, unless --discard; "convmem trash restore ID" brings them back.
Turns recorded meanwhile are kept; nobody has to stop writing. Where nothing is to be dropped,
nothing is rewritten.

Without these three the rules in the archive's convmem.toml count: with --all those of every
namespace (unless one is named), whole conversations and the trash included. With neither rules
nor a policy nothing is done: that is wrong usage. What the keep-list there names is left alone.

--summarize-with runs COMMAND once for each conversation. It gets the turns that go as JSON
lines, and what it prints becomes one turn in their place, with the key "summary" that says what
it stands for. If it fails, takes longer than the setting summarize_timeout or prints nothing,
nothing is changed. A summary only goes into a later summary, never by a policy.

CONVMEM_NOW sets the clock that ages are measured by, to try what a policy will do.

EXIT STATUS:

  0  done, also when there was nothing to drop
  1  the summarizing command failed, and nothing was changed
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
        Option("all_conversations", ("--all",), "All conversations but the kept ones."),
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
        Option(
            "summarize_with",
            ("--summarize-with",),
            "Put what this shell command prints in the place of the dropped turns.",
            takes="text",
            metavar="COMMAND",
        ),
        Option("discard", ("--discard",), "Delete dropped turns, past the trash."),
        Option("dry_run", ("--dry-run",), "Say what would be dropped; change nothing."),
        Option("jobs", ("--jobs",), "How many conversations at a time.", takes="text", metavar="N"),
        QUIET,
        Option("json", ("--json",), "One JSON object per conversation and line."),
    ),
)

_COMPRESS = Verb(
    "compress",
    "Compress conversations that nobody uses.",
    """\
Compress whole conversations with zstd; they read and search as before, and the next turn that is
recorded makes a conversation plain again.

Examples:

  convmem compress oslo-trip
  convmem compress --all --idle 90d --dry-run
  convmem compress --all --idle 90d --quiet
  convmem compress --undo oslo-trip
  convmem compress --undo --damaged oslo-trip

In the place of NAME.jsonl stands NAME.jsonl.zst, which `zstd -dc` reads. What was written is read
back and compared, byte by byte, before the plain file goes; a crash at any moment leaves one of
the two whole. A conversation that somebody writes to meanwhile stays as it is, and so does one
that is too small to gain.

Needs zstd: pip install 'convmem[zstd]'. So does every read of a compressed conversation.

EXIT STATUS:

  0  done, also when there was nothing to compress
  2  wrong usage: neither an ID nor --all, --all without --idle; zstd is not installed
  3  there is no such conversation
  4  input/output or permission; disk full
  5  damaged: the compressed file does not unpack, or was not written as it should be
  6  busy: a compaction holds the only conversation asked for
  7  done in part: some conversations were skipped or failed, each is named
""",
    target="convmem.cli.compress:run",
    arguments=(IDS_MANY,),
    options=(
        ALL,
        Option(
            "idle",
            ("--idle",),
            "Only those whose last turn is older than this: 90d, 2w.",
            takes="text",
            metavar="AGE",
        ),
        Option("undo", ("--undo",), "Make compressed conversations plain again."),
        Option(
            "damaged",
            ("--damaged",),
            "With --undo: save what is left of those that are damaged; their files are kept in"
            " .quarantine.",
        ),
        DRY_RUN,
        QUIET,
        Option("json", ("--json",), "One JSON object per conversation and line."),
    ),
)

_YES = Option("yes", ("-y", "--yes"), "Do not ask, also at a terminal.")

_DELETE = Verb(
    "delete",
    "Move whole conversations to the trash.",
    """\
Move whole conversations to the trash, with their state.

Examples:

  convmem delete oslo-trip --dry-run
  convmem delete oslo-trip dinner
  convmem trash restore oslo-trip

Each is read once, and a compressed one unpacked first: what was imported is not brought back by
the next import, not even when the trash is purged. The trash keeps them until somebody purges it.
A conversation of that name that is begun anew goes on with the numbers where the old one ended,
so that both can be put together again.

At a terminal it asks before, unless --yes. To delete all conversations of a namespace in one go
takes --everything. What the keep-list of convmem.toml names is refused.

EXIT STATUS:

  0  done
  1  the person at the terminal said no
  2  wrong usage; all conversations without --everything; a kept one
  3  there is no such conversation
  4  input/output or permission
  6  busy: others held the only conversation asked for
  7  done in part: some could not be deleted, each is named
""",
    target="convmem.cli.delete:run",
    arguments=(IDS_MANY,),
    options=(
        Option("everything", ("--everything",), "Also where no conversation would be left."),
        DRY_RUN,
        _YES,
        QUIET,
        Option("json", ("--json",), "One JSON object per conversation and line."),
    ),
)

_TRASH = Verb(
    "trash",
    "List, bring back or purge what was dropped.",
    """\
Look into the trash, bring back what is there, or delete it for good.

Examples:

  convmem trash list
  convmem trash restore oslo-trip --dry-run
  convmem trash restore oslo-trip
  convmem trash restore oslo-trip --removed-since 2h
  convmem trash purge --older-than 30d

restore brings back every turn of the conversation that is in the trash, byte for byte and with
its seq, to its place in the order; a deleted conversation is there again, with its state. Others
may record meanwhile. --since narrows it to turns from that time on, --removed-since to what was
removed from that time on. A turn whose seq or id belongs to another turn by now stays in the
trash and is told. A summary goes when what it stands for comes back; the audit log keeps it.

purge deletes for good what was put into the trash longer ago than --older-than, and asks at a
terminal, unless --yes. Without ids that is everything of the namespace but what came from
conversations on the keep-list.

EXIT STATUS:

  0  done, also when there was nothing to list or purge
  1  the person at the terminal said no
  2  wrong usage
  3  there is no such conversation in the trash
  4  input/output or permission; disk full
  6  busy: a compaction holds the only conversation asked for
  7  done in part: some turns or conversations stay in the trash, each is named
""",
    target="convmem.cli.trash:run",
    arguments=(
        Argument("action", "What to do: list, restore or purge.", metavar="ACTION"),
        IDS_MANY,
    ),
    options=(
        SINCE,
        Option(
            "removed_since",
            ("--removed-since",),
            "Restore only what was removed from this time on, written like --since.",
            takes="text",
            metavar="TIME",
        ),
        Option(
            "older_than",
            ("--older-than",),
            "Purge what was removed longer ago than this: 30d, 12w.",
            takes="text",
            metavar="AGE",
        ),
        Option("all_namespaces", ("--all-namespaces",), "List or purge in every namespace."),
        DRY_RUN,
        _YES,
        QUIET,
        Option("json", ("--json",), "One JSON object per line."),
    ),
)

_SCRUB = Verb(
    "scrub",
    "Remove what one turn said, everywhere and for good.",
    """\
Remove what one turn said, everywhere and for good: a password, say, that should not have been
recorded. There is no way back, not by the trash either.

Examples:

  convmem scrub oslo-trip 17 --dry-run
  convmem scrub oslo-trip 17
  convmem scrub oslo-trip 0195f3a2-7c41-7c2e-9d0a-3b6a52f0c1de

TURN is the turn's id or its number (seq); digits are a number unless a turn has that id. In its
place stays a marker with the same id, number, time and role, no content, and as meta only the time
of scrubbing. Nothing else of the conversation changes: others may record and read meanwhile, and
who follows goes on. A retry or an import of the turn does not bring it back.

It is removed from the log, which is made plain if it lies compressed; from the trash, where the
marker can be restored; from damaged bytes in the quarantine, as far as these can be told to be the
turn's; and with files that killed processes have left. A summary goes from the audit log, too. What
the keep-list of convmem.toml names can be scrubbed: it is kept from rules, not from you.

Out of reach are copies elsewhere: other turns that say the same (later versions of the turn, and
summaries, are named), other conversations, backups, snapshots of the file system, programs that
have the old file open, and blocks of the disk that are free now but not yet overwritten. A password
that was recorded is best changed.

After a crash each file is as it was, or scrubbed; the same command does what is left. At a
terminal it asks before, unless --yes.

EXIT STATUS:

  0  done, also when nothing was left to scrub
  1  the person at the terminal said no
  2  wrong usage; several turns have that number
  3  there is no such conversation, or no such turn in it
  4  input/output or permission; disk full
  6  busy: a compaction, repair or restoration is at work on the conversation
  7  done in part: parts of the quarantine cannot be read, each file is named
""",
    target="convmem.cli.scrub:run",
    arguments=(
        ID,
        Argument("turn", "The turn's id, or its number.", metavar="TURN"),
    ),
    options=(
        Option("dry_run", ("--dry-run",), "Say where it would be removed; change nothing."),
        _YES,
        QUIET,
        Option("json", ("--json",), "Answer with one JSON object."),
    ),
)

VERBS = (_COMPACT, _DELETE, _TRASH, _SCRUB, _COMPRESS)
