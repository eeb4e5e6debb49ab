"""The verbs of an agent's memory: context, state."""

from __future__ import annotations

from convmem.cli.spec import Argument, Option, Verb
from convmem.cli.verbs.common import DRY_RUN, ID, QUIET

_STATE = Verb(
    "state",
    "Keep session ids and tokens beside a conversation.",
    """\
Read and change the state of a conversation: a small JSON object beside its turns, for a
provider's session id, a cache token and the like. It is never shown among the turns.

Examples:

  convmem state oslo-trip set session=abc retries:=3
  provider-login | convmem state oslo-trip set token=- --ttl 1h
  session=$(convmem state oslo-trip get session) || session=$(new-session)
  convmem state oslo-trip get
  convmem state oslo-trip unset token
  convmem state oslo-trip clear

set merges: KEY=TEXT stores text, KEY:=JSON any JSON value, KEY:=null removes the key. With "-" as
the value it is read from standard input, so that no secret stands in the list of processes;
without any KEY, standard input is one JSON object to merge. With --ttl the keys of this call
expire; without it they never do.

get KEY prints the value, text as it is, else as JSON; get prints the whole object. unset removes
keys, clear all of them. Any number of processes may do this at once: no key gets lost.

EXIT STATUS:

  0  done
  1  get KEY: there is no such key, or it has expired
  2  wrong usage
  3  there is no such conversation, and no state under that id
  4  input/output or permission; disk full
  5  the state is damaged: clear sets it aside
  6  busy: the lock was not to be had in time
""",
    target="convmem.cli.state:run",
    arguments=(
        ID,
        Argument(
            "action",
            "get, set, unset or clear.",
            complete="convmem.cli.state:complete_actions",
        ),
        Argument(
            "words",
            "For set KEY=VALUE, else KEY.",
            metavar="KEY[=VALUE]",
            required=False,
            many=True,
        ),
    ),
    options=(
        Option(
            "ttl",
            ("--ttl",),
            "With set: these keys expire after this time: 1h, 30min, 90d.",
            takes="text",
            metavar="AGE",
        ),
        DRY_RUN,
        QUIET,
        Option("json", ("--json",), "Answer in JSON: a value, or the whole state after a change."),
    ),
)

_CONTEXT = Verb(
    "context",
    "Print the newest turns that fit a model's budget.",
    """\
Print the newest turns that fit a model's budget, oldest first and without a gap.

Examples:

  convmem context oslo-trip --max-tokens 4000
  convmem context oslo-trip --pin @system.md --format messages | curl … -d @-
  convmem context oslo-trip --max-turns 20 --json | jq .left_out
  convmem context oslo-trip --query "which hotel did we book?" --max-tokens 4000

The newest turn is always there: alone too long, its middle is cut out, and a mark says so. A
tool's result comes with its call or not at all. Only the end of the file is read.

With --query older turns that fit it best come first, each with its number, time and id, within the
same budget: a third of it is set aside for them, or --recall-tokens. What they leave goes to the
newest turns, and the other way round. Turns in the trash are among them where a summary stands for
them. What is asked is read as search reads it; the index is brought in step first.

--format text (the default) is for a prompt: "[17] user:" begins a turn, and only what is indented
is content, so that no content can pass for a turn. --format messages is one JSON array of role and
content; what is recalled is one text from user. --format json is one object that also says what
was counted, recalled and left out.

Tokens are estimated, unless --tokenizer names a vocabulary: pip install 'convmem[tokens]'. The
estimate is some 12 per cent too high for English and code with the vocabulary o200k_base; other
languages and other models can take more than it says.

EXIT STATUS:

  0  done
  2  wrong usage; what is pinned does not fit
  3  there is no such conversation
  4  input/output or permission
  6  busy: another process is indexing, and does not come to an end
""",
    target="convmem.cli.context:run",
    arguments=(ID,),
    options=(
        Option(
            "max_tokens",
            ("--max-tokens",),
            "At most so many tokens, all told; without any bound: 8000, a setting.",
            takes="text",
            metavar="N",
        ),
        Option("max_turns", ("--max-turns",), "At most so many turns.", takes="text", metavar="N"),
        Option(
            "pin",
            ("--pin",),
            "What comes first, as a system message; @FILE reads it, @@ begins a text with @.",
            takes="many",
            metavar="TEXT|@FILE",
        ),
        Option(
            "query",
            ("--query",),
            "Recall older turns that fit this, too.",
            takes="text",
            metavar="TEXT",
        ),
        Option(
            "recall_tokens",
            ("--recall-tokens",),
            "Set so many tokens aside for them; without it a third of all.",
            takes="text",
            metavar="N",
        ),
        Option(
            "format",
            ("--format",),
            "What to print.",
            takes="text",
            choices=("text", "messages", "json"),
        ),
        Option(
            "tokenizer",
            ("--tokenizer",),
            "Who counts: estimate, or a vocabulary such as o200k_base.",
            takes="text",
            metavar="NAME",
        ),
        QUIET,
        Option("json", ("--json",), "The same as --format json."),
    ),
)

VERBS: tuple[Verb, ...] = (_CONTEXT, _STATE)
