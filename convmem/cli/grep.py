"""``convmem grep``: find turns by a pattern, and show where it is in them."""

from __future__ import annotations

from contextlib import closing

from convmem import jsontext
from convmem.cli import values
from convmem.cli.boundary import EXIT_CODES
from convmem.cli.output.messages import Messages, SkippedDamage, stdout_is_terminal, write_bytes
from convmem.cli.places import namespace_of, open_archive, require_archive
from convmem.errors import ConversationNotFound, ConvmemError, UsageError
from convmem.following import filter_of
from convmem.ids import encode_name
from convmem.search.patterns.grep import Search, found_in, names_in
from convmem.search.patterns.pattern import Pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from convmem.archive import Archive
    from convmem.cli.spec import Context
    from convmem.search.patterns.grep import Shown

    class Writer(Protocol):
        """Shows what was found, to people or to programs."""

        def turn(self, namespace: str, continuation_id: str, shown: Shown) -> None:
            """Show a turn."""

        def apart(self) -> None:
            """Say that turns are left out between the one before and the one that follows."""

        def count(self, namespace: str, continuation_id: str, count: int) -> None:
            """Show how many turns of a conversation match."""

        def name(self, namespace: str, continuation_id: str) -> None:
            """Show a conversation that has a match."""

        def flush(self) -> None:
            """Show it now."""


_NOTHING = 1


def run(
    context: Context,
    *,
    pattern: str,
    continuation_ids: list[str],
    ignore_case: bool,
    case_sensitive: bool,
    fixed: bool,
    invert: bool,
    count: bool,
    ids_only: bool,
    max_count: str | None,
    after: str | None,
    before: str | None,
    around: str | None,
    role: list[str],
    since: str | None,
    until: str | None,
    all_namespaces: bool,
    quiet: bool,
    json: bool,
) -> int:
    """Look, show what is found as it is found, and return the exit status."""
    jsontext.expect_few_calls()
    for one, other, are_both in (
        ("-i", "-s", ignore_case and case_sensitive),
        ("-c", "-l", count and ids_only),
        ("ID", "--all-namespaces", bool(continuation_ids) and all_namespaces),
    ):
        if are_both:
            raise UsageError(f"{one} and {other} exclude each other")
    as_lists = count or ids_only
    most = values.count("-m", max_count)
    neighbours = 0 if as_lists else values.count("-C", around) or 0
    search = Search(
        Pattern.of(
            pattern,
            ignore_case=True if ignore_case else False if case_sensitive else None,
            fixed=fixed,
        ),
        filter_of(role or None, values.moment("--since", since), values.moment("--until", until)),
        inverts=invert,
        most=1 if ids_only and most != 0 else most,
        before=0 if as_lists else _neighbours("-B", before, neighbours),
        after=0 if as_lists else _neighbours("-A", after, neighbours),
    )
    if not continuation_ids:
        require_archive(context)
    messages = Messages(as_json=json, quiet=quiet)
    writer = _writer(context, as_json=json, with_namespace=all_namespaces)
    form = "count" if count else "ids" if ids_only else "turns"
    with open_archive(context, messages=messages) as archive:
        looking = _Looking(archive, search, writer, messages, form)
        named = list(dict.fromkeys(continuation_ids))
        for each in named:
            encode_name(each)
        for namespace in archive.namespaces() if all_namespaces else [namespace_of(context)]:
            for name in named or names_in(archive._open_store(), namespace):
                looking.look_into(namespace, name, is_named=bool(named))
        writer.flush()
    return looking.status


class _Looking:
    """Looks into one conversation after the other, and remembers how it went."""

    def __init__(
        self, archive: Archive, search: Search, writer: Writer, messages: Messages, form: str
    ) -> None:
        self._store = archive._open_store()
        self._search = search
        self._writer = writer
        self._messages = messages
        self._form = form
        self._found = 0
        self._failures: list[ConvmemError] = []

    @property
    def status(self) -> int:
        """The exit code: that of the first failure, else whether anything was found."""
        for error in self._failures:
            code = EXIT_CODES.get(error.kind, 4)
            return code if code == EXIT_CODES[ConversationNotFound.kind] else 4
        return 0 if self._found else _NOTHING

    def look_into(self, namespace: str, name: str, *, is_named: bool) -> None:
        """Show what there is in one conversation."""
        skipped = SkippedDamage(self._messages, name)
        try:
            found = found_in(self._store, namespace, name, self._search, skipped.damaged)
            with closing(found):
                count = self._show(namespace, name, found)
        except ConvmemError as error:
            if not is_named and isinstance(error, ConversationNotFound):
                return  # removed since it was listed
            self._failures.append(error)
            # What was found stands before what failed.
            self._writer.flush()
            self._messages.error(error, where="" if is_named else f"{name}: ", continuation_id=name)
            return
        finally:
            skipped.tell()
        self._found += count
        if self._form == "count" and (count or is_named):
            self._writer.count(namespace, name, count)
        elif self._form == "ids" and count:
            self._writer.name(namespace, name)

    def _show(self, namespace: str, name: str, found: Iterator[Shown]) -> int:
        """Show the turns if they are to be shown; return how many match."""
        count = 0
        for at, each in enumerate(found):
            if self._form == "turns":
                has_neighbours = self._search.before or self._search.after
                if has_neighbours and (each.is_apart or (not at and self._found)):
                    self._writer.apart()
                self._writer.turn(namespace, name, each)
            count += each.match is not None
        if count and self._form == "turns":
            self._writer.flush()
        return count


