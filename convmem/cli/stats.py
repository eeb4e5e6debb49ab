"""``convmem stats``: how much there is, whose, from when, how it grows, and what it takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from convmem.cli.listing import Failures, Reading
from convmem.cli.output.messages import Messages, stdout_is_terminal
from convmem.cli.places import namespace_of, open_archive
from convmem.errors import UsageError
from convmem.quantities import format_count, format_size, parse_stored_time
from convmem.stores.stats import Stats, total

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from convmem.cli.output.prometheus import Gauge
    from convmem.cli.output.terminal import Terminal
    from convmem.cli.spec import Context

_MOST_DAYS = 60
# In a pipe the words are the same, without colours, and no line is folded.
_PIPE = {"COLUMNS": "10000"}
# Roles are any short words; these are a metric's, and all others are one.
_ROLES = ("user", "assistant", "system", "tool")
_SIDES = {
    "trash": "dropped turns and deleted conversations",
    "quarantine": "damaged bytes",
    "state": "states",
    "audit": "what went, when and why",
    "index": "derived; may be deleted",
    "dropped": "ids of dropped turns",
    "ids": "ids too long for a file name",
    "locks": "",
    "other": "",
}


def run(
    context: Context,
    *,
    continuation_ids: list[str],
    all_namespaces: bool,
    prometheus: str | None,
    json: bool,
) -> int:
    """Print figures of a namespace, of all, or of some conversations."""
    if continuation_ids and (all_namespaces or prometheus is not None):
        other = "--all-namespaces" if all_namespaces else "--prometheus"
        raise UsageError(f"ID and {other} exclude each other")
    if json and prometheus == "-":
        raise UsageError("--json and --prometheus - exclude each other")
    messages = Messages(as_json=json)
    failures = Failures(messages)
    with open_archive(context, observer=Reading(), messages=messages) as archive:
        if continuation_ids:
            only_one = len(set(continuation_ids)) == 1
            found = [
                archive.stats(
                    continuation_ids=continuation_ids, failed=None if only_one else failures.tell
                )
            ]
        else:
            names = archive.namespaces() if all_namespaces else [namespace_of(context)]
            found = [archive.stats(namespace=name, failed=failures.tell) for name in names]
    if prometheus is not None:
        from convmem.cli.output import prometheus as output

        output.write(prometheus, _gauges(found, failures.count, datetime.now(UTC)))
    if json:
        from convmem.cli.output.machine import write_object

        for each in found:
            write_object(each.as_dict())
    elif prometheus is None:
        _print(found, context.env, has_all=all_namespaces)
    return 7 if failures.count else 0


# --- for people ---------------------------------------------------------------------------------


def _print(found: list[Stats], env: Mapping[str, str], *, has_all: bool) -> None:
    from convmem.cli.output.terminal import StandardOutput, Terminal

    terminal = Terminal(env if stdout_is_terminal() else _PIPE)
    out = StandardOutput()
    whole = total(found) if has_all else found[0]
    for line in _lines(whole, terminal, env):
        out.write(f"{line}\n")
    if has_all and found:
        for line in _namespaces(found, terminal):
            out.write(f"{line}\n")
    out.flush()


def _lines(stats: Stats, terminal: Terminal, env: Mapping[str, str]) -> Iterator[str]:
    from convmem.cli.output.layout import fold
    from convmem.cli.output.safe import safe_line

    room = terminal.columns
    packed = f" ({stats.compressed:,} compressed)" if stats.compressed else ""
    size = format_size(stats.plain.bytes + stats.packed.bytes)
    conversations = format_count(stats.conversations, "conversation")
    head = f"{conversations}{packed}, {format_count(stats.turns, 'turn')}, {size}"
    yield from (terminal.paint(line, "bold") for line in fold(head, room))
    if stats.oldest and stats.newest:
        yield from fold(f"from {_when(stats.oldest)} to {_when(stats.newest)}", room)
    roles = ", ".join(f"{safe_line(role)} {count:,}" for role, count in _by_count(stats.roles))
    if roles:
        yield from fold(f"by role: {roles}", room)
    if stats.unsealed:
        yield f"written by hand: {stats.unsealed:,}"
    if stats.damaged:
        ids = ", ".join(safe_line(each) for each in stats.damaged_ids[:3])
        more = f" and {len(stats.damaged_ids) - 3:,} more" if len(stats.damaged_ids) > 3 else ""
        size = format_count(stats.damaged_bytes, "byte")
        said = f"damaged: {format_count(stats.damaged, 'line')}, {size}, in {ids}{more}"
        yield from (terminal.paint(line, "red") for line in fold(said, room))
    yield from _growth(stats, terminal, env)
    if stats.conversations > 1:
        yield from _largest(stats, terminal)
    yield from _sides(stats, terminal)


def _growth(stats: Stats, terminal: Terminal, env: Mapping[str, str]) -> Iterator[str]:
    """Yield the plot of what each of the last days brought, by the turns' own times."""
    from convmem.cli.output import plot

    if not stats.turns:
        return
    today = datetime.now(UTC).date()
    shown = max(7, min(_MOST_DAYS, terminal.columns - 14))
    days = [today - timedelta(days=back) for back in range(shown - 1, -1, -1)]
    values = [stats.days.get(day.isoformat(), [0, 0])[1] for day in days]
    turns = sum(stats.days.get(day.isoformat(), [0, 0])[0] for day in days)
    yield ""
    yield terminal.paint(f"growth per day, {shown} days", "bold")
    if not turns:
        yield "no turns in these days"
        return
    yield from plot.lines_of(
        values,
        most=format_size(max(values)),
        first=f"{days[0]:%m-%d}",
        last=f"{days[-1]:%m-%d}",
        with_blocks=plot.shows_blocks(env),
    )
    yield f"{format_count(turns, 'turn')}, {format_size(sum(values))} (days in UTC)"


