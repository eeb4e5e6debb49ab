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
  convmem list -n 1
  convmem list --json | jq -r 'select(.bytes > 1000000) | .continuation_id'
  convmem list -0 | xargs -0 -n1 convmem path

At a terminal this is a table; else it is the ids, one a line (-0 for ids that hold newlines), and
--json has the rest. --long adds the exact number of turns, for which conversations are read whole;
without it only a few kilobytes of each are.

What was learnt is kept in the folder .index of the namespace, so that the next list reads only what
is new. That folder may be deleted at any time. Compressed conversations are not unpacked for it.

EXIT STATUS:

  0  done, also when there are none
  2  wrong usage
  4  input/output or permission
  7  done in part: some conversations could not be read, each is named
""",
    target="convmem.cli.listing:run",
    options=(
        Option("long", ("-l", "--long"), "Add the exact number of turns."),
        Option(
            "newest", ("-n", "--newest"), "Only so many, the latest.", takes="text", metavar="NUM"
        ),
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

_CONFIG = Verb(
    "config",
    "Show and check the settings and the retention rules.",
    """\
Show what is set, and where each value comes from; or check convmem.toml.

Examples:

  convmem config
  convmem config show --json | jq -r 'select(.source != "default") | .name'
  convmem config check
  $EDITOR "$(convmem config path)"

show (what config does without a word) prints every setting with its value and its source: the
environment, convmem.toml in the archive, or the default. A flag of a verb comes before all three.

path prints where convmem.toml is, or would be.

check reads all of it, says what each rule means and of how many conversations it decides, and
names what is wrong by line. It changes nothing.

With a convmem.toml that is wrong, verbs that remove anything refuse to work; those that record
and read warn, and go on without the setting that is wrong.

EXIT STATUS:

  0  done
  2  wrong usage; something in convmem.toml or the environment is wrong
  4  input/output or permission
""",
    target="convmem.cli.config:run",
    arguments=(
        Argument(
            "action",
            "show, path or check.",
            required=False,
            complete="convmem.cli.config:complete_actions",
        ),
    ),
    options=(Option("json", ("--json",), "One JSON object per setting or rule and line."),),
)

VERBS = (_LIST, _PATH, _CONFIG)
