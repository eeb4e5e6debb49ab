"""The verbs that work in servers and around programs: mcp, run."""

from __future__ import annotations

from convmem.cli.spec import Argument, Option, Verb
from convmem.cli.verbs.common import ID, QUIET

_MCP = Verb(
    "mcp",
    "Serve the archive to models, over MCP on stdio.",
    """\
Serve conversations to a model: a server of the Model Context Protocol on standard input and output.
A client such as Claude, Cursor or VS Code starts it; nobody else needs to.

Examples:

  convmem mcp
  convmem mcp --read-only -N work
  convmem mcp --max-answer 16k --max-turns 20
  convmem mcp -A ~/chats --max-turn 256k

Tools: record, tail, search, context, list, state, update_state. Conversations are resources, too:
convmem://NAMESPACE/ID gives the newest turns. What record answered is as durable as from the shell.

A client reaches the one namespace and no other, whatever it asks for. With --read-only it changes
nothing there; search still keeps its index.

Answers are light: of a long turn the beginning, of many turns the newest, and each answer says what
was left out and how to get it. What is stored goes out as data, a JSON object for each turn.

Any number of clients may call at once, and any number of servers may work on one archive. When the
client leaves, or SIGTERM or Ctrl-C comes, what was begun is finished and answered first. Standard
output carries the protocol only. It needs: pip install 'convmem[mcp]'

EXIT STATUS:

  0  done: the client has left
  2  wrong usage, or the extra is not installed
  4  input/output or permission
  130  interrupted
""",
    target="convmem.cli.mcp:run",
    options=(
        Option("read_only", ("--read-only",), "Offer nothing that records or changes anything."),
        Option(
            "redact",
            ("--redact",),
            "Mask likely credentials in what is recorded; see convmem secrets.",
        ),
        Option(
            "max_turn",
            ("--max-turn",),
            "The largest turn that may be recorded; without it 1M.",
            takes="text",
            metavar="SIZE",
        ),
        Option(
            "max_answer",
            ("--max-answer",),
            "How much of turns one answer may hold; without it 32k.",
            takes="text",
            metavar="SIZE",
        ),
        Option(
            "max_turns",
            ("--max-turns",),
            "The most turns, hits or conversations of one answer; without it 50.",
            takes="text",
            metavar="N",
        ),
    ),
)

_RUN = Verb(
    "run",
    "Run a command, and record what is said to it and by it.",
    """\
Run a command as it always runs, and record what goes in and what comes out as turns of a
conversation. Nobody waits for that: another process records beside the session.

Examples:

  convmem run oslo-trip -- llm chat
  echo "And by bus?" | convmem run oslo-trip -- llm
  convmem run oslo-trip -- llm < system.md > answer.txt
  convmem run oslo-trip -- sh -c 'convmem context "$CONVMEM_CONTINUATION_ID" | llm'

The command begins behind --, or with the first word behind ID. Its environment has the archive,
the namespace and CONVMEM_CONTINUATION_ID, so that a convmem within works on the same conversation.

At a terminal the command has a terminal, and every key reaches it. A turn of "user" is a line that
was sent off with Enter, as it was after editing; one of "assistant" is what stood on the screen
then, as plain text: what was overwritten, such as a spinner, is gone, and so are colours. What was
not shown while it was typed, such as a password, is never recorded. A prompt is kept where it may
be a question, and once. What programs draw on the whole screen (editors, pagers) is left out, and
one that draws a box to type into is recorded as it left the screen.

In a pipe, and from a file, what the command reads is one turn of "user" and what it prints one of
"assistant", byte for byte; where one waits for the other they take turns. Standard error is not
recorded, and neither is a terminal that the command reads while its output goes to a pipe, nor the
command line (it may hold keys): only the command's name is, in an event ahead of the first turn. A
second event tells an exit status other than 0.

A turn is on disk as soon as it is complete, the last one when the command ends, also if convmem is
killed. Of an answer at a terminal the first and the last megabyte are kept, in a pipe the first 16
and the last; a mark says how much was left out.

An archive that is slow, full or locked does not hold the session up. What could not be recorded is
told at its end, and is in a file that the message names.

EXIT STATUS:

  0  done: so did the command end, and all is recorded
  1  the recording failed in another way than those below
  2  wrong usage; nothing was started
  4  input/output or permission; disk full: nothing is recorded
  6  busy: the lock was not to be had in time, nothing is recorded
  7  some turns are recorded, others are not
  126  the command cannot be executed
  127  the command was not found

Where the command ends with another status than 0 that is the one given, and 128 and the number of
the signal that ended it. 1, 4, 6 and 7 are for a command that ended with 0.
""",
    target="convmem.cli.run:run",
    arguments=(
        ID,
        Argument("command", "The command and its arguments.", metavar="COMMAND", many=True),
    ),
    options=(
        Option(
            "sync",
            ("--sync",),
            "When to force turns to the disk: before each answer, now and then, or never.",
            takes="text",
            choices=("always", "interval", "none"),
        ),
        Option("redact", ("--redact",), "Mask likely credentials; see convmem secrets."),
        QUIET,
    ),
    ends_with_command=True,
)

VERBS: tuple[Verb, ...] = (_MCP, _RUN)
