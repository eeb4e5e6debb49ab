"""The table of verbs: the one place that says which commands there are and what they take.

Adding a verb is adding an entry here and the function that its target names. Help is written as
people read it: examples first, then what holds, then the exit codes.
"""

from __future__ import annotations

from convmem.cli.spec import Argument, Option, Verb

_IDS = "convmem.cli.listing:complete_ids"

_ID = Argument("continuation_id", "The conversation.", metavar="ID", complete=_IDS)
_ROLES = Option(
    "role",
    ("-r", "--role"),
    "Only turns of this role; may be given more than once.",
    takes="many",
    metavar="ROLE",
    complete="convmem.cli.listing:complete_roles",
)
_SINCE = Option(
    "since",
    ("--since",),
    "Only turns from this time on: 2026-11-21, 2026-11-21T09:00Z, or an age such as 2h or 3d.",
    takes="text",
    metavar="TIME",
)
_UNTIL = Option(
    "until",
    ("--until",),
    "Only turns before this time, written like --since.",
    takes="text",
    metavar="TIME",
)
_QUIET = Option("quiet", ("-q", "--quiet"), "No messages on standard error but errors.")
_JSON_TURNS = Option("json", ("--json",), "One JSON object per turn and line; stable for programs.")

_RECORD = Verb(
    "record",
    "Add a turn to a conversation.",
    """\
Add a turn to a conversation. When it returns 0, the turn is on disk to stay (with --sync none,
when the system gets to it; no policy loses it to a crash of the program).

Examples:

  convmem record oslo-trip "And by train?"
  convmem record oslo-trip -r assistant "About seven hours."
  llm "And by bus?" | convmem record oslo-trip -r assistant --tee
  convmem record oslo-trip --id req-81 "Sent twice, stored once"
  convmem record oslo-trip --jsonl < turns.jsonl
  convmem record - --jsonl < turns-of-many-conversations.jsonl

Without TEXT, standard input is one turn. Its last newline is cut, as the shell's $(...) does;
--exact keeps it. A conversation begins with its first turn.

With --jsonl each line of standard input is one turn: an object with role and content, and, if
wanted, id, ts and meta; other keys are kept. Where ID is "-", each line also names its
continuation_id. Good lines are recorded, bad ones reported by line number.

A turn with an id that is already there is stored once: the same turn again is a success and
changes nothing, another turn under that id is a conflict.

EXIT STATUS:

  0  recorded
  1  refused: an invalid turn, or a conflict; with --jsonl: all lines are bad
  2  wrong usage
  4  input/output or permission; disk full
  6  busy: the lock was not to be had in time
  7  with --jsonl: some lines are bad, the others are recorded
""",
    target="convmem.cli.record:run",
    arguments=(
        Argument(
            "continuation_id",
            'The conversation; "-" with --jsonl: as each line says.',
            metavar="ID",
            complete=_IDS,
        ),
        Argument("text", "What was said; else standard input.", required=False),
    ),
    options=(
        Option(
            "role",
            ("-r", "--role"),
            "Who said it: user, assistant, system, tool, or any short word.",
            takes="text",
            metavar="ROLE",
            default="user",
            complete="convmem.cli.listing:complete_roles",
        ),
        Option(
            "turn_id",
            ("--id",),
            "The turn's own id, so that a retry is stored once.",
            takes="text",
            metavar="TURN_ID",
        ),
        Option(
            "meta",
            ("--meta",),
            "A note on the turn, such as model=small; may be given more than once.",
            takes="many",
            metavar="KEY=VALUE",
        ),
        Option(
            "ts",
            ("--ts",),
            "When it was said, such as 2026-11-21T09:00:00Z; else now.",
            takes="text",
            metavar="TIME",
        ),
        Option(
            "sync",
            ("--sync",),
            "When to force turns to the disk: before each answer, now and then, or never.",
            takes="text",
            choices=("always", "interval", "none"),
        ),
        Option("jsonl", ("--jsonl",), "Standard input is one turn per line, as JSON."),
        Option("tee", ("--tee",), "Pass standard input through to standard output."),
        Option("exact", ("--exact",), "Keep the last newline of standard input."),
        _QUIET,
        Option("json", ("--json",), "Print each recorded turn as one line of JSON."),
    ),
)

