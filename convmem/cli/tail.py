"""``convmem tail`` and ``convmem show``: the newest turns, those that come, or all."""

from __future__ import annotations

from collections import deque

from convmem import jsontext
from convmem.cli import values
from convmem.cli.output.messages import Messages, SkippedDamage, Skipping, stdout_is_terminal
from convmem.cli.places import open_archive, settings_of
from convmem.errors import UsageError, storage_error
from convmem.log.follow import Cursor
from convmem.log.read import Filter
from convmem.quantities import format_count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from convmem.cli.spec import Context
    from convmem.conversation import Conversation
    from convmem.log.read import StoredTurn

    class TurnWriter(Protocol):
        """Shows turns, to people or to programs."""

        def write(self, stored: StoredTurn) -> None:
            """Show one turn."""

        def flush(self) -> None:
            """Show it now."""


DEFAULT_COUNT = 10


def run(
    context: Context,
    *,
    continuation_id: str,
    lines: str | None,
    follow: bool,
    role: list[str],
    since: str | None,
    until: str | None,
    cursor_file: str | None,
    plain: bool,
    quiet: bool,
    json: bool,
) -> int:
    """Print the newest turns, then with *follow* those that come."""
    jsontext.expect_few_calls()
    _one_form(plain, json)
    count, first_seq = _lines(lines)
    wanted = _filter(role, since, until)
    messages = Messages(as_json=json, quiet=quiet)
    watch = Skipping(SkippedDamage(messages, continuation_id))
    with open_archive(context, observer=watch, messages=messages) as archive:
        chat = archive.conversation(continuation_id)
        writer = _writer(context, continuation_id, plain, json)
        cursor = None if cursor_file is None else _load_cursor(cursor_file)
        if cursor_file is None and not follow:
            _print_once(chat, writer, wanted, count, first_seq)
            writer.flush()
            watch.skipped.tell()
            return 0
        chat.describe()  # a conversation that is not there is an error, not something to wait for
        start: Cursor | int | None = cursor
        before: list[StoredTurn] = []
        if cursor is None and not (cursor_file is not None and lines is None):
            before, start = _before_following(chat, wanted, count, first_seq)
        tracker = _Tracker(chat, writer, wanted, cursor_file, watch.skipped, messages)
        most = count if cursor is not None and lines is not None else None
        tracker.run(before, start, follow=follow, most=most)
        watch.skipped.tell()
    return 0


def show(
    context: Context,
    *,
    continuation_id: str,
    role: list[str],
    since: str | None,
    until: str | None,
    plain: bool,
    no_pager: bool,
    quiet: bool,
    json: bool,
) -> int:
    """Print the whole conversation: to people through a pager, with its Markdown laid out."""
    _one_form(plain, json)
    wanted = _filter(role, since, until)
    messages = Messages(as_json=json, quiet=quiet)
    skipped = SkippedDamage(messages, continuation_id)
    settings = settings_of(context, messages)
    with open_archive(context, settings=settings) as archive:
        chat = archive.conversation(continuation_id)
        found = chat.stored_turns(
            roles=wanted.roles, since=wanted.since, until=wanted.until, damaged=skipped.damaged
        )
        if plain or json or not stdout_is_terminal():
            _write_all(found, _writer(context, continuation_id, plain, json))
        else:
            from convmem.cli.output import human

            is_wanted = not no_pager and settings.word("output.pager") != "never"
            with human.pager(context.env, messages, is_wanted=is_wanted) as pager:
                _write_all(found, human.markdown_writer(context.env, pager))
    skipped.tell()
    return 0


