"""The verbs that look after the files: verify, repair, stats, health."""

from __future__ import annotations

from convmem.cli.spec import Option, Verb
from convmem.cli.verbs.common import IDS_MANY

_PROMETHEUS = Option(
    "prometheus",
    ("--prometheus",),
    "Write metrics to FILE for node exporter, and nothing else; - is standard output.",
    takes="text",
    metavar="FILE",
)

_STATS = Verb(
    "stats",
    "Show how much there is, and how it grows.",
    """\
Show figures of a namespace, of some of its conversations, or of all namespaces: conversations,
turns, who said them, from when to when, growth per day, the largest; what lies in the trash, in
quarantine and in other folders beside them; and how much room the disk has.

Examples:

  convmem stats
  convmem stats oslo-trip
  convmem stats --all-namespaces
  convmem stats --json | jq .files.trash.bytes
  convmem stats --all-namespaces --prometheus /var/lib/node_exporter/convmem.prom

Everything is counted, nothing estimated. Only what was never counted or has changed since is
read; the rest is known from the folder .index, which may be deleted at any time. A day is one of
UTC, by the turns' own times.

--json prints one object per namespace. --prometheus puts a textfile in place in one step, that any
user can read; conversations are never named in it.

EXIT STATUS:

  0  done
  2  wrong usage
  3  there is no such conversation
  4  input/output or permission
  7  done in part: some conversations could not be read, each is named
""",
    target="convmem.cli.stats:run",
    arguments=(IDS_MANY,),
    options=(
        Option("all_namespaces", ("--all-namespaces",), "Those of every namespace."),
        _PROMETHEUS,
        Option("json", ("--json",), "One JSON object per namespace and line."),
    ),
)

_HEALTH = Verb(
    "health",
    "Say whether the archive is well, and what to do if not.",
    """\
Examine the archive as it is now: whether it is there, its settings can be used, there is room,
files can be made and synced, conversations can be read, damage is known, and locks are free. The
answer is healthy, degraded or unhealthy: the worst of the checks. Trouble that is over leaves no
trace.

Examples:

  convmem health
  convmem health --json | jq -r '.checks[] | select(.status != "healthy") | .message'
  convmem health > health.txt || mail -s "convmem on $HOSTNAME" you < health.txt
  convmem health --prometheus /var/lib/node_exporter/convmem_health.prom

Of damage it knows what the last whole reading of each conversation found (convmem stats reads
what has changed, convmem verify everything) and how each one ends. What lies in quarantine was
set aside and is told, but is no trouble.

How much room there should be, and how long a lock may be held, are settings: health.min_free,
health.min_free_fatal and health.lock_held (see convmem config).

EXIT STATUS:

  0  healthy
  1  degraded: it works, and somebody should look
  2  wrong usage
  4  unhealthy: no archive, input/output or permission trouble, or hardly any room
""",
    target="convmem.cli.health:run",
    options=(
        _PROMETHEUS,
        Option("json", ("--json",), "One JSON object, with all checks in it."),
    ),
)

VERBS: tuple[Verb, ...] = (_STATS, _HEALTH)
