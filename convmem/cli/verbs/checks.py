"""The verbs that look after what there is: verify, repair, stats, health, secrets."""

from __future__ import annotations

from convmem.cli.spec import Option, Verb
from convmem.cli.verbs.common import ALL, DRY_RUN, IDS_MANY, QUIET, ROLES, SINCE

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

Of damage it knows how each conversation ends, and what the last whole reading of it found; what
has changed since it reads up to 32 MiB (convmem stats reads all that has changed, convmem verify
everything). What lies in quarantine was set aside and is told, but is no trouble.

How much room there should be, and how long a lock may be held, are settings: health.min_free,
health.min_free_fatal and health.lock_held (see convmem config).

EXIT STATUS:

  0  healthy: nothing is to be done
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

_VERIFY = Verb(
    "verify",
    "Check every byte of conversations; say where damage is.",
    """\
Read whole files and say what is wrong, where: line, byte, what, how many bytes. Changes nothing,
takes no lock, and may run while others write.

Examples:

  convmem verify oslo-trip
  convmem verify --all --quiet || echo "see convmem repair --all --dry-run"
  convmem verify oslo-trip --json | jq 'select(.type == "summary") | .bytes'

Every byte is of one class: ok; unsealed (a line by hand); mark (convmem's own note of a seq);
blank; torn (cut short, or an unfinished last line); nul; fused (several records on one line, or
one beside other bytes); checksum; not_json; not_a_turn; too_long; half_batch; not_unpacked (what
is missing of a compressed file; places are those of the plain one). The first four are no damage,
and neither are numbers that are missing: compaction drops turns.

Of good lines two things are told: duplicate_id (an earlier turn has the same id) and seq_disorder
(a seq that is not above all before it).

--json prints an object for each finding (type "finding": line, offset, length, kind, message, id,
seq) and one for each conversation (type "summary": damaged, size, turns, first_seq, last_seq,
found, bytes, lines; the last three by class). --quiet prints findings and no summary.

EXIT STATUS:

  0  done, and no damage was found
  2  wrong usage: neither an ID nor --all
  3  there is no such conversation
  4  input/output or permission
  5  damaged: something was found
  7  done in part: some conversations could not be read, each is named
""",
    target="convmem.cli.verify:run",
    arguments=(IDS_MANY,),
    options=(
        ALL,
        QUIET,
        Option("json", ("--json",), "One JSON object per finding, and per conversation."),
    ),
)

_REPAIR = Verb(
    "repair",
    "Split fused records and set damage aside; lose no byte.",
    """\
Repair files without losing a byte: what leaves a file is in the quarantine first, and the new
file takes the old one's place in one step. Others may read and write meanwhile. A file in which
nothing is wrong is not touched.

Examples:

  convmem repair oslo-trip --dry-run
  convmem repair oslo-trip
  convmem repair --all

Records that share a line get lines of their own; a record that was cut short leaves the whole one
behind it. NUL bytes, torn, damaged and empty lines, and halves of batches, which were never
answered, go to the quarantine. Of lines that are the same turn the first stays. Turns behind a
higher seq are put in order.

Two things are left as they are, and told: turns of one id that say different things, and the
order of a file in which several turns share a seq, since it was made of several.

--json prints one object per conversation: changed, split, rescued, copies, moved, loosened,
set_aside (by class, see verify), set_aside_bytes, quarantine, bytes_before, bytes_after, left.

EXIT STATUS:

  0  done, also when there was nothing to repair
  2  wrong usage: neither an ID nor --all
  3  there is no such conversation
  4  input/output or permission; disk full
  6  busy: a compaction or another repair holds the only conversation asked for
  7  done in part: some conversations were skipped or failed, each is named
""",
    target="convmem.cli.repair:run",
    arguments=(IDS_MANY,),
    options=(
        ALL,
        DRY_RUN,
        QUIET,
        Option("json", ("--json",), "One JSON object per conversation and line."),
    ),
)

_SECRETS = Verb(
    "secrets",
    "Say where likely credentials stand.",
    """\
Look for passwords, keys and tokens in conversations and their state, and say where they are: never
what they are, but for how they begin and how long they are. Changes nothing.

Examples:

  convmem secrets --all
  convmem secrets oslo-trip --since 7d
  convmem secrets --all --json | jq -r '[.continuation_id, .id, .rule] | @tsv'
  convmem secrets --all --json | jq -s 'group_by(.rule) | map({(.[0].rule): length}) | add'

The rules are those of Kingfisher, and a few of convmem's own; none goes by randomness alone, and
nothing is sent anywhere. Needs: pip install 'convmem[secrets]'. Looked at is all that a turn holds,
content, meta and its other keys, as it reads without the escapes of JSON; the state, unless --role
or --since is given; and with --trash turns in the trash. Not looked at are states in the trash, the
quarantine, and what lies in Base64. What is found may be no credential, and a password in a
sentence is not found.

To be rid of one: change it where it is valid, then remove the turn for good with convmem scrub. To
keep them out: convmem record --redact.

--json prints one object per finding: continuation_id, namespace, seq, id, role, ts (all four null
in the state), rule, where, start, length (in characters), excerpt, and trash: the file there.

EXIT STATUS:

  0  done, whatever was found
  2  wrong usage: neither an ID nor --all; the extra is not installed
  3  there is no such conversation
  4  input/output or permission
  7  done in part: some conversations could not be read, each is named
""",
    target="convmem.cli.secrets:run",
    arguments=(IDS_MANY,),
    options=(
        ALL,
        ROLES,
        SINCE,
        Option("trash", ("--trash",), "Look at turns in the trash, too."),
        QUIET,
        Option("json", ("--json",), "One JSON object per finding and line."),
    ),
)

VERBS: tuple[Verb, ...] = (_VERIFY, _REPAIR, _STATS, _HEALTH, _SECRETS)
