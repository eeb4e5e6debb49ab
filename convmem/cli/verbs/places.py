"""The verbs that say what there is, and where: list, path."""

from __future__ import annotations

from convmem.cli.spec import Argument, Option, Verb
from convmem.cli.verbs.common import IDS

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
            "continuation_id", "The conversation.", metavar="ID", required=False, complete=IDS
        ),
    ),
)

VERBS = (_LIST, _PATH)
