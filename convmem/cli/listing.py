"""``convmem list`` and ``convmem path``: what there is, and where. And ids for completion."""

from __future__ import annotations

import os

from convmem import jsontext
from convmem.cli.output.messages import Messages, stdout_is_terminal, write_bytes
from convmem.cli.places import namespace_in, open_archive, root_of
from convmem.errors import ConversationNotFound, ConvmemError
from convmem.progress import Observer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.archive import Archive
    from convmem.cli.spec import Context
    from convmem.stores.values import Description


def run(context: Context, *, long: bool, all_namespaces: bool, print0: bool, json: bool) -> int:
    """Print the conversations, the latest first."""
    jsontext.expect_few_calls()
    messages = Messages(as_json=json)
    with open_archive(context, observer=Observer()) as archive:
        found, failed = _describe_all(archive, all_namespaces, long, messages)
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
    return 7 if failed else 0


def path(context: Context, *, continuation_id: str | None) -> int:
    """Print where the archive is, or the log of one conversation."""
    where = os.path.realpath(os.path.expanduser(root_of(context)))
    if continuation_id is not None:
        with open_archive(context) as archive:
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


def _describe_all(
    archive: Archive, all_namespaces: bool, count: bool, messages: Messages
) -> tuple[list[Description], int]:
    """Return the conversations, latest first, and how many could not be read."""
    found = []
    failed = 0
    for namespace in archive.namespaces() if all_namespaces else [None]:
        for chat in archive.conversations(namespace=namespace):
            try:
                found.append(chat.describe(count=count))
            except ConversationNotFound:
                continue  # removed while we looked
            except ConvmemError as error:
                failed += 1
                messages.error(error, where=f"{chat.continuation_id}: ")
    found.sort(key=lambda each: each.continuation_id)
    found.sort(key=_activity, reverse=True)
    return found, failed


def _activity(each: Description) -> float:
    return float("-inf") if each.last_ts is None else each.last_ts.timestamp()
