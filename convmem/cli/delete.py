"""``convmem delete``: move whole conversations to the trash."""

from __future__ import annotations

from convmem.archive import Archive
from convmem.cli import values
from convmem.cli.boundary import one_line, status_of
from convmem.cli.output.asking import confirm
from convmem.cli.output.messages import Healing, Messages
from convmem.cli.places import namespace_of, open_archive
from convmem.cli.spec import Context
from convmem.errors import ConvmemError, UsageError
from convmem.quantities import format_size


def run(
    context: Context,
    *,
    continuation_ids: list[str],
    everything: bool,
    dry_run: bool,
    yes: bool,
    quiet: bool,
    json: bool,
) -> int:
    """Delete, and return the exit status."""
    if not continuation_ids:
        raise UsageError("name the conversations to delete", hint="see them with: convmem list")
    names = list(dict.fromkeys(continuation_ids))
    messages = Messages(as_json=json, quiet=quiet)
    now = values.now(context)
    failures: list[ConvmemError] = []
    with open_archive(context, observer=Healing(messages)) as archive:
        for name in names:
            archive.conversation(name)  # wrong usage is said before anything is changed
        if not everything:
            _refuse_everything(archive, names)
        what = one_line(names[0]) if len(names) == 1 else f"{len(names):,} conversations"
        if not dry_run and not yes and not confirm(f"Move {what} to the trash?"):
            messages.warn("cancelled", "nothing was deleted")
            return 1
        for name in names:
            try:
                gone = archive.conversation(name).delete(dry_run=dry_run, now=now)
            except ConvmemError as error:
                failures.append(error)
                messages.error(error, continuation_id=name)
                continue
            if json:
                from convmem.cli.output.machine import write_object

                write_object(
                    {
                        "continuation_id": name,
                        "namespace": namespace_of(context),
                        "action": "delete",
                        "dry_run": dry_run,
                        "bytes": gone.bytes,
                        "last_seq": gone.last_seq,
                        "trash": gone.trash or None,
                    }
                )
            elif not quiet:
                verb = "would be deleted" if dry_run else "deleted"
                print(f"{one_line(name)}: {verb}, {format_size(gone.bytes)} to the trash")
    return status_of(failures, only_one=len(names) == 1)


def _refuse_everything(archive: Archive, names: list[str]) -> None:
    """A list that went wrong, or ``xargs`` after a bare ``list``, must not empty a namespace."""
    if len(names) < 2:
        return
    named = set(names)
    present = {chat.continuation_id for chat in archive.conversations()}
    if present and present <= named:
        raise UsageError(
            "these are all conversations of the namespace, so nothing was deleted",
            hint="if you mean every one of them, say --everything",
        )
