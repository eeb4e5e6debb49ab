"""``convmem search``: find turns by words, and show the best ones first."""

from __future__ import annotations

from convmem import jsontext
from convmem.cli import values
from convmem.cli.meaning import embedder_of
from convmem.cli.output.indexing import Indexing
from convmem.cli.output.messages import Messages, stdout_is_terminal, write_bytes
from convmem.cli.places import namespace_of, open_archive, require_archive, settings_of
from convmem.errors import ConvmemError, UsageError
from convmem.quantities import format_count
from convmem.search.page import SCAN, SOME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from convmem.cli.spec import Context
    from convmem.search.hits import Hit
    from convmem.search.page import SearchPage

    class Writer(Protocol):
        """Shows hits, to people or to programs."""

        def hit(self, hit: Hit) -> None:
            """Show one."""

        def flush(self) -> None:
            """Show it now."""


_NOTHING = 1


def run(
    context: Context,
    *,
    query: list[str],
    limit: str,
    around: str | None,
    group: bool,
    cursor: str | None,
    role: list[str],
    since: str | None,
    until: str | None,
    ids: list[str],
    meta: list[str],
    all_namespaces: bool,
    semantic: bool,
    quiet: bool,
    json: bool,
) -> int:
    """Search, show the hits, and return the exit status."""
    jsontext.expect_few_calls()
    if group and cursor is not None:
        raise UsageError("--group and --cursor exclude each other", hint="raise --limit instead")
    text = " ".join(query)
    most = values.count("-n", limit, least=1)
    wanted_meta = _meta(meta)
    start = values.moment("--since", since)
    end = values.moment("--until", until)
    reach = values.count("-C", around) or 0
    # Where no namespace was given, a query may name one; else it can only narrow.
    is_free = context.namespace is None and not context.env.get("CONVMEM_NAMESPACE")
    searches_all = all_namespaces or (is_free and "ns:" in text.lower() and _names_one(text))
    require_archive(context)
    messages = Messages(as_json=json, quiet=quiet)
    watch = Indexing(messages, quiet=quiet)
    settings = settings_of(context, messages)
    embedder = embedder_of(context, settings, messages, is_asked=semantic)
    with open_archive(
        context, observer=watch, messages=messages, settings=settings, embedder=embedder
    ) as archive:

        def search(*, by_meaning: bool) -> SearchPage:
            return archive.search(
                text,
                limit=most or 1,
                continuation_ids=ids or None,
                all_namespaces=searches_all,
                roles=role or None,
                since=start,
                until=end,
                meta=wanted_meta,
                neighbours=reach,
                grouped=group,
                cursor=cursor,
                semantic=by_meaning,
            )

        try:
            page = search(by_meaning=embedder is not None)
        except ConvmemError as error:
            if semantic or error.kind != "embedder":
                raise
            messages.warn("semantic", f"{error}; going on by words", error.hint)
            page = search(by_meaning=False)
        finally:
            watch.tell()
    writer = _writer(
        context,
        as_json=json,
        with_namespace=all_namespaces
        or any(each.namespace != namespace_of(context) for each in page.hits),
        is_grouped=group,
        cursor=page.cursor,
        last=page.hits[-1] if page.hits else None,
    )
    _tell_before(messages, page, text, is_first_page=cursor is None)
    for hit in page.hits:
        writer.hit(hit)
    writer.flush()
    if page.cursor is not None and not json and stdout_is_terminal():
        given = _given(
            context,
            limit=limit,
            around=around,
            role=role,
            since=since,
            until=until,
            ids=ids,
            meta=meta,
            all_namespaces=all_namespaces,
            semantic=semantic,
        )
        messages.note("more", f"there is more: {_command(given, page.cursor, query)}")
    return 0 if page.hits else _NOTHING


def _names_one(text: str) -> bool:
    from convmem.search.language.query import parse

    return parse(text).namespaces is not None


def _meta(pairs: list[str]) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals or not all(key.split(".")):
            raise UsageError(f"--meta: {pair!r} is not KEY=VALUE")
        if key in found:
            raise UsageError(f"--meta: {key!r} is given twice")
        found[key] = value
    return found or None


