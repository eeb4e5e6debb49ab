"""``convmem list`` and ``convmem path``: what there is, and where. And ids for completion."""

from __future__ import annotations

import os

from convmem import jsontext
from convmem.cli import values
from convmem.cli.output.bar import Bar
from convmem.cli.output.messages import Messages, stdout_is_terminal, write_bytes
from convmem.cli.places import namespace_in, open_archive, root_of
from convmem.progress import Observer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.cli.spec import Context
    from convmem.errors import ConvmemError


def run(
    context: Context,
    *,
    long: bool,
    newest: str | None,
    all_namespaces: bool,
    print0: bool,
    json: bool,
) -> int:
    """Print the conversations, the latest first."""
    jsontext.expect_few_calls()
    most = values.count("--newest", newest)
    messages = Messages(as_json=json)
    failures = Failures(messages)
    with open_archive(context, observer=Reading(), messages=messages) as archive:
        found = []
        for namespace in archive.namespaces() if all_namespaces else [None]:
            found += archive.overview(namespace=namespace, count=long, failed=failures.tell)
    if all_namespaces:  # each has its own order; together they need one
        found.sort(key=lambda row: (row.continuation_id, row.namespace))
        found.sort(key=lambda row: row.last_text, reverse=True)
    found = found[:most]
    if json:
        from convmem.cli.output.machine import write_object

        for each in found:
            write_object(each.as_dict())
    elif print0 or not stdout_is_terminal():
        # One id on a line, so that the list feeds back into commands; with -0 for any id.
        end = b"\0" if print0 else b"\n"
        for each in found:
            write_bytes(each.continuation_id.encode() + end)
    else:
        from convmem.cli.output import human

        human.print_list(found, with_namespace=all_namespaces, with_turns=long)
    return 7 if failures.count else 0


def path(context: Context, *, continuation_id: str | None) -> int:
    """Print where the archive is, or the log of one conversation."""
    where = os.path.realpath(os.path.expanduser(root_of(context)))
    if continuation_id is not None:
        with open_archive(context, messages=Messages(as_json=False)) as archive:
            chat = archive.conversation(continuation_id)
            chat.describe()
            where = chat.path
    write_bytes(os.fsencode(where) + b"\n")
    return 0


def complete_ids(incomplete: str) -> list[str]:
    """Return the conversations whose ids begin with *incomplete*, for the shell."""
    from convmem.archive import Archive, default_root

    root = os.environ.get("CONVMEM_ARCHIVE") or default_root()
    with Archive.open(root, namespace=namespace_in(os.environ)) as archive:
        ids = (chat.continuation_id for chat in archive.conversations())
        return sorted(each for each in ids if each.startswith(incomplete))


def complete_roles(incomplete: str) -> list[str]:
    """Return the usual roles that begin with *incomplete*, for the shell."""
    return [role for role in ("user", "assistant", "system", "tool") if role.startswith(incomplete)]


class Reading(Observer):
    """Draws a bar while logs are read that are not known yet."""

    def __init__(self) -> None:
        self._bar: Bar | None = None

    def started(self, task: str, total: int) -> None:
        """Begin a bar."""
        self._bar = Bar(task, total)

    def advanced(self, task: str, amount: int) -> None:
        """Let it grow."""
        if self._bar is not None:
            self._bar.advance(amount)

    def finished(self, task: str) -> None:
        """Take it away."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None


class Failures:
    """Names the conversations that could not be read, and counts them."""

    def __init__(self, messages: Messages) -> None:
        self.count = 0
        self._messages = messages

    def tell(self, continuation_id: str, error: ConvmemError) -> None:
        """Name one."""
        self.count += 1
        self._messages.error(error, where=f"{continuation_id}: ")
