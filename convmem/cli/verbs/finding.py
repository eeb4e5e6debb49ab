"""The verbs that find turns: grep."""

from __future__ import annotations

from convmem.cli.spec import Argument, Option, Verb
from convmem.cli.verbs.common import IDS_MANY, QUIET, ROLES, SINCE, UNTIL

_GREP = Verb(
    "grep",
    "Find turns by a pattern, exactly.",
    """\
Look for a pattern in what turns say: in their text, not in their JSON, keys, ids or meta. Looks
into all conversations, or those named, and asks no index, so that nothing is missed.

Examples:

  convmem grep 'time zone'
  convmem grep -r user '^(and|but) ' oslo-trip
  convmem grep -F 'a[0].b' --since 30d -C 1
  convmem grep -l deadlock | xargs -n1 convmem show --plain
  convmem grep -c TODO --json | jq -s 'map(.count) | add'

PATTERN is a regular expression as Python has them, ^ and $ being the ends of a line; with -F it is
the text itself. All small letters find any case, unless there is a capital among them, or -s or -i
says otherwise. Accents count: cafe does not find café. What begins with - comes behind --.

What is found is a turn. At a terminal its matching lines are shown; else each is a line
"ID:SEQ:ROLE:text" (with -, as in "ID-SEQ-ROLE-text", for neighbours), sorted by ID, in the order
of the log. --json prints for each turn continuation_id, namespace, id, seq, ts, role, snippet and
marks: where in the snippet the matches are; neighbours as tail --json has them, with "context".

Events of an import, and turns that were scrubbed, are found where -r names their role. Damaged
lines are passed over; those that cannot hold the pattern are not looked at. A pattern that holds a
piece of plain text is looked for at several gigabytes a second, any other at a tenth of that. Some
regular expressions take for ever, such as (a+)+b: end them with Ctrl-C.

Behind the verb -A is that of grep. The archive is then named with --archive, or before the verb.

EXIT STATUS:

  0  done: something was found
  1  nothing was found
  2  wrong usage: the pattern is no regular expression
  3  there is no such conversation; the others named were looked into
  4  input/output or permission; what can be read was looked into
""",
    target="convmem.cli.grep:run",
    arguments=(Argument("pattern", "What to look for.", metavar="PATTERN"), IDS_MANY),
    options=(
        Option("ignore_case", ("-i", "--ignore-case"), "Small letters and capitals are the same."),
        Option("case_sensitive", ("-s", "--case-sensitive"), "They never are."),
        Option("fixed", ("-F", "--fixed-strings"), "PATTERN is the text itself."),
        Option("invert", ("-v", "--invert-match"), "Find the turns that do not match."),
        Option("count", ("-c", "--count"), "How many turns of each conversation match."),
        Option("ids_only", ("-l", "--ids-only"), "Only the ids of conversations with a match."),
        Option(
            "max_count",
            ("-m", "--max-count"),
            "At most so many turns of each conversation.",
            takes="text",
            metavar="NUM",
        ),
        Option(
            "after",
            ("-A", "--after-context"),
            "Show so many turns after each, too.",
            takes="text",
            metavar="NUM",
        ),
        Option(
            "before",
            ("-B", "--before-context"),
            "Show so many turns before each, too.",
            takes="text",
            metavar="NUM",
        ),
        Option(
            "around",
            ("-C", "--context"),
            "Show so many turns before and after each, too.",
            takes="text",
            metavar="NUM",
        ),
        ROLES,
        SINCE,
        UNTIL,
        Option("all_namespaces", ("--all-namespaces",), "Look into those of every namespace."),
        QUIET,
        Option("json", ("--json",), "One JSON object per turn and line, or with -c and -l per ID."),
    ),
)

VERBS: tuple[Verb, ...] = (_GREP,)