def _tell_before(messages: Messages, page: SearchPage, text: str, *, is_first_page: bool) -> None:
    """Say of an answer what one should know before one reads it."""
    for note in page.notes:
        messages.note("scan" if page.how == SCAN else "search", note)
    if page.matched == SOME and page.hits and is_first_page:
        from convmem.search.language.query import parse
        from convmem.search.said import text_of

        query = parse(text)
        whole = sum(query.holds_in(text_of(hit.turn)) for hit in page.hits)
        if whole == len(page.hits):
            return
        few, rest = "no turn holds", "these"
        if whole:
            few = f"only {format_count(whole, 'turn')} {'holds' if whole == 1 else 'hold'}"
            rest = "the others"
        messages.note(
            "some",
            f"{few} all of {' · '.join(dict.fromkeys(each.text for each in query.units))}; "
            f"{rest} hold some, or stand beside one that does",
            matched=page.matched,
        )


def _given(context: Context, **values: str | bool | list[str] | None) -> list[str]:
    """Return the flags that were given, as they are typed."""
    flags = {"around": "-C", "limit": "-n", "role": "-r", "ids": "--id"}
    given: list[str] = []
    places = {"archive": context.archive, "namespace": context.namespace}
    for name, value in {**places, **values}.items():
        flag = flags.get(name, f"--{name.replace('_', '-')}")
        if value is True:
            given.append(flag)
        elif name == "limit" and value == "10":
            continue
        elif isinstance(value, (str, list)):
            for each in [value] if isinstance(value, str) else value:
                given += [flag, each]
    return given


def _command(given: list[str], cursor: str, query: list[str]) -> str:
    """Return the command line that shows the next page."""
    from shlex import join

    apart = ["--"] if any(word.startswith("-") for word in query) else []
    return join(["convmem", "search", *given, "--cursor", cursor, *apart, *query])


# --- forms ---------------------------------------------------------------------------------------


def _writer(
    context: Context,
    *,
    as_json: bool,
    with_namespace: bool,
    is_grouped: bool,
    cursor: str | None,
    last: Hit | None,
) -> Writer:
    if as_json:
        return _Objects(last, cursor)
    if stdout_is_terminal():
        from convmem.cli.output.hits import HitWriter
        from convmem.cli.output.terminal import StandardOutput, Terminal

        return HitWriter(
            StandardOutput(),
            Terminal(context.env),
            with_namespace=with_namespace,
            is_grouped=is_grouped,
        )
    return _Lines(with_namespace=with_namespace)


class _Objects:
    """A JSON object for each hit; the last one says where the next page begins, if there is one."""

    def __init__(self, last: Hit | None, cursor: str | None) -> None:
        self._last = last
        self._cursor = cursor

    def hit(self, hit: Hit) -> None:
        """See ``Writer``."""
        from convmem.cli.output.machine import write_object

        shown = hit.as_dict()
        if self._cursor is not None and hit is self._last:
            shown["cursor"] = self._cursor
        write_object(shown)

    def flush(self) -> None:
        """See ``Writer``."""
        _flush()


class _Lines:
    """A line for each hit and each neighbour, as those of ``convmem grep``."""

    def __init__(self, *, with_namespace: bool) -> None:
        self._with_namespace = with_namespace
        self._is_first = True

    def hit(self, hit: Hit) -> None:
        """See ``Writer``."""
        from convmem.search.language.snippets import snippet
        from convmem.search.said import text_of

        if not self._is_first and (hit.before or hit.after):
            write_bytes(b"--\n")
        self._is_first = False
        for turn in hit.before:
            self._line(hit, turn.seq, turn.role, snippet(text_of(turn), ()).text, "-")
        mark = ":" if hit.is_match else "-"
        self._line(hit, hit.turn.seq, hit.turn.role, hit.snippet.text, mark)
        for turn in hit.after:
            self._line(hit, turn.seq, turn.role, snippet(text_of(turn), ()).text, "-")

    def flush(self) -> None:
        """See ``Writer``."""
        _flush()

    def _line(self, hit: Hit, seq: int | None, role: str, text: str, mark: str) -> None:
        from convmem.cli.output.safe import encoded, safe_name

        name = safe_name(hit.continuation_id)
        where = f"{safe_name(hit.namespace)}/{name}" if self._with_namespace else name
        number = "" if seq is None else str(seq)
        write_bytes(encoded(mark.join((where, number, safe_name(role), f"{text}\n"))))


def _flush() -> None:
    import sys

    sys.stdout.buffer.flush()
