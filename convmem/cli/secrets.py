"""``convmem secrets``: say where likely credentials stand in conversations. Reads only."""

from __future__ import annotations

from shlex import quote

from convmem import copied
from convmem.cli import values
from convmem.cli.boundary import one_line, status_of
from convmem.cli.output.bar import Bar
from convmem.cli.output.messages import Messages, SkippedDamage, stdout_is_terminal
from convmem.cli.places import namespace_of, open_archive, require_archive
from convmem.cli.several import Watch, chosen, total_bytes
from convmem.cli.spec import Context
from convmem.errors import ConversationNotFound, ConvmemError
from convmem.following import filter_of
from convmem.log.read import StoredTurn
from convmem.quantities import format_count, format_time
from convmem.secrets.detector import get_ready
from convmem.secrets.masking import Place, findings_in, places_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.archive import Archive
    from convmem.conversation import Conversation
    from convmem.log.read import Filter
    from convmem.log.removing.trash import TrashFile
    from convmem.turns import Turn

# More commands than these on standard error help nobody; the rows have all that they need.
_MOST_HINTS = 5


def run(
    context: Context,
    *,
    continuation_ids: list[str],
    all_conversations: bool,
    role: list[str],
    since: str | None,
    trash: bool,
    quiet: bool,
    json: bool,
) -> int:
    """Look, say what was found, and return the exit status."""
    if all_conversations:
        require_archive(context)
    from_time = values.moment("--since", since)
    get_ready()
    wanted = filter_of(role or None, from_time, None)
    messages = Messages(as_json=json, quiet=quiet)
    talk = _Talk(messages, namespace_of(context), as_json=json, quiet=quiet, with_trash=trash)
    failures: list[ConvmemError] = []
    with open_archive(context, observer=Watch(messages), messages=messages) as archive:
        names = chosen(archive, continuation_ids, all_conversations, "look at")
        files = archive.trash() if trash else []
        if not all_conversations:
            files = [file for file in files if file.continuation_id in names]
        in_trash = {file.continuation_id for file in files}
        total = total_bytes(map(archive.conversation, names)) + sum(file.bytes for file in files)
        with Bar("looking", total, quiet=quiet) as bar:
            for name in names:
                try:
                    _look_at(archive.conversation(name), wanted, talk, messages, bar)
                except ConvmemError as error:
                    if isinstance(error, ConversationNotFound) and (
                        all_conversations or name in in_trash
                    ):
                        continue  # deleted, now or before; nobody asked for it, or it comes below
                    failures.append(error)
                    messages.error(error, where=f"{name}: ", continuation_id=name)
            for file in files:
                try:
                    _look_into(archive, file, wanted, talk, messages)
                except ConvmemError as error:
                    failures.append(error)
                    messages.error(error, trash=file.file_name)
                bar.advance(file.bytes)
    talk.sum_up(len(names) - len(failures))
    return status_of(failures, only_one=len(names) == 1 and not all_conversations)


def _look_at(chat: Conversation, wanted: Filter, talk: _Talk, messages: Messages, bar: Bar) -> None:
    """Look at the turns of one conversation that are wanted, and at its state if all are."""
    name = chat.continuation_id
    skipped = SkippedDamage(messages, name)
    for stored in chat.stored_turns(damaged=skipped.damaged):
        if wanted.wants(stored):
            talk.tell(name, stored.turn, _findings(stored.turn))
        bar.advance(len(stored.line) + 1)
    skipped.tell()
    if wanted.wants_all:
        talk.tell(name, None, places_in({"state": chat.state()}))


def _look_into(
    archive: Archive, file: TrashFile, wanted: Filter, talk: _Talk, messages: Messages
) -> None:
    """Look at the wanted turns in one file of the trash."""
    name = file.continuation_id or file.name
    skipped = SkippedDamage(messages, f".trash/{file.file_name}")
    for turn in archive.trash_turns(file, on_damage=skipped.damaged):
        if wanted.wants(StoredTurn(b"", 0, turn)):
            talk.tell(name, turn, _findings(turn), file.file_name)
    skipped.tell()


def _findings(turn: Turn) -> list[Place]:
    """Return the findings in a turn, and in the copies that it stands for."""
    return [place for each in (turn, *copied.turns_in(turn)) for place in findings_in(each)]


class _Row:
    """One finding, and the turn it is in; no turn: it is in the state."""

    __slots__ = ("name", "place", "trash", "turn")

    def __init__(self, name: str, turn: Turn | None, place: Place, trash: str | None) -> None:
        self.name = name
        self.turn = turn
        self.place = place
        self.trash = trash

    @property
    def time(self) -> str | None:
        """When the turn was said."""
        return None if self.turn is None or self.turn.ts is None else format_time(self.turn.ts)

    @property
    def excerpt(self) -> str:
        """How the credential begins, and how long it is."""
        return f"{self.place.excerpt}… ({self.place.length})"

    @property
    def where(self) -> str:
        """Its place in the turn, and whether that lies in the trash."""
        return self.place.where if self.trash is None else f"{self.place.where}, in the trash"