def _neighbours(flag: str, text: str | None, default: int) -> int:
    try:
        number = values.count(flag, text)
    except UsageError as error:
        if flag == "-A":
            error.hint = "behind grep it is a number of turns; the archive is --archive DIR"
        raise
    return default if number is None else number


def _writer(context: Context, *, as_json: bool, with_namespace: bool) -> Writer:
    if as_json:
        return _Objects()
    if stdout_is_terminal():
        from convmem.cli.output.found import FoundWriter
        from convmem.cli.output.terminal import StandardOutput, Terminal

        return FoundWriter(StandardOutput(), Terminal(context.env), with_namespace=with_namespace)
    return _Lines(with_namespace=with_namespace)


class _Objects:
    """A JSON object for each turn, or for each conversation."""

    def turn(self, namespace: str, continuation_id: str, shown: Shown) -> None:
        """See ``Writer``."""
        from convmem.cli.output.machine import TurnWriter, write_object
        from convmem.search.hits import Hit
        from convmem.search.patterns.grep_hits import snippet_of

        if shown.match is None:
            line = TurnWriter(continuation_id).line(shown.stored)
            write_bytes(line[: -len(b"}\n")] + b',"context":true}\n')
            return
        hit = Hit(
            namespace=namespace,
            continuation_id=continuation_id,
            turn=shown.stored.turn,
            snippet=snippet_of(shown.match),
        )
        write_object(hit.as_dict())

    def apart(self) -> None:
        """See ``Writer``. The numbers tell."""

    def count(self, namespace: str, continuation_id: str, count: int) -> None:
        """See ``Writer``."""
        self._write(namespace, continuation_id, count=count)

    def name(self, namespace: str, continuation_id: str) -> None:
        """See ``Writer``."""
        self._write(namespace, continuation_id)

    def flush(self) -> None:
        """See ``Writer``."""
        import sys

        sys.stdout.buffer.flush()

    def _write(self, namespace: str, continuation_id: str, **more: int) -> None:
        from convmem.cli.output.machine import write_object

        write_object({"continuation_id": continuation_id, "namespace": namespace, **more})


class _Lines:
    """A line for each line that matches, for other programs."""

    def __init__(self, *, with_namespace: bool) -> None:
        self._with_namespace = with_namespace

    def turn(self, namespace: str, continuation_id: str, shown: Shown) -> None:
        """See ``Writer``."""
        from convmem.cli.output.found import lines_of
        from convmem.cli.output.safe import encoded, safe_name

        turn = shown.stored.turn
        mark = "-" if shown.match is None else ":"
        seq = "" if turn.seq is None else str(turn.seq)
        where = self._name(namespace, continuation_id)
        start = mark.join((where, seq, safe_name(turn.role), ""))
        for line, _ in lines_of(shown):
            write_bytes(encoded(f"{start}{line}\n"))

    def apart(self) -> None:
        """See ``Writer``."""
        write_bytes(b"--\n")

    def count(self, namespace: str, continuation_id: str, count: int) -> None:
        """See ``Writer``."""
        write_bytes(f"{self._name(namespace, continuation_id)}:{count}\n".encode())

    def name(self, namespace: str, continuation_id: str) -> None:
        """See ``Writer``."""
        write_bytes(f"{self._name(namespace, continuation_id)}\n".encode())

    def flush(self) -> None:
        """See ``Writer``."""
        import sys

        sys.stdout.buffer.flush()

    def _name(self, namespace: str, continuation_id: str) -> str:
        from convmem.cli.output.safe import safe_name

        name = safe_name(continuation_id)
        return f"{safe_name(namespace)}/{name}" if self._with_namespace else name