def _largest(stats: Stats, terminal: Terminal) -> Iterator[str]:
    from convmem.cli.output.safe import safe
    from convmem.cli.output.tables import Column, lines_of

    rows = stats.largest
    yield ""
    yield from lines_of(
        [
            Column("largest", [safe(row[0]) for row in rows], least=12, styles=("cyan",)),
            Column("turns", [f"{row[2]:,}" for row in rows], keep=1, right=True),
            Column(
                "size",
                [format_size(row[1]) + (" zst" if row[3] else "") for row in rows],
                right=True,
            ),
        ],
        terminal,
    )


def _sides(stats: Stats, terminal: Terminal) -> Iterator[str]:
    from convmem.cli.output.tables import Column, lines_of

    rows = [(name, size) for name, size in stats.sides.items() if size.files]
    if rows:
        yield ""
        yield from lines_of(
            [
                Column("beside them", [name for name, _ in rows]),
                Column("files", [f"{size.files:,}" for _, size in rows], right=True),
                Column("size", [format_size(size.bytes) for _, size in rows], right=True),
                Column("", [_SIDES.get(name, "") for name, _ in rows], keep=1, least=8, cuts=True),
            ],
            terminal,
        )
    if stats.free_bytes is not None and stats.disk_bytes is not None:
        yield ""
        yield f"disk: {format_size(stats.free_bytes)} free of {format_size(stats.disk_bytes)}"


def _namespaces(found: list[Stats], terminal: Terminal) -> Iterator[str]:
    from convmem.cli.output.safe import safe
    from convmem.cli.output.tables import Column, lines_of

    yield ""
    yield from lines_of(
        [
            Column("namespace", [safe(each.namespace) for each in found], least=8),
            Column("conversations", [f"{each.conversations:,}" for each in found], right=True),
            Column("turns", [f"{each.turns:,}" for each in found], keep=1, right=True),
            Column(
                "size",
                [format_size(each.plain.bytes + each.packed.bytes) for each in found],
                right=True,
            ),
        ],
        terminal,
    )


def _when(text: str) -> str:
    from convmem.cli.output.human import local

    moment = parse_stored_time(text)
    return text if moment is None else local(moment)


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


# --- for Prometheus -----------------------------------------------------------------------------


def _gauges(found: list[Stats], failed: int, now: datetime) -> list[Gauge]:
    from convmem.cli.output.prometheus import Gauge

    def gauge(name: str, help: str) -> Gauge:
        made = Gauge(f"convmem_{name}", help)
        gauges.append(made)
        return made

    gauges: list[Gauge] = []
    conversations = gauge("conversations", "Conversations, by the form of their file.")
    turns = gauge("turns", "Turns, by role.")
    oldest = gauge("oldest_turn_timestamp_seconds", "Time of the earliest turn.")
    newest = gauge("newest_turn_timestamp_seconds", "Time of the latest turn.")
    unsealed = gauge("unsealed_turns", "Turns that were written by hand.")
    lines = gauge("damaged_lines", "Lines that are no turn.")
    damaged = gauge("damaged_bytes", "Bytes of lines that are no turn.")
    files = gauge("files", "Files, by what they hold.")
    sizes = gauge("size_bytes", "Bytes of files, by what they hold.")
    free = gauge("disk_free_bytes", "Free bytes of the disk that the archive is on.")
    disk = gauge("disk_size_bytes", "Bytes of the disk that the archive is on.")
    for each in found:
        name = each.namespace
        conversations.add(each.conversations - each.compressed, namespace=name, form="plain")
        conversations.add(each.compressed, namespace=name, form="compressed")
        for role in _ROLES:
            turns.add(each.roles.get(role, 0), namespace=name, role=role)
        others = sum(count for role, count in each.roles.items() if role not in _ROLES)
        turns.add(others, namespace=name, role="other")
        oldest.add(_seconds(each.oldest), namespace=name)
        newest.add(_seconds(each.newest), namespace=name)
        unsealed.add(each.unsealed, namespace=name)
        lines.add(each.damaged, namespace=name)
        damaged.add(each.damaged_bytes, namespace=name)
        for kind, size in {
            "plain": each.plain,
            "compressed": each.packed,
            **each.sides,
        }.items():
            files.add(size.files, namespace=name, kind=kind)
            sizes.add(size.bytes, namespace=name, kind=kind)
    if found:
        free.add(found[0].free_bytes)
        disk.add(found[0].disk_bytes)
    gauge("unreadable_conversations", "Conversations that could not be read.").add(failed)
    gauge("stats_timestamp_seconds", "When these figures were taken.").add(now.timestamp())
    return gauges


def _seconds(text: str | None) -> float | None:
    moment = parse_stored_time(text)
    return None if moment is None else moment.timestamp()