class _Tracker:
    """Prints turns behind a cursor, and keeps the cursor's file up to date."""

    def __init__(
        self,
        chat: Conversation,
        writer: TurnWriter,
        wanted: Filter,
        cursor_file: str | None,
        skipped: SkippedDamage,
        messages: Messages,
    ) -> None:
        self._chat = chat
        self._writer = writer
        self._wanted = wanted
        self._cursor_file = cursor_file
        self._skipped = skipped
        self._messages = messages
        self._diverged = 0
        self._missed = 0

    def run(
        self,
        before: list[StoredTurn],
        start: Cursor | int | None,
        *,
        follow: bool,
        most: int | None,
    ) -> None:
        """Print *before*, what is behind *start* (at most the last *most*), and what comes."""
        following = self._chat.follow(after=start, idle_timeout=None if follow else 0)
        following.attach()  # before anything is printed: what happens to the log then is noticed
        for stored in before:
            self._writer.write(stored)
        self._writer.flush()
        if isinstance(start, Cursor):
            self._save(start)
        last: deque[StoredTurn] = deque(maxlen=most)
        for stored in following.stored():
            if not self._wanted.wants(stored):
                continue
            if most is not None and not follow:
                last.append(stored)
                continue
            self._writer.write(stored)
            if follow:
                self._writer.flush()
                self._skipped.tell()
                self._tell_divergence(following.diverged)
                self._tell_missed(following.missed)
                self._save(following.cursor)
        for stored in last:
            self._writer.write(stored)
        self._writer.flush()
        # After the turns are out: a crash between the two repeats turns, it loses none.
        self._save(following.cursor)
        self._tell_divergence(following.diverged)
        self._tell_missed(following.missed)

    def _tell_missed(self, count: int) -> None:
        if count > self._missed:
            what = format_count(count - self._missed, "turn")
            self._messages.warn(
                "missed",
                f"{self._chat.continuation_id}: {what} went before they could be shown",
                "see what went with: convmem trash list",
                continuation_id=self._chat.continuation_id,
                missed=count - self._missed,
            )
        self._missed = count

    def _tell_divergence(self, count: int) -> None:
        if count > self._diverged:
            self._messages.warn(
                "diverged",
                f"{self._chat.continuation_id}: the log was removed or made anew;"
                " started from its beginning",
            )
        self._diverged = count

    def _save(self, cursor: Cursor) -> None:
        if self._cursor_file is not None:
            _save_cursor(self._cursor_file, cursor)


def _print_once(
    chat: Conversation,
    writer: TurnWriter,
    wanted: Filter,
    count: int | None,
    first_seq: int | None,
) -> None:
    found: Iterable[StoredTurn]
    if first_seq is not None:
        found = chat.stored_turns(after=first_seq - 1)
    elif count is None:
        found = chat.stored_turns()
    else:
        found = chat.stored_tail(count, roles=wanted.roles, since=wanted.since, until=wanted.until)
        wanted = Filter()
    for stored in found:
        if wanted.wants(stored):
            writer.write(stored)


def _before_following(
    chat: Conversation, wanted: Filter, count: int | None, first_seq: int | None
) -> tuple[list[StoredTurn], Cursor | int | None]:
    """Return the turns that come before a follow, and where it begins."""
    if first_seq is not None:
        return [], max(0, first_seq - 1)
    if count is None:
        return [], None  # the follow itself begins with the first
    return chat.stored_tail_and_cursor(count, wanted)


def _lines(text: str | None) -> tuple[int | None, int | None]:
    """Return (how many turns, first ``seq``); ``None`` for all, or where the other one counts."""
    if text is None:
        return DEFAULT_COUNT, None
    if text == "all":
        return None, None
    if text.startswith("+"):
        return None, values.count("-n", text[1:])
    return values.count("-n", text), None


def _filter(roles: list[str], since: str | None, until: str | None) -> Filter:
    return Filter(
        roles=frozenset(roles) if roles else None,
        since=values.moment("--since", since),
        until=values.moment("--until", until),
    )


def _one_form(plain: bool, as_json: bool) -> None:
    if plain and as_json:
        raise UsageError("--plain and --json are two forms of the same", hint="choose one of them")


def _write_all(found: Iterable[StoredTurn], writer: TurnWriter) -> None:
    for stored in found:
        writer.write(stored)
    writer.flush()


def _writer(context: Context, continuation_id: str, plain: bool, as_json: bool) -> TurnWriter:
    for_people = not as_json and stdout_is_terminal()
    if plain or for_people:
        from convmem.cli.output import human

        if plain:
            return human.plain_writer(make_safe=for_people)
        return human.turn_writer(context.env)
    from convmem.cli.output import machine

    return machine.TurnWriter(continuation_id)


def _load_cursor(path: str) -> Cursor | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read(200)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, f"cannot read the cursor file {path}") from error
    return Cursor.parse(text) if text.strip() else None


def _save_cursor(path: str, cursor: Cursor) -> None:
    """Replace the file in one step: a crash leaves the old cursor or the new one."""
    from convmem.cli.output.replacing import replace_file

    replace_file(path, f"{cursor}\n".encode(), flag="--cursor-file")
