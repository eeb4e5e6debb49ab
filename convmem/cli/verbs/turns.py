"""The verbs that turns go in and come out by: record, tail, show."""

from __future__ import annotations

from convmem.cli.spec import Argument, Option, Verb
from convmem.cli.verbs.common import ID, IDS, JSON_TURNS, QUIET, ROLES, SINCE, UNTIL

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

With --redact likely credentials in content, meta and other keys are masked before they are stored,
as [redacted: RULE], and counted on standard error; nothing else is changed, and what --tee passes
on is not masked. It needs: pip install 'convmem[secrets]'. Without it nothing is ever edited.

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
            complete=IDS,
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
        Option("redact", ("--redact",), "Mask likely credentials; see convmem secrets."),
        QUIET,
        Option("json", ("--json",), "Print each recorded turn as one line of JSON."),
    ),
)

_PLAIN = Option(
    "plain", ("--plain",), "Text as it stands: no Markdown, colour or pager; in pipes too."
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
  convmem tail oslo-trip -n 1 --plain | wc -w
  convmem tail oslo-trip --cursor-file ~/.seen --json

It reads from the end of the file, so its cost follows what is printed, not what is stored. It
takes no lock: it neither waits for writers nor holds them up.

With --cursor-file the file remembers the last turn printed; the next call prints what is newer.
The file is written after the turns are out, so a crash repeats turns rather than losing them.

At a terminal it is laid out for people, in a pipe it is JSON; --plain gives text in both.

Damaged lines are skipped and said on standard error.

EXIT STATUS:

  0  done, also when there is no turn to print
  2  wrong usage
  3  there is no such conversation
  4  input/output or permission
  130  interrupted, the usual end of --follow
""",
    target="convmem.cli.tail:run",
    arguments=(ID,),
    options=(
        Option(
            "lines",
            ("-n", "--lines"),
            'How many turns: a number, "all", or +SEQ for all from that sequence number on.',
            takes="text",
            metavar="N",
        ),
        Option("follow", ("-f", "--follow"), "Go on printing turns as they are recorded."),
        ROLES,
        SINCE,
        UNTIL,
        Option(
            "cursor_file",
            ("--cursor-file",),
            "Print what is new since the last call with this file.",
            takes="text",
            metavar="FILE",
        ),
        _PLAIN,
        QUIET,
        JSON_TURNS,
    ),
)

_SHOW = Verb(
    "show",
    "Print a whole conversation.",
    """\
Print a whole conversation, oldest turn first.

Examples:

  convmem show oslo-trip
  convmem show oslo-trip --plain | grep -i train
  convmem show oslo-trip -r user -r assistant --since 2026-11-01
  convmem show oslo-trip --json > oslo-trip.jsonl

At a terminal it is laid out for people, with Markdown, and goes through a pager where it is
longer than the window: $PAGER, else less; none with CONVMEM_PAGER=never. Control characters are
shown, not obeyed. NO_COLOR and TERM=dumb are followed. In a pipe it is JSON; --plain gives text
in both, each turn under a line with its role, time and number.

Turns are read one by one: memory does not grow with the conversation. Damaged lines are skipped
and said on standard error.

EXIT STATUS:

  0  done, also when there is no turn to print
  2  wrong usage
  3  there is no such conversation
  4  input/output or permission
""",
    target="convmem.cli.tail:show",
    arguments=(ID,),
    options=(
        ROLES,
        SINCE,
        UNTIL,
        _PLAIN,
        Option("no_pager", ("--no-pager",), "Straight to the terminal, however long it is."),
        QUIET,
        JSON_TURNS,
    ),
)

VERBS = (_RECORD, _TAIL, _SHOW)
