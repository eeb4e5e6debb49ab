"""``convmem export``: give conversations out in another format."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence

from convmem.archive import Archive
from convmem.cli import values
from convmem.cli.boundary import one_line, status_of
from convmem.cli.output.messages import Messages, stdout_is_terminal
from convmem.cli.places import namespace_of, open_archive, require_archive, root_of
from convmem.cli.several import chosen
from convmem.cli.spec import Context
from convmem.conversation import Conversation
from convmem.errors import (
    ConversationNotFound,
    ConvmemError,
    LockTimeout,
    StorageError,
    StorageFull,
    UsageError,
)
from convmem.quantities import format_count, format_size
from convmem.transfer.exporting import (
    FORMATS,
    TOGETHER,
    Exporter,
    NothingImported,
    write_file,
)
from convmem.transfer.views import Wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.cli.redacting import Redaction


def run(
    context: Context,
    *,
    continuation_ids: list[str],
    all_conversations: bool,
    format: str | None,
    output: str | None,
    active_branch: bool,
    since: str | None,
    roles: str | None,
    redact: bool,
    quiet: bool,
    json: bool,
) -> int:
    """Export, and return the exit status."""
    if format is None:
        raise UsageError("say in which format", hint=f"--to one of {', '.join(FORMATS)}")
    wanted = Wanted(
        roles=_roles(roles),
        since=values.moment("--since", since),
        active_branch=active_branch,
    )
    if format == "native" and (wanted.roles or wanted.since or active_branch):
        raise UsageError(
            "--to native gives back what was imported, whole",
            hint="leave out --roles, --since and --active-branch, or choose another format",
        )
    if output == "-":
        output = None
    if output is not None and _is_below(output, root_of(context)):
        raise UsageError(
            f"{output} is inside the archive", hint="what is given out belongs elsewhere"
        )
    if all_conversations:
        require_archive(context)
    with open_archive(context) as archive:
        names = chosen(archive, continuation_ids, all_conversations, "export")
        talk = _Talk(Messages(as_json=json, quiet=quiet), as_json=json, quiet=quiet)
        redaction = _redaction() if redact else None
        masked = None if redaction is None else redaction.turn
        exporter = Exporter(namespace_of(context), format, wanted=wanted, redact=masked)
        conversations = list(_there(archive, names, all_conversations, talk))
        if format in TOGETHER:
            _all_in_one(exporter, conversations, format, output, talk)
            _remember(archive, exporter, conversations)
        elif _is_folder(output, several=all_conversations or len(names) > 1, format=format):
            _each_in_its_file(exporter, conversations, output or "", talk, all_conversations)
        else:
            _just_one(exporter, conversations, output, talk)
        if redaction is not None:
            redaction.tell(talk.messages)
        talk.sum_up()
    return status_of(talk.failures, only_one=len(names) == 1 and not all_conversations)


def _redaction() -> Redaction:
    from convmem.cli.redacting import Redaction

    return Redaction()


def _is_below(path: str, root: str) -> bool:
    real, above = os.path.realpath(path), os.path.realpath(os.path.expanduser(root))
    return real == above or real.startswith(above.rstrip(os.sep) + os.sep)


def _roles(text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    roles = frozenset(role.strip() for role in text.split(",") if role.strip())
    if not roles:
        raise UsageError("--roles names none", hint="such as --roles user,assistant")
    return roles


def _there(
    archive: Archive, names: Sequence[str], all_conversations: bool, talk: _Talk
) -> Iterator[Conversation]:
    for name in names:
        conversation = archive.conversation(name)
        try:
            conversation.describe()
        except ConvmemError as error:
            if not (all_conversations and isinstance(error, ConversationNotFound)):
                talk.failed(name, error)
            continue
        yield conversation


def _is_folder(output: str | None, *, several: bool, format: str) -> bool:
    """Whether the output is a folder, with a file for each conversation."""
    if output is None:
        if several:
            raise UsageError(
                f"--to {format} makes a file for each conversation", hint="say where with -o FOLDER"
            )
        return False
    if several or format == "native" or output.endswith(os.sep) or os.path.isdir(output):
        if os.path.exists(output) and not os.path.isdir(output):
            raise UsageError(f"{output} is not a folder", hint="-o names the folder of the files")
        return True
    return False


def _all_in_one(
    exporter: Exporter,
    conversations: list[Conversation],
    format: str,
    output: str | None,
    talk: _Talk,
) -> None:
    if not conversations and talk.failures:
        return  # nothing that was asked for is there
    if output is None:
        if format == "parquet" and stdout_is_terminal():
            raise UsageError("parquet is nothing to read", hint="say where with -o FILE")
        _print(exporter.together(conversations))
        return
    if os.path.isdir(output):
        raise UsageError(
            f"{output} is a folder", hint=f"--to {format} puts all into one file: name it with -o"
        )
    size = write_file(output, exporter.together(conversations))
    talk.wrote(output, size, len(conversations))


def _each_in_its_file(
    exporter: Exporter,
    conversations: list[Conversation],
    folder: str,
    talk: _Talk,
    all_conversations: bool,
) -> None:
    recorded = 0
    for conversation, name in exporter.names(conversations):
        path = os.path.join(folder, *name.split("/"))
        try:
            talk.wrote(path, write_file(path, exporter.alone(conversation)), 1)
        except NothingImported as error:
            if not all_conversations:
                talk.failed(conversation.continuation_id, error)
            recorded += all_conversations
        except StorageFull:
            raise  # the others would find no room either
        except ConvmemError as error:
            talk.failed(conversation.continuation_id, error)
    if recorded:
        talk.messages.warn(
            "not_imported",
            f"{format_count(recorded, 'conversation')} left out: recorded here, not imported",
            "give them out with: --to convmem",
            count=recorded,
        )


def _just_one(
    exporter: Exporter, conversations: list[Conversation], output: str | None, talk: _Talk
) -> None:
    for conversation in conversations:
        if output is None:
            _print(exporter.alone(conversation))
        else:
            talk.wrote(output, write_file(output, exporter.alone(conversation)), 1)


def _print(chunks: Iterable[bytes]) -> None:
    out = sys.stdout.buffer
    for chunk in chunks:
        out.write(chunk)
    out.flush()


def _remember(archive: Archive, exporter: Exporter, conversations: list[Conversation]) -> None:
    """Note what the import of this export would read, so that it adds nothing."""
    chains = list(exporter.chains(conversations))
    if not chains:
        return
    from convmem.transfer.catalogue import Catalogue

    folder = os.path.dirname(conversations[0].path)
    try:
        with Catalogue.open(folder, timeout_seconds=1.0) as catalogue:
            catalogue.note_chains(chains)
    except (StorageError, LockTimeout):
        return  # an archive that may only be read is given out all the same


class _Talk:
    """Says which files were written, and what failed."""

    def __init__(self, messages: Messages, *, as_json: bool, quiet: bool) -> None:
        self.messages = messages
        self.failures: list[ConvmemError] = []
        self._as_json = as_json
        self._quiet = quiet
        self._files = self._bytes = 0
        self._last = ""

    def wrote(self, path: str, size: int, conversations: int) -> None:
        """Say that a file is there."""
        self._files += 1
        self._bytes += size
        self._last = path
        if self._as_json:
            from convmem.cli.output.machine import write_object

            write_object({"path": path, "bytes": size, "conversations": conversations})

    def failed(self, name: str, error: ConvmemError) -> None:
        """Say that one conversation could not be given out, while the others go on."""
        self.failures.append(error)
        where = "" if name in str(error) else f"{name}: "
        self.messages.error(error, where=where, continuation_id=name)

    def sum_up(self) -> None:
        """Say what was written, where it was to files."""
        if not self._files or self._as_json or self._quiet:
            return
        what = self._last if self._files == 1 else format_count(self._files, "file")
        print(one_line(f"wrote {what}, {format_size(self._bytes)}"))