class _Talk:
    """Says what is found: a table at a terminal, else a line for each as it is found."""

    def __init__(
        self, messages: Messages, namespace: str, *, as_json: bool, quiet: bool, with_trash: bool
    ) -> None:
        self._messages = messages
        self._namespace = namespace
        self._as_json = as_json
        self._quiet = quiet
        self._with_trash = with_trash
        self._in_table = not as_json and stdout_is_terminal()
        self._rows: list[_Row] = []
        self._hints: list[tuple[str, str, str]] = []
        self._findings = self._turns = 0

    def tell(
        self, name: str, turn: Turn | None, places: list[Place], trash: str | None = None
    ) -> None:
        """Say what was found in a turn, here or in a file of the trash, or in a state."""
        if not places:
            return
        self._findings += len(places)
        self._turns += 1
        if self._turns <= _MOST_HINTS:
            self._hints.append(_way_out(name, turn, places))
        for place in places:
            row = _Row(name, turn, place, trash)
            if self._as_json:
                self._write(row)
            elif self._in_table:
                self._rows.append(row)
            else:
                print(_line(row))

    def sum_up(self, count: int) -> None:
        """Say what all of it comes to, what was looked at, and what can be done."""
        if self._rows:
            _print_table(self._rows)
        if not self._as_json and not self._quiet:
            found = "none"
            if self._findings:
                places = format_count(self._turns, "place")
                found = f"{format_count(self._findings, 'likely credential')} in {places}"
            trash = "the trash too" if self._with_trash else "not at the trash"
            print(f"{found}; looked at {format_count(count, 'conversation')}, {trash}")
        for name, what, hint in self._hints:
            self._messages.warn("secret", f"{name}: {what}", hint, continuation_id=name)
        if self._turns > len(self._hints):
            self._messages.warn("secret", f"and in {self._turns - len(self._hints):,} more")

    def _write(self, row: _Row) -> None:
        from convmem.cli.output.machine import write_object

        turn, place = row.turn, row.place
        write_object(
            {
                "continuation_id": row.name,
                "namespace": self._namespace,
                "seq": None if turn is None else turn.seq,
                "id": None if turn is None else turn.id,
                "role": None if turn is None else turn.role,
                "ts": row.time,
                "rule": place.rule,
                "where": place.where,
                "start": place.start,
                "length": place.length,
                "excerpt": place.excerpt,
                "trash": row.trash,
            }
        )


def _line(row: _Row) -> str:
    turn = row.turn
    what = "state"
    if turn is not None:
        what = f"turn {turn.id or turn.seq or '?'} ({turn.role})"
    return one_line(f"{row.name}: {what}: {row.place.rule} in {row.where}: {row.excerpt}")


def _print_table(rows: list[_Row]) -> None:
    import os

    from convmem.cli.output.human import local, safe_name
    from convmem.cli.output.tables import Column, lines_of
    from convmem.cli.output.terminal import StandardOutput, Terminal

    turns = [row.turn for row in rows]
    times = ["" if turn is None or turn.ts is None else local(turn.ts)[:16] for turn in turns]
    columns = [
        Column("conversation", [safe_name(row.name) for row in rows], least=36, styles=("cyan",)),
        Column(
            "turn",
            ["state" if turn is None else safe_name(turn.id or "") for turn in turns],
            least=36,
            keep=3,
        ),
        Column(
            "seq",
            ["" if turn is None else str(turn.seq or "") for turn in turns],
            keep=1,
            right=True,
        ),
        Column("role", ["" if turn is None else safe_name(turn.role) for turn in turns], keep=4),
        Column("time", times, keep=5),
        Column("rule", [row.place.rule for row in rows]),
        Column("where", [safe_name(row.where) for row in rows], keep=2, least=12),
        Column("begins (length)", [safe_name(row.excerpt) for row in rows]),
    ]
    out = StandardOutput()
    for line in lines_of(columns, Terminal(os.environ)):
        out.write(f"{line}\n")
    out.flush()


def _way_out(name: str, turn: Turn | None, places: list[Place]) -> tuple[str, str, str]:
    """Return the conversation, what is wrong in it, and the command that ends it."""
    count = format_count(len(places), "likely credential")
    which = f"-- {quote(name)}" if name.startswith("-") else quote(name)
    if turn is None:
        return name, f"{count} in its state", f"convmem state {which} get"
    told = turn.id or str(turn.seq)
    return name, f"{count} in turn {told}", f"convmem scrub {which} {quote(told)}"
