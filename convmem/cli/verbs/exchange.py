"""The verbs that bring conversations in and give them out again: import, export."""

from __future__ import annotations

from convmem.cli.spec import Argument, Option, Verb
from convmem.cli.verbs.common import ALL, DRY_RUN, IDS_MANY, QUIET, SINCE

# As ``formats.known.MODULES`` has them; a test holds the two together.
FORMATS = (
    "convmem",
    "claude-code",
    "codex",
    "gemini",
    "chatgpt",
    "claude-ai",
    "llm",
    "openai-responses",
    "openai-messages",
    "sharegpt",
    "aider",
)

_IMPORT = Verb(
    "import",
    "Bring in transcripts of other tools.",
    """\
Bring transcripts of other tools into the archive, where they outlive their sources.

Examples:

  convmem import auto
  convmem import ~/.claude/projects ~/Downloads/chatgpt-export.zip
  convmem import --dry-run ~/.codex
  convmem import --from sharegpt conversations.json
  zcat old.jsonl.gz | convmem import -

Reads Claude Code, Codex, Gemini CLI, ChatGPT and Claude.ai exports, logs.db of llm, aider's
history, OpenAI messages and Responses items, ShareGPT, and convmem's own JSONL; plain, .gz, .zst
or in a .zip; single files, or folders with all below them. Which it is, is seen from what is in
it. "auto" takes what lies in the usual places of this home directory; from cron, with --quiet.

Every record is kept as it is, so that "convmem export --to native" gives it back. Again and again
is fine: what is there already is not stored twice, a file that did not change is not opened, one
that grew is read from where it ended. What was deleted from the archive does not come back,
unless --revive says so; what a tool deletes from its own folder stays in the archive.

Damaged files are mined: records that were written into each other are split, cut ones are left
out, NUL bytes dropped; the numbers are told. What nobody said (settings, progress, snapshots) is
kept as turns of the role "event".

EXIT STATUS:

  0  done, also when nothing was new
  1  nothing in it is a transcript that convmem knows
  2  wrong usage: there is no such path
  4  input/output or permission; disk full
  5  the only source is damaged so that it cannot be read on
  6  busy: another import into the same namespace is at work
  7  done in part: some files could not be read, each is named
""",
    target="convmem.cli.importing:run",
    arguments=(Argument("paths", 'Files, folders, "-" or "auto".', metavar="PATH", many=True),),
    options=(
        Option(
            "format", ("--from",), "What they are, unrecognised.", takes="text", choices=FORMATS
        ),
        Option(
            "since",
            ("--since",),
            "Only conversations that went on since then: 30d, 2026-10-01.",
            takes="text",
            metavar="TIME",
        ),
        Option("include_agents", ("--include-agents",), "Sub-agents' conversations too."),
        Option("revive", ("--revive",), "Bring back also what was deleted from the archive."),
        DRY_RUN,
        QUIET,
        Option("json", ("--json",), "End with one JSON object that sums up."),
    ),
)

_EXPORT = Verb(
    "export",
    "Give conversations out in another format.",
    """\
Give conversations out: to read, to train on, for another tool, or as they came.

Examples:

  convmem export oslo-trip --to markdown
  convmem export oslo-trip --to html -o oslo-trip.html
  convmem export --all --to openai --roles user,assistant -o talks.jsonl
  convmem export --all --to native -o ~/restored --quiet
  convmem export --all --to convmem | ssh backup 'cat > talks.jsonl'
  convmem export --all --to html --since 30d -o ~/talks/

convmem, openai (messages, one conversation a line, as fine-tuning takes them), sharegpt and
parquet put all conversations into one stream or file; markdown, html and native make a file for
each. "native" is the format that a conversation was imported from: the very bytes for formats of
lines, the same values for others, in a file of the name that it had, under the folder -o.

The same archive gives the same bytes. A file appears when it is whole: until then what stood
there stays. Reads only, and stops nobody from writing.

EXIT STATUS:

  0  done
  2  wrong usage: neither an ID nor --all, or several conversations without -o
  3  there is no such conversation
  4  input/output or permission; disk full
  7  done in part: some conversations could not be given out, each is named
""",
    target="convmem.cli.export:run",
    arguments=(IDS_MANY,),
    options=(
        ALL,
        Option(
            "format",
            ("--to",),
            "In which format.",
            takes="text",
            choices=(
                "convmem",
                "openai",
                "sharegpt",
                "markdown",
                "html",
                "parquet",
                "native",
            ),
        ),
        Option(
            "output",
            ("-o", "--output"),
            "The file, or the folder for several. Else standard output.",
            takes="text",
            metavar="PATH",
        ),
        Option(
            "active_branch", ("--active-branch",), "Of branches only the one that was shown last."
        ),
        SINCE,
        Option(
            "roles",
            ("--roles",),
            "Only turns of these roles: user,assistant.",
            takes="text",
            metavar="ROLE,…",
        ),
        Option("redact", ("--redact",), "Mask likely credentials."),
        QUIET,
        Option("json", ("--json",), "Tell of files and errors as JSON objects."),
    ),
)

VERBS = (_IMPORT, _EXPORT)
