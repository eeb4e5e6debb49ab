"""Exporting: conversations as bytes of a format, and files that are whole or not there."""

from __future__ import annotations

import os
import posixpath
import stat
import tempfile
from importlib import import_module

from convmem import copied, jsontext
from convmem.errors import ConvmemError, UsageError, storage_error
from convmem.formats import known
from convmem.formats.heads import Head
from convmem.formats.protocol import EVENT
from convmem.ids import encode_name
from convmem.transfer.identity import content_bytes, link
from convmem.transfer.views import View, Wanted
from convmem.turns import Turn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from convmem.conversation import Conversation

# All conversations in one stream.
TOGETHER = ("convmem", "openai", "sharegpt", "parquet")
# A file for each.
APART = ("markdown", "html", "native")
FORMATS = (*TOGETHER, *APART)
_SUFFIXES = {"markdown": ".md", "html": ".html"}
_PACKED = (".zst", ".gz")


class NothingImported(ConvmemError):
    """The conversation came from no other system, so there is no native form of it."""

    kind = "not_imported"


class Exporter:
    """Gives conversations out in one format.

    Args:
        namespace: Whose conversations these are.
        format: One of ``FORMATS``.
        wanted: Which turns.
        redact: Is given each turn, and returns it without what should not leave.
    """

    def __init__(
        self,
        namespace: str,
        format: str,
        *,
        wanted: Wanted | None = None,
        redact: Callable[[Turn], Turn] | None = None,
    ) -> None:
        if format not in FORMATS:
            raise UsageError(f"there is no format {format!r}", hint=f"one of {', '.join(FORMATS)}")
        self._namespace = namespace
        self._format = format
        self._wanted = wanted or Wanted()
        self._redact = redact
        if format == "native" and redact is not None:
            raise UsageError(
                "--redact and --to native do not go together",
                hint="native gives back what the source said, byte for byte",
            )

    def together(self, conversations: Iterable[Conversation]) -> Iterator[bytes]:
        """Yield all of *conversations* as one stream of a format of ``TOGETHER``."""
        if self._format == "convmem":
            for conversation in conversations:
                yield from self._own(conversation)
        elif self._format == "openai":
            from convmem.formats.openai import openai_export

            for conversation in conversations:
                written = openai_export.write(*self._headed(conversation))
                yield from _unless_shorter(written, len(b'{"messages":[]}\n') + 1)
        elif self._format == "sharegpt":
            from convmem.formats.openai import sharegpt_export

            before = b"[\n"
            for conversation in conversations:
                head, turns = self._headed(conversation)
                name = jsontext.dumps(head.continuation_id)
                written = sharegpt_export.write(head, turns)
                least = len(b'{"id":,"conversations":[]}') + len(name) + 1
                for chunk in _unless_shorter(written, least):
                    yield before + chunk
                    before = b""
                before = before or b",\n"
            yield b"[]\n" if before == b"[\n" else b"\n]\n"
        else:
            from convmem.transfer import parquet

            yield from parquet.write(self._headed(each) for each in conversations)

    def alone(self, conversation: Conversation) -> Iterator[bytes]:
        """Yield one conversation as a file of a format of ``APART``."""
        if self._format == "native":
            yield from self._native(conversation)
        elif self._format == "markdown":
            from convmem.formats.pages import markdown

            yield from markdown.write(*self._headed(conversation))
        else:
            from convmem.formats.pages import html

            yield from html.write(*self._headed(conversation))

    def chains(self, conversations: Iterable[Conversation]) -> Iterator[tuple[str, str]]:
        """Yield the last link of what an import of the export would read, and whose it is.

        Of formats whose records have no ids; without it an import would store them anew.
        """
        if self._format not in ("openai", "sharegpt"):
            return
        items = import_module(f"convmem.formats.openai.{self._format}_export").chain_items
        for conversation in conversations:
            last = ""
            for role, content in items(self._given_out(self._view(conversation))):
                if role != EVENT:
                    last = link(last, role, content_bytes(content))
            if last:
                yield last, conversation.continuation_id

    def names(self, conversations: Iterable[Conversation]) -> Iterator[tuple[Conversation, str]]:
        """Yield conversations, each with the name of its file: relative, and each another.

        Native files are named as their sources were; several of one source lie in a folder that is
        named after it.
        """
        if self._format != "native":
            for each in conversations:
                yield each, encode_name(each.continuation_id) + _SUFFIXES[self._format]
            return
        sources = [(each, *self._source_of(each)) for each in conversations]
        count: dict[str, int] = {}
        for _, _, name in sources:
            if name is not None:
                count[name] = count.get(name, 0) + 1
        # No file may lie where another one's folder is.
        folders = {above for name in count for above in _above(name)}
        taken: set[str] = set()
        for each, suffix, name in sources:
            encoded = encode_name(each.continuation_id) + suffix
            if name is None:
                name = encoded
            elif count[name] > 1 or name in folders:
                name = posixpath.join(posixpath.splitext(name)[0], encoded)
            while name in taken or name in folders:
                name = posixpath.join(f"{encode_name(each.continuation_id)}~", name)
            taken.add(name)
            yield each, name

    # --- one conversation ------------------------------------------------------------------------

    def _view(self, conversation: Conversation) -> View:
        return View(conversation, self._wanted)

    def _headed(self, conversation: Conversation) -> tuple[Head, Iterator[Turn]]:
        view = self._view(conversation)
        head = Head(conversation.continuation_id, self._namespace, view.title)
        return head, self._given_out(view)

    def _given_out(self, view: View) -> Iterator[Turn]:
        for turn in view.turns():
            if turn.content == "" and "scrubbed" in (turn.meta or {}):
                continue
            if self._leaves_out_results and turn.role == "assistant":
                turn.content = _without_calls(turn.content)
                if turn.content == []:
                    continue
            yield turn if self._redact is None else self._redact(turn)

    @property
    def _leaves_out_results(self) -> bool:
        """Whether calls would stand without their results, which datasets may not."""
        roles = self._wanted.roles
        return self._format in ("openai", "sharegpt") and roles is not None and "tool" not in roles

    def _own(self, conversation: Conversation) -> Iterator[bytes]:
        """Yield each turn as ``show --json`` prints it; with nothing left out, byte for byte."""
        from convmem.formats.raws import raw_of

        name = jsontext.dumps(conversation.continuation_id)
        view = self._view(conversation)
        for stored, turn in view.stored():
            shown = turn if self._redact is None else self._masked(turn, self._redact)
            fields: dict[str, Any] = shown.as_dict()
            raw = raw_of(stored.line) if self._redact is None else None
            if raw is not None:
                del fields["raw"]
            line = b'{"continuation_id":%b,%b' % (name, jsontext.dumps(fields)[1:-1])
            if raw is not None:
                encoded = raw if isinstance(raw, bytes) else jsontext.dumps(raw)
                line += b',"raw":' + encoded
            yield line + b"}\n"

    def _masked(self, turn: Turn, redact: Callable[[Turn], Turn]) -> Turn:
        """Return *turn* without what should not leave, also in the copies that it stands for."""
        masked = redact(turn)
        if copied.is_copy(masked) and masked.meta is not None:
            inside = [redact(each).as_dict() for each in copied.turns_in(turn)]
            for each in inside:
                del each["seq"]
            told = masked.meta[copied.KEY]
            lines = [jsontext.dumps(each) for each in inside]
            masked.meta[copied.KEY] = copied.packed(told["from"], copied.ids_in(turn), lines)
        return masked

    def _native(self, conversation: Conversation) -> Iterator[bytes]:
        view = self._view(conversation)
        source = self._format_of(conversation)
        if source is None:
            raise NothingImported(
                f"{conversation.continuation_id}: nothing of it was imported",
                hint="give it out in another format, such as: --to convmem",
            )
        yield from known.format_named(source).native(view.kept())

    def _format_of(self, conversation: Conversation) -> str | None:
        for stored in conversation.stored_turns():
            source = (stored.turn.meta or {}).get("source")
            if source in known.MODULES:
                return str(source)
        return None

    def _source_of(self, conversation: Conversation) -> tuple[str, str | None]:
        """Return the suffix of a conversation's native file, and the name that its source had."""
        suffix, name = "", None
        for stored in conversation.stored_turns():
            meta = stored.turn.meta or {}
            source = meta.get("source")
            if source in known.MODULES:
                suffix = suffix or known.format_named(source).SUFFIX
                file = meta.get("file")
                if isinstance(file, str) and _is_inside(file):
                    name = file
                    for packed in _PACKED:
                        name = name.removesuffix(packed)
                    break
        return suffix, name