_TAIL = Verb(
    "tail",
    "Print the last turns of a conversation.",
    """\
Print the last turns of a conversation, oldest first.

Examples:

  convmem tail oslo-trip
  convmem tail oslo-trip -n 2 --json | jq -r .content
  convmem tail oslo-trip -f -r assistant
  convmem tail oslo-trip -n +120
  convmem tail oslo-trip -n all --since 2h
  convmem tail oslo-trip --cursor-file ~/.seen --json

It reads from the end of the file, so its cost follows what is printed, not what is stored. It
takes no lock: it neither waits for writers nor holds them up.

With --cursor-file the file remembers the last turn printed; the next call prints what is newer.
The file is written after the turns are out, so a crash repeats turns rather than losing them.

Damaged lines are skipped and said on standard error.

EXIT STATUS:

  0  done, also when there is no turn to print
  2  wrong usage
  3  there is no such conversation
  4  input/output or permission
  130  interrupted, the usual end of --follow
""",
    target="convmem.cli.tail:run",
    arguments=(_ID,),
    options=(
        Option(
            "lines",
            ("-n", "--lines"),
            'How many turns: a number, "all", or +SEQ for all from that sequence number on.',
            takes="text",
            metavar="N",
        ),
        Option("follow", ("-f", "--follow"), "Go on printing turns as they are recorded."),
        _ROLES,
        _SINCE,
        _UNTIL,
        Option(
            "cursor_file",
            ("--cursor-file",),
            "Print what is new since the last call with this file.",
            takes="text",
            metavar="FILE",
        ),
        _QUIET,
        _JSON_TURNS,
    ),
)

_SHOW = Verb(
    "show",
    "Print a whole conversation.",
    """\
Print a whole conversation, oldest turn first.

Examples:

  convmem show oslo-trip
  convmem show oslo-trip | less -R
  convmem show oslo-trip -r user -r assistant --since 2026-11-01
  convmem show oslo-trip --json > oslo-trip.jsonl

Turns are read one by one: memory does not grow with the conversation. Damaged lines are skipped
and said on standard error.

EXIT STATUS:

  0  done, also when there is no turn to print
  2  wrong usage
  3  there is no such conversation
  4  input/output or permission
""",
    target="convmem.cli.tail:show",
    arguments=(_ID,),
    options=(_ROLES, _SINCE, _UNTIL, _QUIET, _JSON_TURNS),
)

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
            complete=_IDS,
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
        _QUIET,
        Option("json", ("--json",), "One JSON object per conversation and line."),
    ),
)

_LIST = Verb(
    "list",
    "List conversations, the latest first.",
    """\
List the conversations of a namespace, the one used last first.

Examples:

  convmem list
  convmem list -l
  convmem list --json | jq -r 'select(.bytes > 1000000) | .continuation_id'
  convmem list -0 | xargs -0 -n1 convmem path

At a terminal this is a table; else it is the ids, one a line (-0 for ids that hold newlines), and
--json has the rest. --long reads every conversation to count its turns; without it only the two
ends of each are read.

EXIT STATUS:

  0  done, also when there are none
  2  wrong usage
  4  input/output or permission
  7  done in part: some conversations could not be read, each is named
""",
    target="convmem.cli.listing:run",
    options=(
        Option("long", ("-l", "--long"), "Add the exact number of turns."),
        Option("all_namespaces", ("--all-namespaces",), "Those of every namespace."),
        Option("print0", ("-0", "--print0"), "Ids only, each ended by a NUL, for xargs -0."),
        Option("json", ("--json",), "One JSON object per conversation and line."),
    ),
)

_PATH = Verb(
    "path",
    "Print where a conversation, or the archive, is.",
    """\
Print the file of a conversation; without ID, the folder of the archive.

Examples:

  grep -c '"role":"user"' "$(convmem path oslo-trip)"
  du -sh "$(convmem path)"

The file is plain JSON lines, one turn each: read it with whatever you like.

EXIT STATUS:

  0  done
  2  wrong usage
  3  there is no such conversation
  4  input/output or permission
""",
    target="convmem.cli.listing:path",
    arguments=(
        Argument(
            "continuation_id", "The conversation.", metavar="ID", required=False, complete=_IDS
        ),
    ),
)

TABLE: dict[str, Verb] = {
    verb.name: verb for verb in (_RECORD, _TAIL, _SHOW, _COMPACT, _LIST, _PATH)
}