def write_file(path: str, chunks: Iterable[bytes]) -> int:
    """Write *chunks* as the file *path*: aside, synced, renamed. Return how many bytes.

    What stood there stays until all is written. A crash leaves the old file or the new one, and
    perhaps a file beside it whose name begins with a dot and ends in ``.partial``. What is no file
    (a pipe, a device) is written to.

    Raises:
        StorageError: It cannot be written; what stood there is still there.
    """
    folder, name = os.path.split(os.path.abspath(path))
    temporary = None
    size = 0
    try:
        if _is_special(path):
            with open(path, "wb") as out:
                return sum(out.write(chunk) for chunk in chunks)
        os.makedirs(folder, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name[:60]}.", suffix=".partial")
        with open(fd, "wb") as file:
            for chunk in chunks:
                size += file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
        at = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(at)
        finally:
            os.close(at)
    except OSError as error:
        raise storage_error(error, f"cannot write {path}") from error
    finally:
        if temporary is not None:
            os.unlink(temporary)
    return size


def _unless_shorter(chunks: Iterable[bytes], least: int) -> Iterator[bytes]:
    """Yield *chunks*, or nothing where that is all: nobody said anything that the format holds."""
    held, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        if size < least:
            held.append(chunk)
            continue
        yield b"".join([*held, chunk])
        held = []


def _is_special(path: str) -> bool:
    """Whether there is something that is no file and no folder: a device, a pipe."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _above(name: str) -> Iterator[str]:
    """Yield the folders that a relative name lies in."""
    while name := posixpath.dirname(name):
        yield name


def _without_calls(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    return [
        part for part in content if not isinstance(part, dict) or part.get("type") != "tool_use"
    ]


def _is_inside(name: str) -> bool:
    """Whether a relative name stays below where it is put: it is a source's, so anybody's."""
    parts = name.split("/")
    return (
        bool(name)
        and not os.path.isabs(name)
        and "\0" not in name
        and "\\" not in name
        and all(part not in ("", ".", "..") and len(part.encode()) <= 255 for part in parts)
    )
